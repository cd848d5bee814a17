"""Random calls of the public functions, each against ``blurfft.reference`` in float64.

    python tests/fuzz.py --cases 10000              every backend that runs here, on every instruction set
    python tests/fuzz.py --seed 0 --index 17        one case again
    python tests/fuzz.py --first 500 --cases 500    others

With TRITON_INTERPRET=1 it is Triton alone, without a GPU. A case is drawn from its seed, its index and the limit of its
pixels alone: the function, shapes, strides, dtypes, contents, options, and which arguments get a gradient and a
gradient's gradient.

How far a result may be from the truth: an algorithm adds rounding errors of some units u of its dtype, and the problem
amplifies them by its condition, which ranges over many orders of magnitude: a mean that cancels, a kernel's zeros
beside a small nsr. The condition is not known, but ``torch.fft`` in the same dtype has it too. A transform of n numbers
is off by at most c log2(n) u of its norm, whatever its factors (Higham, Accuracy and Stability, 24.1), and the products
and sums around it are the same. So

    |result − truth| <= FACTOR e + t max|truth| + rounding,

where e is the largest error of ``torch.fft`` over draws of its rounding errors, FACTOR is the ratio of the constants c
(primes are convolutions of three transforms) and of chance, t is the table's tolerance of the compute dtype, for sums
whose error is 0 in ``torch.fft`` by chance, and rounding is that to the result's dtype, once: two halves of a unit, for
a gradient in half precision that is multiplied by the incoming one. The second gradient by one incoming number is the
sum of d f over all first gradients f along directions d. Of terms that are off by t |d f| at random it is off by
t ‖d f‖, which takes the place of t |truth| where it is larger: the terms may cancel.

In float32 e is measured, against float64 (see ``_draws``). In float64 ``torch.fft`` is the truth itself, and its error
in float32 says nothing of it where the problem is not linear over such distances: the response of a kernel whose taps
cancel is a rounding error, which ω divides by the square of nsr. There e is how far the results move if every
transform, forward and backward, is off by such an error in float64 (see ``_Inexact``). The same model at float32 agrees
with the errors that ``torch.fft`` has there (``test_fuzz.py``).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from inputs import LAYOUTS
from tolerances import TOLERANCES
from torch import Tensor

import blurfft
from blurfft import _ext, reference

FACTOR = 8.0
DRAWS = 3

SECOND, INCOMING = "second gradient by", "the incoming gradient"
SUM, TERMS = f"{SECOND} {INCOMING}", "size of the terms of that sum"

# Without a GPU Triton's kernels are interpreted, all of a process or none, and take seconds for large images.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
PIXELS = 2_000 if INTERPRETED else 100_000  # of a case, at most
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CONTENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "noise": lambda t: t,
    "small": lambda t: 1e-3 * t,
    "mean": lambda t: 30 + t,
    "bright": lambda t: 1000 + t,
    "bytes": lambda t: (128 + 48 * t).round().clamp(0, 255),
    "constant": lambda t: torch.full_like(t, 0.75),
    "sparse": lambda t: t * (t > 2),
}


class Server(NamedTuple):
    """What runs in this process: a backend on a device, of the CPU's one instruction set."""

    backend: str
    device: str
    capability: str | None = None

    def __str__(self) -> str:
        return f"{self.backend} on {self.capability or self.device}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        with blurfft.use_backend(self.backend):
            if self.capability is None:
                yield
                return
            extension = _ext.module()
            before = extension.cpu_capability()
            extension.set_cpu_capability(self.capability)
            try:
                yield
            finally:
                extension.set_cpu_capability(before)


def servers() -> list[Server]:
    names = blurfft.available_backends()
    if INTERPRETED:
        return [Server("triton", "cpu")]
    on_cpu = [Server("reference", "cpu")]
    if "cpu" in names:
        on_cpu += [Server("cpu", "cpu", capability) for capability in _ext.module().cpu_capabilities()]
    return on_cpu + [Server(n, "cuda") for n in ("triton", "cuda") if n in names and torch.cuda.is_available()]


class Case(NamedTuple):
    function: str
    tensors: dict[str, Tensor]  # the tensor arguments, by name
    options: dict[str, Any]
    wanted: tuple[str, ...]  # get a gradient
    order: int  # 0: the result alone, 1: gradients, 2: those of the gradients too
    draw: int  # seeds the incoming gradients

    def __str__(self) -> str:
        def text(name: str, t: Tensor) -> str:
            return f"{name}={str(t.dtype).removeprefix('torch.')}{tuple(t.shape)} strides {t.stride()}"

        tensors = ", ".join(text(*pair) for pair in self.tensors.items())
        return f"{self.function}({tensors}, {self.options}) order {self.order} by {', '.join(self.wanted) or 'nothing'}"


