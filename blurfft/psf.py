"""Blur kernels (point spread functions): Gaussian, defocus disk, linear motion, or from a file.

Each function returns a tensor (kh, kw) that sums to 1 and whose centre is ⌊k/2⌋, ready for every ``kernel`` argument of
blurfft. The sides are odd; those of a loaded kernel are as in its file. It is computed in float64 on the CPU and
returned in ``dtype`` (default: torch's default dtype) on ``device`` (default: the CPU, whatever torch's default device
is).

Examples:
    >>> from blurfft import psf
    >>> kernel = psf.motion(15, 30)
    >>> restored = blurfft.wiener_filter(input, kernel, nsr=0.01)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .files import expanded

# A kernel drawn on more pixels than this is an image given by mistake.
MAX_SIDE = 1025

_EXACT: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}

SYNTAX = "gaussian:SIGMA, disk:RADIUS, motion:LENGTH,ANGLE, FILE.npy or FILE.png"


def gaussian(sigma: float, size: int | None = None, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """A Gaussian blur, k ∝ exp(−(x² + y²) / 2σ²), sampled at the pixel centres.

    Args:
        sigma: the standard deviation σ > 0, in pixels.
        size: the odd side of the kernel. Default: 2⌈4σ⌉ + 1; ``scipy.ndimage.gaussian_filter`` cuts off at 4σ too,
            but rounds.

    Raises:
        TypeError: ``sigma`` is not a number.
        ValueError: ``sigma`` is not positive, ``size`` not odd and positive, or the kernel larger than 1025 a side.

    Examples:
        >>> gaussian(2.0).shape
        torch.Size([17, 17])
    """
    sigma = _positive("sigma", sigma)
    size = 2 * math.ceil(4 * sigma) + 1 if size is None else _odd(size)
    _side(size, "sigma", sigma)
    x = torch.arange(size, **_EXACT) - size // 2
    profile = torch.exp(-0.5 * (x / sigma).square())
    profile /= profile.sum()
    return _as_asked(profile[:, None] * profile, dtype, device)


def disk(radius: float, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """The blur of a lens out of focus: a uniform disk; each pixel holds the exact area that the disk covers of it.

    The area of the disk x² + y² ≤ r² within 0 ≤ x ≤ a, 0 ≤ y ≤ b is, by elementary integration,
    G(a, b) = b·t + S(a) − S(t), with a and b cut off at r, t = min(√(r² − b²), a) and
    S(x) = ½ (x √(r² − x²) + r² asin(x / r)). G is odd in a and b, and its mixed differences over the pixels' edges
    are the areas. ``fspecial('disk')`` in MATLAB is the same kernel.

    Args:
        radius: r > 0, in pixels, not necessarily whole.

    Raises:
        TypeError: ``radius`` is not a number.
        ValueError: ``radius`` is not positive, or the kernel larger than 1025 a side.

    Examples:
        >>> disk(3).shape
        torch.Size([7, 7])
    """
    radius = _positive("radius", radius)
    half = max(0, math.ceil(radius - 0.5))
    _side(2 * half + 1, "radius", radius)
    if half == 0:
        return _as_asked(torch.ones(1, 1, **_EXACT), dtype, device)
    edge = torch.arange(-half - 0.5, half + 1.0, **_EXACT)
    reach = edge.abs().clamp(max=radius)
    a, b = reach, reach[:, None]

    def primitive(x: Tensor) -> Tensor:
        return 0.5 * (x * (radius**2 - x.square()).clamp(min=0).sqrt() + radius**2 * (x / radius).asin())

    t = torch.minimum((radius**2 - b.square()).clamp(min=0).sqrt(), a)
    area = edge.sign() * edge.sign()[:, None] * (b * t + primitive(a) - primitive(t))
    covered = area.diff(dim=0).diff(dim=1).clamp(min=0)  # the difference of equal areas may be −1e-17
    return _as_asked(covered / covered.sum(), dtype, device)


def motion(length: float, angle: float = 0.0, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """Linear motion of the camera during the exposure: a streak, anti-aliased by linear interpolation.

    k[u, v] = 1/L ∫ Λ(v − t·cos θ) Λ(u + t·sin θ) dt over −L/2 ≤ t ≤ L/2, Λ(x) = max(0, 1 − |x|): the mean of the image
    shifted along the path. Between the points where the path crosses a row or a column the integrand is a quadratic in
    t, so that two Gauss–Legendre nodes in each piece give the integral exactly.

    Args:
        length: the displacement L ≥ 0 in pixels; 0 is no blur.
        angle: θ in degrees, counter-clockwise from the x axis as one sees it (rows count downwards, hence the sign in
            the formula), as in MATLAB's ``fspecial('motion')``. 180° more is the same kernel.

    Raises:
        TypeError: ``length`` or ``angle`` is not a number.
        ValueError: ``length`` is negative or above 1025, the kernel larger than 1025 a side, or ``angle`` is not
            finite.

    Examples:
        >>> motion(15, 30).shape
        torch.Size([9, 15])
    """
    length, angle = _real("length", length), _real("angle", angle)
    if not 0 <= length <= MAX_SIDE:
        raise ValueError(f"length must be from 0 to {MAX_SIDE} pixels, got {length}")
    if not math.isfinite(angle):
        raise ValueError(f"angle must be a finite number of degrees, got {angle}")
    # Rounded, so that 90° has no width of 6e-17 pixels.
    dx = round(math.cos(math.radians(angle)), 15)
    dy = round(-math.sin(math.radians(angle)), 15)
    half_h, half_w = (math.ceil(round(abs(d) * length / 2, 9)) for d in (dy, dx))
    _side(2 * max(half_h, half_w) + 1, "length", length)
    if half_h == half_w == 0:
        return _as_asked(torch.ones(1, 1, **_EXACT), dtype, device)

    breaks = [torch.tensor([-length / 2, length / 2], **_EXACT)]
    for d, half in ((dx, half_w), (dy, half_h)):
        if d:
            breaks.append(torch.arange(-half, half + 1, **_EXACT) / d)
    t = torch.cat(breaks).clamp(-length / 2, length / 2).unique()
    middle, step = (t[1:] + t[:-1]) / 2, (t[1:] - t[:-1]) / 2
    nodes = torch.cat((middle - step / math.sqrt(3), middle + step / math.sqrt(3)))

    def tent(d: float, half: int) -> Tensor:
        centres = torch.arange(-half, half + 1, **_EXACT)
        return (1 - (centres[:, None] - d * nodes).abs()).clamp(min=0)  # (side, nodes)

    kernel = torch.einsum("un,vn,n->uv", tent(dy, half_h), tent(dx, half_w), step.repeat(2))
    return _as_asked(kernel / kernel.sum(), dtype, device)


def load(path: str | Path, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """A kernel from a ``.npy`` file or an image (its luminance), divided by its sum.

    Args:
        path: a two-dimensional array or an image of any size up to 1025 a side; its centre is ⌊k/2⌋.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: the file is missing or unreadable, the array is not a real, finite, two-dimensional one, or its sum
            is not positive.

    Examples:
        >>> kernel = load("camera-shake.png")
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or a Path, got {type(path).__name__}")
    path = expanded(Path(path))
    if path.is_dir():
        raise ValueError(f"the kernel file {path} is a folder")
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:  # and not np.load, which takes archives too
                array = np.lib.format.read_array(file, allow_pickle=False)
        else:
            array = _drawn(path)
    except FileNotFoundError:
        raise ValueError(f"the kernel file {path} does not exist") from None
    except Exception as error:  # NumPy and Pillow raise all kinds for a damaged file
        raise ValueError(f"the kernel file {path} cannot be read: {error}") from None
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"the kernel in {path} must be two-dimensional and not empty, got shape {array.shape}")
    if max(array.shape) > MAX_SIDE:
        raise ValueError(f"the kernel in {path} is {_by(array.shape)}; more than {MAX_SIDE} a side is not supported")
    if array.dtype.kind not in "buif":
        raise ValueError(f"the kernel in {path} must hold real numbers, got {array.dtype}")
    kernel = torch.from_numpy(array.astype(np.float64))
    if not kernel.isfinite().all():
        raise ValueError(f"the kernel in {path} has NaN or infinite elements")
    if kernel.abs().sum().isinf():
        kernel *= 2.0**-21  # one over more than there may be elements
    total = kernel.sum().item()
    # Of elements that cancel, as those of an edge filter, a rounding error is left, which is no sum to divide by.
    unit = np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps
    rounding = unit * math.sqrt(array.size) * kernel.abs().sum().item()
    if total <= rounding:
        raise ValueError(f"the kernel in {path} must have a positive sum to be normalised, got {total:g}")
    return _as_asked(kernel / total, dtype, device)


