"""cargo's configuration files: which variables cargo may see with a value that is not its process's."""

from __future__ import annotations

import os

from pyo3_envshim.cargo.command_line import values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# rustup's proxy sets or extends these for cargo (1.28, `Toolchain::set_env`), as do its users.
_RUSTUPS = ("PATH", "LD_LIBRARY_PATH", "DYLD_", "CARGO", "RUST")


def may_change(
    names: Iterable[str], folder: str, arguments: Sequence[str], environ: Mapping[str, str]
) -> set[str]:
    """Return those of *names* that a cargo in *folder* may see changed: by rustup, or by ``[env]``.

    A file that mentions a name counts, and one that includes others counts for all of them.
    """
    found = {name for name in names if name.startswith(_RUSTUPS)}
    for text in _texts(folder, arguments, environ):
        includes = any(line.lstrip().startswith("include") for line in text.splitlines())
        found.update(name for name in names if includes or name in text)
    return found


def _texts(folder: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Iterator[str]:
    paths = []
    for value in values_of("--config", arguments):  # KEY=VALUE, or a file
        yield value
        paths.append(os.path.join(folder, value))
    above = ""
    while folder != above:
        paths += [os.path.join(folder, ".cargo", name) for name in ("config.toml", "config")]
        above, folder = folder, os.path.dirname(folder)
    home = environ.get("CARGO_HOME") or os.path.join(environ.get("HOME", ""), ".cargo")
    paths += [os.path.join(home, name) for name in ("config.toml", "config")]
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                yield file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass
