"""The one set of tests that every backend has to pass: its functions, and the public ones with it, against float64.

It runs with each backend that this process can use: those of the CPU; under ``TRITON_INTERPRET=1`` the Triton kernels,
and they alone; with ``-m cuda`` those of a GPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import conformance
import pytest
import torch
from backends import INTERPRETED, ON_CPU, ON_GPU, Backend
from conformance import CALLS, TAKING_IMAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import LAYOUTS, images, kernels, positive
from tolerances import TOLERANCES, assert_close
from torch import Tensor

import blurfft
from blurfft import reference

f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16

BACKENDS = [*ON_CPU, *ON_GPU]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Runs the test with each backend on each of its devices."""
    with request.param.serving():
        yield request.param


# Odd, one high or wide, not square; planes that fill a vector, a warp or a block and planes that do not.
OP_CASES = [
    conformance.Case(1, 1, f64),
    conformance.Case(1, 1, f32, samples=1, channels=1),
    conformance.Case(2, 3, f64, "transposed", samples=1),
    conformance.Case(1, 14, f32, "channels_last", "channels_last"),
    conformance.Case(15, 1, f64, "permuted", "contiguous", channels=1),
    conformance.Case(7, 8, bf16, "permuted", "sliced"),
    conformance.Case(9, 10, f16, "sliced", "contiguous", samples=1),
    conformance.Case(8, 8, f32, "expanded", "channels_last"),
    conformance.Case(4, 4, f32, samples=5),
    conformance.Case(12, 21, f32, "transposed", "permuted", samples=1, channels=2),
    conformance.Case(16, 16, f32, channels=1),
    conformance.Case(16, 16, bf16, "channels_last", "channels_last", samples=1),
    conformance.Case(28, 28, f32, "channels_last", samples=1, channels=2),
    conformance.Case(32, 32, f16, samples=1, channels=1),
]
if not INTERPRETED:  # it would take minutes
    OP_CASES += [
        conformance.Case(4, 4, f32, samples=19, channels=5),
        conformance.Case(8, 6, f32, "channels_last", "channels_last", samples=7, channels=20),
        conformance.Case(30, 35, f16, "transposed", "transposed", samples=5),
        conformance.Case(64, 64, f32, samples=9),
        conformance.Case(64, 64, bf16, "channels_last", "channels_last"),
        conformance.Case(96, 40, f64, "sliced", "expanded"),
        conformance.Case(128, 128, f32),
        conformance.Case(160, 112, bf16, samples=1),
        conformance.Case(192, 224, f32, "channels_last", "channels_last", samples=1),
        conformance.Case(256, 256, f32, samples=1),
        conformance.Case(256, 256, f64, "transposed", samples=1, channels=1),
        conformance.Case(240, 512, f32, samples=1, channels=1),
        conformance.Case(512, 512, f16, "channels_last", "channels_last", samples=1, channels=2),
    ]
HARD = ["mean-100", "edges", "waves"] if INTERPRETED else [c for c in conformance.CONTENTS if c != "noise"]
OP_CASES += [conformance.Case(16, 16, f32, content=content, channels=2) for content in HARD]
if not INTERPRETED:
    OP_CASES += [conformance.Case(32, 20, f64, content=content, channels=2) for content in HARD]
OPS = [
    pytest.param(call, case, id=f"{call}-{case}")
    for call in CALLS
    for case in OP_CASES
    if call in TAKING_IMAGES or case.dtype.itemsize > 2  # spectra and kernels have no half precision
]


@pytest.mark.parametrize(("call", "case"), OPS)
def test_op(call: str, case: conformance.Case, backend: Backend) -> None:
    reason = backend.why_not(call.partition("-")[0], case.dtype, case.height, case.width)
    if reason is not None:
        pytest.skip(reason)
    if backend.name == "reference" and case.hard:
        pytest.skip("it is what the others are held to")
    conformance.check(backend.functions, call, case)


# The interpreter takes too long for the large ones.
RANGE = [name for name in conformance.RANGE if not (INTERPRETED and name.endswith(("64x64", "256x256")))]


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
@pytest.mark.parametrize("name", RANGE)
def test_range(name: str, backend: Backend) -> None:
    if backend.name in ("reference", "cuda") and name.startswith("largest-numbers"):
        pytest.skip("torch.fft scales its sums last, CUDA kernels of a whole plane double what they transform")
    conformance.RANGE[name](backend.functions)


