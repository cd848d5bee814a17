"""The tables of README.md and of the pages in docs/, from committed results.

A table stands between the lines ``<!-- benchmark: NAME FILES -->`` and ``<!-- /benchmark -->``. FILES is a pattern of
names in ``benchmarks/results`` without their ending: ``cpu-*`` for all processors, whose tables then follow one
another. Whatever stands between the two lines is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from .cases import AWKWARD_SIZES, INPUT_GRAD, KERNEL_GRAD, RESULT, Case, standard
from .contenders import COMPILED, EAGER, FFL, HAND, MSE, OURS, SKIMAGE
from .memory import ALLOCATOR, PROCESS
from .report import DISTURBED, ERROR, MACHINE, OVERHEAD, ROOT, SHARE, TIME, WAITED, Report, headline
from .tables import number, share_of_limit

RESULTS = Path(__file__).resolve().parent / "results"
# What blurfft's kernels are compiled for, fastest first, as the pages call it.
INSTRUCTION_SETS = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "baseline"}
_BLOCK = re.compile(r"(<!-- benchmark: (\S+) (\S+) -->\n).*?(<!-- /benchmark -->)", re.DOTALL)


def pages() -> list[Path]:
    """The pages that hold tables."""
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in texts if _BLOCK.search(path.read_text(encoding="utf-8"))]


def rewrite(text: str, results: Path = RESULTS) -> str:
    """The text with its tables renewed from the results."""

    def block(match: re.Match[str]) -> str:
        opening, name, pattern, closing = match.groups()
        if name not in _BLOCKS:
            raise ValueError(f"there is no table {name!r}, only {', '.join(_BLOCKS)}")
        files = sorted(results.glob(f"{pattern}.json"))
        if not files:
            raise ValueError(f"the table {name!r} is to come from {results / pattern}.json, which does not exist")
        content = _BLOCKS[name]([Report.load(file) for file in files])
        return f"{opening}\n{content}\n\n{closing}" if content else opening + closing

    return _BLOCK.sub(block, text)


def shows(suite: str, case: Case, pixels: int) -> bool:
    """Whether the tables show this case of a suite measured with ``pixels``."""
    if suite == "overhead":
        return case.shape == _SMALLEST
    if suite in ("memory", "train", "accuracy"):
        return True
    usual = case == standard(case.op, case.size, pixels)
    return usual and ((suite, case.op) in _TITLED or case.size in _SIZES_OF_OPS)


def processor(report: Report) -> str:
    """The name of the processor, with the instruction set."""
    kind = report.machine["instruction_set"]
    kernels = INSTRUCTION_SETS.get(kind, "no compiled kernels")
    return report.machine.get("gpu") or f"{report.machine['cpu']} with {kernels}"


def _each(block: Callable[[Report], str]) -> Callable[[list[Report]], str]:
    """The blocks of all reports, each under the name of its processor if there are several."""

    def blocks(reports: list[Report]) -> str:
        parts = [(report, content) for report in reports if (content := block(report))]
        if len(reports) == 1:
            return "\n\n".join(content for _, content in parts)
        return "\n\n".join(f"**{processor(report)}**\n\n{content}" for report, content in parts)

    return blocks


def _processors(reports: list[Report]) -> str:
    """The processors that were measured, and the instruction sets that were not."""
    kinds = {report.machine["instruction_set"] for report in reports}
    missing = [name for kind, name in INSTRUCTION_SETS.items() if kind not in kinds and kind != "baseline"]
    sentence = f"Measured on {' and '.join(processor(report) for report in reports)}."
    return f"{sentence} {' and '.join(missing)}: not measured yet." if missing else sentence


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    lines = [head, ("---", *("--:" for _ in head[1:])), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(report: Report, suite: str, case: Case, contender: str) -> float | None:
    found = report.ratio(suite, case, contender)
    return None if found is None else found.median


def _times(value: float | None) -> str:
    return "–" if value is None else number(value)


def _inverse(value: float | None) -> str:
    return "–" if value is None else number(1 / value)


def _ns(report: Report, suite: str, case: Case) -> float | None:
    """Nanoseconds per pixel."""
    ours = report.ours(suite, case)
    time = None if ours is None else report.find(suite, case, ours, TIME)
    return None if time is None else time.median / case.pixels


def _range(values: list[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _images(size: tuple[int, int]) -> str:
    height, width = size
    return f"{height}²" if height == width else f"{height}×{width}"


_TITLED = (("loss", "wiener_loss"), ("nll", "wiener_nll"))  # have tables of their own
_SIZES_OF_OPS = ((64, 64), (256, 256))
_SMALLEST = (1, 1, 16, 16)


def _claim(report: Report) -> str:
    """The README's sentence on speed: smooth sizes from 64² to 256², forward + backward."""
    threads = report.machine["threads"]
    where = report.machine.get("gpu") or f"{threads} thread{'s' * (threads != 1)} of an {processor(report)}"
    lines = []
    for suite, op in _TITLED:
        cases = [
            case
            for case in report.standard_cases(suite, op)
            if min(case.size) >= 64 and max(case.size) <= 256 and case.size not in AWKWARD_SIZES
        ]
        mse, eager = (
            [ratio for case in cases if (ratio := _ratio(report, suite, case, name)) is not None]
            for name in (MSE, EAGER)
        )
        if mse and eager:
            lines.append(
                f"**`{op}` is {_range(eager)} × faster than plain `torch.fft` and takes "
                f"{_range([1 / ratio for ratio in mse])} × the time of `F.mse_loss`**"
            )
    return f"On {where}, forward + backward, images from 64² to 256²: {'; '.join(lines)}." if lines else ""


