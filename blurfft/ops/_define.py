"""What an op is: from one declaration follow its schema, implementation, fake, autograd, vmap, autocast and sharding.

An op of blurfft is an instance of a subclass of ``Op`` in a file of its name: ``LinearOp`` if it is linear in one
tensor, ``LossOp`` if it is a loss. What it is called with goes

    ops.foo(...) -> unobserved? -> backend                                     (small calls, see ``_fastpath``)
                 -> torch.ops.blurfft.foo -> autograd, vmap, autocast -> backend

and which backend that is ``_dispatch`` says, at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from .. import _dispatch, _distributed, _ext
from .._math import as_planes, compute_dtype, exports_to_onnx, gradient_dtype
from . import _fastpath
from ._call import Args, Call, Derivative, Grads, Prepared, first

Dims = tuple[int | None, ...]
Needs = Sequence[bool]

try:
    from torch._C import _are_functorch_transforms_active as _transforms_active
    from torch._C import _AutoDispatchBelowAutograd
    from torch._C._functorch import TransformType, get_interpreter_stack
    from torch._functorch.utils import enable_single_level_autograd_function

    _JVP = TransformType.Jvp
    forward_ad._current_level  # noqa: B018
    _SINGLE_LEVEL = True
except (ImportError, AttributeError):
    _SINGLE_LEVEL = False

# The key for all devices. That of the extension's own implementations, CompositeExplicitAutograd, comes after it.
_BACKENDS = "CompositeExplicitAutogradNonFunctional"
# By the name of an op what declares it, unless the extension has, and its implementation. They outlive this module:
# torch lets a schema be defined once.
_libraries: dict[str, tuple[torch.library.Library | None, torch.library.Library]]
_libraries = vars(torch.ops.blurfft).setdefault("_libraries", {})
OPS: dict[str, Op] = {}


def _library_of(name: str, schema: str) -> torch.library.Library:
    """For the implementation of an op, which replaces that of a blurfft imported before and dropped from sys.modules.

    The schema stays, so that compiled graphs made before call the new implementation.
    """
    extension, declared = _ext.module(), None
    if extension is not None and extension.schemas.get(name) != schema:
        raise ImportError(
            f"the compiled extension {extension.__file__} was built for another blurfft, whose ops it has declared: "
            f"build it again ({_ext.how_to_build()})"
        )
    if name in _libraries:
        declared, before = _libraries[name]
        before._destroy()
    elif not hasattr(torch.ops.blurfft, name):
        declared = torch.library.Library("blurfft", "FRAGMENT")
        declared.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    library = torch.library.Library("blurfft", "IMPL")
    _libraries[name] = declared, library
    return library


class Op:
    """``torch.ops.blurfft.<name>``. Called, it gives the result, of a loss the value.

    Arguments are taken as given: the public functions validate them and pass kernel, nsr, eps, weight and transfer
    contiguous in the compute dtype (float64 for float64 images, else float32; complex for a complex transfer). A half
    spectrum is laid out as by ``torch.fft.rfft2``, (H, W//2+1); m is the multiplicity of its columns and F the
    orthonormal DFT. Results never alias an argument.
    """

    # Tensors come first. A plain string, since ``setup.py`` reads it here for the C++ library, without importing torch.
    schema: str
    # How many of the tensors are images, which autocast brings to one dtype; with 0 it leaves the op alone.
    images = 0

    def __init__(self) -> None:
        self.name, _, arguments = self.schema.partition(" -> ")[0].partition("(")
        self.tensors = arguments.count("Tensor ")
        self.library = _library_of(self.name, self.schema)
        self.overload = getattr(torch.ops.blurfft, self.name).default
        self.library.impl(self.name, self.run, _BACKENDS)
        torch.library.register_fake(f"blurfft::{self.name}", self.fake, lib=self.library)
        torch.library.register_vmap(f"blurfft::{self.name}", self.vmap, lib=self.library)
        derivative: Any = type(type(self).__name__, (Derivative,), {})  # whose nodes in a graph are FooBackward
        # For one level of transforms, and without what ``apply`` does for several.
        self.apply = super(torch.autograd.Function, derivative).apply  # type: ignore[misc]
        if _SINGLE_LEVEL:
            self.library.impl(self.name, self._autograd, "Autograd")
        else:
            _differentiate_publicly(self)
        if self.images:
            for key, device in (("AutocastCPU", "cpu"), ("AutocastCUDA", "cuda")):
                self.library.impl(self.name, partial(self._autocast, device), key)
        OPS[self.name] = self

    def resolve(self, *args: Any) -> tuple[Callable[..., Any], Args]:
        """What serves a call, chosen at run time: the backend's function and its arguments.

        A graph can hold a symbolic integer but not a symbolic float, hence the ops' ``norm`` and ``count`` for the
        backends' ``scale``.
        """
        raise NotImplementedError

    def fake(self, *args: Any) -> Any:
        """The result without its values."""
        raise NotImplementedError

    def kept(self, *args: Any) -> Args | None:
        """What ``vjp`` gets in place of the arguments, if it does not need the tensors."""
        return None

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        """The gradients by the tensors, of those that are needed, from the cotangent of the first result.

        Made of ops, hence differentiable itself.
        """
        raise NotImplementedError

    def vmap(self, info: Any, dims: Dims, *args: Any) -> tuple[Any, Any]:
        """The batching rule of ``torch.library.register_vmap``."""
        raise NotImplementedError

    def shardings(self, place: _distributed.Placements, *args: Any) -> list[tuple[list[Any], list[Any]]]:
        """How the op runs on DTensors: pairs of the results' and the arguments' placements."""
        raise NotImplementedError

    def gradients_serve(self, args: Args, needs: Needs) -> bool:
        """Whether the op returns gradients, and all that its first derivative needs."""
        return False

    def target_grad(self, args: Args, input_grad: Tensor) -> Tensor:
        """The gradient by the second image from that by the first, if the op returns it."""
        raise NotImplementedError

    def __call__(self, *args: Any) -> Tensor:
        # Dtypes match, so that autocast has nothing to do.
        if not _fastpath.unobserved(args):
            if not is_dynamo_compiling():
                _distributed.register_shardings(OPS)  # in inference mode no kernel of autograd does
            if not _SINGLE_LEVEL and (_are_dual(args[: self.tensors]) or exports_to_onnx()):
                return first(self.composed(*args))
            if any(isinstance(option, Tensor) for option in args[self.tensors :]):
                # A side, in torch.jit.trace. Of an op the graph would hold the number.
                return first(self.composed(*args))
            return first(self.overload(*args))
        if is_grad_enabled() and _needs_grad(args):
            return Call(self, args, self.tensors)(*args[: self.tensors])
        return first(self.run(*args))

    def run(self, *args: Any) -> Any:
        """By the backend that serves."""
        function, args = self.resolve(*args)
        return _fastpath.unwrapped(function)(*args)

    def composed(self, *args: Any) -> Any:
        """Made of torch's own ops, which torch differentiates in forward mode too."""
        with _dispatch.as_requested("reference"):
            return self.run(*args)

    def _below_autograd(self, *args: Any) -> Any:
        if _fastpath.unobserved(args):  # a second trip through the dispatcher would end there too
            return self.run(*args)
        _distributed.register_shardings(OPS)
        with _AutoDispatchBelowAutograd():
            return self.overload(*args)

    def _autograd(self, *args: Any) -> Any:
        """The kernel of autograd.

        ``torch.library.register_autograd`` would be the way, but what it registers refuses to run under
        ``torch.func.grad``. A single-level function is how torch itself differentiates an ``autograd.Function`` there.
        """
        if _in_forward_mode() or exports_to_onnx():
            return self.composed(*args)
        if not (is_grad_enabled() and _needs_grad(args)):
            return self._below_autograd(*args)
        tensors = args[: self.tensors]
        call = Call(self, args, self.tensors, self._below_autograd)
        if not _transforms_active():
            return self.apply(call, *tensors)
        call.function = torch.enable_grad()(self._below_autograd)  # the levels below still want gradients
        with enable_single_level_autograd_function():
            return self.apply(call, *tensors)

    def _autocast(self, device: str, *args: Any) -> Any:
        """Brings mixed dtypes together and no more: the arithmetic is float32 at least in any case."""
        tensors, options = args[: self.tensors], args[self.tensors :]
        dtype = tensors[0].dtype
        for t in tensors[1 : self.images]:
            dtype = torch.promote_types(dtype, t.dtype)
        compute = compute_dtype(dtype)
        images = (t.to(dtype) for t in tensors[: self.images])
        others = (t.to(compute.to_complex() if t.is_complex() else compute) for t in tensors[self.images :])
        with torch.autocast(device, enabled=False):
            return self.overload(*images, *others, *options)


def _needs_grad(args: Args) -> bool:
    return any(isinstance(a, Tensor) and a.requires_grad for a in args)


class LinearOp(Op):
    """Linear in its only tensor, (..., h, w), by plane."""

    def kept(self, *args: Any) -> Args:
        raise NotImplementedError

    def adjoint(self, grad: Tensor, *kept: Any) -> Tensor:
        raise NotImplementedError

    def vjp(self, args: Args, grad: Tensor, needs: Needs) -> Grads:
        return (self.adjoint(grad, *args),)

    def vmap(self, info: Any, dims: Dims, *args: Any) -> tuple[Tensor, int]:
        tensor, *options = args
        assert dims[0] is not None
        tensor = tensor.movedim(dims[0], 0)
        if tensor.dim() <= 4:
            return self.overload(tensor, *options), 0
        return self.overload(tensor.flatten(0, 1), *options).unflatten(0, tensor.shape[:2]), 0

    def shardings(self, place: _distributed.Placements, *args: Any) -> list[tuple[list[Any], list[Any]]]:
        tensor, *options = args
        rest = [None] * len(options)
        placements = place.alone, place.summed, *map(place.split_along, range(tensor.ndim - 2))
        return [([p], [p, *rest]) for p in placements]


def per(count: int) -> float:
    # The mean over nothing is nan, as in F.mse_loss.
    return 1.0 / count if count else math.nan


class LossOp(Op):
    """A loss of two images and, in most cases, parameters, which returns its first-order gradients.

    Its value is in the compute dtype: Q_n / count of each sample, (N,), if ``per_sample``, else the sum of these. Its
    gradients are those of sum(loss) by input (of float16 images in float32) and parameters, empty (0,) where not asked
    for. Derivatives of higher order are composed of other ops, by ``vjp``.
    """

    images = 2

    def __init__(self) -> None:
        super().__init__()
        self.parameters = self.tensors - self.images
        self.count = [argument.split()[-1] for argument in self.schema.partition(")")[0].split(",")].index("count")

    def prepare(self, input: Tensor, target: Tensor, *rest: Any, per_sample: bool = False) -> Any:
        """A call whose gradients are computed where they are needed, or, traced, its value. ``rest``: parameters and
        options."""
        input_grad = parameter_grad = False
        parameters = rest[: self.parameters]
        # An exported or traced program is for inference; where it is differentiated all the same, ``vjp`` serves.
        if is_grad_enabled() and not (torch.compiler.is_exporting() or torch.jit.is_tracing()):
            input_grad = input.requires_grad or target.requires_grad
            trained = [p for p in parameters if p.requires_grad]
            parameter_grad = bool(trained)
            if per_sample:
                # Of a shared parameter the forward pass knows the sum over all samples only, which is of no use here.
                parameter_grad = parameter_grad and all(p.shape[0] == input.shape[0] for p in trained)
        flags = (per_sample, input_grad, parameter_grad) if parameters else (per_sample, input_grad)
        args = (input, target, *rest, *flags)
        if isinstance(count := args[self.count], Tensor):
            # In torch.jit.trace; of an op the graph would hold the number of the example.
            return self(*args[: self.count], 1, *args[self.count + 1 :]) / count
        return Prepared(self, args)

    def value(self, *args: Any) -> Tensor:
        """The same, made."""
        return _fastpath.made(self.prepare(*args))

    def scaled(self, *rest: Any) -> Args:
        """Parameters, options and flags with the backends' ``scale`` in place of ``count``."""
        n = self.parameters
        return *rest[:n], per(rest[n]), *rest[n + 1 :]

    def resolve(self, *args: Any) -> tuple[Callable[..., Any], Args]:
        input, target, *rest = args
        return _dispatch.select(self.name, input, *input.shape[2:]), (input, target, *self.scaled(*rest))

    def run(self, *args: Any) -> tuple[Tensor, ...]:
        loss, *grads = super().run(*args)
        by = args[0], *args[2 : self.tensors]
        # The dispatcher knows no absent gradients.
        return loss, *(
            t.new_empty(0, dtype=gradient_dtype(t.dtype)) if grad is None else grad
            for grad, t in zip(grads, by, strict=True)
        )

    def fake(self, *args: Any) -> tuple[Tensor, ...]:
        input, _, *parameters = args[: self.tensors]
        per_sample, input_grad, parameter_grad = self.flags(args)
        loss = input.new_empty(input.shape[:1] if per_sample else (), dtype=compute_dtype(input.dtype))
        dtype = gradient_dtype(input.dtype)
        grad = torch.empty_like(input, dtype=dtype) if input_grad else input.new_empty(0, dtype=dtype)
        return loss, grad, *(p.new_empty(p.shape if parameter_grad else 0) for p in parameters)

    def flags(self, args: Args) -> tuple[bool, bool, bool]:
        """per_sample and whether the gradients by input and parameters are asked for."""
        return (*args[-2:], False) if not self.parameters else args[-3:]

    def gradients_serve(self, args: Args, needs: Needs) -> bool:
        input, _, *parameters = args[: self.tensors]
        if parameters:
            parameters[0] = as_planes(parameters[0])
        per_sample, input_grad, parameter_grad = self.flags(args)
        if (needs[0] or needs[1]) and not input_grad:
            return False
        rounded = gradient_dtype(input.dtype) != compute_dtype(input.dtype)
        if needs[1] and rounded and not self.target_grad_from_rounded:
            return False
        # That of a shared parameter is the sum over all samples, which with a cotangent each is of no use.
        return all(
            parameter_grad and not (per_sample and parameter.shape[0] != input.shape[0])
            for parameter, needed in zip(parameters, needs[2:], strict=True)
            if needed
        )

    def target_grad(self, args: Args, input_grad: Tensor) -> Tensor:
        return -input_grad  # of what depends on input - target

    # Whether ``target_grad`` may start from an input gradient that was rounded to half precision.
    target_grad_from_rounded = True

    def vmap(self, info: Any, dims: Dims, *args: Any) -> tuple[tuple[Tensor, ...], Dims]:
        """Folds the mapped dimension into the batch."""
        size, samples = info.batch_size, extent(args[0], dims[0])
        per_sample, input_grad, parameter_grad = self.flags(args)
        parameters = args[2 : self.tensors]
        options = args[self.tensors : -3 if self.parameters else -2]
        gradients = (input_grad, parameter_grad) if self.parameters else (input_grad,)
        loss, grad, *parameter_grads = self.overload(
            *(fold(t, dim, size) for t, dim in zip(args[:2], dims, strict=False)),
            *(
                fold_shared(t, dim, size, samples, separate=parameter_grad)
                for t, dim in zip(parameters, dims[2:], strict=False)
            ),
            *options,
            True,
            *gradients,
        )
        loss = unfold(loss, size, samples)
        if input_grad:
            grad = unfold(grad, size, samples)
        if parameter_grad:
            parameter_grads = [
                unfold(g, size, samples, keep=extent(t, dim) == samples)
                for g, t, dim in zip(parameter_grads, parameters, dims[2:], strict=False)
            ]
        return (
            (loss if per_sample else loss.sum(1), grad, *parameter_grads),
            (0, 0 if input_grad else None, *(0 if parameter_grad else None for _ in parameters)),
        )

    def shardings(self, place: _distributed.Placements, *args: Any) -> list[tuple[list[Any], list[Any]]]:
        parameters, options = args[2 : self.tensors], [None] * (len(args) - self.tensors)
        per_sample, input_grad, parameter_grad = self.flags(args)
        loss = place.split if per_sample else place.summed
        grads = [place.gradient(p) if parameter_grad else place.alone for p in parameters]
        return [
            ([place.alone] * (2 + len(grads)), [place.alone] * self.tensors + options),
            (
                [loss, place.split if input_grad else place.alone, *grads],
                [place.split, place.split, *map(place.parameter, parameters), *options],
            ),
        ]


def _differentiate_publicly(op: Op) -> None:
    """By ``torch.library`` alone. Transforms see the op composed of torch's own, slower than the backends."""

    def setup_context(ctx: Any, inputs: Args, output: Any) -> None:
        Call(op, inputs, op.tensors, op.run).save(ctx, inputs[: op.tensors], output)
        ctx.set_materialize_grads(False)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])

    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        grads = ctx.call.backward(ctx, grad)
        return (*grads, *(None,) * (len(ctx.needs_input_grad) - len(grads)))

    torch.library.register_autograd(f"blurfft::{op.name}", backward, setup_context=setup_context, lib=op.library)
    op.library.impl(op.name, op.composed, "FuncTorchDynamicLayerFrontMode")


