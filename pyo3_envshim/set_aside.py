"""Sets of compiled units: what cargo would overwrite is put aside, and brought back when it is wanted.

cargo keeps one result per unit. If a variable that a build script asked for has another value, it
runs the script again, and overwrites what the script and all that depends on it had led to. Before
cargo starts, under cargo's own locks, `exchange` moves these units out of its way, and brings back
those that were once put aside for the values that cargo is about to see. Renames keep the times,
so that cargo judges what it finds by its own rules; a mistake in a value only costs time.

`moving` says what could go wrong, and what keeps it from doing so.
"""

from __future__ import annotations

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.inputs import recorded_variables
from pyo3_envshim.cargo.units import (
    UnknownFormat,
)
from pyo3_envshim.moving import Place, Refused, exchange_locked
from pyo3_envshim.shelf import Set, call_note, value_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyo3_envshim.cargo.metadata import Workspace

    Values = Mapping[str, "str | None"]

_KEPT = "kept"  # in place of a workspace's root: without a stamp, what is local does not come back


class Exchange:
    """What was done: how many units were put aside and brought back; or why not, if there is a reason."""

    __slots__ = ("brought_back", "put_aside", "reason")

    def __init__(self) -> None:
        self.put_aside = self.brought_back = 0
        self.reason = ""

    def __str__(self) -> str:
        done = f"{self.put_aside} units set aside, {self.brought_back} brought back"
        return f"{done}: {self.reason}" if self.reason else done


def exchange(
    environ: Mapping[str, str], workspace: Workspace, is_stamped: bool = False, is_kept: bool = False
) -> Exchange:
    """Put aside what a cargo with these variables would overwrite, and bring back what it would make.

    *is_stamped*: whether the guard has left its stamp for this call. *is_kept*: whether the build folder
    is one that is kept for unpacked sources, whose root is another each time. Raises nothing that could
    keep cargo from running: where something is not as it should be, things stay as they are.
    """
    done, is_refused = Exchange(), False
    place = Place(workspace, is_stamped, _KEPT if is_kept else "")
    try:
        sets = place.shelf.sets()
        recorded = recorded_variables(place.profiles)
        names = {*recorded, *(name for each in sets for name in each.values)}
        place.call = call_note(place.root, names, environ)
        seen = _values_seen(names, environ)
        if _is_due(place, recorded, sets, seen):
            from pyo3_envshim.cargo.configuration import may_change

            for name in may_change(seen, workspace.settings):
                del seen[name]
            if _is_due(place, recorded, sets, seen):
                exchange_locked(place, seen, done)
    except (OSError, UnknownFormat, Refused) as error:
        done.reason = str(error)
        is_refused = True
    try:
        target_dir.make_build_dir(place.build)
    except OSError:
        pass  # cargo will say why
    files.remove(place.old_stamp)
    place.shelf.note(place.call, others=is_refused)
    return done


def _values_seen(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables as cargo sees them: it notes nothing for what is not Unicode."""
    found = {name: value_of(name, environ) for name in names}
    return {name: None if value and _is_not_unicode(value) else value for name, value in found.items()}


def _is_not_unicode(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def _is_due(place: Place, recorded: Mapping[str, set[str | None]], sets: Iterable[Set], seen: Values) -> bool:
    differs = any(values != {seen[name]} for name, values in recorded.items() if name in seen)
    return differs or any(each.fits(place.call, seen) for each in sets)
