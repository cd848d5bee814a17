"""The transform that every kernel is built of: butterflies on the axes of a tensor.

A tile of B x H x W complex numbers is a pair of flat tensors, real and imaginary, in row-major order. A length n is a
product of radices; its axis is then as many axes, one a digit. A pass works on one digit: ``tl.split`` takes the tile
apart along it into leaves, the butterfly is arithmetic between leaves, and ``tl.join`` puts them together. Reshapes,
permutations, splits and joins rename registers if a thread holds all of the digit; the compiler inserts the one
exchange through shared memory that makes it so. Decimation in frequency leaves the digits of the frequency in
reverse, lowest first, and so they stay: spectra are indexed in that order (``frequency``) and the inverse
consumes it.

A digit of radix 3, 5 or 7 has an axis of 4 or 8 whose last entries are zero. They cost registers but no memory
traffic, since loads and stores are masked. At most one such digit comes first, so that an index in the tile is the
index in the image (``index``) and accesses stay wide.

Why not ``tl.dot``: compiled for sm_90, a pair of 64 x 64 planes as dense DFT matrices needs 255 registers and spills,
or 19 KB of stack in full precision. This form needs 167 registers, no stack and 16 KB of shared memory (4 warps,
forward and inverse with weight and loss).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
import triton
import triton.language as tl

LIMIT = 1024  # the longest padded side
TILE = 128 * 128  # the largest tile, in padded complex numbers: 64 a thread
_PER_WARP = 1024  # 32 complex numbers a thread, if so many warps
_MOST_WARPS = 8  # with 255 registers a thread, of which 16 would leave 128


@cache
def radices(n: int) -> tuple[int, ...] | None:
    """The digits of a side of length ``n``, slowest first; None where a prime factor is above 7."""
    odd = []
    for r in (3, 5, 7):
        while n % r == 0:
            n //= r
            odd.append(r)
    if n & (n - 1):
        return None
    bits = n.bit_length() - 1
    # As few passes as eights allow, as even as that leaves them: 16 = 4 x 4, 128 = 8 x 4 x 4.
    passes = -(-bits // 3)
    powers = [2 ** (bits // passes + (i < bits % passes)) for i in range(passes)]
    return (*odd, *powers)


SIZES = "height and width with no prime factor above 7 and, factors of 3 counted as 4, of 5 and 7 as 8, up to 1024"


def why_not(height: int, width: int) -> str | None:
    """Why there is no kernel for planes of this size."""
    for name, side in (("height", height), ("width", width)):
        digits = radices(side)
        if digits is None:
            return f"it serves {SIZES}; the {name} {side} has a prime factor above 7"
        if pad(digits) > LIMIT:
            return f"it serves {SIZES}; the {name} {side} counts as {pad(digits)}"
    return None


def fits(height: int, width: int, dtype: torch.dtype, share: int = 2) -> bool:
    """Whether a plane is one tile, of as many numbers as leave a program's registers room for what an op needs."""
    double = compute_dtype(dtype) == torch.float64
    return extent(height, width) <= TILE // (max(4, 2 * share) if double else share)


def extent(height: int, width: int) -> int:
    """Of a plane in a tile."""
    return pad(radices(height)) * pad(radices(width))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def tile(size: int, slots: int, dtype: torch.dtype, tiles: int = 1) -> tuple[int, int]:
    """How many of ``slots`` planes of ``size`` a program holds, in so many tiles at a time, and its warps."""
    batch = min(max(1, _per_warp(dtype) // tiles // size), triton.next_power_of_2(slots))
    return batch, warps(tiles * size * batch, dtype)


def lines(length: int, dtype: torch.dtype, least: int = 1) -> tuple[int, int]:
    """How many lines of a padded length a program holds, and its warps: 4, unless ``least`` lines need more."""
    count = max(least, 4 * _per_warp(dtype) // length)
    return count, warps(count * length, dtype)


def warps(size: int, dtype: torch.dtype) -> int:
    """For so many complex numbers at a time."""
    return min(_MOST_WARPS, max(1, size // _per_warp(dtype)))


def _per_warp(dtype: torch.dtype) -> int:
    return _PER_WARP if compute_dtype(dtype) != torch.float64 else _PER_WARP // 4


@cache
def table(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n, 2): cos and sin of -2 pi t / n, rounded from float64."""
    values = [(_cos(t, n), -_sin(t, n)) for t in range(n)]
    host = torch.tensor(values, dtype=torch.float64, device="cpu").to(dtype)
    # It outlives the call. While torch.compile warms a CUDA graph up, what this thread allocates is the graph's.
    with ThreadPoolExecutor(max_workers=1) as other:
        return other.submit(host.to, device).result()


# Of digits and padding, for constants in kernels.


@triton.constexpr_function
def pad(digits):
    """The padded extent of some digits."""
    return math.prod(1 << (int(r) - 1).bit_length() for r in digits)


@triton.constexpr_function
def product(digits):
    return math.prod(int(r) for r in digits)


@triton.constexpr_function
def _after(digits, stage):
    return tuple(digits)[stage + 1 :]


@triton.constexpr_function
def _before(digits, stage):
    return tuple(digits)[:stage]


@triton.constexpr_function
def backwards(digits):
    """Digits in the order in which a transform leaves them."""
    return tuple(digits)[::-1]


@triton.constexpr_function
def _axes(before, digits):
    """The shape in which every digit of a side is an axis.

    The first axis is all that comes before the side.
    """
    padded = [pad((r,)) for r in tuple(digits)]
    return (int(before), *padded)


@triton.constexpr_function
def _is_plain(digits):
    """Whether at most the first digit is padded, so that an index into the padded side is an index into the side."""
    return all(int(r) & (int(r) - 1) == 0 for r in tuple(digits)[1:])


@triton.constexpr_function
def _cos(k, n):
    """cos(2 pi k / n) from the first eighth of a turn: right angles are exact, so that a kernel's zeros are."""
    k, n = int(k) % int(n), int(n)
    k = min(k, n - k)
    if 4 * k > n:
        return -_cos(n - 2 * k, 2 * n)
    return math.cos(2 * math.pi * k / n) if 8 * k <= n else math.sin(2 * math.pi * (n - 4 * k) / (4 * n))


@triton.constexpr_function
def _sin(k, n):
    return _cos(4 * int(k) - int(n), 4 * int(n))


@triton.jit
def index(q, DIGITS: tl.constexpr):
    """The index into a side that position ``q`` of its padded extent stands for, and whether it stands for one."""
    N: tl.constexpr = product(DIGITS)
    if _is_plain(DIGITS):
        i = q
        valid = q < N
    else:
        i = q * 0
        valid = q >= 0
        for s in tl.static_range(len(DIGITS)):
            d = q // pad(_after(DIGITS, s)) % pad((DIGITS[s],))
            i += d * product(_after(DIGITS, s))
            valid = valid & (d < DIGITS[s])
    return i, valid


@triton.jit
def frequency(q, DIGITS: tl.constexpr):
    """The frequency that position ``q`` holds after the forward transform, and whether it holds one."""
    f = q * 0
    valid = q >= 0
    for s in tl.static_range(len(DIGITS)):
        d = q // pad(_after(DIGITS, s)) % pad((DIGITS[s],))
        f += d * product(_before(DIGITS, s))
        valid = valid & (d < DIGITS[s])
    return f, valid


@triton.jit
def _split(x, BEFORE: tl.constexpr, RADIX: tl.constexpr, REST: tl.constexpr, AFTER: tl.constexpr):
    """The flat tile (BEFORE, RADIX, REST, AFTER) -> RADIX leaves (BEFORE, REST, AFTER)."""
    if RADIX == 2:
        leaves = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, REST, AFTER)), (0, 2, 3, 1)))
    elif RADIX == 4:
        lo, hi = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, 2, REST, AFTER)), (0, 3, 4, 2, 1)))
        x0, x1 = tl.split(lo)
        x2, x3 = tl.split(hi)
        leaves = (x0, x1, x2, x3)
    else:
        lo, hi = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, 2, 2, REST, AFTER)), (0, 4, 5, 3, 2, 1)))
        a, b = tl.split(lo)
        c, d = tl.split(hi)
        x0, x1 = tl.split(a)
        x2, x3 = tl.split(b)
        x4, x5 = tl.split(c)
        x6, x7 = tl.split(d)
        leaves = (x0, x1, x2, x3, x4, x5, x6, x7)
    return leaves


@triton.jit
def _join(x, RADIX: tl.constexpr):
    """The inverse of ``_split``."""
    if RADIX == 2:
        t = tl.permute(tl.join(x[0], x[1]), (0, 3, 1, 2))
    elif RADIX == 4:
        t = tl.permute(tl.join(tl.join(x[0], x[1]), tl.join(x[2], x[3])), (0, 4, 3, 1, 2))
    else:
        lo = tl.join(tl.join(x[0], x[1]), tl.join(x[2], x[3]))
        hi = tl.join(tl.join(x[4], x[5]), tl.join(x[6], x[7]))
        t = tl.permute(tl.join(lo, hi), (0, 5, 4, 3, 1, 2))
    return tl.reshape(t, (t.numel,))


# Butterflies. SIGN is that of the exponent: -1 forward, 1 inverse.


@triton.jit
def _dft4(x, y, SIGN: tl.constexpr):
    s, t = x[0] + x[2], x[0] - x[2]
    u, v = x[1] + x[3], x[1] - x[3]
    p, q = y[0] + y[2], y[0] - y[2]
    a, b = y[1] + y[3], y[1] - y[3]
    if SIGN < 0:
        re = (s + u, t + b, s - u, t - b)
        im = (p + a, q - v, p - a, q + v)
    else:
        re = (s + u, t - b, s - u, t + b)
        im = (p + a, q + v, p - a, q - v)
    return re, im


@triton.jit
def _dft8(x, y, SIGN: tl.constexpr):
    R: tl.constexpr = 0.7071067811865476
    even = _dft4(
        (x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]),
        (y[0] + y[4], y[1] + y[5], y[2] + y[6], y[3] + y[7]),
        SIGN,
    )
    a, b = x[1] - x[5], y[1] - y[5]
    c, d = x[2] - x[6], y[2] - y[6]
    e, f = x[3] - x[7], y[3] - y[7]
    if SIGN < 0:
        odd = _dft4((x[0] - x[4], (a + b) * R, d, (f - e) * R), (y[0] - y[4], (b - a) * R, -c, (-e - f) * R), SIGN)
    else:
        odd = _dft4((x[0] - x[4], (a - b) * R, -d, (-e - f) * R), (y[0] - y[4], (a + b) * R, c, (e - f) * R), SIGN)
    g, h = even[0], odd[0]
    k, m = even[1], odd[1]
    return (g[0], h[0], g[1], h[1], g[2], h[2], g[3], h[3]), (k[0], m[0], k[1], m[1], k[2], m[2], k[3], m[3])


@triton.jit
def _dft_odd(x, y, RADIX: tl.constexpr, SIGN: tl.constexpr):
    """A prime radix from the sums and differences of the leaves j and -j."""
    re, im = x[0], y[0]
    for j in tl.static_range(1, RADIX // 2 + 1):
        re += x[j] + x[RADIX - j]
        im += y[j] + y[RADIX - j]
    xs, ys = (re,), (im,)
    for k in tl.static_range(1, RADIX):
        re, im = x[0], y[0]
        for j in tl.static_range(1, RADIX // 2 + 1):
            re += _cos(j * k, RADIX) * (x[j] + x[RADIX - j]) - _sin(SIGN * j * k, RADIX) * (y[j] - y[RADIX - j])
            im += _cos(j * k, RADIX) * (y[j] + y[RADIX - j]) + _sin(SIGN * j * k, RADIX) * (x[j] - x[RADIX - j])
        xs = xs + (re,)
        ys = ys + (im,)
    return xs, ys


@triton.jit
def _dft(x, y, RADIX: tl.constexpr, SIGN: tl.constexpr):
    if RADIX == 2:
        re, im = (x[0] + x[1], x[0] - x[1]), (y[0] + y[1], y[0] - y[1])
    elif RADIX == 4:
        re, im = _dft4(x, y, SIGN)
    elif RADIX == 8:
        re, im = _dft8(x, y, SIGN)
    else:
        re, im = _dft_odd(x, y, RADIX, SIGN)
    return re, im


@triton.jit
def _twiddle(x, y, table, DIGITS: tl.constexpr, STAGE: tl.constexpr, SIGN: tl.constexpr):
    """Leaf k times the root of unity to the power k j, j what the digits after this one stand for."""
    N: tl.constexpr = product(DIGITS)
    STEP: tl.constexpr = product(_before(DIGITS, STAGE))
    REST: tl.constexpr = _after(DIGITS, STAGE)
    RADIX: tl.constexpr = DIGITS[STAGE]
    j, _ = index(tl.arange(0, pad(REST))[None, :, None], REST)
    xs, ys = (x[0],), (y[0],)
    for k in tl.static_range(1, RADIX):
        t = (k * STEP * j) % N
        cos = tl.load(table + 2 * t)
        sin = tl.load(table + 2 * t + 1)
        if SIGN > 0:
            sin = -sin
        xs = xs + (x[k] * cos - y[k] * sin,)
        ys = ys + (x[k] * sin + y[k] * cos,)
    return xs, ys


@triton.jit
def _pass(
    re,
    im,
    table,
    never,
    BEFORE: tl.constexpr,
    DIGITS: tl.constexpr,
    STAGE: tl.constexpr,
    AFTER: tl.constexpr,
    SIGN: tl.constexpr,
):
    RADIX: tl.constexpr = DIGITS[STAGE]
    PADDED: tl.constexpr = pad((RADIX,))
    REST: tl.constexpr = pad(_after(DIGITS, STAGE))
    OUTER: tl.constexpr = BEFORE * pad(_before(DIGITS, STAGE))
    x = _split(re, OUTER, PADDED, REST, AFTER)
    y = _split(im, OUTER, PADDED, REST, AFTER)
    # Otherwise the compiler, seeing the same loads in another pass, keeps their results in registers until then.
    tl.debug_barrier()
    # The compiler spreads layouts from loads of the size of a tensor, and where there is none takes a default for every
    # join: three more trips through shared memory a pass, 4.5 times the traffic in all. So here is a load; its mask is
    # never true, which the compiler must not know: what it is made of is not specialised.
    zero = tl.load(table + tl.reshape(tl.arange(0, OUTER * REST * AFTER), (OUTER, REST, AFTER)), mask=never, other=0.0)
    x = (x[0] + zero,) + x[1:]
    y = (y[0] + zero,) + y[1:]
    if SIGN > 0 and REST > 1:
        x, y = _twiddle(x, y, table, DIGITS, STAGE, SIGN)
    x, y = _dft(x, y, RADIX, SIGN)
    if SIGN < 0 and REST > 1:
        x, y = _twiddle(x, y, table, DIGITS, STAGE, SIGN)
    for _ in tl.static_range(PADDED - RADIX):
        x = x + (tl.zeros_like(x[0]),)
        y = y + (tl.zeros_like(y[0]),)
    return _join(x, PADDED), _join(y, PADDED)


@triton.jit
def forward(re, im, table, never, BEFORE: tl.constexpr, DIGITS: tl.constexpr, AFTER: tl.constexpr):
    """Transforms the middle axis of a flat (BEFORE, padded n, AFTER) tile, unnormalised, into reversed digits.

    ``table`` is that of n, ``never`` a condition that is false but not to the compiler's knowledge.
    """
    for s in tl.static_range(len(DIGITS)):
        re, im = _pass(re, im, table, never, BEFORE, DIGITS, s, AFTER, -1)
    return re, im


@triton.jit
def inverse(re, im, table, never, BEFORE: tl.constexpr, DIGITS: tl.constexpr, AFTER: tl.constexpr):
    """From reversed digits back, without the factor 1/n."""
    for s in tl.static_range(len(DIGITS)):
        re, im = _pass(re, im, table, never, BEFORE, DIGITS, len(DIGITS) - 1 - s, AFTER, 1)
    return re, im


@triton.jit
def reverse(x, BEFORE: tl.constexpr, DIGITS: tl.constexpr):
    """A flat (BEFORE, padded n) tile with its digits in reverse order: what ``frequency`` names of the one is then
    the ``index`` of ``backwards`` digits, ascending."""
    return tl.ravel(_reverse_axes(tl.reshape(x, _axes(BEFORE, DIGITS)), len(DIGITS)))


@triton.jit
def forward2(re, im, rows, columns, never, BATCH: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Both axes of a (BATCH, H, W) tile, given by their digits; ``rows`` is the table of W, ``columns`` that of H."""
    re, im = forward(re, im, columns, never, BATCH, H, pad(W))
    return forward(re, im, rows, never, BATCH * pad(H), W, 1)


@triton.jit
def inverse2(re, im, rows, columns, never, BATCH: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    re, im = inverse(re, im, rows, never, BATCH * pad(H), W, 1)
    return inverse(re, im, columns, never, BATCH, H, pad(W))


@triton.jit
def _reverse_axes(x, COUNT: tl.constexpr):
    """All but the first, of which there are so many. Triton 3.6 takes no tuple that was computed."""
    if COUNT == 0 or COUNT == 1:
        y = x
    elif COUNT == 2:
        y = tl.permute(x, (0, 2, 1))
    elif COUNT == 3:
        y = tl.permute(x, (0, 3, 2, 1))
    elif COUNT == 4:
        y = tl.permute(x, (0, 4, 3, 2, 1))
    else:
        tl.static_assert(COUNT == 5)
        y = tl.permute(x, (0, 5, 4, 3, 2, 1))
    return y
