"""Processes that use one registry at once, and are killed: a process of its own, because it forks.

`python -m tests.unit.registry_driver MODE FOLDER N` does N rounds of `kills`, `rivals` or `readers` on a registry below
the folder and prints what it found as JSON; it raises where something is not as it must be.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil

from shelfwise.registry import CHAMPION, PREVIOUS, ModelVersion, Registry, RegistryError
from shelfwise.registry.client import preload

MODEL = "m"
MOVES = ("promoted", "rolled_back")


def register(registry: Registry, artifact_id: str) -> ModelVersion:
    """Register a version of which everything follows from its id, so that a half of one would be found."""
    return registry.register(MODEL, f"/{artifact_id}", artifact_id, metrics_of(artifact_id), {"made_of": artifact_id})


def metrics_of(artifact_id: str) -> dict[str, float]:
    return {f"{artifact_id} {number} {'long' * 20}": number / 7 for number in range(60)}


def check_whole(version: ModelVersion) -> None:
    expected = (f"/{version.artifact_id}", metrics_of(version.artifact_id), {"made_of": version.artifact_id})
    assert (version.artifact, version.metrics, version.lineage) == expected, version.label


def check(registry: Registry) -> tuple[dict[str, int], list[dict]]:
    """What a reader may rely on, whatever was killed."""
    state, versions = registry._state(MODEL), registry.versions(MODEL)
    aliases, history = state.aliases, [asdict(event) for event in state.history]
    by_number = {version.version: version for version in versions}
    assert len({version.artifact_id for version in versions}) == len(versions), "an artifact has two versions"
    for version in versions:
        check_whole(version)
    assert set(aliases.values()) <= set(by_number), aliases
    moves = [event for event in history if event["action"] in MOVES]
    # Each champion took over from the one before: none is missing, none is there twice.
    assert [event["from_version"] for event in moves] == [None, *(event["version"] for event in moves)][: len(moves)]
    assert aliases.get(CHAMPION) == (moves[-1]["version"] if moves else None)
    assert aliases.get(PREVIOUS) == (moves[-1]["from_version"] if moves else None)
    assert aliases.get(CHAMPION) is None or aliases[CHAMPION] != aliases.get(PREVIOUS)
    if moves:
        assert registry.champion(MODEL) == by_number[aliases[CHAMPION]]
    return aliases, history


def forked(work: Callable[[], None]) -> int:
    """Do something in a child; return its process id. The child ends with 1 where it raises."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def kills(folder: Path, rounds: int) -> dict:
    """Kill a process that registers, promotes, refuses and rolls back, at a random moment, again and again."""
    registry, told = Registry(folder / "registry"), folder / "told"
    register(registry, "first")
    told.touch()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        handle = os.open(told, os.O_APPEND | os.O_WRONLY)
        for number in range(1_000):
            current = registry.alias(MODEL)
            expected = current.version if current else None
            version = register(registry, f"{seed:04d}x{number:03d}")
            match dice.choice(["promote", "promote", "rollback", "refuse"]):
                case "promote":
                    registry.promote(version, expected)
                    done = f"promoted {version.version}"
                case "rollback" if registry.alias(MODEL, PREVIOUS):
                    done = f"rolled_back {registry.rollback(MODEL, 'tried').version}"
                case _:
                    registry.challenge(version)
                    registry.refuse(version, f"refused in {seed}")
                    done = f"refused {version.version}"
            if dice.random() < 0.5:
                registry.retain(MODEL, 5)
            os.write(handle, f"{done}\n".encode())

    began = time.process_time()
    registry.promote(register(registry, "second"), None)
    registry.promote(register(registry, "third"), 2)
    pace = (time.process_time() - began) / 2  # of one round of a child's; others use the machine too
    random.seed(13)
    unfinished = 0
    for seed in range(rounds):
        pid = forked(lambda seed=seed: work(seed))
        child, moment = psutil.Process(pid), random.uniform(0, 3) * pace
        while child.status() != psutil.STATUS_ZOMBIE and sum(child.cpu_times()[:2]) < moment:
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the child failed by itself"
        seen = check(registry)
        unfinished += registry._registered(MODEL).intent is not None
        registry.repair(MODEL)
        left = registry._registered(MODEL)
        assert left.intent is None
        assert (left.aliases, [asdict(event) for event in left.history]) == seen, "finishing changed what was seen"
    happened = Counter(f"{event['action']} {event['version']}" for event in check(registry)[1])
    lost = Counter(told.read_text().split("\n")[:-1]) - happened
    assert not lost, f"done, and then forgotten: {lost}"
    return {"events": sum(happened.values()), "unfinished": unfinished, "versions": len(registry.versions(MODEL))}


