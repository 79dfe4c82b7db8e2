"""What keeps the store small and whole: its entries as the user sees them, pruning, verifying.

An entry goes when it was not used for 30 days, or when the store is larger than a limit
and no other was unused for longer; never one that a build holds. With it go its second
names. What killed processes left goes too.
"""

from __future__ import annotations

import os
import stat

from pyo3_envshim import _startup, contents, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyo3_envshim.store import Store

LIMIT = 2 << 30
DAY = 86400.0
AGE = 30 * DAY


def parse_size(text: str) -> int | None:
    """Return the number of bytes that *text* says, or None for ``none``: no limit.

    A whole number with ``K``, ``M``, ``G`` or ``T``, in powers of 1024, or none of them;
    ``B`` and ``iB`` may follow. 0 keeps what is in use only. Raises ValueError.
    """
    word = text.strip().lower()
    if word == "none":
        return None
    number = word[:-2] if word.endswith("ib") else word[:-1] if word.endswith("b") else word
    power = "kmgt".find(number[-1:]) + 1
    digits = (number[:-1] if power else number).rstrip()
    if not (digits.isascii() and digits.isdigit()) or (word.endswith("ib") and not power):
        raise ValueError(f"{text!r} is not a size such as 500M or 2G, nor none")
    return int(digits) << 10 * power


class Entry:
    """An entry: its digest, path and tokens; when it was last used (seconds), and how often."""

    __slots__ = ("_files", "digest", "path", "tokens", "used", "uses")

    def __init__(self, digest: str, path: str, tokens: list[str]) -> None:
        self.digest = digest
        self.path = path
        self.tokens = tokens
        self.used = 0.0  # without a manifest it is of no use to anybody
        self.uses = 0
        self._files: dict[str, tuple[str, str]] | None = None
        for name in (contents.MANIFEST, contents.USES):
            try:
                found = os.lstat(os.path.join(path, name))
            except OSError:
                continue
            self.used = max(self.used, found.st_mtime)
            self.uses = found.st_size if name == contents.USES else 0

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """The manifest; empty if it cannot be read."""
        if self._files is None:
            try:
                self._files = contents.read_manifest(self.path)
            except (OSError, ValueError):
                self._files = {}
        return self._files

    @property
    def inodes(self) -> dict[int, int]:
        """The size of each file, byte code left out, by inode: entries may share files."""
        states = (state.split("-", 2) for state, _ in self.files.values())
        try:
            return {int(inode): int(size) for inode, size, _ in states}
        except ValueError:  # somebody else wrote it
            return {}

    @property
    def size(self) -> int:
        """The size of the files in bytes, byte code left out."""
        return sum(self.inodes.values())

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


def entries(place: Store) -> list[Entry]:
    """Return the entries, by digest. Raises OSError."""
    found: dict[str, list[str]] = {}
    names = sorted(name for name in os.listdir(place.environments) if not name.startswith("."))
    for name in names:  # a digest is before its tokens
        digest, _, token = name.partition("-")
        if not token and not os.path.islink(path := place.address(digest)) and os.path.isdir(path):
            found[digest] = []
        elif digest in found:
            found[digest].append(token)
    return [Entry(digest, place.address(digest), tokens) for digest, tokens in found.items()]


def prune(place: Store, limit: int | None, age: float = AGE, now: float | None = None) -> list[str]:
    """Take away what was not used for *age* seconds, and the least recently used beyond *limit* bytes.

    *limit* None is none; *now* is the time in seconds. What a build holds stays. Returns
    the digests of what has gone. Raises OSError where the store cannot be read.
    """
    import time

    now = time.time() if now is None else now
    _sweep(place, age, now)
    found = sorted(entries(place), key=lambda entry: entry.used)
    inodes = {entry.digest: entry.inodes for entry in found} if limit is not None else {}
    names: dict[int, int] = {}
    total = 0
    for files in inodes.values():
        for inode, size in files.items():
            total += 0 if inode in names else size
            names[inode] = names.get(inode, 0) + 1
    gone = []
    for entry in found:
        files = inodes.get(entry.digest, {})
        # without files it has no manifest that can be read, and nobody can use it
        if now - entry.used <= age and (limit is None or (files and total <= limit)):
            continue
        if not _take_away(place, entry.digest):
            continue
        gone.append(entry.digest)
        for inode, size in files.items():
            names[inode] -= 1
            total -= 0 if names[inode] else size
    return gone


