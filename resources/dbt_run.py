"""dbt's command line on the project as `resources.dbt.parse` has parsed it: `python resources/dbt_run.py build ...`.

A build of this project takes dbt two seconds, and parsing the project as long again, every time and with the same
result. What is read is the file that dbt writes for its own partial parsing; where it is missing, or of another version
of dbt, dbt parses as ever.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PARSED = Path(__file__).resolve().parents[1] / "dbt_project" / "target" / "parsed.msgpack"


def parsed(file: Path) -> Any | None:
    """Return the project as dbt left it in a file, None where there is none that this version of dbt has written."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.version import __version__

    try:
        manifest = Manifest.from_msgpack(file.read_bytes())
        if manifest.metadata.dbt_version != __version__:
            return None
        manifest.build_flat_graph()
    except Exception:  # whatever an older version's bytes raise, parsing again is always right
        return None
    return manifest


def run(argv: list[str], manifest: Any | None) -> int:
    """Run dbt with these arguments on a parsed project and return its exit status."""
    from dbt.cli.main import dbtRunner

    done = dbtRunner(manifest=manifest).invoke(argv)
    if done.exception is not None:
        print(done.exception, file=sys.stderr)
        return 2
    return 0 if done.success else 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], parsed(PARSED)))
