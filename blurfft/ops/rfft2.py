"""The real 2-D DFT of planes, (..., H, W) -> (..., H, W//2+1), and what it shares with its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _dispatch
from .._math import compute_dtype, multiplicity
from ._define import LinearOp

ADJOINT_NORM = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def scale(norm: str, unscaled: str, n: int) -> float:
    return 1.0 if norm == unscaled else n**-0.5 if norm == "ortho" else 1.0 / n


class RFFT2(LinearOp):
    schema = "rfft2(Tensor input, str norm) -> Tensor"

    def resolve(self, input: Tensor, norm: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        height, width = input.shape[-2:]
        function = _dispatch.select(self.name, input, height, width)
        return function, (input, scale(norm, "backward", height * width))

    def fake(self, input: Tensor, norm: str) -> Tensor:
        dtype = compute_dtype(input.dtype).to_complex()
        return input.new_empty((*input.shape[:-1], input.shape[-1] // 2 + 1), dtype=dtype)

    def kept(self, input: Tensor, norm: str) -> tuple[Any, ...]:
        return input.shape[-1], input.dtype, ADJOINT_NORM[norm]

    def adjoint(self, grad: Tensor, width: int, dtype: Any, norm: str) -> Tensor:
        from .irfft2 import irfft2  # whose adjoint this is

        return irfft2(grad / multiplicity(width, grad), width, norm).to(dtype)


rfft2 = RFFT2()
