"""Why a product got its score for a line: what agreed, what conflicted, what was missing, and how much each counted.

    explanation = matcher.explain("HENESSEY VS 75CL", "P0042", index)
    print(explanation.text)       # one line, the strongest things first
    explanation.table()           # every group of features with its effect

    python -m shelfwise.matching.explain MATCHER_DIR INDEX_DIR "henessey vs 75cl" [PRODUCT_ID]

The effects are exact Shapley values of the scorer's trees, the players being the groups of `features.GROUPS`: with
the base they add up to the raw score, in log odds. In probability points each group gets its proportional part of the
way from the base's probability to the score, so points add up as well. The words come from the two texts
(`evidence`), never from the effects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from shelfwise.matching.evidence import AGREES, CONFLICTS, MISSING, NOTE, READ, Catalog, Finding, compare
from shelfwise.matching.features import (
    CODES,
    FEATURE_NAMES,
    GROUP_NAMES,
    GROUP_OF_FEATURE,
    MEANING,
    PACKS,
    PAST_LINES,
    PRICES,
    RIVALS,
    SIZES,
    SPELLING,
    WORDS,
    FeatureMaker,
)
from shelfwise.matching.index import Candidates, CatalogIndex
from shelfwise.matching.lexical import comparable
from shelfwise.matching.scorer import FORMULA, FORMULA_INTERCEPT, Scorer

if TYPE_CHECKING:
    from shelfwise.matching.matcher import Matcher

STRONGEST = 4  # groups told in one line
LEAST = 0.01  # log odds from which an effect is one
_FACTS = (SIZES, PACKS, CODES)
_TREES: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # of each model, what `contributions` made of it
_COLUMN = {name: i for i, name in enumerate(FEATURE_NAMES)}
_FOR = (AGREES, READ, NOTE)  # what may stand for an effect above zero, and below, in this order
_AGAINST = (CONFLICTS, MISSING, NOTE)


@dataclass(frozen=True)
class Part:
    """A group of features: what was found in it, and what it did to the score."""

    group: str
    findings: tuple[Finding, ...]
    log_odds: float
    points: float

    @property
    def found(self) -> str:
        """Everything that was found, conflicts first."""
        order = {kind: i for i, kind in enumerate((CONFLICTS, READ, AGREES, MISSING, NOTE))}
        return "; ".join(f.text for f in sorted(self.findings, key=lambda f: order[f.kind]))

    def short(self, strong: bool) -> str:
        """The findings that go with the effect (none where not `strong`), and those that must never be left out.

        Where nothing that was found goes with the effect, what was found is told without it.
        """
        always = [f for f in self.findings if f.kind in (CONFLICTS, READ) or f.group == PACKS]
        kinds = _FOR if self.log_odds >= 0 else _AGAINST
        fitting = sorted((f for f in self.findings if f.kind in kinds), key=lambda f: kinds.index(f.kind))
        told = (fitting or list(self.findings))[:2] if strong else []
        text = ", ".join(f.text for f in dict.fromkeys(told + always))
        return f"{text} ({self.points:+.0f})" if strong and fitting and abs(self.points) >= 0.5 else text


@dataclass(frozen=True)
class Explanation:
    """Why a product has its score for a line.

    `score` and `decision` are those of `Matcher.match`; `rank` counts from 1, None for a product that was not among
    the line's candidates (its score is what it would have had). `raw` (log odds before calibration) is `base_raw`
    plus the `log_odds` of the parts; `score` is `base_score` plus their `points` over 100.
    """

    line: str
    product_id: str | None
    product_title: str | None
    score: float
    decision: str | None
    rank: int | None
    raw: float
    base_raw: float
    base_score: float
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """One line: the strongest parts with their effect in points of 100; conflicts and misspellings always."""
        if self.product_id is None:
            return "nothing in the catalog resembles the line"
        told, silent = [], []
        for part in sorted(self.parts, key=lambda part: -abs(part.log_odds)):
            told.append(part.short(len(told) < STRONGEST and abs(part.log_odds) >= LEAST))
            if not told[-1]:
                told.pop()
                silent.append(part)
        # Sizes, packs and codes that agree are worth saying even where the scorer made nothing of them.
        agreed = [f.text for part in silent for f in part.findings if f.kind == AGREES and f.group in _FACTS]
        return "; ".join(told + agreed[: max(STRONGEST - len(told), 0)])

    def table(self) -> pd.DataFrame:
        """Return group, found, points, log_odds: the base first, then the groups by the size of their effect."""
        base = {"group": "(start)", "found": "any candidate of any line", "points": 100 * self.base_score}
        rows = [{**base, "log_odds": self.base_raw}]
        for part in sorted(self.parts, key=lambda part: -abs(part.log_odds)):
            found = part.found or "nothing on either side"
            rows.append({"group": part.group, "found": found, "points": part.points, "log_odds": part.log_odds})
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        place = "not among the candidates" if self.rank is None else f"rank {self.rank}"
        head = f'"{self.line}" and {self.product_id} "{self.product_title}": {self.score:.3f}, {place}'
        rows = self.table().to_dict("records")
        body = [f"  {r['points']:+z7.1f}  {r['log_odds']:+z6.2f}  {r['group']:<22} {r['found']}" for r in rows]
        return "\n".join(
            [f"{head}, line decided: {self.decision}", f"  why: {self.text}", "   points  log odds", *body]
        )


def contributions(scorer: Scorer, features: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what each group adds to the raw score, float64 [n, len(GROUP_NAMES)], and the base they are added to.

    Shapley values of the groups (see `shapley`); for the formula, weight times value.
    """
    sums = np.zeros((len(features), len(GROUP_NAMES)))
    if scorer.model is None:
        for name, weight in FORMULA.items():
            column = _COLUMN[name]
            sums[:, GROUP_OF_FEATURE[column]] += weight * np.nan_to_num(features[:, column].astype(np.float64))
        return sums, FORMULA_INTERCEPT
    trees = _TREES.get(scorer.model)
    if trees is None:
        from shelfwise.matching.shapley import GroupTrees

        trees = _TREES[scorer.model] = GroupTrees.of(scorer.model, GROUP_OF_FEATURE, len(GROUP_NAMES))
    return trees.values(features), trees.base


