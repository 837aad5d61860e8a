"""`make demo`: the whole graph on the built-in catalog, through real Dagster runs, with a summary a person can read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.storage.tags import PARTITION_NAME_TAG

from orchestration.execution import (
    RunOutcome,
    build_job,
    categories_job,
    overhead,
    queue_job,
    run_job,
    tick_uploads_sensor,
    warm_up,
)
from orchestration.settings import Settings, load_settings
from shelfwise.artifacts import atomic_write_json

DEMO_UPLOADS = 2
# Of a size that trains in seconds on two cores; whoever sets his own gets them, and a real training takes the defaults.
SMALL = {
    "SHELFWISE_TEXT_CONFIG": {"architecture": "none"},
    "SHELFWISE_IMAGE_CONFIG": {
        "widths": [32, 64, 128], "depths": [1, 1, 1], "side": 32, "growing": [], "epochs": 14, "batch_size": 32,
        "learning_rate": 6e-3, "averaging": 0.97, "mixing": 0.0, "moving": 0.5, "evaluations": 1,
        "recolouring": 0.0,  # drawn pictures tell categories by their colours
    },
    "SHELFWISE_PICTURE_SIDE": 32,
}  # fmt: skip
TOGETHER = [
    dg.AssetKey(key)
    for key in (
        ["classification", "category_ensemble"],
        ["classification", "ensemble_evaluation"],
        ["classification", "category_champion"],
        ["monitoring", "category_reference"],
    )
]


def main() -> int:
    """Run the demo; return the process's exit status."""
    for name, value in SMALL.items():
        os.environ.setdefault(name, json.dumps(value))
    settings = load_settings()
    if not os.environ.get("DAGSTER_HOME"):
        print("DAGSTER_HOME is not set; `make demo` sets it", file=sys.stderr)
        return 2
    warm_up()
    print(f"Shelfwise on {settings.data_url}\n  lake: {settings.lake_url}\n")
    with dg.DagsterInstance.get() as instance:
        print("1. From raw tables to a champion of matches and one of categories")
        trained = run_job(build_job, instance, {"shelfwise/demo": "train"})
        if "matching/champion" not in trained.metadata:
            return _explain(trained)
        outcomes = [trained]
        if not trained.success:  # a gate that refuses one classifier keeps back neither matches nor the other one
            _say_refused(trained) if _only_refused(trained) else _explain(trained)
            if {"classification/text_champion", "classification/image_champion"} & trained.metadata.keys():
                print("\n   What was promoted is combined, as the daemon would do by itself")
                outcomes.append(run_job(build_job, instance, {"shelfwise/demo": "combine"}, assets=TOGETHER))
        print("\n2. Two vendor files arrive in the uploads folder" if settings.uses_built_in_data else "\n2. Uploads")
        if settings.uses_built_in_data:
            _drop_uploads(Path(settings.data_url))
        uploads = _run_uploads(instance)
        classified = _run_categories(instance)
        queue = run_job(queue_job, instance, {"shelfwise/demo": "queue"})
        outcomes += [*uploads, *classified, queue]
        _summary(settings, instance, outcomes)
        return 0 if all(outcome.success or _only_refused(outcome) for outcome in outcomes) else 1


def _drop_uploads(data: Path) -> None:
    """Copy two of the catalog's vendor files into the uploads folder, as a vendor's transfer would."""
    for file in sorted((data / "vendor_files").glob("*/*.csv"))[:DEMO_UPLOADS]:
        target = data / "uploads" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            # Under a name the sensor ignores until the file is whole; the time of change is the original's.
            partial = target.with_name(f".{target.name}.part")
            shutil.copy2(file, partial)
            partial.rename(target)
        print(f"   {target.relative_to(data)}")


