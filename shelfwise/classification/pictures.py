"""Pictures as arrays of one size: whatever a seller uploads, or the reason why it cannot be read.

    pixels = read_picture(data, 64)  # uint8 [64, 64, 3]
    pictures = pack([("a", data), ("b", "there is no file images/b.jpg")], 64)

A picture is turned upright, laid on white where it is transparent, scaled so that its longer side fits and padded with
white to a square: product photos have white grounds, and a stretched shoe is another shoe.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64
"""Side of the packed pictures unless somebody says otherwise."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What is read. Others are left alone: some start programs of their own, such as Ghostscript."""
LEAST_SIDE = 8
MOST_PIXELS = 50_000_000
"""A picture that says it has more is not decoded: a file of some kilobytes can claim to hold gigabytes."""

PIXELS, IDS, PROBLEMS = "pixels.npy", "listing_ids.json", "problems.parquet"
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"


class PictureError(ValueError):
    """A picture that cannot be read; the message says why, in words for the one who uploaded it."""


def read_picture(data: bytes, side: int = SIDE) -> np.ndarray:
    """Return a picture as uint8 [side, side, 3], red green blue.

    Of an animated one the first frame. Raises PictureError where the data is no picture, is damaged or cut short, too
    small to show anything, or larger than `MOST_PIXELS`.
    """
    if not data:
        raise PictureError("an empty file")
    try:
        return np.asarray(_squared(_upright(_opened(data, side)), side), np.uint8)
    except PictureError:
        raise
    except Exception as error:  # decoders meet damaged files with whatever exception comes first
        raise PictureError(f"damaged or cut short ({str(error).strip() or type(error).__name__})") from error


def _opened(data: bytes, side: int) -> Image:
    from PIL import Image, UnidentifiedImageError

    Image.init()  # else Pillow knows the commonest formats only
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is refused below
            image = Image.open(io.BytesIO(data), formats=known)
    except Image.DecompressionBombError as error:
        raise PictureError(f"more than {MOST_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        text = data.lstrip()[:1] in (b"<", b"{")
        raise PictureError("text, not a picture" if text else f"not a picture ({_READABLE})") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise PictureError(f"{width} x {height} pixels: more than {MOST_PIXELS:,}")
    if min(width, height) < LEAST_SIDE:
        raise PictureError(f"{width} x {height} pixels: fewer than {LEAST_SIDE} show nothing")
    image.draft(None, (4 * side, 4 * side))  # a JPEG of many pixels is decoded at a fraction of its size
    image.load()
    return image


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # notes about a picture that cannot be read say nothing about the picture
        return image


def _squared(image: Image, side: int) -> Image:
    from PIL import Image

    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    small = _in_colour(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    return square


def _in_colour(image: Image) -> Image:
    """Return a picture of any mode in red green blue, on white where it is transparent."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    if image.mode[0] in "IF":  # deeper than eight bits: Pillow would cut values off instead of scaling them
        values = np.asarray(image, np.float64)
        most = 65535 if image.mode[0] == "I" and values.max() > 255 else 255 if values.max() > 1 else 1
        return Image.fromarray(np.clip(values * (255 / most), 0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Pictures:
    """Pictures of listings in one array; `pixels` of a loaded one stay on disk until they are looked at."""

    pixels: np.ndarray
    """uint8 [n, side, side, 3]"""
    listing_ids: list[str]
    """Which listing each picture is of, [n]."""
    problems: pd.DataFrame
    """listing_id, problem: pictures that could not be read, and why."""

    @property
    def side(self) -> int:
        """Return the side of each picture."""
        return int(self.pixels.shape[1])

    def __len__(self) -> int:
        return len(self.listing_ids)

    @staticmethod
    def pack(rows: Iterable[tuple[str, bytes | str]], side: int = SIDE, directory: Path | None = None) -> Pictures:
        """Return `pack(rows, side)`; where a directory is given, written there as rows come and loaded from there: the
        pixels are never in memory together.
        """
        if directory is None:
            return pack(rows, side)
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / PIXELS).open("wb") as file:
            _write_header(file, 0, side)  # numpy leaves room in it for the number of rows to grow
            listing_ids, problems = _read_all(rows, side, file)
            file.seek(0)
            _write_header(file, len(listing_ids), side)
        _write_about(directory, listing_ids, problems)
        return Pictures.load(directory)

    def save(self, directory: Path | str) -> None:
        """Write the pictures to a directory."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / PIXELS, self.pixels, allow_pickle=False)
        _write_about(directory, self.listing_ids, self.problems)

    @classmethod
    def load(cls, directory: Path | str) -> Pictures:
        """Read a directory of `save`; the pixels are mapped, not read."""
        directory = Path(directory)
        listing_ids = json.loads((directory / IDS).read_text())
        # An array without rows cannot be mapped.
        pixels = np.load(directory / PIXELS, mmap_mode="r" if listing_ids else None, allow_pickle=False)
        return cls(pixels, listing_ids, pd.read_parquet(directory / PROBLEMS))

    def rows_of(self, listing_ids: Sequence[str] | pd.Series) -> np.ndarray:
        """Return the place of each listing's picture, int64 [n], -1 where it has none."""
        place = {one: number for number, one in enumerate(self.listing_ids)}
        return np.fromiter((place.get(str(one), -1) for one in listing_ids), np.int64, len(listing_ids))


def pack(rows: Iterable[tuple[str, bytes | str]], side: int = SIDE) -> Pictures:
    """Return the pictures of listings: (listing_id, the file's bytes, or in words why there are none).

    What cannot be read is among the problems. Needs the memory of the packed pixels, not that of the files.
    """
    stream = io.BytesIO()
    listing_ids, problems = _read_all(rows, side, stream)
    return Pictures(np.frombuffer(stream.getbuffer(), np.uint8).reshape(-1, side, side, 3), listing_ids, problems)


def _read_all(rows: Iterable[tuple[str, bytes | str]], side: int, out: IO[bytes]) -> tuple[list[str], pd.DataFrame]:
    """Write the pixels of each picture that can be read; return of which listings they are, and the problems."""
    listing_ids, problems = [], []
    for listing_id, data in rows:
        try:
            if isinstance(data, str):
                raise PictureError(data)
            out.write(read_picture(data, side).tobytes())
            listing_ids.append(str(listing_id))
        except PictureError as error:
            problems.append((str(listing_id), str(error)))
    return listing_ids, pd.DataFrame(problems, columns=["listing_id", "problem"], dtype="object")


def _write_about(directory: Path, listing_ids: Sequence[str], problems: pd.DataFrame) -> None:
    (directory / IDS).write_text(json.dumps(listing_ids))
    problems.to_parquet(directory / PROBLEMS, index=False)


def _write_header(file: IO[bytes], rows: int, side: int) -> None:
    about = {"descr": "|u1", "fortran_order": False, "shape": (rows, side, side, 3)}
    np.lib.format.write_array_header_1_0(file, about)
