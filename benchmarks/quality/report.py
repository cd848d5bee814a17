"""Tables and pictures of the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.report import headline
from blurfft.images import pictures
from blurfft.vae.figures import enlarged
from blurfft.vae.terms import TERMS

from . import fixed, metrics

NAMES = {
    "mse": "Gaussian, fixed variance (MSE)",
    "gaussian": "Gaussian, learned variance",
    "laplace": "Laplace (L1)",
    "bernoulli": "Bernoulli",
    "blur": "blur error (ours)",
    "focal-frequency": "focal frequency",
    "watson": "Watson-DFT, not fitted",
    "robust": "adaptive robust",
    "perceptual": "perceptual, random features",
    "vae-gan": "VAE-GAN",
    fixed.NAME: "blur error, one kernel for all",
}
COLUMNS = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "scc": ("SCC", 3),
    "high_energy": ("high-frequency energy", 2),
    "high_error": ("high-frequency error", 2),
    "sharpness": ("sharpness", 2),
    "mtf50": ("MTF50", 2),
    "lpips": ("LPIPS", 3),
    "fid": ("FID", 1),
    "samples_sharpness": ("sharpness of samples", 2),
    "kl": ("rate held out, nats", 1),
    "train_kl": ("rate in training, nats", 1),
    "bits_per_dimension": ("bits / dimension", 2),
    "step_ms": ("step, ms", 0),
}
_SWEEP_COLUMNS = (
    "bits_per_dimension",
    "psnr",
    "ssim",
    "high_energy",
    "high_error",
    "sharpness",
    "kl",
    "train_kl",
    "step_ms",
)
_CURVE_COLUMNS = (
    "psnr",
    "ssim",
    "high_energy",
    "high_error",
    "sharpness",
    "mtf50",
    "lpips",
    "fid",
    "kl",
    "train_kl",
    "bits_per_dimension",
)
RATE_TOLERANCE = 0.05

Result = dict[str, Any]


def of_stage(results: Iterable[Result], stage: str, data: str | None = None) -> dict[str, list[Result]]:
    """The results of a stage by label, in order of measurement."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result["stage"] == stage and data in (None, result["options"]["data"]):
            found.setdefault(result["label"], []).append(result)
    return found


