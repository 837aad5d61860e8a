"""Linking two catalogs: `python -m benchmarks.pairs DIR [--seeds 5]`. The last line is one JSON object.

DIR holds tableA.csv and tableB.csv (`id`, a `name` or `title`, any other columns, perhaps `price`) and train.csv,
valid.csv, test.csv (`ltable_id`, `rtable_id`, `label`: 1 for a match), the form of the DeepMatcher data sets; valid.csv
may be missing.

`recall_at_10`: of the matches, those whose tableA record is among the 10 best that the tableB record finds by names
alone. `recall_at_10_left` asks the other way round, which is harder where a record of tableA has several in tableB.

What is learned from: the labelled pairs of train and valid together, cross-fitted (`shelfwise.matching.linking`). The
threshold comes from the out-of-fold scores of those pairs. Labels of test are read after the last
prediction and only to count. Baselines have no parameters but a threshold, taken from valid.

Exit status 2 where the directory is not of that form, with file, row and column of each problem.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import about, emit, peak_mb, say, use_two_cores
from shelfwise.contract.tabular import decode
from shelfwise.errors import InputError, Problem
from shelfwise.matching.linking import (
    CatalogLinker,
    LinkerConfig,
    best_cut,
    best_way,
    linked,
    name_column,
    read_records,
)

SPLITS = ("train", "valid", "test")
PAIR_COLUMNS = ("ltable_id", "rtable_id", "label")
DEPTHS = (10, 20, 50)
BOOTSTRAP = 1000
LONGEST_FIELD = 10_000_000
LEARNED_FROM = "train and valid, cross-fitted; probabilities and threshold from their out-of-fold scores"
MEASURES = ("pair_f1", "precision", "recall", "end_to_end_f1", "end_to_end_all_f1", "top1", "top5")


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Two tables and the labelled pairs between them: left_id, right_id, label, split."""

    left: pd.DataFrame
    right: pd.DataFrame
    pairs: pd.DataFrame

    def of(self, *splits: str) -> pd.DataFrame:
        """Return the pairs of some splits."""
        return self.pairs[self.pairs["split"].isin(splits)].reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """Return a CSV file as strings, column names in lower case.

    Raises InputError for a missing or empty file, a repeated column, and a row of another length than the header's.
    """
    try:
        text, _ = decode(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(Problem(path.name, f"a file in {path.parent}", error.strerror or str(error))) from error
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[str]] = []
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise InputError(Problem(path.name, "CSV", str(error), row=reader.line_num)) from error
    if not rows:
        raise InputError(Problem(path.name, "a header", "an empty file"))
    header = [name.strip().lower() for name in rows[0]]
    problems = [
        Problem(path.name, f"{len(header)} fields, as in the header", str(len(row)), row=number)
        for number, row in enumerate(rows[1:], 2)
        if len(row) != len(header)
    ]
    problems += [
        Problem(path.name, "each column once", name, row=1) for name in {n for n in header if header.count(n) > 1}
    ]
    if problems:
        raise InputError(problems)
    return pd.DataFrame(rows[1:], columns=header, dtype=object)


def read_pairs(path: Path, left: set[str], right: set[str]) -> pd.DataFrame:
    """Return left_id, right_id, label of a file of labelled pairs.

    Raises InputError for a missing column, an id that the tables do not have, and a label that is neither 0 nor 1.
    """
    table = read_table(path)
    missing = [name for name in PAIR_COLUMNS if name not in table]
    if missing:
        raise InputError(
            [Problem(path.name, f"a column '{name}'", ", ".join(table.columns), row=1) for name in missing]
        )
    checks: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        ("ltable_id", left.__contains__, "the id of a record of tableA"),
        ("rtable_id", right.__contains__, "the id of a record of tableB"),
        ("label", {"0", "1"}.__contains__, "0 or 1"),
    )
    problems = []
    for column, holds, expected in checks:
        table[column] = table[column].str.strip()
        wrong = [i for i, value in enumerate(table[column]) if not holds(value)]
        problems += [Problem(path.name, expected, f"'{table[column].iloc[i]}'", i + 2, column) for i in wrong]
    if problems:
        raise InputError(problems)
    pairs = table[list(PAIR_COLUMNS)].set_axis(["left_id", "right_id", "label"], axis=1)
    return pairs.assign(label=pairs["label"].astype(int))


