"""The operators of ``csrc/cuda``, all but the device and the stream, on tensors of the CPU: their kernels run in the
emulator of ``tests/simt``, which also says where they touch what they should not.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import conformance
import pytest
import simt
import torch
from conformance import CALLS, Case
from inputs import kernels
from tolerances import assert_close

from blurfft._backends import composed, reference

pytestmark = pytest.mark.skipif(simt.unavailable() is not None, reason=str(simt.unavailable()))

f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
FUNCTIONS = {call.partition("-")[0]: call for call in reversed(CALLS)}  # one call of each


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    library = simt.load("ops")
    library.simt_complaint.restype = ctypes.c_char_p
    library.simt_seed.argtypes = [ctypes.c_uint64]
    return library


@pytest.fixture
def emulated(library: ctypes.CDLL) -> Callable[[int], SimpleNamespace]:
    """Of a seed, from which each launch draws the order of its blocks and threads: the functions of a backend."""

    def functions(seed: int) -> SimpleNamespace:
        def function(name: str) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                library.simt_seed(seed)
                result = getattr(torch.ops.blurfft_simt, name)(*arguments)
                assert library.simt_complaint() == b"", library.simt_complaint().decode()
                return result

            return call

        backend = SimpleNamespace(**{name: function(name) for name in FUNCTIONS})
        backend.blur_mse = functools.partial(composed.blur_mse, vars(backend))
        return backend

    return functions


# Every radix, odd lengths, a single row and column; then sizes with kernels of their own.
CASES = [
    Case(8, 12, f32),
    Case(9, 7, f64, "transposed", "channels_last"),
    Case(5, 16, bf16, "channels_last", "channels_last", samples=1),
    Case(14, 10, f16, "sliced", "expanded", channels=2),
    Case(1, 6, f32),
    Case(4, 1, f64),
    Case(16, 16, f32, "sliced", "permuted"),
    Case(28, 28, bf16, "channels_last", "transposed", samples=3, channels=1),
    Case(32, 32, f32),
    Case(64, 64, f16, "sliced", "contiguous", samples=1, channels=2),
    *(Case(16, 16, f32, content=content, channels=2) for content in ("mean-100", "edges", "waves")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_operators(call: str, case: Case, emulated: Callable[[int], SimpleNamespace]) -> None:
    conformance.check(emulated(CASES.index(case)), call, case)


# Sizes with kernels of their own for every op, then lengths that are cut at run time.
LARGE = [
    Case(64, 64, f32, "channels_last", "channels_last"),
    Case(128, 128, f32, samples=1, channels=2),
    Case(256, 256, bf16, samples=1, channels=1),
    Case(112, 300, f64, samples=1, channels=1),
    Case(2048, 6, f16, samples=1, channels=1),
]


@pytest.mark.parametrize("case", LARGE, ids=str)
@pytest.mark.parametrize("call", FUNCTIONS.values())
def test_large_planes(call: str, case: Case, emulated: Callable[[int], SimpleNamespace]) -> None:
    conformance.check(emulated(LARGE.index(case)), call, case)


# Sizes that most ops have kernels of their own for.
FUSED = [
    Case(32, 64, f32, samples=2, channels=2),
    Case(64, 32, f16, "sliced", "contiguous", samples=1, channels=2),
    Case(64, 128, f32, "contiguous", "channels_last", samples=1, channels=2),
    Case(128, 64, bf16, samples=1, channels=2),
    Case(96, 128, f32, samples=1, channels=1),
    Case(128, 96, f32, samples=1, channels=1),
    Case(96, 96, f32, "transposed", samples=2, channels=1),
    Case(160, 160, bf16, samples=2, channels=1),
    Case(192, 192, f32, "contiguous", "sliced", samples=1, channels=1),
    Case(224, 224, f32, samples=1, channels=1),
    Case(256, 256, f32, samples=2, channels=1),
]
FUSED_CALLS = ["spectral_loss-channel", "spectral_loss-shared", "spectral_filter-shared", "rfft2", "irfft2"]


@pytest.mark.parametrize("case", FUSED, ids=str)
@pytest.mark.parametrize("call", FUSED_CALLS)
def test_planes_of_one_block(call: str, case: Case, emulated: Callable[[int], SimpleNamespace]) -> None:
    conformance.check(emulated(FUSED.index(case)), call, case)


def test_a_cluster_visits_plane_after_plane(emulated: Callable[[int], SimpleNamespace]) -> None:
    # More weights than blocks are to fill the device, so that the two planes of each are one cluster's.
    conformance.check(emulated(0), "spectral_loss-sample", Case(256, 256, samples=33, channels=2))


@pytest.mark.parametrize("dtype", [f32, bf16])
def test_planes_that_no_pair_of_columns_is_aligned_in(
    dtype: torch.dtype, emulated: Callable[[int], SimpleNamespace]
) -> None:
    def shifted(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image.new_zeros(1), image.flatten()])[1:].view(image.shape)

    input, *others = CALLS["spectral_loss-channel"](Case(64, 64, dtype, samples=1, channels=2))
    arguments = (shifted(input), *others)
    actual = conformance.run(emulated(0), "spectral_loss-channel", arguments)
    for a, e in zip(actual, conformance.expected("spectral_loss-channel", arguments), strict=True):
        assert_close(a, e)


def test_a_plane_of_a_megapixel(emulated: Callable[[int], SimpleNamespace]) -> None:
    conformance.check(emulated(0), "spectral_loss-shared", Case(1024, 1024, samples=1, channels=1))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("call", FUNCTIONS.values())
def test_any_order_of_threads_gives_the_same_bits(
    call: str, seed: int, emulated: Callable[[int], SimpleNamespace]
) -> None:
    arguments = CALLS[call](Case(32, 32, samples=3))
    first, second = (conformance.run(emulated(s), call, arguments) for s in (seed, seed + 100))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# (height, width, kh, kw): kernels as large as the plane, even and odd, more columns and rows than a block has.
OTF_SIZES = [(2, 3, 2, 3), (31, 37, 31, 37), (64, 64, 6, 19), (131, 34, 4, 3), (16, 301, 1, 40)]


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("height, width, kh, kw", OTF_SIZES)
def test_otf_of_large_kernels(
    height: int, width: int, kh: int, kw: int, dtype: torch.dtype, emulated: Callable[[int], SimpleNamespace]
) -> None:
    kernel = kernels((2, 1, kh, kw), dtype)
    assert_close(emulated(0).otf(kernel, height, width), reference.otf(kernel.double(), height, width))
    grad = torch.randn(1, 2, height, width // 2 + 1, dtype=torch.complex128).to(dtype.to_complex())
    expected = reference.otf_backward(grad.to(torch.complex128), width, kh, kw)
    assert_close(emulated(0).otf_backward(grad, width, kh, kw), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", [12, 32])
@pytest.mark.parametrize(
    "call",
    ["rfft2", "spectral_filter-shared", "cross_spectrum-plane", "spectral_loss-sample", "focal_frequency_loss-log"],
)
def test_nan_and_inf_stay_in_their_plane(
    call: str, side: int, bad: float, emulated: Callable[[int], SimpleNamespace]
) -> None:
    arguments = CALLS[call](Case(side, side))
    arguments[0][0, 1, 2, 3] = bad
    actual, expected = conformance.run(emulated(0), call, arguments), conformance.expected(call, arguments)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a.isfinite(), e.isfinite())
        assert_close(a.where(a.isfinite(), 0), e.where(e.isfinite(), 0))
