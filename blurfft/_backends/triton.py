"""The Triton kernels, ``blurfft.kernels``.

With ``TRITON_INTERPRET=1`` in the environment when triton is imported they run on CPU tensors, slowly, for tests.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any

import torch

from .._math import on_device_of
from . import Functions, composed

_OLDEST = (3, 6)


def _interpreted() -> bool:
    # The rule of triton.knobs, without importing triton.
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


DEVICES = "cpu (TRITON_INTERPRET)" if _interpreted() else "cuda"
DTYPES = "float32, float64, bfloat16, float16"
_LIMIT = 1024
SIZES = f"height and width up to {_LIMIT}"


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
    for name, side in (("height", height), ("width", width)):
        if side > _LIMIT:
            return f"it serves {SIZES}, which the {name} {side} is not"
    return None


@cache
def functions() -> Functions:
    from ..kernels import (  # which import triton
        cross_spectrum,
        focal_frequency_loss,
        irfft2,
        otf,
        rfft2,
        spectral_filter,
        spectral_loss,
        wiener_loss,
    )

    return composed.complete(
        {
            "rfft2": _on_plain_memory(rfft2.rfft2),
            "irfft2": _on_plain_memory(irfft2.irfft2),
            "otf": _on_plain_memory(otf.otf),
            "otf_backward": _on_plain_memory(otf.otf_backward),
            "spectral_filter": _on_plain_memory(spectral_filter.spectral_filter),
            "cross_spectrum": _on_plain_memory(cross_spectrum.cross_spectrum),
            "spectral_loss": _on_plain_memory(spectral_loss.spectral_loss),
            "wiener_loss": _on_plain_memory(_with_numbers_beside(wiener_loss.wiener_loss)),
            "focal_frequency_loss": _on_plain_memory(focal_frequency_loss.focal_frequency_loss),
        }
    )


def _with_numbers_beside(function: Callable[..., Any]) -> Callable[..., Any]:
    # These kernels read nsr and eps from the device's memory.
    @wraps(function)
    def placed(input: torch.Tensor, target: torch.Tensor, kernel: torch.Tensor, *rest: Any) -> Any:
        nsr, eps, *options = rest
        return function(input, target, kernel, on_device_of(input, nsr), on_device_of(input, eps), *options)

    return placed


def _on_plain_memory(function: Callable[..., Any]) -> Callable[..., Any]:
    # Kernels read what a pointer points at; torch may have noted that the values are its negatives or conjugates.
    @wraps(function)
    def resolved(*args: Any) -> Any:
        return function(*(a.resolve_conj().resolve_neg() if isinstance(a, torch.Tensor) else a for a in args))

    return resolved
