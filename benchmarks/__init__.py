"""What measures quality and speed. `make bench` runs it all; see benchmarks/README.md."""
