"""Catalog matching in plain Python: no Dagster anywhere below this package."""
