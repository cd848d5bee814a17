"""The reconstruction term's share of a training step, for MSE and for the blur error in torch.fft and in blurfft."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from blurfft import reference
from blurfft.vae.data import Images
from blurfft.vae.options import Options
from blurfft.vae.terms import TERMS, BlurError
from blurfft.vae.training import Trainer


class TorchFFT(BlurError):
    """The blur error by the formulas of ``blurfft.reference``, differentiated by autograd."""

    wiener_nll = staticmethod(reference.wiener_nll)
    blur_mse = staticmethod(reference.blur_mse)


def measure(options: Options, images: Images, rounds: int, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """Medians, in milliseconds, of whole steps and of their parts alone; the contenders take turns."""
    TERMS["torch.fft"] = TorchFFT
    try:
        contenders = {
            "MSE": Trainer(replace(options, loss="mse"), images),
            "torch.fft": Trainer(replace(options, loss="torch.fft"), images),
            "blurfft": Trainer(replace(options, loss="blur"), images),
        }
    finally:
        del TERMS["torch.fft"]
    times: dict[str, dict[str, list[float]]] = {name: {"step": [], "term": [], "fit": []} for name in contenders}
    for i in range(rounds + 1):
        for name, trainer in contenders.items():
            measured = _once(trainer)
            if i:  # the first round warms up
                for part, seconds in measured.items():
                    times[name][part].append(seconds)
            advance(1)
    shape = (options.batch, *trainer.term.image_shape)
    return [
        {
            "contender": name,
            "images": "x".join(map(str, shape)),
            "width": options.width,
            "threads": torch.get_num_threads(),
        }
        | {f"{part}_ms": 1e3 * median(values) if values else 0.0 for part, values in parts.items()}
        for name, parts in times.items()
    ]


def _once(trainer: Trainer) -> dict[str, float]:
    start = time.perf_counter()
    trainer.step()
    step = time.perf_counter() - start

    target, noise = trainer._batch(trainer.steps_done)
    with torch.no_grad():
        mean, log_variance = trainer.vae.encode(target)
        z = mean + torch.exp(0.5 * log_variance) * noise
        input = trainer.vae.decode(z)
    input.requires_grad_(), z.requires_grad_()
    start = time.perf_counter()
    trainer.term(input, target, z).mean().backward()
    measured = {"step": step, "term": time.perf_counter() - start}
    if trainer.term.auxiliary is not None:
        start = time.perf_counter()
        trainer.term.auxiliary_loss(input, target, z).backward()
        measured["fit"] = time.perf_counter() - start
    trainer.objective.zero_grad()
    return measured