def read_source(folder: Path) -> Source:
    """Read a directory. Raises InputError as `read_table`, `read_pairs` and `read_records` do."""
    tables = [read_table(folder / f"{name}.csv") for name in ("tableA", "tableB")]
    ids = [set(read_records(table, f"table{side}.csv")[0].tolist()) for side, table in zip("AB", tables, strict=True)]
    given = [split for split in SPLITS if split != "valid" or (folder / "valid.csv").exists()]
    parts = [read_pairs(folder / f"{split}.csv", *ids).assign(split=split) for split in given]
    for split, part in zip(given, parts, strict=True):
        if not part["label"].any():
            raise InputError(Problem(f"{split}.csv", "at least one match", "none", column="label"))
    pairs = pd.concat(parts, ignore_index=True)
    # A pair of the test split that is also given with its label elsewhere would be no test.
    test = pairs[pairs["split"] == "test"]
    known = pairs.merge(test[["left_id", "right_id"]].drop_duplicates(), how="left", indicator=True)["_merge"] == "both"
    return Source(tables[0], tables[1], pairs[~(known.to_numpy() & (pairs["split"] != "test").to_numpy())])


# ---- measuring -------------------------------------------------------------------------------------------------------


def f1(hits: float, called: float, true: float) -> dict[str, float]:
    """Return precision, recall and f1 of `hits` right ones among `called`, of `true` ones there are."""
    return {
        "precision": hits / called if called else 0.0,
        "recall": hits / true if true else 0.0,
        "f1": 2 * hits / (called + true) if called + true else 0.0,
    }


def keys(pairs: pd.DataFrame) -> pd.MultiIndex:
    """Return the pairs' ids, to compare sets of pairs with."""
    return pd.MultiIndex.from_frame(pairs[["left_id", "right_id"]])


def recall_at(candidates: pd.DataFrame, matches: pd.DataFrame) -> float:
    """Return the share of the matches that are among the candidates."""
    return float(keys(matches).isin(keys(candidates)).mean())


def end_to_end(links: pd.DataFrame, source: Source) -> dict[str, float]:
    """Return F1 of links over whole tables, in two ways (see README): at the records of test's matches, and overall."""
    test = source.of("test")
    matches = test[test["label"] == 1]
    every = source.pairs[source.pairs["label"] == 1]
    known = keys(source.of("train", "valid"))
    near = links["left_id"].isin(set(matches["left_id"])) | links["right_id"].isin(set(matches["right_id"]))
    called = links[near & ~keys(links).isin(known)]
    here = f1(keys(called).isin(keys(matches)).sum(), len(called), len(matches))
    overall = f1(keys(links).isin(keys(every)).sum(), len(links), len(every.drop_duplicates(["left_id", "right_id"])))
    return {
        "end_to_end_f1": here["f1"],
        "end_to_end_precision": here["precision"],
        "end_to_end_recall": here["recall"],
        "end_to_end_all_f1": overall["f1"],
    }


def top(scored: pd.DataFrame, source: Source) -> dict[str, float]:
    """Return how often a match is the first, or among the first five, of a left record's candidates.

    Over the left records that have a match in test; pairs whose label was given in train or valid are left out.
    """
    test = source.of("test")
    matches = test[test["label"] == 1]
    open_pairs = scored[
        scored["left_id"].isin(set(matches["left_id"])) & ~keys(scored).isin(keys(source.of("train", "valid")))
    ]
    ranked = open_pairs.sort_values(["left_id", "probability", "right_id"], ascending=[True, False, True])
    rank = ranked.groupby("left_id").cumcount()
    right = keys(ranked).isin(keys(matches))
    n = matches["left_id"].nunique()
    return {f"top{k}": float(ranked["left_id"][right & (rank < k).to_numpy()].nunique() / n) for k in (1, 5)}


