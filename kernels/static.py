"""Every kernel as the backend would launch it, for looking at its machine code where there is no GPU."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import (
    cross_spectrum,
    fft,
    focal_frequency_loss,
    irfft2,
    otf,
    rfft2,
    spectral_filter,
    spectral_loss,
    wiener_loss,
)
from .launch import Launch, recording

_TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class Case:
    name: str
    function: Any  # the JIT function
    signature: dict[str, str]  # Triton type of every argument
    constexprs: dict[str, Any]
    attrs: dict[tuple[int, ...], list[list[Any]]]  # arguments that are divisible by 16
    num_warps: int  # of 32 threads
    num_stages: int
    planes: int  # a program
    pixels: int  # a plane
    bytes_per_pixel: float  # of traffic with main memory


def static_cases() -> Iterator[Case]:
    """Each kernel, in the configurations worth compiling."""
    for height, width in ((32, 32), (64, 64), (128, 128), (28, 28), (96, 96)):
        yield from _spectral_loss(height, width, torch.float32)
    # Beside the 4 warps that are the static choice.
    for case in _spectral_loss(64, 64, torch.float32):
        yield replace(case, name=f"{case.name} 8 warps", num_warps=8)
    yield from _spectral_loss(64, 64, torch.bfloat16)
    yield from _spectral_loss(64, 64, torch.float64)
    yield from _spectral_loss(64, 64, torch.float32, weight_grad=True)
    yield from _others(64, 64)
    yield from _staged(512, 512)
    # Convolutions; CelebA's sides as they come are of 512 numbers. The longest take minutes to compile: the loss alone.
    yield from _staged(218, 178)
    yield from (case for case in _staged(1022, 1022) if case.name.endswith("fp32"))


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _spectral_loss(height: int, width: int, dtype: torch.dtype, weight_grad: bool = False) -> Iterator[Case]:
    image = _empty(1024, 3, height, width, dtype=dtype)
    weight = _empty(1, 1, height, width // 2 + 1, dtype=fft.compute_dtype(dtype))
    for case in _cases(
        f"{height}x{width} {_TYPES[dtype]}" + (" weight_grad" if weight_grad else ""),
        lambda: spectral_loss.spectral_loss(image, image, weight, 1.0, False, True, weight_grad, symmetric=True),
        height * width,
        3 * dtype.itemsize + (2 if weight_grad else 0),
    ):
        yield case if case.name.startswith("spectral_loss") else _helper(case, "spectral_loss")


def _others(height: int, width: int) -> Iterator[Case]:
    image = _empty(1024, 3, height, width)
    kernel, scalar = _empty(1, 1, 9, 9), _empty(1, 1)
    spectrum = _empty(1024, 3, height, width // 2 + 1, dtype=torch.complex64)
    transfer = spectrum[:1, :1]
    # Calls and the bytes to a pixel.
    calls: dict[str, tuple[Callable[[], Any], float]] = {
        "wiener_loss": (
            lambda: wiener_loss.wiener_loss(image, image, kernel, scalar, scalar, 1.0, True, False, True, True),
            12,
        ),
        "spectral_filter complex": (lambda: spectral_filter.spectral_filter(image, transfer), 8),
        "spectral_filter real": (
            lambda: spectral_filter.spectral_filter(image, transfer.real.contiguous()),
            8,
        ),
        "cross_spectrum complex": (lambda: cross_spectrum.cross_spectrum(image, image, 1, 1, True), 12),
        "cross_spectrum real": (lambda: cross_spectrum.cross_spectrum(image, image, 1, 1, False), 10),
        "rfft2": (lambda: rfft2.rfft2(image, 1.0), 8),
        "irfft2": (lambda: irfft2.irfft2(spectrum, width, 1.0), 8),
        "otf": (lambda: otf.otf(kernel, height, width), 4),
        "focal_frequency_loss": (
            lambda: focal_frequency_loss.focal_frequency_loss(image, image, 1.0, False, 1.0, False, True),
            12,
        ),
    }
    for label, (call, bytes_per_pixel) in calls.items():
        op, _, variant = label.partition(" ")
        for case in _cases(f"{height}x{width} fp32", call, height * width, bytes_per_pixel):
            kernel_name = case.name.partition(" ")[0]
            if kernel_name == op:
                yield replace(case, name=f"{case.name} {variant}".rstrip())
            elif kernel_name != "spectral_loss":
                yield _helper(case, label)


def _helper(case: Case, of: str) -> Case:
    """A kernel whose traffic is of no account beside that of the op's own."""
    return replace(case, name=f"{case.name} of {of}", bytes_per_pixel=0)


