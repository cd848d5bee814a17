"""The general adaptive robust loss on DCT coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from .base import ReconstructionTerm

ALPHA_MIN, ALPHA_MAX = 0.001, 1.999
_TABLE_STEPS = 1000


def general_loss(x: Tensor, alpha: Tensor) -> Tensor:
    """ρ(x, α) = |α−2| / α · ((x² / |α−2| + 1)^(α/2) − 1) for 0 < α < 2: Barron's equation 1 with c = 1.

    It is smooth L1 for α = 1, the squared error / 2 as α → 2, and Cauchy's log(x² / 2 + 1) as α → 0.
    """
    b = 2 - alpha
    return b / alpha * torch.expm1(alpha / 2 * torch.log1p(x.square() / b))


def log_partition_table() -> Tensor:
    """log ∫ exp(−ρ(x, α)) dx on a regular grid of α: Gauss–Legendre in θ, x = tan θ, whose integrand is bounded."""
    nodes, weights = np.polynomial.legendre.leggauss(512)
    theta = torch.from_numpy(nodes) * math.pi / 2
    alpha = torch.linspace(ALPHA_MIN, ALPHA_MAX, _TABLE_STEPS + 1, dtype=torch.float64)[:, None]
    integrand = torch.exp(-general_loss(theta.tan(), alpha)) / theta.cos().square()
    return (integrand * torch.from_numpy(weights)).sum(1).mul(math.pi / 2).log()


def dct_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II, (n, n), float64."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * k * (2 * j + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


class AdaptiveRobust(ReconstructionTerm):
    """A density whose shape α in (0, 2) and scale c are learned for every DCT coefficient of every channel.

    Barron, *A General and Adaptive Robust Loss Function*, CVPR 2019: −log p = ρ(x / c, α) + log c + log Z(α). He uses
    DCT or wavelet coefficients of YUV; here it is the DCT of the channels as they are. The transform is orthonormal, so
    this is also a density of the pixels. The authors' package is not on PyPI.
    """

    # At a higher rate, shapes and scales settle on the errors of the first steps, and the tails become so heavy that
    # the mean of an image is no longer learned.
    own_rate = 1

    table: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, image_shape: tuple[int, int, int], latent: int, scale: float = 0.1) -> None:
        super().__init__(image_shape, latent)
        self.shape = nn.Parameter(torch.zeros(image_shape))  # α = 1 at first
        self.log_scale = nn.Parameter(torch.full(image_shape, math.log(scale)))
        dtype = torch.get_default_dtype()
        for name, value in {
            "table": log_partition_table(),
            "rows": dct_matrix(image_shape[1]),
            "columns": dct_matrix(image_shape[2]),
        }.items():
            self.register_buffer(name, value.to(dtype), persistent=False)

    @property
    def alpha(self) -> Tensor:
        """The shapes, (C, H, W)."""
        return ALPHA_MIN + (ALPHA_MAX - ALPHA_MIN) * self.shape.sigmoid()

    def log_partition(self, alpha: Tensor) -> Tensor:
        """log Z(α), by linear interpolation."""
        position = (alpha - ALPHA_MIN) * (_TABLE_STEPS / (ALPHA_MAX - ALPHA_MIN))
        left = position.detach().floor().clamp(0, _TABLE_STEPS - 1).long()
        return torch.lerp(self.table[left], self.table[left + 1], position - left)

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        coefficients = self.rows @ (input - target) @ self.columns.T
        alpha = self.alpha
        nll = general_loss(coefficients * torch.exp(-self.log_scale), alpha) + self.log_scale
        return (nll + self.log_partition(alpha)).flatten(1).sum(1)
