from __future__ import annotations

import io
import math
import warnings
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import blurfft
from blurfft import psf

exact = SimpleNamespace(
    **{f.__name__: partial(f, dtype=torch.float64) for f in (psf.gaussian, psf.disk, psf.motion, psf.load, psf.parse)}
)

KERNELS = [
    exact.gaussian(0.4),
    exact.gaussian(2.0),
    exact.gaussian(3.0, size=5),
    exact.disk(0.3),
    exact.disk(0.5),
    exact.disk(1.0),
    exact.disk(4.7),
    exact.motion(0),
    exact.motion(7),
    exact.motion(7.5, 90),
    exact.motion(15, 30),
    exact.motion(1e-6, 12),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_is_a_centred_density_of_odd_size(kernel):
    assert kernel.dtype == torch.float64 and kernel.dim() == 2
    assert all(side % 2 == 1 for side in kernel.shape)
    assert (kernel >= 0).all()
    assert kernel.sum().item() == pytest.approx(1, abs=1e-14)
    # All three blurs are symmetric about their centre.
    torch.testing.assert_close(kernel, kernel.flip(0, 1), rtol=0, atol=1e-15)


def test_gaussian_is_the_density_at_the_pixel_centres():
    sigma = 1.7
    kernel = exact.gaussian(sigma)
    assert kernel.shape == (15, 15)
    assert (kernel[9, 10] / kernel[7, 7]).item() == pytest.approx(math.exp(-(4 + 9) / (2 * sigma**2)))
    assert exact.gaussian(sigma, size=3).shape == (3, 3)


@pytest.mark.parametrize("radius", [0.4, 0.5, 0.9, 2.0, 3.3])
def test_disk_covers_each_pixel_by_the_exact_area(radius):
    kernel = exact.disk(radius)
    half, fine = kernel.shape[0] // 2, 400
    axis = (torch.arange((2 * half + 1) * fine, dtype=torch.float64) + 0.5) / fine - half - 0.5
    inside = (axis.square() + axis.square()[:, None] <= radius**2).double()
    area = torch.nn.functional.avg_pool2d(inside[None], fine)[0]
    torch.testing.assert_close(kernel, area / area.sum(), rtol=0, atol=2e-4 / radius**2)
    # The areas themselves add up to that of the disk: the centre pixel of a large disk is wholly covered.
    if radius > 1:
        assert (1 / kernel[half, half]).item() == pytest.approx(math.pi * radius**2, rel=1e-12)


@pytest.mark.parametrize(("length", "angle"), [(9.3, 17), (5, 90), (4, 45), (6.5, -60), (0.7, 100)])
def test_motion_is_the_mean_over_the_path(length, angle):
    kernel = exact.motion(length, angle)
    n = 100_000
    t = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) * length
    x, y = t * math.cos(math.radians(angle)), -t * math.sin(math.radians(angle))
    rows, columns = (torch.arange(side) - side // 2 for side in kernel.shape)
    mean = torch.einsum(
        "un,vn->uv", (1 - (rows[:, None] - y).abs()).clamp(min=0), (1 - (columns[:, None] - x).abs()).clamp(min=0)
    )
    torch.testing.assert_close(kernel, mean / n, rtol=0, atol=1e-8)


def test_motion_angle_turns_counter_clockwise_as_seen():
    streak = exact.motion(10, 45)
    assert streak[0, -1] > 0 and streak[0, 0] == 0
    torch.testing.assert_close(exact.motion(10, 210), exact.motion(10, 30))
    torch.testing.assert_close(exact.motion(10, 90), exact.motion(10, 0).T)
    assert exact.motion(10, 180).shape == (1, 11)


def test_load_normalises_arrays_and_images(tmp_path: Path):
    array = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "k.npy", array)
    torch.testing.assert_close(exact.load(tmp_path / "k.npy"), torch.from_numpy(array / array.sum()).double())
    for name, pixels in (("8.png", array.astype(np.uint8)), ("16.png", array.astype(np.uint16) * 5000)):
        Image.fromarray(pixels).save(tmp_path / name)
        torch.testing.assert_close(exact.load(tmp_path / name), exact.load(tmp_path / "k.npy"), rtol=1e-6, atol=0)
    Image.fromarray(array.astype(np.uint8)).convert("RGB").save(tmp_path / "rgb.png")
    torch.testing.assert_close(exact.parse(str(tmp_path / "rgb.png")), exact.load(tmp_path / "8.png"))


