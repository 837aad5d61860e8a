"""What is certified, and what it then is worth: `python -m benchmarks.certified [--only NAME] [--folds N] ...`.

For each set the matcher is fitted on the past mappings as the graph fits it, thresholds come from its validation part,
and lines of vendors (PriceRunner: and products) that nothing was fitted on are decided:

* `pricerunner`: real offers; a fifth of the vendors held out, of half of their products no line is among the past
  mappings, and uploads hold those only; a quarter of these products is not in the catalog. Every fifth in turn.
* `synthetic`: the built-in catalog, uploads of vendors that the mappings lack.
* `abt_buy`: the left table as lines of one vendor, the right as catalog, pairs of train and valid as past mappings.

The last line is one JSON object: for each set and target the certificate (threshold, lower bound, sample), then the
measured precision of approved lines, and the share of lines with a product that were approved and right, beside the
fixed scores; and what the surest disagreements with the labels are (`about_disagreements`). The disagreements
themselves go to the terminal, and to a file where `--disagreements` names one: lines of real data belong into no result
that is kept with the project.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import pricerunner
from benchmarks.common import about, emit, peak_mb, say
from shelfwise.artifacts import content_id
from shelfwise.matching.decisions import APPROVED, Policy, Thresholds, guaranteed
from shelfwise.matching.evaluate import of_decisions
from shelfwise.matching.guarantee import Goal, Guarantee, Sample
from shelfwise.matching.index import CatalogIndex, embed_names, product_names
from shelfwise.matching.lexical import Lexical, comparable
from shelfwise.matching.matcher import Matcher, searched_titles
from shelfwise.matching.pairs import make_pairs
from shelfwise.matching.splits import hashed_share
from shelfwise.text import normalise

TARGETS = (0.95, 0.99)
WITHHELD = 0.25
SHOWN, PRINTED = 40, 15  # disagreements
SPLIT_SEED = 13
NOWHERE = "(not in the catalog)"


Found = tuple[dict[str, Any], list[dict[str, Any]]]  # what was measured, and the surest disagreements


@dataclass
class Case:
    """A catalog, what people mapped in the past, and lines to decide (product_id: '' where there is none)."""

    products: pd.DataFrame
    mappings: pd.DataFrame
    lines: pd.DataFrame


def read_case(folder: Path) -> Case:
    """Read a data directory whose uploads have a product_id column."""
    uploads = []
    for file in sorted((folder / "uploads").rglob("*.csv")):
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        uploads.append(frame.assign(vendor_id=file.parent.name).rename(columns={"title": "vendor_title"}))
    lines = pd.concat(uploads, ignore_index=True)
    read = [pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("products", "mappings")]
    products = read[0].replace("", None)
    if "price" in products:
        products["price"] = pd.to_numeric(products["price"])
    return Case(products, read[1], lines)


def positives_of(mappings: pd.DataFrame) -> pd.DataFrame:
    """Return past mappings as marts/labelled_positives holds them: one line per vendor and normal form."""
    forms = [normalise(title) for title in mappings["vendor_title"]]
    found = mappings.assign(normalised_title=forms).drop_duplicates(["vendor_id", "normalised_title"], keep="last")
    ids = [content_id(*key) for key in found[["vendor_id", "normalised_title"]].to_numpy().tolist()]
    return found.assign(line_id=ids).reset_index(drop=True)


def fit(case: Case, work: Path, lexical_only: bool, threads: int = 1) -> tuple[Matcher, CatalogIndex, dict[str, Any]]:
    """Fit a matcher as the graph does and return it with the index over the whole catalog."""
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.train import EncoderConfig, train_encoder

    positives = positives_of(case.mappings)
    pairs = make_pairs(positives, case.products, seed=SPLIT_SEED, threads=threads)
    encoder = None
    if not lexical_only:
        train_encoder(pairs, EncoderConfig(), work / "encoder", work / "checkpoints")
        encoder = TitleEncoder.load(work / "encoder")
    names = product_names(case.products, positives)
    embeddings = None if encoder is None else embed_names(names, encoder)
    index = CatalogIndex.build(case.products, names, Lexical.fit(names["name"].tolist()), embeddings)
    chosen = pairs[(pairs["split"] == "valid") & (pairs["label"] == 1)].rename(columns={"line": "vendor_title"})
    matcher = Matcher.fit(chosen, index, encoder=encoder)
    return matcher, index, {"fitted_lines": len(chosen), "scorer": matcher.scorer.report}


def outcomes(matcher: Matcher, index: CatalogIndex, lines: pd.DataFrame) -> pd.DataFrame:
    """Return what the matcher finds for each line, without decisions."""
    titles = lines["vendor_title"].astype(str).tolist()
    truth = index.positions(lines["product_id"].tolist())
    ranked = matcher.rank_lines(titles, index, 5)
    best = ranked.top(1)[:, 0]
    return pd.DataFrame(
        {
            "vendor_id": lines["vendor_id"].astype(str),
            "title": titles,
            "best": best,
            "truth": truth,
            "score": ranked.best_score(),
            "has_match": truth >= 0,
            "right": (best == truth) & (truth >= 0),
        }
    )


def measure(matcher: Matcher, index: CatalogIndex, frame: pd.DataFrame) -> dict[str, Any]:
    """Return certificates and what came of them, for each target, beside the fixed scores."""
    best, score, vendors = frame["best"].to_numpy(), frame["score"].to_numpy(), frame["vendor_id"].tolist()

    def decided(thresholds: Thresholds) -> pd.DataFrame:
        return frame.assign(decision=matcher.decide(best, score, vendors, index, thresholds))

    out: dict[str, Any] = {"lines": len(frame), "with_product": int(frame["has_match"].sum()), "targets": {}}
    for target in TARGETS:
        guarantee = Guarantee.of(matcher.sample, Goal(target))
        made = decided(guaranteed(guarantee))
        out["targets"][f"p{round(100 * target)}"] = {
            "certificate": guarantee.new.to_json(),
            "known": guarantee.known.to_json(),
            "review_from": guarantee.review,
            "groups": {"vendors": len(guarantee.by_vendor), "categories": len(guarantee.by_category)},
            "approved": int((made["decision"] == APPROVED).sum()),
            **of_decisions(made),
        }
    out["fixed"] = of_decisions(decided(Policy("fixed").thresholds(guarantee)))
    return out


def disagreements(frame: pd.DataFrame, index: CatalogIndex, shown: int = SHOWN) -> list[dict[str, Any]]:
    """Return the wrong lines of highest score: what the label says beside what was found."""
    titles = index.products["title"].to_numpy()
    wrong = frame[~frame["right"] & (frame["best"] >= 0)].nlargest(shown, "score")
    return [
        {
            "score": row["score"],
            "line": row["title"],
            "found": str(titles[row["best"]]),
            "label": str(titles[row["truth"]]) if row["truth"] >= 0 else NOWHERE,
        }
        for row in wrong.to_dict("records")
    ]


def about_disagreements(wrong: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many there are; how many were to be found nowhere; in how many the line holds the model codes of what
    was found and not those of its label, which speaks against the label; and the lowest score among them.
    """
    found = [holds_codes(one["line"], one["found"]) for one in wrong]
    label = [holds_codes(one["line"], one["label"]) for one in wrong]
    return {
        "shown": len(wrong),
        "not_in_catalog": sum(one["label"] == NOWHERE for one in wrong),
        "codes_of_found_only": sum(a and not b for a, b in zip(found, label, strict=True)),
        "lowest_score": min((one["score"] for one in wrong), default=None),
    }


