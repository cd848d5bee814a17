"""The parts of the evidence lower bound: rate, bits per dimension, β, and its control."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 256


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp log_variance) ‖ N(0, 1)) in nats: the rate. (N, latent) to (N,).

    Examples:
        >>> kl_divergence(torch.ones(2, 4), torch.zeros(2, 4))
        tensor([2., 2.])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def dequantise(pixels: Tensor, noise: Tensor) -> Tensor:
    """8-bit values as continuous ones in [0, 1): (pixels + noise) / 256, the noise uniform in [0, 1).

    Without noise, a density could grow without limit by concentrating on the 256 levels (Theis et al., *A note on the
    evaluation of generative models*, ICLR 2016).

    Examples:
        >>> dequantise(torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([0.5, 0.5]))
        tensor([0.0020, 0.9980])
    """
    return (pixels.to(noise.dtype) + noise) / LEVELS


def bits_per_dimension(nats: Tensor | float, dimensions: int) -> Tensor | float:
    """−log p in nats, of an image with values in [0, 1), converted to bits per 8-bit value.

    It is an upper bound of the code length if ``nats`` is the reconstruction term plus the rate, the negative ELBO with
    β = 1.

    Args:
        nats: −log p or an upper bound of it.
        dimensions: C · H · W.

    Examples:
        >>> bits_per_dimension(0.0, 12)
        8.0
    """
    return nats / (dimensions * math.log(2)) + math.log2(LEVELS)


class RateController:
    """Steers β so that the rate becomes ``rate``: a proportional-integral controller of log β on the log-ratio of the
    two, clamped to [-1, 1].

    Reconstruction terms in different units need different β for the same rate, and only at the same rate are their
    reconstructions comparable. The idea is that of ControlVAE (Shao et al., ICML 2020), here in logarithms, since β
    must also find its order of magnitude.

    Args:
        rate: what the KL divergence should be, in nats an image.
        beta: where to start.
        gain: of the integral part: what a constant log-ratio of 1 adds to log β in each step.
        damping: of the proportional part, which keeps the integral part from overshooting.

    Examples:
        >>> control = RateController(rate=20.0)
        >>> control.update(torch.tensor(10.0))
        >>> bool(control.beta < 1)
        True
    """

    def __init__(
        self,
        rate: float,
        beta: float = 1.0,
        gain: float = 0.2,
        damping: float = 0.5,
        device: str | torch.device = "cpu",
    ) -> None:
        if not 0 < rate < math.inf:
            raise ValueError(f"rate must be positive and finite, got {rate}")
        if not 0 < beta < math.inf:
            raise ValueError(f"beta must be positive and finite where a rate steers it, got {beta}")
        self.rate, self.gain, self.damping = rate, gain, damping
        # Tensors: no step waits for the device.
        self.log_beta = torch.tensor(math.log(beta), device=device)
        self.error = torch.zeros((), device=device)

    @property
    def beta(self) -> Tensor:
        return self.log_beta.exp()

    def update(self, kl: Tensor) -> None:
        """Takes the rate of a step, ()."""
        error = (kl.detach() / self.rate).clamp(min=1e-6).log().clamp(-1, 1)
        self.log_beta += self.gain * error + self.damping * (error - self.error)
        self.error = error

    def state_dict(self) -> dict[str, Tensor]:
        return {"log_beta": self.log_beta, "error": self.error}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues from what ``state_dict`` returned."""
        self.log_beta = state["log_beta"].to(self.log_beta.device)
        self.error = state["error"].to(self.error.device)
