"""The compiled CUDA kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from .. import _ext
from . import Functions, composed

# The longest line that a block transforms in its shared memory (csrc/cuda/kernels.h).
MAX_LENGTH = 2048

DEVICES = "cuda"
DTYPES = "float32, float64, bfloat16, float16"
_LENGTHS = f"height and width up to {MAX_LENGTH}"
# csrc/cuda/README.md has the whole table.
SIZES = f"{_LENGTHS}; one pass over float32 and narrower images at the usual sizes up to 256x256, else three kernels"


def unavailable() -> str | None:
    extension = _ext.module()
    if extension is None:
        return _ext.why_not()
    info = extension.build_info()
    if not info["cuda"]:
        return (
            f"the extension was built without CUDA kernels ({info['cuda_reason']}); install blurfft with the CUDA "
            f"toolkit and a torch for CUDA present ({_ext.how_to_build()})"
        )
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA; install one for CUDA, then blurfft again"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device; nvidia-smi shows whether the driver does"
    return None


def why_not(op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    extension = _ext.module()
    assert extension is not None, "why_not is asked of available backends only"
    if device != "cuda":
        return f"it runs on CUDA devices and the tensors are on {device!r}"
    for name, side in (("height", height), ("width", width)):
        if side > MAX_LENGTH:
            return f"it serves {_LENGTHS}, which the {name} {side} is not"
    return _device_without_code(extension)


def _device_without_code(extension: Any) -> str | None:
    for i in range(torch.cuda.device_count()):
        codes = extension.build_info()["cuda_codes"].split(",")
        capability = torch.cuda.get_device_capability(i)
        if any(_runs(code, capability) for code in codes):
            continue
        number = ".".join(map(str, capability))
        remedy = (
            f"compile it on this machine with TORCH_CUDA_ARCH_LIST={number}"
            if capability >= _OLDEST
            else f"it needs {'.'.join(map(str, _OLDEST))} or newer"
        )
        return (
            f"{torch.cuda.get_device_name(i)} has compute capability {number}, and the extension holds code for "
            f"{', '.join(codes)} only; {remedy}"
        )
    return None


_OLDEST = (8, 0)


def _runs(code: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs such code: binaries (sm_80) of its major and no newer minor version, PTX (compute_80) of any
    version that is no newer; with the suffix a only its own."""
    kind, _, name = code.partition("_")
    of = divmod(int(name.rstrip("af")), 10)
    if name.endswith("a"):
        return of == capability
    return of <= capability and (of[0] == capability[0] or (kind == "compute" and not name.endswith("f")))


@cache
def functions() -> Functions:
    ops = torch.ops.blurfft_cuda
    return composed.complete(
        {
            "rfft2": ops.rfft2.default,
            "irfft2": ops.irfft2.default,
            "otf": ops.otf.default,
            "otf_backward": ops.otf_backward.default,
            "spectral_filter": ops.spectral_filter.default,
            "cross_spectrum": ops.cross_spectrum.default,
            "spectral_loss": ops.spectral_loss.default,
            "wiener_loss": ops.wiener_loss.default,
            "focal_frequency_loss": ops.focal_frequency_loss.default,
            "scale_": ops.scale_.default,
        }
    )
