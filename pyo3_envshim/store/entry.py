"""One entry of the store: writes it, and finds what has changed in it since.

Two files in an entry are not part of the environment. The manifest has the state (from lstat,
to see quickly that a file is unchanged) and the hash of each file and link. The hash is that of
what was written here, so that an entry can be verified without the environment that it was made
from. The other file has a byte for each use, and each cargo that uses the entry locks it.
"""

from __future__ import annotations

import errno
import os
import stat

from pyo3_envshim import files
from pyo3_envshim.environment import hashing, layout
from pyo3_envshim.environment.item import PLACEHOLDER
from pyo3_envshim.store import lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyo3_envshim.environment.digest import Environment
    from pyo3_envshim.environment.item import Item

MANIFEST = ".manifest"
USES = MANIFEST + "-uses"
# os.link's answers where a hard link is impossible: another device, too many names for one
# file, a file system without hard links, Linux's protected_hardlinks.
_CANNOT_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)
# Linux before 5.1 reads 127 bytes of a script's first line (BINPRM_BUF_SIZE); options need room too.
_LONGEST_PATH = 100


class Damage:
    """What is wrong with an entry; str() puts it in one line. Compared by identity."""

    def __init__(self, text: object) -> None:
        self._text = str(text)

    def __str__(self) -> str:
        return self._text


ABSENT = Damage("it is not there")
NOT_A_FOLDER = Damage("it is not a folder")
NOT_OURS = Damage("its owner or mode has changed")


def note_use(path: str) -> None:
    """Add a byte for a use of the entry at *path*; where it cannot be written to, it is used all the same."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        uses = os.open(os.path.join(path, USES), flags, 0o600)
        try:
            os.write(uses, b".")
        finally:
            os.close(uses)
    except OSError:
        pass


def hold(path: str) -> int | None:
    """Hold the entry at *path* for this process and what replaces it (`lock.hold`).

    Only with a shared flock on the folder, and after `note_use`, which closes the same file.
    """
    return lock.hold(os.path.join(path, USES))


def is_held(path: str) -> bool | None:
    """Tell whether another process may hold the entry at *path* (`lock.is_held`). Raises OSError.

    Only with an exclusive flock on the folder: then this process does not hold it, and no other begins to.
    """
    return lock.is_held(os.path.join(path, USES))


def write(environment: Environment, new: str, path: str) -> None:
    """Write *environment* into the folder *new*, which will be renamed to *path*."""
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
            files.create(target, _placed(item.text, path), item.executable)
        elif item.source is not None:
            _link_or_copy(item.source, target, item.executable)
        manifest[item.path] = state_of(target, os.lstat(target)), _written(item, path)
    files.create(os.path.join(new, MANIFEST), _manifest(manifest))


def _placed(text: bytes, path: str) -> bytes:
    """Return the *text* of a normal form as it is written in the entry at *path*."""
    entry = os.fsencode(path)
    first, newline, rest = text.partition(b"\n")
    is_long = not layout.WINDOWS and (len(entry) > _LONGEST_PATH or b" " in entry)
    if is_long and first.startswith(b"#!" + PLACEHOLDER):
        # Valid as sh and as Python: sh replaces itself, Python sees a string (distlib's form).
        interpreter, _, options = first[len(b"#!" + PLACEHOLDER) :].partition(b" ")
        command = b'"' + entry + interpreter + b'" ' + options + b' "$0" "$@"'
        first = b"#!/bin/sh\n'''exec' " + command + b"\n' '''"
    return first.replace(PLACEHOLDER, entry) + newline + rest.replace(PLACEHOLDER, entry)


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


def link_files(path: str, alias: str) -> None:
    """Give the files of the entry at *path* second names below *alias*, an empty folder. Raises OSError.

    Not by shutil.copytree, whose error would name all files in one line.
    """

    def fail(error: OSError) -> None:
        raise error

    for above, folders, names in os.walk(path, onerror=fail):
        into = os.path.join(alias, os.path.relpath(above, path))
        for name in folders:
            os.mkdir(os.path.join(into, name))
        for name in names:
            os.link(os.path.join(above, name), os.path.join(into, name))


def has_too_many_names(error: OSError) -> bool:
    """Tell whether a file cannot have one more name: NTFS allows 1024."""
    return error.errno == errno.EMLINK or getattr(error, "winerror", None) == 1142


def has_same_files(path: str, alias: str) -> bool:
    """Tell whether the folder *alias* holds the very files of the entry at *path*, and no others.

    Raises OSError.
    """
    if os.path.islink(alias) or not os.path.isdir(alias):
        return False
    names = set(_files(path))
    return names == set(_files(alias)) and all(
        os.path.samestat(os.lstat(os.path.join(path, name)), os.lstat(os.path.join(alias, name)))
        for name in names
    )


def damage_of(path: str, environment: Environment) -> Damage | None:
    """Return what has changed in the entry at *path*, `ABSENT`, or None if it is whole.

    A file in the state that the manifest remembers is unchanged: nobody can set the time of change,
    which is part of it. Any other file is read, as that of a hard link changes with its other names.
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
            if (now := state_of(full, found)) == state:
                continue
            if not _is_item(full, found, path, item):
                return Damage(f"changed file {printable(item.path)}")
            again[item.path] = now, content
    except (OSError, ValueError) as error:
        return Damage(error)
    if again:
        try:
            files.replace(os.path.join(path, MANIFEST), _manifest({**known, **again}))
        except OSError:
            pass  # the next call reads these files again
    return None


