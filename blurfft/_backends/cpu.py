"""The compiled C++ kernels: each op forwards to ``torch.ops.blurfft_cpu`` of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import _ext

DEVICES = "cpu"
DTYPES = "float32, float64, bfloat16, float16"
SIZES = "height and width up to 4096"


def unavailable() -> str | None:
    return _ext.why_not()


def why_not(op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    extension = _ext.module()
    assert extension is not None, "why_not is asked of available backends only"
    if device != "cpu":
        return f"it runs on the CPU and the tensors are on {device!r}"
    for name, side in (("height", height), ("width", width)):
        if not extension.supports_length(side):
            return f"it serves {SIZES}, which the {name} {side} is not"
    return None


def __getattr__(op: str) -> Callable[..., Any]:
    # The ops exist once the extension is loaded, which nothing asks for before the first call.
    if op.startswith("_") or _ext.module() is None:
        raise AttributeError(op)
    # Past OpOverload.__call__, which only forwards to it.
    return getattr(torch.ops.blurfft_cpu, op).default._op
