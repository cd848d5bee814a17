from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import blurfft
from blurfft import _dispatch, _ext, cli, images, info, psf, selfcheck
from blurfft.cli import check, terminal

RNG = np.random.default_rng(0)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="blurfft")


def words(text: str) -> str:
    """The text without frames and line breaks, which depend on the terminal's width."""
    return " ".join(text.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_module_and_version():
    result = subprocess.run(
        [sys.executable, "-m", "blurfft", "--version"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode, result.stdout) == (0, f"blurfft {blurfft.__version__}\n")


def test_help_teaches():
    assert "deblur" in run("--help").output
    text = words(run("deblur", "--help").output)
    for expected in (
        "blurfft deblur holiday.jpg -o sharp --kernel gaussian:2 --taper",
        "motion:LENGTH,ANGLE",
        "opposite borders count as neighbours",
        "Smaller is sharper, with more noise and ringing",
        "How to find the kernel",
    ):
        assert expected in text
    for command in ("info", "check", "demo"):
        assert f"Examples blurfft {command}" in words(run(command, "-h").output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sharpen"], "No such command 'sharpen'"),
        (["deblur", "a.png", "--kernel", "disk:2"], "Missing option '--out'"),
        (["deblur", "a.png", "-o", "x", "--kernel", "disk"], "should read disk:RADIUS, for example disk:3"),
        (
            ["deblur", "a.png", "-o", "x", "-k", "disk:2", "--nsr", "-1"],
            "it must be a number from 0 to 3.4e+38, got -1.0",
        ),
        (
            ["deblur", "a.png", "-o", "x", "-k", "disk:2", "--nsr", "nan"],
            "it must be a number from 0 to 3.4e+38, got nan",
        ),
        (["deblur", "a.png", "-o", "x", "-k", "disk:2", "--max-pixels", "0"], "--max-pixels"),
        (["check", "--backend", "fastest"], "'fastest' is not one of cuda, cpu, triton, reference"),
        (["check", "--backend", "auto"], "'auto' is not one of cuda, cpu, triton, reference"),
    ],
)
def test_wrong_usage_is_explained(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in words(result.output)
    assert list(tmp_path.iterdir()) == []


def test_info_says_what_serves_what():
    result = run("info")
    text = words(result.output)
    assert result.exit_code == 0
    assert f"torch {torch.__version__}" in text
    for row in _dispatch.explain():
        assert row["name"] in text
        assert words(row["unavailable"] or row["sizes"]) in text or len(row["unavailable"] or row["sizes"]) > 40
    for name, *_ in info.VARIABLES:
        assert name in text


def test_info_agrees_with_the_choice_that_is_made():
    served = {
        (row["height"], row["width"]): row["backend"] for row in info.gather()["serves"] if row["device"] == "cpu"
    }
    assert set(served) == set(info.SIZES)
    for (height, width), name in served.items():
        chosen = _dispatch.select("rfft2", torch.empty(0), height, width)
        with blurfft.use_backend(name):
            assert _dispatch.select("rfft2", torch.empty(0), height, width) is chosen


def test_info_as_json():
    facts = json.loads(run("info", "--json").output)
    assert facts["versions"]["blurfft"] == blurfft.__version__
    assert [row["name"] for row in facts["backends"]] == ["cuda", "cpu", "triton", "reference"]


def test_info_without_extension(monkeypatch):
    monkeypatch.delenv("BLURFFT_BACKEND", raising=False)
    monkeypatch.setattr(_ext, "_load", lambda: (None, "the compiled extension is not built; see [docs]"))
    result = run("info")
    assert result.exit_code == 0
    assert "none the compiled extension is not built; see [docs]" in words(result.output)
    assert {row["backend"] for row in info.gather()["serves"]} == {"reference"}


def test_an_instruction_set_that_is_not_there_is_said_at_once(monkeypatch):
    class Extension:
        __file__ = "blurfft/_C.so"

        @staticmethod
        def build_info() -> dict[str, Any]:
            return {"compiler": "gcc", "torch": "2", "torch_abi": "2.11", "cuda": False, "cuda_reason": "switched off"}

        @staticmethod
        def cpu_capability() -> str:
            if name := os.environ.get("BLURFFT_CPU"):
                raise RuntimeError(f"BLURFFT_CPU is '{name}', but this build on this machine has: baseline.")
            return "baseline"

        @staticmethod
        def cpu_capabilities() -> list[str]:
            return ["baseline"]

        @staticmethod
        def supports_length(length: int) -> bool:
            return True

    monkeypatch.setattr(_ext, "_load", lambda: (Extension, None))
    assert "CUDA no: switched off" in words(run("info").output)
    monkeypatch.setenv("BLURFFT_CPU", "sse9")
    problem = "BLURFFT_CPU is 'sse9', but this build on this machine has: baseline."
    assert problem in words(run("info").output)
    for arguments in (["check"], ["demo"], ["deblur", "a.png", "-o", "x", "-k", "disk:2"]):
        result = run(*arguments)
        assert result.exit_code == 1 and words(result.output) == problem


def test_a_backend_that_does_not_exist_is_said_at_once(monkeypatch):
    monkeypatch.setenv("BLURFFT_BACKEND", "fastest")
    for command in ("info", "check", "demo"):
        result = run(command)
        assert result.exit_code == (0 if command == "info" else 1)
        assert "BLURFFT_BACKEND must be one of 'auto', 'cuda', 'cpu', " in words(result.output)


def test_a_backend_that_cannot_serve_a_photograph_refuses_it(tmp_path, photo):
    if "cpu" not in blurfft.available_backends():
        pytest.skip("the compiled extension is not built")
    Image.new("L", (4099, 9)).save(tmp_path / "long.png")
    with blurfft.use_backend("cpu"):
        result = run("deblur", tmp_path / "long.png", photo, "-o", tmp_path / "out", "-k", "disk:2")
    assert result.exit_code == 1
    assert "refused" in result.output and "backend 'cpu' cannot serve" in result.output
    assert "1 restored, 1 refused" in result.output


def test_this_machine_passes_the_check():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for a core take many times longer
    command = [sys.executable, "-m", "blurfft", "check"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"all \d{3,} passed", result.stdout)


def test_names_that_no_terminal_can_show(tmp_path, photo):
    out = tmp_path / "out"
    names = ["new\nline.png", "esc\x1b[31m.png", "snow\N{SNOWMAN}.png", os.fsdecode(b"bad\xff.png"), "[red].png"]
    for name in names:
        (tmp_path / name).write_bytes(photo.read_bytes())
    command = [sys.executable, "-m", "blurfft", "deblur", "-k", "disk:1", "--panel", "-o", out, "--"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    result = subprocess.run(
        [*command, *(tmp_path / name for name in names)], env=environment, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    shown = result.stdout.decode("ascii")
    assert "\x1b" not in shown and shown.count("\n") == len(names) + 1
    for name in (r"new\nline.png", r"esc\x1b[31m.png", r"snow\u2603.png", r"bad\udcff.png", "[red].png"):
        assert f"{name} -> " in shown
    assert len(list(out.iterdir())) == 2 * len(names)


def test_a_panel_that_cannot_be_written(tmp_path, photo):
    (tmp_path / "out" / "photo-panel.png").mkdir(parents=True)
    result = run("deblur", photo, "-o", tmp_path / "out", "-k", "disk:1", "--panel", "--overwrite")
    assert result.exit_code == 1
    said = words(result.output)
    assert f"cannot write {tmp_path / 'out' / 'photo-panel.png'}: Is a directory" in said
    assert f"the result itself is in {tmp_path / 'out' / 'photo.png'}" in said
    assert (tmp_path / "out" / "photo.png").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    result = run("deblur", tmp_path / "pipe.png", "-o", tmp_path / "out", "-k", "disk:1")
    assert (result.exit_code, "this is no regular file" in words(result.output)) == (1, True)


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "SHAPES", selfcheck.SHAPES[1:3])
    monkeypatch.setattr(selfcheck, "DTYPES", (torch.float32, torch.bfloat16))


@pytest.mark.parametrize("width", ["80", "120"])
def test_check_passes_and_fits_the_terminal(monkeypatch, width):
    few(monkeypatch)
    console = terminal.Console(highlight=False, width=int(width))
    for module in (check, terminal):
        monkeypatch.setattr(module, "console", console)
    result = run("check", "--backend", "reference")
    assert result.exit_code == 0, result.output
    assert "reference: all 36 passed" in result.output
    for op in selfcheck.OPS:
        assert f"\n{op} " in result.output
    assert "…" not in result.output and "FAIL" not in result.output


def test_check_every_size(monkeypatch):
    few(monkeypatch)
    output = run("check", "--backend", "reference", "--all").output
    assert output.count("28x45") == output.count("96x120") == 18


def test_check_finds_a_small_fault(monkeypatch):
    few(monkeypatch)
    blur = blurfft.blur
    monkeypatch.setattr(blurfft, "blur", lambda input, kernel: blur(input, kernel) * (1 + 1e-5))
    result = run("check", "--backend", "reference")
    assert result.exit_code == 1
    # In bfloat16 the fault is below the rounding of the result.
    assert result.output.count("FAIL") == 2 and "2 of 36 failed" in result.output


def test_check_reports_exceptions_and_goes_on(monkeypatch):
    few(monkeypatch)

    def broken(*_: object) -> None:
        raise RuntimeError("kaput [here]")

    monkeypatch.setattr(blurfft, "blur", broken)
    result = run("check", "--backend", "reference")
    assert result.exit_code == 1
    assert "reference blur float32 2x3x28x45: RuntimeError: kaput [here]" in words(result.output)
    assert "4 of 36 failed" in result.output


def test_check_of_a_backend_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("check", "--backend", "cuda")
    assert result.exit_code == 1
    assert "cuda is not available: " in words(result.output)


def test_selfcheck_limits_are_those_of_the_dtype():
    shape = (1, 1, 64, 64)
    limit = {dtype: selfcheck.limit(torch.empty(0, dtype=dtype), shape, False) for dtype in selfcheck.DTYPES}
    gain = 1 / (2 * math.sqrt(selfcheck.NSR))
    assert limit[torch.float32] == pytest.approx(12 * 2**-23 * gain)
    assert limit[torch.float64] == pytest.approx(2 * 12 * 2**-52 * gain)
    assert limit[torch.bfloat16] == pytest.approx(limit[torch.float32] + 2**-8)
    assert limit[torch.float16] == pytest.approx(limit[torch.float32] + 2**-11)


def test_deblur_writes_the_wiener_filtered_photograph(tmp_path, photo):
    result = run("deblur", photo, "-o", tmp_path / "a" / "b", "--kernel", "gaussian:1.0", "--nsr", "0.05")
    assert result.exit_code == 0, result.output
    original = images.read(photo).colour.double()
    expected = blurfft.wiener_filter(original[None], psf.gaussian(1.0, dtype=torch.float64), 0.05)[0].clamp(0, 1)
    restored = images.read(tmp_path / "a" / "b" / "photo.png").colour.double()
    assert (restored - expected).abs().max() < 0.51 / 255


def test_deblur_with_kernel_files_taper_and_panel(tmp_path, photo):
    np.save(tmp_path / "k.npy", psf.gaussian(1.0, dtype=torch.float64).numpy() * 7)
    result = run("deblur", photo, "-o", tmp_path / "out", "-k", tmp_path / "k.npy", "--taper", "--panel")
    assert result.exit_code == 0, result.output
    expected = images.restore(images.read(photo), psf.gaussian(1.0, dtype=torch.float64), 0.01, taper=True)
    restored = images.read(tmp_path / "out" / "photo.png").colour
    assert (restored - expected.clamp(0, 1)).abs().max() < 0.51 / 255
    with Image.open(tmp_path / "out" / "photo-panel.png") as panel:
        pixels = np.asarray(panel)
    np.testing.assert_array_equal(pixels[64:104, 16:66], np.asarray(Image.open(photo)))
    np.testing.assert_array_equal(pixels[64:104, 392:442], np.asarray(Image.open(tmp_path / "out" / "photo.png")))


def test_deblur_refuses_some_and_goes_on(tmp_path, photo):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:3000])
    (tmp_path / "empty.jpg").touch()
    Image.new("L", (3, 3)).save(tmp_path / "tiny.png")
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    names = ("broken.png", "empty.jpg", "missing.png", "photo.png", "tiny.png", "large.png")
    files = [tmp_path / name for name in names]
    result = run("deblur", *files, "-o", tmp_path / "out", "-k", "disk:2", "--max-pixels", 5000)
    assert result.exit_code == 1
    for name, reason in (
        ("broken.png", "cannot be decoded"),
        ("empty.jpg", "the file is empty (0 bytes)"),
        ("missing.png", "no such file"),
        ("tiny.png", "3 x 3 pixels are fewer than the kernel has, 5 x 5"),
        ("large.png", "--max-pixels"),
    ):
        assert any(name in line and reason in line for line in result.output.splitlines()), result.output
    assert "1 restored, 5 refused" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


def test_deblur_never_replaces_silently(tmp_path, photo):
    arguments = ("deblur", photo, "-o", tmp_path / "out", "-k", "gaussian:1")
    assert run(*arguments).exit_code == 0
    before = (tmp_path / "out" / "photo.png").read_bytes()
    again = run(*arguments[:-1], "gaussian:0.5")
    assert again.exit_code == 1 and "exists; --overwrite replaces it" in again.output
    assert (tmp_path / "out" / "photo.png").read_bytes() == before
    assert run(*arguments[:-1], "gaussian:0.5", "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "photo.png").read_bytes() != before

    original = photo.read_bytes()
    own = run("deblur", photo, "-o", tmp_path, "-k", "gaussian:1", "--overwrite")
    assert own.exit_code == 1 and "is one of the inputs" in own.output
    assert photo.read_bytes() == original


def test_deblur_two_photographs_of_one_name(tmp_path, photo):
    other = tmp_path / "other" / "photo.jpg"
    other.parent.mkdir()
    Image.open(photo).save(other)
    result = run("deblur", photo, other, "-o", tmp_path / "out", "-k", "gaussian:1", "--overwrite")
    assert result.exit_code == 1
    assert "was just written for another photograph of that name" in result.output


def test_deblur_says_what_it_changed(tmp_path, photo):
    Image.open(photo).convert("CMYK").save(tmp_path / "c.jpg")
    result = run("deblur", tmp_path / "c.jpg", "-o", tmp_path / "out", "-k", "gaussian:1")
    assert "converted from CMYK to RGB" in result.output and "written as PNG, since JPEG is lossy" in result.output


def test_deblur_into_a_place_that_is_no_folder(tmp_path, photo):
    result = run("deblur", photo, "-o", photo, "-k", "gaussian:1")
    assert result.exit_code == 2 and "cannot make the folder" in words(result.output)


def test_names_with_brackets_are_shown_as_they_are(tmp_path, photo):
    odd = photo.rename(tmp_path / "[red]photo.png")
    result = run("deblur", odd, tmp_path / "[b]no.png", "-o", tmp_path / "out", "-k", "gaussian:1")
    assert "[red]photo.png" in result.output and "[b]no.png" in result.output


def test_the_home_folder(tmp_path, photo, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = run("deblur", "~/photo.png", "--out=~/out", "-k", "disk:1")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "photo.png").is_file() and not (tmp_path / "~").exists()
    photo.rename(tmp_path / "~photo.png")
    assert run("deblur", "~photo.png", "--out=~/out", "-k", "disk:1").exit_code == 0


def test_a_full_disk_ends_in_a_sentence_and_keeps_what_there_was(tmp_path):
    names = ["photo.png", "photo.tif", "photo.webp", "photo.bmp"]
    pixels = Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    (tmp_path / "out").mkdir()
    for name in names:
        pixels.save(tmp_path / name)
        (tmp_path / "out" / name).write_bytes(b"old")
    program = """if True:
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        from blurfft.cli import app
        app(sys.argv[1:], prog_name="blurfft")
    """
    arguments = ["deblur", *names, "--out", "out", "--kernel", "disk:1", "--overwrite"]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for name in names:
        assert f"refused {name}: cannot write out/{name}: File too large" in result.stderr
        assert (tmp_path / "out" / name).read_bytes() == b"old"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_output_that_cannot_be_written(option):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "blurfft", "info", *option]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "blurfft: No space left on device\n")


