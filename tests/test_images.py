from __future__ import annotations

import importlib.util
import io
import struct
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, features

import blurfft
from blurfft import images, psf
from blurfft.files import atomic
from blurfft.images import samples as decoded

RNG = np.random.default_rng(0)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:rights="\xc2\xa9 me"/></rdf:RDF></x:xmpmeta>"""


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png16(samples: np.ndarray, *extra: bytes) -> bytes:
    """A 16-bit PNG without filtering, which Pillow cannot write."""
    height, width, bands = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def samples16(bands: int, height: int = 19, width: int = 17) -> np.ndarray:
    return RNG.integers(0, 65536, (height, width, bands), dtype=np.uint16)


def samples8(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def levels(photo: images.Photo) -> np.ndarray:
    """The whole numbers that were in the file, (H, W, C)."""
    return np.rint(photo.colour.numpy().transpose(1, 2, 0).astype(np.float64) * (2**photo.bits - 1)).astype(int)


def rewrite(source: Path) -> tuple[images.Photo, Path, list[str]]:
    """What becomes of a file that is read and written unfiltered."""
    photo = images.read(source)
    target = source.with_name("out" + images.output(photo)[1])
    notes = images.write(photo, photo.colour, target)
    return images.read(target), target, notes


EIGHT_BIT = [
    *[("PNG", ".png", bands) for bands in (1, 2, 3, 4)],
    *[("TIFF", ".tiff", bands) for bands in (1, 3, 4)],
    *[("BMP", ".bmp", bands) for bands in (1, 3)],
    ("PPM", ".pgm", 1),
    ("PPM", ".ppm", 3),
    *[("TGA", ".tga", bands) for bands in (1, 3, 4)],
    *[("WEBP", ".webp", bands) for bands in (3, 4)],
    *[("JPEG2000", ".jp2", bands) for bands in (1, 3, 4)],
]


@pytest.mark.parametrize(("format", "suffix", "bands"), EIGHT_BIT)
def test_eight_bits_come_back_exactly_in_their_own_format(tmp_path, format, suffix, bands):
    samples = samples8(19, 17, bands)
    source = tmp_path / f"in{suffix}"
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    Image.fromarray(samples.squeeze()).save(source, format, **options)
    photo = images.read(source)
    colours = bands - (bands in (2, 4))
    np.testing.assert_array_equal(levels(photo), samples[..., :colours])
    assert (photo.bits, photo.format, photo.alpha is not None) == (8, format, bands in (2, 4))
    again, target, _ = rewrite(source)
    assert target.suffix == suffix and again.format == format and again.mode == photo.mode
    np.testing.assert_array_equal(levels(again), samples[..., :colours])
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, samples[..., -1])
        np.testing.assert_array_equal(again.alpha, samples[..., -1])


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_sixteen_bit_png_round_trip(tmp_path, bands):
    samples = samples16(bands)
    source = tmp_path / "in.png"
    source.write_bytes(png16(samples))
    photo = images.read(source)
    assert photo.bits == 16
    again, target, _ = rewrite(source)
    assert target.suffix == ".png"
    for one in (photo, again):
        np.testing.assert_array_equal(levels(one), samples[..., : bands - (bands in (2, 4))])
        if bands in (2, 4):
            np.testing.assert_array_equal(one.alpha, samples[..., -1])


def test_sixteen_bit_png_is_a_valid_png(tmp_path):
    """Decoded here by the letter of the PNG specification, with its checksums, and not by our own reader."""
    samples = samples16(3)
    (tmp_path / "in.png").write_bytes(png16(samples))
    _, target, _ = rewrite(tmp_path / "in.png")
    data = target.read_bytes()
    position, idat = 8, b""
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(name + body)
        idat += body if name == b"IDAT" else b""
        position += 12 + length
    rows = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(19, 1 + 17 * 6)
    assert (rows[:, 0] == 2).all()
    decoded = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view(">u2").reshape(19, 17, 3)
    np.testing.assert_array_equal(decoded, samples)
    with Image.open(target) as image:
        np.testing.assert_array_equal(np.asarray(image), samples >> 8)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff_colour_is_read_whole_and_written_as_png(tmp_path, bands, order, compression):
    samples = samples16(bands)
    source = tmp_path / "in.tif"
    tifffile.imwrite(
        source,
        samples,
        photometric="rgb",
        byteorder=order,
        compression=compression,
        extrasamples=["unassalpha"] if bands == 4 else None,
    )
    photo = images.read(source)
    np.testing.assert_array_equal(levels(photo), samples[..., :3])
    if bands == 4:
        np.testing.assert_array_equal(photo.alpha, samples[..., 3])
    format, suffix, note = images.output(photo)
    assert (format, suffix) == (
        "PNG",
        ".png",
    ) and note == f"written as PNG, since TIFF is not written with 16-bit {photo.mode[:-3]}"


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff_in_separate_planes(tmp_path, bands, compression):
    samples, source = samples16(bands), tmp_path / "p.tif"
    tifffile.imwrite(
        source,
        samples.transpose(2, 0, 1),
        photometric="rgb",
        planarconfig="separate",
        compression=compression,
        extrasamples=["unassalpha"] if bands == 4 else None,
    )
    again, _, _ = rewrite(source)
    for photo in (images.read(source), again):
        np.testing.assert_array_equal(levels(photo), samples[..., :3])
        if bands == 4:
            np.testing.assert_array_equal(photo.alpha, samples[..., 3])


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_the_tags_of_a_tiff_mean_together(tmp_path, dtype, planes, photometric, alpha):
    """Colour is first divided by an alpha that is multiplied in, and then exchanged where white is zero."""
    colours, top = 3 if photometric == "rgb" else 1, 1 if dtype == np.float32 else np.iinfo(dtype).max
    levels = RNG.uniform(0, 1, (19, 17, colours))
    opacity = RNG.uniform(0.5, 1, (19, 17, 1))
    stored = np.dstack((levels * opacity if alpha == "assocalpha" else levels, opacity)) * top
    stored = stored.astype(dtype) if top == 1 else np.rint(stored).astype(dtype)
    tifffile.imwrite(
        tmp_path / "t.tif",
        stored if planes == "contig" else stored.transpose(2, 0, 1),
        photometric=photometric,
        planarconfig=planes,
        extrasamples=[alpha],
    )
    photo = images.read(tmp_path / "t.tif")
    truth = 1 - levels if photometric == "miniswhite" else levels
    error = np.abs(photo.colour.numpy().transpose(1, 2, 0) - truth).max()
    assert error <= (2e-7 if top == 1 else 1.0001 / top if alpha == "unassalpha" else 2.5 / top)
    np.testing.assert_array_equal(photo.alpha, stored[..., -1])


@pytest.mark.parametrize("order", "<>")
def test_the_metadata_of_a_bigtiff(tmp_path, order):
    tags = [(0x010F, "s", 0, "maker", True), (274, "H", 1, 6, True)]
    for name, samples in (("g.tif", samples8(19, 17)), ("f.tif", RNG.uniform(0, 1, (19, 17, 3)).astype(np.float32))):
        photometric = "rgb" if samples.ndim == 3 else "minisblack"
        tifffile.imwrite(
            tmp_path / name, samples, bigtiff=True, byteorder=order, extratags=tags, photometric=photometric
        )
        photo, target, notes = rewrite(tmp_path / name)
        assert notes == []
        if order == ">":  # Pillow does not read its tags
            assert images.read(tmp_path / name).notes == ("its metadata are of a big-endian BigTIFF and left out",)
            continue
        assert images.read(tmp_path / name).notes == () and photo.colour.shape[1:] == (17, 19)
        with Image.open(target) if samples.ndim == 2 else tifffile.TiffFile(target) as file:
            found = file.getexif()[0x010F] if samples.ndim == 2 else file.pages[0].tags[0x010F].value
        assert found == "maker"


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_sixteen_bit_grey_with_alpha_in_a_tiff(tmp_path, alpha):
    samples, source = samples16(2), tmp_path / "g.tif"
    samples[0, :2, 1] = 0, 65535
    stored = samples.copy()
    if alpha == "assocalpha":
        stored[..., 0] = np.rint(samples[..., 0] * (samples[..., 1] / 65535.0))
    tifffile.imwrite(source, stored, photometric="minisblack", planarconfig="contig", extrasamples=[alpha])
    photo = images.read(source)
    assert (photo.bits, photo.mode, photo.notes) == (16, "LA;16", ())
    np.testing.assert_array_equal(photo.alpha, samples[..., 1])
    lost = np.ceil(0.5 * 65535 / np.maximum(samples[..., 1], 1)) if alpha == "assocalpha" else 0
    visible = samples[..., 1] > 0
    assert (np.abs(levels(photo)[..., 0] - samples[..., 0].astype(int)) <= lost)[visible].all()
    again, target, _ = rewrite(source)
    assert target.suffix == ".png"
    np.testing.assert_array_equal(levels(again), levels(photo))
    np.testing.assert_array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_floating_point_colour(tmp_path, bands, dtype, planes):
    samples, source = RNG.normal(3, 2, (19, 17, bands)).astype(dtype), tmp_path / "f.tif"
    tifffile.imwrite(
        source,
        samples if planes == "contig" else samples.transpose(2, 0, 1),
        photometric="rgb" if bands > 2 else "minisblack",
        planarconfig=planes,
        extrasamples=None if bands == 3 else ["unassalpha"],
    )
    photo = images.read(source)
    assert photo.notes == (("64-bit floating point, of which 32 bits are read",) if dtype == np.float64 else ())
    again, target, notes = rewrite(source)
    assert (target.suffix, again.format, again.bits, notes) == (".tif", "TIFF", 32, [])
    for one in (photo, again):
        colours = bands - (bands != 3)
        np.testing.assert_array_equal(one.colour.numpy(), samples[..., :colours].transpose(2, 0, 1).astype(np.float32))
        if bands != 3:
            np.testing.assert_array_equal(one.alpha, samples[..., -1].astype(np.float32))


def test_floating_point_colour_with_alpha_multiplied_in(tmp_path):
    colour, alpha = RNG.uniform(0, 4, (19, 17, 3)).astype(np.float32), np.full((19, 17, 1), 0.5, np.float32)
    tifffile.imwrite(
        tmp_path / "f.tif", np.dstack((colour * alpha, alpha)), photometric="rgb", extrasamples=["assocalpha"]
    )
    np.testing.assert_array_equal(images.read(tmp_path / "f.tif").colour.numpy(), colour.transpose(2, 0, 1))


def test_a_tiff_that_tifffile_reads_keeps_its_metadata(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = [(0x010F, "s", 0, "maker", True), (274, "H", 1, 6, True), (700, 1, len(XMP), XMP, True)]
    samples = RNG.uniform(0, 1, (19, 17, 3)).astype(np.float32)
    tifffile.imwrite(
        tmp_path / "m.tif",
        np.stack((samples, samples)),
        photometric="rgb",
        iccprofile=profile,
        resolution=(300, 150),
        resolutionunit="inch",
        extratags=tags,
        metadata=None,
    )
    photo, target, notes = rewrite(tmp_path / "m.tif")
    assert images.read(tmp_path / "m.tif").notes == ("the first of 2 frames or pages",) and notes == []
    with tifffile.TiffFile(target) as tiff:
        assert tiff.pages[0].tags[0x010F].value == "maker" and 274 not in tiff.pages[0].tags
    np.testing.assert_array_equal(photo.colour.numpy(), np.rot90(samples, -1).transpose(2, 0, 1))
    assert (photo.icc_profile, photo.dpi, photo.xmp) == (profile, (150, 300), XMP)


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (
            np.zeros((4, 5, 3), np.uint32),
            {"photometric": "rgb"},
            "samples; store them as unsigned 16-bit or floating point",
        ),
        (
            np.zeros((4, 5, 3), np.int16),
            {"photometric": "rgb"},
            "samples; store them as unsigned 16-bit or floating point",
        ),
        (np.full((4, 5, 3), np.nan, np.float32), {"photometric": "rgb"}, "NaN"),
        (np.zeros((4, 5, 4), np.float32), {"photometric": "separated"}, "SEPARATED with 4 samples; save it as PNG"),
    ],
)
def test_tiffs_that_tifffile_reads_and_nobody_filters(tmp_path, samples, options, words):
    tifffile.imwrite(tmp_path / "n.tif", samples, planarconfig="contig", **options)
    with pytest.raises(images.Refused, match=words):
        images.read(tmp_path / "n.tif")


def test_the_pixel_limit_holds_for_tifffile(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((20, 20, 3), np.float32), photometric="rgb")
    with pytest.raises(images.Refused, match="larger than 399 pixels"):
        images.read(tmp_path / "f.tif", max_pixels=399)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_without_tifffile_it_is_named(tmp_path, monkeypatch, planes):
    samples = np.zeros((4, 5, 3), np.float32) if planes == "contig" else np.zeros((3, 4, 5), np.uint16)
    tifffile.imwrite(tmp_path / "f.tif", samples, photometric="rgb", planarconfig=planes)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tifffile" else find(name, *rest)
    )
    with pytest.raises(images.Refused, match=r"a .*TIFF with .*: pip install tifffile, and blurfft"):
        images.read(tmp_path / "f.tif")


@pytest.mark.parametrize("compression", ["LZW", "ZSTD"])
def test_without_imagecodecs_it_is_named(tmp_path, monkeypatch, compression):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    # No encoder for these is at hand: the tag alone says that they are used.
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((4, 5, 3), np.float32), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(tmp_path / "f.tif", mode="r+") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(tifffile.COMPRESSION[compression].value)
    with pytest.raises(images.Refused, match=f"a TIFF compressed by {compression}: pip install imagecodecs, and blur"):
        images.read(tmp_path / "f.tif")


def test_sixteen_bit_ppm(tmp_path):
    samples = samples16(3)
    (tmp_path / "p.ppm").write_bytes(b"P6 17 19 65535\n" + samples.astype(">u2").tobytes())
    np.testing.assert_array_equal(levels(images.read(tmp_path / "p.ppm")), samples)
    grey = samples[..., :1]
    (tmp_path / "p.pgm").write_bytes(b"P5 17 19 65535\n" + grey.astype(">u2").tobytes())
    again, target, _ = rewrite(tmp_path / "p.pgm")
    assert target.suffix == ".pgm"
    np.testing.assert_array_equal(levels(again), grey)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bit_grey_stays_in_its_format(tmp_path, format):
    samples = samples16(1)
    source = tmp_path / {"PNG": "a.png", "TIFF": "a.tif", "JPEG2000": "a.jp2"}[format]
    Image.fromarray(samples[..., 0]).save(source)
    again, target, _ = rewrite(source)
    assert (again.format, again.bits, target.suffix) == (format, 16, source.suffix)
    np.testing.assert_array_equal(levels(again), samples)


def test_floating_point_keeps_its_range(tmp_path):
    samples = RNG.normal(1000, 300, (19, 17)).astype(np.float32)
    Image.fromarray(samples).save(tmp_path / "f.tif")
    again, _, _ = rewrite(tmp_path / "f.tif")
    assert again.bits == 32
    np.testing.assert_array_equal(again.colour[0].numpy(), samples)
    samples[3, 4] = np.nan
    Image.fromarray(samples).save(tmp_path / "f.tif")
    with pytest.raises(images.Refused, match="NaN"):
        images.read(tmp_path / "f.tif")


@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bit_transparent_colour_becomes_alpha(tmp_path, bands):
    samples = samples16(bands)
    samples[2, 3] = 258
    (tmp_path / "t.png").write_bytes(png16(samples, chunk(b"tRNS", struct.pack(">H", 258) * bands)))
    photo = images.read(tmp_path / "t.png")
    expected = np.full((19, 17), 65535)
    expected[2, 3] = 0
    np.testing.assert_array_equal(photo.alpha, expected)


def test_other_modes_are_converted_and_noted(tmp_path):
    rgb = Image.fromarray(samples8(19, 17, 3))
    rgb.quantize(16).save(tmp_path / "p.png")
    photo = images.read(tmp_path / "p.png")
    assert photo.mode == "RGB" and "palette converted to RGB" in photo.notes
    rgb.quantize(16).save(tmp_path / "p.gif", transparency=3)
    photo = images.read(tmp_path / "p.gif")
    assert photo.mode == "RGBA" and images.output(photo)[0] == "PNG"
    rgb.convert("CMYK").save(tmp_path / "c.jpg", icc_profile=b"a CMYK profile")
    photo = images.read(tmp_path / "c.jpg")
    assert photo.mode == "RGB" and photo.icc_profile is None and "CMYK" in photo.notes[0]
    rgb.convert("1").save(tmp_path / "b.png")
    assert images.read(tmp_path / "b.png").mode == "L"


def test_alpha_that_is_multiplied_in_is_divided_out(tmp_path):
    straight = Image.fromarray(samples8(19, 17, 4))
    multiplied = np.asarray(straight.convert("RGBa"))
    tifffile.imwrite(tmp_path / "a.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    with Image.open(tmp_path / "a.tif") as image:
        expected = np.asarray(image.convert("RGBA"))
    photo = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.dstack((levels(photo), photo.alpha)), expected)


def test_whole_numbers_of_more_than_sixteen_bits(tmp_path):
    for top, fits in ((65535, True), (65536, False)):
        values = np.full((5, 4), top, np.int32)
        values[0] = 0
        Image.fromarray(values).save(tmp_path / "i.tif")
        if fits:
            np.testing.assert_array_equal(levels(images.read(tmp_path / "i.tif"))[..., 0], values)
        else:
            with pytest.raises(images.Refused, match="integers of more than 16 bits"):
                images.read(tmp_path / "i.tif")


def test_bits_that_cannot_be_read_are_noted(tmp_path):
    samples = samples16(3)
    header = struct.pack(">hbbHHHHll4x80sl404x", 474, 0, 2, 3, 17, 19, 3, 0, 65535, b"", 0)
    (tmp_path / "a.sgi").write_bytes(header + samples[::-1].transpose(2, 0, 1).astype(">u2").tobytes())
    (tmp_path / "a.ppm").write_bytes(b"P6 17 19 4095\n" + (samples >> 4).astype(">u2").tobytes())
    for name in ("a.sgi", "a.ppm"):
        photo = images.read(tmp_path / name)
        assert photo.bits == 8 and "more than 8 bits, of which 8 are read" in photo.notes
        np.testing.assert_allclose(levels(photo), samples >> 8, atol=1)


def test_jpeg_becomes_png_and_says_so(tmp_path):
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / "a.jpg")
    assert images.output(images.read(tmp_path / "a.jpg")) == ("PNG", ".png", "written as PNG, since JPEG is lossy")


def test_a_misnamed_file_gets_the_suffix_of_its_format(tmp_path):
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / "a.jpg", "PNG")
    assert images.output(images.read(tmp_path / "a.jpg"))[1] == ".png"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_orientation_is_applied_and_forgotten_but_other_exif_stays(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    source = tmp_path / f"in{suffix}"
    Image.fromarray(samples8(18, 14, 3)).save(source, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(source) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    again, target, _ = rewrite(source)
    np.testing.assert_array_equal(levels(again), upright)
    with Image.open(target) as image:
        image.load()
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("dtype", "bands"), [(np.uint8, 1), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)])
def test_a_tiff_of_any_kind_is_turned(tmp_path, dtype, bands, compression, orientation):
    samples = RNG.integers(0, 256, (18, 14, bands), dtype=np.uint16).astype(dtype)
    tifffile.imwrite(
        tmp_path / "t.tif",
        samples.squeeze(),
        photometric="rgb" if bands > 1 else "minisblack",
        extrasamples=["unassalpha"] if bands == 4 else None,
        compression=compression,
        extratags=[(274, "H", 1, orientation, True)],
    )
    turned = np.stack(
        [ImageOps.exif_transpose(with_orientation(samples[..., band], orientation)) for band in range(bands)], -1
    )
    photo = images.read(tmp_path / "t.tif")
    np.testing.assert_array_equal(levels(photo), turned[..., :3])
    if bands == 4:
        np.testing.assert_array_equal(photo.alpha, turned[..., 3])


def with_orientation(samples: np.ndarray, orientation: int) -> Image.Image:
    image = Image.fromarray(samples)
    image.getexif()[0x0112] = orientation
    return image


def test_exif_of_sixteen_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    samples = samples16(3)
    (tmp_path / "o.png").write_bytes(png16(samples, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    again, target, _ = rewrite(tmp_path / "o.png")
    np.testing.assert_array_equal(levels(again), np.rot90(samples, -1))
    with Image.open(target) as image:
        assert dict(image.getexif()) == {0x010F: "maker"}


def test_the_colour_profile_is_kept_where_the_format_can(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(samples8(19, 17, 3))
    for name in ("a.png", "a.tif", "a.webp", "a.jpg"):
        picture.save(tmp_path / name, icc_profile=profile)
        again, _, notes = rewrite(tmp_path / name)
        assert again.icc_profile == profile and notes == []
    (tmp_path / "d.png").write_bytes(png16(samples16(3), chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))))
    again, _, _ = rewrite(tmp_path / "d.png")
    assert again.icc_profile == profile and again.bits == 16


def xmp_of(path: Path) -> bytes:
    with Image.open(path) as image:
        image.load()
        found = image.info["xmp"]
        return found if isinstance(found, bytes) else found.encode()


def save_with_xmp(path: Path, xmp: bytes, deep: bool = False) -> Path:
    text = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp)
    if deep:
        path.write_bytes(png16(samples16(3), text))
    elif path.suffix == ".png":
        plain = io.BytesIO()
        Image.fromarray(samples8(19, 17, 3)).save(plain, "PNG")
        path.write_bytes(plain.getvalue()[:33] + text + plain.getvalue()[33:])
    elif path.suffix == ".tif":
        tags = Image.Exif()
        tags[700] = xmp
        Image.fromarray(samples8(19, 17, 3)).save(path, exif=tags)
    else:
        Image.fromarray(samples8(19, 17, 3)).save(path, xmp=xmp)
    return path


@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.tif", "a.webp", "a.jpg"])
def test_xmp_is_kept(tmp_path, name):
    source = save_with_xmp(tmp_path / name, XMP, deep=name == "deep.png")
    photo, target, notes = rewrite(source)
    assert (photo.xmp, xmp_of(target), notes) == (XMP, XMP, [])
    assert images.read(source).notes == ()


@pytest.mark.parametrize("turned", [b' tiff:Orientation="6"', b"><tiff:Orientation>6</tiff:Orientation"])
def test_an_orientation_in_xmp_is_applied_and_forgotten(tmp_path, turned):
    xmp = (
        XMP.replace(b" dc:rights", turned + b" dc:rights")
        if turned[:1] == b" "
        else XMP.replace(b"/></rdf:RDF", turned + b"></rdf:Description></rdf:RDF")
    )
    source = save_with_xmp(tmp_path / "a.png", xmp)
    with Image.open(source) as image:
        upright = np.rot90(np.asarray(image), -1)
    again, target, _ = rewrite(source)
    np.testing.assert_array_equal(levels(again), upright)
    assert b"Orientation" not in xmp_of(target) and b"\xc2\xa9 me" in xmp_of(target)


def test_xmp_that_is_lost_is_noted(tmp_path):
    photo = replace(images.read(save_with_xmp(tmp_path / "a.png", XMP)), format="BMP", suffix=".bmp")
    assert images.write(photo, photo.colour, tmp_path / "a.bmp") == ["XMP data are not kept in BMP"]
    damaged = save_with_xmp(tmp_path / "a.webp", b"\xff\xfe\x00\xd8")
    photo = images.read(damaged)
    assert photo.xmp is None and photo.notes == ("its XMP data are damaged and left out",)
    extended = XMP.replace(b" dc:rights", b' xmpNote:HasExtendedXMP="0123" dc:rights')
    notes = images.read(save_with_xmp(tmp_path / "a.jpg", extended)).notes
    assert notes == ("a part of its XMP data is left out, which the file stores apart",)


def test_what_no_result_holds_is_noted(tmp_path):
    picture = Image.fromarray(samples8(19, 17, 3))
    picture.save(tmp_path / "c.jpg", comment="words")
    assert images.read(tmp_path / "c.jpg").notes == ("left out: a comment",)
    picture.save(tmp_path / "c.gif", comment="words")
    assert "left out: a comment" in images.read(tmp_path / "c.gif").notes
    text = chunk(b"tEXt", b"Author\0me")
    source, _ = with_chunk(tmp_path, text)
    assert images.read(source).notes == ("left out: texts",)
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 10) + b"\x1c\x02\x78\0\x05words"
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG")
    segment = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    (tmp_path / "i.jpg").write_bytes(jpeg.getvalue()[:2] + segment + jpeg.getvalue()[2:])
    assert images.read(tmp_path / "i.jpg").notes == ("left out: IPTC data",)


def test_several_frames_give_the_first(tmp_path):
    frames = [Image.fromarray(samples8(19, 17)) for _ in range(3)]
    frames[0].save(tmp_path / "m.tif", save_all=True, append_images=frames[1:])
    photo = images.read(tmp_path / "m.tif")
    np.testing.assert_array_equal(levels(photo)[..., 0], np.asarray(frames[0]))
    assert photo.notes == ("the first of 3 frames or pages",)


def _damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    good = io.BytesIO()
    Image.fromarray(samples8(64, 64, 3)).save(good, "PNG")
    files = {
        "empty": (b"", "the file is empty"),
        "text": (b"hello", "not an image that Pillow can read"),
        "truncated": (good.getvalue()[:-4000], "cannot be decoded: .*truncated"),
        "no pixels": (b"P5 0 5 255\n", "not an image"),
        "huge": (b"P5 100000 100000 255\n" + bytes(10), "larger than 100000000 pixels"),
    }
    result = {}
    for name, (data, message) in files.items():
        (tmp_path / name).write_bytes(data)
        result[name] = (tmp_path / name, message)
    result["missing"] = (tmp_path / "nothing.png", "no such file")
    result["folder"] = (tmp_path, "this is a folder")
    return result


@pytest.mark.parametrize("case", ["empty", "text", "truncated", "no pixels", "huge", "missing", "folder"])
def test_bad_files_are_refused_in_words(tmp_path, case):
    path, message = _damaged(tmp_path)[case]
    with pytest.raises(images.Refused, match=message):
        images.read(path)


def test_the_pixel_limit_holds_for_this_call_only(tmp_path):
    Image.fromarray(samples8(20, 20)).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    for limit in (399, 150):
        with pytest.raises(images.Refused, match=f"larger than {limit} pixels; --max-pixels"):
            images.read(tmp_path / "a.png", max_pixels=limit)
    assert images.read(tmp_path / "a.png", max_pixels=400).colour.shape == (1, 20, 20)
    assert before == Image.MAX_IMAGE_PIXELS


def photo_of(colour: torch.Tensor, alpha: np.ndarray | None = None) -> images.Photo:
    return images.Photo(colour.float(), alpha, 8, "PNG", ".png", None, None, ())


def smooth_picture(height: int, width: int) -> torch.Tensor:
    """(1, H, W): structure at several scales, different at opposite borders."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return (0.5 + 0.25 * torch.sin(9 * x + 4 * y) + 0.2 * (x - 0.5) + 0.05 * torch.sin(40 * x * y))[None]


