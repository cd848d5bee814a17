"""Torch's private names save microseconds: without any one of them the ops are as right as with it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import blurfft

PACKAGE = Path(blurfft.__path__[0])
USERS = (PACKAGE / "ops/_define.py", PACKAGE / "ops/_fastpath.py")


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def private_names(path: Path) -> set[str]:
    """Of torch, with an underscore in front of any part."""
    tree = ast.parse(path.read_text())
    found, known = set(), {"torch": "torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for name in node.names:
                known[name.asname or name.name] = f"{node.module}.{name.name}"
    found |= set(known.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = dotted(node).partition(".")
            if first in known:
                found.add(f"{known[first]}.{rest}")
    private = {name for name in found if re.search(r"(^|\.)_(?!_)", name)}
    # Of torch.a._b.c only the whole.
    return {name for name in private if not any(other.startswith(f"{name}.") for other in private)}


NAMES = sorted(set().union(*map(private_names, USERS)))


def test_they_are_in_the_two_files_that_can_do_without() -> None:
    assert len(NAMES) > 5
    kernels = PACKAGE.parent / "kernels"
    for path in {*PACKAGE.rglob("*.py"), *kernels.glob("*.py")} - set(USERS):
        assert not private_names(path), path


def test_without_each() -> None:
    tests = Path(__file__).parent
    selected = (
        "cpu and (later_calls_are_as_good and wiener_loss or func_grad or func_nests or forward_mode_of_calls "
        "or is_grads_batched or autocast or compiled_backward) or inference_mode or transforms_and_modes"
    )
    plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--assert=plain"]  # each costs a child seconds
    options = ["-q", "-n", "0", *plugins, str(tests / "test_ops.py"), "-k", selected]
    done = subprocess.run(
        [sys.executable, str(tests / "without.py"), *NAMES, "--", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert done.stdout.count(" passed") == len(NAMES), done.stdout
