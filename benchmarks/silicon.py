"""What .ci/gpu runs on a GPU: ``python -m benchmarks.silicon``.

The operators by themselves, without autograd and dispatch, are checked, timed and launched.

Times are GPU time between two events around a number of calls, each with the next of several input sets that together
exceed the second-level cache, so that a call finds nothing of its inputs there and leaves its own dirty lines to the
next one. All contenders take turns in random order. On a CPU, which is for rehearsals, the clock takes the events'
place.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

import blurfft
from blurfft import _dispatch, reference

SIZES = (32, 64, 128, 256)
PIXELS = (25_000_000, 200_000_000)
DTYPES = ("float32", "bfloat16")
SETS = 4
ROUNDS = 15
SAMPLE_MS = 2.0  # of one sample, about
BATCHES = (1, 4, 16)  # of the steps that are replayed
CHANNELS = 3
COMPILED = "compiled"
# What each contender has to move, in sizes of a value: operands read, results written.
COPY, MSE = "copy_", "F.mse_loss, forward and backward"
VALUES = {COPY: 2, MSE: 5}
LOSS_VALUES = 3
# Of the largest entry; what a wrong formula gives is far above.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}

_Set = TypeVar("_Set")

app = typer.Typer(no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def _commands() -> None:
    """Times, checks and launches blurfft's operators one by one."""


@dataclass(frozen=True)
class Row:
    what: str  # an operator of a size, or a step's replay
    contender: str
    size: int
    dtype: str
    batch: int
    pixels: int
    microseconds: float
    low: float  # the 20th percentile
    high: float  # the 80th
    percent_of_copy: float | None  # of its rate, on the bytes that the contender has to move


class Dispatched:
    """The operators of whatever backend is asked for, on planes of one size."""

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width

    def __getattr__(self, op: str) -> Callable[..., Any]:
        return lambda tensor, *rest: _dispatch.select(op, tensor, *self._size)(tensor, *rest)


def operators(backend: str, device: str, height: int, width: int) -> tuple[Any, AbstractContextManager[Any]]:
    """The operators of a backend, and the context in which they are its."""
    if backend != COMPILED:
        return Dispatched(height, width), blurfft.use_backend(backend)
    blurfft.available_backends()  # loads the extension
    return torch.ops.blurfft_cuda if device == "cuda" else torch.ops.blurfft_cpu, nullcontext()


@dataclass
class Images:
    """Images, and what a loss takes with them."""

    input: Tensor
    target: Tensor
    kernel: Tensor  # (7, 7)
    weight: Tensor  # (1, 1, H, W//2+1)
    number: Tensor  # (1, 1): nsr, and eps

    @classmethod
    def of(cls, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, seed: int = 0) -> Images:
        generator = torch.Generator(device).manual_seed(seed)
        compute = reference.compute_dtype(dtype)
        target = torch.rand(shape, generator=generator, device=device, dtype=compute)
        input = target + 0.1 * torch.randn(shape, generator=generator, device=device, dtype=compute)
        kernel = torch.rand(7, 7, generator=generator, device=device, dtype=compute)
        kernel /= kernel.sum()
        weight = reference.wiener_weight(kernel, (shape[2], shape[3])).expand(1, 1, -1, -1).contiguous()
        number = torch.full((1, 1), 0.01, device=device, dtype=compute)
        return cls(input.to(dtype), target.to(dtype), kernel, weight, number)


# The operators, as a public call runs them


def _spectral_loss(ops: Any, x: Images) -> Any:
    return ops.spectral_loss(x.input, x.target, x.weight, 1 / x.input.numel(), False, True, False)


def _wiener_loss(ops: Any, x: Images, nll: bool = False, kernel_grad: bool = False) -> Any:
    arguments = (x.kernel, x.number, x.number, 1 / x.input.numel(), nll, False, True, kernel_grad)
    return ops.wiener_loss(x.input, x.target, *arguments)


