"""What a process may do around the losses, a scenario each: fork, spawn, call from threads, interrupt, run out of room.

    python tests/processes.py fork

Each ends with "done", or with what went wrong. They have a process of their own: they fork, signal and limit it.
"""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import random
import re
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

import blurfft
from blurfft import _dispatch

SIZES = [(30, 21), (64, 48), (17, 34)]


def _loss_and_gradients(height: int, width: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)

    def leaf(*shape: int) -> Tensor:
        return (0.1 + torch.rand(shape, generator=generator)).requires_grad_()

    def image() -> Tensor:
        return leaf(6, 3, height, width)

    kernel, nsr, eps = leaf(6, 1, 3, 3), leaf(6), leaf()
    weight = leaf(height, width // 2 + 1)
    calls: list[tuple[Callable[..., Tensor], list[Tensor]]] = [
        (lambda x, y, k, c, e: blurfft.wiener_loss(x, y, k, c, eps=e), [image(), image(), kernel, nsr, eps]),
        (
            lambda x, y, k, c, e: blurfft.wiener_loss(x, y, k, c, eps=e, reduction="none"),
            [image(), image(), kernel, nsr, eps],
        ),
        (lambda x, y, k: blurfft.wiener_nll(x, y, k, reduction="none"), [image(), image(), leaf(3, 5)]),
        (blurfft.spectral_mse, [image(), image(), weight]),
        (blurfft.blur_mse, [image(), image(), leaf(1, 3, 4, 3)]),
        (blurfft.focal_frequency_loss, [image(), image()]),
        (lambda x, y: blurfft.focal_frequency_loss(x, y, batch_matrix=True), [image(), image()]),
        (blurfft.wiener_filter, [image(), kernel, nsr]),
        (blurfft.blur, [image(), kernel]),
    ]
    for call, leaves in calls:
        value = call(*leaves)
        yield value
        yield from torch.autograd.grad(value.sum(), leaves)


def digest(sizes: list[tuple[int, int]] = SIZES) -> str:
    """Of every bit of the losses and their gradients."""
    bits = hashlib.sha256()
    for size in sizes:
        for result in _loss_and_gradients(*size):
            bits.update(result.detach().numpy().tobytes())
    return bits.hexdigest()


def forked(work: Callable[[], str], patience: float = 120.0) -> str:
    """What ``work`` gives in a child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, work().encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        hangs = not select.select([pipe], [], [], patience)[0]
        if hangs:
            os.kill(child, signal.SIGKILL)
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said or ("the child hung" if hangs else "the child died")


def fork() -> None:
    """After use, as the workers of a DataLoader do: they have one thread each."""
    expected = digest()

    def child() -> str:
        torch.set_num_threads(1)
        return digest()

    for _ in range(4):
        assert (said := forked(child)) == expected, said


def fork_during_use() -> None:
    """While other threads are in the middle of calls, some of sizes that are new."""
    torch.set_num_threads(1)
    expected = digest()
    over = threading.Event()

    def use(first: int) -> None:
        side = first
        while not over.is_set():
            blurfft.wiener_loss(torch.ones(1, 1, side, 3), torch.zeros(1, 1, side, 3), torch.ones(1, 1), 0.1 * side)
            side = first + (side + 1) % 400

    users = [threading.Thread(target=use, args=(first,)) for first in (2, 600)]
    for user in users:
        user.start()
    try:
        for _ in range(25):
            assert (said := forked(digest)) == expected, said
    finally:
        over.set()
        for user in users:
            user.join()


def spawn() -> None:
    expected = digest()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(digest, [SIZES] * 4) == [expected] * 4


def threads() -> None:
    """8 at once, the first time that the process meets these sizes, too."""
    torch.set_num_threads(2)
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(digest, [SIZES] * 8)) + list(pool.map(digest, [SIZES] * 8))
    assert set(at_once) == {digest()}


def interrupts() -> None:
    """40, at random moments: what follows each is right."""
    chance = random.Random(0)
    sizes = SIZES[:1]
    expected = digest(sizes)
    start = time.perf_counter()
    digest(sizes)
    once = time.perf_counter() - start
    count = 0
    while count < 40:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, once))
            digest(sizes)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            count += 1
            assert torch.is_grad_enabled() and _dispatch.requested() == "auto"
            if count % 5 == 0:
                assert digest(sizes) == expected, f"wrong after {count} interrupts"


def thread_counts() -> None:
    """Small planes, and large ones that are shared."""
    digests = []
    for count in (1, 2, 3, 7):
        torch.set_num_threads(count)
        digests.append(digest([*SIZES, (257, 300)]))
    assert len(set(digests)) == 1


ROOM = re.compile(r"cannot allocate (\d+) bytes (?:of workspace|for a tensor)|you tried to allocate (\d+) bytes")


@contextmanager
def _room_for(bytes_: int) -> Iterator[None]:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _large(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(2, 3, 512, 400, dtype=dtype)


def _many(*size: int) -> Tensor:
    return torch.ones(300_000, 1, *size)


def no_room() -> None:
    """Each op with ever more room: whatever it does not get is named with its size, and nothing else goes wrong."""
    torch.set_num_threads(1)
    # M_MMAP_THRESHOLD and M_ARENA_MAX: nothing large comes from what others have freed or reserved.
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-3, 1 << 17), mallopt(-8, 1)
    ones = torch.ones
    grown = _large().requires_grad_()
    half = torch.fft.rfft2(_large())
    # With the one tensor that a call gets, and the least of what it asks for.
    ops: dict[str, Callable[[], object]] = {
        "rfft2": lambda: blurfft.rfft2(_views[0]),
        "rfft2 of a view": lambda: blurfft.rfft2(_views[0].permute(2, 3, 0, 1)),
        "irfft2": lambda: blurfft.irfft2(half),
        "irfft2 of a view": lambda: blurfft.irfft2(half.transpose(2, 3)),
        "blur": lambda: blurfft.blur(_views[0], ones(3, 3)),
        "blur of bfloat16": lambda: blurfft.blur(_views[1], ones(3, 3)),
        "wiener_loss": lambda: blurfft.wiener_loss(grown, _views[0], ones(2, 3, 5, 5)),
        "wiener_loss of float16": lambda: blurfft.wiener_loss(_views[2], _views[2], ones(5, 5)),
        "wiener_nll": lambda: blurfft.wiener_nll(grown, _views[0], ones(2, 1, 5, 5).requires_grad_()),
        "spectral_mse": lambda: blurfft.spectral_mse(grown, _views[0], ones(512, 201).requires_grad_()),
        "blur_mse": lambda: blurfft.blur_mse(grown, _views[0], ones(5, 5).requires_grad_()),
        "focal_frequency_loss": lambda: blurfft.focal_frequency_loss(grown, _views[0]),
        "many planes": lambda: blurfft.wiener_nll(_planes, _planes, ones(1, 1), reduction="none"),
        "many kernels": lambda: blurfft.wiener_nll(_planes, _planes, _planes[..., :1, :1].requires_grad_()).backward(),
    }
    _views = [_large(), _large(torch.bfloat16), _large(torch.float16).requires_grad_()]
    _planes = _many(2, 1)
    for threads in (1, 2):
        for name, op in ops.items():
            if threads == 2 and name not in ("wiener_loss", "rfft2"):
                continue
            sizes, room, said = set(), 1 << 20, ""
            while said != "ok":

                def child(op: Callable[[], object] = op, room: int = room, threads: int = threads) -> str:
                    torch.set_num_threads(threads)
                    blurfft.rfft2(torch.ones(64, 1, 32, 32))  # starts the threads, each of which takes room itself
                    with _room_for(room):
                        op()
                    return "ok"

                said = forked(child)
                found = ROOM.search(said)
                assert said == "ok" or found, f"{name} with room for {room} bytes: {said}"
                if found:
                    sizes.add(int(found[1] or found[2]))
                room += 5 << 19
                assert room < 1 << 28, f"{name} did not find room: {said}"
            assert sizes and min(sizes) > 100_000, f"{name} failed to allocate {sizes}"


SCENARIOS = {s.__name__: s for s in (fork, fork_during_use, spawn, threads, interrupts, thread_counts, no_room)}

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    SCENARIOS[sys.argv[1]]()
    print("done")
