"""A training run: data, steps, log, checkpoints and pictures in one folder, alone or as one of several processes."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..files import Refused, atomic, counted
from . import data, figures, outputs
from .options import Options, flag
from .outputs import BOARD, CHECKPOINT, IMAGES, LOG, PICTURES
from .training import Diverged, Trainer, load_checkpoint, mean_of, restore, save_checkpoint

STEPS = 1000  # of a run whose length is not given
INTERVAL = 500  # steps between checkpoints

_COLUMNS = (
    "step",
    "loss",
    "reconstruction",
    "kl",
    "beta",
    "auxiliary",
    "steps_per_second",
    "held_out_reconstruction",
    "held_out_kl",
    "held_out_bits_per_dimension",
)


@dataclass
class Watcher:
    """Called with the progress of a run; by default does nothing."""

    say: Callable[[str], None] = lambda message: None
    decoded: Callable[[int, int], None] = lambda done, total: None
    stepped: Callable[[int, int, dict[str, float]], None] = lambda done, total, terms: None


class Log:
    """``log.csv``, and TensorBoard's event files if it is installed. Rows after ``step`` are of a run that was cut off
    and are dropped; a file that cannot be read is put aside."""

    def __init__(self, out: Path, step: int, tensorboard: bool, say: Callable[[str], None]) -> None:
        self.path = out / LOG
        rows: list[dict[str, Any]] = []
        if step:
            try:
                rows = _rows(self.path, step)
            except FileNotFoundError:
                say(f"{self.path} is lost; a new one begins after step {step}")
            except (ValueError, csv.Error) as error:
                aside = self.path.with_suffix(".damaged.csv")
                self.path.replace(aside)
                say(f"{self.path} cannot be read ({error}) and is {aside} now; a new one begins after step {step}")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.path) as binary:
            binary.write(text.getvalue().encode())
        self.board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / BOARD), purge_step=step + 1 if step else None)

    def write(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, _COLUMNS).writerow({"step": step, **values})
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name.replace("held_out_", "held_out/"), value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _rows(path: Path, step: int) -> list[dict[str, Any]]:
    """The rows of a log up to a step, though a spreadsheet may have saved it: with another mark at its beginning, other
    ends of lines, quotes, or semicolons.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no log, in words.
    """
    text = path.read_text("utf-8-sig")
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    if "step" not in (rows.fieldnames or ()):
        raise ValueError("it has no column named step")
    found: list[dict[str, Any]] = []
    last = 0
    for row in rows:
        try:
            done = int(row["step"] or "")
        except ValueError:
            raise ValueError(f"line {rows.line_num} has no step") from None
        if last < done <= step:  # else it is of a run that was cut off, or itself cut off within its number
            found.append({**{name: row.get(name) for name in _COLUMNS}, "step": done})
            last = done
    return found


@contextmanager
def processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """The device, the rank and the number of processes; joins the group that torchrun made, if there is one."""
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise Refused(f"--device must be auto, cpu or cuda, got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Refused(f"--device {device}: there is no CUDA device that torch can use")
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield torch.device(kind), 0, 1
        return
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind.startswith("cuda") else torch.device(kind)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place, dist.get_rank(), world
    finally:
        dist.destroy_process_group()


def tensorboard_installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def resumed_options(out: Path, given: dict[str, Any]) -> Options:
    """The options of the run in ``out``, with ``data`` as it is given now: a folder may have moved.

    Raises:
        Refused: there is no run, or another of ``given``, those of the command line, is not as it was.
    """
    stored = Options(**load_checkpoint(out / CHECKPOINT)["options"])
    for name, value in given.items():
        before = getattr(stored, name)
        if name != "data" and value != before:
            raise Refused(
                f"{flag(name)} is {value}, but the run in {out} has {before}: a run is resumed as it was begun"
            )
    return replace(stored, data=given.get("data", stored.data))


def train(
    options: Options,
    out: Path,
    steps: int | None = None,
    epochs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    interval: int = INTERVAL,
    log_every: int = 20,
    tensorboard: bool = False,
    watcher: Watcher | None = None,
) -> Trainer:
    """Trains a VAE and leaves in ``out``: ``checkpoint.pt``, ``log.csv``, pictures and, of a folder, ``images/`` as
    they were decoded.

    Args:
        options: what to train.
        out: a folder, made if need be. One that holds a run already is only taken with ``resume`` or
            ``overwrite``.
        steps, epochs: how long altogether, one of them; ``STEPS`` without either.
        resume: continue the run in ``out`` from its checkpoint, bit for bit as if it had not been stopped, provided
            the images are the same.
        overwrite: replace the run in ``out``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        interval: steps between checkpoints, which is also the most that an interrupt can lose.
        log_every: steps between rows of the log.
        tensorboard: write event files too.
        watcher: who is told.

    Raises:
        Refused: the data, an option or the folder cannot serve, in words for the user.
        Diverged: the loss is not finite; the last good checkpoint is kept.
        KeyboardInterrupt: likewise kept.
    """
    watcher = watcher or Watcher()
    if tensorboard and not tensorboard_installed():
        raise Refused("--tensorboard needs a package that is not installed: pip install tensorboard")
    with processes(device) as (place, rank, world):
        say = watcher.say if rank == 0 else lambda message: None
        checkpoint = out / CHECKPOINT
        if checkpoint.exists() and not resume and not overwrite:
            raise Refused(f"{out} holds a run already: --resume continues it, --overwrite replaces it")
        state = load_checkpoint(checkpoint, place) if resume else None
        options.check(world)
        if rank == 0:
            outputs.prepare(out)
        images = _load(options, out, rank, world, say, watcher.decoded if rank == 0 else lambda done, total: None)
        say(f"{counted(len(images.train), 'image')} to train on, {len(images.held_out)} held out: {images.description}")
        if epochs is not None:
            steps = max(1, epochs * len(images.train) // options.batch)
        elif steps is None:
            steps = STEPS
        if place.type == "cuda":
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
        trainer = Trainer(options, images, place, rank, world)
        if trainer.term.why_no_density is not None:
            say(f"{options.loss} reports no bits per dimension: {trainer.term.why_no_density}")
        if state is not None:
            restore(trainer, state, checkpoint)
            _same_images(state, options, images, out, say)
            done = f"resumed at step {trainer.steps_done}"
            say(done if trainer.steps_done < steps else f"{done}: of {counted(steps, 'step')} nothing is left to do")
        elif rank == 0:  # not before everything else has been found in order
            with outputs.writing(out):
                pictures = (out / name for name in PICTURES)
                for old in (checkpoint, *pictures, *(out / BOARD).glob("events.out.tfevents.*")):
                    old.unlink(missing_ok=True)
        log = None
        try:
            if rank == 0:
                with outputs.writing(out):
                    log = Log(out, trainer.steps_done, tensorboard, say)
            _loop(trainer, out, steps, interval, log_every, log, watcher if rank == 0 else Watcher())
        except Diverged as error:
            kept = f"{checkpoint} is the last good one" if checkpoint.exists() else "there was no checkpoint yet"
            raise Diverged(f"{error}; {kept}. A smaller --lr, a larger --eps or a larger --beta may help") from None
        finally:
            if log is not None:
                with outputs.writing(out):
                    log.close()
        return trainer


def _same_images(
    state: dict[str, Any], options: Options, images: data.Images, out: Path, say: Callable[[str], None]
) -> None:
    """Checks that the images are those of the run: they may have moved, or changed in place."""
    if state.get("digest") == images.digest:
        return
    if state["options"]["data"] != options.data:
        raise Refused(f"the images in {options.data} are not those that the run in {out} was begun with")
    say(f"the files in {options.data} have changed since the run was begun: it goes on with these")


def _load(
    options: Options, out: Path, rank: int, world: int, say: Callable[[str], None], decoded: Callable[[int, int], None]
) -> data.Images:
    """The images. Of several processes the first decodes a folder, the others take what it left in the cache."""
    arguments = (options.data, options.size, options.channels, out / IMAGES)
    failure: list[str | None] = [None]
    images = None
    if rank == 0:
        try:
            images = data.load(*arguments, say, decoded)
        except Refused as error:
            failure[0] = str(error)
    if world > 1:
        dist.broadcast_object_list(failure)
    if failure[0] is not None:
        raise Refused(failure[0])
    return images if images is not None else data.load(*arguments)


def _loop(
    trainer: Trainer, out: Path, steps: int, interval: int, log_every: int, log: Log | None, watcher: Watcher
) -> None:
    recent: list[dict[str, Tensor]] = []
    since = time.perf_counter()
    while trainer.steps_done < steps:
        recent.append(trainer.step())
        done = trainer.steps_done
        due = done % interval == 0 or done == steps
        if not due and done % log_every:
            continue
        terms = mean_of(recent)
        trainer.check_finite(terms)
        terms["steps_per_second"] = len(recent) / (time.perf_counter() - since)
        watcher.stepped(done, steps, terms)
        if log is not None:
            if due:
                terms |= {f"held_out_{name}": value for name, value in trainer.evaluate().items()}
            with outputs.writing(out):
                log.write(done, terms)
                if due:
                    figures.draw(trainer, out)
                    # Last: what lies beside a checkpoint is complete, wherever the process is killed.
                    save_checkpoint(trainer, out / CHECKPOINT)
        recent, since = [], time.perf_counter()
