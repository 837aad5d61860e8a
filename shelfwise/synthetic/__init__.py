"""The synthetic catalog: deterministic, sized by one number, hard in the ways real data is, its truth written down.

    from shelfwise.synthetic import SyntheticConfig, generate, write

    catalog = generate(SyntheticConfig(n_products=10_000, seed=7))
    write(catalog, "data/demo")

`vocabulary` holds the words, `products` grows the master catalog, `noise` lists the kinds of noise and their rates,
`vendors` the habits, `lines` puts both on titles, `sessions`, `listings` and `pictures` make the rest, `write` puts it
on disk. From a shell: `python -m shelfwise.synthetic OUT --products 10000`.

It shows that the machinery works; only real data shows quality.
"""

from shelfwise.synthetic.catalog import SyntheticCatalog, generate
from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.noise import KINDS, NOISE_RATES
from shelfwise.synthetic.write import MANIFEST, holds, write

__all__ = ["KINDS", "MANIFEST", "NOISE_RATES", "SyntheticCatalog", "SyntheticConfig", "generate", "holds", "write"]
