"""The command line: ``python -m benchmarks.quality``."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.report import machine, run
from blurfft.files import Refused, atomic
from blurfft.vae import data
from blurfft.vae.options import Options
from blurfft.vae.terms import TERMS
from blurfft.vae.training import Diverged

from . import fixed, report, runs, shares

FEATURES = "benchmarks.quality.features:RandomFeatures"
SETS = ("embedded:photographs", "embedded:brain")
BASE = Options(data=SETS[0], channels=1, latent=32, width=8, batch=32, learning_rate=3e-3, rate=40.0, features=FEATURES)

# The defaults, then one option at a time changed.
CENTRE = replace(BASE, loss="blur", nsr=0.01, eps=0.1, kernel_size=5, kernel="detached")
SWEEP: dict[str, dict[str, Any]] = {
    "nsr 0.01, eps 0.1, 5 x 5, detached, rate 40": {},
    "nsr 0.001": {"nsr": 0.001},
    "nsr 0.1": {"nsr": 0.1},
    "eps 0.01": {"eps": 0.01},
    "eps 1": {"eps": 1.0},
    "kernel 11 x 11": {"kernel_size": 11},
    "kernel 21 x 21": {"kernel_size": 21},
    "attached": {"kernel": "attached"},
    "beta 0.3": {"rate": None, "beta": 0.3},
    "beta 1": {"rate": None, "beta": 1.0},
    "beta 3": {"rate": None, "beta": 3.0},
}
SWEEP_SEEDS = 2

# Rate and distortion: five terms at every rate, all terms at one. More latents, to make room for the highest rate.
LEAVES = "embedded:leaves"
CURVE = replace(BASE, latent=128)
RATES = (80.0, 320.0, 1280.0)
RATE_OF_ALL = 320.0
CURVES = ("gaussian", "laplace", "focal-frequency", "blur", fixed.NAME)

# Four times as many pixels with twice as many latents and nats: neighbouring pixels say much the same.
RATE_OF_LARGE = 2 * RATE_OF_ALL
LARGE = replace(CURVE, size=64, latent=256, rate=RATE_OF_LARGE)
LARGE_TERMS = ("gaussian", "blur", "robust")

# For the share of a step: the model of the comparison, and a more usual one.
SHARED = (replace(BASE, rate=None), replace(BASE, size=64, channels=3, width=16, rate=None))


class Stage(str, Enum):
    all = "all"
    sweep = "sweep"
    terms = "terms"
    curves = "curves"
    large = "large"
    shares = "shares"
    report = "report"


app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


def plan(
    stage: Stage,
    steps: int,
    sweep_steps: int,
    curve_steps: int,
    seeds: int,
    sets: list[str],
    rates: Sequence[float] = RATES,
    terms: Sequence[str] = (*TERMS, fixed.NAME),
) -> list[runs.Run]:
    """The runs, seeds in the outermost loop: stopped early, every term has equally many."""
    planned = []
    if stage in (Stage.all, Stage.sweep) and SETS[0] in sets:
        planned += [
            runs.Run("sweep", label, replace(CENTRE, **changed, seed=seed), sweep_steps)
            for seed in range(SWEEP_SEEDS)
            for label, changed in SWEEP.items()
        ]
    if stage in (Stage.all, Stage.terms):
        planned += [
            runs.Run("terms", name, replace(BASE, data=source, loss=name, seed=seed), steps)
            for seed in range(seeds)
            for source in sets
            if source in SETS
            for name in TERMS
            if name in terms
        ]
    if stage in (Stage.all, Stage.curves):
        planned += [
            runs.Run("curves", name, replace(CURVE, data=source, loss=name, rate=rate, seed=seed), curve_steps)
            for seed in range(seeds)
            for source in sets
            for rate in rates
            for name in (*TERMS, fixed.NAME)
            if name in terms and (name in CURVES or rate == RATE_OF_ALL)
        ]
    if stage in (Stage.all, Stage.large):
        planned += [
            runs.Run("large", name, replace(LARGE, data=source, loss=name, seed=seed), curve_steps)
            for seed in range(seeds)
            for source in sets
            for name in LARGE_TERMS
            if name in terms
        ]
    return planned


@app.command()
def main(
    stage: Annotated[Stage, typer.Option(help="What to do; benchmarks/README.md says what each holds.")] = Stage.all,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run of the comparison.")] = 600,
    sweep_steps: Annotated[int, typer.Option(min=1, help="Training steps of each run of the sweep.")] = 150,
    curve_steps: Annotated[
        int, typer.Option(min=1, help="Training steps of each run of the curves, and on large images.")
    ] = 800,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of all but the sweep.")] = 3,
    sets: Annotated[
        list[str] | None, typer.Option("--data", metavar="SET", help="Only this set; may be repeated.")
    ] = None,
    rates: Annotated[
        list[float] | None,
        typer.Option("--rate", metavar="NATS", help="Only this rate of the curves; may be repeated."),
    ] = None,
    terms: Annotated[
        list[str] | None, typer.Option("--term", metavar="NAME", help="Only this term; may be repeated.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few steps, one seed: shows that it works, and nothing about the terms.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, each with one thread.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds for the term's share of a step.")] = 8,
    out: Annotated[Path, typer.Option(help="A JSON file; the table and the pictures are written beside it.")] = Path(
        "benchmarks/results/quality.json"
    ),
    pictures: Annotated[Path, typer.Option(help="Folder for the images that each run reconstructs.")] = Path(
        "out/quality"
    ),
) -> None:
    """Trains a VAE with every reconstruction term on the embedded images, and measures its reconstructions.

    Each run is written to --out as soon as it is complete; a later call does not repeat it.
    """
    console = Console()
    if quick:
        steps, sweep_steps, curve_steps, seeds, rounds = 20, 5, 20, 1, 1
    if stage is Stage.report and not out.is_file():
        raise typer.BadParameter(f"there are no results in {out} to report", param_hint="--out")
    content: dict[str, Any] = {"machine": machine("cpu", jobs), "run": {}, "results": [], "shares": []}
    if out.is_file():
        content = json.loads(out.read_text())
    content["run"] = content["run"] or run()
    descriptions: dict[str, str] = content.setdefault("descriptions", {})
    found: dict[str, data.Images] = {}
    for source in (LEAVES, *SETS) if stage in (Stage.all, Stage.curves, Stage.large) else SETS:
        if source not in (sets or (LEAVES, *SETS)):
            continue
        try:
            found[source] = data.load(source, BASE.size, BASE.channels)
            descriptions[source] = found[source].description
        except Refused as error:
            console.print(f"{source} is left out: {escape(str(error))}", style="yellow", soft_wrap=True)

    chosen = terms or (*TERMS, fixed.NAME)
    planned = plan(stage, steps, sweep_steps, curve_steps, seeds, list(found), rates or RATES, chosen)
    done = [{key: result[key] for key in ("stage", "label", "steps", "options")} for result in content["results"]]
    planned = [one for one in planned if runs.describe(one) not in done]
    if planned:
        commands = content.setdefault("commands", [])
        given = shlex.join(["python", "-m", "benchmarks.quality", *sys.argv[1:]])
        content["commands"] = [*commands, *([given] if given not in commands else [])]
    share_options: tuple[Options, ...] = SHARED
    if stage not in (Stage.all, Stage.shares) or content["shares"] or SETS[0] not in found:
        share_options = ()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    now = run()
    commit = f"{(now.get('commit') or 'none')[:10]}{' with changes' if now.get('dirty') else ''}"
    failures = 0
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        total = sum(one.steps for one in planned) + len(share_options) * 3 * (rounds + 1)
        task = progress.add_task("", total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)

        for options in share_options:
            progress.update(task, description=f"share of the term, {options.size} pixels")
            images = data.load(options.data, options.size, options.channels)
            content["shares"] += shares.measure(options, images, rounds, advance)
        save(content, out)
        sources = {"terms": found, "curves": found}
        if any(one.stage == "large" for one in planned):
            sources["large"] = {source: data.load(source, LARGE.size, LARGE.channels) for source in found}
            descriptions |= {report.large(source): images.description for source, images in sources["large"].items()}
        if any(one.stage == "sweep" for one in planned):
            # Options are chosen on images that the comparison trains on, never on those that it holds out.
            sources["sweep"] = {SETS[0]: data.photographs(BASE.size, BASE.channels or 1, validation=True)}
        for one, result in measured(planned, sources, pictures, jobs):
            advance(one.steps)
            if isinstance(result, Diverged):
                failures += 1
                progress.console.print(f"{one.name} is not measured: {result}", style="red", soft_wrap=True)
                continue
            # Replaces a run of another length or with other options.
            kept = [other for other in content["results"] if identity(other) != identity(result)]
            content["results"] = [*kept, {**result, "commit": commit}]
            save(content, out)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if v is not None)
            progress.console.print(f"{one.name}: {shown}", soft_wrap=True, highlight=False)

    # From all results, whether or not their images are on this machine.
    out.with_suffix(".md").write_text(report.markdown(content, descriptions))
    written = [out, out.with_suffix(".md")]
    for source in SETS:
        picture = out.with_name(f"{out.stem}-{source.rpartition(':')[2]}.png")
        if report.draw_pictures(pictures, content["results"], source, picture):
            written.append(picture)
    with_terms = [source for source in SETS if report.of_stage(content["results"], "terms", source)]
    if with_terms:
        written.append(out.with_name(f"{out.stem}-spectra.png"))
        report.draw_spectra(content["results"], with_terms, written[-1])
    with_curves = [source for source in (LEAVES, *SETS) if report.of_stage(content["results"], "curves", source)]
    if several := [source for source in with_curves if len(report.rates_of(content["results"], source)) > 1]:
        written.append(out.with_name(f"{out.stem}-curves.png"))
        report.draw_curves(content["results"], several, written[-1])
    for ending, shown, rate in (("edges", "curves", RATE_OF_ALL), ("large-edges", "large", RATE_OF_LARGE)):
        for source in (LEAVES, *SETS):
            picture = out.with_name(f"{out.stem}-{source.rpartition(':')[2]}-{ending}.png")
            if report.draw_edges(pictures, content["results"], shown, source, rate, picture):
                written.append(picture)
    console.print("Written: " + ", ".join(map(str, written)), soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def identity(result: dict[str, Any]) -> tuple[Any, ...]:
    """Identifies a result in the tables."""
    options = result["options"]
    rate = options["rate"] if result["stage"] in ("curves", "large") else None
    return result["stage"], result["label"], options["data"], options["seed"], rate


def measured(
    planned: Sequence[runs.Run], images: dict[str, dict[str, data.Images]], pictures: Path, jobs: int
) -> Iterator[tuple[runs.Run, dict[str, Any] | Diverged]]:
    """Yields each run with its result once it is complete; ``images`` are by stage and source."""
    # Processes of one thread: networks this small gain next to nothing from a second one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:
        try:
            futures = {
                pool.submit(runs.measure, one, images[one.stage][one.options.data], pictures): one for one in planned
            }
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, Diverged):
                    raise error
                yield futures[future], error or future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def save(content: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    names = ("machine", "run", "commands", "descriptions")
    lines = [f' "{name}": {json.dumps(content[name])}' for name in names if name in content]
    for name in ("shares", "results"):  # a line each
        lines.append(f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, content[name])) + "\n ]")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with atomic(out) as file:
        file.write(text.encode())


if __name__ == "__main__":
    app()
