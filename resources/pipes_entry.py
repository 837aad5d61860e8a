"""A training as a Dagster Pipes process: `python -m resources.pipes_entry MODULE ...`, the arguments are the module's.

Started by Dagster, it sends progress to the run's log and the result as a message; started from a shell, it prints.
Under torchrun every process comes through here, and the first one speaks for all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

from shelfwise.training import process


def main(argv: Sequence[str] | None = None) -> int:
    """Train with the arguments of `python -m MODULE`."""
    name, *rest = sys.argv[1:] if argv is None else argv
    module = process.training_module(name)
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ or not process.leads():
        return process.main(module, name, rest)
    arguments = process.parse(module, f"python -m resources.pipes_entry {name}", rest)
    with open_dagster_pipes() as context:
        result = module.run(arguments, lambda event: context.log.info(event["message"]))
        context.report_custom_message(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
