"""m conj(F a) F b, or its real part, summed over the samples if n = 1 (else n = N) and over the channels if c = 1
(else c = C) -> (n, c, H, W//2+1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _dispatch, _distributed
from .._math import compute_dtype
from ._define import Args, Dims, Grads, Needs, Op, extent, fold, unfold
from .spectral_filter import spectral_filter


def _shape(a: Tensor, n: int, c: int) -> tuple[int, int, int, int]:
    samples, channels, height, width = a.shape
    # With a sharded batch, `a` holds one shard but `n` counts the whole batch.
    return samples if n != 1 else 1, channels if c != 1 else 1, height, width


class CrossSpectrum(Op):
    schema = "cross_spectrum(Tensor a, Tensor b, SymInt n, SymInt c, bool complex) -> Tensor"
    images = 2

    def resolve(self, a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> tuple[Callable[..., Any], Args]:
        n, c, height, width = _shape(a, n, c)
        return _dispatch.select(self.name, a, height, width), (a, b, n, c, complex)

    def fake(self, a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
        n, c, height, width = _shape(a, n, c)
        dtype = compute_dtype(a.dtype)
        return a.new_empty((n, c, height, width // 2 + 1), dtype=dtype.to_complex() if complex else dtype)

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        a, b, *_ = args
        a_grad = spectral_filter(b, grad.conj()) if needs[0] else None
        b_grad = spectral_filter(a, grad) if needs[1] else None
        return a_grad, b_grad

    def vmap(self, info: Any, dims: Dims, a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> tuple[Tensor, int]:
        size, samples = info.batch_size, extent(a, dims[0])
        out = self.overload(fold(a, dims[0], size), fold(b, dims[1], size), size * samples, c, complex)
        return unfold(out, size, samples, keep=n == samples), 0

    def shardings(
        self, place: _distributed.Placements, a: Any, b: Any, n: int, c: int, complex: bool
    ) -> list[tuple[list[Any], list[Any]]]:
        options = [None, None, None]
        return [
            ([place.alone], [place.alone, place.alone, *options]),
            ([place.summed if n == 1 else place.split], [place.split, place.split, *options]),
        ]


cross_spectrum = CrossSpectrum()
