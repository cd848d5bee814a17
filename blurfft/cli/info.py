"""``blurfft info``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from .. import info as information
from .terminal import console, show

EXAMPLES = (
    "**Examples**\n\nblurfft info\n\n"
    "blurfft info --json > info.json   # to attach to a bug report\n\n"
    "BLURFFT_CPU=baseline blurfft info   # with another instruction set"
)


def info(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for bug reports.")] = False) -> None:
    """Show what is built, which backend serves what, and why one is not available.

    The backends are `cuda` (compiled CUDA C++), `triton`, `cpu` (compiled C++) and `reference` (plain torch.fft). The
    fastest one that supports the device, dtype and size serves a call, unless you ask for one by name with
    blurfft.use_backend or BLURFFT_BACKEND.
    """
    facts = information.gather()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for i, table in enumerate(information.tables(facts)):
        if i:
            console.print()
        show(table)
    for problem in facts["problems"]:
        console.print(f"\n[red]{escape(problem)}[/red]")
