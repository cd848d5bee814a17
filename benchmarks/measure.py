"""Errors against float64, and times of contenders that take turns."""

from __future__ import annotations

import ctypes
import gc
import itertools
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .cases import Outputs
from .contenders import Contender

# Of the largest entry of the truth. An order of magnitude above what each dtype needs, far below what a wrong formula
# gives.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
# What one sample takes at least, so that the clock and the loop do not count.
SAMPLE_NS = 2_000_000
# Of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed, for the rest of this process. Whether it does.

    Else it gives large tensors back to the system after some calls and keeps them after others, depending on what was
    freed before: who pays for the page faults would be decided by the order of the contenders.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def errors(actual: Outputs, truth: Outputs) -> dict[str, float]:
    """The largest error of each output, relative to the largest entry of the truth."""
    result = {}
    for name in truth | actual:
        if name not in truth or name not in actual or actual[name].shape != truth[name].shape:
            result[name] = math.inf
            continue
        a, t = actual[name].detach(), truth[name].detach()
        error = (a.to(t.dtype) - t).abs().max().item() / t.abs().max().item()
        result[name] = math.inf if math.isnan(error) else error
    return result


def fault(contender: Contender, truth: Outputs, dtype: str = "float32") -> str | None:
    """Why a contender is not timed: it fails or its result is wrong. None if it may be."""
    try:
        actual = contender.step()
    except Exception as exception:
        return f"{type(exception).__name__}: {str(exception).splitlines()[0] if str(exception) else ''}"
    for name, error in errors(actual, truth).items():
        if error > TOLERANCES[dtype]:
            return f"its {name} is off by {error:.1e} of the largest entry, more than {TOLERANCES[dtype]:.0e}"
    return None


# Times a number of calls: nanoseconds each.
Timer = Callable[[Callable[[], object], int], float]


def cpu_timer(step: Callable[[], object], calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        step()
    return (time.perf_counter_ns() - start) / calls


def cuda_timer(step: Callable[[], object], calls: int) -> float:
    """Times between two events in the stream.

    Calls follow each other without a gap: each writes back what the one before left in the cache. A step that is to
    find nothing of its inputs there takes other ones in every call, see ``rotating``.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        step()
    end.record()
    end.synchronize()
    return 1e6 * start.elapsed_time(end) / calls


def rotating(contenders: Sequence[Contender]) -> Contender:
    """A contender that uses several sets of inputs in turn."""
    turn = itertools.cycle([contender.call for contender in contenders])
    return replace(contenders[0], call=lambda: next(turn)())


class Stopwatch:
    """Times a part of a step, on a GPU in the stream: ``with stopwatch:`` around it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._laps: list[tuple[Any, Any]] = []

    def _now(self) -> Any:
        if self._device != "cuda":
            return time.perf_counter_ns()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self) -> None:
        self._start = self._now()

    def __exit__(self, *exception: object) -> None:
        self._laps.append((self._start, self._now()))

    def last(self, laps: int) -> float:
        """Mean nanoseconds of the last ``laps`` laps; all are forgotten."""
        taken, self._laps = self._laps[-laps:], []
        if self._device != "cuda":
            return sum(end - start for start, end in taken) / laps
        torch.cuda.synchronize()
        return 1e6 * sum(start.elapsed_time(end) for start, end in taken) / laps


def times(
    contenders: Sequence[Contender],
    rounds: int,
    after_turn: Callable[[Contender, int], None],
    after_round: Callable[[], None],
    timer: Timer = cpu_timer,
) -> dict[str, list[float]]:
    """Nanoseconds a call of each contender in each round.

    In a round everyone has a turn, in random order. A turn begins with a call that is not timed, after which caches and
    allocator are as this contender leaves them and not as the one before did. ``after_turn`` gets the contender and the
    number of calls that were timed.
    """
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    calls = {}
    for contender in order:
        with contender.asked():
            timer(contender.call, 2)
            calls[contender.name] = math.ceil(SAMPLE_NS / timer(contender.call, 1))
    samples: dict[str, list[float]] = {contender.name: [] for contender in order}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for contender in order:
                with contender.asked():
                    contender.call()
                    samples[contender.name].append(timer(contender.call, calls[contender.name]))
                after_turn(contender, calls[contender.name])
            after_round()
    finally:
        if collecting:
            gc.enable()
    return samples


def waited() -> float | None:
    """Seconds so far in which threads of this process were ready to run but had no core, or a core had been taken from
    the virtual machine; None where the system does not tell."""
    total = 0.0
    try:
        for thread in Path("/proc/self/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[1]) / 1e9
        stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    except (OSError, IndexError):
        return None
    return total + stolen / os.sysconf("SC_CLK_TCK")
