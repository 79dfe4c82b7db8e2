"""The plugin for tox, which otherwise keeps the wrapper from the builds that it starts.

tox imports it by an entry point when the shim is installed beside it; nothing else does. tox passes on only
what is in an environment's `pass_env`, and neither CARGO nor our variables are in its default.

Reads: ``PYO3_ENVSHIM``, ``CARGO``, ``PYO3_ENVSHIM_CARGO``.
Sets: more names in the `pass_env` of tox's environments, in this run.
Leaves alone: all other settings, and all where the user has a ``CARGO``, which tox would not pass on.
"""

from __future__ import annotations

import os
from typing import Any

from pluggy import HookimplMarker  # tox's own

from pyo3_envshim import _startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# Optional: tox 3 does not know it. Last: other plugins may still change where tox reads the setting.
@HookimplMarker("tox")(optionalhook=True, trylast=True)
def tox_add_env_config(env_conf: Any, state: Any) -> None:
    """Add to what an environment is given (tox 4.67 has a test for this way to do it)."""
    try:
        env_conf["pass_env"].extend(passed_on(os.environ))
    except Exception:  # of a setting that is wrong: tox tells the user where it needs it
        pass


def passed_on(environ: Mapping[str, str]) -> list[str]:
    """Return the patterns to add for a tox with these variables."""
    if "PYO3_ENVSHIM_CARGO" in environ:
        return []
    is_on = _startup.mode(environ) == "on" and _startup.is_wrapper(environ.get("CARGO", ""))
    return ["PYO3_ENVSHIM*", *["CARGO"] * is_on]
