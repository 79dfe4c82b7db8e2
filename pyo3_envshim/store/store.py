"""The content-addressed store: environments in normal form, each at one permanent path.

Layout, below the cache folder (mode 0700, owned by the user):

    environments/<digest>/                an entry: an environment in normal form
    environments/<digest>/.manifest       what was written, to find what has changed since
    environments/<digest>/.manifest-uses  a byte for each use; its mtime is the last use; cargo's lock
    environments/<digest>-<nonce>         an alias of the entry: a path that cargo has not seen
    environments/.new-…, .old-…           an entry being written, one being removed
    interpreters/<hash of path>           the remembered SHA-256 of a file of an interpreter

A reader never sees half an entry: it is written in a folder beside its place, then renamed.
No file outside the store is ever written to: whatever has to differ is a copy.

Every process that reads or writes an entry holds a shared flock on its folder. cargo holds a
shared record lock on ``.manifest-uses`` instead, which we take before it replaces us: unlike a
flock, it is not inherited by what cargo starts, of which a daemon may live on (sccache's server,
before 0.19). Pruning (`prune`) and replacing need both locks for themselves, so entries in use
stay. Without locks (some file systems), nothing is pruned. Locks are local to a machine: on a
store shared over NFS, pruning does not see the builds of other machines.

On Windows an alias is a folder with second names of the entry's files, checked before each use,
and an entry holds copies: a program that runs there keeps all names of its file from being removed.

Changes to an entry are noticed before each use, except byte code added to a ``__pycache__``,
added empty folders, changes while cargo runs, and those by the user's own processes that
also rewrite the manifest. Other users cannot get in (`ownership`).
"""

from __future__ import annotations

import errno
import os
import sys

from pyo3_envshim import files
from pyo3_envshim.environment import frontends, layout
from pyo3_envshim.store import entry, lock, ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyo3_envshim.environment.digest import Environment

CHOICE = "PYO3_ENVSHIM_CACHE_DIR"
_MAX_PATH = 260  # Windows starts no program beyond it, whatever LongPathsEnabled says
_TRIES = 8  # how often we retry after other processes interfered


class StoreError(Exception):
    """The store cannot be used: *text* says why, *hint* what to do about it, if anything."""

    def __init__(self, text: str, hint: str = "", message: str = "") -> None:
        super().__init__(message or (f"{text}; {hint}" if hint else text))
        self.text = text
        self.hint = hint


def check_choice(environ: Mapping[str, str]) -> None:
    """Raise `StoreError` if the folder that the user has chosen depends on the working directory."""
    chosen = environ.get(CHOICE, "")
    if chosen and not os.path.isabs(chosen):
        # That is the project's folder, or the temporary one of an unpacked sdist.
        raise StoreError(
            f"{CHOICE}={chosen} depends on the working directory", f"set {CHOICE} to a full path"
        )


def folder_in_use(environ: Mapping[str, str]) -> str:
    """Return the path of the cache folder that a build would use, or else of the one that it cannot use."""
    if environ.get(CHOICE):
        return folder(environ)
    try:
        return Store.open(environ).root
    except StoreError:
        return folder(environ)


def folder(environ: Mapping[str, str]) -> str:
    """Return the path of the cache folder: ``PYO3_ENVSHIM_CACHE_DIR``, or the user's."""
    chosen = environ.get(CHOICE)
    if chosen:
        return os.path.abspath(chosen)
    if sys.platform.startswith("linux"):
        # platformdirs' own rule (its _xdg.py ignores a relative path), without the 15 ms
        # that importing it takes; a test compares the two
        home = os.path.join(environ.get("HOME", ""), ".cache")
        for base in (environ.get("XDG_CACHE_HOME", ""), home):
            if os.path.isabs(base):
                return os.path.join(base, "pyo3-envshim")
    import platformdirs

    return platformdirs.user_cache_dir("pyo3-envshim", appauthor=False)