class _Draw:
    """Each method draws one argument."""

    def __init__(self, seed: int, index: int, pixels: int) -> None:
        self.choices = random.Random(f"{seed} {index}")
        self.generator = torch.Generator().manual_seed(self.choices.getrandbits(63))
        self.samples, self.channels = self.choices.choice([1, 1, 2, 3]), self.choices.choice([1, 2, 3, 4, 17])
        pixels //= self.samples * self.channels
        self.height = min(self.side(), pixels)
        self.width = min(self.side(), pixels // self.height)
        self.dtype = self.choices.choice(DTYPES)

    def side(self) -> int:
        # As many below 17 as above, where most are primes or have several factors.
        return self.choices.randint(1, 300) if self.chance(0.15) else round(math.exp(self.choices.uniform(0, 4)))

    def chance(self, probability: float) -> bool:
        return self.choices.random() < probability

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)

    def laid_out(self, shape: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor], dtype: torch.dtype) -> Tensor:
        return LAYOUTS[self.choices.choice(list(LAYOUTS))](shape, lambda s: make(s).to(dtype))

    def image(self, dtype: torch.dtype | None = None) -> Tensor:
        content = CONTENTS[self.choices.choice(list(CONTENTS))]
        shape = self.samples, self.channels, self.height, self.width
        return self.laid_out(shape, lambda s: content(self.normal(s)), dtype or self.dtype)

    def images(self) -> dict[str, Tensor]:
        other = self.choices.choice(DTYPES) if self.chance(0.1) else self.dtype
        return {"input": self.image(), "target": self.image(other)}

    def planes(self) -> tuple[int, int]:
        return self.choices.choice([1, self.samples or 1]), self.choices.choice([1, self.channels])

    # Parameters are in the images' dtype or one with more digits, as they are where weights are in half precision.
    def parameter_dtype(self) -> torch.dtype:
        return reference.compute_dtype(self.dtype) if self.chance(0.5) else self.dtype

    def kernel(self) -> Tensor:
        largest = self.choices.choice([3, 5, 9, 31])
        shape = (min(self.choices.randint(1, largest), self.height), min(self.choices.randint(1, largest), self.width))
        kind = self.choices.choice(["positive", "edges", "box", "any"])

        def make(s: tuple[int, ...]) -> Tensor:
            k = self.normal(s)
            if kind == "any":
                return k
            if kind == "edges":
                return k - k.mean((-2, -1), keepdim=True)
            k = torch.ones_like(k) if kind == "box" else k.abs()
            return k / k.sum((-2, -1), keepdim=True)

        if self.chance(0.4):
            return make(shape).to(self.parameter_dtype())
        return self.laid_out((*self.planes(), *shape), make, self.parameter_dtype())

    def number(self) -> float | Tensor:
        """nsr or eps: from 1e-3 to 1, of some calls less."""
        value = 10 ** self.choices.uniform(*((-12, -3) if self.chance(0.1) else (-3, 0)))
        n = self.samples or 1
        shape = self.choices.choice([None, (), (n,), (n, self.channels)])
        if shape is None:
            return value
        dtype = self.parameter_dtype()
        values = (value * (0.5 + torch.rand(shape, dtype=torch.float64, generator=self.generator))).to(dtype)
        return values.clamp(min=torch.finfo(dtype).tiny)  # not 0 / 0

    def case(self) -> Case:
        function = self.choices.choice(list(FUNCTIONS))
        if self.chance(0.02) and function not in ("irfft2", "wiener_weight", "focal_frequency_loss"):
            self.samples = 0
        arguments = FUNCTIONS[function](self)
        tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
        options = {name: value for name, value in arguments.items() if name not in tensors}
        order = self.choices.choice([0, 1, 1, 2]) if self.samples else 0  # MKL has no gradient of nothing
        differentiable = [name for name in tensors if name != "matrix"] if order else []
        wanted = [name for name in differentiable if self.chance(0.7)] or differentiable[:1]
        return Case(function, tensors, options, tuple(wanted), order, self.choices.getrandbits(63))


def _reduction(draw: _Draw) -> dict[str, Any]:
    return {"reduction": draw.choices.choice(["mean", "sum", "none"])}


