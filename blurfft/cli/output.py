"""Output that cannot be written ends a command with a sentence, or without one where its reader has stopped reading."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..files import why


@contextmanager
def written() -> Iterator[None]:
    """Flushes standard output at the end, and exits with status 1 where a full disk or a closed pipe prevents that."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as of `blurfft info >&-`
                sys.stdout.flush()
    except OSError as error:
        # Python writes what is left once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"blurfft: {why(error)}")
