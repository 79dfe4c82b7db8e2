"""The content-addressed store: environments in normal form, each at one permanent path.

Layout, below the cache folder (mode 0700, the user's own):

    environments/<digest>/           an entry: an environment in normal form
    environments/<digest>/.manifest  what was written, to find what has changed since
    environments/<digest>-<token>    the same entry under a name that cargo has not seen
    environments/.new-…, .old-…      an entry being written, one being removed
    interpreters/<hash of path>      a remembered SHA-256 of a file of an interpreter

A reader never sees half an entry: it is written beside its place and renamed. No other
environment's file is ever written to: what is rewritten is a copy.
"""

from __future__ import annotations

import errno
import os
import sys

from pyo3_envshim.environments import PLACEHOLDER, Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = ".manifest"
# What os.link answers where a hard link cannot be had: another device, too many names of
# one file, a file system without them, Linux' protected_hardlinks.
_CANNOT_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)


class StoreError(Exception):
    """The store cannot be used; the message says why."""


def folder(environ: Mapping[str, str]) -> str:
    """Return the path of the cache folder: ``PYO3_ENVSHIM_CACHE_DIR``, or the user's."""
    chosen = environ.get("PYO3_ENVSHIM_CACHE_DIR")
    if chosen:
        return os.path.abspath(chosen)
    if sys.platform.startswith("linux"):
        # platformdirs' own rule (its _xdg.py: a relative path is not one), without the
        # 15 ms that importing it takes; a test holds the two together
        home = os.path.join(environ.get("HOME", ""), ".cache")
        for base in (environ.get("XDG_CACHE_HOME", ""), home):
            if os.path.isabs(base):
                return os.path.join(base, "pyo3-envshim")
    import platformdirs

    return platformdirs.user_cache_dir("pyo3-envshim", appauthor=False)


