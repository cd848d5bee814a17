"""What the commands share on the terminal: tables, progress bars, lines and the options' checks."""

from __future__ import annotations

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from .. import _table, info
from ..files import printable

NUMBER = (0, torch.finfo(torch.float32).max)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def show(table: _table.Table) -> None:
    """Prints a table."""
    shown = Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        show_header=bool(table.columns),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(table.columns or ("", "")):
        style = "" if table.columns or i else "dim"
        shown.add_column(name, justify="right" if i in table.right else "left", style=style)
    for row in table.rows:
        shown.add_row(*(Text(cell.text, cell.style) for cell in row))
    console.print(shown)


def progress(*more: ProgressColumn, shown: bool = True) -> Progress:
    """A progress bar on the terminal that disappears at the end; none if stderr is not a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        *more,
        console=errors,
        transient=True,
        disable=not (errors.is_terminal and shown),
        expand=False,
    )


def say(bar: Progress, where: Console, message: str) -> None:
    """Prints a line of markup; above the progress bar if both are on the terminal."""
    shared = where.is_terminal and bar.console.is_terminal
    (bar.console if shared else where).print(printable(message), soft_wrap=True)


def fail(message: str) -> typer.Exit:
    """Prints why the command ends, and returns what to raise."""
    errors.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    return typer.Exit(1)


def stopped(kept: str) -> typer.Exit:
    """Prints after Ctrl-C what was kept, and returns what to raise."""
    errors.print(f"stopped; {escape(kept)}", soft_wrap=True)
    return typer.Exit(130)


def require_settings() -> None:
    """Ends the command at once for a setting that would make every call fail."""
    for problem in info.problems():
        raise fail(problem)


def number(value: float) -> float:
    """Checks a non-negative option: NaN, infinity and values beyond float32 are refused."""
    least, largest = NUMBER
    if not least <= value <= largest:
        raise typer.BadParameter(f"it must be a number from {least} to {largest:.1e}, got {value}")
    return value
