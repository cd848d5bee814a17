"""What only a GPU can show: streams, graphs, other devices, large tensors, and that nothing waits for the host."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from backends import ON_GPU, Backend
from inputs import images, kernels
from tolerances import assert_close
from torch import Tensor

import blurfft
from blurfft import reference

pytestmark = pytest.mark.cuda
f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16
SHAPE = (6, 3, 64, 48)


@pytest.fixture(params=ON_GPU)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with request.param.serving():
        yield request.param


def every_argument(shape: tuple[int, int, int, int] = SHAPE, dtype: torch.dtype = f32) -> list[Tensor]:
    """input, target, a kernel of each sample, a transfer function's weight."""
    compute = reference.compute_dtype(dtype)
    weight = torch.rand(*shape[2:-1], shape[3] // 2 + 1, dtype=compute)
    args = [images(shape, dtype), images(shape, dtype), kernels((shape[0], 1, 7, 5), compute), weight]
    return [a.requires_grad_() for a in args]


# Each public function that a training step would call.
STEPS: dict[str, Callable[[Any, list[Tensor]], Tensor]] = {
    "wiener_loss": lambda f, a: f.wiener_loss(a[0], a[1], a[2][0, 0], 0.1),
    "wiener_nll": lambda f, a: f.wiener_nll(a[0], a[1], a[2], 0.1),
    "spectral_mse": lambda f, a: f.spectral_mse(a[0], a[1], a[3]),
    "blur_mse": lambda f, a: f.blur_mse(a[0], a[1], a[2]),
    "blur": lambda f, a: f.blur(a[0], a[2]).square().mean(),
    "wiener_filter": lambda f, a: f.wiener_filter(a[0], a[2], 0.1).square().mean(),
    "rfft2": lambda f, a: f.rfft2(a[0], norm="ortho").abs().square().mean(),
    "focal_frequency_loss": lambda f, a: f.focal_frequency_loss(a[0], a[1]),
}


def step(name: str, module: Any, args: list[Tensor]) -> list[Tensor]:
    """The value and all gradients; none where an argument plays no part."""
    value = STEPS[name](module, args)
    grads = torch.autograd.grad(2.0 * value, args, allow_unused=True)
    return [value.detach(), *(g for g in grads if g is not None)]


def truth(name: str, args: list[Tensor]) -> list[Tensor]:
    with torch.device("cpu"):
        return step(name, reference, [a.detach().to("cpu", f64).requires_grad_() for a in args])


def agree(actual: list[Tensor], expected: list[Tensor]) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, 8)


def refill(args: list[Tensor]) -> None:
    """Other numbers in the same memory."""
    for a, b in zip(args, every_argument(tuple(args[0].shape), args[0].dtype), strict=True):
        a.detach().copy_(b.detach())


@pytest.mark.parametrize("name", STEPS)
def test_nothing_waits_for_the_host(name: str, backend: Backend) -> None:
    args = every_argument()
    step(name, blurfft, args)  # compiles, makes tables
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = step(name, blurfft, args)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    agree(actual, truth(name, args))


@pytest.mark.parametrize("name", STEPS)
def test_cuda_graph(name: str, backend: Backend) -> None:
    args = every_argument()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(name, blurfft, args)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(name, blurfft, args)
    for _ in range(2):
        refill(args)
        for result in captured:
            result.fill_(float("nan"))
        graph.replay()
        agree(captured, truth(name, args))


def test_a_graph_of_another_size_leaves_the_first_alone(backend: Backend) -> None:
    # Whatever is kept from one call to the next, such as tables, must outlive a capture.
    small, large = every_argument(), every_argument((2, 3, 128, 96))
    graphs = []
    for args in (small, large):
        for _ in range(2):
            step("wiener_nll", blurfft, args)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step("wiener_nll", blurfft, args)
        graphs.append((graph, captured, args))
    torch.cuda.empty_cache()
    for graph, captured, args in graphs:
        refill(args)
        graph.replay()
        agree(captured, truth("wiener_nll", args))


@pytest.mark.parametrize("name", STEPS)
def test_side_stream(name: str, backend: Backend) -> None:
    args = every_argument()
    expected = step(name, blurfft, args)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        # The inputs appear only after a while, on this stream: a kernel on another one would see NaN.
        late = [torch.full_like(a, float("nan")) for a in args]
        torch.cuda._sleep(50_000_000)
        for a, b in zip(late, args, strict=True):
            a.copy_(b.detach())
        actual = step(name, blurfft, [a.requires_grad_() for a in late])
    torch.cuda.current_stream().wait_stream(side)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


def test_other_device(backend: Backend) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device only")
    for name in STEPS:
        args = every_argument()
        expected = step(name, blurfft, args)
        assert torch.cuda.current_device() == 0
        with torch.device("cuda:1"):
            others = [a.detach().to("cuda:1").requires_grad_() for a in args]
            actual = step(name, blurfft, others)  # while the current device is another one
        assert torch.cuda.current_device() == 0
        assert all(a.device.index == 1 for a in actual)
        agree([a.to("cuda:0") for a in actual], [e.double() for e in expected])