def test_restore_is_the_wiener_filter():
    colour = torch.rand(3, 31, 22)
    kernel = psf.gaussian(1.2, dtype=torch.float64)
    expected = blurfft.wiener_filter(colour.double()[None], kernel, 0.02)[0]
    torch.testing.assert_close(images.restore(photo_of(colour), kernel, 0.02).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kernel",
    [
        psf.gaussian(2.0, dtype=torch.float64),
        psf.disk(3.0, dtype=torch.float64),
        psf.motion(9, 30, dtype=torch.float64),
    ],
)
def test_taper_removes_the_ringing_from_the_borders(kernel):
    height, width = 97, 101
    kh, kw = kernel.shape
    wide = smooth_picture(height + 2 * kh, width + 2 * kw)
    blurred = blurfft.blur(wide[None], kernel)[0, :, kh : kh + height, kw : kw + width]  # nothing periodic about it
    truth = wide[:, kh : kh + height, kw : kw + width]

    def error(taper: bool) -> float:
        return (images.restore(photo_of(blurred), kernel, 1e-3, taper) - truth).square().mean().sqrt().item()

    assert error(True) < 0.2 * error(False)


def test_edge_taper_keeps_the_middle_and_joins_the_borders():
    image, kernel = torch.rand(40, 50, dtype=torch.float64), psf.gaussian(1.0, dtype=torch.float64)
    tapered = images.edge_taper(image, kernel)
    torch.testing.assert_close(tapered[9:-9, 9:-9], image[9:-9, 9:-9], rtol=0, atol=1e-12)
    blurred = blurfft.blur(image[None, None], kernel)[0, 0]
    torch.testing.assert_close(tapered[0, 0], blurred[0, 0])
    # The weight of the image falls with the autocorrelation of the kernel's projection.
    profile = kernel.sum(0)
    z = torch.nn.functional.conv1d(profile[None, None], profile[None, None], padding=8)[0, 0, 8:]
    weight = 1 - z[3] / z[0]
    expected = weight * image[20, 3] + (1 - weight) * blurred[20, 3]
    torch.testing.assert_close(tapered[20, 3], expected)


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (11, 12), (89, 90), (109, 112), (2049, 2058), (97 + 34, 135)])
def test_smooth(length, expected):
    assert images.smooth(length) == expected


