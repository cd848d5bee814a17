"""Builds the native extension, blurfft/libblurfft and blurfft/_C; everything else is in pyproject.toml.

Read from the environment:
    BLURFFT_EXT=0              install without the extension
    BLURFFT_CUDA=auto|0|1      CUDA kernels: if toolkit and torch allow it (default), never, or fail without a toolkit
    BLURFFT_CUDA_VARIANTS=1    with them the variants of csrc/cuda/variants, for benchmarks/silicon.py
    TORCH_CUDA_ARCH_LIST       the GPU architectures to compile for, as in "8.0;9.0+PTX"
    CXX, CXXFLAGS, LDFLAGS     the C++ compiler, further flags; for nvcc there is its own NVCC_APPEND_FLAGS
    MAX_JOBS                   parallel compilations (default: ninja's)
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import NoReturn

try:
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:  # there is none, or one so old that check_packages refuses it
    build_ext = editable_wheel = object

ROOT = Path(__file__).resolve().parent
BUILD_PACKAGES = ("torch", "ninja", "pybind11")
# The oldest versions, of setuptools too: by name, as in "2.11".
MINIMUM = dict(re.findall(r'"(\w+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


TORCH_MINIMUM = numbers(MINIMUM["torch"])  # the stable ABI that the extension is compiled for

# All operators and kernels, for any process with torch's C++ libraries. The Python module links against it.
LIBRARY = "libblurfft.dylib" if sys.platform == "darwin" else "libblurfft.so"
MODULE_SOURCE = "csrc/python.cpp"

CXX_FLAGS = [
    "-std=c++20",
    "-O3",
    "-DNDEBUG",
    "-fPIC",
    "-fvisibility=hidden",
    # Unlike -ffast-math these two leave NaN, Inf and the order of operations alone.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    f"-DTORCH_TARGET_VERSION=0x{TORCH_MINIMUM[0]:02x}{TORCH_MINIMUM[1]:02x}000000000000",
]

# Compiled once per instruction set, chosen from at run time. The linker keeps one copy of each inline function, the
# first it meets, and that must not be one with AVX-512 instructions that code for every machine calls: so this file
# includes no torch header, and its objects are linked last, in this order.
CPU_ROUTINES = "csrc/cpu/routines.cpp"
X86_64_CAPABILITIES = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"),
        "-mprefer-vector-width=512",
    ],
}

CUDA_MINIMUM = (12, 0)  # C++20
# The binaries made by default, all from the PTX of the first, which is there too for every other GPU. Most kernels use
# nothing that came later, and most of the time nvcc takes is for PTX.
CUDA_ARCHITECTURES = ["80", "90", "100"]
CUDA_ARCHITECTURE_MINIMUM = 80
# The kernels of thread-block clusters, which came with 9.0: from PTX of an older architecture they would be empty.
CUDA_CLUSTERS, CLUSTERS_MINIMUM = ("csrc/cuda/clusters.cu", "csrc/cuda/variants/plane_256.cu"), 90
NVCC_FLAGS = [
    "-std=c++20",
    "-O3",
    "-DNDEBUG",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra",
    # Registers, stack and spills of every kernel, which tests and benchmarks read from the log beside the object.
    "-Xptxas=-v",
]


def stop(reason: str) -> NoReturn:
    # SystemExit, because setuptools and pip print it without a traceback.
    raise SystemExit(f"blurfft: {reason}")


def stop_extension(problem: str, remedy: str) -> NoReturn:
    stop(f"cannot build the extension: {problem}; {remedy}, or set BLURFFT_EXT=0 to install without it.")


def setting(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = os.environ.get(name, default)
    if value not in choices:
        stop(f"{name} is {value!r}, but should be one of {', '.join(choices)}.")
    return value


def find_compiler() -> list[str]:
    command = shlex.split(os.environ.get("CXX", ""))
    if not command:
        command = [next(filter(shutil.which, ("c++", "g++", "clang++")), "c++")]
    remedy = "install g++ 12 or clang++ 14 or newer, or name one in CXX"
    if shutil.which(command[0]) is None:
        stop_extension(f"there is no C++ compiler {command[0]!r}", remedy)
    probe = subprocess.run(
        [*command, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"],
        input="#include <concepts>\n#include <numbers>\ntypedef int V __attribute__((vector_size(16)));\n"
        "V f(V v) { return __builtin_shufflevector(v, v, 0, 4, 1, 5); }\n",
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        stop_extension(
            f"the C++ compiler {shlex.join(command)!r} does not compile C++20 with vector extensions", remedy
        )
    return command


def check_python_headers() -> None:
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        stop_extension(f"Python.h is not in {include}", "install Python's headers (python3-dev on Debian)")


def lack(package: str) -> str | None:
    """What there is in place of the package, if that is too little."""
    try:
        version = str(import_module(package).__version__)
    except ModuleNotFoundError as error:
        return f"no {package}" if error.name == package else None
    except (ImportError, OSError, AttributeError):  # it is there, but broken
        return None
    return f"{package} {version}" if numbers(version) < numbers(MINIMUM[package]) else None


def check_packages(*packages: str) -> None:
    """Names all at once that are missing or too old."""
    lacking = {package: there for package in packages if (there := lack(package))}
    if not lacking:
        return
    problem = f"the Python that builds it has {' and '.join(lacking.values())}"
    wishes = " ".join(f"'{package}>={MINIMUM[package]}'" for package in lacking)
    remedy = f"pip install {wishes} first and blurfft with `pip install --no-build-isolation`"
    if "setuptools" in lacking:
        stop(f"cannot be installed: {problem}; {remedy}.")
    stop_extension(problem, remedy)


def import_torch():
    try:
        import torch
        import torch.utils.cpp_extension
    except (ImportError, OSError) as error:
        stop_extension(f"torch is installed, but cannot be imported ({error})", "repair it")
    return torch


def find_nvcc() -> str | None:
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home:
            return shutil.which("nvcc", path=str(Path(home, "bin")))
    return shutil.which("nvcc")


def toolkit_version(nvcc: str) -> tuple[int, int]:
    output = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def decide_cuda(mode: str, torch) -> tuple[str | None, str]:
    """The nvcc to compile the CUDA kernels with, or None, and why; a GPU in this machine or none makes no difference.

    Under a torch without CUDA the kernels compile and load all the same, which is how they are checked without a GPU;
    but nobody could use them, so they are compiled only if that is asked for.
    """
    if mode == "0":
        return None, "switched off by BLURFFT_CUDA=0"
    nvcc = find_nvcc()
    torch_cuda = torch.version.cuda
    version = toolkit_version(nvcc) if nvcc else None
    obstacles = []
    if torch_cuda is None and mode == "auto":
        obstacles.append(f"torch {torch.__version__} is a build without CUDA")
    if version is None:
        obstacles.append("nvcc was not found in CUDA_HOME or on PATH")
    elif version < CUDA_MINIMUM:
        obstacles.append(f"{nvcc} is of CUDA {version[0]}.{version[1]}, older than {CUDA_MINIMUM[0]}.{CUDA_MINIMUM[1]}")
    elif torch_cuda is not None and int(torch_cuda.split(".")[0]) != version[0]:
        obstacles.append(f"{nvcc} is of CUDA {version[0]}.{version[1]} and torch was built for {torch_cuda}")
    if obstacles and mode == "1":
        stop(f"BLURFFT_CUDA=1 asks for the CUDA kernels, but {', and '.join(obstacles)}.")
    if obstacles:
        return None, ", and ".join(obstacles)
    return nvcc, f"torch for CUDA {torch_cuda}, {nvcc}" if torch_cuda else f"asked for by BLURFFT_CUDA=1, {nvcc}"


def cuda_runtime(nvcc: str) -> list[str]:
    """Links the runtime in, so that the extension loads without CUDA and beside any CUDA libraries."""
    plan = subprocess.run([nvcc, "--dryrun", "-shared", "none.o"], capture_output=True, text=True).stderr
    paths = re.search(r"LIBRARIES=(.*)", plan)
    return [*(shlex.split(paths[1]) if paths else []), "-lcudart_static", "-lpthread", "-ldl", "-lrt"]


def architecture_flags(nvcc: str, minimum: int = 0) -> list[str]:
    """nvcc's options for TORCH_CUDA_ARCH_LIST, or for CUDA_ARCHITECTURES: those from `minimum` on, if there are any."""
    wish = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    offered = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    if not wish.strip():
        names = [name for name in CUDA_ARCHITECTURES if f"compute_{name}" in offered and int(name) >= minimum]
        ptx = f"compute_{names[0]}"
        return [f"-gencode=arch={ptx},code=[{','.join([*(f'sm_{name}' for name in names), ptx])}]"]
    flags = {}
    for architecture in re.split(r"[;,\s]+", wish.strip()):
        number = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", architecture)
        if number is None:
            stop(f"TORCH_CUDA_ARCH_LIST is {wish!r}, but should hold numbers like 9.0, 9.0a or 9.0+PTX.")
        if f"compute_{number[1]}{number[2]}" not in offered:
            stop(f"TORCH_CUDA_ARCH_LIST asks for {architecture}, but {nvcc} offers {', '.join(offered)}.")
        if int(number[1] + number[2]) < CUDA_ARCHITECTURE_MINIMUM:
            stop(f"TORCH_CUDA_ARCH_LIST asks for {architecture}, but the kernels need 8.0 or newer.")
        name = number[1] + number[2] + number[3]
        code = f"[sm_{name},compute_{name}]" if number[4] else f"sm_{name}"
        flags[f"-gencode=arch=compute_{name},code={code}"] = int(number[1] + number[2])
    return [flag for flag, number in flags.items() if number >= minimum] or list(flags)