def rivals(folder: Path, rounds: int) -> dict:
    """Several processes promote at once what they compared with the same champion: one wins, the others are told."""
    registry, size = Registry(folder / "registry"), 4
    registry.promote(register(registry, "first"), None)
    for number in range(rounds):
        current = registry.champion(MODEL)
        candidates = [register(registry, f"{number}of{rival}") for rival in range(size)]
        start, go = os.pipe()

        def work(
            version: ModelVersion, current: ModelVersion = current, start: int = start, number: int = number
        ) -> None:
            os.read(start, 1)
            try:
                registry.promote(version, current.version)
            except RegistryError as error:
                (folder / f"refused {number} {version.version}").write_text(str(error))

        pids = [forked(lambda version=version: work(version)) for version in candidates]
        os.write(go, b"x" * size)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        os.close(start)
        os.close(go)
        refused = {int(path.name.split()[-1]): path.read_text() for path in folder.glob(f"refused {number} *")}
        winner = registry.champion(MODEL)
        assert set(refused) == {version.version for version in candidates} - {winner.version}
        for version in candidates:
            if version != winner:
                told = f"{winner.label} was promoted meanwhile, and {version.label} was compared with {current.label}"
                assert told in refused[version.version]
        assert registry.alias(MODEL, PREVIOUS) == current
        registry.retain(MODEL, 6)
    _, history = check(registry)
    return {"promotions": len(history)}


def readers(folder: Path, rounds: int) -> dict:
    """Processes read while another one promotes, rolls back and deletes old versions."""
    registry, stop = Registry(folder / "registry"), folder / "stop"
    registry.promote(register(registry, "first"), None)
    registry.promote(register(registry, "second"), 1)

    def read(number: int) -> None:
        reads, seen = 0, set()
        while not stop.exists():
            champion = registry.champion(MODEL)
            check_whole(champion)
            aliases, history = registry.aliases(MODEL), registry.history(MODEL)
            assert aliases[CHAMPION] != aliases[PREVIOUS]
            assert len({json.dumps(event) for event in history}) == len(history)
            previous = registry.alias(MODEL, PREVIOUS)
            assert previous is not None
            check_whole(previous)
            reads, seen = reads + 1, seen | {champion.version}
        (folder / f"read {number}").write_text(f"{reads} {len(seen)}")

    pids = [forked(lambda number=number: read(number)) for number in range(2)]
    for number in range(rounds):
        expected = registry.champion(MODEL).version
        if number % 4 == 3:
            registry.rollback(MODEL, "tried", expected)
        else:
            registry.promote(register(registry, f"more{number}"), expected)
        registry.retain(MODEL, 0)
    stop.touch()
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    check(registry)
    told = [path.read_text().split() for path in folder.glob("read *")]
    return {"reads": [int(reads) for reads, _ in told], "champions": [int(seen) for _, seen in told]}


if __name__ == "__main__":
    preload()
    mode, place, times = sys.argv[1:]
    print(json.dumps({"kills": kills, "rivals": rivals, "readers": readers}[mode](Path(place), int(times))))
