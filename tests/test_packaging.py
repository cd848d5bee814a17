"""What is installed, what the extension is made of, and how the build says no."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import blurfft
import blurfft.kernels
from blurfft import _ext
from blurfft.ops import _define

PACKAGE = Path(blurfft.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
EXTENSION_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

from_source = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="runs in the source tree only")
built = pytest.mark.skipif(_ext.module() is None, reason=f"{_ext.why_not()}")
needs_nm = pytest.mark.skipif(shutil.which("nm") is None or sys.platform != "linux", reason="reads ELF files with nm")


def run_python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python where neither this tree's settings nor the caller's reach it."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("BLURFFT_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**settings, **environment}, capture_output=True, text=True
    )


def run_from(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with the blurfft in ``folder``; with -S, or an editable install would lend it its extension."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    return run_python("-S", "-c", program, cwd=folder, PYTHONPATH=path)


def nm(*arguments: str | Path) -> list[tuple[str, str]]:
    """The (type, name) of symbols."""
    output = subprocess.run(["nm", *arguments], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^(?:[0-9a-f]+)? +([A-Za-z]) (\S+)$", output, re.MULTILINE)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources to build in."""
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for folder in ("blurfft", "kernels", "csrc", "examples"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignore)
    for file in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    (tree / "README.md").touch()
    return tree


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the installed package, without its extension."""
    ignore = shutil.ignore_patterns("__pycache__", "_C*", "libblurfft*")
    shutil.copytree(PACKAGE, tmp_path / "blurfft", ignore=ignore)
    return tmp_path


def test_bare_kernels_is_refused():
    spec = importlib.util.spec_from_file_location("kernels", blurfft.kernels.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=r"package blurfft\.kernels and cannot be imported as 'kernels'"):
        spec.loader.exec_module(module)


def test_version_is_the_same_everywhere():
    assert importlib.metadata.version("blurfft") == blurfft.__version__
    if _ext.module() is not None:
        assert _ext.module().build_info()["version"] == blurfft.__version__


def test_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="blurfft")
    assert command.value == "blurfft.cli:app"
    assert callable(command.load())


@built
def test_build_info():
    info = _ext.module().build_info()
    assert set(info) == {
        *("version", "torch", "torch_abi", "compiler", "cxx_standard", "flags", "cpu_capabilities"),
        *("cuda", "cuda_reason", "cuda_codes"),
    }
    assert info["torch_abi"] == "2.11"
    assert info["cxx_standard"] >= 202002
    assert info["cpu_capabilities"][0] == "baseline"
    assert ("nvcc" if info["cuda"] else "") in info["cuda_reason"] != ""
    codes = info["cuda_codes"].split(",") if info["cuda"] else []
    assert all(re.fullmatch(r"(sm|compute)_\d+[af]?", code) for code in codes), codes
    # The wheel has to run on other machines, and NaN has to propagate.
    assert not {"-march=native", "-ffast-math"} & set(info["flags"].split())


@built
@needs_nm
def test_the_library_needs_only_the_stable_abi():
    undefined = [name for _, name in nm("-D", "--undefined-only", _ext.library())]
    assert any(name.startswith("aoti_torch_") for name in undefined)
    # Where pip puts torch; and the module beside the library finds that.
    assert b"$ORIGIN/../torch/lib\0" in _ext.library().read_bytes()
    assert b"$ORIGIN\0" in Path(_ext.module().__file__).read_bytes()
    cxx_of_torch = re.compile(r"_Z(T[IVST])?N[KVRO]*(2at|3c10|5torch|6caffe2)")
    assert not [name for name in undefined if cxx_of_torch.match(name)]
    assert not [name for name in undefined if name.startswith(("Py", "_Py"))]
    # Threads are torch's: a second OpenMP runtime in the process is a defect.
    assert not [name for name in undefined if re.match(r"(GOMP|omp|__kmpc)_", name)]


@from_source
@needs_nm
def test_instruction_sets_share_no_code():
    """An inline function or a static initialiser compiled for AVX-512 would run on machines that lack it."""
    objects = list(ROOT.glob(f"build/temp.*{sys.implementation.cache_tag}/csrc/cpu/routines.*.o"))
    if not objects:
        pytest.skip("the extension was not built in this tree")
    for file in objects:
        capability = file.name.split(".")[1]
        symbols = nm("--defined-only", file)
        assert [name for kind, name in symbols if kind.isupper() or kind in "uvw"] == [
            f"_ZN7blurfft3cpu{len('capability_' + capability)}capability_{capability}E"
        ]
        assert not [name for _, name in symbols if "_GLOBAL__sub_I" in name]


@from_source
def test_pure_python_wheel(tree: Path, tmp_path: Path):
    built = run_python("setup.py", "-q", "bdist_wheel", "--dist-dir", "dist", cwd=tree, BLURFFT_EXT="0")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tree / "dist").iterdir()
    assert wheel.name == f"blurfft-{blurfft.__version__}-py3-none-any.whl"
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    program = """if True:
        import torch, blurfft, blurfft.kernels
        from blurfft import _ext
        print(blurfft.__file__, blurfft.kernels.__file__)
        print(blurfft.available_backends())
        print(_ext.why_not())
        input = torch.randn(2, 3, 8, 8, requires_grad=True)
        blurfft.wiener_loss(input, torch.randn(2, 3, 8, 8), torch.full((3, 3), 1 / 9)).backward()
        assert input.grad.isfinite().all()
    """
    smoke = run_from(installed, program)
    assert smoke.returncode == 0, smoke.stderr
    files, backends, reason = smoke.stdout.splitlines()
    assert files.split() == [str(installed / "blurfft/__init__.py"), str(installed / "blurfft/kernels/__init__.py")]
    assert backends == "('reference',)"
    assert "is not built" in reason
    assert "--no-build-isolation FOLDER" in reason  # a wheel has no sources beside it


@from_source
def test_a_pure_editable_install_has_no_extension_of_an_earlier_one(tree: Path):
    left = [tree / "blurfft" / name for name in (f"_C{EXTENSION_SUFFIX}", "libblurfft.so")]
    for file in left:
        file.touch()
    installed = run_python("setup.py", "-q", "editable_wheel", "--dist-dir", "dist", cwd=tree, BLURFFT_EXT="0")
    assert installed.returncode == 0, installed.stderr
    assert not any(file.exists() for file in left)


@from_source
def test_source_distribution_is_complete(tree: Path):
    built = run_python("setup.py", "-q", "sdist", cwd=tree)
    assert built.returncode == 0, built.stderr
    (archive,) = (tree / "dist").iterdir()
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    sources = {
        path.relative_to(tree).as_posix()
        for folder in ("blurfft", "kernels", "csrc", "examples")
        for path in tree.glob(f"{folder}/**/*.*")
    }
    assert {"setup.py", "pyproject.toml", "csrc/library.cpp", "csrc/cpu/routines.cpp", "kernels/__init__.py"} <= names
    assert sources <= names


TORCH_ABSENT = {"torch.py": "raise ModuleNotFoundError('no torch', name='torch')"}
ALL_ABSENT = {f"{name}.py": f"raise ModuleNotFoundError(name='{name}')" for name in ("torch", "ninja", "pybind11")}
SETUPTOOLS_OLD = {"setuptools/__init__.py": "__version__ = '65.5.0'"}
SETUPTOOLS_ABSENT = {"setuptools.py": "raise ModuleNotFoundError(name='setuptools')"}
NINJA_OLD = {"ninja.py": "__version__ = '1.10.2'"}
TORCH_BROKEN = {"torch.py": "raise OSError('libcudart.so.13: cannot open shared object file')"}
TORCH_OLD = {
    "torch/__init__.py": "__version__ = '2.10.1'",
    "torch/utils/__init__.py": "",
    "torch/utils/cpp_extension.py": "",
}


@from_source
@pytest.mark.parametrize(
    ("environment", "modules", "sentence"),
    [
        ({"CXX": "/nonexistent/c++"}, {}, "there is no C++ compiler '/nonexistent/c++'; install g++"),
        ({"CXX": "false"}, {}, "the C++ compiler 'false' does not compile C++20 with vector extensions; install g++"),
        ({}, TORCH_ABSENT, "the Python that builds it has no torch; pip install 'torch>=2.11' first and blurfft with"),
        ({}, ALL_ABSENT, "has no torch and no ninja and no pybind11; pip install 'torch>=2.11' 'ninja>=1.11' 'pybind"),
        ({}, NINJA_OLD | TORCH_ABSENT, "has no torch and ninja 1.10.2; pip install 'torch>=2.11' 'ninja>=1.11' first"),
        ({}, SETUPTOOLS_ABSENT, "cannot be installed: the Python that builds it has no setuptools; pip install 'setup"),
        (
            {},
            SETUPTOOLS_OLD | ALL_ABSENT,
            "has setuptools 65.5.0 and no torch and no ninja and no pybind11; pip install",
        ),
        (
            {"BLURFFT_EXT": "0"},
            SETUPTOOLS_OLD | ALL_ABSENT,
            "it has setuptools 65.5.0; pip install 'setuptools>=77' fi",
        ),
        ({}, TORCH_BROKEN, "torch is installed, but cannot be imported (libcudart.so.13: cannot open"),
        ({}, TORCH_OLD, "the Python that builds it has torch 2.10.1; pip install 'torch>=2.11' first"),
        (
            {"BLURFFT_CUDA": "1", "CUDA_HOME": "/nonexistent"},
            {},
            "BLURFFT_CUDA=1 asks for the CUDA kernels, but nvcc was not found in CUDA_HOME or on PATH.",
        ),
        ({"BLURFFT_CUDA": "on"}, {}, "BLURFFT_CUDA is 'on', but should be one of auto, 0, 1."),
        ({"BLURFFT_EXT": "no"}, {}, "BLURFFT_EXT is 'no', but should be one of 0, 1."),
        ({"BLURFFT_EXT": "0", "BLURFFT_CUDA": "1"}, {}, "but BLURFFT_EXT=0 leaves the extension out."),
    ],
)
def test_build_refuses_in_one_sentence(tree: Path, tmp_path: Path, environment, modules, sentence):
    for name, text in modules.items():
        path = tmp_path / "modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build = run_python("setup.py", "build_ext", cwd=tree, PYTHONPATH=str(tmp_path / "modules"), **environment)
    assert build.returncode != 0
    assert "Traceback" not in build.stderr
    message = build.stderr.splitlines()[-1]
    assert message.startswith("blurfft: ")
    assert sentence in message
    if message.startswith("blurfft: cannot build the extension: "):
        assert message.endswith("or set BLURFFT_EXT=0 to install without it.")


def test_broken_extension_is_not_called_unbuilt(package: Path):
    """A file that is there but does not load needs another cure than one that was never built."""
    program = "import blurfft; print(blurfft.available_backends()); blurfft.use_backend('cpu')"
    unbuilt = run_from(package, program)
    files = [package / "blurfft" / name for name in (f"_C{EXTENSION_SUFFIX}", _ext.library().name)]
    for file in files:
        file.write_bytes(b"not a shared object")
    broken = run_from(package, program)
    files[0].unlink()
    half = run_from(package, program)
    for process in (unbuilt, broken, half):
        assert process.stdout == "('reference',)\n"
    assert "RuntimeError: backend 'cpu' is not available: the compiled extension is not built" in unbuilt.stderr
    assert "is not built" in half.stderr
    assert "exists but does not load" in broken.stderr and "or an older blurfft; build it again" in broken.stderr
    assert "not built" not in broken.stderr


@built
def test_an_extension_of_other_ops_is_refused(package: Path):
    """It has declared its ops, which cannot be declared again."""
    (package / "blurfft/_C.py").write_text("build_info, schemas = None, {'rfft2': 'rfft2(Tensor input) -> Tensor'}")
    shutil.copy(_ext.library(), package / "blurfft")
    refused = run_from(package, "import blurfft")
    assert "ImportError: the compiled extension" in refused.stderr
    assert "was built for another blurfft, whose ops it has declared: build it again (" in refused.stderr


def answers(ops) -> list:
    """Every op, of arguments that are the same in every process."""
    generator = torch.Generator().manual_seed(0)
    x, y, t = (torch.rand(2, 3, 8, 6, generator=generator) for _ in range(3))
    kernel, nsr = torch.rand(2, 1, 3, 3, generator=generator), torch.rand(1, 3, generator=generator)
    K = ops.otf(kernel, 8, 6)
    return [
        *(ops.rfft2(x, norm) for norm in ("backward", "ortho", "forward")),
        *(ops.irfft2(K, 6, norm) for norm in ("backward", "ortho", "forward")),
        K,
        ops.otf_backward(K, 6, 3, 3),
        ops.spectral_filter(x, K),
        *(ops.cross_spectrum(x, y, n, c, n == c) for n in (1, 2) for c in (1, 3)),
        *ops.spectral_loss(x, y, t[..., :4], 7, True, True, True),
        *ops.spectral_loss(x, y, t[..., :4], 7, False, False, False),
        *ops.wiener_loss(x.half(), y.half(), kernel, nsr, nsr, 7, True, False, True, True),
        *ops.wiener_loss(x, y, kernel, nsr, nsr, 7, False, False, False, False),
        *ops.blur_mse(x, y, kernel, 7, False, True, True),
        *ops.focal_frequency_loss(x, y, 1.5, True, 2.5, 7, False, True),
        *ops.focal_frequency_loss(x, y, 1.0, False, 1.0, 0, False, False),
    ]


@built
def test_the_library_serves_every_op_without_the_package(tmp_path: Path):
    file = tmp_path / "answers.pt"
    program = f"""if True:
        import sys, torch
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        torch.ops.load_library({str(_ext.library())!r})
        {inspect.getsource(answers).replace(chr(10), chr(10) + " " * 8)}
        torch.save(answers(torch.ops.blurfft), {str(file)!r})
        assert "blurfft" not in sys.modules
        try:
            torch.ops.blurfft.rfft2(torch.empty(8, 8, device="meta"), "ortho")
        except RuntimeError as error:
            print(error)
        # In the other order: the library first.
        import blurfft
        x, k = torch.rand(1, 1, 8, 6, requires_grad=True), torch.rand(3, 3)
        blurfft.blur(x, k).sum().backward()
        assert x.grad is not None
    """
    alone = run_python("-W", "error", "-c", program, cwd=PACKAGE.parent)
    assert alone.returncode == 0, alone.stderr
    assert "blurfft::rfft2: libblurfft has no kernels for the device of this tensor" in alone.stdout
    with blurfft.use_backend("cpu"):
        expected = answers(torch.ops.blurfft)
    torch.testing.assert_close(torch.load(file), expected, rtol=0, atol=0, equal_nan=True)


@built
def test_the_library_declares_the_ops_as_python_does():
    for name, op in _define.OPS.items():
        declared = torch._C.parse_schema(f"blurfft::{op.schema}")
        assert str(op.overload._schema) == str(declared)
        assert _ext.module().schemas[name] == op.schema
    assert _define.OPS.keys() == _ext.module().schemas.keys()
