"""PriceRunner as a data directory: `python -m benchmarks.pricerunner SRC OUT [--seed N] [--fold N]`.

SRC holds `offers.csv` (UCI "Product Classification and Clustering"). The canonical label of each cluster makes the
master catalog; the offers of four fifths of the vendors are the historical mappings; the other vendors' offers are
uploads with the truth beside them:

    OUT/products.csv                 product_id, title, category
    OUT/mappings.csv                 vendor_id, vendor_title, product_id
    OUT/uploads/<vendor>/offers.csv  title, product_id ('' where the line matches nothing)
    OUT/about.json                   seed, fold, counts

Vendors are put in the order of a seeded hash of their id and every fifth is held out: `--fold` says which. Results
differ by fold far more than by chance, because a few large vendors send lines such as "washing machine" only; so a
result is to be given with its fold, or over all five.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pandas as pd

FOLDS = 5


def read_offers(source: Path) -> pd.DataFrame:
    """Return the offers as strings, header names without blanks. Raises FileNotFoundError, ValueError."""
    path = source / "offers.csv" if source.is_dir() else source
    offers = pd.read_csv(path, dtype=str, keep_default_na=False)
    offers.columns = [column.strip() for column in offers.columns]
    needed = {"product_title", "vendor_id", "cluster_id", "cluster_label", "category_label"}
    if missing := needed - set(offers.columns):
        raise ValueError(f"{path}: columns are missing: {', '.join(sorted(missing))}")
    return offers


def held_out_vendors(vendor_ids: pd.Series, seed: int = 0, fold: int = 0) -> set[str]:
    """Return a fifth of the vendors; the five folds of one seed are disjoint and together all vendors."""

    def key(vendor: str) -> str:
        return hashlib.sha256(f"{seed}:{vendor}".encode()).hexdigest()

    return set(sorted(vendor_ids.unique(), key=key)[fold % FOLDS :: FOLDS])


def _share(clusters: pd.Series, share: float, seed: int | str) -> set[str]:
    """Return this share of the products, those first in the order of a seeded hash."""
    ordered = sorted(clusters.unique(), key=lambda c: hashlib.sha256(f"{seed}/{c}".encode()).hexdigest())
    return set(ordered[: round(share * len(ordered))])


def convert(
    source: Path, out: Path, seed: int = 0, fold: int = 0, withheld: float = 0.0, unseen: float = 0.0
) -> dict[str, int | float]:
    """Write the data directory and return its counts.

    `unseen`: share of the held-out vendors' products of which the mappings hold no line; uploads are then of these
    products only, so that neither vendor nor product has been seen. `withheld`: share of the products in the uploads
    that are left out of catalog and mappings; their lines then match nothing (product_id '').
    """
    offers = read_offers(source)
    held = offers["vendor_id"].isin(held_out_vendors(offers["vendor_id"], seed, fold))
    products = offers.drop_duplicates("cluster_id")
    products = pd.DataFrame(
        {
            "product_id": products["cluster_id"],
            "title": products["cluster_label"].str.split().str.join(" "),
            "category": products["category_label"],
        }
    )
    uploads = offers[held]
    apart = _share(uploads["cluster_id"], unseen, f"{seed}/unseen")
    if apart:
        uploads = uploads[uploads["cluster_id"].isin(apart)]
    removed = _share(uploads["cluster_id"], withheld, seed)
    products = products[~products["product_id"].isin(removed)]
    history = offers[~held & ~offers["cluster_id"].isin(removed | apart)]
    mappings = pd.DataFrame(
        {
            "vendor_id": history["vendor_id"],
            "vendor_title": history["product_title"],
            "product_id": history["cluster_id"],
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    products.to_csv(out / "products.csv", index=False)
    mappings.to_csv(out / "mappings.csv", index=False)
    for vendor, lines in uploads.groupby("vendor_id", sort=True):
        folder = out / "uploads" / str(vendor)
        folder.mkdir(parents=True, exist_ok=True)
        truth = lines["cluster_id"].where(~lines["cluster_id"].isin(removed), "")
        frame = pd.DataFrame({"title": lines["product_title"], "product_id": truth})
        frame.to_csv(folder / "offers.csv", index=False)
    about = {
        "seed": seed,
        "fold": fold,
        "products": len(products),
        "mappings": len(mappings),
        "upload_lines": len(uploads),
        "upload_vendors": int(uploads["vendor_id"].nunique()),
        "withheld": withheld,
        "unseen": unseen,
        "lines_without_match": int(uploads["cluster_id"].isin(removed).sum()),
    }
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n")
    return about


def main() -> None:
    """Run from the command line and print the counts as JSON."""
    parser = argparse.ArgumentParser(description="Turn PriceRunner offers into a Shelfwise data directory")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=int, default=0, help="which fifth of the vendors is held out, 0 to 4")
    parser.add_argument("--withheld", type=float, default=0.0, help="share of held-out products missing in the catalog")
    parser.add_argument("--unseen", type=float, default=0.0, help="share of held-out products without past mappings")
    given = parser.parse_args()
    print(json.dumps(convert(given.source, given.out, given.seed, given.fold, given.withheld, given.unseen)))


if __name__ == "__main__":
    main()