OPERATORS: dict[str, Callable[[Any, Images], Any]] = {
    "spectral_loss": _spectral_loss,
    "spectral_loss with the weight's gradient": lambda ops, x: ops.spectral_loss(
        x.input, x.target, x.weight, 1.0, True, True, True
    ),
    "wiener_loss": _wiener_loss,
    "wiener_nll": lambda ops, x: _wiener_loss(ops, x, True, True),
    "focal_frequency_loss": lambda ops, x: ops.focal_frequency_loss(x.input, x.target, 1.0, False, 1.0, False, True),
    "spectral_filter": lambda ops, x: ops.spectral_filter(x.input, x.weight),
    "cross_spectrum": lambda ops, x: ops.cross_spectrum(x.input, x.target, 1, x.input.shape[1], True),
    "rfft2": lambda ops, x: ops.rfft2(x.input, 1.0),
    "irfft2": lambda ops, x: ops.irfft2(ops.rfft2(x.input, 1.0), x.input.shape[3], 1 / x.input[0, 0].numel()),
}


def _tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for t in result if t is not None]


# Commands

Backend = Annotated[str, typer.Option(help="compiled, for the extension's own operators, or a backend's name.")]
Device = Annotated[str, typer.Option(help="cuda, or cpu for a rehearsal.")]
Sizes = Annotated[list[int] | None, typer.Option("--size", min=1, help="Only images of this height and width.")]


def _named(losses: bool) -> dict[str, Callable[[Any, Images], Any]]:
    return {name: run for name, run in OPERATORS.items() if not losses or "loss" in name or "nll" in name}


@app.command()
def smoke(height: int, width: int, losses: bool = False, backend: Backend = COMPILED, device: Device = "cuda") -> None:
    """Runs every operator, or the losses alone, on planes of this size and compares it with float64.

    The exit status is 1 if one is wrong.
    """
    ops, asked = operators(backend, device, height, width)
    dtypes = ("float32", "bfloat16") if backend == "triton" else ("float32", "bfloat16", "float64")
    wrong: list[str] = []
    for dtype in dtypes:
        images = Images.of((2, CHANNELS, height, width), getattr(torch, dtype), device)
        double = Images(*(t.cpu().double() for t in vars(images).values()))
        for name, run in _named(losses).items():
            exact, slowly = operators("reference", device, height, width)
            with slowly:
                truth = _tensors(run(exact, double))
            try:
                with asked:
                    results = _tensors(run(ops, images))
                if device == "cuda":
                    torch.cuda.synchronize()
            except Exception as error:
                wrong.append(f"{name} {dtype}: {type(error).__name__}: {error}")
                if "CUDA error" in str(error):  # nothing after it says anything
                    print(*wrong, sep="\n", flush=True)
                    os._exit(1)
                continue
            for i, (a, t) in enumerate(zip(results, truth, strict=True)):
                off = ((a.cpu().to(t.dtype) - t).abs().max() / t.abs().max()).item()
                if not off <= TOLERANCES[str(a.dtype.to_real() if a.is_complex() else a.dtype).removeprefix("torch.")]:
                    wrong.append(f"{name} {dtype}: result {i} is off by {off:.1e} of its largest entry")
    print(*wrong, f"{height} x {width}: {len(wrong)} wrong in {len(dtypes) * len(_named(losses))} calls", sep="\n")
    raise typer.Exit(min(1, len(wrong)))


@app.command()
def once(size: Sizes = None, losses: bool = False, device: Device = "cuda") -> None:
    """Launches every operator, or the losses alone, on one plane of each size: for sanitisers."""
    for side in size or SIZES:
        ops, _ = operators(COMPILED, device, side, side)
        images = Images.of((1, 1, side, side), torch.float32, device)
        for run in _named(losses).values():
            run(ops, images)
        if device == "cuda":
            torch.cuda.synchronize()
        print(f"{side} x {side}", flush=True)


