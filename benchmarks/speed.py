"""Matching many upload lines against a large catalog: `python -m benchmarks.speed [--products N] [--lines N]`.

By default 100,000 lines in one CSV file against 80,000 synthetic products with 15,000 past mappings, on two cores. The
catalog is made and a matcher trained first, which is not timed. Then a fresh process loads the matcher and its index,
reads the file by the data contract, matches it and writes Parquet: the lines per second are over all of that, the
memory is that process's peak. Another process matches 2,000 lines one at a time: how long one takes, and the memory of
a process with matcher and index loaded. Beside it, in processes of their own on the same two cores, what people use
for this:

* RapidFuzz `process.cdist` with `token_set_ratio`, on a sample of the lines (it compares every line with every title);
* TF-IDF of character trigrams within words (scikit-learn), the best product through sparse_dot_topn;
* the same vectors with a plain scipy sparse product, on a sample.

For those, vectors and preparation of the titles are made beforehand and are not timed; loading is timed for Shelfwise.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.common import (
    MB,
    about,
    child_environment,
    emit,
    last_object,
    peak_mb,
    plain,
    run_measured,
    say,
    use_two_cores,
)

if TYPE_CHECKING:
    from collections.abc import Generator

LINES_PER_UPLOAD = 1000
CDIST_CHUNK = 50
PLAIN_CHUNK = 500
SINGLE_LINES, SINGLE_WARM = 2000, 100
COUNTED = (
    "loading matcher and index with the libraries they need, reading and parsing the CSV file, matching, writing "
    "Parquet; not the start of Python"
)


# ---- preparing: not timed --------------------------------------------------------------------------------------------


def prepare(work: Path, products: int, mappings: int, lines: int, steps: int, seed: int) -> dict[str, Any]:
    """Make catalog, uploads file, matcher and index in `work`; return how they were made."""
    from shelfwise.matching.arms import build_index
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.index import embed_names, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.pairs import make_pairs
    from shelfwise.matching.train import EncoderConfig, train_encoder
    from shelfwise.synthetic import SyntheticConfig, generate

    uploads = math.ceil(lines / LINES_PER_UPLOAD)
    catalog = generate(
        SyntheticConfig(
            n_products=products,
            n_mappings=mappings,
            n_uploads=uploads,
            lines_per_upload=math.ceil(lines / uploads),
            n_listings=0,
            seed=seed,
        )
    )
    _write_upload(catalog, lines, work / "upload.csv")
    catalog.products[["product_id", "title"]].to_parquet(work / "products.parquet", index=False)
    positives = catalog.mappings[["vendor_id", "vendor_title", "product_id"]].drop_duplicates(
        ["vendor_id", "vendor_title"]
    )
    positives = positives.assign(line_id=[f"{i:08d}" for i in range(len(positives))]).reset_index(drop=True)
    say(f"training on {len(positives):,} past lines")
    pairs = make_pairs(positives, catalog.products, seed=seed)
    config = EncoderConfig(max_steps=steps) if steps else EncoderConfig()
    trained = train_encoder(pairs, config, work / "encoder", work / "training", lambda event: say(event["message"]))
    names = product_names(catalog.products, positives)
    lexical = Lexical.fit(names["name"].tolist())
    encoder = TitleEncoder.load(work / "encoder")
    valid = pairs[(pairs["split"] == "valid") & (pairs["label"] == 1)].rename(columns={"line": "vendor_title"})
    index = build_index(catalog.products, names, lexical, embed_names(names, encoder), valid, encoder)
    say(f"fitting the matcher on {len(valid):,} lines")
    Matcher.fit(valid[["vendor_id", "vendor_title", "product_id"]], index, work / "encoder").save(work / "matcher")
    index.save(work / "index")
    return {"names": len(names), "uploads": uploads, "encoder_steps": trained["metrics"].get("steps"), **index.stats}


def _write_upload(catalog: Any, lines: int, path: Path) -> None:
    """Write the vendors' files one below the other, with the truth beside each line."""
    parts = []
    for key, frame in catalog.uploads.items():
        part = frame[["title", *[column for column in ("sku", "price") if column in frame]]]
        parts.append(part.assign(product_id=catalog.upload_truth[key]["product_id"].to_numpy()))
    whole = pd.concat(parts, ignore_index=True).head(lines)
    whole.to_csv(path, index=False)
    whole[["title"]].iloc[_spread(len(whole), SINGLE_LINES + SINGLE_WARM)].to_csv(
        path.with_name("single.csv"), index=False
    )


