"""What ``cargo metadata`` tells of a workspace.

``cargo metadata --no-deps`` answers in a few milliseconds without resolving anything, and
lists the members of the workspace only.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim.cargo.command_line import command_of, metadata_arguments, metadata_environ, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pyo3_envshim.call import CargoCall

_FOR_PYTHON = ("pyo3", "python3-sys")  # how the crates are called whose build scripts ask for one


class MetadataError(Exception):
    """cargo could not tell where it works."""


class Workspace:
    """Where a call works.

    *root*: the workspace's folder. *build_dir*, *target_dir*: where cargo keeps what it
    compiles, and puts results; *tells_build_dir*: whether this cargo knows the first (1.91 and
    later); *profile*: the name of the folders in it that the call uses. *packages*: the names of
    the local packages in each folder, among them path dependencies that cargo told nothing of.
    *crates*: the folders of their targets' sources, likewise. *loaded*: the packages of each library that
    other programs load, by its name in small letters. *scripts*: whether one of them has, or may have, a
    build script or a procedural macro. *exclude*: folders that hold no sources. *names*: the root package's
    name, or, in a virtual workspace, those of all members. *settings*: the values of ``--config`` on the
    command line. *targets*, *flags*: the platforms, and what is for rustc, on it.
    """

    __slots__ = (
        *("build_dir", "crates", "exclude", "flags", "loaded", "names", "packages", "profile", "root"),
        *("scripts", "settings", "target_dir", "targets", "tells_build_dir"),
    )

    def __init__(
        self, answer: Mapping[str, Any], packages: Sequence[Mapping[str, Any]], arguments: Sequence[str] = ()
    ) -> None:
        """Read it from *answer*, of ``cargo metadata --no-deps``, all known *packages*, and the call's."""
        self.profile = profile_of(arguments)
        self.settings = list(values_of("--config", arguments))
        self.targets = values_of("--target", arguments)
        self.flags = list(arguments[arguments.index("--") + 1 :]) if "--" in arguments else []
        self.root: str = answer["workspace_root"]
        self.target_dir: str = answer["target_directory"]
        self.tells_build_dir = "build_directory" in answer
        self.build_dir: str = answer.get("build_directory") or self.target_dir
        self.exclude = [self.build_dir, self.target_dir]
        manifest = os.path.join(self.root, "Cargo.toml")
        members = {it["name"]: it.get("manifest_path") for it in answer["packages"]}
        own = [name for name, path in members.items() if path == manifest]
        self.names = tuple(own or sorted(members))
        self.packages: dict[str, set[str]] = {}
        self.crates: dict[str, set[str]] = {}
        self.loaded: dict[str, set[str]] = {}
        known: set[str] = set()
        named: set[str] = set()
        kinds: set[str] = set()
        for package in packages:
            if package["source"] is None:
                name = package["name"]
                needs = [need for need in package["dependencies"] if need.get("path")]
                found = [(os.path.dirname(package["manifest_path"]), name)]
                found += [(need["path"], need["name"]) for need in needs]
                for folder, own in found:
                    self.packages.setdefault(folder, set()).add(own)
                for target in package["targets"]:
                    self.crates.setdefault(os.path.dirname(target["src_path"]), set()).add(name)
                    kinds.update(own_kinds := set(target.get("kind", ())))
                    if own_kinds & {"cdylib", "dylib"}:  # the only ones with no hash in their file's name
                        self.loaded.setdefault(target["name"].replace("-", "_").lower(), set()).add(name)
                known.add(name)
                named.update(need["name"] for need in needs)
        self.scripts = not kinds.isdisjoint(("custom-build", "proc-macro")) or not named <= known

    @property
    def local_names(self) -> set[str]:
        """The names of all local packages that are known."""
        return {name for names in self.packages.values() for name in names}

    @property
    def namesakes(self) -> list[set[str]]:
        """The packages whose libraries overwrite each other's; some file systems know no capitals."""
        return [packages for packages in self.loaded.values() if len(packages) > 1]

    @property
    def uses_python(self) -> bool:
        """Whether the lock file names crates that ask for a Python."""
        blocks = _packages(os.path.join(self.root, "Cargo.lock"))
        return any(_name(block).startswith(_FOR_PYTHON) for block in blocks)


