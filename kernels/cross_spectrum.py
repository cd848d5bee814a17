"""The cross-power spectrum of two images, summed over the planes that share one."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, staged, tables
from .fold import fold
from .launch import launch

_TILES = 4  # as large as the largest are in the registers of a program that has two


@triton.jit(do_not_specialize=["slots"], do_not_specialize_on_alignment=planes.COUNTS)
def cross_spectrum_kernel(
    a,
    b,
    partial,
    row_table,
    column_table,
    slots,
    pairs,
    members,
    group_channels,
    member_channels,
    a_n,
    a_c,
    a_h,
    a_w,
    b_n,
    b_c,
    b_h,
    b_w,
    H: tl.constexpr,
    W: tl.constexpr,
    BATCH: tl.constexpr,
    ALIGN: tl.constexpr,
    PAIRED: tl.constexpr,
    COMPLEX: tl.constexpr,
):
    """partial (slots, [2,] H, W): conj(F a) F b of a pair of planes, packed in one transform."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    S: tl.constexpr = BATCH * PH * PW
    N: tl.constexpr = fft.product(H) * fft.product(W)
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    exists = slot < slots
    axes = planes.axes(H, W)
    where = planes.pair(slot % pairs, exists, slot // pairs, members, group_channels, member_channels, PAIRED)
    re, im = planes.load(a, where, axes, a_n, a_c, a_h, a_w, ALIGN, PAIRED, dtype)
    re, im = tl.reshape(re, (S,)), tl.reshape(im, (S,))
    a_re, a_im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)
    re, im = planes.load(b, where, axes, b_n, b_c, b_h, b_w, ALIGN, PAIRED, dtype)
    re, im = tl.reshape(re, (S,)), tl.reshape(im, (S,))
    b_re, b_im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)
    # Before the product, which may be out of range.
    a_re, a_im = a_re / N, a_im / N
    re = tl.reshape(a_re * b_re + a_im * b_im, (BATCH, PH, PW))
    planes.store_spectrum(partial, re, slot * PARTS, exists, H, W)
    if COMPLEX:
        im = tl.reshape(a_re * b_im - a_im * b_re, (BATCH, PH, PW))
        planes.store_spectrum(partial, im, slot * PARTS + 1, exists, H, W)


@triton.jit(do_not_specialize=["channels"])
def cross_columns_kernel(
    a,
    b,
    out,
    column_table,
    channels,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    PITCH: tl.constexpr,
    COMPLEX: tl.constexpr,
):
    """out (planes, H, W//2+1), of numbers or of real and imaginary parts in turn, from the scratch of a and of b."""
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    NH: tl.constexpr = fft.product(H)
    NW: tl.constexpr = fft.product(W)
    re, im = staged.load_columns(a, H, W, COLUMNS, PITCH)
    a_re, a_im = fft.forward(re, im, column_table, channels < 0, 1, H, COLUMNS)
    # Before the product, which may be out of range.
    a_re, a_im = a_re / (NH * NW), a_im / (NH * NW)
    re, im = staged.load_columns(b, H, W, COLUMNS, PITCH)
    b_re, b_im = fft.forward(re, im, column_table, channels < 0, 1, H, COLUMNS)
    offset, mask, m = staged.half_spectrum(H, W, COLUMNS)
    m = m.to(re.dtype)
    out += tl.program_id(0).to(tl.int64) * (PARTS * NH * (NW // 2 + 1)) + PARTS * offset
    tl.store(out, tl.reshape(a_re * b_re + a_im * b_im, (fft.pad(H), COLUMNS)) * m, mask=mask)
    if COMPLEX:
        tl.store(out + 1, tl.reshape(a_re * b_im - a_im * b_re, (fft.pad(H), COLUMNS)) * m, mask=mask)


def cross_spectrum(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
    samples, channels, height, width = a.shape
    if not fft.fits(height, width, a.dtype, _TILES):
        return _staged(a, b, complex).sum_to_size(n, c, height, width // 2 + 1)
    dtype = fft.compute_dtype(a.dtype)
    group = planes.grouping(samples, channels, n, c)
    slots = group.count * group.pairs
    batch, num_warps = fft.tile(fft.extent(height, width), slots, dtype, tiles=2)
    partial = a.new_empty((n, c, group.pairs, *((2,) if complex else ()), height, width), dtype=dtype)
    align = planes.alignment(a, b)
    launch(
        cross_spectrum_kernel,
        (triton.cdiv(slots, batch),),
        a,
        b,
        partial,
        tables.table(width, dtype, a.device),
        tables.table(height, dtype, a.device),
        slots,
        group.pairs,
        group.members,
        group.shape[1],
        group.member_channels,
        *planes.strides(a, align),
        *planes.strides(b, align),
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        ALIGN=align,
        PAIRED=group.members > 1,
        COMPLEX=complex,
        num_warps=num_warps,
        tune=True,
    )
    return fold(partial, n, c, width)


def _staged(a: Tensor, b: Tensor, complex: bool) -> Tensor:
    """m conj(F a) F b of every plane (N, C, H, W//2+1)."""
    samples, channels, height, width = a.shape
    first, second = staged.forward_rows(a), staged.forward_rows(b)
    columns, num_warps, blocks = staged.columns(height, width, first.dtype, tiles=2)
    out = first.new_empty(
        (samples, channels, height, width // 2 + 1), dtype=first.dtype.to_complex() if complex else first.dtype
    )
    launch(
        cross_columns_kernel,
        (samples * channels, blocks),
        first,
        second,
        torch.view_as_real(out) if complex else out,
        tables.table(height, first.dtype, a.device),
        channels,
        H=fft.plan(height),
        W=fft.plan(width),
        COLUMNS=columns,
        PITCH=first.shape[3],
        COMPLEX=complex,
        num_warps=num_warps,
        tune=True,
    )
    return out
