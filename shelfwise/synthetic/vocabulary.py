"""Words of the synthetic catalog: line names, syllables, abbreviations, marketing phrases, descriptions, colours.

Everything here was made up for this project. Brands are not listed: they are put together from syllables in
`products.py`, so no real trademark is needed.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_FIRST = (
    "Old|Royal|Golden|Silver|Grand|Noble|Wild|Pure|Bright|Fresh|Northern|Southern|Blue|Red|Green|White|Black|High|Little|"
    "True|Prime|Classic|Original|Select|Signature|Heritage|Imperial|Velvet|Copper|Iron|Stone|River|Mountain|Forest|Harbour"
)
_SECOND = (
    "Reserve|Valley|Crown|Harvest|Garden|Meadow|Peak|Coast|Bridge|Mill|Oak|Star|Moon|Field|House|Tower|Fox|Heron|Falcon|"
    "Bear|Rose|Lily|Orchard|Cellar|Craft|Edition|Collection|Choice|Blend|Tradition|Origin|Spirit|Anchor|Compass|Lantern"
)
_TECH = (
    "Nova|Pulse|Vertex|Orbit|Ion|Flux|Aero|Core|Spark|Echo|Zen|Prism|Vector|Quanta|Terra|Astra|Helix|Lumen|Sonic|Titan"
)
_TECH_TIER = "Pro|Max|Lite|Plus|Ultra|Mini|Air|SE|Neo|X"
_CARE = "Derma|Silk|Bloom|Glow|Aqua|Botanica|Essence|Radiance|Pearl|Satin|Fresh|Vital|Balance|Pure|Calm|Spring|Dew"
LINE_FIRST: tuple[str, ...] = _words(_FIRST)
LINE_SECOND: tuple[str, ...] = _words(_SECOND)
TECH_LINES: tuple[str, ...] = _words(_TECH)
TECH_TIERS: tuple[str, ...] = _words(_TECH_TIER)
CARE_LINES: tuple[str, ...] = _words(_CARE)
TECH_DEPARTMENTS = frozenset({"Electronics"})
CARE_DEPARTMENTS = frozenset({"Beauty", "Health", "Baby"})

ONSETS = _words("b|br|c|cl|d|dr|f|fl|g|gl|gr|h|j|k|kr|l|m|n|p|pr|qu|r|s|sk|st|t|th|tr|v|w|z|sh|ch|bl")
VOWELS = _words("a|e|i|o|u|a|e|i|o|u|a|e|i|o|u|ai|ei|ou|ia|y")
CODAS = _words("|||n|r|l|s|m|x|nd|rn|lt|rk|st|ck|th|ll|nn|rt|sk")
ACCENTED = {"e": "é", "a": "à", "o": "ö", "u": "ü", "i": "î", "n": "ñ", "c": "ç"}
BRAND_FORMS = _words(
    "{a}|{a}|{a}|{a}|{a}|{a} {b}|{a} & {b}|{a} & Sons|{a} Co|House of {a}|{a}-{b}|Von {a}|{a}'s|La {a}|{a} Works"
)

# What vendors write for common words. Words that are not here lose their vowels instead.
ABBREVIATIONS: dict[str, str] = {
    "alcohol": "alc", "almond": "alm", "antibacterial": "antibac", "assorted": "asst", "barbecue": "bbq",
    "biscuits": "bisc", "black": "blk", "blend": "bld", "blended": "blnd", "blue": "blu", "bluetooth": "bt",
    "bottle": "btl", "bourbon": "brbn", "brown": "brn", "burgundy": "burg", "cabernet": "cab", "capsules": "caps",
    "chardonnay": "chard", "charger": "chgr", "cheese": "chs", "chicken": "chkn", "chocolate": "choc",
    "cleaner": "clnr", "coconut": "coco", "coffee": "cof", "collection": "coll", "compatible": "compat",
    "complete": "compl", "concentrated": "conc", "conditioner": "cond", "cookies": "cook", "cordless": "crdls",
    "cream": "crm", "dark": "dk", "detergent": "det", "double": "dbl", "edition": "ed", "espresso": "espr",
    "extra": "xtra", "flavour": "flav", "forest": "frst", "foundation": "fdn", "garden": "gdn", "ginger": "gngr",
    "gluten": "glut", "golden": "gldn", "graphite": "graph", "green": "grn", "ground": "grnd", "harvest": "hrvst",
    "hazelnut": "hzlnt", "headphones": "hdphn", "heritage": "herit", "kitchen": "kit", "large": "lge",
    "laundry": "lndry", "lavender": "lav", "leather": "lthr", "lipstick": "lpstk", "liqueur": "liq",
    "london": "ldn", "malt": "mlt", "medium": "med", "merlot": "mer", "milk": "mlk", "mineral": "min",
    "mountain": "mtn", "multivitamin": "multivit", "natural": "nat", "navy": "nvy", "northern": "nthn",
    "orange": "orng", "organic": "org", "original": "orig", "paprika": "pap", "peppermint": "pepmnt",
    "pinot": "pnt", "portable": "port", "potato": "pot", "powder": "pwdr", "premium": "prem", "protein": "prot",
    "purple": "purp", "raspberry": "rasp", "reserve": "rsv", "roast": "rst", "royal": "ryl", "salted": "slt",
    "sauce": "sce", "sauvignon": "sauv", "sensitive": "sens", "shampoo": "shmp", "shower": "shwr",
    "signature": "sig", "silver": "slvr", "single": "sgl", "small": "sml", "smartphone": "smartph",
    "smartwatch": "swatch", "southern": "sthn", "sparkling": "spkl", "spring": "spr", "stainless": "s/s",
    "standard": "std", "strength": "str", "strong": "strg", "tablets": "tabs", "television": "tv",
    "tequila": "teq", "toilet": "tlt", "toothpaste": "tpaste", "tradition": "trad", "traditional": "trad",
    "triple": "trpl", "unfiltered": "unfilt", "valley": "vly", "vanilla": "van", "vegan": "veg", "vitamin": "vit",
    "vodka": "vdk", "washing": "wash", "water": "wtr", "whiskey": "whsky", "whisky": "whsky", "white": "wht",
    "whole": "whl", "wireless": "wless", "yellow": "yel",
}  # fmt: skip

MARKETING: tuple[str, ...] = (
    "NEW!", "SALE", "OFFER", "Special Offer", "Best Price", "Top Seller", "Hot Deal", "Free Delivery", "In Stock",
    "Limited Time", "Great Value", "*PROMO*", "Clearance", "Bestseller", "Buy Now", "Reduced", "2 for 1", "Genuine",
)  # fmt: skip

# Lines in a vendor's file that are no product at all.
NOT_PRODUCTS: tuple[str, ...] = (
    "Delivery charge", "Gift voucher 25", "Gift voucher 50", "Gift wrapping", "Carrier bag", "Deposit refund",
    "Miscellaneous item", "Shipping insurance", "Catalogue 2024", "Display stand", "Sample pack not for sale",
    "Pallet deposit", "Service fee", "Extended warranty 2 years", "Installation service", "Rounding difference",
)  # fmt: skip

DESCRIPTION_OPENERS: tuple[str, ...] = (
    "{style} {noun} from {brand}.", "{brand} presents {line}, a {style} {noun}.", "The {line} {noun} by {brand}.",
    "A {style} {noun} for every day.", "{noun} of the {line} range, made by {brand}.",
)  # fmt: skip
DESCRIPTION_CLOSERS: tuple[str, ...] = (
    "A customer favourite.", "Made with care and tested for quality.", "Suitable for gifts.",
    "Store in a cool and dry place.", "Comes in recyclable packaging.", "See the pack for full details.",
    "Part of our core range.", "Designed to last.", "Popular in restaurants and at home.", "",
)  # fmt: skip

COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "Black": (30, 30, 32), "White": (245, 245, 245), "Silver": (190, 192, 196), "Graphite": (75, 78, 84),
    "Navy Blue": (25, 40, 90), "Sky Blue": (120, 180, 230), "Red": (200, 35, 40), "Burgundy": (110, 20, 45),
    "Forest Green": (30, 90, 50), "Mint": (160, 220, 190), "Rose Gold": (215, 165, 155), "Sand": (220, 200, 160),
    "Purple": (110, 60, 150), "Orange": (235, 130, 40), "Yellow": (240, 210, 60), "Cyan": (40, 180, 210),
    "Magenta": (205, 40, 140),
}  # fmt: skip
