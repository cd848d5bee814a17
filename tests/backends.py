"""The backends to test in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

import blurfft
from blurfft import _dispatch

# Triton reads this when a kernel is defined: a process runs its kernels either in the interpreter or on a GPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Backend(NamedTuple):
    name: str
    device: str

    @property
    def functions(self) -> SimpleNamespace:
        return SimpleNamespace(**_dispatch._BACKENDS[self.name].functions())

    def why_not(self, op: str, dtype: torch.dtype, height: int, width: int) -> str | None:
        return _dispatch.why_not(self.name, op, self.device, dtype, height, width)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Within it this backend serves, and tensors are made on its device. Skips the test where it cannot."""
        if self.device == "cuda" and not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")
        reason = next(row["unavailable"] for row in _dispatch.explain() if row["name"] == self.name)
        if reason is not None:
            pytest.skip(f"backend {self.name}: {reason}")
        with blurfft.use_backend(self.name), torch.device(self.device):
            yield


def _param(name: str, device: str) -> Any:
    marks = [pytest.mark.cuda] if device == "cuda" else []
    return pytest.param(Backend(name, device), id=name if device == "cpu" else f"{name}-on-{device}", marks=marks)


ON_CPU = [_param(name, "cpu") for name in (["triton"] if INTERPRETED else ["reference", "cpu"])]
ON_GPU = [_param(name, "cuda") for name in ([] if INTERPRETED else ["triton", "cuda"])]
