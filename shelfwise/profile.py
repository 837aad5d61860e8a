"""Automated exploration of a catalog: what a data person would look at before trusting it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from shelfwise.text import normalise


@dataclass(frozen=True)
class ProductProfile:
    """Numbers for the UI's plots over time, series for the picture, and tables to read."""

    numbers: dict[str, float]
    series: dict[str, pd.Series]
    frequent_tokens: pd.DataFrame
    duplicates: pd.DataFrame


def profile_products(products: pd.DataFrame, mappings: pd.DataFrame) -> ProductProfile:
    """Profile a product table (raw or staged) with its historical mappings.

    Returns counts, missing values, title lengths, token statistics and groups of products whose titles have the
    same normal form (at most 50 groups, largest first).
    """
    titles = products["title"].astype(str)
    normal = titles.map(normalise)
    split = normal.str.split()
    token_counts = Counter(token for tokens in split for token in dict.fromkeys(tokens))
    described = [c for c in ("brand", "category", "description", "price", "size", "image") if c in products]
    missing = products[described].isna().mean()
    groups = products.assign(normal=normal).groupby("normal")["product_id"].agg(["size", list])
    repeated = groups[groups["size"] > 1].sort_values("size", ascending=False, kind="stable")
    categories = (
        products["category"].fillna("(none)").value_counts() if "category" in products else pd.Series(dtype=int)
    )
    mapped = products["product_id"].isin(set(mappings["product_id"]))
    numbers = {
        "products": float(len(products)),
        "categories": float(categories.size),
        "mappings": float(len(mappings)),
        "vendors": float(mappings["vendor_id"].nunique()),
        "products_with_mapping_share": float(mapped.mean()) if len(products) else 0.0,
        "median_title_length": float(titles.str.len().median()),
        "median_title_tokens": float(split.str.len().median()),
        "distinct_tokens": float(len(token_counts)),
        "rare_token_share": sum(1 for n in token_counts.values() if n == 1) / max(1, len(token_counts)),
        "same_title_groups": float(len(repeated)),
        "products_with_shared_title": float(repeated["size"].sum()),
        **{f"missing_{name}_share": float(share) for name, share in missing.items()},
    }
    frequent = pd.DataFrame(token_counts.most_common(25), columns=["token", "products"])
    duplicates = pd.DataFrame(
        {
            "title": repeated.index[:50],
            "products": repeated["size"].head(50).to_numpy(),
            "product_ids": [", ".join(map(str, ids[:8])) for ids in repeated["list"].head(50)],
        }
    )
    series = {
        "title_length": titles.str.len(),
        "title_tokens": split.str.len(),
        "missing_share": missing,
        "category": categories,
    }
    return ProductProfile(numbers, series, frequent, duplicates)
