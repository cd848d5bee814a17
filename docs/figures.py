"""Draws the figures of the documentation: ``python docs/figures.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from skimage import data

import blurfft
from blurfft import psf

FOLDER = Path(__file__).resolve().parent / "figures"
COLOURS = {
    "light": {"text": "#1f2328", "grid": "#d1d9e0", "box": "#fff1e5", "edge": "#c2410c", "side": "#eaeef2"},
    "dark": {"text": "#f0f6fc", "grid": "#3d444d", "box": "#3d2411", "edge": "#ff9b57", "side": "#262c36"},
}
LINES = {
    "light": ("#c2410c", "#8250df", "#0969da", "#1a7f37"),
    "dark": ("#ff9b57", "#d2a8ff", "#6cb6ff", "#56d364"),
}
SIDE = 256


def _spectrum(kernel: torch.Tensor, nsr: float, eps: float) -> torch.Tensor:
    """ω along the horizontal frequencies, 0 to 1/2 cycles a pixel."""
    return blurfft.wiener_weight(kernel, (SIDE, SIDE), nsr=nsr, eps=eps)[0, 0, 0]  # (SIDE//2+1,)


def _frequencies() -> torch.Tensor:
    return torch.arange(SIDE // 2 + 1) / SIDE


def weight(theme: str) -> Figure:
    """ω for some values of nsr, eps and the kernel's width."""
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.3), sharey=True, layout="constrained")
    lines = LINES[theme]

    def draw(ax: Axes, title: str, curves: list[tuple[str, torch.Tensor]]) -> None:
        for (label, values), colour in zip(curves, lines, strict=False):
            ax.plot(_frequencies(), values, color=colour, linewidth=2, label=label)
        ax.set(title=title, yscale="log", xlabel="frequency, cycles/px", ylim=(1e-4, 2e3), xlim=(0, 0.5))
        ax.legend(frameon=False, fontsize=9.5, loc="upper right")

    sharp = psf.gaussian(1.5)
    draw(axes[0], "nsr (σ = 1.5, eps = 0)", [(f"{c:g}", _spectrum(sharp, c, 0)) for c in (1e-3, 1e-2, 1e-1)])
    draw(axes[1], "eps (σ = 1.5, nsr = 0.01)", [(f"{e:g}", _spectrum(sharp, 0.01, e)) for e in (0, 1e-2, 1)])
    widths = [(f"σ = {s:g}", _spectrum(psf.gaussian(s), 0.01, 1e-3)) for s in (0.7, 1.5, 3)]
    draw(axes[2], "kernel (nsr = 0.01, eps = 1e-3)", widths)
    axes[0].set_ylabel("weight ω of the squared error")
    return figure


def data_flow(theme: str) -> Figure:
    """The stages of one plane, and where it resides in each."""
    colours = COLOURS[theme]
    figure, ax = plt.subplots(figsize=(8.6, 3.4), layout="constrained")
    ax.set(xlim=(0, 100), ylim=(0, 40))
    ax.axis("off")

    def box(x: float, y: float, width: float, height: float, text: str, face: str, edge: str) -> None:
        style = "round,pad=0.2,rounding_size=1"
        ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=face, edgecolor=edge, lw=1.4))
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8.4)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colours["text"], "lw": 1.3})

    outline = {"boxstyle": "round,pad=0.2,rounding_size=1.5", "edgecolor": colours["edge"], "linestyle": "--"}
    ax.add_patch(FancyBboxPatch((18, 5), 64.5, 25, facecolor="none", lw=1.2, **outline))
    ax.text(50, 2.2, "one plane at a time, in registers and cache", ha="center", fontsize=10, color=colours["edge"])
    memory, kernel = (colours["side"], colours["grid"]), (colours["box"], colours["edge"])
    box(1, 21.5, 13, 6, "input", *memory)
    box(1, 12.5, 13, 6, "target", *memory)
    stages = [
        "e = input − target,\ncolumn j with\ncolumn j + W/2",
        "FFT of columns,\nthen of rows",
        "last stage, × ω,\nfirst inverse\nstage",
        "inverse FFT\nof rows, then\nof columns",
    ]
    for i, text in enumerate(stages):
        box(19.5 + 16 * i, 17, 13.6, 11, text, *kernel)
        if i:
            arrow((19.5 + 16 * i - 2.2, 22.5), (19.5 + 16 * i - 0.2, 22.5))
    arrow((14.4, 24.5), (19.2, 23.5))
    arrow((14.4, 15.5), (19.2, 20))
    box(86, 19.5, 13, 6, "gradient", *memory)
    arrow((81.3, 22.5), (85.6, 22.5))
    box(51.5, 7.5, 18, 5.5, "½ ⟨e, gradient⟩", *kernel)
    arrow((74.3, 16.6), (68, 13.4))
    arrow((26.3, 16.6), (51.2, 10.5))
    box(86, 7.2, 13, 6, "loss", *memory)
    arrow((69.8, 10.2), (85.6, 10.2))
    box(41, 33.5, 34.6, 5.5, "kernel, nsr, eps  →  ω, by a pruned DFT", *memory)
    arrow((58.3, 33.2), (58.3, 28.4))
    ax.text(9, 36, "memory traffic in fp32:\n12 bytes/px", ha="center", va="center", fontsize=9.5)
    return figure


