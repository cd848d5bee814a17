"""The blur error: a Gaussian whose precision is the Wiener inverse of the reconstruction's own blur."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...functional import blur_mse, wiener_nll
from ..kernel_net import KernelNet
from .base import ReconstructionTerm, frozen_call, non_negative, positive


class BlurError(ReconstructionTerm):
    """−log N(x; x̂, σ² (WᵀW + εI)⁻¹), W the Wiener inverse of the kernel k = G(z): ``blurfft.wiener_nll`` in units
    of a learned σ.

    After Bredell et al., *Explicitly Minimizing the Blur Error of Variational Autoencoders*, ICLR 2023
    (arXiv 2304.05939); the learned σ and all defaults are ours. The kernel net G learns by ‖x̂ − k ∗ x‖², x̂ and z held
    constant, in turns with the VAE.

    Args:
        image_shape: (C, H, W).
        latent: dimensions of z.
        kernel_size: the side of the kernels, or (kh, kw).
        nsr: the noise-to-signal ratio C in W = conj(K) / (|K|² + C).
        eps: the floor ε of the precision; above 0, since the log-determinant diverges without.
        kernel: ``"detached"``: k counts as a constant of the sample, so the latent serves the reconstruction alone.
            ``"attached"``: the density's gradient also flows through k into z, which is the exact gradient of the ELBO
            for the encoder, and a costlier step. It fails at high rates: where the response |K|² is small, the
            precision changes by up to 1 / C² with it, and this part of the gradient drowns that of the reconstruction.
            On dead leaves at 320 nats (one run, median of a batch) it was 1.7 times as large before training and 14 to
            38 times at steps 30, 100 and 200; at 40 nats it was about as large from step 100 on. The encoder then
            learns to choose kernels instead of images, σ grows, and the gradient of the reconstruction shrinks further.
            G itself is trained by the fit in both cases.
        sigma: where σ starts.

    Raises:
        ValueError: an argument is not one of these; the message names it.

    Examples:
        >>> term = BlurError((3, 32, 32), latent=16)
        >>> term(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.randn(2, 16)).shape
        torch.Size([2])
    """

    # Attributes, so that a subclass can compute the same with other code.
    wiener_nll = staticmethod(wiener_nll)
    blur_mse = staticmethod(blur_mse)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent: int,
        kernel_size: int | tuple[int, int] = 5,
        nsr: float = 0.01,
        eps: float = 0.1,
        kernel: str = "detached",
        sigma: float = 0.1,
    ) -> None:
        super().__init__(image_shape, latent)
        kernel_net = KernelNet(latent, kernel_size)
        if any(taps > side for taps, side in zip(kernel_net.kernel_size, image_shape[1:], strict=True)):
            raise ValueError(f"kernel_size must be at most the image's side, {min(image_shape[1:])}, got {kernel_size}")
        if kernel not in ("attached", "detached"):
            raise ValueError(f"kernel must be 'attached' or 'detached', got {kernel!r}")
        self.nsr, self.eps = non_negative("nsr", nsr), positive("eps", eps)
        self.attached = kernel == "attached"
        self.kernel_net = kernel_net
        self.log_sigma = nn.Parameter(torch.full((1,), math.log(positive("sigma", sigma))))

    @property
    def auxiliary(self) -> KernelNet:
        return self.kernel_net

    def kernels(self, z: Tensor) -> Tensor:
        """The kernels (N, 1, kh, kw) of latents (N, latent), as constants of the kernel net."""
        kernels = frozen_call(self.kernel_net, z if self.attached else z.detach())
        assert isinstance(kernels, Tensor)
        return kernels

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        scale = torch.exp(-self.log_sigma)
        nll = self.wiener_nll(input * scale, target * scale, self.kernels(z), self.nsr, eps=self.eps, reduction="none")
        return nll + self.dimensions * self.log_sigma

    def auxiliary_loss(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        return self.blur_mse(input.detach(), target, self.kernel_net(z.detach()))
