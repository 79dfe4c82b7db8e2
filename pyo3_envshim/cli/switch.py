"""``pyo3-envshim off`` and ``on``: a switch for this user, which holds where no variable is passed on."""

from __future__ import annotations

import os

from pyo3_envshim import _startup, files
from pyo3_envshim.cli.errors import CommandError


def turn(on: bool) -> str:
    """Turn the user's switch; return one line that says what follows. Raises `CommandError`."""
    path = _startup.switch()
    try:
        if on and os.path.lexists(path):
            os.unlink(path)
        elif not on:
            above = os.path.dirname(path)
            os.makedirs(above, files.private_mode(above), exist_ok=True)
            with open(path, "ab"):
                pass
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}", "is the folder yours?") from None
    done = "switched on for this user" if on else f"switched off for this user: {path}"
    value = os.environ.get("PYO3_ENVSHIM", "").strip()
    return f"{done}; here, PYO3_ENVSHIM={value} counts" if value else done
