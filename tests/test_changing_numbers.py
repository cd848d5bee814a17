"""Annealing: numbers that change in every call cost neither graphs nor memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inputs import images, kernels
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import blurfft
from blurfft.ops import _fastpath

f32 = torch.float32
SHAPE = (2, 3, 8, 6)
x, y, k = images(SHAPE, f32), images(SHAPE, f32), kernels((3, 3), f32)

FUNCTIONS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "wiener_loss-nsr": lambda x, v: blurfft.wiener_loss(x, y, k, v),
    "wiener_loss-eps": lambda x, v: blurfft.wiener_loss(x, y, k, eps=v),
    "wiener_nll-both": lambda x, v: blurfft.wiener_nll(x, y, k, v, eps=v, reduction="sum"),
    "wiener_loss-map": lambda x, v: blurfft.wiener_loss(x, y, k, v, reduction="none"),
    "wiener_filter-nsr": lambda x, v: blurfft.wiener_filter(x, k, v),
    "wiener_weight-both": lambda x, v: x.sum() * blurfft.wiener_weight(k, (8, 6), v, v),
    "focal_frequency_loss-alpha": lambda x, v: blurfft.focal_frequency_loss(x, y, v),
    "focal_frequency_loss-loss_weight": lambda x, v: blurfft.focal_frequency_loss(x, y, loss_weight=v),
    "focal_frequency_loss-batch": lambda x, v: blurfft.focal_frequency_loss(x, y, v, batch_matrix=True, loss_weight=v),
}
NUMBERS = {"float": float, "float32": np.float32, "float64": np.float64}


def value_and_gradient(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = function(leaf)
    return value, torch.autograd.grad(value.sum(), leaf)[0]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_most_three_graphs(name: str, number: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend=counter)
    for i in range(6):
        v = NUMBERS[number](0.3 * (i + 1))
        expected = value_and_gradient(lambda x, v=v: FUNCTIONS[name](x, v))  # type: ignore[misc]
        torch.testing.assert_close(value_and_gradient(lambda x, v=v: compiled(x, v)), expected)  # type: ignore[misc]
    assert counter.frame_count <= 3


@pytest.mark.parametrize("kinds", [(float,), (float, int, np.float32, np.float64, np.int64)])
def test_at_most_three_graphs_of_a_module(kinds: tuple[type, ...]) -> None:
    for module, names in (
        (blurfft.WienerLoss(k), ("nsr", "eps")),
        (blurfft.WienerNLL(k), ("nsr", "eps")),
        (blurfft.FocalFrequencyLoss(), ("alpha", "loss_weight")),
    ):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(module, fullgraph=True, backend=counter)
        for i in range(6):
            for name in names:
                setattr(module, name, kinds[i % len(kinds)](0.3 + i))
            torch.testing.assert_close(compiled(x, y), module(x, y))
        assert counter.frame_count <= 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whole_numbers_are_numbers_in_graphs(name: str) -> None:
    """A NumPy scalar is an array to the compiler, of one more kind."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend=counter)
    for i, number in enumerate((float, int, int, float, float)):
        torch.testing.assert_close(compiled(x, number(i + 0.5)), FUNCTIONS[name](x, number(i + 0.5)))
    assert counter.frame_count <= 3
    for i in range(3):
        torch.testing.assert_close(compiled(x, np.int64(i + 1)), FUNCTIONS[name](x, i + 1))
    assert counter.frame_count <= 4
    with pytest.raises(Exception, match="must be"):
        compiled(x, np.bool_(True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_scalars_are_numbers(name: str) -> None:
    for v in (np.float32(0.25), np.float64(0.25), np.float16(0.25), np.int64(2)):
        torch.testing.assert_close(FUNCTIONS[name](x, v), FUNCTIONS[name](x, v.item()), rtol=0, atol=0)
    torch.testing.assert_close(FUNCTIONS[name](x, np.longdouble(0.25)), FUNCTIONS[name](x, 0.25), rtol=0, atol=0)
    assert blurfft.WienerLoss(k, np.float32(0.25)).nsr == 0.25
    assert blurfft.FocalFrequencyLoss(alpha=np.float64(2.0)).alpha == 2.0
    with pytest.raises(TypeError, match="must be a float"):
        FUNCTIONS[name](x, np.bool_(True))


def resident() -> int:
    """The resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_new_numbers_and_shapes_cost_no_memory() -> None:
    def calls(first: int, count: int) -> None:
        for i in range(first, first + count):
            image = torch.ones(1, 1, 8, 2 + i % 61)
            blurfft.wiener_loss(image, 2 * image, k[:2, :2], 1.0 + i, eps=i)
            blurfft.focal_frequency_loss(image, 2 * image, loss_weight=1.0 + i)

    calls(0, 2000)
    before = resident()
    calls(2000, 8000)  # remembered, at 2 KiB each, these would take 32 MiB
    assert resident() - before < 8 << 20
    assert sum(map(len, _fastpath._calls.values())) <= _fastpath.LIMIT
