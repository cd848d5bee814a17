"""Transfer functions of small kernels, and the adjoint, by sums over the kernel's rows: no padded image anywhere."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tables
from .launch import launch

BLOCK = 32  # rows and columns of the half spectrum to a program
CHUNK = 16  # columns of the kernel at once


@triton.jit
def root(table, f, shift, N: tl.constexpr):
    """exp(-2 pi i f shift / N) from the table of N."""
    t = 2 * ((f * ((shift + N) % N)) % N)
    return tl.load(table + t), tl.load(table + t + 1)


@triton.jit
def transfer_function(
    kernel,
    rows,
    columns,
    f1,
    f2,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """K at the frequencies f1 x f2 of the kernel (KH, KW) that the pointer leads to.

    It is added up in float64, from tables of float64: a response that the taps cancel in is right relative to itself,
    so that 0 is 0 next to any noise-to-signal ratio. Terms with a cosine and those with a sine are added up apart:
    where one is 0 and the other 1, opposite rows cancel to the bit.
    """
    cos_re = tl.zeros((f1.shape[0], f2.shape[0]), tl.float64)
    cos_im = tl.zeros((f1.shape[0], f2.shape[0]), tl.float64)
    sin_re = tl.zeros((f1.shape[0], f2.shape[0]), tl.float64)
    sin_im = tl.zeros((f1.shape[0], f2.shape[0]), tl.float64)
    for u in range(KH):
        line_re = tl.zeros((f2.shape[0],), tl.float64)
        line_im = tl.zeros((f2.shape[0],), tl.float64)
        for start in range(0, KW, CHUNK):
            v = start + tl.arange(0, CHUNK)
            k = tl.load(kernel + u * KW + v, mask=v < KW, other=0.0).to(tl.float64)
            cos, sin = root(rows, f2[:, None], v[None, :] - KW // 2, WIDTH)
            line_re += tl.sum(k[None, :] * cos, 1)
            line_im += tl.sum(k[None, :] * sin, 1)
        cos, sin = root(columns, f1, u - KH // 2, HEIGHT)
        cos_re += cos[:, None] * line_re[None, :]
        cos_im += cos[:, None] * line_im[None, :]
        sin_re += sin[:, None] * line_re[None, :]
        sin_im += sin[:, None] * line_im[None, :]
    re, im = cos_re - sin_im, cos_im + sin_re
    return re.to(kernel.dtype.element_ty), im.to(kernel.dtype.element_ty)


@triton.jit
def block(HEIGHT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The frequencies of a program's block of the half spectrum, their offsets and whether they exist."""
    f1 = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    f2 = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    offset = f1[:, None] * (WIDTH // 2 + 1) + f2[None, :]
    inside = (f1 < HEIGHT)[:, None] & (f2 <= WIDTH // 2)[None, :]
    return f1, f2, offset, inside


def blocks(height: int, width: int) -> tuple[int, int]:
    return triton.cdiv(height, BLOCK), triton.cdiv(width // 2 + 1, BLOCK)


@triton.jit
def otf_kernel(
    kernel,
    out,
    rows,
    columns,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    plane = tl.program_id(0).to(tl.int64)
    f1, f2, offset, inside = block(HEIGHT, WIDTH, BLOCK)
    kernel += plane * KH * KW
    re, im = transfer_function(kernel, rows, columns, f1, f2, HEIGHT, WIDTH, KH, KW, CHUNK)
    pointers = out + (plane * (HEIGHT * (WIDTH // 2 + 1)) + offset) * 2
    tl.store(pointers, re, mask=inside)
    tl.store(pointers + 1, im, mask=inside)


@triton.jit
def otf_backward_kernel(
    grad,
    out,
    rows,
    columns,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """A row u of the result and a chunk of its columns: the columns of the spectrum first, then its one row."""
    HALF: tl.constexpr = WIDTH // 2 + 1
    dtype: tl.constexpr = out.dtype.element_ty
    plane = tl.program_id(0).to(tl.int64)
    u = tl.program_id(1)
    v = tl.program_id(2) * CHUNK + tl.arange(0, CHUNK)
    grad += plane * (2 * HEIGHT * HALF)
    total = tl.zeros((CHUNK,), dtype)
    for column in range(0, HALF, BLOCK):
        f2 = column + tl.arange(0, BLOCK)
        line_re = tl.zeros((BLOCK,), dtype)
        line_im = tl.zeros((BLOCK,), dtype)
        for row in range(0, HEIGHT, BLOCK):
            f1 = row + tl.arange(0, BLOCK)
            inside = (f1 < HEIGHT)[:, None] & (f2 < HALF)[None, :]
            pointers = grad + (f1[:, None] * HALF + f2[None, :]) * 2
            re = tl.load(pointers, mask=inside, other=0.0)
            im = tl.load(pointers + 1, mask=inside, other=0.0)
            cos, sin = root(columns, f1, u - KH // 2, HEIGHT)
            line_re += tl.sum(re * cos[:, None] + im * sin[:, None], 0)
            line_im += tl.sum(im * cos[:, None] - re * sin[:, None], 0)
        cos, sin = root(rows, f2[:, None], v[None, :] - KW // 2, WIDTH)
        total += tl.sum(line_re[:, None] * cos + line_im[:, None] * sin, 0)
    tl.store(out + (plane * KH + u) * KW + v, total, mask=v < KW)


def otf(kernel: Tensor, height: int, width: int) -> Tensor:
    *shape, kh, kw = kernel.shape
    kernel = kernel.contiguous()
    out = kernel.new_empty((*shape, height, width // 2 + 1), dtype=kernel.dtype.to_complex())
    launch(
        otf_kernel,
        (kernel.numel() // (kh * kw), *blocks(height, width)),
        kernel,
        torch.view_as_real(out),
        tables.roots(width, torch.float64, kernel.device),
        tables.roots(height, torch.float64, kernel.device),
        HEIGHT=height,
        WIDTH=width,
        KH=kh,
        KW=kw,
        BLOCK=BLOCK,
        CHUNK=CHUNK,
    )
    return out


def otf_backward(grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
    *shape, height, half = grad.shape
    grad = torch.view_as_real(grad.contiguous())
    out = grad.new_empty((*shape, kh, kw))
    launch(
        otf_backward_kernel,
        (grad.numel() // (2 * height * half), kh, triton.cdiv(kw, CHUNK)),
        grad,
        out,
        tables.roots(width, grad.dtype, grad.device),
        tables.roots(height, grad.dtype, grad.device),
        HEIGHT=height,
        WIDTH=width,
        KH=kh,
        KW=kw,
        BLOCK=BLOCK,
        CHUNK=CHUNK,
    )
    return out
