"""``blurfft deblur``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from torch import Tensor

from .. import images, psf
from ..files import Refused, atomic
from . import terminal
from .panel import panel as panel_of

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
            help="Any format that Pillow reads; 8 or 16 bits, grey or colour. Alpha is kept as it is.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made if need be.", show_default=False),
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
            "MATLAB). Without it opposite borders count as neighbours, as the periodic formula says, and ring. "
            "Right for nearly every photograph.",
        ),
    ] = False,
    panel: Annotated[
        bool, typer.Option("--panel", help="Also write NAME-panel.png: before, after and the kernel side by side.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist already. Inputs are never replaced.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Refuse larger photographs before decoding them.")
    ] = images.MAX_PIXELS,
) -> None:
    """Sharpen blurred photographs by Wiener deconvolution.

    The kernel says how the photograph was blurred; the filter divides by its spectrum, as far as the noise allows.
    Values are filtered as stored, after the photograph has been turned upright. Results keep the bit depth, alpha,
    colour profile and EXIF data, in the format of the input or, if that is lossy, as PNG. Files that cannot be used
    are refused one by one with the reason and the rest go on; the exit status is then 1.
    """
    try:
        psf_kernel = psf.parse(kernel)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--kernel") from None
    terminal.require_settings()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from None
    options = f"{kernel}, nsr {nsr:g}" + (", tapered" if taper else "")

    written: set[Path] = set()
    refused = 0
    with terminal.progress() as bar:
        task = bar.add_task("", total=len(photos))
        for path in photos:
            bar.update(task, description=path.name)
            try:
                target, notes = _deblur_one(
                    path,
                    out,
                    psf_kernel,
                    nsr,
                    taper,
                    options if panel else None,
                    overwrite,
                    max_pixels,
                    written,
                    photos,
                )
            except Refused as error:
                refused += 1
                terminal.say(bar, terminal.errors, f"[red]refused[/red] {escape(str(path))}: {escape(str(error))}")
            else:
                detail = f"  [dim]({escape('; '.join(notes))})[/dim]" if notes else ""
                terminal.say(bar, terminal.console, f"{escape(str(path))} -> {escape(str(target))}{detail}")
            bar.advance(task)
    if len(photos) > 1 or refused:
        summary = f"{len(photos) - refused} restored"
        (terminal.errors if refused else terminal.console).print(
            summary + (f", [red]{refused} refused[/red]" if refused else "")
        )
    if refused:
        raise typer.Exit(1)


def _deblur_one(
    path: Path,
    out: Path,
    kernel: Tensor,
    nsr: float,
    taper: bool,
    panel_options: str | None,
    overwrite: bool,
    max_pixels: int,
    written: set[Path],
    inputs: list[Path],
) -> tuple[Path, list[str]]:
    """Restores one photograph; the file written and notes. Raises ``Refused``."""
    photo = images.read(path, max_pixels)
    _, suffix, note = images.output(photo)
    target = out / (path.stem + suffix)
    panel_target = out / f"{path.stem}-panel.png"
    for file in (target, panel_target) if panel_options else (target,):
        if file in written:
            raise Refused(f"{file} was just written for another photograph of that name")
        if file.exists():
            if any(source.exists() and file.samefile(source) for source in inputs):
                raise Refused(f"{file} is one of the inputs; choose another folder with --out")
            if not overwrite:
                raise Refused(f"{file} exists; --overwrite replaces it")
    try:
        restored = images.restore(photo, kernel, nsr, taper)
    except (RuntimeError, MemoryError) as error:  # too large for the memory, or for the backend that was asked for
        raise Refused(str(error) or "too large for the memory of this machine") from None
    notes = [*photo.notes, *([note] if note else [])]
    try:
        notes += images.write(photo, restored, target)
        written.add(target)
    except OSError as error:
        raise Refused(f"cannot write {target}: {error.strerror or error}") from None
    if panel_options:
        try:
            with atomic(panel_target) as stream:
                panel_of(photo, restored, kernel, path.name, panel_options).save(stream, "PNG")
            written.add(panel_target)
            notes.append(f"panel in {panel_target}")
        except OSError as error:
            why = f"cannot write {panel_target}: {error.strerror or error}"
            raise Refused(f"{why}; the result itself is in {target}") from None
    return target, notes
