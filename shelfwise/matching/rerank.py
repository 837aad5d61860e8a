"""An optional cross-encoder that looks at the first candidates of uncertain lines again.

    train_cross_encoder(pairs, folder)                         # or any Hugging Face id or local path of a CrossEncoder
    matcher.reranker = Reranker.fit(lines, index, matcher, folder)
    matcher.match(upload_lines, index)                         # as before; `save` and `load` keep it

A cross-encoder reads line and title together, which costs thousands of times what a feature does. So it is asked about
lines of uncertain score only, and only about their first few candidates. Its output is added, with one weight, to the
log odds of the matcher's score, and the candidates change places by the sum. Scores stay with the ranks: which lines
are approved, and what is guaranteed of them, is what it was, because lines that may be approved are never asked about.

The weight is learned on validation lines that the scores had not seen, and so is whether it pays: where the
cross-encoder does not raise top-1 by `RerankConfig.least_gain` there, it is dropped. The report holds what was
measured. By default there is no such model, and nothing here is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from shelfwise.matching.splits import hashed_share
from shelfwise.text import normalise

if TYPE_CHECKING:
    from shelfwise.matching.decisions import Thresholds
    from shelfwise.matching.explain import Reasons
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher, Ranked

FORMAT = 1
FOLDS = 5
READ_TOGETHER = "read together with the line this title fits best; by its features alone first was"
WEIGHTS = (0.0, *np.geomspace(0.01, 10, 31).tolist())  # of the cross-encoder's output, in log odds of its own


class PairModel(Protocol):
    """Something that reads two texts together and says how well they fit; larger is better."""

    def predict(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return a number for each pair, as log odds where the model is a classifier."""


@dataclass(frozen=True)
class RerankConfig:
    """Which lines are looked at again, and what that must bring."""

    depth: int = 5
    """Candidates of a line that the cross-encoder reads."""
    low: float = 0.05
    """Score of the best candidate below which a line is not worth it: most likely it has no product."""
    high: float = 0.95
    """Score from which on a line is sure; never above the lowest score at which anything is approved."""
    least_gain: float = 0.005
    """Least rise of top-1 over all validation lines with a product. Below, the cross-encoder is dropped."""
    batch_size: int = 64
    max_length: int = 64
    """Word pieces of line and title together."""


@dataclass(frozen=True)
class CrossTraining:
    """How a cross-encoder is trained. `base`: a Hugging Face id or local path; None makes a small BERT from scratch."""

    base: str | None = None
    vocab_size: int = 8000
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 512
    max_length: int = 64
    batch_size: int = 64
    learning_rate: float = 5e-4
    """A base that was trained before wants a tenth of it."""
    spread: float = 0.1
    """Standard deviation of the first weights. With BERT's 0.02 a model this small never began to compare words."""
    warmup_share: float = 0.1
    epochs: int = 2
    max_pairs: int = 0
    """Pairs at most, drawn by the seed; 0 takes all."""
    seed: int = 7


# ---- models ----------------------------------------------------------------------------------------------------------


