"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import compare as comparison
from . import measure, memory, report, tables, train
from .cases import LOSSES, PIXELS, SUITES, Case, Inputs, standard
from .contenders import COPY, MSE, Contender, backends, contenders, truths
from .readme import RESULTS, rewrite, shows
from .readme import pages as pages_with_tables
from .report import ROOT, Failure, Report, Result

ROUNDS = 25
SETS = 4  # of inputs, which calls on a GPU use in turn
OVERHEAD_ROUNDS = 7  # times as many: a call of microseconds is cheap to repeat and easily disturbed
DRAWS = 3  # of inputs, for errors
COMPILED_SIZES = ((64, 64), (256, 256))  # compiling takes some ten seconds per case
ATTEMPTS = 3
WORST = 3  # cases that are named at the end
QUICK_ROUNDS = 5
QUICK_SHARE = 16  # of the pixels
QUICK_SIZES = (64, 28)
FIGURES = ROOT / "docs" / "figures"


class Suite(str, Enum):
    all = "all"
    loss = "loss"
    nll = "nll"
    ffl = "ffl"
    filter = "filter"
    fft = "fft"
    overhead = "overhead"
    train = "train"
    memory = "memory"
    accuracy = "accuracy"


class Format(str, Enum):
    svg = "svg"
    png = "png"


class Device(str, Enum):
    cpu = "cpu"
    cuda = "cuda"


app = typer.Typer(no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def _commands() -> None:
    """Times blurfft and its contenders, measures memory and errors, and shows the results."""


@dataclass(frozen=True)
class Options:
    device: str
    threads: int
    pixels: int
    rounds: int
    quick: bool
    compile: bool


@app.command()
def run(
    suite: Annotated[Suite, typer.Option(help="What to measure; benchmarks/README.md says what each holds.")] = Suite[
        "all"
    ],
    device: Annotated[Device, typer.Option(help="Where to measure.")] = Device.cpu,
    size: Annotated[list[int] | None, typer.Option(min=1, help="Only images of this height; may be repeated.")] = None,
    pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Approximate number of values in an image tensor, unless the case says otherwise; decides the batch.",
            show_default=", ".join(f"{name} {value}" for name, value in PIXELS.items()),
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of torch's threads.", show_default="torch's own")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Turns of each contender.", show_default=str(ROUNDS))
    ] = None,
    attempts: Annotated[
        int, typer.Option(min=1, help="Measurements of a case that other processes disturb; the best one counts.")
    ] = ATTEMPTS,
    pages: Annotated[bool, typer.Option("--pages", help="Only what README.md and docs/ show.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two sizes, small tensors, few rounds: shows that it works, not how fast.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A JSON file for the results; other suites in the file are kept."),
    ] = None,
    compile: Annotated[
        bool, typer.Option(help="Include torch.compile; compiling takes some ten seconds per case.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure only what is not in the file yet, after an interruption.")
    ] = False,
) -> None:
    """Measures, prints each result, and saves after each case.

    A contender whose result is wrong is not timed, and the exit status is then 1.
    """
    if out is not None and not out.resolve().parent.is_dir():
        raise typer.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    if resume and out is None:
        raise typer.BadParameter("it needs --out, the file to continue", param_hint="--resume")
    if device is Device.cuda and not torch.cuda.is_available():
        raise typer.BadParameter("torch sees no CUDA device here", param_hint="--device")
    if threads is not None:
        torch.set_num_threads(threads)
    options = Options(
        device=device.value,
        threads=torch.get_num_threads(),
        pixels=pixels or PIXELS[device.value] // (QUICK_SHARE if quick else 1),
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        quick=quick,
        compile=compile and not quick,
    )
    sizes = size or (QUICK_SIZES if quick else None)
    suites = list(SUITES) if suite.value == "all" else [suite.value]
    heights = {case.size[0] for name in suites for case in SUITES[name](options.pixels)}
    if size and not heights & set(size):
        there = ", ".join(map(str, sorted(heights)))
        raise typer.BadParameter(f"no case of these suites has that height; there are {there}", param_hint="--size")
    results = _open(out, options, suites, resume)
    # The file has an entry only for complete cases.
    plan = [
        (name, case)
        for name in suites
        for case in SUITES[name](options.pixels)
        if (sizes is None or case.size[0] in sizes)
        and not (pages and not shows(name, case, options.pixels))
        and not (resume and case in results.cases(name))
    ]

    console = Console()
    console.print(report.headline(results.machine), highlight=False)
    disturbed = 0
    failures = len(results.failures)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    # Drawn between measurements only: a thread that draws would disturb them.
    with Progress(
        *columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=sum(_seconds(name, case, options) for name, case in plan))
        for name, case in plan:
            progress.update(task, description=f"{name} {case}", refresh=True)
            seconds = _seconds(name, case, options)

            def advance(share: float, seconds: float = seconds) -> None:
                progress.update(task, advance=share * seconds, refresh=True)

            part = _undisturbed(partial(_measure, results.machine, name, case, options, advance), attempts, name, case)
            results.results += part.results
            results.failures += part.failures
            if out is not None:
                results.save(out)
            disturbed += _show(console, part, name, case, options.device)

    for table in tables.tables(results, suites):
        tables.show(console, table)
    for name, case, ours, ratio in report.worst(results, WORST):
        console.print(f"Least gain on torch.fft: {ratio:.2f} times as fast, {ours}, {name} {case}", highlight=False)
    if disturbed:
        console.print(f"Cases whose times other processes disturbed, not to be quoted: {disturbed}", style="yellow")
    if out is not None:
        console.print(f"Written to {out}")
    if len(results.failures) > failures:
        console.print(f"{len(results.failures) - failures} not measured, see above.", style="red")
        raise typer.Exit(1)


Results = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file that run has written.")]


@app.command()
def compare(before: Results, after: Results) -> None:
    """Lists changes larger than the spread. The exit status is 1 if any figure of blurfft became worse.

    A time counts as changed if both it and its ratio to plain torch.fft differ by more than the spread: a slower
    machine is not a slower blurfft.
    """
    reports = [_load(path) for path in (before, after)]
    worse, better = comparison.compare(*reports)
    missing = comparison.missing(*reports)
    console = Console()
    for name, results in zip(("before", "after"), reports, strict=True):
        console.print(f"{name}: {report.headline(results.machine)}", highlight=False)
    if better:
        tables.show(console, comparison.table("better", better))
    if worse:
        tables.show(console, comparison.table("worse", worse))
    if missing:
        cases = sorted({f"{result.suite} {result.case}" for result in missing})
        console.print(f"Not in {after}: {'; '.join(cases)}", style="yellow", highlight=False)
    console.print(f"{len(worse)} worse, {len(better)} better")
    if worse:
        raise typer.Exit(1)


@app.command()
def plot(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Files that run has written, one for each processor.",
            show_default=f"{RESULTS.relative_to(ROOT)}/cpu-*.json",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(file_okay=False, exists=True, help="The folder for the figures.")] = FIGURES,
    format: Annotated[Format, typer.Option(help="Of the figures.")] = Format.svg,
) -> None:
    """Draws time per pixel against image size, and bars for all contenders, each for light and dark pages."""
    from .plot import save  # slow to import, and only this command needs matplotlib

    reports = [_load(path) for path in results or sorted(RESULTS.glob("cpu-*.json"))]
    try:
        paths = save(reports, out, format.value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for path in paths:
        typer.echo(f"Written to {path}")


@app.command()
def readme(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; the exit status is 1 if a page is stale.")
    ] = False,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="Only this page; may be repeated.", show_default="all with tables"
        ),
    ] = None,
) -> None:
    """Rewrites the tables of README.md and of the pages in docs/ from the results in benchmarks/results.

    A table stands between the lines <!-- benchmark: NAME FILES --> and <!-- /benchmark -->.
    """
    stale = False
    for path in file or pages_with_tables():
        text = path.read_text(encoding="utf-8")
        try:
            current = rewrite(text)
        except ValueError as error:
            raise typer.BadParameter(f"{path}: {error}") from None
        if current == text:
            typer.echo(f"{path} is up to date")
        elif check:
            typer.echo(f"{path} is stale: python -m benchmarks readme", err=True)
            stale = True
        else:
            path.write_text(current, encoding="utf-8")
            typer.echo(f"Written to {path}")
    if stale:
        raise typer.Exit(1)


def _load(path: Path) -> Report:
    try:
        return Report.load(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _open(out: Path | None, options: Options, suites: list[str], resume: bool) -> Report:
    """The report to extend: loaded from ``out`` if it exists, else new."""
    machine = report.machine(options.device, options.threads)
    results = _load(out) if out is not None and out.exists() else Report(machine)
    if results.machine != machine:
        differing = ", ".join(
            name for name in machine | results.machine if machine.get(name) != results.machine.get(name)
        )
        raise typer.BadParameter(
            f"the results in {out} are of another machine: its {differing} differ", param_hint="--out"
        )
    kept = measure.keep_freed_memory()
    for name in suites:
        rounds = _rounds(name, options)
        run = report.run(pixels=options.pixels, rounds=rounds, quick=options.quick, keeps_freed_memory=kept)
        if not resume or name not in results.runs:
            results.begin(name, run)
        elif (before := {**results.runs[name], "date": run["date"]}) != run:
            differing = ", ".join(key for key in run if before.get(key) != run[key])
            raise typer.BadParameter(f"{name} in {out} was begun with another {differing}", param_hint="--resume")
    return results


def _show(console: Console, part: Report, suite: str, case: Case, device: str) -> bool:
    """Prints the results of a case. Returns whether other processes disturbed it."""
    console.print(tables.line(part, suite, case), highlight=False, soft_wrap=True)
    for failure in part.failures:
        console.print(f"  {failure.contender} is not measured: {failure.reason}", style="red", soft_wrap=True)
    for backend, reason in backends(case, device).items():
        if reason is not None:
            console.print(f"  backend {backend} does not serve this: {reason}", style="yellow", soft_wrap=True)
    waited = _waited(part, suite, case)
    if waited <= report.DISTURBED:
        return False
    console.print(f"  disturbed: its threads had no core for {waited:.1f} % of the time", style="yellow")
    return True


def _measure(
    machine: dict[str, Any], suite: str, case: Case, options: Options, advance: Callable[[float], None]
) -> Report:
    part = Report(machine)
    {"memory": _measure_memory, "accuracy": _measure_errors}.get(suite, _measure_times)(
        part, suite, case, options, advance
    )
    return part


def _undisturbed(measure: Callable[[], Report], attempts: int, suite: str, case: Case) -> Report:
    """The first undisturbed measurement, else the least disturbed."""
    parts = []
    for _ in range(attempts):
        parts.append(measure())
        if _waited(parts[-1], suite, case) <= report.DISTURBED:
            break
    return min(parts, key=lambda part: _waited(part, suite, case))


def _waited(part: Report, suite: str, case: Case) -> float:
    """How long threads waited for a core, in % of the time of the case."""
    waited = part.find(suite, case, report.MACHINE, report.WAITED)
    return 0.0 if waited is None else waited.median


def _rounds(suite: str, options: Options) -> int:
    return options.rounds * (OVERHEAD_ROUNDS if suite == "overhead" else 1)


def _seconds(suite: str, case: Case, options: Options) -> float:
    """Roughly what a case takes, for the time left on the progress bar."""
    if suite == "memory":
        return 4 + 2e-6 * case.pixels
    rounds = 30 if suite == "accuracy" else _rounds(suite, options)
    return 1 + 1e-7 * rounds * case.pixels


def _worth_compiling(case: Case, pixels: int) -> bool:
    usual = case.size in COMPILED_SIZES and case == standard(case.op, case.size, pixels)
    return case.op in LOSSES and usual


def _measure_times(part: Report, suite: str, case: Case, options: Options, advance: Callable[[float], None]) -> None:
    inputs: Inputs | train.Inputs
    if suite == "train":
        inputs = train.Inputs(case, options.device)
        truth, everyone = train.truths(case, inputs), train.contenders(case, inputs)
    else:
        inputs = Inputs.of(case, options.device)
        compile = options.compile and _worth_compiling(case, options.pixels)
        truth, everyone = truths(case, inputs), contenders(case, inputs, compile)
    right = []
    for contender in everyone:
        if suite == "overhead" and contender.name == COPY:
            continue
        reason = measure.fault(contender, truth[contender.truth], case.dtype)
        if reason is None:
            right.append(contender)
        else:
            part.failures.append(Failure(suite, case, contender.name, reason))
    del truth
    inputs.clear()
    timer = measure.cuda_timer if options.device == "cuda" else measure.cpu_timer
    others: list[Inputs] = []
    if options.device == "cuda" and isinstance(inputs, Inputs):
        # A GPU's second-level cache would hold a part of one set. A compiled contender has the first alone.
        others = [Inputs.of(case, options.device, seed) for seed in range(1, SETS)]
        same = [{contender.name: contender for contender in contenders(case, other)} for other in others]
        right = [measure.rotating([one, *(set[one.name] for set in same if one.name in set)]) for one in right]
    waited, start = measure.waited(), time.perf_counter()
    parts: dict[str, list[float]] = {contender.name: [] for contender in right}

    def after_turn(contender: Contender, calls: int) -> None:
        for used in (inputs, *others):
            used.clear()
        if isinstance(contender.call, train.Step):
            parts[contender.name].append(contender.call.stopwatch.last(calls))

    rounds = _rounds(suite, options)
    times = measure.times(right, rounds, after_turn, after_round=lambda: advance(1 / rounds), timer=timer)
    seconds, waited_then = time.perf_counter() - start, measure.waited()
    if options.device == "cpu" and waited is not None and waited_then is not None:
        share = 100 * (waited_then - waited) / (seconds * options.threads)
        part.results.append(Result(suite, case, report.MACHINE, report.WAITED, "%", share))
    part.results.extend(report.summarise_times(suite, case, times, parts))


def _measure_errors(part: Report, suite: str, case: Case, options: Options, advance: Callable[[float], None]) -> None:
    worst: dict[tuple[str, str], float] = {}
    wrong: dict[str, str] = {}
    draws = 1 if options.quick else DRAWS
    for seed in range(draws):
        inputs = Inputs.of(case, options.device, seed)
        truth = truths(case, inputs)
        for contender in contenders(case, inputs):
            if contender.name in (COPY, MSE, *wrong):
                continue
            reason = measure.fault(contender, truth[contender.truth], case.dtype)
            if reason is not None:
                wrong[contender.name] = reason
                continue
            for name, error in measure.errors(contender.step(), truth[contender.truth]).items():
                key = (contender.name, report.ERROR + name)
                worst[key] = max(worst.get(key, 0.0), error)
        advance(1 / draws)
    part.failures += [Failure(suite, case, name, reason) for name, reason in wrong.items()]
    part.results += [
        Result(suite, case, name, quantity, "of the largest entry", error)
        for (name, quantity), error in worst.items()
        if name not in wrong
    ]


def _measure_memory(part: Report, suite: str, case: Case, options: Options, advance: Callable[[float], None]) -> None:
    names = memory.names(case, options.device)
    for name in names:
        try:
            measured = memory.measure(case, name, options.device, options.threads)
        except Exception as error:
            part.failures.append(Failure(suite, case, name, f"{type(error).__name__}: {error}"))
        else:
            part.results += [
                Result(suite, case, name, quantity, "% of the gradient", v) for quantity, v in measured.items()
            ]
        advance(1 / len(names))


if __name__ == "__main__":
    app()
