"""What a step minimises, as modules that can be wrapped.

``DistributedDataParallel`` and similar wrappers hide every method of a module but ``forward``, so ``encode`` and
``decode`` must be called inside. ``fully_shard`` gathers the parameters of a module only for its ``forward``, so what
``forward`` uses must be registered in the module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .elbo import kl_divergence
from .terms import ReconstructionTerm


class _Own(nn.Module):
    """The parameters of another module, as a module: whoever replaces one here, by a shard of it or on another device,
    replaces it there."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._parameters = module._parameters


class Objective(nn.Module):
    """A reconstruction term + β · KL of a VAE, with only those parameters that minimise it.

    Args:
        vae: has ``encode``, from images to mean and log-variance (N, latent), and ``decode``, from z to images.
        term: the reconstruction term. Only its own parameters are part of this module, so move the term to its device
            first.
        amp: the dtype of the networks under autocast; None for no autocast.

    Examples:
        >>> from blurfft.vae import VAE, BlurError
        >>> objective = Objective(VAE(32, 3, latent=16, width=8), BlurError((3, 32, 32), latent=16))
        >>> loss, distortion, kl, reconstruction, z = objective(torch.rand(2, 3, 32, 32), torch.randn(2, 16))
        >>> loss.backward()
    """

    def __init__(self, vae: nn.Module, term: ReconstructionTerm, amp: torch.dtype | None = None) -> None:
        super().__init__()
        self.vae: Any = vae
        own = {*term.own_parameters()}
        self.own = nn.ModuleList(_Own(part) for part in term.modules() if own & {*part.parameters(recurse=False)})
        self._term = [term]  # in a list: the term's network is no part of this module
        self.amp = amp

    def forward(self, images: Tensor, noise: Tensor, beta: float | Tensor = 1.0) -> tuple[Tensor, ...]:
        """The loss, its two parts, the reconstructions and the latents.

        Args:
            images: (N, C, H, W) in [0, 1].
            noise: standard normal (N, latent), from which z is made.
            beta: the factor of the KL divergence.

        Returns:
            ``distortion + beta * kl``, ``distortion`` and ``kl``, means over the samples, (); the reconstructions
            (N, C, H, W); z (N, latent).
        """
        with torch.autocast(images.device.type, self.amp, enabled=self.amp is not None):
            mean, log_variance = self.vae.encode(images)
        mean, log_variance = mean.to(noise.dtype), log_variance.to(noise.dtype)
        z = mean + torch.exp(0.5 * log_variance) * noise
        with torch.autocast(images.device.type, self.amp, enabled=self.amp is not None):
            reconstruction = self.vae.decode(z)
        reconstruction = reconstruction.to(images.dtype)
        distortion = self._term[0](reconstruction, images, z).mean()
        kl = kl_divergence(mean, log_variance).mean()
        return distortion + beta * kl, distortion, kl, reconstruction, z


class AuxiliaryObjective(nn.Module):
    """A reconstruction term's own network and its loss: for ``BlurError`` the kernel net and its fit.

    Args:
        term: one whose ``auxiliary`` is not None.

    Raises:
        ValueError: the term has no network.

    Examples:
        >>> from blurfft.vae import BlurError
        >>> fit = AuxiliaryObjective(BlurError((3, 32, 32), latent=16))
        >>> fit(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.randn(2, 16)).backward()
    """

    def __init__(self, term: ReconstructionTerm) -> None:
        super().__init__()
        if term.auxiliary is None:
            raise ValueError(f"{type(term).__name__} has no network of its own")
        self.network = term.auxiliary
        self._term = [term]

    def forward(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        """The loss, (), for reconstructions and images (N, C, H, W) and latents (N, latent)."""
        return self._term[0].auxiliary_loss(input, target, z)
