"""Results and their conditions, in a JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

import blurfft
from blurfft import _ext

from .cases import Case, standard
from .contenders import COPY, EAGER, MSE, OURS

ROOT = Path(__file__).resolve().parents[1]
FORMAT = 2

# Quantities; those of memory are in memory.py.
TIME = "time"
RATIO = "time ÷ "  # by the contender whose name follows
OVERHEAD = "time − "  # of the contender whose name follows
SHARE = "share of the step beyond the network"
ERROR = "error of the "  # followed by the name of the output
WAITED = "time in which a thread had no core"

# The pseudo-contender for what concerns the machine; above this share of waiting, times are not to be trusted.
MACHINE = "machine"
DISTURBED = 1.0  # %


@dataclass(frozen=True)
class Result:
    """One quantity: the median, with percentiles if there are several samples."""

    suite: str
    case: Case
    contender: str
    quantity: str
    unit: str
    median: float
    p20: float | None = None
    p80: float | None = None


@dataclass(frozen=True)
class Failure:
    """A contender that was not measured because it fails or is wrong."""

    suite: str
    case: Case
    contender: str
    reason: str


Entry = Result | Failure


@dataclass
class Report:
    """The results of one machine: the last run of each suite."""

    machine: dict[str, Any]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by suite: commit, date, options
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def cases(self, suite: str) -> list[Case]:
        return list(dict.fromkeys(result.case for result in self.results if result.suite == suite))

    def standard_cases(self, suite: str, op: str) -> list[Case]:
        """The cases that differ only in the size of the images, from small to large."""
        pixels = self.runs[suite]["pixels"] if suite in self.runs else 0
        cases = (case for case in self.cases(suite) if case == standard(op, case.size, pixels))
        return sorted(cases, key=lambda case: case.size)

    def find(self, suite: str, case: Case, contender: str, quantity: str) -> Result | None:
        matches = (
            result
            for result in self.results
            if (result.suite, result.case, result.contender, result.quantity) == (suite, case, contender, quantity)
        )
        return next(matches, None)

    def contenders(self, suite: str, case: Case | None = None) -> list[str]:
        """Names in the order of measurement, without the pseudo-contender ``MACHINE``."""
        names = (r.contender for r in self.results if r.suite == suite and case in (None, r.case))
        return [name for name in dict.fromkeys(names) if name != MACHINE]

    def ours(self, suite: str, case: Case) -> str | None:
        """The fastest backend that serves the case, in the order in which blurfft prefers them."""
        return next((name for name in self.contenders(suite, case) if name.startswith(OURS)), None)

    def ratio(self, suite: str, case: Case, contender: str) -> Result | None:
        """The contender's time relative to blurfft's in the same round."""
        ours = self.ours(suite, case)
        return None if ours is None else self.find(suite, case, contender, RATIO + ours)

    def limit(self, suite: str, case: Case) -> float | None:
        """Nanoseconds to move the bytes that the case must move, at the rate of the copy."""
        copy = self.find(suite, case, COPY, TIME)
        return None if copy is None else copy.median * case.traffic / 2

    def begin(self, suite: str, run: dict[str, Any]) -> None:
        """Starts a run of the suite and drops its earlier results."""
        self.runs[suite] = run
        self.results = [entry for entry in self.results if entry.suite != suite]
        self.failures = [entry for entry in self.failures if entry.suite != suite]

    def save(self, path: Path) -> None:
        # One result per line, for readable diffs.
        def lines(entries: Iterable[Entry]) -> str:
            return ",\n".join(json.dumps(_as_json(entry), ensure_ascii=False) for entry in entries)

        text = (
            f'{{"format": {FORMAT},\n"machine": {json.dumps(self.machine, indent=1, ensure_ascii=False)},\n'
            f'"runs": {json.dumps(self.runs, indent=1, ensure_ascii=False)},\n'
            f'"results": [\n{lines(self.results)}\n],\n"failures": [\n{lines(self.failures)}\n]}}\n'
        )
        # Interrupted, it leaves the old file or the new one.
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Report:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            written_in = content["format"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} holds no results of benchmarks run") from None
        if written_in != FORMAT:
            raise ValueError(f"{path} has format {written_in!r}, this version reads {FORMAT}")

        def with_case(entry: dict[str, Any]) -> dict[str, Any]:
            case = entry["case"]
            return {**entry, "case": Case(**{**case, "shape": tuple(case["shape"])})}

        return cls(
            content["machine"],
            content["runs"],
            [Result(**with_case(entry)) for entry in content["results"]],
            [Failure(**with_case(entry)) for entry in content["failures"]],
        )


def _as_json(entry: Entry) -> dict[str, Any]:
    """The entry without default values."""
    content = asdict(entry)
    usual = asdict(Case(entry.case.op, entry.case.shape))
    content["case"] = {
        name: value for name, value in content["case"].items() if name in ("op", "shape") or value != usual[name]
    }
    # No measurement is exact to more than five digits.
    return {
        name: float(f"{value:.5g}") if isinstance(value, float) else value
        for name, value in content.items()
        if value is not None
    }


def summary(suite: str, case: Case, contender: str, quantity: str, unit: str, samples: Sequence[float]) -> Result:
    p20, median, p80 = (float(value) for value in np.percentile(samples, (20, 50, 80)))
    return Result(suite, case, contender, quantity, unit, median, p20, p80)


def summarise_times(
    suite: str, case: Case, times: dict[str, list[float]], parts: dict[str, list[float]] | None = None
) -> Iterator[Result]:
    """Times, and how they relate to blurfft's: quotients within each round, from which a disturbance of a whole round
    cancels. Of a training step, whose ``parts`` are the times of its term, it is these that are related."""
    for name, samples in times.items():
        yield summary(suite, case, name, TIME, "ns", samples)
    if suite == "train" and parts is not None:
        for name in times:
            shares = [100 * part / whole for part, whole in zip(parts[name], times[name], strict=True)]
            yield summary(suite, case, name, SHARE, "%", shares)
        times = parts
    for ours in (name for name in times if name.startswith(OURS)):
        for name in times:
            if name not in (ours, COPY):
                ratios = [a / b for a, b in zip(times[name], times[ours], strict=True)]
                yield summary(suite, case, name, RATIO + ours, "", ratios)
        if suite == "overhead":
            differences = [a - b for a, b in zip(times[ours], times[MSE], strict=True)]
            yield summary(suite, case, ours, OVERHEAD + MSE, "ns", differences)


def worst(report: Report, count: int) -> list[tuple[str, Case, str, float]]:
    """The cases in which blurfft gains least on plain torch.fft: suite, case, backend, and the quotient."""
    found = [
        (result.suite, result.case, ours, result.median)
        for result in report.results
        if result.contender == EAGER
        and (ours := report.ours(result.suite, result.case)) is not None
        and result.quantity == RATIO + ours
    ]
    return sorted(found, key=lambda entry: entry[-1])[:count]


# Conditions


def machine(device: str, threads: int) -> dict[str, Any]:
    """The machine and its software, which must be the same for all results in a file."""
    extension = _ext.module()
    result = {
        "device": device,
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "instruction_set": None if extension is None else extension.cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
        result["driver"] = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        result["cuda"] = torch.version.cuda
    return result


def run(**options: Any) -> dict[str, Any]:
    """The date, the sources and the options of a run."""
    status = _output("git", "status", "--porcelain", "--", ".", ":!benchmarks/results", ":!README.md", ":!docs")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "blurfft": blurfft.__version__,
        "commit": _output("git", "rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        **options,
    }


def _output(*command: str) -> str | None:
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def headline(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    if machine["device"] == "cuda":
        where = f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {machine['cpu']}"
    else:
        instruction_set = machine["instruction_set"] or "no compiled extension"
        where = f"{machine['cpu']} ({instruction_set}), {machine['threads']} of {machine['cores']} cores"
    return f"{where}; torch {machine['torch']}, Python {machine['python']}"
