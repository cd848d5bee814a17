"""The ops ``torch.ops.blurfft.*``: schema, implementation, fake, autograd, vmap and autocast of each.

They are what a compiled or exported graph holds. Arguments are taken as given: the public functions validate them and
pass kernel, nsr, eps, weight and transfer contiguous in the compute dtype (float64 for float64 images, else float32;
complex for a complex transfer). A half spectrum is laid out as by ``torch.fft.rfft2``, (H, W//2+1); m is the
multiplicity of its columns and F the orthonormal DFT. Results never alias an argument.

The set is closed under differentiation, hence derivatives of any order:

- ``rfft2`` and ``irfft2`` are each other's adjoint up to m, ``otf`` and ``otf_backward`` exactly;
- y = ``spectral_filter(x, T)``: dx = ``spectral_filter(dy, conj T)``, dT = ``cross_spectrum(x, dy)``;
- V the cotangent of ``cross_spectrum(a, b)``: da = ``spectral_filter(b, conj V)``, db = ``spectral_filter(a, V)``;
- the losses return their first-order gradients; beyond that their derivative is composed of the ops above.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function

from . import _dispatch, _distributed
from .reference import compute_dtype, difference, focal_weight, multiplicity

_library = torch.library.Library("blurfft", "DEF")
_functorch = torch._C._functorch

_SCHEMAS = {
    # (..., H, W) -> (..., H, W//2+1)
    "rfft2": "(Tensor input, str norm) -> Tensor",
    # (..., H, W//2+1) -> (..., H, width)
    "irfft2": "(Tensor input, SymInt width, str norm) -> Tensor",
    # K of a kernel (A, B, kh, kw) centred at floor(k/2) -> (A, B, height, width//2+1)
    "otf": "(Tensor kernel, SymInt height, SymInt width) -> Tensor",
    # Its adjoint: Re of the sum over the half spectrum, without m -> (A, B, kh, kw)
    "otf_backward": "(Tensor grad, SymInt width, SymInt kh, SymInt kw) -> Tensor",
    # F^-1[T F input], transfer T (N|1, C|1, H, W//2+1) real or complex -> like input (N, C, H, W)
    "spectral_filter": "(Tensor input, Tensor transfer) -> Tensor",
    # m conj(F a) F b, or its real part, summed over the samples if n = 1 (else n = N) and over the channels if c = 1
    # (else c = C) -> (n, c, H, W//2+1)
    "cross_spectrum": "(Tensor a, Tensor b, SymInt n, SymInt c, bool complex) -> Tensor",
    # Q_n = sum m weight |F(input - target)|^2 over sample n. loss: sum Q_n / count, or Q_n / count (N,), in the compute
    # dtype. Gradients of sum(loss) by input and weight, empty (0,) where not asked for.
    "spectral_loss": "(Tensor input, Tensor target, Tensor weight, SymInt count, bool per_sample, bool input_grad, "
    "bool weight_grad) -> (Tensor loss, Tensor grad, Tensor weight_grad)",
    # The same with weight = s / (s + nsr)^2 + eps, s = |otf(kernel)|^2; nll: the Gaussian negative log-likelihood of
    # target, Q_n / 2 - sum m log(weight) / 2 + C H W log(2 pi) / 2. kernel (N|1, C|1, kh, kw), nsr and eps (N|1, C|1).
    "wiener_loss": "(Tensor input, Tensor target, Tensor kernel, Tensor nsr, Tensor eps, SymInt count, bool nll, "
    "bool per_sample, bool input_grad, bool kernel_grad) -> (Tensor loss, Tensor grad, Tensor kernel_grad, "
    "Tensor nsr_grad, Tensor eps_grad)",
    # The same with the sum of (input - kernel * target)^2 over a sample, a circular convolution, for Q_n.
    # kernel (N|1, C|1, kh, kw).
    "blur_mse": "(Tensor input, Tensor target, Tensor kernel, SymInt count, bool per_sample, bool input_grad, "
    "bool kernel_grad) -> (Tensor loss, Tensor grad, Tensor kernel_grad)",
    # loss_weight times spectral_loss with weight = |F(input - target)|^alpha, or log1p of that, over its maximum in the
    # plane, within [0, 1]: a constant in the gradient.
    "focal_frequency_loss": "(Tensor input, Tensor target, float alpha, bool log_matrix, float loss_weight, "
    "SymInt count, bool per_sample, bool input_grad) -> (Tensor loss, Tensor grad)",
}
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))

rfft2 = torch.ops.blurfft.rfft2.default
irfft2 = torch.ops.blurfft.irfft2.default
otf = torch.ops.blurfft.otf.default
otf_backward = torch.ops.blurfft.otf_backward.default
spectral_filter = torch.ops.blurfft.spectral_filter.default
cross_spectrum = torch.ops.blurfft.cross_spectrum.default
spectral_loss = torch.ops.blurfft.spectral_loss.default
wiener_loss = torch.ops.blurfft.wiener_loss.default
blur_mse = torch.ops.blurfft.blur_mse.default
focal_frequency_loss = torch.ops.blurfft.focal_frequency_loss.default


# The backend is chosen here, at run time. A graph can hold a symbolic integer but not a symbolic float, hence the ops'
# `norm` and `count` for the backends' `scale`.


def _rfft2(input: Tensor, norm: str) -> Tensor:
    height, width = input.shape[-2:]
    return _dispatch.select("rfft2", input, height, width)(input, _scale(norm, "backward", height * width))


def _irfft2(input: Tensor, width: int, norm: str) -> Tensor:
    height = input.shape[-2]
    return _dispatch.select("irfft2", input, height, width)(input, width, _scale(norm, "forward", height * width))


def _scale(norm: str, unscaled: str, n: int) -> float:
    return 1.0 if norm == unscaled else n**-0.5 if norm == "ortho" else 1.0 / n


def _otf(kernel: Tensor, height: int, width: int) -> Tensor:
    return _dispatch.select("otf", kernel, height, width)(kernel, height, width)


def _otf_backward(grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
    return _dispatch.select("otf_backward", grad, grad.shape[-2], width)(grad, width, kh, kw)


def _spectral_filter(input: Tensor, transfer: Tensor) -> Tensor:
    _, _, height, width = input.shape
    return _dispatch.select("spectral_filter", input, height, width)(input, transfer)


def _cross_spectrum(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
    n, c, height, width = _cross_spectrum_shape(a, n, c)
    return _dispatch.select("cross_spectrum", a, height, width)(a, b, n, c, complex)


def _cross_spectrum_shape(a: Tensor, n: int, c: int) -> tuple[int, int, int, int]:
    samples, channels, height, width = a.shape
    # Of a sharded batch this is one shard, and n still the whole.
    return samples if n != 1 else 1, channels if c != 1 else 1, height, width


def _per(count: int) -> float:
    # The mean over nothing is nan, as in F.mse_loss.
    return 1.0 / count if count else math.nan


def _spectral_loss(input: Tensor, target: Tensor, weight: Tensor, count: int, *flags: bool) -> tuple[Tensor, ...]:
    _, _, height, width = input.shape
    return _dispatch.select("spectral_loss", input, height, width)(input, target, weight, _per(count), *flags)


def _wiener_loss(
    input: Tensor, target: Tensor, kernel: Tensor, nsr: Tensor, eps: Tensor, count: int, *flags: bool
) -> tuple[Tensor, ...]:
    _, _, height, width = input.shape
    backend = _dispatch.select("wiener_loss", input, height, width)
    return backend(input, target, kernel, nsr, eps, _per(count), *flags)


def _blur_mse(input: Tensor, target: Tensor, kernel: Tensor, count: int, *flags: bool) -> tuple[Tensor, ...]:
    _, _, height, width = input.shape
    return _dispatch.select("blur_mse", input, height, width)(input, target, kernel, _per(count), *flags)


def _focal_frequency_loss(
    input: Tensor, target: Tensor, alpha: float, log_matrix: bool, loss_weight: float, count: int, *flags: bool
) -> tuple[Tensor, ...]:
    _, _, height, width = input.shape
    backend = _dispatch.select("focal_frequency_loss", input, height, width)
    return backend(input, target, alpha, log_matrix, loss_weight * _per(count), *flags)


_IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "rfft2": _rfft2,
    "irfft2": _irfft2,
    "otf": _otf,
    "otf_backward": _otf_backward,
    "spectral_filter": _spectral_filter,
    "cross_spectrum": _cross_spectrum,
    "spectral_loss": _spectral_loss,
    "wiener_loss": _wiener_loss,
    "blur_mse": _blur_mse,
    "focal_frequency_loss": _focal_frequency_loss,
}
for _name, _impl in _IMPLEMENTATIONS.items():
    _library.impl(_name, _impl, "CompositeExplicitAutograd")


def _fake(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return torch.library.register_fake(f"blurfft::{op}", lib=_library)


@_fake("rfft2")
def _(input: Tensor, norm: str) -> Tensor:
    dtype = compute_dtype(input.dtype).to_complex()
    return input.new_empty((*input.shape[:-1], input.shape[-1] // 2 + 1), dtype=dtype)


@_fake("irfft2")
def _(input: Tensor, width: int, norm: str) -> Tensor:
    return input.new_empty((*input.shape[:-1], width), dtype=input.dtype.to_real())


@_fake("otf")
def _(kernel: Tensor, height: int, width: int) -> Tensor:
    return kernel.new_empty((*kernel.shape[:-2], height, width // 2 + 1), dtype=kernel.dtype.to_complex())


@_fake("otf_backward")
def _(grad: Tensor, width: int, kh: int, kw: int) -> Tensor:
    return grad.new_empty((*grad.shape[:-2], kh, kw), dtype=grad.dtype.to_real())


@_fake("spectral_filter")
def _(input: Tensor, transfer: Tensor) -> Tensor:
    return torch.empty_like(input)


@_fake("cross_spectrum")
def _(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> Tensor:
    n, c, height, width = _cross_spectrum_shape(a, n, c)
    dtype = compute_dtype(a.dtype)
    return a.new_empty((n, c, height, width // 2 + 1), dtype=dtype.to_complex() if complex else dtype)


def _fake_loss(input: Tensor, per_sample: bool, input_grad: bool) -> tuple[Tensor, Tensor]:
    loss = input.new_empty(input.shape[:1] if per_sample else (), dtype=compute_dtype(input.dtype))
    return loss, torch.empty_like(input) if input_grad else input.new_empty(0)


@_fake("spectral_loss")
@_fake("blur_mse")
def _(
    input: Tensor,
    target: Tensor,
    parameter: Tensor,
    count: int,
    per_sample: bool,
    input_grad: bool,
    parameter_grad: bool,
) -> tuple[Tensor, ...]:
    grad = parameter.new_empty(parameter.shape if parameter_grad else 0)
    return (*_fake_loss(input, per_sample, input_grad), grad)


@_fake("wiener_loss")
def _(
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: Tensor,
    eps: Tensor,
    count: int,
    nll: bool,
    per_sample: bool,
    input_grad: bool,
    kernel_grad: bool,
) -> tuple[Tensor, ...]:
    grads = (t.new_empty(t.shape if kernel_grad else 0) for t in (kernel, nsr, eps))
    return (*_fake_loss(input, per_sample, input_grad), *grads)


@_fake("focal_frequency_loss")
def _(
    input: Tensor,
    target: Tensor,
    alpha: float,
    log_matrix: bool,
    loss_weight: float,
    count: int,
    per_sample: bool,
    input_grad: bool,
) -> tuple[Tensor, ...]:
    return _fake_loss(input, per_sample, input_grad)


# The keys that are left below autograd for a tensor with nothing but a device.
_PLAIN = frozenset(
    torch._C.DispatchKeySet(key).raw_repr() for key in (torch._C.DispatchKey.CPU, torch._C.DispatchKey.CUDA)
)


def _autograd(op: Any, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Registers the derivative of ``op``.

    ``torch.library.register_autograd`` would be the way, but what it registers refuses to run under
    ``torch.func.grad``. A single-level function is how torch itself differentiates an ``autograd.Function`` there.
    """
    impl = _IMPLEMENTATIONS[op._opname]
    below_autograd = torch._C._after_autograd_keyset

    def apply_below(keyset: Any, args: tuple[Any, ...]) -> Any:
        keyset = keyset & below_autograd
        with torch._C._AutoDispatchBelowAutograd():
            if keyset.raw_repr() in _PLAIN:  # a second trip through the dispatcher would end there too
                return impl(*args)
            _distributed.register_shardings()
            return op.redispatch(keyset, *args)

    def prepare(ctx: Any, args: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.backend = _dispatch.requested()
        setup(ctx, args, output)

    def differentiate(ctx: Any, grad: Tensor | None, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(needs)
        if ctx.backend == _dispatch.requested():
            return backward(ctx, grad, needs)
        # It may run in another thread, or after the `with use_backend(...)` of the forward pass has ended.
        with _dispatch.as_requested(ctx.backend):
            return backward(ctx, grad, needs)

    class Derivative(torch.autograd.function._SingleLevelFunction):
        apply: Callable[..., Any]

        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            if torch._C._are_functorch_transforms_active():
                # Autograd has switched gradients off for this level; the levels below still want them.
                with torch.enable_grad():
                    output = apply_below(keyset, args)
            else:
                output = apply_below(keyset, args)
            prepare(ctx, args, output)
            if isinstance(output, tuple):
                ctx.mark_non_differentiable(*output[1:])
            return output

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
            return (None, *differentiate(ctx, grad, ctx.needs_input_grad[1:]))

    class DirectDerivative(torch.autograd.function._SingleLevelFunction):
        apply: Callable[..., Any]

        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            output = impl(*args)
            prepare(ctx, args, output)
            return output[0] if isinstance(output, tuple) else output

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None) -> Any:
            return differentiate(ctx, grad, ctx.needs_input_grad)

    for derivative in (Derivative, DirectDerivative):
        derivative.__name__ = derivative.__qualname__ = f"{op._opname}_backward"

    def autograd_kernel(keyset: Any, *args: Any) -> Any:
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*args)):
            return apply_below(keyset, args)
        if torch._C._are_functorch_transforms_active():
            with enable_single_level_autograd_function():
                return Derivative.apply(keyset, *args)
        return Derivative.apply(keyset, *args)

    _library.impl(op._opname, autograd_kernel, "Autograd", with_keyset=True)
    _DIRECT[op._opname] = impl, DirectDerivative.apply


