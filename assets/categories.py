"""Categories of vendor uploads: one partition per file beside its matches, each checking the other; their queue."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from assets.common import CATALOG_TEAM, float_metadata, picture, table, table_metadata
from assets.uploads import exported, of_all_uploads, upload_files
from resources.classification import ClassificationConfig
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, ModelRegistry
from resources.source import DataDirectory
from shelfwise.timing import DomainClock

if TYPE_CHECKING:
    from shelfwise.classification.pictures import Pictures

MATCHES = dg.AssetKey(["uploads", "upload_matches"])
FEEDBACK = dg.AssetKey(["raw", "category_feedback"])
PRODUCTS, CATEGORIES = dg.AssetKey(["staging", "stg_products"]), dg.AssetKey(["staging", "stg_categories"])


@dg.asset(
    key_prefix="uploads",
    group_name="uploads",
    owners=CATALOG_TEAM,
    kinds={"torch"},
    partitions_def=upload_files,
    ins={"upload_lines": dg.AssetIn(["uploads", "upload_lines"])},
    # Matches and what they are compared by are looked up and may be missing: one failing does not fail the other.
    deps=[MATCHES, PRODUCTS, CATEGORIES, ["classification", "category_champion"]],
    code_version="2",
)
def upload_categories(
    context: dg.AssetExecutionContext,
    upload_lines: pd.DataFrame,
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    classification: ClassificationConfig,
    source: DataDirectory,
    lake: Lake,
) -> dg.MaterializeResult[pd.DataFrame]:
    """The five most probable categories of each line of one upload, by its text and the picture that it names, whether
    the first is assigned, suggested or asked about, and which words spoke for it; made by the category champion and by
    nothing else. A line whose picture cannot be read is answered by its text. A line whose approved match stands under
    another category than the one that would be assigned is flagged (`contradiction`).
    """
    from shelfwise.classification.bulk import as_classes, classify_lines, line_pictures, nothing
    from shelfwise.classification.model import CategoryModel
    from shelfwise.plots import decisions_picture

    champion = registry.open().alias(CATEGORY_ENSEMBLE)
    if champion is None:
        none, why = nothing(), "there is no category champion yet: materialize classification/category_champion"
        return dg.MaterializeResult(value=none, metadata={"skipped": why, **table_metadata(none)})
    matches = lake.last_partition(MATCHES, context.partition_key)
    with DomainClock() as clock, tempfile.TemporaryDirectory() as work:
        model, pictures = CategoryModel.load(lake.fetch(champion.artifact)), None
        if model.image is not None:
            pictures = line_pictures(source.url, upload_lines, classification.side(), Path(work))
        products = as_classes(lake.last_table(PRODUCTS), lake.last_table(CATEGORIES))
        found = classify_lines(model, upload_lines, matches, products, champion.label, monitoring.audit_share, pictures)
        best = found[found["rank"] == 1]
        png = decisions_picture(best["probability"], best["decision"], "Categories of this file")
    shares = best["decision"].value_counts(normalize=True)
    torn = best[best["contradiction"]]
    shown = ["title", "category", "probability", "decision", "explanation"]
    metadata = {
        "champion_version": champion.label,
        "decisions": picture(png, "decisions"),
        "contradictions": len(torn),
        "contradicting": table(torn[["title", "category", "match_category", "match_product_id"]], 20, width=200),
        "compared_with_matches": "none were made" if matches is None else int(best["match_product_id"].notna().sum()),
        **float_metadata({f"{name}_share": shares.get(name, 0.0) for name in ("assign", "suggest", "ask")}),
        "lines": len(best),
        "audited": int(best["audited"].sum()),
        **_picture_metadata(upload_lines, pictures),
        "examples": table(best[shown].head(20), width=300),
        **table_metadata(found, clock),
    }
    return dg.MaterializeResult(value=found, metadata=metadata)


def _picture_metadata(lines: pd.DataFrame, pictures: "Pictures | None") -> dict[str, Any]:
    """How many lines' pictures were looked at, and which could not be read."""
    from shelfwise.classification.bulk import unreadable

    problems = unreadable(lines, pictures)
    return {
        "lines_with_picture": 0 if pictures is None else len(pictures),
        "unreadable_pictures": len(problems),
        "picture_problems": table(problems, 20, width=200),
    }


@dg.asset(
    key_prefix="uploads",
    group_name="uploads",
    owners=CATALOG_TEAM,
    kinds={"csv"},
    ins={"upload_categories": of_all_uploads("upload_categories")},
    deps=[FEEDBACK],  # looked up: nobody may have answered yet
    code_version="1",
)
def category_queue(upload_categories: dict[str, pd.DataFrame], lake: Lake) -> dg.MaterializeResult[pd.DataFrame]:
    """Lines whose category a person has to decide and nobody has answered, over all uploads: those that are suggested
    or asked about, those whose approved match says otherwise, and those that are audited; also as a CSV that is safe
    to open in a spreadsheet. With a column `answer` filled in, `python -m shelfwise.feedback import` takes it back.
    """
    from shelfwise.classification.asking import REASONS, category_lines

    with DomainClock() as clock:
        queue = category_lines(upload_categories, lake.last_table(FEEDBACK))
    return exported(queue, "category_queue", lake, REASONS, len(upload_categories or {}), clock)
