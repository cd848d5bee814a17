"""The interface of reconstruction terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor, nn


class ReconstructionTerm(nn.Module):
    """−log p(x | z), or what takes its place, as a module.

    Its own parameters (a learned variance, say) are trained with the VAE; ``fully_shard`` takes none without a
    dimension. A network of its own (a kernel net, a discriminator) is trained by ``auxiliary_loss``, in turns with the
    VAE, which never changes it.

    Args:
        image_shape: (C, H, W).
        latent: dimensions of z.

    Raises:
        ValueError: ``image_shape`` is not three positive ints.
    """

    why_no_density: ClassVar[str | None] = None
    """None if the term is −log p(x | z) in nats of a normalised density, else why it is not."""

    own_rate: ClassVar[float] = 10
    """The learning rate of the term's own parameters, relative to that of the networks. A scale starts factors away
    from its best value, and Adam's steps have the size of the learning rate: for the logarithm of a scale they may be
    larger than for a weight."""

    def __init__(self, image_shape: tuple[int, int, int], latent: int) -> None:
        super().__init__()
        self.image_shape, self.latent = tuple(image_shape), latent
        if len(self.image_shape) != 3 or not all(isinstance(side, int) and side > 0 for side in self.image_shape):
            raise ValueError(f"image_shape must be three positive ints (C, H, W), got {image_shape}")

    @property
    def dimensions(self) -> int:
        channels, height, width = self.image_shape
        return channels * height * width

    @property
    def auxiliary(self) -> nn.Module | None:
        """The network that ``auxiliary_loss`` trains."""
        return None

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that are trained with the VAE."""
        others = set(self.auxiliary.parameters()) if self.auxiliary is not None else set()
        return (p for p in self.parameters() if p.requires_grad and p not in others)

    def forward(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        """The term of each sample, (N,), or their mean, ().

        Args:
            input: reconstructions (N, C, H, W) in [0, 1].
            target: images (N, C, H, W) in [0, 1].
            z: the latents (N, latent) that ``input`` was decoded from.

        Raises:
            ValueError: their numbers of samples differ, or their shapes are not those that the term was made for.
        """
        for name, tensor, shape in (
            ("input", input, self.image_shape),
            ("target", target, self.image_shape),
            ("z", z, (self.latent,)),
        ):
            if tensor.shape != (len(input), *shape):
                raise ValueError(f"{name} must be {(len(input), *shape)}, got {tuple(tensor.shape)}")
        return self.distortion(input, target, z)

    def distortion(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        """Computes ``forward`` for valid arguments; each term defines this."""
        raise NotImplementedError

    def auxiliary_loss(self, input: Tensor, target: Tensor, z: Tensor) -> Tensor:
        """The loss that trains the term's network, (); ``input`` and ``z`` count as constants."""
        raise NotImplementedError


def positive(name: str, value: float) -> float:
    """The value of a scale or a floor, checked."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return value


def non_negative(name: str, value: float) -> float:
    """The value of a ratio, checked."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    return value


def frozen_call(network: nn.Module, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """``network(*inputs)`` whose gradient reaches the inputs but not the network's parameters."""
    constants = {name: _whole(parameter.detach()) for name, parameter in network.named_parameters()}
    return torch.func.functional_call(network, constants, inputs)


def _whole(parameter: Tensor) -> Tensor:
    """A parameter of which this process may hold a shard: ``fully_shard`` gathers those of a module for its own
    ``forward`` alone."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
