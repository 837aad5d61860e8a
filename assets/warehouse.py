"""The dbt models as assets: raw tables made clean (`staging`) and made ready for training and reports (`marts`)."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets

from resources.dbt import DbtCli, build, dbt_project
from resources.lake import Lake

PROJECT = dbt_project()


class WarehouseTranslator(DagsterDbtTranslator):
    """How a dbt model becomes an asset: the key and the group come from its schema, the description from its YAML."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] != "model":
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
    """Build, test and publish the selected models."""
    yield from build(context, dbt, lake)
