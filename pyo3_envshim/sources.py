"""Build folders that outlive the source trees they are for: what is compiled of an unpacked sdist.

A front end that unpacks an sdist throws cargo's build folder away with it. Where
``PYO3_ENVSHIM_BUILD_CACHE`` asks for it, cargo gets one that stays (``build.build-dir``,
cargo 1.91), below the cache folder:

    builds/<name>-<hash>/    for one project and one base interpreter; locked while it is in use

cargo's own files lie in it, `freshness`' stamp (whose mtime is the last use), and what
maturin tells PyO3, under a name that its content decides.

Never stale: in doubt, by the very rule of `freshness`, everything is removed before
cargo starts but what was compiled from the sources in cargo's home and depends on nothing
else. Those are known by name, version and checksum, or by a commit, not by time stamps; the
project's own crates, path dependencies, patches and vendored crates are not among them.
Whatever is not known to be good goes. Nothing else uses the folder until cargo has ended:
this process waits for it, and holds the lock, which nothing inherits. Should it be killed
and leave cargo behind, cargo's own lock tells the next one (once cargo has it: some 0.1 s later).

What a registry's crate reads without telling cargo (a variable, a file of the system) counts
when it is next compiled, as in an ordinary build folder, and not each time, as without us.

The project's own crates may hold a path below this folder where they would hold one below
the unpacked tree, if they name their ``OUT_DIR``: both are as random as each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil

from pyo3_envshim import contents, freshness, frontends, processes, store, trust, upkeep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

VARIABLE = "PYO3_ENVSHIM_BUILD_CACHE"
LIMIT = 5 << 30
ROOM = 1 << 30  # what must be free: a build that fails on a full disk would not have without us
# Who sets one of these has chosen where cargo works.
OWN = ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR")
_BUILDS = "builds"
_OLD = ".old-"
_HASH = re.compile(r"[0-9a-f]{16}")


class Unfit(Exception):
    """The call does not get a kept build folder; the message says why."""


def limit_of(environ: Mapping[str, str]) -> float:
    """Return how many bytes the folders may have together: 0 is off. Raises ValueError."""
    word = environ.get(VARIABLE, "").strip().lower()
    if word in ("", "off", "0", "no", "false"):
        return 0
    if word in ("on", "1", "yes", "true"):
        return LIMIT
    size = upkeep.parse_size(word)
    return float("inf") if size is None else size


class Kept:
    """A build folder that this process holds."""

    __slots__ = ("_held", "_limit", "folder")

    def __init__(self, folder: str, held: int, limit: float) -> None:
        self.folder = folder
        self._held = held
        self._limit = limit

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Return cargo's arguments with the folder among them.

        Not as a variable: a cargo that a build script starts would have it too, and wait for
        the lock of the one that waits for it.
        """
        after = 1 if arguments and arguments[0].startswith("+") else 0
        option = f"build.build-dir={json.dumps(self.folder, ensure_ascii=False)}"
        return [*arguments[:after], "--config", option, *arguments[after:]]

    def variables(self, environ: dict[str, str]) -> dict[str, str]:
        """Return *environ* with the configuration that maturin writes into the tree named in the folder.

        PyO3 would be compiled anew for its path, which is as random as the tree's.
        """
        path = environ.get("PYO3_CONFIG_FILE")
        if not path:
            return environ
        import hashlib

        with open(path, "rb") as file:
            content = file.read()
        place = os.path.join(self.folder, f"pyo3-config-{hashlib.sha256(content).hexdigest()[:32]}.txt")
        if not os.path.exists(place):
            contents.replace(place, content)
        return {**environ, "PYO3_CONFIG_FILE": place}

    def run(self, cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run cargo, wait for it, keep the folders small, and end as it did. Raises OSError."""
        try:
            status = processes.started([cargo, *self.arguments(arguments)], environ).wait()
        finally:
            self.release()
        try:
            prune(os.path.dirname(os.path.dirname(self.folder)), self._limit)
        except OSError:
            pass  # the next one does it
        return processes.end_as(status)

    def release(self) -> None:
        """Let others use the folder."""
        os.close(self._held)


def taken(
    cache: str,
    place: tuple[Mapping[str, Any], Sequence[str], Sequence[str]],
    base: str,
    environ: Mapping[str, str],
    ask: Callable[[list[str]], Mapping[str, Any]],
    say: Callable[[str], None],
) -> Kept:
    """Return a build folder for a call that compiles in a throw-away tree, held and fit for use.

    *cache*: the cache folder. *place*: what ``cargo metadata --no-deps`` answers, the folders of
    the local packages, and those that hold no sources. *base*: the base interpreter. *ask* asks
    cargo for all packages, for these target platforms. Raises `Unfit`, OSError, ValueError.
    """
    answer, packages, skip = place
    limit = limit_of(environ)
    if not limit:
        raise Unfit(f"{VARIABLE} is off")
    check(answer, environ)
    within = os.path.join(cache, _BUILDS)
    folder = os.path.join(within, key(answer, base))
    if "{" in folder or not _is_unicode(folder):
        raise Unfit(f"cargo's configuration cannot hold the path {folder}")
    flaw = trust.flaw_of(within)
    if flaw:
        raise Unfit(flaw)
    if shutil.disk_usage(within).free < ROOM:
        raise Unfit(f"less than 1G is free in {within}")
    held = hold(folder, say)
    try:
        refresh(folder, answer["workspace_root"], packages, [*skip, cache], environ, ask)
    except BaseException:
        os.close(held)
        raise
    return Kept(folder, held, limit)


def check(answer: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise `Unfit` if cargo does not work in an unpacked sdist, or not where it would by itself."""
    root = answer["workspace_root"]
    if frontends.unpacked_at(root, environ) is None:
        raise Unfit(f"{root} is not an sdist that a front end unpacked")
    for name in OWN:
        if environ.get(name):
            raise Unfit(f"{name} is set")
    if "build_directory" not in answer:
        raise Unfit("cargo is older than 1.91")
    if {answer["build_directory"], answer["target_directory"]} != {os.path.join(root, "target")}:
        raise Unfit("a target or build folder is configured")
    if not os.path.exists(os.path.join(root, "Cargo.lock")):
        raise Unfit("the sdist has no Cargo.lock")


def key(answer: Mapping[str, Any], base: str) -> str:
    """Return the name of the folder for a workspace and the base interpreter *base*."""
    import hashlib

    manifest = os.path.join(answer["workspace_root"], "Cargo.toml")
    names = [it["name"] for it in answer["packages"] if it["manifest_path"] == manifest]
    names = names or sorted(it["name"] for it in answer["packages"])
    digest = hashlib.sha256("\0".join([base, *names]).encode(errors="surrogateescape")).hexdigest()
    return f"{names[0][:40]}-{digest[:12]}" if names else digest[:12]


def hold(folder: str, say: Callable[[str], None]) -> int:
    """Lock *folder*, which is made if need be; return its descriptor, which nothing inherits.

    Raises OSError, also where there are no such locks.
    """
    import fcntl

    waited = False
    while True:
        os.makedirs(folder, 0o700, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    say(f"waits for another build that uses {folder}")
                waited = True
                fcntl.flock(held, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(held), os.lstat(folder)):
                return held
        except FileNotFoundError:  # it was pruned while we waited
            pass
        except BaseException:
            os.close(held)
            raise
        os.close(held)


def refresh(
    folder: str,
    root: str,
    packages: Iterable[str],
    skip: Sequence[str],
    environ: Mapping[str, str],
    ask: Callable[[list[str]], Mapping[str, Any]],
) -> None:
    """Remove from a held *folder* what may not be reused for the sources at *root*, and leave a stamp.

    The stamp comes last: who is killed before has left the doubt.
    """
    found, stamp, trusted = freshness.judged(folder, root, packages, skip)
    manifest = os.path.join(root, "Cargo.toml")
    # Another tree in the same place gets none of the files that build scripts generated for this one.
    if stamp and (manifest not in found or stamp.files.get(manifest) != found[manifest].state):
        trusted = False
    if not trusted:
        if _is_used(folder):
            raise Unfit(f"a cargo that nobody waits for works in {folder}")
        forget(folder, *reusable(ask(platforms(folder)), environ))
    tag = os.path.join(folder, "CACHEDIR.TAG")
    if not os.path.exists(tag):
        with open(tag, "w", encoding="ascii") as file:
            file.write(freshness.CACHE_TAG)
    freshness.write_stamp(folder, root, "", found)


def platforms(folder: str) -> list[str]:
    """Return the platforms that something in *folder* was compiled for: cargo's folders, and the host."""
    try:
        with open(os.path.join(folder, ".rustc_info.json"), encoding="utf-8") as file:
            hosts = set(re.findall(r"\\nhost: ([\w.-]+)", file.read()))
    except FileNotFoundError:
        return []
    return sorted(hosts)


def reusable(answer: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Return the names of the packages whose artefacts may stay, and those of their crates.

    *answer* is that of ``cargo metadata``, for all packages.
    """
    home = environ.get("CARGO_HOME") or os.path.join(environ.get("HOME", ""), ".cargo")
    homes = [os.path.join(at, *part) for at in (home, os.path.realpath(home)) for part in _SOURCES]
    packages = {package["id"]: package for package in answer["packages"]}
    others = {
        name
        for name, it in packages.items()
        if it["source"] is None or not any(it["manifest_path"].startswith(at + os.sep) for at in homes)
    }
    needs = {node["id"]: node["dependencies"] for node in answer["resolve"]["nodes"]}
    while True:
        # One that depends on them is compiled against them.
        more = {name for name in packages if not others.isdisjoint(needs.get(name, ()))} - others
        if not more:
            break
        others |= more
    rest = packages.keys() - others

    def names(ids: Iterable[str]) -> set[str]:
        return {packages[name]["name"] for name in ids}

    def crates(ids: Iterable[str]) -> set[str]:
        return {target["name"].replace("-", "_") for name in ids for target in packages[name]["targets"]}

    return names(rest) - names(others), crates(rest) - crates(others)


# Below cargo's home: what it unpacked and checked, by checksum or commit.
_SOURCES = (("registry", "src"), ("git", "checkouts"))


def forget(folder: str, packages: set[str], crates: set[str]) -> None:
    """Remove all that cargo left in *folder* but what it left of these. Raises OSError."""
    for profile in _profiles(folder):
        # The fingerprints first: without one, cargo believes nothing of the rest.
        units = [*_within(profile, ".fingerprint"), *_within(profile, "build")]
        gone = [path for path in units if _package(path) not in packages]
        # A crate of the project's own may have the name of another's: the unit's hash tells them apart.
        kept = {_hash_of(path) for path in _within(profile, ".fingerprint") if _package(path) in packages}
        gone += [
            path
            for path in _within(profile, "deps")
            if _crates(path).isdisjoint(crates) and (_hash_of(path) or None) not in kept
        ]
        for path in (*gone, *_within(profile, "incremental"), *_within(profile, "examples")):
            _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _profiles(folder: str) -> Iterator[str]:
    """Find the folders that may be a profile's: ``release``, ``<target>/release``."""
    for path in _within(folder):
        if os.path.isdir(path) and not os.path.islink(path):
            yield path
            yield from (
                below for below in _within(path) if os.path.isdir(below) and not os.path.islink(below)
            )


def _within(*parts: str) -> list[str]:
    folder = os.path.join(*parts)
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _package(path: str) -> str:
    """Return the name of the package that cargo keeps at *path*.

    ``<package>-<hash>``, or with its new layout (1.97's ``-Zbuild-dir-new-layout``) ``<package>``
    with folders named by hashes in it.
    """
    name = os.path.basename(path)
    if any(_HASH.fullmatch(os.path.basename(inner)) for inner in _within(path)):
        return name
    name, _, number = name.rpartition("-")
    return name if _HASH.fullmatch(number) else ""


def _hash_of(path: str) -> str:
    """Return the hash of the unit that cargo keeps at *path*, or ""."""
    number = os.path.basename(path).partition(".")[0].rpartition("-")[2]
    return number if _HASH.fullmatch(number) else ""


def _crates(path: str) -> set[str]:
    """Return the name of the crate that a file among the outputs is of: either of two, for ``lib…``."""
    crate = os.path.basename(path).partition(".")[0]
    if _hash_of(path):
        crate = crate.rpartition("-")[0]
    return {crate, crate[len("lib") :] if crate.startswith("lib") else crate}


def _is_used(folder: str) -> bool:
    """Tell whether a cargo has locked a profile in *folder*."""
    import fcntl

    for profile in _profiles(folder):
        for name in (".cargo-lock", ".cargo-build-lock"):
            try:
                with open(os.path.join(profile, name), "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except (FileNotFoundError, NotADirectoryError):
                pass
    return False


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


class Build:
    """A kept build folder: its name, path, and size in bytes; when it was last used (seconds)."""

    __slots__ = ("name", "path", "size", "used")

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self.path = path
        self.size = sum({at.st_ino: at.st_size for at in _stats(path)}.values())
        try:
            self.used = os.lstat(os.path.join(path, freshness.STAMP)).st_mtime
        except OSError:
            self.used = 0.0


def _stats(folder: str) -> Iterator[os.stat_result]:
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(above, name))
            except OSError:  # a build removes it just now
                pass


def builds(cache: str) -> list[Build]:
    """Return what is kept in a cache folder, the least recently used first."""
    paths = _within(cache, _BUILDS)
    found = [Build(path) for path in paths if not os.path.basename(path).startswith(_OLD)]
    return sorted(found, key=lambda it: it.used)


def prune(cache: str, limit: float, before: float = 0) -> list[str]:
    """Remove the least recently used until there are at most *limit* bytes, and those unused since *before*.

    Never one that is in use. Returns the names of what has gone.
    """
    for path in _within(cache, _BUILDS):  # of who was killed while removing it
        if os.path.basename(path).startswith(_OLD):
            contents.remove(path)
    found = builds(cache)
    total = sum(it.size for it in found)
    gone = []
    for it in found:
        if (total > limit or it.used < before) and _take_away(it.path):
            gone.append(it.name)
            total -= it.size
    return gone


def clear(cache: str) -> list[str]:
    """Remove all that are not in use; return their names."""
    return prune(cache, 0, before=float("inf"))


def _take_away(path: str) -> bool:
    try:
        with store.Lock(path, exclusive=True, without=False) as free:
            if not free:
                return False
            old = os.path.join(os.path.dirname(path), f"{_OLD}{os.getpid()}-{os.urandom(4).hex()}")
            os.rename(path, old)
    except OSError:
        return False
    contents.remove(old)
    return True
