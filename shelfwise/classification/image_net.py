"""The compact convolutional network of the image classifier, and any pretrained backbone in its place.

Imports torch at its head, so it is itself imported only where a picture is classified or a network trained.

The network is a residual one (He et al. 2016) with the shortcut of "ResNet-D" (He et al. 2019) and squeeze-and-excite
gates (Hu et al. 2018); plain 3x3 convolutions, as depthwise ones are bound by memory on a CPU. It has one output per
class; what it says of a parent is the sum over its classes, in the loss as in the answer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn import functional  # noqa: TID253

if TYPE_CHECKING:
    from shelfwise.classification.image import ImageConfig

GATE = 8  # channels to one hidden unit of a gate


class Gate(nn.Module):
    """Squeeze and excite: scales channels by what the whole picture says."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // GATE, 4))
        self.excite = nn.Linear(max(channels // GATE, 4), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [n, channels, h, w], scaled."""
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; begins as the identity."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        nn.init.zeros_(self.second_norm.weight)
        self.gate = Gate(after)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or before != after:
            self.shortcut.append(nn.Conv2d(before, after, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, after, h / stride, w / stride]."""
        inner = functional.relu(self.first_norm(self.first(x)))
        inner = self.gate(self.second_norm(self.second(inner)))
        return functional.relu(inner + self.shortcut(x))


class CompactNet(nn.Module):
    """Pixels to logits; `widths` and `depths` of the stages, each but the first of half the resolution before."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], classes: int, dropout: float):
        super().__init__()
        stem = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        blocks: list[nn.Module] = [stem, nn.BatchNorm2d(widths[0]), nn.ReLU()]
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for place in range(depth):
                blocks.append(Block(before, width, 2 if stage and not place else 1))
                before = width
        self.body = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes] of pixels [n, 3, side, side], about 0 on average and of about unit spread."""
        return self.head(self.dropout(self.body(pixels).mean((2, 3))))


class Averaged(nn.Module):
    """A network beside the running average of its weights, which is what is validated and kept (Polyak averaging).

    Both are one module, so that checkpoints hold both and a resumed training goes on averaging where it was.
    """

    def __init__(self, learner: Any):
        super().__init__()
        self.learner: Any = learner.to(memory_format=torch.channels_last)
        self.average: Any = copy.deepcopy(learner).requires_grad_(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the learner's logits."""
        return self.learner(pixels)

    def train(self, mode: bool = True) -> Averaged:
        """Set the learner's mode; the average never learns."""
        super().train(mode)
        self.average.eval()
        return self

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """Move the average towards the learner: average = keep * average + (1 - keep) * learner."""
        mine, its = self.average.state_dict(), self.learner.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [its[name] for name in floats], 1 - keep)
        for name in set(mine) - set(floats):
            mine[name].copy_(its[name])


def level_losses(logits: torch.Tensor, target: torch.Tensor, groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean cross-entropy of levels above the classes, [levels].

    `target` [n, classes]: shares that sum to 1. `groups`: for each level the number of the node that each class lies
    under, [classes]; a node's probability is the sum over its classes.
    """
    p = torch.softmax(logits, dim=1)
    losses = []
    for group in groups:
        nodes = int(group.max()) + 1
        said = p.new_zeros(len(p), nodes).index_add_(1, group, p)
        meant = target.new_zeros(len(p), nodes).index_add_(1, group, target)
        losses.append(-(meant * torch.log(said.clamp_min(1e-7))).sum(1).mean())
    return torch.stack(losses)


def smoothed(target: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return targets [n, classes] with a share of `smoothing` spread over all classes (Szegedy et al. 2016)."""
    return target * (1 - smoothing) + smoothing / target.shape[1]


def standardised(pixels: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Return uint8 or float pixels in 0..255 [n, 3, side, side] with the mean and spread [3] of 0..1 taken out."""
    scale = (1 / (255 * spread))[None, :, None, None]
    return pixels.float() * scale - (mean / spread)[None, :, None, None]


class Pretrained(nn.Module):
    """A model of transformers, which takes pictures of the side it was trained with."""

    def __init__(self, model: Any, side: int):
        super().__init__()
        self.model, self.side = model, side

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes] of pixels of any side."""
        if pixels.shape[-1] != self.side:
            size = (self.side, self.side)
            pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        return self.model(pixel_values=pixels).logits


def compact(config: ImageConfig, classes: int) -> CompactNet:
    """Return the untrained network that a configuration describes."""
    return CompactNet(config.widths, config.depths, classes, config.dropout)


def load_pretrained(base: Path | str, side: int, classes: int | None = None) -> Pretrained:
    """Return a model for image classification by Hugging Face id or local path, its last layer new for `classes`.

    Raises OSError where there is no such model.
    """
    from transformers import AutoModelForImageClassification

    local = Path(base).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1"
    fresh = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
    model = AutoModelForImageClassification.from_pretrained(str(base), local_files_only=local, **fresh)
    model.config._name_or_path = ""  # saved files would otherwise name the directory the model was read from
    return Pretrained(model, side)


def pretrained_input(base: str) -> dict[str, Any]:
    """Return the side, mean and spread of the pictures that a pretrained model was trained on, as far as it says so."""
    from transformers import AutoConfig
    from transformers.image_processing_base import ImageProcessingMixin

    local = Path(base).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1"
    config: Any = AutoConfig.from_pretrained(base, local_files_only=local)
    try:
        said: dict[str, Any] = ImageProcessingMixin.get_image_processor_dict(base, local_files_only=local)[0]
    except OSError:  # a model saved without its processor
        said = {}
    size = said.get("crop_size") or said.get("size") or getattr(config, "image_size", None) or 224
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or 224
    side = int(size[0] if isinstance(size, list | tuple) else size)
    return {"side": side, "mean": said.get("image_mean") or [0.5] * 3, "spread": said.get("image_std") or [0.5] * 3}
