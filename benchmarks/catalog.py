"""The whole asset graph on a data directory with a held-out part: `python -m benchmarks.catalog DIR [--seeds N]`.

DIR is a data directory by the data contract, local or s3://, whose uploads have a `product_id` column: the truth, empty
for a line that matches nothing. The graph runs as it does for a user, through Dagster: raw tables to a champion, then
each upload through the sensor, all in a temporary lake and DAGSTER_HOME (`--work` keeps them, and goes on where a
killed run stopped). What is measured is read from the lake: `uploads/upload_lines` and `uploads/upload_matches`.

The last line is one JSON object. In it, for lines whose product is in the catalog: top1, top5, mrr (to rank 10; a line
that retrieval or the contract lost is wrong); over approved lines: approved_precision; approved and right over lines
with a product: approved_coverage; refused over lines without one: no_match_recall. A truth that the catalog does not
hold counts as "matches nothing". Exit status 1 where the gate refused or the run failed, with `promoted: false` and
the reasons.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import ROOT, about, child_environment, emit, run_measured, say, settings
from shelfwise.artifacts import atomic_write_json, content_id
from shelfwise.contract import fingerprint, parse_upload
from shelfwise.contract.store import UploadStore
from shelfwise.matching.decisions import APPROVED, NO_MATCH
from shelfwise.matching.evaluate import DEPTH, intervals, summarise
from shelfwise.matching.index import CatalogIndex
from shelfwise.text import normalise

MEASURES = (
    "top1",
    "top5",
    "mrr",
    "top1_same_title",
    "approved_precision",
    "approved_coverage",
    "review_share",
    "no_match_recall",
    "no_match_precision",
)
CURVE_POINTS = 60
CHUNK = 2048
SOURCES = ("shelfwise", "assets", "resources", "sensors", "orchestration", "dbt_project/models")
LEAST_LINES = 20  # vendors with fewer lines are left out of the spread over vendors

COUNTED = {
    "lines_per_second": "one process with the champion and its index loaded: reading the files, the data contract, "
    "matching, Parquet written, for all uploads one after another",
    "lines_per_second_in_graph": "the domain seconds of upload_lines and upload_matches over all uploads; each upload "
    "is a run of its own and loads champion and index again",
}


# ---- pure parts ------------------------------------------------------------------------------------------------------


def line_outcomes(lines: pd.DataFrame, matches: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Return one row per upload line whose truth is known, as `shelfwise.matching.evaluate.summarise` wants them.

    `lines`: uploads/upload_lines. `matches`: uploads/upload_matches. `products`: product_id, title. Columns: line_id,
    vendor_id, title, truth, in_catalog, has_match, rank (of the right product, 0 where it is not there), predicted,
    score, decision, right, same_title (the first candidate is the right product or one of the same normal title).
    A line that has no matches at all is refused and wrong.
    """
    known = lines[lines["truth_product_id"].notna()].reset_index(drop=True)
    frame = known[["line_id", "vendor_id", "title"]].copy()
    frame["truth"] = known["truth_product_id"].astype(str)
    frame["in_catalog"] = frame["truth"].isin(set(products["product_id"].astype(str)))
    frame["has_match"] = frame["in_catalog"]
    candidates = matches[["line_id", "rank", "product_id", "score", "decision"]]
    right = candidates.merge(frame.loc[frame["in_catalog"], ["line_id", "truth"]], on="line_id")
    right = right[right["product_id"] == right["truth"]]
    frame["rank"] = frame["line_id"].map(right.groupby("line_id")["rank"].min()).fillna(0).astype(int)
    best = candidates[candidates["rank"] == 1].drop_duplicates("line_id").set_index("line_id")
    frame["predicted"] = frame["line_id"].map(best["product_id"])
    frame["score"] = frame["line_id"].map(best["score"]).fillna(0.0).astype(float)
    frame["decision"] = frame["line_id"].map(best["decision"]).fillna(NO_MATCH).astype(str)
    frame["right"] = frame["in_catalog"] & (frame["rank"] == 1)
    forms = pd.Series([normalise(str(title)) for title in products["title"]], products["product_id"].astype(str))
    same = frame["predicted"].map(forms) == frame["truth"].map(forms)
    frame["same_title"] = frame["in_catalog"] & (frame["right"] | (same & frame["predicted"].notna()))
    return frame


