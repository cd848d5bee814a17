"""Blur-error losses for image models: Wiener-weighted spectral losses with fused forward and gradient.

Functions are in ``blurfft.functional``, the same as modules in ``blurfft.modules``, kernels in ``blurfft.psf``, the
formulas in plain ``torch.fft`` in ``blurfft.reference``.
"""

from . import psf
from ._dispatch import available_backends, use_backend
from .functional import (
    blur,
    blur_mse,
    focal_frequency_loss,
    irfft2,
    rfft2,
    spectral_mse,
    wiener_filter,
    wiener_loss,
    wiener_nll,
    wiener_weight,
)
from .modules import BlurMSELoss, FocalFrequencyLoss, SpectralMSELoss, WienerLoss, WienerNLL

__version__ = "0.2.0"

__all__ = [
    "BlurMSELoss",
    "FocalFrequencyLoss",
    "SpectralMSELoss",
    "WienerLoss",
    "WienerNLL",
    "available_backends",
    "blur",
    "blur_mse",
    "focal_frequency_loss",
    "irfft2",
    "psf",
    "rfft2",
    "spectral_mse",
    "use_backend",
    "wiener_filter",
    "wiener_loss",
    "wiener_nll",
    "wiener_weight",
]
