"""The compiled CPU code under sanitizers: ``make sanitize``.

``address``: the tests of the CPU kernels, with an extension that AddressSanitizer and UndefinedBehaviorSanitizer watch:
``test_cpu.py`` whole, which takes every op through every instruction set, radix, layout, dtype and number of threads,
and what ``test_backends.py`` does with the backend ``cpu``. Other tests of ops, functions and modules come by the same
C++ with calls like these.
``thread``: every operator in parallel regions of four threads, called by three threads at once, under ThreadSanitizer,
which must see threads being made and joined, as it does not with torch's OpenMP. ``plan``: lengths in random order
through the planner. ``python tests/sanitize.py thread plan`` runs these two.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import conformance
import standalone
import torch
from conformance import CALLS, TAKING_IMAGES, Case

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "sanitize"

TESTS = ("test_cpu.py", "test_backends.py")
OF_OTHERS = "[reference or reference] or -on-cuda"  # backends: in the names of their tests


def _run(command: list[str | Path], **environment: str) -> None:
    subprocess.run(command, cwd=PLACE, env={**os.environ, **environment}, check=True)


def _library(name: str) -> str:
    command = [os.environ.get("CXX", "g++"), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def address(arguments: list[str]) -> str:
    PLACE.mkdir(parents=True, exist_ok=True)
    # A package of its own, which Python finds in the folder it is started in.
    folders = ["--build-base", PLACE / "base", "--build-lib", PLACE, "build_ext", "--build-temp", PLACE / "objects"]
    sanitizers = "-fsanitize=address,undefined"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", *folders],
        cwd=ROOT,
        env={
            **os.environ,
            "BLURFFT_CUDA": "0",
            "CXXFLAGS": f"{sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1",
            "LDFLAGS": sanitizers,
        },
        check=True,
    )
    environment = {
        "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
        # Python and torch never free what they keep to their end.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(PLACE),
    }
    watched = "import blurfft._ext as e; assert '-fsanitize' in e.module().build_info()['flags'], e.module().__file__"
    _run([sys.executable, "-c", watched], **environment)
    tests = [*(ROOT / "tests" / name for name in TESTS)]
    _run([sys.executable, "-m", "pytest", "-q", "-n", "auto", "--maxprocesses=8", *tests, *arguments], **environment)
    return "nothing to complain of"


# Planes by threads of their own, planes that threads share, and samples whose weights a thread makes.
THREADED = [
    Case(12, 10, samples=40),
    Case(34, 46, samples=7, channels=2),
    Case(64, 24, torch.float64, samples=12),
    Case(9, 7, torch.bfloat16, "channels_last", "channels_last", samples=33, channels=20),
    Case(256, 288, samples=1),
    Case(257, 271, samples=1, channels=1),
    Case(320, 256, torch.float64, "channels_last", "channels_last", samples=1, channels=5),
]


def thread() -> str:
    operators = standalone.Operators("thread", threads=4, callers=3, TSAN_OPTIONS="halt_on_error=1")
    calls = 0
    for case in THREADED:
        for call in CALLS:
            if call in TAKING_IMAGES or case.dtype.itemsize > 2:
                conformance.check(operators, call, case)
                calls += 1
    operators.close()
    return f"{calls} calls, each by 3 threads at once in parallel regions of 4, without a race and with right results"


def plan(inputs: int, seed: int) -> str:
    subprocess.run([standalone.build("address", "plan"), str(seed), str(inputs)], check=True)
    return f"{inputs} inputs without a complaint"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["address", "thread", "plan"], help="address, thread or plan")
    parser.add_argument("--inputs", type=int, default=2_000, help="of the planner")
    parser.add_argument("--seed", type=int, default=0, help="of these inputs")
    parser.add_argument("-k", help="which tests, as pytest takes it")
    given = parser.parse_args()
    selected = ["-k", given.k or f"not ({OF_OTHERS})"]
    parts = {"address": lambda: address(selected), "thread": thread, "plan": lambda: plan(given.inputs, given.seed)}
    for name in given.parts:
        since = time.monotonic()
        outcome = parts[name]()
        print(f"{name}: {outcome} ({time.monotonic() - since:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
