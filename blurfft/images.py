"""Photographs for the command line: read without loss, restored, written without loss.

Pillow decodes everything. It keeps 8 bits of a 16-bit colour image, so those are decoded twice, once for the high and
once for the low byte of each sample, and written by the small PNG encoder below.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from .functional import blur, wiener_filter

# A colour photograph of 24 megapixels takes 1.6 GB while it is restored.
MAX_PIXELS = 100_000_000

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


class Refused(ValueError):
    """A file that cannot be served, and why, in words for the user."""


@dataclass(frozen=True)
class Photo:
    """A photograph, upright."""

    colour: Tensor  # (C, H, W) float32, C = 1 or 3, in [0, 1]; as stored for a floating-point file
    alpha: NDArray[Any] | None  # (H, W), as stored
    bits: int  # 8, 16, or 32 for floating point
    format: str  # Pillow's name
    suffix: str
    icc_profile: bytes | None
    exif: bytes | None
    notes: tuple[str, ...]

    @property
    def mode(self) -> str:
        """Pillow's name for the kind of pixel; 16-bit colour, for which it has none, is "RGB;16" or the like."""
        if self.bits == 32:
            return "F"
        if self.bits == 16 and self.alpha is None and self.colour.shape[0] == 1:
            return "I;16"
        name = ("L" if self.colour.shape[0] == 1 else "RGB") + ("A" if self.alpha is not None else "")
        return name + (";16" if self.bits == 16 else "")


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


def restore(photo: Photo, kernel: Tensor, nsr: float, taper: bool = False) -> Tensor:
    """Wiener deconvolution of each colour; alpha is left alone.

    The colour under fully transparent pixels means nothing, but filtering would spread it into the visible ones. It
    is replaced by a smooth continuation of them first and put back afterwards.

    Args:
        photo: what ``read`` returned.
        kernel: (kh, kw), no larger than the photograph.
        nsr: the noise-to-signal ratio.
        taper: continue the photograph beyond its borders and join opposite ones smoothly (``edge_taper``) before
            filtering. Without it they are neighbours, which is what the formula says.

    Returns:
        (C, H, W) float32; values may leave [0, 1] by ringing.

    Raises:
        Refused: the kernel is larger than the photograph, or the result is not finite.

    Example:
        >>> sharp = restore(read("holiday.jpg"), psf.gaussian(2.0), nsr=0.01, taper=True)
    """
    height, width = photo.colour.shape[1:]
    kh, kw = kernel.shape
    if kh > height or kw > width:
        raise Refused(f"{width} x {height} pixels are fewer than the kernel has, {kw} x {kh}")
    colour = photo.colour
    visible = torch.from_numpy(photo.alpha > 0) if photo.alpha is not None else None
    if visible is not None and visible.any() and not visible.all():
        colour = _continue(colour, visible)

    planes = []
    for plane in colour:  # one at a time: a third of the memory
        if taper:
            plane, top, left = _extend(plane, kh, kw)
            plane = edge_taper(plane, kernel)
        restored = wiener_filter(plane[None, None], kernel.to(plane.dtype), nsr)[0, 0]
        planes.append(restored[top : top + height, left : left + width] if taper else restored)
    result = torch.stack(planes)
    if not result.isfinite().all():
        raise Refused(f"nsr = {nsr:g} is too small for this kernel: some frequencies are divided by zero")
    return result if visible is None else torch.where(visible, result, photo.colour)


def edge_taper(image: Tensor, kernel: Tensor) -> Tensor:
    """Blends the borders of an image into its own periodic blur, so that opposite borders meet smoothly.

    J = α·I + (1 − α)·(k ∗ I) with α = (1 − z_y)(1 − z_x)ᵀ, where z is the autocorrelation of the kernel's projection
    on that axis, periodic with one sample less than the image has, divided by its maximum. α is 0 at the corners, and
    1 as soon as the distance to the border exceeds the kernel's size. This is MATLAB's ``edgetaper``; see Reeves,
    *Fast image restoration without boundary artifacts*, IEEE Trans. Image Processing 14 (2005), for why a
    deconvolution wants it.

    Args:
        image: (..., H, W).
        kernel: (kh, kw), smaller than the image.

    Returns:
        The image with tapered borders, of the same shape and dtype.

    Example:
        >>> edge_taper(torch.rand(64, 64), torch.full((5, 5), 1 / 25)).shape
        torch.Size([64, 64])
    """
    height, width = image.shape[-2:]
    kernel = kernel.to(image.dtype)

    def alpha(axis: int, side: int) -> Tensor:
        z = torch.fft.irfft(torch.fft.rfft(kernel.sum(1 - axis), n=side - 1).abs().square(), n=side - 1)
        return 1 - torch.cat((z, z[:1])) / z.max()

    blurred = blur(image.reshape(1, -1, height, width), kernel).reshape(image.shape)
    return torch.lerp(blurred, image, alpha(0, height)[:, None] * alpha(1, width))


def _extend(plane: Tensor, kh: int, kw: int) -> tuple[Tensor, int, int]:
    """The plane with its border pixels repeated for the kernel's size or a little more, to sides that transform fast;
    with the row and column at which the original begins. What ``edge_taper`` changes lies outside the original.

    Mirroring instead of repeating restores photographs worse, by up to 0.7 dB with a motion kernel.
    """
    height, width = plane.shape
    extra_h, extra_w = smooth(height + 2 * kh) - height, smooth(width + 2 * kw) - width
    top, left = extra_h // 2, extra_w // 2
    sides = (left, extra_w - left, top, extra_h - top)
    return F.pad(plane[None, None], sides, mode="replicate")[0, 0], top, left


def smooth(length: int) -> int:
    """The smallest number ≥ ``length`` with no prime factor above 7."""
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _continue(colour: Tensor, visible: Tensor) -> Tensor:
    """Replaces the hidden pixels by a smooth continuation of the visible ones: pull–push (Gortler et al., *The
    Lumigraph*, SIGGRAPH 1996), averages of 2×2 pixels until nothing is hidden, then interpolated back."""
    if visible.all():
        return colour
    weight = visible.to(colour.dtype)[None, None]
    pooled = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = F.avg_pool2d(colour[None] * weight, 2, ceil_mode=True) / pooled.clamp(min=1e-12)
    filled = _continue(coarse[0], pooled[0, 0] > 0)
    smooth_fill = F.interpolate(filled[None], size=colour.shape[1:], mode="bilinear", align_corners=False)[0]
    return torch.where(visible, colour, smooth_fill)


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


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
