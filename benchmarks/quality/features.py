"""A feature network for the perceptual term if no trained one is available."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomFeatures(nn.Module):
    """Three convolutions with random weights, always the same; grey images are repeated to three channels.

    Nothing is known of the worth of such features, and they say nothing about trained ones.
    """

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            widths = (3, 16, 32, 64)
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=1 + (a > 3), padding=1) for a, b in pairwise(widths))
            for layer in self.layers:
                assert isinstance(layer, nn.Conv2d)
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        values, features = (2 * images - 1).expand(-1, 3, -1, -1), []
        for layer in self.layers:
            values = F.relu(layer(values))
            features.append(values)
        return features
