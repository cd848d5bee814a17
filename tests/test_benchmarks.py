"""The benchmarks measure what they say, and refuse to time what is wrong."""
# ruff: noqa: E402  (the folder that is tested may be absent)

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import blurfft

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "__main__.py").is_file():
    pytest.skip("the folder benchmarks is not beside the tests: it is not installed", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command
from benchmarks import cases, contenders, measure, memory, readme, report
from benchmarks import compare as comparison
from benchmarks.cases import Case, Inputs, standard
from benchmarks.contenders import Contender
from benchmarks.report import Failure, Report, Result

TINY = ["run", "--pixels", "2000", "--rounds", "2", "--threads", "1", "--attempts", "1"]
BACKENDS = [contenders.OURS + name for name in blurfft.available_backends()]


@pytest.fixture(autouse=True)
def this_process_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(measure, "keep_freed_memory", lambda: True)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases of each suite."""
    two = {name: lambda pixels, make=make: make(pixels)[:2] for name, make in cases.SUITES.items()}
    monkeypatch.setattr(command, "SUITES", two)
    monkeypatch.setattr(command, "COMPILED_SIZES", ())


def run(*arguments: str):
    return CliRunner().invoke(command.app, [*TINY, *arguments], env={"COLUMNS": "250"})


TIMED = {
    "loss": {contenders.COPY, contenders.MSE, contenders.EAGER, contenders.HAND},
    "nll": {contenders.COPY, contenders.MSE, contenders.EAGER, contenders.HAND},
    "ffl": {contenders.COPY, contenders.MSE, contenders.EAGER, contenders.HAND, contenders.FFL},
    "filter": {contenders.COPY, contenders.EAGER, contenders.HAND, contenders.SKIMAGE},
    "fft": {contenders.COPY, contenders.EAGER},
    "overhead": {contenders.MSE, contenders.EAGER, contenders.HAND},
}


@pytest.mark.parametrize("suite", TIMED)
def test_times(suite: str, tmp_path: Path, few_cases: None):
    out = tmp_path / "results.json"
    result = run("--suite", suite, "--quick", "--size", "16", "--size", "32", "--out", str(out))
    assert result.exit_code == 0, result.output
    loaded = Report.load(out)
    assert not loaded.failures
    assert loaded.machine["threads"] == 1
    assert loaded.machine["torch"] == torch.__version__
    assert loaded.runs[suite]["pixels"] == 2000
    assert len(loaded.cases(suite)) == 2
    for case in loaded.cases(suite):
        assert set(loaded.contenders(suite, case)) == TIMED[suite] | set(BACKENDS)
        ours = loaded.ours(suite, case)
        assert ours == BACKENDS[0]
        assert str(case) in result.output
        for name in loaded.contenders(suite, case):
            time = loaded.find(suite, case, name, report.TIME)
            assert 0 < time.p20 <= time.median <= time.p80
            ratio = loaded.find(suite, case, name, report.RATIO + ours)
            assert (ratio is None) == (name in (ours, contenders.COPY))


def test_errors(tmp_path: Path, few_cases: None):
    out = tmp_path / "results.json"
    result = run("--suite", "accuracy", "--out", str(out))
    assert result.exit_code == 0, result.output
    loaded = Report.load(out)
    for case in loaded.cases("accuracy"):
        names = loaded.contenders("accuracy", case)
        assert {contenders.EAGER, *BACKENDS} <= set(names)
        assert contenders.COPY not in names
        for name in names:
            for output in (cases.RESULT, cases.INPUT_GRAD):
                assert 0 <= loaded.find("accuracy", case, name, report.ERROR + output).median < 1e-4


@pytest.mark.skipif(contenders.OURS + "cpu" not in BACKENDS, reason="the cpu backend is not available")
def test_size_that_a_backend_does_not_serve(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(command.SUITES, "ffl", lambda pixels: [Case("focal_frequency_loss", (1, 1, 4098, 4))])
    result = run("--suite", "ffl", "--quick", "--size", "4098")
    assert result.exit_code == 0, result.output
    assert "backend cpu does not serve this: it serves height and width up to" in result.output
    assert contenders.EAGER in result.output
    assert "Least gain on torch.fft: " in result.output


def test_a_file_keeps_other_suites_and_an_interrupted_one_is_resumed(
    tmp_path: Path, few_cases: None, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "results.json"
    assert run("--suite", "fft", "--out", str(out)).exit_code == 0
    first = Report.load(out)

    def interrupted(part, suite, case, *args):
        measured.append(case)
        if len(measured) == 2:
            raise KeyboardInterrupt
        part.results.append(Result(suite, case, "a", report.TIME, "ns", 1.0))

    measured: list[Case] = []
    with monkeypatch.context() as patch:
        patch.setattr(command, "_measure_times", interrupted)
        assert run("--suite", "loss", "--out", str(out)).exit_code != 0
        one, two = measured
        assert Report.load(out).cases("loss") == [one]
        assert run("--suite", "loss", "--resume", "--out", str(out)).exit_code == 0
    assert measured == [one, two, two]
    both = Report.load(out)
    assert both.cases("loss") == [one, two]
    assert [r for r in both.results if r.suite == "fft"] == first.results
    assert both.runs["fft"] == first.runs["fft"]

    result = run("--suite", "loss", "--resume", "--rounds", "3", "--out", str(out))
    assert result.exit_code == 2
    assert "begun with another rounds" in result.output
    result = run("--suite", "loss", "--threads", "2", "--out", str(out))
    assert result.exit_code == 2
    assert "another machine: its threads differ" in result.output


def test_wrong_options(tmp_path: Path):
    result = run("--out", str(tmp_path / "none" / "results.json"))
    assert result.exit_code == 2 and "does not exist" in result.output
    result = run("--suite", "loss", "--size", "99999")
    assert result.exit_code == 2 and "no case of these suites has that height" in result.output
    result = run("--resume")
    assert result.exit_code == 2 and "needs --out" in result.output
    if not torch.cuda.is_available():
        result = run("--device", "cuda")
        assert result.exit_code == 2 and "torch sees no CUDA device" in result.output


def test_wrong_contender_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, few_cases: None):
    timed: list[str] = []
    all_contenders, measure_times = contenders.contenders, measure.times

    def with_wrong(case, inputs, compile=False):
        eager = next(c for c in all_contenders(case, inputs) if c.name == contenders.EAGER)

        def slightly_off():
            outputs = eager.step()
            return {**outputs, cases.INPUT_GRAD: outputs[cases.INPUT_GRAD] * 1.001}

        def fails():
            raise RuntimeError("no such kernel")

        yield from all_contenders(case, inputs)
        yield Contender("off", slightly_off, case.op)
        yield Contender("fails", fails, case.op)

    def times(contenders, *args, **kwargs):
        timed.extend(c.name for c in contenders)
        return measure_times(contenders, *args, **kwargs)

    monkeypatch.setattr(measure, "times", times)
    monkeypatch.setattr(command, "contenders", with_wrong)
    out = tmp_path / "results.json"
    result = run("--suite", "loss", "--size", "16", "--out", str(out))
    assert result.exit_code == 1
    assert "off is not measured: its input gradient is off by 1.0e-03 of the largest entry" in result.output
    assert "fails is not measured: RuntimeError: no such kernel" in result.output
    assert contenders.EAGER in timed
    assert not {"off", "fails"} & set(timed)
    loaded = Report.load(out)
    assert [failure.contender for failure in loaded.failures] == ["off", "fails"]
    assert not {"off", "fails"} & {r.contender for r in loaded.results}

    result = run("--suite", "accuracy", "--size", "28")
    assert result.exit_code == 1
    assert "off is not measured" in result.output


# With an odd width only the first column is its own mirror image; code by hand easily gets that wrong.
@pytest.mark.parametrize("shape", [(3, 3, 16, 16), (2, 3, 15, 15), (1, 1, 12, 14), (2, 3, 14, 15)])
@pytest.mark.parametrize("op", cases.ARGUMENTS)
def test_contenders_are_right(op: str, shape: tuple[int, int, int, int]):
    usual = replace(standard(op, 16, 1), shape=shape)
    variants = [usual]
    if op in (*cases.LOSSES, "wiener_filter", "blur"):
        variants += [replace(usual, backward=not usual.backward, kernel_grad=False), replace(usual, channels_last=True)]
    if op in ("wiener_loss", "wiener_filter"):
        variants += [replace(usual, kernel_shared_by=by) for by in ("sample", "plane")]
    for case in variants:
        inputs = Inputs.of(case)
        truth = contenders.truths(case, inputs)
        for contender in contenders.contenders(case, inputs):
            assert measure.fault(contender, truth[contender.truth]) is None, case
            errors = measure.errors(contender.step(), truth[contender.truth])
            assert max(errors.values()) < 2e-5, (case, contender.name)


@pytest.mark.parametrize("dtype", measure.TOLERANCES)
@pytest.mark.parametrize("op", ["wiener_loss", "wiener_nll", "focal_frequency_loss", "wiener_filter"])
def test_contenders_are_right_in_every_dtype(op: str, dtype: str):
    case = replace(standard(op, 16, 2000), dtype=dtype)
    inputs = Inputs.of(case)
    truth = contenders.truths(case, inputs)
    for contender in contenders.contenders(case, inputs):
        assert measure.fault(contender, truth[contender.truth], dtype) is None, contender.name


def test_inputs():
    case = replace(standard("wiener_nll", 16, 1), shape=(4, 3, 16, 20))
    a, b, other = Inputs.of(case), Inputs.of(case), Inputs.of(case, seed=1)
    assert a.kernel.shape == (4, 1, 11, 11)
    assert a.kernel.requires_grad
    torch.testing.assert_close(a.kernel.sum((2, 3)), torch.ones(4, 1))
    assert torch.equal(a.input, b.input)
    assert not torch.equal(a.input, other.input)
    shared = Inputs.of(Case("wiener_loss", case.shape, dtype="bfloat16", channels_last=True))
    assert shared.kernel.shape == (11, 11)
    assert not shared.kernel.requires_grad
    assert shared.input.dtype == torch.bfloat16
    assert shared.input.is_contiguous(memory_format=torch.channels_last)


def test_suites():
    for name, make in cases.SUITES.items():
        plan = make(cases.PIXELS["cpu"])
        assert len(set(plan)) == len(plan)
        for case in plan:
            assert case.kernel_size <= min(case.size)
            if name not in ("overhead", "train") and case == standard(case.op, case.size, cases.PIXELS["cpu"]):
                assert abs(case.pixels - cases.PIXELS["cpu"]) <= math.prod(case.shape[1:]) / 2


def test_errors_are_relative_to_the_largest_entry_and_never_hidden():
    truth = {"result": torch.tensor(2.0).double(), "input gradient": torch.tensor([0.0, -4.0]).double()}
    exact = {name: t.float() for name, t in truth.items()}
    assert measure.errors(exact, truth) == {"result": 0.0, "input gradient": 0.0}
    off = {"result": torch.tensor(3.0), "input gradient": torch.tensor([1.0, -4.0])}
    assert measure.errors(off, truth) == {"result": 0.5, "input gradient": 0.25}
    for bad in (torch.tensor([0.0, math.nan]), torch.zeros(3)):
        assert measure.errors({**exact, "input gradient": bad}, truth)["input gradient"] == math.inf
    assert measure.errors({"result": exact["result"]}, truth)["input gradient"] == math.inf
    assert measure.errors(exact, {"result": truth["result"]})["input gradient"] == math.inf


def test_everyone_has_a_turn_in_each_round():
    calls: list[str] = []
    ended: list[tuple[str, int]] = []
    rounds: list[int] = []

    def contender(name: str, work: int) -> Contender:
        def step():
            calls.append(name)
            return {cases.RESULT: torch.rand(work).sum()}

        return Contender(name, step, name)

    times = measure.times(
        [contender("a", 1 << 21), contender("b", 1 << 22)],
        3,
        lambda contender, timed: ended.append((contender.name, timed)),
        after_round=lambda: rounds.append(len(calls)),
    )
    assert {name: len(samples) for name, samples in times.items()} == {"a": 3, "b": 3}
    assert min(times["a"] + times["b"]) > 0
    assert sorted(name for name, _ in ended) == [*"aaabbb"]
    assert all(timed >= 1 for _, timed in ended)
    assert len(rounds) == 3
    for start, end in pairwise(rounds):
        turns = calls[start:end]
        assert {"a", "b"} == set(turns)
        assert sum(x != y for x, y in pairwise(turns)) == 1


def test_stopwatch(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0, 900, 1000, 1010, 2000, 2030, 3000, 3007])
    monkeypatch.setattr(measure.time, "perf_counter_ns", lambda: next(clock))
    stopwatch = measure.Stopwatch("cpu")
    for _ in range(3):
        with stopwatch:
            pass
    assert stopwatch.last(2) == 20
    with stopwatch:
        pass
    assert stopwatch.last(1) == 7


def test_a_term_is_a_share_of_its_step():
    case = Case(cases.TRAINING_STEP, (1, 3, 64, 64))
    times = {contenders.MSE: [10.0, 30.0], "blurfft cpu": [10.0, 30.0]}
    parts = {contenders.MSE: [2.0, 6.0], "blurfft cpu": [1.0, 3.0]}
    results = {(r.contender, r.quantity): r.median for r in report.summarise_times("train", case, times, parts)}
    assert results[contenders.MSE, report.SHARE] == 20
    assert results["blurfft cpu", report.SHARE] == 10
    assert results[contenders.MSE, report.RATIO + "blurfft cpu"] == 2


def test_quotients_are_taken_round_by_round():
    case = Case("wiener_loss", (1, 3, 64, 64))
    # The second round was disturbed, equally for both.
    times = {contenders.MSE: [10.0, 90.0, 20.0], "blurfft cpu": [5.0, 45.0, 10.0], contenders.COPY: [1.0, 9.0, 2.0]}
    results = {(r.contender, r.quantity): r for r in report.summarise_times("overhead", case, times)}
    assert results["blurfft cpu", report.TIME].median == 10.0
    ratio = results[contenders.MSE, report.RATIO + "blurfft cpu"]
    assert (ratio.p20, ratio.median, ratio.p80) == (2.0, 2.0, 2.0)
    assert results["blurfft cpu", report.OVERHEAD + contenders.MSE].median == -10.0
    assert (contenders.COPY, report.RATIO + "blurfft cpu") not in results

    measured = Report({}, results=list(results.values()))
    assert measured.ours("overhead", case) == "blurfft cpu"
    assert measured.limit("overhead", case) == 2.0 * 3 / 2  # two reads and a write, of which the copy has two


def test_report_round_trip(tmp_path: Path):
    case = Case("wiener_nll", (4, 3, 16, 16), kernel_shared_by="sample", kernel_grad=True)
    original = Report(
        {"cpu": "Röhre", "threads": 2},
        {"nll": {"dirty": None, "rounds": 3}},
        [
            Result("nll", case, "blurfft cpu", report.TIME, "ns", 1.25, 0.25, 5.5),
            Result("memory", case, contenders.MSE, memory.PROCESS, "% of the gradient", 100.0),
        ],
        [Failure("nll", case, "off", "its loss is off by inf")],
    )
    path = tmp_path / "results.json"
    for content in (original, Report({})):
        content.save(path)
        assert Report.load(path) == content
    assert list(tmp_path.iterdir()) == [path]
    for text in ("junk", "[]", "{}", "3"):
        path.write_text(text)
        with pytest.raises(ValueError, match="holds no results of benchmarks run"):
            report.Report.load(path)
    path.write_text('{"format": 1}')
    with pytest.raises(ValueError, match="has format 1, this version reads 2"):
        Report.load(path)


def test_conditions():
    machine = report.machine("cpu", threads=2)
    assert machine["cpu"] and machine["cores"] >= 1
    assert (machine["instruction_set"] is None) == (contenders.OURS + "cpu" not in BACKENDS)
    assert machine["cpu"] in report.headline(machine)
    assert json.loads(json.dumps(machine)) == machine
    assert report.run(rounds=3)["blurfft"] == blurfft.__version__


def test_allocator_peak_counts_what_is_freed_in_between():
    # Two of 4 MiB at once, then one.
    assert memory._allocator_peak(lambda: (torch.ones(1 << 20) + 1).sum()) == pytest.approx(8 << 20, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_process_peak_sees_memory_that_torch_does_not_allocate():
    peak = memory._process_peak(lambda: np.ones(4 << 20).sum())
    if peak is None:
        pytest.skip("this system does not let a process reset its peak")
    assert peak == pytest.approx(32 << 20, rel=0.1)


@pytest.mark.slow
def test_memory_of_a_child_process():
    case = standard("wiener_loss", 64, 3_000_000)
    alone = memory.measure(case, memory.GRADIENT, "cpu", threads=1)
    assert alone[memory.ALLOCATOR] == 0
    assert abs(alone.get(memory.PROCESS, 0)) < 5
    eager = memory.measure(case, contenders.EAGER, "cpu", threads=1)
    assert eager[memory.ALLOCATOR] > 200
    assert memory.PROCESS not in eager or eager[memory.PROCESS] == pytest.approx(eager[memory.ALLOCATOR], rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "neighbour"), cases.AWKWARD_SIZES.items(), ids=str)
def test_awkward_sizes_take_less_than_twice_the_memory(size: tuple[int, int], neighbour: tuple[int, int]):
    if contenders.OURS + "cpu" not in BACKENDS:
        pytest.skip("the CPU kernels are not built")

    def kilobytes(size: tuple[int, int]) -> float:
        # A workspace a thread: eight of them stand out from the counters' noise.
        case = standard("wiener_loss", size, 3_000_000)
        share = memory.measure(case, contenders.OURS + "cpu", "cpu", threads=8).get(memory.PROCESS)
        if share is None:
            pytest.skip("this system does not let a process reset its peak")
        return share / 100 * 4 * case.pixels / 1024

    # Linux counts resident pages per core and adds up now and then: 128 KiB a core may be missing, before or after.
    assert kilobytes(size) < 2 * kilobytes(neighbour) + 512


def test_memory_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, few_cases: None):
    def fake(case: Case, contender: str, device: str, threads: int) -> dict[str, float]:
        assert (device, threads) == ("cpu", 1)
        if contender == contenders.EAGER:
            raise RuntimeError("out of memory")
        return (
            {memory.ALLOCATOR: 100.0} if contender == contenders.MSE else {memory.ALLOCATOR: 100.0, memory.PROCESS: 1.5}
        )

    monkeypatch.setattr(memory, "measure", fake)
    out = tmp_path / "results.json"
    result = run("--suite", "memory", "--size", "64", "--out", str(out))
    assert result.exit_code == 1
    assert f"{contenders.EAGER} is not measured: RuntimeError: out of memory" in result.output
    loaded = Report.load(out)
    (case,) = loaded.cases("memory")
    assert loaded.find("memory", case, contenders.MSE, memory.ALLOCATOR).median == 100
    assert loaded.find("memory", case, contenders.MSE, memory.PROCESS) is None
    assert loaded.find("memory", case, memory.GRADIENT, memory.PROCESS).median == 1.5
    assert "100.0 / 1.5" in result.output


def measured(time: float, spread: float = 0.0, ratio: float = 8.0, extra: float = 1.0, error: float = 1e-7) -> Report:
    """Results of one case, in all its quantities."""
    case = standard("wiener_loss", 64, cases.PIXELS["cpu"])
    entries = [
        Result("loss", case, "blurfft cpu", report.TIME, "ns", time, time - spread, time + spread),
        Result("loss", case, contenders.COPY, report.TIME, "ns", time / 10),
        Result("loss", case, contenders.EAGER, report.TIME, "ns", ratio * time),
        Result("loss", case, contenders.EAGER, report.RATIO + "blurfft cpu", "", ratio, 0.99 * ratio, 1.01 * ratio),
        Result("loss", case, contenders.MSE, report.RATIO + "blurfft cpu", "", 0.5),
        Result("memory", case, "blurfft cpu", memory.ALLOCATOR, "% of the gradient", extra),
        Result("accuracy", case, "blurfft cpu", report.ERROR + cases.RESULT, "of the largest entry", error),
    ]
    run = {"date": "2026-01-02T03:04:05+00:00", "blurfft": "1.2.3", "commit": "abc", "dirty": False, "rounds": 7}
    return Report(report.machine("cpu", 2), {"loss": {**run, "pixels": cases.PIXELS["cpu"]}}, entries)


@pytest.mark.parametrize(
    ("after", "worse", "better"),
    [
        (measured(100), [], []),
        (measured(120, ratio=6), [report.TIME], []),
        (measured(120, spread=25, ratio=6), [], []),  # within the spread
        (measured(120), [], []),  # everything is slower: the machine
        (measured(104, ratio=6), [], []),  # too little to matter
        (measured(80, ratio=10), [], [report.TIME]),
        (measured(100, extra=5), [memory.ALLOCATOR], []),
        (measured(100, error=2e-7), [report.ERROR + cases.RESULT], []),
    ],
)
def test_compare(after: Report, worse: list[str], better: list[str], tmp_path: Path):
    before = measured(100)
    found = comparison.compare(before, after)
    assert [[change.after.quantity for change in changes] for changes in found] == [worse, better]

    before.save(tmp_path / "a.json")
    after.save(tmp_path / "b.json")
    result = CliRunner().invoke(command.app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert result.exit_code == bool(worse), result.output
    assert f"{len(worse)} worse, {len(better)} better" in result.output


def test_compare_names_what_is_missing(tmp_path: Path):
    measured(100).save(tmp_path / "a.json")
    Report(report.machine("cpu", 2), measured(100).runs).save(tmp_path / "b.json")
    result = CliRunner().invoke(command.app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert result.exit_code == 0
    assert "loss wiener_loss 256×3×64×64" in result.output


def test_training_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    case = Case(cases.TRAINING_STEP, (2, 1, 28, 28), kernel_size=5, kernel_shared_by="sample", kernel_grad=True)
    monkeypatch.setitem(command.SUITES, "train", lambda pixels: [case])
    out = tmp_path / "results.json"
    result = run("--suite", "train", "--size", "28", "--out", str(out), "--quick")
    assert result.exit_code == 0, result.output
    loaded = Report.load(out)
    names = loaded.contenders("train", case)
    assert set(names) == {contenders.MSE, contenders.EAGER, *BACKENDS}
    shares = {name: loaded.find("train", case, name, report.SHARE) for name in names}
    assert all(0 < share.p20 <= share.median <= share.p80 <= 100 for share in shares.values())
    text = "<!-- benchmark: train results -->\n<!-- /benchmark -->"
    assert "| 2 images of 28² |" in readme.rewrite(text, tmp_path)


def test_readme(tmp_path: Path):
    measured(300).save(tmp_path / "mine.json")
    text = "Before\n<!-- benchmark: ops mine -->\nstale\n<!-- /benchmark -->\nAfter\n"
    current = readme.rewrite(text, tmp_path)
    assert current.startswith("Before\n<!-- benchmark: ops mine -->\n")
    assert current.endswith("<!-- /benchmark -->\nAfter\n")
    assert "stale" not in current
    assert "| `wiener_loss`, 64² | 9.54e-05 | 8 | – |" in current
    assert "15 % |" in current
    assert readme.rewrite(current, tmp_path) == current
    for name in readme._BLOCKS:
        assert readme.rewrite(text.replace("ops", name), tmp_path)
    assert "blurfft 1.2.3 at abc; 2026-01-02" in readme.rewrite(text.replace("ops", "conditions"), tmp_path)
    with pytest.raises(ValueError, match="there is no table 'nothing'"):
        readme.rewrite(text.replace("ops", "nothing"), tmp_path)
    with pytest.raises(ValueError, match="which does not exist"):
        readme.rewrite(text.replace("mine", "yours"), tmp_path)


def test_readme_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "README.md"
    monkeypatch.setattr(command, "rewrite", lambda text: text.replace("stale", "fresh"))
    file.write_text("stale")
    assert CliRunner().invoke(command.app, ["readme", "--check", "--file", str(file)]).exit_code == 1
    assert file.read_text() == "stale"
    assert CliRunner().invoke(command.app, ["readme", "--file", str(file)]).exit_code == 0
    assert file.read_text() == "fresh"
    assert CliRunner().invoke(command.app, ["readme", "--check", "--file", str(file)]).exit_code == 0


def test_the_tables_on_our_pages_are_those_of_the_results():
    if not (ROOT / "README.md").is_file():
        pytest.skip("README.md is not beside the tests: they do not run in the repository")
    pages = readme.pages()
    assert {ROOT / "README.md", ROOT / "docs" / "measurements.md"} <= set(pages)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert readme.rewrite(text) == text, f"{page} is stale: python -m benchmarks readme"


def test_tables_of_several_processors_follow_one_another(tmp_path: Path):
    one, two = measured(300), measured(100)
    one.machine |= {"cpu": "A", "instruction_set": "avx2"}
    two.machine |= {"cpu": "B", "instruction_set": "avx512"}
    one.save(tmp_path / "cpu-a.json")
    text = "<!-- benchmark: {} cpu-* -->\n<!-- /benchmark -->\n"
    alone = readme.rewrite(text.format("ops"), tmp_path)
    assert "**A with AVX2**" not in alone
    assert "Measured on A with AVX2. AVX-512: not measured yet." in readme.rewrite(text.format("processors"), tmp_path)
    two.save(tmp_path / "cpu-b.json")
    both = readme.rewrite(text.format("ops"), tmp_path)
    order = ["**A with AVX2**", "| 9.54e-05 |", "**B with AVX-512**", "| 3.18e-05 |"]
    assert sorted(order, key=both.index) == order
    assert "Measured on A with AVX2 and B with AVX-512." in readme.rewrite(text.format("processors"), tmp_path)
    assert "not measured" not in readme.rewrite(text.format("processors"), tmp_path)


def test_everything_on_the_pages_is_measured_for_them(tmp_path: Path):
    """Nothing else is measured: a report of these cases alone fills every table."""
    pixels = cases.PIXELS["cpu"]
    names = [*cases.SUITES]
    shown = {name: [case for case in cases.SUITES[name](pixels) if readme.shows(name, case, pixels)] for name in names}
    assert {len(shown[name]) < len(cases.SUITES[name](pixels)) for name in ("loss", "nll", "ffl", "filter", "fft")} == {
        True
    }
    results = measured(1)
    results.runs |= {name: results.runs["loss"] for name in names}

    def write(plan: dict[str, list[Case]]) -> str:
        results.results = []
        for name, entries in plan.items():
            for case in entries:
                for contender in (contenders.MSE, "blurfft cpu"):
                    quantities = (report.TIME, report.SHARE, memory.PROCESS, report.ERROR + cases.RESULT)
                    found = [Result(name, case, contender, quantity, "", 1e6) for quantity in quantities]
                    results.results += found
                results.results.append(Result(name, case, "blurfft cpu", report.OVERHEAD + contenders.MSE, "", 1.0))
        results.save(tmp_path / "mine.json")
        blocks = [f"<!-- benchmark: {name} mine -->\n<!-- /benchmark -->" for name in readme._BLOCKS]
        return readme.rewrite("\n".join(blocks), tmp_path)

    assert write(shown) == write({name: cases.SUITES[name](pixels) for name in names})


def test_awkward_sizes_stand_beside_their_neighbours(tmp_path: Path):
    results = measured(100)
    size, neighbour = (218, 178), (224, 180)
    for shape, time in ((size, 300), (neighbour, 100)):
        case = standard("wiener_loss", shape, cases.PIXELS["cpu"])
        results.results.append(Result("loss", case, "blurfft cpu", report.TIME, "ns", float(time * case.pixels)))
    results.save(tmp_path / "mine.json")
    text = "<!-- benchmark: {} mine -->\n<!-- /benchmark -->\n"
    assert "| 218×178 | 300 | 224×180 | 100 | 3 | – | – |" in readme.rewrite(text.format("awkward"), tmp_path)
    assert "218×178" not in readme.rewrite(text.format("sizes"), tmp_path)


def test_the_spread_is_that_of_the_rounds(tmp_path: Path):
    results = measured(100)
    results.results = []
    for side, p20, p80 in ((64, 9.0, 10.5), (128, 9.9, 12.0), (256, 9.5, 10.1)):
        case = standard("wiener_loss", side, cases.PIXELS["cpu"])
        results.results += [
            Result("loss", case, "blurfft cpu", report.TIME, "ns", 1e6),
            Result("loss", case, contenders.EAGER, report.RATIO + "blurfft cpu", "", 10.0, p20, p80),
        ]
    results.save(tmp_path / "mine.json")
    text = readme.rewrite("<!-- benchmark: spread mine -->\n<!-- /benchmark -->\n", tmp_path)
    assert "with `torch.fft` 10 % in half of the cases and 20 % in all." in text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc")
def test_freed_memory_is_kept():
    program = """if True:
        from benchmarks import measure
        from pathlib import Path
        import torch
        def pages(): return int(Path("/proc/self/statm").read_text().split()[1])
        print(measure.keep_freed_memory())
        before = pages()
        tensor = torch.ones(1 << 22)
        held = pages()
        del tensor
        print(held - before > 3500, pages() - before > 3500)
    """
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.split() in (["True", "True", "True"], ["False", "True", "False"])


def test_plot(tmp_path: Path):
    case = standard("wiener_loss", 256, cases.PIXELS["cpu"])
    results = measured(100)
    results.results += [replace(r, case=case) for r in results.results]
    results.save(tmp_path / "results.json")
    arguments = ["plot", str(tmp_path / "results.json"), "--out", str(tmp_path)]
    assert CliRunner().invoke(command.app, arguments).exit_code == 0
    names = [f"benchmark-{name}-{theme}.svg" for name in ("contenders", "sizes") for theme in ("dark", "light")]
    first = {path.name: path.read_bytes() for path in sorted(tmp_path.glob("*.svg"))}
    assert list(first) == names
    assert CliRunner().invoke(command.app, arguments).exit_code == 0
    assert first == {name: (tmp_path / name).read_bytes() for name in names}


def test_a_disturbed_measurement_is_repeated():
    case = Case("wiener_loss", (1, 3, 64, 64))
    shares = iter([5.0, 2.0, 3.0, 0.1])

    def measure() -> Report:
        return Report({}, results=[Result("loss", case, report.MACHINE, report.WAITED, "%", next(shares))])

    assert command._undisturbed(measure, 3, "loss", case).results[0].median == 2.0
    assert command._undisturbed(measure, 3, "loss", case).results[0].median == 0.1
