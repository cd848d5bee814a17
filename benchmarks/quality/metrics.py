"""Closeness and sharpness of reconstructions. Images are (N, C, H, W) in [0, 1]."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import image as torchmetrics
from torchmetrics.image.fid import FrechetInceptionDistance

STEP, REACH = 0.25, 5  # of an edge profile, in pixels
EDGES = 4  # per image, on average
_PADDED = 1024

HIGH = 0.25  # cycles per pixel, half of the highest frequency: the start of the high frequencies


def radial_frequency(height: int, width: int) -> Tensor:
    """Cycles per pixel, on the half spectrum."""
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))


def multiplicity(height: int, width: int) -> Tensor:
    """How often each coefficient of the half spectrum occurs in the full one."""
    counts = torch.ones(height, width // 2 + 1)
    counts[:, 1 : (width + 1) // 2] = 2
    return counts


def power(images: Tensor) -> Tensor:
    """Mean energy on the half spectrum, (H, W//2+1); interior columns count for both halves of the full one."""
    spectrum = torch.fft.rfft2(images, norm="ortho").abs().square().mean((0, 1))
    return spectrum * multiplicity(*images.shape[2:])


def radial_power(images: Tensor) -> list[float]:
    """Mean power per coefficient in rings of whole radius, in cycles per image, without the mean of the image."""
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
    """Mean square of the discrete Laplacian inside the image, the usual measure of focus."""
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(images, laplacian, groups=images.shape[1]).square().mean().item()


def edge_profile(images: Tensor, truth: Tensor) -> Tensor:
    """The mean profile of ``images`` across the strongest edges of the truth, from dark to bright along the gradient.

    ``images`` may be the truth itself.

    Returns:
        Values every ``STEP`` pixels from -``REACH`` to ``REACH``, averaged over edges with weights by contrast; scaled
        such that the profile of the truth goes from 0 to 1.
    """
    grey = truth.mean(1, keepdim=True)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), "replicate"), torch.stack([sobel, sobel.T])[:, None])  # (N, 2, H, W)
    strength = gradient.norm(dim=1)
    margin = REACH + 1
    inside = torch.zeros_like(strength)
    inside[:, margin:-margin, margin:-margin] = strength[:, margin:-margin, margin:-margin]
    inside[inside < F.max_pool2d(strength, 3, 1, 1)] = 0  # one place on each edge
    chosen = inside.flatten().topk(max(1, round(EDGES * len(truth)))).indices
    n, y, x = torch.unravel_index(chosen, inside.shape)
    direction = gradient[n, :, y, x] / strength[n, y, x, None]
    offsets = torch.arange(-REACH, REACH + STEP / 2, STEP)
    height, width = truth.shape[2:]
    columns = (x[:, None] + direction[:, :1] * offsets + 0.5) * (2 / width) - 1  # (edges, offsets)
    rows = (y[:, None] + direction[:, 1:] * offsets + 0.5) * (2 / height) - 1
    grid = torch.stack([columns, rows], 2)[:, None]

    def across(images: Tensor) -> Tensor:
        return F.grid_sample(images.mean(1, keepdim=True)[n], grid, align_corners=False)[:, 0, 0]

    true = across(truth)
    low, high = true[:, :1], true[:, -1:]
    contrast = high - low
    return ((across(images) - low) * contrast).sum(0) / contrast.square().sum()


def mtf50(profile: Tensor) -> float:
    """The frequency, in cycles per pixel, at which an edge profile has lost half of its contrast."""
    line = profile.diff()
    contrast = torch.fft.rfft(line, _PADDED).abs()
    contrast = contrast / contrast[0]
    below = int((contrast < 0.5).nonzero()[0])
    share = (contrast[below - 1] - 0.5) / (contrast[below - 1] - contrast[below])
    return (below - 1 + share.item()) / (_PADDED * STEP)


_ALEXNET, _INCEPTION = "alexnet-owt-7be5be79.pth", "weights-inception-2015-12-05-6726825d.pth"


def learned(images: Tensor, truth: Tensor) -> dict[str, float]:
    """LPIPS and FID, each only if its package and the weights that torchmetrics uses are on this machine.

    Nothing is downloaded, and no other weights take their place.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    images, truth = (values.expand(-1, 3, -1, -1).clamp(0, 1) for values in (images, truth))
    found = {}
    if importlib.util.find_spec("torchvision") and (weights / _ALEXNET).is_file():
        distance = torchmetrics.learned_perceptual_image_patch_similarity(images, truth, "alex", normalize=True)
        found["lpips"] = float(distance)
    if importlib.util.find_spec("torch_fidelity") and (weights / _INCEPTION).is_file():
        fid = FrechetInceptionDistance(normalize=True)
        fid.update(truth, real=True)
        fid.update(images, real=False)
        found["fid"] = fid.compute().item()
    return found


def compare(images: Tensor, truth: Tensor) -> dict[str, float]:
    """All offline metrics. Energies, sharpness and MTF50 are relative to the truth."""
    psnr = torchmetrics.peak_signal_noise_ratio(images, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return {
        "psnr": psnr.mean().item(),
        "ssim": float(torchmetrics.structural_similarity_index_measure(images, truth, data_range=1.0)),  # type: ignore[arg-type]
        "scc": float(torchmetrics.spatial_correlation_coefficient(images, truth)),
        "high_energy": high_energy(images) / high_energy(truth),
        "high_error": high_energy(images - truth) / high_energy(truth),
        "sharpness": sharpness(images) / sharpness(truth),
        "mtf50": mtf50(edge_profile(images, truth)) / mtf50(edge_profile(truth, truth)),
    }
