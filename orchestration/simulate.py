"""`make simulate`: a year of the loop on logical time, through real Dagster runs on a small catalog.

Vendors send files, people answer what is in review, sensors and schedules are ticked at the times at which the daemon
would tick them, and what they ask for is executed. Nothing is done by hand but one rollback, which is an event like the
others: a brand is renamed, a vendor changes its naming, a bad training set is delivered, the data directory is away for
a week. At the end it says of each event whether it was answered as it should be; the exit status says so too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from shelfwise import clock
from shelfwise.artifacts import atomic_write_bytes, atomic_write_json
from shelfwise.simulation import (
    FAILED_TICK,
    RETRAIN,
    SIGNAL,
    STOPPED,
    Happening,
    Story,
    Verdict,
    judge,
    measured,
    people_answer,
    week_of,
)
from shelfwise.synthetic.year import ROLLBACK, Arrival, Year, YearConfig

if TYPE_CHECKING:
    from orchestration.daemon import Daemon, Tick
    from resources.dbt import DbtCli
    from shelfwise.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday, and the anchor of the four-week cycles
ENCODER = {"architecture": "static", "hidden_size": 64, "vocab_size": 3000, "epochs": 3, "num_threads": 2}
SETTINGS = {
    "SHELFWISE_UPLOAD_SETTLE_SECONDS": "0",
    "SHELFWISE_RETRAIN_ANCHOR": START.date().isoformat(),
    "SHELFWISE_ENCODER_CONFIG": json.dumps(ENCODER),
    # A small catalog has too few past lines to prove 99 %.
    "SHELFWISE_PRECISION_TARGET": "0.95",
    "SHELFWISE_AUDIT_SHARE": "0.1",
    "SHELFWISE_FINE_TUNE_ANSWERS": "100000",  # the four-week retrain comes before there are as many
}
# What steps print is not kept, and events go into one file: thousands of runs of a second each would spend a tenth of
# their time on either.
INSTANCE = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir: {home}/history
"""
FOLLOWING = ("rematch_sensor",)


