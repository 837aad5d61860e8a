import numpy as np
import pandas as pd

from shelfwise.matching import arms
from shelfwise.matching.index import CatalogIndex, IndexConfig, embed_names, product_names
from shelfwise.matching.lexical import Lexical
from tests.unit.matching_samples import LetterEncoder, positives

CONFIG = IndexConfig(threads=1)


class Thesaurus:
    """An encoder that knows which product a code word stands for, and nothing else."""

    def __init__(self, products: pd.DataFrame):
        self.titles = products["title"].tolist()

    def encode(self, titles: list[str]) -> np.ndarray:
        out = np.zeros((len(titles), len(self.titles)), np.float32)
        for row, title in enumerate(titles):
            out[row, int(title.split("@")[1]) if "@" in title else self.titles.index(title)] = 1.0
        return out


def build(products: pd.DataFrame, lines: pd.DataFrame, encoder, past: pd.DataFrame | None = None) -> CatalogIndex:
    names = product_names(products, past)
    lexical = Lexical.fit(names["name"].tolist())
    embeddings = embed_names(names, encoder) if encoder is not None else None
    return arms.build_index(products, names, lexical, embeddings, lines, encoder, CONFIG)


def test_recall_is_measured_by_arm_and_an_arm_that_finds_nothing_new_is_dropped(products):
    past = positives(products, n=600)
    lines = past[past["vendor_id"] == past["vendor_id"].iloc[0]]
    index = build(products, lines, LetterEncoder(), past)
    stats = index.stats
    for k in arms.DEPTHS:
        for arm in ("title", "word", "alias", "encoder", "fused"):
            assert 0 <= stats[f"recall_{arm}_at_{k}"] <= 1
        assert stats[f"recall_fused_at_{k}"] >= stats[f"recall_title_at_{k}"] - 0.02
    assert stats["recall_title_at_10"] <= stats["recall_title_at_20"] <= stats["recall_title_at_50"]
    assert stats["recall_lines"] == len(lines)
    assert stats["recall_gain_of_encoder_arm"] < arms.LEAST_GAIN
    assert (index.config.encoder_depth, index.vectors) == (0, None)


def test_the_encoder_arm_stays_where_only_it_finds_the_product(products):
    products = products.reset_index(drop=True)
    lines = pd.DataFrame(
        {
            "vendor_id": "acme",
            "vendor_title": [f"zzqx@{i}" for i in range(0, len(products), 5)],
            "product_id": products["product_id"].iloc[::5].tolist(),
        }
    )
    index = build(products, lines, Thesaurus(products))
    assert index.stats["recall_fused_at_10"] < 0.1
    assert index.stats["recall_encoder_at_10"] == 1
    assert index.stats["recall_gain_of_encoder_arm"] > 0.9
    assert index.config.encoder_depth == CONFIG.encoder_depth
    found = index.retrieve(["zzqx@7"], embeddings=Thesaurus(products).encode(["zzqx@7"]))
    assert 7 in found.product


def test_without_lines_or_encoder_nothing_is_claimed(products):
    lines = positives(products, n=50)
    assert arms.arm_recall(build(products, lines, None), lines[:0], None, CONFIG) == {}
    stats = build(products, lines, None).stats
    assert "recall_fused_at_10" in stats
    assert not [name for name in stats if "encoder" in name]
