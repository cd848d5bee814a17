"""What is special to the Triton kernels: digits and sizes, planes that share a transform or a program, planes larger
than a tile, the choice of a configuration, and what is said without triton.

Kernels run under ``TRITON_INTERPRET=1``, in a process of their own; ``test_backends`` is where their results meet
every dtype, shape and layout.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import itertools
import math
import mmap
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conformance import CALLS, Case, check
from inputs import images, kernels
from tolerances import assert_close
from torch import Tensor

from blurfft._backends import reference
from blurfft._backends import triton as backend

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or backend.unavailable() is not None,
    reason=backend.unavailable() or "kernels run on the CPU under TRITON_INTERPRET=1",
)


@pytest.fixture
def fft() -> ModuleType:
    pytest.importorskip("triton")
    return importlib.import_module("blurfft.kernels.fft")


def agree(op: str, *arguments: Any) -> tuple[Tensor, ...]:
    """The op against the formulas in float64; gives its results."""
    wide = [a.to(torch.promote_types(a.dtype, torch.float64)) if isinstance(a, Tensor) else a for a in arguments]
    actual, expected = backend.functions()[op](*arguments), reference.functions()[op](*wide)
    if isinstance(actual, Tensor):
        actual, expected = (actual,), (expected,)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)
    return actual


def loss(x: Tensor, y: Tensor, weight: Tensor, per_sample: bool = False) -> tuple[Tensor, ...]:
    return agree("spectral_loss", x, y, weight, 0.5, per_sample, True, True)


def test_lengths(fft: ModuleType) -> None:
    for n in range(1, 1025):
        assert backend_serves(n, 4) is None and backend_serves(4, n) is None
        side = fft.plan(n)
        digits = side[1:] if fft.is_convolution(side) else side
        rest = n
        for p in (2, 3, 5, 7, 11, 13):
            while rest % p == 0:
                rest //= p
        assert fft.product(side) == n and fft.pad(side) == fft.pad(digits)
        if fft.is_convolution(side):
            assert set(digits) <= {2, 4, 8} and 2 * n - 1 <= fft.pad(side) <= 2048
        else:
            assert rest == 1 and set(digits) <= {2, 3, 4, 5, 7, 8, 11, 13}
            assert fft.pad(side) <= 1024
        if rest > 1 or n in (625, 729, 1001):  # as a product of radices these would have 2048 and more
            assert fft.is_convolution(side)
    for size in ((1025, 4), (4, 1025)):
        assert "it serves height and width up to 1024, which the" in backend_serves(*size)


def backend_serves(height: int, width: int) -> str | None:
    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    return backend.why_not("rfft2", device, torch.float32, height, width)


def test_tables(fft: ModuleType) -> None:
    """Of every length that is a convolution: what the kernels read transforms a line, by the same steps."""
    tables = importlib.import_module("blurfft.kernels.tables")
    for n in range(1, 1025):
        side = fft.plan(n)
        if not fft.is_convolution(side):
            continue
        m = fft.pad(side)
        table = torch.view_as_complex(tables.table(n, torch.float64, torch.device("cpu")))
        roots, spectrum, chirp = table.split((m, m, n))
        assert_close(roots, torch.polar(torch.ones(m).double(), -2 * math.pi / m * torch.arange(m).double()))
        position = torch.arange(m)
        frequency, step, rest = torch.zeros(m, dtype=torch.long), 1, m
        for digit in side[1:]:
            rest //= digit
            frequency += position // rest % digit * step
            step *= digit
        x = torch.randn(n, dtype=torch.complex128)
        product = torch.fft.fft(x * chirp, m)[frequency] * spectrum
        convolution = torch.fft.ifft(torch.empty_like(product).index_copy(0, frequency, product), norm="forward")
        assert_close(convolution[:n] * chirp, torch.fft.fft(x))


# Every radix, alone and after others, and convolutions; of those that are no primes 34 has a prime factor above 13.
@interpreted
@pytest.mark.parametrize(
    "size",
    [
        (1, 1),
        (2, 3),
        (5, 7),
        (9, 8),
        (15, 4),
        (6, 25),
        (49, 2),
        (21, 10),
        (11, 13),
        (26, 33),
        (2, 512),
        (1, 17),
        (34, 3),
    ],
    ids=str,
)
def test_every_radix(size: tuple[int, int]) -> None:
    x = torch.randn(2, *size)
    (spectrum,) = agree("rfft2", x, 1.0)
    agree("irfft2", spectrum, size[1], 1.0 / math.prod(size))


@interpreted
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("shared", [(1, 1), (2, 1), (1, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("staged", [False, True])
def test_what_is_not_finite_stays_in_its_plane(
    shared: tuple[int, int], staged: bool, fft: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if staged:
        monkeypatch.setattr(fft, "TILE", 0)
    x, y = images((2, 3, 8, 12), torch.float32), images((2, 3, 8, 12), torch.float32)
    x[0, 1, 3, 3], y[1, 2, 7, 0] = math.nan, math.inf
    bad = torch.tensor([[False, True, False], [False, False, True]])
    weight = torch.rand(*shared, 8, 7)
    _, grad, weight_grad = backend.functions()["spectral_loss"](x, y, weight, 0.5, False, True, True)
    sound = [torch.where(bad[..., None, None], 0.0, t).double() for t in (x, y)]
    _, expected, _ = reference.spectral_loss(*sound, weight.double(), 0.5, False, True, False)
    assert not grad[bad].isfinite().any()
    assert_close(grad[~bad], expected[~bad])
    touched = bad
    for dim in (0, 1):
        if shared[dim] == 1:
            touched = touched.any(dim, keepdim=True)
    assert torch.equal(weight_grad.isfinite().all((2, 3)), ~touched)
    assert not weight_grad[touched].isfinite().any()
    x[1, 2] = math.inf
    filtered = backend.functions()["spectral_filter"](x, torch.randn(*shared, 8, 7, dtype=torch.complex64))
    assert torch.equal(filtered.isfinite().all((2, 3)), ~bad) and not filtered[bad].isfinite().any()


@interpreted
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shared", [(1, 1), (35, 1), (1, 3), (35, 3)], ids=str)
def test_several_planes_to_a_program(shared: tuple[int, int], per_sample: bool) -> None:
    # 64 pairs of 4x4 planes are a program; here are up to 105 slots.
    x, y = torch.randn(35, 3, 4, 4), torch.randn(35, 3, 4, 4)
    loss(x, y, torch.rand(*shared, 4, 3), per_sample)


@interpreted
def test_configurations_agree(fft: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, weight = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.rand(3, 1, 8, 5)
    for per_warp in (64, 128, 1024):
        monkeypatch.setattr(fft, "_PER_WARP", per_warp)
        first = loss(x, y, weight)
        again = backend.functions()["spectral_loss"](x, y, weight, 0.5, False, True, True)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_candidates() -> None:
    pytest.importorskip("triton")
    candidates = importlib.import_module("blurfft.kernels.launch").candidates
    assert [candidates(n) for n in (1, 4, 8, 16)] == [[1, 2], [2, 4, 8], [8, 16], [16]]


def test_what_is_not_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    launch = importlib.import_module("blurfft.kernels.launch")
    torch.use_deterministic_algorithms(False)  # which each test turns on
    assert launch.tunes(torch.device("cuda")) and not launch.tunes(torch.device("cpu"))
    torch.use_deterministic_algorithms(True)
    assert not launch.tunes(torch.device("cuda"))
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(launch, "AUTOTUNE", False)
    assert not launch.tunes(torch.device("cuda"))


@interpreted
def test_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = importlib.import_module("blurfft.kernels.launch")
    kernel = importlib.import_module("blurfft.kernels.rfft2").rfft2_kernel
    tuner = launch.tuned(kernel, 4)
    assert {"H", "W", "BATCH", "ALIGN"} <= set(tuner.keys)
    times = iter((3.0, 1.0, 2.0))

    def benchmark(call: Any, quantiles: Any) -> list[float]:
        call()
        return [next(times)] * 3

    capturing = True
    monkeypatch.setattr(type(tuner), "do_bench", property(lambda self: benchmark))
    monkeypatch.setattr(launch, "tunes", lambda device: True)
    monkeypatch.setattr(launch, "tuned", lambda *_: tuner)
    monkeypatch.setattr(launch, "_chosen", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    x = torch.randn(1, 2, 4, 4)
    agree("rfft2", x, 1.0)
    assert not launch._chosen, "timed while a graph was captured"
    capturing = False
    agree("rfft2", x, 1.0)
    assert next(times, None) is None and list(launch._chosen.values()) == [4]
    agree("rfft2", x, 1.0)


@interpreted
def test_one_thread_tunes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = importlib.import_module("blurfft.kernels.launch")
    tuner = launch.tuned(importlib.import_module("blurfft.kernels.rfft2").rfft2_kernel, 4)
    timing: list[None] = []

    def benchmark(call: Any, quantiles: Any) -> list[float]:
        timing.append(None)
        time.sleep(0.05)  # as on a GPU, which other threads do not wait for
        assert len(timing) == 1
        call()
        timing.clear()
        return [1.0] * 3

    monkeypatch.setattr(type(tuner), "do_bench", property(lambda self: benchmark))
    monkeypatch.setattr(launch, "tunes", lambda device: True)
    monkeypatch.setattr(launch, "tuned", lambda *_: tuner)
    monkeypatch.setattr(launch, "_chosen", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    images = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 3)
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(lambda x: backend.functions()["rfft2"](x, 1.0), images))
    for image, result in zip(images, results, strict=True):
        assert_close(result, torch.fft.rfft2(image.double()))


@interpreted
def test_offsets_beyond_32_bits() -> None:
    # Memory that is not touched takes none.
    size, stride = 2, 2**31 + 2**20
    pages = mmap.mmap(-1, size * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    x = torch.frombuffer(pages, dtype=torch.bfloat16).as_strided((2, 1, 4, 4), (stride, 16, 4, 1))
    x.copy_(torch.randn(x.shape))
    agree("rfft2", x, 1.0)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_planes_larger_than_a_tile(dtype: torch.dtype) -> None:
    height = 512 if dtype == torch.float64 else 1024
    shape = (1, 1, height, 18)
    x, y = images(shape, dtype, "channels_last"), images(shape, dtype)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    _, grad, _ = agree("spectral_loss", x, y, torch.rand(1, 1, height, 10, dtype=compute), 0.5, True, True, True)
    assert grad.stride() == x.stride()


STAGED = [call for call in CALLS if not call.startswith(("otf", "wiener_loss", "blur_mse"))]
# Convolutions are a matter of the transform alone: a call of each op shows them.
STAGES = [
    *itertools.product(
        STAGED, [Case(12, 40, layout="channels_last", target_layout="sliced"), Case(1, 5, samples=1, channels=1)]
    ),
    *itertools.product(
        {call.partition("-")[0]: call for call in reversed(STAGED)}.values(),
        [Case(19, 9, torch.float64, samples=1), Case(16, 23, torch.bfloat16, "transposed", channels=2)],
    ),
]


@interpreted
@pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning")
@pytest.mark.parametrize(("call", "case"), STAGES, ids=str)
def test_stages(case: Case, call: str, fft: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fft, "TILE", 0)
    check(SimpleNamespace(**backend.functions()), call, case)


@interpreted
def test_convolutions_are_as_accurate_as_torch() -> None:
    x = torch.randn(1, 16, 127)
    size = x.shape[1:]
    spectrum = torch.fft.rfft2(x.double())
    for actual, of_torch, truth in (
        (backend.functions()["rfft2"](x, 1.0), torch.fft.rfft2(x), spectrum),
        (
            backend.functions()["irfft2"](spectrum.to(torch.complex64), 127, 1 / x.numel()),
            torch.fft.irfft2(spectrum.to(torch.complex64), size),
            torch.fft.irfft2(spectrum.to(torch.complex64).to(torch.complex128), size),
        ),
    ):
        assert (actual - truth).abs().square().sum() <= 1.5 * (of_torch - truth).abs().square().sum()


@interpreted
@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
@pytest.mark.parametrize("staged", [False, True])
def test_range(staged: bool, fft: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the result is in range, no sum or power on the way to it is out of range."""
    if staged:
        monkeypatch.setattr(fft, "TILE", 0)
    x, y, weight = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8), torch.rand(1, 1, 8, 5)
    constant = torch.full((1, 1, 8, 8), 1e18)
    agree("spectral_loss", 2e17 * x, 2e17 * y, weight, 0.5, False, True, True)
    agree("spectral_loss", constant, -constant, weight, 1 / 64, True, True, True)
    for image in (x, torch.ones_like(x)):
        agree("blur_mse", 1e16 * image, -3e15 * image, kernels((1, 1, 3, 3), torch.float32), 1.0, False, True, True)
    for scale, alpha, log_matrix in ((1e4, 10.0, False), (1e4, 10.0, True), (3e18, 1.0, False), (1e-9, 1.0, True)):
        agree("focal_frequency_loss", scale * x, scale * y, alpha, log_matrix, 1e-2, False, True)
    for values in backend.functions()["focal_frequency_loss"](1e20 * x, 1e20 * y, 1.0, False, 0.0, False, True):
        assert torch.equal(values, torch.zeros_like(values))
    # A plane's largest frequency alone has a weight then.
    loss, grad = backend.functions()["focal_frequency_loss"](x, y, 1e300, False, 0.5, True, True)
    powers = reference.rfft2(x.double() - y.double(), 1 / 8).abs().square().amax((2, 3))
    assert grad.isfinite().all()
    multiplicity = (grad.double() * (x - y).double()).sum((2, 3)) / powers
    assert_close(multiplicity.float(), multiplicity.round(), 4)
    assert_close(loss, 0.5 * (multiplicity.round() * powers).sum(1))
    (value, input_grad, *_) = backend.functions()["wiener_loss"](
        x, y, torch.full((1, 1, 3, 3), 1e20), *torch.tensor([[[0.01]], [[1.0]]]), 0.5, False, False, True, True
    )
    assert_close(value, 0.5 * (x.double() - y.double()).square().sum())
    assert_close(input_grad, x.double() - y.double())


