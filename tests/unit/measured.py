"""Run at the start of each Python in the tests' environments, while `scripts/coverage` measures.

Not by coverage's own variables and patches: what the tests start would be seen to inherit them.
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
    """Measure this process; *site* has coverage, *config* is its file, its data goes to *data*."""
    try:
        measured = quietly(lambda: started(site, config, data))
    except FileNotFoundError:  # coverage needs a working directory
        return
    if measured is None:
        return

    def saving(end: Callable[..., Any]) -> Callable[..., Any]:
        """Return *end*, by which Python may end, with what was measured saved before."""

        def saves(*arguments: Any) -> Any:
            quietly(measured.save)
            return end(*arguments)

        return saves

    os.execve, os.kill = saving(os.execve), saving(os.kill)
    atexit.register(saving(lambda: None))


def started(site: str, config: str, data: str) -> Any:
    """Return coverage, at work; None if it was before, because .pth files run twice."""
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
    """Call with no warning: some tests make errors of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()
