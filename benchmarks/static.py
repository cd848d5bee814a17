"""What the GPU kernels cost, read from their machine code on any machine: ``python -m benchmarks.static``.

Nothing is run. Every kernel and configuration is compiled for each target; registers, spills, stack, shared memory,
instructions and the width of memory accesses are read from the result, and a roofline *estimate* of the time follows.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from . import report
from .machine_code import Code, demangled, read_amdgcn, read_cubin, read_object
from .tables import show

# Machines


@dataclass(frozen=True)
class Target:
    """An instruction set, and what one multiprocessor (compute unit) of its GPUs holds."""

    name: str
    lanes: int  # of a warp
    registers: int  # in all
    registers_step: int  # the unit in which a thread gets them
    warps: int
    blocks: int
    shared: int  # bytes
    shared_reserved: int  # bytes of each block

    @property
    def compute_capability(self) -> int | None:
        return int(self.name[3:]) if self.name.startswith("sm_") else None


# CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability". AMD: "MI300 ISA" (a compute
# unit has 4 SIMDs of 512 vector registers a lane, and 64 KiB of LDS); LLVM, "AMDGPU Usage" (at most 8 waves a SIMD).
TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", 32, 65536, 8, 64, 32, 164 * 1024, 1024),
        Target("sm_90", 32, 65536, 8, 64, 32, 228 * 1024, 1024),
        Target("sm_100", 32, 65536, 8, 64, 32, 228 * 1024, 1024),
        Target("gfx942", 64, 4 * 512 * 64, 8, 32, 32, 64 * 1024, 0),
    )
}


@dataclass(frozen=True)
class Machine:
    """The figures of a data sheet: multiprocessors, bytes/s, and flop/s by type (dense).

    ``copy`` is the share of that bandwidth that a device-to-device copy reaches, where it was measured.
    """

    name: str
    target: str
    multiprocessors: int
    bandwidth: float
    copy: float | None
    fp32: float
    fp64: float
    tensor: dict[str, float]
    source: str

    @property
    def clock(self) -> float:
        """Hz. The fp32 rate of the data sheet stands for it: 64 (sm_80) or 128 fused multiply-adds a cycle."""
        return self.fp32 / (2 * (64 if self.target == "sm_80" else 128) * self.multiprocessors)


MACHINES = (
    Machine(
        name="A100 SXM 80 GB",
        target="sm_80",
        multiprocessors=108,
        bandwidth=2.039e12,
        copy=None,
        fp32=19.5e12,
        fp64=9.7e12,
        tensor={"tf32": 156e12, "fp16": 312e12, "fp64": 19.5e12},
        source="https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
        "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    ),
    Machine(
        name="H100 SXM 80 GB",
        target="sm_90",
        multiprocessors=132,
        bandwidth=3.35e12,
        copy=3.0 / 3.35,
        fp32=67e12,
        fp64=34e12,
        tensor={"tf32": 494.5e12, "fp16": 989.5e12, "fp64": 67e12},
        source="https://www.nvidia.com/en-us/data-center/h100/ (tensor figures there are with sparsity: halved)",
    ),
)
SHARED_BYTES_PER_CYCLE = 128  # a multiprocessor, without bank conflicts
WARP_INSTRUCTIONS_PER_CYCLE = 4  # a multiprocessor


# Kernels


@dataclass(frozen=True)
class Case:
    """A kernel in one configuration. ``compile`` makes its machine code for a target."""

    backend: str  # and for Triton its version, as in "triton 3.6"
    kernel: str
    configuration: str
    pixels: int  # that a program (a block) works on; one value of one channel of one image is a pixel
    # Of main memory, read and written. 0: it varies, or is of no account beside another kernel's; there is no estimate.
    bytes_per_pixel: float
    flop_per_pixel: float
    compile: Callable[[Target], Compiled]
    targets: tuple[str, ...] = tuple(TARGETS)
    branching: bool = False  # on the images' dtype and layout: a call runs a part of the instructions only

    def __str__(self) -> str:
        return f"{self.kernel} {self.configuration}"


@dataclass(frozen=True)
class Compiled:
    code: Code
    threads: int  # of a block
    shared: int  # bytes of a block, static and dynamic


BACKENDS = ("triton", "cuda")


def every_case(targets: Sequence[str], backends: Sequence[str] = BACKENDS) -> tuple[Case, ...]:
    return (
        *(triton_cases() if "triton" in backends else ()),
        *(cuda_cases(tuple(targets)) if "cuda" in backends else ()),
    )


@cache
def triton_cases() -> tuple[Case, ...]:
    """Of the Triton that is installed; --out keeps the rows of others."""
    backend = f"triton {'.'.join(version('triton').split('.')[:2])}"

    def case(kernel: Any) -> Case:
        name, _, configuration = kernel.name.partition(" ")
        return Case(
            backend,
            name,
            configuration,
            kernel.planes * kernel.pixels,
            kernel.bytes_per_pixel,
            0.0,  # the code tells: Triton unrolls its loops
            lambda target: compile_triton(kernel, target),
        )

    return tuple(map(case, importlib.import_module("blurfft.kernels.static").static_cases()))


def compile_triton(kernel: Any, target: Target) -> Compiled:
    """``kernel`` has the function, its signature and so on, as a case of ``blurfft.kernels.static``.

    Its warps are of 32 threads; of wider ones there are as many fewer.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(kernel.function, kernel.signature, kernel.constexprs, kernel.attrs)
    number = target.compute_capability
    gpu = GPUTarget("hip", target.name, target.lanes) if number is None else GPUTarget("cuda", number, target.lanes)
    options = {"num_warps": max(1, kernel.num_warps * 32 // target.lanes), "num_stages": kernel.num_stages}
    compiled = triton.compile(source, target=gpu, options=options)
    if number is None:
        code = read_amdgcn(compiled.asm["amdgcn"])
    else:
        with TemporaryDirectory() as folder:
            cubin = Path(folder, "kernel.cubin")
            cubin.write_bytes(compiled.asm["cubin"])
            (code,) = read_cubin(cubin, number).values()
    return Compiled(code, target.lanes * compiled.metadata.num_warps, code.shared + compiled.metadata.shared)


# CUDA C++: what the build has compiled.

OBJECTS = f"build/temp.*{sys.implementation.cache_tag}/csrc/cuda/*.o"
# Of kernels that have a plane in each block or warp, with images in float32: bytes of main memory.
PLANE_KERNELS = {
    "spectral_loss_kernel": 12,  # input, target, gradient
    "focal_frequency_loss_kernel": 12,
    "spectral_filter_kernel": 8,  # input, result
    "cross_spectrum_kernel": 8,  # a, b
    "rfft2_kernel": 8,  # image, half spectrum
    "irfft2_kernel": 8,
}
_PLANE = re.compile(r"FixedPlane<(\w+), TwoPass<(\d+), (\d+)>, TwoPass<(\d+), (\d+)>, \d+, (\d+), \d+>")
_CLUSTER = re.compile(r"ClusterPlane<(\w+), TwoPass<(\d+), (\d+)>, \d+, \d+, Cluster>")
_SIZES = {"float": 4, "double": 8}


@cache
def cuda_code(target: Target) -> dict[str, Code]:
    """By their C++ names. Objects that are left of a source that is no more do not count."""
    codes: dict[str, Code] = {}
    for path in report.ROOT.glob(OBJECTS):
        if target.compute_capability is not None and (report.ROOT / "csrc/cuda" / f"{path.stem}.cu").is_file():
            codes |= read_object(path, target.compute_capability)
    return dict(zip(demangled(list(codes)), codes.values(), strict=True))


@cache
def cuda_cases(targets: tuple[str, ...]) -> tuple[Case, ...]:
    found: dict[str, list[str]] = {}
    for target in targets:
        for name in cuda_code(TARGETS[target]):
            found.setdefault(name, []).append(target)
    return tuple(cuda_case(name, tuple(where)) for name, where in sorted(found.items()))


def cuda_case(name: str, targets: tuple[str, ...]) -> Case:
    """The template arguments tell size and type of the planes."""
    written = name.replace("blurfft::cuda::", "").removeprefix("void ").rpartition("(")[0]
    kernel, _, arguments = written.partition("<")
    arguments = arguments.removesuffix(">")
    pixels, shared, flop = 0, 0, 0.0
    transforms = 1 if kernel in ("rfft2_kernel", "irfft2_kernel") else 2
    if (plane := _PLANE.search(arguments)) is not None:
        first, second, *_ = horizontal = [int(digit) for digit in plane.group(4, 5)]
        height, width = int(plane[2]) * int(plane[3]), first * second
        planes = int(plane[6])
        arguments = arguments.replace(plane[0], f"{height}x{width} {plane[1]}")
        # csrc/cuda/plane.cuh: columns j and j + W/2 are one of complex numbers.
        half = width // 2
        pitch = -(-half // 16) * 16 if horizontal[1] == 8 else half | 1
        shared = planes * height * pitch * 2 * _SIZES[plane[1]]
        if kernel in PLANE_KERNELS:
            pixels = planes * height * width
            flop = transforms * 2.5 * math.log2(height * width)  # the usual count for a real plane
    elif (plane := _CLUSTER.search(arguments)) is not None:
        # csrc/cuda/cluster_plane.cuh: a square plane is four blocks', each with a quarter and two lines of columns.
        side = int(plane[2]) * int(plane[3])
        arguments = arguments.replace(plane[0], f"{side}x{side} {plane[1]}")
        shared = (side * side // 8 + side // 2) * 2 * _SIZES[plane[1]] + 4 * _SIZES[plane[1]]
        pixels = side * side // 4
        flop = transforms * 2.5 * math.log2(side * side)

    def compiled(target: Target) -> Compiled:
        code = cuda_code(target)[name]
        return Compiled(code, code.max_threads, code.shared + shared)

    traffic = PLANE_KERNELS.get(kernel, 0) if pixels else 0
    return Case("cuda", kernel, arguments, pixels, traffic, flop, compiled, targets, branching=True)


# What follows from the machine code


@dataclass(frozen=True)
class Estimate:
    """By the roofline: the slowest of memory, arithmetic, shared memory and instruction issue, at large batch.

    With a single block on a multiprocessor nothing overlaps: memory and the slowest of the others add up.
    """

    machine: str
    ns_per_pixel: float
    share: float  # of the memory limit
    limit: str


@dataclass(frozen=True)
class Row:
    backend: str
    kernel: str
    configuration: str
    target: str
    code: Code
    threads: int
    shared: int
    blocks: int  # resident on a multiprocessor
    occupancy: float  # share of its warps
    pixels: int
    bytes_per_pixel: float
    flop_per_pixel: float  # as the code executes them, as far as they can be counted
    estimates: list[Estimate] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    excused: dict[str, str] = field(default_factory=dict)  # fault: why


def resident_blocks(compiled: Compiled, target: Target) -> int:
    warps = -(-compiled.threads // target.lanes)
    step = target.registers_step
    registers = max(step, -(-compiled.code.registers // step) * step) * target.lanes * warps
    shared = compiled.shared + target.shared_reserved
    limits = [target.blocks, target.warps // warps, target.registers // registers]
    if shared:
        limits.append(target.shared // shared)
    return min(limits)


def repetitions(case: Case, compiled: Compiled) -> float:
    """How often the code runs, by its arithmetic: 1 where it has no loop."""
    counted = compiled.code.flop * compiled.threads / case.pixels
    return max(1.0, case.flop_per_pixel / counted) if compiled.code.loops and counted else 1.0


def executed_flop(case: Case, compiled: Compiled) -> float:
    """A pixel, by the code; by the case where the code does not tell."""
    code = compiled.code
    if code.loops or (code.tensor and not code.tensor_flop):
        return case.flop_per_pixel
    return code.flop * compiled.threads / case.pixels


def estimate(case: Case, compiled: Compiled, blocks: int, machine: Machine) -> Estimate:
    code = compiled.code
    threads = repetitions(case, compiled) * compiled.threads / case.pixels  # a pixel
    multiprocessors = machine.multiprocessors * machine.clock
    memory = case.bytes_per_pixel / machine.bandwidth
    arithmetic = 2 * (code.fma + code.add + code.multiply) / machine.fp32 + code.double / machine.fp64
    arithmetic += sum(flop / machine.tensor[kind] for kind, flop in code.tensor_flop.items())
    others = {
        "arithmetic": threads * arithmetic,
        "shared memory": threads * code.shared_moved / (SHARED_BYTES_PER_CYCLE * multiprocessors),
    }
    if not case.branching:
        issued = threads * code.instructions / 32
        others["instructions"] = issued / (WARP_INSTRUCTIONS_PER_CYCLE * multiprocessors)
    slowest = max(others, key=lambda name: others[name])
    if blocks > 1:
        seconds = max(memory, others[slowest])
        limit = "memory" if memory >= others[slowest] else slowest
    else:
        seconds = memory + others[slowest]
        limit = f"memory, then {slowest}"
    return Estimate(machine.name, 1e9 * seconds, memory / seconds, limit)


# Faults

WIDE = 64  # bits a thread: 256 bytes and more a warp


@dataclass(frozen=True)
class Exemption:
    """A fault that is accepted; the names are patterns as of a shell."""

    fault: str
    kernel: str
    configuration: str
    target: str
    why: str
    backend: str = "*"

    def covers(self, fault: str, row: Row) -> bool:
        return fault.startswith(self.fault) and all(
            fnmatchcase(name, pattern)
            for name, pattern in (
                (row.kernel, self.kernel),
                (row.configuration, self.configuration),
                (row.target, self.target),
                (row.backend, self.backend),
            )
        )


_COLUMNS = (
    "neighbouring threads have neighbouring columns of a half of the plane, 32 bits each: a warp moves up to 128 "
    "contiguous bytes"
)
_SPECTRA = (
    "rows of a half spectrum, W/2 + 1 complex numbers, are aligned to 8 bytes at most, and Triton, which has no "
    "complex numbers, moves their two parts one after the other"
)
_LARGEST = (
    "a program of 8 warps has 255 registers a thread for 64 complex numbers; 16 warps of 128 registers spilled more, "
    "and three kernels instead of one would move 28 bytes a pixel, not 12"
)
_POWER = (
    "the power, 2 of the 14 bytes a pixel, is stored 32 bits at a time: the order in which the transform leaves its "
    "frequencies is not that of memory"
)
_CONVOLVED = (
    "a convolution: for sm_90 Triton 3.6 keeps 8 to 24 bytes a thread in local memory, 3.8 none in 167 and 214 "
    "registers; for sm_80 one of its kernels keeps 8"
)
_SHARED = "it needs more shared memory than an A100 has, where with_plane() leaves such planes to the staged kernels"
EXEMPTIONS: tuple[Exemption, ...] = (
    *(
        Exemption("narrow", kernel, "*", "*", _SPECTRA)
        for kernel in ("rfft2", "rfft2_columns", "irfft2", "irfft2_columns", "cross_spectrum", "cross_columns")
    ),
    Exemption("narrow", "filter_columns", "* weight_grad", "*", _SPECTRA),
    *(
        Exemption(fault, "spectral_loss", f"{size} fp32", "sm_*", _LARGEST)
        for fault in ("spills", "stack")
        for size in ("128x128", "96x96")
    ),
    Exemption("narrow", "spectral_loss", "64x64 fp32 weight_grad", "sm_*", _POWER, backend="triton 3.6"),
    *(
        Exemption(fault, kernel, f"218x178 fp32 {of}", "sm_90", _CONVOLVED, backend="triton 3.6")
        for fault in ("spills", "stack")
        for kernel, of in (("filter_columns", "complex"), ("focal_columns", "focal"))
    ),
    *(
        Exemption(fault, "filter_columns", "218x178 fp32", "sm_80", _CONVOLVED, backend="triton 3.8")
        for fault in ("spills", "stack")
    ),
    Exemption("narrow", "spectral_loss_kernel", "*", "sm_*", _COLUMNS),
    *(
        Exemption("does not fit", kernel, "224x224 *", "sm_80", _SHARED)
        for kernel in ("spectral_loss_kernel", "spectral_filter_kernel", "rfft2_kernel", "irfft2_kernel")
    ),
)


def faults(case: Case, compiled: Compiled, blocks: int) -> list[str]:
    code = compiled.code
    found = []
    if code.spills:
        found.append(f"spills {code.spills} bytes a thread")
    if code.stack:
        found.append(f"stack of {code.stack} bytes a thread")
    if case.bytes_per_pixel:
        # What is read from caches, such as tables, may be narrow: the rest must be enough for what main memory moves.
        accesses = Counter(code.loads) + Counter(code.stores)
        wide = sum(width // 8 * number for width, number in accesses.items() if width >= WIDE)
        wide_per_pixel = wide * repetitions(case, compiled) * compiled.threads / case.pixels
        if wide_per_pixel < case.bytes_per_pixel:
            found.append(f"narrow: {wide_per_pixel:.3g} of {case.bytes_per_pixel:.3g} bytes/px in {WIDE} bits or more")
    if blocks == 0:
        found.append(f"does not fit: {code.registers} registers × {compiled.threads} threads, {compiled.shared} bytes")
    return found


def examine(case: Case, target: Target, exemptions: Sequence[Exemption] = EXEMPTIONS) -> Row:
    compiled = case.compile(target)
    blocks = resident_blocks(compiled, target)
    row = Row(
        backend=case.backend,
        kernel=case.kernel,
        configuration=case.configuration,
        target=target.name,
        code=compiled.code,
        threads=compiled.threads,
        shared=compiled.shared,
        blocks=blocks,
        occupancy=blocks * -(-compiled.threads // target.lanes) / target.warps,
        pixels=case.pixels,
        bytes_per_pixel=case.bytes_per_pixel,
        flop_per_pixel=executed_flop(case, compiled) if case.bytes_per_pixel else 0.0,
        estimates=[
            estimate(case, compiled, blocks, machine)
            for machine in MACHINES
            if machine.target == target.name and blocks and case.bytes_per_pixel
        ],
    )
    for fault in faults(case, compiled, blocks):
        exemption = next((e for e in exemptions if e.covers(fault, row)), None)
        if exemption is None:
            row.faults.append(fault)
        else:
            row.excused[fault] = exemption.why
    return row


# Output


def conditions(**options: Any) -> dict[str, Any]:
    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return report.run(triton=installed("triton"), **options)


def widths(accesses: dict[int, int]) -> str:
    """The widest and the narrowest, in bits."""
    if not accesses:
        return "–"
    widest, narrowest = max(accesses), min(accesses)
    return f"{widest}" if widest == narrowest else f"{widest}…{narrowest}"


COLUMNS = (
    *(
        "backend",
        "kernel",
        "configuration",
        "registers",
        "spills",
        "stack",
        "shared KiB",
        "blocks",
        "occupancy",
        "tensor",
    ),
    *("FMA", "ADD", "MUL", "fp64", "loads", "stores", "bytes/px", "flop/px"),
)
ESTIMATE_COLUMNS = ("ns/px", "of memory limit", "limited by")


def cells(row: Row) -> list[str]:
    code = row.code
    shown = [
        *(row.backend, row.kernel, row.configuration, f"{code.registers}", f"{code.spills}", f"{code.stack}"),
        *(f"{row.shared / 1024:.3g}", f"{row.blocks}", f"{100 * row.occupancy:.0f} %", f"{code.tensor}"),
        *(f"{code.fma}", f"{code.add}", f"{code.multiply}", f"{code.double}", widths(code.loads), widths(code.stores)),
        *((f"{row.bytes_per_pixel:.3g}", f"{row.flop_per_pixel:.3g}") if row.bytes_per_pixel else ("–", "–")),
    ]
    for e in row.estimates:
        shown += [f"{e.ns_per_pixel:.2g}", f"{100 * e.share:.0f} %", e.limit]
    return shown + ["–"] * (len(columns(TARGETS[row.target])) - len(shown))


def by_target(rows: Iterable[Row]) -> dict[Target, list[Row]]:
    groups: dict[Target, list[Row]] = {target: [] for target in TARGETS.values()}
    for row in rows:
        groups[TARGETS[row.target]].append(row)
    return {target: sorted(group, key=lambda r: (r.backend, r.kernel)) for target, group in groups.items() if group}


def heading(target: Target) -> str:
    machines = [machine.name for machine in MACHINES if machine.target == target.name]
    return f"{target.name}, estimates for {machines[0]}" if machines else target.name


def columns(target: Target) -> tuple[str, ...]:
    has_estimates = any(machine.target == target.name for machine in MACHINES)
    return COLUMNS + (ESTIMATE_COLUMNS if has_estimates else ())


def tables(rows: Iterable[Row]) -> list[Table]:
    made = []
    for target, group in by_target(rows).items():
        table = Table(title=heading(target), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in columns(target):
            words = name in ("backend", "kernel", "configuration", "limited by")
            table.add_column(name, justify="left" if words else "right", no_wrap=words)
        for row in group:
            table.add_row(*cells(row), style="red" if row.faults else None)
        made.append(table)
    return made


def as_json(rows: Sequence[Row], about: dict[str, dict[str, Any]]) -> str:
    """``about``: the conditions of each backend's rows."""
    # A row a line, for diffs to be read.
    lines = ",\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in rows)
    machines = json.dumps([asdict(machine) for machine in MACHINES], indent=1, ensure_ascii=False)
    about_text = json.dumps(about, indent=1)
    return f'{{"estimate": true,\n"conditions": {about_text},\n"machines": {machines},\n"rows": [\n{lines}\n]}}\n'


def from_json(text: str) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """What ``as_json`` was given."""
    written = json.loads(text)
    return [_row(row) for row in written["rows"]], written["conditions"]


def _row(fields: dict[str, Any]) -> Row:
    code = fields["code"]
    accesses = {name: {int(width): n for width, n in code[name].items()} for name in ("loads", "stores")}
    made = {"code": Code(**code | accesses), "estimates": [Estimate(**e) for e in fields["estimates"]]}
    return Row(**fields | made)


# What ncu shows for each limit, by the names that Estimate gives them: the metric that is near its peak if the estimate
# is right.
CONFIRMED_BY = {
    "memory": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "arithmetic": "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_active",
    "instructions": "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "shared memory": "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed",
    "one block": "smsp__average_warps_issue_stalled_barrier_per_issue_active (warps wait: no metric is near its peak)",
}
FUSED = ("spectral_loss", "spectral_loss_kernel", "focal_frequency_loss", "focal_frequency_loss_kernel")
PREDICTION_COLUMNS = ("backend", "kernel", "configuration", "machine", "share of copy", "limiter", "confirmed by")


def predictions(rows: Iterable[Row]) -> list[list[str]]:
    """Of the fused losses on machines whose copy rate is known: the share of it, the limiter, and how ncu shows it."""
    made = []
    for row in rows:
        for e in row.estimates:
            copy = next(machine.copy for machine in MACHINES if machine.name == e.machine)
            if copy is None or row.kernel not in FUSED:
                continue
            limiter = "one block" if row.blocks == 1 else e.limit
            share = min(1.0, e.share / copy)
            shown = (row.backend, row.kernel, row.configuration, e.machine, f"{100 * share:.0f} %", limiter)
            made.append([*shown, CONFIRMED_BY[limiter]])
    return sorted(made)


INTRODUCTION = """\
# Static cost of the GPU kernels: an estimate

**Nothing here was measured.** `python -m benchmarks.static` compiles each kernel and configuration
without a GPU and reads registers, spills, shared memory, instructions and the width of memory
accesses from the machine code. Triton's kernels depend on its version: torch 2.11 brings 3.6, and
the table has each version under which the command was run.

What the numbers mean:

- **A pixel** is one value of one channel of one image. `bytes/px` is what main memory must move for
  it, read and written.
- **`registers`, `spills`, `stack`** are for one thread; the last two are bytes. A spill is a value
  that did not fit the registers and goes through local memory: it costs bandwidth, and it is a
  fault unless a reason below accepts it.
- **`shared KiB`, `blocks`, `occupancy`**: the shared memory of a block, how many blocks fit a
  multiprocessor, and the share of its warps that these make. With one block nothing overlaps its
  barriers.
- **`tensor`, `FMA`, `ADD`, `MUL`, `fp64`** count instructions as they stand in the code, however
  often a loop runs them; the middle three are float32. `flop/px` counts executions.
- **`loads`, `stores`**: the widest and the narrowest access to global memory, in bits a thread.
  Images must move in 64 bits or more; tables and weights, which caches hold, may be narrow.
- **`ns/px`, `of memory limit`, `limited by`** are roofline *estimates* at large batch: the slowest
  of memory (bytes over the bandwidth of the data sheet), arithmetic, shared memory and instruction
  issue, perfectly overlapped. If only one block fits a multiprocessor, nothing overlaps and the
  slowest of the others is added to memory. Latency, launch overhead and bank conflicts are not in
  the model, so a measurement can only be slower.

CUDA kernels for planes of any size learn their work and their dynamic shared memory at launch: they
have no estimate, and `blocks` is what registers and threads allow. The other CUDA kernels branch on
the dtype and the layout of the images; instruction issue is left out of their estimates, which are
for float32.
"""


PREDICTIONS = """
## Predictions for the fused losses

The share of the rate of a device-to-device copy. If the limiter is right, the metric of `ncu` in the
last column is near its peak; if the share is missed and that metric is not, the model is refuted.
"""


def _about(backend: str, about: dict[str, Any]) -> str:
    changed = " with changes" if about["dirty"] else ""
    compiler = f"triton {about['triton']}, " if backend.startswith("triton") else ""
    selected = ", ".join(
        f"{name} {' '.join(f'`{pattern}`' for pattern in about[name])}"
        for name in ("kernel", "configuration", "target")
        if about[name]
    )
    return (
        f"- {backend}: {compiler}blurfft {about['blurfft']} ({(about['commit'] or 'no commit')[:10]}{changed}), "
        f"{about['date']}" + (f"; a selection: {selected}" if selected else "")
    )


def as_markdown(rows: Sequence[Row], about: dict[str, dict[str, Any]]) -> str:
    def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
        return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *body)]

    lines = [
        *INTRODUCTION.splitlines(),
        "",
        *(_about(*item) for item in about.items()),
        "",
        *table(
            ("machine", "target", "multiprocessors", "GB/s", "fp32 Tflop/s", "tf32 Tflop/s", "source"),
            (
                (
                    *(m.name, m.target, f"{m.multiprocessors}", f"{m.bandwidth / 1e9:.0f}", f"{m.fp32 / 1e12:g}"),
                    *(f"{m.tensor['tf32'] / 1e12:g}", m.source),
                )
                for m in MACHINES
            ),
        ),
    ]
    if predicted := predictions(rows):
        lines += [*PREDICTIONS.splitlines(), "", *table(PREDICTION_COLUMNS, predicted)]
    for target, group in by_target(rows).items():
        lines += ["", f"## {heading(target)}", "", *table(columns(target), map(cells, group))]
    where = ("backend", "kernel", "configuration", "target", "fault")
    excused = [
        (row.backend, row.kernel, row.configuration, row.target, *item) for row in rows for item in row.excused.items()
    ]
    if excused:
        lines += ["", "## Accepted faults", "", *table((*where, "why"), excused)]
    failed = [(row.backend, row.kernel, row.configuration, row.target, fault) for row in rows for fault in row.faults]
    if failed:
        lines += ["", "## Faults", "", *table(where, failed)]
    return "\n".join(lines) + "\n"


# The command

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def static(
    kernel: Annotated[
        list[str] | None, typer.Option(help="Kernels, as a pattern like 'spectral_*'; may be given again.")
    ] = None,
    configuration: Annotated[list[str] | None, typer.Option(help="Configurations, as a pattern.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="May be given again; --out keeps what it has of the other and of other versions of Triton.",
            show_default=" ".join(BACKENDS),
        ),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="May be given again.", show_default=" ".join(TARGETS))
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The first configuration of each kernel, for sm_90 alone.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Compilations at a time.")] = os.cpu_count() or 1,
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="A folder for static.json and static.md, made if need be."),
    ] = None,
) -> None:
    """Compiles the GPU kernels without a GPU, and shows what their machine code holds and how fast it could be.

    The exit status is 1 if a kernel spills, has a stack or moves its data in narrow accesses, and no exemption in
    benchmarks/static.py explains why.
    """
    names = target or (["sm_90"] if quick else list(TARGETS))
    for name in names:
        if name not in TARGETS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(TARGETS)}", param_hint="--target")
    backends = backend or list(BACKENDS)
    for name in backends:
        if name not in BACKENDS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(BACKENDS)}", param_hint="--backend")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from None
    console, messages = Console(), Console(stderr=True)
    cases = every_case(names, backends)
    if "cuda" in backends and not any(case.backend == "cuda" for case in cases):
        how = "BLURFFT_CUDA=1 python setup.py build_ext --inplace"
        messages.print(f"The CUDA kernels are left out: they are not built here, {how}", soft_wrap=True)
    every = kernel is None and configuration is None and not quick
    cases = tuple(
        case
        for case in cases
        if any(fnmatchcase(case.kernel, pattern) for pattern in kernel or ["*"])
        and any(fnmatchcase(case.configuration, pattern) for pattern in configuration or ["*"])
    )
    if not cases:
        raise typer.BadParameter("no kernel has such a name", param_hint="--kernel, --configuration")
    if quick:
        cases = tuple({case.kernel: case for case in reversed(cases)}.values())[::-1]

    with (
        Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            *(TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
            console=messages,
        ) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        plan = {
            pool.submit(examine, case, TARGETS[name]): (case, name)
            for case in cases
            for name in names
            if name in case.targets
        }
        task = progress.add_task("", total=len(plan))
        for done in as_completed(plan):
            case, name = plan[done]
            progress.update(task, description=f"{case} {name}", advance=1)
        rows = [future.result() for future in plan]

    condition = conditions(kernel=kernel, configuration=configuration, target=target, quick=quick)
    about = {case.backend: condition for case in cases}
    if as_json_:
        print(as_json(rows, about), end="")
    else:
        for table in tables(rows):
            show(console, table)
    if out is not None:
        if (out / "static.json").is_file():
            old_rows, old_about = from_json((out / "static.json").read_text(encoding="utf-8"))
            rows += [row for row in old_rows if row.backend not in about]
            about = old_about | about
        (out / "static.json").write_text(as_json(rows, about), encoding="utf-8")
        (out / "static.md").write_text(as_markdown(rows, about), encoding="utf-8")
    failed = False
    for row in rows:
        for fault in row.faults:
            failed = True
            messages.print(f"{row.kernel} {row.configuration} {row.target}: {fault}", style="red", soft_wrap=True)
    if every and target is None:
        for exemption in unused(rows):
            failed = True
            messages.print(f"This exemption excuses nothing: {exemption}", style="red", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def unused(rows: Sequence[Row], exemptions: Sequence[Exemption] = EXEMPTIONS) -> list[Exemption]:
    """Those of kernels that are among the rows."""
    return [
        e
        for e in exemptions
        if any(fnmatchcase(row.kernel, e.kernel) and fnmatchcase(row.backend, e.backend) for row in rows)
        and not any(e.covers(fault, row) for row in rows for fault in row.excused)
    ]


if __name__ == "__main__":
    app()
