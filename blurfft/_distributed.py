"""How the ops run on a ``DTensor`` sharded over its batch: each rank computes on its samples, nothing is gathered.

The loss and the gradients of whatever all samples share come out as partial sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Placements(NamedTuple):
    """What an op says with how it is sharded."""

    alone: Any  # every rank has the whole
    split: Any  # by samples
    summed: Any  # the ranks' sum is the whole
    split_along: Callable[[int], Any]

    def parameter(self, parameter: Any) -> Any:
        """Of a tensor (N|1, ...)."""
        return self.alone if parameter.shape[0] == 1 else self.split

    def gradient(self, parameter: Any) -> Any:
        return self.summed if parameter.shape[0] == 1 else self.split


_registered = False


def register_shardings(ops: Mapping[str, Any]) -> None:
    """Tells ``DTensor`` about the ops, once and only where somebody has imported it: importing it takes a second."""
    global _registered
    if _registered or "torch.distributed.tensor" not in sys.modules:
        return
    _registered = True

    from torch.distributed.tensor import Partial, Replicate, Shard
    from torch.distributed.tensor.experimental import register_sharding

    place = Placements(Replicate(), Shard(0), Partial(), Shard)
    for op in ops.values():
        register_sharding(op.overload)(partial(op.shardings, place))


class _Sum(torch.autograd.Function):
    """The ranks' sum of a ``DTensor`` that is partial."""

    @staticmethod
    def forward(ctx: Any, partial: Any) -> Any:
        from torch.distributed.tensor import Replicate

        return partial.redistribute(placements=[Replicate() if p.is_partial() else p for p in partial.placements])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad


class _SummedOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Any) -> Any:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _Sum.apply(grad)


def _is_dtensor(tensor: Tensor) -> TypeGuard[DTensor]:
    if type(tensor) is Tensor or "torch.distributed.tensor" not in sys.modules:
        return False

    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def summed_once(tensor: Tensor) -> Tensor:
    """``tensor``, whose gradient is summed over the ranks here if it is a ``DTensor``: several derivatives of torch's
    own, further back, would each do so. Those of ``DTensor.from_local`` and ``redistribute`` have no derivative."""
    return _SummedOnce.apply(tensor) if _is_dtensor(tensor) else tensor


def beside(image: Tensor, parameter: Tensor) -> Tensor:
    """``parameter``, which goes with ``image``: of a ``DTensor`` every rank has the whole of a plain one."""
    if not _is_dtensor(image) or _is_dtensor(parameter):
        return parameter

    from torch.distributed.tensor import DTensor, Replicate

    mesh = image.device_mesh
    return summed_once(DTensor.from_local(parameter, mesh, [Replicate()] * mesh.ndim, run_check=False))


def mirrored(weight: Tensor, *dims: int) -> Tensor:
    """``weight`` of −f at each f along ``dims``: 0, n−1, ..., 1."""
    if not _is_dtensor(weight):
        return weight.flip(dims).roll([1] * len(dims), dims)
    # A DTensor of torch 2.11 does neither, and takes an index along its first dimension only.
    for dim in dims:
        n = weight.shape[dim]
        opposite = beside(weight, -torch.arange(n, device=weight.device) % n)
        weight = weight.transpose(0, dim)[opposite].transpose(0, dim)
    return weight
