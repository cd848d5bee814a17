"""What ``blurfft info`` shows: versions, the extension, the backends, and which one serves what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

import blurfft

from . import _dispatch, _ext
from ._table import Cell, Table
from .files import counted

SIZES = ((28, 28), (64, 64), (218, 178), (224, 224), (512, 512), (2049, 2049))

# name, values, meaning, and whether it is read at installation instead of at run time
VARIABLES = (
    ("BLURFFT_BACKEND", "auto or a backend", "the backend where the program names none", False),
    ("BLURFFT_CPU", "an instruction set", "which of its instruction sets the cpu backend uses", False),
    (
        "BLURFFT_AUTOTUNE",
        "0 or 1",
        "0: the triton backend times nothing at the first call of a size",
        False,
    ),
    ("BLURFFT_EXT", "0 or 1", "0: install without the compiled extension", True),
    ("BLURFFT_CUDA", "auto, 0 or 1", "CUDA kernels: where possible, never, or fail without", True),
)


def gather() -> dict[str, Any]:
    """Everything ``blurfft info`` shows, in types that JSON has.

    Examples:
        >>> gather()["versions"]["blurfft"] == blurfft.__version__
        True
    """
    return {
        "versions": _versions(),
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "extension": _extension(),
        "backends": _dispatch.explain(),
        "serves": _serves(),
        "environment": {name: os.environ.get(name) for name, *_ in VARIABLES},
        "problems": problems(),
    }


def problems() -> list[str]:
    """Settings in the environment that cannot be met; every call of blurfft would fail because of them."""
    found = []
    if name := os.environ.get("BLURFFT_BACKEND"):
        try:
            _dispatch.require(name, "BLURFFT_BACKEND")
        except ValueError as error:
            found.append(str(error))
        except RuntimeError as error:
            found.append(f"BLURFFT_BACKEND: {error}")
    if (extension := _ext.module()) is not None:
        try:
            extension.cpu_capability()
        except RuntimeError as error:  # BLURFFT_CPU
            found.append(str(error))
    return found


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"blurfft": blurfft.__version__, "python": platform.python_version()}
    for package in ("torch", "triton", "numpy", "pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    versions["cuda in torch"] = torch.version.cuda
    return versions


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _extension() -> dict[str, Any]:
    module = _ext.module()
    if module is None:
        return {"loaded": False, "why": _ext.why_not()}
    try:
        capability = module.cpu_capability()
    except RuntimeError:  # among the problems
        capability = None
    return {
        "loaded": True,
        "file": module.__file__,
        **module.build_info(),
        "capability": capability,
        "capabilities_here": module.cpu_capabilities(),
    }


def _serves() -> list[dict[str, Any]]:
    """Which backend ``"auto"`` chooses, for each device here and some sizes; the dtype does not matter so far."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    rows = []
    for device in devices:
        for height, width in SIZES:
            reasons = {
                name: _dispatch.why_not(name, "wiener_loss", device, torch.float32, height, width)
                for name in blurfft.available_backends()
            }
            chosen = next(name for name, reason in reasons.items() if reason is None)
            rows.append({"device": device, "height": height, "width": width, "backend": chosen})
    return rows


def tables(facts: dict[str, Any]) -> list[Table]:
    """What ``gather`` found, for the terminal."""
    return [
        _about_versions(facts),
        _about_extension(facts["extension"]),
        *_about_backends(facts["backends"]),
        _about_sizes(facts["serves"]),
        _about_variables(facts["environment"]),
    ]


def _about_versions(facts: dict[str, Any]) -> Table:
    machine = facts["machine"]
    table = Table(None)
    for name, version in facts["versions"].items():
        if name != "cuda in torch":
            table.add(name, version or "not installed")
    table.add("processor", f"{machine['processor']}, {counted(machine['threads'], 'thread')}")
    table.add("GPU", ", ".join(machine["gpus"]) or "none that torch can use")
    return table


def _about_extension(extension: dict[str, Any]) -> Table:
    table = Table("Compiled extension")
    if not extension["loaded"]:
        table.add(Cell("none", "red"), extension["why"])
        return table
    here = ", ".join(extension["capabilities_here"])
    table.add("file", extension["file"])
    table.add("built with", f"{extension['compiler']}, torch {extension['torch']} (ABI {extension['torch_abi']})")
    table.add("instruction set", f"{extension['capability'] or 'none'} (this machine has {here})")
    table.add("CUDA", "yes" if extension["cuda"] else f"no: {extension['cuda_reason']}")
    return table


def _about_backends(backends: list[dict[str, Any]]) -> list[Table]:
    here = Table("Backends, fastest first", ("backend", "devices", "dtypes", "sizes"))
    absent = Table("Not available")
    for row in backends:
        if row["unavailable"] is None:
            here.add(Cell(row["name"], "green"), row["devices"], row["dtypes"], row["sizes"])
        else:
            absent.add(row["name"], row["unavailable"])
    return [here, absent] if absent.rows else [here]


def _about_sizes(serves: list[dict[str, Any]]) -> Table:
    sizes: dict[tuple[str, str], list[str]] = {}
    for row in serves:
        sizes.setdefault((row["device"], row["backend"]), []).append(f"{row['height']}x{row['width']}")
    table = Table("Who serves which size", ("device", "size", "backend"))
    for (device, backend), served in sizes.items():
        table.add(device, "  ".join(served), Cell(backend, "green" if backend != "reference" else ""))
    return table


def _about_variables(environment: dict[str, str | None]) -> Table:
    table = Table("Environment variables", ("variable", "values", "meaning", "now"))
    for name, values, meaning, at_install in VARIABLES:
        when = " (read at installation)" if at_install else ""
        table.add(name, values, meaning + when, environment[name] or "")
    return table
