"""Linking two catalogs: which record of one shop is which record of the other, learned from some labelled pairs.

No downloaded weights, no network: string, number, code, attribute and price features of both directions
(`shelfwise.matching.link_features`), then two stages of gradient-boosted trees.

* Stage 1 scores each pair by its features and by which words the names share or do not share (a logistic regression:
  a missing "the" says little, a missing "upgrade" much).
* Stage 2 sees the features again, with the score of stage 1 and how it stands among the rivals of either record: the
  competition that decides between near twins.

Everything is cross-fitted: a labelled pair's score comes from models that did not see its label, in stage 1, in stage
2 and for the word regression inside stage 1. Probabilities (Platt 1999) and the threshold (`best_threshold`, for F1)
are fitted on those scores, over all labelled pairs given. That a record has a known match is never used against its
other pairs.

    linker = CatalogLinker().fit(left, right, labelled)  # labelled: left_id, right_id, label (1 or 0)
    linker.link(one_to_one=True)  # left_id, right_id, probability
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from shelfwise.errors import InputError, Problem
from shelfwise.matching.link_features import Pairs, PairSpace, Records, retrieve, rivals

FORMAT = 2
LEAST_LABELLED = 10
ID = "id"
NAME_COLUMNS = ("name", "title", "product_name", "product_title")
PRICE = "price"
# How often a record may take part in a link: once on either side, each left (right) record once, any number of times.
WAYS = ONE_TO_ONE, LEFT_ONCE, RIGHT_ONCE, MANY = "one to one", "left once", "right once", "many to many"
CUTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # see `best_way`
APART = 0.8  # of the records that the best column tells apart, a column of names does at least so many
_KNOWN = "name_mean", "name_ngrams_both"  # what the word regression is told of the pair besides its words
_KNOWN_SCALE = 6.0  # so that the penalty on their weights is about that on the words'


@dataclass(frozen=True)
class LinkerConfig:
    """How candidates are found and trees are grown. `threads` folds are fitted at a time, each by one thread."""

    depth: int = 8
    folds: int = 5
    rounds: int = 300
    leaves: int = 15
    learning_rate: float = 0.05
    least_in_leaf: int = 10
    feature_share: float = 0.2
    row_share: float = 0.8
    leaf_penalty: float = 5.0
    word_strength: float = 0.1
    least_word_pairs: int = 5
    threads: int = 2
    seed: int = 0


# ---- reading ---------------------------------------------------------------------------------------------------------


def name_column(columns: Sequence[str], file: str = "table", texts: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return which column holds the names: one of `NAME_COLUMNS`, else one that says so (`beer_name`), else, of `texts`
    (values by column), the one that tells records apart in the fewest characters; without them the first that may.

    Raises InputError where there is nothing but ids and prices.
    """
    able = [column for column in columns if column not in (ID, PRICE)]
    if not able:
        raise InputError(Problem(file, f"a column {' or '.join(NAME_COLUMNS[:2])}", ", ".join(columns), row=1))
    for name in NAME_COLUMNS:
        if name in able:
            return name
    said = [column for column in able if re.split(r"[\W_]+", column.lower())[-1] in ("name", "title", "label")]
    if said or texts is None:
        return (said or able)[0]
    apart = {column: len(set(texts[column]) - {""}) / max(len(texts[column]), 1) for column in able}
    enough = [column for column in able if apart[column] >= APART * max(apart.values())]
    return min(enough, key=lambda column: (sum(map(len, texts[column])), able.index(column)))


def _prices(column: Sequence[str]) -> np.ndarray:
    """Return prices, NaN where there is none or what is there is no price."""
    from shelfwise.contract.columns import parse_price, prefers_comma

    upper = [value.upper() for value in column]
    comma = prefers_comma(upper)
    found = (parse_price(value, comma) for value in upper)
    return np.array([np.nan if price is None else price for price in found])


