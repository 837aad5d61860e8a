"""The image classifier: what a picture of a product says about its category.

    model = ImageClassifier.load(directory)
    p = model.probabilities(pixels)  # float32 [n, classes], calibrated

It is trained by `train_image.train_images`, or as a process by `python -m shelfwise.classification.train_image`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shelfwise.training.settings import Settings

ABOUT, CONFIG, WEIGHTS, BACKBONE = "classifier.json", "image_config.json", "model.safetensors", "backbone"
AT_ONCE = 128
FEW = 4

_OWN: Any = None  # stands for the default of the kind of training, see `ImageConfig.__post_init__`


@dataclass(frozen=True)
class ImageConfig(Settings):
    """What an image classifier is and how it is trained. Defaults were chosen on validation parts of fashion photos."""

    WHAT: ClassVar[str] = "image classifier"

    base: str | None = None
    """Hugging Face id or local path of a model for image classification to fine-tune; None trains from scratch."""
    side: int = 64
    """Side of the pictures that are looked at, in pixels; packed pictures of another are scaled."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the stages (from scratch only)."""
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks of the stages (from scratch only)."""
    dropout: float = 0.0
    """On the features before the last layer (from scratch only)."""
    growing: tuple[tuple[float, float], ...] = ((0.75, 0.35),)
    """Smaller pictures first: (share of the side, share of the training) in turn; the rest is trained on whole ones."""
    epochs: int = _OWN
    max_steps: int = 0
    """Steps at most; 0 leaves it to `epochs`."""
    minutes: float = 0.0
    """Minutes that training may take on this machine; 0 for as long as `epochs` take. Fewer epochs are trained where
    the speed that is measured first says so, so trainings with it are equal only where they come to equal epochs."""
    batch_size: int = _OWN
    learning_rate: float = _OWN
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    schedule: str = "cosine"
    averaging: float = 0.998
    """How much of the running average of the weights stays at each step; it is what is validated and kept."""
    mirrored: bool = True
    """Whether a picture is asked about together with its mirror image."""
    smoothing: float = 0.1
    """Share of each label that is spread over all classes."""
    parents: float = 0.3
    """Weight of the loss of each level above the classes beside that of the classes."""
    moving: float = 1.0
    """How far pictures are scaled, turned and shifted at random; 0 leaves them as they are."""
    recolouring: float = 1.0
    """How far brightness, contrast and colours are changed at random; 0 leaves them as they are."""
    mixing: float = 0.5
    """Share of the batches in which pictures are mixed with one another, and their labels too."""
    evaluations: int = 10
    """Validations and checkpoints in an undisturbed run, evenly spread."""
    valid_pictures: int = 2000
    """Validation pictures at most during training; the temperature is fitted on all."""
    patience: int = 0
    """Validations without improvement after which training stops; 0 never stops: the schedule's end gains most."""
    precision: str = "auto"
    """'auto' (half on a GPU, bf16 on a processor that multiplies it, which is 1.7 times as fast there, else fp32),
    'fp32', 'bf16' or 'fp16'."""
    seed: int = 7
    num_threads: int = 0
    """CPU threads; 0 leaves it to torch. Results are equal bit for bit only for equal numbers of threads."""

    def __post_init__(self) -> None:
        own = {"epochs": 4, "batch_size": 32, "learning_rate": 2e-4} if self.base else {}
        for name, value in ({"epochs": 40, "batch_size": 64, "learning_rate": 2e-3} | own).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "growing", tuple((float(side), float(part)) for side, part in self.growing))
        if not self.widths or len(self.widths) != len(self.depths):
            raise ValueError(f"widths and depths must name the same stages, not {self.widths} and {self.depths}")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ValueError(f"precision must be auto, fp32, bf16 or fp16, not {self.precision!r}")
        if sum(part for _, part in self.growing) > 1:
            raise ValueError(f"growing takes more than the whole training: {self.growing}")
        least = {"batch_size": 2, "epochs": 1, "evaluations": 1, "side": 8}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, not {getattr(self, name)}")


class ImageClassifier:
    """A trained classifier of pictures."""

    def __init__(self, network: Any, about: dict[str, Any]):
        """`about`: classes, side, mean, spread and temperature, as training has written them."""
        import torch

        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.side = int(about["side"])
        self.temperature = float(about["temperature"])
        self._mirrored = bool(about["mirrored"])
        self._mean, self._spread = torch.tensor(about["mean"]), torch.tensor(about["spread"])
        self._network = network.eval().to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, directory: Path | str) -> ImageClassifier:
        """Read a classifier from the directory that training wrote. Raises FileNotFoundError where there is none."""
        from safetensors.torch import load_model

        from shelfwise.classification import image_net

        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `TitleEncoder.load`
        directory = Path(directory)
        about = json.loads((directory / ABOUT).read_text())
        config = ImageConfig.from_json((directory / CONFIG).read_text())
        if (directory / BACKBONE).is_dir():
            network = image_net.load_pretrained(directory / BACKBONE, int(about["backbone_side"]))
        else:
            network = image_net.compact(config, len(about["classes"]))
            load_model(network, str(directory / WEIGHTS), strict=True)
        return cls(network, about)

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities of the classes, float32 [n, classes], rows sum to 1.

        `pixels`: uint8 [n, any side, same side, 3] as `read_picture` gives them.
        """
        from shelfwise.classification.calibration import apply

        return apply(self.logits(pixels), self.temperature)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's logits, float32 [n, classes], the mean over each picture and its mirror image."""
        import torch

        from shelfwise.classification.image_augment import scaled
        from shelfwise.classification.image_net import standardised

        if pixels.ndim != 4 or pixels.shape[1] != pixels.shape[2] or pixels.shape[3] != 3:
            raise ValueError(f"pixels must be [n, side, side, 3], not {list(pixels.shape)}")
        out = np.empty((len(pixels), len(self.classes)), np.float32)
        with torch.inference_mode(), _threads_for(len(pixels)):
            for start in range(0, len(pixels), AT_ONCE):
                some = np.array(pixels[start : start + AT_ONCE])  # a copy: a mapped file is read only
                batch = scaled(torch.from_numpy(some).permute(0, 3, 1, 2), self.side)
                batch = standardised(batch, self._mean, self._spread).contiguous(memory_format=torch.channels_last)
                said = self._network(batch)
                if self._mirrored:
                    said = (said + self._network(batch.flip(3))) / 2
                out[start : start + AT_ONCE] = said.float().numpy()
        return out


@contextmanager
def _threads_for(pictures: int) -> Generator[None]:
    """Compute a few pictures on one thread: sharing one picture gains little, and costs much on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    if pictures > FEW or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
