"""Triton's kernels as they are launched on a GPU, up to the launch itself: see ``launches.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_what_is_launched_is_what_was_compiled(tmp_path: Path) -> None:
    program = Path(__file__).with_name("launches.py")
    done = subprocess.run(
        [sys.executable, program],
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["tuning", "refused", "fused", "staged", "parameters"]