@app.command()
def profile(size: Sizes = None, pixels: int = PIXELS[0], device: Device = "cuda") -> None:
    """Launches the loss with the input's gradient once on a large batch of each size: for ncu."""
    for side in size or SIZES:
        ops, _ = operators(COMPILED, device, side, side)
        _spectral_loss(ops, Images.of(_shape(side, pixels), torch.float32, device))
    if device == "cuda":
        torch.cuda.synchronize()


@app.command()
def warm(size: int, dtype: str = "float32", backend: Backend = COMPILED, device: Device = "cuda") -> None:
    """Calls the losses once, so that their kernels are in Triton's cache."""
    ops, asked = operators(backend, device, size, size)
    with asked:
        for run in _named(True).values():
            run(ops, Images.of((2, CHANNELS, size, size), getattr(torch, dtype), device))


@app.command()
def run(
    out: Annotated[Path, typer.Option(dir_okay=False, help="A JSON file, rewritten after each case.")],
    size: Sizes = None,
    pixels: Annotated[list[int] | None, typer.Option(min=1, help="Only batches of about so many pixels.")] = None,
    seconds: Annotated[float, typer.Option(help="No case is begun after this time.")] = 60.0,
    variants: Annotated[bool, typer.Option(help="The variants of the loss instead, and no replays.")] = False,
    backend: Backend = COMPILED,
    device: Device = "cuda",
) -> None:
    """Times the losses, copy_ and F.mse_loss, then replays of the public step.

    The exit status is 1 if a case has failed, which takes no other along.
    """
    start, rows, failed = time.perf_counter(), [], False
    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    machine = {"card": card, "torch": torch.__version__, "sets": SETS, "rounds": ROUNDS}

    def keep(measure: Callable[[], list[Row]], case: str) -> None:
        nonlocal failed
        try:
            more = measure()
        except Exception as error:
            failed = True
            print(f"{case}: {type(error).__name__}: {error}", flush=True)
            if "CUDA error" in str(error):  # nothing after it says anything
                os._exit(1)
            return
        rows.extend(more)
        out.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
        for row in more:
            of_copy = "" if row.percent_of_copy is None else f"  {row.percent_of_copy:5.1f} % of copy"
            print(
                f"{row.size:4}² {row.dtype:9} {row.pixels / 1e6:6.1f} M  {row.what}, {row.contender}: "
                f"{row.microseconds:9.1f} µs ({row.low:.1f} to {row.high:.1f}){of_copy}",
                flush=True,
            )

    # The sizes of the goals first.
    order = sorted(size or SIZES, key=lambda side: (side not in (64, 128), side))
    for count in pixels or PIXELS:
        for dtype in DTYPES:
            for side in order:
                if time.perf_counter() - start > seconds:
                    print(f"out of time before {side}² {dtype} at {count} pixels", flush=True)
                    break
                case = f"{side}² {dtype} at {count} pixels"
                keep(partial(_losses, side, dtype, count, variants, backend, device), case)
    if backend == COMPILED and not variants:
        for side in order:
            keep(partial(_replays, side, device), f"replays at {side}²")
    raise typer.Exit(int(failed))


def _shape(size: int, pixels: int) -> tuple[int, int, int, int]:
    return max(1, round(pixels / (CHANNELS * size * size))), CHANNELS, size, size


def _losses(size: int, dtype: str, pixels: int, variants: bool, backend: str, device: str) -> list[Row]:
    shape = _shape(size, pixels)
    sets = [Images.of(shape, getattr(torch, dtype), device, seed) for seed in range(SETS)]
    out = torch.empty_like(sets[0].input)
    one = torch.ones((), device=device, dtype=getattr(torch, dtype))

    def mse(x: Images) -> Tensor:
        torch.ops.aten.mse_loss(x.input, x.target)
        return torch.ops.aten.mse_loss_backward(one, x.input, x.target, 1)

    ops, asked = operators(backend, device, size, size)
    contenders: dict[str, Callable[[Images], Any]] = {
        COPY: lambda x: out.copy_(x.input),
        "spectral_loss": partial(_spectral_loss, ops),
    }
    if not variants:
        contenders |= {MSE: mse, "wiener_loss": partial(_wiener_loss, ops)}
    with asked:
        expected = contenders["spectral_loss"](sets[0])
        for name in ops.variant_names(size, size).split() if variants else ():
            variant = partial(_variant, ops, name)
            if _agree(variant(sets[0]), expected):
                contenders[name] = variant
            else:
                print(f"{size}² {dtype}: variant {name} is wrong and is not timed", flush=True)
        times = _times(contenders, sets, device)
    copied = statistics.median(times[COPY]) / VALUES[COPY]
    return [
        _row("loss", name, shape, dtype, samples, 100 * VALUES.get(name, LOSS_VALUES) * copied)
        for name, samples in times.items()
    ]