class Store:
    """The store in one cache folder."""

    def __init__(self, root: str) -> None:
        """Open the store below *root* (an absolute path), which is made if it is not there.

        Raises `StoreError` if it is not safe to use, OSError if it cannot be made.
        """
        self.root = root
        self.environments = os.path.join(root, "environments")
        self.interpreters = os.path.join(root, "interpreters")
        for path in (root, self.environments, self.interpreters):
            os.makedirs(path, mode=0o700, exist_ok=True)
            _check_owner(path)

    def address(self, digest: str, token: str = "") -> str:
        """Return the path of an entry, or of its second name with *token*."""
        return os.path.join(self.environments, f"{digest}-{token}" if token else digest)

    def get(self, environment: Environment) -> bool:
        """Tell whether *environment* is stored, whole and unchanged; note that it is used."""
        path = self.address(environment.digest)
        if not os.path.isdir(path) or not _is_intact(path, environment):
            return False
        os.utime(os.path.join(path, MANIFEST))
        return True

    def put(self, environment: Environment) -> None:
        """Store *environment*, or replace what is stored of it. Raises OSError.

        Several processes may do this at once: each writes its own folder, the first to
        rename it wins, and the others take the winner's.
        """
        path = self.address(environment.digest)
        new = self._temporary(".new-")
        try:
            mask = os.umask(0o022)  # what is written is the digest's, not the user's of today
            try:
                _write(environment, new, path)
            finally:
                os.umask(mask)
            while True:
                try:
                    os.rename(new, path)
                    return
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                if self._is_whole_or_gone(path, environment):
                    return  # another process was first: its entry is as good
        finally:
            _remove(new)

    def _is_whole_or_gone(self, path: str, environment: Environment) -> bool:
        """Tell whether the entry at *path* is whole; take it away if it is damaged.

        One process at a time: a second one would take away what the first has mended.
        """
        import fcntl

        old = None
        folder = os.open(self.environments, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if _is_intact(path, environment):
                return True
            if os.path.lexists(path):
                old = self._temporary(".old-")
                os.rename(path, os.path.join(old, "entry"))
            return False
        finally:
            os.close(folder)
            if old is not None:
                _remove(old)

    def alias(self, digest: str, token: str) -> None:
        """Give an entry a second name with *token*. Raises OSError."""
        try:
            os.symlink(digest, self.address(digest, token))
        except FileExistsError:
            if os.readlink(self.address(digest, token)) != digest:
                raise

    def hash_file(self, path: str) -> str:
        """Return the SHA-256, in hex, of the file at *path*, remembered by its stat.

        For files of interpreters: several MB that do not change. Raises OSError.
        """
        import hashlib

        state = _state(os.stat(path))
        note = os.path.join(self.interpreters, hashlib.sha256(os.fsencode(path)).hexdigest()[:32])
        try:
            with open(note, encoding="ascii") as file:
                known, _, digest = file.read().partition(" ")
            if known == state and len(digest) == 64:
                return digest
        except (OSError, ValueError):
            pass
        with open(path, "rb") as content:
            digest = hashlib.sha256(content.read()).hexdigest()
        try:
            _replace(note, f"{state} {digest}".encode())
        except OSError:
            pass  # it is only slower next time
        return digest

    def _temporary(self, prefix: str) -> str:
        path = os.path.join(self.environments, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}")
        os.mkdir(path, 0o700)
        return path


def _check_owner(path: str) -> None:
    if os.name == "nt":
        return
    found = os.lstat(path)
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to another user")
    if found.st_mode & 0o022:
        raise StoreError(f"{path} can be written by others")


def _write(environment: Environment, new: str, path: str) -> None:
    """Write *environment* into the folder *new*, to be renamed to *path*."""
    manifest: dict[str, str] = {}
    made = {""}
    for item in environment.items:
        target = os.path.join(new, item.path)
        parent = os.path.dirname(item.path)
        if parent not in made:
            os.makedirs(os.path.join(new, parent), exist_ok=True)
            made.add(parent)
        if item.target is not None:
            os.symlink(item.target, target)
        elif item.text is not None:
            _create(target, _placed(item.text, path), item.executable)
        elif item.source is not None:
            _link_or_copy(item.source, target, item.executable)
        manifest[item.path] = _state(os.lstat(target))
    _create(os.path.join(new, MANIFEST), _manifest(manifest))


def _placed(text: bytes, path: str) -> bytes:
    """Return the *text* of a normal form as it stands in the entry at *path*."""
    place = os.fsencode(path)
    first, newline, rest = text.partition(b"\n")
    if first.startswith(b"#!" + PLACEHOLDER) and (len(place) > _LONGEST or b" " in place):
        # Valid as sh and as Python: sh replaces itself, Python sees a string (distlib's form).
        interpreter, _, options = first[len(b"#!" + PLACEHOLDER) :].partition(b" ")
        command = b'"' + place + interpreter + b'" ' + options + b' "$0" "$@"'
        first = b"#!/bin/sh\n'''exec' " + command + b"\n' '''"
    return first.replace(PLACEHOLDER, place) + newline + rest.replace(PLACEHOLDER, place)


# Linux before 5.1 reads 127 bytes of a first line (BINPRM_BUF_SIZE); less room for the rest of it.
_LONGEST = 100


def _link_or_copy(source: str, target: str, executable: bool) -> None:
    mode = 0o755 if executable else 0o644
    try:
        if os.stat(source).st_mode & 0o7777 == mode:
            os.link(source, target)
            return
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
    import shutil

    shutil.copyfile(source, target)
    os.chmod(target, mode)


def _create(path: str, content: bytes, executable: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644)
    with open(descriptor, "wb") as file:
        file.write(content)


def _replace(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        _create(temporary, content)
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise


def _is_intact(path: str, environment: Environment) -> bool:
    """Tell whether the entry at *path* still holds what *environment* says, and no more.

    A file whose stat is the manifest's is taken as unchanged (its ctime is in it, which
    cannot be set); another is read: a hard link's ctime changes with its other names.
    """
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            lines = os.fsdecode(file.read()).split("\0")
        known = {name: state for state, _, name in (line.partition(" ") for line in lines)}
        present = set(_files(path))
        if present != {item.path for item in environment.items} or present != set(known):
            return False
        again = {}
        for item in environment.items:
            full = os.path.join(path, item.path)
            found = os.lstat(full)
            if _state(found) == known[item.path]:
                continue
            if not _is_item(full, found, path, item):
                return False
            again[item.path] = _state(found)
        if not os.access(os.path.join(path, "bin", "python"), os.X_OK):
            return False
        if again:
            _replace(os.path.join(path, MANIFEST), _manifest({**known, **again}))
    except (OSError, ValueError):
        return False
    return True


def _manifest(states: Mapping[str, str]) -> bytes:
    return os.fsencode("\0".join(f"{state} {path}" for path, state in states.items()))


def _is_item(full: str, found: os.stat_result, entry: str, item: Item) -> bool:
    import hashlib
    import stat

    if item.source is not None and os.path.samestat(found, os.stat(item.source)):
        return True  # one file under two names, and it has just been read
    if item.target is not None:
        return stat.S_ISLNK(found.st_mode) and os.readlink(full) == item.target
    if not stat.S_ISREG(found.st_mode) or bool(found.st_mode & 0o100) != item.executable:
        return False
    with open(full, "rb") as file:
        data = file.read()
    if item.text is not None:
        return data == _placed(item.text, entry)
    return hashlib.sha256(data).hexdigest() == item.content


def _files(root: str, relative: str = "") -> Iterator[str]:
    """Yield the paths, relative to an entry, of its files and links but byte code."""
    with os.scandir(os.path.join(root, relative)) as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(root, path)
            elif not path.startswith(MANIFEST):  # itself, or one that is about to replace it
                yield path


def _state(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_mode:o}"


def _remove(path: str) -> None:
    """Remove a file or folder of the store, if it is there; what cannot be removed stays."""
    if not os.path.lexists(path):
        return
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            os.unlink(path)
        except OSError:
            pass


if TYPE_CHECKING:
    from pyo3_envshim.environments import Item
