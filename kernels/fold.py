"""From what programs accumulated over packed planes to sums over planes, on the half spectrum."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 256


@triton.jit
def fold_kernel(
    partial,
    out,
    outer,
    inner,
    out_channels,
    partial_n,
    partial_c,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPLEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[a, b, f] = m sum over n < outer and i < inner of (S_f + conj S_-f) / 2, S = partial[a * 1 + n, b, i].

    Of two planes packed as a + ib, conj(F a) F b mixes into what is antisymmetric, so that this leaves their sum.
    """
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    HALF: tl.constexpr = WIDTH // 2 + 1
    group = tl.program_id(0)
    f = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = f < HEIGHT * HALF
    f1 = f // HALF
    f2 = f % HALF
    here = f1 * WIDTH + f2
    there = (HEIGHT - f1) % HEIGHT * WIDTH + (WIDTH - f2) % WIDTH
    base = partial + (group // out_channels).to(tl.int64) * partial_n + (group % out_channels).to(tl.int64) * partial_c
    re = tl.zeros((BLOCK,), out.dtype.element_ty)
    im = tl.zeros((BLOCK,), out.dtype.element_ty)
    for n in range(outer):
        for i in range(inner):
            part = base + tl.cast(n, tl.int64) * partial_n + tl.cast(i, tl.int64) * (PARTS * HEIGHT * WIDTH)
            re += tl.load(part + here, mask=inside, other=0.0) + tl.load(part + there, mask=inside, other=0.0)
            if COMPLEX:
                part += HEIGHT * WIDTH
                im += tl.load(part + here, mask=inside, other=0.0) - tl.load(part + there, mask=inside, other=0.0)
    # m / 2
    m = tl.where((f2 == 0) | (2 * f2 == WIDTH), 0.5, 1.0).to(re.dtype)
    pointers = out + (group.to(tl.int64) * (HEIGHT * HALF) + f) * PARTS
    tl.store(pointers, re * m, mask=inside)
    if COMPLEX:
        tl.store(pointers + 1, im * m, mask=inside)


def fold(partial: Tensor, n: int, c: int, width: int) -> Tensor:
    """(GN, GC, chunks, [2 if complex,] H, W) -> (n, c, H, W//2+1), summed over the chunks, and over GN if n = 1."""
    samples, channels, chunks, *parts, height, _ = partial.shape
    assert channels == c and n in (samples, 1)
    complex = bool(parts)
    out = partial.new_empty((n, c, height, width // 2 + 1), dtype=partial.dtype.to_complex() if complex else None)
    launch(
        fold_kernel,
        (n * c, triton.cdiv(height * (width // 2 + 1), BLOCK)),
        partial,
        torch.view_as_real(out) if complex else out,
        samples if n == 1 else 1,
        chunks,
        c,
        partial.stride(0),
        partial.stride(1),
        HEIGHT=height,
        WIDTH=width,
        COMPLEX=complex,
        BLOCK=BLOCK,
    )
    return out
