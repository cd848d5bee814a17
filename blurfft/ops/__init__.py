"""The ops ``torch.ops.blurfft.*``, one in each file: what a compiled or exported graph holds.

The set is closed under differentiation, hence derivatives of any order:

- ``rfft2`` and ``irfft2`` are each other's adjoint up to m, ``otf`` and ``otf_backward`` exactly;
- y = ``spectral_filter(x, T)``: dx = ``spectral_filter(dy, conj T)``, dT = ``cross_spectrum(x, dy)``;
- V the cotangent of ``cross_spectrum(a, b)``: da = ``spectral_filter(b, conj V)``, db = ``spectral_filter(a, V)``;
- the losses return their first-order gradients; beyond that their derivative is composed of the ops above.

In forward mode (``torch.func.jvp``, ``jacfwd``, ``hessian``, dual numbers) an op is that of the ``reference`` backend,
made of torch's own.
"""

from .blur_mse import blur_mse
from .cross_spectrum import cross_spectrum
from .focal_frequency_loss import focal_frequency_loss
from .irfft2 import irfft2
from .otf import otf, otf_backward
from .rfft2 import rfft2
from .spectral_filter import spectral_filter
from .spectral_loss import spectral_loss
from .wiener_loss import wiener_loss

__all__ = [
    "blur_mse",
    "cross_spectrum",
    "focal_frequency_loss",
    "irfft2",
    "otf",
    "otf_backward",
    "rfft2",
    "spectral_filter",
    "spectral_loss",
    "wiener_loss",
]
