"""Configurations of a training: frozen dataclasses that survive JSON and the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, ClassVar, Self


class Settings:
    """What a frozen dataclass of settings gains: a JSON round trip that refuses names it does not know."""

    WHAT: ClassVar[str] = "training"
    """Whose settings they are, for messages."""

    def to_json(self) -> str:
        """Return the configuration as JSON; `from_json` reads it back."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a dictionary."""
        values: Any = self
        return dataclasses.asdict(values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a configuration; what it does not state has its default. Raises ValueError on an unknown name."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a configuration of a dictionary. Raises ValueError on an unknown name."""
        fields: Any = cls
        names = {field.name for field in dataclasses.fields(fields)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ValueError(f"unknown {cls.WHAT} settings {unknown}; known are {sorted(names)}")
        return cls(**values)

    @classmethod
    def from_settings(cls, values: dict[str, Any], settings: Iterable[str] = ()) -> Self:
        """Make a configuration of a dictionary and of settings "name=value" above it, values as JSON or text."""
        values = dict(values)
        for setting in settings:
            name, separator, text = setting.partition("=")
            if not separator:
                raise ValueError(f"expected name=value, found {setting!r}")
            try:
                values[name] = json.loads(text)
            except json.JSONDecodeError:
                values[name] = text
        return cls.from_dict(values)
