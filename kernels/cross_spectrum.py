"""The cross-power spectrum of two images, summed over the planes that share one."""

import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes
from .fold import fold
from .launch import launch


@triton.jit
def cross_spectrum_kernel(
    a,
    b,
    partial,
    row_table,
    column_table,
    slots,
    chunks,
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
    TURNS: tl.constexpr,
    PAIRED: tl.constexpr,
    COMPLEX: tl.constexpr,
):
    """partial (slots, [2,] H, W): the sum of conj(F a) F b over the pairs of a slot, a pair packed in one transform."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    N: tl.constexpr = fft.product(H) * fft.product(W)
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    group = slot // chunks
    first = slot % chunks * TURNS
    sum_re = tl.zeros((BATCH * PH * PW,), dtype)
    sum_im = tl.zeros((BATCH * PH * PW,), dtype)
    for turn in range(TURNS):
        axes = planes.axes(H, W)
        where = planes.pair(first + turn, slot < slots, group, members, group_channels, member_channels, PAIRED)
        re, im = planes.load(a, where, axes, a_n, a_c, a_h, a_w, ALIGN, PAIRED, dtype)
        a_re, a_im = fft.forward2(
            tl.reshape(re, (BATCH * PH * PW,)),
            tl.reshape(im, (BATCH * PH * PW,)),
            row_table,
            column_table,
            never,
            BATCH,
            H,
            W,
        )
        re, im = planes.load(b, where, axes, b_n, b_c, b_h, b_w, ALIGN, PAIRED, dtype)
        b_re, b_im = fft.forward2(
            tl.reshape(re, (BATCH * PH * PW,)),
            tl.reshape(im, (BATCH * PH * PW,)),
            row_table,
            column_table,
            never,
            BATCH,
            H,
            W,
        )
        sum_re += a_re * b_re + a_im * b_im
        if COMPLEX:
            sum_im += a_re * b_im - a_im * b_re
    exists = slot < slots
    planes.store_spectrum(partial, tl.reshape(sum_re / N, (BATCH, PH, PW)), slot * PARTS, exists, 0, PW, H, W)
    if COMPLEX:
        planes.store_spectrum(partial, tl.reshape(sum_im / N, (BATCH, PH, PW)), slot * PARTS + 1, exists, 0, PW, H, W)


def cross_spectrum(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
    samples, channels, height, width = a.shape
    dtype = fft.compute_dtype(a.dtype)
    group = planes.grouping(samples, channels, n, c)
    turns = planes.turns(group)
    chunks = triton.cdiv(group.pairs, turns)
    slots = group.count * chunks
    # Two tiles at a time.
    batch, num_warps = fft.tile(fft.extent(height, width), slots, dtype, tiles=2)
    partial = a.new_empty((n, c, chunks, *((2,) if complex else ()), height, width), dtype=dtype)
    align = planes.alignment(a, b)
    launch(
        cross_spectrum_kernel,
        (triton.cdiv(slots, batch),),
        a,
        b,
        partial,
        fft.table(width, dtype, a.device),
        fft.table(height, dtype, a.device),
        slots,
        chunks,
        group.members,
        group.shape[1],
        group.member_channels,
        *planes.strides(a, align),
        *planes.strides(b, align),
        H=fft.radices(height),
        W=fft.radices(width),
        BATCH=batch,
        ALIGN=align,
        TURNS=turns,
        PAIRED=group.members > 1,
        COMPLEX=complex,
        num_warps=num_warps,
        tune=True,
    )
    return fold(partial, n, c, width)
