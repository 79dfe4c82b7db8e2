"""``pyo3-envshim cache``: the store as its owner sees it. Says what `upkeep` finds and does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pyo3_envshim import sources, store, upkeep
from pyo3_envshim.activation import ActivationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyo3_envshim.sources import Build
    from pyo3_envshim.upkeep import Entry

_SHORT = 12  # digits of a digest: as the wrapper says it
_COLUMNS = ("entry", "size", "uses", "last used", "python", "base interpreter", "distributions")


class Content(NamedTuple):
    """The digests of the entries, and their size together: read at once, as they may go."""

    digests: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        return f"{counted(len(self.digests))}, {human(self.size)}"


def content(entries: Iterable[Entry]) -> Content:
    """Return what is in the store, from its entries; what several share counts once."""
    sizes: dict[int, int] = {}
    digests = []
    for entry in entries:
        digests.append(entry.digest)
        sizes.update(entry.inodes)
    return Content(tuple(digests), sum(sizes.values()))


def opened(environ: Mapping[str, str]) -> store.Store:
    """Return the user's store. Raises `ActivationError` if it cannot be used."""
    root = store.folder(environ)
    try:
        return store.Store(root)
    except store.StoreError as error:
        flaw, _, hint = str(error).rpartition("; ")
        raise ActivationError(flaw, hint.replace("run: ", "", 1)) from None
    except OSError as error:
        hint = "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own"
        raise ActivationError(f"{root} cannot be made: {error.strerror}", hint) from None


def limit_of(size: str | None, environ: Mapping[str, str]) -> int | None:
    """Return the limit in bytes, or None: *size*, or what the variables say. Raises `ActivationError`."""
    text = size or environ.get("PYO3_ENVSHIM_CACHE_SIZE", "").strip()
    try:
        return upkeep.parse_size(text) if text else upkeep.LIMIT
    except ValueError as error:
        name = "--size" if size else "PYO3_ENVSHIM_CACHE_SIZE"
        raise ActivationError(f"{name}: {error}", "for example 500M, 2G, or none") from None


def limit_of_builds(environ: Mapping[str, str]) -> float:
    """Return how large the build folders may grow, in bytes, also while none is used.

    Raises `ActivationError`.
    """
    try:
        return sources.limit_of(environ) or sources.LIMIT
    except ValueError as error:
        raise ActivationError(f"{sources.VARIABLE}: {error}", "for example on, 10G, or off") from None


def counted(number: int) -> str:
    """Return that many entries in words."""
    return f"{number} {'entry' if number == 1 else 'entries'}"


def content_of_builds(builds: Sequence[Build]) -> str:
    """Return what is in the build folders, in words; nothing if there are none."""
    number = len(builds)
    size = human(sum(build.size for build in builds))
    return f"{number} build folder{'' if number == 1 else 's'}, {size}" if builds else ""


def listing(entries: Sequence[Entry], root: str, now: float) -> str:
    """Return the entries as a table, the last used first."""
    if not entries:
        return f"no entries in {root}\n"
    rows: list[Sequence[str]] = [_COLUMNS]
    for entry in sorted(entries, key=lambda entry: -entry.used):
        rows.append(
            (
                entry.digest[:_SHORT],
                human(entry.size),
                str(entry.uses),
                ago(now - entry.used) if entry.used else "never",
                entry.version or "?",
                entry.interpreter or "?",
                ", ".join(entry.distributions) or "none",
            )
        )
    return "".join(line + "\n" for line in aligned(rows)) + f"{content(entries)} in {root}\n"


def listing_of_builds(builds: Sequence[Build], root: str, now: float) -> str:
    """Return the build folders as a table, the last used first; nothing if there are none."""
    rows: list[Sequence[str]] = [("build folder", "size", "last used")]
    for build in reversed(builds):
        used = ago(now - build.used) if build.used else "never"
        rows.append((build.name, human(build.size), used))
    if not builds:
        return ""
    return "".join(f"{line}\n" for line in ("", *aligned(rows), f"{content_of_builds(builds)} in {root}"))


def as_data(entries: Sequence[Entry], builds: Sequence[Build], root: str) -> dict[str, Any]:
    """Return the entries for JSON."""
    names = (
        *("digest", "path", "tokens", "size", "used", "uses"),
        *("version", "interpreter", "distributions"),
    )
    return {
        "folder": root,
        "size": content(entries).size,
        "entries": [{name: getattr(entry, name) for name in names} for entry in entries],
        "builds": [{name: getattr(it, name) for name in ("name", "path", "size", "used")} for it in builds],
    }


def removed(before: Content, after: Content) -> dict[str, Any]:
    """Return what has gone between two looks at the store, for JSON and for `told`."""
    return {
        "removed": [digest for digest in before.digests if digest not in after.digests],
        "freed": before.size - after.size,
        "left": len(after.digests),
        "size": after.size,
    }


def told(change: Mapping[str, Any]) -> str:
    """Return what `removed` has found, and which build folders have gone, in a line each."""
    gone = len(change["removed_builds"])
    of_builds = f"\nremoved {gone} build folder{'' if gone == 1 else 's'}" if gone else ""
    return _told(change) + of_builds


def _told(change: Mapping[str, Any]) -> str:
    left = f"{counted(change['left'])} left, {human(change['size'])}"
    if not change["removed"]:
        return f"nothing to remove: {left}"
    return f"removed {counted(len(change['removed']))}, freed {human(change['freed'])}; {left}"


def damages(found: Mapping[str, str | None]) -> list[str]:
    """Return a line for each entry that is not whole."""
    return [f"{digest[:_SHORT]}: {reason}\n" for digest, reason in found.items() if reason]


def human(size: int) -> str:
    """Return a number of bytes as people read it."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def ago(seconds: float) -> str:
    """Return how long ago something was, in whole units."""
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        number = int(seconds // length)
        if number >= 1:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of as many cells each as lines, in columns; the last one's width is free."""
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip()
        for row in rows
    ]
