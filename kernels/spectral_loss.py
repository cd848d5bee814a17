"""Weighted squared error in the spectrum, with its gradients, in one pass over the images."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._math import gradient_dtype
from . import fft, planes, staged, tables
from .fold import fold
from .launch import launch


@triton.jit(do_not_specialize=["slots"], do_not_specialize_on_alignment=planes.COUNTS)
def spectral_loss_kernel(
    input,
    target,
    weight,
    grad,
    loss,
    power,
    row_table,
    column_table,
    scale: "fp64",
    slots,
    pairs,
    members,
    group_channels,
    member_channels,
    weight_n,
    weight_c,
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
    PAIRED: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    GRAD: tl.constexpr,
    POWER: tl.constexpr,
):
    """A slot is a pair of planes that share a weight: slot = group * pairs + pair.

    loss (slots,): scale * sum weight |Z|^2 over the slot. power (slots, H, W): scale * |Z|^2, Z the unnormalised
    transform of a + ib.
    """
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    group = slot // pairs
    factor = tl.full((), scale, dtype)
    axes = planes.axes(H, W)
    where = planes.pair(slot % pairs, slot < slots, group, members, group_channels, member_channels, PAIRED)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, PAIRED, dtype)
    re2, im2 = planes.load(target, where, axes, target_n, target_c, target_h, target_w, ALIGN, PAIRED, dtype)
    re, im, poison, poison2 = planes.isolate(re - re2, im - im2, PAIRED)
    re, im = tl.reshape(re, (BATCH * PH * PW,)), tl.reshape(im, (BATCH * PH * PW,))

    re, im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)
    if POWER:
        values = tl.reshape(fft.power(re, im, factor), (BATCH, PH, PW)) + (poison + poison2)[:, None, None]
        planes.store_spectrum(power, values, slot, slot < slots, H, W)
    base = planes.spectrum_offset(group, group_channels, weight_n, weight_c)
    w = tl.reshape(planes.weight(weight, base, slot < slots, H, W, SYMMETRIC), (BATCH * PH * PW,)) * factor
    total = tl.sum(tl.reshape(fft.power(re, im, w), (BATCH, PH * PW)), 1) + (poison + poison2)
    tl.store(loss + slot, total, mask=slot < slots)
    if GRAD:
        w *= 2.0
        re, im = fft.inverse2(re * w, im * w, row_table, column_table, never, BATCH, H, W)
        re = tl.reshape(re, (BATCH, PH, PW)) + poison[:, None, None]
        im = tl.reshape(im, (BATCH, PH, PW)) + poison2[:, None, None]
        planes.store(grad, re, im, where, axes, grad_n, grad_c, grad_h, grad_w, ALIGN, PAIRED)


def spectral_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    scale: float,
    per_sample: bool,
    input_grad: bool,
    weight_grad: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As the op. ``symmetric``: the weight is known to be equal at frequencies that are mirror images."""
    samples, _, height, width = input.shape
    scale /= height * width
    shape, weight = weight.shape, planes.parameter(weight)
    grad = torch.empty_like(input, dtype=gradient_dtype(input.dtype)) if input_grad else None
    if fft.fits(height, width, weight.dtype, share=1):
        group = planes.grouping(*input.shape[:2], samples if per_sample else weight.shape[0], weight.shape[1])
        loss, power = _of_tiles(input, target, weight, grad, group, scale, symmetric, weight_grad)
        if weight_grad:
            power = fold(power, *weight.shape[:2], width)
    else:
        loss, power = staged.filtered(input, target, weight, grad, scale, weight_grad)
        if weight_grad:
            power = power.sum_to_size(weight.shape)
    return loss.view(samples, -1).sum(1) if per_sample else loss.sum(), grad, power.view(shape) if weight_grad else None


def _of_tiles(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad: Tensor | None,
    group: planes.Grouping,
    scale: float,
    symmetric: bool,
    power_wanted: bool,
) -> tuple[Tensor, Tensor]:
    height, width = input.shape[-2:]
    slots = group.count * group.pairs
    batch, num_warps = fft.tile(fft.extent(height, width), slots, weight.dtype)

    loss = weight.new_empty(slots)
    power = weight.new_empty((*group.shape, group.pairs, height, width) if power_wanted else 0)
    align = planes.alignment(input, target, *(() if grad is None else (grad,)))
    launch(
        spectral_loss_kernel,
        (triton.cdiv(slots, batch),),
        input,
        target,
        weight,
        input if grad is None else grad,  # any pointer
        loss,
        power,
        tables.table(width, weight.dtype, weight.device),
        tables.table(height, weight.dtype, weight.device),
        scale,
        slots,
        group.pairs,
        group.members,
        group.shape[1],
        group.member_channels,
        *planes.broadcast_strides(weight),
        *planes.strides(input, align),
        *planes.strides(target, align),
        *((0, 0, 0, 0) if grad is None else planes.strides(grad, align)),
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        ALIGN=align,
        PAIRED=group.members > 1,
        SYMMETRIC=symmetric,
        GRAD=grad is not None,
        POWER=power_wanted,
        num_warps=num_warps,
        tune=True,
    )
    return loss, power
