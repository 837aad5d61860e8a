"""Does the drift check cry wolf, and does it see a wolf: `python -m benchmarks.drift [--products N] [--data DIR]`.

On the synthetic catalog a matcher is trained on past lines of its vendors, and its drift reference made. Then come
undisturbed files: of vendors never seen, and of vendors whose past lines the champion knew (a part of their lines that
was kept back), each whole and cut to fifty lines. Counted is how many are called drifted: at most the stated share
(`false_alarms`) should be. Then the same files with one change planted each: how many are noticed (warn or fail), and
how many fail. Beside it what Evidently's own defaults say of the undisturbed files, which compare lines with lines.

With `--data` also on PriceRunner: real vendors that were held out, each one a file; nothing is planted into the truth
there, so what is called drifted is reported, not called false. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.common import about, emit, peak_mb, say, use_two_cores

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.monitoring.drift import Judgement, Reference

FALSE_ALARMS, FAIL_SHARE, SMALL, PLANTED, LARGE = 0.01, 0.2, 50, 25, 100_000
_SIZE = re.compile(
    r"\(?\b\d+(?:[.,]\d+)?\s*(?:ml|cl|l|oz|fl oz|g|kg|lb|pk|pack|ct|pcs|mm|cm|m|in|gb|tb)\b\)?", re.IGNORECASE
)
_ABROAD = str.maketrans({"a": "ä", "o": "ö", "u": "ü", "c": "k", "w": "v", "y": "ij", "s": "sch"})


@dataclass
class Trained:
    """A champion and what it was trained on."""

    matcher: Matcher
    index: CatalogIndex
    reference: Reference
    seconds: float


def train(products: pd.DataFrame, mappings: pd.DataFrame, work: Path, steps: int, seed: int) -> Trained:
    """Train a matcher as the graph does, and make its drift reference."""
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.index import CatalogIndex, embed_names, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.pairs import make_pairs
    from shelfwise.matching.train import EncoderConfig, train_encoder
    from shelfwise.monitoring.reference import make_reference
    from shelfwise.text import normalise

    lines = mappings.drop_duplicates(["vendor_id", "vendor_title"]).merge(
        products[["product_id", "title", "category"]].rename(columns={"title": "product_title"}), on="product_id"
    )
    lines["line_id"] = [f"L{i}" for i in range(len(lines))]
    lines["normalised_title"] = lines["vendor_title"].map(normalise)
    products = products.assign(normalised_title=products["title"].map(normalise))
    pairs = make_pairs(lines, products, seed=seed)
    config = EncoderConfig.from_dict({"architecture": "static", **({"max_steps": steps} if steps else {})})
    train_encoder(pairs, config, work / "encoder", work / "checkpoints")
    names = product_names(products, lines)
    encoder = TitleEncoder.load(work / "encoder")
    lexical = Lexical.fit(names["name"].tolist())
    index = CatalogIndex.build(products, names, lexical, embed_names(names, encoder))
    true = pairs[pairs["label"] == 1].rename(columns={"line": "vendor_title"})
    valid, test = (true[true["split"] == split] for split in ("valid", "test"))
    matcher = Matcher.fit(valid[["vendor_id", "vendor_title", "product_id"]], index, work / "encoder", encoder)
    began = time.perf_counter()
    reference = make_reference(matcher, index, lines, held_out=set(test["vendor_id"]))
    return Trained(matcher, index, reference, time.perf_counter() - began)


@dataclass
class File:
    """A vendor's file: title, price where known; whether the champion knew the vendor."""

    vendor_id: str
    lines: pd.DataFrame
    known: bool


def judged(trained: Trained, file: File) -> tuple[Any, pd.DataFrame]:
    """Return (judgement, described lines) of a file."""
    from shelfwise.monitoring.drift import judge
    from shelfwise.monitoring.reference import describe_lines

    lines = file.lines.reset_index(drop=True).assign(vendor_id=file.vendor_id, file="f.csv")
    lines["line_id"] = [f"{file.vendor_id}{i}" for i in range(len(lines))]
    lines["row"] = range(2, len(lines) + 2)
    matches = trained.matcher.match(lines, trained.index)
    described = describe_lines(matches, lines, trained.reference, trained.matcher.encoder)
    found = judge(described, trained.reference, file.vendor_id, false_alarms=FALSE_ALARMS, fail_share=FAIL_SHARE)
    return found, described


