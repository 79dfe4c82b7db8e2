"""Keeps the store small and whole: its entries as the user sees them, pruning, verifying.

An entry is removed when it was not used for 30 days, or when the store exceeds its limit and
this entry is the least recently used; never while a build has it locked. Its aliases go with
it. What killed processes left behind is removed too.
"""

from __future__ import annotations

import os
import stat

from pyo3_envshim import _startup, files
from pyo3_envshim.environment import layout
from pyo3_envshim.store.entry import (
    MANIFEST,
    USES,
    Damage,
    content_of,
    is_held,
    printable,
    read_manifest,
    surface,
)
from pyo3_envshim.store.lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol, TypeVar

    from pyo3_envshim.store.store import Store

    class Candidate(Protocol):
        """What `evict` may remove: its last use (seconds), and the size of each file by inode."""

        used: float

        @property
        def inodes(self) -> dict[int, int]: ...

    T = TypeVar("T", bound=Candidate)

VARIABLE = "PYO3_ENVSHIM_CACHE_SIZE"
LIMIT = 2 << 30
DAY = 86400.0
AGE = 30 * DAY


def parse_size(text: str) -> int | None:
    """Return the number of bytes that *text* stands for, or None for ``none``: no limit.

    A whole number, optionally with ``K``, ``M``, ``G`` or ``T`` for a power of 1024, and then
    ``B`` or ``iB``. 0 keeps only what is in use. Raises ValueError.
    """
    word = text.strip().lower()
    if word == "none":
        return None
    number = word[:-2] if word.endswith("ib") else word[:-1] if word.endswith("b") else word
    power = "kmgt".find(number[-1:]) + 1
    digits = (number[:-1] if power else number).rstrip()
    if not (digits.isascii() and digits.isdigit()) or (word.endswith("ib") and not power):
        raise ValueError(f"{text!r} is not a size")
    return int(digits) << 10 * power


def limit_of(environ: Mapping[str, str]) -> tuple[int | None, str]:
    """Return how many bytes the store may take, None being no limit; and what is wrong with that."""
    value = environ.get(VARIABLE, "").strip()
    try:
        return (parse_size(value) if value else LIMIT), ""
    except ValueError:
        return LIMIT, f"{VARIABLE}={value!r} is taken as its default: say none or a size such as 500M"


class Entry:
    """An entry: its digest, path and nonces; its last use (seconds), number of uses, and size in bytes.

    Byte code does not count.
    """

    def __init__(self, digest: str, path: str, nonces: list[str]) -> None:
        self.digest, self.path, self.nonces = digest, path, nonces
        self.used, self.uses = 0.0, 0
        self.files: dict[str, tuple[str, str]] = {}  # the manifest; empty if it cannot be read
        self.inodes: dict[int, int] = {}  # the size of each file by inode: entries may share files
        try:
            self.files = read_manifest(path)
            states = (state.split("-", 2) for state, _ in self.files.values())
            self.inodes = {int(inode): int(size) for inode, size, _ in states}
        except (OSError, ValueError):  # ValueError: we did not write this manifest
            pass
        self.size = sum(self.inodes.values())
        for name in (MANIFEST, USES):
            try:
                found = os.lstat(os.path.join(path, name))
            except OSError:
                continue
            self.used = max(self.used, found.st_mtime)
            self.uses = found.st_size if name == USES else 0

    @property
    def interpreter(self) -> str:
        """The path of the base interpreter."""
        return _startup.read_config(self.path).get("executable", "")

    @property
    def version(self) -> str:
        """The version of the base interpreter."""
        return _startup.read_config(self.path).get("version", "")

    @property
    def distributions(self) -> list[str]:
        """The distributions, each as name and version."""
        folders = (path.rpartition("/")[0] for path in self.files if path.endswith(".dist-info/METADATA"))
        names = (os.path.split(folder) for folder in folders)
        found = (name for above, name in names if os.path.basename(above) == "site-packages")
        return sorted(name[: -len(".dist-info")].replace("-", " ", 1) for name in found)


def entries(store: Store) -> list[Entry]:
    """Return the entries, sorted by digest. Raises OSError."""
    found: dict[str, list[str]] = {}
    names = sorted(name for name in os.listdir(store.environments) if not name.startswith("."))
    for name in names:  # a digest comes before its aliases
        digest, _, nonce = name.partition("-")
        if not nonce and not os.path.islink(path := store.path(digest)) and os.path.isdir(path):
            found[digest] = []
        elif digest in found:
            found[digest].append(nonce)
    return [Entry(digest, store.path(digest), nonces) for digest, nonces in found.items()]


def evict(
    candidates: Iterable[T], limit: float | None, before: float, remove: Callable[[T], bool]
) -> list[T]:
    """Remove what was last used *before* that time; then the least recently used, down to *limit* bytes.

    *limit* None is none. *remove* returns False for a candidate that has to stay. A file that
    several candidates share counts once, and is freed with the last of them. Under a limit, a
    candidate without files is removed too: nobody can use it. Returns what was removed.
    """
    found = sorted(candidates, key=lambda it: it.used)
    sizes: dict[int, int] = {}
    names: dict[int, int] = {}
    for it in found:
        sizes.update(it.inodes)
        for inode in it.inodes:
            names[inode] = names.get(inode, 0) + 1
    total = sum(sizes.values())
    gone = []
    for it in found:
        exceeds = limit is not None and (total > limit or not it.inodes)
        if (exceeds or it.used < before) and remove(it):
            gone.append(it)
            for inode in it.inodes:
                names[inode] -= 1
                total -= 0 if names[inode] else sizes[inode]
    return gone


