"""What a champion was trained on, described once and kept beside it, and the lines of an upload described alike.

The reference is a sample of labelled lines as uploads would show them: matched by the champion with the past lines of
their own vendor hidden, as if the vendor were new. Labels know only lines that have a product, so each vendor has a
share of its products hidden, which makes lines that match nothing; a word that only names of that product hold is
unknown then. How large the share is at a real vendor nobody knows: it is dealt out evenly between none and twice the
expected one, and vendors differ by that as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.artifacts import content_id
from shelfwise.matching.lexical import comparable, split_words
from shelfwise.matching.scorer import deal
from shelfwise.monitoring.drift import LEAST_LINES, Profiles, Reference, profile, spreads_of
from shelfwise.monitoring.lines import (
    OF_TITLE,
    Vocabulary,
    cosines,
    describe_matches,
    describe_titles,
    rarity,
    root_of,
    surroundings,
    words_of_one_product,
)

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex, Encoder
    from shelfwise.matching.matcher import Matcher

MAKER_VERSION = "1"
SAMPLE = 5_000  # lines of the reference
VENDOR_SAMPLE = 50  # lines that a vendor of the reference should have: with more vendors, some are left out
UPLOAD_SAMPLE = 2_000  # lines of an upload that are looked at: a mean of so many is as good as one of 100,000
PAST_SAMPLE = 200  # lines of each further vendor whose own past is kept, of the titles only
PAST_LINES = 20_000
MOST_HIDDEN, MOST_PARTS = 0.1, 5  # of past lines that are hidden at a time, as in fitting the matcher


def reference_id(champion_id: str) -> str:
    """Return the artifact id of a champion's reference: whoever knows the champion finds it, after a rollback too."""
    return content_id("drift_reference", MAKER_VERSION, champion_id)