def measure(frame: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Return every measure with `_low` and `_high`: 95 %, bootstrap over lines; and top-1 over whole vendors.

    `top1_vendors_low` and `_high` resample vendors instead of lines: how far the number may be off for other vendors.
    """
    inside = frame["in_catalog"].to_numpy()
    found = summarise(frame, seed) | intervals({"top1_same_title": (frame["same_title"].to_numpy(), inside)}, seed)
    vendors = frame[inside].assign(hit=frame.loc[inside, "rank"] == 1).groupby("vendor_id")["hit"].agg(["mean", "size"])
    by_vendor = intervals({"top1": (vendors["mean"].to_numpy(), vendors["size"].to_numpy())}, seed)
    return found | {f"top1_vendors_{end}": by_vendor[f"top1_{end}"] for end in ("low", "high")}


def curve(score: np.ndarray, right: np.ndarray, has_match: np.ndarray, points: int = CURVE_POINTS) -> dict[str, list]:
    """Return thresholds with the precision and coverage of approving every line from there on, at most `points`.

    Coverage is the share of lines with a match that are approved and right.
    """
    order = np.argsort(-score, kind="stable")
    score, right = score[order], right[order]
    hits = np.cumsum(right)
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.empty(0, int)
    if len(last) > points:
        last = last[np.unique(np.linspace(0, len(last) - 1, points).round().astype(int))]
    return {
        "threshold": score[last].tolist(),
        "precision": (hits[last] / (last + 1)).tolist(),
        "coverage": (hits[last] / max(int(has_match.sum()), 1)).tolist(),
    }


def slices(frame: pd.DataFrame) -> dict[str, Any]:
    """Return top-1 by length of the line in words, and its spread over vendors."""
    inside = frame[frame["in_catalog"]]
    words = inside["title"].str.split().str.len().fillna(0)
    names = ["1-2 words", "3-4 words", "5-8 words", "9+ words"]
    length = pd.cut(words, [-1, 2, 4, 8, np.inf], labels=names)
    hit = inside["rank"] == 1
    by_length = {
        str(name): {"lines": len(part), "top1": float(part.mean())} for name, part in hit.groupby(length, observed=True)
    }
    vendors = hit.groupby(inside["vendor_id"]).agg(["mean", "size"])
    vendors = vendors[vendors["size"] >= LEAST_LINES]["mean"]
    spread = {f"p{q}": float(vendors.quantile(q / 100)) for q in (10, 25, 50, 75, 90)} if len(vendors) else {}
    return {"by_length": by_length, "over_vendors": {"vendors": len(vendors), "least_lines": LEAST_LINES, **spread}}


def over_seeds(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every number over the seeds, bounds of intervals too; NaN counts nowhere."""
    names = list(dict.fromkeys(name for one in each for name in one))
    table = pd.DataFrame([dict(one) for one in each], columns=names)
    return {str(name): float(value) for name, value in table.mean().items()}


def seeds_of(count: int, config: str) -> list[int]:
    """Return the encoder's seeds: the configured one and those after it."""
    from shelfwise.matching.train import EncoderConfig

    first = int(json.loads(config or "{}").get("seed", EncoderConfig().seed))
    return [first + i for i in range(count)]


# ---- the graph -------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """Where one seed's run keeps what it makes."""

    folder: Path

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def table(self, *key: str) -> pd.DataFrame:
        """Return a table of the lake, all its partitions."""
        base = self.lake.joinpath("tables", *key)
        files = sorted(base.rglob("*.parquet")) if base.is_dir() else [base.with_name(base.name + ".parquet")]
        return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)

    def reference(self, *key: str) -> dict[str, Any]:
        """Return what an asset that makes an artifact says about it."""
        base = self.lake.joinpath("tables", *key)
        return json.loads(base.with_name(base.name + ".json").read_text())


def run_graph(data: str, place: Place, seed: int) -> dict[str, Any]:
    """Run the graph for one seed and return its report; one that ended well before is not run again."""
    report = place.folder / "graph.json"
    if report.exists():
        found = json.loads(report.read_text())
        if found["promoted"]:
            say(f"seed {seed}: run before, in {place.folder}")
            return found
        report.unlink()
    home = place.folder / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", home / "dagster.yaml")
    overrides = {**json.loads(os.environ.get("SHELFWISE_ENCODER_CONFIG") or "{}"), "seed": seed}
    env = child_environment(
        SHELFWISE_ENV="local",
        SHELFWISE_DATA=data,
        SHELFWISE_LAKE=str(place.lake),
        SHELFWISE_ENCODER_CONFIG=json.dumps(overrides),
        SHELFWISE_CANDIDATES=str(DEPTH),
        DAGSTER_HOME=str(home),
    )
    say(f"seed {seed}: the graph on {data}")
    ran = run_measured([sys.executable, "-m", "benchmarks.graph", str(report)], env=env)
    if not report.exists():
        return {"promoted": False, "reasons": [f"the graph stopped with status {ran.status}", ran.output[-2000:]]}
    found = json.loads(report.read_text()) | {"wall_seconds": ran.seconds, "peak_mb": ran.peak_mb}
    atomic_write_json(report, found)
    return found


