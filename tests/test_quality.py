"""The quality benchmark measures what it says."""
# ruff: noqa: E402  (the folder that is tested may be absent)

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

import blurfft
from blurfft import images, psf

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "quality").is_dir():
    pytest.skip("the folder benchmarks is not beside the tests: it is not installed", allow_module_level=True)
pytest.importorskip("torchmetrics")
pytest.importorskip("skimage")
sys.path.insert(0, str(ROOT))

from benchmarks.quality import __main__ as command
from benchmarks.quality import metrics, report, runs, shares
from benchmarks.quality.features import RandomFeatures
from benchmarks.quality.fixed import FixedKernel
from blurfft.vae import data, leaves
from blurfft.vae.options import Options


def test_metrics_of_the_truth():
    truth = torch.rand(4, 3, 32, 32)
    measured = metrics.compare(truth, truth)
    assert measured["psnr"] > 100
    for name in ("ssim", "scc", "high_energy", "sharpness"):
        assert measured[name] == pytest.approx(1, abs=1e-4)
    assert measured["high_error"] == 0


def test_metrics_of_a_blurred_image():
    truth = torch.rand(4, 1, 32, 32)
    measured = metrics.compare(blurfft.blur(truth, psf.gaussian(2.0, dtype=torch.float64)), truth)
    assert measured["high_energy"] < 0.01
    assert measured["high_error"] == pytest.approx(1, abs=0.1)
    assert measured["sharpness"] < 0.01


def test_psnr_is_the_mean_over_images():
    truth = torch.rand(2, 1, 32, 32) / 2
    images = truth + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert metrics.compare(images, truth)["psnr"] == pytest.approx(30, abs=1e-3)


@pytest.mark.parametrize("size", [31, 32])
def test_power_is_energy(size):
    images = torch.rand(3, 2, size, size)
    assert metrics.power(images).sum().item() == pytest.approx(images.square().sum((2, 3)).mean().item(), rel=1e-5)


def test_radial_power_finds_a_wave():
    wave = torch.cos(2 * torch.pi * 5 * torch.arange(32) / 32).expand(1, 1, 32, 32)
    spectrum = metrics.radial_power(wave)
    assert len(spectrum) == 16
    assert np.argmax(spectrum) == 4  # the first ring has radius 1
    white = metrics.radial_power(torch.randn(200, 1, 32, 32))
    np.testing.assert_allclose(white, 1, atol=0.1)


def test_sharpness_of_a_point():
    point = F.pad(torch.ones(1, 1, 1, 1), (2, 2, 2, 2))
    assert metrics.sharpness(point) == pytest.approx((16 + 4) / 9)


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5])  # edges that end within the profile
@pytest.mark.parametrize("angle", [0.0, 0.4, torch.pi / 2])
def test_mtf50_of_an_edge_of_known_blur(sigma, angle):
    """For a Gaussian blur it is √(2 ln 2) / (2 π σ); linear interpolation adds the variance of a triangle, 1/6."""
    y, x = torch.meshgrid(torch.arange(32.0) - 15.3, torch.arange(32.0) - 15.3, indexing="ij")
    across = (np.cos(angle) * x + np.sin(angle) * y) / sigma
    edges = torch.special.ndtr(across).expand(4, 1, 32, 32)
    expected = (2 * np.log(2)) ** 0.5 / (2 * np.pi * (sigma**2 + 1 / 6) ** 0.5)
    profile = metrics.edge_profile(edges, edges)
    assert metrics.mtf50(profile) == pytest.approx(expected, rel=0.02)
    assert profile[0] == pytest.approx(0, abs=1e-5) and profile[-1] == pytest.approx(1, abs=1e-5)
    # Half the contrast gives half the profile, equally sharp.
    half = metrics.edge_profile(edges / 2, edges)
    torch.testing.assert_close(
        half, profile / 2, rtol=0, atol=1e-3
    )  # for what remains of the edge at the ends of the profile


def test_mtf50_falls_with_blur():
    truth = torch.from_numpy(leaves.draw(64, 32, 1, seed=0)) / 255
    sharp = [metrics.compare(blurfft.blur(truth, psf.gaussian(s)), truth)["mtf50"] for s in (0.5, 1.0, 2.0)]
    assert 1 > sharp[0] > sharp[1] > sharp[2]


def test_learned_distances_only_where_their_weights_are(tmp_path, monkeypatch):
    truth, images = torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: object())
    assert metrics.learned(images, truth) == {}

    (tmp_path / "checkpoints").mkdir()
    for name in (metrics._ALEXNET, metrics._INCEPTION):
        (tmp_path / "checkpoints" / name).touch()
    seen = []

    class Fid:
        def __init__(self, normalize: bool) -> None:
            assert normalize

        def update(self, images: torch.Tensor, real: bool) -> None:
            seen.append((images, real))

        def compute(self) -> torch.Tensor:
            return torch.tensor(2.0)

    def lpips(a: torch.Tensor, b: torch.Tensor, net: str, normalize: bool) -> torch.Tensor:
        assert normalize and net == "alex" and a.shape == b.shape == (4, 3, 32, 32)
        return torch.tensor(0.5)

    monkeypatch.setattr(metrics, "FrechetInceptionDistance", Fid)
    monkeypatch.setattr(metrics.torchmetrics, "learned_perceptual_image_patch_similarity", lpips)
    assert metrics.learned(images, truth) == {"lpips": 0.5, "fid": 2.0}
    assert [real for _, real in seen] == [True, False]
    assert torch.equal(seen[0][0], truth.expand(-1, 3, -1, -1)) and torch.equal(seen[1][0][:, :1], images)
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    assert metrics.learned(images, truth) == {}