@interpreted
def test_kernels_larger_than_a_block() -> None:
    (spectrum,) = agree("otf", kernels((2, 1, 3, 35), torch.float32), 40, 70)
    agree("otf_backward", spectrum, 70, 3, 35)


def test_every_kernel_is_a_static_case() -> None:
    pytest.importorskip("triton")
    static = importlib.import_module("blurfft.kernels.static")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter's functions have no signature")
    kernels = {
        f"{name}.{attribute}"
        for name, module in sys.modules.items()
        if name.startswith("blurfft.kernels.")
        for attribute in vars(module)
        if attribute.endswith("_kernel")
    }
    seen = {f"{case.function.fn.__module__}.{case.function.fn.__name__}" for case in static.static_cases()}
    assert kernels == seen


def test_what_the_compiler_must_not_know_is_not_specialised() -> None:
    # A count of 1 would become a constant, and the mask that is made of it one that is known to be false.
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter's functions have no signature")
    found = 0
    for case in importlib.import_module("blurfft.kernels.static").static_cases():
        for name in re.findall(r"(\w+) < 0", inspect.getsource(case.function.fn)):
            (parameter,) = (p for p in case.function.params if p.name == name)
            assert parameter.do_not_specialize, (case.name, name)
            found += 1
    assert found


@pytest.fixture
def forgetful() -> Iterator[None]:
    backend.unavailable.cache_clear()
    yield
    backend.unavailable.cache_clear()


def test_without_triton(forgetful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert backend.unavailable() == "triton is not installed: pip install 'triton>=3.6'"


@pytest.mark.parametrize(
    ("installed", "served"), [("3.5.1", False), ("2.9", False), ("3.6.0+git1", True), ("4.0", True)]
)
def test_versions(installed: str, served: bool, forgetful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed)
    reason = backend.unavailable() or ""
    assert (f"it needs triton 3.6 or newer and triton {installed} is installed: pip install" in reason) is not served


def test_triton_is_not_imported_before_it_is_used() -> None:
    code = """
import sys, torch, blurfft
blurfft.available_backends()
blurfft.blur(torch.ones(1, 1, 4, 4), torch.ones(1, 1))
assert not any(name == "triton" or name.startswith(("triton.", "blurfft.kernels")) for name in sys.modules)
"""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