def _sizes(report: Report) -> str:
    """wiener_loss and wiener_nll against image size."""
    parts = []
    for suite, op in _TITLED:
        rows: list[tuple[str, ...]] = [_SIZES_HEAD]
        for case in report.standard_cases(suite, op):
            if case.size in AWKWARD_SIZES:
                continue
            rows.append(
                (
                    _images(case.size),
                    _times(_ns(report, suite, case)),
                    _inverse(_ratio(report, suite, case, MSE)),
                    _times(_ratio(report, suite, case, EAGER)),
                    _times(_ratio(report, suite, case, HAND)),
                )
            )
        if len(rows) > 1:
            parts.append(f"`{op}`:\n\n{_table(*rows)}")
    return "\n\n".join(parts)


_SIZES_HEAD = (
    "Images",
    "ns/px",
    f"× the time of `{MSE}`",
    "× faster than torch.fft",
    "× faster than torch.fft by hand",
)


def _awkward(report: Report) -> str:
    """Sides with a prime factor above 7, beside the nearest size without one."""
    parts = []
    for suite, op in _TITLED:
        smooth = {case.size: case for case in report.standard_cases(suite, op)}
        rows: list[tuple[str, ...]] = [
            (
                "Images",
                "ns/px",
                "Smooth neighbour",
                "its ns/px",
                "× the time of the neighbour",
                "× faster than torch.fft",
                "× faster than torch.fft by hand",
            )
        ]
        for size, neighbour in AWKWARD_SIZES.items():
            if size not in smooth:
                continue
            time = _ns(report, suite, smooth[size])
            other = _ns(report, suite, smooth[neighbour]) if neighbour in smooth else None
            rows.append(
                (
                    _images(size),
                    _times(time),
                    _images(neighbour),
                    _times(other),
                    _times(None if time is None or other is None else time / other),
                    _times(_ratio(report, suite, smooth[size], EAGER)),
                    _times(_ratio(report, suite, smooth[size], HAND)),
                )
            )
        if len(rows) > 1:
            parts.append(f"`{op}`:\n\n{_table(*rows)}")
    return "\n\n".join(parts)


_OPS = (
    ("loss", "wiener_loss"),
    ("nll", "wiener_nll"),
    ("loss", "spectral_mse"),
    ("loss", "blur_mse"),
    ("ffl", "focal_frequency_loss"),
    ("filter", "wiener_filter"),
    ("filter", "blur"),
    ("fft", "rfft2"),
    ("fft", "irfft2"),
)


def _ops(report: Report) -> str:
    """Every op against every contender, at 64² and 256²."""
    names = (EAGER, COMPILED, HAND, FFL, SKIMAGE)
    rows: list[tuple[str, ...]] = [
        ("", "ns/px", *(f"`{name}`" if name in (FFL, SKIMAGE) else name for name in names), "share of limit")
    ]
    for suite, op in _OPS:
        for case in report.standard_cases(suite, op):
            if case.size not in _SIZES_OF_OPS:
                continue
            ratios = (_times(_ratio(report, suite, case, name)) for name in names)
            limit = share_of_limit(report, suite, case)
            rows.append((f"`{op}`, {_images(case.size)}", _times(_ns(report, suite, case)), *ratios, limit))
    return _table(*rows) if len(rows) > 1 else ""


def _overhead(report: Report) -> str:
    """The cost of a call that computes next to nothing."""
    rows: list[tuple[str, ...]] = [("", "blurfft, µs", f"µs more than `{MSE}`", f"× faster than {EAGER}")]
    for case in report.cases("overhead"):
        ours = report.ours("overhead", case)
        if ours is None or case.shape != _SMALLEST:
            continue
        time = report.find("overhead", case, ours, TIME)
        beyond = report.find("overhead", case, ours, OVERHEAD + MSE)
        if time is not None and beyond is not None:
            micros = (number(value.median / 1e3) for value in (time, beyond))
            rows.append((f"`{case.op}`", *micros, _times(_ratio(report, "overhead", case, EAGER))))
    return _table(*rows) if len(rows) > 1 else ""


