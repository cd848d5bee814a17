"""What a file says beside its pixels: EXIF and XMP data, colour profile, resolution. Damage costs only what is
damaged."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION = 274, 282, 283

# TIFF tags that describe how the pixels of the input file are laid out; they would be false in another file.
_LAYOUT_TAGS = {*range(254, 260), 262, 266, 273, *range(277, 280), 284, *range(290, 294), 297, 317, *range(320, 326)}
_LAYOUT_TAGS |= {330, *range(338, 348), *range(512, 522), *range(529, 533), 700, 34675}

# XMP may say how the stored image is turned, too: as an attribute or an element.
_XMP_ORIENTATION = re.compile(
    r"""\s+tiff:Orientation\s*=\s*("[^"]*"|'[^']*')|<tiff:Orientation>[^<]*</tiff:Orientation>"""
)
_IPTC = 0x0404  # of the resources of Photoshop in a JPEG

# The chunks of a PNG without which its pixels would be others.
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_READ_AS_METADATA = {"XML:com.adobe.xmp", "Raw profile type exif"}  # texts that are no texts
# The entry of an AVIF's EXIF data in its list of items; of a type that no decoder knows it is passed over.
_EXIF_ITEM = re.compile(rb"(infe.{8})Exif", re.DOTALL)


@dataclass(frozen=True)
class Metadata:
    exif: bytes | None  # without orientation and layout
    orientation: int
    icc_profile: bytes | None
    dpi: tuple[float, float] | None  # of the stored image, which the orientation may turn
    xmp: bytes | None  # without orientation


def of(image: Image.Image, notes: list[str]) -> Metadata:
    """The metadata of an image that is loaded; ``notes`` tells what of it is damaged, and what is left out."""
    exif, orientation = _exif(image, notes)
    found = Metadata(exif, orientation, _icc_profile(image, notes), _dpi(image), _xmp(image, notes))
    if left_out := list(_left_out(image)):
        notes.append(f"left out: {' and '.join(left_out)}")
    return found


def _exif(image: Image.Image, notes: list[str]) -> tuple[bytes | None, int]:
    orientation = 1
    try:
        exif = image.getexif()
        damaged = bool((image.info.get("exif") or b"").removeprefix(b"Exif\0\0")) and not len(exif)
        # Pillow turns a TIFF upright itself, while loading it.
        if isinstance(turned := exif.get(_ORIENTATION), int) and 1 <= turned <= 8:
            orientation = turned
        if orientation >= 5 and {_X_RESOLUTION, _Y_RESOLUTION} <= set(exif):
            exif[_X_RESOLUTION], exif[_Y_RESOLUTION] = exif[_Y_RESOLUTION], exif[_X_RESOLUTION]
        for tag in {_ORIENTATION, *_LAYOUT_TAGS} & set(exif):
            del exif[tag]
        exif.bigtiff = False  # which no other format's EXIF data may be
        kept = exif.tobytes() if len(exif) else None
    except Exception:  # Pillow raises all kinds for damaged EXIF data
        kept, damaged = None, True
    if damaged:
        notes.append("its EXIF data are damaged and left out")
    return kept, orientation


def _icc_profile(image: Image.Image, notes: list[str]) -> bytes | None:
    if "icc_profile" not in image.info or image.mode in ("CMYK", "LAB"):
        return None
    profile: Any = image.info["icc_profile"]
    if profile is not None and len(profile) == 0:
        return None
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except ImportError:  # a Pillow without LittleCMS
        pass
    except Exception:
        notes.append("its colour profile is damaged and left out")
        return None
    return bytes(profile)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    tags = getattr(image, "tag_v2", None)
    if tags is not None and not {_X_RESOLUTION, _Y_RESOLUTION} <= set(tags):  # Pillow makes 1 of what is not there
        return None
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return (x, y) if all(math.isfinite(value) and 0 < value < 1e6 for value in (x, y)) else None


def _xmp(image: Image.Image, notes: list[str]) -> bytes | None:
    found = image.info.get("xmp")
    if not found:
        return None
    try:
        text = bytes(found).rstrip(b"\0 ").decode("utf-8-sig")
    except (TypeError, ValueError):
        notes.append("its XMP data are damaged and left out")
        return None
    if "xmpNote:HasExtendedXMP" in text:
        notes.append("a part of its XMP data is left out, which the file stores apart")
    return _XMP_ORIENTATION.sub("", text).encode() or None


def _left_out(image: Image.Image) -> Iterator[str]:
    """What none of our results holds, in words."""
    if _IPTC in image.info.get("photoshop", ()):
        yield "IPTC data"
    if image.info.get("comment"):
        yield "a comment"
    if {*getattr(image, "text", ())} - _READ_AS_METADATA:
        yield "texts"


def without_metadata(path: Path) -> Iterator[tuple[bytes, str]]:
    """The file without metadata that may keep Pillow from its pixels, each time with a note: a PNG without its texts,
    then without everything but its pixels; an AVIF without its EXIF data; nothing of other formats."""
    data = path.read_bytes()
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        yield _EXIF_ITEM.sub(rb"\1skip", data), "its EXIF data are damaged and left out"
    chunks = list(_png_chunks(data))
    for dropped, words in (
        ({name for name, _ in chunks} & _PNG_TEXTS, "its texts are damaged or too long and left out"),
        ({name for name, _ in chunks} - _PNG_PIXELS, "its metadata are damaged and left out"),
    ):
        if dropped:
            yield data[:8] + b"".join(chunk for name, chunk in chunks if name not in dropped), words


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names of a PNG's chunks and the chunks whole."""
    position = 8 if data[:8] == b"\x89PNG\r\n\x1a\n" else len(data)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, data[position : position + 12 + length]
        position += 12 + length
