"""What the programs in scripts/ share. Puts tests/ on the path, for the package support.

Imports the standard library only: ./scripts/demo runs where there is nothing but Python and cargo.
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.insert(1, _TESTS)
