"""Augmentation of pictures as tensor operations on a whole batch: moved, scaled, turned, mirrored, recoloured, mixed.

Imports torch at its head, so only the training process imports it. Everything is drawn from the generator given, so
that a batch depends on its seed alone and a resumed training sees what it would have seen.
"""

from __future__ import annotations

import math

import torch  # noqa: TID253
from torch.nn import functional  # noqa: TID253


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
