"""What is left of the loop when its process is killed: `python -m benchmarks.kills [--kills N] [--seed N]`.

On a small synthetic catalog a process lives through one piece of the loop: it ticks the uploads sensor and matches what
has come, takes answers from the inbox, trains and asks the gate, or an operator moves the champion and its index
follows. At a random moment, anywhere in the time that the piece takes undisturbed, it is killed with SIGKILL, with all
its children. What it left is looked at: one champion, which loads; whole tables; a history in which every champion
follows the one before. At the end the killed runs are executed again, as Dagster's run retries do (`dagster.yaml`), and
every upload has to be matched line by line, every answer taken once. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.common import ROOT, about, emit, say

if TYPE_CHECKING:
    import dagster as dg

    from orchestration.daemon import Daemon
    from shelfwise.synthetic.catalog import SyntheticCatalog

ENCODER = {"architecture": "static", "hidden_size": 32, "vocab_size": 1500, "epochs": 8, "num_threads": 1}
SETTINGS = {
    "SHELFWISE_UPLOAD_SETTLE_SECONDS": "0",
    "SHELFWISE_POLICY": "fixed",  # so little data proves nothing
    "SHELFWISE_SPLIT_SEED": "5",
    "SHELFWISE_ENCODER_CONFIG": json.dumps(ENCODER),
    "OMP_NUM_THREADS": "1",
}
LINES = 30
MOVES = ("promoted", "rolled_back")


class Shop:
    """The world outside: a data directory, vendors that send files, and what has to be true of the lake."""

    def __init__(self, folder: Path, catalog: SyntheticCatalog, seed: int) -> None:
        self.folder, self.data, self.lake = folder, folder / "data", folder / "lake"
        self.catalog, self.dice = catalog, random.Random(seed)
        self.sent: dict[str, int] = {}

    def send(self, number: int) -> None:
        """A vendor sends a new file, or an old one again with other lines."""
        from shelfwise.artifacts import atomic_write_bytes

        (vendor, _), lines = self.dice.choice(sorted(self.catalog.uploads.items(), key=lambda item: item[0]))
        again = sorted(self.sent) if self.sent and self.dice.random() < 0.2 else []
        key = self.dice.choice(again) if again else f"{vendor}/file-{number:04d}.csv"
        rows = lines.sample(LINES - number % 7, random_state=number)
        atomic_write_bytes(self.data / "uploads" / key, rows.to_csv(index=False).encode())
        self.sent[key] = len(rows)

    def answer(self, number: int) -> None:
        """A person answers some lines of a matched upload; the ids of answers that were recorded are noted."""
        from shelfwise.feedback import answers_from_matches, record_answers

        matched = sorted((self.lake / "tables" / "uploads" / "upload_matches").glob("*/*.parquet"))
        if not matched:
            return
        matches = pd.read_parquet(self.dice.choice(matched))
        lines = matches["line_id"].drop_duplicates().sample(5, random_state=number)
        best = matches[matches["rank"] == 1].set_index("line_id")["product_id"]
        answers = answers_from_matches(
            matches, {line: best.get(line) for line in lines}, answered_by=f"person {number}"
        )
        record_answers(self.lake / "feedback", answers)
        with (self.folder / "told").open("a") as told:
            told.write("".join(f"{one['answer_id']}\n" for one in answers))


# --- What the processes do ------------------------------------------------------------------------------------------


def uploads(daemon: Daemon) -> None:
    """The uploads sensor and what follows."""
    daemon.tick_sensor("uploads_sensor")
    daemon.follow()


def answers(daemon: Daemon) -> None:
    """The feedback sensor and what follows."""
    daemon.tick_sensor("feedback_sensor")
    daemon.follow()


def training(daemon: Daemon) -> None:
    """A retrain from scratch, its gate, and what follows a new champion."""
    daemon.run("train_and_promote")
    daemon.follow()


def moving(daemon: Daemon) -> None:
    """An operator makes the newest version champion, or goes back to the previous one; the index follows."""
    from resources.registry import TITLE_MATCHER

    registry = _registry()
    current, newest = registry.champion(TITLE_MATCHER), registry.versions(TITLE_MATCHER)[-1]
    if newest.version != current.version:
        registry.promote(newest, current.version, "an operator wants it")
    elif registry.alias(TITLE_MATCHER, "previous") is not None:
        daemon.run("rollback_champion", config={"ops": {"roll_back": {"config": {"reason": "an operator tries it"}}}})
    daemon.follow()


PIECES: dict[str, Callable[[Daemon], None]] = {
    "uploads": uploads,
    "answers": answers,
    "training": training,
    "moving": moving,
}


def _daemon(instance: dg.DagsterInstance) -> Daemon:
    """The loop's daemon; what it trains dies with this process."""
    from orchestration.daemon import Daemon
    from orchestration.definitions import assemble
    from orchestration.settings import load_settings
    from resources.trainer import InProcessTrainer

    return Daemon(instance, assemble(load_settings(), trainer=InProcessTrainer()))


