"""``blurfft deblur``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.markup import escape
from torch import Tensor

from .. import images, psf
from ..files import Refused, atomic, counted, expanded, printable, why
from . import terminal
from .panel import panel as draw_panel

EXAMPLES = (
    "**Examples**\n\n"
    "blurfft deblur holiday.jpg -o sharp --kernel gaussian:2 --taper\n\n"
    "blurfft deblur *.jpg -o sharp --kernel motion:15,30 --nsr 0.005 --taper --panel\n\n"
    "blurfft deblur scan.tif -o sharp --kernel psf.npy --nsr 0.03\n\n"
    "**How to find the kernel**\n\n"
    "A point of light in the photograph (a star, a glint) shows it: crop it to a PNG and give that file. Out of focus: "
    "disk, with the radius of such a point. Shaken: motion, with the length and direction of its streak. Otherwise try "
    "a few values on one photograph with --panel; too large a kernel shows as dark and bright contours along edges."
)


def deblur(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO",
            help="Any format that Pillow reads, 8 or 16 bits or floating point, grey or colour; HEIC where pillow-heif "
            "is installed, more kinds of TIFF where tifffile is. Alpha is kept unchanged.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder for the results; created if missing.", show_default=False
        ),
    ],
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            "-k",
            metavar="SPEC",
            help="The blur: gaussian:SIGMA, disk:RADIUS or motion:LENGTH,ANGLE (in pixels; degrees counter-clockwise "
            "from horizontal), or a file FILE.npy or FILE.png, normalised to sum 1.",
            show_default=False,
        ),
    ],
    nsr: Annotated[
        float,
        typer.Option(
            metavar="C",
            callback=terminal.number,
            help="Noise-to-signal ratio C in W = conj(K) / (|K|^2 + C). No frequency is amplified more than "
            "1/(2 sqrt(C)) times: 0.01 by 5, 0.0001 by 50. Smaller is sharper, with more noise and ringing; start "
            "with 0.01, go down to 0.001 for a clean photograph, up to 0.1 for a grainy one.",
        ),
    ] = 0.01,
    taper: Annotated[
        bool,
        typer.Option(
            "--taper",
            help="Continue the photograph beyond its borders and join them smoothly before filtering (as edgetaper in "
            "MATLAB). Without it, opposite borders count as neighbours, since the filter is periodic, and ring. "
            "Use it for nearly every photograph.",
        ),
    ] = False,
    panel: Annotated[
        bool, typer.Option("--panel", help="Also write NAME-panel.png: before, after and the kernel side by side.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results. Inputs are never replaced.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Refuse larger photographs before decoding them.")
    ] = images.MAX_PIXELS,
) -> None:
    """Sharpen blurred photographs by Wiener deconvolution.

    The kernel says how the photograph was blurred; the filter divides by its spectrum, as far as the noise allows.
    Values are filtered as stored, after the photograph has been turned upright. Results keep the bit depth, alpha,
    colour profile, EXIF and XMP data, in the format of the input or, if that is lossy, as PNG. A file that cannot be
    used is refused with the reason, the others are restored, and the exit status is 1.
    """
    try:
        psf_kernel = psf.parse(kernel, dtype=torch.float64)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--kernel") from None
    terminal.require_settings()
    out = expanded(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make the folder {out}: {why(error)}", param_hint="--out") from None
    photos = [expanded(path) for path in photos]
    caption = f"{kernel}, nsr {nsr:g}" + (", tapered" if taper else "")
    restoration = _Restoration(psf_kernel, nsr, taper, caption if panel else None, out, overwrite, max_pixels, photos)

    restored = refused = 0
    try:
        with terminal.progress() as bar:
            task = bar.add_task("", total=len(photos))
            for path in photos:
                bar.update(task, description=escape(printable(path.name)))
                try:
                    target, notes = restoration.of(path)
                except Refused as error:
                    refused += 1
                    terminal.say(bar, terminal.errors, f"[red]refused[/red] {escape(str(path))}: {escape(str(error))}")
                else:
                    restored += 1
                    detail = f"  [dim]({escape('; '.join(notes))})[/dim]" if notes else ""
                    terminal.say(bar, terminal.console, f"{escape(str(path))} -> {escape(str(target))}{detail}")
                bar.advance(task)
    except KeyboardInterrupt:
        raise terminal.stopped(f"{restored} of {counted(len(photos), 'photograph')} restored, in {out}") from None
    if len(photos) > 1 or refused:
        summary = f"{restored} restored" + (f", [red]{refused} refused[/red]" if refused else "")
        (terminal.errors if refused else terminal.console).print(summary)
    if refused:
        raise typer.Exit(1)


@dataclass
class _Restoration:
    """What is done with each photograph, and the files that were written."""

    kernel: Tensor
    nsr: float
    taper: bool
    caption: str | None  # of the panel; None for no panel
    out: Path
    overwrite: bool
    max_pixels: int
    inputs: list[Path]
    written: set[Path] = field(default_factory=set)

    def of(self, path: Path) -> tuple[Path, list[str]]:
        """Restores one photograph; the file written and notes.

        Raises:
            Refused: it cannot be read, restored or written.
        """
        photo = images.read(path, self.max_pixels)
        _, suffix, note = images.output(photo)
        target, panel_target = self.out / (path.stem + suffix), self.out / f"{path.stem}-panel.png"
        self._require_free(target)
        if self.caption:
            self._require_free(panel_target)
        try:
            restored = images.restore(photo, self.kernel, self.nsr, self.taper)
        except (RuntimeError, MemoryError) as error:  # for the memory, or for the backend that was asked for
            raise Refused(str(error) or "too large for the memory of this machine") from None
        notes = [*photo.notes, *([note] if note else [])]
        with _writing(target):
            notes += images.write(photo, restored, target)
        self.written.add(target)
        if self.caption:
            picture = draw_panel(photo, restored, self.kernel, path.name, self.caption)
            with _writing(panel_target, f"; the result itself is in {target}"), atomic(panel_target) as stream:
                picture.save(stream, "PNG")
            self.written.add(panel_target)
            notes.append(f"panel in {panel_target}")
        return target, notes

    def _require_free(self, file: Path) -> None:
        if file in self.written:
            raise Refused(f"{file} was just written for another photograph of that name")
        with _writing(file):
            if not file.exists():
                return
            if any(source.exists() and file.samefile(source) for source in self.inputs):
                raise Refused(f"{file} is one of the inputs; choose another folder with --out")
        if not self.overwrite:
            raise Refused(f"{file} exists; --overwrite replaces it")


@contextmanager
def _writing(file: Path, kept: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(f"cannot write {file}: {why(error)}{kept}") from None