def _as_asked(kernel: Tensor, dtype: torch.dtype | None, device: Any) -> Tensor:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    return kernel.to(device="cpu" if device is None else device, dtype=dtype or torch.get_default_dtype())


def _drawn(path: Path) -> NDArray[Any]:
    """The brightness of an image (H, W): its luma times its alpha, or alpha alone if the visible colour is uniform."""
    try:
        from .images import Refused, read
    except ModuleNotFoundError:
        raise ValueError("images need packages that are not installed: pip install 'blurfft[cli]'") from None
    try:
        photo = read(path)
    except Refused as error:
        raise ValueError(str(error)) from None
    colour = photo.colour.double()
    luma = torch.tensor([0.299, 0.587, 0.114] if len(colour) == 3 else [1.0], **_EXACT)
    brightness = torch.einsum("chw,c->hw", colour, luma).numpy()
    if photo.alpha is None:
        return brightness
    visible = colour[:, torch.from_numpy(photo.alpha > 0)]
    uniform = visible.numel() > 0 and bool((visible == visible[:, :1]).all())
    return photo.alpha * (1.0 if uniform else brightness)


def parse(spec: str, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """The kernel that a specification of the command line describes.

    Args:
        spec: ``gaussian:SIGMA``, ``disk:RADIUS``, ``motion:LENGTH,ANGLE`` (pixels, degrees), or the path of a ``.npy``
            file or an image.

    Raises:
        TypeError: ``spec`` is not a str.
        ValueError: it is none of these, or its numbers make no kernel; the message says what would.

    Examples:
        >>> parse("gaussian:1.5").shape
        torch.Size([13, 13])
    """
    forms: dict[str, tuple[Callable[..., Tensor], tuple[str, ...], str]] = {
        "gaussian": (gaussian, ("SIGMA",), "gaussian:2.0"),
        "disk": (disk, ("RADIUS",), "disk:3"),
        "motion": (motion, ("LENGTH", "ANGLE"), "motion:15,30"),
    }
    if not isinstance(spec, str):
        raise TypeError(f"spec must be a str, got {type(spec).__name__}")
    name, colon, numbers = spec.partition(":")
    if name.lower() in forms:
        make, names, example = forms[name.lower()]
        form = f"{name.lower()}:{','.join(names)}, for example {example}"
        values = numbers.split(",") if colon else []
        if len(values) != len(names):
            raise ValueError(f"{spec!r} should read {form}")
        try:
            arguments = [float(value) for value in values]
        except ValueError:
            raise ValueError(f"{spec!r} has something that is not a number; it should read {form}") from None
        try:
            return make(*arguments, dtype=dtype, device=device)
        except ValueError as error:
            raise ValueError(f"{spec!r}: {error}") from None
    if Path(spec).suffix or (spec and os.path.exists(expanded(Path(spec)))):
        return load(spec, dtype=dtype, device=device)
    raise ValueError(f"{spec!r} is not a kernel; write {SYNTAX}")


def _real(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:  # of a whole number or a fraction
        return math.inf if value > 0 else -math.inf


def _positive(name: str, value: float) -> float:
    value = _real(name, value)
    if not 0 < value <= MAX_SIDE:
        raise ValueError(f"{name} must be above 0 and at most {MAX_SIDE} pixels, got {value}")
    return value


def _odd(size: int) -> int:
    side = 0
    if not isinstance(size, bool) and hasattr(size, "__index__"):
        side = index(size)
    if side < 1 or side % 2 == 0:
        raise ValueError(f"size must be an odd positive int, got {size!r}")
    return side


def _side(side: int, name: str, value: float) -> None:
    if side > MAX_SIDE:
        raise ValueError(f"{name} = {value:g} makes a kernel of {side} pixels; more than {MAX_SIDE} is not supported")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