def surface(path: str, wanted: set[str] | None = None) -> tuple[Damage | None, dict[str, tuple[str, str]]]:
    """Return what is wrong with the entry at *path*, without reading its files, and its manifest.

    *wanted* are the paths that it must hold, or None for those in its manifest. The manifest
    maps each path to the state and the hash. Raises OSError, ValueError.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ABSENT, {}
    if not stat.S_ISDIR(found.st_mode):
        return NOT_A_FOLDER, {}
    if not layout.WINDOWS and (found.st_uid != os.geteuid() or found.st_mode & 0o777 != 0o700):
        return NOT_OURS, {}
    try:
        known = read_manifest(path)
    except (OSError, ValueError):
        return Damage("it has no manifest"), {}
    if wanted is not None and known.keys() != wanted:
        return Damage("its manifest is another's"), {}
    present = set(_files(path))
    for what, names in (("missing", known.keys() - present), ("added", present - known.keys())):
        if names:
            return Damage(f"{what} file {printable(min(names))}"), {}
    if not os.access(layout.interpreter(path), os.X_OK):
        return Damage("its interpreter is gone"), {}
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
        return True  # the same file as the environment's, whose content has just been read
    is_executable = bool(found.st_mode & 0o100) and not layout.WINDOWS
    if item.target is None and is_executable != item.executable:
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
    """Return what stands for the hash of a link; it never equals that of a file."""
    return "link-" + hashing.of_bytes(os.fsencode(target))


def content_of(full: str, found: os.stat_result) -> str:
    """Return the hash of the file or link at the path *full*, which has this stat."""
    if stat.S_ISLNK(found.st_mode):
        return _of_link(os.readlink(full))
    if not stat.S_ISREG(found.st_mode):
        return "neither file nor link"
    return hashing.of_file(full)


def printable(path: str) -> str:
    """Return a path in a form that fits on one line."""
    return path if path.isprintable() else ascii(path)


def _files(root: str, relative: str = "") -> Iterator[str]:
    """Yield the relative paths of an entry's files and links, except byte code."""
    with os.scandir(os.path.join(root, relative)) as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(root, path)
            elif not path.startswith(MANIFEST):  # including a temporary file that is to replace it
                yield path


def state_of(path: str, found: os.stat_result) -> str:
    """Return the state of the file at *path*, with this stat; another each time where it cannot tell all."""
    changed = files.change_time(path, found)
    when = os.urandom(4).hex() if changed is None else changed
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{when}-{found.st_mode:o}"