def spare_folder(environ: Mapping[str, str]) -> str:
    """Return the path of the folder that is used where the user's own cannot be (POSIX)."""
    return os.path.join(frontends.temporary_folder(environ), f"pyo3-envshim-{os.geteuid()}")


def seen_by_others(path: str, real: str) -> str:
    """Return where other programs see the folder *path* of Windows; *real*: where that leads here.

    What Microsoft Store's Python makes below AppData lies in a folder of its package, and what one of 32 bits
    makes below System32 in SysWOW64. cargo would find nothing at the path itself.
    """

    def is_moved(where: str) -> bool:
        names = where.lower().replace("\\", "/").split("/")
        return "localcache" in names or "syswow64" in names

    return real if is_moved(real) and not is_moved(path) else path


class Store:
    """The store in one cache folder."""

    def __init__(self, root: str, to_build: bool = True) -> None:
        """Open the store below *root* (an absolute path), which is created if it is missing.

        *to_build*: whether builds are to use it. Raises `StoreError` if it is not safe to use, OSError if it
        cannot be created.
        """
        self.root = root
        self.instead_of: StoreError | None = None  # why the user's own cache folder is not used
        self.environments = os.path.join(root, "environments")
        self.interpreters = os.path.join(root, "interpreters")
        if layout.WINDOWS and len(layout.interpreter(self.path("0" * 32, "0" * 8))) >= _MAX_PATH:
            raise StoreError(
                f"the path of {root} is too long: Windows would not start a Python in it",
                "set PYO3_ENVSHIM_CACHE_DIR to a shorter one",
            )
        flaw = ownership.flaw_on_the_way(root)
        for path in (self.environments, self.interpreters):
            flaw = flaw or ownership.flaw_of(path)
        if flaw:
            raise StoreError(flaw.text, flaw.hint, str(flaw))
        if to_build and not files.starts_programs(
            root
        ):  # a build script may start what its requirements have brought
            raise StoreError(
                f"no program can be started in {root} (noexec)",
                "set PYO3_ENVSHIM_CACHE_DIR to another folder",
            )

    @classmethod
    def open(cls, environ: Mapping[str, str], to_build: bool = True) -> Store:
        """Open the store in the folder that the user has chosen, or in their cache folder (`folder`).

        Where nothing was chosen and that cannot be used, it is a private folder below the temporary
        one, for as long as it is there: in containers and sandboxes, HOME may be another user's, or
        read-only. Raises StoreError: what is wrong with the first.
        """
        check_choice(environ)
        try:
            store = cls(folder(environ), to_build)
            place = seen_by_others(store.root, os.path.realpath(store.root)) if layout.WINDOWS else store.root
            return store if place == store.root else cls(place, to_build)
        except (OSError, StoreError) as error:
            reason = _as_store_error(error)
            if environ.get(CHOICE) or layout.WINDOWS:
                raise reason from None
            try:
                spare = cls(spare_folder(environ))
            except (OSError, StoreError):
                raise reason from None
            spare.instead_of = reason
            return spare

    def path(self, digest: str, nonce: str = "") -> str:
        """Return the path of an entry, or of its alias with *nonce*."""
        return os.path.join(self.environments, f"{digest}-{nonce}" if nonce else digest)

    def acquire(self, environment: Environment) -> Acquired:
        """Lock the entry of *environment*; store it first if it is missing or damaged.

        Raises OSError, StoreError.
        """
        path = self.path(environment.digest)
        is_new, damage = False, None
        own: int | None = None
        for _ in range(_TRIES):  # retry if another process stored the entry and a third pruned it
            held, found = self._share_and_check(path, environment)
            lock.close(own)
            if found is None:
                entry.note_use(path)
                return Acquired(self, environment.digest, held, is_new, damage)
            lock.close(held)
            is_new = True
            if found is not entry.ABSENT:
                damage = damage or str(found)
            try:
                own = self._put(environment)  # locked from its first moment on
            except OSError as error:
                if damage is None:
                    raise
                text = f"{path} had changed ({damage}) and was not replaced: {error}"
                raise StoreError(text) from error
        raise StoreError(f"{path} does not hold what was stored: {found}")

    def discard(self, path: str) -> None:
        """Remove what is at *path*; other processes see all of it or nothing. Raises OSError."""
        old, held = self._temporary(".old-")
        try:
            files.rename(path, os.path.join(old, "entry"))
        except FileNotFoundError:  # another process did so
            pass
        finally:
            files.remove(old)
            lock.close(held)

    def hash_file(self, path: str) -> str:
        """Return the SHA-256, in hex, of the file at *path*, remembered by its stat.

        For an interpreter's files: several MB that rarely change. Raises OSError.
        """
        import hashlib

        state = entry.state_of(path, os.stat(path))
        note = os.path.join(self.interpreters, hashlib.sha256(os.fsencode(path)).hexdigest()[:32])
        try:
            with open(note, "rb") as file:
                known, _, digest = file.read().decode("ascii").partition(" ")  # imports no codec
            if known == state and len(digest) == 64:
                return digest
        except (OSError, ValueError):
            pass
        with open(path, "rb") as content:
            digest = hashlib.sha256(content.read()).hexdigest()
        try:
            files.replace(note, f"{state} {digest}".encode())
        except OSError:
            pass  # the next call computes it again
        return digest

    def _put(self, environment: Environment) -> int | None:
        """Store *environment*, or replace its damaged entry. Raises OSError, StoreError.

        Of several processes that do this at once, the first to rename its folder wins, and the
        others use its entry. Returns a descriptor that locks the entry, if it is ours.
        """
        path = self.path(environment.digest)
        new, held = self._temporary(".new-")
        moved = False
        try:
            mask = os.umask(0o022)  # an entry's modes must not depend on who writes it
            try:
                entry.write(environment, new, path)
            finally:
                os.umask(mask)
            while not (moved := _renamed(new, path)):
                if self._is_whole_or_gone(path, environment):
                    return None
            if layout.WINDOWS:  # where a lock is of the name, which it has just been given
                lock.close(held)
                held = lock.share(path)
            return held
        finally:
            if not moved:
                files.remove(new)
                lock.close(held)

    def _is_whole_or_gone(self, path: str, environment: Environment) -> bool:
        """Tell whether the entry at *path* is whole; remove it if it is damaged.

        Under a lock on all entries: a second process would remove what the first has repaired.
        Raises StoreError if a running build uses the damaged entry.
        """
        import time

        with lock.Lock(self.environments, exclusive=True, wait=True, without=True):
            for _ in range(50):  # processes that only check the entry lock it too
                held, damage = self._share_and_check(path, environment)
                try:
                    if damage is None or damage is entry.ABSENT:
                        return damage is None
                    locked = held is None or lock.try_lock(held, exclusive=True) is not False
                    if locked and (held is None or (lock.stands(held, path) and not entry.is_held(path))):
                        self.discard(path)
                        return False
                finally:
                    lock.close(held)
                time.sleep(0.02)
        raise StoreError(f"{path} had changed ({damage}), and a running build uses it")

    def _share_and_check(self, path: str, environment: Environment) -> tuple[int | None, entry.Damage | None]:
        """Take a shared lock on the entry at *path* and check it: unlocked, it could be pruned meanwhile.

        Returns the descriptor, if there is a lock, and the damage (`entry.damage_of`).
        """
        for _ in range(_TRIES):
            held = lock.share(path)
            damage = entry.damage_of(path, environment)
            unlockable = damage in (entry.ABSENT, entry.NOT_A_FOLDER, entry.NOT_OURS)
            if held is None and unlockable:
                return None, damage
            if held is not None and lock.stands(held, path):
                return held, damage
            lock.close(held)
        raise StoreError(f"{path} cannot be held: {damage}")

    def _temporary(self, prefix: str) -> tuple[str, int | None]:
        """Create a folder; return its path, and a descriptor that locks it so that it is not swept."""
        while True:
            path = os.path.join(self.environments, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}")
            os.mkdir(path, files.private_mode(path))
            try:
                held = lock.share(path)
                if held is not None and lock.stands(held, path):
                    return path, held
            except OSError:
                files.remove(path)
                raise
            lock.close(held)  # the folder was swept before we locked it