def _run_uploads(instance: dg.DagsterInstance) -> list[RunOutcome]:
    """Tick the sensor until every file is whole (it looks at a file twice) and was run."""
    cursor, outcomes, quiet = None, [], 0
    while quiet < 2:
        cursor, ran, reason = tick_uploads_sensor(instance, cursor)
        outcomes += ran
        if ran:
            quiet = 0
        else:
            quiet += 1
            if reason and quiet == 2:
                print(f"   {reason}")
    return outcomes


def _run_categories(instance: dg.DagsterInstance) -> list[RunOutcome]:
    """Give each upload its categories, as the daemon does once lines and matches are there, where they are older."""
    outcomes = []
    for key in sorted(instance.get_dynamic_partitions("upload_files")):
        lines, done = (_made_at(instance, name, key) for name in ("upload_lines", "upload_categories"))
        if lines is not None and (done is None or done < lines):
            tags = {"shelfwise/demo": "categories", PARTITION_NAME_TAG: key}
            outcomes.append(run_job(categories_job, instance, tags))
    return outcomes


def _made_at(instance: dg.DagsterInstance, name: str, key: str) -> float | None:
    found = _of_upload(instance, name, key)
    return found.timestamp if found else None


def _of_upload(instance: dg.DagsterInstance, name: str, key: str) -> dg.EventLogRecord | None:
    """The latest materialization of an upload's asset."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(["uploads", name]), asset_partitions=[key])
    return next(iter(instance.fetch_materializations(wanted, limit=1).records), None)


def _only_refused(outcome: RunOutcome) -> bool:
    """Whether a run ended because gates refused candidates, which is what gates are for, and for nothing else."""
    return 0 < len(outcome.refusals) == len(outcome.failed_checks) == len(outcome.failures)


def _say_refused(outcome: RunOutcome) -> None:
    print("\n   A gate refused its candidate; what else was made stands:")
    for check in outcome.refusals:
        print(f"   {check}")


def _explain(outcome: RunOutcome) -> int:
    print("\nThe run did not succeed:", file=sys.stderr)
    for line in [*outcome.failed_checks, *outcome.failures]:
        print(f"  {line}", file=sys.stderr)
    print(f"  see run {outcome.run_id} in the UI (make dev)", file=sys.stderr)
    return 1


def _latest(instance: dg.DagsterInstance, *key: str) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey(key))
    found = event.asset_materialization.metadata if event and event.asset_materialization else {}
    return _values(found)


def _metadata_of(record: dg.EventLogRecord | None) -> dict[str, Any]:
    found = record.asset_materialization if record else None
    return _values(found.metadata if found else {})


def _values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in metadata.items()}


def _decisions(evaluation: Mapping[str, Any]) -> str:
    """The policy and what it is worth; a metric that could not be measured is not in `evaluation`."""
    worth = "nothing was approved in the evaluation"
    if "approved_precision" in evaluation:
        settled = evaluation.get("approved_coverage", 0.0)
        worth = f"right {evaluation['approved_precision']:.1%} of the time, settles {settled:.1%} of lines with a match"
    return "\n".join(
        [
            f"Decisions    {evaluation['policy']}: {evaluation['thresholds']}",
            f"   promised  {evaluation['promised']}",
            f"   measured  {worth}",
        ]
    )


def _categories(evaluation: Mapping[str, Any], image: Mapping[str, Any], ensemble: Mapping[str, Any]) -> list[str]:
    """What is said of categories: accuracy of both together and of either alone, and why they are combined so.

    `image`: the image classifier's own evaluation, on listings with a picture: to the others it has nothing to say.
    """
    if "top1" not in evaluation:
        return [f"Categories   none: {evaluation.get('skipped', 'no candidate was measured')}"]
    lines = ["Categories   of listings that no classifier saw (95 % interval of top-1)"]
    rows = [
        ("together", evaluation, ""),
        ("title and description", evaluation, "text_"),
        ("picture, if there is one", image, ""),
        ("most frequent category", evaluation, "majority_"),
    ]
    for label, measured, name in rows:
        if f"{name}top1" in measured:
            top1, top5, low, high = (measured[f"{name}{one}"] for one in ("top1", "top5", "top1_low", "top1_high"))
            lines.append(f"   {label:<26} top-1 {top1:.3f}  top-5 {top5:.3f}  ({low:.3f} to {high:.3f})")
    lines.append(f"   combined  {ensemble['why']}")
    lines.append(f"   sure      {ensemble['assigns']}")
    return lines


def _summary(settings: Settings, instance: dg.DagsterInstance, outcomes: list[RunOutcome]) -> None:
    profile = _latest(instance, "catalog", "product_profile")
    evaluation = _latest(instance, "matching", "matcher_evaluation")
    champion = _latest(instance, "matching", "champion")
    print("\n" + "─" * 78)
    print(
        f"Catalog      {profile['products']:,.0f} products, {profile['categories']:,.0f} categories; "
        f"{profile['mappings']:,.0f} past mappings of {profile['vendors']:,.0f} vendors"
    )
    print(f"Champion     {champion['version']}")
    print("Accuracy     on lines of vendors and products the model never saw (95 % interval of top-1)")
    for name, label in (
        ("", "Shelfwise"),
        ("char_tfidf_", "character n-gram TF-IDF"),
        ("token_jaccard_", "token Jaccard"),
        ("exact_", "exact match"),
    ):
        if f"{name}top1" in evaluation:
            low, high = evaluation.get(f"{name}top1_low"), evaluation.get(f"{name}top1_high")
            interval = f"  ({low:.3f} to {high:.3f})" if low is not None else ""
            top1, top5 = evaluation[f"{name}top1"], evaluation[f"{name}top5"]
            print(f"   {label:<26} top-1 {top1:.3f}  top-5 {top5:.3f}{interval}")
    print(_decisions(evaluation))
    names = ("ensemble_evaluation", "image_evaluation", "category_ensemble")
    categories, image, ensemble = (_latest(instance, "classification", name) for name in names)
    print("\n".join(_categories(categories, image, ensemble)))
    keys = sorted(instance.get_dynamic_partitions("upload_files"))
    width = max(map(len, keys), default=0) + 3
    print(f"{'Uploads':<{width}}{'lines':>7}{'approved':>10}{'review':>9}{'no match':>10}{'category sure':>15}")
    for key in keys:
        found, of_categories = (_of_upload(instance, name, key) for name in ("upload_matches", "upload_categories"))
        if not found:
            print(f"   {key:<{width - 3}}  set aside: see its 'readable' check in the UI")
            continue
        values, share = _metadata_of(found), _metadata_of(of_categories).get("assign_share")
        sure = "–" if share is None else f"{share:.1%}"
        print(
            f"   {key:<{width - 3}}{values['lines']:>7,.0f}{values['approved_share']:>10.1%}"
            f"{values['review_share']:>9.1%}{values['no_match_share']:>10.1%}{sure:>15}"
        )
    # Counted from the start of the process: the imports are part of what a user waits for.
    whole, outside = overhead(outcomes, psutil.Process().create_time())
    print(f"Time         {whole:.0f} s, of it {outside:.0f} s ({outside / whole:.0%}) outside the domain functions")
    print("             (process starts, imports, reading and writing)")
    print("─" * 78)
    print("Next: `make dev` opens the UI on what was made. Drop a CSV file with a `title` column into")
    print(f"      {settings.data_url}/uploads/<your vendor>/ and watch the sensor match it.")
    metrics = {name: value for name, value in evaluation.items() if isinstance(value, float)}
    report = {"seconds": whole, "outside_seconds": outside, "outside_share": outside / whole, "evaluation": metrics}
    report |= {"categories": {name: value for name, value in categories.items() if isinstance(value, float)}}
    atomic_write_json(f"{settings.lake_url}/reports/demo.json", report)


if __name__ == "__main__":
    raise SystemExit(main())
