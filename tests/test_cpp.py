"""``libblurfft`` in a process without Python: the example builds, runs and restores as Python does."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blurfft
from blurfft import _ext

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/cpp"
# The environment of the tests has one, which need not be on PATH.
PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE = shutil.which("cmake", path=PLACES) or ""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLE.is_dir(), reason="examples/cpp is not beside the tests: it is not installed"),
    pytest.mark.skipif(_ext.module() is None, reason=f"{_ext.why_not()}"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks the linker of Linux what a process loads"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler"),
]


def pixels(file: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(file), dtype=np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def run(*command: str, **variables: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BLURFFT_")}
    done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_by(*command: str) -> str:
    """What the dynamic linker says of a process."""
    run(*command, LD_DEBUG="libs", LD_DEBUG_OUTPUT="loaded")
    (log,) = Path().glob("loaded.*")
    return log.read_text()


def test_the_library_opens_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``dlopen`` in a process that links nothing, where pip puts it: beside torch."""
    monkeypatch.chdir(tmp_path)
    Path("open.cpp").write_text("""
#include <dlfcn.h>
#include <cstdio>
int main() {
  if (dlopen("site/blurfft/libblurfft.so", RTLD_NOW)) return 0;
  std::puts(dlerror());
  return 1;
}
""")
    run("c++", "open.cpp", "-o", "open", "-ldl")
    Path("site/blurfft").mkdir(parents=True)
    shutil.copy(_ext.library(), "site/blurfft")
    torch_folder = Path(torch.__path__[0])
    for needed in (torch_folder, torch_folder.with_name("nvidia")):  # there with torch for CUDA
        Path("site", needed.name).symlink_to(needed)
    loaded = loaded_by("./open")
    assert "calling init: site/blurfft/libblurfft.so" in loaded and "libpython" not in loaded


@pytest.mark.skipif(not CMAKE, reason="there is no cmake")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
def test_the_example_restores_a_photograph_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("skimage.data")
    Image.fromarray(data.astronaut()[:150, :200]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export.py", "photo.png"])
    # For one model, to compile the headers first takes longer than it saves.
    with torch._inductor.config.patch({"aot_inductor.precompile_headers": False}):
        export = runpy.run_path(str(EXAMPLE / "export.py"), run_name="__main__")
    model, blurred = export["Deblur"](), pixels(tmp_path / "blurred.ppm")
    in_python = torch._inductor.aoti_load_package("deblur.pt2")
    torch.testing.assert_close(in_python(blurred), model(blurred))

    folders = {"TORCH_DIR": torch.__path__[0], "BLURFFT_DIR": blurfft.__path__[0]}
    run(CMAKE, "-S", str(EXAMPLE), "-B", "build", *(f"-D{name}={folder}" for name, folder in folders.items()))
    run(CMAKE, "--build", "build")
    # A photograph of another size than the one it was compiled with.
    blurred = blurred[..., :120, :161].contiguous()
    Image.fromarray((255 * blurred[0].permute(1, 2, 0)).round().byte().numpy()).save(tmp_path / "part.ppm")
    loaded = loaded_by("build/deblur", "deblur.pt2", "part.ppm", "restored.ppm")
    assert "libblurfft.so" in loaded and "libpython" not in loaded

    # Up to the rounding to 8 bits.
    torch.testing.assert_close(pixels(tmp_path / "restored.ppm"), model(blurred), rtol=0, atol=0.51 / 255)

    refused = subprocess.run(
        ["build/deblur", "deblur.pt2", "photo.png", "x.ppm"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1 and refused.stderr == "deblur: photo.png is no PPM of 8 bits\n"
