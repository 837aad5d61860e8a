"""Training pairs: every positive with exactly three negatives, and an independent proof that they are sound."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import pandas as pd
from scipy import sparse

from shelfwise.matching.lexical import Lexical, comparable, top_products
from shelfwise.matching.splits import PARTS, SplitConfig, split_positives

NEGATIVES = 3
NEIGHBOURS = 30  # among which hard negatives are drawn
PAIR_COLUMNS = ("pair_id", "line_id", "vendor_id", "split", "line", "product_id", "product_title", "label", "kind")


def make_pairs(
    positives: pd.DataFrame,
    products: pd.DataFrame,
    seed: int = 0,
    hard_share: float = 2 / 3,
    valid_share: float = 0.25,
    test_share: float = 0.2,
    threads: int = 2,
    former: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return `matching/training_pairs`: columns `PAIR_COLUMNS`, one label-1 row and three label-0 rows per line.

    `positives`: marts/labelled_positives. `products`: product_id, title, category. Negatives come from products of
    the line's own part only. First come the candidates that a person passed over for the line (kind 'rejected', from
    the column rejected_product_ids where there is one, the best ranked first): the champion's own mistakes. They count
    as hard ones. `hard_share` of all are drawn from the character n-gram neighbours of the line in the category of its
    product (kind 'hard'; where the category holds too few, random ones take their place), the rest at random. A line
    that a person found to match nothing has no positive and no pairs; its answer only takes the mapping away. Never a
    product known for this line or for an equal line of any vendor, nor one whose title has the normal form of the right
    product's title or of the line. A line for which no three negatives exist is left out.
    `former`: who has which part already (`splits.parts_table`). Deterministic. Raises ValueError for a share outside
    0..1.
    """
    if not 0 <= hard_share <= 1:
        raise ValueError(f"hard_share must be between 0 and 1, not {hard_share}")
    config = SplitConfig(valid=valid_share, test=test_share, seed=seed)
    positives = positives.sort_values(["vendor_id", "line_id"], kind="stable").reset_index(drop=True)
    splits = split_positives(positives, products, config, former)
    catalog = _Catalog(products)
    forms = comparable([str(title) for title in positives["vendor_title"]])
    known: dict[str, set[int]] = defaultdict(set)
    right = catalog.positions(positives["product_id"])
    passed_over = _passed_over(positives, catalog)
    for form, product in zip(forms, right, strict=True):
        known[form].add(int(product))
    rng = np.random.default_rng(seed)
    lexical = Lexical.fit(catalog.titles)
    title_rows = lexical.ngrams.transform(catalog.forms)
    frames = []
    part_of_product = splits.product.reindex(catalog.ids).to_numpy()
    for part in PARTS:
        rows = np.flatnonzero(((splits.line == part) & (right >= 0)).to_numpy())
        members = np.flatnonzero(part_of_product == part)
        if not len(rows):
            continue
        queries = lexical.ngrams.transform([forms[i] for i in rows])
        categories = catalog.category[right[rows]], catalog.category[members]
        near = _neighbours(queries, title_rows[members], *categories, threads)
        wanted = _hard_counts(len(rows), hard_share, rng)
        chosen = []
        for i, row in enumerate(rows):
            own = [product for product in passed_over.get(int(row), ()) if part_of_product[product] == part]
            taken = _negatives(
                int(right[row]), forms[row], known[forms[row]], catalog, members, own, near[i], int(wanted[i]), rng
            )
            if taken is not None:
                chosen.append((int(row), taken))
        frames.append(_frame(part, chosen, positives, catalog, right))
    if not frames:
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    return pd.concat(frames, ignore_index=True)


class _Catalog:
    """Products as arrays."""

    def __init__(self, products: pd.DataFrame):
        ordered = products.sort_values("product_id", kind="stable").reset_index(drop=True)
        self.ids = ordered["product_id"].astype(str).to_numpy()
        self.titles = [str(title) for title in ordered["title"]]
        self.forms = comparable(self.titles)
        self.twin = pd.factorize(pd.Series(self.forms))[0]
        category = ordered["category"] if "category" in ordered else pd.Series([None] * len(ordered))
        self.category = pd.factorize(category.fillna("").astype(str))[0]
        self._position = pd.Series(np.arange(len(ordered)), index=self.ids)

    def positions(self, ids: pd.Series) -> np.ndarray:
        return self._position.reindex(ids.astype(str)).fillna(-1).to_numpy().astype(np.int64)


