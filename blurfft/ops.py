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

In forward mode (``torch.func.jvp``, ``jacfwd``, ``hessian``, dual numbers) an op is that of the ``reference`` backend,
made of torch's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, is_grad_enabled
from torch._C._dynamo.guards import TensorGuards
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from . import _dispatch, _distributed
from ._math import (
    PrecisionSpectrum,
    as_planes,
    compute_dtype,
    difference,
    focal_weight,
    gradient_dtype,
    multiplicity,
    power,
)

_library = torch.library.Library("blurfft", "DEF")

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
    # dtype. Gradients of sum(loss) by input (of float16 images in float32) and weight, empty (0,) where not asked for.
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
# Every op takes its tensors first.
_TENSORS = {_name: _schema.partition("->")[0].count("Tensor ") for _name, _schema in _SCHEMAS.items()}
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


# What serves a call, chosen here, at run time: the backend's function and its arguments. A graph can hold a symbolic
# integer but not a symbolic float, hence the ops' `norm` and `count` for the backends' `scale`.

_Resolved = tuple[Callable[..., Any], tuple[Any, ...]]


def _resolve_rfft2(input: Tensor, norm: str) -> _Resolved:
    height, width = input.shape[-2:]
    scale = _scale(norm, "backward", height * width)
    return _dispatch.select("rfft2", input, height, width), (input, scale)


def _resolve_irfft2(input: Tensor, width: int, norm: str) -> _Resolved:
    height = input.shape[-2]
    scale = _scale(norm, "forward", height * width)
    return _dispatch.select("irfft2", input, height, width), (input, width, scale)


def _scale(norm: str, unscaled: str, n: int) -> float:
    return 1.0 if norm == unscaled else n**-0.5 if norm == "ortho" else 1.0 / n


def _resolve_otf(kernel: Tensor, height: int, width: int) -> _Resolved:
    return _dispatch.select("otf", kernel, height, width), (kernel, height, width)


def _resolve_otf_backward(grad: Tensor, width: int, kh: int, kw: int) -> _Resolved:
    return _dispatch.select("otf_backward", grad, grad.shape[-2], width), (grad, width, kh, kw)


def _resolve_spectral_filter(input: Tensor, transfer: Tensor) -> _Resolved:
    return _dispatch.select("spectral_filter", input, *input.shape[2:]), (input, transfer)


def _resolve_cross_spectrum(a: Tensor, b: Tensor, n: int, c: int, complex: bool) -> _Resolved:
    n, c, height, width = _cross_spectrum_shape(a, n, c)
    return _dispatch.select("cross_spectrum", a, height, width), (a, b, n, c, complex)


def _cross_spectrum_shape(a: Tensor, n: int, c: int) -> tuple[int, int, int, int]:
    samples, channels, height, width = a.shape
    # Of a sharded batch this is one shard, and n still the whole.
    return samples if n != 1 else 1, channels if c != 1 else 1, height, width


def _per(count: int) -> float:
    # The mean over nothing is nan, as in F.mse_loss.
    return 1.0 / count if count else math.nan


def _resolve_spectral_loss(input: Tensor, target: Tensor, weight: Tensor, count: int, *flags: bool) -> _Resolved:
    function = _dispatch.select("spectral_loss", input, *input.shape[2:])
    return function, (input, target, weight, _per(count), *flags)


def _resolve_wiener_loss(
    input: Tensor, target: Tensor, kernel: Tensor, nsr: Tensor, eps: Tensor, count: int, *flags: bool
) -> _Resolved:
    function = _dispatch.select("wiener_loss", input, *input.shape[2:])
    return function, (input, target, kernel, nsr, eps, _per(count), *flags)


def _resolve_blur_mse(input: Tensor, target: Tensor, kernel: Tensor, count: int, *flags: bool) -> _Resolved:
    function = _dispatch.select("blur_mse", input, *input.shape[2:])
    return function, (input, target, kernel, _per(count), *flags)


def _resolve_focal_frequency_loss(
    input: Tensor, target: Tensor, alpha: float, log_matrix: bool, loss_weight: float, count: int, *flags: bool
) -> _Resolved:
    function = _dispatch.select("focal_frequency_loss", input, *input.shape[2:])
    return function, (input, target, alpha, log_matrix, loss_weight * _per(count), *flags)


