"""One training run and its measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from blurfft.vae import dequantise
from blurfft.vae.data import Images
from blurfft.vae.options import Options
from blurfft.vae.terms import TERMS
from blurfft.vae.training import Trainer

from . import fixed, metrics

_EVALUATED = 256
_LAST_RATE = 0.2  # of the first
_SHOWN = 8
_COURSE = 20  # means of the reconstruction term, over the training


@dataclass(frozen=True)
class Run:
    """One training: its purpose (``stage``), what it varies (``label``), its options and its length."""

    stage: str
    label: str
    options: Options
    steps: int

    @property
    def name(self) -> str:
        rate = f"-{self.options.rate:g}" if self.stage in ("curves", "large") else ""
        return f"{self.stage}-{self.options.data.rpartition(':')[2]}-{self.label}{rate}-{self.options.seed}"


_OF_ONE_TERM = {"kernel_size": "blur", "nsr": "blur", "eps": "blur", "kernel": "blur", "features": "perceptual"}


def describe(run: Run) -> dict[str, Any]:
    """Identifies a result: stage, label, length and the options that affect it."""
    options = {
        name: value
        for name, value in asdict(run.options).items()
        if _OF_ONE_TERM.get(name, run.options.loss) == run.options.loss
    }
    return {"stage": run.stage, "label": run.label, "steps": run.steps, "options": options}


@contextmanager
def contenders() -> Iterator[None]:
    """Adds the terms that only the benchmark has to ``TERMS`` for the time of the context."""
    TERMS[fixed.NAME] = fixed.FixedKernel
    try:
        yield
    finally:
        del TERMS[fixed.NAME]


def measure(run: Run, images: Images, pictures: Path) -> dict[str, Any]:
    """Trains and measures. Held-out images are reconstructed from a sample of q(z | x), which the rate pays for."""
    begun = time.process_time()
    with contenders():
        trainer = Trainer(run.options, images)
    # A short training ends better at a small learning rate; at none, the rate would no longer follow β.
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps, _LAST_RATE * run.options.learning_rate)
        for optimizer in (trainer.optimizer, trainer.auxiliary_optimizer)
        if optimizer is not None
    ]
    seconds, rates, distortions = [], [], []
    for _ in range(run.steps):
        start = time.perf_counter()
        terms = trainer.step()
        for schedule in schedules:
            schedule.step()
        seconds.append(time.perf_counter() - start)
        rates.append(terms["kl"].item())
        distortions.append(terms["reconstruction"].item())
    trainer.check_finite({name: value.item() for name, value in terms.items()})

    trainer.vae.eval()
    generator = torch.Generator().manual_seed(run.options.seed)
    target = dequantise(torch.from_numpy(images.held_out[:_EVALUATED]), torch.tensor(0.5))
    with torch.no_grad():
        mean, log_variance = trainer.vae.encode(target)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator)
        reconstruction = trainer.vae.decode(z)
        samples = trainer.vae.sample(len(target), generator)
    held_out_terms = trainer.evaluate(_EVALUATED)
    shown = np.linspace(0, len(target) - 1, _SHOWN).astype(int)
    pictures.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        pictures / f"{run.name}.npz",
        target=images.held_out[shown],
        reconstruction=(reconstruction[shown] * 255).round().byte().numpy(),
        samples=(samples[:_SHOWN] * 255).round().byte().numpy(),
    )
    return {
        **describe(run),
        "metrics": {
            **metrics.compare(reconstruction, target),
            **metrics.learned(reconstruction, target),
            "samples_sharpness": metrics.sharpness(samples) / metrics.sharpness(target),
            "kl": held_out_terms["kl"],
            "train_kl": float(np.mean(rates[-run.steps // 5 :])),
            "beta": terms["beta"].item(),
            "bits_per_dimension": held_out_terms.get("bits_per_dimension"),
            "step_ms": 1e3 * median(seconds),
        },
        "cpu_seconds": time.process_time() - begun,
        # Shows whether the training had converged.
        "course": [round(float(np.mean(part)), 3) for part in np.array_split(distortions, min(_COURSE, run.steps))],
        "edge": {
            name: [round(value, 4) for value in metrics.edge_profile(images, target).tolist()]
            for name, images in (("truth", target), ("reconstruction", reconstruction))
        },
        "spectrum": {"truth": metrics.radial_power(target), "reconstruction": metrics.radial_power(reconstruction)},
    }
