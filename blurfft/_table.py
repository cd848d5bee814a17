"""Tables for the terminal, described once. The commands show them with rich, or in plain text without it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Cell(NamedTuple):
    """Text and its style, as rich names it."""

    text: str
    style: str = ""


@dataclass
class Table:
    """Rows under headings. Without headings, the first column holds names and the second what there is to say."""

    title: str | None
    columns: tuple[str, ...] = ()
    right: frozenset[int] = frozenset()  # the columns that are aligned to the right
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: str | Cell) -> None:
        self.rows.append(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells))


_GAP = "  "


def plain(table: Table, width: int | None = None) -> str:
    """The table in plain text, without styles, as wide as the terminal at most.

    Examples:
        >>> table = Table(None, ("op", "error"))
        >>> table.add("blur", "1e-7")
        >>> print(plain(table))
        op    error
        ----  -----
        blur  1e-7
    """
    width = width or shutil.get_terminal_size().columns
    rows = [[cell.text for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, *([table.columns] if table.columns else []), strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    if table.columns:
        rows = [list(table.columns), ["-" * side for side in widths], *rows]
    lines = [table.title] if table.title else []
    for row in rows:
        wrapped = [textwrap.wrap(text, side) or [""] for text, side in zip(row, widths, strict=True)]
        lines += _side_by_side(wrapped, widths, table.right)
    return "\n".join(lines)


def _side_by_side(cells: list[list[str]], widths: list[int], right: Iterable[int]) -> list[str]:
    """The lines of a row, whose cells may have several each."""
    lines = []
    for i in range(max(map(len, cells))):
        parts = [cell[i] if i < len(cell) else "" for cell in cells]
        aligned = [
            part.rjust(side) if j in right else part.ljust(side)
            for j, (part, side) in enumerate(zip(parts, widths, strict=True))
        ]
        lines.append(_GAP.join(aligned).rstrip())
    return lines
