"""What became slower, larger or less accurate between two files of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from . import memory
from .contenders import EAGER, OURS
from .report import ERROR, RATIO, TIME, Report, Result

# Smaller changes say nothing, whatever the spread: a factor of times and errors, % of the gradient of memory.
TIME_MARGIN = 1.05
ERROR_MARGIN = 1.5
MEMORY_MARGIN = 2.0


@dataclass(frozen=True)
class Change:
    before: Result
    after: Result

    @property
    def factor(self) -> float:
        return self.after.median / self.before.median if self.before.median else float("inf")


def compare(before: Report, after: Report) -> tuple[list[Change], list[Change]]:
    """The changes for the worse and for the better that exceed the spread."""
    worse, better = [], []
    for pair in _pairs(before, after):
        if _is_worse(pair, before, after):
            worse.append(pair)
        elif _is_worse(Change(pair.after, pair.before), after, before):
            better.append(pair)
    return worse, better


def missing(before: Report, after: Report) -> list[Result]:
    """Results of blurfft that ``after`` lacks in suites that it ran."""
    there = {_key(result) for result in after.results}
    again = (result for result in _ours(before) if result.quantity == TIME and result.suite in after.runs)
    return [result for result in again if _key(result) not in there]


def table(title: str, changes: list[Change]) -> Table:
    result = Table(title=title, title_justify="left")
    for column in ("case", "contender", "quantity", "before", "after", "factor"):
        result.add_column(column, justify="left" if column in ("case", "contender", "quantity") else "right")
    for change in sorted(changes, key=lambda change: change.factor, reverse=True):
        after = change.after
        values = (f"{change.before.median:.4g}", f"{after.median:.4g} {after.unit}", f"{change.factor:.2f}")
        result.add_row(f"{after.suite} {after.case}", after.contender, after.quantity, *values)
    return result


def _key(result: Result) -> tuple[object, ...]:
    return result.suite, result.case, result.contender, result.quantity


def _ours(report: Report) -> Iterator[Result]:
    quantities = (TIME, memory.ALLOCATOR, memory.PROCESS)
    for result in report.results:
        if result.contender.startswith(OURS) and (result.quantity in quantities or result.quantity.startswith(ERROR)):
            yield result


def _pairs(before: Report, after: Report) -> Iterator[Change]:
    there = {_key(result): result for result in after.results}
    for result in _ours(before):
        if _key(result) in there:
            yield Change(result, there[_key(result)])


def _is_worse(change: Change, before: Report, after: Report) -> bool:
    a, b = change.before, change.after
    if a.quantity == TIME:
        # Not the machine: it must show against plain torch.fft in the same rounds, too.
        ratios = [r.find(a.suite, a.case, EAGER, RATIO + a.contender) for r in (before, after)]
        slower = _beyond(a, b) and change.factor > TIME_MARGIN
        return slower and (None in ratios or _beyond(ratios[1], ratios[0]))
    if a.quantity.startswith(ERROR):
        return change.factor > ERROR_MARGIN
    return b.median - a.median > MEMORY_MARGIN


def _beyond(low: Result | None, high: Result | None) -> bool:
    """Whether one lies above the other by more than their spreads."""
    assert low is not None and high is not None
    upper = low.median if low.p80 is None else low.p80
    lower = high.median if high.p20 is None else high.p20
    return lower > upper
