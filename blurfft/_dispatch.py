"""Which backend serves a call: the rule, the caller's wish, and the reasons.

Each op chooses at run time, so a compiled or exported graph holds no backend. The choice depends on the device, the
dtype and the size of the planes alone and is cached: it costs a dictionary look-up per call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch

from ._backends import Backend, cpu, cuda, reference, triton

AUTO = "auto"

# Fastest first; on the CPU Triton is only interpreted.
_BACKENDS: dict[str, Backend] = {"cuda": cuda, "cpu": cpu, "triton": triton, "reference": reference}

_requested: ContextVar[str] = ContextVar("blurfft_backend", default=os.environ.get("BLURFFT_BACKEND") or AUTO)
# The backend asked for in this thread or by BLURFFT_BACKEND, else "auto".
requested = _requested.get


class as_requested:
    """Within it, ``name`` is the backend asked for: what ``requested`` returned earlier or in another thread."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._token = _requested.set(self._name)

    def __exit__(self, *exception: object) -> None:
        _requested.reset(self._token)


def _names() -> str:
    return ", ".join(repr(name) for name in (AUTO, *_BACKENDS))


def require(name: str, source: str) -> None:
    """Raises, naming ``source``, if there is no backend of that name or it is not available."""
    if name != AUTO and name not in _BACKENDS:
        raise ValueError(f"{source} must be one of {_names()}, got {name!r}")
    if name != AUTO and (reason := _BACKENDS[name].unavailable()) is not None:
        raise RuntimeError(f"backend {name!r} is not available: {reason}. Available: {', '.join(available_backends())}")


def why_not(name: str, op: str, device: str, dtype: torch.dtype, height: int, width: int) -> str | None:
    """Why the backend of this name cannot serve such a call; None if it can."""
    return _BACKENDS[name].unavailable() or _BACKENDS[name].why_not(op, device, dtype, height, width)


@lru_cache(maxsize=4096)
def _choose(
    name: str, op: str, device: torch.device, dtype: torch.dtype, height: int, width: int
) -> Callable[..., Any]:
    if name == AUTO:
        name = next(n for n in _BACKENDS if why_not(n, op, device.type, dtype, height, width) is None)
    require(name, "the environment variable BLURFFT_BACKEND")
    if (reason := why_not(name, op, device.type, dtype, height, width)) is not None:
        raise RuntimeError(
            f"backend {name!r} cannot serve {op} of {height}x{width} {dtype} planes: {reason}. "
            f"Ask for {AUTO!r} (blurfft.use_backend or BLURFFT_BACKEND) to let blurfft choose"
        )
    return _BACKENDS[name].functions()[op]


def select(op: str, tensor: torch.Tensor, height: int, width: int) -> Callable[..., Any]:
    """The function that serves ``op`` on planes of this size, device and dtype."""
    name = requested()
    if name == "reference":  # serves all, in the making of a graph also symbols, which have no hash
        return reference.functions()[op]
    # The device whole: its type by name would take as long as all the rest.
    function = _choose(name, op, tensor.device, tensor.dtype, height, width)
    # Kernels need not handle an empty batch: the reference returns the right shapes.
    return function if tensor.numel() else reference.functions()[op]


def available_backends() -> tuple[str, ...]:
    """The names of the backends that can be used on this machine, in the order in which blurfft prefers them.

    Examples:
        >>> "reference" in blurfft.available_backends()
        True
    """
    return tuple(name for name, backend in _BACKENDS.items() if backend.unavailable() is None)


class use_backend:
    """Asks for a backend by name, from here on or, in a ``with`` statement, until its end.

    ``"auto"`` is the default: the fastest backend that serves the device, the dtype and the size of the call. Any other
    name is a demand: a call that this backend cannot serve raises ``RuntimeError`` and says why. Forward mode, as in
    ``torch.func.jvp``, is the exception: there ``"reference"`` serves all calls.

    Like ``torch.set_grad_enabled`` this holds for the current thread (or asyncio task); other threads follow the
    environment variable ``BLURFFT_BACKEND``, read when blurfft is imported. A backward pass uses the backend that was
    asked for in its forward pass, whichever thread runs it. A graph of ``torch.compile`` holds no backend: use this
    around the call of the compiled function, not inside it.

    Args:
        name: ``"auto"`` or one of the backends' names, see ``available_backends``.

    Raises:
        TypeError: ``name`` is not a str.
        ValueError: there is no backend of this name.
        RuntimeError: it is not available on this machine; the message says why.

    Examples:
        >>> with blurfft.use_backend("reference"):
        ...     loss = blurfft.wiener_loss(input, target, kernel)
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, one of {_names()}, got {type(name).__name__}")
        require(name, "name")
        self._name = name
        self._entered = False
        self._previous = [_requested.get()]
        _requested.set(name)

    def __enter__(self) -> None:
        if self._entered:  # once more
            self._previous.append(_requested.get())
            _requested.set(self._name)
        self._entered = True

    def __exit__(self, *exception: object) -> None:
        _requested.set(self._previous.pop())


def explain() -> list[dict[str, str | None]]:
    """A row for each backend: its name, why it is unavailable (None if it is not), what it serves."""
    return [
        {
            "name": name,
            "unavailable": backend.unavailable(),
            "devices": backend.DEVICES,
            "dtypes": backend.DTYPES,
            "sizes": backend.SIZES,
        }
        for name, backend in _BACKENDS.items()
    ]
