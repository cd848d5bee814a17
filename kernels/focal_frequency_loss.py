"""The focal frequency loss and its gradient in one pass: the weight comes from the spectrum it weighs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes
from .launch import launch


@triton.jit
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

    power = tl.reshape(re * re + im * im, (BATCH, PH * PW))
    # Without log the quotient first: near the largest, where it matters, its logarithm is small and exact.
    w = power / N if LOG else power / tl.max(power, 1)[:, None]
    if LINEAR:
        w = tl.sqrt(w)
    else:
        half = tl.full((), alpha, dtype) * 0.5
        w = tl.where(half == 0.0, 1.0, tl.exp2(half * tl.log2(w)))
    if LOG:
        w = tl.log(1.0 + w)
        w = w / tl.max(w, 1)[:, None]
    w = tl.where(w == w, tl.minimum(w, 1.0), 0.0) * tl.full((), scale, dtype)
    tl.store(loss + slot, tl.sum(w * power, 1), mask=slot < slots)
    if GRAD:
        w = tl.reshape(2.0 * w, (BATCH * PH * PW,))
        re, im = fft.inverse2(re * w, im * w, row_table, column_table, never, BATCH, H, W)
        re = tl.reshape(re, (BATCH, PH, PW))
        planes.store(grad, re, re, where, axes, grad_n, grad_c, grad_h, grad_w, ALIGN, False)


def focal_frequency_loss(
    input: Tensor,
    target: Tensor,
    alpha: float,
    log_matrix: bool,
    scale: float,
    per_sample: bool,
    input_grad: bool,
) -> tuple[Tensor, Tensor]:
    samples, channels, height, width = input.shape
    dtype = fft.compute_dtype(input.dtype)
    slots = samples * channels
    batch, num_warps = fft.tile(fft.extent(height, width), slots, dtype)
    loss = input.new_empty(slots, dtype=dtype)
    grad = torch.empty_like(input) if input_grad else input.new_empty(0)
    align = planes.alignment(input, target, *([grad] if input_grad else []))
    launch(
        focal_frequency_loss_kernel,
        (triton.cdiv(slots, batch),),
        input,
        target,
        grad,
        loss,
        fft.table(width, dtype, input.device),
        fft.table(height, dtype, input.device),
        alpha,
        scale / (height * width),
        slots,
        channels,
        *planes.strides(input, align),
        *planes.strides(target, align),
        *(planes.strides(grad, align) if input_grad else (0, 0, 0, 0)),
        H=fft.radices(height),
        W=fft.radices(width),
        BATCH=batch,
        ALIGN=align,
        LINEAR=alpha == 1.0,
        LOG=log_matrix,
        GRAD=input_grad,
        num_warps=num_warps,
        tune=True,
    )
    return (loss.view(samples, channels).sum(1) if per_sample else loss.sum()), grad
