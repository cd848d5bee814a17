"""A training run that is killed, fills its disk or may not write, again and again, and a million calls of the losses:
``make soak``.

``python tests/soak.py --kills 20 --steps 300`` takes minutes; ``test_soak.py`` runs the same with few of each.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import blurfft

OPTIONS = ["--size", "28", "--channels", "1", "--latent", "4", "--width", "8", "--batch", "4", "--rate", "5"]
INTERVAL = 5
GROWTH = 8  # MiB at most; 4000 calls that are remembered take as much


class Broken(AssertionError):
    """What a run has lost, or said wrongly."""


def check(held: bool, message: str) -> None:
    if not held:
        raise Broken(message)


def photos(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return folder


def start(data: Path, out: Path, steps: int, **process: Any) -> subprocess.Popen[str]:
    """A run that begins, or goes on where there is a checkpoint."""
    begun = ["--resume"] if (out / "checkpoint.pt").exists() else ["--data", str(data), *OPTIONS, "--overwrite"]
    arguments = ["--out", out, "--steps", steps, "--interval", INTERVAL, "--device", "cpu", "--no-tensorboard", *begun]
    return subprocess.Popen(
        [sys.executable, "-m", "blurfft", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        **process,
    )


def finish(data: Path, out: Path, steps: int) -> None:
    run = start(data, out, steps)
    said, _ = run.communicate()
    check(run.returncode == 0, f"a run that nobody stops ends with {run.returncode}: {said[-500:]}")


def refused(data: Path, out: Path, steps: int, **process: Any) -> None:
    """A run that cannot write says so, and what is kept."""
    run = start(data, out, steps, **process)
    said, _ = run.communicate()
    check(run.returncode == 1, f"it ends with {run.returncode}: {said[-500:]}")
    check("Traceback" not in said, f"a traceback: {said[-500:]}")
    check("cannot write to" in said, f"it does not say what is wrong: {said[-500:]}")


def rows(out: Path) -> list[dict[str, str]]:
    """The log, without what depends on the clock."""
    if not (out / "log.csv").exists():
        return []
    with (out / "log.csv").open(newline="") as file:
        return [{**row, "steps_per_second": ""} for row in csv.DictReader(file)]


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [tensor for key in value for tensor in tensors(value[key])]
    if isinstance(value, list):
        return [tensor for item in value for tensor in tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def checkpoint(out: Path) -> dict[str, Any]:
    return dict(torch.load(out / "checkpoint.pt", weights_only=True))


def same(out: Path, other: Path) -> None:
    a, b = checkpoint(out), checkpoint(other)
    check(a["step"] == b["step"], f"step {a['step']} instead of {b['step']}")
    check(len(tensors(a)) == len(tensors(b)) > 0, "checkpoints of different models")
    check(all(map(torch.equal, tensors(a), tensors(b))), f"the checkpoint in {out} is another one than in {other}")


def kills(folder: Path, count: int, steps: int, seed: int = 0) -> int:
    """A run that is killed ``count`` times, shortly after a row of the log, ends as one that is left alone: checkpoint
    bit for bit, rows, files. Returns how often it was killed before it was complete."""
    chance = random.Random(seed)
    data, whole, cut = photos(folder / "photos"), folder / "whole", folder / "cut"
    finish(data, whole, steps)
    killed = 0
    while killed < count:
        before, wanted = len(rows(cut)), chance.randint(1, 3)
        run = start(data, cut, steps)
        while run.poll() is None and len(rows(cut)) < before + wanted:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        if run.returncode == 0:
            break
        killed += 1
    finish(data, cut, steps)
    same(cut, whole)
    check(
        rows(cut) == rows(whole), f"rows {[row['step'] for row in rows(cut)]} of a run that was killed {killed} times"
    )
    left, right = (sorted(file.name for file in out.rglob("*")) for out in (cut, whole))
    check(left == right, f"files {left} instead of {right}")
    return killed


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[bool]:
    """A disk of its own, if we may mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def disks(folder: Path) -> bool:
    """A run whose disk is full, and then read-only, says so each time, keeps its checkpoint, and goes on when it can.
    Returns whether we could have a read-only folder."""
    data = photos(folder / "photos")
    with small_disk(folder / "disk", 16) as mounted:
        disk, out = folder / "disk", folder / "disk" / "run"
        finish(data, out, INTERVAL)
        before = (out / "checkpoint.pt").read_bytes()

        def kept() -> None:
            check((out / "checkpoint.pt").read_bytes() == before, "the last checkpoint is not what it was")

        if mounted:
            with (disk / "filler").open("wb", 0) as filler, suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            refused(data, out, 2 * INTERVAL)
            (disk / "filler").unlink()
        else:
            limit = len(before) // 2
            refused(
                data, out, 2 * INTERVAL, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            )
        kept()
        locked = mounted or os.geteuid() != 0  # no permission stops root
        if locked:
            subprocess.run(["mount", "-o", "remount,ro", disk] if mounted else ["chmod", "a-w", out], check=True)
            refused(data, out, 2 * INTERVAL)
            refused(data, out / "new", INTERVAL)
            kept()
            subprocess.run(["mount", "-o", "remount,rw", disk] if mounted else ["chmod", "u+w", out], check=True)
        finish(data, out, 2 * INTERVAL)
        check([row["step"] for row in rows(out)] == ["5", "10"], f"rows {[row['step'] for row in rows(out)]}")
        check(not list(out.rglob(".*")), f"left over: {list(out.rglob('.*'))}")
    return locked


def calls(count: int) -> None:
    """Of ever other numbers and shapes, 4000 and 1024. Prints the memory after every tenth of them."""
    chance = random.Random(0)
    sides, numbers = range(4, 36), [1e-3 + 1e-4 * i for i in range(4000)]
    images = {(h, w): (torch.rand(1, 1, h, w), torch.rand(1, 1, h, w)) for h in sides for w in sides}
    kernel = torch.ones(3, 3) / 9
    losses = (
        lambda x, y, v: blurfft.wiener_loss(x, y, kernel, v),
        lambda x, y, v: blurfft.wiener_nll(x, y, kernel, eps=v),
        lambda x, y, v: blurfft.focal_frequency_loss(x, y, alpha=v),
        lambda x, y, v: blurfft.focal_frequency_loss(x, y, loss_weight=v),
    )
    resident = []
    for done in range(1, count + 1):
        size = chance.choice(sides), chance.choice(sides)
        losses[done % len(losses)](*images[size], chance.choice(numbers))
        if done % (count // 10) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize() / 2**20)
            print(f"{done} calls: {resident[-1]:.1f} MiB", flush=True)
    grown = resident[-1] - resident[0]
    check(grown < GROWTH, f"{grown:.1f} MiB more after {count} calls than after {count // 10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1_000_000, help="at least 10, or 0 for none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        killed = kills(folder / "kills", arguments.kills, arguments.steps, arguments.seed)
        print(f"killed {killed} times: checkpoint, log and files as if it had not been")
        locked = disks(folder / "disks")
        print("full disk: said so, kept the checkpoint, went on with room")
        print(f"read-only folder: {'said so' if locked else 'not tried, nobody may mount and root may write'}")
    if arguments.calls:
        calls(arguments.calls)


if __name__ == "__main__":
    main()
