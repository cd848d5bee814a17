"""Results as lines and tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from . import memory
from .cases import Case
from .contenders import COPY, MSE
from .report import ERROR, OVERHEAD, SHARE, TIME, Report


def show(console: Console, table: Table) -> None:
    """Prints the whole table: a narrow terminal breaks the lines, where rich would drop columns."""
    width = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(file=console.file, width=max(width, console.width)).print(table)


def number(value: float) -> str:
    """The value with three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def line(report: Report, suite: str, case: Case) -> str:
    """The results of a case in one line."""
    results = [result for result in report.results if result.suite == suite and result.case == case]
    if suite == "memory":
        extra: dict[str, list[str]] = {}
        for result in results:
            extra.setdefault(result.contender, []).append(f"{result.median:.1f}")
        parts = [f"{name} {' / '.join(values)} %" for name, values in extra.items()]
    elif suite == "accuracy":
        parts = [f"{r.contender} {r.quantity.removeprefix(ERROR)} {r.median:.1e}" for r in results]
    else:
        scale, unit = {"overhead": (1e3, "µs"), "train": (1e6, "ms")}.get(suite, (case.pixels, "ns/px"))
        parts = [
            f"{r.contender} {number(r.median / scale)} ({number(r.p20 / scale)}–{number(r.p80 / scale)})"
            for r in results
            if r.quantity == TIME and r.p20 is not None and r.p80 is not None
        ]
        parts = [", ".join(parts) + f" {unit}"] if parts else []
    return f"{suite}  {case}: " + ", ".join(parts)


def tables(report: Report, suites: list[str]) -> list[Table]:
    make = {"memory": _memory, "accuracy": _accuracy, "overhead": _overhead, "train": _train}
    return [make.get(suite, _times)(report, suite) for suite in suites if report.cases(suite)]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _times(report: Report, suite: str) -> Table:
    """Nanoseconds per pixel; in brackets, the time relative to the fastest backend that serves the case."""
    names = report.contenders(suite)
    title = f"{suite}: ns/px; in brackets × the time of blurfft; share of the limit that memory sets"
    table = _table(title, "case", *names, "share of limit")
    for case in report.cases(suite):
        cells = [str(case)]
        for name in names:
            time = report.find(suite, case, name, TIME)
            ratio = report.ratio(suite, case, name)
            shown = "–" if time is None else number(time.median / case.pixels)
            cells.append(shown if ratio is None else f"{shown} ({number(ratio.median)})")
        cells.append(share_of_limit(report, suite, case))
        table.add_row(*cells)
    return table


def share_of_limit(report: Report, suite: str, case: Case) -> str:
    """The time that moving operands and results takes, in % of blurfft's."""
    ours, limit = report.ours(suite, case), report.limit(suite, case)
    time = None if ours is None else report.find(suite, case, ours, TIME)
    return "–" if time is None or limit is None else f"{100 * limit / time.median:.0f} %"


def _overhead(report: Report, suite: str) -> Table:
    names = [name for name in report.contenders(suite) if name != COPY]
    table = _table("overhead: µs a call", "case", *names, f"blurfft − {MSE}")
    for case in report.cases(suite):
        cells = [str(case)]
        for name in names:
            time = report.find(suite, case, name, TIME)
            cells.append("–" if time is None else number(time.median / 1e3))
        ours = report.ours(suite, case)
        difference = None if ours is None else report.find(suite, case, ours, OVERHEAD + MSE)
        cells.append("–" if difference is None else number(difference.median / 1e3))
        table.add_row(*cells)
    return table


def _train(report: Report, suite: str) -> Table:
    names = report.contenders(suite)
    table = _table("train: ms a step, in brackets the share that the reconstruction term takes", "case", *names)
    for case in report.cases(suite):
        cells = [str(case)]
        for name in names:
            time, share = (report.find(suite, case, name, quantity) for quantity in (TIME, SHARE))
            shown = "–" if time is None else number(time.median / 1e6)
            cells.append(shown if share is None else f"{shown} ({number(share.median)} %)")
        table.add_row(*cells)
    return table


def _memory(report: Report, suite: str) -> Table:
    names = report.contenders(suite)
    title = "memory: peak beyond inputs and gradients, in % of one gradient: of torch's allocator / of the process"
    table = _table(title, "case", *names)
    for case in report.cases(suite):
        cells = [str(case)]
        for name in names:
            found = [report.find(suite, case, name, quantity) for quantity in (memory.ALLOCATOR, memory.PROCESS)]
            cells.append(" / ".join(f"{result.median:.1f}" for result in found if result is not None) or "–")
        table.add_row(*cells)
    return table


def _accuracy(report: Report, suite: str) -> Table:
    quantities = list(dict.fromkeys(result.quantity for result in report.results if result.suite == suite))
    title = "accuracy in fp32: largest error against fp64, relative to the largest entry"
    table = _table(title, "case", "contender", *(quantity.removeprefix(ERROR) for quantity in quantities))
    for case in report.cases(suite):
        for name in report.contenders(suite, case):
            found = [report.find(suite, case, name, quantity) for quantity in quantities]
            table.add_row(str(case), name, *("–" if error is None else f"{error.median:.1e}" for error in found))
        table.add_section()
    return table
