"""The compiled CPU kernels: every instruction set of this machine, every radix, threads, and the widest vectors."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import conformance
import numpy as np
import pytest
import torch
from conformance import CALLS, CONTENTS, TAKING_IMAGES, Case
from inputs import images, kernels
from standalone import operator_sources
from tolerances import assert_close

import blurfft
from blurfft import _ext
from blurfft import reference as formulas
from blurfft._backends import reference

extension = _ext.module()
pytestmark = pytest.mark.skipif(extension is None, reason=str(_ext.why_not()))
CAPABILITIES = extension.cpu_capabilities() if extension else ["none"]
CSRC = Path(__file__).resolve().parents[1] / "csrc"

# Every radix first, last and alone; odd, prime, one wide, not square.
SIZES = [
    *((1, 1), (2, 3), (1, 14), (15, 1), (4, 5), (7, 8), (9, 10), (12, 21), (16, 49), (25, 16)),
    *((28, 28), (35, 30), (64, 64), (63, 128), (96, 40), (160, 18), (2, 2048), (2048, 6)),
    *((11, 13), (26, 22), (17, 19), (23, 1), (1, 29), (34, 51), (109, 89), (127, 4), (289, 3), (6, 323), (47, 83)),
]


@pytest.fixture(params=CAPABILITIES)
def capability(request: pytest.FixtureRequest) -> Iterator[str]:
    before = extension.cpu_capability()
    extension.set_cpu_capability(request.param)
    yield request.param
    extension.set_cpu_capability(before)


def check_every_op(ops: Any, case: Case) -> None:
    for call in CALLS:
        if call in TAKING_IMAGES or case.dtype.itemsize > 2:
            conformance.check(ops, call, case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_radix(capability: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    check_every_op(torch.ops.blurfft_cpu, Case(*size, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("content", CONTENTS)
def test_hard_images(capability: str, content: str, dtype: torch.dtype) -> None:
    # Rows 0 and H/2 share a transform.
    check_every_op(torch.ops.blurfft_cpu, Case(64, 24, dtype, content=content))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("layout", "channels"), [("channels_last", 3), ("channels_last", 20), ("transposed", 3), ("sliced", 3)]
)
@pytest.mark.parametrize("size", [(9, 7), (28, 30), (64, 64), (34, 19)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_layout(capability: str, layout: str, channels: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    check_every_op(torch.ops.blurfft_cpu, Case(*size, dtype, layout, layout, channels=channels))


# Many small planes, and large ones that are too few for the threads, which then share them.
@pytest.mark.parametrize("shape", [(120, 3, 64, 48), (1, 3, 256, 270), (1, 1, 315, 245), (1, 1, 257, 271)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(
    capability: str, layout: torch.memory_format, shape: tuple[int, int, int, int]
) -> None:
    x, y = (images(shape, torch.float32).contiguous(memory_format=layout) for _ in range(2))
    kernel, constant = torch.rand(1, 1, 5, 5), torch.full((1, 1), 0.1)
    half = torch.fft.rfft2(y)
    ops = torch.ops.blurfft_cpu
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3, 7):
        torch.set_num_threads(count)
        results.append(
            [
                *ops.wiener_loss(x, y, kernel, constant, constant, 1.0, True, False, True, True),
                *ops.focal_frequency_loss(x, y, 1.0, False, 1.0, False, True),
                ops.spectral_filter(x, half[:1, :1].contiguous()),
                ops.rfft2(x, 1.0),
                ops.irfft2(half, shape[3], 1.0),
            ]
        )
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_streaming_stores_write_everything(capability: str) -> None:
    # Gradients of 4 MiB and more are written past the caches.
    x, y = torch.randn(100, 3, 64, 64), torch.randn(100, 3, 64, 64)
    weight = torch.rand(1, 1, 64, 33)
    _, grad, _ = torch.ops.blurfft_cpu.spectral_loss(x, y, weight, 1.0, False, True, False)
    _, expected, _ = reference.spectral_loss(x.double(), y.double(), weight.double(), 1.0, False, True, False)
    assert_close(grad, expected)


@pytest.mark.parametrize(("fp64", "largest"), [(False, 47), (True, 89)])
def test_plans(fp64: bool, largest: int) -> None:
    """Primes up to the largest are transformed by the definition, or by butterflies; larger ones are convolutions."""
    for n in range(1, extension.max_length + 1):
        radices = extension.radices(n)
        assert math.prod(radices) == n and extension.supports_length(n)
        for radix in radices:
            assert radix in (4, 8) or all(radix % d for d in range(2, math.isqrt(radix) + 1))
            length = extension.convolution_length(radix, fp64)
            assert (length == 0) == (radix <= largest)
            if length > 0:
                # A convolution of p - 1 values goes round, or has room for all that it makes.
                assert length == radix - 1 or length >= 2 * radix - 3
                parts = extension.radices(length)
                assert parts[0] in (2, 4, 8) and max(parts) <= largest, "a convolution within another"
    assert not extension.supports_length(0) and not extension.supports_length(extension.max_length + 1)
    with pytest.raises(RuntimeError, match="transform lengths from 1 to 4096; the width is 4097"):
        torch.ops.blurfft_cpu.rfft2(torch.zeros(8, 4097), 1.0)


# All up to 600, a sample beyond: with it primes of every kind, their squares and their products.
LENGTHS = [*range(1, 601), *range(601, 4096, 97), 647, 961, 1021, 1223, 1681, 2039, 2887, 4079, 4087, 4093]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_transforms_of_every_length(capability: str, dtype: torch.dtype) -> None:
    ops = torch.ops.blurfft_cpu
    for n in LENGTHS:
        for size in ((n, 3), (2, n)):
            x = images(size, dtype) + 1
            half = torch.fft.rfft2(x.double())
            assert_close(ops.rfft2(x, 1.0), half)
            assert_close(ops.irfft2(half.to(dtype.to_complex()), size[1], 1 / math.prod(size)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_of_every_length(dtype: torch.dtype) -> None:
    for n in LENGTHS:
        for size in ((n, 2), (3, n)):
            conformance.check(torch.ops.blurfft_cpu, "wiener_loss-shared", Case(*size, dtype, samples=1, channels=1))


def wide(values: torch.Tensor) -> Any:
    """For a truth beyond the precision of ``values``, as an array of NumPy."""
    if values.is_complex():
        return wide(values.real) + 1j * wide(values.imag)
    return values.numpy().astype(np.longdouble if values.dtype == torch.float64 else np.float64)


def rms_error(actual: torch.Tensor, truth: Any) -> float:
    """Relative to the rms of the truth."""
    return math.sqrt((abs(wide(actual) - truth) ** 2).sum() / (abs(truth) ** 2).sum())


# Primes of every kind and their products, the sides of the benchmarks, and some larger ones.
AWKWARD = [
    *((17, 17), (17, 19), (23, 23), (29, 31), (34, 51), (37, 41), (43, 43), (47, 83), (53, 59), (61, 67), (71, 73)),
    *((79, 94), (89, 97), (103, 107), (109, 109), (121, 143), (127, 127), (163, 163), (218, 178), (227, 227)),
    *((251, 251), (289, 289), (293, 293), (436, 436), (509, 509), (584, 584), (1021, 64), (163, 1), (431, 1)),
    *((1, 109), (1, 163), (1, 431), (1, 4093), (2, 2039)),
]
# The quotients were measured with AVX2 on an AMD EPYC. On other processors torch.fft takes other kernels of the MKL.
OTHER_PROCESSORS = 0.15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", AWKWARD, ids=lambda s: f"{s[0]}x{s[1]}")
def test_awkward_sizes_are_as_accurate_as_in_torch(size: tuple[int, int], dtype: torch.dtype) -> None:
    if dtype == torch.float64 and np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("NumPy has nothing beyond float64 here")
    count = max(1, round(40000 / math.prod(size)))
    x, y = images((count, 1, *size), dtype), images((count, 1, *size), dtype)
    weight = formulas.wiener_weight(kernels((5, 5), torch.float64), size).to(dtype)
    spectrum = np.fft.rfft2(wide(x))
    half = torch.from_numpy(spectrum.astype(np.complex128)).to(dtype.to_complex())
    loss = x, y, weight, 0.5, False, True, False
    ops = torch.ops.blurfft_cpu
    for actual, other, truth in (
        (ops.rfft2(x, 1.0), torch.fft.rfft2(x), spectrum),
        (
            ops.irfft2(half, size[1], 1 / math.prod(size)),
            torch.fft.irfft2(half, s=size),
            np.fft.irfft2(wide(half), s=size),
        ),
        (
            ops.spectral_loss(*loss)[1],
            reference.spectral_loss(*loss)[1],
            np.fft.irfft2(wide(weight) * np.fft.rfft2(wide(x) - wide(y)), s=size),
        ),
    ):
        # Of two estimates from so many errors: five standard deviations of their quotient, or more.
        spread = 5 / math.sqrt(truth.size)
        assert rms_error(actual, truth) <= (1 + OTHER_PROCESSORS + spread) * rms_error(other, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [(1, 601), (1, 647), (1, 1223), (1, 4096), (3, 2048), (16, 4096)], ids=str)
def test_losses_of_long_rows_are_added_up_without_loss(size: tuple[int, int], dtype: torch.dtype) -> None:
    """A chain of so many additions would err by more than this."""
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("NumPy has nothing beyond float64 here")
    shape = max(4, 100_000 // math.prod(size)), 1, *size
    x, y = images(shape, dtype), images(shape, dtype)
    weight = formulas.wiener_weight(kernels((1, 5), torch.float64), size).to(dtype)
    loss, _, _ = torch.ops.blurfft_cpu.spectral_loss(x, y, weight, 1.0, True, False, False)
    power = abs(np.fft.rfft2(wide(x) - wide(y))) ** 2 / math.prod(size)
    truth = (wide(weight) * formulas.multiplicity(size[1], x).numpy() * power).sum(axis=(1, 2, 3))
    assert rms_error(loss, truth) <= 2 * torch.finfo(dtype).eps


def relative_error(actual: torch.Tensor, truth: torch.Tensor) -> float:
    return ((actual.to(truth) - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize(
    "size",
    [(17, 19), (109, 109), (127, 127), (251, 251), (509, 509), (1021, 64), (218, 178), (121, 143), (89, 97)],
    ids=lambda s: f"{s[0]}x{s[1]}",
)
def test_a_large_mean_costs_awkward_sizes_no_more_digits_than_in_torch(size: tuple[int, int]) -> None:
    x = images((3, *size), torch.float32) + 100
    truth = torch.fft.rfft2(x.double())
    half = truth.to(torch.complex64)
    ours, theirs = torch.ops.blurfft_cpu.rfft2(x, 1.0), torch.fft.rfft2(x)
    inverse = torch.ops.blurfft_cpu.irfft2(half, size[1], 1 / math.prod(size))
    results = [
        (ours, theirs, truth),
        (inverse, torch.fft.irfft2(half, s=size), torch.fft.irfft2(half.to(truth), s=size)),
        tuple(spectrum.flatten(1)[:, 1:] for spectrum in (ours, theirs, truth)),  # what lies on the mean
    ]
    for actual, other, expected in results:
        # The first two are the error of a single number, the mean, which is chance.
        assert relative_error(actual, expected) <= max(1.1 * relative_error(other, expected), 1.2e-7)


# Lines that are transformed part by part, with every kind of stage first.
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "size",
    [(8, 512), (1024, 6), (4, 729), (625, 4), (2401, 5), (2, 4096), (2058, 3), (4, 509), (4087, 2), (3, 1331)],
    ids=str,
)
def test_long_lines(capability: str, size: tuple[int, int], dtype: torch.dtype, layout: str) -> None:
    check_every_op(torch.ops.blurfft_cpu, Case(*size, dtype, layout, layout, samples=1, channels=2))


# Images that end where memory does: any number of interleaved planes, and of columns behind the last whole vector.
_TO_THE_END_OF_MEMORY = """
import ctypes, itertools, mmap, sys
import torch, blurfft
import blurfft
from blurfft import _ext, reference as formulas

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
PRIVATE_ANONYMOUS, NONE = 0x22, 0

