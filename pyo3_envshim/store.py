"""The content-addressed store: environments in normal form, each at one permanent path.

Layout, below the cache folder (mode 0700, the user's own):

    environments/<digest>/                an entry: an environment in normal form
    environments/<digest>/.manifest       what was written, to find what has changed since
    environments/<digest>/.manifest-uses  a byte for each use; the last one is its mtime
    environments/<digest>-<token>         the same entry under a name that cargo has not seen
    environments/.new-…, .old-…           an entry being written, one being removed
    interpreters/<hash of path>           a remembered SHA-256 of a file of an interpreter

A reader never sees half an entry: it is written beside its place and renamed. No other
environment's file is ever written to: what is rewritten is a copy.

Who uses or writes an entry holds it: a shared lock (flock) on its folder, which the kernel
frees when the last process that inherited it ends, however it ends. What nobody holds may
be pruned (`upkeep`); to take it away needs the exclusive lock. Where a file system has no
such locks, nothing is pruned. A lock on a folder is one of this machine's: a store that
machines share (NFS) is pruned without regard to what the others build just now.

What has changed in an entry is noticed before each use, but not: byte code that was put
into a ``__pycache__``, added empty folders, what changes while cargo runs, and whatever
the user's own processes do to the manifest as well. Nobody else can get in (`trust`).
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from pyo3_envshim import trust
from pyo3_envshim.environments import PLACEHOLDER, Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = ".manifest"
USES = MANIFEST + "-uses"
ABSENT = "it is not there"
# What is wrong with an entry although, or because, it cannot be opened.
_FROM_OUTSIDE = ("it is not a folder", "its owner or mode has changed")
# What os.link answers where a hard link cannot be had: another device, too many names of
# one file, a file system without them, Linux' protected_hardlinks.
_CANNOT_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)
# What opening a folder answers if there is none, or none that this user can open.
_NO_ENTRY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)
# What flock answers where there are no such locks; NFS has none for a folder that cannot be written to.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
# Scripts use the small numbers (dash and bash up to 63) for files of their own.
_KEPT = 100
# How often something is tried again that other processes were in the way of.
_TRIES = 8


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
        self._held: int | None = None
        flaw = trust.flaw_on_the_way(root)
        for path in (self.environments, self.interpreters):
            flaw = flaw or trust.flaw_of(path)
        if flaw:
            raise StoreError(flaw)

    def address(self, digest: str, token: str = "") -> str:
        """Return the path of an entry, or of its second name with *token*."""
        return os.path.join(self.environments, f"{digest}-{token}" if token else digest)

    def use(self, environment: Environment) -> tuple[bool, str | None]:
        """Hold the entry of *environment*, and store it first if need be.

        Returns whether it was there, and what had changed in it if it had to be replaced.
        This process holds it; after `keep`, what it becomes does. Raises OSError, StoreError.
        """
        path = self.address(environment.digest)
        known, damage = True, None
        own: int | None = None
        for _ in range(_TRIES):  # each time, another process was faster to store it, and a third to prune it
            held, found = self._inspect(path, environment)
            if own is not None:
                os.close(own)
            if found is None:
                self.release()
                self._held = held
                _note_use(path)
                return known, damage
            if held is not None:
                os.close(held)
            known = False
            if found != ABSENT:
                damage = damage or found
            try:
                own = self._put(environment)  # held from its first moment on
            except OSError as error:
                if damage:
                    raise StoreError(
                        f"{path} had changed ({damage}) and was not replaced: {error}"
                    ) from error
                raise
        raise StoreError(f"{path} does not hold what was stored: {found}")

    def release(self) -> None:
        """Hold no entry any more."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def keep(self) -> None:
        """Let the program that takes this process's place hold the entry, and what it starts."""
        if self._held is not None:
            import fcntl

            fcntl.fcntl(self._held, fcntl.F_DUPFD, _KEPT)  # unlike the first, it is inherited

    def get(self, environment: Environment) -> bool:
        """Tell whether *environment* is stored, whole and unchanged."""
        return self.damage(environment) is None

    def damage(self, environment: Environment) -> str | None:
        """Return what is wrong with the entry of *environment*, `ABSENT`, or None."""
        return _damage(self.address(environment.digest), environment)

    def put(self, environment: Environment) -> None:
        """Store *environment*, or replace what is stored of it. Raises OSError, StoreError.

        Several processes may do this at once: each writes its own folder, the first to
        rename it wins, and the others take the winner's.
        """
        held = self._put(environment)
        if held is not None:
            os.close(held)

    def discard(self, path: str) -> None:
        """Take away what stands at *path*, at once for whoever looks there. Raises OSError."""
        old, held = self._temporary(".old-")
        try:
            os.rename(path, os.path.join(old, "entry"))
        except FileNotFoundError:  # another process did so
            pass
        finally:
            remove(old)
            if held is not None:
                os.close(held)

    def _put(self, environment: Environment) -> int | None:
        """Do what `put` does; return a descriptor that holds the entry if it is ours."""
        path = self.address(environment.digest)
        new, held = self._temporary(".new-")
        moved = False
        try:
            mask = os.umask(0o022)  # what is written is the digest's, not the user's of today
            try:
                _write(environment, new, path)
            finally:
                os.umask(mask)
            moved = self._move(new, path, environment)
            return held if moved else None
        finally:
            if not moved:
                remove(new)
                if held is not None:
                    os.close(held)

    def _move(self, new: str, path: str, environment: Environment) -> bool:
        """Give the folder *new* its place; False if another process was first: its entry is as good."""
        while True:
            try:
                os.rename(new, path)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if self._is_whole_or_gone(path, environment):
                return False

    def _is_whole_or_gone(self, path: str, environment: Environment) -> bool:
        """Tell whether the entry at *path* is whole; take it away if it is damaged.

        One process at a time: a second one would take away what the first has mended.
        Raises StoreError if a running build uses it.
        """
        import time

        with Lock(self.environments, exclusive=True, wait=True, without=True):
            for _ in range(50):  # others hold it too while they look at it
                held, damage = self._inspect(path, environment)
                if held is not None:
                    os.close(held)
                if damage in (None, ABSENT):
                    return damage is None
                try:
                    with Lock(path, exclusive=True, without=True) as free:
                        if free:
                            self.discard(path)
                            return False
                except OSError as error:
                    if error.errno not in _NO_ENTRY:
                        raise
                    self.discard(path)
                    return False
                time.sleep(0.02)
        raise StoreError(f"{path} had changed ({damage}), and a running build uses it")

    def alias(self, digest: str, token: str) -> None:
        """Give an entry that is held a second name with *token*. Raises OSError."""
        # Or the name might just be swept, as one that an entry pruned earlier has left.
        with Lock(self.environments, exclusive=False, wait=True, without=True):
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

    def _inspect(self, path: str, environment: Environment) -> tuple[int | None, str | None]:
        """Hold the entry at *path* and look at it: what nobody holds may go while it is looked at.

        Returns a descriptor, if it could be held, and its damage as `damage` does.
        """
        for _ in range(_TRIES):
            held = self._hold(path)
            damage = _damage(path, environment)
            if os.name == "nt" or (held is None and damage in (ABSENT, *_FROM_OUTSIDE)):
                return None, damage
            if held is not None:
                if _stands(held, path):
                    return held, damage
                os.close(held)
        raise StoreError(f"{path} cannot be held: {damage}")

    def _hold(self, path: str) -> int | None:
        """Return a descriptor that holds the entry at *path*, or None if there is nothing to hold."""
        if os.name == "nt":
            return None
        try:
            held = _open_folder(path)
        except OSError as error:
            if error.errno in _NO_ENTRY:
                return None
            raise
        try:
            _locked(held, exclusive=False, wait=True, without=True)
        except OSError:
            os.close(held)
            raise
        return held

    def _temporary(self, prefix: str) -> tuple[str, int | None]:
        """Make a folder; return it and a descriptor that holds it, so that nobody sweeps it."""
        while True:
            path = os.path.join(self.environments, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}")
            os.mkdir(path, 0o700)
            held = None
            try:
                held = self._hold(path)
                if os.name == "nt" or (held is not None and _stands(held, path)):
                    return path, held
            except OSError:
                remove(path)
                raise
            if held is not None:  # it was swept before it was held
                os.close(held)


