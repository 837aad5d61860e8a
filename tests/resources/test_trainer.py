"""Trainers run any training module, in a process of its own or in the step's."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources import pipes_entry
from resources.trainer import InProcessTrainer, SubprocessTrainer, Trainer
from shelfwise.training import process

MODULE = "tests.resources.toy_training"


def train(trainer: Trainer, folder: Path, module: str = MODULE) -> tuple[dg.ExecuteInProcessResult, list[float]]:
    seconds: list[float] = []

    @dg.asset
    def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        files = {"rows": folder / "rows.txt", "out": folder / "out"}
        seconds.append(trainer.train(context, module, files))
        return dg.MaterializeResult()

    return dg.materialize([trained], raise_on_error=False), seconds


@pytest.mark.parametrize("trainer", [SubprocessTrainer(), InProcessTrainer()], ids=["subprocess", "in process"])
def test_any_training_module_is_run_with_its_files(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("abc")
    result, seconds = train(trainer, tmp_path)
    assert result.success
    assert seconds == [3.5]
    assert (tmp_path / "out" / "model").read_text() == "ABC"


@pytest.mark.parametrize("trainer", [SubprocessTrainer(), InProcessTrainer()], ids=["subprocess", "in process"])
def test_a_training_that_fails_fails_the_step(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("")
    result, seconds = train(trainer, tmp_path)
    assert not result.success
    assert seconds == []


def test_a_module_that_trains_nothing_is_named() -> None:
    with pytest.raises(ValueError, match=r"shelfwise\.text is not a training"):
        process.training_module("shelfwise.text")


def test_the_shell_around_a_training_prints_outside_dagster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.txt").write_text("abcd")
    files = process.file_arguments({"rows": tmp_path / "rows.txt", "out": tmp_path / "out"})
    assert pipes_entry.main([MODULE, *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "read 4 letters"
    found: dict[str, Any] = json.loads(lines[-1])
    assert found["letters"] == 4
    assert found["train_seconds"] == 2.5


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with process.replaced(out) as staging:
        (staging / "model").write_text("old")
    with pytest.raises(FileNotFoundError), process.replaced(out) as staging:
        (staging / "no folder" / "model").write_text("half")
    assert (out / "model").read_text() == "old"
    with process.replaced(out) as staging:
        (staging / "other").write_text("new")
    assert [path.name for path in out.iterdir()] == ["other"]
