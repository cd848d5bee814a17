"""The CPU kernels compiled for aarch64, run by qemu: every op against float64, and against the kernels of x86."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import conformance
import pytest
import standalone
import torch
from conformance import CALLS, TAKING_IMAGES, Case

from blurfft import _ext

pytestmark = [
    pytest.mark.skipif(standalone.unavailable("arm") is not None, reason=str(standalone.unavailable("arm"))),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def operators() -> Iterator[standalone.Operators]:
    operators = standalone.Operators("arm")
    yield operators
    operators.close()


f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
# Every radix, primes by both kinds of convolution, rows 0 and H/2 in one lane and apart; layouts and dtypes.
CASES = [
    Case(1, 1, f32),
    Case(16, 12, f32),
    Case(64, 28, f32),
    Case(35, 22, f64),
    Case(26, 8, f64),
    Case(17, 46, f32),
    Case(47, 34, f64),
    Case(9, 7, f32, "channels_last", "channels_last"),
    Case(8, 30, f64, "transposed", "sliced"),
    Case(32, 24, bf16, "channels_last", "contiguous"),
    Case(15, 16, f16),
    Case(64, 24, f32, content="mean-1000"),
    Case(32, 20, f64, content="bytes"),
]


def calls(case: Case) -> list[str]:
    return [call for call in CALLS if call in TAKING_IMAGES or case.dtype.itemsize > 2]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op(operators: standalone.Operators, case: Case) -> None:
    for call in calls(case):
        conformance.check(operators, call, case)


@pytest.fixture
def x86() -> Iterator[Any]:
    """The operators of this machine, on vectors as wide as Arm's."""
    extension = _ext.module()
    if extension is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("there are no kernels of x86 here")
    before = extension.cpu_capability()
    extension.set_cpu_capability("baseline")
    yield torch.ops.blurfft_cpu
    extension.set_cpu_capability(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op_as_on_x86(operators: standalone.Operators, x86: Any, case: Case) -> None:
    """The same operations in the same order, of which Arm rounds a product and a sum once, baseline x86 twice. So they
    differ by a few roundings of the largest entry (seen: 3), however far a hard case amplifies errors of its input."""
    for call in calls(case):
        arguments = CALLS[call](case)
        pairs = zip(conformance.run(operators, call, arguments), conformance.run(x86, call, arguments), strict=True)
        for actual, expected in pairs:
            largest = expected.abs().max().item() if expected.numel() else 0.0
            roundings = 8 * torch.finfo(expected.dtype).eps * largest
            assert torch.allclose(actual, expected, rtol=0.0, atol=roundings, equal_nan=True), call


@pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
def test_every_number_in_half_precision(operators: standalone.Operators, dtype: torch.dtype) -> None:
    """A plane of one pixel is its own transform: what is left is the conversion."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(-1, 1, 1, 1)
    wide = operators.rfft2(numbers, 1.0).real
    torch.testing.assert_close(wide, numbers.float(), rtol=0, atol=0, equal_nan=True)
    # Factors that lead between two numbers, to halves between them, below the smallest and above the largest.
    for factor in (1.0, 1 + 2**-9, 1 + 2**-12, 0.75, 1.9, 2.0**-9):
        narrow = operators.spectral_filter(numbers, torch.full((1, 1, 1, 1), factor))
        torch.testing.assert_close(narrow, (numbers.float() * factor).to(dtype), rtol=0, atol=0, equal_nan=True)


def test_results_do_not_depend_on_the_number_of_threads(operators: standalone.Operators) -> None:
    arguments = CALLS["wiener_loss-nll-shared"](Case(24, 18, samples=30))
    one = operators.wiener_loss(*arguments)
    operators.threads = 3
    three = operators.wiener_loss(*arguments)
    operators.threads = 1
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_vectors_are_those_of_neon() -> None:
    objdump = shutil.which("aarch64-linux-gnu-objdump")
    assert objdump is not None, "binutils come with the compiler"
    routines = standalone.build("arm").with_name("routines.cpu.o")
    code = subprocess.run([objdump, "-d", "--no-show-raw-insn", routines], capture_output=True, text=True).stdout
    for lanes in ("4s", "2d"):
        products = re.findall(rf"\t(?:fmla|fmls|fmul)\tv\d+\.{lanes},", code)
        assert len(products) > 1000, f"{len(products)} products of vectors of {lanes}"