def live(folder: Path, piece: str) -> None:
    """One piece of the loop; first it is noted at which step the process before this one was killed."""
    import dagster as dg

    from orchestration.execution import bury_dead_runs

    with dg.DagsterInstance.get() as instance:
        for run in bury_dead_runs(instance):
            note = {"run": run, "step": _last_step(instance, run)}
            with (folder / "dead").open("a") as dead:
                dead.write(json.dumps(note) + "\n")
        PIECES[piece](_daemon(instance))


def finish(folder: Path) -> None:
    """Execute again what was killed and has not succeeded since, then tick until nothing is left to do."""
    import dagster as dg

    from orchestration.execution import bury_dead_runs

    with dg.DagsterInstance.get() as instance:
        daemon = _daemon(instance)
        dead = [*(note["run"] for note in notes(folder)), *bury_dead_runs(instance)]
        pending = {_what(run): run for run in map(instance.get_run_by_id, dead) if run is not None}
        for what, run in pending.items():
            if not _succeeded_since(instance, what, run):
                daemon.retry(run)
        for _ in range(20):
            ticks = [daemon.tick_sensor("uploads_sensor"), daemon.tick_sensor("feedback_sensor"), daemon.follow()]
            if not any(tick.outcomes for tick in ticks):
                return
    raise RuntimeError("there was no end to it")


def _what(run: dg.DagsterRun) -> tuple[str, str, tuple[str, ...]]:
    """What a run is about: job, partition, assets."""
    chosen = tuple(sorted(key.to_user_string() for key in run.asset_selection or ()))
    return run.job_name, run.tags.get("dagster/partition", ""), chosen


def _succeeded_since(instance: dg.DagsterInstance, what: tuple[str, str, tuple[str, ...]], run: dg.DagsterRun) -> bool:
    import dagster as dg

    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    succeeded = dg.RunsFilter(
        job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS], created_after=record.create_timestamp
    )
    return any(_what(one) == what for one in instance.get_runs(filters=succeeded))


def _last_step(instance: dg.DagsterInstance, run: str) -> str:
    """The step that a run was in when it died, '' where it was between two."""
    import dagster as dg

    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
    seen = [entry.dagster_event for entry in instance.all_logs(run, of_type=kinds)]
    last = seen[-1] if seen else None
    return last.step_key or "" if last and last.event_type == dg.DagsterEventType.STEP_START else ""


# --- What has to be true --------------------------------------------------------------------------------------------


def _registry() -> Any:
    from orchestration.settings import load_settings
    from resources.registry import ModelRegistry

    return ModelRegistry(root=load_settings().lake_url).open()


def examine(folder: Path) -> None:
    """Raise AssertionError where anything is half written or a champion is not the only one."""
    from resources.registry import TITLE_MATCHER
    from shelfwise.artifacts import exists, fetch
    from shelfwise.matching.matcher import Matcher

    registry = _registry()
    champion = registry.champion(TITLE_MATCHER)
    Matcher.load(fetch(champion.artifact))
    moves = [one for one in registry.history(TITLE_MATCHER) if one["action"] in MOVES]
    assert [one["from_version"] for one in moves] == [None, *(one["version"] for one in moves)][: len(moves)], moves
    assert moves[-1]["version"] == champion.version, "the history knows another champion"
    kept = registry.versions(TITLE_MATCHER)
    assert len({one.artifact_id for one in kept}) == len(kept), "an artifact has two versions"
    for one in kept:
        assert exists(one.artifact), f"{one.label} was registered and is not there"
    for path in (folder / "lake" / "tables").rglob("*"):
        if path.suffix == ".parquet" and not path.name.startswith("."):
            pd.read_parquet(path)
        elif path.suffix == ".json" and not path.name.startswith("."):
            reference = json.loads(path.read_text())
            assert "location" not in reference or exists(reference["location"]), f"{path} points nowhere"


