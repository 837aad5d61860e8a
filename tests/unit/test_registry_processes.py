"""Many processes on one registry: killed at random, promoting at once, reading all the while."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def drive(mode: str, folder: Path, rounds: int) -> dict:
    command = [sys.executable, "-m", "tests.unit.registry_driver", mode, str(folder), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads(done.stdout)


def test_a_hundred_kills_leave_no_half_version_no_two_champions_and_no_lost_promotion(tmp_path):
    found = drive("kills", tmp_path, 100)
    assert found["events"] > 20
    assert found["unfinished"] > 0, "no kill fell into a change: the test proves nothing"


def test_of_promotions_at_once_one_wins_and_the_others_are_told(tmp_path):
    assert drive("rivals", tmp_path, 10) == {"promotions": 11}


def test_whoever_reads_during_promotions_sees_whole_champions_only(tmp_path):
    found = drive("readers", tmp_path, 25)
    assert min(found["reads"]) > 10
    assert min(found["champions"]) > 3
