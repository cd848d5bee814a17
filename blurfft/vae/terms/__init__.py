"""Reconstruction terms by name."""

from __future__ import annotations

from typing import Any

from .adversarial import VAEGAN
from .base import ReconstructionTerm
from .blur import BlurError
from .focal_frequency import FocalFrequency
from .likelihoods import MSE, Bernoulli, Gaussian, Laplace
from .perceptual import Perceptual
from .robust import AdaptiveRobust
from .watson import WatsonDFT

TERMS: dict[str, type[ReconstructionTerm]] = {
    "mse": MSE,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "bernoulli": Bernoulli,
    "blur": BlurError,
    "focal-frequency": FocalFrequency,
    "watson": WatsonDFT,
    "robust": AdaptiveRobust,
    "perceptual": Perceptual,
    "vae-gan": VAEGAN,
}


def make_term(name: str, image_shape: tuple[int, int, int], latent: int, **options: Any) -> ReconstructionTerm:
    """The term of that name; ``options`` are its class's own.

    Raises:
        TypeError: its class has no such option.
        ValueError: there is none of that name, or its class refuses the options.

    Examples:
        >>> make_term("laplace", (1, 28, 28), latent=8).why_no_density is None
        True
    """
    if name not in TERMS:
        raise ValueError(f"the reconstruction term must be one of {', '.join(TERMS)}, got {name!r}")
    return TERMS[name](image_shape, latent, **options)


__all__ = [
    "MSE",
    "TERMS",
    "VAEGAN",
    "AdaptiveRobust",
    "Bernoulli",
    "BlurError",
    "FocalFrequency",
    "Gaussian",
    "Laplace",
    "Perceptual",
    "ReconstructionTerm",
    "WatsonDFT",
    "make_term",
]
