"""The pixels of an image as whole numbers of 8 or 16 bits or floating point.

Pillow keeps 8 bits of a 16-bit colour image, so those are decoded twice: once for the high and once for the low byte of
each sample.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import Refused

_BITS_PER_SAMPLE, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 338, 339
_SMALLEST, _LARGEST = 340, 341  # SMinSampleValue and SMaxSampleValue
_WHITE_IS_ZERO = 0
_SIGNED = 2


def read_samples(again: Callable[[], Image.Image], image: Image.Image, notes: list[str]) -> NDArray[Any]:
    """The pixels as uint8, uint16 or float32, (H, W) or (H, W, bands).

    Args:
        again: opens the image's file once more.
        image: as opened.
        notes: is told what is changed or lost.
    """
    tags = getattr(image, "tag_v2", {})
    if _EXTRA_SAMPLES in tags and 0 in tags[_EXTRA_SAMPLES]:
        notes.append("a channel without a meaning is left out")
    bits = stored_bits(image)
    samples = _deep_colour(again, image)
    if samples is None:
        image.load()
        samples = _shallow(image, notes)
    if bits > 32 and samples.dtype == np.float32:
        notes.append(f"{bits}-bit floating point, of which 32 bits are read")
    elif bits > 8 and samples.dtype == np.uint8:
        notes.append("more than 8 bits, of which 8 are read")
    elif tags and samples.dtype == np.uint16 and 8 < bits < 16:  # Pillow leaves those of a TIFF unscaled
        samples = (samples << (16 - bits)) | (samples >> (2 * bits - 16))
    # Pillow has inverted images of fewer bits.
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and samples.dtype != np.uint8:
        samples = inverted(samples, tags, notes)
    return samples


def inverted(samples: NDArray[Any], tags: Any, notes: list[str]) -> NDArray[Any]:
    """Black and white exchanged."""
    if samples.dtype.kind == "u":
        return np.iinfo(samples.dtype).max - samples
    low, high = (float(np.ravel(tags[tag])[0]) if tag in tags else None for tag in (_SMALLEST, _LARGEST))
    if low is None or high is None:
        inside = samples.min() >= 0 and samples.max() <= 1
        low, high = (0.0, 1.0) if inside else (float(samples.min()), float(samples.max()))
    notes.append("black and white exchanged: the file counts from white")
    return (np.float32(low + high) - samples).astype(np.float32)


def stored_bits(image: Image.Image) -> int:
    """The bits of a sample in the file, as far as Pillow or the header tells; 8 if nothing says more."""
    if tags := getattr(image, "tag_v2", None):
        return int(max(tags.get(_BITS_PER_SAMPLE, (8,))))
    tiles = getattr(image, "tile", [])
    if any(tile.codec_name == "SGI16" for tile in tiles):
        return 16
    if any(tile.codec_name.startswith("ppm") for tile in tiles):
        return int(max(tile.args[-1] if isinstance(tile.args, tuple) else 255 for tile in tiles)).bit_length()
    if image.format not in ("JPEG2000", "AVIF"):
        return int(image.info.get("bit_depth", 8))  # of pillow-heif
    file: Any = getattr(image, "fp", None) or getattr(image, "_fp", None)
    if file is None:
        return 8
    place = file.tell()
    file.seek(0)
    start = file.read(1 << 16)
    file.seek(place)
    return _codestream_bits(start) if image.format == "JPEG2000" else _av1_bits(start)


def _codestream_bits(start: bytes) -> int:
    """Of the first component of a JPEG 2000 codestream: Ssiz of its SIZ segment."""
    at = start.find(b"\xff\x4f\xff\x51")
    return (start[at + 42] & 0x7F) + 1 if 0 <= at < len(start) - 42 else 8


def _av1_bits(start: bytes) -> int:
    """Of an AVIF file: high_bitdepth and twelve_bit of its AV1 configuration."""
    at = start.find(b"av1C")
    if not 0 <= at < len(start) - 7:
        return 8
    high, twelve = start[at + 6] & 0x40, start[at + 6] & 0x20
    return (12 if twelve else 10) if high else 8


def _shallow(image: Image.Image, notes: list[str]) -> NDArray[Any]:
    """The pixels as uint8, uint16 or float32, (H, W) or (H, W, bands)."""
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "F":
        return np.asarray(image)
    tags = getattr(image, "tag_v2", None)
    signed = tags is None or _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if mode == "I" or (mode == "L" and tags is not None and signed):
        values = np.asarray(image)
        # Pillow reads 32 bits without a sign as if they had one, and 8 bits with one as if they had none.
        values = values.view(np.int8) if mode == "L" else values if signed else values.view(np.uint32)
        if values.min() < 0 or values.max() > 65535:
            words = "integers below 0" if values.min() < 0 else "integers of more than 16 bits"
            raise Refused(f"{words}; store them as 16-bit or floating-point grey")
        return values.astype(np.uint16 if mode == "I" else np.uint8)
    if mode in ("LA", "RGBA"):
        target = mode
    elif mode in ("La", "RGBa"):  # alpha already multiplied in
        target = mode.upper()
    else:
        target = "L" if mode in ("1", "L") else "RGB"
        if mode == "PA" or "transparency" in image.info:
            target = "LA" if target == "L" else "RGBA"
    if mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        notes.append(f"converted from {mode} to RGB" + (", without its colour profile" if mode != "YCbCr" else ""))
    elif mode in ("P", "PA"):
        notes.append(f"palette converted to {target}")
    return np.asarray(image if mode == target else image.convert(target))


def _deep_colour(again: Callable[[], Image.Image], image: Any) -> NDArray[Any] | None:
    """The pixels of a 16-bit colour image, uint16 (H, W, bands); None for any other image.

    The raw mode of a tile says in which byte the decoder finds what it keeps ("RGB;16B": big-endian samples, hence the
    first of two). Asking for the other byte order gives the other byte.
    """
    if image.mode not in ("RGB", "RGBA"):
        return None
    tiles = list(getattr(image, "tile", ()))
    if image.format == "PPM" and tiles[0].codec_name == "ppm" and tiles[0].args[-1] == 65535:
        tiles = [tile._replace(codec_name="raw", args=("RGB;16B", 0, 1)) for tile in tiles]
    readable = [t.codec_name in ("zip", "raw", "libtiff") and _raw_mode(t)[-4:-1] == ";16" for t in tiles]
    if not tiles or not all(readable) or any(_raw_mode(t)[-1] not in "BLN" for t in tiles):
        return None

    if all(_raw_mode(tile) == "LA;16B" for tile in tiles):  # four bytes a pixel: as RGBA nothing is lost
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in tiles]
        pairs = np.asarray(image).astype(np.uint16)
        return (pairs[..., 0::2] << 8) | pairs[..., 1::2]
    # Pillow would divide by alpha in 8 bits.
    multiplied = any(_raw_mode(tile).startswith("RGBa") for tile in tiles)
    image.tile = tiles = [_with_raw_mode(tile, _raw_mode(tile).replace("RGBa", "RGBA")) for tile in tiles]
    swapped = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    with again() as other:
        twin: Any = other
        twin.tile = [_with_raw_mode(tile, _raw_mode(tile)[:-1] + swapped[_raw_mode(tile)[-1]]) for tile in tiles]
        low = np.asarray(twin)
    samples = (np.asarray(image).astype(np.uint16) << 8) | low
    return divided(samples) if multiplied else samples


def divided(samples: NDArray[Any]) -> NDArray[Any]:
    """Colour that was multiplied by alpha, the last band, divided by it again; under alpha 0 as it is."""
    whole = samples.dtype.kind == "u"
    opaque = np.iinfo(samples.dtype).max if whole else 1
    alpha = samples[..., -1:].astype(np.float64)
    colour = samples[..., :-1] * (opaque / np.where(alpha > 0, alpha, opaque))
    if whole:
        colour = np.rint(np.minimum(colour, opaque))
    return np.dstack((colour.astype(samples.dtype), samples[..., -1]))


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args[0] if tile.args else "")


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
