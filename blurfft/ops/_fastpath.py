"""The quick way for small images, where judging arguments and dispatching takes longer than the loss itself.

Everything here saves microseconds and nothing else: without the private names of torch that it needs, every call takes
the ordinary way, through ``torch.ops``.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec

import torch
from torch import Tensor, is_grad_enabled
from torch.compiler import is_dynamo_compiling

from .._dispatch import requested

if TYPE_CHECKING:
    from ._define import Call

try:
    from torch._C import _are_functorch_transforms_active as _transforms_active
    from torch._C import _dispatch_tls_is_dispatch_key_excluded as _is_excluded
    from torch._C import _dispatch_tls_is_dispatch_key_included as _is_included
    from torch._C import _get_tracing_state as _tracing_state
    from torch._C import _len_torch_dispatch_stack as _modes
    from torch._C._autograd import _get_current_graph_task_keep_graph as _keeps_graph
    from torch._C._dynamo.guards import TensorGuards
    from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor
    from torch.autograd import forward_ad

    _PRE_DISPATCH = torch._C.DispatchKey.PreDispatch
    _AUTOGRAD = torch._C.DispatchKey.AutogradOther  # of the keys that exclude autograd the one without a device
    forward_ad._current_level  # noqa: B018
    available = True
except (ImportError, AttributeError):
    available = False

_PLAIN_TENSORS = frozenset((Tensor, torch.nn.Parameter))
_PLAIN_VALUES = frozenset((bool, int, float, str, type(None)))
_PLAIN_TYPES = _PLAIN_TENSORS | _PLAIN_VALUES
_is_nested = attrgetter("is_nested")


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """What ``OpOverload.__call__`` forwards to, which takes 4 us, if ``function`` is one."""
    return getattr(function, "_op", function)


def unobserved(args: tuple[Any, ...]) -> bool:
    """Whether nobody but autograd would see a call of an op with these arguments pass through the dispatcher: no
    compiler, mode, transform, tracer or subclass.

    Then it goes past it: the way through its Python kernels costs several times what an op on a small image does.
    """
    return (
        available
        and not (
            is_dynamo_compiling()
            or _modes()
            or _transforms_active()
            or forward_ad._current_level >= 0
            or _is_included(_PRE_DISPATCH)
            or (is_grad_enabled() and _is_excluded(_AUTOGRAD))
            or _tracing_state() is not None
        )
        and (args[0].is_cpu or args[0].is_cuda)
        and _PLAIN_TYPES.issuperset(map(type, args))
    )


def is_let_go(grad: Tensor) -> bool:
    """Whether this cotangent of a loss is one number, the last one since the graph is let go of, and a plain tensor.

    Then the saved gradients may change, or be handed out themselves. A tensor of a tracer, a subclass or vmap is not
    plain: it has no value to look at.
    """
    return (
        available
        and type(grad) is Tensor
        and not grad.dim()
        and not (_modes() or _keeps_graph() or is_functorch_wrapped_tensor(grad) or is_legacy_batchedtensor(grad))
    )


# Of the calls that led to an op, by the settings of the loss and whatever else decides, those with tensors of different
# kinds. Torch's own guards tell the kinds apart: by class, dtype, shape, device, layout and requires_grad, and by the
# transforms and tracers that look on. The sets are in the order of their last use, as are the calls in a set.
_Guard = Callable[..., bool]
_calls: OrderedDict[tuple[Any, ...], tuple[tuple[_Guard, Call], ...]] = OrderedDict()
_number = 0
_lock = Lock()
if hasattr(os, "register_at_fork"):  # another thread, which the child does not have, may hold it
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
LIMIT = 1024  # calls in all, some 2 KiB each
LIKE_EACH_OTHER = 64  # calls in a set; to tell one from another takes 0.2 us

_P = ParamSpec("_P")


def remembers(tensors: int) -> Callable[[Callable[_P, Tensor]], Callable[_P, Tensor]]:
    """For a loss whose first ``tensors`` arguments are its tensors, and which returns a tensor or ``LossOp.prepare``.

    The prepared call is made here, and remembered: another one with settings and tensors like these is judged and
    prepared no more.
    """

    def decorate(loss: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
        @wraps(loss)
        def call_or_recall(*args: Any, **kwargs: Any) -> Tensor:
            if is_dynamo_compiling():
                return made(loss(*args, **kwargs))
            given, settings = args[:tensors], args[tensors:]
            if kwargs:
                settings += (*kwargs, *kwargs.values())
            key = (loss, settings, *map(type, settings), requested(), is_grad_enabled())  # True is no 1.0
            if (call := recall(key, given)) is not None:
                return call(*given)
            result: Any = loss(*args, **kwargs)
            if isinstance(result, Tensor) or len(given) < tensors or not _worth_it(result.args, given, settings):
                return made(result)
            call = result.call(tensors)
            _remember(key, given, call)
            return call(*given)

        return call_or_recall

    return decorate


def made(result: Any) -> Tensor:
    """What a loss returns: a tensor, or a prepared call that is made here."""
    value: Tensor = result if isinstance(result, Tensor) else result.op(*result.args)
    return value


def recall(key: tuple[Any, ...], tensors: tuple[Any, ...]) -> Call | None:
    """The call that a loss with these settings led to for tensors like these."""
    if not available or _modes() or _transforms_active() or forward_ad._current_level >= 0:
        return None
    try:
        if True in map(_is_nested, tensors):  # they have no sizes, and asked for them torch's guards abort the process
            return None
        entries = _calls.get(key, ())
        for entry in entries:
            if entry[0](*tensors):
                _calls.move_to_end(key)
                if entry is not entries[0]:
                    _to_the_front(key, entry)
                return entry[1]
    except (TypeError, AttributeError):  # a setting that is none, a tensor that is none
        pass
    except KeyError:  # another thread has dropped it
        pass
    return None


def _to_the_front(key: tuple[Any, ...], entry: tuple[_Guard, Call]) -> None:
    with _lock:
        entries = _calls.get(key, ())
        if entry in entries:
            _calls[key] = (entry, *(other for other in entries if other is not entry))


def _worth_it(args: tuple[Any, ...], given: tuple[Any, ...], settings: tuple[Any, ...]) -> bool:
    """Whether the next call like this one may take the quick way: the op takes the loss's own tensors as they are."""
    return (
        unobserved(args)
        and _PLAIN_VALUES.issuperset(map(type, settings))
        and not torch.is_inference_mode_enabled()
        and all(map(_taken_for, given, args))
        # On a GPU a constant would have to be ordered between streams, and survive the graph that captured its filling.
        and all(not isinstance(a, Tensor) or a.is_cpu for a in args[len(given) :])
    )


