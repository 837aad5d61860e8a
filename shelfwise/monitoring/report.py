"""Evidently's report of a file, or a week of files, beside the champion's reference.

Evidently draws the distributions and measures how far apart they are; it does not decide. Its methods compare lines
with lines: their p-values take the lines for independent draws, and their distances have fixed thresholds, so that
with either nearly every vendor's file is "drifted", because every vendor writes in a way of its own. The decision is
that of `shelfwise.monitoring.drift`. Here distances are used, and each column's threshold is what the vendor of the
reference that is most unlike the others shows, so that the marks in the report do not contradict the decision more
than they have to.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from shelfwise.monitoring.drift import Reference

NUMERICAL = (
    "title_length", "tokens", "token_length", "digits", "upper", "non_ascii", "price", "unknown_words", "similarity",
    "surroundings", "score", "margin",
)  # fmt: skip
CATEGORICAL = ("unit", "root", "decision")
NUMERICAL_METHOD, CATEGORICAL_METHOD = "wasserstein", "jensenshannon"
DEFAULT_THRESHOLD = 0.1
LEAST_VALUES = 5
TABLE_COLUMNS = ("column", "method", "distance", "threshold", "beyond")
DRAWN = 2_000  # lines on either side: more change neither picture nor distance


def report_columns(described: pd.DataFrame) -> list[str]:
    """Return the columns of a report that have values."""
    return [
        name
        for name in (*NUMERICAL, *CATEGORICAL)
        if name in described and described[name].notna().sum() >= LEAST_VALUES
    ]


def column_distance(reference: pd.Series, current: pd.Series) -> float:
    """Return the distance that Evidently measures: Wasserstein's by the reference's standard deviation of a number,
    Jensen and Shannon's of a category. NaN where either side has too few values.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    reference, current = reference.dropna(), current.dropna()
    if min(len(reference), len(current)) < LEAST_VALUES:
        return float("nan")
    if reference.name in NUMERICAL:
        return float(wasserstein_distance(reference, current) / max(float(np.std(reference)), 0.001))
    both = [side.value_counts(normalize=True) for side in (reference, current)]
    shares = pd.concat(both, axis=1).fillna(0.0).to_numpy()
    return float(np.nan_to_num(jensenshannon(shares[:, 0], shares[:, 1])))


def evidently_report(
    described: pd.DataFrame, reference: Reference, drift_share: float = 0.2
) -> tuple[bytes, pd.DataFrame]:
    """Return (the report as one HTML file that needs no network, a table: column, method, distance, threshold, beyond).

    Takes seconds, most of them for the import of Evidently. Of a file with too few lines the report says only that:
    Evidently divides by the number of columns it can compare.
    """
    columns = [name for name in report_columns(described) if name in report_columns(reference.lines)]
    if not columns:
        said = f"<p>{len(described)} line(s) are too few to compare: no measure has {LEAST_VALUES} values.</p>"
        return said.encode(), pd.DataFrame(columns=pd.Index(TABLE_COLUMNS))
    from evidently import DataDefinition, Dataset, Report

    numerical, categorical = ([name for name in columns if name in some] for some in (NUMERICAL, CATEGORICAL))
    methods: dict[str, Any] = dict.fromkeys(numerical, NUMERICAL_METHOD) | dict.fromkeys(
        categorical, CATEGORICAL_METHOD
    )
    thresholds = {name: reference.thresholds.get(name, DEFAULT_THRESHOLD) for name in columns}
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=categorical)

    def drawn(lines: pd.DataFrame) -> pd.DataFrame:
        some = lines[columns].sample(min(len(lines), DRAWN), random_state=0)
        return some.astype(dict.fromkeys(categorical, str))

    def data(lines: pd.DataFrame) -> Any:
        return Dataset.from_pandas(lines, data_definition=definition)

    current, usual = drawn(described), drawn(reference.lines)
    preset = _overview()(
        columns=columns, drift_share=drift_share, per_column_method=methods, per_column_threshold=thresholds
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # histograms of columns that hold one value
        ran = Report([preset]).run(data(current), data(usual))
    rows = [
        {
            "column": name,
            "method": methods[name],
            "distance": column_distance(usual[name], current[name]),
            "threshold": thresholds[name],
        }
        for name in columns
    ]
    table = pd.DataFrame(rows, columns=pd.Index(TABLE_COLUMNS[:-1]))
    table["beyond"] = table["distance"] > table["threshold"]
    return ran.get_html_str(as_iframe=False).encode(), table


@cache
def _overview() -> Any:
    """Evidently's preset of drift without its metrics of single columns: their pictures, half of the time that a report
    takes, are not shown, as its table draws them anew. Their distances are those of `column_distance`.
    """
    from evidently.presets import DataDriftPreset

    class DriftOverview(DataDriftPreset):
        def generate_metrics(self, context: Any) -> list[Any]:
            return list(super().generate_metrics(context))[:1]

    return DriftOverview
