"""Files for the commands: files that appear whole or not at all, refusals and other words for the user."""

from __future__ import annotations

import glob
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class Refused(ValueError):
    """Something that the user gave cannot be used; the message says why, in words for the user."""


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is complete. What a process of this machine that was killed had
    half written of it is removed.

    Raises:
        OSError: it cannot be written; what was there before is still there.

    Examples:
        >>> with atomic("kernel.bin") as file:
        ...     file.write(b"all of it, or none")
    """
    path = Path(path)
    # Names have at most 255 bytes on most systems, a character up to four. Folders may be shared between machines.
    start = f".{path.name[:40]}.{socket.gethostname()[:63]}."
    for left in path.parent.glob(f"{glob.escape(start)}*.part"):
        if _is_dead(left.name[len(start) : -len(".part")]):
            with suppress(OSError):
                left.unlink()
    part = path.with_name(f"{start}{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _is_dead(process: str) -> bool:
    """Whether no process on this machine has that number."""
    if os.name != "posix" or not process.isdecimal():  # elsewhere signal 0 ends a process
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # somebody else's
        pass
    return False


def expanded(path: Path) -> Path:
    """The path with ``~`` as the home folder, as shells expand it where they see it; a file that is really called so
    stays."""
    if os.path.exists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def why(error: Exception) -> str:
    """Why something failed, in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """As in "1 file" and "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """``text`` in one line, with line breaks, control characters and what is no character as their escapes: file names
    may hold all of these."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
