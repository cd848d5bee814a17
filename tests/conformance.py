"""What every backend has to do: its functions, called in all ways that matter, against the formulas in float64.

The functions are called directly, without dispatch and autograd; ``test_backends`` does that for every backend,
``test_cpu`` for every instruction set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from inputs import edge_detectors, images, kernels, positive
from tolerances import assert_close, relative_error
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
    content: str = "noise"  # one of CONTENTS

    def __str__(self) -> str:
        layouts = self.layout if self.layout == self.target_layout else f"{self.layout}-{self.target_layout}"
        shape = f"{self.samples}x{self.channels}x{self.height}x{self.width}"
        return f"{shape}-{str(self.dtype).removeprefix('torch.')}-{layouts}-{self.content}".removesuffix("-noise")

    @property
    def compute(self) -> torch.dtype:
        return compute_dtype(self.dtype)

    @property
    def hard(self) -> bool:
        return self.content != "noise"

    def _images(self, layout: str, content: Callable[[Tensor], Tensor]) -> Tensor:
        noise = images((self.samples, self.channels, self.height, self.width), torch.float64, layout)
        return torch.empty_like(noise, dtype=self.dtype).copy_(content(noise)) if self.hard else noise.to(self.dtype)

    def input(self) -> Tensor:
        return self._images(self.layout, CONTENTS[self.content][0])

    def target(self) -> Tensor:
        return self._images(self.target_layout, CONTENTS[self.content][1])

    # What goes with the images is (N|1, C|1, ...): `n` and `c` say whether each sample and each channel has its own.

    def _of_planes(self, n: bool, c: bool) -> tuple[int, int]:
        return self.samples if n else 1, self.channels if c else 1

    def kernel(self, n: bool, c: bool) -> Tensor:
        shape = (*self._of_planes(n, c), min(self.height, 5), min(self.width, 4))
        return edge_detectors(shape, self.compute) if self.content == "edges" else kernels(shape, self.compute)

    def nsr(self, n: bool, c: bool) -> Tensor:
        return positive(self._of_planes(n, c), self.compute)

    def eps(self, n: bool, c: bool) -> Tensor:
        return positive(self._of_planes(n, c), self.compute) * (1e-5 if self.hard else 1)

    def spectrum(self, n: bool, c: bool, complex: bool = True) -> Tensor:
        shape = (*self._of_planes(n, c), self.height, self.width // 2 + 1)
        noise = torch.randn(shape, dtype=torch.complex128) if complex else torch.rand(shape, dtype=torch.float64)
        if self.hard:  # twelve orders of magnitude, from the mean to the finest detail
            f1, f2 = torch.fft.fftfreq(self.height)[:, None].abs(), torch.fft.rfftfreq(self.width)
            noise = noise * 10 ** (12 * (f1 + f2).double() - 6)
        return noise.to(self.compute.to_complex() if complex else self.compute)


def _waves(noise: Tensor) -> Tensor:
    """Planes of one frequency each: the mean, the three that are their own mirror images, and others."""
    n, c, height, width = noise.shape
    plane = torch.arange(n * c, device=noise.device).view(n, c, 1, 1)
    f1 = torch.where(plane % 2 == 1, height // 2, 0) + plane // 4
    f2 = torch.where(plane // 2 % 2 == 1, width // 2, 0) + plane // 4
    h, w = torch.arange(height, device=noise.device).view(-1, 1), torch.arange(width, device=noise.device)
    return torch.cos(2 * torch.pi * (f1 * h % height / height + f2 * w % width / width).double())


def _with_mean(mean: float) -> Callable[[Tensor], Tensor]:
    return lambda noise: mean + noise


def _itself(noise: Tensor) -> Tensor:
    return noise


def _bytes(noise: Tensor) -> Tensor:
    return (128 + 48 * noise).round().clamp(0, 255)


# What input and target hold: all but the first ask for more than the largest entry of a result to be right.
CONTENTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "noise": (_itself, _itself),
    "mean-10": (_with_mean(10), _itself),
    "mean-100": (_with_mean(100), _itself),
    "mean-1000": (_with_mean(1000), _itself),
    "bright": (_with_mean(1000), _with_mean(999)),  # both of them
    "edges": (_with_mean(1000), _itself),  # with kernels that have no response to the mean
    "bytes": (_bytes, _bytes),
    "dark": (_bytes, torch.zeros_like),
    "waves": (_waves, torch.zeros_like),
    "wave-in-noise": (_waves, _itself),
}


def _spectral_loss(n: bool, c: bool, *flags: bool) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (case.input(), case.target(), case.spectrum(n, c, complex=False), 0.5, *flags)


def _wiener_loss(
    kernel: tuple[bool, bool], nsr: tuple[bool, bool], eps: tuple[bool, bool], *flags: bool
) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (
        case.input(),
        case.target(),
        case.kernel(*kernel),
        case.nsr(*nsr),
        case.eps(*eps),
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


# The losses that are sums of squares.
_SQUARES = [name for name in CALLS if name.startswith(("spectral_loss", "blur_mse", "focal"))]
_SQUARES += [name for name in CALLS if name.startswith("wiener_loss") and "nll" not in name]


def errors_of_torch(call: str, arguments: tuple[Any, ...]) -> list[float]:
    """How far each result of ``torch.fft`` in the arguments' dtype is from the truth, relative to its largest entry.

    In float64 ``torch.fft`` is the truth, so its error is that in float32, smaller by the ratio of the two epsilons.
    """
    single = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    double = any(isinstance(a, Tensor) and a.dtype in single for a in arguments)
    digits = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps if double else 1.0
    arguments = tuple(a.cpu().to(single.get(a.dtype, a.dtype)) if isinstance(a, Tensor) else a for a in arguments)
    with torch.device("cpu"):
        results = run(reference, call, arguments)
    return [digits * relative_error(r, e) for r, e in zip(results, expected(call, arguments), strict=True)]


@functools.cache
def usual_errors_of_torch(call: str, case: Case) -> list[float]:
    """The largest of four draws: a single number may be close to the truth by chance."""
    draws = []
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        for seed in range(4):
            torch.manual_seed(seed)
            draws.append(errors_of_torch(call, CALLS[call](case)))
    return [max(errors) for errors in zip(*draws, strict=True)]


def check(functions: Any, call: str, case: Case) -> None:
    """``functions`` has a function for each op.

    Hard images make a result the small difference of large terms: it may be four times as far from the truth as with
    ``torch.fft``.
    """
    arguments = CALLS[call](case)
    before = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    actual = run(functions, call, arguments)
    errors = [0.0] * len(actual)
    if case.hard:
        errors = [
            max(pair) for pair in zip(errors_of_torch(call, arguments), usual_errors_of_torch(call, case), strict=True)
        ]
    for i, (a, e, error) in enumerate(zip(actual, expected(call, arguments), errors, strict=True)):
        factor = 1.0
        if call.startswith("wiener_loss") and i > 1:
            # The parameters' gradients are differences of a quadratic and a log-determinant term of near size. Where a
            # response nearly vanishes, rounding it moves the latter by 1e-13 of the result, in the truth as in what is
            # judged by it (against 80 bits 1.5e-13 and 1.2e-13): in float64 the two differ by both.
            factor = 20.0 if case.hard and case.dtype == torch.float64 else 10.0
        assert_close(a, e, factor, at_least=4 * error)
    if call in _SQUARES:
        assert (actual[0] >= 0).all(), "a sum of squares is negative"

    tensors = [a for a in arguments if isinstance(a, Tensor)]
    for a, b in zip(tensors, (b for b in before if isinstance(b, Tensor)), strict=True):
        assert torch.equal(a, b), "an argument has changed"
    taken = {a.untyped_storage().data_ptr() for a in tensors}
    assert not taken & {a.untyped_storage().data_ptr() for a in actual if a.numel()}, "a result aliases an argument"


# Where a result is in range, no sum or power on the way to it is out of range. Each check takes a backend's functions.


def _large_images(call: str, factor: float, height: int, width: int) -> Callable[[Any], None]:
    """Images of noise, and of one value, whose results float32 holds, though not the squares of unnormalised sums."""

    def check(functions: Any) -> None:
        given = CALLS[call](Case(height, width, samples=1, channels=1))
        noise = factor * given[0], factor * given[1]
        level = torch.full_like(given[0], factor), torch.full_like(given[1], -factor / 4)
        for images_ in (noise, level):
            arguments = (*images_, *given[2:])
            for a, e in zip(run(functions, call, arguments), expected(call, arguments), strict=True):
                assert e.abs().max() < torch.finfo(torch.float32).max
                assert_close(a, e, 10)

    return check


def _errors_that_are_out_of_range(functions: Any) -> None:
    """The power of a plane this far off is infinite: its loss is not 0, and its gradient is right or none."""
    x, y = torch.full((2, 1, 64, 64), 1e19), torch.zeros(2, 1, 64, 64)
    y[1] = x[1] - 1
    for alpha in (1.0, 0.5):
        loss, grad = functions.focal_frequency_loss(x, y, alpha, False, 1.0, True, True)
        assert not loss[0].isfinite()
        if not grad[0].isnan().all():
            assert_close(grad[0], 2 * x[0].double())
        assert loss[1].isfinite() and grad[1].isfinite().all()


def _large_alpha(side: int) -> Callable[[Any], None]:
    def check(functions: Any) -> None:
        x, zero = 1e4 * torch.randn(3, 1, side, side), torch.zeros(3, 1, side, side)
        distance = torch.fft.fft2(x.double(), norm="ortho").abs()
        assert distance.min() > 1
        for alpha in (10.0, 1e300):
            # log(1 + |F e|^alpha) but for errors below 1, of which there are none.
            logs = alpha * distance.log()
            ratio = distance / distance.amax((2, 3), keepdim=True)
            ratio[ratio > 1 - 1e-12] = 1  # the largest has a mirror image, but for rounding
            for log_matrix, matrix in ((False, ratio**alpha), (True, logs / logs.amax((2, 3), keepdim=True))):
                loss, _ = functions.focal_frequency_loss(x, zero, alpha, log_matrix, 1.0, True, True)
                assert_close(loss, (matrix * distance.square()).sum((1, 2, 3)), 10)

    return check


def _small_errors(side: int) -> Callable[[Any], None]:
    """log(1 + |F e|^alpha) where 1 hides the power, and where the power is out of range."""

    def check(functions: Any) -> None:
        for factor, alpha in ((1e-6, 1.0), (1e-9, 1.3), (1e-12, 5.0)):
            arguments = (factor * torch.randn(2, 1, side, side), torch.zeros(2, 1, side, side))
            distance = torch.fft.fft2(arguments[0].double(), norm="ortho").abs()
            matrix = (distance / distance.amax((2, 3), keepdim=True)) ** alpha
            loss, _ = functions.focal_frequency_loss(*arguments, alpha, True, 1.0, True, True)
            assert_close(loss, (matrix * distance.square()).sum((1, 2, 3)), 10)

    return check


def _a_loss_that_counts_for_nothing(side: int) -> Callable[[Any], None]:
    def check(functions: Any) -> None:
        x = 1e25 * torch.randn(2, 1, side, side)
        x[1, 0, 0, 0] = float("nan")
        for log_matrix in (False, True):
            loss, grad = functions.focal_frequency_loss(x, torch.zeros_like(x), 1.0, log_matrix, 0.0, True, True)
            assert loss[0] == 0 and (grad[0] == 0).all() and loss[1].isnan()

    return check


def _taps_whose_square_is_out_of_range(functions: Any) -> None:
    x, one = torch.randn(1, 1, 8, 8), torch.ones(1, 1)
    kernel = torch.full((1, 1, 3, 3), 1e20)
    loss, _, kernel_grad, nsr_grad, eps_grad = functions.wiener_loss(
        x, torch.zeros_like(x), kernel, 0.01 * one, one, 1.0, False, False, True, True
    )
    truth = x.double().square().sum()  # nothing but eps is left of the precision spectrum
    assert_close(loss, truth)
    assert_close(eps_grad[0, 0], truth)
    assert (kernel_grad == 0).all() and nsr_grad == 0


def _tiny_taps_and_large_images(functions: Any) -> None:
    """The kernel's gradient is in range, the power of the images divided by nsr² is not."""
    x = 1e18 * images((2, 1, 16, 12), torch.float32)
    kernel = 1e-15 * kernels((3, 5), torch.float32)[None, None]
    nsr, eps = torch.full((1, 1), 0.01), torch.full((1, 1), 1e-3)
    arguments = x, torch.zeros_like(x), kernel, nsr, eps, 0.5, True, False, True, True
    results = zip(functions.wiener_loss(*arguments), expected("wiener_loss", arguments), strict=False)
    for a, e in zip(*map(_results, zip(*results, strict=True)), strict=True):
        assert_close(a, e, 10)


