"""cargo's configuration: ``.cargo/config.toml`` in the working directory, above it, and in cargo's home.

Not all that it says is part of what cargo compares (1.95): a ``rustc-wrapper`` is not, nor is where
vendored crates lie.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def read() -> dict[str, bytes]:
    """Return the content of the configuration files by path."""
    folder, above, places = os.getcwd(), "", []
    while folder != above:
        places.append(os.path.join(folder, ".cargo"))
        folder, above = os.path.dirname(folder), folder
    places.append(os.environ.get("CARGO_HOME") or os.path.join(os.path.expanduser("~"), ".cargo"))
    found = {}
    for place in dict.fromkeys(places):
        for name in ("config.toml", "config"):
            try:
                with open(os.path.join(place, name), "rb") as file:
                    found[os.path.join(place, name)] = file.read()
            except OSError:
                pass  # nor does cargo read it, or it fails
    return found


def may_vendor_below(folders: Iterable[str], configuration: Mapping[str, bytes]) -> bool:
    """Tell whether a ``[source.x] directory = "vendor"`` may lie below one of *folders*."""
    for path, content in configuration.items():
        above = os.path.dirname(os.path.dirname(path))
        for value in _values("directory", content):
            place = os.path.realpath(os.path.join(above, value))
            if any(os.path.join(place, "").startswith(os.path.join(folder, "")) for folder in folders):
                return True
    return False


def _values(key: str, content: bytes) -> list[str]:
    """Return what may be the values of keys that contain *key*: too many rather than too few."""
    parts = os.fsdecode(content).replace("'", '"').split(key)[1:]
    return [part.partition("=")[2].partition('"')[2].partition('"')[0] for part in parts]
