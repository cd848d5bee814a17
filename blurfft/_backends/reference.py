"""Plain ``torch.fft`` on any device: each op by its formula, with the gradients of the fused ops written out.

Torch differentiates all of it in forward mode.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._math import (
    PrecisionSpectrum,
    compute_dtype,
    difference,
    exports_to_onnx,
    focal_weight,
    gradient_dtype,
    multiplicity,
    on_device_of,
    power,
)
from . import Functions, composed

DEVICES = "any"
DTYPES = "float32, float64, bfloat16, float16"
SIZES = "any"


def unavailable() -> str | None:
    return None


def why_not(op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    return None


def _width_is_open(width: int) -> bool:
    """Whether a model for ONNX of any width is made. There onnx takes a half spectrum to be as wide as its plane, and
    ONNX Runtime fails."""
    return isinstance(width, torch.SymInt) and exports_to_onnx()


def _half_spectrum(input: Tensor, norm: str = "ortho") -> Tensor:
    # MKL refuses an empty batch.
    if input.numel() == 0:
        shape = (*input.shape[:-1], input.shape[-1] // 2 + 1)
        return input.new_zeros(shape, dtype=compute_dtype(input.dtype).to_complex())
    wide = input.to(compute_dtype(input.dtype))
    if _width_is_open(input.shape[-1]):
        # Of real numbers, because the exporter of torch 2.11 may ask for the size of what is cut.
        whole = torch.view_as_real(torch.fft.fft2(wide, norm=norm))
        return torch.view_as_complex(whole[..., : input.shape[-1] // 2 + 1, :])
    return torch.fft.rfft2(wide, norm=norm)


def _from_half_spectrum(spectrum: Tensor, width: int, norm: str = "ortho") -> Tensor:
    height = spectrum.shape[-2]
    if spectrum.numel() == 0:
        return spectrum.new_zeros((*spectrum.shape[:-1], width), dtype=spectrum.dtype.to_real())
    if _width_is_open(width):
        # With the columns that are in it once and twice the real part of the whole is the same.
        columns = torch.view_as_real(multiplicity(width, spectrum) * spectrum)
        whole = F.pad(columns, (0, 0, 0, width - spectrum.shape[-1]))
        return torch.fft.ifft2(torch.view_as_complex(whole), norm=norm).real
    return torch.fft.irfft2(spectrum, s=(height, width), norm=norm)


def _like(values: Tensor, image: Tensor) -> Tensor:
    """``values`` in the dtype and layout of ``image``."""
    return torch.empty_like(image).copy_(values)


def _gradient(values: Tensor, image: Tensor) -> Tensor:
    """The gradient of a loss by ``image``."""
    return torch.empty_like(image, dtype=gradient_dtype(image.dtype)).copy_(values)


def _total(losses: Tensor, scale: float, per_sample: bool, input: Tensor) -> Tensor:
    """The losses (N,), which are scaled, or their sum."""
    if not per_sample:
        losses = losses.sum(0, keepdim=True)
    if input.numel() == 0:  # of which the sum is 0 and the mean is not a number
        losses = scale * losses
    return losses if per_sample else losses.squeeze(0)


def rfft2(input: Tensor, scale: float) -> Tensor:
    return (_half_spectrum(input, "backward") * scale).contiguous()


def _from_any_half_spectrum(spectrum: Tensor, width: int) -> Tensor:
    """Not scaled. Of a gradient columns 0 and W/2 need not be those of a real plane: their symmetric part counts."""
    if spectrum.is_cuda and spectrum.numel():
        # In two dimensions cuFFT reads one half of these columns and takes the other to be its mirror image.
        return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2, norm="forward"), n=width, norm="forward")
    return _from_half_spectrum(spectrum, width, "forward")


def irfft2(input: Tensor, width: int, scale: float) -> Tensor:
    return (_from_any_half_spectrum(input, width) * scale).contiguous()


def otf(kernel: Tensor, height: int, width: int) -> Tensor:
    kh, kw = kernel.shape[-2:]
    padded = F.pad(kernel, (0, width - kw, 0, height - kh)).roll((-(kh // 2), -(kw // 2)), (-2, -1))
    # A response that the taps cancel in is to be right relative to itself, so that 0 is 0 next to any nsr.
    wide = padded if kernel.device.type == "mps" else padded.double()  # which has no float64
    K = _half_spectrum(wide, "backward")
    # By parts: ONNX converts no complex numbers.
    return torch.complex(K.real.to(kernel.dtype), K.imag.to(kernel.dtype)).contiguous()


def otf_backward(grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
    planes = _from_any_half_spectrum(grad / multiplicity(width, grad), width)
    return planes.roll((kh // 2, kw // 2), (-2, -1))[..., :kh, :kw].contiguous()


def spectral_filter(input: Tensor, transfer: Tensor) -> Tensor:
    return _like(_from_half_spectrum(transfer * _half_spectrum(input), input.shape[-1]), input)


def cross_spectrum(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
    A, B = _half_spectrum(a), _half_spectrum(b)
    # A lazy conj() would be lost where this runs below the dispatch key that resolves it, as in a traced graph.
    product = A.conj_physical() * B if complex else A.real * B.real + A.imag * B.imag
    return (multiplicity(a.shape[-1], A) * product).sum_to_size(n, c, *A.shape[-2:]).contiguous()


def _weighted(
    E: Tensor, weight: Tensor | float, input: Tensor, scale: float, per_sample: bool, input_grad: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The weighted squared error of a half spectrum times ``scale``, its gradient, and ``scale`` m |E|²."""
    width = input.shape[-1]
    energy = scale * (multiplicity(width, E) * power(E))  # scaled first: a sum may be out of range, not so a mean
    return (
        _total((weight * energy).sum((1, 2, 3)), scale, per_sample, input),
        _gradient(_from_half_spectrum(2 * scale * weight * E, width), input) if input_grad else None,
        energy,
    )


def spectral_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    scale: float,
    per_sample: bool,
    input_grad: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    E = _half_spectrum(difference(input, target))
    loss, grad, energy = _weighted(E, weight, input, scale, per_sample, input_grad)
    weight_sum = energy.sum_to_size(weight.shape).contiguous() if weight_grad else None
    return loss, grad, weight_sum


def wiener_loss(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: Tensor,
    eps: Tensor,
    scale: float,
    nll: bool,
    per_sample: bool,
    input_grad: bool,
    kernel_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    _, channels, height, width = input.shape
    K = otf(kernel, height, width)
    precision = PrecisionSpectrum(K, on_device_of(input, nsr), on_device_of(input, eps))
    weight = precision.omega

    m = multiplicity(width, K)
    E = _half_spectrum(difference(input, target))
    scale = scale / 2 if nll else scale
    energy = scale * (m * power(E))  # scaled first: a sum may be out of range, not so a mean
    loss = (weight * energy).sum((1, 2, 3))  # (N,)
    if nll:
        log_determinant = (m * weight.log()).expand_as(energy).sum((1, 2, 3))
        loss = loss + scale * (channels * height * width * math.log(2 * math.pi) - log_determinant)
    grad = _gradient(_from_half_spectrum(2 * scale * weight * E, width), input) if input_grad else None
    kernel_out = nsr_out = eps_out = None
    if kernel_grad:
        dK, dnsr, deps = precision.vjp(energy - scale * m / weight if nll else energy)
        kernel_out = otf_backward(dK, width, *kernel.shape[-2:])
        nsr_out, eps_out = dnsr.contiguous(), deps.contiguous()
    return _total(loss, scale, per_sample, input), grad, kernel_out, nsr_out, eps_out


def blur_mse(
    input: Tensor, target: Tensor, kernel: Tensor, scale: float, per_sample: bool, input_grad: bool, kernel_grad: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    height, width = input.shape[-2:]
    K = otf(kernel, height, width)
    Y = _half_spectrum(target)
    residual = _half_spectrum(input) - K * Y
    loss, grad, _ = _weighted(residual, 1.0, input, scale, per_sample, input_grad)
    if not kernel_grad:
        return loss, grad, None
    dK = (-2 * scale * multiplicity(width, K) * Y.conj_physical() * residual).sum_to_size(K.shape)
    return loss, grad, otf_backward(dK, width, *kernel.shape[-2:])


def focal_frequency_loss(
    input: Tensor,
    target: Tensor,
    alpha: float,
    log_matrix: bool,
    scale: float,
    per_sample: bool,
    input_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    error = difference(input, target)
    if scale == 0:  # a loss that counts for nothing needs no powers, and they may be out of range
        error = 0 * error
    E = _half_spectrum(error)
    weight = focal_weight(power(E).detach(), alpha, log_matrix)
    loss, grad, _ = _weighted(E, weight, input, scale, per_sample, input_grad)
    return loss, grad


_FUNCTIONS: Functions = {
    "rfft2": rfft2,
    "irfft2": irfft2,
    "otf": otf,
    "otf_backward": otf_backward,
    "spectral_filter": spectral_filter,
    "cross_spectrum": cross_spectrum,
    "spectral_loss": spectral_loss,
    "wiener_loss": wiener_loss,
    "blur_mse": blur_mse,
    "focal_frequency_loss": focal_frequency_loss,
    "scale_": composed.scale_,
}


def functions() -> Functions:
    return _FUNCTIONS
