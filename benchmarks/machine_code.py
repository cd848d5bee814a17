"""What the machine code of a GPU kernel holds, read from its disassembly. No GPU is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class Code:
    """One kernel for one target.

    Instructions are counted as they stand in the code, each once, however often a loop runs it; what is "moved" is
    per thread likewise. A packed instruction counts as the operations it holds. Memory is in bytes, widths are in bits.
    """

    registers: int = 0  # a thread
    max_threads: int = 0  # of a block, where the kernel sets a bound
    spills: int = 0  # moved to and from local memory
    stack: int = 0  # a thread
    shared: int = 0  # static, a block
    instructions: int = 0
    loops: int = 0  # that hold arithmetic or memory access
    fma: int = 0  # float32, as add and multiply
    add: int = 0
    multiply: int = 0
    double: int = 0  # float64 operations, of which a fused multiply-add is two
    tensor: int = 0
    tensor_flop: dict[str, float] = field(default_factory=dict)  # per thread, by the type of the operands
    loads: dict[int, int] = field(default_factory=dict)  # of global memory: width to number
    stores: dict[int, int] = field(default_factory=dict)
    shared_moved: int = 0

    @property
    def flop(self) -> float:
        """Per thread."""
        return 2 * self.fma + self.add + self.multiply + self.double + sum(self.tensor_flop.values())


# NVIDIA

_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Za-z0-9_.]*)([^;]*);")
_USAGE = re.compile(r"^ Function (\S+):\n\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", re.MULTILINE)
_BOUND = re.compile(
    r"^\.nv\.info\.(\S+)\n(?:(?!\.nv\.).*\n)*?.*EIATTR_MAX_THREADS\n.*\n\s*Value:\s*(0x\w+)", re.MULTILINE
)
_TENSOR = {"HMMA", "HGMMA", "IMMA", "IGMMA", "DMMA", "QMMA", "QGMMA", "UTCHMMA", "UTCQMMA", "UTCIMMA", "UTCOMMA"}
_SHAPES = {"16816": (16, 8, 16), "1688": (16, 8, 8), "1684": (16, 8, 4), "884": (8, 8, 4)}
_GLOBAL_LOADS, _GLOBAL_STORES = {"LDG", "LD", "LDGSTS"}, {"STG", "ST"}
# ptxas adds what the system reserves in each block to the shared memory of a kernel that uses any.
RESERVED_SHARED = 1024


def tool(name: str) -> str:
    """The path of one of NVIDIA's programs: Triton's copy, else the one on PATH."""
    try:
        from triton.backends import nvidia
    except ImportError:
        pass
    else:
        bundled = Path(str(nvidia.__file__)).parent / "bin" / name
        if bundled.is_file():
            return str(bundled)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is neither in a triton package nor on PATH; install triton, which brings it")
    return found


def read_cubin(path: Path, architecture: int) -> dict[str, Code]:
    """Each kernel in a cubin, by its (mangled) name."""

    def cuobjdump(option: str) -> str:
        return subprocess.run([tool("cuobjdump"), option, str(path)], capture_output=True, text=True, check=True).stdout

    sass = dict(_functions(cuobjdump("-sass")))
    bounds = {name: int(bound, 16) for name, bound in _BOUND.findall(cuobjdump("-elf"))}
    codes = {}
    for name, registers, stack, shared in _USAGE.findall(cuobjdump("-res-usage")):
        if name in sass:
            own = max(0, int(shared) - (RESERVED_SHARED if architecture >= 90 else 0))
            codes[name] = read_sass(sass[name], int(registers), bounds.get(name, 0), int(stack), own)
    return codes


def read_object(path: Path, architecture: int) -> dict[str, Code]:
    """Each kernel that an object compiled by nvcc holds for an architecture."""
    with TemporaryDirectory() as folder:
        command = [tool("cuobjdump"), "-xelf", f"sm_{architecture}", str(path.resolve())]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        return {name: code for file in Path(folder).iterdir() for name, code in read_cubin(file, architecture).items()}


def _functions(disassembly: str) -> Iterator[tuple[str, list[str]]]:
    for section in re.split(r"^\s*Function : ", disassembly, flags=re.MULTILINE)[1:]:
        name, *lines = section.splitlines()
        yield name.strip(), lines


def read_sass(lines: Iterable[str], registers: int = 0, max_threads: int = 0, stack: int = 0, shared: int = 0) -> Code:
    """The code of one function as ``cuobjdump -sass`` writes it."""
    count: dict[str, Any] = Counter()
    loads: Counter[int] = Counter()
    stores: Counter[int] = Counter()
    flop: dict[str, float] = {}
    work: list[int] = []  # addresses of arithmetic and memory access
    jumps: list[tuple[int, int]] = []
    end = 0
    for line in lines:
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        address, (opcode, *modifiers) = int(match[1], 16), match[2].split(".")
        if opcode == "NOP":
            continue
        count["instructions"] += 1
        operations = 2 if opcode.endswith("2") else 1
        known = True
        if opcode in ("FFMA", "FFMA2", "FFMA32I"):
            count["fma"] += operations
        elif opcode in ("FADD", "FADD2", "FADD32I"):
            count["add"] += operations
        elif opcode in ("FMUL", "FMUL2", "FMUL32I"):
            count["multiply"] += operations
        elif opcode in ("DFMA", "DADD", "DMUL"):
            count["double"] += 2 if opcode == "DFMA" else 1
        elif opcode in _TENSOR:
            count["tensor"] += 1
            kind = _tensor_type(opcode, modifiers)
            flop[kind] = flop.get(kind, 0.0) + _tensor_flop(opcode, modifiers)
        elif opcode in _GLOBAL_LOADS:
            loads[_width(modifiers)] += 1
        elif opcode in _GLOBAL_STORES:
            stores[_width(modifiers)] += 1
        elif opcode in ("LDS", "STS"):
            count["shared_moved"] += _width(modifiers) // 8
        elif opcode in ("LDSM", "STSM"):
            count["shared_moved"] += 4 * int(modifiers[-1])
        elif opcode in ("LDL", "STL"):
            count["spills"] += _width(modifiers) // 8
        else:
            known = False
        if opcode == "LDGSTS":
            count["shared_moved"] += _width(modifiers) // 8
        if known:
            work.append(address)
        elif opcode == "EXIT":
            end = address
        elif opcode == "BRA" and (target := re.search(r"0x([0-9a-f]+)\s*$", match[3].strip())):
            jumps.append((address, int(target[1], 16)))
    # What lies behind the last exit are waits for a barrier, out of the way, which jump back to where they came from.
    loops = {to for start, to in jumps if to < start < end and any(to <= address < start for address in work)}
    return Code(
        registers=registers,
        max_threads=max_threads,
        stack=stack,
        shared=shared,
        loops=len(loops),
        tensor_flop={kind: value for kind, value in flop.items() if value},
        loads=dict(loads),
        stores=dict(stores),
        **count,
    )


def _width(modifiers: list[str]) -> int:
    for modifier in modifiers:
        if modifier in ("64", "128", "256"):
            return int(modifier)
        if modifier in ("U8", "S8", "U16", "S16"):
            return int(modifier[1:])
    return 32


def _tensor_type(opcode: str, modifiers: list[str]) -> str:
    if opcode == "DMMA":
        return "fp64"
    return "tf32" if "TF32" in modifiers else "fp16"


def _tensor_flop(opcode: str, modifiers: list[str]) -> float:
    """Per thread; 0 where the shape is not in the instruction but in a descriptor."""
    for modifier in modifiers:
        if re.fullmatch(r"\d+x\d+x\d+", modifier):
            m, n, k = map(int, modifier.split("x"))
        elif modifier in _SHAPES:
            m, n, k = _SHAPES[modifier]
        else:
            continue
        return 2 * m * n * k / (128 if opcode.endswith("GMMA") else 32)
    return 0.0


# AMD

_AMD_ACCESS = re.compile(r"(?:global|buffer|flat)_(load|store)_(\w+)")
_AMD_WIDTHS = {"dword": 32, "dwordx2": 64, "dwordx3": 96, "dwordx4": 128, "short": 16, "ushort": 16, "sshort": 16}


def read_amdgcn(assembly: str) -> Code:
    """The code of the one kernel in the assembly that Triton's compiler writes."""

    def metadata(name: str) -> int:
        match = re.search(rf"^\s+\.{name}:\s+(\d+)", assembly, re.MULTILINE)
        return int(match[1]) if match else 0

    count: dict[str, Any] = Counter()
    accesses: dict[str, Counter[int]] = {"load": Counter(), "store": Counter()}
    labels: set[str] = set()
    loops: set[str] = set()
    for line in assembly.partition(".section")[0].splitlines():
        if label := re.match(r"(\.L\w+):", line):
            labels.add(label[1])
        words = line.partition(";")[0].split()
        if not line.startswith("\t") or not words or words[0].startswith("."):
            continue
        opcode = words[0]
        count["instructions"] += 1
        operations = 2 if opcode.startswith("v_pk_") else 1
        if re.match(r"v_(pk_)?(fma|fmac|fmaak|fmamk|mac)_f32", opcode):
            count["fma"] += operations
        elif re.match(r"v_(pk_)?(add|sub|subrev)_f32", opcode):
            count["add"] += operations
        elif re.match(r"v_(pk_)?mul_f32", opcode):
            count["multiply"] += operations
        elif match := re.match(r"v_(fma|fmac|add|mul)_f64", opcode):
            count["double"] += 2 if match[1].startswith("fma") else 1
        elif opcode.startswith("v_mfma"):
            count["tensor"] += 1
        elif match := _AMD_ACCESS.match(opcode):
            kind = match[2].removeprefix("lds_")
            accesses[match[1]][_AMD_WIDTHS.get(kind) or (16 if "16" in kind or "short" in kind else 8)] += 1
        elif re.match(r"s_c?branch", opcode) and words[-1] in labels:
            loops.add(words[-1])
    return Code(
        registers=metadata("vgpr_count"),
        # Where there is no scratch memory, what LLVM calls spilled is in accumulation registers.
        spills=4 * metadata("vgpr_spill_count") if metadata("private_segment_fixed_size") else 0,
        stack=metadata("private_segment_fixed_size"),
        shared=metadata("group_segment_fixed_size"),
        loops=len(loops),
        loads=dict(accesses["load"]),
        stores=dict(accesses["store"]),
        **count,
    )


def demangled(names: Sequence[str]) -> list[str]:
    """C++ names as they are written, such as ``void kernel<float, 64>(Parameters)``."""
    program = shutil.which("cu++filt") or shutil.which("c++filt")
    if program is None or not names:
        return list(names)
    return subprocess.run([program, *names], capture_output=True, text=True, check=True).stdout.splitlines()
