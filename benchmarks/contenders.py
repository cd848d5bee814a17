"""The contenders: everything that computes a case, or something comparable."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import blurfft
from blurfft import _dispatch, reference

from .cases import INPUT_GRAD, KERNEL_GRAD, LOSSES, RESULT, TRAINING_STEP, Case, Inputs, Outputs

# Names; those of blurfft's backends are "blurfft cpu" and so on.
COPY = "copy"
MSE = "mse_loss"
EAGER = "torch.fft"
COMPILED = "torch.compile"
HAND = "torch.fft by hand"
FFL = "focal-frequency-loss"
SKIMAGE = "scikit-image"
OURS = "blurfft "

# The op that serves a public function, where it has another name.
_SERVED_BY = {
    "wiener_nll": "wiener_loss",
    "spectral_mse": "spectral_loss",
    "wiener_filter": "spectral_filter",
    "blur": "spectral_filter",
    TRAINING_STEP: "wiener_loss",
}
# The defaults of the public functions.
_NSR = 0.01
_NLL_EPS = 1e-3


@dataclass(frozen=True)
class Contender:
    name: str
    call: Callable[[], Outputs]
    truth: str  # the key of its truth in truths()
    backend: str = "auto"  # which blurfft is asked for

    def asked(self) -> AbstractContextManager[None]:
        """Around any number of calls: asking takes as long as a tenth of the smallest call."""
        return blurfft.use_backend(self.backend)

    def step(self) -> Outputs:
        with self.asked():
            return self.call()


def backends(case: Case, device: str) -> dict[str, str | None]:
    """The available backends, fastest first, each with the reason why it cannot serve the case, or None."""
    op = _SERVED_BY.get(case.op, case.op)
    dtype = reference.compute_dtype(case.torch_dtype).to_complex() if case.op == "irfft2" else case.torch_dtype
    return {name: _dispatch.why_not(name, op, device, dtype, *case.size) for name in blurfft.available_backends()}


def contenders(case: Case, inputs: Inputs, compile: bool = False) -> Iterator[Contender]:
    """Those that serve the case; ``torch.compile``, which takes some ten seconds, if it is asked for."""
    device = inputs.input.device.type
    yield _copy(inputs)
    if case.op in LOSSES:
        yield Contender(MSE, lambda: inputs.run(_mse), MSE)
    eager = getattr(reference, case.op)
    yield Contender(EAGER, lambda: inputs.run(eager), case.op)
    if compile:
        yield _compiled(case, inputs)
    if case.op in _BY_HAND:
        by_hand = _BY_HAND[case.op](inputs)
        yield Contender(HAND, torch.no_grad()(by_hand), case.op)
    if case.op == "focal_frequency_loss" and importlib.util.find_spec("focal_frequency_loss"):
        yield _focal_frequency_loss(inputs)
    if _skimage_serves(case, device):
        yield _skimage(inputs)
    for name, reason in backends(case, device).items():
        if reason is None:
            yield _ours(case, inputs, name)


def truths(case: Case, inputs: Inputs) -> dict[str, Outputs]:
    """What each contender should compute, in float64."""
    double = inputs.double()
    result = {case.op: double.run(getattr(reference, case.op)), COPY: {RESULT: inputs.input.detach()}}
    if case.op in LOSSES:
        result[MSE] = double.run(_mse)
    return result


def _mse(input: Tensor, target: Tensor, *_: object) -> Tensor:
    return F.mse_loss(input, target)


def _ours(case: Case, inputs: Inputs, backend: str) -> Contender:
    op = getattr(blurfft, case.op)
    return Contender(OURS + backend, lambda: inputs.run(op), case.op, backend)


def _compiled(case: Case, inputs: Inputs) -> Contender:
    torch.compiler.reset()  # a case is a shape, and torch gives up after some shapes of one function
    op = torch.compile(getattr(reference, case.op), dynamic=False)

    def step() -> Outputs:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex")
            return inputs.run(op)

    return Contender(COMPILED, step, case.op)


def _copy(inputs: Inputs) -> Contender:
    """One tensor copied into an existing one: twice the bytes of an image tensor."""
    input = inputs.input.detach()
    output = torch.empty_like(input)
    return Contender(COPY, lambda: {RESULT: output.copy_(input)}, COPY)


def _focal_frequency_loss(inputs: Inputs) -> Contender:
    from focal_frequency_loss import FocalFrequencyLoss

    loss, dtype = FocalFrequencyLoss(), reference.compute_dtype(inputs.input.dtype)
    # It takes no half precision, so users convert first.
    return Contender(FFL, lambda: inputs.run(lambda a, b: loss(a.to(dtype), b.to(dtype))), inputs.case.op)


def _skimage_serves(case: Case, device: str) -> bool:
    served = case.op == "wiener_filter" and case.kernel_shared_by == "batch" and not case.backward
    served = served and case.dtype != "bfloat16"  # NumPy has none
    return served and device == "cpu" and importlib.util.find_spec("skimage") is not None


def _skimage(inputs: Inputs) -> Contender:
    """``skimage.restoration.wiener``, plane by plane as it takes them, with the identity as its regularisation."""
    from skimage.restoration import wiener

    images, kernel = inputs.input.numpy(), inputs.kernel.numpy()
    identity = np.zeros((3, 3), images.dtype)
    identity[1, 1] = 1
    height, width = inputs.size

    def step() -> Outputs:
        output = np.empty(images.shape, images.dtype)
        planes, restored = images.reshape(-1, height, width), output.reshape(-1, height, width)
        for plane, destination in zip(planes, restored, strict=True):
            destination[:] = wiener(plane, kernel, balance=_NSR, reg=identity, clip=False)
        return {RESULT: torch.from_numpy(output)}

    return Contender(SKIMAGE, step, inputs.case.op)


# By hand: the formulas as one would write them with care in torch.fft, the gradient included, without autograd. What
# does not change from step to step is computed beforehand.


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _error(inputs: Inputs) -> Tensor:
    dtype = reference.compute_dtype(inputs.input.dtype)
    return (inputs.input.detach().to(dtype) - inputs.target.to(dtype)).contiguous()


def _wiener_loss_by_hand(inputs: Inputs) -> Callable[[], Outputs]:
    kernel = inputs.kernel.detach()
    return _spectral_mse_by_hand(inputs, reference.wiener_weight(kernel, inputs.size))


def _spectral_mse_by_hand(inputs: Inputs, weight: Tensor | None = None) -> Callable[[], Outputs]:
    """Q = ⟨e, Ae⟩ and its gradient 2Ae."""
    scaled = (inputs.weight if weight is None else weight) * (2 / inputs.case.pixels)

    def step() -> Outputs:
        e = _error(inputs)
        if not inputs.case.backward:
            E = torch.view_as_real(torch.fft.rfft2(e, norm="ortho"))
            m = reference.multiplicity(inputs.size[1], e)
            return {RESULT: (0.5 * m * scaled * E.square().sum(-1)).sum()}
        grad = torch.fft.irfft2(torch.fft.rfft2(e).mul_(scaled), s=inputs.size)
        return {RESULT: _dot(e, grad).mul_(0.5), INPUT_GRAD: grad.to(inputs.input.dtype)}

    return step


def _wiener_nll_by_hand(inputs: Inputs) -> Callable[[], Outputs]:
    batch, channels, height, width = inputs.case.shape
    kh, kw = inputs.kernel.shape[-2:]
    pixels = height * width
    kernel = inputs.kernel.detach()
    m = reference.multiplicity(width, kernel)
    constant = 0.5 * channels * pixels * float(np.log(2 * np.pi))

    def step() -> Outputs:
        K = reference.transfer_function(kernel, height, width)
        s = K.real.square() + K.imag.square()
        denominator = s + _NSR
        weight = s / denominator.square() + _NLL_EPS
        e = _error(inputs)
        E = torch.fft.rfft2(e, norm="ortho")
        power = torch.view_as_real(E).square().sum(-1).sum(1, keepdim=True)  # (N, 1, H, W//2+1)
        Q, log_determinant = (m * weight * power).sum(), channels * (m * weight.log()).sum()
        outputs = {RESULT: (0.5 * Q - 0.5 * log_determinant) / batch + constant}
        if inputs.case.backward:
            grad = torch.fft.irfft2(E.mul_(weight / batch), s=inputs.size, norm="ortho")
            outputs[INPUT_GRAD] = grad.to(inputs.input.dtype)
        if inputs.case.kernel_grad:
            weight_grad = (power - channels / weight) / (2 * batch)
            s_grad = weight_grad * (_NSR - s) / denominator.pow(3)
            padded = torch.fft.irfft2(K.mul_(2 * s_grad), s=inputs.size, norm="forward")
            outputs[KERNEL_GRAD] = padded.roll((kh // 2, kw // 2), (-2, -1))[..., :kh, :kw]
        return outputs

    return step


def _focal_frequency_loss_by_hand(inputs: Inputs) -> Callable[[], Outputs]:
    m = reference.multiplicity(inputs.size[1], inputs.kernel)

    def step() -> Outputs:
        E = torch.fft.rfft2(_error(inputs), norm="ortho")
        distance = torch.view_as_real(E).square().sum(-1)
        matrix = distance.sqrt()
        matrix = matrix.div_(matrix.amax((-2, -1), keepdim=True)).nan_to_num_(nan=0.0).div_(inputs.case.pixels)
        outputs = {RESULT: _dot(distance.mul_(m), matrix)}
        if inputs.case.backward:
            grad = torch.fft.irfft2(E.mul_(matrix.mul_(2)), s=inputs.size, norm="ortho")
            outputs[INPUT_GRAD] = grad.to(inputs.input.dtype)
        return outputs

    return step


def _wiener_filter_by_hand(inputs: Inputs) -> Callable[[], Outputs]:
    kernel = inputs.kernel.detach()
    planes = kernel[None, None] if kernel.dim() == 2 else kernel
    return _spectral_filter_by_hand(inputs, reference.wiener_inverse(planes, *inputs.size, _NSR))


def _blur_by_hand(inputs: Inputs) -> Callable[[], Outputs]:
    return _spectral_filter_by_hand(
        inputs, reference.transfer_function(inputs.kernel.detach()[None, None], *inputs.size)
    )


def _spectral_filter_by_hand(inputs: Inputs, transfer: Tensor) -> Callable[[], Outputs]:
    adjoint = transfer.conj().resolve_conj()

    dtype, compute = inputs.input.dtype, reference.compute_dtype(inputs.input.dtype)

    def apply(images: Tensor, transfer: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(images.to(compute)).mul_(transfer), s=inputs.size).to(dtype)

    def step() -> Outputs:
        outputs = {RESULT: apply(inputs.input.detach(), transfer)}
        if inputs.case.backward:
            outputs[INPUT_GRAD] = apply(inputs.result_grad, adjoint)
        return outputs

    return step


_BY_HAND: dict[str, Callable[[Inputs], Callable[[], Outputs]]] = {
    "wiener_loss": _wiener_loss_by_hand,
    "wiener_nll": _wiener_nll_by_hand,
    "spectral_mse": _spectral_mse_by_hand,
    "focal_frequency_loss": _focal_frequency_loss_by_hand,
    "wiener_filter": _wiener_filter_by_hand,
    "blur": _blur_by_hand,
}
