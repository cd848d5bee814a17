"""``fully_shard`` of the two objectives: two processes over gloo train as one does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from blurfft.vae import VAE, AuxiliaryObjective, Objective, ReconstructionTerm, make_term

RANKS, BATCH, STEPS = 2, 4, 3
SHAPE, LATENT = (1, 28, 28), 4
TERMS: dict[str, dict[str, Any]] = {
    "blur": {"kernel_size": 3},
    "blur, attached": {"kernel_size": 3, "kernel": "attached"},
    "gaussian": {},
    "robust": {},
    "vae-gan": {"width": 8},
}


def trained(
    name: str, part: slice, steps: int, shard: Callable[[nn.Module], Any] = lambda objective: None
) -> tuple[ReconstructionTerm, list[nn.Module]]:
    """The term and its objectives after some steps on part of each batch."""
    torch.manual_seed(0)
    vae, term = VAE(28, 1, LATENT, width=8), make_term(name.partition(",")[0], SHAPE, LATENT, **TERMS[name])
    objectives: list[nn.Module] = [Objective(vae, term)]
    if term.auxiliary is not None:
        objectives.append(AuxiliaryObjective(term))
    for objective in objectives:
        shard(objective)
    optimizers = [torch.optim.SGD(objective.parameters(), 1e-4) for objective in objectives]
    for _ in range(steps):
        images, noise = torch.rand(BATCH, *SHAPE)[part], torch.randn(BATCH, LATENT)[part]
        loss, _, _, reconstruction, z = objectives[0](images, noise, 0.5)
        losses = [loss]
        for i, optimizer in enumerate(optimizers):
            if i:
                losses.append(objectives[i](reconstruction.detach(), images, z.detach()))
            optimizer.zero_grad()
            losses[i].backward()
            optimizer.step()
    return term, objectives


def whole(objectives: list[nn.Module]) -> list[Tensor]:
    parameters = [p.detach() for objective in objectives for p in objective.parameters()]
    return [p.full_tensor() if hasattr(p, "full_tensor") else p for p in parameters]


def work(rank: int, rendezvous: str) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    mesh = dist.device_mesh.init_device_mesh("cpu", (RANKS,))
    share = BATCH // RANKS
    for name in TERMS:
        fresh, _ = trained(name, slice(None), 0)
        _, one = trained(name, slice(None), STEPS)
        part = slice(rank * share, (rank + 1) * share)
        term, two = trained(name, part, STEPS, lambda objective: fully_shard(objective, mesh=mesh))
        expected = whole(one)
        torch.testing.assert_close(whole(two), expected, msg=lambda text, name=name: f"{name}: {text}")
        # The objectives hold the parameters of the term itself, which learn.
        ours = [*term.own_parameters(), *(term.auxiliary.parameters() if term.auxiliary is not None else ())]
        held = [p for objective in two for p in objective.parameters()]
        assert {id(p) for p in ours} <= {id(p) for p in held}, name
        learned = [p.full_tensor() for p in ours]  # type: ignore[attr-defined]
        begun = [*fresh.own_parameters(), *(fresh.auxiliary.parameters() if fresh.auxiliary is not None else ())]
        assert all(not torch.equal(a, b) for a, b in zip(learned, begun, strict=True)), name
    dist.destroy_process_group()


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo")
def test_sharded_objectives_train_as_whole_ones(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, args=(str(tmp_path / "rendezvous"),), nprocs=RANKS)
