"""The data directory: what the project reads and never writes, except for the built-in catalog it makes itself."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from shelfwise.contract.store import UploadStore

# Of the built-in listings; drawing one takes about 3 ms.
MOST_PICTURES = 2_000


class DataDirectory(dg.ConfigurableResource):
    """A data directory by the data contract: a local path or an s3:// URL.

    With `built_in`, a directory that does not exist yet is filled with the synthetic catalog; a user's own
    directory is only ever read.
    """

    url: str
    built_in: bool = False
    synthetic_products: int = 10_000
    synthetic_seed: int = 7

    def ensure(self) -> bool:
        """Make the built-in catalog where it is wanted and missing; return whether it was made now.

        Files that somebody put into its uploads folder survive when it is made anew in another size.
        """
        if not self.built_in:
            return False
        from shelfwise.synthetic import SyntheticConfig, generate, holds, write

        # Past mappings enough to prove 99 % of what is approved right; a distributor has them after a few vendors.
        n = self.synthetic_products
        config = SyntheticConfig(
            n_products=n,
            n_mappings=3 * n,
            n_vendors=40,
            n_listing_images=min(n // 5, MOST_PICTURES),
            seed=self.synthetic_seed,
        )
        if holds(self.url, config):
            return False
        write(generate(config), Path(self.url), uploads_folder="vendor_files")
        return True


class Uploads(dg.ConfigurableResource):
    """The uploads folder of the data directory."""

    url: str
    max_mb: int = 50

    def store(self) -> UploadStore:
        return UploadStore(self.url, self.max_bytes)

    @property
    def max_bytes(self) -> int:
        return self.max_mb << 20
