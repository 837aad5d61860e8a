"""Vendor uploads: one partition per file, from the lines in it to matches and the review queue."""

import warnings
from collections.abc import Iterator, Sequence

import dagster as dg
import pandas as pd
from dagster_shared.utils.warnings import PreviewWarning

from assets.common import DATA_TEAM, MATCHING_TEAM, float_metadata, picture, table, table_metadata
from assets.reports import policy_metadata
from resources.lake import Lake
from resources.matching import MatchingConfig
from resources.monitoring import MonitoringConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from resources.source import Uploads
from shelfwise.artifacts import atomic_write_bytes
from shelfwise.contract import parse_upload
from shelfwise.contract.store import set_aside
from shelfwise.errors import InputError
from shelfwise.timing import DomainClock

upload_files = dg.DynamicPartitionsDefinition(name="upload_files")


def check_of_each_file(name: str, asset: list[str], description: str, blocking: bool = False) -> dg.AssetCheckSpec:
    """Declare a check of every upload's own partition. That is a preview feature of Dagster; without it, one bad file
    would paint the whole asset as failed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=upload_files
        )


def of_all_uploads(name: str) -> dg.AssetIn:
    """Declare what was made of every upload as an input, by file; uploads of which it was not made are left out."""
    return dg.AssetIn(
        ["uploads", name],
        metadata={"allow_missing_partitions": True},
        partition_mapping=dg.AllPartitionMapping(),
    )


READABLE = check_of_each_file(
    "readable",
    ["uploads", "upload_lines"],
    "The file could be read by the data contract; if not, says what the vendor has to change.",
    blocking=True,
)


@dg.asset(
    key_prefix="uploads",
    group_name="uploads",
    owners=DATA_TEAM,
    kinds={"csv"},
    partitions_def=upload_files,
    check_specs=[READABLE],
    code_version="2",
)
def upload_lines(
    context: dg.AssetExecutionContext, uploads: Uploads, lake: Lake
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """The lines of one uploaded file. A file that cannot be read is set aside in the lake with the reason, fails its
    own check, and stops nothing else.
    """
    key = context.partition_key
    vendor_id, _, file = key.partition("/")
    data = None
    try:
        with DomainClock() as clock:
            data = uploads.store().read(key)
            upload = parse_upload(data, file, vendor_id)
    except InputError as error:
        place = _keep(lake, key, data, error)
        problems = pd.DataFrame([problem.as_dict() for problem in error.problems])
        yield dg.AssetCheckResult(
            passed=False,
            check_name="readable",
            description=str(error.problems[0]),
            metadata={"problems": table(problems), "set_aside": place},
        )
        # Trying again cannot help: the file has to change, and then it is another upload.
        raise dg.Failure(f"{key} was set aside:\n{error}", allow_retries=False) from error
    repairs = pd.DataFrame([repair.as_dict() for repair in upload.repairs])
    yield dg.MaterializeResult(
        value=upload.frame, metadata={"repairs": table(repairs), **table_metadata(upload.frame, clock)}
    )
    yield dg.AssetCheckResult(passed=True, check_name="readable", metadata={"lines": len(upload.frame)})


def _keep(lake: Lake, key: str, data: bytes | None, error: InputError) -> str:
    """Set a refused file aside and return where. A key that leaves the uploads folder leads nowhere here either."""
    try:
        return str(set_aside(lake.root, key, data, error.problems))
    except InputError:
        return "nothing was kept: the key names no file of the uploads folder"


@dg.asset(
    key_prefix="uploads",
    group_name="uploads",
    owners=MATCHING_TEAM,
    kinds={"faiss", "lightgbm"},
    partitions_def=upload_files,
    ins={
        "upload_lines": dg.AssetIn(["uploads", "upload_lines"]),
        "catalog_index": dg.AssetIn(["matching", "catalog_index"]),
    },
    code_version="3",
)
def upload_matches(
    upload_lines: pd.DataFrame,
    catalog_index: dict,
    registry: ModelRegistry,
    matching: MatchingConfig,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> dg.MaterializeResult[pd.DataFrame]:
    """Candidates, score and decision for each line of one upload, made by the champion and by nothing else. The best
    candidate comes with what agreed and conflicted, and how many points of 100 it moved the score. A share of the
    lines that need no person is drawn for the audit (`audited`).
    """
    from shelfwise.feedback import prediction_ids
    from shelfwise.matching.decisions import audited
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.plots import decisions_picture

    champion, policy = registry.open().champion(TITLE_MATCHER), matching.decisions()
    if catalog_index["champion_id"] != champion.artifact_id:
        raise dg.Failure(
            f"the catalog index is not that of champion {champion.label}: materialize matching/catalog_index"
        )
    with DomainClock() as clock:
        matcher = Matcher.load(lake.fetch(champion.artifact), policy=policy)
        index = CatalogIndex.load(lake.fetch(catalog_index["location"]))
        matches = matcher.match(upload_lines, index, k=matching.candidates, explain=True)
        matches = matches.assign(champion_version=champion.label, audited=audited(matches, monitoring.audit_share))
        matches = matches.assign(prediction_id=prediction_ids(matches))
        best = matches[matches["rank"] == 1]
        png = decisions_picture(best["score"], best["decision"], "Decisions for this file")
    shares = best["decision"].value_counts(normalize=True)
    metadata = {
        "champion_version": champion.label,
        "decisions": picture(png, "decisions"),
        **policy_metadata(matcher),
        **float_metadata({f"{name}_share": shares.get(name, 0.0) for name in ("approved", "review", "no_match")}),
        "lines": len(best),
        "audited": int(best["audited"].sum()),
        "examples": table(best[["title", "product_title", "score", "decision", "why"]].head(20), width=400),
        **table_metadata(matches, clock),
    }
    return dg.MaterializeResult(value=matches, metadata=metadata)


@dg.asset(
    key_prefix="uploads",
    group_name="uploads",
    owners=MATCHING_TEAM,
    kinds={"csv"},
    ins={
        "upload_matches": of_all_uploads("upload_matches"),
        "feedback": dg.AssetIn(["raw", "feedback"]),
    },
    code_version="4",
)
def review_queue(
    upload_matches: dict[str, pd.DataFrame], feedback: pd.DataFrame, lake: Lake
) -> dg.MaterializeResult[pd.DataFrame]:
    """Lines a person has to decide and nobody has answered, over all uploads, the most doubtful first, and among them
    those that are audited; also as a CSV that is safe to open in a spreadsheet.
    """
    from shelfwise.matching.decisions import review_lines

    with DomainClock() as clock:
        queue = review_lines(upload_matches, feedback)
    return exported(queue, "review_queue", lake, ("review", "audit"), len(upload_matches or {}), clock)


def exported(
    queue: pd.DataFrame, name: str, lake: Lake, reasons: Sequence[str], uploads: int, clock: DomainClock
) -> dg.MaterializeResult[pd.DataFrame]:
    """Return a queue, with its lines by reason, and write it to the lake's exports too."""
    from shelfwise.safe_export import to_csv_bytes

    with clock:
        export = to_csv_bytes(queue)
    place = lake.path / "exports" / f"{name}.csv"
    atomic_write_bytes(place, export)
    metadata = {
        "export": dg.MetadataValue.path(str(place)),
        "uploads": uploads,
        **{f"to_{reason}": int((queue["reason"] == reason).sum()) for reason in reasons},
        "first_lines": table(queue, 20, width=400),
        **table_metadata(queue, clock),
    }
    return dg.MaterializeResult(value=queue, metadata=metadata)
