"""The folder of a run: its files and their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from ..files import Refused

CHECKPOINT, LOG, BOARD, IMAGES = "checkpoint.pt", "log.csv", "tensorboard", "images"
PICTURES = ("reconstructions.png", "samples.png", "error.png", "kernels.png")


def is_run(folder: Path) -> bool:
    """Whether a run has left files there."""
    return (folder / CHECKPOINT).is_file() or (folder / LOG).is_file()


def kept(out: Path) -> str:
    """What is kept of a run that stops now, in words."""
    checkpoint = out / CHECKPOINT
    return (
        f"{checkpoint} is the last checkpoint; --resume continues"
        if checkpoint.exists()
        else "there is no checkpoint yet"
    )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns an error in writing into a sentence.

    Raises:
        Refused: the disk is full, the folder is read-only, or the like.
    """
    try:
        yield
    except OSError as error:
        raise Refused(f"cannot write to {out}: {error.strerror or error}; {kept(out)}") from None


def prepare(out: Path) -> None:
    """Makes the folder, sees that it can be written to, and removes what a run that was killed had half written.

    Raises:
        Refused: it cannot be written to.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
        for name in (CHECKPOINT, LOG, *PICTURES):
            sweep(out, name)


def sweep(folder: Path, name: str) -> None:
    """Removes what ``atomic`` left of a file when its process was killed."""
    for part in folder.glob(f".{name}.*.part"):
        part.unlink(missing_ok=True)
