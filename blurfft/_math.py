"""Mathematics that the ops, the public functions and the backends share: dtypes, multiplicities, ω, focal weights.

``blurfft.reference``, the ground truth, has its own, so that a mistake here shows.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor


def exports_to_onnx() -> bool:
    """ONNX has operators like torch's, and none of ours."""
    return "onnxscript" in sys.modules and torch.onnx.is_in_onnx_export()


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype that images of ``dtype`` are computed with: float64 for float64, else float32."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def gradient_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a loss keeps its gradient by images of ``dtype``: float32 for float16, else theirs.

    The numbers of a mean's gradient are below what float16 holds, and loss scaling multiplies it by its factor only
    later.
    """
    return torch.float32 if dtype == torch.float16 else dtype


def as_planes(parameter: Tensor) -> Tensor:
    """A kernel or weight (..., ...) for all planes, or (N|1, C|1, ..., ...), as the latter."""
    return parameter.view(1, 1, *parameter.shape) if parameter.dim() == 2 else parameter


def constant(shape: tuple[int, ...], value: float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Filled with ``value``, on the device of ``like``."""
    if torch.compiler.is_compiling():
        like = like.real if like.is_complex() else like  # ONNX makes nothing like a complex tensor
        return like.new_zeros(shape, dtype=dtype) + value  # a graph would hold the number that it is filled with
    if type(like) is Tensor:
        return torch.full(shape, value, dtype=dtype, device=like.device)
    return like.new_full(shape, value, dtype=dtype)  # a DTensor goes with DTensors only


def on_device_of(like: Tensor, number: Tensor) -> Tensor:
    """A number that a public function has left in the host's memory, where ``like`` is; other tensors as they are."""
    return number if number.device == like.device else constant(tuple(number.shape), number.item(), like, number.dtype)


def multiplicity(width: int, like: Tensor) -> Tensor:
    """How often each column of a half spectrum occurs in the full one: (W//2+1,), real, on the device of ``like``."""
    # Not by slices: a graph of any width would hold that of its example as even or odd.
    column = constant((width // 2 + 1,), 1, like, torch.int64).cumsum(0) - 1
    return 2 - ((column == 0) | (2 * column == width)).to(compute_dtype(like.dtype))


def difference(input: Tensor, target: Tensor) -> Tensor:
    """e = input − target in the compute dtype."""
    dtype = compute_dtype(torch.promote_types(input.dtype, target.dtype))
    return input.to(dtype) - target.to(dtype)


def laid_out_as(image: Tensor, values: Tensor) -> Tensor:
    """``values`` (N, C, H, W), with channels last in memory if those of ``image`` are."""
    # vmap knows no ``contiguous(memory_format=torch.channels_last)``.
    return values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if image.stride(1) == 1 else values


def power(spectrum: Tensor) -> Tensor:
    """|·|² of a complex tensor."""
    return spectrum.real.square() + spectrum.imag.square()


def unit_in_range(squares: Tensor) -> Tensor:
    """A power of two for each of ``squares``, with whose square it is in range: 1 in most cases, and a constant."""
    squares = squares.detach()
    eighth = round(math.log2(torch.finfo(squares.dtype).max)) // 8
    far = 2.0 ** (5 * eighth)
    small, large = squares < 2.0 ** (-6 * eighth), squares > 2.0 ** (6 * eighth)
    return torch.ones_like(squares).masked_fill(small, far).masked_fill(large, 1 / far)


def over_plane(value: Tensor, like: Tensor) -> Tensor:
    """nsr or eps (N|1, C|1) as it goes with planes ``like`` (N|1, C|1, h, w).

    Torch's sums depend on the number of threads. One that is trained is spread by doubling, whose gradient is a tree of
    additions.
    """
    value = value[:, :, None, None]
    in_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not value.requires_grad or type(value) is not Tensor or in_graph:
        return value
    for dim, size in enumerate(torch.broadcast_shapes(value.shape, like.shape)):
        while value.shape[dim] < size:
            value = torch.cat((value, value), dim)
        value = value.narrow(dim, 0, size)
    return value


class PrecisionSpectrum:
    """ω = s / (s + C)² + ε with s = |K|², and its derivative. K (N|1, C|1, H, W//2+1), nsr and eps (N|1, C|1)."""

    def __init__(self, K: Tensor, nsr: Tensor, eps: Tensor) -> None:
        self._K, self._nsr, self._eps = K, nsr, eps
        s = power(K)
        # That of a finite K may be out of range; the largest number then does as well, for ω is 0.
        self._s = torch.where(K.real.isfinite() & K.imag.isfinite(), s.clamp(max=torch.finfo(s.dtype).max), s)
        self._C = over_plane(nsr, K)
        self._q = self._s + self._C
        # Powers of q are out of range long before the quotients are.
        self.omega = self._s / self._q / self._q + over_plane(eps, K)  # (N|1, C|1, H, W//2+1)

    def vjp(self, cotangent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cotangents of K, nsr and eps from that of ω, which may also be of every plane that shares ω."""
        # By K / q, which is 0 where K is: so are then all derivatives but one, though not powers of 1 / q.
        quotient = self._K * self._q.reciprocal()
        dC = -2 * cotangent * (power(quotient) / self._q)
        # Neither factor of the first product is above 1 where q is, and where q is below 1 the quotient by it is larger
        # than what it is made of: no step is out of range if the result is not.
        dK = 2 * cotangent.sum_to_size(self._q.shape) * ((self._C - self._s) / self._q) * quotient
        return (
            (dK * self._q.reciprocal()).sum_to_size(self._K.shape),
            dC.sum((2, 3)).sum_to_size(self._nsr.shape),
            cotangent.sum((2, 3)).sum_to_size(self._eps.shape),
        )


def focal_weight(power: Tensor, alpha: float | Tensor, log_matrix: bool, batch_matrix: bool = False) -> Tensor:
    """The weight of the focal frequency loss for the power |F e|², (..., h, w) or its half spectrum.

    It is |F e|^α or log(1 + |F e|^α) relative to its maximum, also where these powers are out of range.
    """
    size = power.sqrt()
    largest = size.max() if batch_matrix else size.amax((-2, -1), keepdim=True)
    if log_matrix:
        log, largest_log = size.log(), largest.log()
        matrix, maximum = (size**alpha).log1p(), (largest**alpha).log1p()
        beyond = (log.relu() + (-alpha * log.abs()).exp().log1p() / alpha) / largest_log
        matrix = torch.where(maximum.isinf(), beyond, matrix / maximum)
        # Where log(1 + x) is x, which itself may be too small.
        matrix = torch.where(alpha * largest_log < -64, (size / largest) ** alpha, matrix)
    else:
        matrix = (size / largest) ** alpha
    # Of powers out of range nothing is known: weights of 0 would make nothing of the largest errors.
    return matrix.nan_to_num(nan=0.0).clamp(0.0, 1.0).masked_fill(largest.isinf(), math.nan)
