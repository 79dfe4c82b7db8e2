"""The benchmarks of ./scripts/bench: see `common`."""
