"""How the ops run on a ``DTensor`` sharded over its batch: each rank computes on its samples, nothing is gathered.

The loss and the gradients of whatever all samples share come out as partial sums.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

_registered = False


def register_shardings() -> None:
    """Tells ``DTensor`` about the ops, once and only where somebody has imported it: importing it takes a second."""
    global _registered
    if _registered or "torch.distributed.tensor" not in sys.modules:
        return
    _registered = True

    from torch.distributed.tensor import Partial, Replicate, Shard
    from torch.distributed.tensor.experimental import register_sharding

    ops = torch.ops.blurfft
    alone, split, summed = Replicate(), Shard(0), Partial()

    def shared_or_split(parameter: Any) -> Any:
        return alone if parameter.shape[0] == 1 else split

    def gradient(parameter: Any) -> Any:
        return summed if parameter.shape[0] == 1 else split

    @register_sharding([ops.rfft2.default, ops.irfft2.default, ops.otf.default, ops.otf_backward.default])
    def _(tensor: Any, *options: Any) -> Any:
        rest = [None] * len(options)
        leading = [Shard(dim) for dim in range(tensor.ndim - 2)]
        return [([placement], [placement, *rest]) for placement in (alone, *leading)]

    @register_sharding(ops.spectral_filter.default)
    def _(input: Any, transfer: Any) -> Any:
        return [([alone], [alone, alone]), ([split], [split, shared_or_split(transfer)])]

    @register_sharding(ops.cross_spectrum.default)
    def _(a: Any, b: Any, n: int, c: int, complex: bool) -> Any:
        return [
            ([alone], [alone, alone, None, None, None]),
            ([summed if n == 1 else split], [split, split, None, None, None]),
        ]

    @register_sharding(ops.focal_frequency_loss.default)
    def _(input: Any, target: Any, *options: Any) -> Any:
        *_, per_sample, input_grad = options
        rest = [None] * len(options)
        return [
            ([alone, alone], [alone, alone, *rest]),
            ([split if per_sample else summed, split if input_grad else alone], [split, split, *rest]),
        ]

    @register_sharding([ops.spectral_loss.default, ops.wiener_loss.default, ops.blur_mse.default])
    def _(input: Any, target: Any, *rest: Any) -> Any:
        parameters = [p for p in rest if hasattr(p, "placements")]
        options = rest[len(parameters) :]
        *_, per_sample, input_grad, parameter_grad = options
        return [
            ([alone] * (2 + len(parameters)), [alone] * (2 + len(parameters)) + [None] * len(options)),
            (
                [
                    split if per_sample else summed,
                    split if input_grad else alone,
                    *(gradient(p) if parameter_grad else alone for p in parameters),
                ],
                [split, split, *map(shared_or_split, parameters), *(None for _ in options)],
            ),
        ]
