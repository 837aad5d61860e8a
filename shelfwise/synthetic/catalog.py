"""Everything of a synthetic catalog in memory: the tables of the data contract, and the truth beside them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pandas as pd

from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.lines import Identifier, Popularity, make_mappings, make_upload, mapping_shares, segments
from shelfwise.synthetic.listings import make_listings
from shelfwise.synthetic.products import Assortment, product_truth, products_frame
from shelfwise.synthetic.sessions import make_sessions
from shelfwise.synthetic.vendors import Vendor, make_vendors

UploadKey = tuple[str, str]
_INTERACTIONS = ["session_id", "product_id", "event", "timestamp", "user_id"]


@dataclass(frozen=True)
class SyntheticCatalog:
    """A generated catalog.

    `products`, `mappings`, `listings` and `interactions` hold the columns of the data contract and nothing else.
    `uploads` maps (vendor_id, file name) to a vendor's file; `upload_truth` has the same keys.
    `truth` holds what the generator knows: "products", "mappings", "vendors", "listings", "sellers", and with sessions
    "substitutes" and "complements". `pictures` says what to draw: product_id, category, colour; `listing_pictures`:
    listing_id, category, colour, kind.
    """

    config: SyntheticConfig
    products: pd.DataFrame
    mappings: pd.DataFrame
    listings: pd.DataFrame
    interactions: pd.DataFrame
    uploads: dict[UploadKey, pd.DataFrame]
    upload_truth: dict[UploadKey, pd.DataFrame]
    truth: dict[str, pd.DataFrame]
    pictures: pd.DataFrame = field(default_factory=pd.DataFrame)
    listing_pictures: pd.DataFrame = field(default_factory=pd.DataFrame)

    def counts(self) -> dict[str, int]:
        """Return how many rows, files and pictures there are."""
        return {
            "products": len(self.products),
            "mappings": len(self.mappings),
            "listings": len(self.listings),
            "interactions": len(self.interactions),
            "uploads": len(self.uploads),
            "upload_lines": sum(len(frame) for frame in self.uploads.values()),
            "images": len(self.pictures) + len(self.listing_pictures),
        }


def generate(config: SyntheticConfig | None = None, progress: Callable[[str], None] | None = None) -> SyntheticCatalog:
    """Return the synthetic catalog of a config (the default one: 10,000 products); the same one every time.

    `progress` is called with a short sentence before each step.
    """
    with _no_garbage_collection():
        return _generate(config or SyntheticConfig(), progress)


@contextmanager
def _no_garbage_collection() -> Generator[None]:
    """Millions of small objects that all stay alive: looking for garbage among them takes a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _generate(config: SyntheticConfig, progress: Callable[[str], None] | None) -> SyntheticCatalog:
    say = progress or (lambda sentence: None)
    say(f"growing {config.n_products:,} products")
    assortment = Assortment(config)
    products = products_frame(assortment, config.seed)
    truth = {"products": product_truth(assortment)}

    say(f"writing {config.mappings:,} historical mappings of {config.vendors} vendors")
    popularity = Popularity(len(assortment.products), config.cold_share, config.seed)
    identifier = Identifier(assortment.families)
    taken: set[str] = set()
    vendors = make_vendors(config.vendors, config.seed, "mappings", taken, mapping_shares(config.vendors).tolist())
    mappings, truth["mappings"] = make_mappings(config, assortment, vendors, popularity, identifier)
    known = segments(products["product_id"], mappings)
    truth["products"] = truth["products"].merge(known, on="product_id", validate="one_to_one")

    say(f"filling {config.n_uploads} vendor files of {config.lines_per_upload:,} lines")
    n_newcomers = config.upload_vendors
    files = [len(range(place, config.n_uploads, n_newcomers)) for place in range(n_newcomers)]
    newcomers = make_vendors(n_newcomers, config.seed, "uploads", taken, files)
    segment_of = known.set_index("product_id")["segment"]
    uploads, upload_truth = {}, {}
    for number in range(config.n_uploads):
        vendor = newcomers[number % len(newcomers)]
        key = (vendor.vendor_id, f"pricelist-2024-{1 + number % 12:02d}-{number + 1:03d}.csv")
        uploads[key], lines = make_upload(config, assortment, vendor, number, popularity, identifier)
        lines["segment"] = lines["product_id"].map(segment_of).fillna("none")
        upload_truth[key] = lines
    truth["vendors"] = _vendors_frame(vendors, newcomers)

    say(f"listing {config.listings:,} products")
    sellers = make_vendors(12, config.seed, "sellers", taken)
    made = make_listings(assortment.products, sellers, config.listings, config.n_listing_images, config.seed)
    listings, truth["listings"], truth["sellers"] = made.listings, made.truth, made.sellers
    interactions = pd.DataFrame(columns=pd.Index(_INTERACTIONS))
    if config.n_sessions:
        say(f"walking through {config.n_sessions:,} sessions")
        interactions, truth["substitutes"], truth["complements"] = make_sessions(
            assortment.products, popularity, config.n_sessions, config.seed
        )
    pictures = _pictures(assortment, config.n_images)
    if len(pictures):
        drawn = set(pictures["product_id"])
        path = "images/" + products["product_id"] + ".jpg"
        products["image"] = path.where(products["product_id"].isin(drawn), None)
        path = "images/" + truth["listings"]["product_id"] + ".jpg"
        of_product = (truth["listings"]["kind"] == "product") & truth["listings"]["product_id"].isin(drawn)
        listings["image"] = listings["image"].where(listings["image"].notna() | ~of_product, path)
    return SyntheticCatalog(
        config, products, mappings, listings, interactions, uploads, upload_truth, truth, pictures, made.pictures
    )


def _pictures(assortment: Assortment, count: int) -> pd.DataFrame:
    chosen = assortment.products[:count]
    rows = [
        (product.product_id, product.family.leaf.path, product.attributes().get("colour", "")) for product in chosen
    ]
    return pd.DataFrame(rows, columns=pd.Index(["product_id", "category", "colour"]))


def _vendors_frame(vendors: list[Vendor], newcomers: list[Vendor]) -> pd.DataFrame:
    """Return each vendor's habits, with its own rate of each noise kind as rate_<kind>."""
    rows = []
    for group, members in (("mappings", vendors), ("uploads", newcomers)):
        for vendor in members:
            habits = asdict(vendor)
            rates = {f"rate_{name}": rate for name, rate in habits.pop("rates").items()}
            units = habits.pop("units")
            rows.append(
                {**habits, "unit_volume": units["volume"], "unit_weight": units["weight"], "group": group, **rates}
            )
    return pd.DataFrame(rows)
