"""The focal frequency loss and its gradient in one pass: the weight comes from the spectrum it weighs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._math import gradient_dtype
from . import fft, planes, staged, tables
from .launch import launch


@triton.jit
def _weight(amplitude, peak, alpha, N: tl.constexpr, LINEAR: tl.constexpr, LOG: tl.constexpr):
    """|F e|^alpha, or log1p of it, over its largest, from |Z| and its ``peak`` over the plane."""
    w = _power(amplitude / peak, alpha, LINEAR)
    if LOG:
        largest = peak / N**0.5
        quotient = _log1p_of_power(amplitude / N**0.5, alpha, LINEAR) / _log1p_of_power(largest, alpha, LINEAR)
        # Where log1p(x) = x, the power of the quotient, because x itself may be too small.
        w = tl.where(_exponent(largest, alpha, LINEAR) < -64.0, w, quotient)
    # Rounding must not keep the quotient of the largest by itself from being 1.
    return tl.where(amplitude < peak, tl.minimum(w, 1.0), 1.0)


@triton.jit
def _exponent(x, alpha, LINEAR: tl.constexpr):
    """log2(x^alpha)."""
    t = tl.log2(x)
    if not LINEAR:
        a = tl.full((), alpha, x.dtype)
        t = tl.where(a == 0.0, 0.0, a * t)
    return t


@triton.jit
def _power(x, alpha, LINEAR: tl.constexpr):
    return x if LINEAR else tl.exp2(_exponent(x, alpha, LINEAR))


@triton.jit
def _log1p_of_power(x, alpha, LINEAR: tl.constexpr):
    """log(1 + x^alpha), divided by alpha above 1, since x^alpha and its logarithm may be out of range."""
    if LINEAR:
        y = _log1p(x)
    else:
        a = tl.full((), alpha, x.dtype)
        t = _exponent(x, alpha, LINEAR)
        divisor = tl.maximum(a, 1.0)
        small = _log1p(tl.exp2(tl.minimum(t, 64.0))) / divisor
        y = tl.where(t > 64.0, 0.6931471805599453 * (a / divisor) * tl.log2(x), small)
    return y


@triton.jit
def _log1p(x):
    """Exact for a small x, of which 1 + x keeps little (Kahan)."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit(do_not_specialize=["slots"])
