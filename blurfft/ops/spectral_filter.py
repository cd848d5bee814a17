"""F⁻¹[T F input], transfer T (N|1, C|1, H, W//2+1) real or complex -> like input (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _dispatch, _distributed
from .._math import compute_dtype, laid_out_as
from ._define import Args, Dims, Grads, Needs, Op, extent, fold, fold_shared, unfold


class SpectralFilter(Op):
    schema = "spectral_filter(Tensor input, Tensor transfer) -> Tensor"
    images = 1

    def resolve(self, input: Tensor, transfer: Tensor) -> tuple[Callable[..., Any], Args]:
        return _dispatch.select(self.name, input, *input.shape[2:]), (input, transfer)

    def fake(self, input: Tensor, transfer: Tensor) -> Tensor:
        return torch.empty_like(input)

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        from .cross_spectrum import cross_spectrum  # whose derivative this op is

        input, transfer = args
        dtype = input.dtype
        if torch.is_grad_enabled():
            # What comes back through both results is added up before it is rounded.
            input, grad = input.to(compute_dtype(dtype)), grad.to(compute_dtype(dtype))
        input_grad = transfer_grad = None
        if needs[0]:
            input_grad = spectral_filter(laid_out_as(input, grad), transfer.conj()).to(dtype)
        if needs[1]:
            transfer_grad = cross_spectrum(input, grad, *transfer.shape[:2], transfer.is_complex())
        return input_grad, transfer_grad

    def vmap(self, info: Any, dims: Dims, input: Tensor, transfer: Tensor) -> tuple[Tensor, int]:
        size, samples = info.batch_size, extent(input, dims[0])
        shared = fold_shared(transfer, dims[1], size, samples, separate=False)
        return unfold(self.overload(fold(input, dims[0], size), shared), size, samples), 0

    def shardings(self, place: _distributed.Placements, input: Any, transfer: Any) -> list[tuple[list[Any], list[Any]]]:
        return [
            ([place.alone], [place.alone, place.alone]),
            ([place.split], [place.split, place.parameter(transfer)]),
        ]


spectral_filter = SpectralFilter()