def _source_id() -> str:
    """Return an id of the code that a run depends on, so that `--work` never mixes the results of two versions."""
    files = [path for name in SOURCES for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".sql", ".yml")]
    return content_id(*[part for path in sorted(files) for part in (str(path.relative_to(ROOT)), path.read_bytes())])


def _run_id(data: str) -> str:
    uploads = sorted((file.key, file.etag) for file in UploadStore(data).list())
    return content_id(fingerprint(data), uploads, settings(), _source_id())[:10]


# ---- what the champion of a lake does --------------------------------------------------------------------------------


def batch_speed(data: str, place: Place, matches: pd.DataFrame) -> dict[str, float]:
    """Match every upload again in this process, with champion and index loaded, and time it.

    `same_as_graph`: the share of lines for which it finds what the graph's runs found; anything but 1 is an error.
    """
    from resources.registry import TITLE_MATCHER
    from shelfwise.matching.matcher import Matcher
    from shelfwise.registry import Registry

    began = time.perf_counter()
    champion = Registry(place.lake / "registry").champion(TITLE_MATCHER)
    matcher = Matcher.load(Path(champion.artifact))
    index = CatalogIndex.load(Path(place.reference("matching", "catalog_index")["location"]))
    matcher.rank_lines(["warm"], index)
    loaded = time.perf_counter()
    store, parts = UploadStore(data), []
    for file in store.list():
        vendor, _, name = file.key.partition("/")
        try:
            parts.append(parse_upload(store.read(file.key), name, vendor).frame)
        except ValueError:  # InputError: set aside in the graph too
            continue
    lines = pd.concat(parts, ignore_index=True)
    again = matcher.match(lines, index, DEPTH)
    again.to_parquet(io.BytesIO(), index=False, compression="zstd")
    seconds = time.perf_counter() - loaded
    both = again[again["rank"] == 1].merge(matches[matches["rank"] == 1], on="line_id", suffixes=("", "_graph"))
    same = both["product_id"].fillna("") == both["product_id_graph"].fillna("")
    return {
        "lines_per_second": len(lines) / seconds,
        "load_seconds": loaded - began,
        "same_as_graph": float(same.sum() / max(len(lines), 1)),
    }


def baselines(place: Place, frame: pd.DataFrame, seed: int = 0) -> tuple[dict[str, dict], dict[str, dict]]:
    """Return measures and precision-coverage curves of the simple baselines on the same lines and the same catalog."""
    from shelfwise.matching.baselines import all_baselines

    index = CatalogIndex.load(Path(place.reference("matching", "catalog_index")["location"]))
    truth = np.where(frame["in_catalog"], index.positions(frame["truth"].tolist()), -1)
    inside, titles = truth >= 0, frame["title"].astype(str).tolist()
    measures, curves = {}, {}
    for name, baseline in all_baselines(index, index.config.threads).items():
        began = time.perf_counter()
        top, score = [], []
        for start in range(0, len(titles), CHUNK):
            ranked = baseline.rank(titles[start : start + CHUNK], DEPTH)
            top.append(ranked.top(DEPTH))
            score.append(ranked.best_score())
        seconds = time.perf_counter() - began
        hit = (np.concatenate(top) == truth[:, None]) & inside[:, None]
        rank = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
        reciprocal = np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0)
        ratios = {"top1": (rank == 1, inside), "top5": ((rank > 0) & (rank <= 5), inside), "mrr": (reciprocal, inside)}
        measures[name] = intervals(ratios, seed) | {"lines_per_second": len(titles) / max(seconds, 1e-9)}
        if name.startswith("char_tfidf"):
            curves[name] = curve(np.concatenate(score), rank == 1, inside)
    return measures, curves


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def _one_seed(data: str, place: Place, seed: int) -> dict[str, Any]:
    graph = run_graph(data, place, seed)
    if not graph["promoted"]:
        return {"seed": seed, "graph": graph}
    lines, matches = place.table("uploads", "upload_lines"), place.table("uploads", "upload_matches")
    frame = line_outcomes(lines, matches, place.table("staging", "stg_products"))
    if not frame["in_catalog"].any():
        raise SystemExit("no upload line has a product_id of the catalog: there is no held-out part to measure")
    seconds = sum(graph["domain_seconds"].get(f"uploads/{name}", 0.0) for name in ("upload_lines", "upload_matches"))
    curves = {"Shelfwise": curve(frame["score"].to_numpy(), frame["right"].to_numpy(), frame["has_match"].to_numpy())}
    return {
        "seed": seed,
        "graph": graph,
        "metrics": measure(frame),
        "speed": batch_speed(data, place, matches) | {"lines_per_second_in_graph": len(lines) / max(seconds, 1e-9)},
        "inner": place.reference("matching", "matcher_evaluation")["metrics"],
        "champion_version": str(matches["champion_version"].iloc[0]),
        "frame": frame,
        "curves": curves,
        "unlabelled": int(lines["truth_product_id"].isna().sum()),
    }


