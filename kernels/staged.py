"""Planes larger than a tile: rows, then columns with what an op does in the spectrum, then rows again.

In between, a plane is the columns 0 to W/2 of its spectrum, in a scratch (planes, 2, H, pitch) of real and imaginary
parts: as many bytes as the plane has in float32, 4 a pixel. Each is written once and read once between two kernels. In
float32, with the images: 28 bytes a pixel for a loss with its gradient (4 more with that by the weight), 24 for a
filter, 16 for a transform, 32 for a focal loss, 24 for a cross-power spectrum (8 more for what is summed).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, tables
from .launch import launch

_SECTOR = 32  # bytes of memory that are fetched together
_MOST_COLUMNS = 32  # more would leave much of the last block empty


@triton.jit
def _rows(H: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr):
    """The rows of a program, as axes of a tile (``planes.axes``)."""
    h = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    w, inside_w = fft.index(tl.arange(0, fft.pad(W)), W)
    return h, h < fft.product(H), w, inside_w


@triton.jit
def _spectra_of_rows(scratch, h, H: tl.constexpr, W: tl.constexpr, PITCH: tl.constexpr):
    """Of a program's rows and all their frequencies, ascending: pointers, mask, and the frequencies (1, padded W)."""
    NH: tl.constexpr = fft.product(H)
    f2, inside = fft.index(tl.arange(0, fft.pad(W)), fft.backwards(W))
    f2, inside = f2[None, :], inside[None, :]
    at = scratch + tl.program_id(0).to(tl.int64) * (2 * NH * PITCH) + h[:, None] * PITCH + f2
    # A mask that ends at the pitch and not at W/2 + 1 leaves accesses wide.
    return at, (h < NH)[:, None] & inside & (f2 < PITCH), f2


@triton.jit(do_not_specialize=["channels"])
def forward_rows_kernel(
    input,
    target,
    scratch,
    row_table,
    channels,
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
    PITCH: tl.constexpr,
    ALIGN: tl.constexpr,
    DIFFERENCE: tl.constexpr,
):
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    dtype: tl.constexpr = row_table.dtype.element_ty
    plane = tl.program_id(0) + tl.arange(0, 1)
    where = planes.pair(plane * 0, plane >= 0, plane, 1, channels, 1, False)
    axes = _rows(H, W, ROWS)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, False, dtype)
    if DIFFERENCE:
        other, _ = planes.load(target, where, axes, target_n, target_c, target_h, target_w, ALIGN, False, dtype)
        re -= other
    re, im = tl.reshape(re, (ROWS * PW,)), tl.reshape(im, (ROWS * PW,))
    re, im = fft.forward(re, im, row_table, channels < 0, ROWS, W, 1)
    at, mask, _ = _spectra_of_rows(scratch, axes[0], H, W, PITCH)
    tl.store(at, tl.reshape(fft.reverse(re, ROWS, W), (ROWS, PW)), mask=mask)
    tl.store(at + NH * PITCH, tl.reshape(fft.reverse(im, ROWS, W), (ROWS, PW)), mask=mask)


@triton.jit(do_not_specialize=["channels"])
def inverse_rows_kernel(
    scratch,
    out,
    row_table,
    channels,
    out_n,
    out_c,
    out_h,
    out_w,
    H: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    PITCH: tl.constexpr,
    ALIGN: tl.constexpr,
):
    """Twice the columns that stand for two, zero for the others: the real part is then what they all would give."""
    PW: tl.constexpr = fft.pad(W)
    NH: tl.constexpr = fft.product(H)
    NW: tl.constexpr = fft.product(W)
    axes = _rows(H, W, ROWS)
    at, mask, f2 = _spectra_of_rows(scratch, axes[0], H, W, PITCH)
    re, im = tl.load(at, mask=mask, other=0.0), tl.load(at + NH * PITCH, mask=mask, other=0.0)
    m = multiplicity(f2, W).to(re.dtype)
    re = tl.reshape(tl.where(2 * f2 <= NW, re * m, 0.0), (ROWS * PW,))
    im = tl.reshape(tl.where(2 * f2 <= NW, im * m, 0.0), (ROWS * PW,))
    re, im = fft.reverse(re, ROWS, fft.backwards(W)), fft.reverse(im, ROWS, fft.backwards(W))
    re, im = fft.inverse(re, im, row_table, channels < 0, ROWS, W, 1)
    re = tl.reshape(re, (1, ROWS, PW))
    plane = tl.program_id(0) + tl.arange(0, 1)
    where = planes.pair(plane * 0, plane >= 0, plane, 1, channels, 1, False)
    planes.store(out, re, re, where, axes, out_n, out_c, out_h, out_w, ALIGN, False)


# A program of a columns kernel has the plane program_id(0) and a block of its columns program_id(1), as a flat tile of
# (padded H, COLUMNS).


