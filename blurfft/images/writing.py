"""Writes photographs without loss, with Pillow, or the small encoders below for 16-bit colour (PNG) and floating-point
colour (TIFF)."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin, TiffTags
from torch import Tensor

from ..files import atomic
from .photo import Photo

_FLOATS = {"LA;32", "RGB;32", "RGBA;32"}
# What each format holds exactly, with the options that make it lossless. Anything else becomes PNG.
_LOSSLESS: dict[str, tuple[set[str], dict[str, Any]]] = {
    "PNG": ({"L", "LA", "RGB", "RGBA", "I;16"}, {}),
    "TIFF": ({"L", "LA", "RGB", "RGBA", "I;16", "F", *_FLOATS}, {"compression": "tiff_adobe_deflate"}),
    "WEBP": ({"RGB", "RGBA"}, {"lossless": True, "exact": True}),
    "JPEG2000": ({"L", "LA", "RGB", "RGBA", "I;16"}, {"irreversible": False}),
    "BMP": ({"L", "RGB"}, {}),
    "PPM": ({"L", "RGB", "I;16"}, {}),
    "TGA": ({"L", "LA", "RGB", "RGBA"}, {"compression": "tga_rle"}),
}
_NOTHING: tuple[set[str], dict[str, Any]] = (set(), {})
# What each format can say beside the pixels, by Pillow's names.
_WORDS = {"icc_profile": "colour profile", "exif": "EXIF data", "xmp": "XMP data", "dpi": "resolution"}
_KEEPS = {"PNG": {*_WORDS}, "TIFF": {*_WORDS}, "WEBP": {"icc_profile", "exif", "xmp"}, "BMP": {"dpi"}}
_XMP_KEYWORD = "XML:com.adobe.xmp"  # in a PNG


def output(photo: Photo) -> tuple[str, str, str | None]:
    """The format, suffix and, where the format changes, the reason: the input's own format if it holds the pixels
    without loss, else PNG (TIFF for floating point)."""
    kind, _, deep = photo.mode.partition(";")
    if photo.mode in _LOSSLESS.get(photo.format, _NOTHING)[0] or (photo.format == "PNG" and deep):
        format, note = photo.format, None
    else:
        format = "TIFF" if photo.bits == 32 else "PNG"
        why = (
            "is lossy"
            if photo.format in ("JPEG", "MPO", "AVIF", "HEIF")
            else f"is not written with {photo.bits}-bit {kind}"
        )
        note = f"written as {format}, since {photo.format} {why}"
    suffix = {"TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm" if kind == "RGB" else ".pgm"}
    keep = format not in ("JPEG2000", "PPM") and Image.registered_extensions().get(photo.suffix.lower()) == format
    return format, photo.suffix if keep else suffix.get(format, f".{format.lower()}"), note


def write(photo: Photo, colour: Tensor, path: str | Path) -> list[str]:
    """Writes ``colour`` with the alpha, bit depth, colour profile, EXIF and XMP data of ``photo``, in the
    format that ``output`` says. The file appears whole or not at all.

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

    said = {name: getattr(photo, name) for name in _WORDS}
    metadata = {name: value for name, value in said.items() if value and name in _KEEPS.get(format, ())}
    lost = [_WORDS[name] for name, value in said.items() if value and name not in metadata]
    encoded = io.BytesIO()  # in memory first: some encoders hide why a file cannot be written
    if photo.mode.endswith("A;16") or photo.mode == "RGB;16":
        _write_png16(encoded, samples, photo)
    elif photo.mode in _FLOATS:
        _write_float_tiff(encoded, samples, photo)
    else:
        picture, options = Image.fromarray(samples), _LOSSLESS[format][1]
        try:
            picture.save(encoded, format, **options, **_options(format, metadata))
        except MemoryError:
            raise
        except Exception:  # Pillow may have read what it cannot write
            if not metadata:
                raise
            encoded = io.BytesIO()
            picture.save(encoded, format, **options)
            lost = [_WORDS[name] for name, value in said.items() if value]
    with atomic(path) as file:
        file.write(encoded.getbuffer())
    return [f"{' and '.join(lost)} {'is' if lost == ['resolution'] else 'are'} not kept in {format}"] if lost else []


def _options(format: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """What Pillow takes these as. For XMP it has an option in WebP alone."""
    xmp = metadata.get("xmp")
    if xmp is None or format == "WEBP":
        return metadata
    options = {name: value for name, value in metadata.items() if name != "xmp"}
    if format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(_XMP_KEYWORD, xmp.decode())
    else:
        tags = Image.Exif()
        tags.load(metadata.get("exif", b""))
        tags[TiffImagePlugin.XMP] = xmp
        options["exif"] = tags
    return options


def _write_float_tiff(file: BinaryIO, samples: NDArray[Any], photo: Photo) -> None:
    """A TIFF of (H, W, 2|3|4) float32 samples in one strip: Pillow writes its tags."""
    height, width, bands = samples.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    tags = Image.Exif()
    tags.load(photo.exif or b"")
    for tag in tags:
        directory[tag] = tags.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else tags[tag]
    if photo.dpi:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION], directory[TiffImagePlugin.Y_RESOLUTION] = photo.dpi
    if photo.icc_profile:
        directory[TiffImagePlugin.ICCPROFILE] = photo.icc_profile
    if photo.xmp:
        directory[TiffImagePlugin.XMP] = photo.xmp
    strip = zlib.compress(samples.astype("<f4").data, 6)
    directory[TiffImagePlugin.IMAGEWIDTH], directory[TiffImagePlugin.IMAGELENGTH] = width, height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (32,) * bands
    directory[TiffImagePlugin.SAMPLEFORMAT] = (3,) * bands  # floating point
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = bands
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 2 if bands > 2 else 1
    if photo.alpha is not None:
        directory[TiffImagePlugin.EXTRASAMPLES] = 2  # not multiplied in
    directory[TiffImagePlugin.COMPRESSION] = 8
    directory[TiffImagePlugin.ROWSPERSTRIP] = height
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = len(strip)
    directory[TiffImagePlugin.STRIPOFFSETS] = 0  # behind the tags
    directory.save(file)
    file.write(strip)


def _write_png16(file: BinaryIO, samples: NDArray[Any], photo: Photo) -> None:
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
    if photo.icc_profile:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(photo.icc_profile))
    if photo.dpi:
        chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in photo.dpi), 1))
    if photo.exif:
        chunk(b"eXIf", photo.exif.removeprefix(b"Exif\0\0"))
    if photo.xmp:
        chunk(b"iTXt", _XMP_KEYWORD.encode() + bytes(5) + photo.xmp)
    chunk(b"IDAT", zlib.compress(filtered.data, 6))
    chunk(b"IEND", b"")
