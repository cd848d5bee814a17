"""Which backend serves a call, and the message when none can."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch
from inputs import images, kernels

import blurfft
from blurfft import _dispatch, _ext
from blurfft._backends import reference

SMOOTH, LONG = (1, 1, 16, 12), (1, 1, 3, 4099)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A backend "spy" beside the others: the reference, which also records the ops it is asked for."""
    calls: list[str] = []

    def recording(op: str) -> Callable[..., object]:
        def record(*args: object) -> object:
            calls.append(op)
            return reference.functions()[op](*args)

        return record

    class Spy(ModuleType):
        unavailable = staticmethod(reference.unavailable)
        why_not = staticmethod(reference.why_not)

        def functions(self) -> dict[str, Callable[..., object]]:
            return {op: recording(op) for op in reference.functions()}

    monkeypatch.setitem(_dispatch._BACKENDS, "spy", Spy("spy"))
    _dispatch._choose.cache_clear()
    yield calls
    _dispatch._choose.cache_clear()


@pytest.fixture
def unloaded() -> Iterator[None]:
    """Forgets the extension, for a test that loads it under different conditions."""
    _ext._load.cache_clear()
    _dispatch._choose.cache_clear()
    yield
    _ext._load.cache_clear()
    _dispatch._choose.cache_clear()


def call(shape: tuple[int, ...] = SMOOTH) -> torch.Tensor:
    return blurfft.wiener_loss(images(shape), images(shape), kernels((3, 3)))


def test_the_reference_is_always_there_and_last() -> None:
    assert blurfft.available_backends()[-1] == "reference"


def test_the_context_manager_ends() -> None:
    assert _dispatch.requested() == _dispatch.AUTO
    with blurfft.use_backend("reference"):
        assert _dispatch.requested() == "reference"
        with blurfft.use_backend("auto"):
            assert _dispatch.requested() == "auto"
        assert _dispatch.requested() == "reference"
    assert _dispatch.requested() == _dispatch.AUTO
    with pytest.raises(ZeroDivisionError), blurfft.use_backend("reference"):
        raise ZeroDivisionError
    assert _dispatch.requested() == _dispatch.AUTO


def test_the_setter_holds() -> None:
    blurfft.use_backend("reference")
    assert _dispatch.requested() == "reference"
    blurfft.use_backend("auto")
    assert _dispatch.requested() == "auto"


def test_the_backend_asked_for_serves(spy: list[str]) -> None:
    with blurfft.use_backend("spy"):
        call()
    assert spy == ["wiener_loss"]
    call()
    assert spy == ["wiener_loss"]


def test_a_thread_has_its_own(spy: list[str]) -> None:
    thread = threading.Thread(target=call)
    with blurfft.use_backend("spy"):
        thread.start()
        thread.join()
    assert spy == []


def test_backward_uses_the_backend_of_its_forward(spy: list[str]) -> None:
    x, k = images(SMOOTH).requires_grad_(), kernels((3, 3)).requires_grad_()
    with blurfft.use_backend("spy"):
        y = blurfft.blur(x, k)
    y.sum().backward()
    assert set(spy) == {"otf", "otf_backward", "spectral_filter", "cross_spectrum"}
    assert _dispatch.requested() == _dispatch.AUTO


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of 'auto', 'cuda', 'cpu', .* got 'mkl'$"):
        blurfft.use_backend("mkl")
    with pytest.raises(TypeError, match=r"^name must be a str, one of 'auto', .* got NoneType$"):
        blurfft.use_backend(None)  # type: ignore[arg-type]
    assert _dispatch.requested() == _dispatch.AUTO


@pytest.mark.parametrize(
    ("built", "version", "reason"),
    [
        (
            False,
            "13.0",
            r"the extension was built without CUDA kernels \(asked for\); install blurfft with the CUDA tool",
        ),
        (True, None, r"torch .* is a build without CUDA; install one for CUDA, then blurfft again"),
        (True, "13.0", "torch sees no CUDA device"),
    ],
)
def test_the_cuda_backend_says_what_it_lacks(
    built: bool, version: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"cuda": built, "cuda_reason": "asked for"}
    monkeypatch.setattr(_ext, "module", lambda: SimpleNamespace(build_info=lambda: info))
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=rf"^backend 'cuda' is not available: {reason}"):
        blurfft.use_backend("cuda")


@pytest.mark.parametrize(
    ("codes", "served", "not_served"),
    [
        ("sm_80,sm_90,sm_100,compute_80", ["8.0", "8.6", "8.9", "9.0", "10.0", "12.0"], ["7.0", "7.5"]),
        ("sm_86", ["8.6", "8.9"], ["8.0", "9.0"]),
        ("sm_90a", ["9.0"], ["8.0", "10.0"]),
        ("sm_100f", ["10.0", "10.3"], ["9.0", "12.0"]),
    ],
)
def test_the_cuda_backend_serves_what_it_has_code_for(
    codes: str, served: list[str], not_served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _dispatch._BACKENDS["cuda"]
    extension = SimpleNamespace(build_info=lambda: {"cuda_codes": codes})
    monkeypatch.setattr(_ext, "module", lambda: extension)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "a GPU")
    for capability in (*served, *not_served):
        major, minor = map(int, capability.split("."))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i, found=(major, minor): found)
        reason = backend.why_not("otf", "cuda", torch.float32, 16, 16)
        if capability in served:
            assert reason is None
        else:
            assert reason.startswith(f"a GPU has compute capability {capability}, and the extension holds code for ")
            assert ("needs 8.0 or newer" if major < 8 else f"TORCH_CUDA_ARCH_LIST={capability}") in reason


