"""The described lines of uploads that were looked at, in the lake: a vendor's past, and the files of a week.

One Parquet file per upload, `<root>/monitoring/described/<vendor>/<day>-<id of the upload>.parquet`: a listing tells
vendor and day, so that a week is read without the years before it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pandas as pd
from upath import UPath

from shelfwise.artifacts import asked_anew, atomic_write_bytes, content_id, frame_id
from shelfwise.monitoring.drift import Profiles, Reference, profile
from shelfwise.monitoring.lines import OF_TITLE

FOLDER = ("monitoring", "described")
_ABOUT = ("key", "at", "first_at", "content", "champion_id")


@dataclass(frozen=True)
class Seen:
    """A file that was looked at: its key, when, when first with this content, by which champion; its lines."""

    key: str
    vendor_id: str
    at: datetime
    first_at: datetime
    champion_id: str
    lines: pd.DataFrame


def keep(root: UPath | Path | str, key: str, described: pd.DataFrame, champion_id: str, now: datetime) -> None:
    """Keep the described lines of an upload, in the place of what was kept of it before.

    A file that is looked at again with the same lines keeps the time when it first was.
    """
    folder, name = _folder(root, key.partition("/")[0]), content_id("upload", key)
    content, first = frame_id(described[["title"]]), now
    former = [path for path in _listed(folder) if path.stem.endswith(name)]
    for path in former:
        was = pd.read_parquet(io.BytesIO(path.read_bytes()), columns=["content", "first_at"])
        if len(was) and was["content"].iloc[0] == content:
            first = min(first, was["first_at"].iloc[0].to_pydatetime())
    about = {"key": key, "at": now, "first_at": first, "content": content, "champion_id": champion_id}
    buffer = io.BytesIO()
    described.drop(columns=["candidate"], errors="ignore").assign(**about).to_parquet(buffer, index=False)
    target = folder / f"{now.astimezone(UTC).date().isoformat()}-{name}.parquet"
    atomic_write_bytes(target, buffer.getvalue())
    for path in former:
        if path.name != target.name:
            path.unlink(missing_ok=True)


def past_profiles(root: UPath | Path | str, vendor_id: str, key: str, before: datetime) -> list[Profiles]:
    """Return the profiles, in the measures of titles, of the vendor's other files that came before a time."""
    found = []
    for path in _listed(_folder(root, vendor_id)):
        seen = _read(path)
        if seen.key != key and seen.first_at < before:
            found.append(profile(seen.lines, OF_TITLE))
    return found


def of_days(root: UPath | Path | str, now: datetime, days: int = 7) -> list[Seen]:
    """Return the files looked at in the days before `now`; of a file that was looked at twice the latest."""
    since, found = now - timedelta(days=days), {}
    base = asked_anew(UPath(root).joinpath(*FOLDER))
    for folder in sorted(base.iterdir(), key=str) if base.exists() else []:
        for path in _listed(folder):
            if _day(path) < since.date():
                continue
            seen = _read(path)
            if since <= seen.at <= now and (seen.key not in found or found[seen.key].at < seen.at):
                found[seen.key] = seen
    return list(found.values())


def _folder(root: UPath | Path | str, vendor_id: str) -> UPath:
    return UPath(root).joinpath(*FOLDER, quote(vendor_id, safe="").replace(".", "%2E"))


def _listed(folder: UPath) -> Iterator[UPath]:
    folder = asked_anew(folder)
    for path in sorted(folder.glob("*.parquet"), key=str) if folder.exists() else []:
        if not path.name.startswith("."):
            yield path


def _day(path: UPath) -> date:
    try:
        return date.fromisoformat(path.name[:10])
    except ValueError:
        return date.min


def _read(path: UPath) -> Seen:
    frame = pd.read_parquet(io.BytesIO(path.read_bytes()))
    first = frame.iloc[0]
    lines = frame.drop(columns=list(_ABOUT))
    vendor = unquote(path.parent.name)
    return Seen(
        first["key"],
        vendor,
        first["at"].to_pydatetime(),
        first["first_at"].to_pydatetime(),
        first["champion_id"],
        lines,
    )


def by_vendor(files: Sequence[Seen]) -> dict[str, pd.DataFrame]:
    """Return the lines of files by vendor."""
    vendors = sorted({one.vendor_id for one in files})
    return {v: pd.concat([one.lines for one in files if one.vendor_id == v], ignore_index=True) for v in vendors}


def mix(pool: Mapping[str, pd.DataFrame], reference: Reference) -> dict[str, float]:
    """Return from whom lines come: vendors, and the share of them and of their lines that training did not know."""
    lines = pd.Series({vendor: len(described) for vendor, described in pool.items()}, dtype=float)
    new = ~lines.index.isin(list(reference.vendors))
    return {
        "vendors": float(len(lines)),
        "new_vendor_share": float(new.mean()) if len(lines) else 0.0,
        "new_vendor_line_share": float(lines[new].sum() / max(lines.sum(), 1)),
    }
