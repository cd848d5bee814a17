"""The arithmetic on one digit of a tile: the leaves of a radix, taken apart and put together, and their butterflies."""

import math

import triton
import triton.language as tl


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
def split(x, BEFORE: tl.constexpr, RADIX: tl.constexpr, REST: tl.constexpr, AFTER: tl.constexpr):
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
def join(x, RADIX: tl.constexpr):
    """The inverse of ``split``."""
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
def dft(x, y, RADIX: tl.constexpr, SIGN: tl.constexpr):
    if RADIX == 2:
        re, im = (x[0] + x[1], x[0] - x[1]), (y[0] + y[1], y[0] - y[1])
    elif RADIX == 4:
        re, im = _dft4(x, y, SIGN)
    elif RADIX == 8:
        re, im = _dft8(x, y, SIGN)
    else:
        re, im = _dft_odd(x, y, RADIX, SIGN)
    return re, im