def _staged(height: int, width: int) -> Iterator[Case]:
    """The kernels of larger planes: a program has some rows or columns, a scratch is 4 bytes a pixel each way."""
    image = _empty(64, 3, height, width)
    weight = _empty(1, 1, height, width // 2 + 1)
    spectrum = _empty(64, 3, height, width // 2 + 1, dtype=torch.complex64)
    # Calls, their kernels and the bytes to a pixel of each.
    calls: dict[str, tuple[Callable[[], Any], list[tuple[str, float]]]] = {
        "": (
            lambda: spectral_loss.spectral_loss(image, image, weight, 1.0, False, True, False),
            [("forward_rows", 12), ("filter_columns", 8), ("inverse_rows", 8)],
        ),
        "weight_grad": (
            lambda: spectral_loss.spectral_loss(image, image, weight, 1.0, False, True, True),
            [("filter_columns", 10)],
        ),
        "complex": (
            lambda: spectral_filter.spectral_filter(image, spectrum[:1, :1]),
            [("filter_columns", 8)],
        ),
        "focal": (
            lambda: focal_frequency_loss.focal_frequency_loss(image, image, 1.0, False, 1.0, False, True),
            [("focal_columns", 4), ("focal_columns", 8)],
        ),
        "cross": (
            lambda: cross_spectrum.cross_spectrum(image, image, 1, 1, True),
            [("cross_columns", 12)],
        ),
        "rfft2": (lambda: rfft2.rfft2(image, 1.0), [("forward_rows", 8), ("rfft2_columns", 8)]),
        "irfft2": (lambda: irfft2.irfft2(spectrum, width, 1.0), [("irfft2_columns", 8)]),
    }
    for suffix, (call, kernels) in calls.items():
        cases = list(_cases(f"{height}x{width} fp32 {suffix}".rstrip(), call, 0, 0))
        for name, bytes_per_pixel in kernels:
            case = next(case for case in cases if case.name.partition(" ")[0] == name)
            cases.remove(case)
            # Of columns, half of them stand for the plane.
            lines = case.constexprs.get("ROWS") or 2 * case.constexprs["COLUMNS"]
            pixels = lines * (width if "ROWS" in case.constexprs else height)
            label = case.name + (" peak" if case.constexprs.get("PEAK") else "")
            yield replace(case, name=label, pixels=pixels, bytes_per_pixel=bytes_per_pixel)


def _cases(name: str, call: Callable[[], Any], pixels: int, bytes_per_pixel: float) -> Iterator[Case]:
    with recording() as launches:
        call()
    for launch in launches:
        constants = launch.constants
        planes = constants.get("BATCH", 1) * (2 if constants.get("PAIRED") else 1)
        yield _case(name, launch, planes, pixels, bytes_per_pixel)


def _case(name: str, launch: Launch, planes: int, pixels: int, bytes_per_pixel: float) -> Case:
    """Types and specialisations as Triton's launcher derives them from the arguments."""
    names = launch.kernel.arg_names
    signature: dict[str, str] = {}
    constexprs: dict[str, Any] = dict(launch.constants)
    attrs: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, (argument, value) in enumerate(zip(names, launch.arguments, strict=False)):
        parameter = launch.kernel.params[i]
        if isinstance(value, Tensor):
            signature[argument] = f"*{_TYPES[value.dtype]}"
            attrs[(i,)] = [["tt.divisibility", 16]]
        elif parameter.annotation_type:
            signature[argument] = parameter.annotation_type
        elif value == 1 and not parameter.do_not_specialize:
            signature[argument] = "constexpr"
            constexprs[argument] = 1
        else:
            signature[argument] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0 and not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment):
                attrs[(i,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(launch.constants, "constexpr")
    return Case(
        f"{launch.kernel.__name__.removesuffix('_kernel')} {name}",
        launch.kernel,
        signature,
        constexprs,
        attrs,
        launch.num_warps,
        1,
        planes,
        pixels,
        bytes_per_pixel,
    )
