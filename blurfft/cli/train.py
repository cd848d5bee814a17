"""``blurfft train``."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import TimeRemainingColumn

from ..files import Refused
from ..vae.terms import TERMS
from . import terminal

EXAMPLES = (
    "**Examples**\n\nblurfft train   # embedded photographs, a few minutes on two cores\n\n"
    "blurfft train --data celeba --size 64 --epochs 20 --out runs/blur\n\n"
    "blurfft train --out runs/blur --epochs 40 --resume\n\n"
    "blurfft train --data embedded:brain --loss gaussian --rate 30 --out runs/gaussian\n\n"
    "torchrun --nproc-per-node 2 -m blurfft train --data celeba --size 128 --epochs 20 --out runs/blur"
)


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
    nsr: Annotated[float, typer.Option(callback=terminal.nsr, help="Noise-to-signal ratio C (blur).")] = 0.01,
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
    from ..vae import run
    from ..vae.training import Diverged, Options

    terminal.require_settings()
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
    bar = terminal.progress(TimeRemainingColumn(), shown=show)
    try:
        options = run.resumed_options(out, {name: values[name] for name in given}) if resume else Options(**values)
        with bar:
            task = bar.add_task("images", total=None)

            def stepped(done: int, total: int, terms: dict[str, float]) -> None:
                words = "  ".join(f"{name} {terms[name]:.4g}" for name in ("loss", "reconstruction", "kl", "beta"))
                if "auxiliary" in terms:
                    words += f"  fit {terms['auxiliary']:.3g}"
                words += f"  {terms['steps_per_second']:.3g} it/s"
                bar.update(task, description=words, completed=done, total=total)

            watcher = run.Watcher(
                say=lambda message: terminal.say(bar, terminal.console, escape(message)),
                decoded=lambda done, total: bar.update(task, completed=done, total=total),
                stepped=stepped,
            )
            board = run.tensorboard_installed() if tensorboard is None else tensorboard
            trainer = run.train(
                options, out, steps, epochs, resume, overwrite, device, interval, tensorboard=board, watcher=watcher
            )
    except (Refused, Diverged, ValueError) as error:
        raise terminal.fail(str(error)) from None
    except KeyboardInterrupt:
        kept = out / run.CHECKPOINT
        words = f"{kept} is the last checkpoint; --resume continues" if kept.exists() else "there is no checkpoint yet"
        terminal.errors.print(f"stopped; {words}", soft_wrap=True)
        raise typer.Exit(130) from None
    if show:
        held_out = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in trainer.evaluate().items())
        terminal.console.print(f"{trainer.steps_done} steps; held out: {held_out}", soft_wrap=True)
        terminal.console.print(f"checkpoint, log and pictures in [bold]{escape(str(out))}[/bold]", soft_wrap=True)
