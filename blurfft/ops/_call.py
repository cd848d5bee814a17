"""A call of an op as its backward pass knows it, and the autograd function that all ops share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, is_grad_enabled

from .. import _dispatch
from . import _fastpath

if TYPE_CHECKING:
    from ._define import Op

Args = tuple[Any, ...]
Grads = Sequence[Tensor | None]


def first(result: Any) -> Tensor:
    """Of what an op returns its result, of a loss the value."""
    value: Tensor = result[0] if isinstance(result, tuple) else result
    return value


class Prepared(NamedTuple):
    """A call that only has to be made."""

    op: Op
    args: Args

    def call(self, count: int) -> Call:
        """The same past the dispatcher, for any ``count`` tensors like its first ones."""
        return Call(self.op, self.args, count)


class Call:
    """A call of an op, with all settled but the first ``count`` of its tensors, which come with every use.

    It is a call of the backend, and gives the op's result, of a loss the value; or one of ``function``, the op itself
    below autograd, and gives everything that returns. It is also what the backward pass knows of the call.
    """

    __slots__ = (
        *("backend", "count", "differentiable", "everything", "function", "function_rest"),
        *("kept", "needs", "op", "rest", "serves"),
    )

    def __init__(self, op: Op, args: Args, count: int, function: Callable[..., Any] | None = None) -> None:
        self.op = op
        self.backend = _dispatch.requested()
        self.needs = tuple(t.requires_grad for t in args[: op.tensors])
        self.count, self.rest, self.kept = count, args[count:], op.kept(*args)
        self.serves = op.gradients_serve(args, self.needs)
        self.everything = function is not None
        if function is None:
            function, args = op.resolve(*args)
            function = _fastpath.unwrapped(function)
        self.function, self.function_rest = function, args[count:]
        self.differentiable = op.apply if is_grad_enabled() and any(self.needs) else None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if self.differentiable is not None:
            result: Tensor = self.differentiable(self, *tensors)
            return result
        return first(self.function(*tensors, *self.function_rest))

    def save(self, ctx: Any, tensors: Sequence[Tensor], output: Any) -> None:
        ctx.call = self
        if self.kept is None:
            ctx.save_for_backward(*tensors, *(output[1:] if isinstance(output, tuple) else ()))

    def backward(self, ctx: Any, grad: Tensor) -> Grads:
        if self.backend != _dispatch.requested():
            # In another thread, or after the `with use_backend(...)` of the forward pass has ended.
            with _dispatch.as_requested(self.backend):
                return self.backward(ctx, grad)
        saved = ctx.saved_tensors
        # The gradients of the forward pass have no graph.
        if self.serves and not is_grad_enabled():
            return self._from_gradients(saved, grad)
        args = (*saved[: self.count], *self.rest) if self.kept is None else self.kept
        return self.op.vjp(args, grad, self.needs)

    def _from_gradients(self, saved: Sequence[Tensor], grad: Tensor) -> Grads:
        # By the input, then by each parameter. Autograd drops those of tensors that need none.
        input_grad: Tensor | None = saved[self.count]
        parameter_grads: Sequence[Tensor | None] = saved[self.count + 1 : 2 * self.count - 1]
        by_input, by_target, *by_parameters = self.needs
        last = _fastpath.is_let_go(grad)
        if last and _on_gpu(grad):
            # Looking at the number would synchronise: the kernel does it.
            needed = zip((by_input or by_target, *by_parameters), (input_grad, *parameter_grads), strict=False)
            scale_ = _dispatch.select("scale_", saved[0], *saved[0].shape[-2:])
            scale_([g for wanted, g in needed if wanted and g is not None], grad)
        elif not (last and grad.is_cpu and grad.item() == 1):
            input_grad = _scaled(grad, input_grad, by_input or by_target)
            parameter_grads = [*map(_scaled, repeat(grad), parameter_grads, by_parameters)]
        target_grad = None
        if by_target and input_grad is not None:
            target_grad = self.op.target_grad((*saved[: self.count], *self.rest), input_grad)
        if saved[0].dtype == torch.float16:
            input_grad, target_grad = (g if g is None else g.to(torch.float16) for g in (input_grad, target_grad))
        return input_grad, target_grad, *parameter_grads


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _scaled(factor: Tensor, grad: Tensor | None, needed: bool) -> Tensor | None:
    """The gradient of a loss (), or of losses (N,), times their cotangent."""
    if grad is None or not needed:
        return None
    if factor.dim() == 0 and factor.is_cpu:
        return grad * factor  # in the other order torch would round the factor to half precision
    return (factor.view(-1, *(1,) * (grad.dim() - 1)) * grad).to(grad.dtype)


class Derivative(torch.autograd.Function):
    """Each op has a subclass of its name."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Any:
        output = call.function(*tensors, *call.function_rest)
        call.save(ctx, tensors, output)
        if not call.everything:
            return output[0] if isinstance(output, tuple) else output
        ctx.set_materialize_grads(False)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        return (None, *ctx.call.backward(ctx, grad))
