"""cargo's configuration: ``.cargo/config.toml`` in the working directory, above it, and in cargo's home.

Not all that it says is part of what cargo compares (1.95): a ``rustc-wrapper`` is not, nor is where
vendored crates lie.
"""

from __future__ import annotations

import os

from pyo3_envshim.cargo.command_line import values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# rustup's proxy sets or extends these for cargo (1.28, `Toolchain::set_env`), as do its users.
_RUSTUPS = ("PATH", "LD_LIBRARY_PATH", "DYLD_", "CARGO", "RUST")


def read(environ: Mapping[str, str] = os.environ) -> dict[str, bytes]:
    """Return the content of the configuration files by path, for a cargo in the working directory."""
    folder, above, places = os.getcwd(), "", []
    while folder != above:
        places.append(os.path.join(folder, ".cargo"))
        folder, above = os.path.dirname(folder), folder
    home = environ.get("HOME") or os.path.expanduser("~")
    places.append(environ.get("CARGO_HOME") or os.path.join(home, ".cargo"))
    paths = (os.path.join(place, name) for place in places for name in ("config.toml", "config"))
    texts = {path: _read(path) for path in paths}
    return {path: text for path, text in texts.items() if text is not None}


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # nor does cargo read it, or it fails
        return None


def may_vendor_below(folders: Iterable[str], configuration: Mapping[str, bytes]) -> bool:
    """Tell whether a ``[source.x] directory = "vendor"`` may lie below one of *folders*."""
    for path, content in configuration.items():
        above = os.path.dirname(os.path.dirname(path))
        for text in os.fsdecode(content).replace("'", '"').split("directory")[1:]:
            place = os.path.realpath(os.path.join(above, text.partition('"')[2].partition('"')[0]))
            if any(os.path.join(place, "").startswith(os.path.join(folder, "")) for folder in folders):
                return True
    return False


def may_change(names: Iterable[str], arguments: Sequence[str], environ: Mapping[str, str]) -> set[str]:
    """Return those of *names* that cargo may see with another value: by rustup, or by ``[env]``.

    A file that mentions a name counts, and one that includes others counts for all of them.
    """
    found = {name for name in names if name.startswith(_RUSTUPS)}
    texts = list(read(environ).values())
    for value in values_of("--config", arguments):  # KEY=VALUE, or a file
        texts += [os.fsencode(value), _read(value) or b""]
    for text in texts:
        includes = any(line.lstrip().startswith(b"include") for line in text.splitlines())
        found.update(name for name in names if includes or os.fsencode(name) in text)
    return found
