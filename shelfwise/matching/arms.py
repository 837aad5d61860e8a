"""Which arms of retrieval find the right product, and whether the encoder's arm is worth its time.

Every arm costs time on every line. Those over character n-grams and words need what is computed anyway; the encoder's
needs a nearest neighbour search of its own. Some catalogs need it (abbreviations, synonyms, other languages), on
others it finds nothing that the rest did not. So it is measured, on past lines whose vendors the index is not told of.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from shelfwise.matching.index import CatalogIndex, Encoder, IndexConfig, ranks_by
from shelfwise.matching.lexical import Lexical

DEPTHS = (10, 20, 50)
LEAST_GAIN = 0.005
SAMPLE = 1000


def build_index(
    products: pd.DataFrame,
    names: pd.DataFrame,
    lexical: Lexical,
    embeddings: np.ndarray | None,
    lines: pd.DataFrame,
    encoder: Encoder | None,
    config: IndexConfig | None = None,
) -> CatalogIndex:
    """Return an index with the arms that `lines` (vendor_id, vendor_title, product_id) speak for.

    The encoder's arm stays where it raises the fused recall at `config.candidates` by `LEAST_GAIN` or more, and where
    there are no lines to tell; its cosine is a feature of the scorer either way. What was measured stands in the
    index's `stats` (see `arm_recall`).
    """
    config = config or IndexConfig()
    index = CatalogIndex.build(products, names, lexical, embeddings, replace(config, encoder_depth=0))
    measured = arm_recall(index, lines, encoder, config)
    gain = measured.get("recall_gain_of_encoder_arm")
    if gain is None or gain >= LEAST_GAIN:
        index = index.with_config(config)
    if gain is not None:
        verdict = "kept" if gain >= LEAST_GAIN else "left out"
        index.stats["encoder_arm"] = f"{verdict}: it finds the product of {gain:.2%} of lines that no other arm found"
    index.stats |= measured
    return index


def arm_recall(
    index: CatalogIndex, lines: pd.DataFrame, encoder: Encoder | None, config: IndexConfig
) -> dict[str, float]:
    """Return the share of lines whose product is among the first 10, 20 and 50 of each arm and of all together.

    `recall_<arm>_at_<k>` for title, word, alias, encoder and fused; of aliases the first k count, which may be
    fewer products. `recall_gain_of_encoder_arm`: what that arm adds to the candidates that are scored.
    At most `SAMPLE` lines with a product of the catalog are measured; empty without any.
    """
    lines = lines[lines["product_id"].isin(set(index.products["product_id"]))]
    if lines.empty:
        return {}
    lines = lines.sample(min(SAMPLE, len(lines)), random_state=config.seed)
    # Past lines of all the vendors in the sample are hidden: each line is measured as a new vendor's.
    unseen = index.without_vendors(lines["vendor_id"].unique())
    titles, truth = lines["vendor_title"].astype(str).tolist(), index.positions(lines["product_id"].tolist())
    embeddings = encoder.encode(titles) if encoder is not None and index.embeddings is not None else None
    out: dict[str, float] = {"recall_lines": float(len(lines))}
    for k in DEPTHS:
        for arm, (line, product) in _arms(unseen, titles, embeddings, k).items():
            out[f"recall_{arm}_at_{k}"] = _recall(line, product, truth)
    found = unseen.retrieve(titles, max(DEPTHS), embeddings)
    rank = ranks_by(found.line, -found.fused, found.product)
    for k in DEPTHS:
        out[f"recall_fused_at_{k}"] = _recall(found.line[rank < k], found.product[rank < k], truth)
    if embeddings is not None and config.encoder_depth:
        without = _recall(found.line[rank < config.candidates], found.product[rank < config.candidates], truth)
        exact = replace(config, exact_below=len(unseen.names) + 1)
        found = unseen.with_config(exact).retrieve(titles, config.candidates, embeddings)
        out["recall_gain_of_encoder_arm"] = _recall(found.line, found.product, truth) - without
    return out


def _arms(
    index: CatalogIndex, titles: list[str], embeddings: np.ndarray | None, k: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (line, product) of the first k names of each arm, as retrieval asks them."""
    forms, queries, _, words = index.read(titles)
    n, config = len(index.products), index.config
    line, names = index.grams.propose(queries, index.grams_inverted, n, (k, k), config.postings)
    first = names < n
    word_line, word = index.title_words.propose(words, index.words_inverted, n, (k, 0), config.word_postings)
    arms = {
        "title": (line[first], names[first]),
        "word": (word_line, word),
        "alias": (line[~first], index.name_product[names[~first]]),
    }
    if embeddings is not None and index.embeddings is not None:
        import faiss

        flat = faiss.IndexFlatIP(index.embeddings.shape[1])
        flat.add(np.ascontiguousarray(index.embeddings[:n]))
        _, near = flat.search(embeddings, min(k, n))
        arms["encoder"] = (np.repeat(np.arange(len(forms)), near.shape[1]), near.ravel())
    return arms


def _recall(line: np.ndarray, product: np.ndarray, truth: np.ndarray) -> float:
    hit = np.zeros(len(truth), bool)
    hit[line[product == truth[line]]] = True
    return float(hit.mean())
