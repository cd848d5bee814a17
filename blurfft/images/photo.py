"""What a photograph is to the programs: its pixels, and what its file said about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Photo:
    """A photograph, upright."""

    colour: Tensor  # (C, H, W) float32, C = 1 or 3, in [0, 1]; as stored for a floating-point file
    alpha: NDArray[Any] | None  # (H, W), as stored
    bits: int  # 8, 16, or 32 for floating point
    format: str  # Pillow's name
    suffix: str
    icc_profile: bytes | None
    exif: bytes | None
    notes: tuple[str, ...]
    dpi: tuple[float, float] | None = None  # pixels an inch, across and down
    xmp: bytes | None = None  # in UTF-8

    @property
    def mode(self) -> str:
        """Pillow's name for the kind of pixel; where it has none, as for 16-bit and floating-point colour, "RGB;16",
        "RGB;32" or the like."""
        if self.bits == 32 and self.alpha is None and self.colour.shape[0] == 1:
            return "F"
        if self.bits == 16 and self.alpha is None and self.colour.shape[0] == 1:
            return "I;16"
        name = ("L" if self.colour.shape[0] == 1 else "RGB") + ("A" if self.alpha is not None else "")
        return name + (f";{self.bits}" if self.bits > 8 else "")
