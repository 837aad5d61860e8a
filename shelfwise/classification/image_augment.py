"""Augmentation of pictures as tensor operations on a whole batch: moved, scaled, turned, mirrored, recoloured, mixed.

Imports torch at its head, so only the training process imports it. Everything is drawn from the generator given, so
that a batch depends on its seed alone and a resumed training sees what it would have seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch  # noqa: TID253
from torch.nn import functional  # noqa: TID253

from shelfwise.classification.image_net import standardised

if TYPE_CHECKING:
    from shelfwise.classification.image import ImageConfig


def scaled(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Return float pixels [n, 3, side, side] of pixels [n, 3, any, any], by the mean over areas where they shrink."""
    pixels = pixels.float()
    if pixels.shape[-1] == side:
        return pixels
    smaller = side < pixels.shape[-1]
    return functional.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=smaller)


def moved(pixels: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Return float pixels, each picture mirrored or not, and a little scaled, stretched, turned and shifted.

    `strength` 1: by up to a fifth in size, a tenth in proportions, twelve degrees, an eighth of the side. What comes
    in from outside repeats the edge, which is background.
    """
    n = len(pixels)

    def drawn(most: float) -> torch.Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1) * most * strength

    scale, stretch, angle = torch.exp(drawn(0.2)), torch.exp(drawn(0.1)), drawn(math.radians(12))
    mirror = (torch.rand(n, generator=rng) < 0.5).float() * 2 - 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = scale * stretch * cos * mirror, -scale * sin, drawn(0.25)
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = scale * sin * mirror, scale / stretch * cos, drawn(0.25)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


def recoloured(pixels: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Return float pixels in 0..255, each picture with another brightness, contrast, saturation and tint."""
    n = len(pixels)

    def drawn(most: float, *shape: int) -> torch.Tensor:
        return 1 + (torch.rand(n, *shape, generator=rng) * 2 - 1) * most * strength

    bright, contrast, colour = (drawn(0.2, 1, 1, 1) for _ in range(3))
    tint = drawn(0.06, 3, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean * bright
    grey = pixels.mean(1, keepdim=True)
    return (((pixels - grey) * colour + grey) * tint).clamp_(0, 255)


def mixed(
    pixels: torch.Tensor, target: torch.Tensor, share: float, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch in which, with probability `share`, each picture is mixed with another and its target too.

    Half the time the two are laid over each other (mixup, Zhang et al. 2018), half the time a rectangle of the other
    is pasted in (CutMix, Yun et al. 2019).
    """
    if float(torch.rand(1, generator=rng)) >= share:
        return pixels, target
    order = torch.randperm(len(pixels), generator=rng)
    paste, weight = torch.rand(2, generator=rng).tolist()
    if paste < 0.5:
        weight = 1 - 0.4 * weight  # the picture itself always leads
        return torch.lerp(pixels[order], pixels, weight), torch.lerp(target[order], target, weight)
    side = pixels.shape[-1]
    edge = max(1, round(side * math.sqrt(0.4 * weight)))
    top, left = (int(torch.randint(0, side - edge + 1, (1,), generator=rng)) for _ in range(2))
    pixels = pixels.clone()
    box = (slice(None), slice(None), slice(top, top + edge), slice(left, left + edge))
    pixels[box] = pixels[order][box]
    return pixels, torch.lerp(target[order], target, 1 - (edge / side) ** 2)


class Batches:
    """Makes batches of indices: augmented pictures and their targets.

    What happens to a picture depends on the seed and the batch's first index, so a resumed training sees the same.
    """

    def __init__(
        self, config: ImageConfig, pixels: np.ndarray, rows: np.ndarray, truth: np.ndarray, classes: int, total: int
    ):
        """`pixels` uint8 [any, side, side, 3], of which `rows` [n] are trained on; `truth` [n, most] right classes,
        filled up with -1; `total`: rows that the whole training takes, each as often as it is taken.
        """
        self._config, self._pixels, self._rows, self._truth = config, pixels, rows, truth
        self._classes, self._total = classes, total
        self.mean, self.spread = colours(pixels, rows)

    def side_at(self, index: int) -> int:
        """Return the side of the pictures that the training has come to at an index."""
        done = index // len(self._rows) * len(self._rows) / self._total
        for side, part in self._config.growing:
            if done < part:
                return max(8, round(side * self._config.side))
            done -= part
        return self._config.side

    def __call__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """Return pixels [n, 3, side, side], standardised, and target [n, classes], rows of which sum to 1."""
        config = self._config
        seed = np.random.SeedSequence((config.seed, indices[0])).generate_state(1, np.uint64)[0]
        rng = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        rows = np.asarray(indices) % len(self._rows)
        pixels = torch.from_numpy(np.array(self._pixels[self._rows[rows]])).permute(0, 3, 1, 2)
        pixels = scaled(pixels, self.side_at(indices[0]))
        if config.moving:
            pixels = moved(pixels, config.moving, rng)
        if config.recolouring:
            pixels = recoloured(pixels, config.recolouring, rng)
        pixels, target = mixed(pixels, targets(self._truth[rows], self._classes), config.mixing, rng)
        pixels = standardised(pixels, self.mean, self.spread).contiguous(memory_format=torch.channels_last)
        return {"pixels": pixels, "target": target}


def targets(truth: np.ndarray, classes: int) -> torch.Tensor:
    """Return float [n, classes]: the right classes share 1. `truth` [n, most], filled up with -1."""
    right = torch.from_numpy(truth)
    shares = (right >= 0).float() / (right >= 0).sum(1, keepdim=True)
    return torch.zeros(len(right), classes).scatter_add_(1, right.clamp_min(0), shares)


def colours(pixels: np.ndarray, rows: np.ndarray, most: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and spread of the colours, [3] each, in 0..1, over about so many of the rows, evenly spread."""
    some = torch.from_numpy(np.array(pixels[rows[:: max(1, len(rows) // most)]])).reshape(-1, 3).double() / 255
    return some.mean(0).float(), some.std(0).clamp_min(0.02).float()
