"""The one table of tolerances: how far a result of each dtype may be from the float64 truth, relative to its largest
element.

Inputs are rounded to their dtype before the truth is computed from them, so that for half precision only the rounding
of the result is left.
"""

from __future__ import annotations

import torch
from backends import INTERPRETED
from torch import Tensor

TOLERANCES = {
    torch.float64: 1e-14,
    torch.float32: 2e-6,
    torch.float16: 6e-4,
    torch.bfloat16: 5e-3,
}
if INTERPRETED:
    # Triton's interpreter cuts float32 off to bfloat16 where a GPU rounds to nearest: off by one unit instead of half.
    TOLERANCES[torch.bfloat16] *= 2


def _largest(values: Tensor) -> float:
    return values.detach().abs().nan_to_num(0.0).max().item() if values.numel() else 0.0


def relative_error(actual: Tensor, truth: Tensor) -> float:
    """The largest difference relative to the largest entry."""
    return _largest(actual.to(truth) - truth) / max(_largest(truth), torch.finfo(torch.float64).tiny)


def assert_close(actual: Tensor, truth: Tensor, factor: float = 1.0, at_least: float = 0.0) -> None:
    """``factor`` widens the tolerance where the problem, not the code, amplifies rounding errors; ``at_least`` is one
    that holds where it is larger. The truth may be on another device."""
    real = actual.dtype.to_real() if actual.is_complex() else actual.dtype
    torch.testing.assert_close(
        actual.detach().to(truth),
        truth.detach(),
        rtol=0.0,
        atol=max(factor * TOLERANCES[real], at_least) * _largest(truth),
        equal_nan=True,
    )