def blur_error() -> Figure:
    """Two reconstructions with the same squared error, one blurred and one unevenly lit, and their blur-error maps."""
    kernel = psf.gaussian(2.0)
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255  # (1, 3, 512, 512)
    detail = (..., slice(16, 316), slice(40, 440))
    target, blurred = photo[detail], blurfft.blur(photo, kernel)[detail]
    # Dark on both sides and bright in the middle; the mean square of a cosine is 1/2.
    width = target.shape[-1]
    light = -torch.cos(2 * torch.pi * torch.arange(width) / width)
    uneven = target + (2 * F.mse_loss(blurred, target)).sqrt() * light
    reconstructions = {"blurred": blurred, "unevenly lit": uneven}
    maps = {
        name: blurfft.wiener_loss(reconstruction, target, kernel, reduction="none").mean(1)[0].sqrt()  # (H, W)
        for name, reconstruction in reconstructions.items()
    }
    top = torch.quantile(maps["blurred"], 0.995).item()
    figure, axes = plt.subplots(1, 4, figsize=(8.6, 1.95), layout="constrained")
    for (name, reconstruction), (left, right) in zip(reconstructions.items(), axes.reshape(2, 2), strict=True):
        squared = F.mse_loss(reconstruction, target).item()
        blur = blurfft.wiener_loss(reconstruction, target, kernel).item()
        left.imshow(reconstruction[0].clamp(0, 1).permute(1, 2, 0))
        left.set_title(f"{name}: mse_loss {squared:.4f}")
        right.imshow(maps[name], cmap="magma", vmin=0, vmax=top)
        right.set_title(f"wiener_loss {blur:.4f}, per pixel")
    for ax in axes:
        ax.axis("off")
    return figure


FIGURES: dict[str, Callable[[str], Figure]] = {"weight": weight, "data-flow": data_flow}


def main() -> None:
    with plt.style.context({"font.size": 8, "axes.titlesize": 8.5}):
        path = FOLDER / "blur-error.jpg"
        blur_error().savefig(path, dpi=200, pil_kwargs={"quality": 85})
    print(f"Written to {path}")
    for name, draw in FIGURES.items():
        for theme, colours in COLOURS.items():
            style = {
                "svg.hashsalt": "blurfft",
                "font.size": 10.5,
                "axes.titlesize": 11,
                "axes.grid": True,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.facecolor": "none",
                "axes.edgecolor": colours["grid"],
                "grid.color": colours["grid"],
                **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), colours["text"]),
            }
            with plt.style.context(style):
                figure = draw(theme)
                path = FOLDER / f"{name}-{theme}.svg"
                figure.savefig(path, transparent=True, metadata={"Date": None})
                plt.close(figure)
            print(f"Written to {path}")


if __name__ == "__main__":
    main()
