"""``spectral_loss`` with weight ω = s / (s + nsr)² + eps, s = |otf(kernel)|²; nll: the Gaussian negative log-likelihood
of target, Q_n / 2 − Σ m log(ω) / 2 + C H W log(2 π) / 2.

kernel is (N|1, C|1, kh, kw), nsr and eps are (N|1, C|1); of images on a GPU these two may be numbers in the host's
memory, (1, 1), which have no gradient."""

from __future__ import annotations

from torch import Tensor

from .._math import PrecisionSpectrum, as_planes, difference, multiplicity, on_device_of
from ._define import Args, Grads, LossOp, Needs
from .otf import otf, otf_backward
from .spectral_loss import quadratic_vjp


class WienerLoss(LossOp):
    schema = (
        "wiener_loss(Tensor input, Tensor target, Tensor kernel, Tensor nsr, Tensor eps, SymInt count, bool nll, "
        "bool per_sample, bool input_grad, bool kernel_grad) "
        "-> (Tensor loss, Tensor grad, Tensor kernel_grad, Tensor nsr_grad, Tensor eps_grad)"
    )

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        input, target, kernel, nsr, eps, count, nll, *_ = args
        samples, channels, height, width = input.shape
        e = difference(input, target)
        nsr, eps = on_device_of(input, nsr), on_device_of(input, eps)
        precision = PrecisionSpectrum(otf(as_planes(kernel), height, width), nsr, eps)
        weight = precision.omega
        grad = grad / (2 * count if nll else count)

        input_grad, target_grad, dweight = quadratic_vjp(grad, e, weight, input.dtype, needs)
        if dweight is None:
            return input_grad, target_grad, None, None, None
        if nll:
            # Each plane that shares an entry of the spectrum contributes its own log-determinant.
            planes = grad.view(-1, 1, 1, 1).expand(samples, channels, 1, 1).sum_to_size(*weight.shape[:2], 1, 1)
            dweight = dweight - planes * multiplicity(width, e) / weight
        dK, dnsr, deps = precision.vjp(dweight)
        return (
            input_grad,
            target_grad,
            otf_backward(dK, width, *kernel.shape[-2:]).view(kernel.shape) if needs[2] else None,
            dnsr if needs[3] else None,
            deps if needs[4] else None,
        )


wiener_loss = WienerLoss()
