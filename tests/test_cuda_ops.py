"""The operators of ``csrc/cuda``, all but the device and the stream, on tensors of the CPU: their kernels run in the
emulator of ``tests/simt``, which also says where they touch what they should not.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import conformance
import pytest
import simt
import torch
from conformance import CALLS, Case

pytestmark = pytest.mark.skipif(simt.unavailable() is not None, reason=str(simt.unavailable()))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    from torch.utils.cpp_extension import include_paths, library_paths

    folder = simt.BUILD / "ops"
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++")
    # The operators register under a name of their own, as operators of the CPU: `cuda` is the namespace in all of them.
    renamed = "-Dcuda=cpu -Dblurfft_cpu=blurfft_simt"
    torch_flags = f"-DTORCH_TARGET_VERSION=0x020b000000000000 -I{ROOT}/csrc " + " ".join(
        f"-isystem {path}" for path in include_paths()
    )
    lines = [
        simt.NINJA.replace("command = $cxx", f"command = $cxx {renamed}"),
        "rule torch",
        f"  command = $cxx {renamed} {simt.FLAGS} {torch_flags} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link_torch",
        f"  command = $cxx -shared $in {' '.join(f'-L{path}' for path in library_paths())} -ltorch_cpu -ldl -o $out",
        f"cxx = {compiler}",
        f"build simt.o: emulator {simt.HERE}/simt.cpp",
    ]
    objects = ["simt.o"]
    for source in ("csrc/library.cpp", "csrc/cuda/ops.cpp", "tests/simt/torch/runtime.cpp"):
        objects.append(f"{Path(source).stem}.o")
        lines.append(f"build {objects[-1]}: torch {ROOT}/{source}")
    for path in sorted((ROOT / "csrc/cuda").glob("*.cu")):
        objects.append(f"{path.stem}.cu.o")
        lines.append(f"build {objects[-1]}: checked {path}")
    lines.append(f"build ops.so: link_torch {' '.join(objects)}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    result = subprocess.run([str(simt.find_ninja()), "-C", str(folder), "ops.so"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    torch.ops.load_library(str(folder / "ops.so"))
    library = ctypes.CDLL(str(folder / "ops.so"))
    library.simt_complaint.restype = ctypes.c_char_p
    library.simt_seed.argtypes = [ctypes.c_uint64]
    return library


@pytest.fixture(params=[0, 1], ids="seed{}".format)
def functions(request: pytest.FixtureRequest, library: ctypes.CDLL) -> SimpleNamespace:
    """The operators, each of which draws the order of its threads from the seed."""

    def emulated(name: str):
        def call(*arguments):
            library.simt_seed(request.param)
            result = getattr(torch.ops.blurfft_simt, name)(*arguments)
            assert library.simt_complaint() == b"", library.simt_complaint().decode()
            return result

        return call

    return SimpleNamespace(**{name: emulated(name) for name in {call.partition("-")[0] for call in CALLS}})


f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16

# Every radix, odd lengths, a single row and column.
CASES = [
    Case(8, 12, f32),
    Case(9, 7, f64, "transposed", "channels_last"),
    Case(5, 16, bf16, "channels_last", "channels_last", samples=1),
    Case(14, 10, f16, "sliced", "expanded", channels=2),
    Case(1, 6, f32),
    Case(4, 1, f64),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_operators(call: str, case: Case, functions: SimpleNamespace) -> None:
    conformance.check(functions, call, case)