def test_the_colour_under_transparent_pixels_does_not_spread():
    truth = smooth_picture(64, 64).expand(3, -1, -1).clone()
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[20:30, 20:40] = 0
    alpha[:, 60:] = 0
    alpha[40:50, 5:9] = 1
    hidden = torch.from_numpy(alpha == 0)
    kernel = psf.gaussian(1.5, dtype=torch.float64)
    results, spread = [], []
    for colour_below in (0.0, 1.0):
        colour = torch.where(hidden, torch.tensor(colour_below), truth)
        spread.append(images.restore(photo_of(colour), kernel, 0.01, taper=True)[:, ~hidden])
        restored = images.restore(photo_of(colour, alpha), kernel, 0.01, taper=True)
        assert (restored[:, hidden] == colour_below).all()
        results.append(restored[:, ~hidden])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    for ignoring_alpha in spread:
        visible = truth[:, ~hidden]
        assert (results[0] - visible).abs().max() < 0.25 * (ignoring_alpha - visible).abs().max()


def test_an_invisible_picture_is_left_alone():
    colour = torch.rand(3, 16, 16)
    restored = images.restore(
        photo_of(colour, np.zeros((16, 16), np.uint8)), psf.gaussian(1.0, dtype=torch.float64), 0.01
    )
    torch.testing.assert_close(restored, colour, rtol=0, atol=0)