def _train(report: Report) -> str:
    """Steps of a VAE, and the share of each that the reconstruction term takes."""
    rows: list[tuple[str, ...]] = [("", "blur error, blurfft", "blur error, torch.fft", f"`{MSE}`")]
    for case in report.cases("train"):
        cells = []
        for name in (report.ours("train", case) or OURS, EAGER, MSE):
            time, share = (report.find("train", case, name, quantity) for quantity in (TIME, SHARE))
            if time is None or share is None:
                cells.append("–")
            else:
                cells.append(f"{number(time.median / 1e6)} ms ({number(share.median)} %)")
        rows.append((f"{case.shape[0]} images of {case.shape[2]}²", *cells))
    return _table(*rows) if len(rows) > 1 else ""


def _memory(report: Report) -> str:
    """Peak memory beyond inputs and gradients, as a share of one gradient."""
    names = (MSE, EAGER, HAND, FFL)
    rows: list[tuple[str, ...]] = [("", "blurfft", *(f"`{name}`" for name in names))]
    for case in report.cases("memory"):
        ours = report.ours("memory", case)
        cells = []
        for name in (ours or OURS, *names):
            found = [report.find("memory", case, name, quantity) for quantity in (ALLOCATOR, PROCESS)]
            cells.append(" / ".join(f"{abs(result.median):.1f}" for result in found if result is not None) or "–")
        rows.append((f"`{case.op}`, {_images(case.size)}", *cells))
    return _table(*rows) if len(rows) > 1 else ""


def _accuracy(report: Report) -> str:
    """Errors in float32 relative to float64, of blurfft and of torch.fft."""
    outputs = [RESULT, INPUT_GRAD, KERNEL_GRAD]
    rows: list[tuple[str, ...]] = [("", *outputs)]
    for case in report.cases("accuracy"):
        ours = report.ours("accuracy", case)
        cells = []
        for output in outputs:
            errors = [report.find("accuracy", case, name, ERROR + output) for name in (ours or OURS, EAGER)]
            cells.append(" / ".join(f"{error.median:.1e}" for error in errors if error is not None) or "–")
        rows.append((f"`{case.op}`, {_images(case.size)}", *cells))
    return _table(*rows) if len(rows) > 1 else ""


def _conditions(report: Report) -> str:
    """Where, when and how the results were measured."""
    return " ".join(_sentences(report))


def _sentences(report: Report) -> Iterator[str]:
    runs = report.runs.values()
    commits = sorted({str(run["commit"])[:10] + (" with changes" if run["dirty"] else "") for run in runs})
    dates = sorted({str(run["date"])[:10] for run in runs})
    rounds = sorted({int(run["rounds"]) for run in runs})
    waits = [r.median for r in report.results if r.contender == MACHINE and r.quantity == WAITED]
    disturbed = sum(wait > DISTURBED for wait in waits)
    version, pixels = (next(iter(runs))[name] for name in ("blurfft", "pixels"))
    yield f"{headline(report.machine)}, blurfft {version} at {', '.join(commits)}; {', '.join(dates)}."
    yield (
        f"fp32 unless marked, {number(pixels / 1e6)} million values a tensor; medians of {', '.join(map(str, rounds))} "
        "rounds, in each of which all contenders take turns in random order in one process."
    )
    if report.machine["device"] == "cpu":
        if all(run.get("keeps_freed_memory") for run in runs):
            yield "glibc keeps freed memory."
        else:
            yield "glibc may return freed memory to the system after each call, for which the next one pays."
    if disturbed:
        yield f"In {disturbed} of {len(waits)} cases other processes took more than {DISTURBED:g} % of a core."


def _spread(report: Report) -> str:
    """How far the quotients of single rounds lie from their medians, for all sizes of the titled ops."""
    parts = []
    for name in (EAGER, MSE):
        deviations = []
        for suite, op in _TITLED:
            for case in report.standard_cases(suite, op):
                found = report.ratio(suite, case, name)
                if found is not None and found.p20 is not None and found.p80 is not None:
                    deviations.append(max(found.p80 / found.median - 1, 1 - found.p20 / found.median))
        if deviations:
            usual, largest = (100 * value for value in (median(deviations), max(deviations)))
            parts.append(f"`{name}` {usual:.0f} % in half of the cases and {largest:.0f} % in all")
    if not parts:
        return ""
    return f"In three of five rounds a quotient is this close to its median: with {'; with '.join(parts)}."


_BLOCKS: dict[str, Callable[[list[Report]], str]] = {
    "processors": _processors,
    "claim": _each(_claim),
    "conditions": _each(_conditions),
    "spread": _each(_spread),
    "sizes": _each(_sizes),
    "awkward": _each(_awkward),
    "ops": _each(_ops),
    "overhead": _each(_overhead),
    "memory": _each(_memory),
    "train": _each(_train),
    "accuracy": _each(_accuracy),
}
