"""Which planes a program transforms, and how they get in and out of its tile.

Planes that share a spectrum ω are a group. Two of them travel as a + ib: ω is real and symmetric, so nothing needs to
be taken apart again. A program holds a batch of slots; a slot is a pair of planes.
"""

import math
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import fft

# Arguments that grow with the batch. No kernel is compiled anew because one of them is a multiple of 16.
COUNTS = ("pairs", "members")


class Grouping(NamedTuple):
    shape: tuple[int, int]  # groups by (sample, channel); 1 where all samples or channels share one
    members: int
    member_channels: int

    @property
    def count(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def pairs(self) -> int:
        return triton.cdiv(self.members, 2)


def grouping(samples: int, channels: int, n: int, c: int) -> Grouping:
    """The groups of planes (samples, channels) that share one of (n, c) spectra."""
    return Grouping((n, c), samples // n * (channels // c), channels // c)


def alignment(*images: Tensor) -> int:
    """By what the rows of all these images are aligned, in elements: up to 16, and 1 where columns are not adjacent.

    Of an integer the compiler knows no more than whether it is a multiple of 16, and of a row of 28 it would not see
    that four elements at a time can be moved.
    """
    if any(image.stride(3) != 1 for image in images):
        return 1
    return math.gcd(16, *(stride for image in images for stride in image.stride()[:3]))


def strides(image: Tensor, align: int) -> tuple[int, int, int, int]:
    """Those of samples, channels and rows in units of ``align``."""
    n, c, h, w = image.stride()
    return n // align, c // align, h // align, w


def parameter(value: Tensor) -> Tensor:
    """A kernel or weight, (..., ...) for all planes or (N|1, C|1, ..., ...), as the latter and contiguous."""
    return (value[None, None] if value.dim() == 2 else value).contiguous()


def broadcast_strides(spectrum: Tensor) -> tuple[int, int]:
    """Over samples and channels, zero where they share one."""
    n, c = spectrum.shape[:2]
    return (spectrum.stride(0) if n > 1 else 0), (spectrum.stride(1) if c > 1 else 0)


@triton.jit
def _member(group, plane, group_channels, member_channels):
    """Sample and channel of a plane, given by its group and its number in it.

    Groups are numbered (sample, channel) with ``group_channels`` channels, members with ``member_channels``; one of the
    two is 1 and the other C, and likewise for samples.
    """
    n = group // group_channels + plane // member_channels
    c = group % group_channels + plane % member_channels
    return n, c


@triton.jit
def pair(turn, exists, group, members, group_channels, member_channels, PAIRED: tl.constexpr):
    """The planes of a pair of each group: sample, channel and whether there is one (BATCH,), then of the second."""
    first = turn * 2 if PAIRED else turn
    n, c = _member(group, first, group_channels, member_channels)
    n2, c2 = _member(group, first + 1, group_channels, member_channels)
    return n, c, exists & (first < members), n2, c2, exists & (first + 1 < members)


@triton.jit
def axes(H: tl.constexpr, W: tl.constexpr):
    """Indices and whether they exist, of the rows and of the columns of a tile."""
    h, inside_h = fft.index(tl.arange(0, fft.pad(H)), H)
    w, inside_w = fft.index(tl.arange(0, fft.pad(W)), W)
    return h, inside_h, w, inside_w


@triton.jit
def load(image, where, axes, sn, sc, sh, sw, ALIGN: tl.constexpr, PAIRED: tl.constexpr, dtype: tl.constexpr):
    """A pair of planes of an image of any strides, zero where there is nothing: 2 x (BATCH, rows, columns).

    The strides are as ``strides`` gives them.
    """
    n, c, exists, n2, c2, exists2 = where
    offset, mask = _offsets(n, c, exists, axes, sn, sc, sh, sw, ALIGN)
    re = tl.load(image + offset, mask=mask, other=0.0).to(dtype)
    if PAIRED:
        offset, mask = _offsets(n2, c2, exists2, axes, sn, sc, sh, sw, ALIGN)
        im = tl.load(image + offset, mask=mask, other=0.0).to(dtype)
    else:
        im = tl.zeros_like(re)
    return re, im


@triton.jit
def store(image, re, im, where, axes, sn, sc, sh, sw, ALIGN: tl.constexpr, PAIRED: tl.constexpr):
    n, c, exists, n2, c2, exists2 = where
    offset, mask = _offsets(n, c, exists, axes, sn, sc, sh, sw, ALIGN)
    tl.store(image + offset, re.to(image.dtype.element_ty), mask=mask)
    if PAIRED:
        offset, mask = _offsets(n2, c2, exists2, axes, sn, sc, sh, sw, ALIGN)
        tl.store(image + offset, im.to(image.dtype.element_ty), mask=mask)


@triton.jit
def _offsets(n, c, exists, axes, sn, sc, sh, sw, ALIGN: tl.constexpr):
    h, inside_h, w, inside_w = axes
    base = n.to(tl.int64) * sn + c.to(tl.int64) * sc
    row = (base[:, None, None] + (h.to(tl.int64) * sh)[None, :, None]) * ALIGN
    offset = row + (w.to(tl.int64) * sw)[None, None, :]
    return offset, exists[:, None, None] & inside_h[None, :, None] & inside_w[None, None, :]


@triton.jit
def isolate(re, im, PAIRED: tl.constexpr):
    """A pair of planes with those that are not finite set to zero, and what to add to their results, 0 or NaN (BATCH,).

    In a transform that two planes share, a value that is not finite would spread to both. A plane alone needs no care.
    """
    poison = tl.zeros((re.shape[0],), re.dtype)
    poison2 = poison
    if PAIRED:
        poison = tl.sum(tl.sum(re * 0.0, 2), 1)
        poison2 = tl.sum(tl.sum(im * 0.0, 2), 1)
        re = tl.where((poison == 0.0)[:, None, None], re, 0.0)
        im = tl.where((poison2 == 0.0)[:, None, None], im, 0.0)
    return re, im, poison, poison2


@triton.jit
def spectrum_offset(group, group_channels, sn, sc):
    """Where the spectrum of a group begins; the strides are zero where samples or channels share one."""
    return (group // group_channels).to(tl.int64) * sn + (group % group_channels).to(tl.int64) * sc


@triton.jit
def half_spectrum(H: tl.constexpr, W: tl.constexpr):
    """Where in a half spectrum (H, W//2+1) each position of a transformed tile finds its frequency or its mirror image.

    Offset, offset of the mirror image for the columns that are their own, whether it is the mirror image, whether the
    column is its own, whether there is a frequency at all: (1, padded H, padded W).
    """
    NH: tl.constexpr = fft.product(H)
    NW: tl.constexpr = fft.product(W)
    f1, inside_h = fft.frequency(tl.arange(0, fft.pad(H))[None, :, None], H)
    f2, inside_w = fft.frequency(tl.arange(0, fft.pad(W))[None, None, :], W)
    mirrored = f2 > NW // 2
    row = tl.where(mirrored, (NH - f1) % NH, f1)
    column = tl.where(mirrored, NW - f2, f2)
    own = (f2 == 0) | (2 * f2 == NW)
    offset = row * (NW // 2 + 1) + column
    opposite = (NH - f1) % NH * (NW // 2 + 1) + column
    return offset, opposite, mirrored, own, inside_h & inside_w


@triton.jit
def weight(spectrum, base, exists, H: tl.constexpr, W: tl.constexpr, SYMMETRIC: tl.constexpr):
    """A real half spectrum at the positions of a transformed tile: (BATCH, padded H, padded W).

    Columns 0 and W/2 hold a frequency and its mirror image; unless they are known to be equal, their mean counts.
    """
    offset, opposite, _, own, inside = half_spectrum(H, W)
    mask = exists[:, None, None] & inside
    pointers = spectrum + base[:, None, None]
    value = tl.load(pointers + offset, mask=mask, other=0.0)
    if not SYMMETRIC:
        other = tl.load(pointers + opposite, mask=mask & own, other=0.0)
        value = tl.where(own, 0.5 * value + 0.5 * other, value)
    return value


@triton.jit
def transfer(spectrum, base, exists, H: tl.constexpr, W: tl.constexpr):
    """A complex half spectrum of real and imaginary parts in turn, as that of a real filter: 2 x (BATCH, ...)."""
    offset, opposite, mirrored, own, inside = half_spectrum(H, W)
    mask = exists[:, None, None] & inside
    pointers = spectrum + base[:, None, None]
    re = tl.load(pointers + 2 * offset, mask=mask, other=0.0)
    im = tl.load(pointers + 2 * offset + 1, mask=mask, other=0.0)
    im = tl.where(mirrored, -im, im)
    other_re = tl.load(pointers + 2 * opposite, mask=mask & own, other=0.0)
    other_im = tl.load(pointers + 2 * opposite + 1, mask=mask & own, other=0.0)
    return tl.where(own, 0.5 * re + 0.5 * other_re, re), tl.where(own, 0.5 * im - 0.5 * other_im, im)


@triton.jit
def store_spectrum(spectrum, values, slot, exists, H: tl.constexpr, W: tl.constexpr):
    """Transformed tiles (BATCH, padded H, padded W) into a full spectrum (slots, H, W) in natural order."""
    NH: tl.constexpr = fft.product(H)
    NW: tl.constexpr = fft.product(W)
    f1, inside_h = fft.frequency(tl.arange(0, fft.pad(H))[None, :, None], H)
    f2, inside_w = fft.frequency(tl.arange(0, fft.pad(W))[None, None, :], W)
    base = (slot.to(tl.int64) * (NH * NW))[:, None, None]
    tl.store(spectrum + base + (f1 * NW + f2), values, mask=exists[:, None, None] & inside_h & inside_w)
