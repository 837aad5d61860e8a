"""The code location. Every process of it, steps included, starts by importing this package."""

import os

# OpenMP threads that wait by spinning slow each other down many times over when steps share two cores; torch, faiss
# and lightgbm read this when they are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