_RESOLVE: dict[str, Callable[..., _Resolved]] = {
    "rfft2": _resolve_rfft2,
    "irfft2": _resolve_irfft2,
    "otf": _resolve_otf,
    "otf_backward": _resolve_otf_backward,
    "spectral_filter": _resolve_spectral_filter,
    "cross_spectrum": _resolve_cross_spectrum,
    "spectral_loss": _resolve_spectral_loss,
    "wiener_loss": _resolve_wiener_loss,
    "blur_mse": _resolve_blur_mse,
    "focal_frequency_loss": _resolve_focal_frequency_loss,
}


def _implementation(resolve: Callable[..., _Resolved]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        function, resolved = resolve(*args)
        output = function(*resolved)
        if not isinstance(output, tuple):
            return output
        # Of a loss the gradients by input and parameters; the dispatcher knows no absent ones.
        loss, *grads = output
        by = args[0], *args[2:]
        return loss, *(
            t.new_empty(0, dtype=gradient_dtype(t.dtype)) if grad is None else grad
            for grad, t in zip(grads, by, strict=False)
        )

    return run


_IMPLEMENTATIONS = {op: _implementation(resolve) for op, resolve in _RESOLVE.items()}
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
    dtype = gradient_dtype(input.dtype)
    return loss, torch.empty_like(input, dtype=dtype) if input_grad else input.new_empty(0, dtype=dtype)


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


_Args = tuple[Any, ...]
_Needs = Sequence[bool]
_Grads = Sequence[Tensor | None]


class _Rule(NamedTuple):
    """The derivative of an op, by its tensors."""

    # From the arguments, the cotangent of the (first) result and for which of the tensors it is needed.
    vjp: Callable[[_Args, Tensor, _Needs], _Grads]
    # What `vjp` gets in place of the arguments, where their values are not needed.
    keep: Callable[..., _Args] | None = None
    # Of a loss, which returns its gradients: that by the target from the arguments and that by the input.
    target_grad: Callable[[_Args, Tensor], Tensor] | None = None
    # Whether from that by the input as it was rounded to half precision, too.
    from_rounded: bool = True


_derivatives: dict[str, _Rule] = {}


class _Recorded:
    """A call of an op as its backward pass needs it, but for its tensors: of ``args`` the first ``count``."""

    __slots__ = ("backend", "count", "needs", "readable", "rest", "rule", "serves")

    def __init__(self, op: str, args: _Args, count: int, needs: _Needs) -> None:
        self.rule = _derivatives[op]
        self.needs = needs
        self.backend = _dispatch.requested()
        if self.rule.keep is None:
            self.count, self.rest = count, args[count:]
        else:
            self.count, self.rest = 0, self.rule.keep(*args)
        self.serves = self.readable = False
        if self.rule.target_grad is not None:
            self._look_at_loss(*args)

    def _look_at_loss(self, input: Tensor, target: Tensor, *others: Any) -> None:
        """Do the gradients that it returned serve its first derivative? Is its cotangent one number, on the CPU?"""
        parameters: list[Tensor] = list(others[: len(self.needs) - 2])
        if parameters:
            parameters[0] = as_planes(parameters[0])
        per_sample, input_grad, *parameter_grad = others[-3 if parameters else -2 :]
        # That of a shared parameter is the sum over all samples, which with a cotangent each is of no use.
        self.serves = (input_grad or not (self.needs[0] or self.needs[1])) and all(
            parameter_grad[0] and not (per_sample and parameter.shape[0] != input.shape[0])
            for parameter, needed in zip(parameters, self.needs[2:], strict=True)
            if needed
        )
        if self.needs[1] and not self.rule.from_rounded and gradient_dtype(input.dtype) != compute_dtype(input.dtype):
            self.serves = False
        self.readable = input.is_cpu and not per_sample

    def save(self, ctx: Any, tensors: Sequence[Tensor], output: Any) -> None:
        ctx.recorded = self
        if self.rule.keep is None:
            ctx.save_for_backward(*tensors, *(output[1:] if isinstance(output, tuple) else ()))

    def backward(self, ctx: Any, grad: Tensor) -> _Grads:
        if self.backend != _dispatch.requested():
            # In another thread, or after the `with use_backend(...)` of the forward pass has ended.
            with _dispatch.as_requested(self.backend):
                return self.backward(ctx, grad)
        saved = ctx.saved_tensors
        # The gradients of the forward pass have no graph.
        if self.serves and not is_grad_enabled():
            return self._from_gradients(saved, grad)
        return self.rule.vjp((*saved[: self.count], *self.rest), grad, self.needs)

    def _from_gradients(self, saved: Sequence[Tensor], grad: Tensor) -> _Grads:
        # By the input, then by each parameter. Autograd drops those of tensors that need none.
        input_grad: Tensor | None = saved[self.count]
        parameter_grads: Sequence[Tensor | None] = saved[self.count + 1 : 2 * self.count - 1]
        by_input, by_target, *by_parameters = self.needs
        # Else the gradient itself, if it is to be handed out only once.
        if not (self.readable and _is_one(grad)) or _keeps_graph():
            input_grad = _scaled(grad, input_grad, by_input or by_target)
            parameter_grads = [*map(_scaled, repeat(grad), parameter_grads, by_parameters)]
        target_grad = None
        if by_target and input_grad is not None and self.rule.target_grad is not None:
            target_grad = self.rule.target_grad((*saved[: self.count], *self.rest), input_grad)
        if saved[0].dtype == torch.float16:
            input_grad, target_grad = (
                grad if grad is None else grad.to(torch.float16) for grad in (input_grad, target_grad)
            )
        return input_grad, target_grad, *parameter_grads


def _is_one(grad: Tensor) -> bool:
    """Whether the cotangent of a loss on the CPU is the plain number 1, as in ``loss.backward()``.

    On a GPU looking at it would synchronise. A tensor of a tracer, a subclass or vmap has no value to look at.
    """
    try:
        return type(grad) is Tensor and not _modes() and grad.item() == 1
    except RuntimeError:  # in vmap, or with is_grads_batched
        return False


def _scaled(factor: Tensor, grad: Tensor | None, needed: bool) -> Tensor | None:
    """The gradient of a loss (), or of losses (N,), times their cotangent."""
    if grad is None or not needed:
        return None
    if factor.dim() == 0:
        return factor * grad
    return (factor.view(-1, *(1,) * (grad.dim() - 1)) * grad).to(grad.dtype)


def _compiled_autograd_key(ctx: Any) -> tuple[int]:
    """As ``torch.autograd.Function`` has it, for compiled autograd."""
    return (ctx._autograd_function_id,)


def _autograd(
    op: Any,
    vjp: Callable[[_Args, Tensor, _Needs], _Grads],
    keep: Callable[..., _Args] | None = None,
    target_grad: Callable[[_Args, Tensor], Tensor] | None = None,
    from_rounded: bool = True,
) -> None:
    """Registers the derivative of ``op``, see ``_Rule``.

    ``torch.library.register_autograd`` would be the way, but what it registers refuses to run under
    ``torch.func.grad``. A single-level function is how torch itself differentiates an ``autograd.Function`` there.
    """
    below_autograd = torch._C._after_autograd_keyset
    count = _TENSORS[op._opname]

    def apply_below(keyset: Any, args: _Args) -> Any:
        keyset = keyset & below_autograd
        with torch._C._AutoDispatchBelowAutograd():
            if keyset.raw_repr() in _PLAIN:  # a second trip through the dispatcher would end there too
                return _IMPLEMENTATIONS[op._opname](*args)
            _distributed.register_shardings()
            return op.redispatch(keyset, *args)

    class Derivative(torch.autograd.function._SingleLevelFunction):
        apply: Callable[..., Any]
        _compiled_autograd_key = staticmethod(_compiled_autograd_key)

        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            if _transforms_active():
                # Autograd has switched gradients off for this level; the levels below still want them.
                with torch.enable_grad():
                    output = apply_below(keyset, args)
            else:
                output = apply_below(keyset, args)
            ctx.set_materialize_grads(False)
            ctx.options = len(args) - count
            _Recorded(op._opname, args, count, ctx.needs_input_grad[1 : 1 + count]).save(ctx, args[:count], output)
            if isinstance(output, tuple):
                ctx.mark_non_differentiable(*output[1:])
            return output

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
            if grad is None:
                return (None,) * len(ctx.needs_input_grad)
            return (None, *ctx.recorded.backward(ctx, grad), *(None,) * ctx.options)

    class DirectDerivative(torch.autograd.function._SingleLevelFunction):
        apply: Callable[..., Any]
        _compiled_autograd_key = staticmethod(_compiled_autograd_key)

        @staticmethod
        def forward(ctx: Any, call: Call, *tensors: Tensor) -> Any:
            output = call.function(*tensors, *call.function_rest)
            call.save(ctx, tensors, output)
            return output[0] if isinstance(output, tuple) else output

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            return (None, *ctx.recorded.backward(ctx, grad))

    for derivative in (Derivative, DirectDerivative):
        derivative.__name__ = derivative.__qualname__ = f"{op._opname}_backward"

    def autograd_kernel(keyset: Any, *args: Any) -> Any:
        if forward_ad._current_level >= 0:
            with _dispatch.as_requested("reference"):
                return _IMPLEMENTATIONS[op._opname](*args)
        if not (is_grad_enabled() and torch._C._any_requires_grad(*args)):
            return apply_below(keyset, args)
        if _transforms_active():
            with enable_single_level_autograd_function():
                return Derivative.apply(keyset, *args)
        return Derivative.apply(keyset, *args)

    _library.impl(op._opname, autograd_kernel, "Autograd", with_keyset=True)
    _derivatives[op._opname] = _Rule(vjp, keep, target_grad, from_rounded)
    _differentiable[op._opname] = DirectDerivative.apply


# Past the dispatcher, with a derivative, by the op's name.
_differentiable: dict[str, Callable[..., Any]] = {}
_PLAIN_TENSORS = frozenset((Tensor, torch.nn.Parameter))
_PLAIN_VALUES = frozenset((bool, int, float, str))
_PLAIN_TYPES = _PLAIN_TENSORS | _PLAIN_VALUES
# Called on every loss: bound here, for an attribute of a module takes as long to find as most of these take.
_modes = torch._C._len_torch_dispatch_stack
_keeps_graph = torch._C._autograd._get_current_graph_task_keep_graph
_transforms_active = torch._C._are_functorch_transforms_active
_tracing_state = torch._C._get_tracing_state
_is_nested = attrgetter("is_nested")
_is_included = torch._C._dispatch_tls_is_dispatch_key_included
_is_excluded = torch._C._dispatch_tls_is_dispatch_key_excluded
_PRE_DISPATCH = torch._C.DispatchKey.PreDispatch
_AUTOGRAD = torch._C.DispatchKey.AutogradOther  # of the keys that exclude autograd the one without a device


def _unobserved() -> bool:
    """Whether nobody but autograd would see a call of an op pass through the dispatcher: no compiler, mode, transform
    or tracer.

    Then it goes past it: the way through its Python kernels costs several times what an op on a small image does.
    """
    return not (
        is_dynamo_compiling()
        or _modes()
        or _transforms_active()
        or forward_ad._current_level >= 0
        or _is_included(_PRE_DISPATCH)
        or (is_grad_enabled() and _is_excluded(_AUTOGRAD))
        or _tracing_state() is not None
    )


class Call(_Recorded):
    """A call of an op past the dispatcher, for its result or, of a loss, its value. All is settled but the first
    ``count`` of its tensors: ``rest`` is what the op takes behind them, ``function_rest`` what the backend does."""

    __slots__ = ("differentiable", "function", "function_rest")

    def __init__(self, op: str, args: _Args, count: int) -> None:
        needs = tuple(t.requires_grad for t in args[: _TENSORS[op]])
        super().__init__(op, args, count, needs)
        self.function, args = _RESOLVE[op](*args)
        self.function_rest = args[count:]
        self.differentiable = _differentiable[op] if is_grad_enabled() and any(needs) else None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if self.differentiable is not None:
            return self.differentiable(self, *tensors)
        result = self.function(*tensors, *self.function_rest)
        return result[0] if isinstance(result, tuple) else result


def _directly(args: _Args) -> bool:
    not_meta = args[0].is_cpu or args[0].is_cuda
    return not_meta and _unobserved() and _PLAIN_TYPES.issuperset(map(type, args))


def value(op: str, *args: Any) -> Tensor:
    """The result of an op, of a loss without its gradients; what the public functions call.

    The arguments are of matching dtypes, so that autocast has nothing to do.
    """
    if not _directly(args):
        if not is_dynamo_compiling():
            _distributed.register_shardings()  # in inference mode no kernel of autograd does
        result = getattr(torch.ops.blurfft, op).default(*args)
    elif is_grad_enabled() and torch._C._any_requires_grad(*args):
        count = _TENSORS[op]
        return Call(op, args, count)(*args[:count])
    else:
        result = _IMPLEMENTATIONS[op](*args)
    return result[0] if isinstance(result, tuple) else result


# Judging the arguments of a loss and preparing them takes as long as the loss of small images. What they led to is
# remembered by the values of what is no tensor; of the tensors, torch's own guards tell whether they are like earlier
# ones: in class, dtype, shape, device, layout and requires_grad, and as to the transforms and tracers that look on.
_Settings = tuple[Any, ...]
_Signature = tuple[Any, ...]
_calls: dict[_Signature, tuple[tuple[Callable[..., bool], Call], ...]] = {}
_LIKE_EACH_OTHER = 64  # calls that differ by the tensors only; to tell one from another takes 0.2 us


def _signature(settings: _Settings) -> _Signature:
    types = map(type, settings)  # True is no 1.0
    return settings, *types, _dispatch.requested(), is_grad_enabled()


def _guard(tensors: tuple[Tensor, ...]) -> Callable[..., bool]:
    # Lists of lists, whatever torch's stub says.
    shapes: Any = [list(t.shape) for t in tensors]
    any_strides: Any = [[None] * t.dim() for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=shapes, dynamic_dims_strides=any_strides).check


def remembered(settings: _Settings, tensors: tuple[Any, ...]) -> Call | None:
    """The call that a loss with these settings led to, its name first, for images and a parameter like these."""
    if is_dynamo_compiling() or _modes() or _transforms_active() or forward_ad._current_level >= 0:
        return None
    try:
        if True in map(_is_nested, tensors):  # they have no sizes, and asked for them torch's guards abort the process
            return None
        for guard, call in _calls.get(_signature(settings), ()):
            if guard(*tensors):
                return call
    except (TypeError, AttributeError):  # a setting that is none, a tensor that is none
        pass
    return None


def loss(settings: _Settings, tensors: tuple[Tensor, ...], op: str, *args: Any) -> Tensor:
    """``value``, ``remembered`` where the op takes the loss's own ``tensors`` as they are."""
    constants = args[len(tensors) :]
    if (
        not _PLAIN_VALUES.issuperset(map(type, settings))
        or not _directly(args)
        or torch.is_inference_mode_enabled()
        or not all(map(_taken_for, tensors, args))
        # On a GPU a constant would have to be ordered between streams, and survive the graph that captured its filling.
        or any(isinstance(constant, Tensor) and not constant.is_cpu for constant in constants)
    ):
        return value(op, *args)
    if len(_calls) >= 4096:
        _calls.clear()
    key, guard, call = _signature(settings), _guard(tensors), Call(op, args, len(tensors))
    if guard(*tensors):  # which is False for a tensor given twice
        _calls[key] = ((guard, call), *_calls.get(key, ())[: _LIKE_EACH_OTHER - 1])
    return call(*tensors)


def _taken_for(given: Tensor, arg: Tensor) -> bool:
    """Whether a backend takes ``given`` for what it is: itself, or of a parameter's two dimensions (1, 1, ...)."""
    return given is arg or (given.dim() == 2 and given.dtype is arg.dtype)


_ADJOINT_NORM = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _rfft2_keep(input: Tensor, norm: str) -> _Args:
    return input.shape[-1], input.dtype, _ADJOINT_NORM[norm]


def _rfft2_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    width, dtype, norm = args
    return (irfft2(grad / multiplicity(width, grad), width, norm).to(dtype),)


def _irfft2_keep(input: Tensor, width: int, norm: str) -> _Args:
    return width, _ADJOINT_NORM[norm]


def _irfft2_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    width, norm = args
    return (multiplicity(width, grad) * rfft2(grad, norm),)


def _otf_keep(kernel: Tensor, height: int, width: int) -> _Args:
    return width, *kernel.shape[-2:]


def _otf_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    return (otf_backward(grad, *args),)


def _otf_backward_keep(grad: Tensor, width: int, kh: int, kw: int) -> _Args:
    return grad.shape[-2], width


def _otf_backward_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    return (otf(grad, *args),)


def _spectral_filter_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    input, transfer = args
    input_grad = transfer_grad = None
    if needs[0]:
        input_grad = spectral_filter(grad, transfer.conj())
    if needs[1]:
        transfer_grad = cross_spectrum(input, grad, transfer.shape[0], transfer.shape[1], transfer.is_complex())
    return input_grad, transfer_grad


def _cross_spectrum_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    a, b, *_ = args
    a_grad = spectral_filter(b, grad.conj()) if needs[0] else None
    b_grad = spectral_filter(a, grad) if needs[1] else None
    return a_grad, b_grad


def _negative(args: _Args, input_grad: Tensor) -> Tensor:
    """The gradient by the target of what depends on input - target."""
    return -input_grad


def _quadratic_vjp(
    grad: Tensor, e: Tensor, weight: Tensor, dtype: torch.dtype, needs: _Needs
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of sum_n grad_n * Q_n by input, target and weight, differentiable; the last if any parameter's is."""
    ge = grad.view(-1, 1, 1, 1) * e
    input_grad = weight_grad = None
    if needs[0] or needs[1]:
        input_grad = (2 * spectral_filter(ge, weight)).to(dtype)
    if True in needs[2:]:
        weight_grad = cross_spectrum(ge, e, weight.shape[0], weight.shape[1], False)
    return (
        input_grad if needs[0] else None,
        -input_grad if needs[1] and input_grad is not None else None,
        weight_grad,
    )


def _spectral_loss_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    input, target, weight, count, *_ = args
    e = difference(input, target)
    *image_grads, weight_grad = _quadratic_vjp(grad / count, e, as_planes(weight), input.dtype, needs)
    return *image_grads, None if weight_grad is None else weight_grad.view(weight.shape)


def _wiener_loss_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    input, target, kernel, nsr, eps, count, nll, *_ = args
    samples, channels, height, width = input.shape
    e = difference(input, target)
    precision = PrecisionSpectrum(otf(as_planes(kernel), height, width), nsr, eps)
    weight = precision.omega
    grad = grad / (2 * count if nll else count)

    input_grad, target_grad, dweight = _quadratic_vjp(grad, e, weight, input.dtype, needs)
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


def _blur_mse_target_grad(args: _Args, input_grad: Tensor) -> Tensor:
    input, _, kernel, *_ = args
    K = otf(as_planes(kernel), *input.shape[2:])
    return -spectral_filter(input_grad, K.conj())


def _blur_mse_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
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


def _focal_frequency_loss_vjp(args: _Args, grad: Tensor, needs: _Needs) -> _Grads:
    input, target, alpha, log_matrix, loss_weight, count, *_ = args
    e = difference(input, target)
    with torch.no_grad():
        E = rfft2(e, "ortho")
        weight = focal_weight(power(E), alpha, log_matrix)
    return _quadratic_vjp(grad * (loss_weight / count), e, weight, input.dtype, needs)[:2]


_autograd(rfft2, _rfft2_vjp, _rfft2_keep)
_autograd(irfft2, _irfft2_vjp, _irfft2_keep)
_autograd(otf, _otf_vjp, _otf_keep)
_autograd(otf_backward, _otf_backward_vjp, _otf_backward_keep)
_autograd(spectral_filter, _spectral_filter_vjp)
_autograd(cross_spectrum, _cross_spectrum_vjp)
_autograd(spectral_loss, _spectral_loss_vjp, target_grad=_negative)
_autograd(wiener_loss, _wiener_loss_vjp, target_grad=_negative)
_autograd(blur_mse, _blur_mse_vjp, target_grad=_blur_mse_target_grad, from_rounded=False)
_autograd(focal_frequency_loss, _focal_frequency_loss_vjp, target_grad=_negative)


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