def test_an_interrupt_says_what_was_kept(tmp_path, photo, monkeypatch):
    photos = [photo, *(tmp_path / name for name in ("b.png", "c.png"))]
    for other in photos[1:]:
        other.write_bytes(photo.read_bytes())
    read = images.read

    def interrupted(path: Path, *arguments: Any) -> images.Photo:
        if path.name == "c.png":
            raise KeyboardInterrupt
        return read(path, *arguments)

    monkeypatch.setattr(images, "read", interrupted)
    result = run("deblur", *photos, "-o", tmp_path / "out", "-k", "disk:1")
    assert result.exit_code == 130
    assert f"stopped; 2 of 3 photographs restored, in {tmp_path / 'out'}" in words(result.output)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.png", "photo.png"]


def test_what_killed_processes_had_half_written_is_removed(tmp_path, photo):
    """Of the same file, unless its process lives or was another machine's."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = ended.pid, os.getppid()
    bracketed = photo.with_name("a[1].png")
    bracketed.write_bytes(photo.read_bytes())
    long = photo.with_name("b" * 100 + ".png")
    long.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    here = socket.gethostname()
    names = [f".{name[:40]}.{here}.{dead}.part" for name in (photo.name, "photo-panel.png", bracketed.name, long.name)]
    kept = [f".photo.png.{here}.{alive}.part", f".photo.png.{here}.x.part", f".photo.png.another.{dead}.part"]
    kept += [f".other.png.{here}.{dead}.part", f".photo.jpg.{here}.{dead}.part"]
    for name in names + kept:
        (out / name).write_bytes(b"half")
    assert run("deblur", photo, bracketed, long, "-o", out, "-k", "disk:1", "--panel").exit_code == 0
    assert {path.name for path in out.glob(".*")} == {*kept}


def test_an_interrupted_check_says_how_far_it_came(monkeypatch):
    few(monkeypatch)
    checked = selfcheck.check_one
    calls = iter(range(100))

    def interrupted(*case: Any) -> selfcheck.Result:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return checked(*case)

    monkeypatch.setattr(selfcheck, "check_one", interrupted)
    result = run("check", "--backend", "reference")
    assert (result.exit_code, words(result.output)) == (130, "stopped; 3 of 36 checks made, 0 failed")


def test_messages_name_only_options_that_exist():
    """In every text in the sources of the command."""
    from typer.main import get_command

    commands = get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    known = {
        name for command in commands for option in command.params for name in (*option.opts, *option.secondary_opts)
    }
    known |= {"--help", "--version"}
    foreign = {"--no-build-isolation", "--nproc-per-node", "--upgrade"}  # of pip and torchrun
    package = Path(blurfft.__file__).parent
    for file in (*package.glob("cli/*.py"), *package.glob("images/*.py"), *package.glob("vae/**/*.py")):
        assert set(re.findall(r"--[a-z][a-z-]+", file.read_text())) <= known | foreign, file
