from __future__ import annotations

import importlib.util
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from blurfft import cli, images, psf
from blurfft.cli import demo

needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)


@needs_photographs
def test_demo_draws_its_picture_in_time(tmp_path):
    start = time.monotonic()
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "pictures")])
    assert result.exit_code == 0, result.output
    assert time.monotonic() - start < 60
    assert "demo.png" in result.output.splitlines()[-1]
    for heading in ("Blurred and restored", "Where the blur error is", "Gradients", "Milliseconds"):
        assert heading in result.output
    with Image.open(tmp_path / "pictures" / "demo.png") as picture:
        assert picture.width > 1600
        pixels = np.asarray(picture)
    # No tile is blank.
    for x, y in ((100, 100), (500, 100), (950, 100), (1350, 100), (100, 500), (500, 500), (950, 500), (1350, 500)):
        assert pixels[y : y + 100, x : x + 100].mean() < 250


@needs_photographs
@pytest.mark.parametrize(("name", "spec"), demo.EXPERIMENTS)
def test_restoring_gains_two_decibels(name, spec):
    kernel = psf.parse(spec, dtype=torch.float64)
    blurred, truth = demo.degrade(images.read(demo.photographs() / name), kernel)
    restored = images.restore(blurred, kernel, demo.NSR, taper=True)
    assert demo.psnr(restored, truth) > demo.psnr(blurred.colour, truth) + 2


@needs_photographs
def test_the_map_adds_up_and_the_squared_errors_agree():
    table, blurred, uneven = demo._blur_error(demo.photographs())
    names, squared, blur = (list(column.cells) for column in table.columns)
    assert names == ["blurred", "unevenly lit"]
    assert squared[0] == squared[1]
    assert float(blur[0]) > 5 * float(blur[1])
    assert all(tile.image.size == demo.TILE for tile in (*blurred, *uneven))


def test_psnr():
    truth = torch.zeros(1, 4, 4)
    assert demo.psnr(truth + 0.1, truth) == pytest.approx(20, abs=1e-4)
    assert demo.psnr(truth - 3, truth) == float("inf")  # what is shown is black as well


def test_degrade_cuts_off_what_is_periodic():
    ramp = torch.linspace(0, 1, 60).expand(1, 50, 60).clone()
    photo = images.Photo(ramp, None, 8, "PNG", ".png", None, None, ())
    blurred, truth = demo.degrade(photo, psf.gaussian(2.0, dtype=torch.float64))
    assert truth.shape == blurred.colour.shape == (1, 34, 44)
    # A ramp stays a ramp, but for the noise.
    assert (blurred.colour - truth).abs().max() < 6 * demo.NOISE


def test_without_photographs_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "pip install 'blurfft[demo]'" in " ".join(result.output.split())


@needs_photographs
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_restore", None)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot make the folder" in result.output
