"""Blurs a photograph and compiles the model that restores it: blurred.ppm and deblur.pt2, for deblur.cpp."""

from __future__ import annotations

import sys

import numpy as np
import torch
from PIL import Image

import blurfft
from blurfft import psf


class Deblur(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", psf.motion(9, 30))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return blurfft.wiener_filter(images, self.kernel, nsr=1e-3).clamp(0, 1)


if __name__ == "__main__":
    pixels = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
    images = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    model = Deblur()
    blurred = blurfft.blur(images, model.kernel)
    Image.fromarray((255 * blurred[0].permute(1, 2, 0)).round().byte().numpy()).save("blurred.ppm")

    sides = {2: torch.export.Dim("height", min=9), 3: torch.export.Dim("width", min=9)}
    program = torch.export.export(model, (blurred,), dynamic_shapes=(sides,))
    torch._inductor.aoti_compile_and_package(program, package_path="deblur.pt2")
