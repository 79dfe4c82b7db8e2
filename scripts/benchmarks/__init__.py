"""The benchmarks of ./scripts/bench: see `common`."""

import shared  # noqa: F401 (puts the package support on the path)
