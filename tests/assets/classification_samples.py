"""A small world of labelled listings: words and colours that say the category, as good as always."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pandas as pd

CATEGORIES = {
    "Drinks > Beer": (["lager", "pils", "stout", "ale"], (200, 160, 30)),
    "Drinks > Wine": (["merlot", "riesling", "rioja", "shiraz"], (120, 10, 40)),
    "Drinks > Juice": (["orange", "apple", "mango", "cherry"], (250, 120, 0)),
    "Home > Lamps": (["lamp", "bulb", "lantern", "spotlight"], (240, 240, 200)),
    "Home > Chairs": (["chair", "stool", "armchair", "bench"], (110, 70, 30)),
    "Clothes > Shirts": (["shirt", "blouse", "polo", "tee"], (40, 80, 200)),
    "Clothes > Shoes": (["sneaker", "boot", "sandal", "loafer"], (20, 20, 20)),
    "Pets": (["dog food", "cat litter", "leash", "kibble"], (60, 160, 60)),
}
FILLER = ["classic", "premium", "500ml", "new", "x6", "original", "small", "large", "red", "blue"]


def listings(count: int = 400, seed: int = 3, source: str = "listing") -> pd.DataFrame:
    """marts/labelled_listings: title, mostly a description, category, seller; every tenth without its own word."""
    rng, rows, paths = random.Random(seed), [], sorted(CATEGORIES)
    for number in range(count):
        category = paths[number % len(paths)]
        words = CATEGORIES[category][0]
        title = " ".join([rng.choice(FILLER), rng.choice(words), rng.choice(FILLER), f"{number}"])
        if number % 10 == 9:
            title = " ".join([*rng.sample(FILLER, 2), f"{number}"])
        description = f"a very good {rng.choice(words)}" if rng.random() < 0.6 else None
        rows.append((f"L{number:05}", title, description, category, f"seller{number % 4}"))
    frame = pd.DataFrame(rows, columns=["listing_id", "title", "description", "category", "seller_id"])
    return frame.assign(
        normalised_title=frame["title"],
        text=frame["title"],
        categories=[[one] for one in frame["category"]],
        category_root=frame["category"].str.split(" > ").str[0],
        category_leaf=frame["category"].str.split(" > ").str[-1],
        image=None,
        group_id=[f"g{number:05}" for number in range(count)],
        source=source,
    )


def draw(category: str, seed: int, side: int = 40) -> bytes:
    """A picture in the colour of its category."""
    from PIL import Image, ImageDraw

    rng = random.Random(seed)
    image = Image.new("RGB", (side, side), (rng.randint(200, 255),) * 3)
    edge = rng.randint(4, 10)
    ImageDraw.Draw(image).ellipse((edge, edge, side - edge, side - edge), fill=CATEGORIES[category][1])
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


def draw_all(data: Path, frame: pd.DataFrame) -> None:
    """Write a picture of each listing but every eighth below images/, and two files that are none."""
    (data / "images").mkdir(parents=True, exist_ok=True)
    for number, (listing_id, category) in enumerate(zip(frame["listing_id"], frame["category"], strict=True)):
        if number % 8 != 7:
            (data / "images" / f"{listing_id}.jpg").write_bytes(draw(category, number))
    (data / "images" / f"{frame['listing_id'][0]}.jpg").write_bytes(b"")
    (data / "images" / f"{frame['listing_id'][1]}.jpg").write_bytes(b"not a picture at all")
