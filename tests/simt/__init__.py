"""Compiles the emulator's test libraries, ``tests/simt/NAME.cpp``, and loads them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "simt"

FLAGS = f"-std=c++20 -O1 -g1 -fPIC -fvisibility-inlines-hidden -Wall -Wno-unknown-pragmas -I{HERE} -I{ROOT}/csrc/cuda"
# Only -fsanitize=thread's calls before each access are wanted, and one call for each access in the source: no merging.
CHECKED = (
    "-fsanitize=thread,alignment,bounds -fsanitize-recover=all --param tsan-instrument-func-entry-exit=0"
    " -fno-strict-aliasing -fno-tree-vectorize -fno-store-merging"
)
NINJA = f"""
rule checked
  command = $cxx {FLAGS} {CHECKED} -MD -MF $out.d -x c++ -c $in -o $out
  depfile = $out.d
  deps = gcc
rule emulator
  command = $cxx {FLAGS} -O2 -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = $cxx -shared -Wl,--no-undefined $in -o $out -ldl
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
    """``tests/simt/NAME.cpp``, compiled if something has changed; ``kernels`` with all of ``csrc/cuda/*.cu``."""
    lines = [NINJA, f"cxx = {os.environ.get('CXX', 'g++')}", f"build simt.o: emulator {HERE}/simt.cpp"]
    kernels = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    lines += [f"build {source.name}.o: checked {source}" for source in kernels]
    for source, more in (HERE / "broken.cpp", []), (HERE / "kernels.cpp", kernels):
        objects = [f"{source.name}.o", *(f"{kernel.name}.o" for kernel in more)]
        lines.append(f"build {source.name}.o: checked {source}")
        # The emulator first: of an inline function that several define, the linker keeps the first copy.
        lines.append(f"build {source.stem}.so: link simt.o {' '.join(objects)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "build.ninja").write_text("\n".join(lines) + "\n")
    command = [str(find_ninja()), "-C", str(BUILD), f"{name}.so"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    return ctypes.CDLL(str(BUILD / f"{name}.so"))
