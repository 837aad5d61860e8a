"""Write a synthetic catalog as a data directory: whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from shelfwise.synthetic.catalog import SyntheticCatalog
from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.noise import NOISE_RATES
from shelfwise.synthetic.pictures import draw, draw_listing

MANIFEST = "synthetic.json"
# Raise it when the same config would give other files than before.
GENERATOR_VERSION = 3


def write(
    catalog: SyntheticCatalog,
    directory: Path | str,
    uploads_folder: str = "uploads",
    with_truth_column: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write the data directory and return its path.

    Layout: products.csv, mappings.csv, listings.csv, interactions.csv, images/,
    `uploads_folder`/<vendor_id>/<file>.csv; truth/ beside them;
    synthetic.json (config, counts, files) last. Empty tables are not written.
    `with_truth_column` adds product_id to the upload files, "" where a line matches nothing.

    Everything is written into a hidden folder beside the directory and renamed, so a killed process leaves nothing
    half written. A catalog that this function wrote before is replaced; files that others put into it are kept.
    Raises FileExistsError where the directory holds anything but a synthetic catalog.
    """
    target = Path(directory).absolute()
    say = progress or (lambda sentence: None)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    old_files = _files_of_old_catalog(target)
    staging = target.parent / f".{target.name}.{os.getpid()}.tmp"
    staging.mkdir()
    try:
        say(f"writing {target}")
        _write_tables(catalog, staging, uploads_folder, with_truth_column)
        _write_pictures(catalog, staging / "images", say)
        _write_manifest(catalog, staging)
        _keep_foreign_files(target, staging, old_files)
        _swap(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def holds(directory: Path | str, config: SyntheticConfig) -> bool:
    """Whether a directory already holds the whole catalog of this config, made by this version of the generator."""
    try:
        manifest = json.loads((Path(directory) / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    return manifest.get("generator_version") == GENERATOR_VERSION and manifest.get("config") == asdict(config)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _write_tables(catalog: SyntheticCatalog, root: Path, uploads_folder: str, with_truth_column: bool) -> None:
    for name in ("products", "mappings", "listings", "interactions"):
        frame: pd.DataFrame = getattr(catalog, name)
        if len(frame):
            _write_csv(frame, root / f"{name}.csv")
    for name, frame in catalog.truth.items():
        _write_csv(frame, root / "truth" / f"{name}.csv")
    for (vendor_id, file), frame in catalog.uploads.items():
        truth = catalog.upload_truth[vendor_id, file]
        if with_truth_column:
            frame = frame.assign(product_id=truth["product_id"].to_numpy())
        _write_csv(frame, root / uploads_folder / vendor_id / file)
        _write_csv(truth, root / "truth" / "uploads" / vendor_id / file)


def _write_pictures(catalog: SyntheticCatalog, folder: Path, say: Callable[[str], None]) -> None:
    count = len(catalog.pictures) + len(catalog.listing_pictures)
    if not count:
        return
    folder.mkdir()
    say(f"drawing {count:,} pictures")
    seed = catalog.config.seed
    for product_id, category, colour in catalog.pictures.itertuples(index=False):
        (folder / f"{product_id}.jpg").write_bytes(draw(product_id, category, colour, seed))
    images = dict(zip(catalog.listings["listing_id"], catalog.listings["image"], strict=True))
    for listing_id, category, colour, kind in catalog.listing_pictures.itertuples(index=False):
        path = folder.parent / images[listing_id]
        if not path.exists():  # listings without a photo share one placeholder
            path.write_bytes(draw_listing(listing_id, category, colour, kind, seed))


def _write_manifest(catalog: SyntheticCatalog, root: Path) -> None:
    files = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    manifest = {
        "generator_version": GENERATOR_VERSION,
        "config": asdict(catalog.config),
        "counts": catalog.counts(),
        "noise_rates": NOISE_RATES,
        "files": dict(sorted(files.items())),
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _files_of_old_catalog(target: Path) -> set[str]:
    """Return the files of the catalog that is there already; raise where something else is."""
    if not target.exists():
        return set()
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file; the synthetic catalog needs a directory of its own")
    manifest = target / MANIFEST
    if not manifest.exists():
        if any(target.iterdir()):
            raise FileExistsError(
                f"{target} holds files but no {MANIFEST}: it is no synthetic catalog, so it is left as it is"
            )
        return set()
    return {*json.loads(manifest.read_text(encoding="utf-8"))["files"], MANIFEST}


def _keep_foreign_files(target: Path, staging: Path, old_files: set[str]) -> None:
    """Carry over what people put into the old directory, uploads for instance."""
    if not target.exists():
        return
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if path.is_file() and name not in old_files and not (staging / name).exists():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, staging / name)


def _swap(staging: Path, target: Path) -> None:
    """Put the new directory in the place of the old one, which comes back should that fail."""
    if not target.exists():
        os.rename(staging, target)
        return
    aside = target.parent / f".{target.name}.{os.getpid()}.old"
    os.rename(target, aside)
    try:
        os.rename(staging, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside)


def _sweep(target: Path) -> None:
    """Clear away what killed processes left: half-written folders; an old catalog that was moved aside comes back."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        owner, _, suffix = leftover.name.removeprefix(f".{target.name}.").partition(".")
        if suffix not in ("tmp", "old") or not owner.isdigit() or (int(owner) != os.getpid() and _is_alive(int(owner))):
            continue
        if suffix == "old" and not target.exists():
            os.rename(leftover, target)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