def read_records(table: pd.DataFrame, file: str = "table") -> tuple[np.ndarray, Records]:
    """Return the ids (as strings) and the records of a table.

    Columns: `id`, a name (see `NAME_COLUMNS`), perhaps `price`; every other column is text. Raises InputError, naming
    `file`, row and column, for a missing column, a missing or repeated id, or a table without rows.
    """
    columns = [str(column) for column in table.columns]
    if ID not in columns:
        raise InputError(Problem(file, f"a column '{ID}'", ", ".join(columns), row=1))
    texts = {column: _texts(table[column]) for column in columns}
    name = name_column(columns, file, texts)
    if not len(table):
        raise InputError(Problem(file, "at least one record", "none"))
    ids = pd.Series(texts[ID])
    problems = [Problem(file, "an id", "nothing", row=int(i) + 2, column=ID) for i in np.flatnonzero(ids == "")]
    again = np.flatnonzero(ids.duplicated() & (ids != ""))
    problems += [Problem(file, "an id of its own", f"'{ids[i]}' again", row=int(i) + 2, column=ID) for i in again]
    if problems:
        raise InputError(problems)
    others = [column for column in columns if column not in (ID, name, PRICE)]
    prices = _prices(texts[PRICE]) if PRICE in columns else np.full(len(table), np.nan)
    return ids.to_numpy(str), Records.read(texts[name], {column: texts[column] for column in others}, prices)


def _texts(column: pd.Series) -> list[str]:
    return ["" if value is None or value != value else str(value).strip() for value in column.tolist()]


# ---- models ----------------------------------------------------------------------------------------------------------


@dataclass
class WordModel:
    """Logistic regressions over the words two names share or do not share; their mean is the score."""

    columns: np.ndarray  # of `PairSpace.words`
    weights: np.ndarray  # [models, columns + what is known of the pair]
    intercepts: np.ndarray

    def scores(self, words: sparse.csr_matrix, known: np.ndarray) -> np.ndarray:
        """Return the mean log odds. `known`: float [n, len(_KNOWN)]."""
        cut = len(self.columns)
        return (
            words[:, self.columns] @ self.weights[:, :cut].mean(axis=0)
            + known @ self.weights[:, cut:].mean(axis=0)
            + self.intercepts.mean()
        )


@dataclass
class Fold:
    """The models of one fold: the words' regression (stage 1 only) and the trees."""

    trees: list[Any]
    words: WordModel | None = None

    def scores(self, features: np.ndarray, threads: int = 1) -> np.ndarray:
        """Return the mean log odds of the trees."""
        if not len(features):
            return np.empty(0)
        return np.mean([tree.predict(features, raw_score=True, num_threads=threads) for tree in self.trees], axis=0)


