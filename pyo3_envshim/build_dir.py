"""Build folders that outlive the unpacked sdists that are built in them.

A front end that unpacks an sdist throws cargo's build folder away with it. Where
``PYO3_ENVSHIM_BUILD_CACHE`` asks for it, cargo gets one that is kept (``build.build-dir``,
cargo 1.91) below the cache folder:

    builds/<name>-<hash>/    for one project; locked while in use

It holds cargo's own files, sets of units for other interpreters (`set_aside`), `freshness`' stamp (whose
mtime is the last use), and the configuration that maturin writes for PyO3, named after its content.

Nothing stale is reused. In doubt, by the rule of `freshness`, everything is removed before
cargo starts, except what was compiled from sources in cargo's home, which cargo knows by name,
version and checksum, or by a commit, and what depends on nothing else. Nothing else uses the
folder until cargo has ended: this process waits for it, and holds a lock that no other process
inherits. If we are killed while cargo runs on, the next build sees cargo's own lock, taken
about 0.1 s after start.

What a registry's crate reads without telling cargo counts when the crate is next compiled, as
in an ordinary build folder; without us, that is each build. A local crate that uses ``OUT_DIR``
in its code may contain a path below this folder; one below the unpacked tree is as random.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil

from pyo3_envshim import files, freshness, subprocesses
from pyo3_envshim.call import warn
from pyo3_envshim.cargo import metadata, target_dir
from pyo3_envshim.environment import frontends
from pyo3_envshim.store import ownership
from pyo3_envshim.store.lock import Lock, open_folder, stands, try_lock
from pyo3_envshim.store.prune import evict, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pyo3_envshim.call import CargoCall
    from pyo3_envshim.cargo.metadata import Workspace

VARIABLE = "PYO3_ENVSHIM_BUILD_CACHE"
LIMIT = 5 << 30
ROOM = 1 << 30  # what must be free: a build that fails on a full disk would have succeeded without us
# A user who sets one of these has chosen where cargo works.
OWN = ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR")
_BUILDS = "builds"
_OLD = ".old-"


class Ineligible(Exception):
    """The call gets no kept build folder; the message says why."""


def limit_of(environ: Mapping[str, str]) -> float:
    """Return how many bytes the folders may have together; 0 if they are off. Raises ValueError."""
    word = environ.get(VARIABLE, "").strip().lower()
    if word in ("", "off", "0", "no", "false"):
        return 0
    if word in ("on", "1", "yes", "true"):
        return LIMIT
    size = parse_size(word)
    return float("inf") if size is None else size


class BuildDir:
    """A build folder that this process has locked. *in_child* is called in cargo's process at first."""

    def __init__(self, folder: str, descriptor: int, limit: float) -> None:
        self.folder = folder
        self._descriptor = descriptor
        self._limit = limit
        self.in_child: Callable[[], object] | None = None

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Return cargo's arguments with the folder among them.

        It is not set by a variable: a cargo that a build script starts would inherit that,
        and wait forever for the lock of the cargo that waits for the script.
        """
        after = 1 if arguments and arguments[0].startswith("+") else 0
        option = f"build.build-dir={json.dumps(self.folder, ensure_ascii=False)}"
        return [*arguments[:after], "--config", option, *arguments[after:]]

    def variables(self, environ: dict[str, str]) -> dict[str, str]:
        """Return *environ* with maturin's configuration for PyO3 moved from the tree into the folder.

        PyO3 is compiled again if the path of its configuration changes, and the tree's is random.
        """
        path = environ.get("PYO3_CONFIG_FILE")
        if not path:
            return environ
        with open(path, "rb") as file:
            content = file.read()
        kept = os.path.join(self.folder, f"pyo3-config-{hashlib.sha256(content).hexdigest()[:32]}.txt")
        if not os.path.exists(kept):
            files.replace(kept, content)
        return {**environ, "PYO3_CONFIG_FILE": kept}

    def run(self, call: CargoCall, environ: Mapping[str, str]) -> int:
        """Run cargo and wait for it, prune the kept folders, and end as cargo did. Raises OSError."""
        try:
            command = [call.cargo, *self.arguments(call.arguments)]
            status = subprocesses.ended(subprocesses.started(command, environ, in_child=self.in_child))
        finally:
            self.release()
        try:
            prune(os.path.dirname(os.path.dirname(self.folder)), self._limit)
        except OSError:
            pass  # the next build prunes
        return subprocesses.end_as(status)

    def release(self) -> None:
        os.close(self._descriptor)


def acquire(call: CargoCall, workspace: Workspace, cache: str) -> BuildDir:
    """Return a build folder for a call that compiles in an unpacked sdist, locked and ready for use.

    *cache*: the cache folder. Raises `Ineligible`, `MetadataError`, OSError, ValueError.
    """
    limit = limit_of(call.environ)
    if not limit:
        raise Ineligible(f"{VARIABLE} is off")
    check(workspace, call.environ)
    above = os.path.join(cache, _BUILDS)
    folder = os.path.join(above, key(workspace))
    # A surrogate stands for a byte that is not UTF-8.
    if "{" in folder or any("\ud800" <= character <= "\udfff" for character in folder):
        raise Ineligible(f"cargo's configuration cannot hold the path {folder}")
    if flaw := ownership.flaw_of(above):
        raise Ineligible(str(flaw))
    if shutil.disk_usage(above).free < ROOM:
        raise Ineligible(f"less than 1G is free in {above}")
    descriptor = lock(folder)
    try:
        evict_stale(folder, workspace, call)
    except BaseException:
        os.close(descriptor)
        raise
    return BuildDir(folder, descriptor, limit)


def check(workspace: Workspace, environ: Mapping[str, str]) -> None:
    """Raise `Ineligible` if cargo works in no unpacked sdist, or not in the folder that is its default."""
    root = workspace.root
    if frontends.unpacked_at(root, environ) is None:
        raise Ineligible(f"{root} is not an sdist that a front end unpacked")
    for name in OWN:
        if environ.get(name):
            raise Ineligible(f"{name} is set")
    if not workspace.tells_build_dir:
        raise Ineligible("cargo is older than 1.91")
    if {workspace.build_dir, workspace.target_dir} != {os.path.join(root, "target")}:
        raise Ineligible("a target or build folder is configured")
    if not os.path.exists(os.path.join(root, "Cargo.lock")):
        raise Ineligible("the sdist has no Cargo.lock")


def key(workspace: Workspace) -> str:
    """Return the name of the folder for a workspace."""
    text = "\0".join(workspace.names)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{workspace.names[0][:40]}-{digest}" if workspace.names else digest


def lock(folder: str) -> int:
    """Create *folder* if need be, and lock it. Raises OSError, also where there are no locks."""
    waits = False
    while True:
        os.makedirs(folder, 0o700, exist_ok=True)
        descriptor = open_folder(folder)
        try:
            locked = try_lock(descriptor, exclusive=True, wait=waits)
            if locked is None:
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), folder)
            if locked and stands(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked:  # otherwise the folder was pruned while we waited
            warn(f"waits for another build that uses {folder}")
            waits = True


def evict_stale(folder: str, workspace: Workspace, call: CargoCall) -> None:
    """Remove from a locked *folder* what must not be reused for the sources of *workspace*.

    The stamp is written last: if we die earlier, the old one stays and the next build distrusts this folder.
    """
    found = freshness.assess(workspace, folder)
    path = os.path.join(os.path.realpath(workspace.root), "Cargo.toml")
    manifest = found.sources.get(path)
    # Another tree in the same place must not see files that build scripts generated for this one.
    is_another = found.stamp and (manifest is None or found.stamp.files.get(path) != manifest.state)
    if is_another or not found.trusted:
        if target_dir.is_used(folder):
            raise Ineligible(f"a cargo that nobody waits for works in {folder}")
        answer = metadata.all_packages(call, target_dir.platforms(folder))
        target_dir.evict(folder, *reusable(answer, call.environ))
    target_dir.tag(folder)
    freshness.write_stamp(folder, workspace.root, "", found.sources)


def reusable(answer: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Return what may stay, packages' and crates' names; *answer*: ``cargo metadata``'s for all packages."""
    verified = target_dir.verified_sources(environ)
    packages = {package["id"]: package for package in answer["packages"]}
    others = {
        name
        for name, it in packages.items()
        if it["source"] is None or not it["manifest_path"].startswith(verified)
    }
    needs = {node["id"]: node["dependencies"] for node in answer["resolve"]["nodes"]}
    # A package that depends on these was compiled against them.
    while more := {name for name in packages if not others.isdisjoint(needs.get(name, ()))} - others:
        others |= more
    rest = packages.keys() - others

    def names(ids: Iterable[str]) -> set[str]:
        return {packages[name]["name"] for name in ids}

    def crates(ids: Iterable[str]) -> set[str]:
        return {target["name"].replace("-", "_") for name in ids for target in packages[name]["targets"]}

    return names(rest) - names(others), crates(rest) - crates(others)


