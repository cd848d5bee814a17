"""What nvcc made of the CUDA kernels: every kernel for every architecture, in registers. No GPU is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blurfft import _ext

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "csrc" / "cuda"
LOGS = sorted(ROOT.glob(f"build/temp.*{sys.implementation.cache_tag}/csrc/cuda/*.o.log"))

extension = _ext.module()
with_kernels = pytest.mark.skipif(
    extension is None or not extension.build_info()["cuda"] or not LOGS,
    reason="the CUDA kernels were not compiled in this tree: BLURFFT_CUDA=1 python setup.py build_ext --inplace",
)
needs_nvcc = pytest.mark.skipif(
    shutil.which("nvcc") is None or not (ROOT / "setup.py").is_file(), reason="compiles with nvcc in the source tree"
)

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for '(?P<architecture>\w+)'\n"
    r".*\n\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?"
)


def kernels() -> list[dict[str, str]]:
    """A row for each kernel and architecture, from ptxas -v."""
    return [match.groupdict() for log in LOGS for match in ENTRY.finditer(log.read_text())]


@with_kernels
def test_every_kernel_is_compiled_for_every_architecture() -> None:
    found: dict[str, set[str]] = {}
    for kernel in kernels():
        found.setdefault(kernel["name"], set()).add(kernel["architecture"])
    architectures = set().union(*found.values())
    assert all(there == architectures for there in found.values())
    if "TORCH_CUDA_ARCH_LIST" not in os.environ:
        assert {"sm_80", "sm_90"} < architectures
    declared = {
        name
        for header in SOURCES.glob("*.cuh")
        for name in re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^;{]*?\)\s+)?(\w+)\(", header.read_text())
    }
    assert declared
    missing = [name for name in declared if not any(f"{len(name)}{name}" in mangled for mangled in found)]
    assert not missing, "kernels that no source file instantiates"


@with_kernels
def test_no_kernel_spills() -> None:
    for kernel in kernels():
        for memory in ("stack", "stores", "loads"):
            assert kernel[memory] == "0", kernel
        assert int(kernel["registers"]) < 255, kernel
        # What a kernel needs more of is dynamic.
        assert int(kernel["shared"] or 0) <= 4 << 10, kernel


@needs_nvcc
@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ("Hopper", "TORCH_CUDA_ARCH_LIST is 'Hopper', but should hold numbers like 9.0, 9.0a or 9.0+PTX."),
        ("9.0;3.5", "TORCH_CUDA_ARCH_LIST asks for 3.5, but "),
    ],
)
def test_architectures_are_checked(wish: str, sentence: str, tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-temp", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"BLURFFT_CUDA": "1", "TORCH_CUDA_ARCH_LIST": wish},
        capture_output=True,
        text=True,
    )
    assert build.returncode != 0
    message = build.stderr.splitlines()[-1]
    assert message.startswith("blurfft: ")
    assert sentence in message