def test_the_cuda_backend_says_what_it_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ext, "module", SimpleNamespace)
    why_not = _dispatch._BACKENDS["cuda"].why_not
    assert why_not("otf", "cuda", torch.float32, 2048, 28) is None
    assert why_not("otf", "cpu", torch.float32, 16, 16) == "it runs on CUDA devices and the tensors are on 'cpu'"
    assert why_not("otf", "cuda", torch.float32, 89, 2039) is None
    for size in ((64, 2049), (4096, 64)):
        found = why_not("otf", "cuda", torch.float32, *size)
        assert found is not None and found.startswith("it serves height and width up to 2048, which the ")


def test_auto_takes_the_fastest_that_serves() -> None:
    for shape in (SMOOTH, LONG):
        call(shape)
    choose = _dispatch._choose
    for backend in blurfft.available_backends():
        module = _dispatch._BACKENDS[backend]
        if module.why_not("blur", "cpu", torch.float32, 16, 12) is None:
            assert choose("auto", "otf", torch.device("cpu"), torch.float32, 16, 12) is module.functions()["otf"]
            break
    assert choose("auto", "otf", torch.device("cpu"), torch.float32, 3, 4099) is reference.functions()["otf"]
    assert choose("auto", "otf", torch.device("cuda"), torch.float32, 16, 12) is reference.functions()["otf"]


@pytest.mark.skipif("cpu" not in blurfft.available_backends(), reason="the extension is not there")
def test_the_cpu_backend_says_what_it_cannot_serve() -> None:
    with blurfft.use_backend("cpu"):
        call(SMOOTH)
        with pytest.raises(
            RuntimeError,
            match=r"^backend 'cpu' cannot serve wiener_loss of 3x4099 torch.float64 planes: it serves height and width "
            r"up to 4096, which the width 4099 is not. Ask for 'auto'",
        ):
            call(LONG)
    with pytest.raises(RuntimeError, match="it runs on the CPU and the tensors are on 'cuda'"):
        _dispatch._choose("cpu", "otf", torch.device("cuda"), torch.float32, 16, 12)
    extension = _ext.module()
    assert (
        extension is not None and f"height and width up to {extension.max_length}" == _dispatch._BACKENDS["cpu"].SIZES
    )


def test_an_extension_that_was_not_built(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert blurfft.available_backends() == ("reference",)
    with pytest.raises(
        RuntimeError, match=r"^backend 'cpu' is not available: the compiled extension is not built; .*pip"
    ):
        blurfft.use_backend("cpu")
    call()


def test_an_extension_that_does_not_load(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise ImportError("undefined symbol: aoti_torch_new")

    spec = importlib.machinery.ModuleSpec("blurfft._C", None, origin="/lib/_C.so")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        RuntimeError,
        match=r"the compiled extension /lib/_C.so exists but does not load: undefined symbol: aoti_torch_new",
    ):
        blurfft.use_backend("cpu")
    assert "does not load" in next(row["unavailable"] for row in _dispatch.explain() if row["name"] == "cpu")


def test_explain_has_a_row_for_each_backend() -> None:
    rows = {row["name"]: row for row in _dispatch.explain()}
    assert set(rows) == {"reference", "cpu", "triton", "cuda"}
    assert rows["reference"]["unavailable"] is None and rows["reference"]["sizes"] == "any"
    assert tuple(name for name, row in rows.items() if row["unavailable"] is None) == blurfft.available_backends()


def run(code: str, backend: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "BLURFFT_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_names_the_default() -> None:
    code = """
import torch, blurfft
from blurfft import _dispatch
assert _dispatch.requested() == "reference"
with blurfft.use_backend("auto"):
    assert _dispatch.requested() == "auto"
assert _dispatch.requested() == "reference"
"""
    done = run(code, "reference")
    assert done.returncode == 0, done.stderr


def test_a_wrong_name_in_the_environment_is_told_at_the_first_call() -> None:
    code = """
import torch, blurfft
print("imported")
blurfft.blur(torch.ones(1, 1, 4, 4), torch.ones(1, 1))
"""
    done = run(code, "fftw")
    assert done.stdout == "imported\n"
    assert "ValueError: the environment variable BLURFFT_BACKEND must be one of 'auto', 'cuda'" in done.stderr
    assert "got 'fftw'" in done.stderr


def test_a_context_can_be_entered_again() -> None:
    context = blurfft.use_backend("reference")
    for _ in range(3):
        with context:
            assert _dispatch.requested() == "reference"
            with context:
                assert _dispatch.requested() == "reference"
            assert _dispatch.requested() == "reference"
        assert _dispatch.requested() == "auto"
