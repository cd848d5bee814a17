"""The half spectrum of real planes."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, staged, tables
from .launch import launch


@triton.jit(do_not_specialize=["slots"])
def rfft2_kernel(
    input,
    out,
    row_table,
    column_table,
    scale: "fp64",
    slots,
    channels,
    input_n,
    input_c,
    input_h,
    input_w,
    H: tl.constexpr,
    W: tl.constexpr,
    BATCH: tl.constexpr,
    ALIGN: tl.constexpr,
):
    """A slot is a plane; to take a pair apart again would need the mirror image of every frequency."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    HALF: tl.constexpr = fft.product(W) // 2 + 1
    dtype: tl.constexpr = row_table.dtype.element_ty
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    axes = planes.axes(H, W)
    where = planes.pair(slot * 0, slot < slots, slot, 1, channels, 1, False)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, False, dtype)
    re, im = tl.reshape(re, (BATCH * PH * PW,)), tl.reshape(im, (BATCH * PH * PW,))
    re, im = fft.forward2(re, im, row_table, column_table, slots < 0, BATCH, H, W)
    factor = tl.full((), scale, dtype)
    f1, inside_h = fft.frequency(tl.arange(0, PH)[None, :, None], H)
    f2, inside_w = fft.frequency(tl.arange(0, PW)[None, None, :], W)
    base = (slot.to(tl.int64) * (fft.product(H) * HALF))[:, None, None]
    pointers = out + (base + f1 * HALF + f2) * 2
    mask = (slot < slots)[:, None, None] & inside_h & inside_w & (f2 < HALF)
    tl.store(pointers, tl.reshape(re * factor, (BATCH, PH, PW)), mask=mask)
    tl.store(pointers + 1, tl.reshape(im * factor, (BATCH, PH, PW)), mask=mask)


@triton.jit(do_not_specialize=["channels"])
def rfft2_columns_kernel(
    scratch,
    out,
    column_table,
    scale: "fp64",
    channels,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    PITCH: tl.constexpr,
):
    re, im = staged.load_columns(scratch, H, W, COLUMNS, PITCH)
    re, im = fft.forward(re, im, column_table, channels < 0, 1, H, COLUMNS)
    factor = tl.full((), scale, re.dtype)
    offset, mask, _ = staged.half_spectrum(H, W, COLUMNS)
    out += tl.program_id(0).to(tl.int64) * (2 * fft.product(H) * (fft.product(W) // 2 + 1)) + 2 * offset
    tl.store(out, tl.reshape(re * factor, (fft.pad(H), COLUMNS)), mask=mask)
    tl.store(out + 1, tl.reshape(im * factor, (fft.pad(H), COLUMNS)), mask=mask)


def rfft2(input: Tensor, scale: float) -> Tensor:
    *shape, height, width = input.shape
    if input.dim() != 4:
        input = input.reshape(-1, 1, height, width)
    dtype = fft.compute_dtype(input.dtype)
    out = input.new_empty((*shape, height, width // 2 + 1), dtype=dtype.to_complex())
    if not fft.fits(height, width, dtype):
        _staged(input, out, scale)
        return out
    slots = math.prod(shape)
    batch, num_warps = fft.tile(fft.extent(height, width), slots, dtype)
    align = planes.alignment(input)
    launch(
        rfft2_kernel,
        (triton.cdiv(slots, batch),),
        input,
        torch.view_as_real(out),
        tables.table(width, dtype, input.device),
        tables.table(height, dtype, input.device),
        scale,
        slots,
        input.shape[1],
        *planes.strides(input, align),
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        ALIGN=align,
        num_warps=num_warps,
        tune=True,
    )
    return out


def _staged(input: Tensor, out: Tensor, scale: float) -> None:
    samples, channels, height, width = input.shape
    scratch = staged.forward_rows(input)
    columns, num_warps, blocks = staged.columns(height, width, scratch.dtype)
    launch(
        rfft2_columns_kernel,
        (samples * channels, blocks),
        scratch,
        torch.view_as_real(out),
        tables.table(height, scratch.dtype, scratch.device),
        scale,
        channels,
        H=fft.plan(height),
        W=fft.plan(width),
        COLUMNS=columns,
        PITCH=scratch.shape[3],
        num_warps=num_warps,
        tune=True,
    )
