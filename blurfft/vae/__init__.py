"""The system of the paper: a VAE trained with the blur error as its likelihood, and the pieces to build your own.

``blurfft.vae.terms`` has the reconstruction terms, ``blurfft.vae.elbo`` rate, β and bits per dimension,
``blurfft.vae.objective`` what a step minimises, ``blurfft.vae.training`` the loop behind ``blurfft train``.
"""

from .elbo import RateController, bits_per_dimension, dequantise, kl_divergence
from .kernel_net import KernelNet
from .networks import VAE, Decoder, Encoder
from .objective import AuxiliaryObjective, Objective
from .terms import TERMS, BlurError, ReconstructionTerm, make_term

__all__ = [
    "TERMS",
    "VAE",
    "AuxiliaryObjective",
    "BlurError",
    "Decoder",
    "Encoder",
    "KernelNet",
    "Objective",
    "RateController",
    "ReconstructionTerm",
    "bits_per_dimension",
    "dequantise",
    "kl_divergence",
    "make_term",
]
