"""The loop on real data: `python -m benchmarks.rounds DATA [--seeds N] [--rounds N] [--fold N] ...`.

DATA holds PriceRunner's `offers.csv`. A few vendors' past mappings make the first champion. Then, round by round, the
next vendors upload: the champion proposes, people's answers (the labels) go into the feedback inbox, and everything
that follows is the project's own graph, run through Dagster in this process: the answers become labelled lines and
names of products, a candidate is trained from scratch on all there is, and the gate decides. Last, a model is trained
on everything at once, as past mappings.

Measured is on lines that no round ever sees, the same all along: all lines of a fifth of the vendors, which never
upload (those that `benchmarks.pricerunner` holds out), and a fifth of each other vendor's lines. In each round: with
the champion as it was (`before`), when its index has learnt the answers as names (`names`: memory, nothing is
trained), and after the gate's decision on the candidate (`after`: that is `names` where it refused). The gate itself
sees none of these lines. What it refused is measured too. Lines are told apart by vendor: those whose answers came in
this round (`now`), those known before (`earlier`), those of which nothing has come in (`others`); and, the same in each
round, by whether they upload at some time (`ever`) or `never`. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import pricerunner
from benchmarks.common import about, emit, peak_mb, say
from shelfwise import clock
from shelfwise.contract import parse_upload
from shelfwise.matching.decisions import APPROVED, REVIEW, audited
from shelfwise.matching.evaluate import DEPTH, intervals, summarise
from shelfwise.text import normalise

if TYPE_CHECKING:
    import dagster as dg

    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

NEVER = -1  # the round of a vendor that never uploads
FILE = "offers.csv"
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
CYCLE = timedelta(weeks=4)
MEASURES = ("top1", "top5", "approved_precision", "approved_coverage")
CHAMPION, INDEX, NAMES = (["matching", name] for name in ("champion", "catalog_index", "product_names"))
GATE = "better_than_champion"


@dataclass(frozen=True)
class Plan:
    """What is released when.

    `products`: product_id, title, category. `lines`: vendor_id, vendor_title, product_id ('' where the catalog lacks
    it), round (of its vendor: 0 for those with past mappings, `NEVER`), test (whether no round ever sees it).
    """

    products: pd.DataFrame
    lines: pd.DataFrame
    rounds: int

    def released(self, *rounds: int) -> pd.DataFrame:
        """Return the lines that come in in these rounds."""
        return self.lines[self.lines["round"].isin(rounds) & ~self.lines["test"]]

    @property
    def test(self) -> pd.DataFrame:
        """The lines that are measured."""
        return self.lines[self.lines["test"]].reset_index(drop=True)

    def groups(self, number: int) -> dict[str, np.ndarray]:
        """Return masks over the test lines by what has come in of their vendors by this round."""
        came = self.test["round"].to_numpy()
        never = came == NEVER
        return {
            "all": np.ones(len(came), bool),
            "now": came == number,
            "earlier": ~never & (came < number),
            "others": never | (came > number),
            "ever": ~never,
            "never": never,
        }


def _draw(seed: int | str, *parts: str) -> str:
    return hashlib.sha256("\x1f".join((str(seed), *parts)).encode()).hexdigest()


def _share_of(keys: Sequence[str], share: float, seed: str) -> np.ndarray:
    """Return a mask: about this share of the distinct keys, by hash, always all entries of a key or none."""
    return np.array([int(_draw(seed, key)[:8], 16) < share * 2**32 for key in keys], dtype=bool)


def deal(lines: pd.Series, rounds: int, openers: int, least: int, seed: int) -> dict[str, int]:
    """Return the round of each vendor: `openers` of those with `least` lines begin, the others follow in rounds of
    about equally many lines, in the order of a seeded hash.

    `lines`: how many lines each vendor has. Where too few have `least` lines, the largest begin.
    """
    order = sorted(lines.index, key=lambda vendor: _draw(seed, "vendor", str(vendor)))
    large = [vendor for vendor in order if lines[vendor] >= least]
    first = large[:openers] if len(large) >= openers else sorted(order, key=lambda v: -lines[v])[:openers]
    later = [vendor for vendor in order if vendor not in first]
    middle = np.cumsum(lines[later].to_numpy()) - lines[later].to_numpy() / 2
    number = np.minimum(middle * rounds // max(lines[later].sum(), 1), rounds - 1).astype(int) + 1
    return dict.fromkeys(first, 0) | dict(zip(later, number.tolist(), strict=True))


def make_plan(
    offers: pd.DataFrame,
    seed: int = 0,
    fold: int = 0,
    rounds: int = 5,
    openers: int = 5,
    least: int = 100,
    held: float = 0.2,
    withheld: float = 0.05,
    share: float = 1.0,
) -> Plan:
    """Return what is released when. The lines that are measured depend on the fold alone, the order on the seed.

    `held`: share of the lines of vendors that upload which are held back, by their normal form, so that a vendor's
    held line is none of those it sends. `withheld`: share of the products that the catalog lacks. `share`: of the
    products there are, for a quick look.
    """
    offers = offers[_share_of(offers["cluster_id"].tolist(), share, "some")] if share < 1 else offers
    gone = _share_of(offers["cluster_id"].tolist(), withheld, "withheld")
    first = offers[~gone].drop_duplicates("cluster_id")
    products = pd.DataFrame(
        {
            "product_id": first["cluster_id"],
            "title": first["cluster_label"].str.split().str.join(" "),
            "category": first["category_label"],
        }
    )
    vendors = offers["vendor_id"]
    never = pricerunner.held_out_vendors(vendors, 0, fold)
    number = deal(vendors[~vendors.isin(never)].value_counts(), rounds, openers, least, seed)
    forms = [f"{v}\x1f{normalise(t)}" for v, t in zip(vendors, offers["product_title"], strict=True)]
    lines = pd.DataFrame(
        {
            "vendor_id": vendors,
            "vendor_title": offers["product_title"],
            "product_id": offers["cluster_id"].where(~gone, ""),
            "round": vendors.map(number).fillna(NEVER).astype(int),
            "test": vendors.isin(never) | _share_of(forms, held, "held"),
        }
    )
    readable = lines["vendor_title"].str.strip() != ""
    return Plan(products.reset_index(drop=True), lines[readable].reset_index(drop=True), rounds)


# ---- the project's graph, in this process ----------------------------------------------------------------------------


@dataclass
class Outcome:
    """What training and the gate came to: whether the candidate was promoted, in whose words, and the comparison."""

    promoted: bool
    version: str
    reason: str
    evaluation: dict[str, Any] = field(default_factory=dict)


class Graph:
    """A data directory, a lake, and the graph over them."""

    def __init__(self, folder: Path, plan: Plan, rounds: Sequence[int], encoder_seed: int):
        """Write the data directory, with the lines of `rounds` as past mappings."""
        from orchestration.definitions import build_definitions
        from orchestration.settings import load_settings

        self.data, self.lake = folder / "data", folder / "lake"
        self.data.mkdir(parents=True)
        self.lake.mkdir()
        plan.products.to_csv(self.data / "products.csv", index=False)
        known = plan.released(*rounds)
        known = known.loc[known["product_id"] != "", ["vendor_id", "vendor_title", "product_id"]]
        known.to_csv(self.data / "mappings.csv", index=False)
        given = load_settings()
        encoder = {**json.loads(given.encoder_config), "seed": encoder_seed}
        changes = {"data": str(self.data), "lake": str(self.lake), "encoder_config": json.dumps(encoder)}
        self.definitions = build_definitions(type(given).model_validate({**given.model_dump(), **changes}))
        assert self.definitions.resources is not None
        resources = (self.definitions.resources[name] for name in ("registry", "matching", "monitoring"))
        self.registry, self.matching, self.monitoring = resources

    def _run(self, selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        import dagster as dg

        found = self.definitions
        everything: list[Any] = [*(found.assets or ()), *(found.asset_checks or ())]
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(
                everything,
                selection=selection,
                resources=found.resources,
                instance=instance,
                raise_on_error=False,
                run_config=quiet,
            )

    def reference(self, *key: str) -> dict[str, Any]:
        """Return the reference an asset gave last, an empty one where it never did."""
        path = self.lake.joinpath("tables", *key).with_suffix(".json")
        return json.loads(path.read_text()) if path.exists() else {}

    def table(self, *key: str) -> pd.DataFrame:
        """Return a table of the lake."""
        return pd.read_parquet(self.lake.joinpath("tables", *key).with_suffix(".parquet"))

    def follow(self) -> None:
        """Let the champion's index follow the answers; nothing is trained. Raises RuntimeError where it cannot."""
        import dagster as dg

        names = dg.AssetSelection.assets(NAMES).upstream()
        ran = self._run(names | dg.AssetSelection.assets(INDEX))
        if not ran.success:
            raise RuntimeError("; ".join(reasons(ran)))

    def learn(self, followed: bool) -> Outcome:
        """Train from scratch on all labelled lines, and let the gate decide.

        `followed`: the tables before the training are those of `follow`. Raises RuntimeError where anything but the
        gate stopped it.
        """
        import dagster as dg

        wanted = dg.AssetSelection.assets(CHAMPION, INDEX).upstream()
        if followed:
            wanted = wanted - dg.AssetSelection.assets(NAMES).upstream()
        before = self._label()
        ran = self._run(wanted)
        gates = [check for check in ran.get_asset_check_evaluations() if check.check_name == GATE]
        if not gates:
            raise RuntimeError("; ".join(reasons(ran)))
        if not ran.success and gates[0].passed:
            raise RuntimeError("; ".join(reasons(ran)))
        after, told = self._label(), self.reference("matching", "matcher_evaluation")
        return Outcome(after != before, after or "", str(gates[0].description), told)

    def _label(self) -> str | None:
        from resources.registry import TITLE_MATCHER

        current = self.registry.open().alias(TITLE_MATCHER)
        return current.label if current else None

    def champion(self) -> tuple[Matcher, CatalogIndex]:
        """Return the champion and the index it searches."""
        from resources.registry import TITLE_MATCHER

        location = self.registry.open().champion(TITLE_MATCHER).artifact
        return self._load(location, self.reference("matching", "catalog_index")["location"])

    def candidate(self) -> tuple[Matcher, CatalogIndex]:
        """Return what was trained last, with the index it would search, whatever the gate said."""
        made = self.reference("matching", "matcher")
        return self._load(made["location"], made["index"]["location"])

    def _load(self, matcher: str, index: str) -> tuple[Matcher, CatalogIndex]:
        from shelfwise.matching.index import CatalogIndex
        from shelfwise.matching.matcher import Matcher

        return Matcher.load(Path(matcher), policy=self.matching.decisions()), CatalogIndex.load(Path(index))

    def answer(self, lines: pd.DataFrame, everything: bool = True) -> dict[str, int]:
        """Let vendors upload, the champion propose, and people answer; return counts.

        `lines`: of the plan, each vendor's make a file. `everything`: people answer every line; else those in
        the review queue, which the audit is part of.
        """
        uploads = []
        for vendor, own in lines.groupby("vendor_id", sort=True):
            sent = pd.DataFrame({"title": own["vendor_title"], "product_id": own["product_id"]})
            uploads.append(parse_upload(sent.to_csv(index=False).encode(), FILE, str(vendor)).frame)
        sent = pd.concat(uploads, ignore_index=True)
        matcher, index = self.champion()
        matches = matcher.match(sent, index, k=self.matching.candidates).assign(champion_version=self._label())
        matches["audited"] = audited(matches, self.monitoring.audit_share)
        best = matches[matches["rank"] == 1].set_index("line_id")
        approved = sent["line_id"].map(best["decision"]) == APPROVED
        right = sent["line_id"].map(best["product_id"]).fillna("") == sent["truth_product_id"]
        asked = (sent["line_id"].map(best["decision"]) == REVIEW) | sent["line_id"].map(best["audited"]) | everything
        record(self.lake / "feedback", sent[asked], matches)
        return {
            "lines": len(sent),
            "vendors": int(sent["vendor_id"].nunique()),
            "answers": int(asked.sum()),
            "approved": int(approved.sum()),
            "approved_right": int((approved & right).sum()),
        }


