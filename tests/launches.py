"""The launches of Triton's kernels as they are made on a GPU, without one: ``python tests/launches.py``.

The interpreter bypasses what stands between ``kernel[grid](...)`` and the device: binding, specialisation by values
and addresses, compilation, tuning with its cache, the launcher. Here all of it runs, on torch's fake tensors of the
device ``cuda`` and under a driver whose launcher compares arguments with the compiled kernel instead of launching it.
A process of its own, since torch and Triton are told lies.
"""

from __future__ import annotations

import os

os.environ.pop("TRITON_INTERPRET", None)

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton.backends.compiler import GPUTarget

from blurfft._backends import triton as backend
from blurfft.kernels import fft, launch, static, tables

ARCHITECTURE = 90
MAX_SHARED = 227 << 10
STREAM = 77
_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
_POINTERS = {"*fp32": torch.float32, "*fp64": torch.float64, "*bf16": torch.bfloat16, "*fp16": torch.float16}
_BYTES = {"i32": 4, "i64": 8, "fp64": 8}
_DIVISIBLE = ["tt.divisibility", 16]


class Made(NamedTuple):
    """A launch that has been checked."""

    kernel: str
    num_warps: int
    signature: dict[str, str]
    constants: dict[str, Any]
    divisible: set[str]


made: list[Made] = []
current_device = 0


class _Utils:
    loaded = 0  # kernels

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": MAX_SHARED, "multiprocessor_count": 132, "warpSize": 32}

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """The sizes of the kernel's parameters take the place of the function."""
        self.loaded += 1
        with NamedTemporaryFile(suffix=".cubin") as file:
            Path(file.name).write_bytes(binary)
            usage, code = (
                subprocess.run([_CUOBJDUMP, option, file.name], capture_output=True, text=True, check=True).stdout
                for option in ("-res-usage", "-elf")
            )
        registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
        parameters = re.findall(r"Ordinal\s*:\s*(0x\w+).*?Size\s*:\s*(0x\w+)", code, re.DOTALL)
        sizes = [size for _, size in sorted((int(ordinal, 16), int(size, 16)) for ordinal, size in parameters)]
        return object(), sizes, registers, stack // 4, min(1024, 65536 // registers)

    def unload_module(self, module: Any) -> None:
        pass


class _Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        self.source, self.metadata = source, metadata

    def __call__(self, x: int, y: int, z: int, stream: int, sizes: list[int], *rest: Any) -> None:
        _packed, _launch_metadata, _enter_hook, _exit_hook, *values = rest
        signature = self.source.signature
        attributes = {name: self.source.attrs.get((i,), []) for i, name in enumerate(signature)}
        constants = {name: self.source.constants.get((i,)) for i, name in enumerate(signature)}
        assert stream == STREAM
        # What CUDA launches, and what Triton's launcher, which multiplies in 32 bits, takes for a grid of any block.
        assert x > 0 and 0 < y < 1 << 16 and 0 < z < 1 << 16 and x * y * z < 1 << 31, (x, y, z)
        assert len(values) == len(signature)
        passed = []
        for (name, kind), value in zip(signature.items(), values, strict=True):
            if kind == "constexpr":
                assert type(value) is type(constants[name]) and value == constants[name], (name, value)
                continue
            divisible = _DIVISIBLE in attributes[name]
            if kind in _POINTERS:
                assert isinstance(value, FakeTensor) and value.dtype == _POINTERS[kind], (name, kind)
                assert value.device == torch.device("cuda", current_device), (name, value.device)
                assert not divisible or value.data_ptr() % 16 == 0, name
            elif kind == "fp64":
                assert isinstance(value, float), (name, value)
            else:
                bits = 8 * _BYTES[kind]
                assert type(value) is int and -1 << bits - 1 <= value < 1 << bits - 1, (name, kind, value)
                assert not divisible or value % 16 == 0, name
            passed.append(_BYTES.get(kind, 8))
        assert sizes == [*passed, 8, 8], f"{sizes} and two of Triton's own are not {passed}"
        made.append(
            Made(
                self.source.fn.__name__,
                self.metadata.num_warps,
                dict(signature),
                {name: value for name, value in constants.items() if signature[name] == "constexpr"},
                {name for name, found in attributes.items() if _DIVISIBLE in found},
            )
        )


class _Driver:
    """Of the first configuration that is timed the time is the longest, of the last the shortest."""

    utils = _Utils()
    launcher_cls = _Launcher
    timed = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", ARCHITECTURE, 32)

    def get_current_device(self) -> int:
        return current_device

    def get_current_stream(self, device: int) -> int:
        assert device == current_device
        return STREAM

    def get_benchmarker(self) -> Callable[..., list[float]]:
        def benchmark(call: Callable[[], None], quantiles: tuple[float, ...]) -> list[float]:
            call()
            self.timed += 1
            return [1 / self.timed for _ in quantiles]

        return benchmark


driver = _Driver()


def _address(tensor: FakeTensor) -> int:
    """As torch's allocator would give them, in multiples of 512."""
    if tensor.numel() == 0:
        return 0
    storage = tensor.untyped_storage()._cdata
    return (storage << 9) + tensor.storage_offset() * tensor.dtype.itemsize


