"""``pyo3-envshim cache``: shows, prunes and clears the stored environments and kept build folders.

It also knows the sets of units that were put aside in the project of the working directory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyo3_envshim import builds
from pyo3_envshim.builds import Build
from pyo3_envshim.call import CargoCall, user_environ
from pyo3_envshim.cargo import command_line, metadata, target_dir
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.shelf import Shelf
from pyo3_envshim.store import prune, store
from pyo3_envshim.store.prune import Entry
from pyo3_envshim.store.store import CHOICE, Store, StoreError

SHORT = 12  # digits of a digest, as in the wrapper's messages
_COLUMNS = ("entry", "size", "uses", "last used", "python", "base interpreter", "distributions")
_KEYS = ("digest", "path", "nonces", "size", "used", "uses", "version", "interpreter", "distributions")


class Inventory(NamedTuple):
    """All that the cache folder *root* holds; *shelves*: in this project's build folder."""

    root: str
    entries: list[Entry]
    builds: list[Build]
    shelves: list[Shelf]

    def __str__(self) -> str:
        parts = [content(self.entries), content_of_builds(self.builds), content_of_sets(self.shelves)]
        return ", and ".join(filter(None, parts))


class Changes(NamedTuple):
    """The entries that were *removed*, the bytes that this *freed*, and how many are *left*, of what size.

    The same of the build folders, and the sets that were removed.
    """

    removed: list[str]
    freed: int
    left: int
    size: int
    removed_builds: list[str]
    freed_of_builds: int
    removed_sets: list[str]


def open_store(environ: Mapping[str, str]) -> Store:
    """Return the user's store. Raises `CommandError` if it cannot be used."""
    try:
        # What is in a folder of the user's choice can be seen and cleared, though no program starts there.
        return Store.open(environ, to_build=not environ.get(CHOICE))
    except StoreError as error:
        raise CommandError(error.text, error.hint) from None


def folder_in_use(environ: Mapping[str, str]) -> str:
    """Return the path of the cache folder. Raises `CommandError` if none can be meant by the variable."""
    try:
        store.check_choice(environ)
    except StoreError as error:
        raise CommandError(error.text, error.hint) from None
    return store.folder_in_use(environ)


@contextlib.contextmanager
def leaving_no_folders(environ: Mapping[str, str]) -> Iterator[None]:
    """Remove in the end the folders that opening the store has made: who only asks leaves nothing."""
    roots = [store.folder(environ), *([] if os.name == "nt" else [store.spare_folder(environ)])]
    paths = [path for root in roots for path in (*folders_in(root), root, *map(str, Path(root).parents))]
    missing = [path for path in paths if not os.path.lexists(path)]
    try:
        yield
    finally:
        remove_if_empty(missing)


def folders_in(root: str) -> list[str]:
    """Return the paths of the folders in a cache folder."""
    return [os.path.join(root, name) for name in ("environments", "interpreters", builds.BUILDS)]


def remove_if_empty(folders: Iterable[str]) -> None:
    for path in folders:
        try:
            os.rmdir(path)
        except OSError:  # missing, or a build has begun to use it
            pass


def take_inventory(store: Store) -> Inventory:
    """Return all that is in the store and beside it, and what is put aside here. Raises OSError."""
    return Inventory(store.root, prune.entries(store), builds.builds(store.root), shelves(os.environ))


def shelves(environ: Mapping[str, str]) -> list[Shelf]:
    """Return the shelves in the build folder of the working directory's project; none without one."""
    own = user_environ(environ)
    cargo = command_line.find_cargo(own, environ)
    if cargo is None:
        return []
    try:
        with metadata.Query(CargoCall(cargo, ["build"], own)) as query:
            folder = metadata.Workspace(query.answer(), ()).build_dir
        found = map(Shelf, target_dir.profiles(folder))
        return [shelf for shelf in found if os.path.isdir(shelf.folder)]
    except (OSError, metadata.MetadataError):
        return []


def prune_all(store: Store, limit: int | None, builds_limit: float, days: float) -> Changes:
    """Remove what was not used for *days* days, and what exceeds the limits. Raises OSError."""
    entries, age = prune.entries(store), days * prune.DAY
    before = time.time() - age
    kept = builds.builds(store.root)
    prune.prune(store, limit, age)
    removed = builds.prune(store.root, builds_limit, before)
    return _changes(entries, store, kept, removed, _prune_sets(before))


def clear_all(store: Store) -> tuple[Changes, list[str]]:
    """Remove all that no build uses; return this, and the digests that are in use. Raises OSError.

    A folder that the user has chosen stays: it may have been there before us.
    """
    entries, kept = prune.entries(store), builds.builds(store.root)
    in_use = prune.clear(store)
    removed = builds.clear(store.root)
    sets = [path for shelf in shelves(os.environ) for path in shelf.clear()]
    changes = _changes(entries, store, kept, removed, sets)
    remove_if_empty([*folders_in(store.root), *([] if os.environ.get(CHOICE) else [store.root])])
    return changes, in_use


def _prune_sets(before: float) -> list[str]:
    """Remove the sets here that were put aside *before* a time in seconds; return their paths."""
    return [path for shelf in shelves(os.environ) for path in shelf.prune(before)]


def _changes(
    before: Sequence[Entry],
    store: Store,
    builds_before: Sequence[Build],
    removed_builds: list[str],
    removed_sets: list[str],
) -> Changes:
    after = prune.entries(store)
    left, size = {entry.digest for entry in after}, size_of(after)
    removed = [entry.digest for entry in before if entry.digest not in left]
    freed = sum(build.size for build in builds_before if build.name in removed_builds)
    return Changes(removed, size_of(before) - size, len(left), size, removed_builds, freed, removed_sets)


