"""The specification's formulas in plain ``torch.fft``: what every backend and every gradient is tested against.

Names and arguments are those of the public API; gradients are PyTorch's own. Nothing here is validated or fused, and
nothing is shared with what it judges: this file imports nothing of blurfft, and no code that computes imports it.
Tensors of half precision are computed with in float32. Symbols: F is the orthonormal 2-D DFT of a plane, e = input −
target, K the transfer function of the kernel, C the noise-to-signal ratio, W = conj(K) / (|K|² + C) the Wiener
inverse and ω = |W|² + ε the precision spectrum.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype that images of ``dtype`` are computed with: float64 for float64, else float32."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def multiplicity(width: int, like: Tensor) -> Tensor:
    """How often each column of a half spectrum occurs in the full one: (W//2+1,), real, on the device of ``like``."""
    m = torch.full((width // 2 + 1,), 2.0, dtype=compute_dtype(like.dtype), device=like.device)
    m[0] = 1
    if width % 2 == 0:
        m[-1] = 1
    return m


def half_spectrum(input: Tensor, norm: str = "ortho") -> Tensor:
    # MKL refuses an empty batch.
    if input.numel() == 0:
        shape = (*input.shape[:-1], input.shape[-1] // 2 + 1)
        return input.new_zeros(shape, dtype=compute_dtype(input.dtype).to_complex())
    return torch.fft.rfft2(input.to(compute_dtype(input.dtype)), norm=norm)


def from_half_spectrum(spectrum: Tensor, width: int, norm: str = "ortho") -> Tensor:
    height = spectrum.shape[-2]
    if spectrum.numel() == 0:
        return spectrum.new_zeros((*spectrum.shape[:-1], width), dtype=spectrum.dtype.to_real())
    return torch.fft.irfft2(spectrum, s=(height, width), norm=norm)


def transfer_function(kernel: Tensor, height: int, width: int) -> Tensor:
    """K: the kernel (N|1, C|1, kh, kw) padded to the plane, its centre ⌊k/2⌋ moved to the origin, transformed."""
    kh, kw = kernel.shape[-2:]
    padded = F.pad(kernel, (0, width - kw, 0, height - kh)).roll((-(kh // 2), -(kw // 2)), (-2, -1))
    return half_spectrum(padded, norm="backward")  # (N|1, C|1, H, W//2+1)


def _kernel(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return (kernel[None, None] if kernel.dim() == 2 else kernel).to(dtype)  # (N|1, C|1, kh, kw)


def _per_plane(value: float | Tensor, like: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=compute_dtype(like.dtype), device=like.device)
    return value[(...,) + (None,) * (4 - value.dim())] if value.dim() else value  # (N|1, C|1, 1, 1) or ()


def difference(input: Tensor, target: Tensor) -> Tensor:
    """e = input − target in the compute dtype."""
    dtype = compute_dtype(torch.promote_types(input.dtype, target.dtype))
    return input.to(dtype) - target.to(dtype)


def _reduce(squares: Tensor, reduction: str, input: Tensor, target: Tensor) -> Tensor:
    if reduction == "none":
        return squares.to(torch.promote_types(input.dtype, target.dtype))
    return squares.sum() if reduction == "sum" else squares.mean()


def rfft2(input: Tensor, *, norm: str = "backward") -> Tensor:
    return half_spectrum(input, norm)


def irfft2(input: Tensor, s: tuple[int, int] | None = None, *, norm: str = "backward") -> Tensor:
    return torch.fft.irfft2(input, s=s, norm=norm)


def blur(input: Tensor, kernel: Tensor) -> Tensor:
    height, width = input.shape[-2:]
    K = transfer_function(_kernel(kernel, compute_dtype(input.dtype)), height, width)
    return from_half_spectrum(K * half_spectrum(input), width).to(input.dtype)


def wiener_inverse(kernel: Tensor, height: int, width: int, nsr: float | Tensor) -> Tensor:
    """W = conj(K) / (|K|² + C)."""
    K = transfer_function(kernel, height, width)
    return K.conj() / (K.real.square() + K.imag.square() + _per_plane(nsr, kernel))


def wiener_filter(input: Tensor, kernel: Tensor, nsr: float | Tensor = 0.01) -> Tensor:
    height, width = input.shape[-2:]
    W = wiener_inverse(_kernel(kernel, compute_dtype(input.dtype)), height, width, nsr)
    return from_half_spectrum(W * half_spectrum(input), width).to(input.dtype)


def precision_spectrum(kernel: Tensor, height: int, width: int, nsr: float | Tensor, eps: float | Tensor) -> Tensor:
    """ω = s / (s + C)² + ε with s = |K|²."""
    K = transfer_function(kernel, height, width)
    s = K.real.square() + K.imag.square()
    return s / (s + _per_plane(nsr, kernel)).square() + _per_plane(eps, kernel)


def wiener_weight(
    kernel: Tensor, size: tuple[int, int], nsr: float | Tensor = 0.01, eps: float | Tensor = 0.0
) -> Tensor:
    height, width = size
    return precision_spectrum(_kernel(kernel, compute_dtype(kernel.dtype)), height, width, nsr, eps).to(kernel.dtype)


def spectral_mse(input: Tensor, target: Tensor, weight: Tensor, reduction: str = "mean") -> Tensor:
    e = difference(input, target)
    width = e.shape[-1]
    weight = weight.to(e.dtype)
    if reduction == "none":
        return _reduce(from_half_spectrum(weight.sqrt() * half_spectrum(e), width).square(), reduction, input, target)
    E = half_spectrum(e)
    Q = (multiplicity(width, e) * weight * (E.real.square() + E.imag.square())).sum()
    return Q if reduction == "sum" else Q / e.new_tensor(e.numel())


def wiener_loss(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: float | Tensor = 0.01,
    *,
    eps: float | Tensor = 0.0,
    reduction: str = "mean",
) -> Tensor:
    e = difference(input, target)
    height, width = e.shape[-2:]
    kernel = _kernel(kernel, e.dtype)
    if reduction != "none":
        return spectral_mse(input, target, precision_spectrum(kernel, height, width, nsr, eps), reduction)
    W = wiener_inverse(kernel, height, width, nsr)
    restored = from_half_spectrum(W * half_spectrum(e), width)
    return _reduce(restored.square() + _per_plane(eps, e) * e.square(), reduction, input, target)


def wiener_nll(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: float | Tensor = 0.01,
    *,
    eps: float | Tensor = 1e-3,
    reduction: str = "mean",
) -> Tensor:
    e = difference(input, target)
    height, width = e.shape[-2:]
    weight = precision_spectrum(_kernel(kernel, e.dtype), height, width, nsr, eps)
    m = multiplicity(width, e)
    E = half_spectrum(e)
    Q = (m * weight * (E.real.square() + E.imag.square())).sum((1, 2, 3))  # (N,)
    log_determinant = (m * weight.log()).expand_as(E).sum((1, 2, 3))  # (N,)
    nll = 0.5 * Q - 0.5 * log_determinant + 0.5 * math.prod(e.shape[1:]) * math.log(2 * math.pi)
    if reduction == "none":
        return nll
    return nll.sum() if reduction == "sum" else nll.mean()


def blur_mse(input: Tensor, target: Tensor, kernel: Tensor, reduction: str = "mean") -> Tensor:
    compute = compute_dtype(torch.promote_types(input.dtype, target.dtype))
    return _reduce(difference(input, blur(target.to(compute), kernel)).square(), reduction, input, target)


def focal_frequency_loss(
    input: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    loss_weight: float = 1.0,
    *,
    matrix: Tensor | None = None,
) -> Tensor:
    e = difference(input, target)
    patches = torch.stack([p for rows in e.chunk(patch_factor, -2) for p in rows.chunk(patch_factor, -1)], 1)
    E = torch.fft.fft2(patches, norm="ortho")  # (N, P, C, h, w)
    if ave_spectrum:
        E = E.mean(0, keepdim=True)
    power = E.real.square() + E.imag.square()
    if matrix is None:
        size = power.detach().sqrt()
        largest = size.max() if batch_matrix else size.amax((-2, -1), keepdim=True)
        if log_matrix:
            matrix = (size**alpha + 1.0).log() / (largest**alpha + 1.0).log()
        else:
            matrix = (size / largest) ** alpha
        matrix = matrix.nan_to_num(nan=0.0).clamp(0.0, 1.0)
    return loss_weight * (matrix.detach() * power).mean()