def record(inbox: Path, lines: pd.DataFrame, matches: pd.DataFrame) -> None:
    """Write the true product of each line into the inbox as a person's answer to its matches, a file for each vendor.

    `lines`: line_id, vendor_id, truth_product_id ('' where the catalog lacks it).
    """
    from shelfwise.feedback import answers_from_matches, record_answers

    proposed = dict(iter(matches.groupby("vendor_id")))
    for vendor, own in lines.groupby("vendor_id", sort=True):
        truth = [product or None for product in own["truth_product_id"]]
        chosen = dict(zip(own["line_id"], truth, strict=True))
        record_answers(inbox, answers_from_matches(proposed[vendor], chosen, answered_by="label"))


def reasons(ran: dg.ExecuteInProcessResult) -> list[str]:
    """Return what failed in a run: checks, then steps, in their own words."""
    told = [f"{c.check_name}: {c.description}" for c in ran.get_asset_check_evaluations() if not c.passed]
    for event in ran.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            words = data.user_failure_data.description if data.user_failure_data else None
            told.append(f"{event.step_key}: {words or data.error_display_string}")
    return told or ["the run failed without saying why"]


@contextmanager
def logical_time(file: Path) -> Generator[Path]:
    """Let this process and its children tell the time from a file; write the time into it to set the clock."""
    former = os.environ.get(clock.VARIABLE)
    os.environ[clock.VARIABLE] = str(file)
    set_clock(file, 0)
    try:
        yield file
    finally:
        del os.environ[clock.VARIABLE]
        if former is not None:
            os.environ[clock.VARIABLE] = former


