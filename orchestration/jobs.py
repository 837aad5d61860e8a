"""Jobs: the selections people, schedules and sensors start."""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from resources.lake import Lake
from resources.registry import CATEGORY_ENSEMBLE, IMAGE_CLASSIFIER, TEXT_CLASSIFIER, TITLE_MATCHER, ModelRegistry
from shelfwise.artifacts import atomic_write_json
from shelfwise.registry import ANY, RegistryError

TRAIN_JOB = "train_and_promote"
FINE_TUNE_JOB = "fine_tune"
CLASSIFY_JOB = "train_classifiers"
BUILD_JOB = "build_everything"
EVALUATE_JOB = "evaluate_champion"
FOLLOW_JOB = "follow_catalog"
CHAMPION_JOB = "follow_champion"
ROLLBACK_JOB = "rollback_champion"
FEEDBACK_JOB = "take_feedback"
UPLOAD_JOB = "match_upload"
CATEGORIES_JOB = "classify_upload"
REMATCH_JOB = "rematch_review"
QUEUE_JOB = "refresh_queues"
STANDING_JOB = "check_uploads"

# By registered model: the asset that says which version is in production.
CHAMPIONS = {
    TITLE_MATCHER: dg.AssetKey(["matching", "champion"]),
    TEXT_CLASSIFIER: dg.AssetKey(["classification", "text_champion"]),
    IMAGE_CLASSIFIER: dg.AssetKey(["classification", "image_champion"]),
    CATEGORY_ENSEMBLE: dg.AssetKey(["classification", "category_champion"]),
}
ENCODER_STEP = "matching__title_encoder"
# Steps that train in a process of their own and tell how far they are.
TRAINING_STEPS = (ENCODER_STEP, "classification__text_classifier", "classification__image_classifier")
UPLOADS_CHECK = dg.AssetCheckKey(dg.AssetKey(["uploads", "review_queue"]), "no_failed_uploads")
HOUR = 3600
# A new champion's index takes a moment: what is matched in between finds that index and champion differ. And a store
# may be away. The sensor asks once per content, so the run itself tries again, four times in four minutes; bad files
# fail without that.
PATIENT = dg.RetryPolicy(max_retries=4, delay=15, backoff=dg.Backoff.EXPONENTIAL)


def _assets(*keys: str) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(key.split("/") for key in keys))


UPLOAD_ASSETS = _assets("uploads/upload_lines", "uploads/upload_matches")
QUEUES = _assets("uploads/review_queue", "uploads/category_queue")
# From the raw listings to the category champion: a job of its own beside `train_and_promote`, on the same cadence. A
# run stops behind a gate that refuses, and neither system should wait for the other's gate; and what asks for a retrain
# in between (drift, live accuracy, answers) asks it of one system.
CLASSIFIERS = _assets("marts/labelled_listings").upstream() | dg.AssetSelection.groups("classification")
# What belongs to one upload, or watches production, is no part of a training; nor is what only the classifiers read.
ONLY_CLASSIFIERS = CLASSIFIERS - dg.AssetSelection.groups("matching", "catalog").upstream()
TRAINING = dg.AssetSelection.all() - dg.AssetSelection.groups("uploads", "monitoring") - ONLY_CLASSIFIERS
INDEX = _assets("matching/product_names", "matching/catalog_index")

# From the raw tables to the champion and its index.
train_and_promote = dg.define_asset_job(
    TRAIN_JOB,
    selection=TRAINING,
    description="Read the data directory, train a matcher, evaluate it, and promote it if the gate lets it pass.",
    tags={"dagster/max_runtime": 6 * HOUR},
)

# The same way to the same gate: only where the encoder begins differs.
fine_tune = dg.define_asset_job(
    FINE_TUNE_JOB,
    selection=TRAINING,
    config={"ops": {ENCODER_STEP: {"config": {"from_champion": True}}}},
    description="As train_and_promote, but the champion's encoder is trained on instead of a new one: shorter, for the "
    "time between two retrains. It passes the same gate.",
    tags={"dagster/max_runtime": 2 * HOUR},
)

train_classifiers = dg.define_asset_job(
    CLASSIFY_JOB,
    selection=CLASSIFIERS,
    description="Read the data directory's listings and pictures, train text and image classifier, promote each that "
    "its gate lets pass, combine the champions, and promote the combination if its gate lets it pass.",
    tags={"dagster/max_runtime": 6 * HOUR},
)

# Both at once, for the first time: one run reads the data once and trains side by side.
build_everything = dg.define_asset_job(
    BUILD_JOB,
    selection=TRAINING | CLASSIFIERS,
    description="train_and_promote and train_classifiers in one run, as `make demo` does.",
    tags={"dagster/max_runtime": 6 * HOUR},
)

CATALOG = _assets("matching/product_names").upstream() | INDEX
# Answers become labelled listings with the next training; nothing in production reads them sooner.
LISTINGS = _assets("marts/labelled_listings")

evaluate_champion = dg.define_asset_job(
    EVALUATE_JOB,
    selection=_assets("monitoring/champion_evaluation", "monitoring/weekly_drift"),
    description="Measure the champion on what is held out today, and the week's inputs beside what it was trained on; "
    "nothing is read anew (`follow_catalog` does that every day), trained or promoted.",
    tags={"dagster/max_runtime": HOUR},
)