def clear(place: Store) -> list[str]:
    """Take all entries away but those in use; return the digests of these. Raises OSError."""
    prune(place, None, age=float("-inf"))
    return [entry.digest for entry in entries(place)]


def verify(place: Store) -> dict[str, str | None]:
    """Read every file of every entry again; return what is wrong with each, by digest, or None.

    What the manifest says is believed. Raises OSError where the store cannot be read.
    """
    found = {}
    for entry in entries(place):
        try:
            with store.Lock(entry.path, exclusive=False, without=True, wait=True) as held:
                if held:
                    found[entry.digest] = _damage(entry.path)
        except OSError as error:
            found[entry.digest] = str(error)
    return found


def _damage(path: str) -> str | None:
    try:
        damage, known = contents.surface(path)
        for name, (state, content) in known.items():
            full = os.path.join(path, name)
            found = os.lstat(full)
            mode = int(state.rpartition("-")[2], 8)
            same_use = stat.S_ISLNK(mode) or (found.st_mode ^ mode) & 0o100 == 0
            if not same_use or contents.content_of(full, found) != content:
                return f"changed file {contents.named(name)}"
    except (OSError, ValueError) as error:
        return str(error)
    return damage


def _take_away(place: Store, digest: str) -> bool:
    """Take an entry away, and its second names, unless a build holds it."""
    path = place.address(digest)
    try:
        with store.Lock(path, exclusive=True, without=False) as free:
            if not free:
                return False
            # The names first: who stores it anew, once it is gone, may give it the same ones.
            for name in os.listdir(place.environments):
                if name.startswith(digest + "-"):
                    os.unlink(os.path.join(place.environments, name))
            place.discard(path)
    except OSError:
        return False
    return True


def _sweep(place: Store, age: float, now: float) -> None:
    """Remove what processes left that were killed, and what is remembered of old interpreters."""
    names = os.listdir(place.environments)
    for path in (os.path.join(place.environments, n) for n in names if n.startswith((".new-", ".old-"))):
        try:
            with store.Lock(path, exclusive=True, without=False) as free:
                if free:
                    contents.remove(path)
        except OSError:
            pass
    _sweep_names(place)
    for path in _temporary_files(place, names):
        _remove_older(path, now - DAY)
    for name in os.listdir(place.interpreters):
        _remove_older(os.path.join(place.interpreters, name), now - (DAY if "." in name else age))


def _sweep_names(place: Store) -> None:
    """Remove second names whose entry is gone; nobody may give one meanwhile (`Store.alias`)."""
    try:
        with store.Lock(place.environments, exclusive=True, without=False) as free:
            for name in os.listdir(place.environments) if free else ():
                digest, dash, _ = name.partition("-")
                path = os.path.join(place.environments, name)
                gone = not os.path.lexists(place.address(digest))
                if digest[:1] != "." and dash and gone and os.path.islink(path):
                    os.unlink(path)
    except OSError:
        pass


def _temporary_files(place: Store, names: list[str]) -> Iterator[str]:
    """Yield what was to replace a manifest."""
    for name in names:
        folder = os.path.join(place.environments, name)
        if os.path.islink(folder):
            continue
        try:
            files = os.listdir(folder)
        except OSError:  # no folder, or another process prunes too
            continue
        yield from (os.path.join(folder, file) for file in files if file.startswith(contents.MANIFEST + "."))


def _remove_older(path: str, than: float) -> None:
    try:
        if os.lstat(path).st_mtime < than:
            os.unlink(path)
    except OSError:
        pass