def limit_of(size: str | None, environ: Mapping[str, str]) -> int | None:
    """Return the limit in bytes, or None: *size*, or what the variables say. Raises `CommandError`."""
    name, text = "--size", size
    if text is None:
        name, text = prune.VARIABLE, environ.get(prune.VARIABLE, "").strip()
        if not text:
            return prune.LIMIT
    try:
        return prune.parse_size(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}", "for example 500M, 2G, or none") from None


def days_of(text: str) -> float:
    """Return a number of days. Raises `CommandError`."""
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days < float("inf"):
        raise CommandError(f"--days: {text!r} is not a number of days", "for example 30, 0.5, or 0")
    return days


def limit_of_builds(environ: Mapping[str, str]) -> float:
    """Return how many bytes the build folders may take, also while they are off. Raises `CommandError`."""
    limit, flaw = builds.limit_of(environ)
    if flaw:
        value = environ[builds.VARIABLE]
        raise CommandError(f"{builds.VARIABLE}: {value!r} is not a size", "for example on, 10G, or off")
    return limit or builds.LIMIT


def counted(number: int, one: str = "entry", more: str = "entries") -> str:
    return f"{number} {one if number == 1 else more}"


def size_of(entries: Iterable[Entry]) -> int:
    """Return the size of the entries together; a file that several share counts once."""
    return sum({inode: size for entry in entries for inode, size in entry.inodes.items()}.values())


def content(entries: Sequence[Entry]) -> str:
    return f"{counted(len(entries))}, {human(size_of(entries))}"


def content_of_builds(builds: Sequence[Build]) -> str:
    """Return what the build folders hold, in words; "" if there are none."""
    words = counted(len(builds), "build folder", "build folders")
    return f"{words}, {human(sum(build.size for build in builds))}" if builds else ""


def content_of_sets(shelves: Sequence[Shelf]) -> str:
    """Return what is put aside in the working directory's project, in words; "" if nothing is."""
    sets = [each for shelf in shelves for each in shelf.sets()]
    words = f"{counted(len(sets), 'set', 'sets')} of units here"
    return f"{words}, {human(sum(each.size for each in sets))}" if sets else ""


def listing(found: Inventory, now: float) -> str:
    """Return the entries and the build folders as tables, the last used first."""

    def used(it: Entry | Build) -> str:
        return ago(now - it.used) if it.used else "never"

    rows: list[Sequence[str]] = [_COLUMNS]
    for entry in sorted(found.entries, key=lambda entry: -entry.used):
        made_from = entry.version or "?", entry.interpreter or "?"
        uses, distributions = str(entry.uses), ", ".join(entry.distributions) or "none"
        rows.append((entry.digest[:SHORT], human(entry.size), uses, used(entry), *made_from, distributions))
    lines = [f"no entries in {found.root}"]
    if found.entries:
        lines = [*aligned(rows), f"{content(found.entries)} in {found.root}"]
    if found.builds:
        rows = [(build.name, human(build.size), used(build)) for build in reversed(found.builds)]
        lines += ["", *aligned([("build folder", "size", "last used"), *rows])]
        lines.append(f"{content_of_builds(found.builds)} in {found.root}")
    for shelf in found.shelves:
        rows = [(human(it.size), ago(now - it.time / 1e9), _shown(it.values)) for it in shelf.sets()]
        if rows:
            lines += ["", *aligned([("size", "set aside", "compiled for"), *rows])]
            lines.append(f"{counted(len(rows), 'set', 'sets')} of units in {shelf.folder}")
    return "".join(f"{line}\n" for line in lines)


def _shown(values: Mapping[str, str | None]) -> str:
    """Return the variables in which sets differ most: those that name a Python, or else all that are set."""
    found = [f"{name}={value}" for name, value in sorted(values.items()) if value]
    named = [it for it in found if "PYTHON" in it.partition("=")[0]]
    return ", ".join(named or found) or "the python on PATH"


def as_data(found: Inventory) -> dict[str, Any]:
    entries = [{name: getattr(entry, name) for name in _KEYS} for entry in found.entries]
    of_builds = ("name", "path", "size", "used")
    builds = [{name: getattr(build, name) for name in of_builds} for build in found.builds]
    of_sets = ("path", "root", "size", "time", "values")
    sets = [{name: getattr(it, name) for name in of_sets} for shelf in found.shelves for it in shelf.sets()]
    found_here = {"folder": found.root, "size": size_of(found.entries)}
    return {**found_here, "entries": entries, "builds": builds, "sets": sets}


def format_changes(changes: Changes) -> str:
    """Return the changes in words: a line about entries, and one about what else was removed."""
    removed, builds, sets = counted(len(changes.removed)), len(changes.removed_builds), changes.removed_sets
    what = f"removed {removed}, freed {human(changes.freed)};" if changes.removed else "nothing to remove:"
    text = f"{what} {counted(changes.left)} left, {human(changes.size)}\n"
    words = f"removed {counted(builds, 'build folder', 'build folders')}"
    text += f"{words}, freed {human(changes.freed_of_builds)}\n" if builds else ""
    return text + (f"removed {counted(len(sets), 'set', 'sets')} of units here\n" if sets else "")


def human(size: int) -> str:
    """Return a number of bytes as people read it."""
    if size < 1024:
        return f"{size} B"
    amount = size / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def ago(seconds: float) -> str:
    """Return how long ago something was, in whole units."""
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            return f"{counted(int(seconds // length), unit, unit + 's')} ago"
    return "just now"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of equally many cells as lines in columns; the last column has no fixed width."""
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
