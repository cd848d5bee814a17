"""From what programs accumulated over packed planes to sums over planes, on the half spectrum."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 256


@triton.jit
def fold_kernel(
    total,
    out,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPLEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = m (S_f + conj S_-f) / 2 of the full spectra S.

    Of two planes packed as a + ib, conj(F a) F b mixes into what is antisymmetric, so that this leaves their sum.
    """
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    HALF: tl.constexpr = WIDTH // 2 + 1
    group = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = f < HEIGHT * HALF
    f1 = f // HALF
    f2 = f % HALF
    here = f1 * WIDTH + f2
    there = (HEIGHT - f1) % HEIGHT * WIDTH + (WIDTH - f2) % WIDTH
    total += group * (PARTS * HEIGHT * WIDTH)
    out += group * (PARTS * HEIGHT * HALF) + f * PARTS
    # m / 2
    m = tl.where((f2 == 0) | (2 * f2 == WIDTH), 0.5, 1.0).to(total.dtype.element_ty)
    re = m * tl.load(total + here, mask=inside, other=0.0) + m * tl.load(total + there, mask=inside, other=0.0)
    tl.store(out, re, mask=inside)
    if COMPLEX:
        total += HEIGHT * WIDTH
        im = m * tl.load(total + here, mask=inside, other=0.0) - m * tl.load(total + there, mask=inside, other=0.0)
        tl.store(out + 1, im, mask=inside)


def fold(partial: Tensor, n: int, c: int, width: int) -> Tensor:
    """(GN, GC, chunks, [2 if complex,] H, W) -> (n, c, H, W//2+1), summed over the chunks, and over GN if n = 1."""
    samples, channels, chunks, *parts, height, _ = partial.shape
    assert channels == c and n in (samples, 1)
    total = partial.sum((0, 2) if n == 1 else 2) if max(chunks, samples // n) > 1 else partial
    is_complex = bool(parts)
    out = total.new_empty((n, c, height, width // 2 + 1), dtype=total.dtype.to_complex() if is_complex else total.dtype)
    launch(
        fold_kernel,
        (n * c, triton.cdiv(height * (width // 2 + 1), BLOCK)),
        total,
        torch.view_as_real(out) if is_complex else out,
        HEIGHT=height,
        WIDTH=width,
        COMPLEX=is_complex,
        BLOCK=BLOCK,
    )
    return out