def _passed_over(positives: pd.DataFrame, catalog: _Catalog) -> dict[int, list[int]]:
    """Return, by row of `positives`, positions of the products that a person passed over for it, best first."""
    if "rejected_product_ids" not in positives:
        return {}
    ids = positives["rejected_product_ids"].reset_index(drop=True).explode().dropna()
    places = pd.Series(catalog.positions(ids), index=ids.index)
    return {int(row): list(dict.fromkeys(own)) for row, own in places[places >= 0].groupby(level=0)}


def _hard_counts(n: int, hard_share: float, rng: np.random.Generator) -> np.ndarray:
    """Return how many of the three are to be hard, per line; the mean is `3 * hard_share`."""
    exact = NEGATIVES * hard_share
    return np.floor(exact).astype(int) + (rng.random(n) < exact - np.floor(exact))


def _neighbours(
    queries: sparse.csr_matrix,
    titles: sparse.csr_matrix,
    line_category: np.ndarray,
    title_category: np.ndarray,
    threads: int,
) -> list[np.ndarray]:
    """Return, per line, positions (in `titles`) of the titles in its category most like it, best first.

    The category enters the product as a column of its own that outweighs any text, so one sparse product ranks all.
    """
    width = int(max(line_category.max(initial=0), title_category.max(initial=0))) + 1

    def with_category(rows: sparse.csr_matrix, category: np.ndarray) -> sparse.csr_matrix:
        n = len(category)
        flag = sparse.csr_matrix((np.full(n, 2.0, np.float32), (np.arange(n), category)), shape=(n, width))
        return sparse.hstack([rows, flag], format="csr", dtype=np.float32)

    wide = with_category(titles, title_category).T.tocsr()
    rows, columns, values = top_products(with_category(queries, line_category), wide, NEIGHBOURS, threads)
    inside = values >= 4.0
    rows, columns = rows[inside], columns[inside]
    return np.split(columns, np.searchsorted(rows, np.arange(1, queries.shape[0])))


def _negatives(
    right: int,
    form: str,
    known: set[int],
    catalog: _Catalog,
    members: np.ndarray,
    passed_over: list[int],
    near: np.ndarray,
    hard: int,
    rng: np.random.Generator,
) -> list[tuple[int, str]] | None:
    """Return three (product position, kind), or None where the part holds too few products."""

    def allowed(product: int) -> bool:
        return product not in known and catalog.twin[product] != catalog.twin[right] and catalog.forms[product] != form

    chosen = [(product, "rejected") for product in passed_over if allowed(product)][:NEGATIVES]
    taken = {product for product, _ in chosen}
    options = [product for product in members[near].tolist() if product not in taken and allowed(product)]
    order = rng.permutation(min(len(options), 3 * NEGATIVES))
    chosen += [(options[i], "hard") for i in order[: max(0, hard - len(chosen))]]
    taken = {product for product, _ in chosen}
    for product in members[rng.integers(0, len(members), 24)].tolist():
        if len(chosen) == NEGATIVES:
            break
        if product not in taken and allowed(product):
            chosen.append((product, "random"))
            taken.add(product)
    if len(chosen) < NEGATIVES:  # a very small part: look at every product once
        for product in rng.permutation(members).tolist():
            if len(chosen) == NEGATIVES:
                break
            if product not in taken and allowed(product):
                chosen.append((product, "random"))
                taken.add(product)
    return chosen if len(chosen) == NEGATIVES else None


def _frame(
    part: str,
    chosen: list[tuple[int, list[tuple[int, str]]]],
    positives: pd.DataFrame,
    catalog: _Catalog,
    right: np.ndarray,
) -> pd.DataFrame:
    rows, products, kinds = [], [], []
    for row, taken in chosen:
        for product, kind in [(int(right[row]), "positive"), *taken]:
            rows.append(row)
            products.append(product)
            kinds.append(kind)
    line_ids = positives["line_id"].astype(str).to_numpy()[rows]
    product_ids = catalog.ids[products]
    ids = [
        hashlib.blake2b(f"{line}\x1f{product}".encode(), digest_size=8).hexdigest()
        for line, product in zip(line_ids, product_ids, strict=True)
    ]
    return pd.DataFrame(
        {
            "pair_id": ids,
            "line_id": line_ids,
            "vendor_id": positives["vendor_id"].astype(str).to_numpy()[rows],
            "split": part,
            "line": positives["vendor_title"].astype(str).to_numpy()[rows],
            "product_id": product_ids,
            "product_title": [catalog.titles[product] for product in products],
            "label": [int(kind == "positive") for kind in kinds],
            "kind": kinds,
        }
    )


