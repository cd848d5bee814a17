"""The benchmarks measure what they say, and refuse to time what is wrong."""
# ruff: noqa: E402  (the folder that is tested may be absent)

from __future__ import annotations

import math
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
from benchmarks import cases, measure, memory, report
from benchmarks.contenders import Contender, contenders, truths
from benchmarks.report import Failure, Report, Result

TINY = ["run", "--pixels", "2000", "--rounds", "2", "--threads", "1"]
BACKENDS = [name for name in blurfft.available_backends() if name != "reference"]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(*arguments: str):
    return CliRunner().invoke(command.app, [*TINY, *arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize("suite", ["loss", "nll", "accuracy"])
def test_run(suite: str, tmp_path: Path):
    out = tmp_path / "results.json"
    result = run("--suite", suite, "--size", "16", "--size", "12", "--out", str(out))
    assert result.exit_code == 0, result.output
    loaded = Report.load(out)
    assert not loaded.failures
    assert loaded.conditions["threads"] == 1
    assert loaded.conditions["pixels"] == 2000
    assert loaded.conditions["torch"] == torch.__version__

    ops = ["wiener_loss"] * (suite != "nll") + ["wiener_nll"] * (suite != "loss")
    shapes = [(3, 3, 16, 16), (5, 3, 12, 12)]
    assert [(c.op, c.shape) for c in loaded.cases(suite)] == [(op, shape) for op in ops for shape in shapes]
    quantities = {r.contender: set() for r in loaded.results}
    for r in loaded.results:
        assert r.median >= 0
        quantities[r.contender].add(r.quantity)
    quantities.pop(report.MACHINE, None)
    ours = [f"blurfft {name}" for name in BACKENDS]
    if suite == "accuracy":
        assert set(quantities) == {cases.EAGER, *ours}
        assert all(q == {report.ERROR + name for name in cases.OUTPUT_NAMES} for q in quantities.values())
    else:
        by_hand = [cases.HAND] * (suite == "loss")
        assert set(quantities) == {cases.COPY, cases.MSE, cases.EAGER, *by_hand, *ours}
        for name in ours:
            assert quantities[name] == {report.TIME, report.RATIO + cases.MSE}
            assert report.RATIO + name in quantities[cases.EAGER]
    for words in (*quantities, "3×3×16×16", "5×3×12×12"):
        assert words.removeprefix("blurfft ") in result.output


@pytest.mark.skipif("cpu" not in BACKENDS, reason="the cpu backend is not available")
def test_size_that_a_backend_does_not_serve():
    result = run("--suite", "loss", "--size", "13")
    assert result.exit_code == 0, result.output
    assert "backend cpu does not serve this: it serves height and width up to" in result.output
    assert cases.EAGER in result.output


def test_folder_of_out_must_exist(tmp_path: Path):
    result = run("--out", str(tmp_path / "none" / "results.json"))
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_wrong_contender_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    timed: list[str] = []

    def with_wrong(suite, case, inputs):
        right = contenders(suite, case, inputs)
        eager = next(c for c in right if c.name == cases.EAGER)

        def slightly_off():
            loss, grad, kernel_grad = eager.step()
            return loss, grad * 1.001, kernel_grad

        def fails():
            raise RuntimeError("no such kernel")

        return [*right, Contender("off", slightly_off, case.op), Contender("fails", fails, case.op)]

    def times(contenders, *args, **kwargs):
        timed.extend(c.name for c in contenders)
        return measure_times(contenders, *args, **kwargs)

    measure_times = measure.times
    monkeypatch.setattr(measure, "times", times)
    monkeypatch.setattr(command, "contenders", with_wrong)
    out = tmp_path / "results.json"
    result = run("--suite", "loss", "--size", "16", "--out", str(out))
    assert result.exit_code == 1
    assert "off is not measured: its input gradient is off by 1.0e-03 of the largest entry" in result.output
    assert "fails is not measured: RuntimeError: no such kernel" in result.output
    assert cases.EAGER in timed
    assert not {"off", "fails"} & set(timed)
    loaded = Report.load(out)
    assert [failure.contender for failure in loaded.failures] == ["off", "fails"]
    assert not {"off", "fails"} & {r.contender for r in loaded.results}

    result = run("--suite", "accuracy", "--size", "16")
    assert result.exit_code == 1
    assert result.output.count("off is not measured") == 2  # of wiener_loss and of wiener_nll


# An odd width has no column of its own mirror but the first; by hand that is easily wrong.
@pytest.mark.parametrize("shape", [(3, 3, 16, 16), (2, 3, 15, 15), (1, 1, 12, 14), (2, 3, 14, 15)])
@pytest.mark.parametrize("make", [cases.loss_cases, cases.nll_cases])
def test_contenders_are_right(make, shape):
    (case,) = make([16], 1)
    case = replace(case, shape=shape)
    inputs = cases.Inputs.of(case)
    truth = truths(case, inputs)
    for contender in contenders(make.__name__.removesuffix("_cases"), case, inputs):
        assert measure.fault(contender, truth[contender.truth]) is None
        assert max(measure.errors(contender.step(), truth[contender.truth]).values()) < 2e-5


def test_inputs():
    case = cases.Case("wiener_nll", (4, 3, 16, 20), kernel_per_sample=True, kernel_grad=True)
    a, b, other = cases.Inputs.of(case), cases.Inputs.of(case), cases.Inputs.of(case, seed=1)
    assert a.kernel.shape == (4, 1, 11, 11)
    assert a.kernel.requires_grad
    torch.testing.assert_close(a.kernel.sum((2, 3)), torch.ones(4, 1))
    assert torch.equal(a.input, b.input)
    assert not torch.equal(a.input, other.input)
    shared = cases.Inputs.of(cases.Case("wiener_loss", case.shape))
    assert shared.kernel.shape == (11, 11)
    assert not shared.kernel.requires_grad


@pytest.mark.parametrize("suite", cases.SUITES)
def test_tensors_of_a_suite_are_of_about_the_same_size(suite: str):
    sizes = cases.MAIN_SIZES + cases.OTHER_SIZES
    suite_cases = cases.SUITES[suite](sizes, cases.PIXELS)
    assert {case.shape[-1] for case in suite_cases} == set(sizes)
    assert all(abs(case.pixels / cases.PIXELS - 1) < 0.01 for case in suite_cases)


def test_errors_are_relative_to_the_largest_entry_and_never_hidden():
    truth = (torch.tensor(2.0, dtype=torch.float64), torch.tensor([0.0, -4.0], dtype=torch.float64), None)
    exact = (torch.tensor(2.0), torch.tensor([0.0, -4.0]), None)
    assert measure.errors(exact, truth) == {"loss": 0.0, "input gradient": 0.0}
    assert measure.errors((torch.tensor(3.0), torch.tensor([1.0, -4.0]), None), truth) == {
        "loss": 0.5,
        "input gradient": 0.25,
    }
    for bad in (None, torch.tensor([0.0, math.nan]), torch.zeros(3)):
        assert measure.errors((exact[0], bad, None), truth)["input gradient"] == math.inf


def test_everyone_has_a_turn_in_each_round():
    calls: list[str] = []
    cleared: list[int] = []
    rounds: list[int] = []

    def contender(name: str, work: int) -> Contender:
        def step():
            calls.append(name)
            return torch.rand(work).sum(), None, None

        return Contender(name, step, name)

    times = measure.times(
        [contender("a", 1 << 21), contender("b", 1 << 22)],
        3,
        clear=lambda: cleared.append(len(calls)),
        after_round=lambda: rounds.append(len(calls)),
    )
    assert {name: len(samples) for name, samples in times.items()} == {"a": 3, "b": 3}
    assert min(times["a"] + times["b"]) > 0
    assert len(cleared) == 6
    assert len(rounds) == 3
    for start, end in pairwise(rounds):
        turns = calls[start:end]
        assert {"a", "b"} == set(turns)
        assert sum(x != y for x, y in pairwise(turns)) == 1


def test_ratios_are_taken_round_by_round():
    case = cases.Case("wiener_loss", (1, 3, 64, 64))
    # The second round was disturbed, for both alike.
    times = {cases.MSE: [10.0, 90.0, 20.0], "blurfft cpu": [5.0, 45.0, 10.0], cases.EAGER: [50.0, 450.0, 100.0]}
    results = {(r.contender, r.quantity): r for r in report.summarise_times("loss", case, times)}
    assert results["blurfft cpu", report.TIME].median == 10.0
    ours = results["blurfft cpu", report.RATIO + cases.MSE]
    assert (ours.p20, ours.median, ours.p80) == (0.5, 0.5, 0.5)
    assert results[cases.EAGER, report.RATIO + "blurfft cpu"].median == 10.0
    assert (cases.HAND, report.RATIO + "blurfft cpu") not in results


def test_targets_differ_between_main_and_other_sizes():
    main, other = (cases.Case("wiener_loss", (1, 3, size, size)) for size in (64, 96))
    at_most, at_least, _ = cases.TARGETS["loss"]
    assert at_most.met(main, 0.75) and not at_most.met(main, 0.76)
    assert at_most.met(other, 1.0) and not at_most.met(other, 1.01)
    assert at_least.met(main, 12) and not at_least.met(main, 11.9)
    assert at_least.met(other, 8) and not at_least.met(other, 7.9)


def test_report_round_trip(tmp_path: Path):
    case = cases.Case("wiener_nll", (4, 3, 16, 16), kernel_per_sample=True, kernel_grad=True)
    original = Report(
        {"cpu": "Röhre", "dirty": None, "threads": 2},
        [
            Result("nll", case, "blurfft cpu", report.TIME, "ns", 1.0 / 3.0, 0.25, 0.5),
            Result("memory", case, cases.MSE, report.PROCESS_MEMORY, "% of the gradient", 100.0),
        ],
        [Failure("nll", case, "off", "its loss is off by inf")],
    )
    path = tmp_path / "results.json"
    for content in (original, Report({})):
        content.save(path)
        assert Report.load(path) == content
    path.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="has format 0, this version reads 1"):
        Report.load(path)


def test_conditions():
    conditions = report.conditions(threads=2)
    assert conditions["cpu"]
    assert conditions["cores"] >= 1
    assert conditions["blurfft"] == blurfft.__version__
    assert (conditions["instruction_set"] is None) == ("cpu" not in BACKENDS)
    assert conditions["cpu"] in report.headline(conditions)


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
    (case,) = cases.loss_cases([64], 800_000)
    allocator, process = memory.measure(case, cases.GRADIENT, threads=1)
    assert allocator == 0
    assert process is None or abs(process) < 5
    allocator, process = memory.measure(case, cases.EAGER, threads=1)
    assert allocator > 200
    assert process is None or process == pytest.approx(allocator, rel=0.2)


def test_memory_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fake(case: cases.Case, contender: str, threads: int) -> tuple[float, float | None]:
        assert threads == 1
        if contender == cases.EAGER:
            raise RuntimeError("out of memory")
        return 100.0, None if contender == cases.MSE else 1.5

    monkeypatch.setattr(memory, "measure", fake)
    out = tmp_path / "results.json"
    result = run("--suite", "memory", "--size", "16", "--out", str(out))
    assert result.exit_code == 1
    assert f"{cases.EAGER} is not measured: RuntimeError: out of memory" in result.output
    loaded = Report.load(out)
    assert [case.op for case in loaded.cases("memory")] == ["wiener_loss", "wiener_nll"]
    for case in loaded.cases("memory"):
        assert loaded.find("memory", case, cases.MSE, report.ALLOCATOR_MEMORY).median == 100
        assert loaded.find("memory", case, cases.MSE, report.PROCESS_MEMORY) is None
        assert loaded.find("memory", case, cases.GRADIENT, report.PROCESS_MEMORY).median == 1.5
    assert "100.0 / 1.5" in result.output