def _norm(draw: _Draw) -> dict[str, Any]:
    return {"norm": draw.choices.choice(["backward", "ortho", "forward"])}


def _size(draw: _Draw, height: int, width: int) -> dict[str, Any]:
    """Cropped, padded or neither."""
    if draw.chance(0.6):
        return {"s": (height, width)}
    return {"s": tuple(max(1, side + draw.choices.randint(-3, 3)) for side in (height, width))}


def _rfft2(draw: _Draw) -> dict[str, Any]:
    return {"input": draw.image(), **_size(draw, draw.height, draw.width), **_norm(draw)}


def _irfft2(draw: _Draw) -> dict[str, Any]:
    real = torch.float64 if draw.dtype == torch.float64 else torch.float32
    shape = (draw.samples, draw.channels, draw.height, draw.width // 2 + 1)
    spectrum = draw.laid_out(shape, lambda s: torch.complex(draw.normal(s), draw.normal(s)), real.to_complex())
    return {"input": spectrum, **_size(draw, draw.height, draw.width), **_norm(draw)}


def _spectral_mse(draw: _Draw) -> dict[str, Any]:
    size = draw.height, draw.width // 2 + 1

    def make(s: tuple[int, ...]) -> Tensor:
        # Symmetric as a weight must be: of the rows alone, of the columns alone.
        f1 = torch.fft.fftfreq(s[-2], dtype=torch.float64)[:, None].abs()
        return (0.1 + draw.normal((*s[:2], 1, s[-1])).abs()) * (0.5 + f1)

    dtype = draw.parameter_dtype()
    weight = make((1, 1, *size))[0, 0].to(dtype) if draw.chance(0.4) else make((*draw.planes(), *size)).to(dtype)
    return {**draw.images(), "weight": weight, **_reduction(draw)}


def _focal(draw: _Draw) -> dict[str, Any]:
    images = draw.images()
    factors = [f for f in (1, 2, 3) if draw.height % f == 0 and draw.width % f == 0]
    factor = draw.choices.choice(factors)
    options = {
        "alpha": draw.choices.choice([1.0, 0.5, 2.0]),
        "patch_factor": factor,
        "loss_weight": draw.choices.choice([1.0, 0.3]),
        **{name: draw.chance(0.25) for name in ("ave_spectrum", "log_matrix", "batch_matrix")},
    }
    if draw.chance(0.2):
        samples = 1 if options["ave_spectrum"] else draw.samples
        whole = samples, factor**2, draw.channels, draw.height // factor, draw.width // factor
        shape = tuple(draw.choices.choice([1, side]) for side in whole[:3]) + whole[3:]
        return {**images, **options, "matrix": draw.normal(shape[draw.choices.randint(0, 3) :]).abs().clamp(max=1)}
    return {**images, **options}


FUNCTIONS: dict[str, Callable[[_Draw], dict[str, Any]]] = {
    "rfft2": _rfft2,
    "irfft2": _irfft2,
    "blur": lambda d: {"input": d.image(), "kernel": d.kernel()},
    "wiener_filter": lambda d: {"input": d.image(), "kernel": d.kernel(), "nsr": d.number()},
    "wiener_weight": lambda d: {
        "kernel": d.kernel(),
        "size": (d.height, d.width),
        "nsr": d.number(),
        "eps": d.number(),
    },
    "spectral_mse": _spectral_mse,
    "wiener_loss": lambda d: {
        **d.images(),
        "kernel": d.kernel(),
        "nsr": d.number(),
        "eps": d.number(),
        **_reduction(d),
    },
    "wiener_nll": lambda d: {**d.images(), "kernel": d.kernel(), "nsr": d.number(), "eps": d.number(), **_reduction(d)},
    "blur_mse": lambda d: {**d.images(), "kernel": d.kernel(), **_reduction(d)},
    "focal_frequency_loss": _focal,
}


def draw(seed: int, index: int, pixels: int = PIXELS) -> Case:
    return _Draw(seed, index, pixels).case()


def _rfft2_of_size(input: Tensor, s: tuple[int, int], norm: str) -> Tensor:
    wide = input.to(reference.compute_dtype(input.dtype))
    if not input.numel():  # nor a transform
        return torch.fft.rfft2(wide.new_zeros(1, *wide.shape[1:]), s, norm=norm)[:0]
    return torch.fft.rfft2(wide, s, norm=norm)


FORMULAS = SimpleNamespace(**vars(reference) | {"rfft2": _rfft2_of_size})


def _results(functions: Any, case: Case, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The result, the gradients and those of the gradients, with names."""
    leaves = {n: t.detach().requires_grad_(n in case.wanted) for n, t in tensors.items()}
    result = getattr(functions, case.function)(**leaves, **case.options)
    yield "result", result
    if not case.order:
        return
    generator = torch.Generator().manual_seed(case.draw)

    def like(t: Tensor, symmetric: bool = False) -> Tensor:
        # In bfloat16 so that it is the same number in every dtype.
        noise = torch.randn(t.shape, dtype=torch.float64, generator=generator).bfloat16()
        if symmetric:  # frequency -f1 as f1
            noise = noise + noise.flip(-2).roll(1, -2)
        return noise.to(t.device, t.dtype)

    second = case.order > 1
    by = [leaves[name] for name in case.wanted]
    cotangent = like(result).requires_grad_(second)
    first = torch.autograd.grad(result, by, cotangent, create_graph=second)
    for name, grad in zip(case.wanted, first, strict=True):
        yield f"gradient by {name}", grad
    if second:
        # A weight remains one: of others only the symmetric part counts, whose square root is not that of the whole.
        terms = [grad * like(grad, name == "weight") for name, grad in zip(case.wanted, first, strict=True)]
        along = sum(term.real.to(torch.float64).sum() for term in terms)
        if result.dim() == 0:
            squares = sum(term.detach().abs().to(torch.float64).square().sum() for term in terms)
            yield TERMS, squares.sqrt() / cotangent.detach().abs()
        by = [cotangent, *by]
        for name, leaf, grad in zip(
            (INCOMING, *case.wanted),
            by,
            torch.autograd.grad(along, by, allow_unused=True),
            strict=True,
        ):
            yield f"{SECOND} {name}", torch.zeros_like(leaf) if grad is None else grad


def _wide(t: Tensor) -> Tensor:
    return t.detach().to("cpu", torch.promote_types(t.dtype, torch.float64))


def _truth(case: Case, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    wide = {name: _wide(t).contiguous() for name, t in tensors.items()}
    return {name: t.detach() for name, t in _results(FORMULAS, case, wide)}


def _rounding(t: Tensor, generator: torch.Generator) -> Tensor:
    return t * torch.finfo(torch.float32).eps * torch.randn(t.shape, generator=generator)


def _draws(case: Case) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Arguments for ``torch.fft``, and those that its results are right for.

    First the case's own. Then all are off by a rounding error of the compute dtype, in which half precision stays,
    since its own rounding would take that error away again. Last what is transformed is off by one. It is input -
    target: the differences of a few pixels that are nearly equal are exact, and so is their transform, but not if they
    have been multiplied by a number before.
    """
    own = {name: t.contiguous() for name, t in case.tensors.items()}
    yield own, own
    wide = {name: t.to(torch.promote_types(torch.float32, t.dtype)) for name, t in own.items()}
    for d in range(1, DRAWS):
        generator = torch.Generator().manual_seed(case.draw ^ d)
        off = {name: t + _rounding(t, generator) for name, t in wide.items()}
        yield off, off
    generator = torch.Generator().manual_seed(case.draw ^ DRAWS)
    if "input" in wide:
        e = wide["input"] if case.function == "blur_mse" or "target" not in wide else wide["input"] - wide["target"]
        yield wide | {"input": wide["input"] + _rounding(e, generator)}, own


class _Inexact(torch.autograd.Function):
    """Planes as a transform leaves them: off at random by a unit of the norm of each row and each column,
    which are transformed one after the other. So are their gradients."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, generator: torch.Generator) -> Tensor:
        ctx.generator = generator
        squares = planes.abs().square()
        size = (squares.mean(-2, keepdim=True) + squares.mean(-1, keepdim=True)).sqrt()
        noise = torch.randn(planes.shape, dtype=planes.dtype, generator=generator)
        return planes + torch.finfo(planes.dtype).eps * size * noise

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Inexact.apply(gradients[0], ctx.generator), None


@contextmanager
def inexact_transforms(seed: int) -> Iterator[None]:
    generator = torch.Generator().manual_seed(seed)

    def inexact(transform: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: _Inexact.apply(transform(*args, **kwargs), generator)

    names = "rfft2", "irfft2", "fft2"
    with mock.patch.multiple(torch.fft, **{name: inexact(getattr(torch.fft, name)) for name in names}):
        yield


def _compute_dtype(case: Case) -> torch.dtype:
    """That of the images, of a weight without images its own."""
    images = [t for name, t in case.tensors.items() if name in ("input", "target")] or list(case.tensors.values())
    common = images[0].dtype
    for t in images:
        common = torch.promote_types(common, t.dtype)
    return reference.compute_dtype(common)


def _inexact(case: Case) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Results of ``torch.fft`` in the case's dtype, and what is right for them."""
    if _compute_dtype(case) == torch.float64:
        truth = _truth(case, case.tensors)
        for d in range(DRAWS + 1):
            with inexact_transforms(case.draw ^ d):
                results = dict(_results(FORMULAS, case, case.tensors))
            yield results, truth
        return
    for tensors, exact in _draws(case):
        yield dict(_results(FORMULAS, case, tensors)), _truth(case, exact)


def _own_errors(case: Case) -> dict[str, float]:
    """The largest absolute error of ``torch.fft`` in the case's dtype, by result."""
    errors: dict[str, float] = {}
    for actual, truth in _inexact(case):
        for what, right in truth.items():
            error = (_wide(actual[what]) - right).abs()
            error = error[~(right.isnan() & _wide(actual[what]).isnan())].nan_to_num(math.inf, math.inf)
            errors[what] = max(errors.get(what, 0.0), error.max().item() if error.numel() else 0.0)
    return errors


def _off(actual: Tensor, truth: Tensor, own: float, terms: float, compute: torch.dtype) -> float:
    """The largest error relative to what is allowed."""
    if not actual.numel():
        return 0.0
    info = torch.finfo(actual.dtype)
    size = truth.abs().nan_to_num(0.0)
    allowed = FACTOR * own + TOLERANCES[compute] * max(size.max().item(), terms)
    # Rounding to the result's dtype, and out of its range. For the first of two halves Triton's interpreter, which cuts
    # float32 off to bfloat16, takes a whole.
    units = 1.5 if INTERPRETED and actual.dtype == torch.bfloat16 else 1.0
    allowed = allowed + (units * info.eps * size).clamp(min=info.tiny * info.eps)
    error = torch.where(truth.isnan() & actual.cpu().isnan(), 0.0, (_wide(actual) - truth).abs())
    beyond = truth.abs() > info.max * (1 - info.eps)
    return torch.where(beyond & ~_wide(actual).isfinite(), 0.0, error / allowed).nan_to_num(math.inf).max().item()


def failures(case: Case) -> list[str]:
    """What is wrong with the case, a line each."""
    truth, own = _truth(case, case.tensors), _own_errors(case)
    compute = _compute_dtype(case)

    def terms(what: str) -> float:
        return truth[TERMS].item() if what == SUM and TERMS in truth else 0.0

    lines = []
    for server in servers():
        tensors = {n: t.to(server.device) for n, t in case.tensors.items()}
        try:
            with server.serving():
                for what, actual in _results(blurfft, case, tensors):
                    if what == TERMS:
                        continue
                    if actual.shape != truth[what].shape:
                        lines.append(f"{server}: {what} is {tuple(actual.shape)}, not {tuple(truth[what].shape)}")
                    elif (off := _off(actual, truth[what], own[what], terms(what), compute)) > 1:
                        lines.append(f"{server}: {what} is {off:.3g} times as far off as allowed")
        except RuntimeError as error:
            lines.append(f"{server}: {error}")
    return lines


def run(seed: int, indices: range, pixels: int = PIXELS) -> int:
    """How many cases fail; each prints how to run it again."""
    failed = 0
    for index in indices:
        case = draw(seed, index, pixels)
        if lines := failures(case):
            failed += 1
            again = f"tests/fuzz.py --seed {seed} --index {index}"
            again = ("TRITON_INTERPRET=1 " if INTERPRETED else "") + f"python {again}"
            again += f" --pixels {pixels}" if pixels != PIXELS else ""
            print(f"{again}: {case}", *lines, sep="\n  ", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, help="this case alone")
    parser.add_argument("--first", type=int, default=0, help="index of the first case")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--pixels", type=int, default=PIXELS, help="of a case, at most")
    options = parser.parse_args()
    first, count = (options.first, options.cases) if options.index is None else (options.index, 1)
    start = time.monotonic()
    failed = run(options.seed, range(first, first + count), options.pixels)
    names = ", ".join(map(str, servers()))
    print(f"seed {options.seed}: {failed} of {count} cases failed ({names}; {time.monotonic() - start:.0f} s)")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
