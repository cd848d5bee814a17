"""The transfer function K of a kernel (A, B, kh, kw) centred at ⌊k/2⌋, (A, B, height, width//2+1), and its adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _dispatch
from ._define import LinearOp


class OTF(LinearOp):
    schema = "otf(Tensor kernel, SymInt height, SymInt width) -> Tensor"

    def resolve(self, kernel: Tensor, height: int, width: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _dispatch.select(self.name, kernel, height, width), (kernel, height, width)

    def fake(self, kernel: Tensor, height: int, width: int) -> Tensor:
        return kernel.new_empty((*kernel.shape[:-2], height, width // 2 + 1), dtype=kernel.dtype.to_complex())

    def kept(self, kernel: Tensor, height: int, width: int) -> tuple[Any, ...]:
        return width, *kernel.shape[-2:]

    def adjoint(self, grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
        return otf_backward(grad, width, kh, kw)


class OTFBackward(LinearOp):
    """Re of the sum over the half spectrum, without m."""

    schema = "otf_backward(Tensor grad, SymInt width, SymInt kh, SymInt kw) -> Tensor"

    def resolve(self, grad: Tensor, width: int, kh: int, kw: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _dispatch.select(self.name, grad, grad.shape[-2], width), (grad, width, kh, kw)

    def fake(self, grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
        return grad.new_empty((*grad.shape[:-2], kh, kw), dtype=grad.dtype.to_real())

    def kept(self, grad: Tensor, width: int, kh: int, kw: int) -> tuple[Any, ...]:
        return grad.shape[-2], width

    def adjoint(self, grad: Tensor, height: int, width: int) -> Tensor:
        return otf(grad, height, width)


otf = OTF()
otf_backward = OTFBackward()
