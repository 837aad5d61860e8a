"""Drawn product pictures whose looks follow the category: its shape, a ground colour per department, a body colour.

A product that comes in a named colour is drawn in it. Position, size and shade vary a little from product to product.
"""

from __future__ import annotations

import colorsys
import io
import random
from typing import TYPE_CHECKING

from shelfwise.synthetic.categories import LEAVES
from shelfwise.synthetic.vocabulary import COLOUR_RGB

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIDE = 96
Colour = tuple[int, int, int]
# Outlines in a unit square, (x, y) from the top left; "round" is drawn as an ellipse.
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "bottle": ((0.42, 0.0), (0.58, 0.0), (0.58, 0.28), (0.7, 0.42), (0.7, 1.0), (0.3, 1.0), (0.3, 0.42), (0.42, 0.28)),
    "can": ((0.34, 0.1), (0.66, 0.1), (0.7, 0.16), (0.7, 0.94), (0.66, 1.0), (0.34, 1.0), (0.3, 0.94), (0.3, 0.16)),
    "jar": ((0.28, 0.15), (0.72, 0.15), (0.72, 0.27), (0.82, 0.36), (0.82, 1.0), (0.18, 1.0), (0.18, 0.36)),
    "box": ((0.1, 0.2), (0.9, 0.2), (0.9, 0.95), (0.1, 0.95)),
    "bag": ((0.2, 0.1), (0.8, 0.1), (0.74, 0.2), (0.9, 1.0), (0.1, 1.0), (0.26, 0.2)),
    "tube": ((0.3, 0.0), (0.7, 0.0), (0.62, 0.8), (0.58, 1.0), (0.42, 1.0), (0.38, 0.8)),
    "phone": ((0.28, 0.0), (0.72, 0.0), (0.72, 1.0), (0.28, 1.0)),
    "screen": ((0.0, 0.15), (1.0, 0.15), (1.0, 0.75), (0.55, 0.75), (0.6, 0.9), (0.4, 0.9), (0.45, 0.75), (0.0, 0.75)),
    "device": ((0.15, 0.1), (0.85, 0.1), (0.95, 0.5), (0.85, 0.95), (0.15, 0.95), (0.05, 0.5)),
    "garment": ((0.3, 0.05), (0.7, 0.05), (1.0, 0.3), (0.85, 0.45), (0.75, 0.35), (0.75, 1.0), (0.25, 1.0),
                (0.25, 0.35), (0.15, 0.45), (0.0, 0.3)),
    "shoe": ((0.1, 0.35), (0.4, 0.35), (0.6, 0.58), (0.95, 0.68), (1.0, 0.85), (0.05, 0.85)),
    "tool": ((0.1, 0.3), (0.75, 0.3), (1.0, 0.38), (0.75, 0.48), (0.45, 0.48), (0.38, 0.95), (0.15, 0.95)),
}  # fmt: skip
_DEPARTMENTS = sorted({leaf.department for leaf in LEAVES})
_SHAPES = {leaf.path: leaf.shape for leaf in LEAVES}
_HUES = {leaf.path: place * 0.618034 % 1.0 for place, leaf in enumerate(LEAVES)}


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def draw(product_id: str, category: str, colour: str, seed: int) -> bytes:
    """Return a JPEG of 96 by 96 pixels for a product of a category ("A > B > C"), in its named colour if it has one."""
    from PIL import Image, ImageDraw

    rng = random.Random(f"{seed}/{product_id}")
    ground = _rgb(_DEPARTMENTS.index(category.split(" > ")[0]) / len(_DEPARTMENTS), 0.18, rng.uniform(0.88, 0.98))
    body = COLOUR_RGB.get(colour) or _rgb(_HUES[category] + rng.uniform(-0.02, 0.02), 0.6, rng.uniform(0.6, 0.8))
    image = Image.new("RGB", (SIDE, SIDE), ground)
    pen = ImageDraw.Draw(image)
    width = SIDE * rng.uniform(0.6, 0.8)
    left, top = (SIDE - width) * rng.uniform(0.3, 0.7), (SIDE - width) * rng.uniform(0.3, 0.7)
    _draw_body(pen, _SHAPES[category], (left, top, width), body)
    _draw_label(pen, (left, top, width), _rgb(_HUES[category] + 0.5, 0.35, 0.95), rng)
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=88)
    return stream.getvalue()


def _draw_body(pen: ImageDraw, shape: str, place: tuple[float, float, float], body: Colour) -> None:
    left, top, width = place
    edge = tuple(int(part * 0.6) for part in body)
    if shape == "round":
        pen.ellipse((left, top, left + width, top + width), fill=body, outline=edge, width=2)
        return
    pen.polygon([(left + x * width, top + y * width) for x, y in _OUTLINES[shape]], fill=body, outline=edge, width=2)


def _draw_label(pen: ImageDraw, place: tuple[float, float, float], paint: Colour, rng: random.Random) -> None:
    left, top, width = place
    height = rng.uniform(0.1, 0.18)
    middle = 0.6
    pen.rectangle(
        (left + 0.36 * width, top + (middle - height) * width, left + 0.64 * width, top + (middle + height) * width),
        fill=paint,
    )
