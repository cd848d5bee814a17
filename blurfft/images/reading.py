"""Reads photographs without loss, by Pillow.

Pillow keeps 8 bits of a 16-bit colour image, so those are decoded twice: once for the high and once for the low byte of
each sample.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..files import Refused
from .photo import Photo

# A colour photograph of 24 megapixels takes 1.6 GB while it is restored.
MAX_PIXELS = 100_000_000

_ORIENTATION, _BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 274, 258, 284
_TURN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}

# TIFF tags that describe how the pixels of the input file are laid out; they would be false in another file.
_LAYOUT_TAGS = {*range(254, 260), 262, 266, 273, *range(277, 280), 284, *range(290, 294), 297, 317, *range(320, 326)}
_LAYOUT_TAGS |= {330, *range(338, 348), *range(512, 522), *range(529, 533), 700, 34675}


def read(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Any image that Pillow reads, 8 or 16 bits or floating point, in grey or colour, with or without alpha.

    Palettes become RGB, the EXIF orientation is applied, of several frames the first is taken; ``notes`` tells what
    was changed. Of colours with more than 8 bits in JPEG 2000 and AVIF files Pillow gives 8.

    Args:
        path: the file.
        max_pixels: a file of more is refused before it is decoded.

    Raises:
        Refused: the file is missing, no image, damaged, empty, too large, or of a kind that has no pixels to filter.

    Example:
        >>> read("holiday.jpg").colour.shape
        torch.Size([3, 3000, 4000])
    """
    path = Path(path)
    if not path.exists():
        raise Refused("no such file")
    if path.is_dir():
        raise Refused("this is a folder; name the photographs in it, for example folder/*.jpg")
    if not path.is_file():
        raise Refused("this is no regular file; save it as one first")
    try:
        if path.stat().st_size == 0:
            raise Refused("the file is empty (0 bytes)")
        with _pillow.limited(max_pixels):
            return _read(path)
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused("not an image that Pillow can read, or one that is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(f"larger than {max_pixels} pixels; --max-pixels sets the limit") from None
    except MemoryError:
        raise Refused("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise Refused(f"cannot be decoded: {error or type(error).__name__}") from None


class _Pillow:
    """Pillow's limit and Python's warnings are settings of the process: of several threads that read photographs at
    once the first changes them, and the last one puts them back as they were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._before = ExitStack()

    @contextmanager
    def limited(self, max_pixels: int) -> Iterator[None]:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    self._before.close()


_pillow = _Pillow()


def _read(path: Path) -> Photo:
    notes: list[str] = []
    with Image.open(path) as image:
        format = image.format or "PNG"
        if (frames := getattr(image, "n_frames", 1)) > 1:
            notes.append(f"the first of {frames} frames or pages")
            image.seek(0)
        samples = _deep_colour(path, image, notes)
        if samples is None:
            image.load()
            samples = _samples(image, notes)
        # Pillow turns a TIFF upright itself, while loading it.
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        for tag in {_ORIENTATION, *_LAYOUT_TAGS} & set(exif):
            del exif[tag]
        exif_bytes = exif.tobytes() if len(exif) else None
        icc_profile = image.info.get("icc_profile") if image.mode not in ("CMYK", "LAB") else None
        transparency = image.info.get("transparency")

    if samples.dtype == np.uint16 and transparency is not None:
        key = np.asarray(transparency, dtype=np.uint16)
        opaque = (samples != key) if samples.ndim == 2 else (samples != key).any(-1)
        samples = np.dstack((samples, np.where(opaque, 65535, 0).astype(np.uint16)))
    samples = _TURN.get(orientation, lambda a: a)(samples)

    samples = samples if samples.ndim == 3 else samples[..., None]  # (H, W, bands)
    bands = samples.shape[-1]
    alpha = np.ascontiguousarray(samples[..., -1]) if bands in (2, 4) else None
    colour = np.ascontiguousarray(samples[..., : bands - (alpha is not None)].transpose(2, 0, 1), dtype=np.float32)
    bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}.get(samples.dtype, 32)
    if bits != 32:
        colour /= 2**bits - 1
    elif not np.isfinite(colour).all():
        raise Refused("a floating-point image with NaN or infinite pixels")
    return Photo(torch.from_numpy(colour), alpha, bits, format, path.suffix, icc_profile, exif_bytes, tuple(notes))


def _samples(image: Image.Image, notes: list[str]) -> NDArray[Any]:
    """The pixels as uint8, uint16 or float32, (H, W) or (H, W, bands)."""
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "F":
        return np.asarray(image)
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise Refused("integers of more than 16 bits; store them as 16-bit or floating-point grey")
        return values.astype(np.uint16)
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


def _deep_colour(path: Path, image: ImageFile.ImageFile, notes: list[str]) -> NDArray[Any] | None:
    """The pixels of a 16-bit colour image, uint16 (H, W, bands); None for any other image.

    The raw mode of a tile says in which byte the decoder finds what it keeps ("RGB;16B": big-endian samples, hence the
    first of two). Asking for the other byte order gives the other byte.
    """
    if image.mode not in ("RGB", "RGBA"):
        return None
    tags = getattr(image, "tag_v2", {})
    if max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8 and tags.get(_PLANAR_CONFIGURATION) == 2:
        raise Refused("a 16-bit TIFF with its colours in separate planes; save it with interleaved colours or as PNG")
    tiles = list(image.tile)
    if image.format == "PPM" and tiles[0].codec_name == "ppm" and tiles[0].args[-1] == 65535:  # type: ignore[index]
        tiles = [tile._replace(codec_name="raw", args=("RGB;16B", 0, 1)) for tile in tiles]
        image.tile = tiles
    if any(t.codec_name == "SGI16" or (t.codec_name.startswith("ppm") and t.args[-1] > 255) for t in tiles):  # type: ignore[index,operator]
        notes.append("more than 8 bits, of which 8 are read")
    readable = [t.codec_name in ("zip", "raw", "libtiff") and _raw_mode(t)[-4:-1] == ";16" for t in tiles]
    if not tiles or not all(readable) or any(_raw_mode(t)[-1] not in "BLN" for t in tiles):
        return None

    if all(_raw_mode(tile) == "LA;16B" for tile in tiles):  # four bytes a pixel: as RGBA nothing is lost
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in tiles]
        pairs = np.asarray(image).astype(np.uint16)
        return (pairs[..., 0::2] << 8) | pairs[..., 1::2]
    swapped = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    with Image.open(path) as other:
        other.tile = [_with_raw_mode(tile, _raw_mode(tile)[:-1] + swapped[_raw_mode(tile)[-1]]) for tile in tiles]
        low = np.asarray(other)
    return (np.asarray(image).astype(np.uint16) << 8) | low


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args[0] if tile.args else "")


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
