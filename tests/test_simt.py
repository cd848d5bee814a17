"""The SIMT emulator itself: kernels with one mistake each are caught, and pass without it."""

from __future__ import annotations

import ctypes

import pytest
import simt

pytestmark = pytest.mark.skipif(simt.unavailable() is not None, reason=str(simt.unavailable()))

# What the emulator says about each kernel of broken.cpp.
COMPLAINTS = {
    "missing_barrier": "race in shared memory at broken.cpp",
    "overwritten_too_early": "race in shared memory",
    "warp_exchange": "race in shared memory",
    "read_past_the_end": r"access out of bounds at .* reads 4 bytes 4 bytes past the end of the nearest, 'input' \(64",
    "write_before_the_beginning": "access out of bounds at .* writes 4 bytes 4 bytes before the beginning .* 'output'",
    "write_to_input": "write to an input",
    "past_dynamic_shared": "access out of bounds at .* at byte 512 of the dynamic shared memory, which has 512 bytes",
    "past_static_shared": r"access out of bounds at .* takes element 64 of an array of type 'float \[64\]'",
    "unwritten_output": "unwritten output at 'output': 1 of 64 words .* in element 5",
    "read_unwritten_output": "read of uninitialised memory at .* of output 'output'",
    "race_between_blocks": "race in global memory",
    "race_between_halves": "race in global memory",
    "divergent_barrier": "divergent barrier at .* of 64 threads, 32 have exited and 32 wait in __syncthreads",
    "two_barriers": "divergent barrier at .* in the one at broken.cpp",
    "uninitialised_shared": "read of uninitialised memory at .* of the static shared memory, which nobody has written",
    "shuffle_outside_mask": "wrong warp mask at .* lane 0 reads lane 16 in __shfl_xor_sync, which mask 0x0000ffff",
    "shuffle_without_lanes": "wrong warp mask at .* in __shfl_down_sync .* for lane 31, which has exited",
    "vote_without_caller": "wrong warp mask at .* with mask 0xfffffffe, which leaves it out",
    "misaligned_vector": "misaligned access at .* past a multiple of 8 bytes",
    "cluster_without_start": r"cluster access before cluster.sync\(\)",
    "cluster_access_after_exit": "cluster access after exit",
    "cluster_race": "race in shared memory at .* which thread .* writes",
    "last_block": "race in global memory at .* of scratch 'partial'",
    "reductions": "race in shared memory",
}


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    library = simt.load("broken")
    library.case_name.restype = library.run_case.restype = ctypes.c_char_p
    library.run_case.argtypes = [ctypes.c_size_t, ctypes.c_bool, ctypes.c_uint64]
    return library


@pytest.fixture(scope="module")
def cases(library: ctypes.CDLL) -> dict[str, int]:
    names = iter(lambda: library.case_name(len(found)), None)
    found: dict[str, int] = {}
    for name in names:
        found[name.decode()] = len(found)
    return found


def test_every_kernel_is_listed(cases: dict[str, int]) -> None:
    assert cases.keys() == COMPLAINTS.keys()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", COMPLAINTS)
def test_mistakes_are_caught(name: str, seed: int, library: ctypes.CDLL, cases: dict[str, int]) -> None:
    message = library.run_case(cases[name], True, seed)
    assert message is not None
    with pytest.raises(RuntimeError, match=COMPLAINTS[name]):
        raise RuntimeError(message.decode())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", COMPLAINTS)
def test_kernels_without_mistakes_pass(name: str, seed: int, library: ctypes.CDLL, cases: dict[str, int]) -> None:
    message = library.run_case(cases[name], False, seed)
    assert message is None, message.decode()
