"""A plain convolutional VAE with residual blocks, for 28 to 256 pixels and 1 or 3 channels."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST, LARGEST = 28, 256


def _sides(size: int) -> list[int]:
    """The sides of the feature maps: halved at least twice, then as long as they are even and above 4."""
    sides = [size // 2, size // 4]
    while sides[-1] % 2 == 0 and sides[-1] > 4:
        sides.append(sides[-1] // 2)
    return sides


def _norm(channels: int) -> nn.GroupNorm:
    # Not batch normalisation: no sample may depend on others, nor on how a batch is shared among processes. Groups of
    # several channels: a group of one loses its mean, and with it how bright the image is.
    return nn.GroupNorm(max(1, min(8, channels // 8)), channels)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Encoder(nn.Sequential):
    """Images (N, C, size, size) to (N, 2 latent): mean and log-variance of q(z | x)."""

    def __init__(self, size: int, channels: int, latent: int, width: int) -> None:
        sides = _sides(size)
        widths = [width * min(2**i, 8) for i in range(len(sides))]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), ResidualBlock(width)]
        for fine, coarse in pairwise(widths):
            layers += [nn.Conv2d(fine, coarse, 3, stride=2, padding=1), ResidualBlock(coarse)]
        layers += [_norm(widths[-1]), nn.SiLU(), nn.Flatten(), nn.Linear(widths[-1] * sides[-1] ** 2, 2 * latent)]
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Latents (N, latent) to images (N, C, size, size) in (0, 1)."""

    def __init__(self, size: int, channels: int, latent: int, width: int) -> None:
        sides = _sides(size)
        widths = [width * min(2**i, 8) for i in range(len(sides))]
        layers: list[nn.Module] = [
            nn.Linear(latent, widths[-1] * sides[-1] ** 2),
            nn.Unflatten(1, (widths[-1], sides[-1], sides[-1])),
            ResidualBlock(widths[-1]),
        ]
        for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(coarse, fine, 3, padding=1), ResidualBlock(fine)]
        layers += [_norm(width), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(width, width // 2, 3, padding=1)]
        layers += [nn.SiLU(), nn.Conv2d(width // 2, channels, 3, padding=1), nn.Sigmoid()]
        super().__init__(*layers)


class VAE(nn.Module):
    """q(z | x) and the mean of p(x | z), for square images in [0, 1]; the prior of z is a standard normal.

    Args:
        size: the side in pixels, a multiple of 4 from 28 to 256.
        channels: 1 or 3.
        latent: dimensions of z.
        width: channels of the finest feature maps, a multiple of 8; coarser ones have up to 8 times as many.

    Raises:
        ValueError: an argument is none of these; the message names it.

    Examples:
        >>> vae = VAE(size=64, channels=3)
        >>> mean, log_variance = vae.encode(torch.rand(2, 3, 64, 64))
        >>> vae.decode(mean).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int = 3, latent: int = 128, width: int = 32) -> None:
        super().__init__()
        for name, value in (("size", size), ("channels", channels), ("latent", latent), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} must be an int, got {value!r}")
        if size % 4 or not SMALLEST <= size <= LARGEST:
            raise ValueError(f"size must be a multiple of 4 from {SMALLEST} to {LARGEST}, got {size}")
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        if latent < 1:
            raise ValueError(f"latent must be at least 1, got {latent}")
        if width < 8 or width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {width}")
        self.size, self.channels, self.latent = size, channels, latent
        self.encoder = Encoder(size, channels, latent, width)
        self.decoder = Decoder(size, channels, latent, width)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), (N, latent) each, of (N, C, H, W) images in [0, 1]."""
        mean, log_variance = self.encoder(2 * images - 1).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """The reconstruction, (N, C, H, W) in (0, 1), of (N, latent)."""
        return self.decoder(z)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` images whose z are drawn from the prior; a generator makes them reproducible."""
        parameter = next(self.parameters())
        device = generator.device if generator is not None else parameter.device
        z = torch.randn(count, self.latent, generator=generator, device=device, dtype=parameter.dtype)
        return self.decode(z.to(parameter.device))
