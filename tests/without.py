"""Tests of the ops in a torch that lacks a name, for each of the names given: ``python without.py NAME... -- OPTIONS``.

For each a process is forked off one that has imported what takes most of the time. In it the name is missing while
blurfft is imported; afterwards it is there again: torch itself uses it.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch._dynamo
import torch._inductor.pattern_matcher  # which torch.compile imports at its first call


def run_without(name: str, options: list[str]) -> int:
    path, _, last = name.rpartition(".")
    owner = torch
    for part in path.split(".")[1:]:
        owner = getattr(owner, part)
    value = getattr(owner, last)
    delattr(owner, last)
    import blurfft  # noqa: F401

    setattr(owner, last, value)
    return pytest.main(options)


def main(names: list[str], options: list[str]) -> int:
    failed = 0
    for name in names:
        print(f"without {name}:", flush=True)
        if not (child := os.fork()):
            status = 1
            try:
                status = run_without(name, options)
            finally:
                sys.stdout.flush()
                os._exit(status)
        failed += os.waitpid(child, 0)[1] != 0
    return failed


if __name__ == "__main__":
    end = sys.argv.index("--")
    sys.exit(main(sys.argv[1:end], sys.argv[end + 1 :]))
