"""Random inputs in every layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Each makes a non-leaf or leaf tensor of the given shape; all but the first two are neither contiguous nor
# channels_last.
LAYOUTS: dict[str, Callable[..., Tensor]] = {
    "contiguous": lambda shape, make: make(shape),
    "channels_last": lambda shape, make: make(shape).contiguous(memory_format=torch.channels_last),
    "transposed": lambda shape, make: make((*shape[:2], shape[3], shape[2])).transpose(2, 3),
    "permuted": lambda shape, make: make((shape[1], shape[3], shape[0], shape[2])).permute(2, 0, 3, 1),
    "sliced": lambda shape, make: make((shape[0], shape[1] + 1, shape[2] + 2, 2 * shape[3]))[:, 1:, 1:-1, ::2],
    "expanded": lambda shape, make: make((1, *shape[1:])).expand(shape),
}


def images(shape: Sequence[int], dtype: torch.dtype = torch.float64, layout: str = "contiguous") -> Tensor:
    """(N, C, H, W), standard normal."""
    return LAYOUTS[layout](tuple(shape), lambda s: torch.randn(s, dtype=torch.float64).to(dtype))


def kernels(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Non-negative, each summing to 1, away from the singular case of a vanishing frequency."""
    k = torch.rand(tuple(shape), dtype=torch.float64)
    k[..., shape[-2] // 2, shape[-1] // 2] += 0.5
    return (k / k.sum((-2, -1), keepdim=True)).to(dtype)


def edge_detectors(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Each summing to 0, exactly in any dtype."""
    k = torch.randint(-8, 9, tuple(shape), dtype=torch.float64) / 64
    k[..., shape[-2] // 2, shape[-1] // 2] -= k.sum((-2, -1))
    return k.to(dtype)


def positive(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise-to-signal ratios and floors, between 0.05 and 0.15."""
    return (0.05 + 0.1 * torch.rand(tuple(shape), dtype=torch.float64)).to(dtype)
