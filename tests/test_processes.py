"""Losses around forks, threads, interrupts and too little memory: the scenarios of ``processes``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("forks, signals and limits as on Linux", allow_module_level=True)

import processes


@pytest.mark.parametrize("scenario", processes.SCENARIOS)
def test_scenario(scenario: str) -> None:
    run = subprocess.run(
        [sys.executable, str(Path(processes.__file__)), scenario],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines()[-1:] == ["done"], (run.returncode, run.stdout[-2000:], run.stderr[-2000:])
