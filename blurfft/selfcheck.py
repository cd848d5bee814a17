"""The check behind ``blurfft check``: every backend against the formulas in float64.

**Errors** are the largest deviation of a tensor divided by its largest element. The truth is
``blurfft.reference`` in float64, differentiated by PyTorch's autograd, at the very numbers the backend gets: inputs
are rounded to their dtype first.

**Limits** follow from the dtype and the size alone. With machine epsilon eps and n = H·W:

* a discrete Fourier transform has a relative error of at most a small multiple of eps·log₂ n (Higham, *Accuracy and
  Stability of Numerical Algorithms*, 2nd ed., theorem 24.2), in practice of about its square root, so that
  eps·log₂ n leaves room for a forward and an inverse transform and holds any faulty one;
* the Wiener inverse amplifies at most by |W| ≤ 1 / (2√C), which for the C = 0.1 used here is 1.6;
* a derivative with respect to the kernel multiplies two such spectra: twice as much for all gradients;
* the float64 truth rounds as float64 results do: twice as much for float64;
* elements stored in half precision are rounded once more: + eps/2 of that dtype. Scalar losses and the gradients of
  kernels are float32 even for half-precision images, and held to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

import blurfft

from . import _dispatch, reference
from ._table import Cell, Table

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Square, odd, in another layout, awkward (both sides are prime), and large.
CHANNELS_LAST = (2, 3, 96, 120)
SHAPES = ((4, 3, 64, 64), (2, 3, 28, 45), CHANNELS_LAST, (1, 3, 109, 89), (1, 1, 512, 512))
NSR, EPS = 0.1, 0.05


@dataclass(frozen=True)
class Result:
    """One op at one dtype and shape: the errors of its value and of the gradient closest to its limit."""

    backend: str
    op: str
    device: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    forward: float
    forward_limit: float
    gradient: float
    gradient_limit: float
    failure: str | None = None

    @property
    def passed(self) -> bool:
        return self.failure is None and self.forward <= self.forward_limit and self.gradient <= self.gradient_limit


Inputs = dict[str, Tensor]

# Each op with the arguments it differentiates; `f` is blurfft or the reference. Losses are summed: the gradients of
# means would be subnormal in float16.
OPS: dict[str, tuple[tuple[str, ...], Callable[[Any, Inputs], Tensor]]] = {
    "rfft2": (("input",), lambda f, x: f.rfft2(x["input"], norm="ortho")),
    "irfft2": (("spectrum",), lambda f, x: f.irfft2(x["spectrum"], x["input"].shape[-2:], norm="ortho")),
    "blur": (("input", "kernel"), lambda f, x: f.blur(x["input"], x["kernel"])),
    "wiener_filter": (
        ("input", "kernel", "nsr"),
        lambda f, x: f.wiener_filter(x["input"], x["kernel"], x["nsr"]),
    ),
    "wiener_weight": (
        ("kernel", "nsr", "eps"),
        lambda f, x: f.wiener_weight(x["kernel"], x["input"].shape[-2:], x["nsr"], x["eps"]),
    ),
    "spectral_mse": (
        ("input", "target", "weight"),
        lambda f, x: f.spectral_mse(x["input"], x["target"], x["weight"], reduction="sum"),
    ),
    "wiener_loss": (
        ("input", "target", "kernel", "nsr", "eps"),
        lambda f, x: f.wiener_loss(x["input"], x["target"], x["kernel"], x["nsr"], eps=x["eps"], reduction="sum"),
    ),
    "wiener_nll": (
        ("input", "target", "kernel", "nsr", "eps"),
        lambda f, x: f.wiener_nll(x["input"], x["target"], x["kernel"], x["nsr"], eps=x["eps"], reduction="sum"),
    ),
    "blur_mse": (
        ("input", "target", "kernel"),
        lambda f, x: f.blur_mse(x["input"], x["target"], x["kernel"], reduction="sum"),
    ),
    "focal_frequency_loss": (
        ("input", "target"),
        lambda f, x: f.focal_frequency_loss(x["input"], x["target"], loss_weight=x["input"].numel()),
    ),
}


def limit(tensor: Tensor, shape: Sequence[int], gradient: bool) -> float:
    """The limit on the relative error of a result or gradient of images of ``shape``; see the module's text."""
    dtype = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    compute = reference.compute_dtype(dtype)
    value = torch.finfo(compute).eps * math.log2(shape[-2] * shape[-1]) / (2 * math.sqrt(NSR))
    value *= (2 if gradient else 1) * (2 if dtype == torch.float64 else 1)
    return value + (torch.finfo(dtype).eps / 2 if dtype != compute else 0.0)


