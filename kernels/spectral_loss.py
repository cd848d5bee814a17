"""Weighted squared error in the spectrum, with its gradients, in one pass over the images."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, staged
from .fold import fold
from .launch import launch


@triton.jit
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
    chunks,
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
    TURNS: tl.constexpr,
    PAIRED: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    GRAD: tl.constexpr,
    POWER: tl.constexpr,
):
    """A slot is ``TURNS`` pairs of a group in turn: slot = group * chunks + chunk.

    loss (slots,): scale * sum weight |Z|^2 over the slot. power (slots, H, W): scale * sum |Z|^2 over it, Z the
    unnormalised transform of a + ib.
    """
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    group = slot // chunks
    first = slot % chunks * TURNS
    factor = tl.full((), scale, dtype)

    base = planes.spectrum_offset(group, group_channels, weight_n, weight_c)
    total = tl.zeros((BATCH,), dtype)
    accumulated = tl.zeros((BATCH * PH * PW,), dtype)
    for turn in range(TURNS):
        axes = planes.axes(H, W)
        where = planes.pair(first + turn, slot < slots, group, members, group_channels, member_channels, PAIRED)
        re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, PAIRED, dtype)
        re2, im2 = planes.load(target, where, axes, target_n, target_c, target_h, target_w, ALIGN, PAIRED, dtype)
        re, im, poison, poison2 = planes.isolate(re - re2, im - im2, PAIRED)
        re, im = tl.reshape(re, (BATCH * PH * PW,)), tl.reshape(im, (BATCH * PH * PW,))

        re, im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)
        squares = re * re + im * im
        w = tl.reshape(planes.weight(weight, base, slot < slots, 0, PW, H, W, SYMMETRIC), (BATCH * PH * PW,)) * factor
        total += tl.sum(tl.reshape(w * squares, (BATCH, PH * PW)), 1) + (poison + poison2)
        if POWER:
            accumulated += squares
            if PAIRED:
                both = tl.broadcast_to((poison + poison2)[:, None], (BATCH, PH * PW))
                accumulated += tl.reshape(both, (BATCH * PH * PW,))
        if GRAD:
            w *= 2.0
            re, im = fft.inverse2(re * w, im * w, row_table, column_table, never, BATCH, H, W)
            re = tl.reshape(re, (BATCH, PH, PW)) + poison[:, None, None]
            im = tl.reshape(im, (BATCH, PH, PW)) + poison2[:, None, None]
            planes.store(grad, re, im, where, axes, grad_n, grad_c, grad_h, grad_w, ALIGN, PAIRED)

    tl.store(loss + slot, total, mask=slot < slots)
    if POWER:
        planes.store_spectrum(power, tl.reshape(accumulated * factor, (BATCH, PH, PW)), slot, slot < slots, 0, PW, H, W)


def spectral_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    scale: float,
    per_sample: bool,
    input_grad: bool,
    weight_grad: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the op. ``symmetric``: the weight is known to be equal at frequencies that are mirror images."""
    samples, channels, height, width = input.shape
    group = planes.grouping(samples, channels, samples if per_sample else weight.shape[0], weight.shape[1])
    scale /= height * width
    grad = torch.empty_like(input) if input_grad else input.new_empty(0)
    if fft.fits(height, width, weight.dtype):
        loss, power = _of_tiles(input, target, weight, grad, group, scale, symmetric, weight_grad)
    else:
        loss, power = staged.filtered(
            input, target, weight, grad if input_grad else None, group, scale, symmetric, weight_grad
        )
    loss = loss.view(samples, -1).sum(1) if per_sample else loss.sum()
    return loss, grad, fold(power, *weight.shape[:2], width) if weight_grad else power


def _of_tiles(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad: Tensor,
    group: planes.Grouping,
    scale: float,
    symmetric: bool,
    power_wanted: bool,
) -> tuple[Tensor, Tensor]:
    height, width = input.shape[-2:]
    turns = planes.turns(group) if power_wanted else 1
    chunks = triton.cdiv(group.pairs, turns)
    slots = group.count * chunks
    batch, num_warps = fft.tile(fft.extent(height, width), slots, weight.dtype)

    loss = weight.new_empty(slots)
    power = weight.new_empty((*group.shape, chunks, height, width)) if power_wanted else weight.new_empty(0)
    align = planes.alignment(input, target, *([grad] if grad.numel() else []))
    launch(
        spectral_loss_kernel,
        (triton.cdiv(slots, batch),),
        input,
        target,
        weight,
        grad,
        loss,
        power,
        fft.table(width, weight.dtype, weight.device),
        fft.table(height, weight.dtype, weight.device),
        scale,
        slots,
        chunks,
        group.members,
        group.shape[1],
        group.member_channels,
        *planes.broadcast_strides(weight),
        *planes.strides(input, align),
        *planes.strides(target, align),
        *(planes.strides(grad, align) if grad.numel() else (0, 0, 0, 0)),
        H=fft.radices(height),
        W=fft.radices(width),
        BATCH=batch,
        ALIGN=align,
        TURNS=turns,
        PAIRED=group.members > 1,
        SYMMETRIC=symmetric,
        GRAD=grad.numel() > 0,
        POWER=power_wanted,
        num_warps=num_warps,
        tune=True,
    )
    return loss, power
