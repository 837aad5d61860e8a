"""A small catalog with vendors' lines, made here so that the matching tests depend on nothing else."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pandas as pd

BRANDS = ("Norvik", "Castella", "Abermuir", "Tolosa", "Zephyrine", "Okarito", "Quillfeld", "Bramhall")
KINDS = {
    "Whisky": ("Single Malt Whisky", ("10yr", "12yr", "18yr"), ("700ml", "1L")),
    "Gin": ("Dry Gin", ("Lemon", "Rhubarb", "Juniper"), ("700ml", "50ml")),
    "Coffee": ("Ground Coffee", ("Dark", "Medium", "Decaf"), ("250g", "1kg")),
    "Phone": ("Smartphone", ("Black", "Silver", "Blue"), ("64GB", "128GB")),
}
LINES = ("Heron", "Falcon", "Beacon", "Juniper")


def catalog() -> pd.DataFrame:
    """384 products that differ by brand, line, variant and size."""
    rows = []
    for brand in BRANDS:
        for category, (noun, variants, sizes) in KINDS.items():
            for line in LINES[:2]:
                for variant in variants:
                    for size in sizes:
                        title = f"{brand} {line} {noun} {variant} {size}"
                        rows.append({"title": title, "category": f"Shop > {category}", "brand": brand, "size": size})
    frame = pd.DataFrame(rows)
    frame.insert(0, "product_id", [f"P{i:04d}" for i in range(len(frame))])
    frame["price"] = np.linspace(5, 80, len(frame))
    return frame


def noisy(title: str, rng: random.Random) -> str:
    """A vendor's way of writing a title: words dropped, shuffled, misspelt, upper case."""
    words = title.split()
    if rng.random() < 0.4:
        words.pop(rng.randrange(1, len(words) - 2))
    if rng.random() < 0.4:
        rng.shuffle(words)
    if rng.random() < 0.5:
        i = max(range(len(words)), key=lambda j: (words[j].isalpha(), len(words[j])))
        at = rng.randrange(1, len(words[i]) - 1)
        words[i] = words[i][:at] + words[i][at + 1 :]
    text = " ".join(words)
    return text.upper() if rng.random() < 0.3 else text


def positives(products: pd.DataFrame, n: int = 1500, vendors: int = 10, seed: int = 3) -> pd.DataFrame:
    """Vendor lines with their products, in the form of marts/labelled_positives."""
    rng = random.Random(seed)
    rows, seen = [], set()
    while len(rows) < n:
        vendor = f"v{min(int(rng.expovariate(0.3)), vendors - 1)}"
        product = rng.randrange(len(products))
        title = noisy(products["title"].iloc[product], rng)
        if (vendor, title.lower()) in seen:
            title += f" {len(rows)}x"
        seen.add((vendor, title.lower()))
        rows.append(
            {
                "line_id": hashlib.md5(f"{vendor}|{title}".encode()).hexdigest()[:12],
                "vendor_id": vendor,
                "vendor_title": title,
                "product_id": products["product_id"].iloc[product],
                "product_title": products["title"].iloc[product],
                "category": products["category"].iloc[product],
            }
        )
    return pd.DataFrame(rows)


class LetterEncoder:
    """An encoder that needs no training: letter counts, unit length."""

    dim = 32

    def encode(self, titles, batch_size: int = 64) -> np.ndarray:
        out = np.zeros((len(titles), self.dim), np.float32)
        for i, title in enumerate(titles):
            for a, b in zip(title.lower(), title.lower()[1:], strict=False):
                out[i, (ord(a) * 7 + ord(b)) % self.dim] += 1
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
