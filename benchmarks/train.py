"""A training step of a VAE, and how much of it the reconstruction term takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from blurfft import reference
from blurfft.vae import VAE, BlurError, kl_divergence

from .cases import INPUT_GRAD, RESULT, Case, Outputs
from .contenders import EAGER, MSE, OURS, Contender, backends
from .measure import Stopwatch

LATENT = 32
WIDTH = 16  # as `blurfft train` has it


class _ReferenceBlurError(BlurError):
    wiener_nll = staticmethod(reference.wiener_nll)
    blur_mse = staticmethod(reference.blur_mse)


# (reconstruction, images, z) to a loss to be minimised.
Term = Callable[[Tensor, Tensor, Tensor], Tensor]


class Step:
    """Forward, backward and optimiser of a VAE; of a term with a kernel net also its own fit.

    The term is timed within it, forward, backward and fit: beside the network it is less than the noise of two steps'
    difference.
    """

    def __init__(self, vae: VAE, term: Term | BlurError, images: Tensor, noise: Tensor) -> None:
        self.vae, self.term, self.images, self.noise = deepcopy(vae), term, images, noise
        self.stopwatch = Stopwatch(images.device.type)
        parameters = [*self.vae.parameters()]
        self.fit = None
        if isinstance(term, BlurError):
            parameters += term.own_parameters()
            self.fit = torch.optim.Adam(term.kernel_net.parameters(), foreach=True)
        self.optimizer = torch.optim.Adam(parameters, foreach=True)

    def __call__(self) -> Outputs:
        """The loss, and its gradient by the latent, which has passed through all of it."""
        mean, log_variance = self.vae.encode(self.images)
        z = mean + torch.exp(0.5 * log_variance) * self.noise
        z.retain_grad()
        reconstruction = self.vae.decode(z)
        self.optimizer.zero_grad()
        shown = reconstruction.detach().requires_grad_()
        with self.stopwatch:
            term = self.term(shown, self.images, z.detach()).mean()
            term.backward()
            if self.fit is not None and isinstance(self.term, BlurError):
                self.fit.zero_grad()
                self.term.auxiliary_loss(shown, self.images, z).backward()
                self.fit.step()
        kl = kl_divergence(mean, log_variance).mean()
        # The kernels are constants of the latent, so that the term reaches it through the reconstruction alone.
        torch.autograd.backward([kl, reconstruction], [None, shown.grad])
        self.optimizer.step()
        assert z.grad is not None
        return {RESULT: (term + kl).detach(), INPUT_GRAD: z.grad}


def _mse(reconstruction: Tensor, images: Tensor, z: Tensor) -> Tensor:
    return F.mse_loss(reconstruction, images, reduction="sum") / len(images)


class Inputs:
    """A batch, a network and a blur error; all contenders start from copies of these."""

    def __init__(self, case: Case, device: str = "cpu") -> None:
        batch, channels, side, _ = case.shape
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.vae = VAE(side, channels, LATENT, WIDTH).to(device)
            self.term = BlurError((channels, side, side), LATENT, case.kernel_size).to(device)
            self.images = torch.rand(case.shape).to(device)
            self.noise = torch.randn(batch, LATENT).to(device)

    def step(self, term: Term | BlurError) -> Step:
        return Step(self.vae, term, self.images, self.noise)

    def blur_error(self, kind: type[BlurError]) -> BlurError:
        term = deepcopy(self.term)
        term.__class__ = kind
        return term

    def clear(self) -> None:
        """Does nothing: each contender keeps its own parameters."""


def contenders(case: Case, inputs: Inputs) -> Iterator[Contender]:
    """The step with the squared error, and with the blur error in every backend."""
    yield Contender(MSE, inputs.step(_mse), MSE)
    yield Contender(EAGER, inputs.step(inputs.blur_error(_ReferenceBlurError)), case.op)
    for name, reason in backends(case, inputs.images.device.type).items():
        if reason is None:
            yield Contender(OURS + name, inputs.step(inputs.blur_error(BlurError)), case.op, name)


def truths(case: Case, inputs: Inputs) -> dict[str, Outputs]:
    """What the first step of each contender should give, in float64."""
    double = deepcopy(inputs)
    double.vae, double.term = double.vae.double(), double.term.double()
    double.images, double.noise = double.images.double(), double.noise.double()
    blur_error = double.blur_error(_ReferenceBlurError)
    return {MSE: double.step(_mse)(), case.op: double.step(blur_error)()}
