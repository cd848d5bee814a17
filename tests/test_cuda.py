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
    Case(14, 22, f16, "sliced", "expanded", channels=2),
    Case(13, 17, f32, "sliced", "transposed"),
    Case(94, 19, f64, samples=1),
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


# Kernels of a whole plane double what they transform, of half of the largest number already to infinity.
RANGE = [name for name in conformance.RANGE if not name.startswith("largest-numbers")]


@pytest.mark.parametrize("name", RANGE)
def test_range(name: str, emulated: Callable[[int], SimpleNamespace]) -> None:
    conformance.RANGE[name](emulated(0))


# Sizes with kernels of their own for every op, then lengths that are cut at run time.
LARGE = [
    Case(64, 64, f32, "channels_last", "channels_last"),
    Case(128, 128, f32, samples=1, channels=2),
    Case(256, 256, bf16, samples=1, channels=1),
    Case(112, 300, f64, samples=1, channels=1),
    Case(2048, 6, f16, samples=1, channels=1),
    Case(218, 178, f32, samples=1, channels=1),
    Case(2039, 3, f64, samples=1, channels=1),
    Case(4, 2021, bf16, samples=1, channels=1),
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


# Each kind of length: radices 11 and 13; primes that are summed directly, a square of one, products with others; larger
# primes p, of which p - 1 has small factors or not, with and without others; the longest of all.
LENGTHS = [121, 143, 17, 34, 47, 94, 89, 109, 127, 178, 251, 289, 509, 578, 799, 1021, 1513, 2021, 2039]


# A large mean is what costs convolutions and sums accuracy; the difference of two images, which a loss transforms, has
# none.
@pytest.mark.parametrize(("dtype", "mean"), [(f32, 30), (f32, 0), (f64, 30)])
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_with_any_prime_factor_are_about_as_exact_as_torch_s(
    length: int, dtype: torch.dtype, mean: float, emulated: Callable[[int], SimpleNamespace]
) -> None:
    fft = pytest.importorskip("scipy.fft")

    def error(actual: torch.Tensor, exact: Any) -> float:
        return float((abs(actual.numpy() - exact).ravel() ** 2)[1:].sum() ** 0.5)  # without that of the sum, one number

    # Of few numbers the error varies; and a GPU fuses multiplications with additions, as torch does here and the
    # emulator does not: that is a tenth. On other processors torch.fft takes other kernels of the MKL.
    image = (torch.randn(1, 1, length, 16 if length < 150 else 2, dtype=f64) + mean).to(dtype)
    for rows in (image, image.transpose(2, 3).contiguous()):
        exact = rows.numpy().astype("longdouble")
        half = emulated(length).rfft2(rows, 1.0)
        assert error(half, fft.rfft2(exact)) <= 1.75 * error(torch.fft.rfft2(rows), fft.rfft2(exact))
        spectrum = torch.from_numpy(fft.rfft2(exact).astype("complex128"))
        assert_close(half, spectrum)
        back = emulated(length).irfft2(spectrum.to(half.dtype), rows.shape[3], 1 / rows[0, 0].numel())
        usual = torch.fft.irfft2(spectrum.to(half.dtype), rows.shape[2:])
        assert error(back, exact) <= 1.75 * error(usual, exact)


def test_scaling_in_place(library: ctypes.CDLL) -> None:
    def scale(tensors: list[torch.Tensor], factor: float, dtype: torch.dtype) -> None:
        torch.ops.blurfft_simt.scale_(tensors, torch.tensor(factor, dtype=dtype))
        assert library.simt_complaint() == b""

    layouts = [torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last), torch.randn(4, 1).bfloat16()]
    for dtype, tensors in (
        (f32, [*layouts, *torch.randn(5, 300).unbind(), torch.randn(70_000)]),
        (f64, [torch.randn(3, 2, dtype=f64)]),
    ):
        before = [t.clone() for t in tensors]
        scale(tensors, 1.0, dtype)
        assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))
        scale(tensors, -1.7, dtype)
        factor = torch.tensor(-1.7, dtype=dtype)
        assert all(torch.equal(t, (factor * b.to(dtype)).to(b.dtype)) for t, b in zip(tensors, before, strict=True))
    with pytest.raises(RuntimeError, match="must not have gaps or overlap"):
        scale([torch.randn(4, 4)[:, ::2]], 1.0, f32)


@pytest.mark.parametrize("call", ["wiener_loss-shared", "wiener_loss-nll-shared", "wiener_loss-value"])
def test_numbers_that_the_host_knows(
    call: str, library: ctypes.CDLL, emulated: Callable[[int], SimpleNamespace]
) -> None:
    arguments = CALLS[call](Case(9, 12, f32, channels=1))
    expected = conformance.run(emulated(0), call, arguments)
    library.simt_numbers_on_host(True)
    try:
        actual = torch.ops.blurfft_simt.wiener_loss(*arguments)
    finally:
        library.simt_numbers_on_host(False)
    on_host = [arguments[i].numel() == 1 for i in (3, 4)]
    assert any(on_host)
    # The same numbers, and no gradient of what the host knows.
    wanted = iter(expected)
    for i, result in enumerate(actual):
        if i > 2 and on_host[i - 3] and arguments[9]:
            assert result is None
            next(wanted)
        elif result is not None:
            assert torch.equal(result, next(wanted))


@pytest.mark.parametrize("side", [32, 64, 128, 256])
@pytest.mark.parametrize("dtype", [f32, bf16])
def test_variants(side: int, dtype: torch.dtype, library: ctypes.CDLL) -> None:
    ops = torch.ops.blurfft_simt
    names = ops.variant_names(side, side).split()
    assert len(names) == (1 if side == 256 else 8)
    # More planes than the emulated device has blocks for.
    case = Case(side, side, dtype, samples=3 if side < 128 else 1, channels=3 if side < 256 else 1)
    input, target, weight, scale, *_ = CALLS["spectral_loss-shared"](case)
    expected = reference.spectral_loss(input.double(), target.double(), weight.double(), scale, False, True, False)
    for name in names:
        actual = ops.spectral_loss_variant(name, input, target, weight, scale)
        assert library.simt_complaint() == b"", name
        for a, e in zip(actual, expected, strict=False):
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
