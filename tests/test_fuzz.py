"""A part of ``make fuzz``, and that it finds what is wrong."""

from __future__ import annotations

import functools

import fuzz
import pytest
import torch

import blurfft

CASES, PORTION = 500, 25
PIXELS = 4_000  # fewer than by hand: all of it in less than half a minute


@pytest.mark.parametrize("first", range(0, CASES, PORTION))
def test_random_calls(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    failed = fuzz.run(0, range(first, first + PORTION), PIXELS)
    assert not failed, capsys.readouterr().out


def test_a_case_depends_on_its_seed_and_index_alone() -> None:
    case, again, other = fuzz.draw(1, 2), fuzz.draw(1, 2), fuzz.draw(1, 3)
    assert str(case) == str(again) != str(other)
    for name, t in case.tensors.items():
        assert torch.equal(t, again.tensors[name])


@pytest.mark.parametrize("function", fuzz.FUNCTIONS)
def test_a_small_error_is_found(
    function: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off by a ten-thousandth, in a case of float32."""
    right = getattr(blurfft, function)

    @functools.wraps(right)
    def wrong(*args: object, **kwargs: object) -> torch.Tensor:
        return right(*args, **kwargs) * 1.0001

    def suits(index: int) -> bool:
        case = fuzz.draw(0, index, PIXELS)
        return case.function == function and all(t.dtype.itemsize in (4, 8) for t in case.tensors.values())

    index = next(filter(suits, range(1000)))
    monkeypatch.setattr(blurfft, function, wrong)
    assert fuzz.run(0, range(index, index + 1), PIXELS) == 1
    assert f"tests/fuzz.py --seed 0 --index {index} --pixels {PIXELS}: {function}(" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(64, 64), (45, 60), (127, 83), (253, 46), (1, 96)])
@pytest.mark.parametrize("mean", [0, 1000])
def test_inexact_transforms_are_off_as_those_of_torch_are(size: tuple[int, int], mean: float) -> None:
    """Root mean squares over 32 planes, in float32: within a factor of 4."""
    planes = mean + torch.randn(32, 1, *size, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(planes)
    truth = torch.fft.rfft2(planes.double())
    with fuzz.inexact_transforms(0):
        modelled = torch.fft.rfft2(planes) - spectrum
    ratio = modelled.abs().square().mean().sqrt() / (spectrum - truth).abs().square().mean().sqrt()
    assert 1 / 4 < ratio < 4, ratio
