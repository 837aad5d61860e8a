"""How good a classifier is: on listings it never saw, beside simple baselines, by level and slice, and how sure it is.

It takes probabilities, whoever made them: a text classifier, an image classifier and their combination are measured by
the same code on the same listings. Where several categories are right for a listing, naming any of them is right. A
listing whose category the classifier does not know, or for which it said nothing, counts as wrong.

* **Hierarchical precision, recall and F1** (Kiritchenko, Matwin and Famili, "Functional annotation of genes using
  hierarchical text categorization", 2005): what is counted are the category and all its ancestors, so naming a sister
  category is better than naming one of another department. Of several right answers the nearest counts.
* **Levels**: at each level of the tree the probabilities of the categories below are summed, and the largest sum is
  taken (`asked alone`); beside it, whether the ancestor of the category named first is right.
* **Decisions**: how many of the assigned ones are right here was promised before, with a confidence (95 %) that is
  slightly optimistic: thresholds are proven on validation listings, and these chose the checkpoint, the blend and the
  calibration line as well. Test listings chose nothing.
* **Intervals**: 95 %, bootstrap over groups of duplicates (a listing that stands there twice is one witness), Poisson
  weights (Hanley and MacGibbon 2006). Every measure is drawn with the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from shelfwise.classification import calibration
from shelfwise.classification.calibration import Truth, expected_calibration_error, reliability, right_answers
from shelfwise.classification.taxonomy import SEPARATOR, Taxonomy

RESAMPLES = 1000
AT_ONCE = 50  # resamples drawn together
DEPTH = 5  # categories looked at
PRECISION = 0.95  # for which coverage is measured
HEAD, TAIL = (
    0.5,
    0.9,
)  # of all listings: the largest categories that hold the first half, those that hold the last tenth
LEAST_IN_SLICE = 5
SLICES = {
    "category": "category",
    "popularity": "popularity",
    "title": "titled",
    "description": "description",
    "picture": "picture",
    "kind": "kind",
}
# What a title says that is about something for a product, and not about the product.
_ACCESSORY = re.compile(
    r"\b(?:case|cover|charger|cable|adapter|strap|holder|stand|mount|refill|replacement|protector|skin|sleeve|bag|kit|"
    r"parts?|spare|attachment|accessory|accessories)s?\b.*\b(?:for|fits|to fit|compatible with)\b",
    re.IGNORECASE,
)


@dataclass
class Evaluation:
    """What `evaluate` found.

    `metrics`: top1, top5, macro_f1, hierarchical_precision, hierarchical_recall, hierarchical_f1, level_<k>_top1, each
    with `_low` and `_high`; ece, coverage_at_95, mean_confidence; majority_top1, <baseline>_top1, _top5, _macro_f1; and
    where decisions are given assigned_precision, assigned_coverage (assigned and right among all), assigned_share and
    ask_share.
    `levels`: level, categories, top1 with bounds, top1_of_first. `slices`: slice, value, lines, top1, top5 with bounds.
    `confusion`: the most confused pairs, truth, predicted, lines, share, same_parent. `matrix`: int [classes, classes],
    rows are the truth. `classes`: its names. `examples`: right and wrong ones. `curve`: threshold, precision, coverage
    (share of all that is named from there on). `reliability`: of `calibration`. `baselines`: one row each. `lines`: one
    row per listing with what came of it, for the comparison with another classifier.
    """

    metrics: dict[str, float]
    levels: pd.DataFrame
    slices: pd.DataFrame
    confusion: pd.DataFrame
    matrix: np.ndarray
    classes: tuple[str, ...]
    examples: pd.DataFrame
    curve: pd.DataFrame
    reliability: pd.DataFrame
    baselines: pd.DataFrame
    lines: pd.DataFrame
    about: dict[str, Any] = field(default_factory=dict)
    primary_metric: str = "top1"


def evaluate(
    p: np.ndarray,
    truth: Truth,
    taxonomy: Taxonomy,
    lines: pd.DataFrame | None = None,
    baselines: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    counts: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Evaluate probabilities `p` [n, classes] of listings that were not trained on.

    `truth`: the right class of each, or a list of them; -1 or none for a category that is not among the classes. A row
    of NaN: nothing was said. `lines`: what is known of each listing, all optional: listing_id, group_id (duplicates
    share it), title, category_root (of the truth), has_description, has_image, popularity, accessory, decision
    ('assign', 'suggest', 'ask'). `baselines`: probabilities by name. `counts`: listings of each class in training, for
    the majority class and for head and tail; those of the evaluated listings stand in. Raises ValueError where there is
    nothing to evaluate or lengths differ.
    """
    right = right_answers(truth)
    n, classes = p.shape
    if not n:
        raise ValueError("there is no listing to evaluate on")
    if len(right) != n or classes != len(taxonomy.classes) or (lines is not None and len(lines) != n):
        raise ValueError("probabilities, truth, classes and lines must be of one length")
    if counts is None:
        counts = np.bincount(right[right >= 0], minlength=classes)
    outcome = Outcome.of(p, right)
    frame = _lines(outcome, taxonomy, lines, counts)
    draws = Bootstrap(frame["group_id"], seed, resamples)
    nodes = ancestors(taxonomy)
    levels, level_ratios = _levels(p, outcome, taxonomy)
    slices = list(_slices(frame))
    everyone = np.ones(n, bool)
    ratios = {"top1": (outcome.first, everyone), "top5": (outcome.five, everyone)}
    ratios |= hierarchical(outcome, nodes) | level_ratios | _of_decisions(frame)
    for i, (_, _, rows) in enumerate(slices):
        ratios |= {f"slice_{i}_top1": (outcome.first & rows, rows), f"slice_{i}_top5": (outcome.five & rows, rows)}
    compared = {"majority": np.broadcast_to(counts / max(counts.sum(), 1), p.shape), **(baselines or {})}
    others = {name: Outcome.of(other, right) for name, other in compared.items()}
    for name, other in others.items():
        ratios |= {f"{name}_top1": (other.first, everyone), f"{name}_top5": (other.five, everyone)}
    macros = {"macro_f1": outcome.answers(), **{f"{name}_macro_f1": one.answers() for name, one in others.items()}}
    found = draws.intervals(ratios, macros, classes)

    sure, hit = outcome.score[outcome.said], outcome.first[outcome.said]
    curve = precision_curve(outcome.score, outcome.first, outcome.said)
    metrics = {name: value for name, value in found.items() if not name.startswith("slice_")}
    metrics |= {
        "ece": expected_calibration_error(sure, hit),
        "coverage_at_95": coverage_at(curve, PRECISION),
        "mean_confidence": float(sure.mean()) if len(sure) else float("nan"),
    }
    named, predicted = outcome.answers()
    both = (named >= 0) & (predicted >= 0)
    matrix = np.bincount(named[both] * classes + predicted[both], minlength=classes**2).reshape(classes, classes)
    return Evaluation(
        metrics=metrics,
        levels=levels.assign(
            **{f"top1{end}": [found[f"level_{k}_top1{end}"] for k in levels["level"]] for end in ENDS}
        ),
        slices=_slice_table(slices, found),
        confusion=confused(matrix, taxonomy),
        matrix=matrix,
        classes=tuple(taxonomy.classes),
        examples=_examples(frame),
        curve=curve,
        reliability=reliability(sure, hit),
        baselines=pd.DataFrame(
            [
                {"baseline": name, **{f"{m}{end}": found[f"{name}_{m}{end}"] for m in MEASURES for end in ENDS}}
                for name in others
            ]
        ),
        lines=frame,
        about={
            "lines": n,
            "groups": draws.groups,
            "classes": classes,
            "classes_seen": int((matrix.sum(axis=1) > 0).sum()),
            "unknown_category": int((~(right >= 0).any(axis=1)).sum()),
            "nothing_said": int((~outcome.said).sum()),
            "several_right": int(((right >= 0).sum(axis=1) > 1).sum()),
            "seed": seed,
            "resamples": resamples,
        },
    )


