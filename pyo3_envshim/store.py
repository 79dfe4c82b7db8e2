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
be pruned (`upkeep`); to take it away needs the exclusive lock. Where there are no such
locks (some file systems, and Windows), nothing is pruned. A lock on a folder is one of this
machine's: a store that machines share (NFS) is pruned without regard to what the others
build just now.

What has changed in an entry is noticed before each use, but not: byte code that was put
into a ``__pycache__``, added empty folders, what changes while cargo runs, and whatever
the user's own processes do to the manifest as well. Nobody else can get in (`trust`).
"""

from __future__ import annotations

import errno
import os
import sys

from pyo3_envshim import contents, layout, trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyo3_envshim.environments import Environment

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
                contents.note_use(path)
                return known, damage
            if held is not None:
                os.close(held)
            known = False
            if found != contents.ABSENT:
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
        return contents.damage_of(self.address(environment.digest), environment)

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
            contents.remove(old)
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
                contents.write(environment, new, path)
            finally:
                os.umask(mask)
            moved = self._move(new, path, environment)
            return held if moved else None
        finally:
            if not moved:
                contents.remove(new)
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
                if damage in (None, contents.ABSENT):
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
        path = self.address(digest, token)
        # Or the name might just be swept, as one that an entry pruned earlier has left.
        with Lock(self.environments, exclusive=False, wait=True, without=True):
            if layout.WINDOWS:  # where a symbolic link takes a privilege
                contents.copy_by_links(self.address(digest), path)
                return
            try:
                os.symlink(digest, path)
            except FileExistsError:
                if os.readlink(path) != digest:
                    raise

    def hash_file(self, path: str) -> str:
        """Return the SHA-256, in hex, of the file at *path*, remembered by its stat.

        For files of interpreters: several MB that do not change. Raises OSError.
        """
        import hashlib

        state = contents.state_of(os.stat(path))
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
            contents.replace(note, f"{state} {digest}".encode())
        except OSError:
            pass  # it is only slower next time
        return digest

    def _inspect(self, path: str, environment: Environment) -> tuple[int | None, str | None]:
        """Hold the entry at *path* and look at it: what nobody holds may go while it is looked at.

        Returns a descriptor, if it could be held, and its damage as `damage` does.
        """
        for _ in range(_TRIES):
            held = self._hold(path)
            damage = contents.damage_of(path, environment)
            if layout.WINDOWS or (held is None and damage in (contents.ABSENT, *contents.FROM_OUTSIDE)):
                return None, damage
            if held is not None:
                if _stands(held, path):
                    return held, damage
                os.close(held)
        raise StoreError(f"{path} cannot be held: {damage}")

    def _hold(self, path: str) -> int | None:
        """Return a descriptor that holds the entry at *path*, or None if there is nothing to hold."""
        if layout.WINDOWS:
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
            try:
                held = self._hold(path)
                if layout.WINDOWS or (held is not None and _stands(held, path)):
                    return path, held
            except OSError:
                contents.remove(path)
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
        if layout.WINDOWS:
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
