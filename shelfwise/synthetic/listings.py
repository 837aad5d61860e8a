"""Labelled marketplace listings: a seller's title and text for a product, with the category it belongs to."""

from __future__ import annotations

import random

import pandas as pd

from shelfwise.synthetic.lines import noisy_title
from shelfwise.synthetic.products import Product
from shelfwise.synthetic.vendors import Vendor

_DESCRIBED_SHARE = 0.7


def make_listings(
    products: list[Product], sellers: list[Vendor], count: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return listings (listing_id, title, description, category, image) and the product that each one is of."""
    rng = random.Random(f"{seed}/listings")
    chosen = rng.sample(products, count) if count <= len(products) else rng.choices(products, k=count)
    rows, truth = [], []
    for number, product in enumerate(chosen, start=1):
        listing_id, seller = f"L{number:07d}", rng.choice(sellers)
        line = noisy_title(product.words(), seller, seller.sku(number), rng)
        blurb = product.family.blurb if rng.random() < _DESCRIBED_SHARE else None
        rows.append((listing_id, line.title, blurb, product.family.leaf.path, None))
        truth.append((listing_id, product.product_id, "|".join(line.noise)))
    frame = pd.DataFrame(rows, columns=pd.Index(["listing_id", "title", "description", "category", "image"]))
    return frame.astype({"image": "object"}), pd.DataFrame(
        truth, columns=pd.Index(["listing_id", "product_id", "noise"])
    )