def settled(shop: Shop) -> dict[str, int]:
    """Raise AssertionError where an upload was lost or matched by halves, an answer lost or taken twice."""
    tables = shop.lake / "tables"
    for key, rows in shop.sent.items():
        matches = pd.read_parquet(tables / "uploads" / "upload_matches" / f"{key}.parquet")
        assert matches["line_id"].nunique() == rows, f"{key}: {matches['line_id'].nunique()} lines of {rows}"
        assert matches["champion_version"].nunique() == 1, f"{key} was matched by two champions"
    taken = pd.read_parquet(tables / "raw" / "feedback.parquet")["answer_id"]
    assert taken.is_unique, "an answer was taken twice"
    told = set((shop.folder / "told").read_text().split())
    assert told <= set(taken), f"{len(told - set(taken))} answers were lost"
    labelled = pd.read_parquet(tables / "marts" / "labelled_positives.parquet")
    assert labelled["line_id"].is_unique, "a line has two labels"
    return {"uploads": len(shop.sent), "answers": len(taken)}


# --- Killing --------------------------------------------------------------------------------------------------------


def notes(folder: Path) -> list[dict[str, str]]:
    """What was written of runs that died."""
    place = folder / "dead"
    return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []


def forked(folder: Path, *work: Callable[[], None]) -> int:
    """Do one thing after the other in a child, which leads a process group; return its id. It ends with 1 where any of
    it raises.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        for one in work:
            one()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def done(folder: Path, work: Callable[[], None]) -> float:
    """Do something in a child to its end; return the seconds. Raises SystemExit with its log where it fails."""
    began, pid = time.monotonic(), forked(folder, work)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit((folder / "log").read_text()[-6000:])
    return time.monotonic() - began


def killed(folder: Path, work: Sequence[Callable[[], None]], after: float) -> bool:
    """Kill a child and its children after so many seconds; return False where it had ended by itself."""
    pid, began = forked(folder, *work), time.monotonic()
    while time.monotonic() - began < after:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            if status:
                raise SystemExit((folder / "log").read_text()[-6000:])
            return False
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def run(wanted: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    from shelfwise.synthetic import SyntheticConfig, generate, write

    head, began = about("kills"), time.monotonic()
    config = SyntheticConfig(
        n_products=600, n_mappings=1800, n_vendors=24, n_uploads=6, lines_per_upload=60, n_listings=0, seed=5
    )
    catalog = generate(config)
    write(catalog, folder / "data", uploads_folder="vendor_files")
    for name in [name for name in os.environ if name.startswith("SHELFWISE_")]:
        del os.environ[name]
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    places = {"DAGSTER_HOME": home, "SHELFWISE_DATA": folder / "data", "SHELFWISE_LAKE": folder / "lake"}
    os.environ |= {**SETTINGS, **{name: str(place) for name, place in places.items()}}
    _preload()
    shop = Shop(folder, catalog, seed)
    paces: dict[str, float] = {}
    for number, piece in enumerate(["training", "uploads", "answers", "uploads", "moving"]):
        shop.send(number)
        shop.answer(number)
        paces[piece] = done(folder, partial(live, folder, piece))
        say(f"{piece}: {paces[piece]:.1f} s undisturbed")
    counts: Counter[str] = Counter()
    number = kills = 0
    while kills < wanted:
        piece = shop.dice.choices(list(PIECES), [3, 3, 4, 2])[0]
        shop.send(100 + number)
        work = [partial(live, folder, piece)]
        if shop.dice.random() < 0.3:  # the writer of answers is killed too
            work.insert(0, partial(shop.answer, 100 + number))
        else:
            shop.answer(100 + number)
        after = shop.dice.uniform(0.02, 1.0) * paces[piece]
        died = killed(folder, work, after)
        number, kills = number + 1, kills + died
        counts[piece if died else f"{piece}, ended before"] += 1
        done(folder, partial(examine, folder))
        told = "killed" if died else "ended before it could be killed"
        say(f"{kills}/{wanted}: {piece}, {told} at {after:.1f} s")
    done(folder, partial(finish, folder))
    done(folder, partial(examine, folder))
    where = Counter(note["step"] or "between two steps" for note in notes(folder))
    return head | {
        "rounds": number,
        "kills": kills,
        "seed": seed,
        "pieces": dict(counts),
        "in_a_run": sum(where.values()),
        "in_a_tick_or_before": kills - sum(where.values()),
        "steps": dict(where.most_common()),
        "violations": 0,  # each would have ended the benchmark
        **settled(shop),
        "seconds": time.monotonic() - began,
    }


def _preload() -> None:
    """Import what the children need, so that no time of theirs goes into it."""
    for name in ("orchestration.daemon", "resources.trainer", "sentence_transformers", "datasets", "lightgbm"):
        importlib.import_module(name)
    from shelfwise.registry.client import preload

    preload()


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; exit status 1 where anything was lost, doubled or half written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shelfwise-kills-") as folder:
        emit(run(given.kills, given.seed, Path(folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
