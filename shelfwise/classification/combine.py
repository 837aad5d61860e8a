"""Making a category model of the two champions: what combines them is fitted on what they said of validation listings
before they were fitted on them, with the accuracies that their registered evaluations measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from shelfwise.classification import judge
from shelfwise.classification.decide import GOAL, Thresholds
from shelfwise.classification.ensemble import Ensemble
from shelfwise.classification.listings import labels_of
from shelfwise.classification.model import CategoryModel, text_probabilities
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.matching.guarantee import Goal

if TYPE_CHECKING:
    from shelfwise.classification.pictures import Pictures


def combine(
    directory: Path,
    parts: Mapping[str, Path],
    weights: Mapping[str, float],
    valid: pd.DataFrame,
    pictures: Pictures | None,
    precision: float,
) -> None:
    """Write a category model into a directory.

    `parts`: directories of the classifiers by kind ('text', 'image'); `weights`: their registered accuracies. `valid`:
    labelled listings of that part; `pictures`: of them. `precision`: share of assigned categories that are to be right.
    A classifier of pictures is left out where no listing has one. Raises ValueError where nothing is left.
    """
    loaded = {kind: judge.load(kind, where) for kind, where in parts.items()}
    taxonomy = Taxonomy.of([list(one.classes) for one in loaded.values()])
    p = {}
    for kind, one in loaded.items():
        if kind == judge.TEXT:
            p[kind] = text_probabilities(one.model, valid, taxonomy, unseen=True)
        elif len(judge.with_picture(valid, pictures)):
            p[kind] = one.says(valid, pictures, taxonomy)
    said = p.get(judge.TEXT), p.get(judge.IMAGE)
    truth, groups = taxonomy.truths(labels_of(valid)), valid["group_id"].tolist()
    known = {kind: weights[kind] for kind in p}
    combiner = Ensemble.fit(*said, truth, known, taxonomy.classes, groups)
    evidence, rows, cases = combiner.evidence(*said)
    proven_on = [truth[row] for row in rows], taxonomy, Goal(precision, GOAL.confidence), [groups[row] for row in rows]
    thresholds = Thresholds.fit(evidence, *proven_on, cases)
    about = {
        "method": combiner.method,
        "why": combiner.why,
        "weights": dict(combiner.weights),
        "temperatures": dict(combiner.temperatures),
        "table": list(combiner.table),
        "assigns": thresholds.sentence,
        "listings": len(valid),
    }
    used = {kind: parts[kind] for kind in p}
    CategoryModel.assemble(directory, taxonomy, combiner, thresholds, used, about)
