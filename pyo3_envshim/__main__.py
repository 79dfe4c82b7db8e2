"""``python -m pyo3_envshim`` is ``pyo3-envshim``."""

from __future__ import annotations

import sys

from pyo3_envshim.cli.main import main

sys.exit(main())
