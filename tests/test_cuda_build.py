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
LOGS = sorted(ROOT.glob(f"build/temp.*{sys.implementation.cache_tag}/csrc/cuda/**/*.o.log"))

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
    with_clusters = {name for name in architectures if int(name[3:].rstrip("af")) >= 90} or architectures
    for name, there in found.items():
        of_cluster = "ClusterPlane" in name or "PushPlane" in name
        assert there == (with_clusters if of_cluster else architectures), name
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
        if "blurfft4cuda8variants" in kernel["name"]:
            continue  # a GPU decides about those as they are
        for memory in ("stack", "stores", "loads"):
            assert kernel[memory] == "0", kernel
        # What a kernel needs more of is dynamic.
        assert int(kernel["shared"] or 0) <= 4 << 10, kernel


# Of kernels for any size, in float and in double: 80 leave room for 3 blocks of 256 threads on a multiprocessor, 128
# for 2, 255 for 1.
REGISTERS = {
    "staged_rows": (80, 128),
    "staged_rows_inverse": (80, 128),
    "staged_columns": (104, 128),
    "prime_tables_kernel": (64, 64),
    "scale_kernel": (40, 40),
    "otf_kernel": (160, 160),  # this one and the next two add up responses in double
    "otf_backward_rows": (80, 128),
    "otf_backward_columns": (80, 128),
    "precision_spectrum_kernel": (160, 160),
    "precision_spectrum_backward_kernel": (160, 192),
    "parameter_sum_kernel": (64, 64),
    "loss_sum_kernel": (64, 64),
    "sum_slabs_kernel": (40, 40),
}
REGISTER_FILE = 64 << 10  # of a multiprocessor, in 32-bit registers
CLUSTER_FILTER_BLOCKS = 2


def most_registers(mangled: str, architecture: str) -> int:
    """What leaves room for as many blocks of a multiprocessor as the design of a kernel counts on (planes.cuh)."""
    found = re.match(r"_ZN7blurfft4cuda(\d+)", mangled)
    assert found is not None, mangled
    name = mangled[found.end() :][: int(found[1])]
    arguments = mangled[found.end() + len(name) :]
    if name.startswith("staged") and "PrimeLine" in arguments:
        return 224 if arguments.startswith("Id") else 128
    if name in REGISTERS:
        return REGISTERS[name][arguments.startswith("Id")]
    fewer = name in ("spectral_filter_kernel", "cross_spectrum_kernel") or "ELb1E" in arguments
    if (plane := re.search(r"FixedPlane.*?Li(\d+)ELi(\d+)ELi(\d+)E", arguments)) is not None:
        threads, blocks = int(plane[1]) * int(plane[2]), int(plane[3])
        blocks = (blocks * 3 + 1) // 4 if fewer else blocks
    elif (push := re.search(r"PushPlaneILi(\d+)E", arguments)) is not None:
        threads, blocks = int(push[1]), 2
    else:
        cluster = re.search(r"ClusterPlane.*?EELi(\d+)ELi(\d+)E", arguments)
        assert cluster is not None, f"{name} has no limit"
        threads, blocks = int(cluster[1]), CLUSTER_FILTER_BLOCKS if fewer else int(cluster[2])
    if "TORCH_CUDA_ARCH_LIST" in os.environ and int(architecture[3:].rstrip("af")) >= 100:
        blocks = (blocks * 3 + 2) // 4  # resident(), of code that is compiled from PTX of its own
    return min(255, REGISTER_FILE // (threads * blocks) // 8 * 8)


@with_kernels
def test_registers_leave_room_for_enough_blocks() -> None:
    for kernel in kernels():
        assert int(kernel["registers"]) <= most_registers(kernel["name"], kernel["architecture"]), kernel


@needs_nvcc
@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ("Hopper", "TORCH_CUDA_ARCH_LIST is 'Hopper', but should hold numbers like 9.0, 9.0a or 9.0+PTX."),
        ("9.0;3.5", "TORCH_CUDA_ARCH_LIST asks for 3.5, but "),
        ("7.5", "TORCH_CUDA_ARCH_LIST asks for 7.5, but the kernels need 8.0 or newer."),
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
