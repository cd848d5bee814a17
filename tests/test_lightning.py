"""The recipe for Lightning in docs/vae.md: manual optimisation, two processes, ``ddp`` as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytorch_lightning")

PROGRAM = """
import pytorch_lightning as lightning
import torch
from torch import nn

from blurfft.vae import VAE, AuxiliaryObjective, BlurError, Objective

torch.set_num_threads(1)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        term = BlurError((3, 28, 28), latent=4)
        self.objective, self.auxiliary = Objective(VAE(28, 3, latent=4, width=8), term), AuxiliaryObjective(term)

    def configure_optimizers(self):
        return torch.optim.Adam(self.objective.parameters()), torch.optim.Adam(self.auxiliary.parameters())

    def training_step(self, x, _):
        loss, *_, reconstruction, z = self.objective(x, torch.randn(len(x), 4))
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss + self.auxiliary(reconstruction, x, z))
        for optimizer in optimizers:
            optimizer.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    module = Module()
    before = [p.detach().clone() for p in module.parameters()]
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.rand(8, 3, 28, 28), batch_size=2))
    assert not any(torch.equal(p, b) for p, b in zip(module.parameters(), before))
    mine = nn.utils.parameters_to_vector(module.parameters())
    assert torch.equal(trainer.strategy.broadcast(mine), mine), "the processes differ"
"""


def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, check=True, timeout=600)