def test_parse_makes_what_it_says():
    torch.testing.assert_close(exact.parse("gaussian:2.0"), exact.gaussian(2.0))
    torch.testing.assert_close(exact.parse("Disk: 3"), exact.disk(3))
    torch.testing.assert_close(exact.parse("motion:15,-30"), exact.motion(15, -30))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gauss:2", r"'gauss:2' is not a kernel; write gaussian:SIGMA, disk:RADIUS"),
        ("gaussian", r"should read gaussian:SIGMA, for example gaussian:2.0"),
        ("disk:1,2", r"should read disk:RADIUS"),
        ("motion:15", r"should read motion:LENGTH,ANGLE, for example motion:15,30"),
        ("motion:15,north", r"not a number; it should read motion:LENGTH,ANGLE"),
        ("gaussian:0", r"sigma must be above 0"),
        ("gaussian:nan", r"sigma must be above 0 and at most 1025 pixels, got nan"),
        ("gaussian:500", r"sigma = 500 makes a kernel of 4001 pixels"),
        ("disk:-3", r"radius must be above 0"),
        ("motion:-1,0", r"length must be from 0"),
        ("motion:5,inf", r"angle must be a finite number of degrees"),
        ("nothing.npy", r"nothing.npy does not exist"),
        ("x" * 300, r"is not a kernel; write gaussian:SIGMA"),
    ],
)
def test_parse_says_what_is_wrong(spec, message):
    with pytest.raises(ValueError, match=message):
        exact.parse(spec)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"must be two-dimensional and not empty, got shape \(3,\)"),
        (np.ones((0, 3)), r"must be two-dimensional and not empty"),
        (np.ones((2, 2000), np.uint8), r"is 2x2000; more than 1025 a side"),
        (np.ones((3, 3), complex), r"must hold real numbers, got complex128"),
        (np.array([[1, np.nan]]), r"has NaN or infinite elements"),
        (np.array([[1.0, -1.0]]), r"must have a positive sum to be normalised, got 0"),
        (np.array([[0.1, 0.2, -0.3 + 1e-16]]), r"must have a positive sum to be normalised, got 1.*e-16"),
        (np.array([[0.1, 0.2, -0.29999998]], np.float32), r"must have a positive sum to be normalised, got 2.*e-08"),
        (np.array([[{}]], dtype=object), r"cannot be read: .*allow_pickle"),
    ],
)
def test_load_refuses_what_is_no_kernel(tmp_path, array, message):
    np.save(tmp_path / "k.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        exact.load(tmp_path / "k.npy")


def test_load_refuses_damaged_files(tmp_path):
    for name in ("k.npy", "k.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\nnot really")
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            exact.load(tmp_path / name)
    header = np.lib.format.magic(1, 0) + b"\x05\x00((((\n"
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<f8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
    )
    for content in (header, huge.getvalue()):
        (tmp_path / "k.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"k\.npy cannot be read"):
            exact.load(tmp_path / "k.npy")


def test_an_archive_is_no_kernel(tmp_path):
    np.savez(tmp_path / "k.npz", np.ones((3, 3)))
    (tmp_path / "k.npz").rename(tmp_path / "k.npy")
    with pytest.raises(ValueError, match=r"k\.npy cannot be read"):
        exact.load(tmp_path / "k.npy")


def test_a_disk_within_a_pixel():
    for radius in (1e-200, 0.1, 0.5):
        assert exact.disk(radius).equal(torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: exact.gaussian("2"), "sigma"),
        (lambda: exact.disk("a"), "radius"),
        (lambda: exact.motion(True), "length"),
        (lambda: exact.motion(3, None), "angle"),
        (lambda: exact.load(3), "path"),
        (lambda: exact.parse(None), "spec"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(call, name):
    with pytest.raises(TypeError, match=f"^{name} must be a "):
        call()


def test_any_real_number_will_do():
    assert exact.gaussian(np.float32(2)).equal(exact.gaussian(2))
    assert exact.disk(np.int64(3)).equal(exact.disk(3))
    assert exact.gaussian(Fraction(3, 2), np.int64(7)).equal(exact.gaussian(1.5, 7))
    assert exact.disk(Fraction(3, 2)).equal(exact.disk(1.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exact.motion(Fraction(31, 2), np.float16(30)).equal(exact.motion(15.5, 30))
    for call in (lambda: exact.gaussian(10**400), lambda: exact.motion(10**400), lambda: exact.motion(1, 10**400)):
        with pytest.raises(ValueError, match=r"^(sigma|length|angle) must be "):
            call()


def test_the_longest_streak():
    assert exact.motion(1024).shape == (1, 1025)
    with pytest.raises(ValueError, match="length = 1025 makes a kernel of 1027 pixels"):
        exact.motion(1025)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool, "float32"])
def test_a_dtype_that_holds_no_kernel(dtype):
    for make in (psf.gaussian, psf.disk, psf.motion):
        with pytest.raises(TypeError, match=r"^dtype must be a floating-point torch\.dtype, got "):
            make(2.0, dtype=dtype)


def test_a_kernel_whose_sum_is_out_of_range(tmp_path):
    for size in (1e308, 3e307, 1.0, 1e-300):
        np.save(tmp_path / "k.npy", size * np.array([[0.5, 1.0, -0.25], [0.5, 0.75, 0.0]]))
        expected = torch.tensor([[1.0, 2.0, -0.5], [1.0, 1.5, 0.0]], dtype=torch.float64) / 5
        torch.testing.assert_close(psf.load(tmp_path / "k.npy", dtype=torch.float64), expected)


def test_a_folder_is_no_kernel(tmp_path):
    for spec in (str(tmp_path), "."):
        with pytest.raises(ValueError, match=r"is a folder$"):
            psf.parse(spec)


def test_size_must_be_odd():
    for size in (4, 0, -1, 2.5, True):
        with pytest.raises(ValueError, match="size must be an odd positive int"):
            exact.gaussian(1.0, size=size)


@pytest.mark.parametrize(
    "spec", ["motion:5e-324,0", "motion:1e-300,45", "motion:1e-10,90", "gaussian:5e-324", "disk:5e-324"]
)
def test_the_smallest_numbers_are_no_blur(spec):
    kernel = psf.parse(spec)
    expected = torch.zeros_like(kernel)
    expected[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    assert kernel.equal(expected)


def drawn(pixels: np.ndarray, folder: Path) -> torch.Tensor:
    Image.fromarray(pixels).save(folder / "drawn.png")
    return psf.load(folder / "drawn.png")


@pytest.mark.parametrize("ink", [0, 90, 255])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_kernel_drawn_in_alpha(tmp_path, ink, bands):
    shape = np.arange(12, dtype=np.uint8).reshape(3, 4)
    pixels = np.dstack([np.full((3, 4, bands), ink, np.uint8), 20 * shape])
    torch.testing.assert_close(drawn(pixels, tmp_path).double(), torch.from_numpy(shape / shape.sum()))


def test_alpha_hides_what_is_drawn_in_colour(tmp_path):
    grey = np.array([[10, 20], [30, 40]], np.uint8)
    opacity = np.array([[255, 255], [255, 0]], np.uint8)
    expected = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64) / 6
    torch.testing.assert_close(drawn(np.dstack([grey, opacity]), tmp_path).double(), expected)


def test_a_kernel_in_sixteen_bits_and_in_the_home_folder(tmp_path, monkeypatch):
    samples = np.array([[1, 65535], [300, 2]], np.uint16)
    Image.fromarray(samples).save(tmp_path / "k.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.testing.assert_close(psf.parse("~/k.png").double(), torch.from_numpy(samples / samples.sum()))
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(tmp_path / "kernel", "PNG")
    assert psf.parse("~/kernel").shape == (3, 3)


def test_a_kernel_that_counts_from_white(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    samples = np.array([[1, 9], [4, 2]], np.uint16)
    tifffile.imwrite(tmp_path / "k.tif", 65535 - samples, photometric="miniswhite")
    torch.testing.assert_close(psf.load(tmp_path / "k.tif").double(), torch.from_numpy(samples / samples.sum()))


@pytest.mark.parametrize("make", [partial(psf.gaussian, 1.0), partial(psf.disk, 2.3), partial(psf.motion, 7, 30)])
def test_kernels_come_as_asked_for(make):
    truth = make(dtype=torch.float64)
    assert make().dtype == torch.float32 and make().device.type == "cpu"
    assert make().equal(truth.float())
    assert make(dtype=torch.bfloat16, device="meta").device.type == "meta"
    with torch.device("meta"):
        assert make().equal(truth.float())
        assert make(device="meta").shape == truth.shape
        assert blurfft.WienerLoss(make()).kernel.shape == truth.shape
    torch.set_default_dtype(torch.float64)
    try:
        assert make().equal(truth)
    finally:
        torch.set_default_dtype(torch.float32)


def test_loaded_kernels_come_as_asked_for(tmp_path):
    np.save(tmp_path / "k.npy", np.arange(6.0).reshape(2, 3))
    with torch.device("meta"):
        kernel = psf.parse(str(tmp_path / "k.npy"))
    torch.testing.assert_close(kernel, torch.arange(6.0).view(2, 3) / 15)
    assert psf.load(tmp_path / "k.npy", dtype=torch.float64, device="meta").dtype == torch.float64
