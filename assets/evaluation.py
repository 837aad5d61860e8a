"""Where the champion stands: measured again week by week on what has come in since, nothing trained."""

import dagster as dg
import pandas as pd

from assets.common import MATCHING_TEAM, clock_metadata, float_metadata, picture, table
from resources.lake import Lake
from resources.matching import MatchingConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise import clock
from shelfwise.timing import DomainClock

MOST_LINES = 10_000  # that are looked at; a sample of the rest would not change the picture


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=MATCHING_TEAM,
    kinds={"pandas"},
    ins={
        "positives": dg.AssetIn(["marts", "labelled_positives"]),
        "catalog_index": dg.AssetIn(["matching", "catalog_index"]),
    },
    io_manager_key="reference_io",
    code_version="1",
)
def champion_evaluation(
    positives: pd.DataFrame, catalog_index: dict, registry: ModelRegistry, matching: MatchingConfig, lake: Lake
) -> dg.MaterializeResult[dict]:
    """The champion on today's labelled lines of vendors and products it was not trained on, in today's catalog. Its
    numbers are plotted over time; beside them stand those with which it was accepted.
    """
    from shelfwise.matching.evaluate import evaluate
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.promotion import by_source, lines_never_seen, read_trained_on
    from shelfwise.plots import accuracy_picture

    version, policy = registry.open().champion(TITLE_MATCHER), matching.decisions()
    if catalog_index["champion_id"] != version.artifact_id:
        raise dg.Failure(f"the catalog index is not that of {version.label}: materialize matching/catalog_index")
    directory = lake.fetch(version.artifact)
    known = read_trained_on(directory)
    if known is None:
        told = "what it was trained on is not recorded; the next one will say"
        raise dg.Failure(f"champion {version.label} was made by an older version: {told}", allow_retries=False)
    lines = lines_never_seen(positives, known, MOST_LINES)
    if lines.empty:
        told = "every labelled line is of a vendor or product that it was trained on"
        raise dg.Failure(f"nothing to measure champion {version.label} on: {told}", allow_retries=False)
    with DomainClock() as domain:
        champion = Matcher.load(directory, policy=policy)
        index = CatalogIndex.load(lake.fetch(catalog_index["location"]))
        result = evaluate(champion, index, lines, seed=matching.split_seed, baselines=False)
    metrics = {name: value for name, value in result.metrics.items() if value == value}
    accepted = {name: version.metrics[name] for name in ("top1", "top5") if name in version.metrics}
    bars = {"today": metrics} | ({"when accepted": accepted} if accepted else {})
    metadata = {
        "champion_version": version.label,
        **float_metadata({"number": version.version, "lines": len(lines), **metrics}),
        **float_metadata({f"accepted_{name}": value for name, value in accepted.items()}),
        "accuracy": picture(accuracy_picture(bars), "accuracy of the champion"),
        "by_source": table(by_source(lines, result.lines)),
        "slices": table(result.slices, 60),
        **clock_metadata(domain),
    }
    measured = {"champion_version": version.label, "at": clock.now().isoformat(), "lines": len(lines)}
    return dg.MaterializeResult(value={**measured, "metrics": metrics}, metadata=metadata)