def main(argv: list[str] | None = None) -> int:
    """Run the year; return 0 where every event was answered as it should be."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".simulation", help="made anew; everything lies here")
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--products", type=int, default=2000)
    given = parser.parse_args(argv)
    _fresh(given.folder)
    began = time.monotonic()
    config = YearConfig(weeks=52, products=given.products)
    from orchestration.execution import quiet
    from resources.dbt_server import warm_dbt

    with quiet(print) as say, dg.DagsterInstance.get() as instance, warm_dbt() as dbt, _kept_open(given.folder):
        simulation = Simulation(given.folder, Year(config), instance, say, dbt)
        # What is loaded stays loaded: looking through a gigabyte of it for garbage takes a twentieth of the time.
        gc.freeze()
        gc.set_threshold(100_000, 50, 1000)
        for week in range(given.weeks):
            simulation.live(week)
        verdicts = simulation.verdicts() if given.weeks >= config.weeks else []
    seconds = time.monotonic() - began
    simulation.report(verdicts, seconds)
    for verdict in verdicts:
        print(f"{'✓' if verdict.holds else '✗'} {verdict.event}: {verdict.seen}")
    print(f"{given.weeks} weeks in {seconds:.0f} s; the story is in {given.folder / 'simulation.json'}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _fresh(folder: Path) -> None:
    """Empty the folder and point this process at it: its settings are read once, after this."""
    mark = folder / "simulation.mark"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        sys.exit(f"{folder} holds files and no simulation: it is left as it is")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    mark.touch()
    home = folder / "home"
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + INSTANCE.format(home=home))
    for name in [name for name in os.environ if name.startswith("SHELFWISE_")]:
        del os.environ[name]
    os.environ |= {
        **SETTINGS,
        "DAGSTER_HOME": str(folder / "home"),
        "SHELFWISE_DATA": str(folder / "data"),
        "SHELFWISE_LAKE": str(folder / "lake"),
        clock.VARIABLE: str(folder / "clock"),
    }


@contextmanager
def _kept_open(folder: Path) -> Generator[None]:
    """Keep a connection to each of Dagster's databases: SQLite tidies up whenever the last one is closed, and Dagster
    opens one for each thing that it writes.
    """
    with ExitStack() as stack:
        for path in sorted((folder / "home").rglob("*.db")):
            connection = stack.enter_context(closing(sqlite3.connect(path)))
            connection.execute("select count(*) from sqlite_master").fetchone()
        yield


class Simulation:
    """The distributor, its people, and the daemon, week by week."""

    def __init__(
        self,
        folder: Path,
        year: Year,
        instance: dg.DagsterInstance,
        say: Callable[[str], None],
        dbt: DbtCli,
    ) -> None:
        from orchestration.daemon import Daemon
        from orchestration.definitions import assemble
        from orchestration.settings import load_settings
        from resources.registry import ModelRegistry
        from resources.trainer import InProcessTrainer

        settings = load_settings()
        self.folder, self.year, self.instance, self._say = folder, year, instance, say
        self.data, self.lake = folder / "data", folder / "lake"
        self.daemon: Daemon = Daemon(instance, assemble(settings, trainer=InProcessTrainer(), dbt=dbt))
        self.registry: Registry = ModelRegistry(root=settings.lake_url, uri=settings.registry).open()
        self.story, self.rng = Story(), random.Random(f"{year.config.seed}/people")
        self.truth: dict[tuple[str, int], str] = {}
        self.unmeasured: list[Arrival] = []
        self.answered: set[tuple[str, str]] = set()
        self._told = 0

    def live(self, week: int) -> None:
        """One week, from Monday's deliveries to Friday's looks."""
        began = time.monotonic()
        monday, events = START + timedelta(weeks=week), [one for one in self.year.events if one.week == week]
        away = self._is_away(week)
        self._at(monday, hours=3)
        for event in events:
            self._say(f"week {week:2d}  {event.kind} {event.what}")
        self._deliver(week, away)
        if events and not away:
            self._tick("daily_catalog", monday, hours=4)
        self._tick("retrain_every_four_weeks", monday, hours=6)
        self.daemon.follow(*FOLLOWING)
        if not away:
            self._tick("weekly_evaluation", monday, hours=10)
        if any(event.kind == ROLLBACK for event in events):
            self._roll_back()
        self._at(monday, hours=24 + 9)
        self._arrive(week)
        self._note(self.daemon.tick_sensor("uploads_sensor"), week, "uploads_sensor")
        self.daemon.follow(*FOLLOWING)
        self._measure(week)
        self._at(monday, hours=72 + 15)
        if week % 2:
            self._answer()
        self._note(self.daemon.tick_sensor("feedback_sensor"), week, "feedback_sensor")
        self.daemon.follow(*FOLLOWING)
        self._at(monday, hours=96 + 12)
        if not away:
            asked = self._note(self.daemon.tick_sensor("retrain_sensor"), week, "retrain_sensor")
            if asked.outcomes:
                self.story.happenings.append(Happening(week, RETRAIN, self._cause()))
            self.daemon.follow(*FOLLOWING)
        self._tell(week, time.monotonic() - began)

    # ---- the world ---------------------------------------------------------------------------------------------------

    def _at(self, monday: datetime, hours: float) -> datetime:
        moment = monday + timedelta(hours=hours)
        atomic_write_bytes(self.folder / "clock", moment.isoformat().encode())
        return moment

    def _is_away(self, week: int) -> bool:
        one = self.year.config
        return one.outage <= week < one.outage + one.outage_weeks

    def _deliver(self, week: int, away: bool) -> None:
        """Put the week's catalog and mappings where they are delivered; during the outage there is nothing to see."""
        hidden = self.folder / "data-away"
        if away and self.data.exists():
            self.data.rename(hidden)
        elif not away and hidden.exists():
            hidden.rename(self.data)
        if away:
            return
        for name, frame in (("products", self.year.products(week)), ("mappings", self.year.mappings(week))):
            text = frame.to_csv(index=False).encode()
            path = self.data / f"{name}.csv"
            if not path.exists() or path.read_bytes() != text:
                atomic_write_bytes(path, text)

    def _arrive(self, week: int) -> None:
        """Vendors send their files; what they send during the outage lies there when it is over."""
        folder = (self.folder / "data-away" if self._is_away(week) else self.data) / "uploads"
        for one in self.year.arrivals(week):
            atomic_write_bytes(folder / one.vendor_id / one.file, one.lines.to_csv(index=False).encode())
            self.truth |= {(one.key, row): product for row, product in enumerate(one.truth, start=2)}
            self.unmeasured.append(one)

    def _answer(self) -> None:
        """Every second week people answer what is in review and was not answered before, file by file."""
        from shelfwise.feedback import answers_from_matches, record_answers

        for key in sorted({key for key, _ in self.truth}):
            path = self._matches_path(key)
            if not path.exists():
                continue
            matches = pd.read_parquet(path)
            new = matches[[(key, line) not in self.answered for line in matches["line_id"]]]
            answers = people_answer(new, self.truth, self.rng)
            if answers:
                record_answers(self.lake / "feedback", answers_from_matches(matches, answers, answered_by="ana"))
                self.answered |= {(key, line) for line in answers}

    def _roll_back(self) -> None:
        """The one thing an operator does in this year."""
        config = {"ops": {"roll_back": {"config": {"reason": "the operator tries the way back"}}}}
        self.daemon.run("rollback_champion", config=config)
        self.daemon.follow(*FOLLOWING)

    # ---- what is seen ------------------------------------------------------------------------------------------------

    def _matches_path(self, key: str) -> Path:
        return self.lake / "tables" / "uploads" / "upload_matches" / f"{key}.parquet"

    def _champion(self) -> str:
        version = self.registry.alias("title_matcher")
        return version.label if version else ""

    def _tick(self, schedule: str, monday: datetime, hours: float) -> Tick:
        at = self._at(monday, hours)
        return self._note(self.daemon.tick_schedule(schedule, at), week_of(at, START), schedule)

    def _note(self, tick: Tick, week: int, name: str) -> Tick:
        if tick.error is not None:
            self.story.happenings.append(Happening(week, FAILED_TICK, f"{name}: {tick.error}"))
        for outcome in tick.outcomes:
            if outcome.success or outcome.refusals:
                continue
            kind, why = (STOPPED, outcome.failed_checks) if outcome.failed_checks else ("failed run", outcome.failures)
            self.story.happenings.append(Happening(week, kind, f"{name}: {'; '.join(why[:1])}"))
        return tick

    def _cause(self) -> str:
        runs = self.instance.get_runs(filters=dg.RunsFilter(job_name="train_and_promote"), limit=1)
        return runs[0].tags.get("shelfwise/cause", "")

    def _measure(self, week: int) -> None:
        """Compare what was matched for the first time with the truth."""
        done = [one for one in self.unmeasured if self._matches_path(one.key).exists()]
        self.unmeasured = [one for one in self.unmeasured if one not in done]
        frames = [pd.read_parquet(self._matches_path(one.key)) for one in done]
        self.story.weeks.append(measured(week, self._champion(), frames, self.truth))

    def _tell(self, week: int, seconds: float) -> None:
        """Take over what the registry and the signals say happened, and print the week."""
        from shelfwise.monitoring.signals import read_signals

        history = self.registry.history("title_matcher")
        for one in history[self._told :]:
            at = one["at"] if isinstance(one["at"], datetime) else datetime.fromisoformat(str(one["at"]))
            told = f"{one['version']}: {one['reason']}"
            self.story.happenings.append(Happening(week_of(at, START), str(one["action"]), told))
        self._told = len(history)
        known = {one.what for one in self.story.of(SIGNAL)}
        for signal in read_signals(self.lake):
            told = f"{signal.kind} {signal.cause} ({signal.champion_version}): {signal.detail}"
            if told not in known:
                self.story.happenings.append(Happening(week_of(signal.at, START), SIGNAL, told))
        last = self.story.weeks[-1]
        top1 = "" if last.top1 is None else f"top-1 {last.top1:.3f}, settled {last.settled:.0%}"
        self._say(f"week {week:2d}  {last.champion:<14} {last.files} file(s) {top1}  ({seconds:.0f} s)")
        for one in self.story.happenings:
            if one.week == week:
                self._say(f"         {one.kind}: {one.what[:160]}")

    def verdicts(self) -> list[Verdict]:
        """Say of each planted event whether it was answered as it should be."""
        from shelfwise.feedback import read_feedback

        runs = self.instance.get_runs(filters=dg.RunsFilter(job_name="train_and_promote"))
        cycles = [run.tags["shelfwise/cycle"] for run in runs if "shelfwise/cycle" in run.tags]
        matched = {key for key, _ in self.truth if self._matches_path(key).exists()}
        arrived = {one.key for week in range(self.year.config.weeks) for one in self.year.arrivals(week)}
        taken = pd.read_parquet(self.lake / "tables" / "raw" / "feedback.parquet")
        given = read_feedback(self.lake / "feedback")
        return judge(
            self.year, self.story, sorted(cycles), arrived, matched, set(given["answer_id"]), list(taken["answer_id"])
        )

    def report(self, verdicts: list[Verdict], seconds: float) -> None:
        """Write what was seen, and the picture."""
        from shelfwise.plots import simulation_picture

        told = [vars(verdict) for verdict in verdicts]
        said = {**self.story.to_json(), "verdicts": told, "seconds": seconds}
        atomic_write_json(self.folder / "simulation.json", said)
        planted = [(event.week, event.kind) for event in self.year.events]
        atomic_write_bytes(self.folder / "simulation.png", simulation_picture(self.story, planted))


if __name__ == "__main__":
    raise SystemExit(main())