# By the op's name: its implementation, and that with a derivative.
_DIRECT: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
_PLAIN_TYPES = frozenset((Tensor, torch.nn.Parameter, bool, int, float, str))
# With more than these keys in force a mode, a transform or a tracer wants to see the call.
_UNUSUAL = ~functools.reduce(
    operator.or_,
    (
        torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)).raw_repr()
        for key in ("BackendSelect", "ADInplaceOrView", "AutocastCPU", "AutocastCUDA")
    ),
)
_included = torch._C._dispatch_tls_local_include_set
_is_excluded = torch._C._dispatch_tls_is_dispatch_key_excluded
_AUTOGRAD_CPU = torch._C.DispatchKey.AutogradCPU


def value(op: str, *args: Any) -> Tensor:
    """The result of an op, of a loss without its gradients; what the public functions call.

    Where nobody but autograd would see the call pass through the dispatcher it goes past it: the way through its
    Python kernels costs several times what an op on a small image does. The arguments are of matching dtypes, so that
    autocast has nothing to do.
    """
    if (
        not torch.compiler.is_compiling()
        and _PLAIN_TYPES.issuperset(map(type, args))
        and (args[0].is_cpu or args[0].is_cuda)  # not meta
        and not (_included().raw_repr() & _UNUSUAL)
        and not _is_excluded(_AUTOGRAD_CPU)
        and torch._C._get_tracing_state() is None
    ):
        impl, differentiable = _DIRECT[op]
        if torch.is_grad_enabled() and (args[0].requires_grad or torch._C._any_requires_grad(*args)):
            return differentiable(*args)
        result = impl(*args)
    else:
        result = getattr(torch.ops.blurfft, op).default(*args)
    return result[0] if isinstance(result, tuple) else result