def _cell(results: Sequence[Result], metric: str) -> str:
    values = [result["metrics"][metric] for result in results]
    if any(value is None for value in values):
        return "no density"
    digits = COLUMNS[metric][1]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 and metric != "step_ms" else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(groups: dict[str, list[Result]], columns: Sequence[str] = tuple(COLUMNS), first: str = "term") -> list[str]:
    """Markdown: a row for each label, mean ± standard deviation over seeds."""
    # Columns that an earlier result lacks are left out.
    columns = [c for c in columns if all(c in result["metrics"] for results in groups.values() for result in results)]
    lines = [
        "| " + " | ".join([first, *(COLUMNS[column][0] for column in columns)]) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for label, results in groups.items():
        cells = [NAMES.get(label, label), *(_cell(results, column) for column in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def missed_rates(results: Iterable[Result]) -> list[str]:
    """The runs whose rate in training differs from their target by more than ``RATE_TOLERANCE``."""
    return [
        f"{NAMES.get(result['label'], result['label'])}, seed {result['options']['seed']}: "
        f"{result['metrics']['train_kl']:.1f}"
        for result in results
        if result["options"]["rate"] is not None
        and abs(result["metrics"]["train_kl"] / result["options"]["rate"] - 1) > RATE_TOLERANCE
    ]


def _rates(groups: dict[str, list[Result]]) -> str:
    """A sentence on how well the rates were matched."""
    results = [result for group in groups.values() for result in group if result["options"]["rate"] is not None]
    missed = missed_rates(results)
    held = f"The rate in training is within {100 * RATE_TOLERANCE:.0f} % in {len(results) - len(missed)} of "
    return f"{held}{len(results)} runs" + (f"; not in: {'; '.join(missed)}." if missed else ".")


def _processor_time(results: Sequence[Result]) -> str:
    def minutes(stage: str) -> float:
        return sum(result["cpu_seconds"] for result in results if result["stage"] == stage) / 60

    named = {"terms": "the comparison", "sweep": "the sweep", "curves": "the curves", "large": "large images"}
    parts = [f"{minutes(stage):.1f} for {name}" for stage, name in named.items() if of_stage(results, stage)]
    return f"Processor time (user and system) of the {len(results)} runs, in minutes: {', '.join(parts)}."


def shares_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "| images | width | threads | contender | step, ms | term, ms | kernel fit, ms "
        "| share of the term | with the fit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        step, term, fit = row["step_ms"], row["term_ms"], row["fit_ms"]
        shares = f"{100 * term / step:.1f} % | {100 * (term + fit) / step:.1f} %"
        lines.append(
            f"| {row['images']} | {row['width']} | {row['threads']} | {row['contender']} | {step:.1f} | {term:.2f} | "
            f"{fit:.2f} | {shares} |"
        )
    return lines


def markdown(content: dict[str, Any], descriptions: dict[str, str]) -> str:
    """The page beside the JSON file."""
    results = content["results"]
    lines = ["# Reconstruction terms on one model at equal rates", ""]
    lines += [
        "Written by `python -m benchmarks.quality`; [benchmarks/README.md](../README.md#quality) says what each column "
        "is.",
        "",
        f"{headline(content['machine'])}; commit "
        f"{', '.join(dict.fromkeys(result['commit'] for result in results)) or 'none'}; begun "
        f"{content['run'].get('date')}. {_processor_time(results)}",
    ]
    if commands := content.get("commands"):
        lines += ["", f"Measured by `{'`, `'.join(commands)}`."]
    for data, description in descriptions.items():
        groups = of_stage(results, "terms", data)
        if not groups:
            continue
        some = next(iter(groups.values()))[0]
        seeds = {len(group) for group in groups.values()}
        lines += [
            "",
            f"## {data.rpartition(':')[2].capitalize()}",
            "",
            f"{description[0].upper()}{description[1:]}. {some['steps']} steps of {some['options']['batch']} images, "
            f"{some['options']['latent']} latents, rate {some['options']['rate']:g} nats, "
            f"{'/'.join(map(str, sorted(seeds)))} seed{'s' * (seeds != {1})}.",
            "",
            *table({name: groups[name] for name in TERMS if name in groups}),
            "",
            _rates(groups),
        ]
    for data, description in descriptions.items():
        lines += _curves(results, "curves", data, description)
    for data in descriptions:
        lines += _curves(results, "large", data, descriptions.get(large(data), ""))
    sweep = of_stage(results, "sweep")
    if sweep:
        some = next(iter(sweep.values()))[0]
        lines += ["", "## Sweep of the blur error's options", ""]
        seeds = {len(group) for group in sweep.values()}
        lines += [
            f"Photographs, {'/'.join(map(str, sorted(seeds)))} seeds, {some['steps']} steps, measured on a quarter of "
            "the images that the comparison trains on; no image that the comparison holds out takes part. The first "
            "row has the defaults, each other one has one option changed.",
            "",
            *table(sweep, _SWEEP_COLUMNS, "option"),
            "",
            _rates(sweep),
        ]
    if content["shares"]:
        lines += ["", "## The term's share of a training step", "", *shares_table(content["shares"])]
    return "\n".join(lines) + "\n"


def large(data: str) -> str:
    """Names the description of a set's larger images."""
    return f"{data}, large"


def _at_rate(results: Iterable[Result], stage: str, data: str, rate: float) -> dict[str, list[Result]]:
    """The results of a stage at one rate, by term."""
    return {
        label: found
        for label, group in of_stage(results, stage, data).items()
        if (found := [result for result in group if result["options"]["rate"] == rate])
    }


def rates_of(results: Iterable[Result], data: str, stage: str = "curves") -> list[float]:
    groups = of_stage(results, stage, data)
    return sorted({result["options"]["rate"] for group in groups.values() for result in group})


def _curves(results: Sequence[Result], stage: str, data: str, description: str) -> list[str]:
    """Markdown: a table for each rate."""
    lines: list[str] = []
    for rate in rates_of(results, data, stage):
        groups = _at_rate(results, stage, data, rate)
        some = next(iter(groups.values()))[0]
        counts = sorted({len(group) for group in groups.values()})
        size = " of {0} x {0} pixels".format(some["options"]["size"]) if stage == "large" else ""
        late = [_still_falling(result) for group in groups.values() for result in group]
        lines += [
            "",
            f"## {data.rpartition(':')[2].capitalize()}{size} at {rate:g} nats",
            "",
            f"{description[0].upper()}{description[1:]}. {some['steps']} steps of {some['options']['batch']} images, "
            f"{some['options']['latent']} latents, {'/'.join(map(str, counts))} seed{'s' * (counts != [1])}. In the "
            f"last tenth of the steps the reconstruction term still fell by up to {100 * max(late):.1f} % of its fall "
            "before." + " One seed says nothing of the spread between seeds." * (counts == [1]),
            "",
            *table({name: groups[name] for name in NAMES if name in groups}, _CURVE_COLUMNS),
            "",
            _rates(groups),
        ]
    return lines


def _still_falling(result: Result) -> float:
    """The fall of the reconstruction term in the last tenth of the training, relative to its fall before."""
    course = result["course"]
    last = max(1, len(course) // 10)
    before = course[0] - course[-1 - last]
    return (course[-1 - last] - course[-1]) / before if before > 0 else 1.0


def draw_curves(results: Sequence[Result], datas: Sequence[str], out: Path) -> None:
    """PSNR, high-frequency error and MTF50 of held-out images against their rate, for terms at more than one rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = ("psnr", "high_error", "mtf50")
    size = (4.2 * len(shown), 3.4 * len(datas))
    figure, axes = pyplot.subplots(len(datas), len(shown), figsize=size, squeeze=False, layout="constrained")
    for row, data in zip(axes, datas, strict=True):
        groups = of_stage(results, "curves", data)
        groups = {name: group for name, group in groups.items() if len(rates_of(group, data)) > 1}
        for axis, metric in zip(row, shown, strict=True):
            for i, (name, group) in enumerate(groups.items()):
                points = []
                for rate in rates_of(group, data):
                    found = [result["metrics"] for result in group if result["options"]["rate"] == rate]
                    points.append([mean(m["kl"] for m in found), mean(m[metric] for m in found)])
                style = {"color": "black", "linewidth": 2.4} if name == "blur" else {"color": f"C{i}", "linewidth": 1.2}
                axis.plot(*np.array(points).T, marker="o", label=NAMES[name], **style)
            axis.set(xscale="log", xlabel="rate, nats", title=f"{data.rpartition(':')[2]}: {COLUMNS[metric][0]}")
            rates = rates_of(results, data)
            axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
            axis.minorticks_off()
    axes[0][0].legend(fontsize=7)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


_COMPARED = ("gaussian", "blur")


def draw_edges(folder: Path, results: Sequence[Result], stage: str, data: str, rate: float, out: Path) -> bool:
    """Truth and reconstructions of the first seed, and the mean edge profile over all seeds."""
    groups = _at_rate(results, stage, data, rate)
    files = [folder / f"{stage}-{data.rpartition(':')[2]}-{name}-{rate:g}-0.npz" for name in _COMPARED]
    if not all(name in groups and file.is_file() for name, file in zip(_COMPARED, files, strict=True)):
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows: dict[str, np.ndarray[Any, Any]] = {}
    for name, file in zip(_COMPARED, files, strict=True):
        with np.load(file) as arrays:
            rows |= {"truth": arrays["target"], NAMES[name]: arrays["reconstruction"]}
    count = len(rows["truth"])
    figure = pyplot.figure(figsize=(1.05 * count + 4.6, 1.05 * len(rows) + 0.7), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.05 * count + 0.6, 4])
    left, right = parts
    for axes, (title, images) in zip(left.subplots(len(rows), count, squeeze=False), rows.items(), strict=True):
        axes[0].set_ylabel(title.replace(", ", ",\n"), fontsize=8)
        for axis, image in zip(axes, images, strict=True):
            axis.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
    axis = right.subplots()
    profiles = {"truth": [groups[_COMPARED[0]][0]["edge"]["truth"]]}
    profiles |= {NAMES[name]: [result["edge"]["reconstruction"] for result in groups[name]] for name in _COMPARED}
    for (name, values), colour in zip(profiles.items(), ("0.6", "C0", "black"), strict=True):
        profile = np.mean(values, 0)
        axis.plot(np.linspace(-metrics.REACH, metrics.REACH, len(profile)), profile, color=colour, label=name)
    axis.set(xlabel="pixels across an edge", ylabel="from dark to bright")
    axis.legend(fontsize=8, loc="lower right")
    name = data.rpartition(":")[2]
    kind = {"leaves": "synthetic dead leaves", "brain": "slices of a brain"}.get(name, name)
    figure.suptitle(f"Held-out {kind}, {rate:g} nats an image", fontsize=10)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
    return True


def draw_pictures(folder: Path, results: Sequence[Result], data: str, out: Path) -> bool:
    """The truth, then a row of reconstructions and samples for each term, all of the first seed."""
    groups = of_stage(results, "terms", data)
    rows: list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    for name in TERMS:
        file = folder / f"terms-{data.rpartition(':')[2]}-{name}-0.npz"
        if name in groups and file.is_file():
            with np.load(file) as arrays:
                if not rows:
                    rows.append(("truth", arrays["target"], np.full_like(arrays["samples"], 255)))
                rows.append((NAMES[name], arrays["reconstruction"], arrays["samples"]))
    if not rows:
        return False
    tile = enlarged(pictures.picture(torch.from_numpy(rows[0][1][0]) / 255)).width
    label, gap, head, between = 260, 2, 34, 24
    count = len(rows[0][1])
    width = label + 2 * count * (tile + gap) + between
    canvas = Image.new("RGB", (width, head + len(rows) * (tile + gap)), pictures.PAPER)
    for title, left in (("held-out images, reconstructed", label), ("samples", label + count * (tile + gap) + between)):
        pictures.write_text(canvas, (left, 6), title, 18, pictures.INK, count * tile)
    for i, (name, reconstructions, samples) in enumerate(rows):
        top = head + i * (tile + gap)
        pictures.write_text(canvas, (8, top + tile // 2 - 10), name, 17, pictures.INK, label - 12)
        for j, values in enumerate((*reconstructions, *samples)):
            left = label + j * (tile + gap) + (between if j >= count else 0)
            canvas.paste(enlarged(pictures.picture(torch.from_numpy(values) / 255)), (left, top))
    canvas.save(out, optimize=True)
    return True


def draw_spectra(results: Sequence[Result], datas: Sequence[str], out: Path) -> None:
    """Radial power spectra of the reconstructions, divided by that of the truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (5 * len(datas) + 2.5, 4.2)
    figure, axes = pyplot.subplots(1, len(datas), figsize=size, squeeze=False, layout="constrained")
    for axis, data in zip(axes[0], datas, strict=True):
        groups = of_stage(results, "terms", data)
        for i, name in enumerate(TERMS):
            if name not in groups:
                continue
            group = groups[name]
            truth = np.mean([result["spectrum"]["truth"] for result in group], 0)
            ratio = np.mean([result["spectrum"]["reconstruction"] for result in group], 0) / truth
            frequency = np.arange(1, len(ratio) + 1) / (2 * len(ratio))
            style = {"color": "black", "linewidth": 2.4} if name == "blur" else {"color": f"C{i}", "linewidth": 1.2}
            axis.plot(frequency, ratio, label=NAMES[name], **style)
        axis.axhline(1, color="0.7", linewidth=0.8)
        axis.set(yscale="log", xlabel="cycles / pixel", title=data.rpartition(":")[2])
    axes[0][0].set_ylabel("power of reconstructions ÷ power of the truth")
    figure.legend(*axes[0][-1].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
