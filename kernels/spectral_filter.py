"""A filter given by its transfer function, applied to every plane in one pass over the image."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import fft, planes, staged, tables
from .launch import launch


@triton.jit(do_not_specialize=["slots"], do_not_specialize_on_alignment=planes.COUNTS)
def spectral_filter_kernel(
    input,
    transfer,
    out,
    row_table,
    column_table,
    slots,
    pairs,
    members,
    group_channels,
    member_channels,
    transfer_n,
    transfer_c,
    input_n,
    input_c,
    input_h,
    input_w,
    out_n,
    out_c,
    out_h,
    out_w,
    H: tl.constexpr,
    W: tl.constexpr,
    BATCH: tl.constexpr,
    ALIGN: tl.constexpr,
    PAIRED: tl.constexpr,
    COMPLEX: tl.constexpr,
):
    """A slot is a pair of planes that share a transfer function: slot = group * pairs + pair."""
    PH: tl.constexpr = fft.pad(H)
    PW: tl.constexpr = fft.pad(W)
    N: tl.constexpr = fft.product(H) * fft.product(W)
    dtype: tl.constexpr = row_table.dtype.element_ty
    never = slots < 0
    slot = tl.program_id(0) * BATCH + tl.arange(0, BATCH)
    group = slot // pairs
    axes = planes.axes(H, W)
    where = planes.pair(slot % pairs, slot < slots, group, members, group_channels, member_channels, PAIRED)
    re, im = planes.load(input, where, axes, input_n, input_c, input_h, input_w, ALIGN, PAIRED, dtype)
    re, im, poison, poison2 = planes.isolate(re, im, PAIRED)
    re, im = tl.reshape(re, (BATCH * PH * PW,)), tl.reshape(im, (BATCH * PH * PW,))

    re, im = fft.forward2(re, im, row_table, column_table, never, BATCH, H, W)
    base = planes.spectrum_offset(group, group_channels, transfer_n, transfer_c)
    if COMPLEX:
        # A real filter keeps a and b of a + ib apart, whatever its phase.
        t_re, t_im = planes.transfer(transfer, base, slot < slots, H, W)
        t_re, t_im = tl.reshape(t_re, (BATCH * PH * PW,)) / N, tl.reshape(t_im, (BATCH * PH * PW,)) / N
        re, im = re * t_re - im * t_im, re * t_im + im * t_re
    else:
        t = tl.reshape(planes.weight(transfer, base, slot < slots, H, W, False), (BATCH * PH * PW,)) / N
        re, im = re * t, im * t
    re, im = fft.inverse2(re, im, row_table, column_table, never, BATCH, H, W)
    re = tl.reshape(re, (BATCH, PH, PW)) + poison[:, None, None]
    im = tl.reshape(im, (BATCH, PH, PW)) + poison2[:, None, None]
    planes.store(out, re, im, where, axes, out_n, out_c, out_h, out_w, ALIGN, PAIRED)


def spectral_filter(input: Tensor, transfer: Tensor) -> Tensor:
    samples, channels, height, width = input.shape
    transfer = transfer.contiguous()
    is_complex = transfer.is_complex()
    out = torch.empty_like(input)
    if not fft.fits(height, width, transfer.dtype):
        staged.filtered(input, None, transfer, out, 1.0 / (height * width))
        return out
    if is_complex:
        transfer = torch.view_as_real(transfer)
    group = planes.grouping(samples, channels, transfer.shape[0], transfer.shape[1])
    slots = group.count * group.pairs
    batch, num_warps = fft.tile(fft.extent(height, width), slots, transfer.dtype)
    align = planes.alignment(input, out)
    launch(
        spectral_filter_kernel,
        (triton.cdiv(slots, batch),),
        input,
        transfer,
        out,
        tables.table(width, transfer.dtype, transfer.device),
        tables.table(height, transfer.dtype, transfer.device),
        slots,
        group.pairs,
        group.members,
        group.shape[1],
        group.member_channels,
        *planes.broadcast_strides(transfer),
        *planes.strides(input, align),
        *planes.strides(out, align),
        H=fft.plan(height),
        W=fft.plan(width),
        BATCH=batch,
        ALIGN=align,
        PAIRED=group.members > 1,
        COMPLEX=is_complex,
        num_warps=num_warps,
        tune=True,
    )
    return out
