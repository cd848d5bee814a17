"""loss_weight times ``spectral_loss`` with weight = |F(input − target)|^alpha, or log1p of that, over its maximum in
the plane, within [0, 1]: a constant in the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from .._math import difference, focal_weight, power
from ._define import Args, Grads, LossOp, Needs, per
from .rfft2 import rfft2
from .spectral_loss import quadratic_vjp


class FocalFrequencyLoss(LossOp):
    schema = (
        "focal_frequency_loss(Tensor input, Tensor target, float alpha, bool log_matrix, float loss_weight, "
        "SymInt count, bool per_sample, bool input_grad) -> (Tensor loss, Tensor grad)"
    )

    def scaled(self, alpha: float, log_matrix: bool, loss_weight: float, count: int, *flags: bool) -> Args:
        return alpha, log_matrix, loss_weight * per(count), *flags

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        input, target, alpha, log_matrix, loss_weight, count, *_ = args
        e = difference(input, target)
        with torch.no_grad():
            weight = focal_weight(power(rfft2(e, "ortho")), alpha, log_matrix)
        return quadratic_vjp(grad * (loss_weight / count), e, weight, input.dtype, needs)[:2]


focal_frequency_loss = FocalFrequencyLoss()