class _Device:
    def __init__(self, device: torch.device) -> None:
        self.index = device.index

    def __enter__(self) -> None:
        global current_device
        self.before, current_device = current_device, self.index

    def __exit__(self, *exception: object) -> None:
        global current_device
        current_device = self.before


@contextmanager
def gpu() -> Iterator[None]:
    """From here on this process believes in one."""
    triton.runtime.driver.set_active(driver)
    FakeTensor.data_ptr = _address
    torch.cuda.device = _Device
    torch.cuda.is_current_stream_capturing = lambda: False
    tables._on = lambda device, table: torch.empty_like(table, device=device)
    with FakeTensorMode():
        yield


def call(op: str, *arguments: Any) -> list[Made]:
    """The launches of an op."""
    made.clear()
    backend.functions()[op](*arguments)
    return list(made)


def like_static(op: str, *arguments: Any) -> None:
    """Makes the launches of an op and compares what they compile with what ``kernels/static.py`` says they would."""
    with launch.recording() as launches:
        backend.functions()[op](*arguments)
    for actual, recorded in zip(call(op, *arguments), launches, strict=True):
        case = static._case("", recorded, 1, 1, 1)
        names = list(case.signature)
        assert actual.signature == case.signature, (actual, case.signature)
        assert actual.constants == case.constexprs, (actual, case.constexprs)
        assert actual.divisible == {names[i] for (i,) in case.attrs}, (actual, case.attrs)
        assert actual.num_warps == case.num_warps


def _empty(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cuda:0") -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def tuning() -> None:
    """A first call tunes, a second one does not, and another process finds on disk what the first has found."""
    image = _empty(2, 1, 4, 4)
    timed, launched = [], []
    for forget in (False, False, True):
        if forget:
            launch._chosen.clear()
            launch.tuned.cache_clear()
        before = driver.timed
        launched.append([each.num_warps for each in call("rfft2", image, 1.0)])
        timed.append(driver.timed - before)
    # A launch for each configuration and one with the better; that alone from then on.
    assert timed == [2, 0, 0] and launched == [[1, 2, 2], [2], [2]]
    torch.use_deterministic_algorithms(True)
    assert [each.num_warps for each in call("rfft2", image, 1.0)] == [1]
    torch.use_deterministic_algorithms(False)


def refused() -> None:
    """What would be launched on another device than that of its tensors, and by a grid that CUDA does not know."""
    image = _empty(2, 1, 4, 4, device="cuda:1")
    with without(torch.cuda, "device"), raising("'cuda', index=1"):
        call("rfft2", image, 1.0)
    call("rfft2", image, 1.0)
    with without(triton, "cdiv"), raising(r"\(0, 1, 1\)"):
        call("rfft2", image, 1.0)


@contextmanager
def without(module: Any, name: str) -> Iterator[None]:
    """A function that does nothing takes the place of this one."""
    before = getattr(module, name)
    setattr(module, name, lambda *_: _Nothing())
    yield
    setattr(module, name, before)


class _Nothing(int, nullcontext):
    """0, and a context."""


@contextmanager
def raising(what: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        assert re.search(what, str(error)), error
    else:
        raise AssertionError(f"nothing has said {what}")


def fused() -> None:
    """Integers that are 1 and that are not, a batch of another size, an image that begins at an odd address on another
    device."""
    launch.AUTOTUNE = False
    weight = _empty(1, 1, 4, 3)
    image = _empty(22, 3, 4, 4, dtype=torch.bfloat16)
    like_static("spectral_loss", image, image, weight, 1.0, False, True, False)
    # Compilation takes seconds, and the last batch of an epoch has its own size.
    before = driver.utils.loaded
    image = _empty(32, 3, 4, 4, dtype=torch.bfloat16)
    like_static("spectral_loss", image, image, weight, 1.0, False, True, False)
    assert driver.utils.loaded == before
    odd = _empty(17, dtype=torch.bfloat16, device="cuda:1").narrow(0, 1, 16).view(1, 1, 4, 4)
    other = _empty(1, 1, 4, 4, dtype=torch.bfloat16, device="cuda:1")
    (only,) = call("spectral_loss", odd, other, _empty(1, 1, 4, 3, device="cuda:1"), 1.0, True, True, False)
    assert "input" not in only.divisible and "target" in only.divisible
    assert only.signature["members"] == only.signature["pairs"] == "constexpr"


def staged() -> None:
    """Larger planes, in float64, and outputs that nobody asked for."""
    launch.AUTOTUNE, fft.TILE = False, 0
    image = _empty(1, 2, 2, 3, dtype=torch.float64)
    like_static("spectral_filter", image, _empty(1, 1, 2, 2, dtype=torch.complex128))


def parameters() -> None:
    launch.AUTOTUNE = False
    number = _empty(1, 1)
    image = _empty(2, 3, 4, 4)
    like_static("wiener_loss", image, image, _empty(1, 1, 1, 1), number, number, 0.5, True, False, False, True)


if __name__ == "__main__":
    with gpu():
        for part in (tuning, refused, fused, staged, parameters):
            part()
            print(part.__name__, flush=True)