def tensor(shape, dtype, layout):
    count = shape[0] * shape[1] * shape[2] * shape[3]
    size = count * dtype.itemsize
    whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    start = libc.mmap(None, whole + mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    assert libc.mprotect(start + whole, mmap.PAGESIZE, NONE) == 0
    held.append((start, whole + mmap.PAGESIZE))
    values = (ctypes.c_char * size).from_address(start + whole - size)
    n, c, h, w = shape
    flat = torch.frombuffer(values, dtype=dtype, count=count)
    flat.uniform_()
    return flat.view(n, h, w, c).permute(0, 3, 1, 2) if layout == "channels_last" else flat.view(shape)

held = []
_ext.module().set_cpu_capability(sys.argv[1])
torch.set_num_threads(1)
kernel = torch.rand(3, 1)
for layout, c, w, dtype in itertools.product(
    ("channels_last", "contiguous"), range(1, 18), (1, 2, 3, 5, 7, 9, 15, 28), (torch.float32, torch.float64)
):
    if layout == "contiguous" and c > 1:
        continue
    shape = 1, c, 8, w
    image, other = tensor(shape, dtype, layout), tensor(shape, dtype, layout)
    blurfft.blur(image, kernel)
    blurfft.wiener_loss(image.requires_grad_(), other, kernel).backward()
    del image, other
    while held:
        libc.munmap(*held.pop())
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects memory by Linux's numbers")
@pytest.mark.parametrize("name", CAPABILITIES)
def test_nothing_is_read_beyond_an_image(name: str) -> None:
    run = subprocess.run([sys.executable, "-c", _TO_THE_END_OF_MEMORY, name], capture_output=True, text=True)
    assert run.stdout.strip() == "done", (run.returncode, run.stderr[-2000:])


@pytest.mark.parametrize("name", CAPABILITIES)
def test_environment_forces_an_instruction_set(name: str) -> None:
    code = "import blurfft._ext as e; print(e.module().cpu_capability())"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"BLURFFT_CPU": name}, capture_output=True, text=True
    )
    assert run.stdout.strip() == name, run.stderr


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"is 'sse9', but this build on this machine has: .*baseline"):
        extension.set_cpu_capability("sse9")


