"""cargo's configuration: ``.cargo/config.toml`` in the working directory, above it, and in cargo's home;
what these include; ``--config``; and variables.

Not all that it says is part of what cargo compares (1.95): a ``rustc-wrapper`` is not, nor is where
vendored crates lie.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# rustup's proxy sets or extends these for cargo (1.28, `Toolchain::set_env`), as do its users.
_RUSTUPS = ("PATH", "LD_LIBRARY_PATH", "DYLD_", "CARGO", "RUST")
# Programs that cargo starts to compile, by variable.
_PROGRAMS = tuple(
    f"{prefix}RUSTC{suffix}"
    for prefix in ("", "CARGO_BUILD_")
    for suffix in ("", "_WRAPPER", "_WORKSPACE_WRAPPER")
)
# Tables that have no part in what is compiled.
_OTHER_TABLES = (
    *(b"alias", b"cargo-new", b"future-incompat-report", b"http", b"net", b"registries", b"registry"),
    b"term",
)


def read(settings: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the content of the configuration files by path; also values: of variables, and *settings*.

    These are the values of ``--config``, which may be files too.
    """
    folder, above, places = os.getcwd(), "", []
    while folder != above:
        places.append(os.path.join(folder, ".cargo"))
        folder, above = os.path.dirname(folder), folder
    places.append(cargo_home(os.environ))
    paths = [os.path.join(place, name) for place in places for name in ("config.toml", "config")]
    programs = (name for name in os.environ if name in _PROGRAMS or _names_linker(name))
    found = {name: os.fsencode(os.environ[name]) for name in programs}
    for number, setting in enumerate(settings):
        found[f"--config {number}"] = os.fsencode(setting)
        paths.append(os.path.abspath(setting))
    for path in paths:  # grows by what they include
        if path not in found:
            try:
                with open(path, "rb") as file:
                    found[path] = file.read()
            except (OSError, ValueError):
                continue  # nor does cargo read it, or it fails
            paths += _included(path, found[path])
    return found


def cargo_home(environ: Mapping[str, str]) -> str:
    """Return the folder in which cargo keeps what is the user's, and not a project's."""
    user = environ.get("USERPROFILE" if os.name == "nt" else "HOME") or os.path.expanduser("~")
    return environ.get("CARGO_HOME") or os.path.join(user, ".cargo")


def _included(path: str, content: bytes) -> list[str]:
    """Return the files that a configuration file may include, relative to its folder: all that it names."""
    if b"include" not in content:
        return []
    names = os.fsdecode(content).replace("'", '"').split('"')
    above = os.path.dirname(path)
    return [os.path.realpath(os.path.join(above, name)) for name in names if name.endswith(".toml")]


def compared(content: bytes) -> bytes:
    """Return what counts of a configuration file: no comments, empty lines, or tables that compile nothing.

    All of it where a string may have several lines.
    """
    if b'"""' in content or b"'''" in content:
        return content
    lines, counts = [], True
    for line in map(bytes.strip, content.splitlines()):
        if line.startswith(b"["):
            name, _, rest = line[1:].partition(b"]")
            is_plain = rest.strip()[:1] in (b"", b"#")
            counts = not is_plain or name.partition(b".")[0] not in _OTHER_TABLES
        if counts and line and not line.startswith(b"#"):
            lines.append(line)
    return b"\n".join(lines)


def programs(configuration: Mapping[str, bytes], windows: bool = os.name == "nt") -> list[str]:
    """Return the files that may be started as rustc, in front of it, or as its linker.

    On Windows, ``sccache`` is ``sccache.exe`` (Rust's library, `resolve_exe`).
    """
    found = []
    for path, content in configuration.items():
        if path in _PROGRAMS or _names_linker(path):
            names = [os.fsdecode(content)]
        else:
            names = _values("rustc", content) + _values("linker", content)
        for name in filter(None, names):
            above = os.path.dirname(os.path.dirname(path)) or os.getcwd()
            folders = [above] if os.path.dirname(name) else os.environ.get("PATH", "").split(os.pathsep)
            called = [f"{name}.exe", name] if windows and not name.lower().endswith(".exe") else [name]
            places = (os.path.join(folder, it) for folder in folders if folder for it in called)
            found += [next(filter(os.path.isfile, places), "")]
    return [path for path in found if path]


def links_files(configuration: Mapping[str, bytes], own: Iterable[str] = ()) -> bool:
    """Tell whether flags for rustc may name files, or folders of libraries, that only the linker reads.

    *own*: the flags on the command line.
    """
    flags = [*own, *(value for name, value in os.environ.items() if name.endswith("RUSTFLAGS"))]
    for content in configuration.values():
        flags += [part.partition("]")[0] for part in os.fsdecode(content).split("rustflags")[1:]]
    words = " ".join(flags)
    for separator in "\x1f\"',[=":
        words = words.replace(separator, " ")
    # What begins like this is looked up when the library is loaded (maturin: @rpath/…).
    named = [word for word in words.split() if not word.startswith(("$", "@rpath/", "@loader_path/"))]
    if any(word.startswith(("-L", "-l", "-T", "--extern", "@")) for word in named):
        return True
    return any(os.path.dirname(word) or os.path.isfile(word) for word in named)


def _names_linker(variable: str) -> bool:
    return variable.startswith("CARGO_TARGET_") and variable.endswith("_LINKER")


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
    text = os.fsdecode(content).replace("'", '"')
    found, at = [], text.find(key)
    while at >= 0:  # not split: a value may contain the key
        found.append(text[at:].partition("=")[2].partition('"')[2].partition('"')[0])
        at = text.find(key, at + 1)
    return found


def may_change(names: Iterable[str], settings: Iterable[str]) -> set[str]:
    """Return those of *names* that cargo may see with another value: by rustup, or by ``[env]``.

    A file that mentions a name counts. *settings*: the values of ``--config``.
    """
    found = {name for name in names if name.startswith(_RUSTUPS)}
    for content in read(settings).values():
        if os.name == "nt":  # where the case of a variable's name does not count
            found.update(name for name in names if os.fsencode(name.lower()) in content.lower())
        found.update(name for name in names if os.fsencode(name) in content)
    return found
