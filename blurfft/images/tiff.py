"""TIFF files with pixels of a kind that Pillow does not know, by way of tifffile where it is installed: colour in
floating point, 16-bit grey with alpha, 16-bit colours in separate planes."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ..files import Refused, counted
from .foreign import TIFF, is_camera_raw
from .samples import divided, inverted

_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION, _EXTRA_SAMPLES, _XMP, _ICC_PROFILE = 258, 284, 338, 700, 34675
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PER_INCH = {2: 1.0, 3: 2.54}
_COLOURS = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3}
_SEPARATE = 2  # planes
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha


class Tiff(Image.Image):
    """What a TIFF file says beside its pixels, where Pillow keeps it; the pixels are ``samples``."""

    format = "TIFF"
    samples: NDArray[Any]  # uint8, uint16 or float32, (H, W) or (H, W, bands)
    n_frames: int


def is_beyond_pillow(image: Image.Image) -> bool:
    """Whether Pillow opens a TIFF file, but does not read its pixels, or reads them wrongly: in separate planes those
    of more than 8 bits, of grey with alpha, and of colour that alpha is multiplied into."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANAR_CONFIGURATION) != _SEPARATE:
        return False
    return (
        max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8 or image.mode == "LA" or _ASSOCIATED in tags.get(_EXTRA_SAMPLES, ())
    )


def open_tiff(path: Path, notes: list[str]) -> Tiff | None:
    """The first page of a TIFF file, decoded, if tifffile is installed; None for any other file.

    Raises:
        Refused: its pixels are of no kind that can be filtered.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start not in TIFF or is_camera_raw(path) or importlib.util.find_spec("tifffile") is None:
        return None
    result = Tiff()
    with importlib.import_module("tifffile").TiffFile(path) as tiff:
        if not len(tiff.pages):
            raise Refused("a TIFF without a picture, or one that is damaged")
        result.samples = _samples(tiff.pages[0], notes)
        result.n_frames = len(tiff.pages)
    try:
        result.info = _info(path)
    except Exception:  # Pillow raises all kinds for damaged metadata
        words = "of a big-endian BigTIFF and" if start == b"MM\0+" else "damaged and"
        notes.append(f"its metadata are {words} left out")
    return result


def _info(path: Path) -> dict[str | tuple[int, int], Any]:
    tags = Image.Exif()
    with path.open("rb") as file:
        head = file.read(16)
        tags.bigtiff, tags.endian = b"+" in head[2:4], "<" if head[:2] == b"II" else ">"
        tags.load_from_fp(file, TiffImagePlugin.ImageFileDirectory_v2(head if tags.bigtiff else head[:8]).next)
        tags.bigtiff = False  # Pillow's EXIF data are to be those of a TIFF
        info: dict[str | tuple[int, int], Any] = {"exif": tags.tobytes()}
    info |= {name: tags[tag] for name, tag in (("xmp", _XMP), ("icc_profile", _ICC_PROFILE)) if tag in tags}
    scale = _PER_INCH.get(tags.get(_RESOLUTION_UNIT, 2))
    if scale and {_X_RESOLUTION, _Y_RESOLUTION} <= set(tags):
        info["dpi"] = tuple(float(tags[tag]) * scale for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    return info


def _samples(page: Any, notes: list[str]) -> NDArray[Any]:
    if Image.MAX_IMAGE_PIXELS is not None and page.imagewidth * page.imagelength > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    photometric = getattr(page.photometric, "name", str(page.photometric))
    colours = _COLOURS.get(photometric)
    if colours is None or page.axes not in ("YX", "YXS", "SYX") or page.samplesperpixel < colours:
        count = counted(page.samplesperpixel, "sample")
        raise Refused(f"a TIFF whose pixels are {photometric} with {count}; save it as PNG")
    kind, bits = page.dtype.kind, page.bitspersample
    if kind not in "uf" or (kind == "u" and bits > 16):
        raise Refused(f"a TIFF of {page.dtype} samples; store them as unsigned 16-bit or floating point")
    try:
        samples = page.asarray()
    except (ImportError, ValueError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        words = f"a TIFF compressed by {page.compression.name}: pip install imagecodecs, and blurfft reads it"
        raise Refused(words) from None
    samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    samples = samples if samples.ndim == 3 else samples[..., None]
    if kind == "f":
        if bits > 32:
            notes.append(f"{bits}-bit floating point, of which 32 bits are read")
        samples = samples.astype(np.float32)
    elif 8 < bits < 16:
        samples = (samples << (16 - bits)) | (samples >> (2 * bits - 16))

    colour, extra = samples[..., :colours], page.extrasamples
    alpha = next((i for i, meaning in enumerate(extra) if meaning in (_ASSOCIATED, _UNASSOCIATED)), None)
    if page.samplesperpixel - colours > (alpha is not None):
        notes.append("a channel without a meaning is left out")
    opacity: Any = None if alpha is None else samples[..., colours + alpha]
    if alpha is not None and extra[alpha] == _ASSOCIATED:
        colour = divided(np.dstack((colour, opacity)))[..., :colours]
    if photometric == "MINISWHITE":
        colour = inverted(colour, {tag.code: tag.value for tag in page.tags}, notes)
    if opacity is None:
        return colour[..., 0] if colours == 1 else colour
    return np.dstack((colour, opacity))