def bootstrap(test: pd.DataFrame, called: Sequence[np.ndarray], seed: int = 0) -> dict[str, list[float]]:
    """Return 95 % intervals of pair_f1, precision and recall, means over the seeds: left records resampled whole."""
    group, names = pd.factorize(test["left_id"])
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), BOOTSTRAP)
    label = test["label"].to_numpy()
    per = lambda values: weights @ np.bincount(group, values, minlength=len(names))  # noqa: E731
    found: dict[str, list[np.ndarray]] = {"pair_f1": [], "precision": [], "recall": []}
    for calls in called:
        hits, n, true = per(calls * label), per(calls), per(label)
        found["pair_f1"].append(2 * hits / np.maximum(n + true, 1e-9))
        found["precision"].append(hits / np.maximum(n, 1e-9))
        found["recall"].append(hits / np.maximum(true, 1e-9))
    return {name: np.quantile(np.mean(each, axis=0), [0.025, 0.975]).tolist() for name, each in found.items()}


# ---- baselines -------------------------------------------------------------------------------------------------------


def char_tfidf(left: Sequence[str], right: Sequence[str]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the cosine of character trigrams (scikit-learn's TfidfVectorizer, char_wb) as a function of positions."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    rows = vectors.fit_transform([*left, *right])
    ours, theirs = rows[: len(left)].tocsr(), rows[len(left) :].tocsr()
    return lambda a, b: np.asarray(ours[a].multiply(theirs[b]).sum(axis=1)).ravel()


def token_set(left: Sequence[str], right: Sequence[str]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return RapidFuzz's token set ratio (0..1) as a function of positions."""
    from rapidfuzz import fuzz, process

    def score(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not len(a):
            return np.empty(0)
        ours, theirs = [left[i] for i in a.tolist()], [right[j] for j in b.tolist()]
        return process.cpdist(ours, theirs, scorer=fuzz.token_set_ratio, dtype=np.float32) / 100

    return score


def baseline(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], source: Source, scored: pd.DataFrame
) -> dict[str, float]:
    """Measure one similarity of names: threshold of best F1 on valid, else on train; the same candidates."""
    began = time.perf_counter()
    places = [{value: i for i, value in enumerate(table["id"].str.strip())} for table in (source.left, source.right)]

    def of(pairs: pd.DataFrame) -> np.ndarray:
        return score(*(pairs[c].map(p).to_numpy() for c, p in zip(("left_id", "right_id"), places, strict=True)))

    valid, test = source.of("valid"), source.of("test")
    valid = valid if valid["label"].any() else source.of("train")
    threshold, _ = best_cut(of(valid), valid["label"].to_numpy())
    called = of(test) >= threshold
    measured = f1(float((called & (test["label"] == 1)).sum()), float(called.sum()), float(test["label"].sum()))
    compared = scored.assign(probability=of(scored))
    way, cut = best_way(compared, source.of("train", "valid"), threshold)
    keep = linked(compared, cut, way)
    return {
        "pair_f1": measured["f1"],
        "precision": measured["precision"],
        "recall": measured["recall"],
        "threshold": threshold,
        **end_to_end(compared.iloc[keep], source),
        **top(compared, source),
        "seconds": time.perf_counter() - began,
    }


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def measure_seed(source: Source, seed: int) -> tuple[CatalogLinker, dict[str, Any], np.ndarray]:
    """Fit on train and valid, predict test and the whole tables; return linker, measures and test's calls."""
    began = time.perf_counter(), time.process_time()
    linker = CatalogLinker(LinkerConfig(seed=seed)).fit(source.left, source.right, source.of("train", "valid"))
    test = source.of("test")
    probability = linker.predict(test[["left_id", "right_id"]])
    scored = linker.scored(out_of_fold=True)
    way, cut = best_way(scored, source.of("train", "valid"), linker.threshold)
    links = scored.iloc[linked(scored, cut, way)]
    seconds = time.perf_counter() - began[0]
    called = probability >= linker.threshold
    counted = f1(float((called & (test["label"] == 1)).sum()), float(called.sum()), float(test["label"].sum()))
    others = {"one": linker.link(True, scored=scored), "many": linker.link(False, scored=scored)}
    measured = {
        "seed": seed,
        "pair_f1": counted["f1"],
        "precision": counted["precision"],
        "recall": counted["recall"],
        "threshold": linker.threshold,
        "out_of_fold_f1": _out_of_fold_f1(linker),
        **end_to_end(links, source),
        **{f"end_to_end_{name}_f1": end_to_end(some, source)["end_to_end_f1"] for name, some in others.items()},
        "links": way,
        "links_from": cut,
        **top(scored, source),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - began[1],
    }
    return linker, measured, called


def _out_of_fold_f1(linker: CatalogLinker) -> float:
    called = linker.out_of_fold["probability"] >= linker.threshold
    label = linker.out_of_fold["label"]
    return f1(float((called & (label == 1)).sum()), float(called.sum()), float(label.sum()))["f1"]


def run(folder: Path, seeds: int) -> dict[str, Any]:
    """Run the benchmark and return its object. Raises InputError where the directory is not of the form."""
    began = time.perf_counter()
    head = about("pairs")
    source = read_source(folder)
    each, calls = [], []
    for seed in range(seeds):
        linker, measured, called = measure_seed(source, seed)
        each.append(measured)
        calls.append(called)
        say("seed {seed}: F1 {pair_f1:.4f}, end to end {end_to_end_f1:.4f}, {seconds:.0f} s".format(**measured))
    matches = source.pairs[source.pairs["label"] == 1]
    recall = {
        f"recall_at_{depth}{'' if back else '_left'}": recall_at(linker.candidates(depth, back), matches)
        for back in (True, False)
        for depth in DEPTHS
    }
    scored = linker.scored()
    left, right = _names(source.left), _names(source.right)
    baselines = {
        "char_trigram_tfidf": baseline(char_tfidf(left, right), source, scored),
        "rapidfuzz_token_set": baseline(token_set(left, right), source, scored),
    }
    test = source.of("test")
    return head | {
        "data": folder.resolve().name,
        **{name: float(np.mean([one[name] for one in each])) for name in MEASURES},
        "pair_f1_sd": float(np.std([one["pair_f1"] for one in each])),
        **recall,
        "intervals": bootstrap(test, calls),
        "seeds": list(range(seeds)),
        "each": each,
        "learned_from": LEARNED_FROM,
        "records": [len(source.left), len(source.right)],
        "name_columns": [_name_column(table) for table in (source.left, source.right)],
        "pairs": {split: len(source.of(split)) for split in SPLITS},
        "matches": {split: int(source.of(split)["label"].sum()) for split in SPLITS},
        "contradictory": linker.report["contradictory"],
        "candidate_pairs": len(scored),
        "baselines": baselines,
        "seconds": time.perf_counter() - began,
        "peak_mb": peak_mb(),
    }


def _name_column(table: pd.DataFrame) -> str:
    return name_column(list(table.columns), texts={column: table[column].tolist() for column in table})


def _names(table: pd.DataFrame) -> list[str]:
    return table[_name_column(table)].str.lower().tolist()


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args(argv)
    if given.seeds < 1:
        parser.error("--seeds: at least 1")
    use_two_cores()
    try:
        emit(run(given.folder, given.seeds))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
