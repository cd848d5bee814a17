"""Planes larger than a tile: rows, then columns with what happens in the spectrum, then rows again.

Between the kernels a pair is a scratch of complex numbers, 8 bytes for 2 pixels in float32, that is written twice and
read twice: a loss with its gradient moves 12 + 16 = 28 bytes a pixel, a filter 24.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes
from .launch import launch

_SECTOR = 32  # bytes of memory that are fetched together


@triton.jit
def _rows(pid, ROWS: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """The rows of a program, as axes of a tile (:func:`planes.axes`)."""
    h = pid * ROWS + tl.arange(0, ROWS)
    w, inside_w = fft.index(tl.arange(0, fft.pad(W)), W)
    return h, h < fft.product(H), w, inside_w


@triton.jit
def _poison(poison, pair, exists, TILES: tl.constexpr, EXTENT: tl.constexpr):
    """What to add to results of both planes of a pair: the sum over the tiles of its rows."""
    i = tl.arange(0, EXTENT)
    pointers = poison + pair.to(tl.int64) * (2 * TILES) + 2 * i
    mask = exists & (i < TILES)
    first = tl.sum(tl.load(pointers, mask=mask, other=0.0), 0)
    return first, tl.sum(tl.load(pointers + 1, mask=mask, other=0.0), 0)


@triton.jit
def forward_rows_kernel(
    input,
    target,
    scratch,
    poison,
    row_table,
    pairs,
    members,
    group_channels,
    member_channels,
    input_n,
    input_c,
    input_h,
    input_w,
    target_n,
    target_c,
    target_h,
    target_w,
    H: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    PAIRED: tl.constexpr,
    DIFFERENCE: tl.constexpr,
):
    """scratch (all pairs, 2, H, padded W): transformed rows. poison (all pairs, tiles of rows, 2): 0 or NaN."""
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    dtype: tl.constexpr = row_table.dtype.element_ty
    pair = tl.program_id(0) + tl.arange(0, 1)
    group = pair // pairs
    where = planes.pair(pair % pairs, pair >= 0, group, members, group_channels, member_channels, PAIRED)
    axes = _rows(tl.program_id(1), ROWS, H, W)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, PAIRED, dtype)
    if DIFFERENCE:
        re2, im2 = planes.load(target, where, axes, target_n, target_c, target_h, target_w, ALIGN, PAIRED, dtype)
        re, im = re - re2, im - im2
    re, im, first, second = planes.isolate(re, im, PAIRED)
    flags = poison + 2 * (pair.to(tl.int64) * tl.num_programs(1) + tl.program_id(1))
    tl.store(flags, first)
    tl.store(flags + 1, second)
    re, im = tl.reshape(re, (ROWS * PW,)), tl.reshape(im, (ROWS * PW,))
    re, im = fft.forward(re, im, row_table, members < 0, ROWS, W, 1)
    h = axes[0][:, None]
    at = scratch + tl.program_id(0).to(tl.int64) * (2 * NH * PW) + h * PW + tl.arange(0, PW)[None, :]
    tl.store(at, tl.reshape(re, (ROWS, PW)), mask=h < NH)
    tl.store(at + NH * PW, tl.reshape(im, (ROWS, PW)), mask=h < NH)


@triton.jit
def columns_kernel(
    scratch,
    spectrum,
    poison,
    loss,
    power,
    column_table,
    scale: "fp64",
    pairs,
    chunks,
    group_channels,
    spectrum_n,
    spectrum_c,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    TURNS: tl.constexpr,
    TILES: tl.constexpr,
    EXTENT: tl.constexpr,
    COMPLEX: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    LOSS: tl.constexpr,
    INVERSE: tl.constexpr,
    POWER: tl.constexpr,
):
    """Some columns of ``TURNS`` pairs of a group in turn: forward, times a spectrum and ``scale``, inverse, in place.

    loss (slots, blocks): scale * sum weight |Z|^2. power (slots, H, W): scale * sum |Z|^2. After a loss the factor is
    twice the scale.
    """
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    S: tl.constexpr = PH * COLUMNS
    dtype: tl.constexpr = column_table.dtype.element_ty
    never = pairs < 0
    slot = tl.program_id(0) + tl.arange(0, 1)
    group = slot // chunks
    start = tl.program_id(1) * COLUMNS
    base = planes.spectrum_offset(group, group_channels, spectrum_n, spectrum_c)
    factor = tl.full((), scale, dtype)
    h, inside = fft.index(tl.arange(0, PH), H)
    offset = h[:, None] * PW + start + tl.arange(0, COLUMNS)[None, :]
    total = 0.0 * factor
    accumulated = tl.zeros((S,), dtype)
    for turn in range(TURNS):
        number = tl.program_id(0) % chunks * TURNS + turn
        exists = number < pairs
        pair = tl.program_id(0) // chunks * pairs + number
        at = scratch + pair.to(tl.int64) * (2 * NH * PW) + offset
        mask = inside[:, None] & exists
        re = tl.reshape(tl.load(at, mask=mask, other=0.0), (S,))
        im = tl.reshape(tl.load(at + NH * PW, mask=mask, other=0.0), (S,))
        re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
        if COMPLEX:
            t_re, t_im = planes.transfer(spectrum, base, slot >= 0, start, COLUMNS, H, W)
            t_re, t_im = tl.reshape(t_re, (S,)) * factor, tl.reshape(t_im, (S,)) * factor
            re, im = re * t_re - im * t_im, re * t_im + im * t_re
        else:
            w = planes.weight(spectrum, base, slot >= 0, start, COLUMNS, H, W, SYMMETRIC)
            w = tl.reshape(w, (S,)) * factor
            if LOSS:
                squares = re * re + im * im
                first, second = _poison(poison, pair, exists, TILES, EXTENT)
                total += tl.sum(w * squares, 0) + (first + second)
                if POWER:
                    accumulated += squares + (first + second)
                w *= 2.0
            re, im = re * w, im * w
        if INVERSE:
            re, im = fft.inverse(re, im, column_table, never, 1, H, COLUMNS)
            tl.store(at, tl.reshape(re, (PH, COLUMNS)), mask=mask)
            tl.store(at + NH * PW, tl.reshape(im, (PH, COLUMNS)), mask=mask)
    if LOSS:
        tl.store(loss + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), total)
    if POWER:
        values = tl.reshape(accumulated * factor, (1, PH, COLUMNS))
        planes.store_spectrum(power, values, slot, slot >= 0, start, COLUMNS, H, W)


@triton.jit
def inverse_rows_kernel(
    scratch,
    out,
    poison,
    row_table,
    pairs,
    members,
    group_channels,
    member_channels,
    out_n,
    out_c,
    out_h,
    out_w,
    H: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    TILES: tl.constexpr,
    EXTENT: tl.constexpr,
    PAIRED: tl.constexpr,
):
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    pair = tl.program_id(0) + tl.arange(0, 1)
    group = pair // pairs
    where = planes.pair(pair % pairs, pair >= 0, group, members, group_channels, member_channels, PAIRED)
    axes = _rows(tl.program_id(1), ROWS, H, W)
    h = axes[0][:, None]
    at = scratch + tl.program_id(0).to(tl.int64) * (2 * NH * PW) + h * PW + tl.arange(0, PW)[None, :]
    re = tl.reshape(tl.load(at, mask=h < NH, other=0.0), (ROWS * PW,))
    im = tl.reshape(tl.load(at + NH * PW, mask=h < NH, other=0.0), (ROWS * PW,))
    re, im = fft.inverse(re, im, row_table, members < 0, ROWS, W, 1)
    first, second = _poison(poison, tl.program_id(0), members >= 0, TILES, EXTENT)
    re, im = tl.reshape(re + first, (1, ROWS, PW)), tl.reshape(im + second, (1, ROWS, PW))
    planes.store(out, re, im, where, axes, out_n, out_c, out_h, out_w, ALIGN, PAIRED)


class Partial(NamedTuple):
    loss: Tensor  # (slots, blocks of columns)
    power: Tensor  # (GN, GC, chunks, H, W)


def filtered(
    input: Tensor,
    target: Tensor | None,
    spectrum: Tensor,
    out: Tensor | None,
    group: planes.Grouping,
    scale: float,
    symmetric: bool,
    power: bool,
) -> Partial:
    """Into ``out``: scale F^-1[spectrum F input], unnormalised. With a target instead, the parts of the loss

    scale * sum m spectrum |F (input - target)|^2 and its gradient.
    """
    _, _, height, width = input.shape
    H, W = fft.radices(height), fft.radices(width)
    is_complex = spectrum.is_complex()
    if is_complex:
        spectrum = torch.view_as_real(spectrum)
    dtype, device = spectrum.dtype, spectrum.device
    row_table, column_table = fft.table(width, dtype, device), fft.table(height, dtype, device)
    count = group.count * group.pairs
    paired = group.members > 1
    grouping = (group.pairs, group.members, group.shape[1], group.member_channels)
    align = planes.alignment(*(t for t in (input, target, out) if t is not None))
    rows, row_warps = fft.lines(fft.pad(W), dtype)
    tiles = triton.cdiv(height, rows)
    columns, column_warps = fft.lines(fft.pad(H), dtype, least=_SECTOR // dtype.itemsize)
    columns = min(columns, fft.pad(W))
    turns = planes.turns(group) if power else 1
    chunks = triton.cdiv(group.pairs, turns)
    blocks = fft.pad(W) // columns

    scratch = torch.empty((count, 2, height, fft.pad(W)), dtype=dtype, device=device)
    poison = torch.empty((count, tiles, 2), dtype=dtype, device=device)
    empty = torch.empty(0, dtype=dtype, device=device)
    partial = Partial(
        empty.new_empty((group.count * chunks, blocks)) if target is not None else empty,
        empty.new_empty((*group.shape, chunks, height, width)) if power else empty,
    )
    launch(
        forward_rows_kernel,
        (count, tiles),
        input,
        input if target is None else target,
        scratch,
        poison,
        row_table,
        *grouping,
        *planes.strides(input, align),
        *planes.strides(input if target is None else target, align),
        H=H,
        W=W,
        ROWS=rows,
        ALIGN=align,
        PAIRED=paired,
        DIFFERENCE=target is not None,
        num_warps=row_warps,
    )
    launch(
        columns_kernel,
        (group.count * chunks, blocks),
        scratch,
        spectrum,
        poison,
        partial.loss,
        partial.power,
        column_table,
        scale,
        group.pairs,
        chunks,
        group.shape[1],
        *planes.broadcast_strides(spectrum),
        H=H,
        W=W,
        COLUMNS=columns,
        TURNS=turns,
        TILES=tiles,
        EXTENT=triton.next_power_of_2(tiles),
        COMPLEX=is_complex,
        SYMMETRIC=symmetric,
        LOSS=target is not None,
        INVERSE=out is not None,
        POWER=power,
        num_warps=column_warps,
    )
    if out is not None:
        launch(
            inverse_rows_kernel,
            (count, tiles),
            scratch,
            out,
            poison,
            row_table,
            *grouping,
            *planes.strides(out, align),
            H=H,
            W=W,
            ROWS=rows,
            ALIGN=align,
            TILES=tiles,
            EXTENT=triton.next_power_of_2(tiles),
            PAIRED=paired,
            num_warps=row_warps,
        )
    return partial