# More than 2^31 elements, so that no 32-bit offset will do. The first and the last samples are looked at.
LARGE = (2**31 // (3 * 64 * 64) + 64, 3, 64, 64)


def require_memory(size: float) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < size:
        pytest.skip(f"needs {size / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} are free")


@pytest.fixture
def uninitialised_memory() -> Iterator[None]:
    """Filling it, as all tests do, would take longer than the test."""
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    yield
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_more_elements_than_32_bits_count(
    memory_format: torch.memory_format, backend: Backend, uninitialised_memory: None
) -> None:
    count = LARGE[0] * LARGE[1] * LARGE[2] * LARGE[3]
    assert count > 2**31
    require_memory(4.5 * 2 * count)  # input, target, gradient, and what a loss is summed from
    x, y = (torch.zeros(LARGE, dtype=bf16).to(memory_format=memory_format) for _ in range(2))
    ends = [slice(0, 4), slice(LARGE[0] - 4, LARGE[0])]
    for end in ends:
        x[end], y[end] = images((4, *LARGE[1:]), bf16), images((4, *LARGE[1:]), bf16)
    kernel = kernels((7, 7), f32)
    x.requires_grad_()
    loss = blurfft.wiener_loss(x, y, kernel, 0.1, reduction="sum")
    (grad,) = torch.autograd.grad(loss, x)
    total = torch.zeros((), dtype=f64)
    for end in ends:
        part = x[end].detach().double().requires_grad_()
        value = reference.wiener_loss(part, y[end].double(), kernel.double(), 0.1, reduction="sum")
        total += value.detach()
        assert_close(grad[end], torch.autograd.grad(value, part)[0], 8)
    assert_close(loss, total, 8)
    assert not grad[LARGE[0] // 2].any()
    assert grad.is_contiguous(memory_format=memory_format)


@pytest.mark.slow
def test_a_filter_of_more_elements_than_32_bits_count(backend: Backend, uninitialised_memory: None) -> None:
    count = LARGE[0] * LARGE[1] * LARGE[2] * LARGE[3]
    require_memory(3.5 * 2 * count)
    x = torch.zeros(LARGE, dtype=bf16)
    x[-4:] = images((4, *LARGE[1:]), bf16)
    kernel = kernels((7, 7), f32)
    y = blurfft.blur(x, kernel)
    assert_close(y[-4:], reference.blur(x[-4:].double(), kernel.double()))
    assert not y[LARGE[0] // 2].any()


def test_results_do_not_depend_on_what_else_runs(backend: Backend) -> None:
    args = every_argument((50, 3, 64, 64))
    first = step("wiener_nll", blurfft, args)
    noise = torch.cuda.Stream()
    with torch.cuda.stream(noise):
        a = torch.randn(2048, 2048)
        for _ in range(20):
            a = (a @ a).tanh()
    second = step("wiener_nll", blurfft, args)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_compiled(backend: Backend) -> None:
    # Inductor, which makes kernels of its own beside ours.
    torch._dynamo.reset()

    def everything(args: list[Tensor]) -> Tensor:
        x, y, k, weight = args
        x = x.tanh()
        return sum(STEPS[name](blurfft, [x, y, k, weight]) for name in STEPS if name != "rfft2")

    def value(compiled: Callable[[list[Tensor]], Tensor], args: list[Tensor]) -> list[Tensor]:
        out = compiled(args)
        return [out.detach(), *torch.autograd.grad(out, args)]

    args = every_argument()
    actual, expected = value(torch.compile(everything, fullgraph=True), args), value(everything, args)
    agree(actual, [e.double() for e in expected])


def test_compiled_with_cuda_graphs(backend: Backend) -> None:
    torch._dynamo.reset()
    if backend.name == "triton":
        tables = importlib.import_module("blurfft.kernels.tables")  # as if these sizes were the first
        tables.table.cache_clear()
        tables.roots.cache_clear()
    x, y, k, _ = (a.detach() for a in every_argument())
    compiled = torch.compile(lambda x, y: blurfft.wiener_loss(x, y, k[0, 0], 0.1), mode="reduce-overhead")
    for _ in range(4):
        x, y = x.flip(0), y.roll(1, 0)
        x.requires_grad_()
        torch.compiler.cudagraph_mark_step_begin()
        loss = compiled(x, y)
        (grad,) = torch.autograd.grad(loss, x)
        wide = x.detach().double().requires_grad_()
        exact = reference.wiener_loss(wide, y.double(), k[0, 0].double(), 0.1)
        agree([loss.detach().clone(), grad.clone()], [exact.detach(), torch.autograd.grad(exact, wide)[0]])
        x = x.detach()


def test_autocast(backend: Backend) -> None:
    x, y, k, _ = every_argument()
    with torch.autocast("cuda", dtype=bf16):
        half = torch.nn.functional.conv2d(x, torch.ones(3, 3, 1, 1))
        assert half.dtype == bf16
        loss = blurfft.wiener_nll(half, y, k.to(bf16))
    assert loss.dtype == f32
    assert_close(loss, reference.wiener_nll(half.double(), y.double(), k.to(bf16).double()), 8)


def test_tensors_of_two_devices_are_refused(backend: Backend) -> None:
    x, y, k, _ = every_argument()
    with pytest.raises(ValueError, match="target"):
        blurfft.wiener_loss(x, y.detach().cpu(), k)