def _variant(ops: Any, name: str, x: Images) -> Any:
    return ops.spectral_loss_variant(name, x.input, x.target, x.weight, 1 / x.input.numel())


def _agree(actual: Any, expected: Any) -> bool:
    return all(
        (a.double() - e.double()).abs().max() <= 1e-2 * e.double().abs().max()
        for a, e in zip(_tensors(actual), _tensors(expected), strict=True)
    )


def _row(
    what: str, name: str, shape: tuple[int, ...], dtype: str, samples: list[float], copied: float | None = None
) -> Row:
    low, *_, high = statistics.quantiles(samples, n=5)
    median = statistics.median(samples)
    pixels = shape[0] * shape[1] * shape[2] * shape[3]
    share = None if copied is None else copied / median
    return Row(what, name, shape[2], dtype, shape[0], pixels, median, low, high, share)


def _times(
    contenders: dict[str, Callable[[_Set], Any]], sets: list[_Set], device: str, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Microseconds a call of each contender, in each round."""
    calls = {}
    for name, call in contenders.items():
        _sample(call, sets, len(sets), device)
        calls[name] = max(len(sets), round(1e3 * SAMPLE_MS / _sample(call, sets, len(sets), device)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for _ in range(rounds):
        random.Random(len(samples[names[0]])).shuffle(names)
        for name in names:
            samples[name].append(_sample(contenders[name], sets, calls[name], device))
    return samples


def _sample(call: Callable[[_Set], Any], sets: list[_Set], calls: int, device: str) -> float:
    if device != "cuda":
        start = time.perf_counter()
        for i in range(calls):
            call(sets[i % len(sets)])
        return 1e6 * (time.perf_counter() - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    call(sets[-1])  # the cache as this contender leaves it
    begin.record()
    for i in range(calls):
        call(sets[i % len(sets)])
    end.record()
    end.synchronize()
    return 1e3 * begin.elapsed_time(end) / calls


def _replays(size: int, device: str) -> list[Row]:
    """The public call with its backward pass, as a CUDA graph replays it; a plain call on the CPU."""
    kernel = torch.rand(7, 7, device=device)
    kernel /= kernel.sum()
    steps: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "wiener_loss": lambda x, y, k: blurfft.wiener_loss(x, y, k[0, 0]),
        "wiener_nll, a kernel of each sample": lambda x, y, k: blurfft.wiener_nll(x, y, k),
        MSE: lambda x, y, k: F.mse_loss(x, y),
    }
    rows = []
    for batch in BATCHES:
        shape = (batch, CHANNELS, size, size)
        x = torch.rand(shape, device=device, requires_grad=True)
        y = torch.rand(shape, device=device)
        kernels = kernel.expand(batch, 1, 7, 7).clone().requires_grad_()
        for name, loss in steps.items():
            step = _captured(loss, x, y, kernels, device)
            calls: dict[str, Callable[[None], Any]] = {name: lambda _, step=step: step()}  # type: ignore[misc]
            rows.append(_row("step", name, shape, "float32", _times(calls, [None] * SETS, device)[name]))
    return rows


def _captured(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, y: Tensor, kernels: Tensor, device: str
) -> Callable[[], Any]:
    def step() -> None:
        x.grad = kernels.grad = None
        loss(x, y, kernels).backward()

    if device != "cuda":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


if __name__ == "__main__":
    app()