class Build:
    """A kept build folder: its name and path; when it was last used (seconds); its files' sizes by inode."""

    def __init__(self, path: str) -> None:
        self.name, self.path = os.path.basename(path), path
        self.inodes: dict[int, int] = {}
        for above, _, names in os.walk(path):
            for name in names:
                try:
                    found = os.lstat(os.path.join(above, name))
                    self.inodes[found.st_ino] = found.st_size
                except OSError:  # a build has just removed it
                    pass
        try:
            self.used = os.lstat(os.path.join(path, freshness.STAMP)).st_mtime
        except OSError:
            self.used = 0.0

    @property
    def size(self) -> int:
        """The size of the files in bytes."""
        return sum(self.inodes.values())


def builds(cache: str) -> list[Build]:
    """Return the folders that are kept in a cache folder, the least recently used first."""
    paths = target_dir.paths_in(cache, _BUILDS)
    found = [Build(path) for path in paths if not os.path.basename(path).startswith(".")]
    return sorted(found, key=lambda build: build.used)


def prune(cache: str, limit: float, before: float = 0) -> list[str]:
    """Remove the least recently used until there are at most *limit* bytes, and those unused since *before*.

    A folder that is in use stays. Returns the names of those that were removed.
    """
    for path in target_dir.paths_in(cache, _BUILDS):
        if os.path.basename(path).startswith(_OLD):  # left by a process that was killed while removing it
            files.remove(path)
    return [build.name for build in evict(builds(cache), limit, before, _take_away)]


def clear(cache: str) -> list[str]:
    """Remove all folders that are not in use; return their names."""
    return prune(cache, 0, before=float("inf"))


def _take_away(build: Build) -> bool:
    try:
        with Lock(build.path, exclusive=True, without=False) as free:
            if not free:
                return False
            old = os.path.join(os.path.dirname(build.path), f"{_OLD}{os.getpid()}-{os.urandom(4).hex()}")
            os.rename(build.path, old)
    except OSError:
        return False
    files.remove(old)
    return True
