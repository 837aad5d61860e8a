"""Raw tables: what the data directory holds, checked against the data contract, and a profile of it."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from assets.common import DATA_TEAM, clock_metadata, float_metadata, picture, table, table_metadata
from resources.lake import Lake
from resources.source import DataDirectory
from shelfwise.artifacts import content_id
from shelfwise.classification.picture_files import with_pictures
from shelfwise.contract import fingerprint, read_table
from shelfwise.feedback import FOLDER, examine, read_inbox
from shelfwise.timing import DomainClock


@dg.asset(key_prefix="raw", group_name="raw", owners=DATA_TEAM, kinds={"csv"}, code_version="1")
def data_directory(source: DataDirectory) -> dg.MaterializeResult:
    """The input by the data contract: a local directory or an s3:// URL (`SHELFWISE_DATA`), by default the built-in
    synthetic catalog, which is made here the first time. Nothing but its files' fingerprints is kept.
    """
    with DomainClock() as clock:
        made = source.ensure()
        files = fingerprint(source.url)
    listing = pd.DataFrame([{"file": name, "etag": etag[:12]} for name, etag in sorted(files.items())])
    metadata = {"location": source.url, "made_now": made, "files": table(listing), **clock_metadata(clock)}
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(content_id(source.url, files)))


def _read(source: DataDirectory, name: str) -> dg.MaterializeResult:
    with DomainClock() as clock:
        read = read_table(source.url, name)
    repairs = pd.DataFrame([repair.as_dict() for repair in read.repairs])
    metadata = {"source": read.source, "repairs": len(read.repairs), **table_metadata(read.frame, clock)}
    if len(repairs):
        metadata["repairs_made"] = table(repairs)
    return dg.MaterializeResult(value=read.frame, metadata=metadata, data_version=dg.DataVersion(read.version))


@dg.asset(
    key_prefix="raw", group_name="raw", owners=DATA_TEAM, kinds={"parquet"}, deps=[data_directory], code_version="1"
)
def products(source: DataDirectory) -> dg.MaterializeResult[pd.DataFrame]:
    """The master catalog as delivered: one row per product, columns and types as the data contract says."""
    return _read(source, "products")


@dg.asset(
    key_prefix="raw", group_name="raw", owners=DATA_TEAM, kinds={"parquet"}, deps=[data_directory], code_version="1"
)
def mappings(source: DataDirectory) -> dg.MaterializeResult[pd.DataFrame]:
    """What people mapped in the past: a vendor's line and the product it is."""
    return _read(source, "mappings")


@dg.asset(
    key_prefix="raw", group_name="raw", owners=DATA_TEAM, kinds={"parquet"}, deps=[data_directory], code_version="2"
)
def listings(source: DataDirectory) -> dg.MaterializeResult[pd.DataFrame]:
    """Labelled listings as delivered: title, description, category path (or several), seller, picture. `image` is the
    file that was named, or else the one in images/ that bears the listing's id. What has neither words nor picture is
    counted and not learned from. Without the table there are no listings, and the catalog's own products stand in for
    them (`marts/labelled_listings`).
    """
    with DomainClock() as clock:
        read = read_table(source.url, "listings")
        frame, by_id = with_pictures(source.url, read.frame)
    repairs = pd.DataFrame([repair.as_dict() for repair in read.repairs])
    silent = frame[["title", "description", "image"]].isna().all(axis=1)
    metadata = {
        "source": read.source,
        "repairs": len(read.repairs),
        "pictures_found_by_id": by_id,
        "without_title": int(frame["title"].isna().sum()),
        "without_words_or_picture": int(silent.sum()),
    }
    if not read.present:
        metadata["stand_in"] = "no listings were given: products of the catalog that have a category stand in for them"
    if len(repairs):
        metadata["repairs_made"] = table(repairs)
    version = dg.DataVersion(content_id(read.version, frame["image"].fillna("").tolist()))
    return dg.MaterializeResult(value=frame, metadata=metadata | table_metadata(frame, clock), data_version=version)


SOUND_FEEDBACK = dg.AssetCheckSpec(
    "sound_feedback",
    asset=["raw", "feedback"],
    description="Files of the inbox that cannot be read, answers naming what is not known, and answers that differ.",
)


@dg.asset(
    key_prefix="raw",
    group_name="raw",
    owners=DATA_TEAM,
    kinds={"parquet"},
    check_specs=[SOUND_FEEDBACK],
    code_version="2",
)
def feedback(lake: Lake) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """Answers people gave to the matcher's proposals, from the lake's inbox; empty until somebody answered. A file
    that cannot be read, or an answer that makes no sense, is named by the check and stops nothing else.
    """
    with DomainClock() as clock:
        inbox = read_inbox(lake.path / FOLDER)
        report = examine(inbox, lake.root)
    yield dg.MaterializeResult(
        value=inbox.frame,
        metadata={"files": inbox.files, "given_again": inbox.repeats, **table_metadata(inbox.frame, clock)},
        data_version=dg.DataVersion(content_id(sorted(inbox.frame["answer_id"]))),
    )
    problems = pd.DataFrame([problem.as_dict() for problem in report.problems])
    yield dg.AssetCheckResult(
        passed=not report.problems and report.contradictions.empty,
        check_name="sound_feedback",
        severity=dg.AssetCheckSeverity.WARN,
        description=report.sentence,
        metadata={
            "problems": table(problems, width=300),
            "contradictions": table(report.contradictions, width=300),
        },
    )


@dg.asset(key_prefix="raw", group_name="raw", owners=DATA_TEAM, kinds={"parquet"}, code_version="1")
def category_feedback(lake: Lake) -> dg.MaterializeResult[pd.DataFrame]:
    """Answers people gave to predicted categories, from the same inbox; empty until somebody answered. What is wrong
    with a file is said by the check of `raw/feedback`.
    """
    with DomainClock() as clock:
        inbox = read_inbox(lake.path / FOLDER)
        answers = inbox.categories
    metadata = {"files": inbox.files, **table_metadata(answers, clock)}
    version = dg.DataVersion(content_id(sorted(answers["answer_id"])))
    return dg.MaterializeResult(value=answers, metadata=metadata, data_version=version)


@dg.asset(
    key_prefix="catalog",
    group_name="catalog",
    owners=DATA_TEAM,
    kinds={"pandas"},
    ins={"products": dg.AssetIn(["raw", "products"]), "mappings": dg.AssetIn(["raw", "mappings"])},
    io_manager_key="reference_io",
    code_version="1",
)
def product_profile(products: pd.DataFrame, mappings: pd.DataFrame) -> dg.MaterializeResult[dict]:
    """Automated exploration of the catalog: counts, missing values, title lengths, tokens and duplicate titles."""
    from shelfwise.plots import profile_picture
    from shelfwise.profile import profile_products

    with DomainClock() as clock:
        profile = profile_products(products, mappings)
        png = profile_picture(profile.series)
    metadata = {
        **float_metadata(profile.numbers),
        "picture": picture(png, "product profile"),
        "frequent_tokens": table(profile.frequent_tokens),
        "same_titles": table(profile.duplicates),
        **clock_metadata(clock),
    }
    return dg.MaterializeResult(value=profile.numbers, metadata=metadata)
