"""Whether what the category champion makes of a file differs from what it makes of listings it was not trained on.

The same judgement as of matches (`drift`): sellers of the held-out listings take the place of vendors, and a file has
to be further from them than they are from each other. Only what the champion makes of lines is compared; what titles
look like is looked at once, by `monitoring/upload_drift`. Described are titles and descriptions: uploads have no
pictures. Without three sellers with twenty held-out listings each nobody knows how sellers differ, and nothing is said.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.artifacts import content_id
from shelfwise.classification.decide import ASK, ASSIGN, decide
from shelfwise.matching.decisions import APPROVED, NO_MATCH, REVIEW
from shelfwise.matching.lexical import comparable, split_words
from shelfwise.monitoring import drift
from shelfwise.monitoring.lines import Vocabulary, describe_matches, rarity, root_of
from shelfwise.monitoring.reference import sample_lines

if TYPE_CHECKING:
    from shelfwise.classification.model import CategoryModel

MAKER_VERSION = "1"
# The measures of matches, in the words of categories.
CALLED = {"approved": "assigned", "no_match": "asked", "score": "probability"}
ABOUT = {
    "category": "how rare the root of the predicted category is (-ln of its share)",
    "probability": "probability of the best category",
    "margin": "by how much the best category is more probable than the second",
    "assigned": "the category was assigned without a person",
    "asked": "a person is asked for the category",
    "unknown_words": "share of words that no other seller's listings hold",
}
_AS_MATCH = {ASSIGN: APPROVED, ASK: NO_MATCH}


def reference_id(champion_id: str) -> str:
    """Return the artifact id of a category champion's reference."""
    return content_id("category_drift_reference", MAKER_VERSION, champion_id)


def make_reference(model: CategoryModel, listings: pd.DataFrame, about: dict[str, Any]) -> drift.Reference:
    """Describe what the champion makes of held-out listings, seller by seller.

    `listings`: marts/labelled_listings with `split`; words are known from all of them.
    """
    known = listings[listings["seller_id"].notna()].assign(
        vendor_id=lambda rows: rows["seller_id"].astype(str), vendor_title=lambda rows: rows["title"].astype(str)
    )
    lines = sample_lines(known[known["split"] != "train"])
    vocabulary = _vocabulary(known)
    p, cases = model.answer(lines)
    ranked = decide(p, model.taxonomy, model.thresholds, cases).rename(columns={"row": "line_id"})
    described = _described(ranked, lines["vendor_title"].tolist(), lines["vendor_id"].tolist(), vocabulary)
    roots = Counter(described["root"])
    described["category"] = np.nan
    for _, part in described.groupby("vendor_id"):
        own = dict(Counter(part["root"]))
        described.loc[part.index, "category"] = rarity(part["root"].to_numpy(object), roots, own)
    profiles = {str(vendor): drift.profile(part) for vendor, part in described.groupby("vendor_id")}
    spreads = drift.spreads_of(profiles)
    none = np.empty((len(described), 0), np.float32)
    about = {**about, "lines": len(described), "vendors": len(profiles)}
    return drift.Reference(described, none, spreads, profiles, dict(roots), vocabulary, about=about)


def describe(categories: pd.DataFrame, reference: drift.Reference) -> pd.DataFrame:
    """Describe the lines of one upload. `categories`: rows of uploads/upload_categories."""
    best = categories[categories["rank"] == 1]
    described = _described(
        categories, best["title"].astype(str).tolist(), best["vendor_id"].astype(str).tolist(), reference.vocabulary
    )
    roots = described["root"].to_numpy(object)
    return described.assign(category=rarity(roots, reference.roots) if len(described) else np.nan)


def judge(
    described: pd.DataFrame, reference: drift.Reference, false_alarms: float, fail_share: float
) -> drift.Judgement:
    """Judge one file, against other sellers alone, in the words of categories."""
    found = drift.judge(described, reference, "", (), false_alarms, fail_share)
    columns = found.columns.assign(measure=found.columns["measure"].replace(CALLED))
    columns["about"] = columns["measure"].map(ABOUT)
    sentence = found.sentence
    for name in found.drifted:
        sentence = sentence.replace(f"{name} ", f"{CALLED.get(name, name)} ")
    drifted = tuple(CALLED.get(name, name) for name in found.drifted)
    return drift.Judgement(found.level, columns, sentence, found.cause, found.share, drifted)


def _described(ranked: pd.DataFrame, titles: list[str], vendors: list[str], vocabulary: Vocabulary) -> pd.DataFrame:
    """Return the measures of lines, in the order of their first ranks, with vendor_id, title, root and decision."""
    best = ranked[ranked["rank"] == 1].reset_index(drop=True)
    second = ranked[ranked["rank"] == 2].drop_duplicates("line_id").set_index("line_id")["probability"]
    decision = best["decision"].map(_AS_MATCH).fillna(REVIEW).to_numpy(object)
    behind = best["line_id"].map(second).fillna(0.0).to_numpy(float)
    told = describe_matches(best["probability"].fillna(0.0).to_numpy(float), behind, decision)
    forms = zip(comparable(titles), vendors, strict=True)
    return told.assign(
        unknown_words=[vocabulary.unknown(split_words(form), vendor) for form, vendor in forms],
        vendor_id=vendors,
        title=titles,
        root=[root_of(path) for path in best["category"]],
        decision=best["decision"],
    )


def _vocabulary(listings: pd.DataFrame) -> Vocabulary:
    """Return the words of titles, and whose each is where only one seller uses it."""
    owner: dict[str, str] = {}
    titles, sellers = comparable(listings["vendor_title"].tolist()), listings["vendor_id"].tolist()
    for form, seller in zip(titles, sellers, strict=True):
        for word in set(split_words(form)):
            owner[word] = seller if owner.get(word, seller) == seller else ""
    return Vocabulary(owner)