MEASURES = ("top1", "top5", "macro_f1")
ENDS = ("", "_low", "_high")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of each listing. `top`: int [n, 5], the classes named, best first, -1 where nothing was said; `score`:
    probability of the first; `right`: of `right_answers`; `rank`: place of the first right one, 0 where none is named;
    `said`: whether anything was.
    """

    top: np.ndarray
    score: np.ndarray
    right: np.ndarray
    rank: np.ndarray
    said: np.ndarray

    @classmethod
    def of(cls, p: np.ndarray, right: np.ndarray) -> Outcome:
        """Rank the classes of each row of `p` [n, classes]."""
        said = calibration.said(p)
        known = p if said.all() else np.where(said[:, None], p, 0)
        top = top_classes(known, DEPTH)
        score = np.take_along_axis(known, top[:, :1], axis=1)[:, 0].astype(np.float64)
        top = np.where(said[:, None], top, -1)
        hit = ((top[:, :, None] == right[:, None, :]) & (top >= 0)[:, :, None]).any(axis=2)
        return cls(top, score, right, np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0), said)

    @property
    def first(self) -> np.ndarray:
        """Whether the class named first is right."""
        return self.rank == 1

    @property
    def five(self) -> np.ndarray:
        """Whether one of the five named is right."""
        return self.rank >= 1

    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return truth and prediction as one class each (-1: none): of several right answers the one that was named."""
        predicted = self.top[:, 0]
        return np.where(self.first, predicted, self.right.max(axis=1, initial=-1)), predicted


