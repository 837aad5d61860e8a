"""The ways in which vendors write a measure: 750ml is also 75cl, .75L, 750 ML and 25.4oz."""

from __future__ import annotations

import re
from functools import lru_cache

_MEASURE = re.compile(r'^(\d+(?:\.\d+)?)\s?(ml|L|g|kg|mm|cm|m|W|V|GB RAM|GB|TB|mAh|mg|"|Pack|Count|Year|Piece)$')
# Sizes that are words: what else vendors call them.
_SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "XS": ("X-Small", "Extra Small"), "XL": ("X-Large", "Extra Large", "1XL"), "XXL": ("2XL", "XX-Large"),
    "S": ("Small", "Sz S"), "M": ("Medium", "Sz M"), "L": ("Large", "Sz L"),
    "Small": ("S", "Sml"), "Medium": ("M", "Med"), "Large": ("L", "Lge"), "Extra Large": ("XL", "X-Large"),
    "Single": ("90x200", "Sgl"), "Double": ("140x200", "Dbl"), "King": ("160x200", "Kg Size"),
    "Super King": ("180x200", "S/King"),
}  # fmt: skip
_NUMBERED = re.compile(r"^(EU|SPF|Size|Stage|Age) (\d+)(\+?)$")
_NUMBERED_FORMS: dict[str, tuple[str, ...]] = {
    "EU": ("EU{n}", "sz {n}", "size {n}", "{n}"), "SPF": ("SPF{n}", "LSF {n}", "F{n}"),
    "Size": ("Sz {n}", "No.{n}", "S{n}"), "Stage": ("St{n}", "Stage{n}", "No {n}"),
    "Age": ("{n}yrs+", "{n}+", "ages {n}+"),
}  # fmt: skip
_ML_PER_OZ, _G_PER_OZ, _G_PER_LB, _CM_PER_INCH, _M_PER_FOOT = 29.5735, 28.3495, 453.592, 2.54, 0.3048


def _short(number: float, digits: int = 2) -> str:
    return f"{number:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{number:.0f}"


@lru_cache(maxsize=4096)
def respell(text: str, volume: str = "", weight: str = "") -> tuple[str, ...]:
    """Return other ways to write a measure, or () for what is none.

    Where `volume` ("ml", "cl", "l", "oz") or `weight` ("g", "kg", "oz", "lb") names a favourite unit, only spellings
    in that unit are returned, unless there are none that differ from `text`.
    """
    match = _MEASURE.match(text)
    if match is None:
        return _sizes(text)
    number, unit = float(match.group(1)), match.group(2)
    if unit in ("ml", "L"):
        by_unit = _volumes(number * (1000 if unit == "L" else 1))
        favourite = volume
    elif unit in ("g", "kg"):
        by_unit = _weights(number * (1000 if unit == "kg" else 1))
        favourite = weight
    else:
        by_unit, favourite = {"": _others(number, unit)}, ""
    chosen = by_unit[favourite] if favourite in by_unit else tuple(s for group in by_unit.values() for s in group)
    different = tuple(spelling for spelling in chosen if spelling != text)
    return different or tuple(s for group in by_unit.values() for s in group if s != text)


def _sizes(text: str) -> tuple[str, ...]:
    """Return other ways to write a size that is a word or a numbered step: XL, SPF 30, EU 42."""
    match = _NUMBERED.match(text)
    if match is None:
        return _SIZE_WORDS.get(text, ())
    return tuple(form.format(n=match.group(2)) for form in _NUMBERED_FORMS[match.group(1)])


def _volumes(ml: float) -> dict[str, tuple[str, ...]]:
    litres, cl, ounces = _short(ml / 1000, 3), _short(ml / 10), _short(ml / _ML_PER_OZ, 1)
    spellings = {
        "ml": (f"{ml:.0f}ml", f"{ml:.0f} ml", f"{ml:.0f} ML", f"{ml:.0f}ML"),
        "cl": (f"{cl}cl", f"{cl} cl", f"{cl}CL"),
        "l": (f"{litres}L", f"{litres.removeprefix('0')}L", f"{litres} ltr", f"{litres.replace('.', ',')} L"),
        "oz": (f"{ounces}oz", f"{ounces} fl oz", f"{ounces} OZ"),
    }
    if ml >= 2500:  # nobody sells five litres by the ounce
        del spellings["oz"]
    return spellings


def _weights(grams: float) -> dict[str, tuple[str, ...]]:
    kg, ounces, pounds = _short(grams / 1000, 3), _short(grams / _G_PER_OZ, 1), _short(grams / _G_PER_LB)
    spellings = {
        "g": (f"{grams:.0f}g", f"{grams:.0f} g", f"{grams:.0f} GR", f"{grams:.0f}gm"),
        "kg": (f"{kg}kg", f"{kg} kg", f"{kg.replace('.', ',')} KG"),
        "oz": (f"{ounces}oz", f"{ounces} oz"),
        "lb": (f"{pounds}lb", f"{pounds} lbs"),
    }
    return {
        unit: spellings[unit]
        for unit in spellings
        if not (unit == "oz" and grams > 2000)
        and not (unit == "lb" and grams < 200)
        and not (unit == "kg" and grams < 100)
    }


def _others(number: float, unit: str) -> tuple[str, ...]:
    n = _short(number)
    comma = n.replace(".", ",")
    table: dict[str, tuple[str, ...]] = {
        "mm": (f"{n} mm", f"{comma}mm"),
        "cm": (f"{n} cm", f"{n}CM", f"{_short(number * 10)}mm"),
        "m": (f"{n} m", f"{comma} m", f"{_short(number * 100)}cm", f"{_short(number / _M_PER_FOOT, 1)}ft"),
        "W": (f"{n} W", f"{n} watt", f"{_short(number / 1000)}kW") if number >= 1000 else (f"{n} W", f"{n} watt"),
        "V": (f"{n} V", f"{n} volt"),
        "GB": (f"{n} GB", f"{n}gb", f"{n}G"),
        "TB": (f"{n} TB", f"{_short(number * 1000)}GB", f"{_short(number * 1024)} GB"),
        "GB RAM": (f"{n} GB RAM", f"{n}GB", f"RAM {n} GB"),
        "mAh": (f"{n} mAh", f"{_short(number / 1000, 1)}Ah", f"{n}MAH"),
        "mg": (f"{n} mg", f"{n}MG", f"{_short(number / 1000)} g"),
        '"': (f"{n} inch", f"{n}in", f"{n} inches", f"{_short(number * _CM_PER_INCH, 1)}cm"),
        "Pack": (f"{n}pk", f"{n} pk", f"x{n}", f"{n}x", f"pack of {n}", f"{n} pcs"),
        "Count": (f"{n}ct", f"{n} ct", f"{n}s", f"x{n}", f"{n} pcs"),
        "Year": (f"{n}yr", f"{n}yo", f"{n} yrs", f"{n} Years Old", f"{n}YR"),
        "Piece": (f"{n} pcs", f"{n}pc", f"{n} pieces"),
    }
    return table[unit]
