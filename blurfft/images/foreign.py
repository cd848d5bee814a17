"""Names for the formats that Pillow does not read, with what reads or converts them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from PIL import Image, features

_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"}
_RAW |= {".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}

# What may be a photograph, besides what Pillow has extensions for.
EXTENSIONS = {*_RAW, ".avif", ".heic", ".heif", ".hif", ".jxl", ".jxr", ".exr", ".hdr", ".psb", ".pam", ".xcf"}

CAMERA_RAW = (
    "a camera's raw file, of which Pillow reads the preview at most; develop it to a 16-bit TIFF or PNG first, for "
    "example with darktable or RawTherapee"
)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# The first bytes, and what the file is.
_SIGNATURES = (
    (b"\xff\x0a", "JPEG XL, which Pillow does not read; convert it first, for example with djxl of libjxl"),
    (b"\0\0\0\x0cJXL ", "JPEG XL, which Pillow does not read; convert it first, for example with djxl of libjxl"),
    (b"II\xbc", "JPEG XR, which Pillow does not read; save it as PNG or TIFF first"),
    (b"v/1\x01", "OpenEXR, which Pillow does not read; save it as TIFF first"),
    (b"#?", "Radiance HDR, which Pillow does not read; save it as TIFF first"),
    (b"PF", "a PFM in colour, which Pillow does not read; save it as TIFF first"),
    (b"P7", "PAM, which Pillow does not read; save it as PNG first"),
    (b"8BPS\0\2", "a large document of Photoshop (PSB), which Pillow does not read; save it as TIFF first"),
    (b"SIMPLE  =", "FITS of a kind that Pillow does not read; save it as TIFF first"),
    (b"SDPX", "DPX, which Pillow does not read; save it as TIFF first"),
    (b"XPDS", "DPX, which Pillow does not read; save it as TIFF first"),
    (b"\x93NUMPY", "an array of NumPy; save it as TIFF first, for example with tifffile"),
    (b"PK\3\4", "an archive, or a drawing of Krita or OpenRaster; unpack it, or export it as PNG first"),
    (b"version https://git-lfs", "a pointer to a file that Git LFS keeps; git lfs pull fetches it"),
    (b"gimp xcf", "a file of GIMP (XCF); export it as PNG or TIFF first"),
    (b"%PDF", "a PDF; extract its photographs first, for example with pdfimages"),
    (b"<svg", "an SVG, which has no pixels; export it as PNG first"),
    (b"<?xml", "XML, perhaps an SVG, which has no pixels; export it as PNG first"),
    (b"RIFF", "a sound or a video; save one of its frames as PNG first"),
    (b"\x1aE\xdf\xa3", "a video; save one of its frames as PNG first"),
)


def is_camera_raw(path: Path, image: Image.Image | None = None) -> bool:
    """Whether the file holds a sensor's data. Many are TIFF files in which Pillow finds a small preview."""
    if image is None:
        return path.suffix.lower() in _RAW
    if image.format != "TIFF":
        return False
    return path.suffix.lower() in _RAW or 50706 in getattr(image, "tag_v2", {})  # DNGVersion


def name(path: Path) -> str | None:
    """What a file that Pillow does not identify is, and what helps; None if it is nothing known."""
    with path.open("rb") as file:
        start = file.read(132)
    if is_camera_raw(path):
        return CAMERA_RAW
    if start[4:8] == b"ftyp":
        # AVIF may go by a common name, with its own among those that it is compatible with.
        return _isobmff(b"avif" if b"avif" in start[16 : int.from_bytes(start[:4], "big")] else start[8:12])
    if start[128:] == b"DICM":
        return "DICOM, which Pillow does not read; save it as 16-bit PNG or TIFF first"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps saved in place of the photograph; download that again"
    if start[:4] in TIFF:
        return "a TIFF with samples of a kind that Pillow does not read: pip install tifffile, and blurfft may read it"
    return next((words for signature, words in _SIGNATURES if start.startswith(signature)), None)


def _isobmff(brand: bytes) -> str:
    if brand in (b"avif", b"avis"):
        if features.check("avif"):
            return "an AVIF that is damaged"
        return "AVIF, which this Pillow does not read: pip install --upgrade 'pillow>=11.3'"
    if brand in _HEIF_BRANDS:
        return "HEIC (HEIF), which Pillow does not read: pip install pillow-heif, and blurfft reads it"
    if brand == b"crx ":
        return CAMERA_RAW
    return "a video; save one of its frames as PNG first"


def open_heif(path: Path) -> Image.Image | None:
    """The primary image of a HEIF file, if pillow-heif is installed. Pillow itself is left as it is."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:12] not in _HEIF_BRANDS or importlib.util.find_spec("pillow_heif") is None:
        return None
    found = importlib.import_module("pillow_heif").open_heif(path)  # upright
    if Image.MAX_IMAGE_PIXELS is not None and found.size[0] * found.size[1] > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    image: Image.Image = found.to_pillow()
    image.format = "HEIF"
    return image
