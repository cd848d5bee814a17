"""Watson's perceptual distance on the Fourier coefficients of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import ReconstructionTerm

_EPS = 1e-6
# Luminance and two colour differences (ITU-R BT.601).
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class WatsonDFT(ReconstructionTerm):
    """Differences of amplitude and phase in overlapping blocks, divided by what masks them.

    Czolbe et al., *A Loss Function for Generative Neural Networks Based on Watson's Perceptual Model*, NeurIPS 2020
    (arXiv 2006.15057). Thresholds, exponents and phase weights are those that their optimisation starts from: no
    package has those that they fitted to human judgements. Blocks overlap by half in place of a grid shifted at random,
    the mean luminance is that of the image and not of the batch, and colour channels count alike.

    Args:
        image_shape: (C, H, W).
        latent: dimensions of z.
        thresholds: sensitivities t of the block's half spectrum, broadcastable to (8, 5) or, for images whose sides 8
            does not divide, (4, 3). Default: 1.
        phase_weights: weights of the phase differences, likewise. Default: exp(−2).
        luminance: the exponent of luminance masking.
        contrast: the exponent of contrast masking.
    """

    why_no_density = "a perceptual distance, which no normalised density belongs to"

    colours: Tensor
    thresholds: Tensor
    phase_weights: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent: int,
        thresholds: Tensor | float = 1.0,
        phase_weights: Tensor | float = 0.1353352832366127,
        luminance: float = 0.1,
        contrast: float = 0.2,
    ) -> None:
        super().__init__(image_shape, latent)
        self.block = 8 if all(side % 8 == 0 for side in image_shape[1:]) else 4
        half_spectrum = torch.ones(self.block, self.block // 2 + 1)
        phase = half_spectrum * phase_weights
        # Real coefficients have no phase.
        phase[:: self.block // 2, :: self.block // 2] = 0
        self.register_buffer("thresholds", half_spectrum * thresholds)
        self.register_buffer("phase_weights", phase)
        self.register_buffer("colours", torch.tensor(_YCBCR), persistent=False)
        self.luminance, self.contrast = luminance, contrast

    def _spectra(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, blocks, h, w//2+1)."""
        if images.shape[1] == 3:
            images = torch.einsum("dc,nchw->ndhw", self.colours, images)
        step = self.block // 2
        blocks = images.unfold(2, self.block, step).unfold(3, self.block, step)
        return torch.fft.rfft2(blocks.flatten(2, 3)) / self.block**2

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        actual, truth = self._spectra(input), self._spectra(target)
        # Not abs(), whose gradient at 0 is no number.
        actual_amplitude = (actual.real.square() + actual.imag.square() + _EPS**2).sqrt()
        amplitude = (truth.real.square() + truth.imag.square() + _EPS**2).sqrt()
        light = amplitude[..., :1, :1]
        masked = self.thresholds * (light / light.mean(2, keepdim=True)) ** self.luminance
        contrast = amplitude**self.contrast * masked ** (1 - self.contrast)
        # A soft maximum of the two.
        share = torch.sigmoid(masked - contrast)
        threshold = share * masked + (1 - share) * contrast
        distance = ((actual_amplitude - amplitude) / threshold).abs()

        # Coefficients that are nothing but rounding errors have an angle of 0.
        product = actual.real * truth.real + actual.imag * truth.imag + _EPS**2
        cosine = product / (actual_amplitude * amplitude)
        # The derivative of acos is infinite at ±1.
        angle = torch.acos(cosine.clamp(-1 + 1e-4, 1 - 1e-4))
        return (distance + self.phase_weights * angle).flatten(1).sum(1)
