"""The inverse of ``rfft2``, (..., H, W//2+1) -> (..., H, width)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _dispatch
from .._math import multiplicity
from ._define import LinearOp
from .rfft2 import ADJOINT_NORM, rfft2, scale


class IRFFT2(LinearOp):
    schema = "irfft2(Tensor input, SymInt width, str norm) -> Tensor"

    def resolve(self, input: Tensor, width: int, norm: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        height = input.shape[-2]
        function = _dispatch.select(self.name, input, height, width)
        return function, (input, width, scale(norm, "forward", height * width))

    def fake(self, input: Tensor, width: int, norm: str) -> Tensor:
        return input.new_empty((*input.shape[:-1], width), dtype=input.dtype.to_real())

    def kept(self, input: Tensor, width: int, norm: str) -> tuple[Any, ...]:
        return width, ADJOINT_NORM[norm]

    def adjoint(self, grad: Tensor, width: int, norm: str) -> Tensor:
        return multiplicity(width, grad) * rfft2(grad, norm)


irfft2 = IRFFT2()
