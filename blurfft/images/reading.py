"""Reads photographs without loss, with Pillow and what else is installed: pillow-heif, tifffile."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..files import Refused, counted, why
from . import foreign, metadata, tiff
from .photo import Photo
from .samples import read_samples

# A colour photograph of 24 megapixels takes 1.6 GB while it is restored.
MAX_PIXELS = 100_000_000

_TURN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def read(path: str | Path, max_pixels: int | None = None) -> Photo:
    """Any image that Pillow reads, 8 or 16 bits or floating point, in grey or colour, with or without alpha; with
    pillow-heif HEIC too, with tifffile the TIFFs that Pillow does not.

    Palettes become RGB, the EXIF orientation is applied, of several frames the first is taken; ``notes`` tells what
    was changed. Of colours with more than 8 bits in JPEG 2000, AVIF and some other files Pillow gives 8. Damaged
    metadata are left out.

    Args:
        path: the file.
        max_pixels: a file of more is refused before it is decoded. Default: ``MAX_PIXELS``.

    Raises:
        Refused: the file is missing, no image, damaged, empty, too large, or of a kind that has no pixels to filter.

    Examples:
        >>> read("holiday.jpg").colour.shape
        torch.Size([3, 3000, 4000])
    """
    path = Path(path)
    try:
        _require_file(path)
        with _pillow.limited(max_pixels or MAX_PIXELS):
            return _read(path)
    except Refused:
        raise
    except UnidentifiedImageError:
        words = foreign.name(path) or "not an image that Pillow can read, or one that is damaged"
        raise Refused(words) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        option = "; --max-pixels sets the limit" if max_pixels else ""  # blurfft train has no such option
        raise Refused(f"larger than {counted(max_pixels or MAX_PIXELS, 'pixel')}{option}") from None
    except MemoryError:
        raise Refused("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise Refused(f"cannot be decoded: {why(error)}") from None


def _require_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("no such file") from None
    except OSError as error:
        raise Refused(f"cannot be read: {why(error)}") from None
    if stat.S_ISDIR(status.st_mode):
        raise Refused("this is a folder; name the photographs in it, for example folder/*.jpg")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("this is no regular file; save it as one first")
    if status.st_size == 0:
        raise Refused("the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise Refused("cannot be read: Permission denied")


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


class _File:
    """An image file that can be opened more than once: on the disk, or repaired in memory."""

    def __init__(self, path: Path, data: bytes | None = None) -> None:
        self.path, self.data = path, data

    def open(self) -> Image.Image:
        image = Image.open(self.path if self.data is None else io.BytesIO(self.data))
        if image.format == "TIFF":
            # With a name Pillow maps the memory of some uncompressed ones: of a turned one (orientations 5 to 8) with
            # width and height exchanged, which scrambles it.
            image.filename = ""
        return image


def _read(path: Path) -> Photo:
    try:
        return _decoded(_File(path), [])
    except (Refused, Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise
    except Exception:
        for data, note in metadata.without_metadata(path):
            try:
                return _decoded(_File(path, data), [note])
            except Exception:  # then it was not the metadata
                continue
        raise


def _decoded(file: _File, notes: list[str]) -> Photo:
    with _opened(file, notes) as image:
        format = image.format or "PNG"
        if foreign.is_camera_raw(file.path, image):
            raise Refused(foreign.CAMERA_RAW)
        _first_frame(image, notes)
        samples = image.samples if isinstance(image, tiff.Tiff) else read_samples(file.open, image, notes)
        facts = metadata.of(image, notes)
        transparency = image.info.get("transparency")

    if samples.dtype == np.uint16 and transparency is not None:
        key = np.asarray(transparency, dtype=np.uint16)
        opaque = (samples != key) if samples.ndim == 2 else (samples != key).any(-1)
        samples = np.dstack((samples, np.where(opaque, 65535, 0).astype(np.uint16)))
    samples = _TURN.get(facts.orientation, lambda a: a)(samples)

    samples = samples if samples.ndim == 3 else samples[..., None]  # (H, W, bands)
    bands = samples.shape[-1]
    alpha = np.ascontiguousarray(samples[..., -1]) if bands in (2, 4) else None
    colour = np.ascontiguousarray(samples[..., : bands - (alpha is not None)].transpose(2, 0, 1), dtype=np.float32)
    bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}.get(samples.dtype, 32)
    if bits != 32:
        colour /= 2**bits - 1
    elif not np.isfinite(samples).all():
        raise Refused("a floating-point image with NaN or infinite pixels")
    dpi = facts.dpi if facts.dpi is None or facts.orientation < 5 else facts.dpi[::-1]
    suffix = file.path.suffix
    return Photo(
        torch.from_numpy(colour),
        alpha,
        bits,
        format,
        suffix,
        facts.icc_profile,
        facts.exif,
        tuple(notes),
        dpi,
        facts.xmp,
    )


def _opened(file: _File, notes: list[str]) -> Image.Image:
    try:
        image = file.open()
    except UnidentifiedImageError:
        found = foreign.open_heif(file.path) or tiff.open_tiff(file.path, notes)
        if found is None:
            raise
        return found
    if not tiff.is_beyond_pillow(image):
        return image
    image.close()
    if (found := tiff.open_tiff(file.path, notes)) is None:
        raise Refused("a TIFF with its colours in separate planes: pip install tifffile, and blurfft reads it")
    return found


def _first_frame(image: Image.Image, notes: list[str]) -> None:
    first = image.tell()
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # later frames may be damaged
        frames = 1
    if image.format == "PSD":  # opened, it is the composite; its frames are the layers
        if frames > 1:
            notes.append(f"the composite of {frames} layers")
        return
    if frames > 1:
        notes.append(f"the first of {frames} frames or pages")
    if image.tell() != first:
        image.seek(first)