def _taken_for(given: Tensor, arg: Tensor) -> bool:
    """Whether a backend takes ``given`` for what it is: itself, or of a parameter's two dimensions (1, 1, ...)."""
    return given is arg or (given.dim() == 2 and given.dtype is arg.dtype)


def _remember(key: tuple[Any, ...], tensors: tuple[Tensor, ...], call: Call) -> None:
    global _number
    # Lists of lists, whatever torch's stub says.
    shapes: Any = [list(t.shape) for t in tensors]
    any_strides: Any = [[None] * t.dim() for t in tensors]
    guard = TensorGuards(*tensors, dynamic_dims_sizes=shapes, dynamic_dims_strides=any_strides).check
    if not guard(*tensors):  # a tensor given twice
        return
    with _lock:
        entries = _calls.get(key, ())
        kept = entries[: LIKE_EACH_OTHER - 1]
        _calls[key] = ((guard, call), *kept)
        _calls.move_to_end(key)
        _number += 1 + len(kept) - len(entries)
        while _number > LIMIT:
            oldest, entries = next(iter(_calls.items()))
            if len(entries) > 1:
                _calls[oldest] = entries[:-1]
            else:
                del _calls[oldest]
            _number -= 1


def forget() -> None:
    """Forgets every call."""
    global _number
    with _lock:
        _calls.clear()
        _number = 0
