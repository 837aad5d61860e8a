"""The project's text functions in DuckDB, so that SQL and Python agree about when two titles are equal.

dbt-duckdb loads this module as a plugin (see `dbt_project/profiles.yml`); other connections use `register`.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb.func import PythonUDFType

from shelfwise.text import normalise


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Add `normalise_title(varchar) -> varchar` to a connection. Null stays null."""
    connection.create_function("normalise_title", _normalise_column, ["VARCHAR"], "VARCHAR", type=PythonUDFType.ARROW)


def _normalise_column(titles: pa.ChunkedArray) -> pa.Array:
    """Normal forms of a column of titles, of the same length."""
    values = (None if title is None else normalise(title) for title in titles.to_pylist())
    return pa.array(values, type=pa.string(), size=len(titles))


class Plugin(BasePlugin):
    """What dbt-duckdb looks for in a plugin module."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Called by dbt-duckdb for every database it opens."""
        register(conn)
