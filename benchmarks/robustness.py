"""Real product names, disfigured: `python -m benchmarks.robustness DATA [--products 30000] [--lines 3000] [--seeds 3]`.

DATA holds `iowa-liquor/items.csv` and `instacart/products.csv`. A catalog of real names is drawn from both together;
a line is a name after `shelfwise.matching.noise.Noise`: a fifth of the words dropped, rounded down to whole words; each
remaining word of five letters or more shortened with probability 0.2, to its first three or four letters or to its
consonants; all words shuffled; three slips of the keyboard anywhere in the line, digits and spaces included.

Names are distinct as bags of words in normal form: where words are shuffled, "Salsa, Hot" and "Hot Salsa" are one
name. It matters: with names distinct as texts only, a name in fifty has such a twin, and top-1 is about a point lower
(`readings`, one seed). Rounding down (a name of up to four words loses none) is the reading under which the target can
be met at all: with each word dropped by itself, what remains names several products in more lines than the target
forgives (`readings` measures it).

There is no vendor and no past line: the matcher learns from lines made up, with the same noise, of 70 % of the products
and is measured on lines of the others, against the whole catalog; no encoder. Every seed draws catalog, split, and
noise anew. `ceiling`: the share of lines whose product the best possible guesser would name had it seen the line before
the typos, by Bayes' rule over the whole catalog with the noise known (case aside); typos can only lower it.

The last line is one JSON object: top1, top5 and recall of the candidates with intervals, by noise of one kind alone,
by number of words in the line, for other readings, and beside baselines on the same lines.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import about, emit, peak_mb, say, use_two_cores
from shelfwise.matching.baselines import CharTfidf, TokenJaccard
from shelfwise.matching.evaluate import intervals
from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical, comparable, split_words
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.noise import Noise, can_shorten, made_up_lines, short_forms
from shelfwise.matching.splits import hashed_share
from shelfwise.text import normalise

NOISE = Noise()
NONE = Noise(dropped=0, shortened=0, shuffled=False, typos=0)
ALONE = {
    "shuffled": replace(NONE, shuffled=True),
    "typos": replace(NONE, typos=NOISE.typos),
    "dropped": replace(NONE, dropped=NOISE.dropped),
    "shortened": replace(NONE, shortened=NOISE.shortened),
}
READINGS = {
    "each_word_dropped_by_itself": replace(NOISE, each=True),
    "a_tenth_shortened": replace(NOISE, shortened=0.1),
    "three_tenths_shortened": replace(NOISE, shortened=0.3),
}
TRAINED = 0.7  # share of the products whose lines the matcher learns from
MOST_WORDS = 14  # of a name in the sums of `ceiling`; longer ones count as told apart
LENGTHS = {"1 word": (1, 1), "2 words": (2, 2), "3 words": (3, 3), "4-5 words": (4, 5), "6+ words": (6, 1000)}


def read_names(data: Path, as_bags: bool = True) -> list[str]:
    """Return the names of both sets, white space collapsed, each normal form once, and each bag of its words once
    where they are distinct `as_bags`.
    """
    liquor = pd.read_csv(data / "iowa-liquor" / "items.csv", dtype=str)["item_description"]
    grocery = pd.read_csv(data / "instacart" / "products.csv", dtype=str)["product_name"]
    names = pd.concat([liquor, grocery]).dropna().str.split().str.join(" ")
    forms = names.map(normalise)
    bags = forms.map(lambda form: " ".join(sorted(split_words(form))))
    return names[~(bags if as_bags else forms).duplicated() & (bags != "")].tolist()


def draw_catalog(names: Sequence[str], size: int, seed: int) -> pd.DataFrame:
    """Return `size` of the names as products: product_id, title."""
    titles = random.Random(seed).sample(list(names), min(size, len(names)))
    return pd.DataFrame({"product_id": [f"P{seed}-{i}" for i in range(len(titles))], "title": titles})


# ---- what can be told at all -----------------------------------------------------------------------------------------


class Ceiling:
    """Names the product of a line without typos as well as anybody could who knows the noise."""

    def __init__(self, titles: Sequence[str], noise: Noise):
        self.noise = replace(noise, typos=0)
        self.titles = [title.lower().split() for title in titles]
        self.forms: dict[str, dict[str, float]] = {}
        self.holders: dict[str, set[int]] = defaultdict(set)
        for i, words in enumerate(self.titles):
            for word in words:
                for form in self._forms(word):
                    self.holders[form].add(i)

    def share(self, lines: Sequence[str], truth: Sequence[int]) -> float:
        """Return the expected share of lines whose product is named; equally likely products are drawn from."""
        return float(
            np.mean([self._right(line.lower().split(), right) for line, right in zip(lines, truth, strict=True)])
        )

    def _forms(self, word: str) -> dict[str, float]:
        """Return the probability of each form that a word is left in, if it is not dropped."""
        found = self.forms.get(word)
        if found is None:
            found = self.forms[word] = defaultdict(float)
            found[word] = 1.0
            if can_shorten(word) and self.noise.shortened:
                found[word] = 1 - self.noise.shortened
                for form, share in short_forms(word):
                    found[form] += self.noise.shortened * share
        return found

    def _right(self, words: list[str], right: int) -> float:
        held = sorted((self.holders[word] for word in set(words)), key=len)
        odds = {i: self._odds(words, i) for i in set.intersection(*held)}
        if len(self.titles[right]) > MOST_WORDS:
            return 1.0
        best = [i for i, value in odds.items() if value > max(odds.values()) * (1 - 1e-9)]
        return (right in best) / len(best)

    def _odds(self, words: list[str], product: int) -> float:
        """Return the probability of the words in any one order, given the product, up to what all products share."""
        title = self.titles[product]
        gone = len(title) - len(words)
        if gone < 0 or len(title) > MOST_WORDS:
            return 0.0
        if self.noise.each:
            dropped = self.noise.dropped
            kept = dropped**gone * (1 - dropped) ** len(words)
            if len(words) == 1 and gone:
                kept += dropped ** (gone + 1) / len(title)
        elif gone != min(int(len(title) * self.noise.dropped + 1e-9), len(title) - 1):
            return 0.0
        else:
            kept = 1 / comb(len(title), gone)
        ways = {0: 1.0}  # words of the title that are used, as bits, and the probability so far
        for word in words:
            grown: dict[int, float] = defaultdict(float)
            for used, chance in ways.items():
                for j, meant in enumerate(title):
                    share = self._forms(meant).get(word, 0.0)
                    if share and not used >> j & 1:
                        grown[used | 1 << j] += chance * share
            ways = grown
        return kept * sum(ways.values())


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def rapidfuzz_top1(titles: list[str], lines: list[str], truth: np.ndarray) -> dict[str, float]:
    """Return top-1 of RapidFuzz's scorers on normal forms; the first of equal scores is taken."""
    from rapidfuzz import fuzz, process

    queries, choices, out = comparable(lines), comparable(titles), {}
    for name, scorer in (
        ("token_sort", fuzz.token_sort_ratio),
        ("token_set", fuzz.token_set_ratio),
        ("wratio", fuzz.WRatio),
    ):
        scores = process.cdist(queries, choices, scorer=scorer, dtype=np.float32)
        out[f"rapidfuzz_{name}"] = float((scores.argmax(axis=1) == truth).mean())
    return out