def test_restore_refuses_what_cannot_work():
    with pytest.raises(images.Refused, match=r"10 x 8 pixels are fewer than the kernel has, 17 x 17"):
        images.restore(photo_of(torch.rand(1, 8, 10)), psf.gaussian(2.0, dtype=torch.float64), 0.01)
    with pytest.raises(images.Refused, match=r"nsr = 0 is too small"):
        images.restore(photo_of(torch.rand(1, 16, 16)), torch.tensor([[0.25, 0.5, 0.25]]), 0.0)


def test_values_are_clipped_and_rounded(tmp_path):
    photo = photo_of(torch.tensor([[[-0.5, 0.499 / 255, 0.501 / 255, 1.7]]]))
    images.write(photo, photo.colour, tmp_path / "a.png")
    np.testing.assert_array_equal(levels(images.read(tmp_path / "a.png"))[0, :, 0], [0, 0, 1, 255])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic(target) as file:
        file.write(b"new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with atomic(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_alpha_multiplied_into_sixteen_bits_is_divided_out(tmp_path, order, compression):
    colour, alpha = samples16(3), samples16(1)
    alpha[0, :3, 0] = 0, 1, 65535
    multiplied = np.rint(colour * (alpha / 65535.0)).astype(np.uint16)
    samples = np.dstack((multiplied, alpha))
    source = tmp_path / "a.tif"
    options = {"photometric": "rgb", "extrasamples": ["assocalpha"], "byteorder": order, "compression": compression}
    tifffile.imwrite(source, samples, **options)
    photo = images.read(source)
    np.testing.assert_array_equal(photo.alpha, alpha[..., 0])
    # Rounding when it was multiplied is off by at most 1/2, which the division makes larger.
    error = np.abs(levels(photo) - colour.astype(int))
    assert (error <= np.ceil(0.5 * 65535 / np.maximum(alpha, 1)))[alpha[..., 0] > 0].all()
    again, _, _ = rewrite(source)
    np.testing.assert_array_equal(levels(again), levels(photo))
    np.testing.assert_array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(tmp_path, dtype):
    top = np.iinfo(dtype).max
    samples = RNG.integers(0, top + 1, (19, 17), dtype=dtype)
    tifffile.imwrite(tmp_path / "w.tif", samples, photometric="miniswhite")
    again, _, _ = rewrite(tmp_path / "w.tif")
    for photo in (images.read(tmp_path / "w.tif"), again):
        np.testing.assert_array_equal(levels(photo)[..., 0], top - samples.astype(int))


def test_white_is_zero_in_floating_point(tmp_path):
    samples = RNG.uniform(0, 1, (19, 17)).astype(np.float32)
    tifffile.imwrite(tmp_path / "w.tif", samples, photometric="miniswhite")
    photo = images.read(tmp_path / "w.tif")
    np.testing.assert_allclose(photo.colour[0].numpy(), 1 - samples, atol=1e-6)
    tifffile.imwrite(
        tmp_path / "r.tif",
        100 * samples,
        photometric="miniswhite",
        extratags=[(340, "f", 1, -50.0), (341, "f", 1, 150.0)],
    )
    photo = images.read(tmp_path / "r.tif")
    np.testing.assert_allclose(photo.colour[0].numpy(), 100 - 100 * samples, atol=1e-4)
    assert any("counts from white" in note for note in photo.notes)


def tiff_of(bits: int, data: bytes, width: int, height: int) -> bytes:
    """A grey TIFF of one strip."""
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 3, height), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    padded = data + bytes(len(data) % 2)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + directory


