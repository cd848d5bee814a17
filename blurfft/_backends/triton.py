"""Triton kernels: each op is a function of the same name in a module of the same name in ``blurfft.kernels``.

With ``TRITON_INTERPRET=1`` in the environment when triton is imported they run on CPU tensors, slowly, for tests.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any

import torch

from . import composed

_OLDEST = (3, 6)
# Each op in the module of its name, but for the adjoint of otf.
_MODULES = {
    "rfft2": "rfft2",
    "irfft2": "irfft2",
    "otf": "otf",
    "otf_backward": "otf",
    "spectral_filter": "spectral_filter",
    "cross_spectrum": "cross_spectrum",
    "spectral_loss": "spectral_loss",
    "wiener_loss": "wiener_loss",
    "focal_frequency_loss": "focal_frequency_loss",
}


def _interpreted() -> bool:
    # The rule of triton.knobs, without importing triton.
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


DEVICES = "cpu (TRITON_INTERPRET)" if _interpreted() else "cuda"
DTYPES = "float32, float64, bfloat16, float16"
SIZES = "height and width with no prime factor above 7 and, factors of 3 counted as 4, of 5 and 7 as 8, up to 1024"


@lru_cache(maxsize=1)
def unavailable() -> str | None:
    oldest = ".".join(map(str, _OLDEST))
    if importlib.util.find_spec("triton") is None:
        return f"triton is not installed: pip install 'triton>={oldest}'"
    version = importlib.metadata.version("triton")
    if tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < _OLDEST:
        return f"it needs triton {oldest} or newer and triton {version} is installed: pip install --upgrade triton"
    if not _interpreted() and not torch.cuda.is_available():
        return "torch sees no GPU; TRITON_INTERPRET=1, set before Python starts, interprets the kernels on the CPU"
    return None


def why_not(op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    served = "cpu" if _interpreted() else "cuda"
    if device != served:
        return f"it runs on {served!r} and the tensors are on {device!r}"
    return importlib.import_module("blurfft.kernels.fft").why_not(height, width)


def blur_mse(*args: Any) -> tuple[torch.Tensor | None, ...]:
    return composed.blur_mse(sys.modules[__name__], *args)


def __getattr__(op: str) -> Callable[..., Any]:
    if op not in _MODULES:
        raise AttributeError(op)
    return _on_plain_memory(getattr(importlib.import_module(f"blurfft.kernels.{_MODULES[op]}"), op))


@cache
def _on_plain_memory(function: Callable[..., Any]) -> Callable[..., Any]:
    # Kernels read what a pointer points at; torch may have noted that the values are its negatives or conjugates.
    @wraps(function)
    def resolved(*args: Any) -> Any:
        return function(*(a.resolve_conj().resolve_neg() if isinstance(a, torch.Tensor) else a for a in args))

    return resolved