def test_one_kernel_for_all_is_the_blur_error_of_that_kernel():
    term = FixedKernel((1, 8, 8), latent=4)
    x, y, z = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), torch.randn(2, 4)
    options = {"eps": Options.eps, "reduction": "none"}
    nll = blurfft.wiener_nll(10 * x, 10 * y, term.kernel, Options.nsr, **options) - 64 * np.log(10)
    torch.testing.assert_close(term(x, y, z), nll)


def test_random_features_are_always_the_same():
    torch.manual_seed(1)
    first = RandomFeatures()
    torch.manual_seed(2)
    images = torch.rand(2, 1, 32, 32)
    assert all(map(torch.equal, first(images), RandomFeatures()(images)))


def test_everything_is_planned_once():
    planned = command.plan(command.Stage.all, 5, 5, 5, 3, list(command.SETS))
    assert len({run.name for run in planned}) == len(planned)
    curves = (len(command.RATES) - 1) * len(command.CURVES) + len(report.NAMES)
    compared = len(command.TERMS) + curves + len(command.LARGE_TERMS)
    assert len(planned) == command.SWEEP_SEEDS * len(command.SWEEP) + 2 * 3 * compared
    terms = [run for run in planned if run.stage == "terms"]
    ignored = {"data": "", "loss": "", "seed": 0}
    # The same in everything but what is compared.
    assert len({replace(run.options, **ignored) for run in terms}) == 1


def test_a_run_is_kept_and_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SETS", ("embedded:photographs",))
    monkeypatch.setattr(command, "BASE", replace(command.BASE, width=8, batch=4))
    monkeypatch.setattr(command, "TERMS", {name: command.TERMS[name] for name in ("mse", "blur", "bernoulli")})
    out = tmp_path / "quality.json"
    arguments = ["--steps", 2, "--seeds", 2, "--stage", "terms", "--out", out, "--pictures", tmp_path / "p"]
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert len(content["results"]) == 6
    for row in content["results"]:
        assert (row["metrics"]["bits_per_dimension"] is None) == (row["label"] == "bernoulli")
        assert len(row["spectrum"]["truth"]) == 16
    text = out.with_suffix(".md").read_text()
    assert text.count("no density") == 1 and "2 seeds" in text and report.NAMES["blur"] in text
    for name in ("photographs", "spectra"):
        with Image.open(tmp_path / f"quality-{name}.png") as picture:
            assert np.asarray(picture).std() > 10

    monkeypatch.setattr(runs, "measure", lambda *arguments: pytest.fail("measured again"))
    assert CliRunner().invoke(command.app, [str(argument) for argument in arguments]).exit_code == 0

    # The report is the same on a machine without the images.
    def missing(*_: object) -> None:
        raise images.Refused("it is in blurfft[demo]")

    monkeypatch.setattr(data, "load", missing)
    result = CliRunner().invoke(command.app, ["--stage", "report", "--out", str(out), "--pictures", str(tmp_path)])
    assert result.exit_code == 0 and "it is in blurfft[demo]" in result.output
    assert out.with_suffix(".md").read_text() == text
    result = CliRunner().invoke(command.app, ["--stage", "report", "--out", str(tmp_path / "none.json")])
    assert result.exit_code == 2 and "there are no results in" in result.output


def test_curves_are_reported_by_rate(tmp_path, monkeypatch):
    few = data.Images(leaves.draw(8, 32, 1, 0), leaves.draw(8, 32, 1, 1), "dead leaves")
    monkeypatch.setattr(data, "load", lambda *_: few)
    out = tmp_path / "quality.json"
    arguments = ["--stage", "curves", "--quick", "--out", out, "--pictures", tmp_path / "p", "--data", command.LEAVES]
    arguments += ["--rate", 80, "--rate", 320, "--term", "gaussian", "--term", "blur", "--term", "mse"]
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    found = [(row["options"]["rate"], row["label"]) for row in content["results"]]
    assert sorted(found) == [(80, "blur"), (80, "gaussian"), (320, "blur"), (320, "gaussian"), (320, "mse")]
    for row in content["results"]:
        assert len(row["course"]) == 20 and len(row["edge"]["truth"]) == len(row["edge"]["reconstruction"]) == 41
    text = out.with_suffix(".md").read_text()
    assert "## Leaves at 80 nats" in text and "## Leaves at 320 nats" in text
    for name in ("curves", "leaves-edges"):
        with Image.open(tmp_path / f"quality-{name}.png") as picture:
            assert np.asarray(picture).std() > 10


def test_large_images_have_tables_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "LARGE", replace(command.LARGE, batch=2))
    out = tmp_path / "quality.json"
    arguments = ["--stage", "large", "--curve-steps", 2, "--seeds", 1, "--out", out, "--pictures", tmp_path / "p"]
    arguments += ["--data", command.LEAVES, "--term", "gaussian", "--term", "blur"]
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert {row["label"] for row in json.loads(out.read_text())["results"]} == {"gaussian", "blur"}
    text = out.with_suffix(".md").read_text()
    assert "## Leaves of 64 x 64 pixels at 640 nats\n\nSynthetic dead leaves, 64 x 64 pixels" in text
    with Image.open(tmp_path / "quality-leaves-large-edges.png") as picture:
        assert np.asarray(picture).std() > 10


def test_shares_are_of_the_step():
    options = replace(command.BASE, width=8, batch=4, rate=None)
    rows = shares.measure(options, data.load(options.data, 32, options.channels), 2, lambda count: None)
    assert [row["contender"] for row in rows] == ["MSE", "torch.fft", "blurfft"]
    for row in rows:
        assert row["term_ms"] > 0 and row["step_ms"] > 0
        assert (row["fit_ms"] > 0) == (row["contender"] != "MSE")
    assert "torch.fft" not in shares.TERMS
    assert len(report.shares_table(rows)) == 5