# ---- Shelfwise -------------------------------------------------------------------------------------------------------


class Stages:
    """Seconds by named stage, added up over threads; `around` counts the calls of a method of a class or object."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Count the time inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def around(self, owner: Any, method: str, name: str) -> None:
        """Count the calls of `owner.method`, which is replaced for the rest of the process."""
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return original(*args, **kwargs)

        setattr(owner, method, timed)


def shelfwise_process(work: Path) -> dict[str, Any]:
    """Match the file as one process would that was just started; return speed, memory and stages."""
    from shelfwise.contract import parse_upload
    from shelfwise.matching.features import FeatureMaker
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

    stages = Stages()
    began = time.perf_counter()
    with stages.stage("load"):
        matcher = Matcher.load(work / "matcher")
        index = CatalogIndex.load(work / "index")
        maker = FeatureMaker.of(index)
    stages.around(matcher.encoder, "encode", "encode")
    stages.around(index, "retrieve", "retrieve")
    stages.around(maker, "features", "features")
    stages.around(matcher.scorer, "raw", "score")
    loaded = time.perf_counter()
    with stages.stage("parse"):
        lines = parse_upload((work / "upload.csv").read_bytes(), "upload.csv", "speed").frame
    with stages.stage("match"):
        matches = matcher.match(lines, index, progress=lambda done, every: say(f"   {done:,} of {every:,} lines"))
    with stages.stage("write"):
        matches.to_parquet(work / "matches.parquet", index=False, compression="zstd")
    seconds = time.perf_counter() - began
    best = matches[matches["rank"] == 1].set_index("line_id")["product_id"].reindex(lines["line_id"])
    # The header is row 1 of the file: row 2 is the first line, which the others call 0.
    answers = pd.DataFrame({"row": lines["row"].to_numpy() - 2, "predicted": best.fillna("").to_numpy()})
    answers.assign(truth_product_id=lines["truth_product_id"].to_numpy()).to_parquet(work / "answers.parquet")
    return {
        "lines": len(lines),
        "seconds": seconds,
        "lines_per_second": len(lines) / seconds,
        "lines_per_second_loaded": len(lines) / (seconds - (loaded - began)),
        "lines_per_second_deciding": len(lines) / stages.seconds["match"],
        "peak_mb": peak_mb(),
        "stages": {name: stages.seconds.pop(name) for name in ("load", "parse", "match", "write")},
        "inside_match": stages.seconds,
    }


def single_process(work: Path) -> dict[str, Any]:
    """Match lines one at a time, as somebody who waits for the answer would; return latency and memory."""
    import psutil

    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

    matcher, index = Matcher.load(work / "matcher"), CatalogIndex.load(work / "index")
    lines = pd.read_csv(work / "single.csv", dtype=str, keep_default_na=False)
    lines = lines.assign(vendor_id="speed", file="single.csv")
    lines["line_id"] = lines["row"] = range(len(lines))
    spent = []
    for at in range(len(lines)):
        began = time.perf_counter()
        matcher.match(lines.iloc[at : at + 1], index)
        spent.append(time.perf_counter() - began)
    p50, p99 = np.percentile(spent[SINGLE_WARM:], [50, 99]) * 1000
    memory = psutil.Process().memory_info().rss / MB
    return {"one_line_p50_ms": p50, "one_line_p99_ms": p99, "one_line_lines": len(spent) - SINGLE_WARM} | {
        "loaded_mb": memory
    }


# ---- what people use for this ----------------------------------------------------------------------------------------


def _lines_and_titles(work: Path) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    lines = pd.read_csv(work / "upload.csv", dtype=str, keep_default_na=False)
    products = pd.read_parquet(work / "products.parquet")
    return lines, products["title"].astype(str).tolist(), products["product_id"].astype(str).to_numpy()


def _spread(count: int, sample: int) -> np.ndarray:
    """Return positions of `sample` lines, evenly spread, so that every vendor is among them."""
    return np.unique(np.linspace(0, count - 1, min(sample, count)).astype(int))


def rapidfuzz_process(work: Path, sample: int) -> dict[str, Any]:
    """Compare a sample of the lines with every title; two workers."""
    from rapidfuzz import fuzz, process, utils

    lines, titles, ids = _lines_and_titles(work)
    rows = _spread(len(lines), sample)
    prepared = [utils.default_process(title) for title in titles]
    answers, began = [], time.perf_counter()
    for start in range(0, len(rows), CDIST_CHUNK):
        queries = [utils.default_process(lines["title"].iloc[i]) for i in rows[start : start + CDIST_CHUNK]]
        scores = process.cdist(queries, prepared, scorer=fuzz.token_set_ratio, workers=2, dtype=np.float32)
        answers.append(ids[scores.argmax(axis=1)])
    return _rival(rows, answers, lines, time.perf_counter() - began, work / "rapidfuzz.parquet")


def tfidf_process(work: Path, sample: int) -> dict[str, Any]:
    """Take the best cosine of character trigrams through sparse_dot_topn, two threads."""
    from sparse_dot_topn import sp_matmul_topn

    lines, rows, ids, vectorizer, transposed = _tfidf(work, sample)
    began = time.perf_counter()
    queries = vectorizer.transform(lines["title"].iloc[rows])
    best = sp_matmul_topn(queries, transposed, top_n=1, n_threads=2)
    seconds = time.perf_counter() - began
    found = np.full(len(rows), "", dtype=object)
    has = np.diff(best.indptr) > 0
    found[has] = ids[best.indices]
    return _rival(rows, [found], lines, seconds, work / "tfidf.parquet")


def tfidf_plain_process(work: Path, sample: int) -> dict[str, Any]:
    """The same through a plain sparse product and the largest value of each row."""
    lines, rows, ids, vectorizer, transposed = _tfidf(work, sample)
    answers, began = [], time.perf_counter()
    for start in range(0, len(rows), PLAIN_CHUNK):
        product = vectorizer.transform(lines["title"].iloc[rows[start : start + PLAIN_CHUNK]]) @ transposed
        answers.append(ids[np.asarray(product.argmax(axis=1)).ravel()])
    return _rival(rows, answers, lines, time.perf_counter() - began, work / "tfidf_plain.parquet")


def _tfidf(work: Path, sample: int) -> tuple[Any, ...]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    lines, titles, ids = _lines_and_titles(work)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    transposed = vectorizer.fit_transform(titles).T.tocsr()
    return lines, _spread(len(lines), sample), ids, vectorizer, transposed


def _rival(rows: np.ndarray, answers: list, lines: pd.DataFrame, seconds: float, path: Path) -> dict[str, Any]:
    answer = np.concatenate(answers).astype(str)
    truth = lines["product_id"].iloc[rows].to_numpy()
    pd.DataFrame({"row": rows, "predicted": answer, "truth_product_id": truth}).to_parquet(path, index=False)
    return {
        "lines": len(rows),
        "seconds": seconds,
        "lines_per_second": len(rows) / max(seconds, 1e-9),
        "peak_mb": peak_mb(),
    }


# ---- together --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """What people use: its name in tables and in pictures, and what measures it."""

    label: str
    short: str
    measure: Callable[[Path, int], dict[str, Any]]


RIVALS = {
    "rapidfuzz": Rival("RapidFuzz cdist, token_set_ratio, 2 workers", "RapidFuzz cdist", rapidfuzz_process),
    "tfidf": Rival(
        "TF-IDF of character trigrams, sparse_dot_topn, 2 threads", "TF-IDF, sparse_dot_topn", tfidf_process
    ),
    "tfidf_plain": Rival(
        "TF-IDF of character trigrams, plain sparse product", "TF-IDF, plain product", tfidf_plain_process
    ),
}


def top1(work: Path, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return top-1 of everybody over the lines that have a product, and Shelfwise's on each rival's own sample."""
    from shelfwise.matching.evaluate import intervals

    def ratio(frame: pd.DataFrame) -> dict[str, float]:
        inside = (frame["truth_product_id"] != "").to_numpy()
        right = (frame["predicted"] == frame["truth_product_id"]).to_numpy()
        return intervals({"top1": (right, inside)}, seed) | {"lines_with_product": float(inside.sum())}

    ours = pd.read_parquet(work / "answers.parquet")
    found = {"shelfwise": ratio(ours)}
    for name in RIVALS:
        theirs = pd.read_parquet(work / f"{name}.parquet")
        same = ours.set_index("row").reindex(theirs["row"])
        found[name] = ratio(theirs) | {"shelfwise_on_these_lines": ratio(same)["top1"]}
    return found