def top_classes(p: np.ndarray, k: int) -> np.ndarray:
    """Return the `k` most probable classes of each row, best first; all of them where there are no more."""
    k = min(k, p.shape[1])
    if k == p.shape[1]:
        return np.argsort(-p, axis=1, kind="stable")
    some = np.sort(np.argpartition(-p, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(p, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


class Bootstrap:
    """Draws groups of listings anew, many times; the same draws for every measure."""

    def __init__(self, group: pd.Series, seed: int, resamples: int):
        self.codes, names = pd.factorize(group)
        self.groups, self.seed, self.resamples = len(names), seed, resamples

    def _weights(self) -> Iterator[np.ndarray]:
        """Yield how often each group is drawn, float32 [some resamples, groups]."""
        rng = np.random.default_rng(self.seed)
        # Poisson(1) by its distribution function: far faster than drawing from the generator.
        steps = np.cumsum(np.exp(-1) / np.cumprod([1, *range(1, 10)])).astype(np.float32)
        for start in range(0, self.resamples, AT_ONCE):
            drawn = rng.random((min(AT_ONCE, self.resamples - start), self.groups), dtype=np.float32)
            times = np.zeros(drawn.shape, np.uint8)
            for step in steps:
                times += drawn > step
            yield times.astype(np.float32)

    def intervals(
        self,
        ratios: Mapping[str, tuple[np.ndarray, np.ndarray]],
        macros: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        classes: int = 0,
    ) -> dict[str, float]:
        """Return each measure with its interval as `_low` and `_high`; NaN where nothing is counted among.

        `ratios`: what is counted, among what (numbers of each listing). `macros`: truth and prediction of each listing,
        for the macro-F1.
        """
        counted, among = (
            np.stack([np.bincount(self.codes, one[side], self.groups) for one in ratios.values()], axis=1).astype("f4")
            for side in (0, 1)
        )
        made = {name: MacroF1(*pair, classes, self.codes) for name, pair in (macros or {}).items()}
        drawn_ratios, drawn_macros = [], {name: [] for name in made}
        for weights in self._weights():
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn_ratios.append((weights @ counted) / (weights @ among))
            for name, macro in made.items():
                drawn_macros[name].append(macro(weights))
        out: dict[str, float] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            values = counted.sum(axis=0, dtype=np.float64) / among.sum(axis=0, dtype=np.float64)
        spread = np.concatenate(drawn_ratios) if drawn_ratios else np.empty((0, len(ratios)))
        for i, name in enumerate(ratios):
            out |= _with_bounds(name, values[i], spread[:, i])
        for name, macro in made.items():
            out |= _with_bounds(
                name, macro()[0], np.concatenate(drawn_macros[name]) if drawn_macros[name] else np.empty(0)
            )
        return out


def _with_bounds(name: str, value: float, spread: np.ndarray) -> dict[str, float]:
    spread = spread[np.isfinite(spread)]
    low, high = np.percentile(spread, [2.5, 97.5]) if len(spread) else (float("nan"), float("nan"))
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


class MacroF1:
    """The mean F1 over the classes that occur, as truth or as prediction, for listings drawn several times.

    `truth`, `predicted`: class of each listing, -1 for what is no class; `codes`: its group, which is what is drawn.
    """

    def __init__(self, truth: np.ndarray, predicted: np.ndarray, classes: int, codes: np.ndarray | None = None):
        codes = np.arange(len(truth)) if codes is None else codes
        shape = (classes, int(codes.max(initial=-1)) + 1)

        def per_class(which: np.ndarray, rows: np.ndarray) -> sparse.csr_matrix:
            return sparse.csr_matrix((np.ones(len(rows), np.float32), (which[rows], codes[rows])), shape)

        true, named = np.flatnonzero(truth >= 0), np.flatnonzero(predicted >= 0)
        self._hits = per_class(truth, np.flatnonzero((truth >= 0) & (truth == predicted)))
        self._both = per_class(truth, true) + per_class(predicted, named)

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return it for each row of `weights` [m, groups], how often each is drawn; once each without."""
        drawn = np.ones((self._both.shape[1], 1), np.float32) if weights is None else weights.T
        both, hits = self._both @ drawn, self._hits @ drawn
        occurs = both > 0
        share = np.divide(2 * hits, both, out=np.zeros_like(both), where=occurs)
        number = occurs.sum(axis=0)
        return np.where(number > 0, share.sum(axis=0, dtype=np.float64) / np.maximum(number, 1), np.nan)


# --- The tree -----------------------------------------------------------------------------------------------------


def ancestors(taxonomy: Taxonomy) -> np.ndarray:
    """Return the category of each class at each level, itself included, as numbers [classes, depth].

    The same number is the same category, wherever it stands; -1 below a class that ends at a higher level.
    """
    numbers: dict[str, int] = {}
    out = np.full((len(taxonomy.classes), taxonomy.depth), -1, np.int64)
    for level in range(1, taxonomy.depth + 1):
        names, group = taxonomy.level(level)
        fresh = np.array([len(name.split(SEPARATOR)) == level for name in names])
        number = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        out[:, level - 1] = np.where(fresh[group], number[group], -1)
    return out


def hierarchical(outcome: Outcome, nodes: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return hierarchical precision, recall and F1 as what is counted, among what, of each listing.

    `nodes`: of `ancestors`. Of several right answers the nearest counts. A listing without a known category counts with
    the depth of the tree, so that not to know it is no advantage.
    """
    predicted = outcome.top[:, 0]
    own = np.where((predicted >= 0)[:, None], nodes[np.maximum(predicted, 0)], -1)
    named = (own >= 0).sum(axis=1)
    shared, size = np.zeros(len(predicted), np.int64), np.full(len(predicted), nodes.shape[1], np.int64)
    best = np.full(len(predicted), -1.0)
    for right in outcome.right.T:
        other = nodes[np.maximum(right, 0)]
        common, deep = ((own == other) & (own >= 0)).sum(axis=1), (other >= 0).sum(axis=1)
        near = np.where(right >= 0, common / np.maximum(deep, 1), -1.0)
        better = near > best
        shared, size, best = np.where(better, common, shared), np.where(better, deep, size), np.maximum(best, near)
    return {
        "hierarchical_precision": (shared, named),
        "hierarchical_recall": (shared, size),
        "hierarchical_f1": (2 * shared, named + size),
    }


def _levels(p: np.ndarray, outcome: Outcome, taxonomy: Taxonomy) -> tuple[pd.DataFrame, dict[str, Any]]:
    rows, ratios, everyone = [], {}, np.ones(len(p), bool)
    for level in range(1, taxonomy.depth + 1):
        names, group = taxonomy.level(level)
        alone = np.asarray(taxonomy.roll_up(p, level)).argmax(axis=1)
        under = np.where(outcome.top[:, 0] >= 0, group[np.maximum(outcome.top[:, 0], 0)], -1)
        among = np.where(outcome.right >= 0, group[np.maximum(outcome.right, 0)], -2)
        hit = (alone[:, None] == among).any(axis=1) & outcome.said
        ratios[f"level_{level}_top1"] = (hit, everyone)
        of_first = float((under[:, None] == among).any(axis=1).mean())
        rows.append({"level": level, "categories": len(names), "top1_of_first": of_first})
    return pd.DataFrame(rows), ratios


# --- What a person reads ------------------------------------------------------------------------------------------


def popularity(counts: np.ndarray) -> np.ndarray:
    """Return of each class whether it is 'head' (the largest that hold half of all listings), 'middle', or 'tail' (the
    smallest that hold the last tenth).
    """
    order = np.argsort(-counts, kind="stable")
    before = np.empty(len(counts))
    before[order] = (np.cumsum(counts[order]) - counts[order]) / max(counts.sum(), 1)
    return np.select([before < HEAD, before < TAIL], ["head", "middle"], "tail").astype(object)


def reads_like_an_accessory(titles: pd.Series, categories: pd.Series) -> np.ndarray:
    """Return which listings are about something for a product: by the category's words, or by the title's."""
    by_category = categories.fillna("").astype(str).str.contains("accessor", case=False, regex=False)
    return (by_category | titles.fillna("").astype(str).str.contains(_ACCESSORY)).to_numpy(bool)


def _lines(outcome: Outcome, taxonomy: Taxonomy, lines: pd.DataFrame | None, counts: np.ndarray) -> pd.DataFrame:
    """Return the columns of `Evaluation.lines`."""
    n = len(outcome.rank)
    given = pd.DataFrame(index=range(n)) if lines is None else lines.reset_index(drop=True)
    names = np.array([*taxonomy.classes, ""], dtype=object)
    truth = outcome.answers()[0]
    roots = np.array([name.split(SEPARATOR)[0] for name in names], dtype=object)[truth]
    first = names[truth]
    if (
        "category" in given and (truth < 0).any()
    ):  # of a category that is not among the classes the name is all there is
        first = np.where(truth >= 0, first, given["category"].fillna("").astype(str))

    def column(name: str, otherwise: Any) -> Any:
        return given[name].to_numpy() if name in given else otherwise

    def with_or_without(name: str) -> Any:
        return np.where(given[name].fillna(False).astype(bool), "with", "without") if name in given else ""

    ids = column("listing_id", np.arange(n).astype(str))
    title = pd.Series(column("title", ""), index=range(n))
    titled = np.where(title.fillna("").astype(str).str.strip() != "", "with", "without") if "title" in given else ""
    accessory = given["accessory"].fillna(False).astype(bool) if "accessory" in given else None
    if accessory is None:
        accessory = reads_like_an_accessory(title, pd.Series(first, dtype=object))
    group = pd.Series(column("group_id", ids), dtype=object)
    return pd.DataFrame(
        {
            "listing_id": ids,
            "group_id": group.where(group.notna(), pd.Series(ids, dtype=object)).astype(str),
            "title": title,
            "category": column("category_root", roots),
            "truth": truth,
            "truth_category": first,
            "known": truth >= 0,
            "predicted": outcome.top[:, 0],
            "predicted_category": names[outcome.top[:, 0]],
            "score": np.where(outcome.said, outcome.score, 0.0),
            "rank": outcome.rank,
            "right": outcome.first,
            "decision": column("decision", ""),
            "popularity": column("popularity", np.append(popularity(counts), "")[truth]),
            "titled": titled,
            "description": with_or_without("has_description"),
            "picture": with_or_without("has_image"),
            "kind": np.where(accessory, "accessory", "product"),
        }
    )


def _of_decisions(frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the measures of decisions, none where nothing was decided."""
    decision, right = frame["decision"].to_numpy(), frame["right"].to_numpy()
    if not (decision != "").any():
        return {}
    assigned, everyone = decision == "assign", np.ones(len(frame), bool)
    return {
        "assigned_precision": (assigned & right, assigned),
        "assigned_coverage": (assigned & right, everyone),
        "assigned_share": (assigned, everyone),
        "ask_share": (decision == "ask", everyone),
    }


def _slices(frame: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    for name, column in SLICES.items():
        values = frame[column].fillna("").astype(str).to_numpy()
        found, sizes = np.unique(values, return_counts=True)
        for value, size in zip(found, sizes, strict=True):
            if value and size >= LEAST_IN_SLICE and len(found) > 1:
                yield name, str(value), values == value


def _slice_table(slices: list[tuple[str, str, np.ndarray]], found: Mapping[str, float]) -> pd.DataFrame:
    rows = [
        {
            "slice": name,
            "value": value,
            "lines": int(rows.sum()),
            **{f"{m}{end}": found[f"slice_{i}_{m}{end}"] for m in ("top1", "top5") for end in ENDS},
        }
        for i, (name, value, rows) in enumerate(slices)
    ]
    columns = ["slice", "value", "lines", *(f"{m}{end}" for m in ("top1", "top5") for end in ENDS)]
    return pd.DataFrame(rows, columns=columns)


def confused(matrix: np.ndarray, taxonomy: Taxonomy, most: int = 200) -> pd.DataFrame:
    """Return the pairs that are confused most: truth, predicted, lines, share (of the truth's), same_parent."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong.ravel(), kind="stable")[:most]
    truth, predicted = np.unravel_index(order[wrong.ravel()[order] > 0], wrong.shape)
    names = np.array(taxonomy.classes, dtype=object)
    parent = np.array([name.rpartition(SEPARATOR)[0] for name in names], dtype=object)
    return pd.DataFrame(
        {
            "truth": names[truth],
            "predicted": names[predicted],
            "lines": wrong[truth, predicted],
            "share": wrong[truth, predicted] / matrix.sum(axis=1)[truth],
            "same_parent": (parent[truth] == parent[predicted]) & (parent[truth] != ""),
        }
    )


def precision_curve(score: np.ndarray, right: np.ndarray, said: np.ndarray | None = None) -> pd.DataFrame:
    """Return precision and coverage (share of all that is named) if all from each threshold on were named."""
    said = np.ones(len(score), bool) if said is None else said
    order = np.argsort(-score[said], kind="stable")
    score, right = score[said][order], right[said][order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.empty(0, int)
    return pd.DataFrame(
        {
            "threshold": score[last],
            "precision": np.cumsum(right)[last] / (last + 1),
            "coverage": (last + 1) / max(len(said), 1),
        }
    )


def coverage_at(curve: pd.DataFrame, precision: float) -> float:
    """Return the largest share of all that can be named with at least this precision; 0 where none can."""
    return float(curve["coverage"].where(curve["precision"] >= precision, 0.0).max() if len(curve) else 0.0)


def _examples(frame: pd.DataFrame, each: int = 12) -> pd.DataFrame:
    """Return the surest wrong answers, right ones, and listings of which the classifier was least sure."""
    wrong = frame[~frame["right"] & frame["known"]].nlargest(each, "score")
    right = frame[frame["right"]].nlargest(each, "score")
    unsure = frame[frame["known"]].nsmallest(each, "score")
    parts = [("sure and wrong", wrong), ("sure and right", right), ("unsure", unsure)]
    shown = pd.concat([part.assign(example=name) for name, part in parts], ignore_index=True)
    return shown[["example", "listing_id", "title", "predicted_category", "truth_category", "score", "rank"]]
