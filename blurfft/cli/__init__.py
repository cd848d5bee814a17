"""The command line: ``blurfft info``, ``check``, ``deblur``, ``demo`` and ``train``.

Exit statuses: 0, all went well; 1, something failed (a file was refused, a check did not pass); 2, wrong usage;
130, interrupted.

The command needs ``blurfft[cli]``. Without it, ``info`` and ``check`` work in plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["app"]

EXTRA = ("PIL", "rich", "typer")  # what `pip install 'blurfft[cli]'` brings, as modules

app: Callable[..., Any]
try:
    from .main import app
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in EXTRA:
        raise
    from .plain import app
