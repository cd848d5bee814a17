"""The figures of speed: time per pixel against the size of the images, and bars against contenders."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .cases import AWKWARD_SIZES, Case
from .contenders import COMPILED, EAGER, FFL, HAND, MSE, OURS, SKIMAGE
from .readme import processor
from .report import TIME, Report
from .tables import number

# Of text, lines and, by contender, of what is drawn.
THEMES: dict[str, dict[str, str]] = {
    "light": {
        "text": "#1f2328",
        "grid": "#d1d9e0",
        OURS: "#c2410c",
        MSE: "#0969da",
        EAGER: "#59636e",
        HAND: "#8250df",
        COMPILED: "#818b98",
        FFL: "#1a7f37",
        SKIMAGE: "#9a6700",
    },
    "dark": {
        "text": "#f0f6fc",
        "grid": "#3d444d",
        OURS: "#ff9b57",
        MSE: "#6cb6ff",
        EAGER: "#b1bac4",
        HAND: "#d2a8ff",
        COMPILED: "#8b949e",
        FFL: "#56d364",
        SKIMAGE: "#e3b341",
    },
}
WIDTH = 8.6  # inches; a README shows some 860 pixels
NAMES = {OURS: "blurfft", MSE: "F.mse_loss", EAGER: "torch.fft, autograd"}


def save(reports: list[Report], folder: Path, format: str = "svg") -> list[Path]:
    """Saves every figure in both themes, byte for byte the same for the same results."""
    reports = [report for report in reports if report.standard_cases("loss", "wiener_loss")]
    if not reports:
        raise ValueError("the results have no case of wiener_loss")
    paths = []
    for name, draw in {"sizes": sizes, "contenders": contenders}.items():
        for theme in THEMES:
            path = folder / f"benchmark-{name}-{theme}.{format}"
            with plt.style.context(_style(theme)):
                figure = draw(reports, THEMES[theme])
                figure.savefig(path, transparent=format == "svg", metadata={"Date": None} if format == "svg" else None)
                plt.close(figure)
            paths.append(path)
    return paths


def _style(theme: str) -> dict[str, Any]:
    colours = THEMES[theme]
    return {
        "svg.hashsalt": "blurfft",
        "svg.fonttype": "path",
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "#ffffff" if theme == "light" else "#0d1117",
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": colours["grid"],
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), colours["text"]),
        "axes.edgecolor": colours["grid"],
    }


def _contender(report: Report, suite: str, case: Case, name: str) -> float | None:
    """Nanoseconds per pixel; for blurfft, of the best backend."""
    actual = report.ours(suite, case) if name == OURS else name
    time = None if actual is None else report.find(suite, case, actual, TIME)
    return None if time is None else time.median / case.pixels


def _panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, Any]:
    size = (WIDTH, 0.5 + height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)


def sizes(reports: list[Report], colours: dict[str, str]) -> Figure:
    """Time per pixel against the side of square images of smooth size; a row of panels for each processor."""
    panels = [("loss", "wiener_loss", "wiener_loss"), ("nll", "wiener_nll", "wiener_nll, one kernel per sample")]
    panels = [panel for panel in panels if any(report.standard_cases(panel[0], panel[1]) for report in reports)]
    figure, axes = _panels(len(reports), len(panels), 3.4, sharey=True)
    for row, report in zip(axes, reports, strict=True):
        for ax, (suite, op, title) in zip(row, panels, strict=True):
            _curves(ax, report, suite, op, colours)
            ax.set_title(title if len(reports) == 1 else f"{title}: {processor(report)}", fontsize=11)
        row[0].set_ylabel("ns/px")
    for ax in axes[-1]:
        ax.set_xlabel("side of the images, pixels")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    return figure


def _curves(ax: Axes, report: Report, suite: str, op: str, colours: dict[str, str]) -> None:
    """The curves of one op, with the time that moving the data takes."""
    cases = (case for case in report.standard_cases(suite, op) if case.size[0] == case.size[1])
    squares = [case for case in cases if case.size not in AWKWARD_SIZES]
    for name in (EAGER, HAND, MSE, OURS):
        points = [(case.size[0], _contender(report, suite, case, name)) for case in squares]
        points = [(side, value) for side, value in points if value is not None]
        if points:
            style: dict[str, Any] = {"linewidth": 2.6, "zorder": 3} if name == OURS else {"linewidth": 1.6}
            label = NAMES.get(name, name)
            ax.plot(*zip(*points, strict=True), "o-", color=colours[name], markersize=4, label=label, **style)
    limits = [limit / case.pixels for case in squares if (limit := report.limit(suite, case)) is not None]
    if limits:  # one line: the memory is the same for all
        ax.axhline(median(limits), ls="--", color=colours["text"], linewidth=1.2, label="limit: memory traffic")
    ax.set(xscale="log", yscale="log")
    ax.xaxis.set_major_locator(FixedLocator([16, 32, 64, 128, 256, 512, 1024]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def contenders(reports: list[Report], colours: dict[str, str]) -> Figure:
    """Nanoseconds per pixel of all contenders at 256², a panel for each op and processor."""
    ops = [
        ("loss", "wiener_loss"),
        ("nll", "wiener_nll"),
        ("ffl", "focal_frequency_loss"),
        ("filter", "wiener_filter"),
    ]
    chosen = [
        (report, suite, case)
        for suite, op in ops
        for report in reports
        for case in report.standard_cases(suite, op)
        if case.size == (256, 256)
    ]
    if not chosen:
        raise ValueError("the results have no case of 256×256 images")
    figure, axes = _panels(-(-len(chosen) // 2), 2, 2.2)
    for ax in axes.flat[len(chosen) :]:
        ax.remove()
    for ax, (report, suite, case) in zip(axes.flat, chosen, strict=False):
        _bars(ax, report, suite, case, colours)
        if len(reports) > 1:
            ax.set_title(f"{ax.get_title()}: {processor(report)}", fontsize=9)
    return figure


def _bars(ax: Axes, report: Report, suite: str, case: Case, colours: dict[str, str]) -> None:
    values = {}
    for name in (OURS, MSE, HAND, EAGER, COMPILED, FFL, SKIMAGE):
        value = _contender(report, suite, case, name)
        if value is not None:
            values[name] = value
    names = list(values)
    ax.barh(range(len(names)), [*values.values()], color=[colours[name] for name in names], height=0.7)
    ax.set_yticks(range(len(names)), [NAMES.get(name, name) for name in names])
    ax.invert_yaxis()
    largest = max(values.values())
    for i, name in enumerate(names):
        # Of the rounds, as in the tables: the quotient of two medians may be another number.
        ratio = None if name == OURS else report.ratio(suite, case, name)
        relative = "" if ratio is None else f"  ({number(ratio.median)} ×)"
        ax.text(values[name] + 0.015 * largest, i, number(values[name]) + relative, va="center", fontsize=9.5)
    ax.set_xlim(0, 1.4 * largest)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    direction = "forward + backward" if case.backward else "forward"
    ax.set_title(f"{case.op}, {direction}", fontsize=11)
    ax.set_xlabel("ns/px (× the time of blurfft)", fontsize=9.5)
