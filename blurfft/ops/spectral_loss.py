"""Q_n = Σ m weight |F(input − target)|² over sample n, weight (N|1, C|1, H, W//2+1)."""

from __future__ import annotations

import torch
from torch import Tensor

from .._math import as_planes, difference
from ._define import Args, Grads, LossOp, Needs
from .cross_spectrum import cross_spectrum
from .spectral_filter import spectral_filter


def quadratic_vjp(
    grad: Tensor, e: Tensor, weight: Tensor, dtype: torch.dtype, needs: Needs
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of sum_n grad_n * Q_n by input, target and weight, differentiable; the last if any parameter's is."""
    ge = grad.view(-1, 1, 1, 1) * e
    wide_grad = weight_grad = None
    if needs[0] or needs[1]:
        wide_grad = 2 * spectral_filter(ge, weight)
    if True in needs[2:]:
        weight_grad = cross_spectrum(ge, e, weight.shape[0], weight.shape[1], False)
    # Each is rounded by itself, so that what comes back through both is added up before it is rounded.
    return (
        wide_grad.to(dtype) if needs[0] and wide_grad is not None else None,
        (-wide_grad).to(dtype) if needs[1] and wide_grad is not None else None,
        weight_grad,
    )


class SpectralLoss(LossOp):
    schema = (
        "spectral_loss(Tensor input, Tensor target, Tensor weight, SymInt count, bool per_sample, "
        "bool input_grad, bool weight_grad) -> (Tensor loss, Tensor grad, Tensor weight_grad)"
    )

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        input, target, weight, count, *_ = args
        e = difference(input, target)
        *image_grads, weight_grad = quadratic_vjp(grad / count, e, as_planes(weight), input.dtype, needs)
        return *image_grads, None if weight_grad is None else weight_grad.view(weight.shape)


spectral_loss = SpectralLoss()