class BuildExtension(build_ext):
    """Compiles with ninja: in parallel, only what changed, and with flags per object."""

    def finalize_options(self) -> None:
        chosen = self.build_temp
        super().finalize_options()
        # An editable install offers a throw-away folder here, which would compile everything every time.
        self.build_temp = chosen or str(ROOT / "build" / f"temp.{self.plat_name}-{sys.implementation.cache_tag}")

    def run(self) -> None:
        cuda_mode = setting("BLURFFT_CUDA", "auto", ("auto", "0", "1"))
        self.cxx = find_compiler()
        check_python_headers()
        check_packages(*BUILD_PACKAGES)
        self.torch = import_torch()
        self.nvcc, self.cuda_reason = decide_cuda(cuda_mode, self.torch)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        build_dir = Path(self.build_temp).resolve()
        build_dir.mkdir(parents=True, exist_ok=True)
        self.write_ninja(build_dir, ext)
        jobs = os.environ.get("MAX_JOBS")
        ninja = [sys.executable, "-m", "ninja", "-C", str(build_dir), *(["-j", jobs] if jobs else [])]
        if subprocess.run(ninja).returncode != 0:
            stop_extension("compiling it failed", "see the compiler's messages above")
        target = self.get_ext_fullpath(ext.name)
        self.mkpath(str(Path(target).parent))
        self.copy_file(str(build_dir / "_C.so"), target)
        self.copy_file(str(build_dir / LIBRARY), str(Path(target).with_name(LIBRARY)))

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        self.copy_file(str(Path(self.build_lib, "blurfft", LIBRARY)), str(ROOT / "blurfft" / LIBRARY))

    def get_outputs(self) -> list[str]:
        outputs = super().get_outputs()
        return [*outputs, *(str(Path(output).with_name(LIBRARY)) for output in outputs)]

    def write_ninja(self, build_dir: Path, ext: Extension) -> None:
        import pybind11
        from ninja.ninja_syntax import Writer

        machine = subprocess.run([*self.cxx, "-dumpmachine"], capture_output=True, text=True).stdout
        capabilities = X86_64_CAPABILITIES if machine.startswith("x86_64") else {"baseline": []}
        have = [f"-DBLURFFT_HAVE_{name.upper()}=1" for name in capabilities if name != "baseline"]
        have += ["-DBLURFFT_HAVE_CUDA=1"] if self.nvcc else []
        have += ["-DBLURFFT_HAVE_CUDA_VARIANTS=1"] if self.nvcc and VARIANTS else []
        extra = shlex.split(os.environ.get("CXXFLAGS", ""))
        self.write_config(build_dir / "build_config.h", flags=[*CXX_FLAGS, *extra])
        ops = " ".join(f"OP({schema.partition('(')[0]}, {json.dumps(schema)})" for schema in schemas())
        write_header(build_dir / "schemas.h", {"BLURFFT_SCHEMAS(OP)": ops})

        cpp_extension = self.torch.utils.cpp_extension
        # pybind11 comes first: torch's headers hold another, which torch 2.11 keeps from code for the stable ABI.
        headers = [pybind11.get_include(), *cpp_extension.include_paths()]
        headers += sorted({sysconfig.get_path("include"), sysconfig.get_path("platinclude")})
        includes = [f"-I{build_dir}", f"-I{ROOT / 'csrc'}", *(f"-isystem{path}" for path in headers)]
        # All of the stable ABI is in libtorch_cpu. The library finds it where pip puts both, the module the library.
        libraries = [f"-L{path}" for path in cpp_extension.library_paths()] + ["-ltorch_cpu"]
        if sys.platform == "darwin":
            link = ["-dynamiclib", f"-Wl,-install_name,@rpath/{LIBRARY}", "-Wl,-rpath,@loader_path/../torch/lib"]
            link_module = ["-bundle", "-undefined", "dynamic_lookup", "-Wl,-rpath,@loader_path"]
        else:
            link = ["-shared", "-Wl,--as-needed", f"-Wl,-soname,{LIBRARY}", "-Wl,-rpath,$ORIGIN/../torch/lib"]
            link_module = ["-shared", "-Wl,--as-needed", "-Wl,-rpath,$ORIGIN"]
        if self.nvcc:
            libraries += cuda_runtime(self.nvcc)

        def shell(arguments: list[str]) -> str:
            return shlex.join(arguments).replace("$", "$$")

        with open(build_dir / "build.ninja", "w") as file:
            ninja = Writer(file, width=1 << 16)
            ninja.variable("cxx", shell(self.cxx))
            ninja.variable("cxxflags", shell([*CXX_FLAGS, *have, *includes, *extra]))
            ninja.rule(
                "cxx", "$cxx -MD -MF $out.d $cxxflags $flags -c $in -o $out", "CXX $out", depfile="$out.d", deps="gcc"
            )
            ninja.rule("link", "$cxx $link $in -o $out $libs", "LINK $out")
            if self.nvcc:
                host = ["-ccbin", self.cxx[0]] if len(self.cxx) == 1 else []
                nvccflags = [*host, *NVCC_FLAGS, f"-I{ROOT / 'csrc'}"]
                compile = f"{shell([self.nvcc])} -MD -MF $out.d {shell(nvccflags)} $architectures -c $in -o $out"
                others = "grep -v -e 'ptxas info' -e 'bytes stack frame' $out.log"
                command = f"{compile} > $out.log 2>&1; status=$$?; {others}; exit $$status"
                ninja.rule("nvcc", command, "NVCC $out", depfile="$out.d", deps="gcc")

            objects = []
            for source in ext.sources:
                if source in (CPU_ROUTINES, MODULE_SOURCE) or (source.startswith("csrc/cuda/") and not self.nvcc):
                    continue
                output = str(Path(source).with_suffix(".o"))
                if source.endswith(".cu"):
                    flags = architecture_flags(self.nvcc, CLUSTERS_MINIMUM if source in CUDA_CLUSTERS else 0)
                    variables = {"architectures": shell(flags)}
                    objects += ninja.build(output, "nvcc", str(ROOT / source), variables=variables)
                else:
                    objects += ninja.build(output, "cxx", str(ROOT / source))
            for name, flags in capabilities.items():
                output = str(Path(CPU_ROUTINES).with_suffix(f".{name}.o"))
                variables = {"flags": shell([f"-DBLURFFT_CPU_CAPABILITY={name}", *flags])}
                objects += ninja.build(output, "cxx", str(ROOT / CPU_ROUTINES), variables=variables)
            further = shlex.split(os.environ.get("LDFLAGS", ""))
            variables = {"link": shell(link), "libs": shell([*libraries, *further])}
            library = ninja.build(LIBRARY, "link", objects, variables=variables)
            module = ninja.build(str(Path(MODULE_SOURCE).with_suffix(".o")), "cxx", str(ROOT / MODULE_SOURCE))
            variables = {"link": shell(link_module), "libs": shell(further)}
            ninja.build("_C.so", "link", [*module, *library], variables=variables)

    def write_config(self, path: Path, flags: list[str]) -> None:
        # What the binaries and the PTX in them are for, as in sm_90 and compute_80.
        codes = [
            flag.rpartition("code=")[2].strip("[]") for flag in (architecture_flags(self.nvcc) if self.nvcc else [])
        ]
        values = {
            "BLURFFT_VERSION": self.distribution.get_version(),
            "BLURFFT_TORCH_VERSION": str(self.torch.__version__),
            "BLURFFT_FLAGS": shlex.join(flags),
            "BLURFFT_CUDA": int(self.nvcc is not None),
            "BLURFFT_CUDA_REASON": self.cuda_reason,
            "BLURFFT_CUDA_CODES": ",".join(codes),
        }
        write_header(path, {key: json.dumps(value) for key, value in values.items()})


