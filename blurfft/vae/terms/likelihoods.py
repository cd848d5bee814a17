"""Independent pixels: Gaussian, Laplace and Bernoulli."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ReconstructionTerm, positive


class MSE(ReconstructionTerm):
    """A Gaussian of fixed standard deviation ``sigma`` in each pixel: the squared error, divided by 2 sigma².

    Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014. A factor on the squared error is a factor on β:
    with β under control, ``sigma`` only matters for the bits per dimension.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent: int, sigma: float = 0.1) -> None:
        super().__init__(image_shape, latent)
        self.sigma = positive("sigma", sigma)

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        squared = F.mse_loss(input, target, reduction="none").flatten(1).sum(1)
        return squared / (2 * self.sigma**2) + self.dimensions * (math.log(self.sigma) + 0.5 * math.log(2 * math.pi))


class Gaussian(ReconstructionTerm):
    """A Gaussian whose standard deviation, one for all pixels, is learned.

    Rybkin et al., *Simple and Effective VAE Training with Calibrated Decoders*, ICML 2021.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent: int, sigma: float = 0.1) -> None:
        super().__init__(image_shape, latent)
        self.log_sigma = nn.Parameter(torch.full((1,), math.log(positive("sigma", sigma))))

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        squared = F.mse_loss(input, target, reduction="none").flatten(1).sum(1)
        log_scale = self.log_sigma + 0.5 * math.log(2 * math.pi)
        return 0.5 * squared * torch.exp(-2 * self.log_sigma) + self.dimensions * log_scale


class Laplace(ReconstructionTerm):
    """A Laplace density whose scale, one for all pixels, is learned: the absolute error."""

    def __init__(self, image_shape: tuple[int, int, int], latent: int, scale: float = 0.1) -> None:
        super().__init__(image_shape, latent)
        self.log_scale = nn.Parameter(torch.full((1,), math.log(positive("scale", scale))))

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        absolute = F.l1_loss(input, target, reduction="none").flatten(1).sum(1)
        return absolute * torch.exp(-self.log_scale) + self.dimensions * (self.log_scale + math.log(2))


class Bernoulli(ReconstructionTerm):
    """The cross-entropy of grey values taken for probabilities.

    Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014.
    """

    why_no_density = (
        "a probability of binary pixels; of grey values it is no normalised density "
        "(Loaiza-Ganem and Cunningham, The continuous Bernoulli, NeurIPS 2019)"
    )

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, reduction="none").flatten(1).sum(1)
