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
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
import triton
import triton.language as tl

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


@cache
def roots(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n, 2): cos and sin of -2 pi t / n, rounded from float64."""
    return _on(device, _roots(n).to(dtype))


@cache
def table(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What the transform of a side of length ``n`` reads, rounded from float64.

    The roots of unity. Of a convolution of length m: its m roots, the spectrum of its fixed side (m) and the chirp (n).
    """
    side = plan(n)
    if not is_convolution(side):
        return roots(n, dtype, device)
    digits, m = side[1:], pad(side)
    chirp = torch.view_as_complex(_roots(2 * n)[torch.arange(n, device="cpu").square() % (2 * n)])
    fixed = torch.zeros(m, dtype=torch.complex128, device="cpu")
    fixed[:n] = chirp.conj()
    fixed[m - n + 1 :] = chirp[1:].conj().flip(0)
    spectrum = torch.fft.fft(fixed, norm="forward")
    # In the order in which the transform leaves its frequencies.
    spectrum = spectrum.view(digits[::-1]).permute(*range(len(digits))[::-1]).reshape(m)
    return _on(device, torch.cat([_roots(m), *map(torch.view_as_real, (spectrum, chirp))]).to(dtype))


def _roots(n: int) -> torch.Tensor:
    t = torch.arange(n, device="cpu")
    return torch.stack((_cosines(t, n), _cosines(4 * t + n, 4 * n)), 1)


def _cosines(t: torch.Tensor, n: int) -> torch.Tensor:
    """cos(2 pi t / n) as ``_cos`` has it."""
    t = torch.minimum(t % n, -t % n)
    beyond = 4 * t > n
    t = torch.where(beyond, n - 2 * t, 2 * t).double()
    cos = torch.where(4 * t <= n, torch.cos(math.pi * t / n), torch.sin(math.pi * (n - 2 * t) / (2 * n)))
    return torch.where(beyond, -cos, cos)


def _on(device: torch.device, table: torch.Tensor) -> torch.Tensor:
    # It outlives the call. While torch.compile warms a CUDA graph up, what this thread allocates is the graph's.
    with ThreadPoolExecutor(max_workers=1) as other:
        return other.submit(table.to, device).result()


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
def _split4(x):
    """Along the last two axes, of which the last is the slower."""
    lo, hi = tl.split(x)
    x0, x1 = tl.split(lo)
    x2, x3 = tl.split(hi)
    return x0, x1, x2, x3


@triton.jit
def _join4(x0, x1, x2, x3):
    return tl.join(tl.join(x0, x1), tl.join(x2, x3))


@triton.jit
def _split(x, BEFORE: tl.constexpr, RADIX: tl.constexpr, REST: tl.constexpr, AFTER: tl.constexpr):
    """The flat tile (BEFORE, RADIX, REST, AFTER) -> RADIX leaves (BEFORE, REST, AFTER)."""
    if RADIX == 2:
        leaves = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, REST, AFTER)), (0, 2, 3, 1)))
    elif RADIX == 4:
        leaves = _split4(tl.permute(tl.reshape(x, (BEFORE, 2, 2, REST, AFTER)), (0, 3, 4, 2, 1)))
    elif RADIX == 8:
        lo, hi = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, 2, 2, REST, AFTER)), (0, 4, 5, 3, 2, 1)))
        leaves = _split4(lo) + _split4(hi)
    else:
        lo, hi = tl.split(tl.permute(tl.reshape(x, (BEFORE, 2, 2, 2, 2, REST, AFTER)), (0, 5, 6, 4, 3, 2, 1)))
        a, b = tl.split(lo)
        c, d = tl.split(hi)
        leaves = _split4(a) + _split4(b) + _split4(c) + _split4(d)
    return leaves


@triton.jit
def _join(x, RADIX: tl.constexpr):
    """The inverse of ``_split``."""
    if RADIX == 2:
        t = tl.permute(tl.join(x[0], x[1]), (0, 3, 1, 2))
    elif RADIX == 4:
        t = tl.permute(_join4(x[0], x[1], x[2], x[3]), (0, 4, 3, 1, 2))
    elif RADIX == 8:
        lo, hi = _join4(x[0], x[1], x[2], x[3]), _join4(x[4], x[5], x[6], x[7])
        t = tl.permute(tl.join(lo, hi), (0, 5, 4, 3, 1, 2))
    else:
        a, b = _join4(x[0], x[1], x[2], x[3]), _join4(x[4], x[5], x[6], x[7])
        c, d = _join4(x[8], x[9], x[10], x[11]), _join4(x[12], x[13], x[14], x[15])
        t = tl.permute(tl.join(tl.join(a, b), tl.join(c, d)), (0, 6, 5, 4, 3, 1, 2))
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
    xp, xm, yp, ym = (), (), (), ()
    for j in tl.static_range(1, RADIX // 2 + 1):
        xp, xm = xp + (x[j] + x[RADIX - j],), xm + (x[j] - x[RADIX - j],)
        yp, ym = yp + (y[j] + y[RADIX - j],), ym + (y[j] - y[RADIX - j],)
        re += xp[j - 1]
        im += yp[j - 1]
    xs, ys = (re,), (im,)
    for k in tl.static_range(1, RADIX):
        re, im = x[0], y[0]
        for j in tl.static_range(1, RADIX // 2 + 1):
            re += _cos(j * k, RADIX) * xp[j - 1] - _sin(SIGN * j * k, RADIX) * ym[j - 1]
            im += _cos(j * k, RADIX) * yp[j - 1] + _sin(SIGN * j * k, RADIX) * xm[j - 1]
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
def _open(re, im, table, never, BEFORE: tl.constexpr, DIGITS: tl.constexpr, STAGE: tl.constexpr, AFTER: tl.constexpr):
    """The leaves of a digit."""
    PADDED: tl.constexpr = pad((DIGITS[STAGE],))
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
    return (x[0] + zero,) + x[1:], (y[0] + zero,) + y[1:]


@triton.jit
def _close(x, y, RADIX: tl.constexpr):
    PADDED: tl.constexpr = pad((RADIX,))
    for _ in tl.static_range(PADDED - RADIX):
        x = x + (tl.zeros_like(x[0]),)
        y = y + (tl.zeros_like(y[0]),)
    return _join(x, PADDED), _join(y, PADDED)


@triton.jit
def _transform(x, y, table, DIGITS: tl.constexpr, STAGE: tl.constexpr, SIGN: tl.constexpr):
    """Leaves transformed, with twiddle factors."""
    HAS_REST: tl.constexpr = len(DIGITS) > STAGE + 1
    if SIGN > 0 and HAS_REST:
        x, y = _twiddle(x, y, table, DIGITS, STAGE, SIGN)
    x, y = _dft(x, y, DIGITS[STAGE], SIGN)
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