def test_twelve_bits_fill_the_range(tmp_path):
    (tmp_path / "t.tif").write_bytes(tiff_of(12, bytes([0x00, 0x0F, 0xFF, 0x80, 0x08, 0x00]), 4, 1))
    np.testing.assert_array_equal(levels(images.read(tmp_path / "t.tif"))[0, :, 0], [0, 65535, 0x8008, 0x8008])


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (-3, np.int8, "integers below 0"),
        (-3, np.int16, "integers below 0"),
        (-3, np.int32, "integers below 0"),
        (2**16, np.int32, "integers of more than 16 bits"),
        (2**31, np.uint32, "integers of more than 16 bits"),
    ],
)
def test_integers_out_of_range_are_named(tmp_path, value, dtype, words):
    tifffile.imwrite(tmp_path / "s.tif", np.full((4, 4), value, dtype))
    with pytest.raises(images.Refused, match=words):
        images.read(tmp_path / "s.tif")


def test_floats_whose_sums_are_out_of_range_are_named(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", np.full((16, 16), 3e38, np.float32))
    with pytest.raises(images.Refused, match=r"scale them to \[0, 1\]"):
        images.restore(images.read(tmp_path / "f.tif"), psf.gaussian(1.0), 0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_channel_without_a_meaning_is_noted(tmp_path, dtype):
    samples = RNG.integers(0, 256, (19, 17, 4), dtype=np.uint16).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    photo = images.read(tmp_path / "x.tif")
    np.testing.assert_array_equal(levels(photo), samples[..., :3])
    assert photo.alpha is None and "a channel without a meaning is left out" in photo.notes


def avif_header(flags: int) -> bytes:
    return b"av1C" + bytes([0x81, 0x00, flags, 0])


def test_the_depth_of_compressed_colour_is_read_from_its_header():
    siz = b"\xff\x4f\xff\x51" + bytes(38)
    assert [decoded._codestream_bits(b"jP" + siz + bytes([ssiz])) for ssiz in (7, 15, 0x8B)] == [8, 16, 12]
    assert [decoded._av1_bits(avif_header(flags)) for flags in (0x0C, 0x4C, 0x6C)] == [8, 10, 12]


def test_depth_that_is_lost_is_noted(tmp_path):
    words = "more than 8 bits, of which 8 are read"
    tifffile.imwrite(tmp_path / "cmyk.tif", samples16(4), photometric="separated")
    photo = images.read(tmp_path / "cmyk.tif")
    assert photo.bits == 8 and photo.notes == ("converted from CMYK to RGB, without its colour profile", words)
    for name in ("a.jp2", "a.png", "a.tif", "a.webp"):
        Image.fromarray(samples8(19, 17, 3)).save(tmp_path / name)
        assert words not in images.read(tmp_path / name).notes


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_the_depth_of_an_avif(tmp_path):
    Image.fromarray(samples8(24, 20, 3)).save(tmp_path / "a.avif")
    whole = bytearray((tmp_path / "a.avif").read_bytes())
    with Image.open(tmp_path / "a.avif") as image:
        assert decoded.stored_bits(image) == 8
        whole[whole.index(b"av1C") + 6] |= 0x40
        image.fp = image._fp = io.BytesIO(whole)
        assert decoded.stored_bits(image) == 10


def test_the_depth_of_a_jpeg_2000(tmp_path):
    Image.fromarray(samples16(1)[..., 0]).save(tmp_path / "g.jp2")
    with Image.open(tmp_path / "g.jp2") as image:
        assert decoded.stored_bits(image) == 16


def with_chunk(tmp_path: Path, *extra: bytes) -> tuple[Path, np.ndarray]:
    pixels = samples8(19, 17, 3)
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, "PNG")
    (tmp_path / "c.png").write_bytes(plain.getvalue()[:33] + b"".join(extra) + plain.getvalue()[33:])
    return tmp_path / "c.png", pixels


EXIF_OF_A_MAKER = b"MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0\x04abc\0\0\0\0\0"
LONG_TEXT = chunk(b"zTXt", b"w\0\0" + zlib.compress(bytes(1048577)))


@pytest.mark.parametrize(
    ("extra", "note"),
    [
        (chunk(b"eXIf", b"nonsense"), "its EXIF data are damaged and left out"),
        (chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"), "its EXIF data are damaged and left out"),
        (LONG_TEXT, "its texts are damaged or too long and left out"),
        (
            chunk(b"iTXt", b"w\0\1\0\0\0" + zlib.compress(bytes(1048577))),
            "its texts are damaged or too long and left out",
        ),
        (chunk(b"zTXt", b"w\0\7" + bytes(9)), "its texts are damaged or too long and left out"),
        (chunk(b"tEXt", b"w\0words")[:-1] + b"?", "its texts are damaged or too long and left out"),
        (chunk(b"iCCP", b"name\0\0not compressed"), "its colour profile is damaged and left out"),
        (chunk(b"iCCP", b"name\0\0" + zlib.compress(b"not a profile")), "its colour profile is damaged and left out"),
        (chunk(b"iCCP", b"name\0\7" + zlib.compress(b"x")), "its metadata are damaged and left out"),
        (chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1048577))), "its metadata are damaged and left out"),
        (chunk(b"pHYs", b"\0"), "its metadata are damaged and left out"),
        (chunk(b"gAMA", b"")[:-1] + b"?", "its metadata are damaged and left out"),
    ],
)
def test_damaged_metadata_cost_the_metadata(tmp_path, extra, note):
    source, pixels = with_chunk(tmp_path, extra)
    photo = images.read(source)
    np.testing.assert_array_equal(levels(photo), pixels)
    assert photo.notes == (note,)
    again, _, _ = rewrite(source)
    np.testing.assert_array_equal(levels(again), pixels)


