from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import blurfft
from blurfft import _dispatch

torch.manual_seed(0)  # what test modules draw when they are imported, too


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fills uninitialised memory with NaN, in Python and in C++: what a kernel forgets to write becomes visible."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with each backend that runs on the CPU."""
    reason = next(row["unavailable"] for row in _dispatch.explain() if row["name"] == request.param)
    if reason is not None:
        pytest.skip(f"backend {request.param}: {reason}")
    with blurfft.use_backend(request.param):
        yield request.param
