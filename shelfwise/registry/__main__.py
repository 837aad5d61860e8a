"""`python -m shelfwise.registry`: versions, history and rollback from the command line."""

from __future__ import annotations

import argparse
import os
import sys

from shelfwise.registry.client import SETTING
from shelfwise.registry.core import Registry
from shelfwise.registry.journal import CHALLENGER, CHAMPION, PREVIOUS
from shelfwise.registry.versions import SHOWN, RegistryError

MODEL = "title_matcher"


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shelfwise.registry", description=__doc__)
    lake = os.environ.get("SHELFWISE_LAKE") or "lake"
    parser.add_argument("--root", default=f"{lake.rstrip('/')}/registry", help="folder of the registry (%(default)s)")
    parser.add_argument("--uri", default=os.environ.get(SETTING, ""), help=f"MLflow's URI, as {SETTING}")
    parser.add_argument("--model", default=MODEL, help="name of the model (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="versions and aliases")
    commands.add_parser("history", help="what was promoted, rolled back and refused, and why")
    rollback = commands.add_parser("rollback", help="make the previous champion champion again")
    promote = commands.add_parser("promote", help="make a version champion without asking the gate")
    promote.add_argument("version", type=int, help="its number in the list")
    for command in (rollback, promote):
        command.add_argument("--reason", default="by hand", help="goes into the history")
    commands.add_parser("repair", help="finish what a killed process began, take away aliases that point nowhere")
    options = parser.parse_args(arguments)
    try:
        for line in _run(Registry(options.root, options.uri), options):
            print(line)
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(registry: Registry, options: argparse.Namespace) -> list[str]:
    model = options.model
    match options.command:
        case "list":
            return _listed(registry, model)
        case "history":
            return [_told(event) for event in registry.history(model)] or [f"nothing happened to {model} yet"]
        case "rollback":
            restored = registry.rollback(model, options.reason)
            return [f"{restored.label} is champion of {model} again{_then(model)}"]
        case "promote":
            chosen = next((known for known in registry.versions(model) if known.version == options.version), None)
            if chosen is None:
                raise RegistryError(f"{model} has no version {options.version}: `list` shows those it has")
            registry.promote(chosen, reason=options.reason)
            return [f"{chosen.label} is champion of {model}{_then(model)}"]
        case _:
            return registry.repair(model) or [f"{model} is in order"]


def _then(model: str) -> str:
    """What is to be done when another version is champion."""
    return ": materialize matching/catalog_index for it" if model == MODEL else ""


def _listed(registry: Registry, model: str) -> list[str]:
    aliases = registry.aliases(model)
    lines = []
    for version in registry.versions(model):
        names = [name for name in (CHAMPION, PREVIOUS, CHALLENGER) if aliases.get(name) == version.version]
        shown = [f"{name} {version.metrics[name]:.4f}" for name in SHOWN if name in version.metrics]
        lines.append("  ".join([f"{version.label:<14}", version.created_at[:16], f"{', '.join(names):<20}", *shown]))
    return lines or [f"no version of {model} was registered yet"]


def _told(event: dict) -> str:
    said = f"{event['at'][:16]}  {event['action']:<12} {event['label'] or event['version']}"
    if event["from_version"] is not None:
        said += f" (champion until then: version {event['from_version']})"
    return f"{said}  {event['reason']}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