class CrossEncoderModel:
    """Any cross-encoder of sentence-transformers with one output, by Hugging Face id or local path."""

    def __init__(self, model: str | Path, config: RerankConfig | None = None):
        """Load it. Raises OSError where it is not there, ValueError where it has more than one output."""
        from sentence_transformers import CrossEncoder

        config = config or RerankConfig()
        local = Path(model).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1"
        self.batch_size = config.batch_size
        self.model: Any = CrossEncoder(str(model), local_files_only=local, max_length=config.max_length)
        if self.model.num_labels != 1:
            raise ValueError(f"the cross-encoder {model} has {self.model.num_labels} outputs; one is needed")

    def predict(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the log odds of pairs of texts in normal form, float64 [len(pairs)]."""
        import torch

        if not pairs:
            return np.empty(0)
        said = self.model.predict(
            list(pairs), batch_size=self.batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return np.asarray(said, np.float64).reshape(-1)


def train_cross_encoder(
    pairs: pd.DataFrame,
    directory: Path,
    config: CrossTraining | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train a cross-encoder on the train part of `matching/training_pairs` and save it; return what was measured.

    Each pair is a yes-or-no question (binary cross-entropy). Returns pairs, seconds, pairs_per_second, loss (mean over
    the last tenth). Raises ValueError without pairs of both labels.
    """
    import torch

    config, began = config or CrossTraining(), time.monotonic()
    train = pairs[pairs["split"] == "train"].sort_values("pair_id", kind="stable")
    if train["label"].nunique() != 2:
        raise ValueError("training pairs of the split 'train' need both labels")
    if 0 < config.max_pairs < len(train):
        train = train.sample(config.max_pairs, random_state=config.seed)
    torch.manual_seed(config.seed)
    lines, titles = ([normalise(text) for text in train[column]] for column in ("line", "product_title"))
    tokenizer, model = _new_model(config, [*lines, *dict.fromkeys(titles)])
    encoded = tokenizer(lines, titles, truncation=True, max_length=config.max_length)
    labels = torch.tensor(train["label"].to_numpy(np.float32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    steps = config.epochs * -(-len(train) // config.batch_size)
    warm = max(1, round(config.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(steps - warm, 1))
    )
    model.train()
    losses: list[float] = []
    for epoch in range(config.epochs):
        for rows in _batches([len(ids) for ids in encoded["input_ids"]], config.batch_size, config.seed + epoch):
            batch = tokenizer.pad({k: [encoded[k][i] for i in rows] for k in encoded}, return_tensors="pt")
            logits = model(**batch).logits.reshape(-1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if progress is not None:
                progress(len(losses), steps)
    model.eval()
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    seconds = time.monotonic() - began
    seen = float(len(train) * config.epochs)
    tail = losses[-max(1, len(losses) // 10) :]
    return {"pairs": seen, "seconds": seconds, "pairs_per_second": seen / seconds, "loss": float(np.mean(tail))}


def _new_model(config: CrossTraining, texts: Sequence[str]) -> tuple[Any, Any]:
    """Return tokenizer and model before training."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification

    from shelfwise.matching.training_models import new_bert

    if config.base is not None:
        local = Path(config.base).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1"
        model = AutoModelForSequenceClassification.from_pretrained(config.base, num_labels=1, local_files_only=local)
        model.config._name_or_path = ""
        return AutoTokenizer.from_pretrained(config.base, local_files_only=local), model
    tokenizer, bert = new_bert(config, texts, dropout=0.0, initializer_range=config.spread, num_labels=1)
    return tokenizer, BertForSequenceClassification(bert)


def _batches(lengths: Sequence[int], size: int, seed: int) -> list[list[int]]:
    """Return all rows in batches in random order, rows of like length together, so that little is padding."""
    rng = np.random.default_rng(seed)
    order = np.argsort(np.asarray(lengths) + rng.uniform(0, 4, len(lengths)), kind="stable")
    batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


# ---- ranking again ---------------------------------------------------------------------------------------------------


class Reranker:
    """A cross-encoder with its weight; `report` says what it gave on validation lines."""

    def __init__(
        self,
        model: PairModel | None,
        config: RerankConfig,
        weight: float,
        report: dict[str, Any],
        place: Path | None = None,
    ):
        """`model` may be None where `weight` is 0. `place`: the model's directory, which `save` copies."""
        if weight > 0 and model is None:
            raise ValueError("a reranker with a weight needs its model")
        self.model, self.config, self.weight, self.report, self.place = model, config, weight, report, place

    @classmethod
    def fit(
        cls,
        lines: pd.DataFrame,
        index: CatalogIndex,
        matcher: Matcher,
        model: str | Path | PairModel,
        config: RerankConfig | None = None,
    ) -> Reranker:
        """Learn the weight, and whether the cross-encoder pays, on the lines that the matcher was fitted on.

        `lines`: vendor_id, vendor_title, product_id; the cross-encoder must not have been trained on them. They are
        ranked by matchers like this one fitted on the other half, as lines of unknown vendors. Weights are compared
        by top-1 over all lines with a product; the gain in the report is out of fold (`FOLDS` by product).
        """
        config = config or RerankConfig()
        read = CrossEncoderModel(model, config) if isinstance(model, str | Path) else model
        place = Path(model) if isinstance(model, str | Path) and Path(model).is_dir() else None
        name = str(model) if isinstance(model, str | Path) and place is None else None
        lines = lines[lines["product_id"].isin(set(index.products["product_id"]))]
        halves = _ranked_unseen(lines, index, matcher, config)
        highest = min(config.high, lowest_approval(matcher.thresholds))
        said, truth, seconds = [], [], 0.0
        for part, ranked, view in halves:
            titles, began = part["vendor_title"].astype(str).tolist(), time.perf_counter()
            said.append(_ask(read, ranked, titles, view, config, highest))
            seconds += time.perf_counter() - began
            truth.append(view.positions(part["product_id"].tolist()))
        every = np.concatenate(truth) if truth else np.empty(0, np.int64)
        top = np.concatenate([ranked.top(1)[:, 0] for _, ranked, _ in halves]) if halves else every
        answers = _joined(said, [len(part) for part, _, _ in halves])
        hits = answers.hits(every, WEIGHTS)  # [weights, lines asked about]
        held = _folds(answers.line, [str(p) for part, _, _ in halves for p in part["product_id"]])
        before = hits[0]
        gained = np.zeros(len(before))
        for fold in range(FOLDS):
            out = held == fold
            best = int(np.argmax(hits[:, ~out].sum(axis=1))) if (~out).any() else 0
            gained[out] = hits[best, out].astype(float) - before[out]
        n = max(len(every), 1)
        gain, weight = float(gained.sum() / n), WEIGHTS[int(np.argmax(hits.sum(axis=1)))] if hits.size else 0.0
        pays = gain >= config.least_gain and weight > 0
        pairs = len(answers.candidate)
        report = {
            "kept": pays,
            "weight": weight if pays else 0.0,
            "gain_top1": gain,
            "least_gain": config.least_gain,
            "top1_before": float((top == every).mean()) if len(every) else 0.0,
            "asked_share": len(answers.line) / n,
            "asked_top1_before": float(before.mean()) if len(before) else 0.0,
            "lines": len(every),
            "pairs": pairs,
            "pairs_per_second": pairs / seconds if seconds > 0 else 0.0,
            "seconds_per_1000_lines": 1000 * seconds / n,
            "model": name or ("its own" if place is None else "a copy beside it"),
        }
        return cls(read if pays else None, config, weight if pays else 0.0, report, place if pays else None)

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        report = self.report
        verdict = "kept" if report.get("kept") else "dropped"
        return (
            f"the cross-encoder is {verdict}: it raises top-1 by {report.get('gain_top1', 0.0):+.4f} of "
            f"{report.get('lines', 0)} validation lines (at least {report.get('least_gain', 0.0)} wanted), reads "
            f"{report.get('asked_share', 0.0):.0%} of the lines, and takes "
            f"{report.get('seconds_per_1000_lines', 0.0):.1f} s per 1,000"
        )

    def depth(self, k: int) -> int:
        """Return how many candidates of a line are needed where `k` are wanted."""
        return max(k, self.config.depth) if self.weight > 0 else k

    def rerank(
        self,
        ranked: Ranked,
        titles: Sequence[str],
        index: CatalogIndex,
        thresholds: Thresholds,
        reasons: Reasons | None = None,
    ) -> Ranked:
        """Return the candidates in their new order. Scores stay with the ranks.

        Lines that could be approved by any of `thresholds` are left alone. `reasons` is told of new first products.
        """
        if self.weight <= 0 or self.model is None:
            return ranked
        highest = min(self.config.high, lowest_approval(thresholds))
        asked = _ask(self.model, ranked, titles, index, self.config, highest)
        product, names = ranked.product.copy(), index.products["title"].to_numpy()
        for line, rows, order in asked.orders(self.weight):
            if reasons is not None and order[0] != 0:
                reasons.texts[line] = f"{READ_TOGETHER} “{names[product[rows[0]]]}”"
            product[rows] = product[rows][order]
        return replace(ranked, product=product)

    # ---- persistence -------------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write reranker.json, and a copy of the model where it came from a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        copied = self.place is not None
        raw = {"format": FORMAT, "config": asdict(self.config), "weight": self.weight, "report": self.report}
        raw["model"] = None if copied or self.weight <= 0 else self.report.get("model")
        (directory / "reranker.json").write_text(json.dumps(raw, indent=2, sort_keys=True))
        if self.place is not None and self.place != directory / "model":
            shutil.copytree(self.place, directory / "model", dirs_exist_ok=True)

    @classmethod
    def load(cls, directory: Path) -> Reranker:
        """Read what `save` wrote. Raises ValueError where another version wrote it."""
        raw = json.loads((directory / "reranker.json").read_text())
        if raw["format"] != FORMAT:
            raise ValueError(f"the reranker in {directory} has format {raw['format']}, this version reads {FORMAT}")
        config, place = RerankConfig(**raw["config"]), directory / "model"
        if raw["weight"] <= 0:
            return cls(None, config, 0.0, raw["report"])
        if place.is_dir():
            return cls(CrossEncoderModel(place, config), config, raw["weight"], raw["report"], place)
        return cls(CrossEncoderModel(raw["model"], config), config, raw["weight"], raw["report"])


def lowest_approval(thresholds: Thresholds) -> float:
    """Return the lowest score at which any line may be approved."""
    known = thresholds.approve if thresholds.known is None else thresholds.known
    return min([thresholds.approve, known, *thresholds.by_vendor.values(), *thresholds.by_category.values()])


# ---- pure parts ------------------------------------------------------------------------------------------------------


@dataclass
class _Asked:
    """What was asked: `line` [n] lines, `start` [n + 1] into the flat `row` (in Ranked), `candidate`, `prior`, `said`.

    Candidates of a line stand in order of rank. `prior`: log odds of the matcher's scores.
    """

    line: np.ndarray
    start: np.ndarray
    row: np.ndarray
    candidate: np.ndarray
    prior: np.ndarray
    said: np.ndarray

    def orders(self, weight: float) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Return for each line its rows and their new order."""
        total = self.prior + weight * self.said
        parts = [slice(a, b) for a, b in zip(self.start[:-1], self.start[1:], strict=True)]
        return [
            (int(line), self.row[part], np.argsort(-total[part], kind="stable"))
            for line, part in zip(self.line, parts, strict=True)
        ]

    def hits(self, truth: np.ndarray, weights: Sequence[float]) -> np.ndarray:
        """Return whether the first product is right, for each weight and line asked about."""
        out = np.zeros((len(weights), len(self.line)), bool)
        if not len(self.line):
            return out
        right = self.candidate == np.repeat(truth[self.line], np.diff(self.start))
        for i, weight in enumerate(weights):
            total = self.prior + weight * self.said
            best = [a + int(np.argmax(total[a:b])) for a, b in zip(self.start[:-1], self.start[1:], strict=True)]
            out[i] = right[best]
        return out


def _ask(
    model: PairModel,
    ranked: Ranked,
    titles: Sequence[str],
    index: CatalogIndex,
    config: RerankConfig,
    highest: float,
) -> _Asked:
    """Let the model read the first candidates of the lines whose best score is between `config.low` and `highest`."""
    best = ranked.best_score()
    uncertain = (best >= config.low) & (best < highest)
    row = np.flatnonzero(uncertain[ranked.line] & (ranked.rank < config.depth))
    row = row[np.lexsort((ranked.rank[row], ranked.line[row]))]
    line, counts = np.unique(ranked.line[row], return_counts=True)
    keep = np.repeat(counts > 1, counts)  # one candidate has nothing to change places with
    row, line, counts = row[keep], line[counts > 1], counts[counts > 1]
    forms = {int(i): normalise(titles[i]) for i in line}
    names = index.products["title"].astype(str).to_numpy()
    said = model.predict([(forms[int(ranked.line[r])], normalise(names[ranked.product[r]])) for r in row])
    score = np.clip(ranked.score[row], 1e-6, 1 - 1e-6)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return _Asked(line.astype(np.int64), start, row, ranked.product[row], np.log(score / (1 - score)), said)


def _joined(parts: Sequence[_Asked], lengths: Sequence[int]) -> _Asked:
    """Return several answers as one; lines of a part come after those of the parts before it."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    joined: dict[str, list[np.ndarray]] = {name: [] for name in ("line", "row", "candidate", "prior", "said", "count")}
    for part, offset in zip(parts, offsets, strict=False):
        joined["line"].append(part.line + offset)
        joined["count"].append(np.diff(part.start))
        for name in ("row", "candidate", "prior", "said"):
            joined[name].append(getattr(part, name))
    arrays = {name: np.concatenate(each) if each else np.empty(0, np.int64) for name, each in joined.items()}
    start = np.concatenate([[0], np.cumsum(arrays.pop("count"))]).astype(np.int64)
    return _Asked(start=start, **arrays)


def _ranked_unseen(
    lines: pd.DataFrame, index: CatalogIndex, matcher: Matcher, config: RerankConfig
) -> list[tuple[pd.DataFrame, Ranked, CatalogIndex]]:
    """Return the lines in two halves apart by product, each ranked by a matcher fitted on the other."""
    from shelfwise.matching.matcher import Matcher, line_prices

    half = hashed_share(lines["product_id"].astype(str), 0.5, 11)
    out = []
    for side in (False, True):
        fitted, asked = lines[half != side], lines[half == side].reset_index(drop=True)
        if not len(asked):
            continue
        view = index.without_vendors(asked["vendor_id"].unique())
        like = Matcher.fit(fitted, view, encoder=matcher.encoder, config=matcher.scorer.config)
        titles = asked["vendor_title"].astype(str).tolist()
        out.append((asked, like.rank_lines(titles, view, config.depth, line_prices(asked)), view))
    return out


def _folds(line: np.ndarray, products: Sequence[str]) -> np.ndarray:
    """Return the fold of each line asked about; lines of one product are in one fold."""
    codes, _ = pd.factorize(np.array(products, dtype=object), sort=True)
    return np.random.default_rng(0).permutation(max(int(codes.max(initial=-1)) + 1, 1))[codes[line]] % FOLDS
