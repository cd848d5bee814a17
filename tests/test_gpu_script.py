"""Rehearses .ci/gpu where there is no GPU: the order of its steps with stand-ins for all programs, and the programs of
this repository that it calls with the CPU's operators.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import silicon

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".ci" / "gpu").exists(), reason=".ci/gpu is not beside the tests")

# Ends with an error if the command line matches FAIL, else writes what is asked for and says what it was called for.
STAND_IN = """#!/usr/bin/env bash
line="${0##*/} $*"
[[ -n "$HANG" && "$line" =~ $HANG ]] && exec sleep 100
[[ -n "$FAIL" && "$line" =~ $FAIL ]] && { echo "no: $line"; exit 3; }
[[ "$line" =~ --out\\ ([^ ]+) ]] && echo '{"rows": []}' > "${BASH_REMATCH[1]}"
[[ "$line" =~ ^(ncu|compute-sanitizer)\\  ]] && exec "$PYTHON" ${line#*"$PYTHON"}
echo "yes: $line"
"""
PROGRAMS = ("nvidia-smi", "nvcc", "ncu", "compute-sanitizer", "python")

# Each step, and a command line of it alone.
STEPS = {
    "machine": "^nvidia-smi",
    "build": "setup.py build_ext",
    "smoke": "silicon smoke 218 178",
    "operators": "silicon run --seconds 55",
    "profile": "^ncu .*spectral_loss_kernel",
    "tests": "pytest .*not compiled",
    "variants": "silicon run --variants",
    "triton-smoke": "silicon smoke 64 64 --losses",
    "triton-operators": "silicon run .*--out .*triton.json",
    "triton-tuning": "silicon warm 8 ",
    "memcheck": "^compute-sanitizer --tool memcheck",
    "racecheck": "^compute-sanitizer --tool racecheck",
    "overlap": "silicon run --seconds 0",
    "benchmark": "benchmarks run",
    "compiled-tests": r"pytest .*\(compiled",
}
RESULTS = {
    "operators": "silicon.json",
    "variants": "variants.json",
    "triton-operators": "triton.json",
    "overlap": "overlap.json",
    "benchmark": "benchmark.json",
}


def rehearse(tmp_path: Path, out: Path, **environment: str) -> tuple[int, dict[str, int], str]:
    """The exit status, the status of each step, what is written."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    stands = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": str(programs / "python"), "FAIL": "", "HANG": ""}
    done = subprocess.run(
        [ROOT / ".ci" / "gpu"],
        env=os.environ | stands | {"DEVICE": "cpu", "OUT": str(out)} | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    text = (out / "gpu.txt" if out.is_dir() else out).read_text()
    statuses = {name: int(status) for name, status in re.findall(r"^== (\S+): status (\d+) after", text, re.MULTILINE)}
    return done.returncode, statuses, text


def test_all_steps(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    status, steps, text = rehearse(tmp_path, folder)
    assert (status, steps) == (0, dict.fromkeys(STEPS, 0)), text
    # A machine returns eight files.
    assert sorted(path.name for path in folder.iterdir()) == sorted(["gpu.txt", "long.txt", *RESULTS.values()])
    assert re.findall(r"^step (\S+)", (ROOT / ".ci" / "gpu").read_text(), re.MULTILINE) == list(STEPS)
    assert all("yes: " in text and "no: " not in text for text in outputs(folder).values())


def outputs(folder: Path) -> dict[str, str]:
    """What each step has left in long.txt."""
    _, *parts = re.split(r"^== (\S+)\n", (folder / "long.txt").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("broken", STEPS)
def test_a_step_that_fails_takes_no_other_along(broken: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "first.txt"  # a file in a folder that is not there
    status, steps, text = rehearse(tmp_path, out, FAIL=STEPS[broken])
    assert status == 1
    assert {name for name, code in steps.items() if code} == {broken}
    assert set(steps) == set(STEPS), text
    assert f"failed: {broken}" in text
    left = outputs(out.parent)
    assert set(left) == set(STEPS)
    assert {name for name, output in left.items() if "no: " in output} == {broken}
    assert all("yes: " in output for name, output in left.items() if name != broken)
    written = {path.name for path in out.parent.iterdir()}
    assert written == {"first.txt", "long.txt", *RESULTS.values()} - {RESULTS.get(broken)}


def test_what_cannot_be_installed_is_built_all_the_same(tmp_path: Path) -> None:
    status, steps, _ = rehearse(tmp_path, tmp_path, FAIL="pip install", STEPS="build smoke")
    assert (status, steps) == (1, {"build": 3, "smoke": 0})
    assert "setup.py build_ext" in outputs(tmp_path)["build"]


def test_a_step_that_hangs_costs_its_own_time(tmp_path: Path) -> None:
    # With no time for the others, which are named.
    status, steps, text = rehearse(tmp_path, tmp_path, HANG="^nvidia-smi", LIMIT="21")
    assert (status, steps) == (1, {"machine": 124})
    assert "== tests: left out" in text


def test_steps_by_name(tmp_path: Path) -> None:
    status, steps, _ = rehearse(tmp_path, tmp_path, STEPS="machine memcheck")
    assert (status, steps) == (0, {"machine": 0, "memcheck": 0})


def test_a_broken_context_costs_one_test(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "test_two.py").write_text(
        "def test_first(): raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "def test_second(): pass\n"
    )
    options = ["-q", "-n", "1", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "illegal memory access" in done.stderr
    assert "crashed while running 'test_two.py::test_first'" in done.stdout


def call(*arguments: str) -> str:
    result = CliRunner().invoke(silicon.app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_operators_are_checked() -> None:
    assert "0 wrong in 27 calls" in call("smoke", "16", "12")


def test_a_wrong_operator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = silicon.OPERATORS["rfft2"]
    monkeypatch.setitem(
        silicon.OPERATORS, "rfft2", lambda ops, x: right(ops, x) * (1 + (x.input.dtype == silicon.torch.float32))
    )
    result = CliRunner().invoke(silicon.app, ["smoke", "16", "12", "--losses", "--device", "cpu"])
    assert result.exit_code == 0  # it is no loss
    result = CliRunner().invoke(silicon.app, ["smoke", "16", "12", "--device", "cpu"])
    assert result.exit_code == 1
    assert "rfft2 float32: result 0 is off by 1.0e+00 of its largest entry" in result.output


def test_the_operators_are_launched_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("once", "--size", "8", "--losses").split() == ["8", "x", "8"]
    call("profile", "--size", "8", "--pixels", "1000")
    call("warm", "8")
    monkeypatch.setattr(silicon, "SAMPLE_MS", 0.0)
    out = tmp_path / "silicon.json"
    text = call("run", "--size", "8", "--pixels", "3000", "--out", str(out))
    rows = json.loads(out.read_text())["rows"]
    losses = [row for row in rows if row["what"] == "loss"]
    assert {row["contender"] for row in losses} == {silicon.COPY, silicon.MSE, "spectral_loss", "wiener_loss"}
    for row in losses:
        assert (row["percent_of_copy"] == 100) == (row["contender"] == silicon.COPY)
        assert row["low"] <= row["microseconds"] <= row["high"]
    assert {row["batch"] for row in rows if row["what"] == "step"} == set(silicon.BATCHES)
    assert "% of copy" in text
    assert "out of time" in call("run", "--size", "8", "--seconds", "0", "--out", str(out))


def test_a_case_that_fails_takes_no_other_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon, "SAMPLE_MS", 0.0)
    right = silicon._losses

    def out_of_memory(size: int, *rest: object) -> list[silicon.Row]:
        if size == 8:
            raise RuntimeError("out of memory")
        return right(size, *rest)

    monkeypatch.setattr(silicon, "_losses", out_of_memory)
    out = tmp_path / "silicon.json"
    sizes = ["--size", "8", "--size", "12", "--pixels", "3000"]
    result = CliRunner().invoke(silicon.app, ["run", *sizes, "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 1
    assert "8² float32 at 3000 pixels: RuntimeError: out of memory" in result.output
    assert {row["size"] for row in json.loads(out.read_text())["rows"] if row["what"] == "loss"} == {12}


def test_variants_are_timed_beside_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The operators of this machine have none; here are a right one and a wrong one.
    class Operators:
        def __getattr__(self, name: str) -> object:
            return getattr(silicon.torch.ops.blurfft_cpu, name)

        def variant_names(self, height: int, width: int) -> str:
            return "same twice"

        def spectral_loss_variant(self, name: str, *images: silicon.Tensor) -> object:
            *tensors, scale = images
            loss, grad, _ = self.spectral_loss(*tensors, scale, False, True, False)
            return loss, grad if name == "same" else 2 * grad

    monkeypatch.setattr(silicon, "SAMPLE_MS", 0.0)
    monkeypatch.setattr(silicon, "operators", lambda *_: (Operators(), contextlib.nullcontext()))
    out = tmp_path / "variants.json"
    text = call("run", "--variants", "--size", "8", "--pixels", "3000", "--out", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert {row["contender"] for row in rows} == {silicon.COPY, "spectral_loss", "same"}
    assert "variant twice is wrong and is not timed" in text