def holds_codes(line: str, title: str) -> bool:
    """Return whether a line holds all model codes (words of four letters or more with digits) of a title with some."""
    form, other = comparable([line, title])
    within = "".join(filter(str.isalnum, form))
    codes = ["".join(filter(str.isalnum, word)) for word in other.split() if any(char.isdigit() for char in word)]
    codes = [code for code in codes if len(code) >= 4]
    return bool(codes) and all(code in within for code in codes)


def over_folds(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each target, how many folds certified a threshold, and precision and coverage over all folds' lines.

    A fold without a threshold approves nothing, which counts in the coverage.
    """
    out = {}
    for target in folds[0]["targets"]:
        parts = [fold["targets"][target] for fold in folds]
        approved = sum(part["approved"] for part in parts)
        matchable = sum(fold["with_product"] for fold in folds)
        right = sum(part["approved_coverage"] * fold["with_product"] for part, fold in zip(parts, folds, strict=True))
        bounds = [part["certificate"]["bound"] for part in parts if part["certificate"]["threshold"] is not None]
        out[target] = {
            "certified_folds": len(bounds),
            "folds": len(folds),
            "lowest_bound": min(bounds, default=None),
            "precision": right / approved if approved else None,
            "coverage": right / matchable,
            "precision_by_fold": [part["approved_precision"] for part in parts],
            "coverage_by_fold": [part["approved_coverage"] for part in parts],
        }
    return out


def _run(case: Case, work: Path, lexical_only: bool) -> Found:
    began = time.monotonic()
    matcher, index, told = fit(case, work, lexical_only)
    frame = outcomes(matcher, index, case.lines)
    found = measure(matcher, index, frame) | told | {"seconds": time.monotonic() - began}
    _say(found)
    return found, disagreements(frame, index)


def _say(found: dict[str, Any]) -> None:
    for target, one in found["targets"].items():
        certificate = one["certificate"]
        say(
            f"  {target}: bound {certificate['bound']:.4f} ({certificate['wrong']} of {certificate['lines']}); "
            f"measured {one['approved_precision']:.4f}, coverage {one['approved_coverage']:.4f} {certificate['reason']}"
        )


def on_pricerunner(source: Path, work: Path, folds: int, lexical_only: bool) -> Found:
    """Return certified and measured precision for held-out fifths of the vendors."""
    parts, shown = [], []
    for fold in range(folds):
        say(f"PriceRunner, fold {fold}")
        place = work / f"fold-{fold}"
        told = pricerunner.convert(source, place / "data", 0, fold, WITHHELD, unseen=0.5)
        found, wrong = _run(read_case(place / "data"), place, lexical_only)
        parts.append(found | {"about": told})
        shown += [{**one, "fold": fold} for one in wrong]
    shown.sort(key=lambda one: -one["score"])
    return {"over_folds": over_folds(parts), "folds": parts}, shown[:SHOWN]


def on_synthetic(work: Path, products: int, lexical_only: bool) -> Found:
    """Return certified and measured precision on the built-in catalog."""
    from shelfwise.synthetic import SyntheticConfig, generate

    say(f"synthetic, {products:,} products")
    config = SyntheticConfig(n_products=products, n_uploads=20, lines_per_upload=500, n_listings=0, n_sessions=0)
    made = generate(config)
    parts = []
    for (vendor, _), file in made.uploads.items():
        parts.append(pd.DataFrame({"vendor_id": vendor, "vendor_title": searched_titles(file)}))
    lines = pd.concat(parts, ignore_index=True)
    truth = pd.concat([made.upload_truth[key] for key in made.uploads], ignore_index=True)
    lines["product_id"] = truth["product_id"].fillna("")
    found, wrong = _run(Case(made.products, made.mappings, lines), work, lexical_only)
    return found | {"products": products, "mappings": len(made.mappings)}, wrong


def on_abt_buy(folder: Path) -> Found:
    """Return certified and measured precision of linking the two tables.

    The linker learns from the pairs of train and valid; its thresholds come from left records with a match there, by
    models that had not seen their labels; lines to decide are left records whose match is in test alone.
    """
    from shelfwise.matching.linking import CatalogLinker

    say("Abt-Buy")
    tables = [pd.read_csv(folder / f"table{side}.csv", dtype=str, keep_default_na=False) for side in "AB"]
    names = [table.set_index("id")["name"] for table in tables]
    parts = {part: pd.read_csv(folder / f"{part}.csv", dtype=str) for part in ("train", "valid", "test")}
    labelled = pd.concat([parts["train"], parts["valid"]], ignore_index=True)
    labelled = labelled.rename(columns={"ltable_id": "left_id", "rtable_id": "right_id"})
    linker = CatalogLinker().fit(*tables, labelled.assign(label=labelled["label"].astype(int)))
    right = {part: frame[frame["label"] == "1"].set_index("ltable_id")["rtable_id"] for part, frame in parts.items()}
    past = pd.concat([right["train"], right["valid"]])
    new = right["test"][~right["test"].index.isin(past.index)]
    seen = _linked(linker.scored(out_of_fold=True), past)
    sample = Sample(
        seen["score"].to_numpy(), seen["right"].to_numpy(), seen["has_match"].to_numpy(), np.zeros(len(seen), bool),
        np.zeros(len(seen), bool), np.full(len(seen), "abt"), seen["truth"].to_numpy(str), np.full(len(seen), ""),
    )  # fmt: skip
    frame = _linked(linker.scored(), new)
    out: dict[str, Any] = {"lines": len(frame), "with_product": int(frame["has_match"].sum()), "targets": {}}
    for target in TARGETS:
        guarantee = Guarantee.of(sample, Goal(target))
        made = frame.assign(decision=guaranteed(guarantee).decide(frame["score"].to_numpy()))
        told = {"certificate": guarantee.new.to_json(), "approved": int((made["decision"] == APPROVED).sum())}
        out["targets"][f"p{round(100 * target)}"] = told | of_decisions(made)
    _say(out)
    wrong = frame[~frame["right"]].nlargest(SHOWN, "score")
    shown = [
        {
            "score": row["score"],
            "line": str(names[0][row["left_id"]]),
            "found": str(names[1].get(row["best"], "")),
            "label": str(names[1][row["truth"]]) if row["has_match"] else NOWHERE,
        }
        for row in wrong.to_dict("records")
    ]
    return out, shown


def _linked(scored: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """Return the best right record of each left record in `truth`; a share of the true ones is not in the catalog.

    A left record with several true ones is right with any of them.
    """
    known = truth.groupby(level=0).agg(set)
    withheld = pd.Series(hashed_share(known.index.astype(str), WITHHELD, 7), known.index)
    pairs = scored[scored["left_id"].isin(known.index)].copy()
    pairs["true"] = [r in known[x] for x, r in zip(pairs["left_id"], pairs["right_id"], strict=True)]
    pairs = pairs[~(pairs["true"] & pairs["left_id"].map(withheld))]
    best = pairs.sort_values("probability", ascending=False, kind="stable").drop_duplicates("left_id")
    best = best.set_index("left_id").reindex(known.index)
    return pd.DataFrame(
        {
            "left_id": known.index,
            "best": best["right_id"].fillna("").to_numpy(),
            "truth": [min(ids) for ids in known],
            "score": best["probability"].fillna(0.0).to_numpy(float),
            "has_match": ~withheld.to_numpy(),
            "right": best["true"].eq(True).to_numpy(),
        }
    )


SETS = ("pricerunner", "synthetic", "abt_buy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; what is not in the data folder is left out."""
    from benchmarks.run import data_folder

    parser = argparse.ArgumentParser(prog="python -m benchmarks.certified", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--data", type=Path, help="folder with pricerunner/ and abt-buy/")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--products", type=int, default=80_000, help="of the synthetic catalog")
    parser.add_argument("--lexical", action="store_true", help="without an encoder")
    parser.add_argument("--disagreements", type=Path, help="file for the surest disagreements with labels, as JSON")
    given = parser.parse_args(argv)
    result, data = about("certified"), given.data or data_folder()
    kept: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="shelfwise-certified-") as scratch:
        for name in given.only or SETS:
            work = Path(scratch) / name
            work.mkdir()
            if name == "synthetic":
                made = on_synthetic(work, given.products, given.lexical)
            elif name == "pricerunner" and (data / "pricerunner" / "offers.csv").exists():
                made = on_pricerunner(data / "pricerunner", work, given.folds, given.lexical)
            elif name == "abt_buy" and (data / "abt-buy" / "tableA.csv").exists():
                made = on_abt_buy(data / "abt-buy")
            else:
                say(f"{name}: skipped, it is not in {data}")
                continue
            result[name] = made[0] | {"disagreements": about_disagreements(made[1])}
            kept[name] = made[1]
            for one in made[1][:PRINTED]:
                say("  {score:.3f} {line} | found: {found} | label: {label}".format(**one))
    if given.disagreements:
        given.disagreements.write_text(json.dumps(kept, indent=2, ensure_ascii=False))
    emit(result | {"lexical_only": given.lexical, "peak_mb": peak_mb()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
