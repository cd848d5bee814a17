"""G: from a latent to the blur kernel expected in its reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import psf

# Smaller taps of the initial blur start from here: a weight of exactly 0 would never learn.
_SMALLEST_TAP = 1e-4


class KernelNet(nn.Module):
    """z to a kernel that is non-negative and sums to one: a network with one hidden layer, then a softmax.

    Its output layer starts with small weights and with the logarithms of ``initial`` as its bias, so that every kernel
    is near that blur at first.

    Args:
        latent: dimensions of z.
        kernel_size: the side of the kernels, or (kh, kw).
        hidden: units of the hidden layer.
        initial: the blur to start near, (kh, kw), finite and non-negative. Default: a Gaussian with a sigma of an
            eighth of the kernel's shorter side.
        normalisation: ``"softmax"``, or ``"softplus"``: softplus, divided by the sum.

    Raises:
        ValueError: an argument is not one of these; the message names it.

    Examples:
        >>> KernelNet(latent=8, kernel_size=11)(torch.zeros(2, 8)).shape
        torch.Size([2, 1, 11, 11])
    """

    def __init__(
        self,
        latent: int,
        kernel_size: int | tuple[int, int] = 5,
        hidden: int = 128,
        initial: Tensor | None = None,
        normalisation: str = "softmax",
    ) -> None:
        super().__init__()
        size = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size, kernel_size)
        if len(size) != 2 or not all(map(_positive, size)):
            raise ValueError(f"kernel_size must be a positive int or two of them, got {kernel_size!r}")
        for name, value in (("latent", latent), ("hidden", hidden)):
            if not _positive(value):
                raise ValueError(f"{name} must be a positive int, got {value!r}")
        if normalisation not in ("softmax", "softplus"):
            raise ValueError(f"normalisation must be 'softmax' or 'softplus', got {normalisation!r}")
        if initial is None:
            initial = _gaussian(size)
        if not isinstance(initial, Tensor):
            raise ValueError(f"initial must be a tensor of shape {size}, got {type(initial).__name__}")
        if tuple(initial.shape) != size:
            raise ValueError(f"initial must be a tensor of shape {size}, got shape {tuple(initial.shape)}")
        if not initial.isfinite().all() or (initial < 0).any() or not initial.any():
            raise ValueError(
                "initial must be finite, non-negative and somewhere above 0, "
                f"got values from {initial.min().item():g} to {initial.max().item():g}"
            )
        self.kernel_size, self.normalisation = size, normalisation
        self.hidden = nn.Linear(latent, hidden)
        self.taps = nn.Linear(hidden, size[0] * size[1])
        start = (initial / initial.sum()).flatten().clamp(min=_SMALLEST_TAP)
        # softplus(x) = k where x = log(exp(k) − 1); k is scaled by its largest, on which the quotient does not depend.
        bias = start.log() if normalisation == "softmax" else (start / start.max()).expm1().log()
        with torch.no_grad():
            self.taps.weight.mul_(0.1)
            self.taps.bias.copy_(bias)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent) to kernels (N, 1, kh, kw), one for all channels of a sample."""
        taps = self.taps(torch.tanh(self.hidden(z)))  # (N, kh kw)
        if self.normalisation == "softmax":
            kernels = taps.softmax(1)
        else:
            positive = nn.functional.softplus(taps)
            kernels = positive / positive.sum(1, keepdim=True)
        return kernels.view(-1, 1, *self.kernel_size)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _gaussian(size: tuple[int, ...]) -> Tensor:
    sigma = max(min(size) / 8, 0.25)
    side = max(size) + 1 - max(size) % 2
    rows, columns = (slice(side // 2 - s // 2, side // 2 - s // 2 + s) for s in size)
    return psf.gaussian(sigma, side, dtype=torch.float64)[rows, columns]