def test_what_is_sound_beside_a_damaged_text_stays(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    source, _ = with_chunk(tmp_path, icc, chunk(b"eXIf", EXIF_OF_A_MAKER), LONG_TEXT)
    photo = images.read(source)
    assert photo.icc_profile == profile and b"abc" in photo.exif


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif"])
def test_metadata_are_damaged_in_other_formats_too(tmp_path, name):
    exif = {} if name == "a.tif" else {"exif": b"Exif\0\0nonsense"}  # a TIFF's EXIF data are its own tags
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / name, icc_profile=b"no profile", **exif)
    photo = images.read(tmp_path / name)
    assert photo.colour.shape == (3, 19, 17) and photo.icc_profile is None
    assert "its colour profile is damaged and left out" in photo.notes
    assert ("its EXIF data are damaged and left out" in photo.notes) == bool(exif)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_damaged_exif_of_an_avif(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    Image.fromarray(samples8(24, 20, 3)).save(tmp_path / "a.avif", exif=exif)
    whole = (tmp_path / "a.avif").read_bytes()
    truth = levels(images.read(tmp_path / "a.avif"))
    at = whole.index(exif.tobytes().removeprefix(b"Exif\0\0")[:8])
    (tmp_path / "a.avif").write_bytes(whole[:at] + b"nonsense" + whole[at + 8 :])
    photo = images.read(tmp_path / "a.avif")
    np.testing.assert_array_equal(levels(photo), truth)
    assert photo.exif is None and "its EXIF data are damaged and left out" in photo.notes


def test_metadata_that_cannot_be_written_cost_the_metadata(tmp_path):
    photo = replace(photo_of(torch.rand(3, 4, 5)), format="TIFF", suffix=".tif", exif=b"Exif\0\0nonsense")
    assert images.write(photo, photo.colour, tmp_path / "a.tif") == ["EXIF data are not kept in TIFF"]
    np.testing.assert_array_equal(levels(images.read(tmp_path / "a.tif")), levels(photo))


def test_damaged_pixels_are_no_damaged_metadata(tmp_path):
    source, _ = with_chunk(tmp_path, LONG_TEXT)
    source.write_bytes(source.read_bytes()[:-200])
    with pytest.raises(images.Refused, match="cannot be decoded"):
        images.read(source)


def psd(pixels: np.ndarray, layers: int) -> bytes:
    """A PSD with uncompressed layers of noise above its composite (H, W, 3)."""
    height, width, _ = pixels.shape
    records = planes = b""
    for _ in range(layers):
        channels = b"".join(struct.pack(">hI", c, 2 + width * height) for c in range(3))
        extra = bytes(8) + b"\x03abc"
        records += struct.pack(">iiiiH", 0, 0, height, width, 3) + channels + b"8BIMnorm\xff\0\0\0"
        records += struct.pack(">I", len(extra)) + extra
        planes += b"".join(bytes(2) + samples8(height, width).tobytes() for _ in range(3))
    info = struct.pack(">h", layers) + records + planes
    info += bytes(len(info) % 2)
    section = struct.pack(">I", len(info)) + info + bytes(4)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3) + bytes(8)
    return head + struct.pack(">I", len(section)) + section + bytes(2) + pixels.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_psd_gives_its_composite(tmp_path, layers):
    pixels = samples8(60, 80, 3)
    (tmp_path / "a.psd").write_bytes(psd(pixels, layers))
    photo = images.read(tmp_path / "a.psd")
    np.testing.assert_array_equal(levels(photo), pixels)
    assert photo.notes == (("the composite of 3 layers",) if layers == 3 else ())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.bmp", "deep.png"])
