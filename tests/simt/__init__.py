"""Compiles the emulator's test libraries, ``tests/simt/NAME.cpp``, and loads them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from filelock import FileLock  # torch needs it, too
from torch.utils.cpp_extension import include_paths, library_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "simt"

FLAGS = f"-std=c++20 -O1 -g1 -fPIC -fvisibility-inlines-hidden -Wall -Wno-unknown-pragmas -I{HERE} -I{ROOT}/csrc/cuda"
# The operators register under a name of their own, as operators of the CPU: `cuda` is the namespace in all of them.
FLAGS += " -Dcuda=cpu -Dblurfft_cpu=blurfft_simt"
# Only -fsanitize=thread's calls before each access are wanted, and one call for each access in the source: no merging.
CHECKED = (
    "-fsanitize=thread,alignment,bounds -fsanitize-recover=all --param tsan-instrument-func-entry-exit=0"
    " -fno-strict-aliasing -fno-tree-vectorize -fno-store-merging"
)
TORCH = f"-DTORCH_TARGET_VERSION=0x020b000000000000 -DBLURFFT_HAVE_CUDA_VARIANTS -I{ROOT}/csrc"
NINJA = f"""
rule checked
  command = $cxx {FLAGS} {CHECKED} -MD -MF $out.d -x c++ -c $in -o $out
  depfile = $out.d
  deps = gcc
rule emulator
  command = $cxx {FLAGS} -O2 -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule torch
  command = $cxx {FLAGS} {TORCH} $torch_include -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = $cxx -shared -Wl,--no-undefined $in $libraries -ldl -o $out
"""


def find_ninja() -> str | None:
    beside = Path(sys.executable).with_name("ninja")
    return str(beside) if beside.exists() else shutil.which("ninja")


@functools.cache
def unavailable() -> str | None:
    """Why the emulator cannot be built here, or None."""
    if not (ROOT / "csrc" / "cuda").is_dir():
        return "csrc/cuda is not beside the tests"
    cxx = shutil.which(os.environ.get("CXX", "g++"))
    if cxx is None:
        return "no C++ compiler"
    macros = subprocess.run([cxx, "-dM", "-E", "-xc++", os.devnull], capture_output=True, text=True).stdout
    defined = dict(line.split(" ", 2)[1:] for line in macros.splitlines() if line.count(" ") >= 2)
    if "__clang__" in defined or int(defined.get("__GNUC__", 0)) < 12:
        return f"{cxx} is not g++ 12 or newer"
    if not {"__x86_64__", "__aarch64__"} & defined.keys() or "__linux__" not in defined:
        return "the emulator runs on Linux, x86-64 or aarch64"
    return None if find_ninja() else "no ninja"


def load(name: str) -> ctypes.CDLL:
    """Compiles what has changed and loads ``broken`` (broken.cpp), or ``ops``: all of ``csrc/cuda`` but the device and
    the stream, which registers its operators as ``torch.ops.blurfft_simt``, for tensors of the CPU.
    """
    kernels = sorted((ROOT / "csrc/cuda").rglob("*.cu"))
    sources = {path: "checked" for path in (HERE / "broken.cpp", *kernels)} | {HERE / "simt.cpp": "emulator"}
    ops = [ROOT / "csrc/library.cpp", ROOT / "csrc/cuda/ops.cpp", HERE / "runtime.cpp"]
    sources |= dict.fromkeys(ops, "torch")
    paths = {"include": " ".join(f"-isystem {path}" for path in include_paths())}
    paths["library"] = " ".join(f"-L{path}" for path in library_paths())
    lines = [NINJA, f"cxx = {os.environ.get('CXX', 'g++')}", *(f"torch_{key} = {paths[key]}" for key in paths)]
    lines += [f"build {source.stem}.o: {rule} {source}" for source, rule in sources.items()]
    # The emulator first: of an inline function that several define, the linker keeps the first copy.
    lines.append("build broken.so: link simt.o broken.o")
    lines.append(f"build ops.so: link simt.o {' '.join(f'{source.stem}.o' for source in (*kernels, *ops))}")
    lines.append("  libraries = $torch_library -ltorch_cpu")
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [str(find_ninja()), "-C", str(BUILD), f"{name}.so"]
    # Several processes may run the tests; one builds, the others then find everything up to date.
    with FileLock(BUILD / "lock"):
        (BUILD / "build.ninja").write_text("\n".join(lines) + "\n")
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    if name == "ops":
        torch.ops.load_library(str(BUILD / "ops.so"))
    return ctypes.CDLL(str(BUILD / f"{name}.so"))