SIDES_SERVED = [1, 2, 3, 5, 7, 8, 16, 28, 30, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 512]


@pytest.mark.parametrize("dtype", [f32, f64, bf16, f16], ids=str)
def test_sizes_that_are_served(dtype: torch.dtype, backend: Backend) -> None:
    """So that no backend passes the tests by refusing."""
    refused = [
        (op, height, width, reason)
        for op in {call.partition("-")[0] for call in CALLS}
        for height, width in itertools.product(SIDES_SERVED, repeat=2)
        if (reason := backend.why_not(op, dtype, height, width)) is not None
    ]
    assert not refused


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs one program after another")
@pytest.mark.parametrize("call", CALLS)
def test_results_are_the_same_every_time(call: str, backend: Backend) -> None:
    arguments = CALLS[call](conformance.Case(64, 48, samples=50))
    first, second = (conformance.run(backend.functions, call, arguments) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Case(NamedTuple):
    shape: tuple[int, int, int, int]
    kernel: tuple[int, ...]
    nsr: tuple[int, ...]  # shape of nsr and, reversed in order of the list below, of eps
    eps: tuple[int, ...]
    dtype: torch.dtype = f64
    layout: str = "contiguous"
    target_layout: str = "contiguous"


# Chosen so that every value meets many others: not the full product.
CASES = [
    Case((2, 3, 8, 8), (3, 3), (), ()),
    Case((2, 3, 16, 12), (2, 1, 5, 4), (2,), (2, 3), f32),
    Case((3, 1, 7, 5), (1, 1, 7, 5), (3, 1), (), f64, "permuted", "channels_last"),
    Case((4, 2, 12, 10), (1, 2, 3, 2), (4, 2), (1,), f32, "channels_last", "channels_last"),
    Case((1, 3, 9, 1), (9, 1), (1, 3), (1, 1), f64, "sliced"),
    Case((2, 2, 1, 6), (2, 2, 1, 4), (), (2,), f32, "transposed", "transposed"),
    Case((1, 1, 1, 1), (1, 1), (), (), f32),
    Case((5, 1, 15, 21), (5, 1, 2, 3), (5,), (5, 1), f32, "expanded"),
    Case((2, 4, 16, 16), (4, 4), (), (), bf16),
    Case((3, 2, 10, 14), (3, 2, 3, 5), (3, 2), (3,), bf16, "channels_last", "sliced"),
    Case((2, 3, 28, 24), (1, 3, 11, 11), (2,), (), f16, "transposed"),
    Case((1, 2, 20, 2), (1, 1, 3, 1), (), (), f16, "channels_last", "channels_last"),
    Case((2, 3, 32, 36), (2, 3, 9, 9), (2, 3), (2, 3), f32, "sliced", "expanded"),
    Case((1, 3, 64, 48), (11, 11), (), (), f32, "channels_last"),
    Case((3, 5, 6, 25), (3, 1, 5, 5), (3, 5), (), f64, "expanded", "permuted"),
]
if INTERPRETED:
    CASES = [case for case in CASES if math.prod(case.shape) < 200]
IDS = [f"{'x'.join(map(str, c.shape))}-{c.dtype}-{c.layout}".replace("torch.", "") for c in CASES]

Make = Callable[[Case], tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]]


def _pair(case: Case) -> list[Tensor]:
    return [images(case.shape, case.dtype, case.layout), images(case.shape, case.dtype, case.target_layout)]


def _wiener(name: str, reduction: str) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        def call(module: Any, args: list[Tensor]) -> Tensor:
            x, y, k, nsr, eps = args
            return getattr(module, name)(x, y, k, nsr, eps=eps, reduction=reduction)

        # Kernel, nsr and eps stay in single precision where the images are in half.
        dtype = reference.compute_dtype(case.dtype)
        return call, [
            *_pair(case),
            kernels(case.kernel, dtype),
            positive(case.nsr, dtype),
            positive(case.eps, dtype),
        ]

    return make


def _spectral_mse(reduction: str) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        dtype = reference.compute_dtype(case.dtype)
        leading = case.kernel[:-2] if len(case.kernel) == 4 else ()
        # The weight of a kernel, for ω(f) = ω(−f), plus noise where any value is allowed.
        weight = reference.wiener_weight(kernels(case.kernel, dtype), case.shape[2:], 0.1, 0.1)
        weight = weight.view(*leading, *weight.shape[2:])
        weight[..., 1 : (case.shape[3] + 1) // 2] *= 1 + torch.rand(1).item()
        return (lambda module, args: module.spectral_mse(*args, reduction=reduction)), [*_pair(case), weight]

    return make


def _blur_mse(reduction: str) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        kernel = kernels(case.kernel, reference.compute_dtype(case.dtype))
        return (lambda module, args: module.blur_mse(*args, reduction=reduction)), [*_pair(case), kernel]

    return make


def _blur(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
    kernel = kernels(case.kernel, reference.compute_dtype(case.dtype))
    return (lambda module, args: module.blur(*args)), [images(case.shape, case.dtype, case.layout), kernel]


def _wiener_filter(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
    dtype = reference.compute_dtype(case.dtype)
    args = [images(case.shape, case.dtype, case.layout), kernels(case.kernel, dtype), positive(case.nsr, dtype)]
    return (lambda module, args: module.wiener_filter(*args)), args


def _wiener_weight(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
    def call(module: Any, args: list[Tensor]) -> Tensor:
        kernel, nsr, eps = args
        return module.wiener_weight(kernel, case.shape[2:], nsr, eps)

    return call, [
        kernels(case.kernel, case.dtype),
        positive(case.nsr, case.dtype),
        positive(case.eps, case.dtype),
    ]


def _rfft2(norm: str) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        return (lambda module, args: module.rfft2(*args, norm=norm)), [images(case.shape, case.dtype, case.layout)]

    return make


def _irfft2(norm: str) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        n, c, height, width = case.shape
        dtype = reference.compute_dtype(case.dtype).to_complex()
        spectrum = torch.randn(n, c, height, width // 2 + 1, dtype=torch.complex128).to(dtype)
        return (lambda module, args: module.irfft2(*args, s=(height, width), norm=norm)), [spectrum]

    return make


def _focal_frequency_loss(**options: Any) -> Make:
    def make(case: Case) -> tuple[Callable[[Any, list[Tensor]], Tensor], list[Tensor]]:
        return (lambda module, args: module.focal_frequency_loss(*args, **options)), _pair(case)

    return make


FUNCTIONS: dict[str, Make] = {
    "wiener_loss": _wiener("wiener_loss", "mean"),
    "wiener_loss-sum": _wiener("wiener_loss", "sum"),
    "wiener_loss-none": _wiener("wiener_loss", "none"),
    "wiener_nll": _wiener("wiener_nll", "mean"),
    "wiener_nll-none": _wiener("wiener_nll", "none"),
    "spectral_mse": _spectral_mse("mean"),
    "spectral_mse-none": _spectral_mse("none"),
    "blur_mse": _blur_mse("sum"),
    "blur_mse-none": _blur_mse("none"),
    "blur": _blur,
    "wiener_filter": _wiener_filter,
    "wiener_weight": _wiener_weight,
    "rfft2": _rfft2("ortho"),
    "rfft2-forward": _rfft2("forward"),
    "irfft2": _irfft2("backward"),
    "irfft2-ortho": _irfft2("ortho"),
    "focal_frequency_loss": _focal_frequency_loss(),
    "focal_frequency_loss-batch": _focal_frequency_loss(alpha=0.5, ave_spectrum=True, batch_matrix=True),
}


def _exact(t: Tensor) -> Tensor:
    return t.detach().to("cpu", torch.complex128 if t.is_complex() else f64).contiguous().requires_grad_()


def check(call: Callable[[Any, list[Tensor]], Tensor], args: list[Tensor], factor: float = 1.0) -> Tensor:
    """Value and gradients, for a random cotangent, against the reference's in float64, on the CPU as those of
    ``conformance``; returns the value."""
    truths = [_exact(a) for a in args]
    args = [a.detach().requires_grad_() for a in args]
    before = [(a._version, a.detach().clone()) for a in args]

    value = call(blurfft, args)
    with torch.device("cpu"):
        truth = call(reference, truths)
    assert_close(value, truth, factor)
    cotangent = torch.randn_like(truth).to(value)
    grads = torch.autograd.grad(value, args, cotangent)
    for actual, expected, arg in zip(grads, torch.autograd.grad(truth, truths, cotangent.to(truth)), args, strict=True):
        assert actual.dtype == arg.dtype
        # Of a single precision kernel the gradient is a small difference of large terms.
        assert_close(actual, expected, 8 * factor)
    for a, (version, b) in zip(args, before, strict=True):
        assert a._version == version
        torch.testing.assert_close(a.detach(), b, rtol=0, atol=0)
    return value


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_matches_the_reference(function: str, case: Case, backend: Backend) -> None:
    call, args = FUNCTIONS[function](case)
    value = check(call, args)
    if function.endswith("-none") and value.dim() == 4:
        assert value.dtype == case.dtype
    elif value.dim() < 2:
        assert value.dtype == reference.compute_dtype(case.dtype)


@pytest.mark.parametrize("function", ["blur", "wiener_filter"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_filters_keep_the_layout(function: str, layout: str, backend: Backend) -> None:
    x = images((2, 3, 6, 8), f32, layout)
    y = getattr(blurfft, function)(x, kernels((3, 3), f32))
    assert y.dtype == x.dtype
    assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_keep_the_layout(layout: str, backend: Backend) -> None:
    x = images((2, 3, 6, 8), f32, layout).requires_grad_()
    blurfft.wiener_loss(x, images((2, 3, 6, 8), f32), kernels((3, 3), f32)).backward()
    assert x.grad is not None
    if layout != "expanded":  # a leaf whose elements overlap gets a gradient of its own layout
        assert x.grad.stride() == torch.empty_like(x).stride()
    torch.testing.assert_close(x.grad.sum().isnan(), torch.tensor(False))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_nan_and_inf_stay_in_their_plane(bad: float, layout: str, backend: Backend) -> None:
    x, y, k = images((3, 3, 8, 6), f32, layout), images((3, 3, 8, 6), f32, layout), kernels((3, 3), f32)
    broken = x.clone()
    broken[1, 1, 2, 3] = bad
    others = torch.ones(3, 3, dtype=torch.bool)
    others[1, 1] = False

    def results(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        weight = blurfft.wiener_weight(k, (8, 6))
        grads = [
            torch.autograd.grad(loss, x)[0]
            for loss in (
                blurfft.wiener_loss(x, y, k),
                blurfft.spectral_mse(x, y, weight),
                blurfft.wiener_nll(x, y, kernel_of_each, reduction="sum"),
                blurfft.focal_frequency_loss(x, y),
            )
        ]
        maps = [
            blurfft.blur(x, k),
            blurfft.wiener_filter(x, k),
            blurfft.wiener_loss(x, y, k, reduction="none"),
            blurfft.rfft2(x),
            blurfft.irfft2(x.to(torch.complex64), (8, 6)),
        ]
        return grads + maps

    kernel_of_each = kernels((3, 3, 3, 3), f32)
    for actual, expected in zip(results(broken), results(x), strict=True):
        assert_close(actual[others], expected[others], 4)
        assert not actual[1, 1].isfinite().all()

    each = blurfft.wiener_nll(broken, y, k, reduction="none")
    assert each.isfinite().tolist() == [True, False, True]
    assert not blurfft.focal_frequency_loss(broken, y).isfinite()
    assert not blurfft.wiener_loss(broken, y, k).isfinite()


def test_kernel_gradients_of_other_samples_survive_nan(backend: Backend) -> None:
    x, y = images((2, 3, 8, 6), f32), images((2, 3, 8, 6), f32)
    k = kernels((2, 1, 3, 3), f32).requires_grad_()
    x[0, 2, 0, 0] = float("nan")
    blurfft.wiener_nll(x, y, k, reduction="sum").backward()
    assert k.grad is not None
    assert k.grad[0].isnan().all() and k.grad[1].isfinite().all()


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (1, 2)], ids=str)
def test_gradients_at_zeros_of_the_kernel(shape: tuple[int, int], backend: Backend) -> None:
    # They are finite, where powers of 1 / nsr are not: a box removes some frequencies exactly.
    x, y = images((2, 2, 16, 8), f64), images((2, 2, 16, 8), f64)
    k, nsr = torch.full(shape, 1 / math.prod(shape), dtype=f64), torch.tensor(1e-14, dtype=f64)
    for loss in (blurfft.wiener_loss, blurfft.wiener_nll):

        def gradients(dtype: torch.dtype, loss: Callable[..., Tensor] = loss) -> tuple[Tensor, ...]:
            leaves = [t.to(dtype).requires_grad_() for t in (k, nsr)]
            return torch.autograd.grad(loss(x.to(dtype), y.to(dtype), *leaves, eps=1e-3), leaves)

        actual = gradients(f32)
        with blurfft.use_backend("reference"):
            expected = gradients(f64)
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e)


# Kernels of these sums with this nsr; W is in range, |K|² is not.
@pytest.mark.parametrize(
    ("size", "nsr", "dtype"),
    [
        (1e20, 0.01, f32),
        (1e38, 0.0, f32),
        (1e-25, 0.0, f32),
        (1e-22, 1e-30, f32),
        (1e200, 0.01, f64),
        (1e-200, 0.0, f64),
    ],
)
def test_wiener_inverses_that_are_in_range(size: float, nsr: float, dtype: torch.dtype, backend: Backend) -> None:
    x, k = images((2, 2, 6, 8), dtype), kernels((2, 1, 3, 3), dtype)
    leaf = x.clone().requires_grad_()
    restored = blurfft.wiener_filter(leaf, (k.double() * size).to(dtype), nsr)
    wide = x.double().requires_grad_()
    truth = reference.wiener_filter(wide, k.double(), nsr / size / size) / size  # whatever the size
    assert_close(restored, truth, 4)
    cotangent = torch.randn_like(x)
    actual, expected = (
        torch.autograd.grad(value, t, cotangent.to(value))[0] for value, t in ((restored, leaf), (truth, wide))
    )
    assert_close(actual, expected, 4)


@pytest.mark.parametrize("nsr", [1e-5, 1e-8])
def test_filters_at_zeros_of_the_kernel(nsr: float, backend: Backend) -> None:
    """A box as wide as the image removes frequencies: nothing of them comes back."""
    x, k = images((1, 2, 6, 10), f32), torch.full((1, 10), 0.1)
    with torch.device("cpu"):
        filtered = reference.wiener_filter(x.double().cpu(), k.double().cpu(), nsr)
        weight = reference.wiener_weight(k.double().cpu(), (6, 10), nsr)
    assert_close(blurfft.wiener_filter(x, k, nsr), filtered)
    assert_close(blurfft.wiener_weight(k, (6, 10), nsr), weight)


@pytest.mark.parametrize("name", ["wiener_loss", "wiener_nll", "blur_mse"])
def test_gradients_of_half_precision_kernels_that_are_in_range(name: str, backend: Backend) -> None:
    """Before they are multiplied by the incoming gradient they are not."""
    args = [100 * images((2, 2, 16, 12), f16), 100 * images((2, 2, 16, 12), f16), kernels((3, 3), f16)]
    args += [] if name == "blur_mse" else [positive((), f16)]

    def gradients(module: Any, args: list[Tensor]) -> tuple[Tensor, ...]:
        value = getattr(module, name)(*args, reduction="sum")
        return torch.autograd.grad(value, args, torch.full_like(value, 1e-4))

    actual = gradients(blurfft, [a.detach().requires_grad_() for a in args])
    with torch.device("cpu"):
        truth = gradients(reference, [_exact(a) for a in args])
    assert truth[2].abs().max() * 1e4 > torch.finfo(f16).max > truth[2].abs().max()
    for a, e in zip(actual, truth, strict=True):
        assert_close(a, e)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lazy_negatives_and_conjugates(function: str, backend: Backend) -> None:
    call, args = FUNCTIONS[function](Case((2, 3, 8, 6), (2, 1, 3, 3), (2,), ()))
    check(call, [a.conj_physical().conj() if a.is_complex() else torch._neg_view(-a) for a in args])


def _second_gradients(
    call: Callable[[Any, list[Tensor]], Tensor], args: list[Tensor], module: Any, weighted: bool
) -> list[Tensor]:
    """Of the gradients by all arguments along fixed directions: by the incoming gradient and by the arguments."""
    generator = torch.Generator().manual_seed(0)

    def noise(t: Tensor) -> Tensor:
        # The same numbers in every dtype.
        return torch.randn(t.shape, dtype=f64, generator=generator, device="cpu").bfloat16().to(t)

    value = call(module, args)
    cotangent = noise(value).requires_grad_()
    firsts = torch.autograd.grad(value, args, cotangent, create_graph=True)
    directions = [noise(first) for first in firsts]
    if weighted:  # of which only the symmetric part counts, whose root is not that of the whole
        directions[2] = directions[2] + directions[2].flip(-2).roll(1, -2)
    return list(torch.autograd.grad(firsts, [cotangent, *args], directions, materialize_grads=True))


@pytest.mark.skipif(INTERPRETED, reason="takes minutes; derivatives are compositions of ops, whatever serves these")
@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "wiener_weight" and "rfft" not in name])
def test_second_gradients_are_rounded_once(function: str, dtype: torch.dtype, backend: Backend) -> None:
    """They are sums of terms that come back through several first gradients."""
    call, args = FUNCTIONS[function](Case((2, 3, 12, 10), (2, 1, 3, 4), (2,), (2, 3), dtype))
    weighted = function.startswith("spectral_mse")
    actual = _second_gradients(call, [a.detach().requires_grad_() for a in args], blurfft, weighted)
    with torch.device("cpu"):
        truth = _second_gradients(call, [_exact(a) for a in args], reference, weighted)
    for a, e in zip(actual, truth, strict=True):
        half_a_unit = torch.finfo(a.dtype).eps / 2 * e.abs()
        error = (a.to(e) - e).abs() - half_a_unit
        assert error.max() <= 8 * TOLERANCES[f32] * e.abs().max()


GRADCHECKED = [name for name in FUNCTIONS if not name.startswith("focal")]
if INTERPRETED:  # half a minute each; derivatives are compositions of ops, whatever serves these
    GRADCHECKED = ["blur", "rfft2", "irfft2"]


@pytest.mark.parametrize("function", GRADCHECKED)
def test_gradcheck(function: str, backend: Backend) -> None:
    # The focal frequency loss takes its weight as a constant, which finite differences do not.
    call, args = FUNCTIONS[function](Case((2, 2, 4, 3), (2, 1, 3, 2), (2,), (2, 2)))
    args = [a.detach().requires_grad_() for a in args]
    assert torch.autograd.gradcheck(lambda *a: call(blurfft, a), args, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *a: call(blurfft, a), args, fast_mode=True)


@pytest.mark.skipif(INTERPRETED, reason="takes minutes")
@pytest.mark.parametrize("shared", [True, False])
def test_gradcheck_of_every_entry(shared: bool, backend: Backend) -> None:
    kernel, plane = ((2, 2), ()) if shared else ((2, 2, 2, 2), (2, 2))
    args = [images((2, 2, 2, 3)), images((2, 2, 2, 3)), kernels(kernel), positive(plane), positive(plane)]
    args = [a.requires_grad_() for a in args]
    for reduction in ("sum", "none"):

        def nll(x: Tensor, y: Tensor, k: Tensor, nsr: Tensor, eps: Tensor, reduction: str = reduction) -> Tensor:
            return blurfft.wiener_nll(x, y, k, nsr, eps=eps, reduction=reduction)

        assert torch.autograd.gradcheck(nll, args)
        assert torch.autograd.gradgradcheck(nll, args)


def test_focal_frequency_loss_is_twice_differentiable(backend: Backend) -> None:
    x, y = images((2, 2, 6, 8)).requires_grad_(), images((2, 2, 6, 8))
    seconds = []
    for module in (blurfft, reference):
        (grad,) = torch.autograd.grad(module.focal_frequency_loss(x, y), x, create_graph=True)
        seconds.append(torch.autograd.grad(grad.square().sum(), x)[0])
    assert_close(*seconds)


SIDES = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 24, 27, 28, 32, 35])


@settings(max_examples=4 if INTERPRETED else 25, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_shape_and_strides(backend: Backend, data: st.DataObject) -> None:
    with backend.serving():
        check_any_shape_and_strides(data.draw)


def check_any_shape_and_strides(draw: st.DrawFn) -> None:
    N, C, H, W = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(SIDES), draw(SIDES)
    kernel = (
        draw(st.sampled_from([1, N])),
        draw(st.sampled_from([1, C])),
        draw(st.integers(1, min(H, 9))),
        draw(st.integers(1, min(W, 9))),
    )

    def image() -> Tensor:
        order = draw(st.permutations(range(4)))
        steps = [draw(st.integers(1, 2)) for _ in range(4)]
        base = torch.randn([(N, C, H, W)[i] * steps[i] for i in order], dtype=f32)
        base = base.permute([order.index(i) for i in range(4)])
        return base[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]

    args = [image(), image(), kernels(kernel, f32), positive(kernel[:2], f32), positive(kernel[:2], f32)]
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    loss = draw(st.sampled_from(["wiener_loss", "wiener_nll"]))

    def call(module: Any, args: list[Tensor]) -> Tensor:
        x, y, k, nsr, eps = args
        return getattr(module, loss)(x, y, k, nsr, eps=eps, reduction=reduction)

    check(call, args, factor=4)
