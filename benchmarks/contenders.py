"""Who is measured: everything that computes a case, or something comparable, forward + backward."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import blurfft
from blurfft import reference

from .cases import COPY, EAGER, GRADIENT, HAND, MSE, OURS, Case, Inputs, Outputs


@dataclass(frozen=True)
class Contender:
    name: str
    step: Callable[[], Outputs]
    truth: str  # the key of its truth in truths()


def backends(case: Case) -> dict[str, str | None]:
    """The backends that are compared with the reference, and for each why it does not serve the case, if so."""
    _, _, height, width = case.shape
    return {
        name: importlib.import_module(f"blurfft._backends.{name}").why_not(case.op, "cpu", torch.float32, height, width)
        for name in blurfft.available_backends()
        if name != "reference"
    }


def _mse(input: Tensor, target: Tensor, kernel: Tensor) -> Tensor:
    return F.mse_loss(input, target)


def _ours(case: Case, inputs: Inputs, backend: str) -> Contender:
    loss = getattr(blurfft, case.op)

    def step() -> Outputs:
        with blurfft.use_backend(backend):
            return inputs.backward(loss)

    return Contender(f"{OURS} {backend}", step, case.op)


def _eager(case: Case, inputs: Inputs) -> Contender:
    loss = getattr(reference, case.op)
    return Contender(EAGER, lambda: inputs.backward(loss), case.op)


def _by_hand(case: Case, inputs: Inputs) -> Contender:
    """wiener_loss with one kernel as one would write it with care: the weight computed once, Q = ⟨e, Ae⟩ and its
    gradient 2Ae by formula, no autograd."""
    input, target = inputs.input.detach(), inputs.target
    size = (input.shape[-2], input.shape[-1])
    weight = reference.wiener_weight(inputs.kernel.detach(), size).mul_(2 / input.numel())

    @torch.no_grad()
    def step() -> Outputs:
        e = input - target
        grad = torch.fft.irfft2(torch.fft.rfft2(e).mul_(weight), s=size)
        return torch.dot(e.view(-1), grad.view(-1)).mul_(0.5), grad, None

    return Contender(HAND, step, case.op)


def _copy(inputs: Inputs) -> Contender:
    input = inputs.input.detach()
    output = torch.empty_like(input)

    def step() -> Outputs:
        # It stands where the gradient would.
        return None, output.copy_(input), None

    return Contender(COPY, step, COPY)


def _gradient_alone(inputs: Inputs) -> Contender:
    def step() -> Outputs:
        inputs.clear()
        for tensor in (inputs.input, inputs.kernel):
            if tensor.requires_grad:
                tensor.grad = torch.ones_like(tensor)
        return None, inputs.input.grad, inputs.kernel.grad

    return Contender(GRADIENT, step, GRADIENT)


def contenders(suite: str, case: Case, inputs: Inputs) -> list[Contender]:
    """Those of a suite that serve the case."""
    ours = [_ours(case, inputs, name) for name, reason in backends(case).items() if reason is None]
    if suite == "accuracy":
        return [_eager(case, inputs), *ours]
    by_hand = [] if case.kernel_per_sample or case.kernel_grad else [_by_hand(case, inputs)]
    # Where memory is measured, the gradient alone shows what the measurement itself sees.
    limit = _gradient_alone(inputs) if suite == "memory" else _copy(inputs)
    mse = Contender(MSE, lambda: inputs.backward(_mse), MSE)
    return [limit, mse, _eager(case, inputs), *by_hand, *ours]


def truths(case: Case, inputs: Inputs) -> dict[str, Outputs]:
    """What each contender should compute, in float64."""
    double = inputs.double()
    return {
        COPY: (None, inputs.input.detach(), None),
        MSE: double.backward(_mse),
        case.op: double.backward(getattr(reference, case.op)),
    }
