"""What steps print, on S3."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from tests import s3

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "shelfwise-logs"


@dg.job
def talkative() -> None:
    """Its one step prints a line."""

    @dg.op
    def speak() -> None:
        print("four bottles of gin")

    speak()


def test_what_a_step_prints_is_on_s3_for_every_web_server(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3.point_at(s3_url, monkeypatch, BUCKET)
    monkeypatch.setenv("SHELFWISE_LOGS_BUCKET", BUCKET)
    both = (ROOT / "dagster.yaml").read_text() + (ROOT / "deploy" / "compute_logs.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(both)
    try:
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert talkative.execute_in_process(instance=instance).success
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        printed = [client.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode() for key in keys]
        assert any("four bottles of gin" in text for text in printed)
        assert all(key.startswith("shelfwise/compute_logs/") for key in keys)
    finally:
        s3.remove(client, BUCKET)


def test_the_logs_settings_add_to_the_instances_settings_and_change_none() -> None:
    base = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    added = yaml.safe_load((ROOT / "deploy" / "compute_logs.yaml").read_text())
    assert not set(base) & set(added)
