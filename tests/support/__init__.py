"""What the tests and the scripts share: front ends, interpreters, a recording cargo, sample crates.

Imports the standard library only: ./scripts/demo runs where there is nothing but Python and cargo.
"""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# What scripts/maintain/bring-… have brought.
BROUGHT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyo3-envshim-tests"