follow_catalog = dg.define_asset_job(
    FOLLOW_JOB,
    selection=CATALOG,
    description="Read the data directory and let the champion's index follow what has changed; nothing is trained.",
    tags={"dagster/max_runtime": HOUR},
)

follow_champion = dg.define_asset_job(
    CHAMPION_JOB,
    selection=_assets("matching/catalog_index"),
    description="Make the catalog's index of the champion of today, as after a rollback.",
    tags={"dagster/max_runtime": HOUR},
)

# Answers become names of products at once: what a person corrected is found by that name from then on. The data
# directory is not read again: a vendor's answers should not fail on somebody's half-written products file.
take_feedback = dg.define_asset_job(
    FEEDBACK_JOB,
    selection=_assets("raw/feedback")
    | ((_assets("raw/feedback").downstream() & dg.AssetSelection.groups("staging", "marts")) - LISTINGS)
    | INDEX
    | _assets("raw/category_feedback", "monitoring/live_quality", "monitoring/category_quality"),
    description="Take new answers from the inbox: live quality, labelled lines, names and the champion's index.",
    tags={"dagster/max_runtime": HOUR},
)

# The run is a process of its own already and its steps are short: processes for them would take longer than the work.
match_upload = dg.define_asset_job(
    UPLOAD_JOB,
    selection=UPLOAD_ASSETS,
    executor_def=dg.in_process_executor,
    description="Match one uploaded file with the champion.",
    tags={"dagster/max_runtime": HOUR},
    op_retry_policy=PATIENT,
)

# Not part of match_upload: a run is failed as a whole, and neither categories nor matches may fail the other. Once the
# matches are made, or have failed, it follows by a condition (see `orchestration.automation`).
classify_upload = dg.define_asset_job(
    CATEGORIES_JOB,
    selection=_assets("uploads/upload_categories"),
    executor_def=dg.in_process_executor,
    description="Give the lines of one uploaded file their categories, with the category champion.",
    tags={"dagster/max_runtime": HOUR},
    op_retry_policy=PATIENT,
)

# The lines were read when the file came, and the file may be gone: only the matching is done again.
rematch_review = dg.define_asset_job(
    REMATCH_JOB,
    selection=_assets("uploads/upload_matches"),
    executor_def=dg.in_process_executor,
    description="Match an upload again whose lines still wait in the review queue, with the champion of today.",
    tags={"dagster/max_runtime": HOUR},
    op_retry_policy=PATIENT,
)

refresh_queues = dg.define_asset_job(
    QUEUE_JOB,
    selection=QUEUES,
    executor_def=dg.in_process_executor,
    description="Collect the lines of all uploads that a person has to decide: whose product, and whose category.",
)

check_uploads = dg.define_asset_job(
    STANDING_JOB,
    selection=dg.AssetSelection.checks(UPLOADS_CHECK),
    executor_def=dg.in_process_executor,
    description="List the uploads that are still failed, so that a bad file is not forgotten with its run.",
)


class Rollback(dg.Config):
    """Why, and what: `champion` is the number of the version that should go, so that a run that is started twice does
    not swap the two back; 0 takes whichever is champion. `model`: of which registered model.
    """

    reason: str
    champion: int = 0
    model: str = TITLE_MATCHER


@dg.op
def roll_back(context: dg.OpExecutionContext, config: Rollback, registry: ModelRegistry, lake: Lake) -> None:
    """Put the previous champion back and say so where everything looks that follows the champion."""
    versions, champion = registry.open(), CHAMPIONS.get(config.model)
    if champion is None:
        raise dg.Failure(f"no model {config.model!r}; known are {', '.join(CHAMPIONS)}", allow_retries=False)
    try:
        gone = versions.champion(config.model)
        restored = versions.rollback(config.model, config.reason, config.champion or ANY)
    except RegistryError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    value = {"version": restored.label, "location": restored.artifact, "id": restored.artifact_id}
    atomic_write_json(lake.table_path(champion).with_suffix(".json"), value)
    metadata = {"version": restored.label, "rolled_back_from": gone.label, "reason": config.reason}
    told = f"{restored.label} is champion again, {gone.label} is not: {config.reason}"
    context.log_event(
        dg.AssetMaterialization(
            champion, description=told, metadata=metadata, tags={DATA_VERSION_TAG: restored.artifact_id}
        )
    )
    context.log.info(told)


@dg.job(
    name=ROLLBACK_JOB,
    executor_def=dg.in_process_executor,
    description="Put the previous champion of a model back. A matcher's index and the matches of what is still in "
    "review follow by themselves, the ensemble a classifier. `make rollback REASON=...` does all of it at once.",
)
def rollback_champion() -> None:
    """Roll back; what follows is declared in `orchestration.automation`."""
    roll_back()


JOBS = [
    train_and_promote,
    fine_tune,
    train_classifiers,
    build_everything,
    evaluate_champion,
    follow_catalog,
    follow_champion,
    take_feedback,
    match_upload,
    classify_upload,
    rematch_review,
    refresh_queues,
    check_uploads,
    rollback_champion,
]
# The jobs whose runs make the champion's index.
INDEX_MAKERS = frozenset({TRAIN_JOB, BUILD_JOB, FINE_TUNE_JOB, FOLLOW_JOB, CHAMPION_JOB, FEEDBACK_JOB})