def schemas() -> list[str]:
    """Those of the ops: the string ``schema`` of every class in ``blurfft/ops``."""
    files = sorted((ROOT / "blurfft/ops").glob("[!_]*.py"))
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assignments = [node for owner in classes for node in owner.body if isinstance(node, ast.Assign)]
    named = [node for node in assignments if ast.unparse(node.targets[0]) == "schema"]
    return [ast.literal_eval(node.value) for node in named]


def write_header(path: Path, macros: dict[str, str]) -> None:
    text = "#pragma once\n" + "".join(f"#define {name} {value}\n" for name, value in macros.items())
    if not path.exists() or path.read_text() != text:  # an unchanged file recompiles nothing
        path.write_text(text)


class PureEditableWheel(editable_wheel):
    """Without the extension, also where an earlier editable install has left one in the sources."""

    def run(self) -> None:
        for left in (*ROOT.glob("blurfft/_C.*"), *ROOT.glob("blurfft/libblurfft.*")):
            left.unlink()
        super().run()


EXTENSION = setting("BLURFFT_EXT", "1", ("0", "1")) == "1"
VARIANTS = setting("BLURFFT_CUDA_VARIANTS", "0", ("0", "1")) == "1"

if lack("setuptools"):  # a source distribution can do without the others
    check_packages("setuptools", *(BUILD_PACKAGES if EXTENSION else ()))
if EXTENSION:
    files = [*ROOT.glob("csrc/**/*.cpp"), *ROOT.glob("csrc/cuda/**/*.cu" if VARIANTS else "csrc/cuda/*.cu")]
    sources = sorted(file.relative_to(ROOT).as_posix() for file in files)
    setup(ext_modules=[Extension("blurfft._C", sources)], cmdclass={"build_ext": BuildExtension})
else:
    if os.environ.get("BLURFFT_CUDA") == "1":
        stop("BLURFFT_CUDA=1 asks for the CUDA kernels, but BLURFFT_EXT=0 leaves the extension out.")
    setup(cmdclass={"editable_wheel": PureEditableWheel})
