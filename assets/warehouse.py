"""The dbt models as assets: raw tables made clean (`staging`) and made ready for training and reports (`marts`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets

from resources.dbt import DbtCli, build, dbt_project
from resources.lake import Lake
from shelfwise.classification.merging import check_mapping
from shelfwise.errors import InputError

PROJECT = dbt_project()
MAPPING = Path("seeds/category_mapping.csv")
READERS_OF_MAPPING = {dg.AssetKey(["raw", "category_mapping"]), dg.AssetKey(["staging", "stg_categories"])}


class WarehouseTranslator(DagsterDbtTranslator):
    """How a dbt model or seed becomes an asset: key and group come from its schema, the description from its YAML."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] not in ("model", "seed"):
            return spec
        return spec.replace_attributes(
            key=dg.AssetKey([node["schema"], node["name"]]),
            group_name=node["schema"],
            owners=["team:data"],
            kinds={"dbt", "duckdb", "parquet"},
            description=node["description"].strip(),
        )


@dbt_assets(
    manifest=PROJECT.manifest_path,
    project=PROJECT,
    dagster_dbt_translator=WarehouseTranslator(DagsterDbtTranslatorSettings(enable_code_references=True)),
    name="warehouse",
)
def warehouse(context: dg.AssetExecutionContext, dbt: DbtCli, lake: Lake) -> Iterator[Any]:
    """Build, test and publish the selected models and seeds."""
    if READERS_OF_MAPPING & context.selected_asset_keys:
        try:
            check_mapping(PROJECT.project_dir / MAPPING)  # dbt's tests would say that there is a chain, not where
        except InputError as error:
            raise dg.Failure(f"Nothing was built:\n{error}", allow_retries=False) from error
    yield from build(context, dbt, lake)
