"""What time it is, for everything that asks for the date: the system's clock, or a file that says so.

`SHELFWISE_CLOCK` names a file with a time in ISO 8601. A simulated year sets it from one event to the next; nothing
else should. Durations are measured with `time`, not with this.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

VARIABLE = "SHELFWISE_CLOCK"


def now() -> datetime:
    """Return the time in UTC. Raises ValueError where the file that should say it holds none."""
    file = os.environ.get(VARIABLE)
    if not file:
        return datetime.now(UTC)
    text = Path(file).read_text().strip()
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{VARIABLE}: {file} should hold a time in ISO 8601, not {text!r}") from None
    return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)
