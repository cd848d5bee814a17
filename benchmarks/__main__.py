"""The command line: ``python -m benchmarks run``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import measure, memory, report
from .cases import MAIN_SIZES, OTHER_SIZES, OUTPUT_NAMES, PIXELS, SUITES, Case, Inputs
from .contenders import backends, contenders, truths
from .report import Failure, Report, Result

ROUNDS = 40
DRAWS = 3  # of inputs, where errors are measured
QUICK_SIZES = (64, 28)
QUICK_PIXELS = PIXELS // 8
QUICK_ROUNDS = 5


class Suite(str, Enum):
    all = "all"
    loss = "loss"
    nll = "nll"
    memory = "memory"
    accuracy = "accuracy"


app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _commands() -> None:
    """Times blurfft against its contenders, and measures its memory and its errors."""


@app.command()
def run(
    suite: Annotated[
        Suite, typer.Option(help="What to measure; benchmarks/README.md says what each holds.")
    ] = Suite.all,
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=11,
            max=4096,
            help="Side of the images; may be given again.",
            show_default="64 128 256 28 96 160 224 512",
        ),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Values of an image tensor, about: the batch follows from it. Beyond the caches, as in training.",
            show_default=f"{PIXELS}, 256×3×64×64",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Turns of each contender.", show_default=str(ROUNDS))
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two sizes, small tensors, few rounds: whether it works, not how fast.")
    ] = False,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="A JSON file for the results.")] = None,
) -> None:
    """Measures, shows the results as they come, and at the end against the targets.

    A contender whose result is wrong is not timed; then the exit status is 1.
    """
    if out is not None and not out.resolve().parent.is_dir():
        raise typer.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    sizes = size or (QUICK_SIZES if quick else (*MAIN_SIZES, *OTHER_SIZES))
    pixels = pixels or (QUICK_PIXELS if quick else PIXELS)
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    suites = list(SUITES) if suite is Suite.all else [suite.value]

    console = Console()
    torch.set_num_threads(threads)
    results = Report(report.conditions(threads=threads, pixels=pixels, rounds=rounds, quick=quick))
    console.print(report.headline(results.conditions), highlight=False)

    plan = [(name, case) for name in suites for case in SUITES[name](sizes, pixels)]
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    # Drawn between measurements only: a thread that draws would disturb them.
    with Progress(
        *columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=sum(_seconds(name, case, rounds) for name, case in plan))

        def measure_case(name: str, case: Case) -> None:
            def advance(share: float) -> None:
                progress.update(task, advance=share * _seconds(name, case, rounds), refresh=True)

            progress.update(task, description=f"{name} {case}", refresh=True)
            if name == "memory":
                _measure_memory(results, case, threads, advance)
            elif name == "accuracy":
                _measure_errors(results, case, 1 if quick else DRAWS, advance)
            else:
                _measure_times(results, name, case, rounds, advance)

        disturbed = 0
        for name, case in plan:
            known = len(results.failures)
            measure_case(name, case)
            console.print(report.line(results, name, case), highlight=False, soft_wrap=True)
            waited = results.find(name, case, report.MACHINE, report.WAITED)
            if waited is not None and waited.median > report.DISTURBED:
                disturbed += 1
                console.print(
                    f"  disturbed: its threads had no core for {waited.median:.1f} % of the time", style="yellow"
                )
            for failure in results.failures[known:]:
                console.print(f"  {failure.contender} is not measured: {failure.reason}", style="red", soft_wrap=True)
            for backend, reason in backends(case).items():
                if reason is not None:
                    console.print(f"  backend {backend} does not serve this: {reason}", style="yellow", soft_wrap=True)

    for table in report.tables(results):
        console.print(table)
    if disturbed:
        console.print(f"Cases whose times other processes disturbed, not to be quoted: {disturbed}", style="yellow")
    if out is not None:
        results.save(out)
        console.print(f"Written to {out}")
    if results.failures:
        console.print(f"{len(results.failures)} not measured, see above.", style="red")
        raise typer.Exit(1)


def _seconds(suite: str, case: Case, rounds: int) -> float:
    """What a case takes, roughly: for the time left."""
    if suite == "memory":
        return 4 + 2e-6 * case.pixels
    return 1 + (1e-7 * rounds if suite != "accuracy" else 3e-6) * case.pixels


def _measure_times(results: Report, suite: str, case: Case, rounds: int, advance: Callable[[float], None]) -> None:
    inputs = Inputs.of(case)
    truth = truths(case, inputs)
    right = []
    for contender in contenders(suite, case, inputs):
        reason = measure.fault(contender, truth[contender.truth])
        if reason is None:
            right.append(contender)
        else:
            results.failures.append(Failure(suite, case, contender.name, reason))
    del truth
    inputs.clear()
    waited, start = measure.waited(), time.perf_counter()
    times = measure.times(right, rounds, clear=inputs.clear, after_round=lambda: advance(1 / rounds))
    seconds, waited_then = time.perf_counter() - start, measure.waited()
    if waited is not None and waited_then is not None:
        share = 100 * (waited_then - waited) / (seconds * torch.get_num_threads())
        results.results.append(Result(suite, case, report.MACHINE, report.WAITED, "%", share))
    results.results.extend(report.summarise_times(suite, case, times))


def _measure_errors(results: Report, case: Case, draws: int, advance: Callable[[float], None]) -> None:
    worst: dict[tuple[str, str], float] = {}
    wrong = set()
    for seed in range(draws):
        inputs = Inputs.of(case, seed)
        truth = truths(case, inputs)
        for contender in contenders("accuracy", case, inputs):
            reason = measure.fault(contender, truth[contender.truth])
            if reason is not None and contender.name not in wrong:
                wrong.add(contender.name)
                results.failures.append(Failure("accuracy", case, contender.name, reason))
            if contender.name in wrong:
                continue
            for name, error in measure.errors(contender.step(), truth[contender.truth]).items():
                key = (contender.name, name)
                worst[key] = max(worst.get(key, 0.0), error)
        advance(1 / draws)
    for output in OUTPUT_NAMES:
        for (contender_name, name), error in worst.items():
            if name == output and contender_name not in wrong:
                results.results.append(
                    Result("accuracy", case, contender_name, report.ERROR + name, "of the largest entry", error)
                )


def _measure_memory(results: Report, case: Case, threads: int, advance: Callable[[float], None]) -> None:
    one = replace(case, shape=(1, *case.shape[1:]))
    names = [contender.name for contender in contenders("memory", one, Inputs.of(one))]
    for name in names:
        try:
            allocator, process = memory.measure(case, name, threads)
        except Exception as error:
            results.failures.append(Failure("memory", case, name, f"{type(error).__name__}: {error}"))
        else:
            for quantity, value in ((report.ALLOCATOR_MEMORY, allocator), (report.PROCESS_MEMORY, process)):
                if value is not None:
                    results.results.append(Result("memory", case, name, quantity, "% of the gradient", value))
        advance(1 / len(names))


if __name__ == "__main__":
    app()
