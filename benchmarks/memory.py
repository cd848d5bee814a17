"""Peak memory of one forward + backward; on a CPU each in a process of its own."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .cases import INPUT_GRAD, KERNEL_GRAD, RESULT, Case, Inputs, Outputs
from .contenders import COPY, contenders

GRADIENT = "gradient alone"
# What is measured
ALLOCATOR = "extra memory of torch's allocator"
PROCESS = "extra memory of the process"

_M_MMAP_THRESHOLD = -3
_PR_SET_THP_DISABLE = 41


def measure(case: Case, contender: str, device: str, threads: int) -> dict[str, float]:
    """The peak beyond inputs and gradients, in % of the gradient by input, of torch's allocator and, where the system
    tells, of the whole process.

    The first counts what is asked for, the second what is touched, in workspaces outside of torch's allocator too.
    """
    if device == "cuda":
        return _measure_cuda(case, contender)
    context: multiprocessing.context.ForkServerContext | multiprocessing.context.SpawnContext
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    else:
        context = multiprocessing.get_context("spawn")
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler says on stderr that it starts and stops
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, case, contender, threads), daemon=True)
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"its process ended with exit code {process.exitcode}") from None
    finally:
        process.terminate()
    if isinstance(result, Exception):
        raise result
    return result


def _send(sender: Connection, case: Case, contender: str, threads: int) -> None:
    try:
        sender.send(_measure_here(case, contender, threads))
    except Exception as error:
        sender.send(error)


def _measure_cuda(case: Case, contender: str) -> dict[str, float]:
    inputs = Inputs.of(case, "cuda")
    step = _step(case, inputs, contender)
    step()  # tables and plans that stay are no part of a step
    inputs.clear()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    outputs = step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return {ALLOCATOR: (peak - _bytes_left(outputs)) / (inputs.input.nbytes / 100)}


def _measure_here(case: Case, contender: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        # Every larger allocation in pages of its own, small ones: neither fragmentation nor rounding to 2 MiB counts.
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 17)
    # Threads and libraries are there before anything is measured, workspaces of this case's size are not.
    torch.ones(1 << 20).add_(1)
    small = replace(case, shape=(8, case.shape[1], 16, 16))
    _step(small, Inputs.of(small), contender)()

    inputs = Inputs.of(case)
    step = _step(case, inputs, contender)
    process = _process_peak(step)
    inputs.clear()
    allocator = _allocator_peak(step)
    left = _bytes_left(step())
    unit = inputs.input.nbytes / 100
    result = {ALLOCATOR: (allocator - left) / unit}
    return result if process is None else {**result, PROCESS: (process - left) / unit}


def _bytes_left(outputs: Outputs) -> int:
    return sum(output.nbytes for name, output in outputs.items() if name != RESULT)


def names(case: Case, device: str) -> list[str]:
    """The contenders whose memory is measured."""
    one = replace(case, shape=(1, *case.shape[1:]))
    return [GRADIENT, *(c.name for c in contenders(one, Inputs.of(one, device)) if c.name != COPY)]


def _gradient_alone(inputs: Inputs) -> Outputs:
    """Allocates gradients and nothing else: its deviation from 0 is the error of the measurement."""
    inputs.clear()
    outputs = {}
    for name, tensor in ((INPUT_GRAD, inputs.input), (KERNEL_GRAD, inputs.kernel)):
        if tensor.requires_grad:
            tensor.grad = outputs[name] = torch.ones_like(tensor)
    return outputs


def _step(case: Case, inputs: Inputs, contender: str) -> Callable[[], Outputs]:
    if contender == GRADIENT:
        return lambda: _gradient_alone(inputs)
    return next(c.step for c in contenders(case, inputs) if c.name == contender)


def _process_peak(step: Callable[[], object]) -> int | None:
    """The largest growth of the resident set during ``step``, in bytes."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        # Memory that was freed and kept would be used again without any growth.
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM := VmRSS
    except OSError:
        return None
    before, code_before = _resident()
    # The gradients must be alive at the end, whoever owns them.
    outputs = step()
    peak, code = _resident()
    del outputs
    # Code that is paged in for the first time is not memory of this step.
    return peak - before - (code - code_before)


def _resident() -> tuple[int, int]:
    """The peak of the resident set and the mapped files now resident, in bytes."""
    status = Path("/proc/self/status").read_text()
    peak, files = (re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE) for field in ("VmHWM", "RssFile"))
    assert peak is not None and files is not None
    return 1024 * int(peak[1]), 1024 * int(files[1])


def _allocator_peak(step: Callable[[], object]) -> int:
    """The most bytes of torch's allocator that ``step`` holds at any time."""
    # torch.profiler.profile would do, but it imports torch.compile first, which takes seconds.
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    events = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    held = peak = 0
    for event in events:
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak
