"""The transform that every kernel is built of: butterflies on the axes of a tensor.

A tile of B x H x W complex numbers is a pair of flat tensors, real and imaginary, in row-major order. A length n is a
product of radices, and its axis is split into one axis a digit. A pass works on one digit: ``tl.split`` takes the tile
apart along it into leaves, the butterfly is arithmetic between leaves, and ``tl.join`` puts them together. Reshapes,
permutations, splits and joins only rename registers if a thread holds the whole digit; the compiler inserts the one
exchange through shared memory that makes it so. Decimation in frequency leaves the digits of the frequency in reverse
order, lowest first. They stay so: spectra are indexed in that order (``frequency``) and the inverse consumes it.

A digit of radix 3, 5, 7, 11 or 13 has an axis of 4, 8 or 16 whose last entries are zero. They cost registers but no
memory traffic, since loads and stores are masked. If only the first digit is such a one, an index in the tile is the
index in the image (``index``) and accesses stay wide.

Any other length is transformed as a convolution of a power of two of at least 2n - 1 numbers (Bluestein's algorithm,
``_chirp_transform``). Its frequencies come out in natural order.

Why not ``tl.dot``: compiled for sm_90, a pair of 64 x 64 planes as dense DFT matrices needs 255 registers and spills,
or 19 KB of stack in full precision. This form needs 167 registers, no stack and 16 KB of shared memory (4 warps,
forward and inverse with weight and loss).
"""

import math
from functools import cache

import torch
import triton
import triton.language as tl

from . import butterflies

LONGEST = 1024  # padded side that is transformed by its radices
TILE = 128 * 128  # the largest tile, in padded complex numbers: 64 a thread
_PER_WARP = 1024  # 32 complex numbers a thread, if so many warps
_MOST_WARPS = 8  # with 255 registers a thread, of which 16 would leave 128
_ODD = (3, 5, 7, 11, 13)


@cache
def plan(n: int) -> tuple[int, ...]:
    """How a side of length ``n`` is transformed.

    The digits, slowest first, if n is a product of radices. Otherwise -n and then the digits of the convolution.
    """
    rest, digits = n, []
    for r in _ODD:
        while rest % r == 0:
            rest //= r
            digits.append(r)
    if rest & (rest - 1) == 0:
        digits += _powers(rest)
        if pad(digits) <= LONGEST:
            return tuple(digits)
    return (-n, *_powers(triton.next_power_of_2(2 * n - 1)))


