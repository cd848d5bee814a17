"""``blurfft demo``: real photographs blurred, restored and compared, with one picture of it."""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import typer
from PIL import Image
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

import blurfft

from .. import _dispatch, images, info, psf, reference, selfcheck
from ..files import Refused, atomic, counted, expanded, why
from ..images import pictures
from . import terminal

EXAMPLES = "**Examples**\n\nblurfft demo\n\nblurfft demo --out pictures"

# Each photograph with a blur to restore it from.
EXPERIMENTS = (
    ("astronaut.png", "gaussian:2"),
    ("camera.png", "disk:4"),
    ("chelsea.png", "motion:15,30"),
    ("coffee.png", "motion:18,-25"),
)
SHOWN = "coffee.png"
NOISE = 0.005
NSR = 0.006
# Found by trying lengths and angles and looking at the clock's rim and hands.
CLOCK, CLOCK_KERNEL, CLOCK_NSR = "clock_motion.png", "motion:36,1.5", 0.004

TILE = (400, 300)  # width and height in the picture


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the picture.")] = Path("out"),
) -> None:
    """Blur and restore real photographs, show where the blur error is, and draw one picture of all.

    The photographs come with scikit-image (pip install 'blurfft[demo]'). Takes less than a minute.
    """
    terminal.require_settings()
    try:
        run(expanded(out), terminal.console)
    except Refused as error:
        raise terminal.fail(str(error)) from None
    except KeyboardInterrupt:
        raise terminal.stopped("no picture was written") from None


class Tile(NamedTuple):
    """A picture and its caption."""

    image: Image.Image
    text: str


