"""Asset checks that are not dbt tests: what has to hold before anything downstream may run."""

import dagster as dg
import pandas as pd

from assets.common import clock_metadata, table
from assets.matching import candidate_version
from resources.matching import MatchingConfig
from resources.registry import ModelRegistry
from shelfwise.errors import InputError
from shelfwise.matching.gate import decide_promotion
from shelfwise.timing import DomainClock


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
    decision = decide_promotion(matcher_evaluation, matching.gate_floor_top1, matching.gate_margin)
    if not decision.passes:
        versions = registry.open()
        versions.refuse(candidate_version(versions, matcher_evaluation), decision.summary)
    return dg.AssetCheckResult(
        passed=decision.passes,
        description=decision.summary,
        metadata={"outcome": decision.outcome, "gate": table(decision.table(), width=400)},
    )
