"""The options of ``blurfft train``: the one place for names, defaults, meanings and limits.

A field's metadata is what a command line needs to offer it: ``help``, and where they apply ``flag`` (its name there, if
it is another than the field's), ``metavar``, ``min``, ``max``, ``choices`` and ``show_default`` (words for a default of
None).
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..files import Refused
from .elbo import RateController
from .networks import LARGEST, SMALLEST, VAE
from .terms import TERMS, BlurError, ReconstructionTerm, make_term

SEEDS = 2**32  # a step's seed has 64 bits, of which the lower half is the step's number


def option(default: Any, help: str, **facts: Any) -> Any:
    return field(default=default, metadata={"help": help, **facts})


# A term's own signature holds its defaults.
_BLUR = {name: parameter.default for name, parameter in inspect.signature(BlurError).parameters.items()}


@dataclass(frozen=True)
class Options:
    """Everything that decides the result of a run, and nothing else."""

    data: str = option(
        "embedded",
        "A folder of images, at any depth, CelebA's layout included; photographs in scikit-image (embedded, "
        "embedded:photographs); brain slices in nilearn (embedded:brain); or synthetic dead leaves (embedded:leaves).",
        metavar="FOLDER|embedded",
    )
    size: int = option(32, "Side of the images, a multiple of 4.", min=SMALLEST, max=LARGEST)
    channels: int | None = option(None, "1 or 3.", choices=(1, 3), show_default="1 for the brain, else 3")
    loss: str = option("blur", f"The reconstruction term: {', '.join(TERMS)}.", metavar="NAME", choices=tuple(TERMS))
    kernel_size: int = option(_BLUR["kernel_size"], "Side of the blur kernels (blur).", min=1)
    nsr: float = option(_BLUR["nsr"], "Noise-to-signal ratio C (blur).", min=0, max=torch.finfo(torch.float32).max)
    eps: float = option(_BLUR["eps"], "Floor of the precision, above 0 (blur).")
    kernel: str = option(
        _BLUR["kernel"],
        "detached: the kernel counts as a constant. attached: the likelihood's gradient also flows through the kernel "
        "into the latent; this is the exact gradient of the ELBO, but training fails at high rates. The kernel net "
        "learns by its own fit in both cases (blur).",
        choices=("attached", "detached"),
    )
    features: str | None = option(
        None, "Your feature network, or a function that returns it (perceptual).", metavar="MODULE:NAME"
    )
    beta: float = option(1.0, "Weight of the KL divergence; with --rate, where it starts.", min=0)
    rate: float | None = option(None, "Steer beta until the KL divergence is this.", metavar="NATS")
    latent: int = option(64, "Dimensions of the latent.", min=1)
    width: int = option(32, "Channels of the finest layers, a multiple of 8.", min=8)
    batch: int = option(64, "Images per step, over all processes.", min=1)
    learning_rate: float = option(1e-3, "Adam's learning rate.", flag="lr")
    amp: str | None = option(None, "Run the networks in bfloat16; losses stay in float32.", choices=("bf16",))
    compile: bool = option(False, "Compile the step with torch.compile.")
    seed: int = option(0, "Seed of every random number.", min=0)

    def check(self, world: int = 1) -> None:
        """Checks, before images are decoded, that ``world`` processes can make a model from these.

        Raises:
            Refused, ValueError: an option is not what it should be; the message names it.
        """
        self.share(world)
        if self.channels not in (None, 1, 3):
            raise Refused(f"--channels must be 1 or 3, got {self.channels}")
        if not 0 < self.learning_rate < math.inf:
            raise Refused(f"--lr must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.beta < math.inf:
            raise Refused(f"--beta must be finite and at least 0, got {self.beta}")
        if not 0 <= self.seed < SEEDS:
            raise Refused(f"--seed must be at least 0 and below 2**32, got {self.seed}")
        image_shape = (self.channels or 3, self.size, self.size)
        if self.features is not None and self.loss != "perceptual":
            raise Refused(f"--features is for --loss perceptual, got {self.loss}")
        try:
            if self.rate is not None:
                RateController(self.rate, self.beta)
            with torch.random.fork_rng():
                VAE(self.size, image_shape[0], self.latent, self.width)
                self.term(image_shape)
        except ValueError as error:
            name, _, fault = str(error).partition(" ")
            if isinstance(error, Refused) or name not in self.__dataclass_fields__:
                raise
            raise Refused(f"{flag(name)} {fault}") from None
        except (RuntimeError, MemoryError) as error:
            raise Refused(f"no such model can be made here: {str(error).splitlines()[0]}") from None

    def share(self, world: int) -> int:
        """The number of images of a batch for each of ``world`` processes.

        Raises:
            Refused: the batch cannot be shared equally.
        """
        if self.batch % world:
            raise Refused(f"--batch must be a multiple of the {world} processes, got {self.batch}")
        return self.batch // world

    def term(self, image_shape: tuple[int, int, int]) -> ReconstructionTerm:
        own: dict[str, Any] = {}
        if self.loss == "blur":
            own = {"kernel_size": self.kernel_size, "nsr": self.nsr, "eps": self.eps, "kernel": self.kernel}
        elif self.loss == "perceptual":
            own = {"features": feature_network(self.features)}
        return make_term(self.loss, image_shape, self.latent, **own)


def flag(name: str) -> str:
    """What the command line calls a field of ``Options``."""
    return "--" + Options.__dataclass_fields__[name].metadata.get("flag", name.replace("_", "-"))


def feature_network(place: str | None) -> nn.Module:
    """The module that ``package.module:name`` names, or returns when it is called.

    Raises:
        Refused: there is none.
    """
    if place is None:
        raise Refused("the perceptual loss needs your network: --features package.module:function")
    module, _, name = place.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f"--features {place} is not found: {error}") from None
    finally:
        sys.path.remove(here)
    if not isinstance(found, nn.Module) and not callable(found):
        raise Refused(f"--features {place} must be a torch.nn.Module or make one; it is not callable")
    network = found if isinstance(found, nn.Module) else found()
    if not isinstance(network, nn.Module):
        raise Refused(f"--features {place} must be a torch.nn.Module or return one, got {type(network).__name__}")
    return network