@triton.jit
def multiplicity(f2, W: tl.constexpr):
    """How many columns of a full spectrum a column of the half stands for."""
    return tl.where((f2 == 0) | (2 * f2 == fft.product(W)), 1.0, 2.0)


@triton.jit
def _columns(scratch, H: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr, PITCH: tl.constexpr):
    NH: tl.constexpr = fft.product(H)
    h, inside = fft.index(tl.arange(0, fft.pad(H)), H)
    f2 = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    at = scratch + tl.program_id(0).to(tl.int64) * (2 * NH * PITCH) + h[:, None] * PITCH + f2
    return at, inside[:, None] & (f2 < PITCH), 2 * f2 <= fft.product(W)


@triton.jit
def load_columns(scratch, H: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr, PITCH: tl.constexpr):
    at, mask, exists = _columns(scratch, H, W, COLUMNS, PITCH)
    re = tl.load(at, mask=mask, other=0.0)
    im = tl.load(at + fft.product(H) * PITCH, mask=mask, other=0.0)
    # Beyond W/2 is what nobody wrote.
    return tl.ravel(tl.where(exists, re, 0.0)), tl.ravel(tl.where(exists, im, 0.0))


@triton.jit
def store_columns(scratch, re, im, H: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr, PITCH: tl.constexpr):
    at, mask, _ = _columns(scratch, H, W, COLUMNS, PITCH)
    tl.store(at, tl.reshape(re, (fft.pad(H), COLUMNS)), mask=mask)
    tl.store(at + fft.product(H) * PITCH, tl.reshape(im, (fft.pad(H), COLUMNS)), mask=mask)


