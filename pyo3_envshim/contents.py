"""One entry of the store: how it is written, and what has changed in it since.

Two files in it are not the environment's: the manifest, with the state (what lstat says,
to see quickly that a file is as it was) and the hash of each file and link; and a byte for
each use. The hash is of what is written here, so that an entry can be verified without the
environment that it was made from.
"""

from __future__ import annotations

import errno
import os
import stat

from pyo3_envshim import hashing, layout
from pyo3_envshim.environments import PLACEHOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyo3_envshim.environments import Environment, Item

MANIFEST = ".manifest"
USES = MANIFEST + "-uses"
ABSENT = "it is not there"
# What is wrong with an entry although, or because, it cannot be opened.
FROM_OUTSIDE = ("it is not a folder", "its owner or mode has changed")
# What os.link answers where a hard link cannot be had: another device, too many names of
# one file, a file system without them, Linux' protected_hardlinks.
_CANNOT_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)


def note_use(path: str) -> None:
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


def write(environment: Environment, new: str, path: str) -> None:
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
        manifest[item.path] = state_of(os.lstat(target)), _written(item, path)
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


def copy_by_links(source: str, target: str) -> None:
    """Make the folder *target*, if it is not there, of the same files as *source*. Raises OSError."""
    import shutil

    if os.path.isdir(target):
        return
    new = f"{target}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        shutil.copytree(source, new, symlinks=True, copy_function=os.link)
        os.rename(new, target)
    except OSError:
        remove(new)
        if not os.path.isdir(target):  # or another process was first
            raise


def _create(path: str, content: bytes, executable: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644)
    with open(descriptor, "wb") as file:
        file.write(content)


def replace(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        _create(temporary, content)
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def damage_of(path: str, environment: Environment) -> str | None:
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
            if state_of(found) == state:
                continue
            if not _is_item(full, found, path, item):
                return f"changed file {named(item.path)}"
            again[item.path] = state_of(found), content
    except (OSError, ValueError) as error:
        return str(error)
    if again:
        try:
            replace(os.path.join(path, MANIFEST), _manifest({**known, **again}))
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
        return FROM_OUTSIDE[0], {}
    if not layout.WINDOWS and (found.st_uid != os.geteuid() or found.st_mode & 0o777 != 0o700):
        return FROM_OUTSIDE[1], {}
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
    if not os.access(layout.interpreter(path), os.X_OK):
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
    if item.text is not None:
        return hashing.of_bytes(_placed(item.text, entry))
    if item.target is not None:
        return _of_link(item.target)
    return item.content


def _of_link(target: str) -> str:
    """Return what stands for a hash where there is a link: never that of a file."""
    return "link-" + hashing.of_bytes(os.fsencode(target))


def content_of(full: str, found: os.stat_result) -> str:
    """Return the hash of what is written at the path *full*, a file or link with this stat."""
    if stat.S_ISLNK(found.st_mode):
        return _of_link(os.readlink(full))
    if not stat.S_ISREG(found.st_mode):
        return "neither file nor link"
    return hashing.of_file(full)


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


def state_of(found: os.stat_result) -> str:
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
