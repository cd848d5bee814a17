"""Tensors as pictures, and pictures with insets and captions, for the panel, the demo and the training runs."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..files import printable

INK, MUTED, PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)

# Nine samples of matplotlib's perceptually uniform colour map "magma" (CC0), from 0 to 1.
_MAGMA = np.array(
    [
        (0, 0, 4),
        (28, 16, 68),
        (79, 18, 123),
        (129, 37, 129),
        (181, 54, 122),
        (229, 80, 100),
        (251, 135, 97),
        (254, 194, 135),
        (252, 253, 191),
    ],
    dtype=np.float64,
)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is there on every machine."""
    return ImageFont.load_default(size)


def picture(colour: Tensor) -> Image.Image:
    """(1|3, H, W) in [0, 1], clipped, as an RGB picture."""
    pixels = (colour.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def heat(values: Tensor, top: float) -> Image.Image:
    """A map (H, W) from 0 (black) to ``top`` and more (pale yellow)."""
    position = (values.detach().double() / top).clamp(0, 1).numpy() * (len(_MAGMA) - 1)
    rgb = np.stack([np.interp(position, range(len(_MAGMA)), _MAGMA[:, band]) for band in range(3)], -1)
    return Image.fromarray(rgb.round().astype(np.uint8))


def kernel_inset(kernel: Tensor, side: int) -> Image.Image:
    """A kernel, white on black, in whole multiples of its pixels where it fits, within a frame ``side`` wide."""
    kh, kw = kernel.shape
    pad_h, pad_w = max(kh, kw) - kh, max(kh, kw) - kw
    square = F.pad(kernel.double(), (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
    values = (square.clamp(min=0) / kernel.max() * 255).round().to(torch.uint8).numpy()
    inner = side - 4
    scale = inner // len(values)
    small = Image.fromarray(values)
    if scale:
        small = small.resize((scale * len(values),) * 2, Image.Resampling.NEAREST)
    else:
        small = small.resize((inner, inner), Image.Resampling.LANCZOS)
    frame = Image.new("RGB", (side, side), PAPER)
    frame.paste((0, 0, 0), (2, 2, side - 2, side - 2))
    frame.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return frame


def add_inset(image: Image.Image, inset: Image.Image) -> None:
    """Puts ``inset`` in the lower right corner."""
    image.paste(inset, (image.width - inset.width - 8, image.height - inset.height - 8))


def write_text(
    canvas: Image.Image, xy: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], room: int
) -> None:
    """One line of text with its upper left corner at ``xy``, shortened with dots to at most ``room`` pixels."""
    text = printable(text)
    draw = ImageDraw.Draw(canvas)
    shown, kept = text, len(text)
    while kept > 1 and draw.textlength(shown, font(size)) > room:
        kept -= 1
        shown = text[:kept] + "..."
    draw.text(xy, shown, fill=colour, font=font(size))