def photographs() -> Path:
    """The folder of the photographs that are part of scikit-image's wheel.

    Raises:
        Refused: scikit-image is not installed, or they are not in it.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise Refused("the demo needs the photographs of scikit-image: pip install 'blurfft[demo]'")
    folder = Path(spec.origin).parent / "data"
    missing = [name for name in (CLOCK, *(name for name, _ in EXPERIMENTS)) if not (folder / name).is_file()]
    if missing:
        raise Refused(f"this scikit-image lacks {', '.join(missing)} in {folder}; install scikit-image>=0.24")
    return folder


def psnr(image: Tensor, truth: Tensor) -> float:
    """The peak signal-to-noise ratio in dB, of values clipped to [0, 1]."""
    return -10 * torch.log10((image.clamp(0, 1) - truth).square().mean()).item()


def degrade(photo: images.Photo, kernel: Tensor) -> tuple[images.Photo, Tensor]:
    """The photograph with blur and noise, and the truth; both without the border that the blur reaches across, so that
    nothing is periodic."""
    kh, kw = kernel.shape
    inside = (slice(None), slice(kh // 2, -(kh // 2) or None), slice(kw // 2, -(kw // 2) or None))
    blurred = blurfft.blur(photo.colour[None], kernel)[0][inside]
    noise = NOISE * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    return replace(photo, colour=(blurred + noise).clamp(0, 1)), photo.colour[inside]


def run(out: Path, console: Console) -> Path:
    """Runs everything, prints the tables and returns the picture's path.

    Raises:
        Refused: the photographs are missing, or ``out`` cannot be written.
    """
    folder = photographs()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make the folder {out}: {why(error)}") from None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")

        def step(words: str) -> None:
            progress.update(task, description=words)

        step("restoring photographs")
        table, restoration = _restore(folder)
        console.print(table)
        step("deblurring the clock")
        clock = _restore_clock(folder)
        console.print(
            f"\n[bold]Really blurred:[/bold] {CLOCK}, restored with {CLOCK_KERNEL} and nsr {CLOCK_NSR:g}, "
            "which were chosen by eye"
        )
        step("mapping the blur error")
        table, blurry, uneven = _blur_error(folder)
        console.print(table)
        step("checking gradients against float64")
        console.print(_gradients(folder))
        step("timing")
        console.print(_timing(step))
        step("drawing")
        picture = _draw(
            (
                ("Blurred, and restored by wiener_filter", restoration),
                ("A photograph that really is blurred", clock),
                ("Two reconstructions with the same MSE: one blurred ...", blurry),
                ("... and one unevenly lit", uneven),
            )
        )
        path = out / "demo.png"
        try:
            with atomic(path) as file:
                picture.save(file, "PNG")
        except OSError as error:
            raise Refused(f"cannot write {path}: {why(error)}") from None
    console.print(f"\nPicture: [bold]{path}[/bold]", soft_wrap=True)
    return path


def _table(title: str, *columns: str, caption: str | None = None) -> Table:
    table = Table(title=f"\n{title}", caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    table.box, table.show_edge, table.pad_edge = box.SIMPLE_HEAD, False, False
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _restore(folder: Path) -> tuple[Table, list[Tile]]:
    table = _table(
        "Blurred and restored",
        "photograph",
        "blur",
        "PSNR blurred",
        "PSNR restored",
        "milliseconds",
        caption=f"noise {100 * NOISE:g} %, nsr {NSR:g}, borders tapered",
    )
    tiles: list[Tile] = []
    for name, spec in EXPERIMENTS:
        kernel = psf.parse(spec, dtype=torch.float64)
        blurred, truth = degrade(images.read(folder / name), kernel)
        start = time.perf_counter()
        restored = images.restore(blurred, kernel, NSR, taper=True)
        elapsed = time.perf_counter() - start
        before, after = psnr(blurred.colour, truth), psnr(restored, truth)
        table.add_row(name, spec, f"{before:.1f} dB", f"{after:.1f} dB", f"{1e3 * elapsed:.0f}")
        if name == SHOWN:
            tiles.append(Tile(_tile(blurred.colour, kernel), f"{spec} and {100 * NOISE:g} % noise: {before:.1f} dB"))
            tiles.append(Tile(_tile(restored), f"restored, nsr {NSR:g}: {after:.1f} dB"))
    return table, tiles


def _restore_clock(folder: Path) -> list[Tile]:
    kernel = psf.parse(CLOCK_KERNEL, dtype=torch.float64)
    clock = images.read(folder / CLOCK)
    restored = images.restore(clock, kernel, CLOCK_NSR, taper=True)

    def detail(colour: Tensor) -> Image.Image:
        middle = pictures.picture(colour[:, 64:244, 92:332])
        return middle.resize(TILE, Image.Resampling.BICUBIC)

    before = detail(clock.colour)
    pictures.add_inset(before, pictures.kernel_inset(kernel, 84))
    return [
        Tile(before, f"{CLOCK}, detail, as taken"),
        Tile(detail(restored), f"restored, {CLOCK_KERNEL}, nsr {CLOCK_NSR:g}"),
    ]


def _tile(colour: Tensor, kernel: Tensor | None = None) -> Image.Image:
    """The middle of a photograph that is at least as large as a tile."""
    width, height = TILE
    top, left = (colour.shape[1] - height) // 2, (colour.shape[2] - width) // 2
    tile = pictures.picture(colour[:, top : top + height, left : left + width])
    if kernel is not None:
        pictures.add_inset(tile, pictures.kernel_inset(kernel, 84))
    return tile


def _blur_error(folder: Path) -> tuple[Table, list[Tile], list[Tile]]:
    """Two reconstructions with the same squared error, one blurred and one unevenly lit, and their blur error maps."""
    kernel = psf.gaussian(2.0, dtype=torch.float64)
    detail = (..., slice(16, 16 + TILE[1]), slice(40, 40 + TILE[0]))
    photo = images.read(folder / "astronaut.png").colour[None]
    target, blurred = photo[detail], blurfft.blur(photo, kernel)[detail]
    # Dark on both sides and bright in the middle; the mean square of a cosine is 1/2.
    light = -torch.cos(2 * math.pi * torch.arange(TILE[0]) / TILE[0])
    uneven = target + (2 * F.mse_loss(blurred, target)).sqrt() * light
    table = _table(
        "Where the blur error is",
        "reconstruction",
        "F.mse_loss",
        "blurfft.wiener_loss",
        caption="of astronaut.png; kernel gaussian:2, nsr 0.01",
    )
    reconstructions = {"blurred": blurred, "unevenly lit": uneven}
    maps = {
        name: blurfft.wiener_loss(reconstruction, target, kernel, reduction="none").mean(1)[0].sqrt()  # (H, W)
        for name, reconstruction in reconstructions.items()
    }
    top = torch.quantile(maps["blurred"], 0.995).item()
    pairs = []
    for name, reconstruction in reconstructions.items():
        mse = F.mse_loss(reconstruction, target).item()
        loss = blurfft.wiener_loss(reconstruction, target, kernel).item()
        table.add_row(name, f"{mse:.4f}", f"{loss:.4f}")
        pairs.append(
            [
                Tile(_tile(reconstruction[0]), f"{name}: MSE {mse:.4f}"),
                Tile(pictures.heat(maps[name], top), f"its wiener_loss, {loss:.4f}, pixel by pixel"),
            ]
        )
    return table, pairs[0], pairs[1]


def _gradients(folder: Path) -> Table:
    """Gradients of the losses in float32 against float64, next to those of plain torch.fft in float32."""
    target = images.read(folder / "astronaut.png").colour.unfold(1, 128, 128).unfold(2, 128, 128)
    target = target.permute(1, 2, 0, 3, 4).reshape(-1, 3, 128, 128)[:8]  # (N, C, H, W)
    kernel = psf.gaussian(2.0, size=11).float().expand(8, 1, 11, 11)
    arguments = {
        "input": blurfft.blur(target, kernel),
        "target": target,
        "kernel": kernel,
        "nsr": torch.full((8,), 0.01),
        "eps": torch.full((8,), 1e-3),
    }

    def gradients(functions: object, loss: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = {name: value.to(dtype, copy=True).requires_grad_() for name, value in arguments.items()}
        getattr(functions, loss)(**leaves, reduction="sum").backward()
        return [leaf.grad for leaf in leaves.values() if leaf.grad is not None]

    table = _table(
        "Gradients: largest relative error against float64",
        "",
        *arguments,
        caption="float32; 8 x 3 x 128 x 128 pixels of astronaut.png, a kernel for each",
    )
    for loss in ("wiener_loss", "wiener_nll"):
        truth = gradients(reference, loss, torch.float64)
        for label, functions in ((f"blurfft.{loss}", blurfft), ("the same in torch.fft", reference)):
            actual = gradients(functions, loss, torch.float32)
            deviations = (selfcheck.relative_error(a, t) for a, t in zip(actual, truth, strict=True))
            table.add_row(label, *(f"{error:.1e}" for error in deviations))
    return table


def _timing(step: Callable[[str], None], rounds: int = 21) -> Table:
    """Medians of interleaved forward and backward passes."""
    backend = next(
        name
        for name in (_dispatch.requested(), *blurfft.available_backends())
        if name != _dispatch.AUTO and _dispatch.why_not(name, "wiener_loss", "cpu", torch.float32, 64, 64) is None
    )
    kernel = psf.gaussian(2.0, size=11).float()
    table = _table(
        "Milliseconds, forward and backward, float32, 11 x 11 kernel",
        "images",
        "MSE",
        "torch.fft",
        "blurfft",
        "blurfft / MSE",
        "torch.fft / blurfft",
        caption=f"medians of {rounds}, interleaved: F.mse_loss, the blur error in plain torch.fft under autograd, "
        f"blurfft.wiener_loss (backend {backend}); {counted(torch.get_num_threads(), 'thread')}, {info.processor()}, "
        f"torch {torch.__version__}",
    )
    contenders: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": F.mse_loss,
        "torch.fft": lambda x, y: reference.wiener_loss(x, y, kernel),
        "blurfft": lambda x, y: blurfft.wiener_loss(x, y, kernel),
    }
    for shape in ((64, 3, 64, 64), (16, 3, 128, 128), (4, 3, 256, 256)):
        x, y = torch.rand(shape, requires_grad=True), torch.rand(shape)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for i in range(rounds + 2):
            step(f"timing {'x'.join(map(str, shape))}, round {i + 1} of {rounds + 2}")
            for name, loss in contenders.items():
                x.grad = None
                start = time.perf_counter()
                loss(x, y).backward()
                times[name].append(time.perf_counter() - start)
        # The first two rounds warm up.
        median = {name: 1e3 * statistics.median(values[2:]) for name, values in times.items()}
        table.add_row(
            "x".join(map(str, shape)),
            *(f"{median[name]:.2f}" for name in contenders),
            f"{median['blurfft'] / median['mse']:.2f}",
            f"{median['torch.fft'] / median['blurfft']:.1f}",
        )
    return table


def _draw(pairs: Sequence[tuple[str, list[Tile]]]) -> Image.Image:
    """Two pairs of tiles a row, a heading over each pair and a line under each tile."""
    width, height = TILE
    margin, gap, between, heading, line = 28, 10, 36, 46, 52
    pair_width, pair_height = 2 * width + gap, heading + height + line
    rows = -(-len(pairs) // 2)
    size = (2 * margin + 2 * pair_width + between, 2 * margin + rows * pair_height - 16)
    canvas = Image.new("RGB", size, pictures.PAPER)
    for i, (title, tiles) in enumerate(pairs):
        left, top = margin + i % 2 * (pair_width + between), margin + i // 2 * pair_height
        pictures.write_text(canvas, (left, top), title, 26, pictures.INK, pair_width)
        for j, tile in enumerate(tiles):
            x = left + j * (width + gap)
            canvas.paste(tile.image, (x, top + heading))
            pictures.write_text(canvas, (x, top + heading + height + 8), tile.text, 18, pictures.MUTED, width)
    return canvas