class Explainer:
    """Explains candidates of one scorer against one index, many at a time. What is looked up is kept."""

    def __init__(self, scorer: Scorer, index: CatalogIndex):
        self.scorer, self.index = scorer, index
        self.maker = FeatureMaker.of(index)
        self.ids = index.products["product_id"].to_numpy()
        self.titles = index.products["title"].to_numpy()
        self.price = index.products["price"].astype(float).to_numpy()
        brands = index.products["brand"]
        codes, kinds = pd.factorize(brands)
        self.brand_code, self.brand_forms = codes, comparable([str(brand) for brand in kinds])
        words = index.words
        self.catalog = Catalog(
            index.reader.spelling, self._rarity, frozenset(f for f in self.brand_forms if f and " " not in f)
        )
        self._vocabulary, self._idf = words.vocabulary, words.idf

    def _rarity(self, word: str) -> float:
        column = self._vocabulary.get(word)
        return float(self.index.words.unknown_idf if column is None else self._idf[column])

    def explain(
        self,
        found: Candidates,
        features: np.ndarray,
        raw: np.ndarray,
        score: np.ndarray,
        rows: np.ndarray,
        rivals: np.ndarray,
        lines: Sequence[str],
        vendors: Sequence[str | None] | None = None,
        prices: np.ndarray | None = None,
    ) -> list[Explanation]:
        """Return an explanation of each of the candidates at `rows`, without decision and rank.

        `raw`, `score`: of all candidates. `rivals`: for each of `rows` the candidate to compare with, the best other
        one of the line, -1 for none. `lines`, `vendors`, `prices`: of the batch that was searched.
        """
        sums, base = contributions(self.scorer, features[rows])
        base_score = float(self.scorer.calibration(np.array([base]))[0])
        calibrated = self.scorer.calibration(raw[rows])
        way = raw[rows] - base
        slope = np.divide(calibrated - base_score, way, out=np.zeros(len(rows)), where=np.abs(way) > 1e-9)
        points = 100 * sums * slope[:, None]
        # A line has one product: what the rivals' probabilities take from this one.
        points[:, GROUP_NAMES.index(RIVALS)] += 100 * (score[rows] - calibrated)
        out = []
        for i, (row, rival) in enumerate(zip(rows.tolist(), rivals.tolist(), strict=True)):
            line, product = int(found.line[row]), int(found.product[row])
            compared = self._compare(found, row)
            findings = [*compared, *self._context(found, features, row, None if vendors is None else vendors[line])]
            findings += self._price(product, float("nan") if prices is None else float(prices[line]))
            findings += self._rival(found, score, features, row, rival, compared)
            by_group: dict[str, list[Finding]] = {name: [] for name in GROUP_NAMES}
            for finding in findings:
                by_group[finding.group].append(finding)
            parts = tuple(
                Part(name, tuple(by_group[name]), odds, moved)
                for name, odds, moved in zip(GROUP_NAMES, sums[i].tolist(), points[i].tolist(), strict=True)
            )
            title = None if self.titles[product] is None else str(self.titles[product])
            scores = (float(score[row]), None, None, float(raw[row]), base, base_score)
            out.append(Explanation(lines[line], str(self.ids[product]), title, *scores, parts))
        return out

    def _compare(self, found: Candidates, row: int) -> list[Finding]:
        """What line and product title say."""
        line, product = int(found.line[row]), int(found.product[row])
        form, title, brand = found.forms[line], self.index.title_forms[product], self.brand_code[product]
        brand_form = self.brand_forms[brand] if brand >= 0 else ""
        findings = compare(form, title, brand_form, self.catalog, self._past(product))
        if form and form == title:
            findings.insert(0, Finding(WORDS, AGREES, "the same as the catalog title"))
        return findings

    def _context(self, found: Candidates, features: np.ndarray, row: int, vendor: str | None) -> list[Finding]:
        """What letters, past lines and the encoder say."""
        form, alias, values = found.forms[int(found.line[row])], int(found.alias[row]), features[row]
        findings = [Finding(SPELLING, NOTE, f"letters {100 * values[_COLUMN['token_sort']]:.0f} % alike")]
        findings.append(self._past_line(form, alias, float(found.alias_score[row]), vendor))
        meaning, rank = float(values[_COLUMN["encoder"]]), values[_COLUMN["encoder_rank"]]
        if meaning == meaning:
            closest = ", the closest of the candidates" if rank == 0 else ""
            findings.append(Finding(MEANING, NOTE, f"meaning {100 * max(meaning, 0):.0f} % alike{closest}"))
        return findings

    def _past(self, product: int) -> Any:
        """Return whether a name of the product holds a word, as a function."""
        bags, vocabulary = self.index.bags, self._vocabulary
        start, end = bags.indptr[product], bags.indptr[product + 1]

        def holds(word: str) -> bool:
            column = vocabulary.get(word)
            return column is not None and column in bags.indices[start:end]

        return holds

    def _past_line(self, form: str, alias: int, cosine: float, vendor: str | None) -> Finding:
        index = self.index
        if alias < 0:
            return Finding(PAST_LINES, MISSING, "no past line of a vendor is known")
        if form and index.forms[alias] == form:
            before = vendor is not None and str(index.names["vendor_id"].iloc[alias]) == str(vendor)
            who = "this vendor wrote it the same way before" if before else "another vendor wrote it the same way"
            return Finding(PAST_LINES, AGREES, who)
        if cosine < 0.4:
            return Finding(PAST_LINES, MISSING, "its past lines are unlike this one")
        return Finding(PAST_LINES, NOTE, f'past line "{index.forms[alias]}" is {100 * cosine:.0f} % alike')

    def _price(self, product: int, ours: float) -> list[Finding]:
        theirs = self.price[product]
        if not (ours > 0 and theirs > 0):
            return []
        both, ratio = f"{ours:.2f} and {theirs:.2f}", min(ours, theirs) / max(ours, theirs)
        if ratio >= 0.9:
            return [Finding(PRICES, AGREES, f"price agrees ({both})")]
        kind = CONFLICTS if ratio < 0.5 else NOTE
        return [Finding(PRICES, kind, f"price differs: line says {ours:.2f}, product {theirs:.2f}")]

    def _rival(
        self,
        found: Candidates,
        score: np.ndarray,
        features: np.ndarray,
        row: int,
        rival: int,
        compared: list[Finding],
    ) -> list[Finding]:
        """The nearest rival, how far it is, and what it does worse; other products of the same title."""
        if rival < 0:
            return [Finding(RIVALS, NOTE, "no rival came near")]
        ahead = float(score[row] - score[rival])
        told = f'nearest rival "{self.titles[found.product[rival]]}" {abs(ahead):.2f} '
        told += "behind" if ahead >= 0 else "ahead"
        other = self._compare(found, rival)
        against, favour = self._only(other, compared, (CONFLICTS, MISSING)), self._only(other, compared, (READ, AGREES))
        told += f": its {against}" if against else ""
        told += f", though {favour}" if favour else ""
        if features[rival, _COLUMN["exact_alias"]] and features[row, _COLUMN["exact_alias"]]:
            told += ", and vendors wrote it this way too"
        findings = [Finding(RIVALS, NOTE, told)]
        twins = int(features[row, _COLUMN["twins"]])
        if twins:
            others = "other product has" if twins == 1 else "other products have"
            findings.insert(0, Finding(RIVALS, NOTE, f"{twins} {others} the same title"))
        return findings

    @staticmethod
    def _only(theirs: list[Finding], ours: list[Finding], kinds: tuple[str, ...]) -> str:
        """Return the first thing of these kinds that was found in a rival and not in the product; '' if nothing."""
        known = {finding.text for finding in ours}
        words = {word for finding in ours if finding.kind in kinds for word in finding.words}
        less = (finding.without(words) for finding in theirs if finding.kind in kinds)
        found = [finding for finding in less if finding.text and finding.text not in known]
        if not found:
            return ""
        first = min(found, key=lambda finding: (kinds.index(finding.kind), finding.group == WORDS))
        quoted = first.text.split('"')  # what is quoted is the vendor's or the catalog's
        quoted[::2] = [piece.replace("product", "rival") for piece in quoted[::2]]
        return '"'.join(quoted)


