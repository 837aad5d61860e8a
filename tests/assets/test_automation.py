"""What follows by itself, by ticking the conditions: events on an instance, and what is asked for after each.

Assets are not computed here: what they would leave behind is reported to the instance.
"""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from assets.uploads import upload_files
from orchestration.automation import (
    CATEGORIES,
    CATEGORY_CHAMPION,
    CATEGORY_DRIFT,
    CATEGORY_QUEUE,
    CATEGORY_REFERENCE,
    CHAMPION,
    CHAMPION_EVALUATION,
    DRIFT,
    ENSEMBLE,
    ENSEMBLE_EVALUATION,
    EVALUATION,
    FOLLOWS,
    FRESH,
    IMAGE_CHAMPION,
    IMAGE_EVALUATION,
    INDEX,
    LINES,
    MATCHES,
    QUEUE,
    REFERENCE,
    TEXT_CHAMPION,
    TEXT_EVALUATION,
)
from orchestration.definitions import AUTOMATION, assemble, build_definitions
from orchestration.settings import Settings

DEFINITIONS = build_definitions(Settings())
GATE = dg.AssetCheckKey(EVALUATION, "better_than_champion")
GATES = {
    TEXT_EVALUATION: "text_champion", IMAGE_EVALUATION: "image_champion", ENSEMBLE_EVALUATION: "category_champion",
}  # fmt: skip
TOGETHER = {
    ("category_ensemble", None), ("ensemble_evaluation", None), ("category_champion", None),
    ("category_reference", None),
}  # fmt: skip
GOOD, BAD = "acme/good.csv", "acme/bad.csv"
FOLLOWED = {
    ("review_queue", None), ("upload_drift", GOOD), ("upload_categories", GOOD), ("category_drift", GOOD),
}  # fmt: skip
COLLECTED = {("category_queue", None)}  # a tick later, once there are categories


class Conditions:
    """Evaluates the automation conditions tick by tick, as the daemon does."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions = DEFINITIONS) -> None:
        self.instance, self.definitions, self.cursor = instance, definitions, None
        self.graph = definitions.resolve_asset_graph()

    def tick(self, make: bool = True) -> set[tuple[str, str | None]]:
        """Evaluate once; return what was requested. With `make`, what was requested is made at once."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        requested = {
            (key, partition)
            for key in self.graph.get_all_asset_keys()
            for partition in result.get_requested_partitions(key)
        }
        assert len(requested) == result.total_requested
        for key, partition in sorted(requested, key=str) if make else []:
            self.made(key, partition)
        return {(key.path[-1], partition) for key, partition in requested}

    def made(self, key: dg.AssetKey, partition: str | None = None) -> None:
        """What an asset leaves behind when it was made."""
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

    def upload(self, key: str) -> None:
        """A file that was read and matched."""
        self.instance.add_dynamic_partitions("upload_files", [key])
        self.made(LINES, key)
        self.made(MATCHES, key)

    def gate(self, passed: bool, evaluation: dg.AssetKey = EVALUATION, name: str = GATE.name) -> None:
        """An evaluation and what the gate says to it."""
        self.made(evaluation)
        records = self.instance.fetch_materializations(evaluation, limit=1).records
        said = dg.AssetCheckEvaluation(
            asset_key=evaluation,
            check_name=name,
            passed=passed,
            metadata={},
            blocking=True,
            target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
            ),
        )
        self.instance.report_runless_asset_event(said)


@pytest.fixture
def conditions(instance: dg.DagsterInstance) -> Conditions:
    """Everything that is not partitioned was made once, and nothing follows any more."""
    instance.add_dynamic_partitions("upload_files", [GOOD, BAD])
    made = Conditions(instance)
    for key in made.graph.toposorted_asset_keys:
        if made.graph.get(key).is_materializable and not made.graph.get(key).is_partitioned:
            made.made(key)
    made.gate(passed=True)
    made.made(CHAMPION)
    made.made(INDEX)
    made.made(REFERENCE)
    for evaluation, name in GATES.items():
        made.gate(True, evaluation, f"better_than_{name}")
    for key in (TEXT_CHAMPION, IMAGE_CHAMPION, ENSEMBLE):
        made.made(key)
    made.gate(True, ENSEMBLE_EVALUATION, f"better_than_{GATES[ENSEMBLE_EVALUATION]}")
    made.made(CATEGORY_CHAMPION)
    made.made(CATEGORY_REFERENCE)
    while made.tick():
        pass
    return made


# New upload -> its matches (by the sensor's job) -> queue and drift