def _in_forward_mode() -> bool:
    # ``forward_ad`` does not know of the levels that a compiled function enters.
    return forward_ad._current_level >= 0 or (
        _transforms_active() and any(level.key() == _JVP for level in get_interpreter_stack() or ())
    )


def _are_dual(tensors: Sequence[Tensor]) -> bool:
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)


# vmap folds the mapped dimension into the batch.


def fold(t: Tensor, dim: int | None, size: int) -> Tensor:
    """(B, N, ...) with B at ``dim`` (None: not mapped) -> (B * N, ...)."""
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.flatten(0, 1)


def fold_shared(t: Tensor, dim: int | None, size: int, samples: int, separate: bool) -> Tensor:
    """Folds a tensor whose first dimension is N or 1; one that all share stays as it is, unless wanted ``separate``."""
    if dim is None and t.shape[0] == 1 and not separate:
        return t
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.expand(size, samples, *t.shape[2:]).flatten(0, 1).contiguous()


def unfold(t: Tensor, size: int, samples: int, keep: bool = True) -> Tensor:
    """(B * N, ...) -> (B, N, ...), or summed over N -> (B, 1, ...)."""
    t = t.unflatten(0, (size, samples))
    return t if keep else t.sum(1, keepdim=True)


def extent(t: Tensor, dim: int | None) -> int:
    """The first dimension of one example of ``t``."""
    return t.shape[0] if dim is None or dim > 0 else t.shape[1]
