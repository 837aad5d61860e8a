"""`make pictures`: the README's pictures, drawn from the definitions and from the latest materializations."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.settings import PROJECT_ROOT, Settings
from shelfwise.plots import Node, lineage_picture

FOLDER = PROJECT_ROOT / "docs"
# Where each picture stands in the metadata of an asset's latest materialization.
TAKEN = {
    "accuracy.png": (("matching", "matcher_evaluation"), "accuracy"),
    "precision_coverage.png": (("matching", "matcher_evaluation"), "precision_against_coverage"),
    "training.png": (("matching", "title_encoder"), "curve"),
    "categories.png": (("classification", "ensemble_evaluation"), "seen"),
    "calibration.png": (("classification", "ensemble_evaluation"), "calibration"),
    "confusion.png": (("classification", "ensemble_evaluation"), "confusion"),
    "decisions.png": (("uploads", "upload_matches"), "decisions"),
    "profile.png": (("catalog", "product_profile"), "picture"),
}


def lineage_nodes(definitions: dg.Definitions) -> list[Node]:
    """Every asset with its group and what it is made from."""
    graph = definitions.get_repository_def().asset_graph
    return [
        Node(
            name="/".join(key.path),
            group=graph.get(key).group_name or "",
            parents=tuple("/".join(parent.path) for parent in graph.get(key).parent_keys),
        )
        for key in sorted(graph.materializable_asset_keys, key=str)
    ]


def main() -> None:
    """Write the pictures that can be made now; say which could not."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "lineage.png").write_bytes(lineage_picture(lineage_nodes(build_definitions(Settings()))))
    print("docs/lineage.png")
    with dg.DagsterInstance.get() as instance:
        for name, (key, entry) in TAKEN.items():
            png = _latest_picture(instance, dg.AssetKey(key), entry)
            if png is None:
                print(f"docs/{name}: {'/'.join(key)} was not materialized yet")
                continue
            Path(FOLDER / name).write_bytes(png)
            print(f"docs/{name}")
    year = PROJECT_ROOT / ".simulation" / "simulation.png"
    if year.exists():
        (FOLDER / year.name).write_bytes(year.read_bytes())
    print(f"docs/{year.name}" + ("" if year.exists() else ": `make simulate` was not run yet"))


def _latest_picture(instance: dg.DagsterInstance, key: dg.AssetKey, entry: str) -> bytes | None:
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return None
    value = event.asset_materialization.metadata.get(entry)
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", str(getattr(value, "value", "")))
    return base64.b64decode(found.group(1)) if found else None


if __name__ == "__main__":
    main()