class Query:
    """A ``cargo metadata`` call that runs while something else is done.

    A context manager: cargo has ended, and was waited for, when it is left.
    """

    def __init__(
        self,
        call: CargoCall,
        dependencies: bool = False,
        platforms: Sequence[str] = (),
        settings: Sequence[str] = (),
    ) -> None:
        """Ask where *call* works; with *dependencies*, about all packages, those for *platforms* only.

        *settings* are more arguments.
        """
        asked = metadata_arguments(call.arguments, dependencies)
        for platform in [*platforms, *values_of("--target", call.arguments)] if platforms else ():
            asked += ["--filter-platform", platform]
        asked += settings
        self._call = call
        self._said = b""
        self._output, out = os.pipe()
        try:
            environ = metadata_environ(call.arguments, call.environ)
            self._wait: Callable[[], int] | None = _spawn([call.cargo, *asked], environ, out)
        except BaseException as error:
            os.close(self._output)
            if isinstance(error, OSError):
                error.filename = call.cargo  # Windows does not tell
            raise
        finally:
            os.close(out)

    def __enter__(self) -> Query:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for cargo: no child is left behind for the program that this process becomes."""
        self._finish()

    def answer(self) -> dict[str, Any]:
        """Return the parsed answer. Raises `MetadataError` if cargo could not tell."""
        from pyo3_envshim.cargo import fast_json

        try:
            said = self._finish().decode()
            if not said.isascii() and sys.getfilesystemencoding() != "utf-8":
                raise MetadataError("a path is not ASCII, and the locale's encoding is not UTF-8")
            found: dict[str, Any] = fast_json.loads(said)
        except ValueError:
            raise MetadataError("cargo metadata failed, so it is not known where cargo works") from None
        return found

    def workspace(self) -> Workspace:
        """Return where the call works.

        Where the lock file tells of local packages besides the members (path dependencies,
        patches), cargo is asked again, for all. Raises `MetadataError` if cargo could not tell.
        """
        answer = self.answer()
        packages = answer["packages"]
        lock = os.path.join(answer["workspace_root"], "Cargo.lock")
        local = local_names(lock)  # two packages may have one name
        if len(local) > len(packages) or not set(local) <= {package["name"] for package in packages}:
            packages = all_packages(self._call)["packages"]
        return Workspace(answer, packages, self._call.arguments)

    def _finish(self) -> bytes:
        """Wait for cargo to end; return what it said, or nothing if it failed."""
        if self._wait:
            with open(self._output, "rb") as file:
                output = file.read()
            self._said = output if self._wait() == 0 else b""
            self._wait = None
        return self._said


def all_packages(
    call: CargoCall, platforms: Sequence[str] = (), settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what cargo tells of all packages, those for *platforms* only. Raises `MetadataError`."""
    with Query(call, True, platforms, settings) as query:
        return query.answer()


def profile_of(arguments: Sequence[str]) -> str:
    """Return what the folders are called in which cargo compiles (1.95, ``core/profiles.rs``)."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    # Flags may stand together, as in -vr; the first one that takes a value ends them.
    short = [a[1:].lstrip("vq") for a in options if a.startswith("-")]
    name = "dev"
    if (
        command_of(arguments) == "bench"
        or "--release" in options
        or any(flags.startswith("r") for flags in short)
    ):
        name = "release"
    name = [name, *values_of("--profile", arguments)][-1]
    return {"dev": "debug", "test": "debug", "check": "debug", "bench": "release"}.get(name, name)


def local_names(lock: str) -> list[str]:
    """Return the names of the local packages in a ``Cargo.lock``; none if there is no such file.

    Local are those without ``source`` (cargo's ``core/resolver/encode.rs``).
    """
    return [_name(block) for block in _packages(lock) if '\nsource = "' not in block]


def locked(lock: str) -> list[tuple[str, str, str | None]]:
    """Return name, version and source of each package in a ``Cargo.lock``; none if there is no such file."""
    return [(_name(it), _value(it, "version"), _value(it, "source") or None) for it in _packages(lock)]


def checksums(lock: str) -> dict[str, str]:
    """Return the checksums that a ``Cargo.lock`` has, by name, version and source in one text."""
    blocks = ((it, _value(it, "checksum")) for it in _packages(lock))
    return {
        f"{_name(it)} {_value(it, 'version')} {_value(it, 'source')}": found for it, found in blocks if found
    }


def _value(block: str, key: str) -> str:
    return block.partition(f'\n{key} = "')[2].partition('"')[0]


def dependents(lock: str, names: set[str]) -> set[str] | None:
    """Return *names*, and what needs them by a ``Cargo.lock``; None if there is no such file."""
    blocks = _packages(lock)
    needs = [
        (_name(block), {need.partition('"')[0].partition(" ")[0] for need in block.split('\n "')[1:]})
        for block in blocks
    ]
    found, before = set(names), -1
    while len(found) > before:
        before = len(found)
        found |= {name for name, own in needs if not found.isdisjoint(own)}
    return found if blocks else None


def _packages(lock: str) -> list[str]:
    """Return what a ``Cargo.lock`` says of each package; nothing if there is no such file."""
    try:
        with open(lock, encoding="utf-8") as file:
            blocks = file.read().split("[[package]]")[1:]
    except FileNotFoundError:
        return []
    return [block.partition("\n[")[0] for block in blocks]  # without the tables that follow the last one


def _name(block: str) -> str:
    return _value(block, "name")


def _spawn(command: list[str], environ: Mapping[str, str], out: int) -> Callable[[], int]:
    """Start a process that writes to the descriptor *out* and nowhere else.

    Returns a function that waits for it and returns its status: 0 if it succeeded.
    """
    if not hasattr(os, "POSIX_SPAWN_OPEN"):  # PyPy, Windows
        import subprocess

        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=environ, stdin=null, stdout=out, stderr=null).wait
    # Importing subprocess would take half as long as this whole call.
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    process = os.posix_spawn(command[0], command, environ, file_actions=actions)
    return lambda: os.waitpid(process, 0)[1]
