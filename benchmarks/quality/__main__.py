"""The command line: ``python -m benchmarks.quality``."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.report import machine, run
from blurfft.images import Refused, atomic
from blurfft.vae import data
from blurfft.vae.terms import TERMS
from blurfft.vae.training import Diverged, Options

from . import report, runs, shares

FEATURES = "benchmarks.quality.features:RandomFeatures"
SETS = ("embedded:photographs", "embedded:brain")
BASE = Options(data=SETS[0], latent=32, width=8, batch=16, learning_rate=2e-3, rate=40.0, features=FEATURES)

# One option of the blur error at a time is moved away from the centre; the last rows join what helped.
CENTRE = replace(BASE, loss="blur", nsr=0.1, eps=0.01, kernel_size=11, kernel="attached")
SWEEP: dict[str, dict[str, Any]] = {
    "nsr 0.1, eps 0.01, 11 x 11, attached, rate 40": {},
    "nsr 0.01": {"nsr": 0.01},
    "nsr 1": {"nsr": 1.0},
    "eps 0.001": {"eps": 0.001},
    "eps 0.1": {"eps": 0.1},
    "kernel 5 x 5": {"kernel_size": 5},
    "kernel 21 x 21": {"kernel_size": 21},
    "detached": {"kernel": "detached"},
    "beta 0.3": {"rate": None, "beta": 0.3},
    "beta 1": {"rate": None, "beta": 1.0},
    "beta 3": {"rate": None, "beta": 3.0},
    "eps 0.1, detached": {"eps": 0.1, "kernel": "detached"},
    "eps 0.1, detached, kernel 5 x 5": {"eps": 0.1, "kernel": "detached", "kernel_size": 5},
}


class Stage(str, Enum):
    all = "all"
    sweep = "sweep"
    terms = "terms"
    shares = "shares"
    report = "report"


app = typer.Typer(add_completion=False)


def plan(stage: Stage, steps: int, sweep_steps: int, seeds: int, sets: list[str]) -> list[runs.Run]:
    """Seeds in the outermost loop: stopped early, every term has as many."""
    planned = []
    if stage in (Stage.all, Stage.sweep) and SETS[0] in sets:
        planned += [
            runs.Run("sweep", label, replace(CENTRE, **changed), sweep_steps) for label, changed in SWEEP.items()
        ]
    if stage in (Stage.all, Stage.terms):
        planned += [
            runs.Run("terms", name, replace(BASE, data=source, loss=name, seed=seed), steps)
            for seed in range(seeds)
            for source in sets
            for name in TERMS
        ]
    return planned


@app.command()
def main(
    stage: Annotated[Stage, typer.Option(help="What to do; benchmarks/README.md says what each holds.")] = Stage.all,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a run.")] = 400,
    sweep_steps: Annotated[int, typer.Option(min=1, help="Training steps of a run of the sweep.")] = 300,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of timing the term's share.")] = 15,
    out: Annotated[Path, typer.Option(help="A JSON file; the table and the pictures lie beside it.")] = Path(
        "benchmarks/results/quality.json"
    ),
    pictures: Annotated[Path, typer.Option(help="Where every run leaves its pictures.")] = Path("out/quality"),
) -> None:
    """Trains every reconstruction term on the embedded images, and measures what comes out.

    Every run is written to --out as soon as it is done, and is not repeated by a later call.
    """
    console = Console()
    torch.set_num_threads(threads)
    content: dict[str, Any] = {"machine": machine("cpu", threads), "run": {}, "results": [], "shares": []}
    if out.is_file():
        content = json.loads(out.read_text())
    if stage is not Stage.report:
        content["run"] = run()
    found: dict[str, data.Images] = {}
    for source in SETS:
        try:
            found[source] = data.load(source, BASE.size)
        except Refused as error:
            console.print(f"{source} is left out: {error}", style="yellow", soft_wrap=True)

    planned = plan(stage, steps, sweep_steps, seeds, list(found))
    done = [{key: result[key] for key in ("stage", "label", "steps", "options")} for result in content["results"]]
    planned = [one for one in planned if runs.describe(one) not in done]
    share_options = [replace(BASE, rate=None), replace(BASE, size=64, width=32, batch=32, rate=None)]
    if stage not in (Stage.all, Stage.shares) or content["shares"] or SETS[0] not in found:
        share_options = []
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    failures = 0
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        total = sum(one.steps for one in planned) + len(share_options) * 3 * (rounds + 1)
        task = progress.add_task("", total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)

        for options in share_options:
            progress.update(task, description=f"share of the term, {options.size} pixels")
            images = data.load(options.data, options.size)
            content["shares"] += shares.measure(options, images, rounds, advance)
            save(content, out)
        for one in planned:
            progress.update(task, description=one.name)
            try:
                result = runs.measure(one, found[one.options.data], pictures, advance)
            except Diverged as error:
                failures += 1
                progress.console.print(f"{one.name} is not measured: {error}", style="red", soft_wrap=True)
                continue
            content["results"].append(result)
            save(content, out)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if v is not None)
            progress.console.print(f"{one.name}: {shown}", soft_wrap=True, highlight=False)

    descriptions = {source: images.description for source, images in found.items()}
    out.with_suffix(".md").write_text(report.markdown(content, descriptions))
    written = [out, out.with_suffix(".md")]
    for source in found:
        picture = out.with_name(f"{out.stem}-{source.rpartition(':')[2]}.png")
        if report.draw_pictures(pictures, content["results"], source, picture):
            written.append(picture)
    with_terms = [source for source in found if report.of_stage(content["results"], "terms", source)]
    if with_terms:
        written.append(out.with_name(f"{out.stem}-spectra.png"))
        report.draw_spectra(content["results"], with_terms, written[-1])
    console.print("Written: " + ", ".join(map(str, written)), soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def save(content: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [f' "{name}": {json.dumps(content[name])}' for name in ("machine", "run")]
    for name in ("shares", "results"):  # a line each
        lines.append(f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, content[name])) + "\n ]")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with atomic(out) as file:
        file.write(text.encode())


if __name__ == "__main__":
    app()
