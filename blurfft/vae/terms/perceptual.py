"""Distances between the features of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import ReconstructionTerm


class Perceptual(ReconstructionTerm):
    """½ Σ_layers mean squared difference of the layer's features, times the image's dimensions.

    Hou et al., *Deep Feature Consistent Variational Autoencoder*, WACV 2017 (arXiv 1610.00291), who use three layers
    of VGG-19. Here you supply the network; its parameters are held constant.

    Args:
        image_shape: (C, H, W).
        latent: dimensions of z.
        features: a module from images (N, C, H, W) in [0, 1] to a tensor or to several, one for each layer; it
            normalises and resizes as it needs.
    """

    why_no_density = "a distance of features, which leaves a density of pixels undefined"

    def __init__(self, image_shape: tuple[int, int, int], latent: int, features: nn.Module) -> None:
        super().__init__(image_shape, latent)
        self.features = features.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Perceptual:
        super().train(mode)
        self.features.eval()
        return self

    def _layers(self, images: Tensor) -> Sequence[Tensor]:
        layers = self.features(images)
        return (layers,) if isinstance(layers, Tensor) else tuple(layers)

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            truth = self._layers(target)
        distances = [(a - t).square().flatten(1).mean(1) for a, t in zip(self._layers(input), truth, strict=True)]
        return 0.5 * self.dimensions * torch.stack(distances).sum(0)
