"""A module for each backend: which calls it serves, and a table of its functions, one for each op of ``blurfft.ops``.

A function takes the op's arguments. Where the op has ``norm`` or ``count`` it is given ``scale: float``, the factor
that these stand for. A loss's kernel or weight may be of two dimensions, for one of (1, 1, ...), and of any strides.
Gradients that are not asked for are None. Beside the ops there is ``scale_(tensors, factor)``, which multiplies the
gradients that a loss has left by a number on their device, in place. Only the reference is ever called with an empty
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

Functions = Mapping[str, Callable[..., Any]]


class Backend(Protocol):
    """What the modules have in common."""

    # What it serves, in words, for ``blurfft info``.
    DEVICES: str
    DTYPES: str
    SIZES: str

    def unavailable(self) -> str | None:
        """Why it cannot be used on this machine at all, and what to do about it."""

    def why_not(self, op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
        """Why, available as it is, it does not serve this call; None if it does.

        ``dtype`` is that of the op's first tensor.
        """

    def functions(self) -> Functions:
        """The function of each op. Asked for only where the backend is available."""
