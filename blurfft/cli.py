"""The command line: ``blurfft info``, ``check``, ``deblur``, ``demo`` and ``train``.

Exit statuses: 0, all went well; 1, something failed (a file was refused, a check did not pass); 2, wrong usage;
130, interrupted.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import Tensor

import blurfft

from . import _dispatch, images, pictures, psf, selfcheck
from . import info as information
from .vae.terms import TERMS

app = typer.Typer(
    name="blurfft",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"blurfft {blurfft.__version__}")
        raise typer.Exit


@app.callback(epilog="Each command has its own help with examples: `blurfft deblur --help`.")
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Blur-error losses for image models, and Wiener deconvolution of photographs.

    The losses themselves are used from Python (`import blurfft`); here you can see what is installed, check
    that it computes the right thing, and try it on photographs.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal has not is no reason to stop
            stream.reconfigure(errors="backslashreplace")


def _table(title: str | None, *columns: str, **options: Any) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        **options,
    )
    for column in columns:
        table.add_column(column)
    return table


def _grid(title: str | None) -> Table:
    """Rows of a name and what there is to say about it."""
    grid = _table(title, "", "", show_header=False)
    grid.columns[0].style = "dim"
    return grid


def _show(table: Table) -> None:
    console.print()
    console.print(table)


@app.command(
    epilog="**Examples**\n\nblurfft info\n\n"
    "blurfft info --json > info.json   # to attach to a bug report\n\n"
    "BLURFFT_CPU=baseline blurfft info   # with another instruction set"
)
def info(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for bug reports.")] = False,
) -> None:
    """Show what is built, which backend serves what, and why one is not available.

    A call of blurfft is served by a backend: `cuda` (compiled CUDA C++), `triton`, `cpu` (compiled C++) or
    `reference` (plain torch.fft); the fastest that supports the device, dtype and size, unless you ask for one by name
    with blurfft.use_backend or BLURFFT_BACKEND.
    """
    facts = information.gather()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    _show_info(facts)


def _show_info(facts: dict[str, Any]) -> None:
    versions, machine, extension = facts["versions"], facts["machine"], facts["extension"]
    grid = _grid(None)
    for name, version in versions.items():
        if name != "cuda in torch":
            grid.add_row(name, version or "not installed")
    grid.add_row("processor", f"{escape(machine['processor'])}, {machine['threads']} threads")
    grid.add_row("GPU", escape(", ".join(machine["gpus"])) or "none that torch can use")
    console.print(grid)

    grid = _grid("Compiled extension")
    if extension["loaded"]:
        grid.add_row("file", escape(extension["file"]))
        grid.add_row(
            "built with", f"{escape(extension['compiler'])}, torch {extension['torch']} (ABI {extension['torch_abi']})"
        )
        here = ", ".join(extension["capabilities_here"])
        capability = f"[green]{extension['capability']}[/green]" if extension["capability"] else "[red]none[/red]"
        grid.add_row("instruction set", f"{capability} (this machine has {here})")
        grid.add_row("CUDA", "yes" if extension["cuda"] else f"no: {escape(extension['cuda_reason'])}")
    else:
        grid.add_row("[red]none[/red]", escape(extension["why"]))
    _show(grid)

    table = _table("Backends, fastest first", "backend", "devices", "dtypes", "sizes")
    for row in facts["backends"]:
        if row["unavailable"] is None:
            table.add_row(f"[green]{row['name']}[/green]", row["devices"], row["dtypes"], row["sizes"])
    _show(table)
    grid = _grid("Not available")
    for row in facts["backends"]:
        if row["unavailable"] is not None:
            grid.add_row(row["name"], escape(row["unavailable"]))
    if grid.row_count:
        _show(grid)

    served: dict[tuple[str, str], list[str]] = {}
    for row in facts["serves"]:
        served.setdefault((row["device"], row["backend"]), []).append(f"{row['height']}x{row['width']}")
    table = _table("Who serves which size", "device", "size", "backend")
    for (device, backend), sizes in served.items():
        table.add_row(device, "  ".join(sizes), f"[green]{backend}[/green]" if backend != "reference" else backend)
    _show(table)

    table = _table("Environment variables", "variable", "values", "meaning", "now")
    for name, values, meaning, at_install in information.VARIABLES:
        when = " [dim](read at installation)[/dim]" if at_install else ""
        table.add_row(name, values, meaning + when, escape(facts["environment"][name] or ""))
    _show(table)
    for problem in facts["problems"]:
        console.print(f"\n[red]{escape(problem)}[/red]")


def _require_settings() -> None:
    """Says at once what every single call would fail for."""
    for problem in information.problems():
        errors.print(f"[red]{escape(problem)}[/red]")
        raise typer.Exit(1)


def _progress(what: str) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal, expand=False)


def _say(progress: Progress, where: Console, message: str) -> None:
    """Prints a line; above the progress bar if both are on the terminal."""
    shared = where.is_terminal and progress.console.is_terminal
    (progress.console if shared else where).print(pictures.printable(message), soft_wrap=True)


@app.command(
    epilog="**Examples**\n\nblurfft check\n\nblurfft check --backend cpu --all\n\n"
    "BLURFFT_CPU=baseline blurfft check   # the code for old processors"
)
def check(
    backend: Annotated[
        list[str] | None, typer.Option("--backend", metavar="NAME", help="Only this backend; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="A row for each size, not only the worst.")] = False,
) -> None:
    """Compare every backend on this machine with the formulas in float64.

    Each function is run forward and backward, in every dtype and at several sizes. The error is the largest deviation
    divided by the largest element, for gradients the worst of all arguments. The limits follow from the precision of
    the dtype: eps x log2(H x W) for the transforms, times the gain of the Wiener filter, twice that for gradients and
    for float64, and the rounding of half-precision results (see the docstring of blurfft.selfcheck). The exit status
    is 1 if anything is beyond its limit.
    """
    available = blurfft.available_backends()
    reasons = {str(row["name"]): row["unavailable"] for row in _dispatch.explain()}
    for name in backend or ():
        if name not in reasons:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(reasons)}", param_hint="--backend")
        if reasons[name]:
            errors.print(f"[red]{name} is not available: {escape(str(reasons[name]))}[/red]")
            raise typer.Exit(1)
    _require_settings()
    plan = selfcheck.plan(backend or available)
    results = []
    with _progress("check") as progress:
        task = progress.add_task("", total=len(plan))
        for case in plan:
            progress.update(task, description=f"{case[0]} {case[1]}")
            results.append(selfcheck.check_one(*case))
            progress.advance(task)

    for name in backend or available:
        _show_check(name, [result for result in results if result.backend == name], everything)
    failed = [result for result in results if not result.passed]
    for result in failed:
        if result.failure:
            errors.print(
                f"[red]{result.backend} {result.op} {_dtype(result)} {_shape(result)}:[/red] {escape(result.failure)}"
            )
    verdict = (
        f"[red]{len(failed)} of {len(results)} failed[/red]" if failed else f"[green]all {len(results)} passed[/green]"
    )
    console.print(f"\n{', '.join(backend or available)}: {verdict}")
    if failed:
        raise typer.Exit(1)


def _dtype(result: selfcheck.Result) -> str:
    return str(result.dtype).removeprefix("torch.")


def _shape(result: selfcheck.Result) -> str:
    return "x".join(str(side) for side in result.shape)


def _share(result: selfcheck.Result) -> float:
    """How much of its limit a result uses; a failure more than any."""
    if result.failure or math.isnan(result.forward) or math.isnan(result.gradient):
        return math.inf
    return max(result.forward / result.forward_limit, result.gradient / result.gradient_limit)


def _short(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _show_check(backend: str, results: list[selfcheck.Result], everything: bool) -> None:
    title = f"{backend}: relative errors" + ("" if everything else ", at the size that comes closest to its limit")
    table = _table(
        title, "function", "dtype", "size", "forward", "limit", "gradient", "limit", "", padding=(0, 1, 0, 0)
    )
    for column in table.columns[3:7]:
        column.justify = "right"
    groups: dict[tuple[str, str], list[selfcheck.Result]] = {}
    for result in results:
        name = result.op + ("" if result.device == "cpu" else f" ({result.device})")
        groups.setdefault((name, _dtype(result)), []).append(result)
    last = ""
    for (name, dtype), group in groups.items():
        failed = [result for result in group if not result.passed]
        for result in group if everything else failed or [max(group, key=_share)]:
            table.add_row(
                name if name != last else "",
                dtype,
                f"{result.shape[2]}x{result.shape[3]}",
                _short(result.forward),
                f"[dim]{_short(result.forward_limit)}[/dim]",
                _short(result.gradient),
                f"[dim]{_short(result.gradient_limit)}[/dim]",
                "[green]ok[/green]" if result.passed else "[bold red]FAIL[/bold red]",
            )
            last = name
    _show(table)


def _nsr(value: float) -> float:
    largest = torch.finfo(torch.float32).max
    if not 0 <= value <= largest:
        raise typer.BadParameter(f"it must be a number from 0 to {largest:.1e}, got {value}")
    return value


@app.command(
    no_args_is_help=True,
    epilog="**Examples**\n\n"
    "blurfft deblur holiday.jpg -o sharp --kernel gaussian:2 --taper\n\n"
    "blurfft deblur *.jpg -o sharp --kernel motion:15,30 --nsr 0.005 --taper --panel\n\n"
    "blurfft deblur scan.tif -o sharp --kernel psf.npy --nsr 0.03\n\n"
    "**How to find the kernel**\n\n"
    "A point of light in the photograph (a star, a glint) shows it: crop it to a PNG and give that file. Out of focus: "
    "disk, with the radius of such a point. Shaken: motion, with the length and direction of its streak. Otherwise try "
    "a few values on one photograph with --panel; too large a kernel shows as dark and bright contours along edges.",
)
def deblur(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO",
            help="Any format that Pillow reads; 8 or 16 bits, grey or colour. Alpha is kept as it is.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made if need be.", show_default=False),
    ],
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            "-k",
            metavar="SPEC",
            help="The blur: gaussian:SIGMA, disk:RADIUS or motion:LENGTH,ANGLE (in pixels; degrees counter-clockwise "
            "from horizontal), or a file FILE.npy or FILE.png, normalised to sum 1.",
            show_default=False,
        ),
    ],
    nsr: Annotated[
        float,
        typer.Option(
            metavar="C",
            callback=_nsr,
            help="Noise-to-signal ratio C in W = conj(K) / (|K|^2 + C). No frequency is amplified more than "
            "1/(2 sqrt(C)) times: 0.01 by 5, 0.0001 by 50. Smaller is sharper, with more noise and ringing; start "
            "with 0.01, go down to 0.001 for a clean photograph, up to 0.1 for a grainy one.",
        ),
    ] = 0.01,
    taper: Annotated[
        bool,
        typer.Option(
            "--taper",
            help="Continue the photograph beyond its borders and join them smoothly before filtering (as edgetaper in "
            "MATLAB). Without it opposite borders count as neighbours, as the periodic formula says, and ring. "
            "Right for nearly every photograph.",
        ),
    ] = False,
    panel: Annotated[
        bool, typer.Option("--panel", help="Also write NAME-panel.png: before, after and the kernel side by side.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist already. Inputs are never replaced.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Refuse larger photographs before decoding them.")
    ] = images.MAX_PIXELS,
) -> None:
    """Sharpen blurred photographs by Wiener deconvolution.

    The kernel says how the photograph was blurred; the filter divides by its spectrum, as far as the noise allows.
    Values are filtered as stored, after the photograph has been turned upright. Results keep the bit depth, alpha,
    colour profile and EXIF data, in the format of the input or, if that is lossy, as PNG. Files that cannot be used
    are refused one by one with the reason and the rest go on; the exit status is then 1.
    """
    try:
        psf_kernel = psf.parse(kernel)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--kernel") from None
    _require_settings()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from None
    options = f"{kernel}, nsr {nsr:g}" + (", tapered" if taper else "")

    written: set[Path] = set()
    refused = 0
    with _progress("deblur") as progress:
        task = progress.add_task("", total=len(photos))
        for path in photos:
            progress.update(task, description=path.name)
            try:
                target, notes = _deblur_one(
                    path,
                    out,
                    psf_kernel,
                    nsr,
                    taper,
                    options if panel else None,
                    overwrite,
                    max_pixels,
                    written,
                    photos,
                )
            except images.Refused as error:
                refused += 1
                _say(progress, errors, f"[red]refused[/red] {escape(str(path))}: {escape(str(error))}")
            else:
                detail = f"  [dim]({escape('; '.join(notes))})[/dim]" if notes else ""
                _say(progress, console, f"{escape(str(path))} -> {escape(str(target))}{detail}")
            progress.advance(task)
    if len(photos) > 1 or refused:
        summary = f"{len(photos) - refused} restored"
        (errors if refused else console).print(summary + (f", [red]{refused} refused[/red]" if refused else ""))
    if refused:
        raise typer.Exit(1)


def _deblur_one(
    path: Path,
    out: Path,
    kernel: Tensor,
    nsr: float,
    taper: bool,
    panel_options: str | None,
    overwrite: bool,
    max_pixels: int,
    written: set[Path],
    inputs: list[Path],
) -> tuple[Path, list[str]]:
    """Restores one photograph; the file written and notes. Raises ``images.Refused``."""
    photo = images.read(path, max_pixels)
    _, suffix, note = images.output(photo)
    target = out / (path.stem + suffix)
    panel_target = out / f"{path.stem}-panel.png"
    for file in (target, panel_target) if panel_options else (target,):
        if file in written:
            raise images.Refused(f"{file} was just written for another photograph of that name")
        if file.exists():
            if any(source.exists() and file.samefile(source) for source in inputs):
                raise images.Refused(f"{file} is one of the inputs; choose another folder with --out")
            if not overwrite:
                raise images.Refused(f"{file} exists; --overwrite replaces it")
    try:
        restored = images.restore(photo, kernel, nsr, taper)
    except (RuntimeError, MemoryError) as error:  # too large for the memory, or for the backend that was asked for
        raise images.Refused(str(error) or "too large for the memory of this machine") from None
    notes = [*photo.notes, *([note] if note else [])]
    try:
        notes += images.write(photo, restored, target)
        written.add(target)
    except OSError as error:
        raise images.Refused(f"cannot write {target}: {error.strerror or error}") from None
    if panel_options:
        try:
            with images.atomic(panel_target) as stream:
                pictures.panel(photo, restored, kernel, path.name, panel_options).save(stream, "PNG")
            written.add(panel_target)
            notes.append(f"panel in {panel_target}")
        except OSError as error:
            why = f"cannot write {panel_target}: {error.strerror or error}"
            raise images.Refused(f"{why}; the result itself is in {target}") from None
    return target, notes


@app.command(epilog="**Examples**\n\nblurfft demo\n\nblurfft demo --out pictures")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the picture.")] = Path("out"),
) -> None:
    """Blur and restore real photographs, show where the blur error sits, and draw one picture of it.

    The photographs come with scikit-image (pip install 'blurfft[demo]'). Takes less than a minute.
    """
    from . import demo as demonstration

    _require_settings()
    try:
        demonstration.run(out, console)
    except images.Refused as error:
        errors.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(1) from None


def _loss(name: str) -> str:
    if name not in TERMS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(TERMS)}")
    return name


def _one_or_three(value: int | None) -> int | None:
    if value not in (None, 1, 3):
        raise typer.BadParameter(f"it must be 1 or 3, got {value}")
    return value


class _KernelGradient(str, Enum):
    attached = "attached"
    detached = "detached"


class _Amp(str, Enum):
    bf16 = "bf16"


@app.command(
    epilog="**Examples**\n\nblurfft train   # embedded photographs, a few minutes on two cores\n\n"
    "blurfft train --data celeba --size 64 --epochs 20 --out runs/blur\n\n"
    "blurfft train --out runs/blur --epochs 40 --resume\n\n"
    "blurfft train --data embedded:brain --loss gaussian --rate 30 --out runs/gaussian\n\n"
    "torchrun --nproc-per-node 2 -m blurfft train --data celeba --size 128 --epochs 20 --out runs/blur"
)
def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|embedded",
            help="A folder of images, at any depth, CelebA's layout included; or real images that scikit-image "
            "(embedded, embedded:photographs) or nilearn (embedded:brain) bring along.",
        ),
    ] = "embedded",
    size: Annotated[int, typer.Option(min=28, max=256, help="Side of the images, a multiple of 4.")] = 32,
    channels: Annotated[
        int | None, typer.Option(callback=_one_or_three, help="1 or 3.", show_default="1 for the brain, else 3")
    ] = None,
    loss: Annotated[
        str, typer.Option(metavar="NAME", callback=_loss, help=f"The reconstruction term: {', '.join(TERMS)}.")
    ] = "blur",
    kernel_size: Annotated[int, typer.Option(min=1, help="Side of the blur kernels (blur).")] = 5,
    nsr: Annotated[float, typer.Option(callback=_nsr, help="Noise-to-signal ratio C (blur).")] = 0.01,
    eps: Annotated[float, typer.Option(help="Floor of the precision, above 0 (blur).")] = 0.1,
    kernel: Annotated[
        _KernelGradient,
        typer.Option(
            help="Whether the likelihood's gradient also flows through the kernel into the latent, which is the exact "
            "gradient of the ELBO, or the kernel counts as a constant (blur). The kernel net itself learns by its own "
            "fit in both cases."
        ),
    ] = _KernelGradient.detached,
    features: Annotated[
        str | None, typer.Option(metavar="MODULE:NAME", help="Your feature network, or what makes it (perceptual).")
    ] = None,
    beta: Annotated[
        float, typer.Option(min=0, help="Weight of the KL divergence; with --rate, where it starts.")
    ] = 1.0,
    rate: Annotated[
        float | None, typer.Option(metavar="NATS", help="Steer beta so that the KL divergence becomes this.")
    ] = None,
    latent: Annotated[int, typer.Option(min=1, help="Dimensions of the latent.")] = 64,
    width: Annotated[int, typer.Option(min=8, help="Channels of the finest layers, a multiple of 8.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Images a step, of all processes together.")] = 64,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps, instead of epochs.", show_default="1000, without epochs")
    ] = None,
    learning_rate: Annotated[float, typer.Option("--lr", help="Adam's learning rate.")] = 1e-3,
    amp: Annotated[_Amp | None, typer.Option(help="Networks in bfloat16; losses stay in float32.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the step.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")] = Path("out/train"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, bit for bit as if it had not stopped.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    interval: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints; an interrupt loses no more than these.")
    ] = 500,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard/--no-tensorboard", help="Event files too.", show_default="if it is installed"),
    ] = None,
) -> None:
    """Train a variational autoencoder with the blur error, or another reconstruction term.

    In the folder of the run: checkpoint.pt, log.csv, reconstructions.png (held-out images above what became of them),
    samples.png, error.png, kernels.png and, for --resume, the decoded images of a folder. What the numbers of the log
    mean: loss = reconstruction + beta x kl, in nats an image where the term is a density.
    """
    from .vae import run
    from .vae.training import Diverged, Options

    _require_settings()
    values = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in context.params.items()
        if name in Options.__dataclass_fields__
    }
    given = {name for name in values if getattr(context.get_parameter_source(name), "name", None) != "DEFAULT"}
    if resume and overwrite:
        raise typer.BadParameter("give --resume or --overwrite, not both", param_hint="--resume")
    if steps is not None and epochs is not None:
        raise typer.BadParameter("give epochs or steps, not both", param_hint="--steps")
    if steps is None and epochs is None:
        steps = 1000
    show = int(os.environ.get("RANK", "0")) == 0
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=errors, transient=True, disable=not (errors.is_terminal and show))
    try:
        options = run.resumed_options(out, {name: values[name] for name in given}) if resume else Options(**values)
        with progress:
            task = progress.add_task("images", total=None)

            def stepped(done: int, total: int, terms: dict[str, float]) -> None:
                words = "  ".join(f"{name} {terms[name]:.4g}" for name in ("loss", "reconstruction", "kl", "beta"))
                if "auxiliary" in terms:
                    words += f"  fit {terms['auxiliary']:.3g}"
                words += f"  {terms['steps_per_second']:.3g} it/s"
                progress.update(task, description=words, completed=done, total=total)

            watcher = run.Watcher(
                say=lambda message: _say(progress, console, escape(message)),
                decoded=lambda done, total: progress.update(task, completed=done, total=total),
                stepped=stepped,
            )
            board = run.tensorboard_installed() if tensorboard is None else tensorboard
            trainer = run.train(
                options, out, steps, epochs, resume, overwrite, device, interval, tensorboard=board, watcher=watcher
            )
    except (images.Refused, Diverged, ValueError) as error:
        errors.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        kept = out / run.CHECKPOINT
        words = f"{kept} is the last checkpoint; --resume continues" if kept.exists() else "there is no checkpoint yet"
        errors.print(f"stopped; {words}", soft_wrap=True)
        raise typer.Exit(130) from None
    if show:
        held_out = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in trainer.evaluate().items())
        console.print(f"{trainer.steps_done} steps; held out: {held_out}", soft_wrap=True)
        console.print(f"checkpoint, log and pictures in [bold]{escape(str(out))}[/bold]", soft_wrap=True)
