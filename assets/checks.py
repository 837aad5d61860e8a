"""Asset checks that are not dbt tests: what has to hold before anything downstream may run."""

import dagster as dg
import pandas as pd

from assets.common import clock_metadata, table
from assets.matching import candidate_version
from assets.models import refuse
from resources.lake import Lake
from resources.matching import MatchingConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise.errors import InputError
from shelfwise.promotion.gate import decide_promotion
from shelfwise.timing import DomainClock

INDEX, NAMES = dg.AssetKey(["matching", "catalog_index"]), dg.AssetKey(["matching", "product_names"])


@dg.asset_check(
    asset=["raw", "mappings"],
    blocking=True,
    additional_ins={"products": dg.AssetIn(["raw", "products"])},
    description="Past mappings name products of the catalog; some strangers are set aside, many are an error.",
)
def known_products(mappings: pd.DataFrame, products: pd.DataFrame) -> dg.AssetCheckResult:
    """Compare the two tables that have to belong together."""
    from shelfwise.contract import check_mappings

    try:
        with DomainClock() as clock:
            kept, repairs = check_mappings(mappings, products)
    except InputError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    set_aside = len(mappings) - len(kept)
    return dg.AssetCheckResult(
        passed=set_aside == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(map(str, repairs)) or "every mapping names a product of the catalog",
        metadata={"set_aside": set_aside, **clock_metadata(clock)},
    )


@dg.asset_check(
    asset=["marts", "labelled_positives"],
    blocking=True,
    description="New past mappings do not contradict what the champion is sure of: by them lines are found and learnt.",
)
def plausible_labels(
    labelled_positives: pd.DataFrame, registry: ModelRegistry, matching: MatchingConfig, lake: Lake
) -> dg.AssetCheckResult:
    """Lay mappings that were not there before before the champion. Without one there is nothing to compare with."""
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.plausible import examine, new_labels

    champion, reference = registry.open().alias(TITLE_MATCHER), lake.last_reference(INDEX)
    names = lake.last_table(NAMES)
    if champion is None or reference is None or names is None or names.empty:
        return dg.AssetCheckResult(passed=True, description="no champion yet, so no label can contradict it")
    if reference["champion_id"] != champion.artifact_id:
        return dg.AssetCheckResult(passed=True, description=f"the index is not that of champion {champion.label} yet")
    with DomainClock() as clock:
        new = new_labels(labelled_positives, names)
        index = CatalogIndex.load(lake.fetch(reference["location"]))
        found = examine(new, Matcher.load(lake.fetch(champion.artifact)), index)
    told = {"new_labels": found.new, "sure": found.sure, "contradicted": found.contradicted}
    return dg.AssetCheckResult(
        passed=found.believable or matching.believe_labels,
        description=found.sentence,
        metadata={**told, "examples": table(found.examples, width=200), **clock_metadata(clock)},
    )


@dg.asset_check(
    asset=["matching", "training_pairs"],
    blocking=True,
    additional_ins={"positives": dg.AssetIn(["marts", "labelled_positives"])},
    description="Three negatives to each positive, no negative that is a known positive, nothing of test in train.",
)
def sound_pairs(training_pairs: pd.DataFrame, positives: pd.DataFrame) -> dg.AssetCheckResult:
    """Prove the training pairs with code that is not the code that made them."""
    from shelfwise.matching.pairs import check_pairs

    with DomainClock() as clock:
        problems = check_pairs(training_pairs, positives)
    description = "\n".join(problems) or "ratio, negatives and split are sound"
    metadata = {"problems": len(problems), **clock_metadata(clock)}
    return dg.AssetCheckResult(passed=not problems, description=description, metadata=metadata)


@dg.asset_check(
    asset=["matching", "matcher_evaluation"],
    blocking=True,
    description="The gate: the candidate reaches the floor, beats simple baselines and, line by line, the champion, "
    "and no slice of importance gets worse.",
)
def better_than_champion(
    matcher_evaluation: dict, matching: MatchingConfig, registry: ModelRegistry
) -> dg.AssetCheckResult:
    """Decide whether the candidate may be promoted, and say why; a refusal goes into the registry's history."""
    decision = decide_promotion(matcher_evaluation, matching.rules())
    if not decision.passes:
        versions = registry.open()
        refuse(versions, candidate_version(versions, matcher_evaluation), decision.summary)
    return dg.AssetCheckResult(
        passed=decision.passes,
        description=decision.summary,
        metadata={"outcome": decision.outcome, "gate": table(decision.table(), width=400)},
    )
