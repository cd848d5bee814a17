"""What is read from machine code, and what follows from it. No GPU is needed."""
# ruff: noqa: E402  (the folder that is tested may be absent)

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "static.py").is_file():
    pytest.skip("the folder benchmarks is not beside the tests: it is not installed", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import static
from benchmarks.machine_code import Code, read_amdgcn, read_sass
from benchmarks.static import MACHINES, TARGETS, Case, Compiled, Exemption, compile_triton, estimate, examine

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None
needs_triton = pytest.mark.skipif(triton is None, reason="triton is not installed")

SASS = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;                  /* 0x00000a00ff017b82 */
                                                                           /* 0x000e220000000800 */
        /*0010*/                   STL.64 [R1], R2 ;                       /* 0x0000000000007919 */
        /*0020*/              @!P0 LDG.E.128 R8, desc[UR4][R2.64] ;        /* 0x0000000402088981 */
        /*0030*/                   LDG.E.U16.CONSTANT R4, desc[UR4][R2.64] ;  /* 0x0000000402088981 */
        /*0040*/                   STS.128 [R3], R8 ;                      /* 0x0000000402088981 */
        /*0050*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;           /* 0x0000000402088981 */
        /*0060*/                   LDS R5, [R3] ;                          /* 0x0000000402088981 */
        /*0070*/                   FFMA R5, R5, R6, R7 ;                   /* 0x0000000402088981 */
        /*0080*/                   FFMA2 R6, R6.F32x2.HI_LO, R4.F32x2.HI_LO, R2.F32x2.HI_LO ;  /* 0x0000000402088981 */
        /*0090*/                   FADD R5, R5, -R6 ;                      /* 0x0000000402088981 */
        /*00a0*/                   FMUL R5, R5, R6 ;                       /* 0x0000000402088981 */
        /*00b0*/                   HMMA.1688.F32.TF32 R4, R4, R8, R4 ;     /* 0x0000000402088981 */
        /*00c0*/               @P1 BRA 0x60 ;                              /* 0x0000000402088981 */
        /*00d0*/                   LDL R9, [R1] ;                          /* 0x0000000402088981 */
        /*00e0*/                   DFMA R4, R4, R6, R8 ;                   /* 0x0000000402088981 */
        /*00f0*/                   STG.E.64 desc[UR4][R2.64], R4 ;         /* 0x0000000402088981 */
        /*0100*/                   EXIT ;                                  /* 0x000000000000794d */
        /*0110*/                   BRA 0x60 ;                              /* 0xfffffffc00fc7947 */
        /*0120*/                   BRA 0x120;                              /* 0xfffffffc00fc7947 */
        /*0130*/                   NOP;                                    /* 0xfffffffc00fc7947 */
"""

AMDGCN = """\t.text
toy:                                    ; @toy
\ts_load_dwordx2 s[2:3], s[0:1], 0x0      ; a comment
\tbuffer_load_dwordx4 v[2:5], v1, s[4:7], 0 offen
\tglobal_load_ushort v6, v[0:1], off
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
\tv_pk_fma_f32 v[2:3], v[2:3], v[4:5], v[6:7]
\tv_fmac_f32_e32 v2, v3, v4
\tv_mul_f32_e32 v2, v3, v4
\tv_mfma_f32_32x32x2_f32 a[0:15], v2, v3, a[0:15]
\ts_cbranch_scc1 .LBB0_1
\tv_add_f64 v[2:3], v[2:3], v[4:5]
\tglobal_store_dwordx2 v[0:1], v[2:3], off
\ts_endpgm
\t.section\t.rodata,"a",@progbits
    .group_segment_fixed_size: 512
    .private_segment_fixed_size: 24
    .vgpr_count:     130
    .vgpr_spill_count: 5
"""


def test_sass() -> None:
    assert read_sass(SASS.splitlines(), registers=40) == Code(
        registers=40,
        spills=8 + 4,
        instructions=19,
        loops=1,
        fma=3,
        add=1,
        multiply=1,
        double=2,
        tensor=1,
        tensor_flop={"tf32": 2 * 16 * 8 * 8 / 32},
        loads={128: 1, 16: 1},
        stores={64: 1},
        shared_moved=16 + 4,
    )


def test_amdgcn() -> None:
    assert read_amdgcn(AMDGCN) == Code(
        registers=130,
        spills=20,
        stack=24,
        shared=512,
        instructions=11,
        loops=1,
        fma=3,
        multiply=1,
        double=1,
        tensor=1,
        loads={128: 1, 16: 1},
        stores={64: 1},
    )


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "blocks"),
    [
        ("sm_90", 128, 32, 0, 16),  # 2048 threads
        ("sm_90", 32, 32, 0, 32),  # 32 blocks
        ("sm_90", 128, 255, 0, 2),  # 65536 registers
        ("sm_80", 128, 32, 64 * 1024, 2),  # 164 KiB of shared memory, of which each block takes 1 more
        ("sm_90", 128, 32, 64 * 1024, 3),
        ("sm_90", 128, 32, 228 * 1024, 0),
        ("gfx942", 256, 129, 0, 3),  # 512 registers a lane, in steps of 8
        ("gfx942", 256, 8, 16 * 1024, 4),
    ],
)
def test_resident_blocks(target: str, threads: int, registers: int, shared: int, blocks: int) -> None:
    compiled = Compiled(Code(registers=registers), threads, shared)
    assert static.resident_blocks(compiled, TARGETS[target]) == blocks


def case(code: Code = Code(), **options: Any) -> Case:  # noqa: B008  (it is frozen)
    fields: dict[str, Any] = {"kernel": "copy", "configuration": "plain", "pixels": 1024}
    fields |= {"bytes_per_pixel": 8, "flop_per_pixel": 2} | options
    return Case(backend="triton", compile=lambda target: Compiled(code, 128, 0), **fields)


GOOD = Code(registers=32, instructions=40, fma=8, loads={128: 2}, stores={128: 2})


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_estimate(machine: static.Machine) -> None:
    def of(code: Code, blocks: int = 2, **options: Any) -> static.Estimate:
        c = case(code, **options)
        return estimate(c, c.compile(TARGETS[machine.target]), blocks, machine)

    copy = of(GOOD)
    assert (copy.share, copy.limit) == (1.0, "memory")
    assert copy.ns_per_pixel == pytest.approx(8e9 / machine.bandwidth)
    # A thread does the work of 8 pixels.
    busy = of(replace(GOOD, fma=8000))
    assert (busy.limit, busy.ns_per_pixel) == ("arithmetic", pytest.approx(2000e9 / machine.fp32))
    assert busy.share == pytest.approx(copy.ns_per_pixel / busy.ns_per_pixel)
    tensor = of(replace(GOOD, fma=0, tensor_flop={"tf32": 8e6}))
    assert (tensor.limit, tensor.ns_per_pixel) == ("arithmetic", pytest.approx(1e15 / machine.tensor["tf32"]))
    # In a loop the code runs as often as the flop of the case ask for.
    looping = of(replace(GOOD, instructions=4, loops=1), flop_per_pixel=2000)
    assert (looping.limit, looping.ns_per_pixel) == (busy.limit, pytest.approx(busy.ns_per_pixel))
    assert of(replace(GOOD, shared_moved=10**6)).limit == "shared memory"
    assert of(replace(GOOD, instructions=10**6)).limit == "instructions"
    alone = of(replace(GOOD, fma=8000), blocks=1)
    assert alone.ns_per_pixel == pytest.approx(busy.ns_per_pixel + copy.ns_per_pixel)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_figures_of_a_machine_agree(machine: static.Machine) -> None:
    assert 1.3e9 < machine.clock < 2.0e9
    assert machine.fp64 == pytest.approx(machine.fp32 / 2, rel=0.03)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (replace(GOOD, spills=8), "spills 8 bytes a thread"),
        (replace(GOOD, stack=16), "stack of 16 bytes a thread"),
        (replace(GOOD, loads={32: 5, 128: 1, 64: 1}), "narrow: 7 of 8 bytes/px in 64 bits or more"),
        (replace(GOOD, stores={32: 8}), "narrow: 4 of 8 bytes/px in 64 bits or more"),
        (replace(GOOD, registers=2000), "does not fit: 2000 registers × 128 threads, 0 bytes"),
    ],
)
def test_faults(code: Code, fault: str) -> None:
    assert examine(case(GOOD), TARGETS["sm_90"]).faults == []
    assert examine(case(replace(GOOD, loads={32: 99, 128: 2})), TARGETS["sm_90"]).faults == []
    assert examine(case(code), TARGETS["sm_90"]).faults == [fault]
    exemption = Exemption(fault.partition(" ")[0], "cop*", "*", "sm_?0", "a test")
    row = examine(case(code), TARGETS["sm_90"], [exemption])
    assert (row.faults, row.excused) == ([], {fault: "a test"})
    assert examine(case(code), TARGETS["gfx942"], [exemption]).faults == [fault]
    assert static.unused([row], [exemption, replace(exemption, kernel="other")]) == []
    assert static.unused([examine(case(GOOD), TARGETS["sm_90"])], [exemption]) == [exemption]


def test_a_kernel_without_traffic_of_its_own_has_no_estimate() -> None:
    row = examine(case(replace(GOOD, loads={16: 1}, stores={}), bytes_per_pixel=0), TARGETS["sm_90"])
    assert (row.estimates, row.faults) == ([], [])
    assert static.cells(row)[-5:] == 5 * ["–"]


def test_exemptions_may_be_for_one_compiler() -> None:
    exemption = Exemption("spills", "copy", "*", "*", "a test", backend="triton 3.6")
    of_36, of_38 = (
        examine(replace(case(replace(GOOD, spills=8)), backend=f"triton {version}"), TARGETS["sm_90"], [exemption])
        for version in ("3.6", "3.8")
    )
    assert (of_36.faults, of_38.faults) == ([], ["spills 8 bytes a thread"])
    # It excuses nothing under another compiler, which is no fault there.
    assert static.unused([of_38], [exemption]) == [] and static.unused([of_36], [exemption]) == []
    fine = examine(replace(case(GOOD), backend="triton 3.6"), TARGETS["sm_90"], [exemption])
    assert static.unused([fine], [exemption]) == [exemption]


def test_predictions() -> None:
    def rows(code: Code, kernel: str = "spectral_loss") -> list[static.Row]:
        return [examine(case(code, kernel=kernel), TARGETS[target]) for target in ("sm_80", "sm_90")]

    # Only where a copy was measured, which reaches less than the data sheet's bandwidth.
    ((*_, machine, share, limiter, metric),) = static.predictions(rows(GOOD))
    assert (machine, share, limiter) == ("H100 SXM 80 GB", "100 %", "memory") and metric.startswith("dram__")
    ((*_, busy, limiter, metric),) = static.predictions(rows(replace(GOOD, fma=8000)))
    (_, row) = rows(replace(GOOD, fma=8000))
    assert busy == f"{100 * row.estimates[0].share * 3.35 / 3.0:.0f} %"
    assert limiter == "arithmetic" and metric.startswith("sm__pipe_fma")
    ((*_, limiter, metric),) = static.predictions(rows(replace(GOOD, registers=255 * 2)))
    assert limiter == "one block" and "barrier" in metric
    assert static.predictions(rows(GOOD, kernel="fold")) == []
    assert "## Predictions" in static.as_markdown(rows(GOOD), {}) and "## P" not in static.as_markdown([], {})


def run(*arguments: str) -> Any:
    return CliRunner().invoke(static.app, list(arguments), env={"COLUMNS": "250"})


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cases = (case(GOOD), case(GOOD, configuration="strided"), case(replace(GOOD, spills=8), kernel="spilling"))
    monkeypatch.setattr(
        static, "every_case", lambda targets, backends: [case for case in cases if case.backend in backends]
    )
    good = run("--kernel", "copy", "--out", str(tmp_path))
    assert good.exit_code == 0, good.output
    for word in ("strided", "sm_80, estimates for A100", "gfx942", "memory"):
        assert word in good.stdout
    written = json.loads((tmp_path / "static.json").read_text())
    assert written["estimate"] is True and list(written["conditions"]) == ["triton"]
    assert [row["target"] for row in written["rows"]] == 2 * list(TARGETS)
    page = (tmp_path / "static.md").read_text()
    assert "an estimate" in page and "| copy | strided | 32 |" in page and "Faults" not in page

    # A second run of another backend leaves these rows where they are.
    monkeypatch.setattr(static, "every_case", lambda targets, backends: (replace(cases[0], backend="cuda"),))
    assert run("--backend", "cuda", "--out", str(tmp_path)).exit_code == 0
    both, about = static.from_json((tmp_path / "static.json").read_text())
    assert set(about) == {"triton", "cuda"}
    assert [row for row in both if row.backend == "triton"] == static.from_json(json.dumps(written))[0]
    assert len(both) == 3 * len(TARGETS)
    monkeypatch.setattr(static, "every_case", lambda targets, backends: cases[:1])
    without_cuda = run("--out", str(tmp_path / "not" / "there"))
    assert without_cuda.exit_code == 0 and "The CUDA kernels are left out" in without_cuda.output
    assert run("--out", str(tmp_path)).exit_code == 0
    kept, about = static.from_json((tmp_path / "static.json").read_text())
    assert [row.backend for row in kept] == ["triton"] * len(TARGETS) + ["cuda"] * len(TARGETS)
    assert set(about) == {"triton", "cuda"}
    monkeypatch.setattr(static, "every_case", lambda targets, backends: cases)

    bad = run("--target", "sm_90")
    assert bad.exit_code == 1 and "spilling plain sm_90: spills 8 bytes a thread" in bad.output
    quick = run("--quick", "--json")
    assert [(row["kernel"], row["configuration"]) for row in json.loads(quick.stdout)["rows"]] == [
        ("copy", "plain"),
        ("spilling", "plain"),
    ]
    for arguments, message in (
        (("--kernel", "paste"), "no kernel has such a name"),
        (("--target", "sm_70"), "'sm_70' is none of sm_80, sm_90"),
        (("--backend", "cpu"), "'cpu' is none of triton, cuda"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 2 and message in refused.output


@pytest.fixture
def no_cache() -> Iterator[None]:
    for function in (static.cuda_code, static.cuda_cases):
        function.cache_clear()
    yield
    for function in (static.cuda_code, static.cuda_cases):
        function.cache_clear()


TOY = """
namespace blurfft::cuda {
template <int, int> struct TwoPass {};
template <class, class, class, int, int, int> struct FixedPlane {};
template <class Plane, bool>
__global__ void __launch_bounds__(96) spectral_filter_kernel(const float4* in, float4* out) {
  __shared__ float4 exchanged[96];
  exchanged[threadIdx.x] = in[blockIdx.x * 96 + threadIdx.x];
  __syncthreads();
  const float4 x = exchanged[95 - threadIdx.x];
  out[blockIdx.x * 96 + threadIdx.x] = {x.x * x.y + x.z, x.y, x.z, x.w};
}
using Plane = FixedPlane<float, TwoPass<8, 4>, TwoPass<4, 8>, 32, 3, 8>;
template __global__ void spectral_filter_kernel<Plane, true>(const float4*, float4*);
}  // namespace blurfft::cuda
"""


@needs_triton  # for its cuobjdump
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="compiles with nvcc")
def test_a_cuda_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cache: None) -> None:
    source = tmp_path / "csrc/cuda/toy.cu"
    objects = tmp_path / static.OBJECTS.replace("*", "x", 1).replace("*", "toy")
    for file in (source, objects):
        file.parent.mkdir(parents=True)
    source.write_text(TOY)
    gencode = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in (80, 90)]
    subprocess.run(["nvcc", *gencode, "-c", str(source), "-o", str(objects)], check=True)
    monkeypatch.setattr(static.report, "ROOT", tmp_path)
    (only,) = static.cuda_cases(tuple(TARGETS))
    assert (only.kernel, only.configuration) == ("spectral_filter_kernel", "32x32 float, true")
    assert (only.targets, only.pixels, only.flop_per_pixel) == (("sm_80", "sm_90"), 3 * 32 * 32, 50)
    compiled = only.compile(TARGETS["sm_90"])
    assert (compiled.threads, compiled.code.fma, compiled.code.loads) == (96, 1, {128: 1})
    assert (compiled.code.shared, compiled.shared) == (96 * 16, 96 * 16 + 3 * 32 * 16 * 8)
    source.unlink()
    no_objects_without_source = static.cuda_code.__wrapped__(TARGETS["sm_90"])
    assert not no_objects_without_source


def test_the_cuda_kernels() -> None:
    cases = static.cuda_cases(("sm_90",))
    if not cases:
        pytest.skip("the CUDA kernels were not compiled in this tree")
    failed = [
        row for case in cases if "sm_90" in case.targets for row in [examine(case, TARGETS["sm_90"])] if row.faults
    ]
    assert not failed


@needs_triton
@pytest.mark.parametrize("name", ["32x32 fp32"])
def test_the_triton_kernels(name: str) -> None:
    rows = [examine(case, TARGETS["sm_90"]) for case in static.triton_cases() if case.configuration == name]
    assert rows and not [row for row in rows if row.faults]


if triton is not None:

    @triton.jit
    def affine_kernel(x, y, BLOCK: tl.constexpr):
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + i, tl.load(x + i) * 2 + 1)

    @triton.jit
    def centred_kernel(x, y, BLOCK: tl.constexpr):
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        v = tl.load(x + i)
        tl.store(y + i, v - tl.sum(v) / BLOCK)

    @triton.jit
    def matmul_kernel(x, y, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
        a = tl.load(x + i)
        tl.store(y + i, tl.dot(a, a, input_precision="tf32"))


def of_triton(function: Any, block: int, target: str, num_warps: int = 4) -> Compiled:
    kernel = SimpleNamespace(
        function=function,
        signature={"x": "*fp32", "y": "*fp32", "BLOCK": "constexpr"},
        constexprs={"BLOCK": block},
        attrs={(i,): [["tt.divisibility", 16]] for i in range(2)},
        num_warps=num_warps,
        num_stages=1,
    )
    return compile_triton(kernel, TARGETS[target])


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
def test_a_triton_kernel(target: str) -> None:
    compiled = of_triton(affine_kernel, 4096, target)
    each = 4096 // compiled.threads
    assert compiled.threads == 128
    assert (compiled.code.fma, compiled.code.add, compiled.code.multiply) == (each, 0, 0)
    assert compiled.code.loads == compiled.code.stores == {128: each // 4}
    assert compiled.code.spills == compiled.code.stack == compiled.shared == compiled.code.loops == 0
    assert 4 < compiled.code.registers <= 64


@needs_triton
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_a_triton_kernel_that_spills(target: str) -> None:
    # One warp with 512 values a thread.
    compiled = of_triton(centred_kernel, 16384, target, num_warps=1)
    assert compiled.code.spills > 0 and compiled.code.stack > 0


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
def test_a_triton_kernel_with_tensor_cores(target: str) -> None:
    compiled = of_triton(matmul_kernel, 64, target)
    assert compiled.code.tensor > 0 and compiled.shared > 0
    if target in ("sm_80", "sm_90"):
        assert compiled.code.tensor_flop == {"tf32": 2 * 64**3 / compiled.threads}
