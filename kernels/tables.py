"""What the transforms read beside the images: roots of unity, and of a convolution its fixed side and chirp."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from . import fft


@cache
def roots(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n, 2): cos and sin of -2 pi t / n, rounded from float64."""
    return _on(device, _roots(n).to(dtype))


@cache
def table(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What the transform of a side of length ``n`` reads, rounded from float64.

    The roots of unity. Of a convolution of length m: its m roots, the spectrum of its fixed side (m) and the chirp (n).
    """
    side = fft.plan(n)
    if not fft.is_convolution(side):
        return roots(n, dtype, device)
    digits, m = side[1:], fft.pad(side)
    chirp = torch.view_as_complex(_roots(2 * n)[torch.arange(n, device="cpu").square() % (2 * n)])
    fixed = torch.zeros(m, dtype=torch.complex128, device="cpu")
    fixed[:n] = chirp.conj()
    fixed[m - n + 1 :] = chirp[1:].conj().flip(0)
    spectrum = torch.fft.fft(fixed, norm="forward")
    # In the order in which the transform leaves its frequencies.
    spectrum = spectrum.view(digits[::-1]).permute(*range(len(digits))[::-1]).reshape(m)
    return _on(device, torch.cat([_roots(m), *map(torch.view_as_real, (spectrum, chirp))]).to(dtype))


def _roots(n: int) -> torch.Tensor:
    t = torch.arange(n, device="cpu")
    return torch.stack((_cosines(t, n), _cosines(4 * t + n, 4 * n)), 1)


def _cosines(t: torch.Tensor, n: int) -> torch.Tensor:
    """cos(2 pi t / n) as the butterflies have it."""
    t = torch.minimum(t % n, -t % n)
    beyond = 4 * t > n
    t = torch.where(beyond, n - 2 * t, 2 * t).double()
    cos = torch.where(4 * t <= n, torch.cos(math.pi * t / n), torch.sin(math.pi * (n - 2 * t) / (2 * n)))
    return torch.where(beyond, -cos, cos)


def _on(device: torch.device, table: torch.Tensor) -> torch.Tensor:
    # It outlives the call. While torch.compile warms a CUDA graph up, what this thread allocates is the graph's.
    with ThreadPoolExecutor(max_workers=1) as other:
        return other.submit(table.to, device).result()