def _abroad(title: str) -> str:
    return " ".join(w[::-1].lower().translate(_ABROAD) if w.isalpha() else w for w in title.split())


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "upper_case": lambda f: f.assign(title=f["title"].str.upper()),
    "no_sizes": lambda f: f.assign(title=[" ".join(_SIZE.sub(" ", t).split()) or t for t in f["title"]]),
    "other_language": lambda f: f.assign(title=f["title"].map(_abroad)),
    "unknown_brand": lambda f: f.assign(title=["Zorgonix Plurimax " + " ".join(t.split()[1:]) for t in f["title"]]),
    "price_x100": lambda f: f.assign(price=f["price"] * 100) if "price" in f else f,
    "article_numbers": lambda f: f.assign(title=[f"{70_000_000 + 37 * i} {t}" for i, t in enumerate(f["title"])]),
}


def rates(found: Sequence[Judgement]) -> dict[str, float]:
    """Return how many files were judged, which share was called drifted, which failed, and how many measures drifted
    on average.
    """
    if not found:
        return {"files": 0}
    return {
        "files": len(found),
        "called": float(np.mean([one.level != "ok" for one in found])),
        "failed": float(np.mean([one.level == "fail" for one in found])),
        "measures": float(np.mean([len(one.drifted) for one in found])),
    }


def cut(file: File, lines: int, seed: int) -> File:
    """Return a random part of a file."""
    return File(file.vendor_id, file.lines.sample(min(lines, len(file.lines)), random_state=seed), file.known)


def measure(trained: Trained, files: Sequence[File], planted: bool = True) -> dict[str, Any]:
    """Return rates over undisturbed files, whole and cut, and over the same files with each change."""
    out: dict[str, Any] = {}
    why: dict[str, int] = {}
    seconds = []
    for name, known in (("new_vendors", False), ("known_vendors", True)):
        some = [file for file in files if file.known == known]
        if not some:
            continue
        whole, told = [], []
        for file in some:
            began = time.perf_counter()
            found, described = judged(trained, file)
            seconds.append(time.perf_counter() - began)
            whole.append(found)
            told.append(described)
            for column in found.drifted:
                why[f"{name}.{column}"] = why.get(f"{name}.{column}", 0) + 1
        small = [judged(trained, cut(file, SMALL, i))[0] for i, file in enumerate(some)]
        out[name] = {"whole": rates(whole), f"of_{SMALL}_lines": rates(small)}
        out[name]["evidently_defaults"] = evidently_by_default(trained.reference, told[:20])
        say(f"{name}: {out[name]}")
        if planted:
            for change, apply in CHANGES.items():
                if change == "price_x100" and "price" not in some[0].lines:
                    continue
                changed = [File(f.vendor_id, apply(f.lines), f.known) for f in some[:PLANTED]]
                out[name][change] = rates([judged(trained, file)[0] for file in changed])
                say(f"  {change}: {out[name][change]}")
    say(f"called: {why}")
    return {**out, "measures_called": why, "seconds_per_file": float(np.median(seconds))}


def evidently_by_default(reference: Reference, files: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Return what Evidently's defaults make of described files: with any column, and with half of them, drifted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    from shelfwise.monitoring.report import CATEGORICAL, NUMERICAL, report_columns

    shares = []
    for described in files:
        columns = [name for name in report_columns(described) if name in report_columns(reference.lines)]
        kinds = [[name for name in columns if name in some] for some in (NUMERICAL, CATEGORICAL)]
        definition = DataDefinition(numerical_columns=kinds[0], categorical_columns=kinds[1])
        sides = [
            Dataset.from_pandas(side[columns].astype(dict.fromkeys(kinds[1], str)), data_definition=definition)
            for side in (described, reference.lines)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            told = Report([DataDriftPreset(columns=columns)]).run(sides[0], sides[1]).dict()
        shares.append(float(told["metrics"][0]["value"]["share"]))
    every = np.array(shares)
    return {
        "files": len(shares),
        "any_column": float((every > 0).mean()),
        "half_of_the_columns": float((every >= 0.5).mean()),
        "columns_called": float(every.mean()),
    }


def large(trained: Trained, file: File) -> dict[str, float]:
    """Return seconds for an upload of many lines once it is matched: description and judgement, and the report."""
    from shelfwise.monitoring.drift import judge
    from shelfwise.monitoring.reference import describe_lines
    from shelfwise.monitoring.report import evidently_report

    given = file.lines.assign(vendor_id=file.vendor_id, file="f.csv", row=0)
    given["line_id"] = [str(i) for i in range(len(given))]
    matches = trained.matcher.match(given, trained.index)
    times = -(-LARGE // len(given))
    many = pd.concat([matches.assign(line_id=matches["line_id"] + f"/{i}") for i in range(times)], ignore_index=True)
    whole = pd.concat([given.assign(line_id=given["line_id"] + f"/{i}") for i in range(times)], ignore_index=True)
    began = time.perf_counter()
    described = describe_lines(many, whole, trained.reference, trained.matcher.encoder)
    judge(described, trained.reference, file.vendor_id)
    judged_after = time.perf_counter() - began
    began = time.perf_counter()
    html, _ = evidently_report(described, trained.reference)
    report = time.perf_counter() - began
    return {
        "lines": len(whole),
        "looked_at": len(described),
        "judge_seconds": judged_after,
        "report_seconds": report,
        "report_mb": len(html) / 1e6,
    }


def synthetic(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Measure on the synthetic catalog."""
    from shelfwise.synthetic import SyntheticConfig, generate

    config = SyntheticConfig(
        n_products=given.products, n_uploads=given.files, lines_per_upload=given.lines, n_listings=0, seed=seed
    )
    catalog = generate(config)
    mappings = catalog.mappings.reset_index(drop=True)
    kept_back = np.random.default_rng(seed).random(len(mappings)) < 0.3
    prices = catalog.products.set_index("product_id")["price"]
    files = [File(v, frame, False) for (v, _), frame in catalog.uploads.items()]
    for vendor, part in mappings[kept_back].groupby("vendor_id"):
        if len(part) >= SMALL:
            frame = part.rename(columns={"vendor_title": "title"})
            frame = frame.assign(price=frame["product_id"].map(prices))
            files.append(File(str(vendor), frame[["title", "price"]], True))
    with tempfile.TemporaryDirectory() as work:
        trained = train(catalog.products, mappings[~kept_back], Path(work), given.steps, seed)
        say(f"reference: {trained.reference.about} in {trained.seconds:.1f} s")
        found = measure(trained, files)
        found["large"] = large(trained, files[0])
    return {"seed": seed, "reference": trained.reference.about, "reference_seconds": trained.seconds, **found}


def _pricerunner_files(trained_on: set[str], held: pd.DataFrame, back: pd.DataFrame) -> Iterator[File]:
    for part, known in ((held, False), (back, True)):
        for vendor, lines in part.groupby("vendor_id"):
            if len(lines) >= SMALL and (not known or str(vendor) in trained_on):
                yield File(str(vendor), pd.DataFrame({"title": lines["product_title"].str.strip()}), known)


def pricerunner(given: argparse.Namespace, fold: int = 0) -> dict[str, Any]:
    """Measure on PriceRunner: a fifth of the vendors held out, and a third of the lines of the others kept back."""
    from benchmarks.pricerunner import held_out_vendors, read_offers

    offers = read_offers(given.data / "pricerunner")
    offers["category_label"] = offers["category_label"].str.strip()
    products = offers.drop_duplicates("cluster_id")
    products = pd.DataFrame(
        {
            "product_id": products["cluster_id"],
            "title": products["cluster_label"],
            "category": products["category_label"],
        }
    ).reset_index(drop=True)
    held = offers["vendor_id"].isin(held_out_vendors(offers["vendor_id"], 0, fold))
    back = ~held & (np.random.default_rng(0).random(len(offers)) < 0.3)
    past = offers[~held & ~back]
    mappings = past[["vendor_id", "product_title", "cluster_id"]]
    mappings = mappings.rename(columns={"product_title": "vendor_title", "cluster_id": "product_id"})
    files = list(_pricerunner_files(set(past["vendor_id"]), offers[held], offers[back]))
    with tempfile.TemporaryDirectory() as work:
        trained = train(products, mappings.reset_index(drop=True), Path(work), given.steps, 0)
        say(f"reference: {trained.reference.about} in {trained.seconds:.1f} s")
        found = measure(trained, files)
    return {"fold": fold, "reference": trained.reference.about, "reference_seconds": trained.seconds, **found}


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("drift") | {"false_alarms": FALSE_ALARMS, "fail_share": FAIL_SHARE}
    out = {**head, "synthetic": [synthetic(given, seed) for seed in range(given.seeds)]}
    if given.data is not None and (given.data / "pricerunner" / "offers.csv").exists():
        out["pricerunner"] = pricerunner(given)
    return {**out, "peak_mb": peak_mb()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=150, help="of vendors never seen (every fifth a vendor's second)")
    parser.add_argument("--lines", type=int, default=400, help="of each of them")
    parser.add_argument("--steps", type=int, default=0, help="training steps of the encoder; 0: as configured")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, help="real data, for PriceRunner")
    given = parser.parse_args(argv)
    use_two_cores()
    emit(run(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
