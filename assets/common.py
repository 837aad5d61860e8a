"""What every asset reports in the same way: tables, pictures, time spent in the domain."""

from __future__ import annotations

import base64
import re
from typing import Any

import dagster as dg
import pandas as pd

from shelfwise.timing import DomainClock

DATA_TEAM = ["team:data"]
MATCHING_TEAM = ["team:matching"]
CATALOG_TEAM = ["team:catalog"]


def table_metadata(frame: pd.DataFrame, clock: DomainClock | None = None) -> dict[str, Any]:
    """Row count and column schema under Dagster's reserved keys, and the time the domain took."""
    columns = [dg.TableColumn(name=str(name), type=str(dtype)) for name, dtype in frame.dtypes.items()]
    return {
        "dagster/row_count": len(frame),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns=columns)),
        **(clock_metadata(clock) if clock is not None else {}),
    }


def clock_metadata(clock: DomainClock) -> dict[str, Any]:
    """Seconds inside domain functions, and when (the demo adds them up without counting parallel steps twice)."""
    return {
        "domain_seconds": float(clock.seconds),
        "domain_intervals": dg.MetadataValue.json([list(interval) for interval in clock.intervals]),
    }


def float_metadata(metrics: dict[str, float]) -> dict[str, Any]:
    """Metrics as floats: the UI plots those over time."""
    return {name: dg.MetadataValue.float(float(value)) for name, value in metrics.items()}


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG shown in the UI, carried inside the metadata itself."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pd.DataFrame, limit: int = 50, width: int = 120) -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a Markdown table; cells cannot break out of it, nor become pictures, nor links under
    a text of their own. A cell is cut after `width` characters.
    """

    def cell(value: object) -> str:
        missing = pd.api.types.is_scalar(value) and pd.isna(value)
        text = "" if missing else f"{value:.3f}" if isinstance(value, float) else str(value)
        text = " ".join(text[:width].splitlines()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
        return re.sub(r"([\\|\[\]])", r"\\\1", text)

    header = "| " + " | ".join(map(cell, frame.columns)) + " |"
    rule = "|" + "---|" * len(frame.columns)
    rows = ["| " + " | ".join(map(cell, row)) + " |" for row in frame.head(limit).itertuples(index=False)]
    return dg.MetadataValue.md("\n".join([header, rule, *rows]))
