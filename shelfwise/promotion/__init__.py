"""Which model goes live: one comparison and one gate for every system, by rules that each gives."""