class Reasons:
    """Collects one line of words for the best candidate of each line, chunk by chunk (see `Matcher.rank_lines`)."""

    def __init__(self, explainer: Explainer, lines: Sequence[str], vendors: Sequence[str | None] | None):
        self.explainer, self.lines, self.vendors = explainer, lines, vendors
        self.texts: dict[int, str] = {}

    def add(
        self,
        start: int,
        found: Candidates,
        features: np.ndarray,
        raw: np.ndarray,
        score: np.ndarray,
        order: np.ndarray,
        rank: np.ndarray,
        prices: np.ndarray | None,
    ) -> None:
        """Explain the first of each line. `order`: rows by line and rank; `rank`: along `order`, from 0."""
        part = slice(start, start + found.n_lines)
        first, second = order[rank == 0], order[rank == 1]
        rivals = np.full(found.n_lines, -1, np.int64)
        rivals[found.line[second]] = second
        made = self.explainer.explain(
            found,
            features,
            raw,
            score,
            first,
            rivals[found.line[first]],
            self.lines[part],
            None if self.vendors is None else self.vendors[part],
            None if prices is None else prices[part],
        )
        for line, explanation in zip(found.line[first].tolist(), made, strict=True):
            self.texts[start + line] = explanation.text

    def text(self, line: int) -> str:
        """Return the words for a line of the whole input."""
        return self.texts.get(line, "nothing in the catalog resembles the line")


