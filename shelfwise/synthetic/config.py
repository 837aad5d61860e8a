"""What a synthetic catalog is made from: one number and a seed; everything else follows unless it is given."""

from __future__ import annotations

from dataclasses import dataclass

MIN_PRODUCTS, MAX_PRODUCTS = 200, 1_000_000
# Histories stop growing here: a million products do not need a million mapped lines.
MAX_DEFAULT_MAPPINGS = 200_000
MAX_DEFAULT_LISTINGS = 100_000


@dataclass(frozen=True)
class SyntheticConfig:
    """Sizes and shares of a synthetic catalog. `None` stands for a default that scales with `n_products`.

    `no_match_share` is the share of upload lines that match nothing; of these `near_miss_share` are variants withheld
    from the catalog, and `not_a_product_share` are no product at all (delivery charges, vouchers).
    `cold_share` is the share of products that no mapping and no session mentions.
    `duplicate_share` is the share of products that are listed a second time under another id.
    `n_images` draws that many pictures of products (slow: about 2 ms each), `n_listing_images` of listings;
    `n_sessions` makes that many shopping sessions.
    """

    n_products: int = 10_000
    n_mappings: int | None = None
    n_vendors: int | None = None
    n_uploads: int = 4
    lines_per_upload: int = 400
    seed: int = 7
    no_match_share: float = 0.22
    near_miss_share: float = 0.5
    not_a_product_share: float = 0.06
    cold_share: float = 0.3
    duplicate_share: float = 0.003
    n_listings: int | None = None
    n_images: int = 0
    n_sessions: int = 0
    n_listing_images: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for sizes and shares that make no catalog."""
        if not MIN_PRODUCTS <= self.n_products <= MAX_PRODUCTS:
            raise ValueError(f"n_products is {self.n_products}; it must be {MIN_PRODUCTS} to {MAX_PRODUCTS}")
        for name in ("n_uploads", "lines_per_upload", "n_images", "n_sessions", "n_listing_images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("no_match_share", "near_miss_share", "not_a_product_share", "cold_share", "duplicate_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.near_miss_share + self.not_a_product_share > 1:
            raise ValueError("near_miss_share and not_a_product_share add up to more than 1")
        for name in ("n_mappings", "n_vendors", "n_listings"):
            value = getattr(self, name)
            if value is not None and value < (1 if name == "n_vendors" else 0):
                raise ValueError(f"{name} is {value}, which is too small")

    @property
    def mappings(self) -> int:
        """Return how many historical mappings to make."""
        if self.n_mappings is not None:
            return self.n_mappings
        return min(round(1.4 * self.n_products), MAX_DEFAULT_MAPPINGS)

    @property
    def vendors(self) -> int:
        """Return how many vendors the mappings come from: 24 up to 20,000 products, slowly more above."""
        if self.n_vendors is not None:
            return self.n_vendors
        return max(24, round(24 * (self.n_products / 20_000) ** 0.25))

    @property
    def upload_vendors(self) -> int:
        """Return how many vendors the uploads come from: every fifth file is a second file of an earlier vendor."""
        return self.n_uploads - self.n_uploads // 5

    @property
    def listings(self) -> int:
        """Return how many labelled listings to make."""
        if self.n_listings is not None:
            return self.n_listings
        return min(self.n_products // 2, MAX_DEFAULT_LISTINGS)
