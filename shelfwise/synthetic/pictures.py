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
    from PIL.Image import Image as Picture
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
    return _jpeg(_drawn(category, colour, random.Random(f"{seed}/{product_id}")))


def draw_listing(listing_id: str, category: str, colour: str, kind: str, seed: int) -> bytes:
    """Return a seller's picture: drawn like a product's, on whatever was at hand, a little askew, in any light.

    `kind`: "plain", or what is odd about it: "turned" (lying on its side, the right way up by its EXIF tag), "cmyk",
    "transparent" (PNG), "animated" (GIF), "tiny" (8 pixels), "broken" (cut off), "placeholder" (no photograph).
    """
    from PIL import Image, ImageEnhance

    rng = random.Random(f"{seed}/{listing_id}")
    if kind == "placeholder":
        return _placeholder()
    ground = _rgb(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.5, 1.0)) if rng.random() < 0.4 else None
    image = _drawn(category, colour, rng, ground)
    filling = ground or image.getpixel((0, 0))
    image = image.rotate(rng.gauss(0, 6), Image.Resampling.BILINEAR, fillcolor=filling)  # type: ignore[arg-type]
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.15))
    stream = io.BytesIO()
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be seen turned by 90 degrees clockwise
        image.rotate(90).save(stream, format="JPEG", quality=88, exif=exif)
    elif kind == "cmyk":
        image.convert("CMYK").save(stream, format="JPEG", quality=88)
    elif kind == "transparent":
        mask = Image.new("L", image.size, 255)
        mask.paste(0, (0, 0, SIDE, 6))
        image.putalpha(mask)
        image.save(stream, format="PNG")
    elif kind == "animated":
        image.save(stream, format="GIF", save_all=True, append_images=[image.rotate(8), image.rotate(-8)], duration=200)
    elif kind == "tiny":
        return _jpeg(image.resize((8, 8)))
    else:
        data = _jpeg(image)
        return data[: len(data) // 3] if kind == "broken" else data
    return stream.getvalue()


def _placeholder() -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIDE, SIDE), (225, 225, 225))
    pen = ImageDraw.Draw(image)
    pen.rectangle((24, 32, 72, 68), outline=(160, 160, 160), width=3)
    pen.ellipse((38, 40, 58, 60), outline=(160, 160, 160), width=3)
    return _jpeg(image)


def _jpeg(image: Picture) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=88)
    return stream.getvalue()


def _drawn(category: str, colour: str, rng: random.Random, on: Colour | None = None) -> Picture:
    from PIL import Image, ImageDraw

    ground = _rgb(_DEPARTMENTS.index(category.split(" > ")[0]) / len(_DEPARTMENTS), 0.18, rng.uniform(0.88, 0.98))
    body = COLOUR_RGB.get(colour) or _rgb(_HUES[category] + rng.uniform(-0.02, 0.02), 0.6, rng.uniform(0.6, 0.8))
    image = Image.new("RGB", (SIDE, SIDE), on or ground)
    pen = ImageDraw.Draw(image)
    width = SIDE * rng.uniform(0.6, 0.8)
    left, top = (SIDE - width) * rng.uniform(0.3, 0.7), (SIDE - width) * rng.uniform(0.3, 0.7)
    _draw_body(pen, _SHAPES[category], (left, top, width), body)
    _draw_label(pen, (left, top, width), _rgb(_HUES[category] + 0.5, 0.35, 0.95), rng)
    return image


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
