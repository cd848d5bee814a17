"""Files for the programs: what is refused, and files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class Refused(ValueError):
    """What a user gave cannot be served, and why, in words for the user."""


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is complete.

    Raises:
        OSError: it cannot be written; what was there before is still there.

    Examples:
        >>> with atomic("kernel.bin") as file:
        ...     file.write(b"all of it, or none")
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def printable(text: str) -> str:
    """``text`` in one line, with line breaks, control characters and what is no character as their escapes: file names
    may hold all of these."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
