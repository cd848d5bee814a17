"""VAE-GAN: distances in the features of a discriminator that is trained alongside."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ReconstructionTerm, frozen_call


class Discriminator(nn.Module):
    """Images (N, C, H, W) to the features of its second layer and a logit (N,), positive for real."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        )
        self.judge = nn.Sequential(
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(2 * images - 1)
        return features, self.judge(features)[:, 0]


class VAEGAN(ReconstructionTerm):
    """½ ‖D_l(x̂) − D_l(x)‖² in a layer l of a discriminator D, plus ``weight`` times softplus(−D(x̂)).

    Larsen et al., *Autoencoding beyond pixels using a learned similarity metric*, ICML 2016 (arXiv 1512.09300).
    Simplified: D judges reconstructions, not samples of the prior too, and its verdict also trains the encoder.

    Args:
        image_shape: (C, H, W).
        latent: dimensions of z.
        weight: the weight of the verdict.
        width: channels of D's first layer, a multiple of 4.

    Raises:
        ValueError: ``width`` is not a positive multiple of 4.
    """

    why_no_density = "a distance of features that change while they are learned, and an adversary"

    def __init__(self, image_shape: tuple[int, int, int], latent: int, weight: float = 1.0, width: int = 16) -> None:
        super().__init__(image_shape, latent)
        if not isinstance(width, int) or width < 4 or width % 4:
            raise ValueError(f"width must be a positive multiple of 4, got {width!r}")
        self.discriminator = Discriminator(image_shape[0], width)
        self.weight = weight

    @property
    def auxiliary(self) -> Discriminator:
        return self.discriminator

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        features, logit = frozen_call(self.discriminator, input)
        truth, _ = frozen_call(self.discriminator, target)
        return 0.5 * (features - truth).square().flatten(1).sum(1) + self.weight * F.softplus(-logit)

    def auxiliary_loss(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        _, real = self.discriminator(target)
        _, reconstructed = self.discriminator(input.detach())
        return (F.softplus(-real) + F.softplus(reconstructed)).mean()