def test_a_matched_upload_is_followed_by_the_queue_and_its_own_drift_once(conditions: Conditions) -> None:
    conditions.upload(GOOD)
    assert [conditions.tick(), conditions.tick(), conditions.tick()] == [FOLLOWED, COLLECTED, set()]
    conditions.upload(GOOD)
    assert [conditions.tick(), conditions.tick(), conditions.tick()] == [FOLLOWED, COLLECTED, set()]


def test_uploads_of_one_moment_are_one_request_of_the_queue(conditions: Conditions) -> None:
    conditions.upload(GOOD)
    conditions.upload("zeta/more.csv")
    expected = {("review_queue", None)}
    of_each = ("upload_drift", "upload_categories", "category_drift")
    expected |= {(name, key) for name in of_each for key in (GOOD, "zeta/more.csv")}
    assert [conditions.tick(), conditions.tick(), conditions.tick()] == [expected, COLLECTED, set()]


# One bad upload -> all others go on


def test_an_upload_that_was_never_matched_freezes_nothing(conditions: Conditions) -> None:
    for number in range(3):
        conditions.instance.add_dynamic_partitions("upload_files", [f"acme/bad{number}.csv"])
        assert conditions.tick() == set(), "a new partition alone is no reason"
        conditions.upload(GOOD)
        assert [conditions.tick(), conditions.tick()] == [FOLLOWED, COLLECTED]


def test_an_upload_that_failed_freezes_nothing(conditions: Conditions) -> None:
    @dg.asset(key=MATCHES, partitions_def=upload_files)
    def failing() -> None:
        raise dg.Failure("set aside", allow_retries=False)

    run = dg.materialize([failing], partition_key=BAD, instance=conditions.instance, raise_on_error=False)
    assert not run.success
    assert conditions.tick() == set()
    conditions.upload(GOOD)
    assert conditions.tick() == FOLLOWED


def test_the_plain_condition_would_freeze_which_is_why_it_is_not_used(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FOLLOWS, QUEUE, dg.AutomationCondition.eager())
    plain = Conditions(conditions.instance, assemble(Settings()))
    plain.tick()
    plain.upload(GOOD)
    assert plain.tick() == FOLLOWED - {("review_queue", None)}, "and no queue"


# New champion -> catalog index and what uploads are compared with


def test_a_new_champion_is_followed_by_its_index_and_its_reference_once(conditions: Conditions) -> None:
    conditions.made(CHAMPION)
    assert [conditions.tick(), conditions.tick()] == [{("catalog_index", None), ("drift_reference", None)}, set()]


def test_a_training_run_that_made_all_of_it_is_followed_by_nothing(conditions: Conditions) -> None:
    conditions.gate(passed=True)
    for key in (CHAMPION, REFERENCE, INDEX):
        conditions.made(key)
    assert conditions.tick() == set()


def test_a_champion_whose_run_was_killed_is_promoted_after_all(conditions: Conditions) -> None:
    conditions.gate(passed=True)
    whole = {("champion", None), ("catalog_index", None), ("drift_reference", None)}
    assert [conditions.tick(), conditions.tick()] == [whole, set()], "in one run, one after the other"


# Failed gate -> nothing downstream moves


def test_a_failed_gate_moves_nothing(conditions: Conditions) -> None:
    for name in ("training_pairs", "product_names", "title_encoder", "matcher"):
        conditions.made(dg.AssetKey(["matching", name]))
    conditions.gate(passed=False)
    assert [conditions.tick(), conditions.tick(), conditions.tick()] == [set()] * 3


def test_a_gate_that_passes_later_moves_it_then(conditions: Conditions) -> None:
    conditions.gate(passed=False)
    assert conditions.tick() == set()
    conditions.gate(passed=True)
    assert ("champion", None) in conditions.tick()


def test_eager_alone_would_promote_what_the_gate_refused(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FOLLOWS, CHAMPION, dg.AutomationCondition.eager())
    plain = Conditions(conditions.instance, assemble(Settings()))
    plain.tick()
    plain.gate(passed=False)
    assert ("champion", None) in plain.tick()


def test_names_and_products_alone_move_no_index(conditions: Conditions) -> None:
    for key in (["matching", "product_names"], ["staging", "stg_products"], ["raw", "feedback"]):
        conditions.made(dg.AssetKey(key))
    assert conditions.tick() == {("review_queue", None)}, "follow_catalog and take_feedback make the index at their end"


def test_a_new_champion_compares_no_upload_of_the_past_anew(conditions: Conditions) -> None:
    conditions.upload(GOOD)
    conditions.tick()
    conditions.tick()
    conditions.made(CHAMPION)
    asked = conditions.tick() | conditions.tick() | conditions.tick()
    assert asked == {("catalog_index", None), ("drift_reference", None)}


# A classifier's champion -> the ensemble, its evaluation and, behind its gate, the category champion


