"""The picture behind ``deblur --panel``."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images import Photo, pictures


def _on_white(photo: Photo, colour: Tensor) -> Tensor:
    if photo.bits == 32:  # the range of the input from black to white
        low, high = photo.colour.amin(), photo.colour.amax()
        colour = (colour - low) / (high - low).clamp(min=1e-12)
    if photo.alpha is None:
        return colour
    opaque = np.iinfo(photo.alpha.dtype).max if photo.alpha.dtype.kind == "u" else 1
    opacity = torch.from_numpy(photo.alpha.astype(np.float32)) / opaque
    return colour * opacity + (1 - opacity)


def panel(photo: Photo, restored: Tensor, kernel: Tensor, name: str, options: str, widest: int = 1000) -> Image.Image:
    """The photograph and its restoration side by side, with the kernel in a corner and captions.

    Args:
        photo: what was read.
        restored: (C, H, W), what became of it.
        kernel: (kh, kw).
        name, options: the captions' words.
        widest: larger photographs are scaled down to this many pixels a side.
    """
    tiles = [pictures.picture(_on_white(photo, colour)) for colour in (photo.colour, restored)]
    height, width = restored.shape[1:]
    scale = widest / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        tiles = [tile.resize(size, Image.Resampling.LANCZOS) for tile in tiles]
    # Captions need some room even under an icon.
    tile_width, tile_height = max(tiles[0].width, 360), tiles[0].height
    margin, caption = 16, 64
    canvas = Image.new("RGB", (2 * tile_width + 3 * margin, tile_height + caption + margin), pictures.PAPER)
    if min(tiles[0].size) >= 120:
        pictures.add_inset(tiles[0], pictures.kernel_inset(kernel, min(96, min(tiles[0].size) // 3)))
    texts = (
        (name, f"{width} x {height}, {photo.bits} bits"),
        ("restored", options + (f", shown at {100 * scale:.0f} %" if scale < 1 else "")),
    )
    for i, (tile, (title, detail)) in enumerate(zip(tiles, texts, strict=True)):
        left = margin + i * (tile_width + margin)
        pictures.write_text(canvas, (left, 10), title, 20, pictures.INK, tile_width)
        pictures.write_text(canvas, (left, 36), detail, 16, pictures.MUTED, tile_width)
        canvas.paste(tile, (left, caption))
    return canvas
