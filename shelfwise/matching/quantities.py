"""Numbers with and without units, as comparable quantities.

"75cl", "750 ml" and "25.4oz" are one quantity; "64gb" and "128gb" are two of one dimension, which is a conflict. A
quantity becomes one or more keys `(dimension, bucket)`; buckets are one part in 150 wide, and a line's quantity also
takes the neighbouring buckets, so two quantities meet if they differ by less than about one percent: what rounding to
a decimal of an ounce or an inch makes of equal sizes, and less than the step between sizes on sale.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

DIMENSIONS = (
    "volume", "weight", "length", "storage", "memory_mb", "pixels", "charge", "power", "voltage", "frequency", "pack",
    "age", "speed", "year", "small", "hundreds", "large",
)  # fmt: skip
DIMENSION_OF = {name: i for i, name in enumerate(DIMENSIONS)}
BARE = tuple(DIMENSION_OF[name] for name in ("year", "small", "hundreds", "large"))
PACK = DIMENSION_OF["pack"]

# unit: the dimensions it may stand for, with the factor to the base unit of each. An ounce is a volume or a weight.
_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "ml": (("volume", 1.0),),
    "cl": (("volume", 10.0),),
    "l": (("volume", 1000.0),),
    "oz": (("volume", 29.5735), ("weight", 28.3495)),
    "g": (("weight", 1.0),),
    "kg": (("weight", 1000.0),),
    "lb": (("weight", 453.592),),
    "mm": (("length", 1.0),),
    "cm": (("length", 10.0),),
    "m": (("length", 1000.0),),
    "in": (("length", 25.4),),
    "gb": (("storage", 1.0),),
    "tb": (("storage", 1000.0),),
    "mb": (("memory_mb", 1.0),),
    "mp": (("pixels", 1.0),),
    "mah": (("charge", 1.0),),
    "w": (("power", 1.0),),
    "kw": (("power", 1000.0),),
    "v": (("voltage", 1.0),),
    "hz": (("frequency", 1e-6),),
    "mhz": (("frequency", 1.0),),
    "ghz": (("frequency", 1000.0),),
    "pk": (("pack", 1.0),),
    "x": (("pack", 1.0),),
    "yr": (("age", 1.0),),
    "rpm": (("speed", 1.0),),
}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d+)?)([a-z]{0,3})$")  # more digits are no quantity of anything
_TIMES = re.compile(r"x(\d{1,3})$")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WIDTH = math.log(1 + 1 / 150)


@lru_cache(maxsize=500_000)
def quantities(word: str) -> tuple[tuple[int, int], ...]:
    """Return the keys `(dimension, bucket)` of a word of a normal form; empty where it is no quantity."""
    times = _TIMES.match(word)
    if times:
        return ((PACK, _bucket(float(times.group(1)))),)
    found = _QUANTITY.match(word)
    if not found:
        return ()
    value, unit = float(found.group(1)), found.group(2)
    if unit in ("gb", "mb") and value >= 1024 and value % 1024 == 0:
        value *= 1000 / 1024
    if unit:
        return tuple((DIMENSION_OF[name], _bucket(value * factor)) for name, factor in _UNITS.get(unit, ()))
    if "." not in found.group(1) and 1900 <= value < 2100:
        return ((DIMENSION_OF["year"], int(value) * 1000),)
    name = "small" if value < 100 else "hundreds" if value < 1000 else "large"
    return ((DIMENSION_OF[name], round(value * 100) * 1000),)


def neighbours(key: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the keys that mean the same as this one; numbers without unit and packs have to be equal."""
    dimension, bucket = key
    if dimension in BARE or dimension == PACK:
        return (key,)
    return ((dimension, bucket - 1), key, (dimension, bucket + 1))


@lru_cache(maxsize=500_000)
def values(word: str) -> tuple[float, ...]:
    """Return every number in a word, whatever is around it ("f30" and "30yr" hold 30)."""
    return tuple(float(number) for number in _NUMBER.findall(word))


def _bucket(value: float) -> int:
    return round(math.log(value) / _WIDTH) if value > 0 else -(10**6)
