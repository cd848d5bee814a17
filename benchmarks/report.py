"""What was measured, as a JSON file and as tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

import blurfft
from blurfft import _ext

from .cases import COPY, EAGER, GRADIENT, HAND, MEMORY_TARGET, MSE, OURS, TARGETS, Case, Target

ROOT = Path(__file__).resolve().parents[1]
FORMAT = 1
# A unit in the last place: an error below it says nothing.
ULP = torch.finfo(torch.float32).eps

# Quantities
TIME = "time"
RATIO = "time ÷ "  # by the contender whose name follows
ALLOCATOR_MEMORY = "extra memory of torch's allocator"
PROCESS_MEMORY = "extra memory of the process"
ERROR = "error of the "  # followed by the name of the output
WAITED = "time in which a thread had no core"

# The pseudo-contender whose results are of the machine; above this share of waiting the times are not to be trusted.
MACHINE = "machine"
DISTURBED = 1.0  # %


@dataclass(frozen=True)
class Result:
    """One number: the median, with percentiles where it is one of many."""

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
    """A contender that was not measured, since it fails or is wrong."""

    suite: str
    case: Case
    contender: str
    reason: str


@dataclass
class Report:
    conditions: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def cases(self, suite: str) -> list[Case]:
        return list(dict.fromkeys(result.case for result in self.results if result.suite == suite))

    def find(self, suite: str, case: Case, contender: str, quantity: str) -> Result | None:
        matches = (
            result
            for result in self.results
            if (result.suite, result.case, result.contender, result.quantity) == (suite, case, contender, quantity)
        )
        return next(matches, None)

    def ours(self, suite: str) -> list[str]:
        names = (result.contender for result in self.results if result.suite == suite)
        return list(dict.fromkeys(name for name in names if name.startswith(OURS)))

    def save(self, path: Path) -> None:
        # A result a line, for diffs to be read.
        def lines(entries: Sequence[Result] | Sequence[Failure]) -> str:
            return ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)

        path.write_text(
            f'{{"format": {FORMAT},\n"conditions": {json.dumps(self.conditions, indent=1, ensure_ascii=False)},\n'
            f'"results": [\n{lines(self.results)}\n],\n"failures": [\n{lines(self.failures)}\n]}}\n',
            encoding="utf-8",
        )

    @classmethod
    def load(cls, path: Path) -> Report:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{path} has format {content.get('format')!r}, this version reads {FORMAT}")

        def with_case(entry: dict[str, Any]) -> dict[str, Any]:
            case = entry["case"]
            return {**entry, "case": Case(**{**case, "shape": tuple(case["shape"])})}

        return cls(
            content["conditions"],
            [Result(**with_case(entry)) for entry in content["results"]],
            [Failure(**with_case(entry)) for entry in content["failures"]],
        )


def summary(suite: str, case: Case, contender: str, quantity: str, unit: str, samples: Sequence[float]) -> Result:
    p20, median, p80 = (float(value) for value in np.percentile(samples, (20, 50, 80)))
    return Result(suite, case, contender, quantity, unit, median, p20, p80)


def summarise_times(suite: str, case: Case, times: dict[str, list[float]]) -> Iterator[Result]:
    """Times, and their quotients round by round, in which a disturbance of a whole round cancels."""
    for name, samples in times.items():
        yield summary(suite, case, name, TIME, "ns", samples)
    for target in TARGETS[suite]:
        for name in times:
            if name.startswith(OURS):
                numerator, denominator = (
                    name if side == OURS else side for side in (target.numerator, target.denominator)
                )
                if numerator in times and denominator in times:
                    ratios = [a / b for a, b in zip(times[numerator], times[denominator], strict=True)]
                    yield summary(suite, case, numerator, RATIO + denominator, "", ratios)


# Conditions


def conditions(**options: Any) -> dict[str, Any]:
    """Where, when and with what this runs."""
    extension = _ext.module()
    status = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction_set": None if extension is None else extension.cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "blurfft": blurfft.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        **options,
    }


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def headline(conditions: dict[str, Any]) -> str:
    instruction_set = conditions["instruction_set"] or "no compiled extension"
    commit = (conditions["commit"] or "no commit")[:10] + (" with changes" if conditions["dirty"] else "")
    return (
        f"{conditions['cpu']}, {conditions['cores']} cores, {conditions['threads']} threads, {instruction_set}; "
        f"torch {conditions['torch']}, blurfft {conditions['blurfft']} ({commit}); {conditions['date']}"
    )


# Words and tables


def _verdict(value: float, shown: str, target: Target, case: Case) -> Text:
    met = target.met(case, value)
    limit = f"{target.relation} {target.limit(case):g}"
    return Text(f"{shown} {limit} {'✓' if met else '✗'}", style="green" if met else "red")


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def line(report: Report, suite: str, case: Case) -> str:
    """The results of a case in one line, for reading along."""
    results = [result for result in report.results if result.suite == suite and result.case == case]
    if suite == "memory":
        extra: dict[str, list[str]] = {}
        for result in results:
            extra.setdefault(result.contender, []).append(f"{result.median:.1f}")
        parts = [f"{name} {' / '.join(values)} %" for name, values in extra.items()]
    elif suite == "accuracy":
        parts = [f"{r.contender} {r.quantity.removeprefix(ERROR)} {r.median:.1e}" for r in results]
    else:
        parts = [
            f"{r.contender} {_number(r.median / case.pixels)} ({_number(r.p20 / case.pixels)}–"
            f"{_number(r.p80 / case.pixels)})"
            for r in results
            if r.quantity == TIME and r.p20 is not None and r.p80 is not None
        ]
        parts = [", ".join(parts) + " ns/pixel"] if parts else []
    return f"{suite}  {case}: " + ", ".join(parts)


def tables(report: Report) -> list[Table]:
    make = {"loss": _times, "nll": _times, "memory": _memory, "accuracy": _accuracy}
    suites = dict.fromkeys(result.suite for result in report.results)
    return [make[suite](report, suite) for suite in suites]


def _times(report: Report, suite: str) -> Table:
    shown = [COPY, MSE, EAGER, *([HAND] if suite == "loss" else [])]
    table = Table(title=f"{suite}: forward + backward, median ns per pixel, and quotients with their targets")
    table.add_column("images")
    for name in (*shown, OURS):
        table.add_column(name, justify="right")
    for target in TARGETS[suite]:
        table.add_column(f"{target.numerator} ÷ {target.denominator}", justify="right")
    for case in report.cases(suite):
        for ours in report.ours(suite) or [OURS]:
            cells: list[str | Text] = [case.images]
            for name in (*shown, ours):
                time = report.find(suite, case, name, TIME)
                cells.append("–" if time is None else _number(time.median / case.pixels))
            cells[-1] = f"{ours.removeprefix(OURS).strip()} {cells[-1]}"
            for target in TARGETS[suite]:
                numerator, denominator = (
                    ours if side == OURS else side for side in (target.numerator, target.denominator)
                )
                ratio = report.find(suite, case, numerator, RATIO + denominator)
                cells.append("–" if ratio is None else _verdict(ratio.median, _number(ratio.median), target, case))
            table.add_row(*cells)
    return table


def _memory(report: Report, suite: str) -> Table:
    table = Table(
        title="memory: peak beyond inputs and gradients, in % of one gradient: of torch's allocator / of the process"
    )
    names = [GRADIENT, MSE, EAGER, HAND, *report.ours(suite)]
    for name in ("case", *names):
        table.add_column(name, justify="left" if name == "case" else "right")
    for case in report.cases(suite):
        cells: list[str | Text] = [str(case)]
        for name in names:
            found = [report.find(suite, case, name, quantity) for quantity in (ALLOCATOR_MEMORY, PROCESS_MEMORY)]
            values = [result.median for result in found if result is not None]
            text = Text(" / ".join(f"{value:.1f}" for value in values) or "–")
            if name.startswith(OURS) and values:
                met = max(values) <= MEMORY_TARGET
                text.append(f" ≤ {MEMORY_TARGET:g} {'✓' if met else '✗'}")
                text.stylize("green" if met else "red")
            cells.append(text)
        table.add_row(*cells)
    return table


def _accuracy(report: Report, suite: str) -> Table:
    table = Table(
        title="accuracy in fp32: largest error against fp64, relative to the largest entry: torch.fft, blurfft"
    )
    (target,) = TARGETS[suite]
    quantities = list(dict.fromkeys(result.quantity for result in report.results if result.suite == suite))
    table.add_column("case")
    table.add_column("backend")
    for quantity in quantities:
        table.add_column(quantity.removeprefix(ERROR), justify="right")
    for case in report.cases(suite):
        for ours in report.ours(suite):
            cells: list[str | Text] = [str(case), ours.removeprefix(OURS).strip()]
            for quantity in quantities:
                own, eager = (report.find(suite, case, name, quantity) for name in (ours, EAGER))
                if own is None or eager is None:
                    cells.append("–")
                    continue
                ratio = own.median / max(eager.median, ULP)
                shown = f"{eager.median:.1e}, {own.median:.1e}: {_number(ratio)}"
                cells.append(_verdict(ratio, shown, target, case))
            table.add_row(*cells)
    return table