def explain(matcher: Matcher, lines: pd.DataFrame, product_id: str | None, index: CatalogIndex) -> Explanation:
    """Explain the score of a product for the one line in `lines` (columns as for `Matcher.match`).

    `product_id` None takes the line's best. A product that is not among the candidates is scored as if it were, and
    has no rank. Raises ValueError for a product that is not in the index.
    """
    from shelfwise.matching.matcher import line_prices, searched_titles

    titles, prices = searched_titles(lines), line_prices(lines)
    matches = matcher.match(lines, index, k=max(index.config.candidates, 1))
    decision = str(matches["decision"].iloc[0])
    if product_id is None:
        product_id = None if pd.isna(matches["product_id"].iloc[0]) else matches["product_id"].iloc[0]
    if product_id is None:
        return Explanation(str(lines["title"].iloc[0]), None, None, 0.0, decision, None, 0.0, 0.0, 0.0, ())
    wanted = int(index.positions([product_id])[0])
    if wanted < 0:
        raise ValueError(f"product {product_id} is not in the index")
    embeddings = matcher.encoder.encode(titles) if matcher.encoder is not None else None
    found = index.retrieve(titles, embeddings=embeddings)
    listed = wanted in found.product
    if not listed:
        found = index.retrieve(titles, embeddings=embeddings, also=np.array([wanted]))
    features = FeatureMaker.of(index).features(found, prices)
    raw = matcher.scorer.raw(features)
    score = matcher.scorer.probabilities(raw, found.line)
    order = np.lexsort((found.product, -found.fused, -raw, found.line))
    row = int(np.flatnonzero(found.product == wanted)[0])
    others = order[order != row]
    rival = np.array([others[0] if len(others) else -1])
    vendors = lines["vendor_id"].tolist() if "vendor_id" in lines else None
    made = Explainer(matcher.scorer, index).explain(
        found, features, raw, score, np.array([row]), rival, [str(lines["title"].iloc[0])], vendors, prices
    )[0]
    rank = int(np.flatnonzero(order == row)[0]) + 1 if listed else None
    return replace(made, decision=decision, rank=rank)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the candidates for a line, and the explanation of the best or of the product asked for."""
    from shelfwise.matching.matcher import Matcher

    parser = argparse.ArgumentParser(prog="python -m shelfwise.matching.explain", description=main.__doc__)
    parser.add_argument("matcher", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("line")
    parser.add_argument("product_id", nargs="?")
    parser.add_argument("--vendor", help="who wrote the line")
    parser.add_argument("--brand")
    parser.add_argument("--price", type=float)
    asked = parser.parse_args(arguments)
    matcher, index = Matcher.load(asked.matcher), CatalogIndex.load(asked.index)
    lines = pd.DataFrame(
        {"title": [asked.line], "vendor_id": [asked.vendor], "brand": [asked.brand], "price": [asked.price]}
    )
    for row in matcher.match(lines, index, k=index.config.candidates).to_dict("records"):
        if isinstance(row["product_id"], str):
            print(f"{row['rank']:3d}  {row['score']:.3f}  {row['product_id']:<14} {row['product_title']}")
    try:
        print(explain(matcher, lines, asked.product_id, index))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