def _powers(n: int) -> list[int]:
    """The digits of a power of two: as few as eights allow, as even as possible: 16 = 4 x 4, 128 = 8 x 4 x 4."""
    bits = n.bit_length() - 1
    passes = -(-bits // 3)
    return [2 ** (bits // passes + (i < bits % passes)) for i in range(passes)]


def fits(height: int, width: int, dtype: torch.dtype, share: int = 2) -> bool:
    """Whether a plane is transformed in one tile, which leaves a program's registers room for what an op needs.

    A plane with a convolution is not: padding on both sides at once would fill its tile with zeros.
    """
    if is_convolution(plan(height)) or is_convolution(plan(width)):
        return False
    double = compute_dtype(dtype) == torch.float64
    return extent(height, width) <= TILE // (max(4, 2 * share) if double else share)


def extent(height: int, width: int) -> int:
    """Of a plane in a tile."""
    return pad(plan(height)) * pad(plan(width))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def tile(size: int, slots: int, dtype: torch.dtype, tiles: int = 1) -> tuple[int, int]:
    """How many of ``slots`` planes of ``size`` a program holds, in so many tiles at a time, and its warps."""
    batch = min(max(1, _per_warp(dtype) // tiles // size), triton.next_power_of_2(slots))
    return batch, warps(tiles * size * batch, dtype)


def lines(length: int, dtype: torch.dtype, least: int = 1) -> tuple[int, int]:
    """How many lines of a padded length a program holds, and its warps.

    4 warps, or as many as ``least`` lines need. Fewer lines than that where they would not fit the registers.
    """
    count = max(least, 4 * _per_warp(dtype) // length)
    count = max(1, min(count, _MOST_WARPS * _per_warp(dtype) // length))
    return count, warps(count * length, dtype)


def warps(size: int, dtype: torch.dtype) -> int:
    """For so many complex numbers at a time."""
    return min(_MOST_WARPS, max(1, size // _per_warp(dtype)))


def _per_warp(dtype: torch.dtype) -> int:
    return _PER_WARP if compute_dtype(dtype) != torch.float64 else _PER_WARP // 4


# Of sides, as ``plan`` gives them, and of digits and padding, for constants in kernels.


@triton.constexpr_function
def is_convolution(side):
    return len(side) > 0 and int(side[0]) < 0


@triton.constexpr_function
def pad(side):
    """The padded extent."""
    return math.prod(1 << (int(r) - 1).bit_length() for r in tuple(side) if int(r) > 0)


@triton.constexpr_function
def product(side):
    """The length."""
    return -int(side[0]) if is_convolution(side) else math.prod(int(r) for r in tuple(side))


@triton.constexpr_function
def _after(digits, stage):
    return tuple(digits)[stage + 1 :]


@triton.constexpr_function
def _before(digits, stage):
    return tuple(digits)[:stage]


@triton.constexpr_function
def backwards(side):
    """A side in the order in which a transform leaves its frequencies."""
    return tuple(side) if is_convolution(side) else tuple(side)[::-1]


@triton.constexpr_function
def _axes(before, digits):
    """The shape in which every digit of a side is an axis.

    The first axis is all that comes before the side.
    """
    padded = [pad((r,)) for r in tuple(digits)]
    return (int(before), *padded)


@triton.constexpr_function
def _is_plain(side):
    """Whether an index into the padded side is an index into the side: at most the first digit is padded."""
    return is_convolution(side) or all(int(r) & (int(r) - 1) == 0 for r in tuple(side)[1:])


@triton.jit
def index(q, SIDE: tl.constexpr):
    """The index into a side that position ``q`` of its padded extent stands for, and whether it stands for one."""
    N: tl.constexpr = product(SIDE)
    if _is_plain(SIDE):
        i = q
        valid = q < N
    else:
        i = q * 0
        valid = q >= 0
        for s in tl.static_range(len(SIDE)):
            d = q // pad(_after(SIDE, s)) % pad((SIDE[s],))
            i += d * product(_after(SIDE, s))
            valid = valid & (d < SIDE[s])
    return i, valid


@triton.jit
def frequency(q, SIDE: tl.constexpr):
    """The frequency that position ``q`` holds after the forward transform, and whether it holds one."""
    if is_convolution(SIDE):
        f = q
        valid = q < product(SIDE)
    else:
        f = q * 0
        valid = q >= 0
        for s in tl.static_range(len(SIDE)):
            d = q // pad(_after(SIDE, s)) % pad((SIDE[s],))
            f += d * product(_before(SIDE, s))
            valid = valid & (d < SIDE[s])
    return f, valid


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
def _open(re, im, table, never, BEFORE: tl.constexpr, DIGITS: tl.constexpr, STAGE: tl.constexpr, AFTER: tl.constexpr):
    """The leaves of a digit."""
    PADDED: tl.constexpr = pad((DIGITS[STAGE],))
    REST: tl.constexpr = pad(_after(DIGITS, STAGE))
    OUTER: tl.constexpr = BEFORE * pad(_before(DIGITS, STAGE))
    x = butterflies.split(re, OUTER, PADDED, REST, AFTER)
    y = butterflies.split(im, OUTER, PADDED, REST, AFTER)
    # Otherwise the compiler, seeing the same loads in another pass, keeps their results in registers until then.
    tl.debug_barrier()
    # The compiler spreads layouts from loads of the size of a tensor, and where there is none takes a default for every
    # join: three more trips through shared memory a pass, 4.5 times the traffic in all. So here is a load; its mask is
    # never true, which the compiler must not know: what it is made of is not specialised.
    zero = tl.load(table + tl.reshape(tl.arange(0, OUTER * REST * AFTER), (OUTER, REST, AFTER)), mask=never, other=0.0)
    return (x[0] + zero,) + x[1:], (y[0] + zero,) + y[1:]


@triton.jit
def _close(x, y, RADIX: tl.constexpr):
    PADDED: tl.constexpr = pad((RADIX,))
    for _ in tl.static_range(PADDED - RADIX):
        x = x + (tl.zeros_like(x[0]),)
        y = y + (tl.zeros_like(y[0]),)
    return butterflies.join(x, PADDED), butterflies.join(y, PADDED)


@triton.jit
def _transform(x, y, table, DIGITS: tl.constexpr, STAGE: tl.constexpr, SIGN: tl.constexpr):
    """Leaves transformed, with twiddle factors."""
    HAS_REST: tl.constexpr = len(DIGITS) > STAGE + 1
    if SIGN > 0 and HAS_REST:
        x, y = _twiddle(x, y, table, DIGITS, STAGE, SIGN)
    x, y = butterflies.dft(x, y, DIGITS[STAGE], SIGN)
    if SIGN < 0 and HAS_REST:
        x, y = _twiddle(x, y, table, DIGITS, STAGE, SIGN)
    return x, y


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
    x, y = _open(re, im, table, never, BEFORE, DIGITS, STAGE, AFTER)
    x, y = _transform(x, y, table, DIGITS, STAGE, SIGN)
    return _close(x, y, DIGITS[STAGE])


@triton.jit
def forward(re, im, table, never, BEFORE: tl.constexpr, SIDE: tl.constexpr, AFTER: tl.constexpr):
    """Transforms the middle axis of a flat (BEFORE, padded n, AFTER) tile, unnormalised; ``frequency`` gives the order.

    ``table`` is that of n, ``never`` a condition that is false but not to the compiler's knowledge. Padding is zero
    before and after.
    """
    if is_convolution(SIDE):
        re, im = _chirp_transform(re, im, table, never, BEFORE, SIDE, AFTER)
    else:
        for s in tl.static_range(len(SIDE)):
            re, im = _pass(re, im, table, never, BEFORE, SIDE, s, AFTER, -1)
    return re, im


@triton.jit
def inverse(re, im, table, never, BEFORE: tl.constexpr, SIDE: tl.constexpr, AFTER: tl.constexpr):
    """From the order of ``frequency`` back, without the factor 1/n."""
    if is_convolution(SIDE):
        re, im = _chirp_transform(re, -im, table, never, BEFORE, SIDE, AFTER)
        im = -im
    else:
        for s in tl.static_range(len(SIDE)):
            re, im = _pass(re, im, table, never, BEFORE, SIDE, len(SIDE) - 1 - s, AFTER, 1)
    return re, im


@triton.jit
def _chirp_transform(re, im, table, never, BEFORE: tl.constexpr, SIDE: tl.constexpr, AFTER: tl.constexpr):
    """Bluestein: with w_k = exp(-i pi k^2 / n), X_f = w_f sum_k (x_k w_k) conj(w_(f - k)), a cyclic convolution.

    The mean of a line takes no part, since it only adds to X_0. Otherwise a large one would leave its rounding errors
    in every frequency, whereas the first butterflies of a product of radices cancel it exactly.
    """
    N: tl.constexpr = product(SIDE)
    M: tl.constexpr = pad(SIDE)
    DIGITS: tl.constexpr = _after(SIDE, 0)
    LAST: tl.constexpr = len(DIGITS) - 1
    spectrum = table + 2 * M
    chirp = table + 4 * M
    x, y = _open(re, im, table, never, BEFORE, DIGITS, 0, AFTER)
    mean_x, mean_y = _mean(x, N), _mean(y, N)
    x, y = _shift(x, -mean_x), _shift(y, -mean_y)
    x, y = _times(x, y, chirp, N, BEFORE, DIGITS, 0)
    x, y = _transform(x, y, table, DIGITS, 0, -1)
    re, im = _close(x, y, DIGITS[0])
    for s in tl.static_range(1, LAST):
        re, im = _pass(re, im, table, never, BEFORE, DIGITS, s, AFTER, -1)
    # The last digit, there and back.
    x, y = _open(re, im, table, never, BEFORE, DIGITS, LAST, AFTER)
    x, y = _transform(x, y, table, DIGITS, LAST, -1)
    x, y = _times(x, y, spectrum, M, BEFORE, DIGITS, LAST)
    x, y = _transform(x, y, table, DIGITS, LAST, 1)
    re, im = _close(x, y, DIGITS[LAST])
    for s in tl.static_range(1, LAST):
        re, im = _pass(re, im, table, never, BEFORE, DIGITS, LAST - s, AFTER, 1)
    x, y = _open(re, im, table, never, BEFORE, DIGITS, 0, AFTER)
    x, y = _transform(x, y, table, DIGITS, 0, 1)
    x, y = _times(x, y, chirp, N, BEFORE, DIGITS, 0)
    first = (tl.arange(0, x[0].shape[1]) == 0)[None, :, None]
    x = (tl.where(first, x[0] + N * mean_x, x[0]),) + x[1:]
    y = (tl.where(first, y[0] + N * mean_y, y[0]),) + y[1:]
    return _close(x, y, DIGITS[0])


@triton.jit
def _mean(x, N: tl.constexpr):
    """Of lines of N numbers, from their leaves of the first digit (BEFORE, REST, AFTER): (BEFORE, 1, AFTER)."""
    total = x[0]
    for k in tl.static_range(1, len(x)):
        total += x[k]
    return tl.sum(total, 1)[:, None, :] / N


@triton.jit
def _shift(x, value):
    shifted = ()
    for k in tl.static_range(len(x)):
        shifted = shifted + (x[k] + value,)
    return shifted


@triton.jit
def _times(x, y, factors, COUNT: tl.constexpr, BEFORE: tl.constexpr, DIGITS: tl.constexpr, STAGE: tl.constexpr):
    """Leaves of a digit times complex factors by their position in the line; zero where it is not below COUNT."""
    RADIX: tl.constexpr = DIGITS[STAGE]
    REST: tl.constexpr = pad(_after(DIGITS, STAGE))
    OUTER: tl.constexpr = pad(_before(DIGITS, STAGE))
    position = tl.arange(0, REST)[None, :, None]
    if OUTER > 1:
        position += (tl.arange(0, BEFORE * OUTER) % OUTER * (RADIX * REST))[:, None, None]
    xs, ys = (), ()
    for k in tl.static_range(RADIX):
        if OUTER == 1 and k * REST >= COUNT:
            xs = xs + (tl.zeros_like(x[k]),)
            ys = ys + (tl.zeros_like(y[k]),)
        else:
            q = position + k * REST
            cos = tl.load(factors + 2 * q, mask=q < COUNT, other=0.0)
            sin = tl.load(factors + 2 * q + 1, mask=q < COUNT, other=0.0)
            xs = xs + (x[k] * cos - y[k] * sin,)
            ys = ys + (x[k] * sin + y[k] * cos,)
    return xs, ys


@triton.jit
def reverse(x, BEFORE: tl.constexpr, SIDE: tl.constexpr):
    """A flat (BEFORE, padded n) tile with its digits in reverse order: frequencies ascend then, and position q holds
    the one that ``index`` gives for the side ``backwards``."""
    if not is_convolution(SIDE):
        x = tl.ravel(_reverse_axes(tl.reshape(x, _axes(BEFORE, SIDE)), len(SIDE)))
    return x


@triton.jit
def forward2(re, im, rows, columns, never, BATCH: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Both axes of a (BATCH, H, W) tile; ``rows`` is the table of W, ``columns`` that of H."""
    re, im = forward(re, im, columns, never, BATCH, H, pad(W))
    return forward(re, im, rows, never, BATCH * pad(H), W, 1)


@triton.jit
def inverse2(re, im, rows, columns, never, BATCH: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    re, im = inverse(re, im, rows, never, BATCH * pad(H), W, 1)
    return inverse(re, im, columns, never, BATCH, H, pad(W))


@triton.jit
def power(re, im, factor):
    """factor |Z|^2, for which |Z|^2 alone may be out of range: Z is unnormalised."""
    return re * factor * re + im * factor * im


@triton.jit
def amplitude(re, im):
    """|Z|, in range wherever Z is."""
    re, im = tl.abs(re), tl.abs(im)
    larger = tl.maximum(re, im)
    quotient = tl.minimum(re, im) / tl.where(larger == 0.0, 1.0, larger)
    return larger * tl.sqrt(1.0 + quotient * quotient)


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
