from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator

import pytest
import torch
from backends import ON_CPU, Backend

# pytest-xdist runs as many processes as there are cores: with all threads each they would wait for one another.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    torch.set_num_threads(max(1, torch.get_num_threads() // int(workers)))

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


@pytest.fixture(params=ON_CPU)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Runs the test with each backend that runs on the CPU."""
    with request.param.serving():
        yield request.param


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a CUDA device one case of each test that needs it is enough to say so."""
    if torch.cuda.is_available():
        return
    seen: set[str] = set()
    kept: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item in items:
        function = item.nodeid.partition("[")[0]
        needs_device = item.get_closest_marker("cuda") is not None
        (rest if needs_device and function in seen else kept).append(item)
        if needs_device:
            seen.add(function)
    if rest:
        config.hook.pytest_deselected(items=rest)
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """An illegal access ends the CUDA context, and with it every later test of the process: pytest-xdist is to start
    another one."""
    if call.excinfo is not None and "CUDA error" in str(call.excinfo.value) and "PYTEST_XDIST_WORKER" in os.environ:
        print(f"\n{item.nodeid}: {call.excinfo.value}", file=sys.__stderr__, flush=True)
        os._exit(1)
    return (yield)
