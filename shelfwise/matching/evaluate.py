"""How good the matcher is: on lines of vendors and products unseen in training, beside simple baselines.

Two views of each line are measured. With the whole catalog: where does the right product come (top-1, top-5, mean
reciprocal rank)? What retrieval missed counts as wrong. And as an upload would be: a share of the products is hidden
from their lines, which then match nothing, and the decisions are counted. The aliases of the lines' own vendors are
hidden throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.matching.baselines import all_baselines
from shelfwise.matching.decisions import APPROVED, NO_MATCH, REVIEW, Thresholds, guaranteed
from shelfwise.matching.explain import Explainer, Reasons
from shelfwise.matching.index import CatalogIndex
from shelfwise.matching.matcher import Matcher, Progress, Ranked
from shelfwise.matching.splits import hashed_share

RESAMPLES = 1000
DEPTH = 10  # ranks looked at: a product further down counts as not found in the mean reciprocal rank


@dataclass
class Evaluation:
    """What `evaluate` found.

    `metrics`: top1, top5, mrr (over lines whose product is in the catalog), approved_precision (right among
    approved), approved_coverage (approved and right among lines with a match), review_share (of all lines),
    no_match_recall (decided no match among lines without one), no_match_precision (without a match among those
    decided so), the decisions under either policy as `fixed_...` and `guaranteed_...`, each with `_low` and `_high`
    (95 %, bootstrap over lines); `candidate_recall`; `<baseline>_top1`, ...
    `baselines`: one row each. `slices`: columns slice, value, lines, top1, top5, mrr, approved_precision,
    approved_coverage. `examples`: right and wrong matches. `curve`: threshold, precision, coverage. `lines`: one row
    per line with what came of it (`compare.compare` pairs it with another matcher's). `about`: counts, seed, shares,
    for the report.
    """

    metrics: dict[str, float]
    baselines: pd.DataFrame
    slices: pd.DataFrame
    examples: pd.DataFrame
    curve: pd.DataFrame
    lines: pd.DataFrame
    about: dict[str, Any] = field(default_factory=dict)
    primary_metric: str = "top1"


def evaluate(
    matcher: Matcher,
    index: CatalogIndex,
    lines: pd.DataFrame,
    withheld: float = 0.2,
    seed: int = 0,
    baselines: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a matcher on labelled lines.

    `lines`: vendor_id, vendor_title, product_id (null, '' or a product that is not in the catalog: matches nothing);
    optional noise (kind of noise, a slice of its own) and price. `withheld`: share of the lines' products that are
    hidden to make more lines without a match. Raises ValueError where no line has its product in the catalog.
    """
    lines = lines.reset_index(drop=True)
    index = index.without_vendors(lines["vendor_id"].astype(str).unique())
    titles = ["" if t is None or t != t else str(t) for t in lines["vendor_title"].tolist()]
    truth = index.positions(lines["product_id"].tolist())
    if not (truth >= 0).any():
        raise ValueError("no line has its product in the catalog; there is nothing to evaluate")
    prices = None
    if "price" in lines:
        prices = pd.to_numeric(lines["price"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    hidden = hashed_share(lines["product_id"].astype(str), withheld, seed) & (truth >= 0)

    # One pass over all lines as they are, then over the hidden ones again without their product.
    again = np.flatnonzero(hidden)
    rows = np.concatenate([np.arange(len(lines)), again])
    hide = np.concatenate([np.full(len(lines), -1), truth[again]])
    both = matcher.rank_lines(
        [titles[i] for i in rows], index, DEPTH, None if prices is None else prices[rows], hide, progress
    )
    top, best = both.top(DEPTH), both.best_score()
    frame = _outcomes(lines, titles, truth, hidden, top[: len(lines)])
    seen_top, seen_score = top[: len(lines), 0].copy(), best[: len(lines)].copy()
    seen_top[again], seen_score[again] = top[len(lines) :, 0], best[len(lines) :]
    frame["predicted"], frame["score"] = seen_top, seen_score
    vendors = frame["vendor_id"].tolist()
    frame["decision"] = matcher.decide(seen_top, seen_score, vendors, index)
    frame["right"] = frame["has_match"] & (seen_top == truth)

    metrics = summarise(frame, seed)
    for name, thresholds in (
        ("fixed", Thresholds(matcher.policy.approve, matcher.policy.review)),
        ("guaranteed", guaranteed(matcher.guarantee)),
    ):
        other = frame.assign(decision=matcher.decide(seen_top, seen_score, vendors, index, thresholds))
        metrics |= {f"{name}_{key}": value for key, value in of_decisions(other, seed).items()}
    metrics["candidate_recall"] = _candidate_recall(titles, index, truth, matcher)
    compared = _compare(titles, index, truth, seed) if baselines else pd.DataFrame(columns=["baseline", "top1", "top5"])
    for row in compared.to_dict("records"):
        metrics |= {f"{row['baseline']}_{name}": float(row[name]) for name in ("top1", "top5", "mrr")}
    frame = _with_slices(frame, lines, index, truth)
    return Evaluation(
        metrics=metrics,
        baselines=compared,
        slices=_slices(frame),
        examples=_examples(frame, index, matcher, prices),
        curve=_curve(frame),
        lines=frame,
        about={
            "lines": len(lines),
            "in_catalog": int((truth >= 0).sum()),
            "without_match": int((~frame["has_match"]).sum()),
            "vendors": int(lines["vendor_id"].nunique()),
            "withheld": withheld,
            "seed": seed,
            "resamples": RESAMPLES,
        },
    )


def _outcomes(
    lines: pd.DataFrame, titles: list[str], truth: np.ndarray, hidden: np.ndarray, top: np.ndarray
) -> pd.DataFrame:
    """Return per line: where the right product came, and whether the line has a match in the upload's view."""
    hit = (top == truth[:, None]) & (truth >= 0)[:, None]
    rank = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return pd.DataFrame(
        {
            "vendor_id": lines["vendor_id"].astype(str),
            "title": titles,
            "product_id": lines["product_id"],
            "truth": truth,
            "in_catalog": truth >= 0,
            "has_match": (truth >= 0) & ~hidden,
            "rank": rank,
            "found_first": top[:, 0],
        }
    )


def summarise(frame: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Return every metric of `Evaluation.metrics` that comes from lines, with its interval."""
    rank, inside = frame["rank"].to_numpy(), frame["in_catalog"].to_numpy()
    reciprocal = np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0)
    ratios = {  # name: what is counted, among what
        "top1": (rank == 1, inside),
        "top5": ((rank >= 1) & (rank <= 5), inside),
        "mrr": (reciprocal, inside),
    }
    return intervals(ratios, seed) | of_decisions(frame, seed)


def of_decisions(frame: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Return the metrics of the decisions, with intervals."""
    has, right, decision = frame["has_match"].to_numpy(), frame["right"].to_numpy(), frame["decision"].to_numpy()
    approved, refused, everyone = decision == APPROVED, decision == NO_MATCH, np.ones(len(frame), bool)
    ratios = {
        "approved_precision": (approved & right, approved),
        "approved_coverage": (approved & right, has),
        "review_share": (decision == REVIEW, everyone),
        "no_match_recall": (refused & ~has, ~has),
        "no_match_precision": (refused & ~has, refused),
    }
    return intervals(ratios, seed)


def intervals(
    ratios: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Return each ratio sum(counted)/sum(among) with its 95 % bootstrap interval; NaN where nothing is counted among.

    Lines are resampled with Poisson(1) weights, which is the ordinary bootstrap for many lines (Hanley and MacGibbon
    2006).
    """
    rng = np.random.default_rng(seed)
    counted = np.stack([np.asarray(a, np.float32) * np.asarray(b, np.float32) for a, b in ratios.values()], axis=1)
    among = np.stack([np.asarray(b, np.float32) for _, b in ratios.values()], axis=1)
    draws = []
    for _ in range(0, resamples, 50):
        weights = rng.poisson(1.0, (50, len(counted))).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            draws.append((weights @ counted) / (weights @ among))
    sampled = np.concatenate(draws)
    out: dict[str, float] = {}
    for i, name in enumerate(ratios):
        total = float(among[:, i].sum())
        out[name] = float(counted[:, i].sum()) / total if total else float("nan")
        valid = sampled[np.isfinite(sampled[:, i]), i]
        low, high = np.percentile(valid, [2.5, 97.5]) if total and len(valid) else (float("nan"), float("nan"))
        out[f"{name}_low"], out[f"{name}_high"] = float(low), float(high)
    return out


def _candidate_recall(titles: list[str], index: CatalogIndex, truth: np.ndarray, matcher: Matcher) -> float:
    """Return the share of in-catalog lines whose product is among the candidates the scorer sees."""
    inside = np.flatnonzero(truth >= 0)
    hits = 0
    for start in range(0, len(inside), 4096):
        rows = inside[start : start + 4096]
        chunk = [titles[i] for i in rows]
        embeddings = matcher.encoder.encode(chunk) if matcher.encoder is not None else None
        found = index.retrieve(chunk, embeddings=embeddings)
        hits += int((found.product == truth[rows][found.line]).sum())
    return hits / len(inside)


def _compare(titles: list[str], index: CatalogIndex, truth: np.ndarray, seed: int) -> pd.DataFrame:
    """Return top1, top5, mrr of every baseline on the lines whose product is in the catalog."""
    rows = []
    inside = np.flatnonzero(truth >= 0)
    for name, baseline in all_baselines(index, index.config.threads).items():
        hit = baseline.rank([titles[i] for i in inside], DEPTH).top(DEPTH) == truth[inside][:, None]
        rank = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
        everyone = np.ones(len(rank), bool)
        reciprocal = np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0)
        ratios = {"top1": (rank == 1, everyone), "top5": ((rank > 0) & (rank <= 5), everyone)}
        rows.append({"baseline": name, **intervals(ratios | {"mrr": (reciprocal, everyone)}, seed, 200)})
    return pd.DataFrame(rows)


def _with_slices(frame: pd.DataFrame, lines: pd.DataFrame, index: CatalogIndex, truth: np.ndarray) -> pd.DataFrame:
    """Add the columns by which results are sliced."""
    aliases = np.diff(index.alias_start)
    known = np.maximum(truth, 0)
    count = np.where(truth >= 0, aliases[known] if len(aliases) else 0, 0)
    category = index.products["category"].to_numpy()
    roots = np.array(["" if c is None or c != c else str(c).split(" > ")[0] for c in category], dtype=object)
    root = np.where(truth >= 0, roots[known], "")
    words = frame["title"].str.split().str.len().fillna(0)
    frame = frame.assign(
        category=root,
        alias=np.where(count > 0, "has_alias", "cold"),
        length=np.select([words <= 4, words <= 8], ["1-4 words", "5-8 words"], "9+ words"),
        popularity=np.select([count == 0, count <= 3], ["none known", "tail (1-3)"], "head (4+)"),
    )
    if "noise" in lines:
        frame["noise"] = lines["noise"].fillna("").astype(str)
    return frame


SLICES = {name: name for name in ("category", "alias", "length", "popularity")} | {"vendor": "vendor_id"}


def _slices(frame: pd.DataFrame, least: int = 5) -> pd.DataFrame:
    """Return metrics per slice value with at least `least` lines, no intervals."""
    rows = []
    for name, column in {**SLICES, **({"noise": "noise"} if "noise" in frame else {})}.items():
        for value, part in frame[frame["in_catalog"]].groupby(column, sort=True):
            if len(part) < least:
                continue
            approved = part["decision"] == APPROVED
            has = part["has_match"]
            rows.append(
                {
                    "slice": name,
                    "value": str(value) or "(none)",
                    "lines": len(part),
                    "top1": float((part["rank"] == 1).mean()),
                    "top5": float(part["rank"].between(1, 5).mean()),
                    "mrr": float(np.where(part["rank"] > 0, 1 / part["rank"].clip(lower=1), 0).mean()),
                    "approved_precision": float(part["right"][approved].mean()) if approved.any() else np.nan,
                    "approved_coverage": float((approved & part["right"])[has].mean()) if has.any() else np.nan,
                }
            )
    columns = ["slice", "value", "lines", "top1", "top5", "mrr", "approved_precision", "approved_coverage"]
    return pd.DataFrame(rows, columns=columns)


def _examples(
    frame: pd.DataFrame, index: CatalogIndex, matcher: Matcher, prices: np.ndarray | None, each: int = 12
) -> pd.DataFrame:
    """Return the surest wrong matches, the surest right ones, and the wrongly refused ones, each with what explains
    its score (`why`).
    """
    titles = index.products["title"].to_numpy()
    wrong = frame[(frame["decision"] == APPROVED) & ~frame["right"]].nlargest(each, "score")
    right = frame[(frame["decision"] == APPROVED) & frame["right"]].nlargest(each, "score")
    refused = frame[(frame["decision"] == NO_MATCH) & frame["has_match"]].nsmallest(each, "score")
    parts = [
        part.assign(kind=kind, at=part.index)
        for kind, part in (("approved, wrong", wrong), ("approved, right", right), ("refused, has a match", refused))
    ]
    shown = pd.concat(parts, ignore_index=True)

    def title(positions: pd.Series) -> list[str]:
        return [str(titles[i]) if i >= 0 else "" for i in positions]

    shown["predicted_title"], shown["right_title"] = title(shown["predicted"]), title(shown["truth"])
    shown.loc[~shown["has_match"].astype(bool), "right_title"] = "(not in the catalog)"
    at, lines, vendors = shown["at"].to_numpy(dtype=np.int64), shown["title"].tolist(), shown["vendor_id"].tolist()
    hide = np.where(shown["in_catalog"] & ~shown["has_match"].astype(bool), shown["truth"], -1).astype(np.int64)
    reasons = Reasons(Explainer(matcher.scorer, index), lines, vendors)
    matcher.rank_lines(lines, index, 1, None if prices is None else prices[at], hide, None, reasons)
    shown["why"] = [reasons.text(i) for i in range(len(shown))]
    columns = ["kind", "vendor_id", "title", "predicted_title", "right_title", "score", "decision", "why"]
    return shown[columns]


def _curve(frame: pd.DataFrame) -> pd.DataFrame:
    """Return precision and coverage (right among lines with a match) if all from each threshold on were approved."""
    order = np.argsort(-frame["score"].to_numpy(), kind="stable")
    score, right = frame["score"].to_numpy()[order], frame["right"].to_numpy()[order]
    hits = np.cumsum(right)
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.empty(0, int)
    return pd.DataFrame(
        {
            "threshold": score[last],
            "precision": hits[last] / (last + 1),
            "coverage": hits[last] / max(int(frame["has_match"].sum()), 1),
        }
    )


def top_k(ranked: Ranked, truth: np.ndarray, k: int) -> float:
    """Return the share of lines whose product (position `truth`) is among the first `k`."""
    return float((ranked.top(k) == truth[:, None]).any(axis=1).mean())
