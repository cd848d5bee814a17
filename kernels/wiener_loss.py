"""The weight from a blur kernel, the spectral loss with it, and the gradients of what the weight is made of."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import otf, planes, tables
from .launch import launch
from .spectral_loss import spectral_loss


@triton.jit
def precision_spectrum(
    kernel,
    nsr,
    eps,
    rows,
    columns,
    channels,
    kernel_n,
    kernel_c,
    nsr_n,
    nsr_c,
    eps_n,
    eps_c,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """A program's block of omega; of K (re, im), s = |K|^2, the noise-to-signal ratio and 1 / (s + that); a unit.

    Then offsets, mask and m. K is in units, and the others in units squared, so that they are in range.
    """
    n = (tl.program_id(0) // channels).to(tl.int64)
    c = (tl.program_id(0) % channels).to(tl.int64)
    f1, f2, offset, inside = otf.block(HEIGHT, WIDTH, BLOCK)
    kernel += n * kernel_n + c * kernel_c
    re, im = otf.transfer_function(kernel, rows, columns, f1, f2, HEIGHT, WIDTH, KH, KW, CHUNK)
    unit = tl.where(tl.maximum(tl.abs(re), tl.abs(im)) > 2.0**60, 2.0**-80, 1.0).to(re.dtype)
    re, im = re * unit, im * unit
    s = re * re + im * im
    noise = tl.load(nsr + n * nsr_n + c * nsr_c) * unit * unit
    inverse = 1.0 / (s + noise)
    w = s * inverse * inverse * unit * unit + tl.load(eps + n * eps_n + c * eps_c)
    m = tl.where((f2 == 0) | (2 * f2 == WIDTH), 1.0, 2.0).to(s.dtype)[None, :]
    return w, re, im, s, noise, inverse, unit, offset, inside, m


@triton.jit
def weight_kernel(
    kernel,
    nsr,
    eps,
    rows,
    columns,
    weight,
    log_determinant,
    channels,
    kernel_n,
    kernel_c,
    nsr_n,
    nsr_c,
    eps_n,
    eps_c,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    LOG: tl.constexpr,
):
    """omega (planes, H, W//2+1) and, by blocks, the sum of m log omega."""
    w, _, _, _, _, _, _, offset, inside, m = precision_spectrum(
        kernel,
        nsr,
        eps,
        rows,
        columns,
        channels,
        kernel_n,
        kernel_c,
        nsr_n,
        nsr_c,
        eps_n,
        eps_c,
        HEIGHT,
        WIDTH,
        KH,
        KW,
        BLOCK,
        CHUNK,
    )
    plane = tl.program_id(0).to(tl.int64)
    tl.store(weight + plane * (HEIGHT * (WIDTH // 2 + 1)) + offset, w, mask=inside)
    if LOG:
        part = (plane * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
        tl.store(log_determinant + part, tl.sum(tl.sum(tl.where(inside, m * tl.log(w), 0.0), 1), 0))


@triton.jit
def parameters_kernel(
    kernel,
    nsr,
    eps,
    rows,
    columns,
    weight_grad,
    transfer_grad,
    sums,
    channels,
    kernel_n,
    kernel_c,
    nsr_n,
    nsr_c,
    eps_n,
    eps_c,
    log_scale: "fp64",
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    LOG: tl.constexpr,
):
    """From the gradient by omega, less log_scale * m / omega for the log-determinant: that by K, 2 dQ/ds K, and by
    blocks the sums of those by nsr and by eps."""
    w, re, im, s, noise, inverse, unit, offset, inside, m = precision_spectrum(
        kernel,
        nsr,
        eps,
        rows,
        columns,
        channels,
        kernel_n,
        kernel_c,
        nsr_n,
        nsr_c,
        eps_n,
        eps_c,
        HEIGHT,
        WIDTH,
        KH,
        KW,
        BLOCK,
        CHUNK,
    )
    plane = tl.program_id(0).to(tl.int64)
    at = plane * (HEIGHT * (WIDTH // 2 + 1)) + offset
    d = tl.load(weight_grad + at, mask=inside, other=0.0)
    if LOG:
        d -= tl.full((), log_scale, d.dtype) * m / w
    # The powers of the inverse are out of range long before these products.
    ds = 2.0 * d * ((noise - s) * inverse)
    tl.store(transfer_grad + 2 * at, ds * (re * inverse * inverse * unit * unit * unit), mask=inside)
    tl.store(transfer_grad + 2 * at + 1, ds * (im * inverse * inverse * unit * unit * unit), mask=inside)
    dnoise = -2.0 * d * (s * inverse) * (inverse * unit * unit) * (inverse * unit * unit)
    part = (plane * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(sums + 2 * part, tl.sum(tl.sum(tl.where(inside, dnoise, 0.0), 1), 0))
    tl.store(sums + 2 * part + 1, tl.sum(tl.sum(tl.where(inside, d, 0.0), 1), 0))


def wiener_loss(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: Tensor,
    eps: Tensor,
    scale: float,
    nll: bool,
    per_sample: bool,
    input_grad: bool,
    kernel_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    samples, channels, height, width = input.shape
    given, kernel = kernel.shape, planes.parameter(kernel)
    shape = torch.broadcast_shapes(kernel.shape[:2], nsr.shape, eps.shape)
    half = width // 2 + 1
    grid = (shape[0] * shape[1], *otf.blocks(height, width))
    roots = tuple(tables.roots(side, torch.float64, kernel.device) for side in (width, height))
    parameters = (
        shape[1],
        *(stride for t in (kernel, nsr, eps) for stride in planes.broadcast_strides(t)),
    )
    constants = {
        "HEIGHT": height,
        "WIDTH": width,
        "KH": kernel.shape[2],
        "KW": kernel.shape[3],
        "BLOCK": otf.BLOCK,
        "CHUNK": otf.CHUNK,
        "LOG": nll,
    }

    weight = kernel.new_empty((*shape, height, half))
    log_determinant = kernel.new_empty((*shape, grid[1] * grid[2]) if nll else 0)
    launch(weight_kernel, grid, kernel, nsr, eps, *roots, weight, log_determinant, *parameters, **constants)

    if nll:
        scale /= 2
    loss, grad, weight_grad = spectral_loss(
        input, target, weight, scale, per_sample, input_grad, kernel_grad, symmetric=True
    )
    if nll:
        # Every plane contributes its own.
        by_sample = log_determinant.sum(2).expand(shape[0], channels).sum(1).expand(samples)
        constant = channels * height * width * math.log(2 * math.pi)
        rest = constant - by_sample
        loss = loss + scale * (rest if per_sample else rest.sum())
    if not kernel_grad:
        return loss, grad, None, None, None

    transfer_grad = kernel.new_empty((*shape, height, half), dtype=kernel.dtype.to_complex())
    sums = kernel.new_empty((*shape, grid[1] * grid[2], 2))
    launch(
        parameters_kernel,
        grid,
        kernel,
        nsr,
        eps,
        *roots,
        weight_grad,
        torch.view_as_real(transfer_grad),
        sums,
        *parameters,
        scale * (samples * channels / (shape[0] * shape[1])),
        **constants,
    )
    if transfer_grad.shape[:2] != kernel.shape[:2]:
        transfer_grad = transfer_grad.sum_to_size(*kernel.shape[:2], height, half)
    nsr_grad, eps_grad = sums.sum(2).unbind(2)
    return (
        loss,
        grad,
        otf.otf_backward(transfer_grad, width, *kernel.shape[2:]).view(given),
        nsr_grad.sum_to_size(nsr.shape).contiguous(),
        eps_grad.sum_to_size(eps.shape).contiguous(),
    )
