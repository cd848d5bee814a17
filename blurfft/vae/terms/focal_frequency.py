"""The focal frequency loss."""

from __future__ import annotations

from torch import Tensor

from ...functional import focal_frequency_loss
from .base import ReconstructionTerm


class FocalFrequency(ReconstructionTerm):
    """``blurfft.focal_frequency_loss`` summed over the dimensions of an image.

    Jiang et al., *Focal Frequency Loss for Image Reconstruction and Synthesis*, ICCV 2021 (arXiv 2012.12821).
    """

    why_no_density = "its weights depend on the error and count as constants, so no density belongs to it"

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        return self.dimensions * focal_frequency_loss(input, target)