def focal_frequency_loss_kernel(
    input,
    target,
    grad,
    loss,
    row_table,
    column_table,
    alpha: "fp64",
    scale: "fp64",
    slots,
    channels,
    input_n,
    input_c,
    input_h,
    input_w,
    target_n,
    target_c,
    target_h,
    target_w,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    H: tl.constexpr,
    W: tl.constexpr,
    BATCH: tl.constexpr,
    ALIGN: tl.constexpr,
    LINEAR: tl.constexpr,
    LOG: tl.constexpr,
    GRAD: tl.constexpr,
):
    """A slot is a plane, since each has a weight of its own. ``scale`` holds 1/(H W). ``LINEAR``: alpha is 1."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    N: tl.constexpr = fft.product(H) * fft.product(W)
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    axes = planes.axes(H, W)
    where = planes.pair(slot * 0, slot < slots, slot, 1, channels, 1, False)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, False, dtype)
    re2, _ = planes.load(target, where, axes, target_n, target_c, target_h, target_w, ALIGN, False, dtype)
    re, im = tl.reshape(re - re2, (BATCH * PH * PW,)), tl.reshape(im, (BATCH * PH * PW,))
    re, im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)

    amplitude = tl.reshape(fft.amplitude(re, im), (BATCH, PH * PW))
    w = _weight(amplitude, tl.max(amplitude, 1)[:, None], alpha, N, LINEAR, LOG) * tl.full((), scale, dtype)
    w = tl.reshape(w, (BATCH * PH * PW,))
    tl.store(loss + slot, tl.sum(tl.reshape(fft.power(re, im, w), (BATCH, PH * PW)), 1), mask=slot < slots)
    if GRAD:
        w *= 2.0
        re, im = fft.inverse2(re * w, im * w, row_table, column_table, never, BATCH, H, W)
        re = tl.reshape(re, (BATCH, PH, PW))
        planes.store(grad, re, re, where, axes, grad_n, grad_c, grad_h, grad_w, ALIGN, False)


@triton.jit(do_not_specialize=["channels"])
def focal_columns_kernel(
    scratch,
    peaks,
    loss,
    column_table,
    alpha: "fp64",
    scale: "fp64",
    channels,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    PITCH: tl.constexpr,
    BLOCKS: tl.constexpr,
    EXTENT: tl.constexpr,
    LINEAR: tl.constexpr,
    LOG: tl.constexpr,
    PEAK: tl.constexpr,
    GRAD: tl.constexpr,
):
    """If ``PEAK``, only peaks (planes, blocks): the largest |Z|. They are read in a second launch, which has the loss
    (planes, blocks) and, in place, the columns of the gradient."""
    dtype: tl.constexpr = column_table.dtype.element_ty
    never = channels < 0
    plane = tl.program_id(0).to(tl.int64)
    part = plane * BLOCKS + tl.program_id(1)
    re, im = staged.load_columns(scratch, H, W, COLUMNS, PITCH)
    if PEAK:
        re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
        tl.store(peaks + part, tl.max(fft.amplitude(re, im), 0))
    else:
        i = tl.arange(0, EXTENT)
        peak = tl.max(tl.load(peaks + plane * BLOCKS + i, mask=i < BLOCKS, other=0.0), 0)
        factor = tl.full((), scale, dtype)
        if GRAD and fft.is_convolution(H):
            for back in range(2):  # as in staged.filter_columns_kernel
                re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
                if back == 0:
                    re, im = _weighted(re, im, peak, loss + part, alpha, factor, H, W, COLUMNS, LINEAR, LOG)
                im = -im
        else:
            re, im = fft.forward(re, im, column_table, never, 1, H, COLUMNS)
            re, im = _weighted(re, im, peak, loss + part, alpha, factor, H, W, COLUMNS, LINEAR, LOG)
            if GRAD:
                re, im = fft.inverse(re, im, column_table, never, 1, H, COLUMNS)
        if GRAD:
            staged.store_columns(scratch, re, im, H, W, COLUMNS, PITCH)


@triton.jit
def _weighted(
    re,
    im,
    peak,
    loss,
    alpha,
    factor,
    H: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
    LINEAR: tl.constexpr,
    LOG: tl.constexpr,
):
    """A transformed tile times twice the weight and ``factor``; the loss is stored."""
    N: tl.constexpr = fft.product(H) * fft.product(W)
    w = _weight(fft.amplitude(re, im), peak, alpha, N, LINEAR, LOG) * factor
    _, _, m = staged.half_spectrum(H, W, COLUMNS)
    squares = tl.reshape(fft.power(re, im, w), (fft.pad(H), COLUMNS))
    tl.store(loss, tl.sum(tl.sum(squares * m.to(re.dtype), 1), 0))
    w *= 2.0
    return re * w, im * w


def focal_frequency_loss(
    input: Tensor,
    target: Tensor,
    alpha: float,
    log_matrix: bool,
    scale: float,
    per_sample: bool,
    input_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    samples, _, height, width = input.shape
    dtype = fft.compute_dtype(input.dtype)
    grad = torch.empty_like(input, dtype=gradient_dtype(input.dtype)) if input_grad else None
    # The transforms are not normalised.
    scale /= height * width
    # In float32 more than its largest number would be infinite, and 0 times that no number.
    alpha = min(alpha, torch.finfo(dtype).max)
    of = _of_tiles if fft.fits(height, width, dtype) else _staged
    loss = of(input, target, grad, alpha, log_matrix, scale)
    return (loss.view(samples, -1).sum(1) if per_sample else loss.sum()), grad


def _of_tiles(
    input: Tensor, target: Tensor, grad: Tensor | None, alpha: float, log_matrix: bool, scale: float
) -> Tensor:
    samples, channels, height, width = input.shape
    dtype = fft.compute_dtype(input.dtype)
    slots = samples * channels
    batch, num_warps = fft.tile(fft.extent(height, width), slots, dtype)
    loss = input.new_empty(slots, dtype=dtype)
    align = planes.alignment(input, target, *(() if grad is None else (grad,)))
    launch(
        focal_frequency_loss_kernel,
        (triton.cdiv(slots, batch),),
        input,
        target,
        input if grad is None else grad,  # any pointer
        loss,
        tables.table(width, dtype, input.device),
        tables.table(height, dtype, input.device),
        alpha,
        scale,
        slots,
        channels,
        *planes.strides(input, align),
        *planes.strides(target, align),
        *((0, 0, 0, 0) if grad is None else planes.strides(grad, align)),
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        ALIGN=align,
        LINEAR=alpha == 1.0,
        LOG=log_matrix,
        GRAD=grad is not None,
        num_warps=num_warps,
        tune=True,
    )
    return loss


def _staged(input: Tensor, target: Tensor, grad: Tensor | None, alpha: float, log_matrix: bool, scale: float) -> Tensor:
    samples, channels, height, width = input.shape
    scratch = staged.forward_rows(input, target)
    columns, num_warps, blocks = staged.columns(height, width, scratch.dtype)
    peaks = scratch.new_empty((samples * channels, blocks))
    loss = torch.empty_like(peaks)
    for peak in (True, False):
        launch(
            focal_columns_kernel,
            (samples * channels, blocks),
            scratch,
            peaks,
            loss,
            tables.table(height, scratch.dtype, scratch.device),
            alpha,
            scale,
            channels,
            H=fft.plan(height),
            W=fft.plan(width),
            COLUMNS=columns,
            PITCH=scratch.shape[3],
            BLOCKS=blocks,
            EXTENT=triton.next_power_of_2(blocks),
            LINEAR=alpha == 1.0,
            LOG=log_matrix,
            PEAK=peak,
            GRAD=grad is not None,
            num_warps=num_warps,
        )
    if grad is not None:
        staged.inverse_rows(scratch, grad)
    return loss
