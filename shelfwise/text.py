"""Text as it is compared: one normal form for every place where titles meet.

The same function stands behind the encoder's input, the lexical index, deduplication in dbt (registered there as
`normalise_title`) and the baselines, so that no two parts of the project disagree about when titles are equal.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Cyrillic and Greek capitals and small letters that look like Latin ones: what a keyboard layout or an OCR leaves.
_LOOK_ALIKES = str.maketrans(
    "АВЕКМНОРСТХУІЈЅаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "ABEKMHOPCTXYIJSaeopcyxijsABEZHIKMNOPTYXo",
)
_PUNCTUATION = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "×": "x", "\u00ad": ""})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\ufeff]+")
_DIGIT = re.compile(r"\d")
# What stays inside a token: letters, digits, and the marks that carry meaning between digits (4.5, 33-1/3).
_SEPARATORS = re.compile(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d)[.,](?=\d{4,})|[^\w\s.,%&+/'-]")
# "0,750" is a decimal however many digits follow; "1,500" is a thousand and a half.
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))|(?<=(?<!\d)0),(?=\d)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))(?<!(?<!\d)0,)")
_LONE_MARKS = re.compile(r"(?<!\S)[-/'&+%.,_]+(?!\S)")
_LEADING_DOT = re.compile(r"(?<![\d.])\.(?=\d)")

# Unit spellings. The number and its unit are written together: "750 ml", "750ML", "750-ml" become "750ml".
_UNITS = {
    "ml": ("ml", "mls", "millilitre", "millilitres", "milliliter", "milliliters"),
    "cl": ("cl", "cls", "centilitre", "centilitres", "centiliter", "centiliters"),
    "l": ("l", "lt", "ltr", "ltrs", "litre", "litres", "liter", "liters"),
    "oz": ("oz", "ozs", "ounce", "ounces", "floz"),
    "g": ("g", "gr", "grs", "gm", "gms", "gram", "grams", "gramme", "grammes"),
    "kg": ("kg", "kgs", "kilo", "kilos", "kilogram", "kilograms"),
    "lb": ("lb", "lbs", "pound", "pounds"),
    "mm": ("mm",),
    "cm": ("cm",),
    "m": ("metre", "metres", "meter", "meters"),
    "in": ("inch", "inches", '"'),
    "gb": ("gb", "gbyte", "gigabyte", "gigabytes"),
    "tb": ("tb", "terabyte", "terabytes"),
    "mb": ("mb", "megabyte", "megabytes"),
    "mp": ("mp", "megapixel", "megapixels"),
    "mah": ("mah",),
    "w": ("w", "watt", "watts"),
    "v": ("v", "volt", "volts"),
    "ghz": ("ghz",),
    "mhz": ("mhz",),
    "hz": ("hz",),
    "pk": ("pk", "pack", "packs", "pck", "pcs", "pc", "ct", "count"),
    "yr": ("yr", "yrs", "year", "years", "yo"),
    "rpm": ("rpm",),
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
# Not the lower half of a fraction: "1/2 l" is no 2 litres.
_NUMBER_UNIT = re.compile(
    r"(?<![\w.])(?<!(?<![\d.])[1-9]/(?=(?:2|3|4|5|8|16)(?![\d.])))(\d+(?:\.\d+)?)[\s-]*(fl\.?\s?oz|"
    + "|".join(sorted(map(re.escape, _UNIT_OF), key=len, reverse=True))
    + r")(?!\w)"
)
# Several of one size, in three ways of writing: "6x330ml", "330 ml x 6" and "case of 6" all hold "6pk".
_SIZES = "|".join(
    sorted((re.escape(s) for u in ("ml", "cl", "l", "oz", "g", "kg", "lb") for s in _UNITS[u]), key=len)[::-1]
)
_TIMES_SIZE = re.compile(rf"(?<![\w.,/])(\d{{1,3}})\s*x\s*(?=\d+(?:\.\d+)?[\s-]*(?:{_SIZES})(?!\w))")
_SIZE_TIMES = re.compile(rf"(?<![\w.,/])(\d+(?:\.\d+)?[\s-]*(?:{_SIZES}))\s*x\s*(\d{{1,3}})(?![\w.,])")
_PACK_OF = re.compile(r"(?<![\w-])(?:pack|pk|case|box|set|crate|tray)s? of (\d{1,3})(?![\w.,])")
# Volumes and weights that mean the same are written the same: 75cl and .75L are 750ml; 1kg is 1000g.
_TO_BASE = {"cl": ("ml", 10.0), "l": ("ml", 1000.0), "kg": ("g", 1000.0), "tb": ("gb", 1000.0)}
# First characters of UTF-8 sequences that were read as Windows-1252 (Latin, Greek, Cyrillic, punctuation, emoji).
MOJIBAKE_STARTS = "[ÃÂâ€ðï¿½ÐÑÎÏÅÄ]"
_MOJIBAKE = re.compile(MOJIBAKE_STARTS)
# Letters with a stroke or ligatures have no accent that Unicode could take off.
_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "⁄": "/",
    }
)


def _canonical_unit(match: re.Match[str]) -> str:
    number, spelling = float(match.group(1)), match.group(2)
    unit = _UNIT_OF.get(spelling, "oz")
    if unit in _TO_BASE:
        unit, factor = _TO_BASE[unit]
        number *= factor
    if number >= 1e15:  # no quantity of anything; a float would not even keep its digits
        return match.group(0)
    digits = f"{number:.5f}".rstrip("0").rstrip(".")
    return f"{digits}{unit}"


@lru_cache(maxsize=200_000)
def normalise(title: str) -> str:
    """Return the form of a title in which titles are compared.

    Steps, in order: repair of mis-decoded UTF-8 ("CafÃ©"), Unicode NFKC, look-alike letters folded to Latin in
    words that also hold Latin letters or nothing but look-alikes, accents removed, control characters removed, lower
    case, decimal marks and units made uniform ("0,75 L", "75cl" and ".75ltr" all become "750ml"; "6x33cl" and "case of
    6 330ml" hold "6pk"), punctuation other than that inside numbers and codes turned into space, white space collapsed.

    Raises nothing: any string has a normal form, possibly the empty one.
    """
    text = title
    if not text.isascii():
        if _MOJIBAKE.search(text):
            import ftfy

            text = ftfy.fix_encoding(text)
        text = unicodedata.normalize("NFKC", text.translate(_PUNCTUATION))
        if not text.isascii():
            text = " ".join(_fold_look_alikes(word) for word in text.split(" "))
            decomposed = unicodedata.normalize("NFKD", text.translate(_LETTERS))
            text = "".join(char for char in decomposed if not unicodedata.combining(char))
    text = (text if text.isprintable() else _CONTROL.sub(" ", text)).lower()
    # Looking for a character first costs a tenth of an expression that finds nothing.
    if "," in text:
        text = _DECIMAL_COMMA.sub(".", _THOUSANDS.sub("", text))
    if "." in text:
        text = _LEADING_DOT.sub("0.", text)
    if "x" in text:
        text = _SIZE_TIMES.sub(r"\2pk \1", _TIMES_SIZE.sub(r"\1pk ", text))
    if " of " in text:
        text = _PACK_OF.sub(r"\1pk", text)
    if _DIGIT.search(text):
        text = _NUMBER_UNIT.sub(_canonical_unit, text)
    if not text.replace(" ", "").isalnum():
        text = _LONE_MARKS.sub(" ", _SEPARATORS.sub(" ", text))
    # A plus at the end is part of a name ("S8+"), at the start it is not.
    return " ".join(text.split()).lstrip(" -/'&+").rstrip(" -/'&")


def _fold_look_alikes(word: str) -> str:
    """Fold look-alike letters where the word is otherwise Latin or made of them alone; other Cyrillic stays."""
    if word.isascii():
        return word
    folded = word.translate(_LOOK_ALIKES)
    has_latin = any("a" <= char.lower() <= "z" for char in word)
    return folded if has_latin or folded.isascii() else word