def test_the_resolution_is_kept(tmp_path, name):
    source = tmp_path / name
    if name == "deep.png":
        source.write_bytes(png16(samples16(3), chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1))))
    else:
        Image.fromarray(samples8(19, 17, 3)).save(source, dpi=(300, 300 if name == "a.jpg" else 150))
    _, target, notes = rewrite(source)
    with Image.open(target) as image:
        np.testing.assert_allclose(
            [float(x) for x in image.info["dpi"]], (300, 300 if name == "a.jpg" else 150), atol=0.1
        )
    assert notes == []


@pytest.mark.parametrize("samples", [samples8(9, 8), samples8(9, 8, 3), samples16(1)[..., 0], np.ones((9, 8), "f4")])
def test_a_resolution_that_is_not_there_is_not_made_up(tmp_path, samples):
    """Pillow says that a TIFF without one has 1 dpi."""
    Image.fromarray(samples).save(tmp_path / "a.tif")
    photo, target, _ = rewrite(tmp_path / "a.tif")
    assert photo.dpi is None
    with Image.open(target) as image:
        assert not {282, 283} & {*image.tag_v2}


def test_a_tiff_without_a_picture(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(images.Refused, match="a TIFF without a picture, or one that is damaged"):
        images.read(tmp_path / "a.tif")


def test_the_resolution_turns_with_the_photograph(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[282], exif[283], exif[296] = 6, 300.0, 150.0, 2
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / "a.png", exif=exif, dpi=(300, 150))
    photo, target, _ = rewrite(tmp_path / "a.png")
    assert photo.dpi == pytest.approx((150, 300), abs=0.1)
    with Image.open(target) as image:
        assert image.getexif()[282] == pytest.approx(150) and image.getexif()[283] == pytest.approx(300)


def test_a_resolution_that_is_lost_is_noted(tmp_path):
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / "a.png", dpi=(300, 300))
    photo = replace(images.read(tmp_path / "a.png"), format="WEBP", suffix=".webp")
    assert images.write(photo, photo.colour, tmp_path / "a.webp") == ["resolution is not kept in WEBP"]


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "\N{SNOWMAN}" * 83 + ".png", "~x.png", ".a.1.part.png"])
def test_names_of_any_length(tmp_path, name):
    photo = photo_of(torch.rand(1, 4, 5))
    images.write(photo, photo.colour, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert images.read(tmp_path / name).colour.shape == (1, 4, 5)


def test_names_that_no_file_can_have(tmp_path):
    with pytest.raises(images.Refused, match="File name too long"):
        images.read(tmp_path / ("a" * 300))
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(images.Refused, match="no such file"):
        images.read(tmp_path / "a.png" / "b.png")


@pytest.mark.parametrize(
    ("start", "name", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.heic", "HEIC .*pip install pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a.jpg", "HEIC .*pip install pillow-heif"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a.cr3", "camera's raw file.* darktable"),
        (b"FUJIFILMCCD-RAW 0201", "a.raf", "camera's raw file"),
        (b"\xff\x0a" + bytes(30), "a.jxl", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a.jxl", "JPEG XL"),
        (b"v/1\x01\2\0\0\0", "a.exr", "OpenEXR"),
        (b"#?RADIANCE\n", "a.hdr", "Radiance HDR"),
        (b"%PDF-1.7\n", "a.pdf", "a PDF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "a.avif", "AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "an SVG, which has no pixels"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a.mp4", "a video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "a.avif", "AVIF"),
        (b"PF\n9 8\n-1.0\n", "a.pfm", "a PFM in colour"),
        (b"P7\nWIDTH 2\n", "a.pam", "PAM"),
        (b"8BPS\0\2", "a.psb", "PSB"),
        (b"SIMPLE  =                    T", "a.fits", "FITS"),
        (b"SDPX", "a.dpx", "DPX"),
        (b"\x93NUMPY\1\0", "a.npy", "an array of NumPy"),
        (bytes(128) + b"DICM", "a.dcm", "DICOM"),
        (b"PK\3\4", "a.kra", "an archive, or a drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a.png", "git lfs pull"),
        (b"\n<!DOCTYPE html><title>404</title>", "a.jpg", "a web page"),
    ],
)
def test_formats_that_pillow_does_not_read_are_named(tmp_path, start, name, words):
    if b"heic" in start and importlib.util.find_spec("pillow_heif"):
        pytest.skip("pillow-heif is installed and reads it")
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(images.Refused, match=words):
        images.read(tmp_path / name)


def test_heic_where_pillow_heif_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    y, x = np.mgrid[:48, :64]
    pixels = np.dstack([x * 4, y * 5, 2 * (x + y)])
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    heif = pillow_heif.from_pillow(Image.fromarray(pixels.astype(np.uint8)))
    heif.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    photo = images.read(tmp_path / "a.heic")
    np.testing.assert_allclose(levels(photo), np.rot90(pixels, -1), atol=10)
    assert b"maker" in photo.exif and images.output(photo)[:2] == ("PNG", ".png")
    with pytest.raises(images.Refused, match="larger than 100 pixels"):
        images.read(tmp_path / "a.heic", max_pixels=100)
    pillow_heif.from_bytes("RGB;16", (17, 19), samples16(3).tobytes()).save(tmp_path / "deep.heic", quality=-1)
    assert images.read(tmp_path / "deep.heic").notes == ("more than 8 bits, of which 8 are read",)


def test_the_preview_in_a_raw_file_is_not_taken_for_the_photograph(tmp_path):
    for name, extra in (("a.nef", []), ("a.tif", [(50706, "B", 4, (1, 4, 0, 0))])):
        tifffile.imwrite(tmp_path / name, samples8(4, 4), extratags=extra)
        with pytest.raises(images.Refused, match="raw file, of which Pillow reads the preview"):
            images.read(tmp_path / name)


def test_settings_of_the_process_stay(tmp_path, monkeypatch):
    """Whatever happens to the file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    Image.fromarray(samples8(19, 17, 3)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-300])
    with_chunk(tmp_path, LONG_TEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        images.read(tmp_path / "good.png")
        images.read(tmp_path / "c.png")
        with pytest.raises(images.Refused):
            images.read(tmp_path / "cut.png")
        assert warnings.filters == before
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (12345, False)


def test_only_who_has_the_option_is_told_of_it(tmp_path):
    (tmp_path / "huge.pgm").write_bytes(b"P5 100000 100000 255\n" + bytes(10))
    with pytest.raises(images.Refused, match=r"^larger than 100000000 pixels$"):
        images.read(tmp_path / "huge.pgm")
