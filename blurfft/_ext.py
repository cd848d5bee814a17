"""Loads the compiled extension, ``blurfft/_C``, once, and remembers why it is not there.

Importing it registers ``torch.ops.blurfft_cpu``. An extension that was never built and one that was built but does not
load are different faults with different cures, so they are told apart.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

_SOURCES = Path(__file__).resolve().parents[1]


def how_to_build() -> str:
    """The command that builds blurfft here: from the sources it runs from, or from those that a wheel's user gets."""
    if (_SOURCES / "setup.py").is_file() and (_SOURCES / "csrc").is_dir():
        return "in the folder of its sources, pip install --no-build-isolation -e ."
    return "with its sources unpacked or cloned, pip install --no-build-isolation FOLDER"


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    import torch  # noqa: F401  (the extension links against torch's libraries, which must be in the process first)

    name = f"{__package__}._C"
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None, (
            "the compiled extension is not built; install blurfft with a C++ compiler present and without "
            f"BLURFFT_EXT=0 ({how_to_build()})"
        )
    try:
        module = importlib.import_module(name)
        module.build_info, module.cpu_capability  # noqa: B018
        return module, None
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return None, (
            f"the compiled extension {spec.origin} exists but does not load: {error}. It was probably built for "
            f"another Python, another torch or an older blurfft; build it again ({how_to_build()})"
        )


def module() -> ModuleType | None:
    """The loaded extension, or None; ``why_not`` then says why."""
    return _load()[0]


def why_not() -> str | None:
    return _load()[1]