_ADJOINT_NORM = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _rfft2_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, norm = inputs
    ctx.width, ctx.dtype, ctx.norm = input.shape[-1], input.dtype, _ADJOINT_NORM[norm]


def _rfft2_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input_grad = irfft2(grad / multiplicity(ctx.width, grad), ctx.width, ctx.norm)
    return input_grad.to(ctx.dtype), None


def _irfft2_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.width, norm = inputs
    ctx.norm = _ADJOINT_NORM[norm]


def _irfft2_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return multiplicity(ctx.width, grad) * rfft2(grad, ctx.norm), None, None


def _otf_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    kernel, _, ctx.width = inputs
    ctx.size = kernel.shape[-2:]


def _otf_vjp(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return otf_backward(grad, ctx.width, *ctx.size), None, None


def _otf_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, ctx.width, _, _ = inputs
    ctx.height = grad.shape[-2]


def _otf_backward_vjp(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return otf(grad, ctx.height, ctx.width), None, None, None


def _spectral_filter_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _spectral_filter_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input, transfer = ctx.saved_tensors
    input_grad = transfer_grad = None
    if needs[0]:
        input_grad = spectral_filter(grad, transfer.conj())
    if needs[1]:
        transfer_grad = cross_spectrum(input, grad, transfer.shape[0], transfer.shape[1], transfer.is_complex())
    return input_grad, transfer_grad


def _cross_spectrum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _cross_spectrum_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    a_grad = spectral_filter(b, grad.conj()) if needs[0] else None
    b_grad = spectral_filter(a, grad) if needs[1] else None
    return a_grad, b_grad, None, None, None


def _is_one(grad: Tensor) -> bool:
    """Whether the cotangent of a loss is the plain number 1, asked only where the answer costs nothing.

    That is the case in eager ``loss.backward()`` on the CPU. On a GPU looking at it would synchronise, and a tensor
    of a tracer, a subclass or vmap has no value to look at.
    """
    return (
        type(grad) is Tensor
        and grad.is_cpu
        and grad.dim() == 0
        and torch._C._len_torch_dispatch_stack() == 0
        and not _functorch.is_functorch_wrapped_tensor(grad)
        and not _functorch.is_legacy_batchedtensor(grad)  # is_grads_batched
        and grad.item() == 1
    )


def _saved_serve(ctx: Any, needs: tuple[bool, ...], input: Tensor, *parameters: Tensor) -> bool:
    """Whether the gradients of the forward pass are those that a loss's backward pass wants."""
    # They have no graph.
    if torch.is_grad_enabled() or ((needs[0] or needs[1]) and not ctx.input_grad):
        return False
    if True not in needs[2:]:
        return True
    # That of a shared parameter is the sum over all samples, which now have each a cotangent of its own.
    return ctx.parameter_grad and not (
        ctx.per_sample
        and any(need and t.shape[0] != input.shape[0] for t, need in zip(parameters, needs[2:], strict=False))
    )


def _scaled(grad: Tensor, saved: Tensor) -> Tensor:
    """The saved gradient of a loss (), or of losses (N,), times their cotangent."""
    if grad.dim() == 0:
        return grad * saved
    return (grad.view(-1, *(1,) * (saved.dim() - 1)) * saved).to(saved.dtype)


def _images_backward(needs: tuple[bool, ...], input_grad: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Gradients by input and target; the second is the negative of the first."""
    if input_grad is None:
        return None, None
    return (
        input_grad if needs[0] else None,
        -input_grad if needs[1] else None,
    )


def _quadratic_vjp(
    grad: Tensor, e: Tensor, weight: Tensor, dtype: torch.dtype, images: bool, weights: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum_n grad_n * Q_n by input and by weight, differentiable."""
    ge = grad.view(-1, 1, 1, 1) * e
    return (
        (2 * spectral_filter(ge, weight)).to(dtype) if images else None,
        cross_spectrum(ge, e, weight.shape[0], weight.shape[1], False) if weights else None,
    )


def _spectral_loss_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, weight, ctx.count, ctx.per_sample, ctx.input_grad, ctx.parameter_grad = inputs
    ctx.save_for_backward(input, target, weight, *output[1:])


def _spectral_loss_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input, target, weight, saved, saved_weight = ctx.saved_tensors
    images = needs[0] or needs[1]
    weights = needs[2]
    if _saved_serve(ctx, needs, input, weight):
        one = _is_one(grad)
        input_grad = (saved if one else _scaled(grad, saved)) if images else None
        weight_grad = (saved_weight if one else _scaled(grad, saved_weight)) if weights else None
    else:
        e = difference(input, target)
        input_grad, weight_grad = _quadratic_vjp(grad / ctx.count, e, weight, input.dtype, images, weights)
    return (*_images_backward(needs, input_grad), weight_grad, None, None, None, None)


def _wiener_loss_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.count, ctx.nll, ctx.per_sample, ctx.input_grad, ctx.parameter_grad = inputs[5:]
    ctx.save_for_backward(*inputs[:5], *(output[1:] if ctx.parameter_grad else output[1:2]))


def _wiener_loss_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input, target, kernel, nsr, eps, saved, *saved_parameters = ctx.saved_tensors
    images = needs[0] or needs[1]
    parameters = needs[2] or needs[3] or needs[4]
    input_grad: Tensor | None
    parameter_grads: tuple[Tensor | None, ...] = (None, None, None)
    if _saved_serve(ctx, needs, input, kernel, nsr, eps):
        one = _is_one(grad)
        input_grad = (saved if one else _scaled(grad, saved)) if images else None
        if parameters:
            parameter_grads = tuple(
                (t if one else _scaled(grad, t)) if need else None
                for t, need in zip(saved_parameters, needs[2:5], strict=True)
            )
    else:
        input_grad, parameter_grads = _wiener_loss_vjp(
            grad, input, target, kernel, nsr, eps, ctx.count, ctx.nll, images, parameters
        )
    return (*_images_backward(needs, input_grad), *parameter_grads, None, None, None, None, None)


def _wiener_loss_vjp(
    grad: Tensor,
    input: Tensor,
    target: Tensor,
    kernel: Tensor,
    nsr: Tensor,
    eps: Tensor,
    count: int,
    nll: bool,
    images: bool,
    parameters: bool,
) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
    samples, channels, height, width = input.shape
    e = difference(input, target)
    K = otf(kernel, height, width)
    s = K.real.square() + K.imag.square()
    C = nsr[:, :, None, None]
    weight = s / (s + C).square() + eps[:, :, None, None]  # (N|1, C|1, H, W//2+1)
    grad = grad / (2 * count if nll else count)

    input_grad, dweight = _quadratic_vjp(grad, e, weight, input.dtype, images, parameters)
    if dweight is None:
        return input_grad, (None, None, None)
    if nll:
        # Each plane that shares an entry of the spectrum contributes its own log-determinant.
        planes = grad.view(-1, 1, 1, 1).expand(samples, channels, 1, 1).sum_to_size(*weight.shape[:2], 1, 1)
        dweight = dweight - planes * multiplicity(width, e) / weight
    cubed = (s + C) ** 3
    ds = dweight * (C - s) / cubed
    dC = dweight * (-2 * s / cubed)
    return input_grad, (
        otf_backward((2 * ds).sum_to_size(K.shape) * K, width, *kernel.shape[-2:]),
        dC.sum((2, 3)).sum_to_size(nsr.shape),
        dweight.sum((2, 3)).sum_to_size(eps.shape),
    )


def _blur_mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, kernel, ctx.count, ctx.per_sample, ctx.input_grad, ctx.parameter_grad = inputs
    ctx.save_for_backward(input, target, kernel, *output[1:])


def _blur_mse_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input, target, kernel, saved, saved_kernel = ctx.saved_tensors
    images = needs[0] or needs[1]
    residual_grad: Tensor | None
    target_grad = kernel_grad = None
    if serve := _saved_serve(ctx, needs, input, kernel):
        one = _is_one(grad)
        residual_grad = (saved if one else _scaled(grad, saved)) if images else None
        kernel_grad = (saved_kernel if one else _scaled(grad, saved_kernel)) if needs[2] else None
    if needs[1] or not serve:
        dtype, size = compute_dtype(input.dtype), input.shape[2:]
        K = otf(kernel, *size)
        if not serve:
            residual = input.to(dtype) - spectral_filter(target.to(dtype), K)
            residual_grad = (2 * grad / ctx.count).view(-1, 1, 1, 1) * residual
            if needs[2]:
                dK = cross_spectrum(target.to(dtype), -residual_grad, *kernel.shape[:2], True)
                kernel_grad = otf_backward(dK, size[1], *kernel.shape[2:])
        assert residual_grad is not None
        if needs[1]:
            target_grad = -spectral_filter(residual_grad, K.conj()).to(input.dtype)
    input_grad = residual_grad.to(input.dtype) if needs[0] and residual_grad is not None else None
    return input_grad, target_grad, kernel_grad, None, None, None, None


def _focal_frequency_loss_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, ctx.alpha, ctx.log_matrix, ctx.loss_weight, ctx.count, _, ctx.input_grad = inputs
    _, grad = output
    ctx.save_for_backward(input, target, grad)


def _focal_frequency_loss_backward(ctx: Any, grad: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    input, target, saved = ctx.saved_tensors
    if _saved_serve(ctx, needs, input):
        input_grad = saved if _is_one(grad) else _scaled(grad, saved)
    else:
        e = difference(input, target)
        with torch.no_grad():
            E = rfft2(e, "ortho")
            weight = focal_weight(E.real.square() + E.imag.square(), ctx.alpha, ctx.log_matrix)
        input_grad, _ = _quadratic_vjp(grad * (ctx.loss_weight / ctx.count), e, weight, input.dtype, True, False)
    return (*_images_backward(needs, input_grad), *(None,) * 6)


_autograd(rfft2, _rfft2_setup, _rfft2_backward)
_autograd(irfft2, _irfft2_setup, _irfft2_backward)
_autograd(otf, _otf_setup, _otf_vjp)
_autograd(otf_backward, _otf_backward_setup, _otf_backward_vjp)
_autograd(spectral_filter, _spectral_filter_setup, _spectral_filter_backward)
_autograd(cross_spectrum, _cross_spectrum_setup, _cross_spectrum_backward)
_autograd(spectral_loss, _spectral_loss_setup, _spectral_loss_backward)
_autograd(wiener_loss, _wiener_loss_setup, _wiener_loss_backward)
_autograd(blur_mse, _blur_mse_setup, _blur_mse_backward)
_autograd(focal_frequency_loss, _focal_frequency_loss_setup, _focal_frequency_loss_backward)


# vmap folds the mapped dimension into the batch.

_Dims = tuple[int | None, ...]


def _fold(t: Tensor, dim: int | None, size: int) -> Tensor:
    """(B, N, ...) with B at ``dim`` (None: not mapped) -> (B * N, ...)."""
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.flatten(0, 1)


def _fold_shared(t: Tensor, dim: int | None, size: int, samples: int, separate: bool) -> Tensor:
    """Folds a tensor whose first dimension is N or 1; one that all share stays as it is, unless wanted ``separate``."""
    if dim is None and t.shape[0] == 1 and not separate:
        return t
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.expand(size, samples, *t.shape[2:]).flatten(0, 1).contiguous()


def _unfold(t: Tensor, size: int, samples: int, keep: bool = True) -> Tensor:
    """(B * N, ...) -> (B, N, ...), or summed over N -> (B, 1, ...)."""
    t = t.unflatten(0, (size, samples))
    return t if keep else t.sum(1, keepdim=True)


def _extent(t: Tensor, dim: int | None) -> int:
    """The first dimension of one example of ``t``."""
    return t.shape[0] if dim is None or dim > 0 else t.shape[1]


def _transform_vmap(op: Callable[..., Tensor]) -> Callable[..., Any]:
    """For an op that takes any leading dimensions."""

    def rule(info: Any, in_dims: tuple[int], tensor: Tensor, *args: Any) -> tuple[Tensor, int]:
        return op(tensor.movedim(in_dims[0], 0), *args), 0

    return rule


def _otf_vmap(op: Callable[..., Tensor]) -> Callable[..., Any]:
    def rule(info: Any, in_dims: _Dims, tensor: Tensor, *args: Any) -> tuple[Tensor, int]:
        samples = _extent(tensor, in_dims[0])
        return _unfold(op(_fold(tensor, in_dims[0], info.batch_size), *args), info.batch_size, samples), 0

    return rule


def _spectral_filter_vmap(info: Any, in_dims: _Dims, input: Tensor, transfer: Tensor) -> tuple[Tensor, int]:
    size, samples = info.batch_size, _extent(input, in_dims[0])
    out = spectral_filter(
        _fold(input, in_dims[0], size), _fold_shared(transfer, in_dims[1], size, samples, separate=False)
    )
    return _unfold(out, size, samples), 0


def _cross_spectrum_vmap(
    info: Any, in_dims: _Dims, a: Tensor, b: Tensor, n: int, c: int, complex: bool
) -> tuple[Tensor, int]:
    size, samples = info.batch_size, _extent(a, in_dims[0])
    out = cross_spectrum(_fold(a, in_dims[0], size), _fold(b, in_dims[1], size), size * samples, c, complex)
    return _unfold(out, size, samples, keep=n == samples), 0


def _focal_frequency_loss_vmap(info: Any, in_dims: _Dims, *args: Any) -> tuple[tuple[Tensor, ...], _Dims]:
    size, samples = info.batch_size, _extent(args[0], in_dims[0])
    input, target, *options, per_sample, input_grad = args
    folded = (_fold(t, dim, size) for t, dim in zip((input, target), in_dims, strict=False))
    loss, grad = focal_frequency_loss(*folded, *options, True, input_grad)
    loss = _unfold(loss, size, samples)
    return (
        (loss if per_sample else loss.sum(1), _unfold(grad, size, samples) if input_grad else grad),
        (0, 0 if input_grad else None),
    )


def _map_loss(op: Callable[..., tuple[Tensor, ...]], count: int) -> Callable[..., Any]:
    """For a loss of input, target and ``count`` parameters whose last three flags are per_sample and the gradients'."""

    def rule(info: Any, in_dims: _Dims, *args: Any) -> tuple[tuple[Tensor, ...], _Dims]:
        size, samples = info.batch_size, _extent(args[0], in_dims[0])
        parameters = args[2 : 2 + count]
        *options, per_sample, input_grad, parameter_grad = args[2 + count :]
        loss, grad, *parameter_grads = op(
            _fold(args[0], in_dims[0], size),
            _fold(args[1], in_dims[1], size),
            *(
                _fold_shared(t, dim, size, samples, separate=parameter_grad)
                for t, dim in zip(parameters, in_dims[2:], strict=False)
            ),
            *options,
            True,
            input_grad,
            parameter_grad,
        )
        loss = _unfold(loss, size, samples)
        if input_grad:
            grad = _unfold(grad, size, samples)
        if parameter_grad:
            parameter_grads = [
                _unfold(g, size, samples, keep=_extent(t, dim) == samples)
                for g, t, dim in zip(parameter_grads, parameters, in_dims[2:], strict=False)
            ]
        return (
            (loss if per_sample else loss.sum(1), grad, *parameter_grads),
            (0, 0 if input_grad else None, *(0 if parameter_grad else None for _ in parameters)),
        )

    return rule


_rules: dict[str, Callable[..., Any]] = {
    "rfft2": _transform_vmap(rfft2),
    "irfft2": _transform_vmap(irfft2),
    "otf": _otf_vmap(otf),
    "otf_backward": _otf_vmap(otf_backward),
    "spectral_filter": _spectral_filter_vmap,
    "cross_spectrum": _cross_spectrum_vmap,
    "spectral_loss": _map_loss(spectral_loss, 1),
    "wiener_loss": _map_loss(wiener_loss, 3),
    "blur_mse": _map_loss(blur_mse, 1),
    "focal_frequency_loss": _focal_frequency_loss_vmap,
}
for _op, _rule in _rules.items():
    torch.library.register_vmap(f"blurfft::{_op}", _rule, lib=_library)


# Under autocast mixed dtypes are brought together and no more: the arithmetic is float32 at least in any case.


def _unified(*tensors: Tensor, images: int) -> list[Tensor]:
    """The first ``images`` tensors in the widest of their dtypes, the others in the compute dtype of that."""
    dtype = tensors[0].dtype
    for t in tensors[1:images]:
        dtype = torch.promote_types(dtype, t.dtype)
    compute = compute_dtype(dtype)
    return [
        *(t.to(dtype) for t in tensors[:images]),
        *(t.to(compute.to_complex() if t.is_complex() else compute) for t in tensors[images:]),
    ]


def _autocast(op: Callable[..., Any], images: int, tensors: int, key: str) -> Callable[..., Any]:
    exclude = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(_: Any, *args: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(exclude):
            return op(*_unified(*args[:tensors], images=images), *args[tensors:])

    return kernel


for _key in ("AutocastCPU", "AutocastCUDA"):
    for _op, _overload, _images, _tensors in (
        ("spectral_filter", spectral_filter, 1, 2),
        ("cross_spectrum", cross_spectrum, 2, 2),
        ("spectral_loss", spectral_loss, 2, 3),
        ("wiener_loss", wiener_loss, 2, 5),
        ("blur_mse", blur_mse, 2, 3),
        ("focal_frequency_loss", focal_frequency_loss, 2, 2),
    ):
        _library.impl(_op, _autocast(_overload, _images, _tensors, _key), _key, with_keyset=True)
