"""How close reconstructions are, and how sharp. Images are (N, C, H, W) in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import image as torchmetrics

HIGH = 0.25  # cycles a pixel, half of the highest frequency: what counts as high


def radial_frequency(height: int, width: int) -> Tensor:
    """Cycles a pixel, on the half spectrum."""
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))


def multiplicity(height: int, width: int) -> Tensor:
    """How often the full spectrum has each coefficient of the half spectrum."""
    counts = torch.ones(height, width // 2 + 1)
    counts[:, 1 : (width + 1) // 2] = 2
    return counts


def power(images: Tensor) -> Tensor:
    """Mean energy on the half spectrum, (H, W//2+1), what it stands for in the full one included."""
    spectrum = torch.fft.rfft2(images, norm="ortho").abs().square().mean((0, 1))
    return spectrum * multiplicity(*images.shape[2:])


def radial_power(images: Tensor) -> list[float]:
    """Mean power of a coefficient in rings of radius 1/n cycles a pixel, without the mean of the image."""
    height, width = images.shape[2:]
    rings = (radial_frequency(height, width) * min(height, width)).round().long().flatten()
    sums = torch.bincount(rings, power(images).flatten())
    counts = torch.bincount(rings, multiplicity(height, width).flatten())
    return (sums / counts)[1 : min(height, width) // 2 + 1].tolist()


def high_energy(images: Tensor) -> float:
    """Mean energy of an image above ``HIGH``."""
    spectrum = power(images)
    return spectrum[radial_frequency(*images.shape[2:]) > HIGH].sum().item()


def sharpness(images: Tensor) -> float:
    """Mean square of the discrete Laplacian inside the image: the usual measure of focus."""
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(images, laplacian, groups=images.shape[1]).square().mean().item()


def compare(images: Tensor, truth: Tensor) -> dict[str, float]:
    """All of them; quotients are to the truth, so 1 is what a perfect reconstruction has."""
    psnr = torchmetrics.peak_signal_noise_ratio(images, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return {
        "psnr": psnr.mean().item(),
        "ssim": float(torchmetrics.structural_similarity_index_measure(images, truth, data_range=1.0)),  # type: ignore[arg-type]
        "scc": float(torchmetrics.spatial_correlation_coefficient(images, truth)),
        "high_energy": high_energy(images) / high_energy(truth),
        "high_error": high_energy(images - truth) / high_energy(truth),
        "sharpness": sharpness(images) / sharpness(truth),
    }