def one_seed(
    names: Sequence[str], seed: int, given: argparse.Namespace, more: bool = True
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what one catalog gave, and its lines: words, and whether the product was a candidate, first, in five.

    `more`: other noise as well.
    """
    products = draw_catalog(names, given.products, seed)
    learned = hashed_share(products["product_id"], TRAINED, 7)
    held = products[~learned]
    table = product_names(products)
    index = CatalogIndex.build(
        products, table, Lexical.fit(table["name"].tolist()), config=IndexConfig(threads=given.threads)
    )
    matcher = Matcher.fit(made_up_lines(products[learned], NOISE, 2 * seed, given.trained_lines), index)

    def asked(noise: Noise, lines: int) -> tuple[list[str], np.ndarray]:
        made = made_up_lines(held, noise, 2 * seed + 1, lines)
        return made["vendor_title"].tolist(), index.positions(made["product_id"].tolist())

    def top1(noise: Noise, lines: int) -> dict[str, float]:
        titles, truth = asked(noise, lines)
        clean, right = asked(replace(noise, typos=0), lines)
        return {
            "top1": float((matcher.rank_lines(titles, index, 1).top(1)[:, 0] == truth).mean()),
            "char_tfidf": float((tfidf.rank(titles, 1).top(1)[:, 0] == truth).mean()),
            "ceiling": Ceiling(products["title"].tolist(), noise).share(clean, right.tolist()),
        }

    tfidf = CharTfidf(index, threads=given.threads)
    titles, truth = asked(NOISE, given.lines)
    found = index.retrieve(titles)
    began = time.process_time()
    top = matcher.rank_lines(titles, index, 5).top(5)
    seconds = time.process_time() - began
    hit = np.zeros(len(titles), bool)
    hit[found.line[found.product == truth[found.line]]] = True
    frame = pd.DataFrame(
        {
            "seed": seed,
            "words": [len(title.split()) for title in titles],
            "recall": hit,
            "top1": top[:, 0] == truth,
            "top5": (top == truth[:, None]).any(axis=1),
            "char_tfidf": tfidf.rank(titles, 1).top(1)[:, 0] == truth,
            "token_jaccard": TokenJaccard(index, threads=given.threads).rank(titles, 1).top(1)[:, 0] == truth,
        }
    )
    few = slice(0, given.rapidfuzz)
    out = {
        "seed": seed,
        "lines": len(titles),
        **{name: float(frame[name].mean()) for name in ("top1", "top5", "recall", "char_tfidf", "token_jaccard")},
        "ceiling": top1(NOISE, given.lines)["ceiling"],
        "on_rapidfuzz_lines": float(frame["top1"][few].mean()),
        **rapidfuzz_top1(products["title"].tolist(), titles[few], truth[few]),
        "alone": {name: top1(noise, given.lines // 3) for name, noise in ALONE.items() if more},
        "readings": {name: top1(noise, given.lines // 3) for name, noise in READINGS.items() if more},
        "cpu_microseconds_a_line": 1e6 * seconds / len(titles),
        "scorer": matcher.scorer.report,
    }
    say(f"seed {seed}: top-1 {out['top1']:.4f} (TF-IDF {out['char_tfidf']:.4f}, ceiling {out['ceiling']:.4f})")
    return out, frame


def mean_of(each: Sequence[dict[str, Any]], part: str) -> dict[str, dict[str, float]]:
    """Return the means over seeds of a table of measures."""
    return {
        name: {measure: float(np.mean([one[part][name][measure] for one in each])) for measure in row}
        for name, row in each[0][part].items()
    }


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("robustness")
    names = read_names(given.data)
    began = time.monotonic()
    made = [one_seed(names, seed, given) for seed in range(given.seeds)]
    each, lines = [one for one, _ in made], pd.concat([frame for _, frame in made], ignore_index=True)
    say("the same with names distinct as texts only")
    texts, _ = one_seed(read_names(given.data, as_bags=False), 0, given, more=False)
    readings = mean_of(each, "readings") | {
        "names_distinct_as_texts_only": {m: texts[m] for m in ("top1", "char_tfidf", "ceiling")}
    }
    everything = np.ones(len(lines))
    measures = ("top1", "top5", "recall", "char_tfidf", "token_jaccard")
    by_words = {}
    for name, (least, most) in LENGTHS.items():
        part = lines[lines["words"].between(least, most)]
        by_words[name] = {"lines": len(part), **{m: float(part[m].mean()) for m in ("top1", "recall", "char_tfidf")}}
    rapid = [name for name in each[0] if name.startswith("rapidfuzz_")]
    return head | {
        "names": len(names),
        "products": min(given.products, len(names)),
        "lines": len(lines),
        "trained_lines": given.trained_lines,
        "noise": vars(NOISE),
        "seeds": list(range(given.seeds)),
        **intervals({name: (lines[name].to_numpy(), everything) for name in measures}, 0),
        "ceiling": float(np.mean([one["ceiling"] for one in each])),
        "by_words": by_words,
        "alone": mean_of(each, "alone"),
        "readings": readings,
        "rapidfuzz": {
            "lines": given.rapidfuzz * given.seeds,
            "shelfwise": float(np.mean([one["on_rapidfuzz_lines"] for one in each])),
            **{name: float(np.mean([one[name] for one in each])) for name in rapid},
        },
        "cpu_microseconds_a_line": float(np.mean([one["cpu_microseconds_a_line"] for one in each])),
        "each": each,
        "seconds": time.monotonic() - began,
        "peak_mb": peak_mb(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--products", type=int, default=30_000)
    parser.add_argument("--lines", type=int, default=3000, help="measured, for each seed")
    parser.add_argument("--trained-lines", type=int, default=20_000, help="made up to learn from, at most")
    parser.add_argument("--rapidfuzz", type=int, default=150, help="lines that RapidFuzz is asked, for each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    use_two_cores()
    emit(run(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