def set_clock(file: Path, number: int) -> None:
    """Set the clock to a round, four weeks after the one before."""
    file.write_text((START + number * CYCLE).isoformat())


# ---- measuring -------------------------------------------------------------------------------------------------------


def outcomes(matcher: Matcher, index: CatalogIndex, test: pd.DataFrame) -> pd.DataFrame:
    """Return what becomes of each test line, as `shelfwise.matching.evaluate.summarise` wants it."""
    truth = index.positions(test["product_id"].tolist())
    ranked = matcher.rank_lines(test["vendor_title"].tolist(), index, DEPTH)
    top, vendors = ranked.top(DEPTH), test["vendor_id"].tolist()
    hit = (top == truth[:, None]) & (truth >= 0)[:, None]
    return pd.DataFrame(
        {
            "in_catalog": truth >= 0,
            "has_match": truth >= 0,
            "rank": np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0),
            "right": (top[:, 0] == truth) & (truth >= 0),
            "decision": matcher.decide(top[:, 0], ranked.best_score(), vendors, index),
        }
    )


def measured(frame: pd.DataFrame, groups: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return lines with a product, and each of `MEASURES` with its interval, for every group that has lines."""
    out = {}
    for name, inside in groups.items():
        part = frame[inside]
        if not part["in_catalog"].any():
            continue
        found = summarise(part, seed)
        kept = {f"{measure}{end}": found[f"{measure}{end}"] for measure in MEASURES for end in ("", "_low", "_high")}
        out[name] = {"lines": int(part["in_catalog"].sum()), **kept}
    return out


def difference(new: pd.DataFrame, old: pd.DataFrame, inside: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return by how much top-1 and top-5 are higher in `new` than in `old`, of the same lines, with intervals."""
    inside = inside & new["in_catalog"].to_numpy()

    def hits(frame: pd.DataFrame, k: int) -> np.ndarray:
        return frame["rank"].between(1, k).to_numpy(np.float32)

    return intervals({f"top{k}": (hits(new, k) - hits(old, k), inside) for k in (1, 5)}, seed)


def lowered(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the promotions that lowered top-1 or top-5 of all test lines, in words."""
    out = []
    for one in rounds:
        gained = one.get("promotion")
        if one["promoted"] and gained:
            fell = [f"{name} by {-gained[name]:.4f}" for name in ("top1", "top5") if gained[name] < 0]
            out += [f"round {one['round']}: {' and '.join(fell)}"] if fell else []
    return out


def play(plan: Plan, folder: Path, seed: int, everything: bool, time_file: Path) -> dict[str, Any]:
    """Play all rounds, then train on everything at once; return one seed's part of the object."""
    test, rounds, began = plan.test, [], time.monotonic()
    graph = Graph(folder / "rounds", plan, [0], seed)
    set_clock(time_file, 0)
    decided = graph.learn(followed=False)
    if not decided.promoted:
        raise SystemExit(f"no first champion: {decided.reason}")
    now = outcomes(*graph.champion(), test)
    opening = plan.released(0)
    told = {"lines": len(opening), "vendors": int(opening["vendor_id"].nunique()), "answers": 0}
    groups = plan.groups(0)
    rounds.append(_round(0, told, graph, decided, began) | {"after": measured(now, groups)})
    _say(rounds[-1])
    for number in range(1, plan.rounds + 1):
        began, groups = time.monotonic(), plan.groups(number)
        set_clock(time_file, number)
        told = graph.answer(plan.released(number), everything)
        graph.follow()
        names = outcomes(*graph.champion(), test)
        decided = graph.learn(followed=True)
        candidate = outcomes(*graph.candidate(), test)
        after = candidate if decided.promoted else names
        rounds.append(
            _round(number, told, graph, decided, began)
            | {"before": measured(now, groups), "names": measured(names, groups), "after": measured(after, groups)}
            | {"candidate": measured(candidate, groups), "promotion": difference(candidate, names, groups["all"])}
        )
        now = after
        _say(rounds[-1])
    say("everything at once")
    began, groups = time.monotonic(), plan.groups(plan.rounds)
    whole = Graph(folder / "once", plan, range(plan.rounds + 1), seed)
    decided = whole.learn(followed=False)
    once = outcomes(*whole.candidate(), test)
    told = {"answers": 0, "lines": len(plan.released(*range(plan.rounds + 1)))}
    return {
        "seed": seed,
        "rounds": rounds,
        "once": _round(plan.rounds, told, whole, decided, began) | {"after": measured(once, groups)},
        "behind": {name: difference(once, now, inside) for name, inside in groups.items() if inside.any()},
        "lowered": lowered(rounds),
    }


def _round(number: int, told: Mapping[str, int], graph: Graph, decided: Outcome, began: float) -> dict[str, Any]:
    evaluation = decided.evaluation
    kept = ("about", "paired", "compared", "champion_version")
    gate = {name: evaluation[name] for name in kept if name in evaluation}
    gate |= {part: _top(evaluation.get(part)) for part in ("metrics", "champion_metrics")}
    positives = graph.table("marts", "labelled_positives")
    pairs = graph.table("matching", "training_pairs")
    return {
        "round": number,
        **told,
        "promoted": decided.promoted,
        "version": decided.version,
        "reason": decided.reason,
        "gate": gate,
        "labelled": len(positives),
        "split": {str(part): int(n) for part, n in pairs.loc[pairs["label"] == 1, "split"].value_counts().items()},
        "seconds": time.monotonic() - began,
    }


def _top(metrics: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if metrics is None else {name: metrics[name] for name in ("top1", "top5", "mrr") if name in metrics}


def _say(one: Mapping[str, Any]) -> None:
    def shown(stage: str) -> str:
        found = one.get(stage, {}).get("all")
        return f"{found['top1']:.4f}/{found['top5']:.4f}" if found else "–"

    words = "promoted" if one["promoted"] else f"refused ({one['reason']})"
    stages = ", ".join(f"{stage} {shown(stage)}" for stage in ("before", "names", "candidate", "after"))
    say(f"round {one['round']}: {one['labelled']:,} labelled lines; {stages}; {words}; {one['seconds']:.0f} s")


def worst(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how far the last champion is behind in the seed where it is furthest, and every promotion that lowered."""
    behind = {name: max(part["behind"]["all"][name] for part in parts) for name in ("top1", "top5")}
    return {
        "behind_top1": behind["top1"],
        "behind_top5": behind["top5"],
        "lowered": [f"seed {part['seed']}, {words}" for part in parts for words in part["lowered"]],
    }


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head, offers, parts = about("rounds"), pricerunner.read_offers(given.data), []
    options = {name: getattr(given, name) for name in ("fold", "rounds", "openers", "least", "withheld", "share")}
    plan = make_plan(offers, 0, **options)
    with logical_time(work / "clock") as time_file:
        for seed in range(given.seeds):
            say(f"seed {seed}")
            plan = make_plan(offers, seed, **options)
            parts.append(play(plan, work / f"seed-{seed}", seed, given.answers == "all", time_file))
    test = plan.test
    counts = {
        "products": len(plan.products),
        "test_lines": int((test["product_id"] != "").sum()),
        "test_lines_without_product": int((test["product_id"] == "").sum()),
        "never_vendors": int(test.loc[test["round"] == NEVER, "vendor_id"].nunique()),
        "vendors": int(plan.lines["vendor_id"].nunique()),
    }
    return head | options | counts | {"answers": given.answers, "seeds": parts} | worst(parts) | {"peak_mb": peak_mb()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with offers.csv")
    parser.add_argument("--seeds", type=int, default=1, help="orders of the vendors, and seeds of the encoder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fold", type=int, default=0, help="which fifth of the vendors never uploads, 0 to 4")
    parser.add_argument("--openers", type=int, default=5, help="vendors with past mappings")
    parser.add_argument("--least", type=int, default=100, help="lines that an opener has at least")
    parser.add_argument("--withheld", type=float, default=0.05, help="share of the products that the catalog lacks")
    parser.add_argument("--share", type=float, default=1.0, help="share of the products there are, for a quick look")
    parser.add_argument(
        "--answers",
        choices=["all", "reviewed"],
        default="all",
        help="reviewed: only lines of the review queue are answered, those drawn for the audit among them",
    )
    parser.add_argument("--work", type=Path, help="keep data directories and lakes here")
    given = parser.parse_args(argv)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
        emit(run(given, given.work.resolve()))
        return 0
    with tempfile.TemporaryDirectory(prefix="shelfwise-rounds-") as scratch:
        emit(run(given, Path(scratch)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
