"""The library needs torch and numpy; what the command needs beyond them is in ``blurfft[cli]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import blurfft
from blurfft._table import Table, plain

# The modules of an environment with only torch, numpy, blurfft and their dependencies.
PROGRAM = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    needed = {"blurfft", "torch", "torchgen", "functorch", "numpy", "triton", "typing_extensions", "filelock", "fsspec",
              "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "setuptools", "pkg_resources", "_distutils_hack"}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in self.needed and top not in sys.stdlib_module_names and not top.startswith("__editable__"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Absent())
"""

COMMAND = "from blurfft.cli import app; app(sys.argv[1:], prog_name='blurfft')"

LOSSES = """
import torch, blurfft
from blurfft import psf

x, y, kernel = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16), psf.gaussian(1.0)
weight = blurfft.wiener_weight(kernel, (16, 16)).float()
for loss in (
    blurfft.WienerLoss(kernel)(x, y),
    blurfft.WienerNLL(kernel)(x, y),
    blurfft.SpectralMSELoss(weight)(x, y),
    blurfft.BlurMSELoss(kernel)(x, y),
    blurfft.FocalFrequencyLoss()(x, y),
    blurfft.wiener_filter(x, kernel).sum(),
):
    loss.backward()
assert x.grad.isfinite().all()
"""


def alone(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_what_the_tests_below_take_away_is_really_gone():
    program = """
for name in ("PIL", "rich", "typer", "tifffile", "scipy", "tqdm"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""
    assert alone(program).stdout.split() == ["PIL", "rich", "typer", "tifffile", "scipy", "tqdm"]


def test_losses():
    result = alone(LOSSES)
    assert result.returncode == 0, result.stderr


def test_info():
    result = alone(COMMAND, "info", COLUMNS="80")
    assert result.returncode == 0, result.stderr
    assert f"blurfft    {blurfft.__version__}" in result.stdout
    for heading in ("Backends, fastest first", "Who serves which size", "Environment variables"):
        assert heading in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert json.loads(alone(COMMAND, "info", "--json").stdout)["versions"]["pillow"] is not None


def test_check():
    few = "from blurfft import selfcheck; selfcheck.SHAPES = selfcheck.SHAPES[1:2];"
    result = alone(few + COMMAND, "check", "--backend", "reference")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\nreference: all 36 passed\n")
    broken = few + "import blurfft; blur = blurfft.blur; blurfft.blur = lambda x, k: blur(x, k) * 1.01;"
    result = alone(broken + COMMAND, "check", "--backend", "reference")
    assert result.returncode == 1
    assert result.stdout.count("FAIL") == 4 and result.stdout.endswith("\nreference: 4 of 36 failed\n")
    assert alone(COMMAND, "check", "--backend", "fastest").returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_stops_reading_is_no_error_to_show():
    """As in ``blurfft info | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM + COMMAND, "info"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert result.returncode == 1 and result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_ends_in_a_sentence():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM + COMMAND, "info"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 1 and result.stderr == "blurfft: No space left on device\n"


def test_the_other_commands_say_what_to_install():
    result = alone(COMMAND, "deblur", "photo.jpg", "--out", "sharp", "--kernel", "disk:3")
    assert result.returncode == 1
    assert result.stderr == "blurfft deblur needs packages that are not installed: pip install 'blurfft[cli]'\n"


def test_a_module_of_blurfft_that_is_missing_is_no_missing_extra(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['blurfft.cli.check'] = None; import blurfft.cli"],
        capture_output=True,
        text=True,
    )
    assert "blurfft.cli.check" in result.stderr


def test_plain_tables_fit_their_width():
    table = Table("Title", ("name", "words", "number"), right=frozenset({2}))
    table.add("a", "several words that do not fit in so little room", "7")
    table.add("longer", "", "12")
    assert plain(table, 30).splitlines() == [
        "Title",
        "name    words           number",
        "------  --------------  ------",
        "a       several words        7",
        "        that do not",
        "        fit in so",
        "        little room",
        "longer                      12",
    ]
