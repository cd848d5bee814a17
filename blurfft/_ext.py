"""Loads the compiled extension once, and remembers why it is not there.

It has two parts: ``blurfft/libblurfft``, which knows nothing of Python and registers ``torch.ops.blurfft`` and its
backends, and beside it ``blurfft/_C``, which tells how it was built. An extension that was never built and one that was
built but does not load are different faults with different cures, so they are told apart.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

_SOURCES = Path(__file__).resolve().parents[1]


def how_to_build() -> str:
    """The command that builds blurfft here: from the sources it runs from, or from those that a wheel's user gets."""
    if (_SOURCES / "setup.py").is_file() and (_SOURCES / "csrc").is_dir():
        return "in the folder of its sources, pip install --no-build-isolation -e ."
    return "with its sources unpacked or cloned, pip install --no-build-isolation FOLDER"


def library() -> Path:
    """Where the library is, or would be if it was built."""
    return Path(__file__).with_name("libblurfft.dylib" if sys.platform == "darwin" else "libblurfft.so")


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    import torch  # the library links against torch's, which must be in the process first

    name = f"{__package__}._C"
    spec = importlib.util.find_spec(name)
    if spec is None or not library().is_file():
        return None, (
            "the compiled extension is not built; install blurfft with a C++ compiler present and without "
            f"BLURFFT_EXT=0 ({how_to_build()})"
        )
    try:
        torch.ops.load_library(str(library()))
        module = importlib.import_module(name)
        module.build_info, module.schemas  # noqa: B018
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
