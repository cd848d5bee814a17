"""The operators of ``csrc/cuda``, all but the device and the stream, on tensors of the CPU: their kernels run in the
emulator of ``tests/simt``, which also says where they touch what they should not.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import conformance
import pytest
import simt
import torch
from conformance import CALLS, Case

pytestmark = pytest.mark.skipif(simt.unavailable() is not None, reason=str(simt.unavailable()))


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    library = simt.load("ops")
    library.simt_complaint.restype = ctypes.c_char_p
    library.simt_seed.argtypes = [ctypes.c_uint64]
    return library


@pytest.fixture(params=[0, 1], ids="seed{}".format)
def functions(request: pytest.FixtureRequest, library: ctypes.CDLL) -> SimpleNamespace:
    """The operators, each of which draws the order of its threads from the seed."""

    def emulated(name: str):
        def call(*arguments):
            library.simt_seed(request.param)
            result = getattr(torch.ops.blurfft_simt, name)(*arguments)
            assert library.simt_complaint() == b"", library.simt_complaint().decode()
            return result

        return call

    return SimpleNamespace(**{name: emulated(name) for name in {call.partition("-")[0] for call in CALLS}})


f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16

# Every radix, odd lengths, a single row and column.
CASES = [
    Case(8, 12, f32),
    Case(9, 7, f64, "transposed", "channels_last"),
    Case(5, 16, bf16, "channels_last", "channels_last", samples=1),
    Case(14, 10, f16, "sliced", "expanded", channels=2),
    Case(1, 6, f32),
    Case(4, 1, f64),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_operators(call: str, case: Case, functions: SimpleNamespace) -> None:
    conformance.check(functions, call, case)
