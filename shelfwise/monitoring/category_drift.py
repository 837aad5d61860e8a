"""Whether what the category champion makes of a file differs from what it makes of listings it was not trained on.

The same judgement as of matches (`drift`): sellers of the held-out listings take the place of vendors, and a file has
to be further from them than they are from each other. Held out are the test listings alone: classifiers are fitted on
the validation listings too in the end. Only what the champion makes of lines is compared; what titles look like is
looked at once, by `monitoring/upload_drift`.

Described are titles and descriptions, without pictures: lines of an upload that have other evidence are left out.

Without three sellers with twenty held-out listings each nobody knows how sellers differ. Random parts of the held-out
listings stand in for them then. That tells the noise of sampling alone, by which half of real vendors' files look
drifted, so sellers are taken to differ as much as lines do, and only large changes are told. On files of 93 vendors of
PriceRunner beside a champion for 12 others (four draws of them; the linear model) the parts told of 16 % of the files
as they were, real sellers of 16 %: of 2 % and 1 % where over 95 % of the categories were right. Of files with half of
the lines exchanged for groceries they told 95 %, real sellers 92 %; of titles that are nothing but numbers, all. That
was tried by hand, no command repeats it, and it is one data set: the false alarms stated are meant where sellers are
known; without, this is all that is known of them.
Without sixty held-out texts there is no reference.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.artifacts import content_id
from shelfwise.classification.decide import ASK, ASSIGN, decide
from shelfwise.classification.ensemble import TEXT
from shelfwise.matching.decisions import APPROVED, NO_MATCH, REVIEW
from shelfwise.matching.lexical import comparable, split_words
from shelfwise.monitoring import drift
from shelfwise.monitoring.categories import evidence_of
from shelfwise.monitoring.drift import LEAST_LINES, LEAST_VENDORS
from shelfwise.monitoring.lines import Vocabulary, describe_matches, rarity, root_of
from shelfwise.monitoring.reference import sample_lines

if TYPE_CHECKING:
    from shelfwise.classification.model import CategoryModel

MAKER_VERSION = "2"
PARTS, SEED = 10, 0  # random parts of the held-out listings at most, where nobody knows the sellers
LIKE_LINES = 1.0  # by which share of what lines differ by sellers are taken to differ, as ten sellers would show it
BY_SELLER = "by_seller"
UNKNOWN = "how sellers differ is not known, so only large changes are told"
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


def why_not(listings: pd.DataFrame) -> str:
    """Return why no reference can be made of labelled listings (with `split`), "" where one can."""
    texts, least = held_out(listings)["group_id"].nunique(), LEAST_VENDORS * LEAST_LINES
    return "" if texts >= least else f"{texts} texts are held out, and {least} are needed"


def held_out(listings: pd.DataFrame) -> pd.DataFrame:
    """Return the listings that no part of the champion was fitted on."""
    return listings[listings["split"] == "test"]


def make_reference(model: CategoryModel, listings: pd.DataFrame, about: dict[str, Any]) -> drift.Reference:
    """Describe what the champion makes of held-out listings, seller by seller, or part by part (see above).

    `listings`: marts/labelled_listings with `split`, those with a text, enough of them (`why_not`); words are known
    from all of them.
    """
    known, by_seller = _with_vendors(listings)
    lines = sample_lines(held_out(known))
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
    if not by_seller:
        # How sellers differ is assumed and not estimated: however few the parts, that is no more and no less certain.
        least = {name: LIKE_LINES**2 * one.within for name, one in spreads.items()}
        spreads = {
            name: replace(one, vendors=PARTS, between=max(one.between, least[name])) for name, one in spreads.items()
        }
    none = np.empty((len(described), 0), np.float32)
    about = {**about, "lines": len(described), "vendors": len(profiles), BY_SELLER: by_seller}
    return drift.Reference(described, none, spreads, profiles, dict(roots), vocabulary, about=about)


def _with_vendors(listings: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Return listings with `vendor_id` and `vendor_title`, and whether vendors are sellers: else they are parts."""
    listings = listings.assign(vendor_title=listings["title"].fillna("").astype(str))
    known = listings[listings["seller_id"].notna()]
    known = known.assign(vendor_id=known["seller_id"].astype(str))
    if (held_out(known)["vendor_id"].value_counts() >= LEAST_LINES).sum() >= LEAST_VENDORS:
        return known, True
    parts = min(PARTS, held_out(listings)["group_id"].nunique() // LEAST_LINES)
    one = listings[["group_id", "split"]].drop_duplicates("group_id")
    one = one.assign(order=[_digest(group) for group in one["group_id"]]).sort_values("order")
    # Groups are dealt in turn, held-out ones apart, so that each part has as many.
    part = pd.Series((one.groupby("split").cumcount() % parts).to_numpy(), index=one["group_id"].to_numpy())
    return listings.assign(vendor_id="part " + listings["group_id"].map(part).astype(str)), False


def _digest(group: object) -> bytes:
    return hashlib.blake2b(f"{SEED}/{group}".encode(), digest_size=8).digest()


def of_text_alone(categories: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of lines that are like the reference's: text was all there was. `categories`: rows of
    uploads/upload_categories.
    """
    return categories[evidence_of(categories) == TEXT]


def describe(categories: pd.DataFrame, reference: drift.Reference) -> pd.DataFrame:
    """Describe the lines of one upload that have text alone. `categories`: rows of uploads/upload_categories."""
    categories = of_text_alone(categories)
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
    if not reference.about[BY_SELLER]:
        sentence = f"{sentence}; {UNKNOWN}"
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
        for word in dict.fromkeys(split_words(form)):  # not a set: equal inputs make equal files
            owner[word] = seller if owner.get(word, seller) == seller else ""
    return Vocabulary(owner)
