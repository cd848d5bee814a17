"""``blurfft check``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from .. import selfcheck
from ..files import counted
from .terminal import console, errors, fail, progress, require_settings, show, stopped

EXAMPLES = (
    "**Examples**\n\nblurfft check\n\nblurfft check --backend cpu --all\n\n"
    "BLURFFT_CPU=baseline blurfft check   # the code for old processors"
)


def check(
    backend: Annotated[
        list[str] | None, typer.Option("--backend", metavar="NAME", help="Only this backend; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="A row for each size, not only the worst.")] = False,
) -> None:
    """Compare every backend on this machine with the formulas in float64.

    Each function runs forward and backward, in every dtype and at several sizes. The error is the largest deviation
    divided by the largest element; for gradients, that of the worst argument. The limit follows from the precision of
    the dtype: eps x log2(H x W) for the transforms, times the gain of the Wiener filter; twice that for gradients and
    for float64; plus the rounding of half-precision results (see the docstring of blurfft.selfcheck). The exit status
    is 1 if any error is beyond its limit.
    """
    try:
        backends = selfcheck.chosen(backend or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--backend") from None
    except RuntimeError as error:
        raise fail(str(error)) from None
    require_settings()
    plan = selfcheck.plan(backends)
    results = []
    try:
        with progress() as bar:
            task = bar.add_task("", total=len(plan))
            for case in plan:
                bar.update(task, description=f"{case[0]} {case[1]}")
                results.append(selfcheck.check_one(*case))
                bar.advance(task)
    except KeyboardInterrupt:
        failed = sum(not result.passed for result in results)
        raise stopped(f"{len(results)} of {counted(len(plan), 'check')} made, {failed} failed") from None

    for name in backends:
        console.print()
        show(selfcheck.table(name, results, everything))
    for failure in selfcheck.failures(results):
        errors.print(Text(failure, "red"))
    console.print()
    console.print(Text(*selfcheck.summary(backends, results)))
    if not all(result.passed for result in results):
        raise typer.Exit(1)
