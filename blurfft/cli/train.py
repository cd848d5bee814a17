"""``blurfft train``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.markup import escape
from rich.progress import TimeRemainingColumn

from ..files import Refused, counted, expanded
from ..vae import outputs, run
from ..vae.options import Options, flag
from ..vae.training import Diverged
from . import terminal

EXAMPLES = (
    "**Examples**\n\nblurfft train   # embedded photographs, a few minutes on two cores\n\n"
    "blurfft train --data celeba --size 64 --epochs 20 --out runs/blur\n\n"
    "blurfft train --out runs/blur --epochs 40 --resume\n\n"
    "blurfft train --data embedded:brain --loss gaussian --rate 30 --out runs/gaussian\n\n"
    "torchrun --nproc-per-node 2 -m blurfft train --data celeba --size 128 --epochs 20 --out runs/blur"
)


def _parameters(options: type[Options]) -> list[inspect.Parameter]:
    """The fields of ``options`` as typer's parameters: names, defaults, help and limits are those of the fields."""
    types = get_type_hints(options)
    return [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=Annotated[types[option.name], _offered(option)],
        )
        for option in fields(options)
    ]


def _offered(option: Field[Any]) -> Any:
    facts = option.metadata
    shown: dict[str, Any] = {name: facts[name] for name in ("help", "metavar", "show_default") if name in facts}
    if "choices" in facts:
        shown.setdefault("metavar", "|".join(map(str, facts["choices"])))
        shown["callback"] = _one_of(facts["choices"])
    elif (facts.get("min"), facts.get("max")) == terminal.NUMBER:
        shown["callback"] = terminal.number
    else:
        shown |= {name: facts[name] for name in ("min", "max") if name in facts}
    return typer.Option(flag(option.name), **shown)


def _one_of(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    def chosen(value: Any) -> Any:
        if value is None or value in choices:
            return value
        if isinstance(value, str):
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}")
        raise typer.BadParameter(f"it must be {' or '.join(map(str, choices))}, got {value}")

    return chosen


def train(
    context: typer.Context,
    *,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps, instead of epochs.", show_default=f"{run.STEPS}, without epochs")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto (a GPU if there is one), cpu, cuda or cuda:N.")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")] = Path("out/train"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, bit for bit as if it had not stopped.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    interval: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints; an interrupt loses no more than that.")
    ] = run.INTERVAL,
    tensorboard: Annotated[
        bool | None,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            help="Also write TensorBoard event files.",
            show_default="if it is installed",
        ),
    ] = None,
    **chosen: Any,
) -> None:
    """Train a variational autoencoder with the blur error, or another reconstruction term.

    The run leaves in --out: checkpoint.pt, log.csv, reconstructions.png (held-out images above their reconstructions),
    samples.png, error.png, kernels.png and, for --resume, the decoded images of a folder. In the log, loss =
    reconstruction + beta x kl, in nats per image if the term is a density.
    """
    terminal.require_settings()
    out = expanded(out)
    given = {name for name in chosen if getattr(context.get_parameter_source(name), "name", None) != "DEFAULT"}
    if resume and overwrite:
        raise typer.BadParameter("give --resume or --overwrite, not both", param_hint="--resume")
    if steps is not None and epochs is not None:
        raise typer.BadParameter("give epochs or steps, not both", param_hint="--steps")
    show = int(os.environ.get("RANK", "0")) == 0
    bar = terminal.progress(TimeRemainingColumn(), shown=show)
    try:
        options = run.resumed_options(out, {name: chosen[name] for name in given}) if resume else Options(**chosen)
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
        result = trainer.evaluate() if show else {}
    except (Refused, Diverged, ValueError) as error:
        raise terminal.fail(str(error)) from None
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):  # on CPUs torch has no type for it
            raise
        advice = "with a smaller --batch, --size or --width it takes less"
        raise terminal.fail(f"the training does not fit into memory; {advice}; {outputs.kept(out)}") from None
    except KeyboardInterrupt:
        raise terminal.stopped(outputs.kept(out)) from None
    if show:
        held_out = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in result.items())
        terminal.console.print(f"{counted(trainer.steps_done, 'step')}; held out: {held_out}", soft_wrap=True)
        terminal.console.print(f"checkpoint, log and pictures in [bold]{escape(str(out))}[/bold]", soft_wrap=True)


_signature = inspect.signature(train, eval_str=True)
_own = list(_signature.parameters.values())[:-1]  # without **chosen
train.__signature__ = _signature.replace(parameters=[_own[0], *_parameters(Options), *_own[1:]])  # type: ignore[attr-defined]