@pytest.mark.parametrize("champion", [TEXT_CHAMPION, IMAGE_CHAMPION])
def test_a_new_champion_of_either_modality_is_followed_by_the_ensemble_once(
    conditions: Conditions, champion: dg.AssetKey
) -> None:
    conditions.made(champion)
    assert [conditions.tick(), conditions.tick()] == [TOGETHER, set()], "in one run, one after the other"


def test_a_modality_that_was_never_promoted_keeps_no_ensemble_back(instance: dg.DagsterInstance) -> None:
    conditions = Conditions(instance)
    for key in conditions.graph.toposorted_asset_keys:
        group = conditions.graph.get(key).group_name
        if conditions.graph.get(key).is_materializable and group in ("raw", "staging", "marts"):
            conditions.made(key)
    for name in ("listing_pictures", "listing_parts", "text_classifier", "image_classifier"):
        conditions.made(dg.AssetKey(["classification", name]))
    conditions.gate(False, IMAGE_EVALUATION, "better_than_image_champion")
    conditions.tick()
    conditions.gate(True, TEXT_EVALUATION, "better_than_text_champion")
    asked = conditions.tick() | conditions.tick()
    assert {("text_champion", None), ("category_ensemble", None), ("ensemble_evaluation", None)} <= asked
    conditions.gate(True, ENSEMBLE_EVALUATION, "better_than_category_champion")
    asked |= conditions.tick()
    assert ("category_champion", None) in asked
    assert ("image_champion", None) not in asked


@pytest.mark.parametrize("evaluation", list(GATES))
def test_a_classifier_that_its_gate_refuses_is_followed_by_nothing(
    conditions: Conditions, evaluation: dg.AssetKey
) -> None:
    conditions.gate(False, evaluation, f"better_than_{GATES[evaluation]}")
    assert [conditions.tick(), conditions.tick()] == [set(), set()]
    conditions.gate(True, evaluation, f"better_than_{GATES[evaluation]}")
    assert (GATES[evaluation], None) in conditions.tick()


# Lines and matches of an upload -> its categories


def test_categories_follow_the_lines_where_the_matching_failed(conditions: Conditions) -> None:
    conditions.instance.add_dynamic_partitions("upload_files", ["acme/odd.csv"])
    assert conditions.tick() == set(), "a new partition alone is no reason"
    conditions.made(LINES, "acme/odd.csv")
    categories = {("upload_categories", "acme/odd.csv"), ("category_drift", "acme/odd.csv")}
    assert [conditions.tick(), conditions.tick(), conditions.tick()] == [categories, COLLECTED, set()]
    conditions.made(MATCHES, "acme/odd.csv")
    asked = conditions.tick()
    assert ("upload_categories", "acme/odd.csv") in asked, "now there are matches to compare with"
    assert [conditions.tick(), conditions.tick()] == [COLLECTED, set()]


def test_a_new_category_champion_classifies_no_upload_of_the_past_anew(conditions: Conditions) -> None:
    conditions.upload(GOOD)
    conditions.tick()
    conditions.tick()
    conditions.made(CATEGORY_CHAMPION)
    assert [conditions.tick(), conditions.tick()] == [{("category_reference", None)}, set()]


# What is declared


def test_every_key_that_follows_exists_and_no_other_has_a_condition() -> None:
    graph = DEFINITIONS.resolve_asset_graph()
    conditioned = {key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is not None}
    matching = {CHAMPION, INDEX, QUEUE, REFERENCE, DRIFT}
    classifiers = {TEXT_CHAMPION, IMAGE_CHAMPION, ENSEMBLE, ENSEMBLE_EVALUATION, CATEGORY_CHAMPION}
    categories = {CATEGORIES, CATEGORY_QUEUE, CATEGORY_REFERENCE, CATEGORY_DRIFT}
    assert conditioned == set(FOLLOWS) == matching | classifiers | categories


def test_silence_is_noticed_after_a_cycle_and_a_week() -> None:
    graph = DEFINITIONS.resolve_asset_graph()
    fresh = {key: graph.get(key).freshness_policy for key in graph.get_all_asset_keys()}
    wanted = {EVALUATION, CHAMPION, CHAMPION_EVALUATION, TEXT_EVALUATION, CATEGORY_CHAMPION}
    assert {key for key, policy in fresh.items() if policy} == set(FRESH) == wanted
    policy = fresh[EVALUATION]
    assert isinstance(policy, dg.FreshnessPolicy)
    windows = policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta()
    assert [window.days for window in windows] == [35, 42]


def test_a_sensor_evaluates_the_conditions_by_default() -> None:
    sensor = DEFINITIONS.get_repository_def().get_sensor_def(AUTOMATION)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
