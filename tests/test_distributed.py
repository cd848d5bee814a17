"""Two processes over gloo: a DTensor sharded on its batch, DDP and FSDP give what one process gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from inputs import images, kernels, positive
from torch import Tensor, nn

import blurfft
from blurfft import reference

RANKS = 2

FUNCTIONS: list[Callable[[Any, Tensor, Tensor, Tensor, Tensor], Tensor]] = [
    lambda m, x, y, k, nsr: m.wiener_loss(x, y, k),
    lambda m, x, y, k, nsr: m.wiener_loss(x, y, k, nsr, eps=nsr, reduction="sum"),
    lambda m, x, y, k, nsr: m.wiener_loss(x, y, k, nsr, reduction="none").sum(),
    lambda m, x, y, k, nsr: m.wiener_nll(x, y, k, nsr),
    lambda m, x, y, k, nsr: m.wiener_nll(x, y, k, nsr, eps=nsr, reduction="none").sum(),
    lambda m, x, y, k, nsr: m.spectral_mse(x, y, m.wiener_weight(k, (8, 6), nsr)),
    lambda m, x, y, k, nsr: m.blur_mse(x, y, k),
    lambda m, x, y, k, nsr: m.blur_mse(x, y, k, reduction="none").mean(),
    lambda m, x, y, k, nsr: m.wiener_filter(m.blur(x, k), k, nsr).square().sum(),
    lambda m, x, y, k, nsr: m.irfft2(m.rfft2(x)).square().sum(),
    lambda m, x, y, k, nsr: m.focal_frequency_loss(x, y),
]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Conv2d(3, 3, 3, padding=1, dtype=torch.float64)
        self.loss = blurfft.WienerNLL(nn.Parameter(kernels((3, 3))), positive(()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.decoder(x), y)


def check_dtensor(mesh: Any) -> None:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    with torch.inference_mode():  # which passes autograd by, first
        sharded = [distribute_tensor(images((4, 3, 8, 6)), mesh, [Shard(0)]) for _ in range(2)]
        kernel = distribute_tensor(kernels((3, 2)), mesh, [Replicate()])
        blurfft.wiener_loss(*sharded, kernel).full_tensor()

    for i, function in enumerate(FUNCTIONS):
        kernel_shape = (4, 1, 3, 2) if i % 2 else (3, 2)
        args = [images((4, 3, 8, 6)), images((4, 3, 8, 6)), kernels(kernel_shape), positive((4,))]
        placements = [Shard(0), Shard(0), Shard(0) if i % 2 else Replicate(), Shard(0)]
        sharded = [distribute_tensor(a, mesh, [p]).requires_grad_() for a, p in zip(args, placements, strict=True)]
        whole = [a.clone().requires_grad_() for a in args]
        loss, truth = function(blurfft, *sharded), function(reference, *whole)
        torch.testing.assert_close(loss.full_tensor(), truth)
        loss.backward()
        truth.backward()
        for a, t in zip(sharded, whole, strict=True):
            if t.grad is not None:
                assert a.grad is not None
                torch.testing.assert_close(a.grad.full_tensor(), t.grad)


def check_plain_parameters(mesh: Any) -> None:
    """A kernel, weight, nsr and eps that are no DTensors are the same on every rank."""
    from torch.distributed.tensor import Shard, distribute_tensor

    functions: list[Callable[[Any, Tensor, Tensor, Tensor, Tensor], Tensor]] = [
        *FUNCTIONS[:5],
        lambda m, x, y, k, nsr: m.spectral_mse(x, y, m.wiener_weight(k, (8, 6), nsr)),
        *FUNCTIONS[6:9],
    ]
    for function in functions:
        for kernel_shape, nsr_shape in (((3, 2), ()), ((4, 1, 3, 2), (4,))):
            args = [images((4, 3, 8, 6)), images((4, 3, 8, 6)), kernels(kernel_shape), positive(nsr_shape)]
            whole = [a.clone().requires_grad_() for a in args]
            sharded = [distribute_tensor(a, mesh, [Shard(0)]).requires_grad_() for a in args[:2]]
            plain = [a.clone().requires_grad_() for a in args[2:]]
            loss, truth = function(blurfft, *sharded, *plain), function(reference, *whole)
            torch.testing.assert_close(loss.full_tensor(), truth)
            loss.backward()
            truth.backward()
            for a, t in zip([*sharded, *plain], whole, strict=True):
                if t.grad is not None:
                    assert a.grad is not None
                    grad = a.grad if any(a is p for p in plain) else a.grad.full_tensor()
                    torch.testing.assert_close(grad, t.grad)
    criterion = blurfft.WienerLoss(kernels((3, 2)))
    x, y = images((4, 3, 8, 6)), images((4, 3, 8, 6))
    sharded = [distribute_tensor(a, mesh, [Shard(0)]) for a in (x, y)]
    each = images((4, 1, 3, 8, 6))
    for matrix, placed in (*((m, m) for m in (each[0, 0, 0], each)), (each, distribute_tensor(each, mesh, [Shard(0)]))):
        loss = blurfft.focal_frequency_loss(*sharded, matrix=placed)
        torch.testing.assert_close(loss.full_tensor(), blurfft.focal_frequency_loss(x, y, matrix=matrix))
    loss = criterion(*(distribute_tensor(a, mesh, [Shard(0)]) for a in (x, y)))
    torch.testing.assert_close(loss.full_tensor(), criterion(x, y))


def check_communications(mesh: Any) -> None:
    """Forward there are none, backward the sum of each trained parameter's gradient over the ranks: as by hand."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    class Communications(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.sent: list[tuple[str, int]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(issubclass(t, DTensor) for t in types):
                return NotImplemented
            if any(argument.name == "group_name" for argument in func._schema.arguments):
                self.sent.append((func.name(), args[0].numel()))
            return func(*args, **(kwargs or {}))

    def sent(function: Callable[[], Any]) -> tuple[Any, list[tuple[str, int]]]:
        with Communications() as communications:
            result = function()
        return result, communications.sent

    x, y = (distribute_tensor(images((4, 3, 8, 6)), mesh, [Shard(0)]) for _ in range(2))
    weight = positive((8, 4))
    kernel, nsr = kernels((3, 2)), positive(())
    functions: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "wiener_loss": (lambda x, k, nsr: blurfft.wiener_loss(x, y, k, nsr), [kernel, nsr]),
        "wiener_nll": (lambda x, k, nsr: blurfft.wiener_nll(x, y, k, nsr), [kernel, nsr]),
        "spectral_mse": (lambda x, w: blurfft.spectral_mse(x, y, w), [weight]),
        "blur_mse": (lambda x, k: blurfft.blur_mse(x, y, k), [kernel]),
        "focal_frequency_loss": (lambda x: blurfft.focal_frequency_loss(x, y), []),
        "blur": (lambda x, k: blurfft.blur(x, k).square().sum(), [kernel]),
        "wiener_filter": (lambda x, k, nsr: blurfft.wiener_filter(x, k, nsr).square().sum(), [kernel, nsr]),
        "wiener_loss, map": (
            lambda x, k, nsr: blurfft.wiener_loss(x, y, k, nsr, reduction="none").sum(),
            [kernel, nsr],
        ),
        "spectral_mse, map": (lambda x, w: blurfft.spectral_mse(x, y, w, "none").sum(), [weight]),
        "blur_mse, map": (lambda x, k: blurfft.blur_mse(x, y, k, "none").sum(), [kernel]),
        "by hand": (lambda x, w: torch.fft.rfft2(x.to_local()).abs().square().mul(w).sum(), [weight]),
    }
    for name, (function, parameters) in functions.items():
        image = x.detach().requires_grad_()
        loss, forward = sent(lambda: function(image, *parameters))  # noqa: B023
        assert forward == [], (name, forward)
        _, backward = sent(loss.backward)
        assert backward == [], (name, backward)

        trained = [p.clone().requires_grad_() for p in parameters]
        loss, forward = sent(lambda: function(image, *trained))  # noqa: B023
        assert forward == [], (name, forward)
        _, backward = sent(loss.backward)
        if name == "by hand":
            _, backward = sent(lambda: funcol.all_reduce(trained[0].grad, "sum", mesh))  # noqa: B023
        sums = [("_c10d_functional::all_reduce", p.numel()) for p in trained]
        assert sorted(backward) == sorted(sums), (name, backward)

    # The gradient of a DTensor that every rank has may stay partial; what is not linear in it sums it once.
    for function in (
        lambda w: blurfft.spectral_mse(x, y, w, "none").sum(),
        lambda w: blurfft.spectral_mse(x, y, blurfft.wiener_weight(w, (8, 6))),
    ):
        loss = function(distribute_tensor(weight, mesh, [Replicate()]).requires_grad_())
        _, backward = sent(loss.backward)
        assert backward == [("_c10d_functional::all_reduce", weight.numel())], backward


