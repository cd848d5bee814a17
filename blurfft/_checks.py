"""Validation of the public functions' arguments: a wrong one raises before any work and says what it should be.

The values of tensors are not checked: on a GPU that would wait for the device.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.masked import MaskedTensor

from ._distributed import beside
from ._math import as_planes, compute_dtype, constant

_IMAGE_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))
_INTEGERS = frozenset((torch.bool, torch.int8, torch.int16, torch.int32, torch.int64))
_INTEGERS |= {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
_REDUCTIONS = ("none", "mean", "sum")
_NORMS = ("forward", "backward", "ortho")
_LONGEST = 2**31 - 1  # what the backends count in
_NUMPY_NUMBERS = (np.floating, np.integer)


def _tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")


def _dense(name: str, value: Tensor) -> None:
    if isinstance(value, MaskedTensor):
        raise TypeError(f"{name} must be a dense (strided) tensor, got a MaskedTensor")
    if value.is_nested:
        raise TypeError(f"{name} must be a dense (strided) tensor, got a nested one")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {value.layout}")


def _floating(name: str, value: Tensor) -> None:
    _tensor(name, value)
    if value.dtype not in _IMAGE_DTYPES:
        raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {value.dtype}")
    _dense(name, value)


def _same_device(name: str, value: Tensor, other: str, expected: Tensor) -> None:
    if value.device != expected.device:
        raise ValueError(f"{name} must be on the device of {other}, {expected.device}, got {value.device}")


def _planes(name: str, value: Tensor, form: str) -> None:
    """At least two dimensions, the last two not empty."""
    if value.dim() < 2:
        raise ValueError(f"{name} must have at least 2 dimensions {form}, got shape {tuple(value.shape)}")
    if not (value.shape[-2] and value.shape[-1]):
        raise ValueError(f"{name} must have planes of at least 1x1, got shape {tuple(value.shape)}")


def _from_integers(value: Tensor) -> Tensor:
    """Those in torch's default dtype, as in torch.fft."""
    return value.to(torch.get_default_dtype()) if value.dtype in _INTEGERS else value


def plane(name: str, value: Tensor) -> Tensor:
    """Real, floating, (..., H, W)."""
    _tensor(name, value)
    value = _from_integers(value)
    _floating(name, value)
    _planes(name, value, "(..., H, W)")
    return value


def half_spectrum(name: str, value: Tensor) -> Tensor:
    """Complex64 or complex128 of at least two dimensions; real ones are converted, as in torch.fft."""
    _tensor(name, value)
    _dense(name, value)
    value = _from_integers(value)
    if value.dtype in _IMAGE_DTYPES:
        value = value.to(compute_dtype(value.dtype).to_complex())
    if value.dtype not in (torch.complex64, torch.complex128):
        raise TypeError(f"{name} must be complex64, complex128 or real, got {value.dtype}")
    _planes(name, value, "(..., H, W//2+1)")
    return value


def image(name: str, value: Tensor) -> None:
    _floating(name, value)
    if value.dim() != 4:
        raise ValueError(f"{name} must have 4 dimensions (N, C, H, W), got shape {tuple(value.shape)}")
    _planes(name, value, "(N, C, H, W)")