class CatalogLinker:
    """Links two catalogs. Make it with `fit`, keep it with `save` and `load`."""

    def __init__(self, config: LinkerConfig | None = None):
        self.config = config or LinkerConfig()
        self.threshold = 0.5
        self.platt = (1.0, 0.0)
        self.stages: tuple[list[Fold], list[Fold]] = ([], [])
        self.out_of_fold = pd.DataFrame()
        self.report: dict[str, int] = {}
        self._candidates_first: np.ndarray | None = None  # stage 1's scores of the candidates, once known
        self._candidates_second: np.ndarray | None = None  # stage 2's

    def fit(self, left: pd.DataFrame, right: pd.DataFrame, labelled: pd.DataFrame) -> CatalogLinker:
        """Learn from `labelled` (left_id, right_id, label) how records of `left` and `right` (`read_records`) belong.

        A pair that is given twice counts once; one that is labelled both ways is left out and counted in `report`.
        Raises InputError for tables that cannot be read and for labelled pairs of unknown records, and where there
        are fewer than `LEAST_LABELLED` matches or others to learn from. The same input and seed give the same linker.
        """
        self._prepare(left, right)
        labels = check_labels(labelled)
        at_left, at_right = self._positions(labelled)
        pairs = pd.DataFrame({"left": at_left, "right": at_right, "label": labels}).drop_duplicates()
        contradictory = pairs.duplicated(["left", "right"], keep=False)
        self.report = {"labelled": int((~contradictory).sum()), "contradictory": int(contradictory.sum()) // 2}
        pairs = pairs[~contradictory]
        for value, what in ((1, "matches"), (0, "pairs that do not match")):
            count = int((pairs["label"] == value).sum())
            if count < LEAST_LABELLED:
                raise InputError(Problem("pairs", f"at least {LEAST_LABELLED} {what}", str(count), column="label"))
        self._learn(pairs["left"].to_numpy(), pairs["right"].to_numpy(), pairs["label"].to_numpy())
        return self

    def _prepare(self, left: pd.DataFrame, right: pd.DataFrame) -> None:
        self.tables = (left.reset_index(drop=True), right.reset_index(drop=True))
        (self.left_ids, ours), (self.right_ids, theirs) = read_records(left, "left"), read_records(right, "right")
        self.space = PairSpace.of(ours, theirs, self.config.depth)
        self._candidates_first = self._candidates_second = None
        self._places = tuple({value: i for i, value in enumerate(ids)} for ids in (self.left_ids, self.right_ids))

    def _positions(self, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of both records of each pair. Raises InputError for unknown ids."""
        found, problems = [], []
        for column, places in zip(("left_id", "right_id"), self._places, strict=True):
            values = _texts(pairs[column])
            at = np.array([places.get(value, -1) for value in values], np.int64)
            problems += [
                Problem("pairs", "the id of a record", f"'{values[i]}'", row=int(i) + 2, column=column)
                for i in np.flatnonzero(at < 0)
            ]
            found.append(at)
        if problems:
            raise InputError(problems)
        return found[0], found[1]

    # ---- learning ----------------------------------------------------------------------------------------------------

    def _learn(self, left: np.ndarray, right: np.ndarray, labels: np.ndarray) -> None:
        pairs, at = self.space.pairs(left, right)
        target = np.full(len(pairs), -1, np.int8)
        target[at] = labels
        features, names = self.space.features(pairs)
        given = np.flatnonzero(target >= 0)
        label = target[given].astype(np.int64)
        fold = np.full(len(pairs), -1)
        fold[given] = stratified_folds(label, self.config.folds, self.config.seed)
        words, known = self.space.words(pairs), _known(features, names)
        first, first_scores = self._stage(fold, lambda k: self._first(k, fold, target, features, words, known))
        competing = with_competition(pairs, features, first_scores)[given]
        fold, target = fold[given], target[given]
        second, scores = self._stage(fold, lambda k: self._second(k, fold, target, competing))
        self.stages, self._candidates_first = (first, second), first_scores[pairs.rival]
        self.platt = platt(scores, label)
        self.out_of_fold = pd.DataFrame(
            {
                "left": pairs.left[given],
                "right": pairs.right[given],
                "label": label,
                "first": first_scores[given],
                "probability": self._probability(scores),
            }
        )
        self.threshold = best_threshold(self.out_of_fold["probability"].to_numpy(), label)

    def _stage(self, fold: np.ndarray, grow: Callable[[int], tuple[Fold, np.ndarray]]) -> tuple[list[Fold], np.ndarray]:
        """Return the folds' models and every pair's score: of a labelled pair by the fold that did not see it."""
        with ThreadPoolExecutor(max(self.config.threads, 1)) as pool:
            grown = list(pool.map(grow, range(int(fold.max()) + 1)))
        every = np.stack([scores for _, scores in grown])
        scores = every.mean(axis=0)
        labelled = np.flatnonzero(fold >= 0)
        scores[labelled] = every[fold[labelled], labelled]
        return [one for one, _ in grown], scores

    def _first(
        self,
        k: int,
        fold: np.ndarray,
        target: np.ndarray,
        features: np.ndarray,
        words: sparse.csr_matrix,
        known: np.ndarray,
    ) -> tuple[Fold, np.ndarray]:
        config = self.config
        train = np.flatnonzero((fold >= 0) & (fold != k))
        model, inner = fit_words(words[train], known[train], target[train], config, config.seed * 100 + k)
        said = model.scores(words, known)
        said[train] = inner
        seen = np.column_stack([features, said.astype(np.float32)])
        made = Fold(self._trees(seen[train], target[train], 1, k), model)
        return made, made.scores(seen)

    def _second(self, k: int, fold: np.ndarray, target: np.ndarray, competing: np.ndarray) -> tuple[Fold, np.ndarray]:
        train = np.flatnonzero((fold >= 0) & (fold != k))
        made = Fold(self._trees(competing[train], target[train], 2, k))
        return made, made.scores(competing)

    def _trees(self, features: np.ndarray, label: np.ndarray, stage: int, k: int) -> list[Any]:
        """Grow boosted trees with searched splits and with random ones (Geurts et al. 2006); they err differently."""
        import lightgbm

        config = self.config
        parameters = {
            "objective": "binary",
            "num_leaves": config.leaves,
            "learning_rate": config.learning_rate,
            "min_data_in_leaf": config.least_in_leaf,
            "feature_fraction": config.feature_share,
            "bagging_fraction": config.row_share,
            "bagging_freq": 1,
            "lambda_l2": config.leaf_penalty,
            "num_threads": 1,
            "seed": config.seed * 1000 + stage * 100 + k,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        grown = []
        for random_splits, rounds in ((False, config.rounds), (True, 2 * config.rounds)):
            data = lightgbm.Dataset(features, label)
            grown.append(lightgbm.train({**parameters, "extra_trees": random_splits}, data, rounds))
        return grown

    # ---- using -------------------------------------------------------------------------------------------------------

    def _scores(self, pairs: Pairs, rows: np.ndarray) -> np.ndarray:
        """Return log odds of these rows of the pairs, by all folds' models."""
        features, names = self.space.features(pairs)
        competing = with_competition(pairs, features, self._first_scores(pairs, features, names))[rows]
        return np.mean([one.scores(competing, self.config.threads) for one in self.stages[1]], axis=0)

    def _first_scores(self, pairs: Pairs, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return stage 1's log odds; of a labelled pair those of the fold that did not see its label.

        Otherwise a known match would push the other pairs of its records down further than an unknown one. The scores
        of the candidates, which are among all pairs, are kept.
        """
        given = self._candidates_first is not None
        rows = np.flatnonzero(~pairs.rival) if given else np.arange(len(pairs))
        scores = np.empty(len(pairs))
        if given:
            scores[pairs.rival] = self._candidates_first
        words, known = self.space.words(pairs)[rows], _known(features, names)[rows]
        each = []
        for one in self.stages[0]:
            said = one.words.scores(words, known) if one.words is not None else np.zeros(len(rows))
            seen = np.column_stack([features[rows], said.astype(np.float32)])
            each.append(one.scores(seen, self.config.threads))
        scores[rows] = np.mean(each, axis=0)
        at, known_at = self._labelled_among(pairs)
        scores[at] = self.out_of_fold["first"].to_numpy()[known_at]
        self._candidates_first = scores[pairs.rival]
        return scores

    def _labelled_among(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the pairs were labelled in fitting, and where they stand in `out_of_fold`."""
        width = np.int64(max(len(self.space.right), 1))
        labelled = self.out_of_fold["left"].to_numpy() * width + self.out_of_fold["right"].to_numpy()
        _, at, known_at = np.intersect1d(pairs.left * width + pairs.right, labelled, True, return_indices=True)
        return at, known_at

    def _probability(self, scores: np.ndarray) -> np.ndarray:
        slope, intercept = self.platt
        return 1 / (1 + np.exp(-(slope * scores + intercept)))

    def predict(self, pairs: pd.DataFrame) -> np.ndarray:
        """Return the probability that each pair (left_id, right_id) is a match; it does not depend on the other pairs.

        Raises InputError for an unknown id.
        """
        if not len(pairs):
            return np.empty(0)
        every, at = self.space.pairs(*self._positions(pairs))
        return self._probability(self._scores(every, at))

    def scored(self, out_of_fold: bool = False) -> pd.DataFrame:
        """Return all candidate pairs of both whole catalogs: left_id, right_id, probability.

        `out_of_fold`: a labelled pair has the probability by models that did not see its label, as evaluation needs.
        """
        every, _ = self.space.pairs(np.empty(0, np.int64), np.empty(0, np.int64))
        if self._candidates_second is None:
            self._candidates_second = self._scores(every, np.arange(len(every)))
        probability = self._probability(self._candidates_second)
        if out_of_fold:
            at, known_at = self._labelled_among(every)
            probability[at] = self.out_of_fold["probability"].to_numpy()[known_at]
        return pd.DataFrame(
            {
                "left_id": self.left_ids[every.left],
                "right_id": self.right_ids[every.right],
                "probability": probability,
            }
        )

    def link(
        self, one_to_one: bool | None = None, threshold: float | None = None, scored: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Return the links over both whole catalogs: left_id, right_id, probability, best first.

        All candidate pairs from `threshold` on (default: the fitted one). `one_to_one`: a record takes part in one link
        at most (`choose`); False: in any number; None: whichever of `WAYS` the labelled pairs bear out (`best_way`), as
        a shop may list one product twice, from the score that goes with it. `scored`: the pairs to choose from, default
        `scored()`.
        """
        pairs = self.scored() if scored is None else scored
        least = self.threshold if threshold is None else threshold
        if one_to_one is None:
            known = self.out_of_fold
            ids = self.left_ids[known["left"].to_numpy()], self.right_ids[known["right"].to_numpy()]
            labelled = pd.DataFrame({"left_id": ids[0], "right_id": ids[1], "label": known["label"].to_numpy()})
            way, cut = best_way(self.scored(out_of_fold=True) if scored is None else scored, labelled, least)
            least = cut if threshold is None else threshold
        else:
            way = ONE_TO_ONE if one_to_one else MANY
        return pairs.iloc[linked(pairs, least, way)].sort_values(
            ["probability", "left_id", "right_id"], ascending=[False, True, True]
        )

    def candidates(self, depth: int, back: bool = False) -> pd.DataFrame:
        """Return each left record's `depth` best right records by names only (`back`: each right record's): left_id,
        right_id, score.
        """
        left, right, score = retrieve(self.space.views["name"], depth, back)
        return pd.DataFrame({"left_id": self.left_ids[left], "right_id": self.right_ids[right], "score": score})

    # ---- persistence -------------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write the tables as parquet, the trees as LightGBM's text, the rest as JSON and npz; nothing is pickled."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, table in zip(("left", "right"), self.tables, strict=True):
            table.astype("string").to_parquet(directory / f"{name}.parquet", index=False)
        self.out_of_fold.to_parquet(directory / "out_of_fold.parquet", index=False)
        described = {
            "format": FORMAT,
            "config": asdict(self.config),
            "threshold": self.threshold,
            "platt": list(self.platt),
            "report": self.report,
            "folds": len(self.stages[0]),
            "trees": len(self.stages[0][0].trees) if self.stages[0] else 0,
        }
        for number, stage in enumerate(self.stages, 1):
            for k, fold in enumerate(stage):
                for i, tree in enumerate(fold.trees):
                    (directory / f"stage{number}_{k}_{i}.txt").write_text(tree.model_to_string())
                if fold.words is not None:
                    np.savez(directory / f"words_{k}.npz", **asdict(fold.words))
        (directory / "linker.json").write_text(json.dumps(described, indent=2, sort_keys=True))

    @classmethod
    def load(cls, directory: Path) -> CatalogLinker:
        """Read what `save` wrote. Raises ValueError where another version wrote it."""
        import lightgbm

        raw = json.loads((directory / "linker.json").read_text())
        if raw["format"] != FORMAT:
            raise ValueError(f"the linker in {directory} has format {raw['format']}, this version reads {FORMAT}")
        made = cls(LinkerConfig(**raw["config"]))
        made._prepare(*(pd.read_parquet(directory / f"{name}.parquet") for name in ("left", "right")))
        made.threshold, made.platt = raw["threshold"], (raw["platt"][0], raw["platt"][1])
        made.report, made.out_of_fold = raw["report"], pd.read_parquet(directory / "out_of_fold.parquet")

        def fold(number: int, k: int) -> Fold:
            trees = [
                lightgbm.Booster(model_str=(directory / f"stage{number}_{k}_{i}.txt").read_text())
                for i in range(raw["trees"])
            ]
            if number == 2:
                return Fold(trees)
            with np.load(directory / f"words_{k}.npz", allow_pickle=False) as arrays:
                return Fold(trees, WordModel(arrays["columns"], arrays["weights"], arrays["intercepts"]))

        made.stages = ([fold(1, k) for k in range(raw["folds"])], [fold(2, k) for k in range(raw["folds"])])
        return made


# ---- pure parts ------------------------------------------------------------------------------------------------------


def check_labels(labelled: pd.DataFrame) -> np.ndarray:
    """Return labels as integers. Raises InputError for others than 0 and 1."""
    labels = pd.to_numeric(labelled["label"], errors="coerce").to_numpy()
    wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(wrong):
        found = labelled["label"].tolist()
        raise InputError([Problem("pairs", "1 or 0", f"'{found[i]}'", int(i) + 2, "label") for i in wrong])
    return labels.astype(np.int64)


def stratified_folds(label: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return a fold of each pair, matches and others spread evenly; never more folds than either of them has pairs."""
    folds = max(2, min(folds, int(label.sum()), int((1 - label).sum())))
    rng = np.random.default_rng(seed)
    out = np.empty(len(label), np.int64)
    for value in (0, 1):
        members = np.flatnonzero(label == value)
        out[members] = rng.permutation(len(members)) % folds
    return out


def fit_words(
    words: sparse.csr_matrix, known: np.ndarray, label: np.ndarray, config: LinkerConfig, seed: int
) -> tuple[WordModel, np.ndarray]:
    """Return the word regressions of these pairs, and each pair's score by the one that did not see it."""
    from sklearn.linear_model import LogisticRegression

    columns = np.flatnonzero(np.asarray((words > 0).sum(axis=0)).ravel() >= config.least_word_pairs)
    rows = sparse.hstack([words[:, columns], sparse.csr_matrix(known)]).tocsr()
    fold = stratified_folds(label.astype(np.int64), config.folds, seed)
    scores, weights, intercepts = np.empty(len(label)), [], []
    for k in range(fold.max() + 1):
        out = fold == k
        model = LogisticRegression(C=config.word_strength, solver="liblinear", max_iter=300, random_state=seed)
        model.fit(rows[~out], label[~out])
        scores[out] = model.decision_function(rows[out])
        weights.append(model.coef_[0])
        intercepts.append(float(model.intercept_[0]))
    return WordModel(columns, np.array(weights), np.array(intercepts)), scores


def with_competition(pairs: Pairs, features: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the features with the score, its standing among the rivals and the rivals' summed probability."""
    probability = 1 / (1 + np.exp(-scores))
    summed = [
        np.bincount(of, np.where(pairs.rival, probability, 0))[of] - np.where(pairs.rival, probability, 0)
        for of in (pairs.left, pairs.right)
    ]
    columns = [scores, *rivals(pairs, scores).values(), *summed]
    return np.column_stack([features, *(column.astype(np.float32) for column in columns)])


def platt(scores: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the logistic curve through the scores."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(scores[:, None], label)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def best_threshold(probability: np.ndarray, label: np.ndarray) -> float:
    """Return from which probability on a pair is to be called a match for the best F1: half of the best F1 itself.

    Holds for calibrated probabilities, and varies less from sample to sample than the threshold that was best on this
    one. Source: Lipton, Elkan and Naryanaswamy 2014.
    """
    return best_cut(probability, label)[1] / 2


def best_cut(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return from which score on a pair is called a match for the best F1, midway to the next lower, and that F1."""
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(label[order])
    f1 = 2 * right / (np.arange(1, len(label) + 1) + label.sum())
    ends = np.append(score[order][1:] != score[order][:-1], True)
    best = int(np.argmax(np.where(ends, f1, -1)))
    following = score[order[best + 1]] if best + 1 < len(order) else 0.0
    return float((score[order[best]] + following) / 2), float(f1[best])


def choose(
    left: np.ndarray, right: np.ndarray, probability: np.ndarray, threshold: float, one_to_one: bool
) -> np.ndarray:
    """Return the positions of the pairs that become links: those from `threshold` on.

    `one_to_one`: of them, for each record one at most: the assignment with the largest sum of (probability -
    threshold), by the Hungarian method (Kuhn 1955) in each connected part of the graph.
    """
    keep = np.flatnonzero(probability >= threshold)
    if not one_to_one or not len(keep):
        return keep
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse.csgraph import connected_components

    ours, left_at = np.unique(left[keep], return_inverse=True)
    theirs, right_at = np.unique(right[keep], return_inverse=True)
    n = len(ours) + len(theirs)
    edges = sparse.csr_matrix((np.ones(len(keep)), (left_at, len(ours) + right_at)), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    gain = probability[keep] - threshold + 1e-9
    taken = []
    order = np.argsort(component[left_at], kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(component[left_at][order])) + 1):
        rows, at_row = np.unique(left_at[part], return_inverse=True)
        cols, at_col = np.unique(right_at[part], return_inverse=True)
        worth = np.zeros((len(rows), len(cols)))
        place = np.full(worth.shape, -1)
        worth[at_row, at_col], place[at_row, at_col] = gain[part], part
        found = place[linear_sum_assignment(worth, maximize=True)]
        taken.append(found[found >= 0])
    return np.sort(keep[np.concatenate(taken)])


def linked(scored: pd.DataFrame, threshold: float, way: str) -> np.ndarray:
    """Return the positions of the pairs (left_id, right_id, probability) that become links, in one of `WAYS`."""
    left, right, probability = (scored[name].to_numpy() for name in ("left_id", "right_id", "probability"))
    keep = choose(left, right, probability, threshold, way == ONE_TO_ONE)
    if way in (LEFT_ONCE, RIGHT_ONCE):
        order = keep[np.argsort(-probability[keep], kind="stable")]
        again = pd.Series((left if way == LEFT_ONCE else right)[order]).duplicated().to_numpy()
        keep = np.sort(order[~again])
    return keep


def best_way(scored: pd.DataFrame, labelled: pd.DataFrame, threshold: float) -> tuple[str, float]:
    """Return in which of `WAYS` and from which score on links have the best F1 by the labelled pairs (left_id,
    right_id, label); of equal ones `threshold` itself and the strictest way.

    Wrong are links that were labelled so, and those of a record with a known match to another than that: pairs worth
    labelling are the likely ones, so that without the others any number of links would seem right. `scored`: with
    probabilities by models that did not see the labels. Scores looked at are `threshold` and those from `CUTS` on
    the way from it to the highest.
    """
    labelled = labelled.drop_duplicates(["left_id", "right_id"])
    matches = labelled[labelled["label"] == 1]
    told = labelled.set_index(["left_id", "right_id"])["label"].reindex(
        pd.MultiIndex.from_frame(scored[["left_id", "right_id"]])
    )
    right = told.eq(1).to_numpy()
    counts = told.notna().to_numpy() | scored["left_id"].isin(set(matches["left_id"])).to_numpy()
    counts |= scored["right_id"].isin(set(matches["right_id"])).to_numpy()
    top = float(scored["probability"].max()) if len(scored) else threshold
    found = {}
    for cut in (threshold + share * max(top - threshold, 0.0) for share in CUTS):
        for way in WAYS:
            links = linked(scored, cut, way)
            found[way, cut] = 2 * float(right[links].sum()) / max(float(counts[links].sum()) + len(matches), 1.0)
    return max(found, key=lambda one: found[one])


def _known(features: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return _KNOWN_SCALE * np.nan_to_num(features[:, [names.index(name) for name in _KNOWN]]).astype(np.float64)