def check_second_gradients(mesh: Any) -> None:
    """The ranks' sum of the gradient of a shared parameter is itself differentiated."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    def full(tensor: Any) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def gradients(function: Callable[..., Tensor], args: list[Tensor]) -> list[Tensor]:
        first = torch.autograd.grad(function(*args).sum(), args, create_graph=True)
        second = torch.autograd.grad(sum(full(g).square().sum() for g in first), args)
        return [full(g).detach() for g in (*first, *second)]

    x, y, kernel, nsr = images((4, 3, 8, 6)), images((4, 3, 8, 6)), kernels((3, 2)), positive(())
    functions: list[tuple[Callable[..., Tensor], list[Tensor]]] = [
        (lambda x, y, k, nsr: blurfft.wiener_loss(x, y, k, nsr, eps=nsr), [x, y, kernel, nsr]),
        (lambda x, y, k, nsr: blurfft.wiener_nll(x, y, k, nsr), [x, y, kernel, nsr]),
        (lambda x, y, w: blurfft.spectral_mse(x, y, w), [x, y, positive((8, 4))]),
        (lambda x, y, w: blurfft.spectral_mse(x, y, w, "none").square(), [x, y, positive((8, 4))]),
        (lambda x, y, k: blurfft.blur_mse(x, y, k), [x, y, kernel]),
        (lambda x, k, nsr: blurfft.wiener_filter(x, k, nsr).square(), [x, kernel, nsr]),
    ]
    for function, args in functions:
        expected = gradients(function, [a.clone().requires_grad_() for a in args])
        for shared in (lambda a: a.clone(), lambda a: distribute_tensor(a, mesh, [Replicate()])):
            placed = [distribute_tensor(a, mesh, [Shard(0)]) if a.shape[:1] == (4,) else shared(a) for a in args]
            torch.testing.assert_close(gradients(function, [a.requires_grad_() for a in placed]), expected)


def check_data_parallel(mesh: Any, rank: int) -> None:
    from torch.distributed.fsdp import fully_shard

    x, y = images((4, 3, 8, 6)), images((4, 3, 8, 6))
    torch.manual_seed(1)
    model = Model()
    model(x, y).backward()
    expected = [p.grad for p in model.parameters()]
    part = slice(2 * rank, 2 * rank + 2)

    model.zero_grad()
    replicated = nn.parallel.DistributedDataParallel(model)  # its hooks live as long as it does
    replicated(x[part], y[part]).backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)

    model.zero_grad()
    fully_shard(model, mesh=mesh)
    model(x[part], y[part]).backward()
    torch.testing.assert_close([p.grad.full_tensor() for p in model.parameters()], expected)  # type: ignore[union-attr]


def work(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    mesh = dist.device_mesh.init_device_mesh("cpu", (RANKS,))
    check_dtensor(mesh)
    check_plain_parameters(mesh)
    check_communications(mesh)
    check_second_gradients(mesh)
    check_data_parallel(mesh, rank)
    dist.destroy_process_group()


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo")
def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, args=(str(tmp_path / "rendezvous"),), nprocs=RANKS)