class Lock:
    """A folder, open and locked in a ``with``, which says whether that was had; raises OSError.

    It is not had if another process has it and we do not *wait*, or if the folder does not
    stand at its path any more. *without*: the answer where there are no such locks.
    """

    def __init__(self, path: str, exclusive: bool, without: bool, wait: bool = False) -> None:
        self._path = path
        self._how = (exclusive, without, wait)
        self._folder: int | None = None

    def __enter__(self) -> bool:
        if os.name == "nt":
            return self._how[1]
        self._folder = _open_folder(self._path)
        try:
            return _locked(self._folder, *self._how) and _stands(self._folder, self._path)
        except OSError:
            os.close(self._folder)
            raise

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)


def _open_folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _locked(folder: int, exclusive: bool, without: bool, wait: bool) -> bool:
    import fcntl

    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(folder, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return without
    return True


def _stands(descriptor: int, path: str) -> bool:
    """Tell whether the open folder is still the one at *path*."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _note_use(path: str) -> None:
    """Note a use of the entry at *path*, if it can be written to: it can be used anyway."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        uses = os.open(os.path.join(path, USES), flags, 0o600)
        try:
            os.write(uses, b".")
        finally:
            os.close(uses)
    except OSError:
        pass


def _write(environment: Environment, new: str, path: str) -> None:
    """Write *environment* into the folder *new*, to be renamed to *path*."""
    manifest: dict[str, tuple[str, str]] = {}
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
        manifest[item.path] = _state(os.lstat(target)), _written(item, path)
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
        remove(temporary)
        raise


def _damage(path: str, environment: Environment) -> str | None:
    """Return what has changed in the entry at *path*, `ABSENT`, or None if it is whole.

    A file whose stat is the manifest's is taken as unchanged (its ctime is in it, which
    cannot be set); another is read: a hard link's ctime changes with its other names.
    """
    try:
        damage, known = surface(path, {item.path for item in environment.items})
        if damage:
            return damage
        again = {}
        for item in environment.items:
            full = os.path.join(path, item.path)
            found = os.lstat(full)
            state, content = known[item.path]
            if _state(found) == state:
                continue
            if not _is_item(full, found, path, item):
                return f"changed file {named(item.path)}"
            again[item.path] = _state(found), content
    except (OSError, ValueError) as error:
        return str(error)
    if again:
        try:
            _replace(os.path.join(path, MANIFEST), _manifest({**known, **again}))
        except OSError:
            pass  # it is only slower next time
    return None


def surface(path: str, wanted: set[str] | None = None) -> tuple[str | None, dict[str, tuple[str, str]]]:
    """Return what is wrong with the entry at *path* before its files are read, and its manifest.

    *wanted* are the paths that it must hold, or None for those of its manifest. The
    manifest is the state and the hash of each. Raises OSError, ValueError.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ABSENT, {}
    if not stat.S_ISDIR(found.st_mode):
        return _FROM_OUTSIDE[0], {}
    if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & 0o777 != 0o700):
        return _FROM_OUTSIDE[1], {}
    try:
        known = read_manifest(path)
    except (OSError, ValueError):
        return "it has no manifest", {}
    if wanted is not None and known.keys() != wanted:
        return "its manifest is another's", {}
    present = set(_files(path))
    for what, names in (("missing", known.keys() - present), ("added", present - known.keys())):
        if names:
            return f"{what} file {named(min(names))}", {}
    if not os.access(os.path.join(path, "bin", "python"), os.X_OK):
        return "its interpreter is gone", {}
    return None, known


def read_manifest(path: str) -> dict[str, tuple[str, str]]:
    """Return the manifest of the entry at *path*. Raises OSError, ValueError."""
    with open(os.path.join(path, MANIFEST), "rb") as file:
        lines = [line.split(" ", 2) for line in os.fsdecode(file.read()).split("\0")]
    return {name: (state, content) for state, content, name in lines}


def _manifest(known: Mapping[str, tuple[str, str]]) -> bytes:
    lines = (f"{state} {content} {path}" for path, (state, content) in known.items())
    return os.fsencode("\0".join(lines))


def _is_item(full: str, found: os.stat_result, entry: str, item: Item) -> bool:
    if item.source is not None and os.path.samestat(found, os.stat(item.source)):
        return True  # one file under two names, and it has just been read
    if item.target is None and bool(found.st_mode & 0o100) != item.executable:
        return False
    return content_of(full, found) == _written(item, entry)


def _written(item: Item, entry: str) -> str:
    """Return the hash of what is written for *item* into the entry at the path *entry*."""
    import hashlib

    if item.text is not None:
        return hashlib.sha256(_placed(item.text, entry)).hexdigest()
    if item.target is not None:
        return hashlib.sha256(os.fsencode("link " + item.target)).hexdigest()
    return item.content


def content_of(full: str, found: os.stat_result) -> str:
    """Return the hash of what is written at the path *full*, a file or link with this stat."""
    import hashlib

    if stat.S_ISLNK(found.st_mode):
        return hashlib.sha256(os.fsencode("link " + os.readlink(full))).hexdigest()
    if not stat.S_ISREG(found.st_mode):
        return "neither file nor link"
    with open(full, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def named(path: str) -> str:
    """Return a path as it is said in one line."""
    return path if path.isprintable() else ascii(path)


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


def remove(path: str) -> None:
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
