"""The tables of README.md, from committed results.

A table stands between the lines ``<!-- benchmark: NAME FILE -->`` and ``<!-- /benchmark -->``, where FILE is one in
``benchmarks/results`` without its ending. Whatever stands between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .cases import Case
from .contenders import COMPILED, EAGER, FFL, HAND, MSE, OURS, SKIMAGE
from .memory import ALLOCATOR, PROCESS
from .report import DISTURBED, MACHINE, OVERHEAD, RATIO, SHARE, TIME, WAITED, Report, headline
from .tables import number, share_of_limit

RESULTS = Path(__file__).resolve().parent / "results"
_BLOCK = re.compile(r"(<!-- benchmark: (\S+) (\S+) -->\n).*?(<!-- /benchmark -->)", re.DOTALL)


def rewrite(text: str, results: Path = RESULTS) -> str:
    """The text with its tables as the results have them."""

    def block(match: re.Match[str]) -> str:
        opening, name, file, closing = match.groups()
        if name not in _BLOCKS:
            raise ValueError(f"there is no table {name!r}, only {', '.join(_BLOCKS)}")
        path = results / f"{file}.json"
        if not path.is_file():
            raise ValueError(f"the table {name!r} is to come from {path}, which does not exist")
        content = _BLOCKS[name](Report.load(path))
        return f"{opening}\n{content}\n\n{closing}" if content else opening + closing

    return _BLOCK.sub(block, text)


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    lines = [head, ("---", *("--:" for _ in head[1:])), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(report: Report, suite: str, case: Case, contender: str) -> float | None:
    """How many times as long as blurfft it takes."""
    ours = report.ours(suite, case)
    found = None if ours is None else report.find(suite, case, contender, RATIO + ours)
    return None if found is None else found.median


def _times(value: float | None) -> str:
    return "–" if value is None else number(value)


def _of(value: float | None) -> str:
    """The quotient the other way round."""
    return "–" if value is None else number(1 / value)


def _ns(report: Report, suite: str, case: Case) -> str:
    ours = report.ours(suite, case)
    time = None if ours is None else report.find(suite, case, ours, TIME)
    return "–" if time is None else number(time.median / case.pixels)


def _range(values: list[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _claim(report: Report) -> str:
    """What the README begins with: images of 64² to 256² that our kernels serve, forward + backward."""
    sentences = []
    for suite, op in (("loss", "wiener_loss"), ("nll", "wiener_nll")):
        cases = [case for case in report.standard_cases(suite, op) if min(case.size) >= 64 and max(case.size) <= 256]
        fused = [case for case in cases if report.ours(suite, case) != f"{OURS}reference"]
        mse, eager = (
            [ratio for case in fused if (ratio := _ratio(report, suite, case, name)) is not None]
            for name in (MSE, EAGER)
        )
        if mse and eager:
            sentences.append(
                f"**`{op}` takes {_range([1 / ratio for ratio in mse])} times as long as `F.mse_loss`, "
                f"plain `torch.fft` takes {_range(eager)} times as long as `{op}`.**"
            )
    where = report.machine.get("gpu") or f"{report.machine['threads']} threads of a CPU"
    return " ".join(
        [
            f"Measured on {where}, forward + backward, images of 64² to 256² whose sides have no prime factor above 7:",
            *sentences,
        ]
    )


def _sizes(report: Report) -> str:
    """wiener_loss and wiener_nll against image size."""
    rows: list[tuple[str, ...]] = [
        (
            "Images",
            "`wiener_loss`, ns a pixel",
            f"÷ `{MSE}`",
            "torch.fft ÷ it",
            "by hand ÷ it",
            "`wiener_nll`, ns a pixel",
            f"÷ `{MSE}`",
            "torch.fft ÷ it",
        )
    ]
    nll = {case.size: case for case in report.standard_cases("nll", "wiener_nll")}
    for case in report.standard_cases("loss", "wiener_loss"):
        other = nll.get(case.size)
        height, width = case.size
        if other is None:
            continue
        rows.append(
            (
                f"{height}²" if height == width else f"{height}×{width}",
                _ns(report, "loss", case),
                _of(_ratio(report, "loss", case, MSE)),
                _times(_ratio(report, "loss", case, EAGER)),
                _times(_ratio(report, "loss", case, HAND)),
                _ns(report, "nll", other),
                _of(_ratio(report, "nll", other, MSE)),
                _times(_ratio(report, "nll", other, EAGER)),
            )
        )
    return _table(*rows)


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
        ("", "ns a pixel", *(f"`{name}`" if name in (FFL, SKIMAGE) else name for name in names), "share of limit")
    ]
    for suite, op in _OPS:
        for case in report.standard_cases(suite, op):
            if case.size not in ((64, 64), (256, 256)):
                continue
            ratios = (_times(_ratio(report, suite, case, name)) for name in names)
            limit = share_of_limit(report, suite, case)
            rows.append((f"`{op}`, {case.size[0]}²", _ns(report, suite, case), *ratios, limit))
    return _table(*rows)


def _overhead(report: Report) -> str:
    """What a call costs that computes next to nothing."""
    rows: list[tuple[str, ...]] = [("", "blurfft, µs", f"beyond `{MSE}`, µs", EAGER)]
    for case in report.cases("overhead"):
        ours = report.ours("overhead", case)
        if ours is None or case.shape != (1, 1, 16, 16):
            continue
        time = report.find("overhead", case, ours, TIME)
        beyond = report.find("overhead", case, ours, OVERHEAD + MSE)
        if time is not None and beyond is not None:
            micros = (number(value.median / 1e3) for value in (time, beyond))
            rows.append((f"`{case.op}`", *micros, _times(_ratio(report, "overhead", case, EAGER))))
    return _table(*rows)


def _train(report: Report) -> str:
    """Steps of a VAE, and the share of each that the reconstruction term takes; nothing if they were not measured."""
    if not report.cases("train"):
        return ""
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
    about = (
        "A training step of a small VAE (`blurfft.vae`, optimisers included), and the share of it that the "
        "reconstruction term takes, forward and backward, with the kernel net and its own fit:"
    )
    return f"{about}\n\n{_table(*rows)}"


def _memory(report: Report) -> str:
    """Peak memory beyond inputs and gradients, as a share of one gradient; nothing if it was not measured."""
    if not report.cases("memory"):
        return ""
    names = (MSE, EAGER, HAND, FFL)
    rows: list[tuple[str, ...]] = [("", "blurfft", *(f"`{name}`" for name in names))]
    for case in report.cases("memory"):
        ours = report.ours("memory", case)
        cells = []
        for name in (ours or OURS, *names):
            found = [report.find("memory", case, name, quantity) for quantity in (ALLOCATOR, PROCESS)]
            cells.append(" / ".join(f"{abs(result.median):.1f}" for result in found if result is not None) or "–")
        rows.append((f"`{case.op}`, {case.size[0]}²", *cells))
    about = (
        "Memory that a step holds beyond inputs and gradients, in % of one gradient: of torch's allocator / of the "
        "process, workspaces of the kernels included:"
    )
    return f"{about}\n\n{_table(*rows)}"


def _conditions(report: Report) -> str:
    """Where, when and how."""
    runs = report.runs.values()
    commits = sorted({str(run["commit"])[:10] + (" with changes" if run["dirty"] else "") for run in runs})
    dates = sorted({str(run["date"])[:10] for run in runs})
    rounds = sorted({str(run["rounds"]) for run in runs})
    waits = [r.median for r in report.results if r.contender == MACHINE and r.quantity == WAITED]
    disturbed = sum(wait > DISTURBED for wait in waits)
    version, pixels = (next(iter(runs))[name] for name in ("blurfft", "pixels"))
    sentences = [
        f"{headline(report.machine)}, blurfft {version} at {', '.join(commits)}; {', '.join(dates)}.",
        f"fp32 unless marked, {number(pixels / 1e6)} million values a tensor; medians of {', '.join(rounds)} rounds in "
        "which all contenders take turns in one process.",
    ]
    if disturbed:
        sentences.append(
            f"In {disturbed} of {len(waits)} cases other processes took more than {DISTURBED:g} % of a core."
        )
    return " ".join(sentences)


_BLOCKS: dict[str, Callable[[Report], str]] = {
    "claim": _claim,
    "conditions": _conditions,
    "sizes": _sizes,
    "ops": _ops,
    "overhead": _overhead,
    "memory": _memory,
    "train": _train,
}
