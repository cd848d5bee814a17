"""The sum of (input − kernel ∗ target)² over a sample, a circular convolution."""

from __future__ import annotations

from torch import Tensor

from .._math import as_planes, compute_dtype
from ._define import Args, Grads, LossOp, Needs
from .cross_spectrum import cross_spectrum
from .otf import otf, otf_backward
from .spectral_filter import spectral_filter


class BlurMSE(LossOp):
    schema = (
        "blur_mse(Tensor input, Tensor target, Tensor kernel, SymInt count, bool per_sample, bool input_grad, "
        "bool kernel_grad) -> (Tensor loss, Tensor grad, Tensor kernel_grad)"
    )
    target_grad_from_rounded = False

    def target_grad(self, args: Args, input_grad: Tensor) -> Tensor:
        input, _, kernel, *_ = args
        K = otf(as_planes(kernel), *input.shape[2:])
        return -spectral_filter(input_grad, K.conj())

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        input, target, kernel, count, *_ = args
        height, width = input.shape[2:]
        target_wide = target.to(compute_dtype(input.dtype))
        K = otf(as_planes(kernel), height, width)
        residual = input.to(target_wide.dtype) - spectral_filter(target_wide, K)
        residual_grad = (2 * grad / count).view(-1, 1, 1, 1) * residual
        target_grad = kernel_grad = None
        if needs[1]:
            target_grad = -spectral_filter(residual_grad, K.conj()).to(input.dtype)
        if needs[2]:
            dK = cross_spectrum(target_wide, -residual_grad, *K.shape[:2], True)
            kernel_grad = otf_backward(dK, width, *kernel.shape[-2:]).view(kernel.shape)
        return residual_grad.to(input.dtype) if needs[0] else None, target_grad, kernel_grad


blur_mse = BlurMSE()