@triton.jit
def half_spectrum(H: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr):
    """Of the frequencies of a transformed tile: offset in a half spectrum (H, W//2+1), whether there is one, and how
    many it stands for (1, COLUMNS)."""
    f1, inside = fft.frequency(tl.arange(0, fft.pad(H)), H)
    f2 = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    offset = f1[:, None] * (fft.product(W) // 2 + 1) + f2
    return offset, inside[:, None] & (2 * f2 <= fft.product(W)), multiplicity(f2, W)


@triton.jit(do_not_specialize=["channels"])
def filter_columns_kernel(
    scratch,
    spectrum,
    loss,
    power,
    column_table,
    scale: "fp64",
    channels,
    spectrum_n,
    spectrum_c,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    PITCH: tl.constexpr,
    COMPLEX: tl.constexpr,
    LOSS: tl.constexpr,
    INVERSE: tl.constexpr,
    POWER: tl.constexpr,
):
    """Times a spectrum and ``scale``, in place. After a loss the factor is twice the scale.

    loss (planes, blocks): scale * sum m weight |Z|^2. power (planes, H, W//2+1): scale * m |Z|^2.
    """
    dtype: tl.constexpr = column_table.dtype.element_ty
    never = channels < 0
    plane = tl.program_id(0).to(tl.int64)
    spectrum += plane // channels * spectrum_n + plane % channels * spectrum_c
    factor = tl.full((), scale, dtype)
    re, im = load_columns(scratch, H, W, COLUMNS, PITCH)
    if INVERSE and fft.is_convolution(H):
        # The inverse as the conjugate of the transform of the conjugate: code that runs twice is compiled once, in a
        # sixth of the time (218x178 for sm_90: 18 s instead of 114).
        for back in range(2):
            re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
            if back == 0:
                re, im = _weighted(re, im, spectrum, loss, power, factor, plane, H, W, COLUMNS, COMPLEX, LOSS, POWER)
            im = -im
    else:
        re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
        re, im = _weighted(re, im, spectrum, loss, power, factor, plane, H, W, COLUMNS, COMPLEX, LOSS, POWER)
        if INVERSE:
            re, im = fft.inverse(re, im, column_table, never, 1, H, COLUMNS)
    if INVERSE:
        store_columns(scratch, re, im, H, W, COLUMNS, PITCH)


@triton.jit
def _weighted(
    re,
    im,
    spectrum,
    loss,
    power,
    factor,
    plane,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    COMPLEX: tl.constexpr,
    LOSS: tl.constexpr,
    POWER: tl.constexpr,
):
    """A transformed tile times a spectrum and ``factor``; loss and power are stored."""
    S: tl.constexpr = fft.pad(H) * COLUMNS
    HALF: tl.constexpr = fft.product(W) // 2 + 1
    offset, mask, m = half_spectrum(H, W, COLUMNS)
    if COMPLEX:
        t_re = tl.reshape(tl.load(spectrum + 2 * offset, mask=mask, other=0.0), (S,)) * factor
        t_im = tl.reshape(tl.load(spectrum + 2 * offset + 1, mask=mask, other=0.0), (S,)) * factor
        re, im = re * t_re - im * t_im, re * t_im + im * t_re
    else:
        w = tl.load(spectrum + offset, mask=mask, other=0.0) * factor
        if LOSS:
            part = plane * tl.num_programs(1) + tl.program_id(1)
            squares = tl.reshape(fft.power(re, im, tl.reshape(w, (S,))), (fft.pad(H), COLUMNS))
            tl.store(loss + part, tl.sum(tl.sum(squares * m.to(re.dtype), 1), 0))
            if POWER:
                squares = tl.reshape(fft.power(re, im, factor), (fft.pad(H), COLUMNS)) * m.to(re.dtype)
                tl.store(power + plane * (fft.product(H) * HALF) + offset, squares, mask=mask)
            w *= 2.0
        w = tl.reshape(w, (S,))
        re, im = re * w, im * w
    return re, im


def columns(height: int, width: int, dtype: torch.dtype, tiles: int = 1) -> tuple[int, int, int]:
    """How many columns a program holds, its warps for so many tiles at a time, and how many such blocks there are."""
    length = fft.pad(fft.plan(height))
    half = width // 2 + 1
    count, _ = fft.lines(length, dtype, least=_SECTOR // dtype.itemsize)
    count = min(count, _MOST_COLUMNS, triton.next_power_of_2(half))
    return count, fft.warps(tiles * count * length, dtype), triton.cdiv(half, count)


def empty(count: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Scratch for so many planes."""
    columns_each, _, blocks = columns(height, width, dtype)
    return torch.empty((count, 2, height, blocks * columns_each), dtype=dtype, device=device)


def forward_rows(input: Tensor, target: Tensor | None = None) -> Tensor:
    """Scratch with the transformed rows of all planes of an image, or of a difference."""
    samples, channels, height, width = input.shape
    dtype = fft.compute_dtype(input.dtype)
    scratch = empty(samples * channels, height, width, dtype, input.device)
    align = planes.alignment(input) if target is None else planes.alignment(input, target)
    rows, num_warps = fft.lines(fft.pad(fft.plan(width)), dtype)
    launch(
        forward_rows_kernel,
        (samples * channels, triton.cdiv(height, rows)),
        input,
        input if target is None else target,
        scratch,
        tables.table(width, dtype, input.device),
        channels,
        *planes.strides(input, align),
        *planes.strides(input if target is None else target, align),
        H=fft.plan(height),
        W=fft.plan(width),
        ROWS=rows,
        PITCH=scratch.shape[3],
        ALIGN=align,
        DIFFERENCE=target is not None,
        num_warps=num_warps,
        tune=True,
    )
    return scratch


def inverse_rows(scratch: Tensor, out: Tensor) -> None:
    samples, channels, height, width = out.shape
    align = planes.alignment(out)
    rows, num_warps = fft.lines(fft.pad(fft.plan(width)), scratch.dtype)
    launch(
        inverse_rows_kernel,
        (samples * channels, triton.cdiv(height, rows)),
        scratch,
        out,
        tables.table(width, scratch.dtype, scratch.device),
        channels,
        *planes.strides(out, align),
        H=fft.plan(height),
        W=fft.plan(width),
        ROWS=rows,
        PITCH=scratch.shape[3],
        ALIGN=align,
        num_warps=num_warps,
        tune=True,
    )


def filtered(
    input: Tensor, target: Tensor | None, spectrum: Tensor, out: Tensor | None, scale: float, power: bool = False
) -> tuple[Tensor, Tensor]:
    """Into ``out``: scale F^-1[spectrum F input], unnormalised. With a target instead, the parts of the loss

    scale * sum m spectrum |F (input - target)|^2 (planes, blocks), its gradient, and scale * m |F (input - target)|^2
    if its ``power`` is wanted (N, C, H, W//2+1).
    """
    samples, channels, height, width = input.shape
    is_complex = spectrum.is_complex()
    if is_complex:
        spectrum = torch.view_as_real(spectrum)
    scratch = forward_rows(input, target)
    count, num_warps, blocks = columns(height, width, scratch.dtype)
    loss = scratch.new_empty((samples * channels, blocks) if target is not None else 0)
    squares = scratch.new_empty((samples, channels, height, width // 2 + 1) if power else 0)
    launch(
        filter_columns_kernel,
        (samples * channels, blocks),
        scratch,
        spectrum,
        loss,
        squares,
        tables.table(height, scratch.dtype, scratch.device),
        scale,
        channels,
        *planes.broadcast_strides(spectrum),
        H=fft.plan(height),
        W=fft.plan(width),
        COLUMNS=count,
        PITCH=scratch.shape[3],
        COMPLEX=is_complex,
        LOSS=target is not None,
        INVERSE=out is not None,
        POWER=power,
        num_warps=num_warps,
    )
    if out is not None:
        inverse_rows(scratch, out)
    return loss, squares
