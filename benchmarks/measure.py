"""Errors against float64, and times of contenders that take turns."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .cases import OUTPUT_NAMES, Outputs
from .contenders import Contender

# Of the largest entry of the truth. An order of magnitude above what fp32 needs, several below what a wrong formula
# gives.
TOLERANCE = 1e-4
# What one sample takes at least, so that the clock and the loop do not count.
SAMPLE_NS = 2_000_000


def errors(actual: Outputs, truth: Outputs) -> dict[str, float]:
    """The largest error of each output, relative to the largest entry of the truth."""
    result = {}
    for name, a, t in zip(OUTPUT_NAMES, actual, truth, strict=True):
        if t is None and a is None:
            continue
        if t is None or a is None or a.shape != t.shape:
            result[name] = math.inf
            continue
        t = t.detach()
        error = (a.detach().to(t.dtype) - t).abs().max().item() / t.abs().max().item()
        result[name] = math.inf if math.isnan(error) else error
    return result


def fault(contender: Contender, truth: Outputs) -> str | None:
    """Why a contender is not worth timing: it fails, or its result is wrong."""
    try:
        actual = contender.step()
    except Exception as exception:
        return f"{type(exception).__name__}: {exception}"
    for name, error in errors(actual, truth).items():
        if error > TOLERANCE:
            return f"its {name} is off by {error:.1e} of the largest entry, more than {TOLERANCE:.0e}"
    return None


def _time(step: Callable[[], object], calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        step()
    return (time.perf_counter_ns() - start) / calls


def times(
    contenders: Sequence[Contender], rounds: int, clear: Callable[[], None], after_round: Callable[[], None]
) -> dict[str, list[float]]:
    """Nanoseconds a call of each contender in each round.

    In a round everyone has a turn, in random order. A turn begins with a call that is not timed, after which caches and
    allocator are as this contender leaves them and not as the one before did.
    """
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    calls = {}
    for contender in order:
        _time(contender.step, 2)
        calls[contender.name] = math.ceil(SAMPLE_NS / _time(contender.step, 1))
    samples: dict[str, list[float]] = {contender.name: [] for contender in order}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for contender in order:
                contender.step()
                samples[contender.name].append(_time(contender.step, calls[contender.name]))
                clear()
            after_round()
    finally:
        if collecting:
            gc.enable()
    return samples


def waited() -> float | None:
    """Seconds that the threads of this process were ready to run but had no core, so far; None where the system does
    not tell."""
    total = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return total / 1e9
