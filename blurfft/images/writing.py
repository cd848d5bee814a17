"""Writes photographs without loss, with Pillow, or the small PNG encoder below for 16-bit colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..files import atomic
from .photo import Photo

# What each format holds exactly, with the options that make it lossless. Anything else becomes PNG.
_LOSSLESS: dict[str, tuple[set[str], dict[str, Any]]] = {
    "PNG": ({"L", "LA", "RGB", "RGBA", "I;16"}, {}),
    "TIFF": ({"L", "LA", "RGB", "RGBA", "I;16", "F"}, {"compression": "tiff_adobe_deflate"}),
    "WEBP": ({"RGB", "RGBA"}, {"lossless": True, "exact": True}),
    "JPEG2000": ({"L", "LA", "RGB", "RGBA", "I;16"}, {"irreversible": False}),
    "BMP": ({"L", "RGB"}, {}),
    "PPM": ({"L", "RGB", "I;16"}, {}),
    "TGA": ({"L", "LA", "RGB", "RGBA"}, {"compression": "tga_rle"}),
}
_NOTHING: tuple[set[str], dict[str, Any]] = (set(), {})
_KEEPS_METADATA = {"PNG", "TIFF", "WEBP"}


def output(photo: Photo) -> tuple[str, str, str | None]:
    """The format, suffix and, where the format changes, the reason: the input's own format if it holds the pixels
    without loss, else PNG (TIFF for floating point)."""
    kind, _, deep = photo.mode.partition(";")
    if photo.mode in _LOSSLESS.get(photo.format, _NOTHING)[0] or (photo.format == "PNG" and deep):
        format, note = photo.format, None
    else:
        format = "TIFF" if photo.bits == 32 else "PNG"
        why = "is lossy" if photo.format in ("JPEG", "MPO", "AVIF") else f"is not written with {photo.bits}-bit {kind}"
        note = f"written as {format}, since {photo.format} {why}"
    suffix = {"TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm" if kind == "RGB" else ".pgm"}
    keep = format not in ("JPEG2000", "PPM") and Image.registered_extensions().get(photo.suffix.lower()) == format
    return format, photo.suffix if keep else suffix.get(format, f".{format.lower()}"), note


def write(photo: Photo, colour: Tensor, path: str | Path) -> list[str]:
    """Writes ``colour`` with the alpha, bit depth, colour profile and EXIF data of ``photo``, in the format that
    ``output`` says. The file appears whole or not at all.

    Args:
        photo: what ``read`` returned.
        colour: (C, H, W) float32; values beyond [0, 1] are clipped.
        path: the file, replaced if it exists.

    Returns:
        Notes on what the format could not hold.

    Raises:
        OSError: it cannot be written.
    """
    format, _, _ = output(photo)
    values = colour.numpy().transpose(1, 2, 0)  # (H, W, C)
    if photo.bits == 32:
        samples = values
    else:
        top = 2**photo.bits - 1
        samples = np.rint(np.clip(values, 0, 1) * top).astype(np.uint8 if photo.bits == 8 else np.uint16)
    if photo.alpha is not None:
        samples = np.dstack((samples, photo.alpha))
    samples = np.ascontiguousarray(samples[..., 0] if samples.shape[-1] == 1 else samples)

    notes = []
    metadata = {"icc_profile": photo.icc_profile, "exif": photo.exif}
    metadata = {name: value for name, value in metadata.items() if value}
    if metadata and format not in _KEEPS_METADATA:
        notes.append(f"colour profile and EXIF data are not kept in {format}")
        metadata = {}
    with atomic(path) as file:
        if photo.mode.endswith("A;16") or photo.mode == "RGB;16":
            _write_png16(file, samples, photo.icc_profile, photo.exif)
        else:
            Image.fromarray(samples).save(file, format, **_LOSSLESS[format][1], **metadata)
    return notes


def _write_png16(file: BinaryIO, samples: NDArray[Any], icc_profile: bytes | None, exif: bytes | None) -> None:
    """A 16-bit PNG of (H, W, 2|3|4) samples, every row stored as its difference to the one above (filter 2)."""
    height, width, bands = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])

    def chunk(name: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))

    file.write(b"\x89PNG\r\n\x1a\n")
    colour_type = {2: 4, 3: 2, 4: 6}[bands]
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    if icc_profile:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    if exif:
        chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    chunk(b"IDAT", zlib.compress(filtered.data, 6))
    chunk(b"IEND", b"")