def run(data: str, seeds: int, work: Path) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("catalog")
    folder = work / _run_id(data)
    parts, places = [], []
    for seed in seeds_of(seeds, os.environ.get("SHELFWISE_ENCODER_CONFIG", "")):
        place = Place(folder / f"seed-{seed}")
        part = _one_seed(data, place, seed)
        if "metrics" not in part:
            return head | {
                "data": Path(data).name,
                "promoted": False,
                "reasons": part["graph"]["reasons"],
                "seeds": [seed],
                "graph": part["graph"],
            }
        parts.append(part)
        places.append(place)
    first = parts[0]
    say("the simple baselines on the same lines")
    compared, curves = baselines(places[0], first["frame"])
    return head | _object(data, parts, places[0], compared, first["curves"] | curves)


def _object(data: str, parts: list[dict], place: Place, compared: dict, curves: dict) -> dict[str, Any]:
    first, frame = parts[0], parts[0]["frame"]
    metrics = over_seeds([part["metrics"] for part in parts])
    mappings = place.table("raw", "mappings")
    about_file = Path(data) / "about.json"
    return {
        "data": Path(data).name,
        "about": json.loads(about_file.read_text()) if about_file.is_file() else None,
        "promoted": True,
        **{name: metrics[name] for name in MEASURES},
        **over_seeds([part["speed"] for part in parts]),
        "counted": COUNTED,
        "n": len(frame),
        "in_catalog": int(frame["in_catalog"].sum()),
        "without_match": int((~frame["has_match"]).sum()),
        "unlabelled": first["unlabelled"],
        "vendors": int(frame["vendor_id"].nunique()),
        "vendors_with_mappings": int(frame["vendor_id"].drop_duplicates().isin(mappings["vendor_id"]).sum()),
        "products": len(place.table("raw", "products")),
        "mappings": len(mappings),
        "seeds": [part["seed"] for part in parts],
        "intervals": {
            name: [metrics[f"{name}_low"], metrics[f"{name}_high"]]
            for name in (*MEASURES, "top1_vendors")
            if f"{name}_low" in metrics
        },
        "per_seed": [
            {"seed": part["seed"], "champion_version": part["champion_version"]}
            | {name: part["metrics"][name] for name in MEASURES}
            for part in parts
        ],
        "baselines": compared,
        "curves": curves,
        "approved_point": [metrics["approved_coverage"], metrics["approved_precision"]],
        "decisions": {
            str(name): int(count) for name, count in frame["decision"].value_counts().items() if name is not None
        },
        "approved_lines": int((frame["decision"] == APPROVED).sum()),
        **slices(frame),
        "inner": over_seeds([part["inner"] for part in parts]),
        "champion_version": first["champion_version"],
        "set_aside": first["graph"]["set_aside"],
        "upload_failures": first["graph"]["upload_failures"],
        "seconds": {
            name: first["graph"].get(name)
            for name in ("wall_seconds", "stage_seconds", "domain_seconds", "train_runs", "upload_runs")
        },
        "peak_mb": first["graph"].get("peak_mb"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="data directory whose uploads have a product_id column")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of the encoder; each runs the whole graph")
    parser.add_argument("--work", type=Path, help="keep lake and runs here, and go on from what is there")
    given = parser.parse_args(argv)
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    data = given.data if "://" in given.data else str(Path(given.data).resolve())
    work = given.work.resolve() if given.work else Path(tempfile.mkdtemp(prefix="shelfwise-bench-"))
    try:
        result = run(data, given.seeds, work)
    finally:
        if not given.work:
            shutil.rmtree(work, ignore_errors=True)
    emit(result)
    return 0 if result["promoted"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
