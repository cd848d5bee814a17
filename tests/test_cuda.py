"""The CUDA kernels, run thread by thread in the emulator of ``tests/simt``, against float64."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import simt
import torch
from inputs import kernels
from tolerances import assert_close
from torch import Tensor

from blurfft._backends import reference

pytestmark = pytest.mark.skipif(simt.unavailable() is not None, reason=str(simt.unavailable()))

REALS = [torch.float32, torch.float64]


class Emulated:
    """The functions of a backend module, each launch with its threads in an order drawn from ``seed``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.seed = 0

    def call(self, name: str, dtype: torch.dtype, *arguments: Any) -> None:
        function = getattr(self.library, f"emulated_{name}")
        function.restype = ctypes.c_char_p
        converted = [
            ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a if a is None else ctypes.c_int64(a)
            for a in arguments
        ]
        message = function(ctypes.c_bool(dtype == torch.float64), ctypes.c_uint64(self.seed), *converted)
        assert message is None, message.decode()

    def otf(self, kernel: Tensor, height: int, width: int) -> Tensor:
        out = kernel.new_empty(*kernel.shape[:2], height, width // 2 + 1, dtype=kernel.dtype.to_complex())
        count = kernel.shape[0] * kernel.shape[1]
        self.call("otf", kernel.dtype, kernel, count, *kernel.shape[2:], height, width, out)
        return out

    def otf_backward(self, grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
        out = grad.new_empty(*grad.shape[:2], kh, kw, dtype=grad.dtype.to_real())
        count = grad.shape[0] * grad.shape[1]
        self.call("otf_backward", out.dtype, grad, count, kh, kw, grad.shape[2], width, out)
        return out


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return simt.load("kernels")


@pytest.fixture(params=[0, 1], ids="seed{}".format)
def emulated(request: pytest.FixtureRequest, library: ctypes.CDLL) -> Emulated:
    emulated = Emulated(library)
    emulated.seed = request.param
    return emulated


# (height, width, kh, kw): one tap, even and odd, as large as the plane, more columns and rows than a block has.
OTF_SIZES = [
    (1, 1, 1, 1),
    (2, 3, 2, 3),
    (28, 28, 5, 7),
    (31, 37, 31, 37),
    (64, 64, 6, 19),
    (131, 34, 4, 3),
    (16, 301, 1, 40),
]


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("height, width, kh, kw", OTF_SIZES)
def test_otf(height: int, width: int, kh: int, kw: int, dtype: torch.dtype, emulated: Emulated) -> None:
    kernel = kernels((2, 1, kh, kw), dtype)
    assert_close(emulated.otf(kernel, height, width), reference.otf(kernel.double(), height, width))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("height, width, kh, kw", OTF_SIZES)
def test_otf_backward(height: int, width: int, kh: int, kw: int, dtype: torch.dtype, emulated: Emulated) -> None:
    grad = torch.randn(1, 2, height, width // 2 + 1, dtype=torch.complex128).to(dtype.to_complex())
    expected = reference.otf_backward(grad.to(torch.complex128), width, kh, kw)
    assert_close(emulated.otf_backward(grad, width, kh, kw), expected)
