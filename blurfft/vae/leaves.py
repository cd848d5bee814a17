"""Dead leaves: synthetic images with the edges and the spectrum of natural ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 4  # of each pixel, along each side
_SMALLEST, _LARGEST = 1 / 16, 1  # radii, of the image's side
_LAYERS = 5  # of leaves above one another, on average


def draw(count: int, size: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """Images (count, channels, size, size) of discs and rectangles that hide one another.

    Lee, Mumford and Huang, *Occlusion Models for Natural Images: A Statistical Study of a Scale-Invariant Dead Leaves
    Model*, IJCV 2001. Radii r have the density r⁻³, between 1/16 of the side and the side; centres, angles,
    proportions and colours are uniform. Each pixel is the mean of 4 x 4 samples. Image i depends on ``seed`` and i
    alone.
    """
    return np.stack([_image(size, channels, np.random.default_rng((seed, i))) for i in range(count)])


def _image(size: int, channels: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    side = size * _SAMPLES
    radii = _radii(rng) * side
    count = len(radii)
    # Where a leaf of that radius meets the image.
    centres = rng.uniform(-radii[:, None], side + radii[:, None], (count, 2))
    discs, proportions, angles = rng.random(count) < 0.5, rng.uniform(0.3, 1, count), rng.uniform(0, np.pi, count)
    colours = rng.random((count + 1, channels), np.float32)  # the last one is behind all leaves
    top = np.full((side, side), count)  # the leaf that is seen
    grid = np.arange(side) + 0.5
    first = np.clip((centres - radii[:, None]).astype(int), 0, side)
    last = np.clip((centres + radii[:, None]).astype(int) + 1, 0, side)
    for i in range(count):
        rows, columns = slice(first[i, 0], last[i, 0]), slice(first[i, 1], last[i, 1])
        dy, dx = grid[rows, None] - centres[i, 0], grid[columns] - centres[i, 1]
        if discs[i]:
            inside = dy * dy + dx * dx < radii[i] ** 2
        else:  # its corners are at that radius
            half = radii[i] / np.hypot(1, proportions[i])
            along, across = np.cos(angles[i]), np.sin(angles[i])
            inside = np.abs(along * dx + across * dy) < half
            inside &= np.abs(along * dy - across * dx) < half * proportions[i]
        top[rows, columns][inside] = i
    samples = colours[top].reshape(size, _SAMPLES, size, _SAMPLES, channels)
    return np.rint(255 * samples.mean((1, 3))).astype(np.uint8).transpose(2, 0, 1)


def _radii(rng: np.random.Generator) -> NDArray[np.float64]:
    """Of all leaves that meet an image of side 1. Those of radius r have their centres in a square of side 1 + 2 r, so
    their number goes with r⁻³ (1 + 2 r)² where their density is r⁻³."""
    r = np.geomspace(_SMALLEST, _LARGEST, 1000)
    density = r**-3 * (1 + 2 * r) ** 2
    below = np.concatenate([[0], np.cumsum(np.diff(r) * (density[1:] + density[:-1]) / 2)])
    # As many that their areas, were they all discs, cover the image _LAYERS times.
    area = np.pi * np.log(_LARGEST / _SMALLEST)  # ∫ π r² r⁻³ dr
    return np.interp(rng.random(rng.poisson(_LAYERS * below[-1] / area)), below / below[-1], r)
