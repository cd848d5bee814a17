from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from blurfft import images, psf
from blurfft.cli.panel import panel
from blurfft.images import pictures


def photo_of(colour: torch.Tensor, alpha: np.ndarray | None = None, bits: int = 8) -> images.Photo:
    return images.Photo(colour.float(), alpha, bits, "PNG", ".png", None, None, ())


def test_picture_rounds_and_clips():
    grey = torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 2.0]]])
    np.testing.assert_array_equal(np.asarray(pictures.picture(grey))[0, :, 1], [0, 0, 128, 255, 255])
    colour = torch.rand(3, 4, 5)
    expected = (colour * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(pictures.picture(colour)), expected)


def test_heat_runs_from_black_to_pale_yellow():
    pixels = np.asarray(pictures.heat(torch.tensor([[0.0, 1.0, 2.0, 9.0]]), top=2.0))[0]
    np.testing.assert_array_equal(pixels[[0, 2, 3]], [[0, 0, 4], [252, 253, 191], [252, 253, 191]])
    brightness = np.asarray(pictures.heat(torch.linspace(0, 1, 50)[None], 1.0))[0].astype(int).sum(-1)
    assert (np.diff(brightness) > 0).all()


@pytest.mark.parametrize("kernel", [psf.gaussian(1.0), psf.motion(60, 10), psf.disk(200)])
def test_kernel_inset_is_square_framed_and_centred(kernel):
    inset = np.asarray(pictures.kernel_inset(kernel, 84)).astype(float).mean(-1)
    assert inset.shape == (84, 84)
    assert (inset[[0, 1, -1, -2]] == 255).all() and (inset[:, [0, 1, -1, -2]] == 255).all()
    inside = inset[2:-2, 2:-2]
    assert inside.max() > 200
    centre = (np.indices(inside.shape) * inside).sum((1, 2)) / inside.sum()
    np.testing.assert_allclose(centre, 39.5, atol=1)


def test_text_is_shortened_to_its_room():
    canvas = Image.new("RGB", (400, 40), pictures.PAPER)
    pictures.write_text(canvas, (10, 5), "a very long caption indeed " * 5, 18, pictures.INK, 150)
    used = np.flatnonzero((np.asarray(canvas) < 255).any((0, 2)))
    assert used.min() >= 10 and 120 < used.max() <= 162


def test_panel_scales_large_photographs_and_shows_alpha_on_white():
    kernel = psf.disk(3.0)
    large = photo_of(torch.rand(3, 300, 1200))
    assert panel(large, large.colour, kernel, "n", "o", widest=600).size == (2 * 600 + 48, 150 + 80)
    hidden = np.zeros((40, 30), np.uint8)
    icon = photo_of(torch.zeros(1, 40, 30), hidden)
    pixels = np.asarray(panel(icon, icon.colour, kernel, "n", "o"))
    assert pixels.shape == (120, 2 * 360 + 48, 3)
    assert (pixels[64:104, 16:46] == 255).all()


def test_panel_of_floating_point_uses_the_range_of_the_input():
    values = torch.linspace(-500, 1500, 1200).reshape(1, 30, 40)
    photo = photo_of(values, bits=32)
    pixels = np.asarray(panel(photo, values + 1e6, psf.disk(1.0), "n", "o"))
    assert pixels[64, 16, 0] == 0 and pixels[93, 55, 0] == 255
    assert (pixels[64:94, 392:432] == 255).all()
