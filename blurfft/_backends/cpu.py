"""The compiled C++ kernels."""

from __future__ import annotations

from functools import cache

import torch

from .. import _ext
from . import Functions

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


@cache
def functions() -> Functions:
    ops = torch.ops.blurfft_cpu
    return {
        "rfft2": ops.rfft2.default,
        "irfft2": ops.irfft2.default,
        "otf": ops.otf.default,
        "otf_backward": ops.otf_backward.default,
        "spectral_filter": ops.spectral_filter.default,
        "cross_spectrum": ops.cross_spectrum.default,
        "spectral_loss": ops.spectral_loss.default,
        "wiener_loss": ops.wiener_loss.default,
        "blur_mse": ops.blur_mse.default,
        "focal_frequency_loss": ops.focal_frequency_loss.default,
    }
