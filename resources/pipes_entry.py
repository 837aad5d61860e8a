"""Encoder training as a Dagster Pipes process: the shell around `shelfwise.matching.train`.

Started by Dagster, it sends progress to the run's log and the result as a message; started from a shell, it prints.
Under torchrun every process comes through here, and the first one speaks for all.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

from shelfwise.matching import train


def main(argv: Sequence[str] | None = None) -> int:
    """Train with the arguments of `python -m shelfwise.matching.train`."""
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ or os.environ.get("RANK", "0") != "0":
        return train.main(argv)
    parser = argparse.ArgumentParser(prog="python -m resources.pipes_entry")
    train.add_arguments(parser)
    arguments = parser.parse_args(argv)
    with open_dagster_pipes() as context:
        result = train.run(arguments, lambda event: context.log.info(event["message"]))
        context.report_custom_message(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