def check_pairs(frame: pd.DataFrame, positives: pd.DataFrame) -> list[str]:
    """Return what is wrong with training pairs; empty where nothing is.

    Written apart from `make_pairs`, on plain pandas: proves three negatives to each positive, one positive per line,
    no negative that is a known positive of the line or of an equal line of any vendor or that bears the title of the
    right product, and that no product, vendor, title or line of one part occurs in another. Vendors may be shared
    only where they cannot be kept apart (fewer than three, or one with more than 70 % of the lines).
    """
    from shelfwise.text import normalise

    problems: list[str] = []
    missing = [column for column in PAIR_COLUMNS if column not in frame]
    if missing:
        return [f"columns are missing: {', '.join(missing)}"]
    if frame.empty:
        return ["there are no pairs"]
    if not set(frame["label"]) <= {0, 1} or not set(frame["split"]) <= set(PARTS):
        problems.append("label must be 0 or 1, and split one of train, valid, test")
    if frame["pair_id"].duplicated().any():
        problems.append(f"{int(frame['pair_id'].duplicated().sum())} pair ids occur more than once")
    per_line = frame.groupby("line_id")["label"].agg(["sum", "size"])
    wrong = per_line[(per_line["sum"] != 1) | (per_line["size"] != 4)]
    if len(wrong):
        problems.append(f"{len(wrong)} lines do not have one positive and three negatives, e.g. {wrong.index[0]}")
    if frame.duplicated(["line_id", "product_id"]).any():
        problems.append("a product is paired with one line more than once")

    truth = positives.assign(form=[normalise(t or "") for t in positives["vendor_title"]])
    known = set(zip(truth["form"], truth["product_id"], strict=True))
    line_forms = [normalise(line or "") for line in frame["line"]]
    is_known = np.array([key in known for key in zip(line_forms, frame["product_id"], strict=True)])
    negative = (frame["label"] == 0).to_numpy()
    if (is_known & negative).any():
        problems.append(f"{int((is_known & negative).sum())} negatives are known positives of the same line")
    if (~is_known & ~negative).any():
        problems.append(f"{int((~is_known & ~negative).sum())} positives are not among the labelled positives")
    title_forms = pd.Series([normalise(t or "") for t in frame["product_title"]], index=frame.index)
    right_title = frame["line_id"].map(title_forms[~negative].groupby(frame["line_id"][~negative]).first())
    if ((title_forms == right_title) & negative).any():
        problems.append("a negative bears the same title as the right product")

    counts = positives["vendor_id"].value_counts()
    apart = {"product": frame["product_id"], "title": title_forms, "line": pd.Series(line_forms, index=frame.index)}
    if len(counts) >= 3 and counts.iloc[0] <= 0.7 * counts.sum():
        apart["vendor"] = frame["vendor_id"]
    for what, values in apart.items():
        shared = frame["split"].groupby(values).nunique()
        leaked = shared[shared > 1]
        if len(leaked):
            problems.append(f"{len(leaked)} {what}s occur in more than one split, e.g. {leaked.index[0]!r}")
    return problems


def contradictions(positives: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that were mapped to more than one product, by one vendor or several: labels that cannot all be
    right, the most rows first.

    `positives`: vendor_title, product_id, vendor_id and, where known, product_title. Columns: line (its normal form),
    products (how many), rows, vendors (how many), product_ids and product_titles (joined by " | ").
    """
    frame = pd.DataFrame(
        {
            "line": comparable([str(title) for title in positives["vendor_title"]]),
            "product_id": positives["product_id"].astype(str).to_numpy(),
            "vendor_id": positives["vendor_id"].astype(str).to_numpy(),
            "title": positives["product_title"].astype(str).to_numpy() if "product_title" in positives else "",
        }
    )
    several = frame.groupby("line")["product_id"].transform("nunique") > 1
    torn = frame[several & (frame["line"] != "")].sort_values(["line", "product_id"], kind="stable")
    columns = ["line", "products", "rows", "vendors", "product_ids", "product_titles"]
    if torn.empty:
        return pd.DataFrame(columns=columns)
    out = torn.groupby("line", sort=True).agg(
        products=("product_id", "nunique"), rows=("product_id", "size"), vendors=("vendor_id", "nunique")
    )
    named = torn.drop_duplicates(["line", "product_id"]).groupby("line", sort=True)
    out["product_ids"], out["product_titles"] = named["product_id"].agg(" | ".join), named["title"].agg(" | ".join)
    return out.reset_index().sort_values(["rows", "line"], ascending=[False, True], kind="stable")[columns]
