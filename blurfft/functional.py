"""The public functions. Each validates its arguments, brings them to their dtypes and composes ``blurfft.ops``.

Symbols: F is the orthonormal 2-D DFT of an H×W plane, e = input − target, K the transfer function of the blur kernel
(its centre is ⌊k/2⌋, boundaries are periodic), C the noise-to-signal ratio ``nsr``, W = conj(K) / (|K|² + C) the
Wiener inverse and ω = |W|² + ε the precision spectrum, as in Bredell et al., *Explicitly Minimizing the Blur Error of
Variational Autoencoders*, ICLR 2023 (arXiv 2304.05939). The defaults of ``nsr`` and ``eps`` are this library's, not
the paper's.

Images are real, (N, C, H, W), float32, float64, bfloat16 or float16, of any strides; two images of different dtypes are
promoted to their common dtype. The arithmetic is float64 for float64 images and float32 for the others. Elementwise
results have the images' dtype, scalar losses of half-precision images are float32. Kernels are (kh, kw) or (N|1, C|1,
kh, kw), no larger than the image. ``nsr`` and ``eps`` are floats or tensors of shape (), (N,) or (N, C). Everything
floating is differentiable, to any order. Nothing is mutated.

Raises:
    TypeError: an argument is not of the right kind, or a tensor not of the right dtype.
    ValueError: its shape, size, device or value is wrong. Both name the argument, what it was and what it should be.
    RuntimeError: the backend that was asked for by name cannot serve the call.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks, ops
from ._distributed import mirrored, summed_once
from ._math import (
    PrecisionSpectrum,
    as_planes,
    compute_dtype,
    constant,
    difference,
    focal_weight,
    laid_out_as,
    multiplicity,
    over_plane,
    power,
    unit_in_range,
)
from .ops._fastpath import remembers, unobserved


def rfft2(input: Tensor, s: Sequence[int] | None = None, *, norm: str | None = "backward") -> Tensor:
    """The 2-D discrete Fourier transform of real planes, as ``torch.fft.rfft2`` over the last two dimensions.

    Args:
        input: (..., H, W), real. Half precision is transformed in float32, integers in torch's default dtype.
        s: the (H, W) to which the planes are cropped or zero-padded first. By default, and where a side is -1, their
            own.
        norm: ``"backward"`` or None (unscaled), ``"ortho"`` (1/√HW) or ``"forward"`` (1/HW).

    Returns:
        The half spectrum, (..., H, W//2+1), complex64 or, for float64, complex128.

    Examples:
        >>> blurfft.rfft2(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 5])
    """
    input = _checks.plane("input", input)
    norm = _checks.norm(norm)
    if s is not None:
        input = _resized(input, *_checks.size(s, "s", (input.shape[-2], input.shape[-1])))
    return ops.rfft2(input, norm)


def irfft2(input: Tensor, s: Sequence[int] | None = None, *, norm: str | None = "backward") -> Tensor:
    """The inverse of ``rfft2``, as ``torch.fft.irfft2`` over the last two dimensions.

    Args:
        input: a half spectrum (..., H, W//2+1). Imaginary parts of coefficients that must be real, as in column 0, are
            ignored.
        s: the (H, W) of the result, to which the half spectrum is cropped or zero-padded. By default, and where a side
            is -1, the input's H and the even W that fits. An odd W needs it.
        norm: ``"backward"`` or None (1/HW), ``"ortho"`` (1/√HW) or ``"forward"`` (unscaled).

    Returns:
        Real planes, (..., H, W), float32 or, for complex128, float64.

    Examples:
        >>> x = torch.randn(2, 3, 8, 7)
        >>> torch.testing.assert_close(blurfft.irfft2(blurfft.rfft2(x), s=(8, 7)), x)
    """
    input = _checks.half_spectrum("input", input)
    norm = _checks.norm(norm)
    own = input.shape[-2], 2 * (input.shape[-1] - 1)
    height, width = own if s is None else _checks.size(s, "s", own)
    if width < 1:
        raise ValueError(f"s must be given for an input of one column, got shape {tuple(input.shape)}")
    if s is not None:
        input = _resized(input, height, width // 2 + 1)
    return ops.irfft2(input, width, norm)


def _resized(input: Tensor, height: int, width: int) -> Tensor:
    """Planes (..., H, W), cropped or zero-padded."""
    if input.shape[-2] > height or input.shape[-1] > width:
        input = input[..., :height, :width]
    if input.shape[-2] < height or input.shape[-1] < width:
        input = F.pad(input, (0, width - input.shape[-1], 0, height - input.shape[-2]))
    return input


def blur(input: Tensor, kernel: Tensor) -> Tensor:
    """The periodic convolution of each plane with its kernel: F⁻¹[K F input].

    Args:
        input: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        kernel: (kh, kw) or (N|1, C|1, kh, kw), with its centre at ⌊k/2⌋; one that sums to 1 keeps the mean.

    Returns:
        The blurred images, in the shape, dtype and layout of ``input``.

    Examples:
        >>> blurfft.blur(torch.rand(4, 3, 64, 64), torch.full((5, 5), 1 / 25)).shape
        torch.Size([4, 3, 64, 64])
    """
    _checks.image("input", input)
    kernel = _checks.kernel_for(input, kernel)
    return ops.spectral_filter(input, ops.otf(kernel, input.shape[2], input.shape[3]))


def wiener_filter(input: Tensor, kernel: Tensor, nsr: float | Tensor = 0.01) -> Tensor:
    """Wiener deconvolution: F⁻¹[W F input] with W = conj(K) / (|K|² + C).

    Args:
        input: blurred images, (N, C, H, W), float32, float64, bfloat16 or float16.
        kernel: what they were blurred with, (kh, kw) or (N|1, C|1, kh, kw).
        nsr: the noise-to-signal ratio C ≥ 0: a float, or a tensor of shape (), (N,) or (N, C).

    Returns:
        The restored images, in the shape, dtype and layout of ``input``.

    Examples:
        >>> kernel = torch.full((5, 5), 1 / 25)
        >>> restored = blurfft.wiener_filter(blurfft.blur(torch.rand(4, 3, 64, 64), kernel), kernel, nsr=1e-3)
    """
    _checks.image("input", input)
    kernel = _checks.kernel_for(input, kernel)
    nsr = _checks.per_plane("nsr", nsr, input)
    return ops.spectral_filter(input, _wiener_inverse(kernel, nsr, input.shape[2], input.shape[3]))


def _wiener_inverse(kernel: Tensor, nsr: Tensor, height: int, width: int) -> Tensor:
    K = ops.otf(kernel, height, width)
    C = over_plane(nsr, K)
    unit = unit_in_range(power(K) + C)
    re, im = K.real * unit, K.imag * unit
    denominator = re.square() + im.square() + C * unit * unit
    # By a real number: torch would make it complex first, and divide as by one.
    # DTensors of torch 2.11 have no torch.complex.
    return torch.view_as_complex(torch.stack((re / denominator * unit, -im / denominator * unit), -1))


def wiener_weight(kernel: Tensor, size: Sequence[int], nsr: float | Tensor = 0.01, eps: float | Tensor = 0.0) -> Tensor:
    """The precision spectrum ω = |W|² + ε = s / (s + C)² + ε, s = |K|², on the half spectrum.

    It is not monotone in |K|: it peaks at |K| = √C with 1 / (4C) and falls to ε where the kernel removed a frequency.

    Args:
        kernel: (kh, kw) or (N|1, C|1, kh, kw).
        size: the (H, W) of the images.
        nsr: the noise-to-signal ratio C ≥ 0: a float, or a tensor of shape (), (N,) or (N, C).
        eps: the floor ε ≥ 0, in the same forms.

    Returns:
        (N|1, C|1, H, W//2+1), in the dtype of ``kernel``: a weight for ``spectral_mse``.

    Examples:
        >>> blurfft.wiener_weight(torch.full((5, 5), 1 / 25), (64, 64)).shape
        torch.Size([1, 1, 64, 33])
    """
    _checks.kernel(kernel)
    height, width = _checks.size(size)
    _checks.kernel_within(kernel, height, width)
    planes = as_planes(kernel).to(compute_dtype(kernel.dtype)).contiguous()
    nsr = _checks.any_per_plane("nsr", nsr, "kernel", kernel)
    eps = _checks.any_per_plane("eps", eps, "kernel", kernel)
    _checks.broadcast(kernel=planes, nsr=nsr, eps=eps)
    K = ops.otf(planes, height, width)
    return summed_once(PrecisionSpectrum(K, nsr, eps).omega.to(kernel.dtype))


@remembers(tensors=3)
def spectral_mse(input: Tensor, target: Tensor, weight: Tensor, reduction: str = "mean") -> Tensor:
    """The squared error weighted in the frequency domain: Q = Σ ω |F e|². With ω = 1 it is ``F.mse_loss``.

    Args:
        input, target: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        weight: ω ≥ 0 on the half spectrum, (H, W//2+1) or (N|1, C|1, H, W//2+1), for example ``wiener_weight``. In
            column 0 and, for an even W, column W/2, f and −f get the mean of their two weights.
        reduction: ``"mean"``: Q / numel; ``"sum"``: Q; ``"none"``: the map (F⁻¹[√ω F e])², (N, C, H, W), with that
            mean and sum.

    Examples:
        >>> x, y = torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64)
        >>> weight = blurfft.wiener_weight(torch.full((5, 5), 1 / 25), (64, 64))
        >>> loss = blurfft.spectral_mse(x, y, weight)
    """
    _checks.reduction(reduction)
    input, target = _checks.images(input, target)
    weight = _checks.weight_for(input, weight)
    if reduction == "none":
        own_mirror = multiplicity(input.shape[-1], weight) == 1
        root = torch.where(own_mirror, (weight + mirrored(weight, -2)) / 2, weight).sqrt()
        e = difference(input, target)
        return ops.spectral_filter(e, summed_once(root)).square().to(input.dtype)
    return ops.spectral_loss.prepare(input, target, weight, input.numel() if reduction == "mean" else 1)


def _by_value(*tensors: Tensor) -> bool:
    """Whether nsr and eps that are numbers stay in the host's memory: a kernel of a GPU takes them with its launch."""
    return tensors[0].is_cuda and unobserved(tensors)


@remembers(tensors=3)
def wiener_loss(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: float | Tensor = 0.01,
    *,
    eps: float | Tensor = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The blur error: the squared error after Wiener deconvolution of e, plus ε times the plain one.

    Q = Σ ω |F e|² = ‖F⁻¹[W F e]‖² + ε ‖e‖². A delta kernel with ``nsr = 0`` gives ``F.mse_loss``. Value and gradient
    come from one pass over the images. After Bredell et al., ICLR 2023 (arXiv 2304.05939); the defaults are ours.

    Args:
        input, target: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        kernel: (kh, kw) or (N|1, C|1, kh, kw).
        nsr: the noise-to-signal ratio C ≥ 0: a float, or a tensor of shape (), (N,) or (N, C).
        eps: the floor ε ≥ 0 of the precision spectrum, in the same forms. With 0, frequencies that the kernel removes
            are not penalised at all.
        reduction: ``"mean"``: Q / numel; ``"sum"``: Q; ``"none"``: the map (F⁻¹[W F e])² + ε e², (N, C, H, W), which
            shows where the blur error is.

    Examples:
        >>> x = torch.rand(4, 3, 64, 64, requires_grad=True)
        >>> kernel = torch.full((5, 5), 1 / 25)
        >>> blurfft.wiener_loss(x, torch.rand(4, 3, 64, 64), kernel).backward()
    """
    _checks.reduction(reduction)
    input, target = _checks.images(input, target)
    kernel = _checks.kernel_for(input, kernel)
    by_value = reduction != "none" and _by_value(input, target, kernel)
    nsr = _checks.per_plane("nsr", nsr, input, by_value)
    eps = _checks.per_plane("eps", eps, input, by_value)
    if reduction == "none":
        e = difference(input, target)
        restored = ops.spectral_filter(e, _wiener_inverse(kernel, nsr, input.shape[2], input.shape[3]))
        return (restored.square() + over_plane(eps, e) * e * e).to(input.dtype)  # e last: gradients in its layout
    return ops.wiener_loss.prepare(input, target, kernel, nsr, eps, input.numel() if reduction == "mean" else 1, False)


@remembers(tensors=3)
def wiener_nll(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: float | Tensor = 0.01,
    *,
    eps: float | Tensor = 1e-3,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-density of ``target``, in nats, under a Gaussian with mean ``input`` and the precision of the
    blur error.

    −log N(target; input, Σ) with Σ⁻¹ = WᵀW + εI, circulant: ½ Σ ω |F e|² − ½ Σ_channels Σ_f log ω_f + (D/2) log 2π,
    D = C·H·W. After Bredell et al., ICLR 2023 (arXiv 2304.05939); the defaults are ours.

    Args:
        input, target: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        kernel: (kh, kw) or (N|1, C|1, kh, kw), for example one for each sample, predicted by a network.
        nsr: the noise-to-signal ratio C ≥ 0: a float, or a tensor of shape (), (N,) or (N, C).
        eps: the floor ε ≥ 0, in the same forms. Keep it positive: the log-determinant diverges where the kernel
            removes a frequency.
        reduction: over the batch: ``"mean"``, ``"sum"``, or ``"none"``, (N,).

    Examples:
        >>> x = torch.rand(4, 3, 64, 64, requires_grad=True)
        >>> kernel = torch.rand(4, 1, 11, 11).flatten(1).softmax(1).view(4, 1, 11, 11)
        >>> blurfft.wiener_nll(x, torch.rand(4, 3, 64, 64), kernel).backward()
    """
    _checks.reduction(reduction)
    input, target = _checks.images(input, target)
    kernel = _checks.kernel_for(input, kernel)
    by_value = _by_value(input, target, kernel)
    nsr = _checks.per_plane("nsr", nsr, input, by_value)
    eps = _checks.per_plane("eps", eps, input, by_value)
    count = input.shape[0] if reduction == "mean" else 1
    return ops.wiener_loss.prepare(input, target, kernel, nsr, eps, count, True, per_sample=reduction == "none")


@remembers(tensors=3)
def blur_mse(input: Tensor, target: Tensor, kernel: Tensor, reduction: str = "mean") -> Tensor:
    """The squared error between ``input`` and the blurred target, ‖input − kernel ∗ target‖², to fit a blur kernel.

    Args:
        input, target: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        kernel: (kh, kw) or (N|1, C|1, kh, kw).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, (N, C, H, W), as in ``F.mse_loss``.

    Examples:
        >>> kernel = torch.full((5, 5), 1 / 25, requires_grad=True)
        >>> blurfft.blur_mse(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64), kernel).backward()
    """
    _checks.reduction(reduction)
    input, target = _checks.images(input, target)
    kernel = _checks.kernel_for(input, kernel)
    if reduction == "none":
        dtype = kernel.dtype
        K = ops.otf(kernel, input.shape[2], input.shape[3])
        return (input.to(dtype) - ops.spectral_filter(target.to(dtype), K)).square().to(input.dtype)
    return ops.blur_mse.prepare(input, target, kernel, input.numel() if reduction == "mean" else 1)


@remembers(tensors=2)
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
    """The focal frequency loss: a spectral squared error whose weight is its own size, |F e|^α, taken as a constant.

    Jiang et al., *Focal Frequency Loss for Image Reconstruction and Synthesis*, ICCV 2021 (arXiv 2012.12821); values
    and gradients are those of their package ``focal-frequency-loss``, at half the work: one real transform of e.

    Args:
        input, target: images, (N, C, H, W), float32, float64, bfloat16 or float16.
        alpha: the exponent of the weight, at least 0.
        patch_factor: each image is cut into patch_factor² patches; it must divide H and W.
        ave_spectrum: average the spectra over the batch first.
        log_matrix: replace the weight by log(1 + weight).
        batch_matrix: scale the weight to at most 1 over the whole batch instead of in each plane.
        loss_weight: a factor on the result.
        matrix: a weight to use instead, as in the package: on the full spectrum, of a shape that broadcasts to
            (N, patches, C, h, w), with values from 0 to 1. No gradient flows through it.

    Returns:
        A scalar, the mean over all frequencies.

    Examples:
        >>> x = torch.rand(4, 3, 64, 64, requires_grad=True)
        >>> blurfft.focal_frequency_loss(x, torch.rand(4, 3, 64, 64)).backward()
    """
    input, target = _checks.images(input, target)
    alpha = _checks.exponent("alpha", alpha)
    loss_weight = _checks.as_float(_checks.number("loss_weight", loss_weight))
    _checks.flag("ave_spectrum", ave_spectrum)
    _checks.flag("log_matrix", log_matrix)
    _checks.flag("batch_matrix", batch_matrix)
    patch_factor = _checks.patch_factor(patch_factor)
    _checks.patches(patch_factor, input)
    if ave_spectrum:  # F is linear
        input, target = _mean_of_samples(input), _mean_of_samples(target)
    if matrix is not None:
        matrix = _checks.matrix_for(input, matrix, patch_factor)
    input, target = (_patches(t, patch_factor) for t in (input, target))
    count = input.numel()
    if isinstance(loss_weight, Tensor):  # a NumPy scalar in a graph
        loss_weight = loss_weight.to(compute_dtype(input.dtype))
    elif loss_weight == 0:  # not 0 times what may be infinite
        input, target = 0 * input, 0 * target
    if matrix is not None:
        weight = _half_of_a_matrix(matrix)
    elif (batch_matrix and count) or not _is_constant(alpha):
        # With one maximum for the whole batch no plane's gradient is known before the last plane's spectrum is.
        # Detached, and not computed without gradients, of which a traced graph would know nothing.
        e = difference(input, target).detach()
        exponent = alpha if _is_constant(alpha) else constant((), alpha, e, e.dtype)
        weight = focal_weight(power(ops.rfft2(e, "ortho")), exponent, log_matrix, batch_matrix)
    elif torch.compiler.is_compiling():  # a graph would hold the factor that an op is given
        value = ops.focal_frequency_loss.value(input, target, float(alpha), log_matrix, 1.0, count)
        return _times(loss_weight, value)
    else:
        return ops.focal_frequency_loss.prepare(input, target, float(alpha), log_matrix, float(loss_weight), count)
    return _times(loss_weight, ops.spectral_loss.value(input, target, weight, count))


def _times(factor: float | Tensor, value: Tensor) -> Tensor:
    # In torch.func.jvp the tangent of a tensor without dimensions becomes float64 when it is scaled by a number.
    return (factor * value[None]).squeeze(0)


def _is_constant(number: float) -> bool:
    """Whether a graph may hold the number: the compiler has not seen it change yet."""
    if not torch.compiler.is_compiling():
        return True
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not isinstance(number, Tensor) and has_static_value(number)


def _mean_of_samples(image: Tensor) -> Tensor:
    """(N, C, H, W) -> (1, C, H, W) in the compute dtype and the layout of ``image``."""
    return laid_out_as(image, image.to(compute_dtype(image.dtype)).mean(0, keepdim=True))


def _patches(image: Tensor, factor: int) -> Tensor:
    """(N, C, H, W) -> (N * factor², C, H // factor, W // factor), in the layout of ``image``."""
    if factor == 1:
        return image
    last = (0, 2, 3, 1) if image.stride(1) == 1 else (0, 1, 2, 3)  # channels last, as they are in memory
    rows, columns = last.index(2), last.index(3)
    grid = image.permute(last).unflatten(columns, (factor, -1)).unflatten(rows, (factor, -1))
    grid = grid.movedim((rows, columns + 1), (1, 2)).flatten(0, 2)
    return grid.permute([last.index(dim) for dim in range(4)])


def _half_of_a_matrix(matrix: Tensor) -> Tensor:
    """The part with ω(f) = ω(−f) of a weight (..., h, w), on the half spectrum."""
    return ((matrix + mirrored(matrix, -2, -1)) / 2)[..., : matrix.shape[-1] // 2 + 1].contiguous()


for _function in (
    *(rfft2, irfft2, blur, wiener_filter, wiener_weight),
    *(spectral_mse, wiener_loss, wiener_nll, blur_mse, focal_frequency_loss),
):
    # What torch.jit.script says of a function with this attribute, instead of what in it is not TorchScript.
    vars(_function)["__script_unsupported"] = (
        f"torch.jit.script does not take blurfft.{_function.__name__}; torch.jit.trace, torch.compile and export do"
    )
