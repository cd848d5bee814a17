"""Grids of pictures: reconstructions, samples, kernels and error maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import atomic
from ..functional import wiener_loss
from ..images import pictures
from .elbo import dequantise
from .outputs import PICTURES
from .terms import BlurError
from .training import Trainer

_SHOWN, _COLUMNS, _GAP = 24, 8, 2
_TILE = 96  # at least as wide


def grid(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size, row by row."""
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    canvas = Image.new("RGB", size, pictures.PAPER)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        canvas.paste(tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return canvas


def enlarged(tile: Image.Image) -> Image.Image:
    """In whole multiples of its pixels."""
    factor = -(-_TILE // tile.width)
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)


def _pairs(above: Sequence[Image.Image], below: Sequence[Image.Image]) -> list[Image.Image]:
    """Rows of one above rows of the other, for ``grid``."""
    tiles: list[Image.Image] = []
    for start in range(0, len(above), _COLUMNS):
        tiles += [*above[start : start + _COLUMNS], *below[start : start + _COLUMNS]]
    return tiles


@torch.no_grad()
def draw(trainer: Trainer, out: Path) -> list[Path]:
    """Writes ``reconstructions.png`` (held-out images above what became of them), ``samples.png`` (of the prior),
    ``error.png`` (the squared error and, for the blur error, that) and ``kernels.png`` for a term that has any.

    Returns:
        The files.
    """
    vae, term, device = trainer.vae, trainer.term, trainer.device
    vae.eval()
    held_out = trainer.images.held_out
    count = max(1, min(_SHOWN, len(held_out)) // _COLUMNS * _COLUMNS) if len(held_out) >= _COLUMNS else len(held_out)
    chosen = np.linspace(0, len(held_out) - 1, count).astype(int)
    middle = torch.full((), 0.5)
    target = dequantise(torch.from_numpy(np.array(held_out[chosen])), middle).to(device)
    z, _ = vae.encode(target)
    reconstruction = vae.decode(z)
    samples = vae.sample(_SHOWN, torch.Generator().manual_seed(trainer.options.seed))

    def tiles(images: Tensor) -> list[Image.Image]:
        return [enlarged(pictures.picture(image)) for image in images.cpu()]

    def heats(maps: Tensor) -> list[Image.Image]:
        """(N, H, W), one scale for all."""
        top = max(torch.quantile(maps.flatten().float(), 0.995).item(), 1e-12)
        return [enlarged(pictures.heat(values, top)) for values in maps.cpu()]

    error = heats((reconstruction - target).square().mean(1).sqrt())
    insets: list[Image.Image] = []
    if isinstance(term, BlurError):
        kernels = term.kernels(z)
        blur = wiener_loss(reconstruction, target, kernels, term.nsr, eps=term.eps, reduction="none")
        error = _pairs(error, heats(blur.mean(1).clamp(min=0).sqrt()))
        insets = [pictures.kernel_inset(kernel, _TILE) for kernel in kernels[:, 0].cpu()]
    vae.train()
    grids = (_pairs(tiles(target), tiles(reconstruction)), tiles(samples), error, insets)
    written = []
    for name, pictured in zip(PICTURES, grids, strict=True):
        if not pictured:
            continue
        with atomic(out / name) as file:
            grid(pictured, min(_COLUMNS, len(pictured))).save(file, "PNG")
        written.append(out / name)
    return written