def sample_lines(positives: pd.DataFrame, size: int = SAMPLE, prefer: Collection[str] = ()) -> pd.DataFrame:
    """Return a sample with as even a number of lines per vendor as there are, in the order of a hash of the lines.

    Vendors with too few lines to say how vendors differ are left out, unless all are; so are some where there are very
    many, first those that are not in `prefer`.
    """
    lines = positives.assign(_hash=[_hash(v, t) for v, t in _keys(positives)]).sort_values("_hash", kind="stable")
    counts = lines["vendor_id"].value_counts()
    large = counts[counts >= LEAST_LINES].index
    chosen = sorted(large if len(large) else counts.index, key=lambda v: (v not in prefer, _hash("vendor", str(v))))
    chosen = chosen[: max(size // VENDOR_SAMPLE, 1)] if len(large) else chosen
    lines = lines[lines["vendor_id"].isin(chosen)]
    left, cap = size, 0
    for place, count in enumerate(np.sort(counts[chosen].to_numpy())):
        cap = left // (len(chosen) - place)
        left -= min(int(count), cap)
    taken = lines.groupby("vendor_id", sort=False).cumcount() < max(cap, 1)
    return lines[taken].drop(columns="_hash").head(size).reset_index(drop=True)


def make_reference(
    matcher: Matcher,
    index: CatalogIndex,
    positives: pd.DataFrame,
    held_out: Collection[str] = (),
    no_match_share: float = 0.25,
    about: dict[str, Any] | None = None,
    size: int = SAMPLE,
) -> Reference:
    """Describe what a champion was trained on.

    `index`: the champion's, over the catalog it was trained on. `positives`: vendor_id, vendor_title, product_id.
    `held_out`: vendors that neither encoder nor scorer was fitted on; see `Spread.of`. `about`: is kept with it.
    """
    known = positives[index.positions(positives["product_id"].astype(str).tolist()) >= 0]
    lines = sample_lines(known.astype({"vendor_id": str, "vendor_title": str, "product_id": str}), size, held_out)
    vocabulary = Vocabulary.of(index)
    vendors = lines["vendor_id"].to_numpy(object)
    hidden = _hidden(lines, no_match_share)
    matched = _match(matcher, index, lines, hidden)
    prices = pd.to_numeric(lines["product_id"].map(_column(index, "price")), errors="coerce")
    titles, gone = lines["vendor_title"].tolist(), _words_gone(index, lines, hidden)
    described = describe_titles(titles, vendors.tolist(), vocabulary, prices.to_numpy(float), gone)
    described = pd.concat([described, matched], axis=1).assign(vendor_id=vendors, title=lines["vendor_title"])
    roots = Counter(described["root"])
    own = {v: dict(Counter(part["root"])) for v, part in described.groupby("vendor_id")}
    described["category"] = np.nan
    for vendor, part in described.groupby("vendor_id"):
        described.loc[part.index, "category"] = rarity(part["root"].to_numpy(object), roots, own[str(vendor)])
    vectors = _embedded(described, matcher.encoder)
    # Lines of the same product are left out: of a product that nobody has sent yet there would be none either.
    groups = np.stack([pd.factorize(lines[name])[0] for name in ("vendor_id", "product_id")], axis=1)
    described["surroundings"] = surroundings(vectors, groups, vectors, groups)
    own_profiles: dict[str, Profiles] = {str(v): profile(part) for v, part in described.groupby("vendor_id")}
    spreads = spreads_of(own_profiles, held_out)
    categories = _column(index, "category").map(root_of).to_dict()
    made = Reference(described, vectors, spreads, own_profiles, dict(roots), vocabulary, categories)
    made.vendors |= _further_pasts(known, set(own_profiles), vocabulary)
    made.thresholds = distance_thresholds(described)
    made.about = {
        **(about or {}),
        "lines": len(described),
        "vendors": len(own_profiles),
        "held_out_vendors": len(set(own_profiles) & set(held_out)),
        "vendors_with_a_past": len(made.vendors),
        "no_match_share": no_match_share,
    }
    return made


def describe_lines(
    matches: pd.DataFrame,
    lines: pd.DataFrame | None,
    reference: Reference,
    encoder: Encoder | None,
    size: int = UPLOAD_SAMPLE,
) -> pd.DataFrame:
    """Describe the lines of one upload, or a sample of `size` of them that depends on nothing but the lines.

    `matches`: as uploads/upload_matches. `lines`: as uploads/upload_lines, for their prices. Returns the measures with
    vendor_id, title, root and decision.
    """
    best = matches[matches["rank"] == 1]
    if len(best) > size:
        order = np.argsort([_hash(str(line)) for line in best["line_id"]], kind="stable")
        best = best.iloc[np.sort(order[:size])]
    best = best.reset_index(drop=True)
    second = matches.loc[matches["rank"] == 2].drop_duplicates("line_id").set_index("line_id")["score"]
    told = describe_matches(
        best["score"].to_numpy(float),
        best["line_id"].map(second).fillna(0.0).to_numpy(float),
        best["decision"].to_numpy(object),
    )
    prices = None
    if lines is not None and "price" in lines:
        price = lines.drop_duplicates("line_id").set_index("line_id")["price"]
        prices = pd.to_numeric(best["line_id"].map(price), errors="coerce").to_numpy(float, na_value=np.nan)
    vendors = best["vendor_id"].astype(str).to_numpy(object)
    titles = best["title"].astype(str)
    described = describe_titles(titles.tolist(), vendors.tolist(), reference.vocabulary, prices)
    described = pd.concat([described, told], axis=1).assign(
        vendor_id=vendors,
        title=titles,
        root=best["product_id"].map(reference.categories).astype(object).where(best["product_id"].notna(), ""),
        decision=best["decision"].astype(str),
        candidate=best["product_title"].astype(object).where(best["product_title"].notna(), None),
    )
    own = dict(Counter(reference.lines.loc[reference.lines["vendor_id"].isin(set(vendors)), "root"]))
    placed = described["root"].notna()  # a product that the catalog has got since has no place in the reference
    described["category"] = np.nan
    described.loc[placed, "category"] = rarity(described.loc[placed, "root"].to_numpy(object), reference.roots, own)
    vectors = _embedded(described, encoder)
    theirs = reference.lines[["vendor_id"]].to_numpy(object)
    described["surroundings"] = surroundings(vectors, vendors[:, None], reference.vectors, theirs)
    return described.assign(root=described["root"].fillna(""))


def _match(matcher: Matcher, index: CatalogIndex, lines: pd.DataFrame, hidden: np.ndarray) -> pd.DataFrame:
    """Return what the champion makes of lines of vendors it does not know: scores, decision, candidate, root."""
    truth = index.positions(lines["product_id"].tolist())
    vendors, titles = lines["vendor_id"].to_numpy(str), lines["vendor_title"].to_numpy(object)
    past = index.names["vendor_id"].dropna()
    share = past.isin(set(vendors)).sum() / max(len(past), 1)
    parts = int(np.clip(np.ceil(share / MOST_HIDDEN), 1, min(MOST_PARTS, max(len(set(vendors)), 1))))
    part, made = deal(vendors, parts, 0), []
    category, names = index.products["category"].to_numpy(object), index.products["title"].to_numpy(object)
    for k in range(parts):
        rows = np.flatnonzero(part == k)
        view = index.without_vendors(set(vendors[rows]))
        hide = np.where(hidden[rows], truth[rows], -1)
        ranked = matcher.rank_lines([titles[i] for i in rows], view, 2, None, hide)
        top, score = ranked.top(2), ranked.best_score()
        second = np.zeros(len(rows))
        behind = ranked.rank == 1
        second[ranked.line[behind]] = ranked.score[behind]
        decision = matcher.decide(top[:, 0], score, vendors[rows].tolist(), view)
        told = describe_matches(score, second, decision).assign(
            decision=decision.astype(str),
            candidate=[names[p] if p >= 0 else None for p in top[:, 0]],
            root=[root_of(category[p]) if p >= 0 else "" for p in top[:, 0]],
        )
        made.append(told.set_index(rows))
    return pd.concat(made).sort_index() if made else describe_matches(*np.empty((3, 0)))


def _hidden(lines: pd.DataFrame, no_match_share: float) -> np.ndarray:
    """Return which lines have their product hidden: of each vendor another share, between none and twice the mean."""
    vendors = sorted(lines["vendor_id"].unique(), key=lambda vendor: _hash("share", vendor))
    share = {v: min(2 * no_match_share * (i + 0.5) / len(vendors), 0.95) for i, v in enumerate(vendors)}
    draw = np.array([_hash("hidden", vendor, product) for vendor, product in lines[["vendor_id", "product_id"]].values])
    return draw < lines["vendor_id"].map(share).to_numpy(float)


def _words_gone(index: CatalogIndex, lines: pd.DataFrame, hidden: np.ndarray) -> list[frozenset[str]]:
    """Return for each line the words that nobody would know without its product, where that is hidden."""
    only, truth = words_of_one_product(index), index.positions(lines["product_id"].tolist())
    forms = comparable(lines["vendor_title"].tolist())
    return [
        frozenset(word for word in split_words(form) if only.get(word) == product) if away else frozenset()
        for form, product, away in zip(forms, truth.tolist(), hidden.tolist(), strict=True)
    ]


def _embedded(described: pd.DataFrame, encoder: Encoder | None) -> np.ndarray:
    """Add `similarity` and return the lines' unit vectors, [n, 0] without an encoder."""
    described["similarity"] = np.nan
    if encoder is None or not len(described):
        return np.empty((len(described), 0), np.float32)
    candidates = [name if isinstance(name, str) else None for name in described["candidate"].tolist()]
    vectors, described["similarity"] = cosines(encoder, described["title"].tolist(), candidates)
    return vectors


def _further_pasts(positives: pd.DataFrame, done: set[str], vocabulary: Vocabulary) -> dict[str, Profiles]:
    """Return profiles of the titles of vendors outside the sample, so that their files have a past to compare with."""
    rest = positives[~positives["vendor_id"].astype(str).isin(done)]
    rest = rest[rest.groupby("vendor_id")["vendor_id"].transform("size") >= LEAST_LINES]
    rest = rest[rest.groupby("vendor_id", sort=False).cumcount() < PAST_SAMPLE].head(PAST_LINES)
    if not len(rest):
        return {}
    vendors = rest["vendor_id"].astype(str).tolist()
    told = describe_titles(rest["vendor_title"].astype(str).tolist(), vendors, vocabulary)
    return {str(vendor): profile(part, OF_TITLE) for vendor, part in told.groupby(np.array(vendors, object))}


def distance_thresholds(described: pd.DataFrame, most: int = 60) -> dict[str, float]:
    """Return for each column the distance from which on Evidently should call it drifted: that of the vendor that is
    most unlike the others, by Evidently's own measures (see `shelfwise.monitoring.report`).
    """
    from shelfwise.monitoring.report import column_distance, report_columns

    vendors = described["vendor_id"].value_counts()
    chosen = vendors[vendors >= LEAST_LINES].index[:most]
    made: dict[str, float] = {}
    for name in report_columns(described):
        far = []
        for vendor in chosen:
            own = described["vendor_id"] == vendor
            far.append(column_distance(described.loc[~own, name], described.loc[own, name]))
        found = [value for value in far if np.isfinite(value)]
        made[name] = float(max(found, default=0.1))
    return made


def _column(index: CatalogIndex, name: str) -> pd.Series:
    return index.products.drop_duplicates("product_id").set_index("product_id")[name]


def _keys(lines: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(lines["vendor_id"].astype(str), lines["vendor_title"].astype(str), strict=True))


def _hash(*parts: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