def _largest_numbers(height: int, width: int) -> Callable[[Any], None]:
    """One pixel above half of the largest number, whose spectrum has its size throughout."""

    def check(functions: Any) -> None:
        x = torch.zeros(1, 1, height, width)
        x[0, 0, height // 2, width // 3] = 1.5 * 2.0**127
        ones = torch.ones(1, 1, height, width // 2 + 1)
        arguments: dict[str, tuple[Any, ...]] = {
            "rfft2": (x, 1.0),
            "spectral_filter": (x, ones),
            "cross_spectrum": (x, 2.0**-128 * x, 1, 1, True),
        }
        if height == width == 1:
            arguments["irfft2"] = (x.to(torch.complex64), 1, 1.0)
        for call, given in arguments.items():
            (actual,), (truth,) = run(functions, call, given), expected(call, given)
            assert_close(actual, truth)

    return check


def _zeros_of_kernels(functions: Any) -> None:
    """A box as wide as the image, among others, removes frequencies: nothing of them is left beside any nsr."""
    x, y = images((2, 1, 12, 10), torch.float32), images((2, 1, 12, 10), torch.float32)
    eps = torch.full((1, 1), 1e-3)
    for kh, kw in ((1, 10), (12, 1), (12, 10), (4, 5), (1, 2)):
        kernel = torch.full((1, 1, kh, kw), 1 / (kh * kw))
        K, exact = (
            functions.otf(kernel, 12, 10).cpu().to(torch.complex128),
            reference.otf(kernel.double().cpu(), 12, 10),
        )
        zero = exact.abs() < 1e-15
        assert zero.any() and K[zero].abs().max() < 1e-15
        assert ((K - exact)[~zero].abs() <= 2 * torch.finfo(torch.float32).eps * exact[~zero].abs()).all()
        for nsr in (1e-5, 1e-8, 1e-12):
            # In float64, too, the kernel's gradient is what is left of a rounding error there, divided by nsr².
            arguments = x, y, kernel, torch.full((1, 1), nsr), eps, 0.5, False, True, True, nsr == 1e-5
            results = zip(functions.wiener_loss(*arguments), expected("wiener_loss", arguments), strict=False)
            for a, e in zip(*map(_results, zip(*results, strict=True)), strict=True):
                assert_close(a, e, 10)


RANGE: dict[str, Callable[[Any], None]] = {
    f"{call}-{factor:g}-{height}x{width}": _large_images(call, factor, height, width)
    for call, factor, sizes in (
        ("blur_mse-shared", 1e16, ((64, 64),)),
        ("blur_mse-sample", 1e14, ((256, 256),)),
        ("spectral_loss-shared", 1e17, ((16, 16), (24, 10), (64, 64))),
        ("cross_spectrum-real-shared", 1e17, ((64, 64), (24, 10))),
        ("wiener_loss-shared", 1e17, ((16, 16), (9, 15))),
        ("focal_frequency_loss", 1e17, ((16, 16), (64, 64))),
    )
    for height, width in sizes
} | {
    "errors-out-of-range": _errors_that_are_out_of_range,
    "taps-out-of-range": _taps_whose_square_is_out_of_range,
    "tiny-taps-and-large-images": _tiny_taps_and_large_images,
    "zeros-of-kernels": _zeros_of_kernels,
    **{f"largest-numbers-{h}x{w}": _largest_numbers(h, w) for h, w in ((1, 1), (5, 6), (8, 8), (16, 32))},
    # For the focal frequency loss: sides with a kernel of their own, and without.
    **{f"large-alpha-{side}": _large_alpha(side) for side in (16, 32)},
    **{f"small-errors-{side}": _small_errors(side) for side in (16, 32)},
    **{f"no-weight-{side}": _a_loss_that_counts_for_nothing(side) for side in (8, 32)},
}