def test_an_empty_kernel_is_refused() -> None:
    x, constant = torch.zeros(1, 1, 4, 4), torch.ones(1, 1)
    with pytest.raises(RuntimeError, match="must not be empty"):
        torch.ops.blurfft_cpu.wiener_loss(
            x, x, torch.zeros(0, 1, 3, 3), constant, constant, 1.0, False, False, True, True
        )


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


IMAGES, ONE, FLAGS = zeros(2, 1, 8, 8), zeros(1, 1), (False, True, True)
HALF, DOUBLE = torch.complex64, torch.float64


@pytest.mark.parametrize(
    ("op", "args", "fault"),
    [
        ("rfft2", (zeros(5), 1.0), "input must have at least 2 dimensions"),
        ("irfft2", (zeros(1, 8, 5, dtype=HALF), 20, 1.0), "input must lie on the half spectrum"),
        ("irfft2", (zeros(1, 8, 5), 8, 1.0), "input must be complex"),
        ("otf", (zeros(1, 1, 9, 3), 8, 8), "kernel must be no larger"),
        ("otf_backward", (zeros(1, 1, 8, 5, dtype=HALF), 20, 3, 3), "grad must lie on the half spectrum"),
        ("otf_backward", (zeros(1, 1, 8, 5, dtype=HALF), 8, 3, 9), "kernel must be no larger"),
        ("spectral_filter", (IMAGES, zeros(1, 1, 8, 4)), "transfer must lie on the half spectrum"),
        ("spectral_filter", (IMAGES, zeros(3, 1, 8, 5)), "transfer must be of 1 or N samples"),
        ("spectral_filter", (IMAGES, zeros(8, 5)), "transfer must have 4 dimensions"),
        ("spectral_filter", (IMAGES.double(), zeros(1, 1, 8, 5, dtype=HALF)), "transfer must have scalar type"),
        ("cross_spectrum", (IMAGES, zeros(2, 1, 8, 9), 1, 1, True), "a and b must have the same shape"),
        ("cross_spectrum", (IMAGES, IMAGES, 3, 1, True), "n and c must be 1 or"),
        ("spectral_loss", (IMAGES, zeros(2, 1, 8, 9), zeros(8, 5), 1.0, *FLAGS), "input and target must have the same"),
        ("spectral_loss", (IMAGES, IMAGES.double(), zeros(8, 5), 1.0, *FLAGS), "target must have scalar type"),
        ("spectral_loss", (IMAGES, IMAGES, zeros(8, 4), 1.0, *FLAGS), "weight must lie on the half spectrum"),
        ("spectral_loss", (IMAGES, IMAGES, zeros(1, 2, 8, 5), 1.0, *FLAGS), "weight must be of 1 or N samples"),
        ("wiener_loss", (IMAGES, IMAGES, zeros(9, 3), ONE, ONE, 1.0, True, *FLAGS), "kernel must be no larger"),
        ("wiener_loss", (IMAGES, IMAGES, zeros(3, 3), zeros(3, 1), ONE, 1.0, True, *FLAGS), "nsr must be of 1 or N"),
        ("wiener_loss", (IMAGES, IMAGES, zeros(3, 3), ONE, zeros(1), 1.0, True, *FLAGS), "eps must have 2 dimensions"),
        ("blur_mse", (IMAGES, IMAGES, zeros(3, 3, dtype=DOUBLE), 1.0, *FLAGS), "kernel must have scalar type"),
        ("focal_frequency_loss", (IMAGES, zeros(1, 1, 8, 8), 1.0, False, 1.0, False, True), "must have the same shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(op: str, args: tuple[Any, ...], fault: str) -> None:
    """Not read beyond their ends: a graph may hold the sizes of an example."""
    with pytest.raises(RuntimeError, match=fault):
        getattr(torch.ops.blurfft_cpu, op)(*args)


# A process can load it once only, and other files' tests may come between this one's.
@pytest.fixture(scope="session")
def wide_ops(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The kernels with the vectors of AVX-512, made of whatever this machine has."""
    if not CSRC.is_dir():
        pytest.skip("the sources are not here")
    from torch.utils.cpp_extension import include_paths, library_paths

    folder = tmp_path_factory.mktemp("wide")
    compiler = os.environ.get("CXX", "c++").split()
    avx2 = ["-mavx2", "-mfma", "-mf16c"] if "avx2" in CAPABILITIES else []
    flags = [
        *("-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wno-psabi", "-Dblurfft_cpu=blurfft_wide"),
        *("-DTORCH_TARGET_VERSION=0x020b000000000000", *(f"-I{path}" for path in include_paths())),
        *("-DBLURFFT_CPU_CAPABILITY=baseline", "-DBLURFFT_VECTOR_BYTES=64"),
    ]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        extra = avx2 if source.name == "routines.cpp" else []
        subprocess.run([*compiler, *flags, *extra, "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, operator_sources(folder)))
    library = folder / "wide.so"
    paths = [f"-L{path}" for path in library_paths()]
    subprocess.run([*compiler, "-shared", *map(str, objects), *paths, "-ltorch_cpu", "-o", str(library)], check=True)
    torch.ops.load_library(str(library))
    return torch.ops.blurfft_wide


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1), (4, 6), (9, 7), (28, 28), (64, 64), (35, 96), (17, 46)], ids=lambda s: f"{s[0]}x{s[1]}"
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_widest_vectors(wide_ops: Any, layout: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    check_every_op(wide_ops, Case(*size, dtype, layout, layout))


def test_rows_that_share_a_transform_do_not_share_their_error(capability: str) -> None:
    """The mean of these images is far larger than all else, and has no weight; row H/2 has one."""
    laplacian = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]) / 8
    for dtype, tolerance in ((torch.float32, 2e-4), (torch.float64, 1e-12)):
        for _ in range(20):
            x = 1000 + 0.1 * torch.randn(1, 1, 64, 64, dtype=dtype)
            arguments = x, torch.zeros_like(x), laplacian.to(dtype)
            truth = formulas.wiener_loss(*(t.double() for t in arguments), nsr=0.1)
            loss = blurfft.wiener_loss(*arguments, nsr=0.1)
            assert loss.item() == pytest.approx(truth.item(), rel=tolerance)


@pytest.mark.parametrize("name", conformance.RANGE)
def test_range(capability: str, name: str) -> None:
    conformance.RANGE[name](torch.ops.blurfft_cpu)
