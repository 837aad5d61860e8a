"""`python -m shelfwise.synthetic OUT --products 80000 --mappings 15000 --uploads 20 --lines 1000 --seed 7`."""

from __future__ import annotations

import argparse
import resource
import sys
import time

from shelfwise.synthetic.catalog import generate
from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.write import write


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shelfwise.synthetic", description="Make a synthetic catalog.")
    parser.add_argument("out", help="the data directory to write")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--mappings", type=int, help="historical mappings (default: 1.4 per product, at most 200,000)")
    parser.add_argument("--vendors", type=int, help="vendors of the mappings (default: 24, more above 20,000 products)")
    parser.add_argument("--uploads", type=int, default=4, help="vendor files, from vendors that the mappings lack")
    parser.add_argument("--lines", type=int, default=400, help="lines in each vendor file")
    parser.add_argument("--listings", type=int, help="labelled listings (default: half as many as products)")
    parser.add_argument("--images", type=int, default=0, help="pictures of products to draw")
    parser.add_argument("--listing-images", type=int, default=0, help="pictures of listings to draw")
    parser.add_argument("--sessions", type=int, default=0, help="shopping sessions")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--uploads-folder", default="uploads")
    parser.add_argument("--with-truth-column", action="store_true", help="add product_id to the vendor files")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Make the catalog, print progress, seconds and peak memory; return the exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        config = SyntheticConfig(
            n_products=args.products,
            n_mappings=args.mappings,
            n_vendors=args.vendors,
            n_uploads=args.uploads,
            lines_per_upload=args.lines,
            n_listings=args.listings,
            n_images=args.images,
            n_listing_images=args.listing_images,
            n_sessions=args.sessions,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    started = time.monotonic()

    def say(sentence: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {sentence}", flush=True)

    catalog = generate(config, say)
    try:
        write(catalog, args.out, args.uploads_folder, args.with_truth_column, say)
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    say("done: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in catalog.counts().items()))
    took = time.monotonic() - started
    print(f"{took:.1f} s ({time.process_time():.1f} s of processor time), peak memory {peak:,.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
