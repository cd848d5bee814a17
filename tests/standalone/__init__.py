"""The operators of ``csrc/cpu`` without torch, compiled for another processor or with sanitizers.

``Operators("arm")`` has a function for each, as ``torch.ops.blurfft_cpu`` has. They run in a process of their own, in
which ``torch.cpp`` stands in for torch.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock  # torch needs it, too
from simt import find_ninja
from torch import Tensor
from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"

FLAGS = "-std=c++20 -g1 -DNDEBUG -fno-math-errno -fno-trapping-math -Wall -Wno-psabi -pthread"
FLAGS += f" -DTORCH_TARGET_VERSION=0x020b000000000000 -DBLURFFT_CPU_CAPABILITY=baseline -I{CSRC}"


class Variant(NamedTuple):
    compiler: str
    flags: str
    link: str = ""
    run: tuple[str, ...] = ()  # what runs the program


_HOST = os.environ.get("CXX", "g++")
VARIANTS = {
    "arm": Variant("aarch64-linux-gnu-g++", "-O2", "-static", ("qemu-aarch64",)),
    "thread": Variant(_HOST, "-O1 -fsanitize=thread"),
    "address": Variant(_HOST, "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"),
}


def unavailable(variant: str) -> str | None:
    """Why the operators cannot be compiled or run so here, or None."""
    if not CSRC.is_dir():
        return "csrc is not beside the tests"
    needed = (VARIANTS[variant].compiler, *VARIANTS[variant].run[:1])
    if missing := [program for program in needed if shutil.which(program) is None]:
        return f"there is no {' and no '.join(missing)}"
    return None if find_ninja() else "there is no ninja"


def operator_sources(folder: Path) -> list[Path]:
    """The sources of the operators. What includes torch's headers, which take longer than all else, is one file, in
    ``folder``."""
    including_torch = [*sorted(CSRC.glob("cpu/ops/*.cpp")), CSRC / "library.cpp"]
    _update(folder / "operators.cpp", "".join(f'#include "{source}"\n' for source in including_torch))
    return [folder / "operators.cpp", *CSRC.glob("cpu/*.cpp"), *CSRC.glob("cpu/fft/*.cpp")]


def build(variant: str, program: str = "server") -> Path:
    """Compiles what has changed of ``server``, which runs the operators, or ``plan``, the planner under its fuzzer."""
    compiler, flags, link, _ = VARIANTS[variant]
    folder = ROOT / "build" / "standalone" / variant
    includes = " ".join(f"-isystem {path}" for path in include_paths())
    rules = f"""
rule compile
  command = {compiler} {FLAGS} {includes} {flags} -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = {compiler} {flags} {link} -pthread $in -o $out
"""
    planner = [CSRC / "cpu/fft/plan.cpp", HERE / "plan.cpp", HERE / "plan_driver.cpp"]
    folder.mkdir(parents=True, exist_ok=True)
    # Several processes may run the tests; one builds, the others then find everything up to date.
    with FileLock(folder / "lock"):
        operators = [*operator_sources(folder), HERE / "torch.cpp", HERE / "server.cpp"]
        objects = {source: f"{source.stem}.{source.parent.name}.o" for source in (*operators, *planner)}
        lines = [rules, *(f"build {target}: compile {source}" for source, target in objects.items())]
        for name, sources in (("server", operators), ("plan", planner)):
            lines.append(f"build {name}: link {' '.join(objects[source] for source in sources)}")
        _update(folder / "build.ninja", "\n".join(lines) + "\n")
        result = subprocess.run([str(find_ninja()), "-C", str(folder), program], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    return folder / program


def _update(file: Path, text: str) -> None:
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


class Operators:
    """Calls the operators of a variant: ``callers`` threads at once, in parallel regions of ``threads`` each.

    Raises:
        RuntimeError: an operator has raised an error, or the process has ended, as sanitizers end it; with its words.
    """

    def __init__(self, variant: str, threads: int = 1, callers: int = 1, **environment: str) -> None:
        self.threads, self.callers = threads, callers
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (for as long as the process)
        self._process = subprocess.Popen(
            [*VARIANTS[variant].run, str(build(variant))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, **environment},
        )

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._call, name)

    def close(self) -> None:
        """Ends the process, which must have nothing to complain of."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._ended()

    def _ended(self) -> RuntimeError:
        status = self._process.wait()
        self._complaints.seek(0)
        return RuntimeError(f"the operators' process ended with {status}: {self._complaints.read().decode()}")

    def _call(self, name: str, *arguments: Any) -> Tensor | tuple[Tensor | None, ...]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(
                struct.pack("=ii", self.threads, self.callers)
                + _list(name.encode())
                + struct.pack("=i", len(arguments))
                + b"".join(map(_argument, arguments))
            )
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        count = self._number("i")
        if count < 0:
            raise RuntimeError(self._read(self._number("i")).decode())
        results = tuple(self._tensor() for _ in range(count))
        return results[0] if count == 1 and results[0] is not None else results

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        found = self._process.stdout.read(count)
        if len(found) < count:
            raise self._ended()
        return found

    def _number(self, kind: str) -> int:
        return int(struct.unpack("=" + kind, self._read(struct.calcsize("=" + kind)))[0])

    def _numbers(self) -> tuple[int, ...]:
        count = self._number("i")
        return struct.unpack(f"={count}q", self._read(8 * count))

    def _tensor(self) -> Tensor | None:
        code = self._number("i")
        if code < 0:
            return None
        dtype = next(dtype for dtype, known in _DTYPES.items() if known == code)
        sizes, strides = self._numbers(), self._numbers()
        span = _span(sizes, strides)
        if span == 0:
            return torch.empty(sizes, dtype=dtype)
        memory = bytearray(self._read(span * dtype.itemsize))
        return torch.frombuffer(memory, dtype=dtype).as_strided(sizes, strides)


# By the numbers of torch's ScalarType.
_DTYPES = {torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.complex64: 9, torch.complex128: 10}
_DTYPES[torch.bfloat16] = 15


def _span(sizes: Iterable[int], strides: Iterable[int]) -> int:
    """The elements from a tensor's first to its last."""
    pairs = list(zip(sizes, strides, strict=True))
    return 0 if any(size == 0 for size, _ in pairs) else 1 + sum((size - 1) * stride for size, stride in pairs)


def _list(values: bytes, count: int | None = None) -> bytes:
    return struct.pack("=i", len(values) if count is None else count) + values


def _argument(value: Any) -> bytes:
    if not isinstance(value, Tensor):
        return b"N" + struct.pack("=d" if isinstance(value, float) else "=q", value)
    memory = value.detach().as_strided((_span(value.shape, value.stride()),), (1,))
    numbers = (struct.pack(f"={value.ndim}q", *of) for of in (value.shape, value.stride()))
    described = b"".join(_list(packed, value.ndim) for packed in numbers)
    return b"T" + struct.pack("=i", _DTYPES[value.dtype]) + described + memory.view(torch.uint8).numpy().tobytes()
