"""Real planes from half spectra."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, staged, tables
from .launch import launch


@triton.jit(do_not_specialize=["slots"])
def irfft2_kernel(
    input,
    out,
    row_table,
    column_table,
    scale: "fp64",
    slots,
    H: tl.constexpr,
    W: tl.constexpr,
    BATCH: tl.constexpr,
):
    """A slot is a plane. Input and output are contiguous, the input real and imaginary parts in turn."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    NW: tl.constexpr = fft.product(W)
    dtype: tl.constexpr = row_table.dtype.element_ty
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    re, im = planes.transfer(input, slot.to(tl.int64) * (2 * NH * (NW // 2 + 1)), slot < slots, H, W)
    factor = tl.full((), scale, dtype)  # before the sums, which may be out of range without it
    re, im = tl.reshape(re * factor, (BATCH * PH * PW,)), tl.reshape(im * factor, (BATCH * PH * PW,))
    re, im = fft.inverse2(re, im, row_table, column_table, slots < 0, BATCH, H, W)
    re = tl.reshape(re, (BATCH, PH, PW))
    axes = planes.axes(H, W)
    where = planes.pair(slot * 0, slot < slots, slot, 1, 1, 1, False)
    planes.store(out, re, re, where, axes, NH * NW, 0, NW, 1, 1, False)


@triton.jit(do_not_specialize=["channels"])
def irfft2_columns_kernel(
    input,
    scratch,
    column_table,
    scale: "fp64",
    channels,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    PITCH: tl.constexpr,
):
    S: tl.constexpr = fft.pad(H) * COLUMNS
    factor = tl.full((), scale, scratch.dtype.element_ty)
    offset, mask, _ = staged.half_spectrum(H, W, COLUMNS)
    input += tl.program_id(0).to(tl.int64) * (2 * fft.product(H) * (fft.product(W) // 2 + 1)) + 2 * offset
    re = tl.reshape(tl.load(input, mask=mask, other=0.0) * factor, (S,))
    im = tl.reshape(tl.load(input + 1, mask=mask, other=0.0) * factor, (S,))
    re, im = fft.inverse(re, im, column_table, channels < 0, 1, H, COLUMNS)
    staged.store_columns(scratch, re, im, H, W, COLUMNS, PITCH)


def irfft2(input: Tensor, width: int, scale: float) -> Tensor:
    *shape, height, _ = input.shape
    input = torch.view_as_real(input.contiguous())
    slots = math.prod(shape)
    out = input.new_empty((*shape, height, width))
    if not fft.fits(height, width, input.dtype):
        _staged(input, out.view(slots, 1, height, width), scale)
        return out
    batch, num_warps = fft.tile(fft.extent(height, width), slots, input.dtype)
    launch(
        irfft2_kernel,
        (triton.cdiv(slots, batch),),
        input,
        out,
        tables.table(width, input.dtype, input.device),
        tables.table(height, input.dtype, input.device),
        scale,
        slots,
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        num_warps=num_warps,
        tune=True,
    )
    return out


def _staged(input: Tensor, out: Tensor, scale: float) -> None:
    slots, _, height, width = out.shape
    scratch = staged.empty(slots, height, width, out.dtype, out.device)
    columns, num_warps, blocks = staged.columns(height, width, out.dtype)
    launch(
        irfft2_columns_kernel,
        (slots, blocks),
        input,
        scratch,
        tables.table(height, out.dtype, out.device),
        scale,
        1,
        H=fft.plan(height),
        W=fft.plan(width),
        COLUMNS=columns,
        PITCH=scratch.shape[3],
        num_warps=num_warps,
        tune=True,
    )
    staged.inverse_rows(scratch, out)
