"""A plugin of pytest, ``-p without``: imports blurfft in a torch that lacks the name in the environment.

Afterwards the name is there again: torch itself uses it.
"""

from __future__ import annotations

import os

import torch._dynamo  # all of torch's own modules

path, _, name = os.environ["WITHOUT"].rpartition(".")
owner = torch
for part in path.split(".")[1:]:
    owner = getattr(owner, part)
value = getattr(owner, name)
delattr(owner, name)
import blurfft  # noqa: E402, F401

setattr(owner, name, value)
