"""What ``cargo metadata`` tells of a workspace.

``cargo metadata --no-deps`` answers in a few milliseconds without resolving anything, and
lists the members of the workspace only.
"""

from __future__ import annotations

import os

from pyo3_envshim.cargo.command_line import metadata_arguments, metadata_environ, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pyo3_envshim.call import CargoCall


class MetadataError(Exception):
    """cargo could not tell where it works."""


class Workspace:
    """Where a call works.

    *root*: the workspace's folder. *build_dir*, *target_dir*: where cargo keeps what it
    compiles, and puts results; *tells_build_dir*: whether this cargo knows the first (1.91 and
    later). *folders*: those of all local packages, their targets' sources and their path
    dependencies. *exclude*: folders that hold no sources. *names*: the root package's name, or,
    in a virtual workspace, those of all members.
    """

    __slots__ = ("build_dir", "exclude", "folders", "names", "root", "target_dir", "tells_build_dir")

    def __init__(self, answer: Mapping[str, Any], packages: Sequence[Mapping[str, Any]]) -> None:
        """Read it from the *answer* of ``cargo metadata --no-deps`` and all known *packages*."""
        self.root: str = answer["workspace_root"]
        self.target_dir: str = answer["target_directory"]
        self.tells_build_dir = "build_directory" in answer
        self.build_dir: str = answer.get("build_directory") or self.target_dir
        self.exclude = [self.build_dir, self.target_dir]
        manifest = os.path.join(self.root, "Cargo.toml")
        members = {it["name"]: it.get("manifest_path") for it in answer["packages"]}
        own = [name for name, path in members.items() if path == manifest]
        self.names = tuple(own or sorted(members))
        folders = set()
        for package in packages:
            if package["source"] is None:
                folders.add(os.path.dirname(package["manifest_path"]))
                folders.update(os.path.dirname(kind["src_path"]) for kind in package["targets"])
                folders.update(need["path"] for need in package["dependencies"] if need.get("path"))
        self.folders = sorted(folders)


class Query:
    """A ``cargo metadata`` call that runs while something else is done.

    A context manager: cargo has ended, and was waited for, when it is left.
    """

    def __init__(self, call: CargoCall, dependencies: bool = False, platforms: Sequence[str] = ()) -> None:
        """Ask where *call* works; with *dependencies*, about all packages, those for *platforms* only."""
        asked = metadata_arguments(call.arguments, dependencies)
        for platform in [*platforms, *values_of("--target", call.arguments)] if platforms else ():
            asked += ["--filter-platform", platform]
        self._call = call
        self._said = b""
        self._output, out = os.pipe()
        try:
            environ = metadata_environ(call.arguments, call.environ)
            self._wait: Callable[[], int] | None = _spawn([call.cargo, *asked], environ, out)
        except BaseException:
            os.close(self._output)
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
            found: dict[str, Any] = fast_json.loads(self._finish().decode())
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
        if not local_names(lock) <= {package["name"] for package in packages}:
            packages = all_packages(self._call)["packages"]
        return Workspace(answer, packages)

    def _finish(self) -> bytes:
        """Wait for cargo to end; return what it said, or nothing if it failed."""
        if self._wait:
            with open(self._output, "rb") as file:
                output = file.read()
            self._said = output if self._wait() == 0 else b""
            self._wait = None
        return self._said


def all_packages(call: CargoCall, platforms: Sequence[str] = ()) -> dict[str, Any]:
    """Return what cargo tells of all packages, those for *platforms* only. Raises `MetadataError`."""
    with Query(call, True, platforms) as query:
        return query.answer()


def local_names(lock: str) -> set[str]:
    """Return the names of the local packages in a ``Cargo.lock``; none if there is no such file.

    Local are those without ``source`` (cargo's ``core/resolver/encode.rs``).
    """
    try:
        with open(lock, encoding="utf-8") as file:
            blocks = file.read().split("[[package]]")[1:]
    except FileNotFoundError:
        return set()
    names = set()
    for block in blocks:
        block = block.partition("\n[")[0]  # drop the tables that follow the last package
        keys = dict(line.partition(" = ")[::2] for line in block.splitlines() if " = " in line)
        if "source" not in keys:
            names.add(keys.get("name", "").strip('"'))
    return names


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