def _child(work: Path, part: str, sample: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed", "--part", part, "--work", str(work), "--sample", str(sample)]
    ran = run_measured(command, env=child_environment(OMP_NUM_THREADS="2", TOKENIZERS_PARALLELISM="true"))
    found = last_object(ran.output)
    if ran.status or found is None:
        raise SystemExit(f"{part} failed with status {ran.status}")
    return found | {"process_seconds": ran.seconds}


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head, cores = about("speed"), use_two_cores()
    say(f"a catalog of {given.products:,} products, {given.lines:,} lines")
    # In a process of its own too: what it frees would otherwise still count as this one's memory.
    settings = {name: getattr(given, name) for name in ("products", "mappings", "lines", "steps", "seed")}
    (work / "settings.json").write_text(json.dumps(settings))
    made = _child(work, "prepare", 0)
    say("Shelfwise")
    ours = _child(work, "shelfwise", 0)
    say("Shelfwise, one line at a time")
    ours |= _child(work, "single", 0)
    samples = {"rapidfuzz": given.sample, "tfidf": given.lines, "tfidf_plain": given.sample * 10}
    rivals = {}
    for name, rival in RIVALS.items():
        say(f"{rival.label}, {min(samples[name], given.lines):,} lines")
        rivals[name] = {"label": rival.label, "short": rival.short, **_child(work, name, samples[name])}
    accuracy = top1(work, given.seed)
    for name, rival in rivals.items():
        rival |= accuracy[name] | {"shelfwise_times_as_fast": ours["lines_per_second"] / rival["lines_per_second"]}
    return {**head, **ours, **accuracy["shelfwise"]} | {
        "products": given.products,
        "mappings": given.mappings,
        "seeds": [given.seed],
        "cores_used": cores,
        "counted": COUNTED,
        "rivals": rivals,
        "prepared": made,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=80_000)
    parser.add_argument("--mappings", type=int, default=15_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument(
        "--sample", type=int, default=500, help="lines for RapidFuzz; ten times as many for plain TF-IDF"
    )
    parser.add_argument("--steps", type=int, default=0, help="training steps of the encoder; 0: as configured")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["prepare", "shelfwise", "single", *RIVALS], help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    given = _parser().parse_args(argv)
    if given.part:
        work: Path = given.work
        if given.part == "prepare":
            found = prepare(work, **json.loads((work / "settings.json").read_text()))
        elif given.part == "shelfwise":
            found = shelfwise_process(work)
        elif given.part == "single":
            found = single_process(work)
        else:
            found = RIVALS[given.part].measure(work, given.sample)
        print(json.dumps(plain(found)), flush=True)
        return 0
    with tempfile.TemporaryDirectory(prefix="shelfwise-speed-") as scratch:
        emit(run(given, Path(scratch)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
