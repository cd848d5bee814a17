"""The blur error with one kernel for all images, which learnt kernels have to beat."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from blurfft import psf, wiener_nll
from blurfft.vae.options import Options
from blurfft.vae.terms import ReconstructionTerm

NAME = "fixed-kernel"


class FixedKernel(ReconstructionTerm):
    """−log N(x; x̂, σ² (WᵀW + εI)⁻¹), W the Wiener inverse of a Gaussian blur of one pixel; σ is learned."""

    kernel: Tensor

    def __init__(self, image_shape: tuple[int, int, int], latent: int) -> None:
        super().__init__(image_shape, latent)
        self.register_buffer("kernel", psf.gaussian(1.0, 5).to(torch.get_default_dtype()), persistent=False)
        self.log_sigma = nn.Parameter(torch.full((1,), math.log(0.1)))

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        scale = torch.exp(-self.log_sigma)
        nll = wiener_nll(input * scale, target * scale, self.kernel, Options.nsr, eps=Options.eps, reduction="none")
        return nll + self.dimensions * self.log_sigma