def images(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both images in their common dtype."""
    image("input", input)
    image("target", target)
    if input.shape != target.shape:
        raise ValueError(
            f"input and target must have the same shape, got {tuple(input.shape)} and {tuple(target.shape)}"
        )
    _same_device("target", target, "input", input)
    if input.dtype is target.dtype:
        return input, target
    dtype = torch.promote_types(input.dtype, target.dtype)
    return input.to(dtype), target.to(dtype)


def _parameter(value: Tensor, image: Tensor) -> Tensor:
    """A kernel or weight for ``image`` as (N|1, C|1, ...), contiguous, in its compute dtype."""
    value, dtype = as_planes(beside(image, value)), compute_dtype(image.dtype)
    return (value if value.dtype is dtype else value.to(dtype)).contiguous()


def _shared(name: str, value: Tensor, samples: int, channels: int, image: Tensor) -> None:
    if (samples != 1 and samples != image.shape[0]) or (channels != 1 and channels != image.shape[1]):
        raise ValueError(
            f"{name} must be of 1 or N = {image.shape[0]} samples and of 1 or C = {image.shape[1]} channels, "
            f"got shape {tuple(value.shape)}"
        )


def kernel(kernel: Tensor) -> None:
    _floating("kernel", kernel)
    if kernel.dim() not in (2, 4):
        raise ValueError(f"kernel must have shape (kh, kw) or (N|1, C|1, kh, kw), got {tuple(kernel.shape)}")
    if not (kernel.shape[-2] and kernel.shape[-1]):
        raise ValueError(f"kernel must be at least 1x1, got shape {tuple(kernel.shape)}")


def kernel_within(kernel: Tensor, height: int, width: int) -> None:
    kh, kw = kernel.shape[-2:]
    if kh > height or kw > width:
        raise ValueError(f"kernel must be no larger than the image, {height}x{width}, got {kh}x{kw}")


def kernel_for(image: Tensor, value: Tensor) -> Tensor:
    """The kernel as (N|1, C|1, kh, kw), contiguous, in the compute dtype of ``image``."""
    kernel(value)
    if value.dim() == 4:
        _shared("kernel", value, value.shape[0], value.shape[1], image)
    kernel_within(value, image.shape[2], image.shape[3])
    _same_device("kernel", value, "input", image)
    return _parameter(value, image)


def weight(weight: Tensor) -> None:
    _floating("weight", weight)
    if weight.dim() not in (2, 4):
        raise ValueError(f"weight must have shape (H, W//2+1) or (N|1, C|1, H, W//2+1), got {tuple(weight.shape)}")


def weight_for(image: Tensor, value: Tensor) -> Tensor:
    """The weight as (N|1, C|1, H, W//2+1), contiguous, in the compute dtype of ``image``."""
    weight(value)
    height, columns = image.shape[2], image.shape[3] // 2 + 1
    if value.shape[-2] != height or value.shape[-1] != columns:
        raise ValueError(
            f"weight must lie on the half spectrum of the image, (H, W//2+1) = ({height}, {columns}), "
            f"got shape {tuple(value.shape)}"
        )
    if value.dim() == 4:
        _shared("weight", value, value.shape[0], value.shape[1], image)
    _same_device("weight", value, "input", image)
    return _parameter(value, image)


def matrix_for(image: Tensor, value: Tensor, patch_factor: int) -> Tensor:
    """The weight of a focal frequency loss as (N * patches|1, C|1, h, w), a constant in the compute dtype."""
    _floating("matrix", value)
    _same_device("matrix", value, "input", image)
    samples, channels, height, width = image.shape
    shape = samples, patch_factor**2, channels, height // patch_factor, width // patch_factor
    if value.dim() > 5 or any(side not in (1, n) for side, n in zip(value.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"matrix must broadcast to (N, patches, C, h, w) = {shape}, got shape {tuple(value.shape)}")
    value = beside(image, value.detach().to(compute_dtype(image.dtype)))
    value = value[(None,) * (5 - value.dim())]
    shared = value.shape[0] == value.shape[1] == 1
    n, p = (1, 1) if shared else shape[:2]
    return value.expand(n, p, value.shape[2], *shape[3:]).flatten(0, 1)


def per_plane(name: str, value: float | Tensor, image: Tensor, by_value: bool = False) -> Tensor:
    """nsr or eps for ``image`` as (N|1, C|1), contiguous, in its compute dtype; ``by_value``: a float in the host's
    memory."""
    planes = any_per_plane(name, value, "input", image, by_value)
    if isinstance(value, Tensor):
        _shared(name, value, planes.shape[0], planes.shape[1], image)
    return planes


def any_per_plane(name: str, value: float | Tensor, other: str, like: Tensor, by_value: bool = False) -> Tensor:
    """nsr or eps as (N|1, C|1), contiguous, in the compute dtype of ``like``, whatever N and C are."""
    dtype = compute_dtype(like.dtype)
    given, value = value, non_negative(name, value)
    if isinstance(value, Tensor):
        if value is not given:  # a NumPy scalar
            value = value.to(like.device)
        _same_device(name, value, other, like)
        value = beside(like, value)
        if value.dim() < 2:
            value = value.reshape(-1, 1)
        return value.to(dtype).contiguous()
    if value > torch.finfo(dtype).max:
        raise ValueError(f"{name} must be at most {torch.finfo(dtype).max:.1e}, the largest {dtype}, got {value}")
    number = as_float(value)  # torch takes integers up to 2**63
    return torch.full((1, 1), number, dtype=dtype, device="cpu") if by_value else constant((1, 1), number, like, dtype)


def _number(value: Any) -> Any:
    """A NumPy scalar as a Python number; to the compiler it is an array."""
    if isinstance(value, _NUMPY_NUMBERS):
        return float(value) if isinstance(value, np.longdouble) else value.item()  # whose item is itself
    if torch.compiler.is_compiling() and isinstance(value, np.ndarray):
        number = torch.as_tensor(value)
        return number if number.is_floating_point() or number.dtype == torch.bool else number.double()
    return value


def as_float(value: Any) -> Any:
    """A number of any kind as a float; all else as it is."""
    value = _number(value)
    return float(value) if type(value) is int else value


def non_negative(name: str, value: float | Tensor) -> float | Tensor:
    """nsr or eps as given; of a tensor only dtype and shape are checked."""
    value = _number(value)
    if isinstance(value, Tensor):
        _floating(name, value)
        if value.dim() > 2:
            raise ValueError(f"{name} must have shape (), (N,) or (N, C), got {tuple(value.shape)}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a float or a torch.Tensor, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"{name} must be non-negative, got {value}")
    if value == math.inf:
        raise ValueError(f"{name} must be finite, got {value}")
    return value


def size(value: Sequence[int], name: str = "size", own: tuple[int, int] | None = None) -> tuple[int, int]:
    """(H, W), where a side of -1 is the one in ``own``, if that is given."""
    if isinstance(value, Tensor | str) or not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of ints (H, W), got {value!r}")
    try:
        height, width = (side if _is_traced(side) else _int(side) for side in value)
    except TypeError:
        raise TypeError(f"{name} must be a pair of ints (H, W), got {tuple(value)}") from None
    if own is not None:
        height, width = (there if side == -1 else side for side, there in zip((height, width), own, strict=True))
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be positive, got {(height, width)}")
    if not torch.compiler.is_compiling() and max(height, width) > _LONGEST:
        raise ValueError(f"{name} must be at most {_LONGEST} a side, got {(height, width)}")
    return height, width


def _is_traced(side: object) -> bool:
    """Whether it is the side of a tensor in torch.jit.trace."""
    return isinstance(side, Tensor) and torch.jit.is_tracing()


def _int(value: int) -> int:
    if isinstance(value, Tensor) or type(value).__name__ in ("bool", "bool_"):  # older NumPy's have an index
        raise TypeError
    # The index of a symbolic integer would fix it.
    return value if isinstance(value, int | torch.SymInt) else index(value)


def reduction(value: str) -> None:
    if not isinstance(value, str) or value not in _REDUCTIONS:
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {value!r}")


def norm(value: str | None) -> str:
    if value is None:
        return "backward"
    if not isinstance(value, str) or value not in _NORMS:
        raise ValueError(f"norm must be 'forward', 'backward' or 'ortho', got {value!r}")
    return value


def number(name: str, value: float) -> float:
    value = _number(value)
    if isinstance(value, Tensor) and torch.compiler.is_compiling() and value.is_floating_point():  # a NumPy scalar
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite float, got {value}")
    return value


def exponent(name: str, value: float) -> float:
    value = number(name, value)
    if not isinstance(value, Tensor) and value < 0:
        raise ValueError(f"{name} must be non-negative, got {value}")
    return value


def flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def patch_factor(value: int) -> int:
    try:
        value = _int(value)
    except TypeError:
        raise TypeError(f"patch_factor must be an int, got {type(value).__name__}") from None
    if value < 1:
        raise ValueError(f"patch_factor must be positive, got {value}")
    return value


def patches(patch_factor: int, image: Tensor) -> None:
    if image.shape[2] % patch_factor or image.shape[3] % patch_factor:
        raise ValueError(
            f"patch_factor must divide the image's {image.shape[2]}x{image.shape[3]} planes, got {patch_factor}"
        )


def broadcast(kernel: Tensor, nsr: Tensor, eps: Tensor) -> None:
    """Samples and channels of the three agree or are 1."""
    for dim, name in enumerate(("samples", "channels")):
        counts = [t.shape[dim] for t in (kernel, nsr, eps)]
        several = [count for count in counts if count != 1]
        if any(count != several[0] for count in several):
            raise ValueError(
                f"kernel, nsr and eps must be of the same number of {name} or of 1, got {', '.join(map(str, counts))}"
            )