def _as_store_error(error: OSError | StoreError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"{error.filename} cannot be made: {error.strerror}", ownership.HINT)


def _renamed(new: str, path: str) -> bool:
    """Rename the folder *new* to *path*; return False if something is there. Raises OSError."""
    try:
        files.rename(new, path, tries=files.A_SCAN)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


class Acquired:
    """An entry that this process has locked: it stays until `release`, or until the process exits."""

    __slots__ = ("_held", "_record", "_store", "damage", "digest", "is_new")

    def __init__(self, store: Store, digest: str, held: int | None, is_new: bool, damage: str | None) -> None:
        self._store = store
        self._held = held
        self._record: int | None = None
        self.digest = digest
        self.is_new = is_new  # stored just now: it was missing, or had the *damage*
        self.damage = damage

    def path(self, nonce: str = "") -> str:
        """Return the path of the entry, or of its alias with *nonce*."""
        return self._store.path(self.digest, nonce)

    def add_nonce(self, nonce: str) -> None:
        """Create the entry's alias with *nonce*, if it is missing. Raises OSError."""
        path = self.path(nonce)
        # Without the lock, a concurrent prune could remove this alias as a leftover.
        with lock.Lock(self._store.environments, exclusive=layout.WINDOWS, wait=True, without=True):
            if layout.WINDOWS:  # where a symbolic link requires a privilege
                self._link_files(path)
                return
            try:
                os.symlink(self.digest, path)
            except FileExistsError:
                if os.readlink(path) != self.digest:
                    raise

    def _link_files(self, path: str) -> None:
        """Give each of the entry's files a second name below the folder *path*. Raises OSError, StoreError.

        Under a lock on all entries.
        """
        if entry.has_same_files(self.path(), path):
            return
        if os.path.lexists(path):  # changed, or of an entry that was replaced
            self._discard([path], f"{path} had changed")
        try:
            self._give_names(path)
        except OSError as error:
            above = self._store.environments
            others = [os.path.join(above, it) for it in os.listdir(above) if it.startswith(self.digest + "-")]
            if not (others and entry.has_too_many_names(error)):
                raise
            self._discard(others, f"{self.path()} has too many names")
            self._give_names(path)

    def _give_names(self, path: str) -> None:
        new, held = self._store._temporary(".new-")
        try:
            entry.link_files(self.path(), new)
            files.rename(new, path)
        finally:
            files.remove(new)
            lock.close(held)

    def _discard(self, paths: list[str], why: str) -> None:
        """Remove second names of the entry, which no other build may be using. Raises OSError, StoreError."""
        if self._held is not None and lock.try_lock(self._held, exclusive=True) is False:
            raise StoreError(f"{why}, and a running build uses it")
        for path in paths:
            self._store.discard(path)
        if self._held is not None:
            lock.try_lock(self._held, exclusive=False, wait=True)

    def inherit_lock(self) -> None:
        """Let the program that replaces this process hold the entry; where needed, what it starts too.

        Raises OSError.
        """
        if self._held is not None:
            self._record = entry.hold(self.path())
            if self._record is None:
                lock.inherit(self._held)

    def hold_in_child(self) -> None:
        """Hold the entry for a child of this process as well: to be called in it, before it is cargo."""
        if self._record is not None:
            lock.hold_again(self._record)

    def release(self) -> None:
        """Unlock the entry."""
        for descriptor in (self._held, self._record):
            lock.close(descriptor)
        self._held = self._record = None
