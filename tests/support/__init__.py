"""What the tests and the scripts share: front ends, interpreters, a recording cargo, sample crates.

Imports the standard library only: ./scripts/demo runs where there is nothing but Python and cargo.
"""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
