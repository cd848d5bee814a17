"""What every backend has to do: its functions, called in all ways that matter, against the formulas in float64.

The functions are called directly, without dispatch and autograd; ``test_backends`` does that for every backend,
``test_cpu`` for every instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from inputs import images, kernels, positive
from tolerances import assert_close
from torch import Tensor

from blurfft._backends import reference
from blurfft.reference import compute_dtype


class Case(NamedTuple):
    height: int
    width: int
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    target_layout: str = "contiguous"
    samples: int = 2
    channels: int = 3

    def __str__(self) -> str:
        layouts = self.layout if self.layout == self.target_layout else f"{self.layout}-{self.target_layout}"
        shape = f"{self.samples}x{self.channels}x{self.height}x{self.width}"
        return f"{shape}-{str(self.dtype).removeprefix('torch.')}-{layouts}"

    @property
    def compute(self) -> torch.dtype:
        return compute_dtype(self.dtype)

    def input(self) -> Tensor:
        return images((self.samples, self.channels, self.height, self.width), self.dtype, self.layout)

    def target(self) -> Tensor:
        return images((self.samples, self.channels, self.height, self.width), self.dtype, self.target_layout)

    # What goes with the images is (N|1, C|1, ...): `n` and `c` say whether each sample and each channel has its own.

    def _of_planes(self, n: bool, c: bool) -> tuple[int, int]:
        return self.samples if n else 1, self.channels if c else 1

    def kernel(self, n: bool, c: bool) -> Tensor:
        return kernels((*self._of_planes(n, c), min(self.height, 5), min(self.width, 4)), self.compute)

    def constant(self, n: bool, c: bool) -> Tensor:
        return positive(self._of_planes(n, c), self.compute)

    def spectrum(self, n: bool, c: bool, complex: bool = True) -> Tensor:
        shape = (*self._of_planes(n, c), self.height, self.width // 2 + 1)
        if complex:
            return torch.randn(shape, dtype=torch.complex128).to(self.compute.to_complex())
        return torch.rand(shape, dtype=torch.float64).to(self.compute)


def _spectral_loss(n: bool, c: bool, *flags: bool) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (case.input(), case.target(), case.spectrum(n, c, complex=False), 0.5, *flags)


def _wiener_loss(
    kernel: tuple[bool, bool], nsr: tuple[bool, bool], eps: tuple[bool, bool], *flags: bool
) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (
        case.input(),
        case.target(),
        case.kernel(*kernel),
        case.constant(*nsr),
        case.constant(*eps),
        0.5,
        *flags,
    )


def _blur_mse(n: bool, c: bool, *flags: bool) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (case.input(), case.target(), case.kernel(n, c), 0.5, *flags)


def _of_two_dimensions(call: Callable[[Case], tuple[Any, ...]]) -> Callable[[Case], tuple[Any, ...]]:
    """The same with the weight or kernel (1, 1, ...) as (...)."""

    def arguments(case: Case) -> tuple[Any, ...]:
        input, target, parameter, *rest = call(case)
        return input, target, parameter[0, 0], *rest

    return arguments


_SHARED, _SAMPLE, _CHANNEL, _PLANE = (False, False), (True, False), (False, True), (True, True)

# The arguments of each function; what follows a dash tells calls of one function apart.
CALLS: dict[str, Callable[[Case], tuple[Any, ...]]] = {
    "rfft2": lambda case: (case.input(), 0.5),
    "irfft2": lambda case: (case.spectrum(True, True), case.width, 0.5),
    "otf": lambda case: (case.kernel(True, False), case.height, case.width),
    "otf_backward": lambda case: (case.spectrum(True, False), case.width, min(case.height, 5), min(case.width, 4)),
    "spectral_filter-shared": lambda case: (case.input(), case.spectrum(False, False)),
    "spectral_filter-plane": lambda case: (case.input(), case.spectrum(True, True)),
    "spectral_filter-real-sample": lambda case: (case.input(), case.spectrum(True, False, complex=False)),
    "spectral_filter-real-channel": lambda case: (case.input(), case.spectrum(False, True, complex=False)),
    "cross_spectrum-plane": lambda case: (case.input(), case.target(), case.samples, case.channels, True),
    "cross_spectrum-sample": lambda case: (case.input(), case.target(), case.samples, 1, True),
    "cross_spectrum-real-channel": lambda case: (case.input(), case.target(), 1, case.channels, False),
    "cross_spectrum-real-shared": lambda case: (case.input(), case.target(), 1, 1, False),
    # per_sample, input_grad, weight_grad
    "spectral_loss-shared": _of_two_dimensions(_spectral_loss(*_SHARED, False, True, True)),
    "spectral_loss-sample": _spectral_loss(*_SAMPLE, True, True, True),
    "spectral_loss-channel": _spectral_loss(*_CHANNEL, True, True, False),
    "spectral_loss-plane": _spectral_loss(*_PLANE, False, False, True),
    "spectral_loss-value": _of_two_dimensions(_spectral_loss(*_SHARED, True, False, False)),
    # nll, per_sample, input_grad, kernel_grad
    "wiener_loss-shared": _of_two_dimensions(_wiener_loss(_SHARED, _SHARED, _SHARED, False, False, True, True)),
    "wiener_loss-sample": _wiener_loss(_SAMPLE, _SHARED, _CHANNEL, False, True, True, False),
    "wiener_loss-plane": _wiener_loss(_PLANE, _SAMPLE, _PLANE, False, True, False, True),
    "wiener_loss-value": _of_two_dimensions(_wiener_loss(_SHARED, _CHANNEL, _SHARED, False, False, False, False)),
    "wiener_loss-nll-shared": _wiener_loss(_SHARED, _SHARED, _SAMPLE, True, True, True, True),
    "wiener_loss-nll-sample": _wiener_loss(_SAMPLE, _SAMPLE, _SHARED, True, False, True, True),
    "wiener_loss-nll-channel": _wiener_loss(_CHANNEL, _PLANE, _SHARED, True, False, True, False),
    "wiener_loss-nll-value": _wiener_loss(_SAMPLE, _SHARED, _SHARED, True, True, False, False),
    # per_sample, input_grad, kernel_grad
    "blur_mse-shared": _of_two_dimensions(_blur_mse(*_SHARED, False, False, True)),
    "blur_mse-sample": _blur_mse(*_SAMPLE, True, True, True),
    "blur_mse-channel": _blur_mse(*_CHANNEL, True, True, False),
    "blur_mse-plane": _blur_mse(*_PLANE, False, True, True),
    "blur_mse-value": _of_two_dimensions(_blur_mse(*_SHARED, True, False, False)),
    # alpha, log_matrix, scale, per_sample, input_grad
    "focal_frequency_loss": lambda case: (case.input(), case.target(), 1.0, False, 0.5, True, True),
    "focal_frequency_loss-log": lambda case: (case.input(), case.target(), 0.7, True, 0.5, False, True),
    "focal_frequency_loss-value": lambda case: (case.input(), case.target(), 1.3, False, 0.5, False, False),
}
TAKING_IMAGES = [name for name in CALLS if name.partition("-")[0] not in ("irfft2", "otf", "otf_backward")]


def _results(result: Tensor | tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """Those that were asked for."""
    return (result,) if isinstance(result, Tensor) else tuple(t for t in result if t is not None)


def run(functions: Any, call: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return _results(getattr(functions, call.partition("-")[0])(*arguments))


def expected(call: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """On the CPU: cuFFT takes columns 0 and W/2 of any spectrum to be those of a real plane."""

    def exact(a: Any) -> Any:
        return a.to("cpu", torch.promote_types(a.dtype, torch.float64)) if isinstance(a, Tensor) else a

    with torch.device("cpu"):
        return run(reference, call, tuple(map(exact, arguments)))


def check(functions: Any, call: str, case: Case) -> None:
    """``functions`` has a function for each op."""
    arguments = CALLS[call](case)
    before = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    actual = run(functions, call, arguments)
    for i, (a, e) in enumerate(zip(actual, expected(call, arguments), strict=True)):
        # The parameters' gradients are differences of a quadratic and a log-determinant term of near size.
        assert_close(a, e, factor=10.0 if call.startswith("wiener_loss") and i > 1 else 1.0)

    tensors = [a for a in arguments if isinstance(a, Tensor)]
    for a, b in zip(tensors, (b for b in before if isinstance(b, Tensor)), strict=True):
        assert torch.equal(a, b), "an argument has changed"
    taken = {a.untyped_storage().data_ptr() for a in tensors}
    assert not taken & {a.untyped_storage().data_ptr() for a in actual if a.numel()}, "a result aliases an argument"