def _inputs(dtype: torch.dtype, shape: tuple[int, ...], device: str) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    n, c, height, width = shape
    compute = reference.compute_dtype(dtype)

    def make(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    kernel = make(n, 1, 11, 9).exp()
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    inputs = {
        "input": make(*shape).to(dtype),
        "target": make(*shape).to(dtype),
        "kernel": kernel.to(compute),
        "nsr": torch.full((n,), NSR, dtype=compute),
        "eps": torch.full((n, c), EPS, dtype=compute),
        "weight": make(height, width // 2 + 1).square().to(compute),
        "spectrum": torch.fft.rfft2(make(*shape), norm="ortho").to(compute.to_complex()),
    }
    if shape == CHANNELS_LAST:
        for name in ("input", "target"):
            inputs[name] = inputs[name].contiguous(memory_format=torch.channels_last)
    return {name: value.to(device) for name, value in inputs.items()}


def _run(functions: Any, op: str, inputs: Inputs, weights: Tensor | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
    """The result, the gradients of its sum weighted with ``weights``, and these.

    By default they are the result itself, cut to whole numbers of at most 8, which every dtype holds exactly: a sum
    like that of squares, in which the gradients of nsr and eps do not cancel.
    """
    names, call = OPS[op]
    leaves = {name: inputs[name].detach().clone().requires_grad_() for name in names}
    result = call(functions, {**inputs, **leaves})
    real = torch.view_as_real(result) if result.is_complex() else result
    if weights is None:
        weights = (8 * real.detach() / real.detach().abs().max()).round()
    return result.detach(), list(torch.autograd.grad(real, list(leaves.values()), weights.to(real))), weights


@cache
def _truth(op: str, dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[Tensor, list[Tensor], Tensor]:
    wide = {
        name: value.to(torch.complex128 if value.is_complex() else torch.float64)
        for name, value in _inputs(dtype, shape, "cpu").items()
    }
    return _run(reference, op, wide)


def relative_error(actual: Tensor, truth: Tensor) -> float:
    """The largest deviation divided by the largest element of the truth."""
    deviation = (actual.to(truth) - truth).abs().max().item()
    return deviation / max(truth.abs().max().item(), torch.finfo(torch.float64).tiny)


def check_one(backend: str, op: str, device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Result:
    """Runs one op on one backend and compares it with the truth; an exception counts as a failure."""
    nothing = (math.nan, math.nan)
    try:
        true_result, true_gradients, weights = _truth(op, dtype, shape)
        with blurfft.use_backend(backend):
            result, gradients, _ = _run(blurfft, op, _inputs(dtype, shape, device), weights)
        forward = relative_error(result.cpu(), true_result), limit(result, shape, False)
        pairs = [
            (relative_error(actual.cpu(), truth), limit(actual, shape, True))
            for actual, truth in zip(gradients, true_gradients, strict=True)
        ]
        # NaN always fails.
        gradient = max(pairs, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0] / pair[1])
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        return Result(backend, op, device, dtype, shape, *nothing, *nothing, failure)
    return Result(backend, op, device, dtype, shape, *forward, *gradient)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The backends of these names; without names, all that are available here.

    Raises:
        ValueError: there is none of that name.
        RuntimeError: it is not available, and why.
    """
    reasons = {str(row["name"]): row["unavailable"] for row in _dispatch.explain()}
    for name in names:
        if name not in reasons:
            raise ValueError(f"{name!r} is not one of {', '.join(reasons)}")
        if reasons[name]:
            raise RuntimeError(f"{name} is not available: {reasons[name]}")
    return tuple(names) or blurfft.available_backends()


def plan(backends: Sequence[str]) -> list[tuple[str, str, str, torch.dtype, tuple[int, ...]]]:
    """All checks: backend, op, device, dtype and shape of every call that these backends serve here."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    return [
        (backend, op, device, dtype, shape)
        for backend in backends
        for device in devices
        for op in OPS
        for dtype in DTYPES
        for shape in SHAPES
        # Spectra and weights have no half precision.
        if not (op in ("irfft2", "wiener_weight") and dtype.itemsize == 2)
        and _dispatch.why_not(backend, "spectral_filter", device, dtype, *shape[-2:]) is None
    ]


def summary(backends: Sequence[str], results: Sequence[Result]) -> Cell:
    """How many of all results are within their limits."""
    failed = sum(not result.passed for result in results)
    verdict = f"{failed} of {len(results)} failed" if failed else f"all {len(results)} passed"
    return Cell(f"{', '.join(backends)}: {verdict}", "red" if failed else "green")


def failures(results: Sequence[Result]) -> list[str]:
    """The calls that raised an exception, with its message."""
    return [
        f"{result.backend} {result.op} {_dtype(result)} {'x'.join(map(str, result.shape))}: {result.failure}"
        for result in results
        if result.failure
    ]


def table(backend: str, results: Sequence[Result], every_size: bool) -> Table:
    """The errors of one backend: for each function and dtype the failures, or the size closest to its limit."""
    title = f"{backend}: relative errors" + ("" if every_size else ", at the size that comes closest to its limit")
    columns = ("function", "dtype", "size", "forward", "limit", "gradient", "limit", "")
    errors = Table(title, columns, right=frozenset(range(3, 7)))
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.backend == backend:
            name = result.op + ("" if result.device == "cpu" else f" ({result.device})")
            groups.setdefault((name, _dtype(result)), []).append(result)
    last = ""
    for (name, dtype), group in groups.items():
        failed = [result for result in group if not result.passed]
        for result in group if every_size else failed or [max(group, key=_share)]:
            errors.add(
                name if name != last else "",
                dtype,
                f"{result.shape[2]}x{result.shape[3]}",
                _short(result.forward),
                Cell(_short(result.forward_limit), "dim"),
                _short(result.gradient),
                Cell(_short(result.gradient_limit), "dim"),
                Cell("ok", "green") if result.passed else Cell("FAIL", "bold red"),
            )
            last = name
    return errors


def _dtype(result: Result) -> str:
    return str(result.dtype).removeprefix("torch.")


def _share(result: Result) -> float:
    """The part of its limit that a result uses; infinite for a failure."""
    if result.failure or math.isnan(result.forward) or math.isnan(result.gradient):
        return math.inf
    return max(result.forward / result.forward_limit, result.gradient / result.gradient_limit)


def _short(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
