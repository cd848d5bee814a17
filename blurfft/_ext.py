"""Loads the compiled extension, ``blurfft/_C``, once, and remembers why it is not there.

Importing it registers ``torch.ops.blurfft_cpu``. An extension that was never built and one that was built but does not
load are different faults with different cures, so they are told apart.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    import torch  # noqa: F401  (the extension links against torch's libraries, which must be in the process first)

    name = f"{__package__}._C"
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None, (
            "the compiled extension is not built; install blurfft with a C++ compiler present and without "
            "BLURFFT_EXT=0 (pip install --no-build-isolation -e .)"
        )
    try:
        module = importlib.import_module(name)
        module.build_info, module.cpu_capability  # noqa: B018
        return module, None
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return None, (
            f"the compiled extension {spec.origin} exists but does not load: {error}. It was probably built for "
            "another Python, another torch or an older blurfft; build it again (pip install --no-build-isolation -e .)"
        )


def module() -> ModuleType | None:
    """The loaded extension, or None; ``why_not`` then says why."""
    return _load()[0]


def why_not() -> str | None:
    return _load()[1]
