"""Starting kernels on the device and stream of their tensors or, instead, writing down what would be started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

AUTOTUNE = os.environ.get("BLURFFT_AUTOTUNE", "1") != "0"
_MOST_WARPS = 16


class Launch(NamedTuple):
    kernel: Any  # the JIT function
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]  # those that are no constants, in order
    constants: dict[str, Any]
    num_warps: int


_record: list[Launch] | None = None


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, tune: bool = False, **constants: Any
) -> None:
    """``tune``: the kernel may be run again on the same arguments, with other numbers of warps, and is worth it."""
    if _record is not None:
        _record.append(Launch(kernel, grid, arguments, constants, num_warps))
        return
    device = next(t.device for t in arguments if isinstance(t, Tensor))
    # Triton launches on the current stream of the current device.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        if tune and tunes(device):
            types = tuple(t.dtype for t in arguments if isinstance(t, Tensor))
            key = (kernel, device, num_warps, types, tuple(constants.items()))
            if key not in _chosen and not torch.cuda.is_current_stream_capturing():
                with _tuning:
                    tuner = tuned(kernel, num_warps)
                    try:
                        tuner[grid](*arguments, **constants)
                        _chosen[key] = tuner.best_config.num_warps
                        return
                    except torch.OutOfMemoryError:  # Triton takes some hundred megabytes to empty the cache
                        _chosen[key] = warps(num_warps)
            count = _chosen.get(key, warps(num_warps))
        else:
            count = warps(num_warps)
        kernel[grid](*arguments, **constants, num_warps=count, num_stages=1)


def tunes(device: torch.device) -> bool:
    """Whether times choose between configurations, whose sums may differ in the last bit."""
    return AUTOTUNE and device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()


_chosen: dict[Any, int] = {}
_tuning = Lock()  # a tuner remembers the call that it times, and threads, as of two GPUs, share it


def warps(count: int) -> int:
    """As many threads in the warps of this GPU as in so many of 32. AMD's have 64."""
    return max(1, count // 2) if torch.version.hip else count


def candidates(num_warps: int) -> list[int]:
    """Numbers of warps worth a try: fewer would spill where there are eight, whose tiles fill the registers."""
    least = num_warps if num_warps >= _MOST_WARPS // 2 else max(1, num_warps // 2)
    return sorted({least, num_warps, max(num_warps, min(_MOST_WARPS, 2 * num_warps))})


@cache
def tuned(kernel: Any, num_warps: int) -> Any:
    """The kernel with whichever number of warps is fastest; Triton keeps the outcome on disk."""
    counts = sorted({warps(count) for count in candidates(num_warps)})
    return triton.autotune(
        configs=[triton.Config({}, num_warps=count, num_stages=1) for count in counts],
        key=[name for name, kind in kernel.fn.__annotations__.items() if kind is triton.language.constexpr],
        cache_results=isinstance(kernel, triton.JITFunction),  # and not the interpreter's
    )(kernel)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Within it nothing runs: launches, best of tensors on the device ``meta``, are added to the list."""
    global _record
    before, _record = _record, []
    try:
        yield _record
    finally:
        _record = before
