"""The training loop behind ``blurfft train``.

Every random number of a step follows from the seed and the step's number, so a checkpoint needs no generator's state,
and each of several processes can draw the whole batch and take its part.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from ..files import Refused, atomic, why
from .data import Images
from .elbo import RateController, bits_per_dimension, dequantise, kl_divergence
from .networks import VAE
from .objective import AuxiliaryObjective, Objective
from .options import SEEDS, Options

_EVALUATED = 256  # held-out images at most, at each checkpoint


class Diverged(RuntimeError):
    """The loss or a parameter is no longer finite; the message is for the user."""


class Trainer:
    """A VAE, a reconstruction term, their optimisers and β, and one step of all.

    A step trains the VAE on the term plus β · KL, then the term's network (the kernel net, for the blur error) on its
    own loss, with reconstruction and latent held constant.

    Args:
        options: what to make.
        images: what to train on.
        device: where.
        rank, world: this process and how many there are; each takes its part of every batch.

    Raises:
        Refused, ValueError: an option is not what it should be; the message names it.
    """

    def __init__(
        self, options: Options, images: Images, device: torch.device | str = "cpu", rank: int = 0, world: int = 1
    ) -> None:
        self.options, self.images, self.device = options, images, torch.device(device)
        self.rank, self.world, self.share = rank, world, options.share(world)
        self.steps_done = 0
        image_shape = (images.train.shape[1], options.size, options.size)
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            self.vae = VAE(options.size, image_shape[0], options.latent, options.width).to(self.device)
            self.term = options.term(image_shape).to(self.device)
        amp = torch.bfloat16 if options.amp == "bf16" else None
        self.objective: nn.Module = Objective(self.vae, self.term, amp)
        groups: list[dict[str, Any]] = [{"params": list(self.vae.parameters())}]
        if own := list(self.term.own_parameters()):
            groups.append({"params": own, "lr": self.term.own_rate * options.learning_rate})
        self.optimizer = torch.optim.Adam(groups, options.learning_rate, fused=True)
        self.auxiliary: nn.Module | None = None
        self.auxiliary_optimizer: torch.optim.Optimizer | None = None
        if self.term.auxiliary is not None:
            self.auxiliary = AuxiliaryObjective(self.term)
            parameters = self.auxiliary.parameters()
            self.auxiliary_optimizer = torch.optim.Adam(parameters, options.learning_rate, fused=True)
        if world > 1:
            self.objective = nn.parallel.DistributedDataParallel(self.objective)
            if self.auxiliary is not None:
                self.auxiliary = nn.parallel.DistributedDataParallel(self.auxiliary)
        if options.compile:
            self.objective.compile()
        self.control: RateController | None = None
        if options.rate is not None:
            self.control = RateController(options.rate, options.beta, device=self.device)
        self._beta = torch.tensor(options.beta, device=self.device)
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def _indices(self, step: int) -> NDArray[np.int64]:
        """The indices of a step's images: epochs follow one another without a break, each in its own order."""
        count, batch = len(self.images.train), self.options.batch
        chosen = np.empty(batch, np.int64)
        for i, position in enumerate(range(step * batch, (step + 1) * batch)):
            epoch, place = divmod(position, count)
            if self._order[0] != epoch:
                self._order = epoch, np.random.default_rng((self.options.seed, epoch)).permutation(count)
            chosen[i] = self._order[1][place]
        return chosen

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's images in [0, 1) and its noise for z."""
        part = slice(self.rank * self.share, (self.rank + 1) * self.share)
        indices = self._indices(step)
        generator = torch.Generator().manual_seed(self.options.seed * SEEDS + step)
        dtype = torch.get_default_dtype()
        noise = torch.randn(self.options.batch, self.options.latent, generator=generator, dtype=dtype)[part]
        dither = torch.rand(self.options.batch, *self.images.train.shape[1:], generator=generator, dtype=dtype)[part]
        images = dequantise(torch.from_numpy(self.images.train[indices[part]]), dither)
        return images.to(self.device, non_blocking=True), noise.to(self.device, non_blocking=True)

    def step(self) -> dict[str, Tensor]:
        """One step; the terms of the loss, () each, of all processes."""
        images, noise = self._batch(self.steps_done)
        beta = self.control.beta if self.control is not None else self._beta
        loss, distortion, kl, reconstruction, z = self.objective(images, noise, beta)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        terms = {"loss": loss.detach(), "reconstruction": distortion.detach(), "kl": kl.detach()}
        if self.auxiliary is not None and self.auxiliary_optimizer is not None:
            fit = self.auxiliary(reconstruction.detach(), images, z.detach())
            self.auxiliary_optimizer.zero_grad()
            fit.backward()
            self.auxiliary_optimizer.step()
            terms["auxiliary"] = fit.detach()
        if self.world > 1:
            values = torch.stack(list(terms.values()))
            dist.all_reduce(values)
            terms = dict(zip(terms, values / self.world, strict=True))
        if self.control is not None:
            self.control.update(terms["kl"])
        self.steps_done += 1
        return {**terms, "beta": beta}

    @torch.no_grad()
    def evaluate(self, count: int = _EVALUATED) -> dict[str, float]:
        """Reconstruction term and rate of held-out images, and bits per dimension if the term is a density."""
        self.vae.eval()
        distortion = kl = 0.0
        pixels = self.images.held_out[:count]
        generator = torch.Generator().manual_seed(self.options.seed)
        for start in range(0, len(pixels), self.options.batch):
            chunk = torch.from_numpy(np.array(pixels[start : start + self.options.batch]))
            images = dequantise(chunk, torch.rand(chunk.shape, generator=generator)).to(self.device)
            mean, log_variance = self.vae.encode(images)
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            z = mean + torch.exp(0.5 * log_variance) * noise
            values = self.term(self.vae.decode(z), images, z)
            distortion += values.mean().item() * len(chunk)
            kl += kl_divergence(mean, log_variance).sum().item()
        self.vae.train()
        result = {"reconstruction": distortion / len(pixels), "kl": kl / len(pixels)}
        if self.term.why_no_density is None:
            nats = result["reconstruction"] + result["kl"]
            result["bits_per_dimension"] = float(bits_per_dimension(nats, self.term.dimensions))
        return result

    @torch.no_grad()
    def check_finite(self, terms: dict[str, float]) -> None:
        """Raises ``Diverged`` if a term of the loss or a parameter is not finite."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        if not np.isfinite(list(terms.values())).all():
            raise Diverged(f"the loss is not finite at step {self.steps_done}: {shown}")
        total = torch.stack([p.abs().sum() for p in (*self.vae.parameters(), *self.term.parameters())]).sum()
        if not torch.isfinite(total):
            raise Diverged(f"a parameter is not finite at step {self.steps_done}: {shown}")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        state = {
            "options": asdict(self.options),
            "step": self.steps_done,
            "digest": self.images.digest,
            "vae": self.vae.state_dict(),
            "term": self.term.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "control": self.control.state_dict() if self.control is not None else {},
        }
        if self.auxiliary_optimizer is not None:
            state["auxiliary_optimizer"] = self.auxiliary_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what ``state_dict`` returned."""
        self.vae.load_state_dict(state["vae"])
        self.term.load_state_dict(state["term"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.auxiliary_optimizer is not None:
            self.auxiliary_optimizer.load_state_dict(state["auxiliary_optimizer"])
        if self.control is not None:
            self.control.load_state_dict(state["control"])
        self.steps_done = state["step"]


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Writes a checkpoint; the previous file stays until the new one is complete.

    Raises:
        OSError: it cannot be written.
    """
    state = io.BytesIO()  # to a file torch would fail with an error of its own, which does not say what is wrong
    torch.save(trainer.state_dict(), state)
    with atomic(path) as file:
        file.write(state.getbuffer())


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What ``save_checkpoint`` wrote.

    Raises:
        Refused: there is none, or it is damaged.
    """
    if not path.is_file():
        raise Refused(f"there is no checkpoint {path} to resume from")
    try:
        state = dict(torch.load(path, map_location=device, weights_only=True))
        Options(**state["options"])
        state["step"]
    except OSError as error:
        raise Refused(f"{path} cannot be read: {why(error)}") from None
    except Exception:  # whose words are torch's, with advice on its own arguments
        raise _damaged(path) from None
    return state


def _damaged(path: Path) -> Refused:
    return Refused(f"{path} is not a checkpoint of this version of blurfft train, or damaged")


def restore(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    """Continues from what ``load_checkpoint`` returned for ``path``.

    Raises:
        Refused: it is of another model.
    """
    try:
        trainer.load_state_dict(state)
    except Exception:
        raise _damaged(path) from None


def mean_of(steps: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """The means of several steps' terms. This is the only place where the host waits for the device."""
    steps = list(steps)
    return {name: torch.stack([step[name] for step in steps]).mean().item() for name in steps[0]}