def prune(store: Store, limit: int | None, age: float = AGE, now: float | None = None) -> list[str]:
    """Evict what was not used for *age* seconds, and what exceeds *limit* bytes (None: no limit).

    *now* is the time in seconds. Entries in use stay. Returns the digests of the removed
    entries. Raises OSError if the store cannot be read.
    """
    import time

    now = time.time() if now is None else now
    _sweep(store, age, now)
    gone = evict(entries(store), limit, now - age, lambda entry: _remove_entry(store, entry.digest))
    return [entry.digest for entry in gone]


def clear(store: Store) -> list[str]:
    """Remove all except the entries in use; return the digests of these. Raises OSError."""
    prune(store, None, age=float("-inf"))
    _sweep_folders_for_path(store, also_whole=True)
    return [entry.digest for entry in entries(store)]


def verify(store: Store) -> dict[str, str | None]:
    """Read every file of every entry again; return what is wrong with each, by digest, or None.

    The manifests are taken as correct. Raises OSError if the store cannot be read.
    """
    found = {}
    for entry in entries(store):
        try:
            with Lock(entry.path, exclusive=False, without=True, wait=True) as held:
                if held:
                    found[entry.digest] = _verify_entry(entry.path)
        except OSError as error:
            found[entry.digest] = str(error)
    return found


def _verify_entry(path: str) -> str | None:
    try:
        damage, known = surface(path)
        for name, (state, content) in known.items():
            full = os.path.join(path, name)
            found = os.lstat(full)
            mode = int(state.rpartition("-")[2], 8)
            same_use = stat.S_ISLNK(mode) or (found.st_mode ^ mode) & 0o100 == 0
            if not same_use or content_of(full, found) != content:
                damage = Damage(f"changed file {printable(name)}")
                break
    except (OSError, ValueError) as error:
        return str(error)
    return None if damage is None else str(damage)


def _remove_entry(store: Store, digest: str) -> bool:
    """Remove an entry and its aliases; return False if a build has it locked."""
    path = store.path(digest)
    try:
        with Lock(path, exclusive=True, without=False) as free:
            if not free or is_held(path) is not False:
                return False
            # Remove aliases first: another process may recreate the entry under them.
            for name in os.listdir(store.environments):
                if name.startswith(digest + "-"):
                    _remove_alias(store, os.path.join(store.environments, name))
            store.discard(path)
    except OSError:
        return False
    return True


def _sweep(store: Store, age: float, now: float) -> None:
    """Remove what killed processes left behind, and the remembered hashes of old interpreters."""
    names = os.listdir(store.environments)
    for path in (os.path.join(store.environments, n) for n in names if n.startswith((".new-", ".old-"))):
        try:
            with Lock(path, exclusive=True, without=False) as free:
                if free:
                    files.remove(path)
        except OSError:
            pass
    _sweep_aliases(store)
    _sweep_folders_for_path(store)
    for folder in (os.path.join(store.environments, n) for n in names):
        try:
            found = [] if os.path.islink(folder) else os.listdir(folder)
        except OSError:  # not a folder, or another process has just removed it
            continue
        for file in found:
            if file.startswith(MANIFEST + "."):  # it was to replace a manifest
                _remove_older(os.path.join(folder, file), now - DAY)
    for name in os.listdir(store.interpreters):
        _remove_older(os.path.join(store.interpreters, name), now - (DAY if "." in name else age))


def _sweep_aliases(store: Store) -> None:
    """Remove aliases whose entry is gone, under the lock that keeps `Acquired.add_nonce` out."""
    try:
        with Lock(store.environments, exclusive=True, without=False) as free:
            for name in os.listdir(store.environments) if free else ():
                digest, dash, _ = name.partition("-")
                path = os.path.join(store.environments, name)
                gone = not os.path.lexists(store.path(digest))
                if digest[:1] != "." and dash and gone and _is_alias(path):
                    _remove_alias(store, path)
    except OSError:
        pass


def _is_alias(path: str) -> bool:
    """Tell whether a second name of an entry is at *path*: a link, or, on Windows, a folder."""
    return os.path.exists(os.path.join(path, MANIFEST)) if layout.WINDOWS else os.path.islink(path)


def _remove_alias(store: Store, path: str) -> None:
    """Remove a link, or, on Windows, a folder. Raises OSError."""
    if layout.WINDOWS:
        store.discard(path)
    else:
        os.unlink(path)


def _sweep_folders_for_path(store: Store, also_whole: bool = False) -> None:
    """Remove the folders of `pyo3-envshim env --path` whose wrapper is gone.

    *also_whole*: and those that this process's ``PATH`` does not name. A shell would still look for
    cargo there (bash remembers where it was).
    """
    named = os.environ.get("PATH", "").split(os.pathsep) if also_whole else []
    for folder in (os.path.join(store.root, name) for name in os.listdir(store.root)):
        link = os.path.join(folder, "cargo")
        is_due = folder not in named if also_whole else not os.path.exists(link)
        if _startup.is_on_path(folder) and os.path.islink(link) and is_due:
            try:
                os.unlink(link)
                os.rmdir(folder)
            except OSError:
                pass


def _remove_older(path: str, than: float) -> None:
    try:
        if os.lstat(path).st_mtime < than:
            os.unlink(path)
    except OSError:
        pass
