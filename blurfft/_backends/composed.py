"""Functions without a kernel of their own, composed of torch's or of a backend's others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from .._math import as_planes, compute_dtype, gradient_dtype
from . import Functions


def complete(functions: Functions) -> Functions:
    """The table with the ops that it lacks."""
    return {"scale_": scale_, **functions, "blur_mse": partial(blur_mse, functions)}


def scale_(tensors: Sequence[Tensor], factor: Tensor) -> None:
    factor = factor.view(1)  # without a dimension a GPU's number would be rounded to half precision
    for tensor in tensors:
        torch.mul(tensor, factor, out=tensor)


def blur_mse(
    functions: Functions,
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    scale: float,
    per_sample: bool,
    input_grad: bool,
    kernel_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    dtype = compute_dtype(input.dtype)
    height, width = input.shape[-2:]
    planes = as_planes(kernel).contiguous()
    K = functions["otf"](planes, height, width)
    residual = input.to(dtype) - functions["spectral_filter"](target.to(dtype), K)
    losses = (scale * residual * residual).sum((1, 2, 3))  # (N,); a square alone may be out of range
    residual_grad = 2 * scale * residual
    kernel_out = None
    if kernel_grad:
        dK = functions["cross_spectrum"](target.to(dtype), -residual_grad, *planes.shape[:2], True)
        kernel_out = functions["otf_backward"](dK, width, *kernel.shape[-2:]).view(kernel.shape)
    grad = torch.empty_like(input, dtype=gradient_dtype(input.dtype)).copy_(residual_grad) if input_grad else None
    return losses if per_sample else losses.sum(), grad, kernel_out
