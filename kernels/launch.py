"""Starting kernels on the device and stream of their tensors or, instead, writing down what would be started."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Launch(NamedTuple):
    kernel: Any  # the JIT function
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]  # those that are no constants, in order
    constants: dict[str, Any]
    num_warps: int


_record: list[Launch] | None = None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
    if _record is not None:
        _record.append(Launch(kernel, grid, arguments, constants, num_warps))
        return
    device = next(t.device for t in arguments if isinstance(t, Tensor))
    # Triton launches on the current stream of the current device.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **constants, num_warps=num_warps, num_stages=1)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Within it nothing runs: launches, best of tensors on the device ``meta``, are added to the list."""
    global _record
    before, _record = _record, []
    try:
        yield _record
    finally:
        _record = before
