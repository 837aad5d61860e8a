"""From the table of training pairs to what an encoder is trained and validated on."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfwise.text import normalise

COLUMNS = ("pair_id", "line_id", "split", "line", "product_id", "product_title", "label", "kind")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TrainingRows:
    """Training lines with the right product and the wrong ones, as places in `titles`.

    `lines` [n] and `titles` are in normal form; `positives` int64 [n]; `negatives` int64 [n, k].
    """

    lines: list[str]
    titles: list[str]
    positives: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class RetrievalTask:
    """Lines, candidate titles, and the place of each line's right title: int64 [n]. All in normal form."""

    lines: list[str]
    titles: list[str]
    answers: np.ndarray


def check_columns(pairs: pd.DataFrame) -> None:
    """Raise ValueError where the table of pairs lacks a column or holds no training line."""
    missing = [column for column in COLUMNS if column not in pairs.columns]
    if missing:
        raise ValueError(f"training pairs lack the columns {missing}; they have {list(pairs.columns)}")
    if not ((pairs["split"] == "train") & (pairs["label"] == 1)).any():
        raise ValueError("training pairs hold no positive of the split 'train'")
    in_splits = pairs.groupby("line_id")["split"].nunique()
    if (in_splits > 1).any():
        raise ValueError(f"lines in more than one split: {in_splits.index[in_splits > 1][:5].tolist()}")


def training_rows(pairs: pd.DataFrame, n_negatives: int) -> TrainingRows:
    """Return the rows to train on: those of the split 'train', rejected negatives before hard and random ones.

    Raises ValueError where a line has fewer than `n_negatives` negatives or more than one positive.
    """
    train = pairs[pairs["split"] == "train"].sort_values(["line_id", "pair_id"], kind="stable")
    positives = train[train["label"] == 1]
    if positives["line_id"].duplicated().any():
        raise ValueError("a training line has more than one positive")
    codes, titles = _codes(train["product_title"])
    train = train.assign(code=codes, order=train["kind"].map({"rejected": 0, "hard": 1}).fillna(2))
    negatives = train[train["label"] == 0].sort_values(["line_id", "order", "pair_id"], kind="stable")
    negatives = negatives[negatives["line_id"].isin(positives["line_id"])]
    place = negatives.groupby("line_id").cumcount()
    kept = negatives[place < n_negatives]
    if len(kept) != n_negatives * len(positives):
        raise ValueError(f"some training lines have fewer than {n_negatives} negatives")
    return TrainingRows(
        lines=[normalise(line) for line in positives["line"]],
        titles=titles,
        positives=train.loc[train["label"] == 1, "code"].to_numpy(np.int64),
        negatives=kept["code"].to_numpy(np.int64).reshape(len(positives), n_negatives),
    )


def validation_task(pairs: pd.DataFrame, n_lines: int, seed: int) -> RetrievalTask | None:
    """Return the retrieval task over the split 'valid', or None where that split is empty.

    The candidates are all titles of the split, negatives included. At most `n_lines` lines, drawn by the seed.
    """
    valid = pairs[pairs["split"] == "valid"].sort_values(["line_id", "pair_id"], kind="stable")
    valid = valid.reset_index(drop=True)
    if not (valid["label"] == 1).any():
        return None
    codes, titles = _codes(valid["product_title"])
    places = np.flatnonzero(valid["label"].to_numpy() == 1)
    if len(places) > n_lines:
        places = np.sort(np.random.default_rng(seed).choice(places, n_lines, replace=False))
    return RetrievalTask([normalise(line) for line in valid["line"].to_numpy()[places]], titles, codes[places])


def _codes(titles: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Number titles by their normal form. Equal normal forms are one title: no encoder can tell them apart."""
    codes, forms = pd.factorize(np.array([normalise(title) for title in titles], dtype=object))
    return codes.astype(np.int64), [str(form) for form in forms]


def augment(line: str, chance: random.Random) -> str:
    """Return a line as a hasty clerk might have written it: one or two changes of the kinds below."""
    changes = (_drop_word, _swap_letters, _cut_word, _change_letter, _swap_words, _cut_end)
    for change in chance.sample(changes, chance.choice((1, 1, 2))):
        line = change(line, chance)
    return line


def _drop_word(line: str, chance: random.Random) -> str:
    words = line.split()
    if len(words) > 2:
        del words[chance.randrange(len(words))]
    return " ".join(words)


def _swap_words(line: str, chance: random.Random) -> str:
    words = line.split()
    if len(words) > 1:
        i = chance.randrange(len(words) - 1)
        words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def _cut_end(line: str, chance: random.Random) -> str:
    """Point-of-sale systems keep a fixed number of characters."""
    return line[: max(12, int(len(line) * chance.uniform(0.6, 0.95)))].rstrip()


def _in_word(line: str, chance: random.Random) -> tuple[list[str], int] | None:
    """Words and the place of one made of at least four letters; numbers and codes are what tells variants apart."""
    words = line.split()
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    return (words, chance.choice(long)) if long else None


def _swap_letters(line: str, chance: random.Random) -> str:
    found = _in_word(line, chance)
    if found is None:
        return line
    words, i = found
    j = chance.randrange(len(words[i]) - 1)
    word = words[i]
    words[i] = word[:j] + word[j + 1] + word[j] + word[j + 2 :]
    return " ".join(words)


def _change_letter(line: str, chance: random.Random) -> str:
    found = _in_word(line, chance)
    if found is None:
        return line
    words, i = found
    j = chance.randrange(len(words[i]))
    words[i] = words[i][:j] + chance.choice(("", chance.choice(_LETTERS))) + words[i][j + 1 :]
    return " ".join(words)


def _cut_word(line: str, chance: random.Random) -> str:
    """Abbreviate: the first letters, or the first letter and the later consonants."""
    found = _in_word(line, chance)
    if found is None:
        return line
    words, i = found
    word = words[i]
    short = word[0] + "".join(letter for letter in word[1:] if letter not in "aeiou")
    words[i] = chance.choice((word[:3], word[:4], short))
    return " ".join(words)
