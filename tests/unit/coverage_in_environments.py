"""Runs at the start of each Python in the tests' environments, while `scripts/maintain/coverage` measures.

coverage's own variables and patches do not serve: the tests would see them in what they start.
"""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def measure(site: str, config: str, data: str) -> None:
    """Measure this process with the coverage in *site* and its file *config*, and write to *data*."""
    try:
        measured = quietly(lambda: started(site, config, data))
    except FileNotFoundError:  # coverage needs a working directory
        return
    if measured is None:
        return

    def saving(end: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that saves the measurement before it calls *end*, which may end Python."""

        def saves(*arguments: Any) -> Any:
            quietly(measured.save)
            return end(*arguments)

        return saves

    os.execve, os.kill = saving(os.execve), saving(os.kill)
    atexit.register(saving(lambda: None))


def started(site: str, config: str, data: str) -> Any:
    """Return a started coverage, or None if it runs already, because .pth files run twice."""
    sys.path.append(site)
    try:
        import coverage
    finally:
        sys.path.remove(site)
    if coverage.Coverage.current() is not None:
        return None
    include = ["*/pyo3_envshim/*"]
    found = coverage.Coverage(data, data_suffix=True, config_file=config, source=[], include=include)
    found.set_option("run:disable_warnings", ["no-data-collected"])
    found.start()
    return found


def quietly(call: Callable[[], Any]) -> Any:
    """Call without warnings, which some tests turn into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()
