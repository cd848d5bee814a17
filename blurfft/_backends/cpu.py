"""The compiled C++ kernels: each op forwards to ``torch.ops.blurfft_cpu`` of the same name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from .. import _ext

MAX_SIDE = 4096

DEVICES = "cpu"
DTYPES = "float32, float64, bfloat16, float16"
SIZES = f"height and width at most {MAX_SIDE}, with no prime factor above 7"


def unavailable() -> str | None:
    return _ext.why_not()


def why_not(op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    if device != "cpu":
        return f"it runs on the CPU and the tensors are on {device!r}"
    for name, side in (("height", height), ("width", width)):
        if side > MAX_SIDE:
            return f"the {name} {side} is above {MAX_SIDE}"
        if not _smooth(side):
            return f"the {name} {side} has a prime factor above 7"
    return None


@cache
def _smooth(side: int) -> bool:
    for factor in (2, 3, 5, 7):
        while side > 1 and side % factor == 0:
            side //= factor
    return side == 1


def __getattr__(op: str) -> Callable[..., Any]:
    # The ops exist once the extension is loaded, which nothing asks for before the first call.
    if op.startswith("_") or _ext.module() is None:
        raise AttributeError(op)
    return getattr(torch.ops.blurfft_cpu, op).default
