"""Sets of compiled units: what cargo would overwrite is put aside, and brought back when it is wanted.

cargo keeps one result per unit. If a variable that a build script asked for has another value, it
runs the script again, and overwrites what the script and all that depends on it had led to. Before
cargo starts, under cargo's own locks, `exchange` moves these units out of its way, and brings back
those that were once put aside for the values that cargo is about to see. Renames keep the times,
so that cargo judges what it finds by its own rules; a mistake in a value only costs time.

`moving` says what could go wrong, and what keeps it from doing so.
"""

from __future__ import annotations

import os  # nothing else at the top: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.inputs import recorded_variables
from pyo3_envshim.shelf import CallNote, Shelf, call_note, value_of
from pyo3_envshim.stamp import OLD_STAMP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyo3_envshim.cargo.metadata import Workspace
    from pyo3_envshim.shelf import Set

    Values = Mapping[str, "str | None"]

_KEPT = "kept"  # in place of a workspace's root: without a stamp, what is local does not come back


class Exchange:
    """What was done: how many units were put aside and brought back; or why not, if there is a reason.

    *is_refused*: whether what is in place may have stayed there though it should not.
    """

    __slots__ = ("brought_back", "is_refused", "put_aside", "reason")

    def __init__(self) -> None:
        self.put_aside = self.brought_back = 0
        self.is_refused = False
        self.reason = ""

    def refuse(self, reason: object) -> None:
        self.is_refused, self.reason = True, str(reason)

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
    done = Exchange()
    build, profile = workspace.build_dir, os.path.join(workspace.build_dir, workspace.profile)
    shelf = Shelf(profile)
    call = CallNote("", {}, {})  # explains nothing, until it is known
    try:
        profiles = target_dir.profiles_called(workspace.profile, build)
        sets, recorded = shelf.sets(), recorded_variables(profiles)
        names = {*recorded, *(name for each in sets for name in each.values)}
        call = call_note(_KEPT if is_kept else workspace.root, names, environ)
        seen = _values_seen(names, environ)
        if _is_due(call, recorded, sets, seen):
            from pyo3_envshim.cargo.configuration import may_change

            for name in may_change(seen, workspace.settings):
                del seen[name]
            if _is_due(call, recorded, sets, seen):
                from pyo3_envshim import moving
                from pyo3_envshim.cargo.units import UnknownFormat

                try:
                    moving.exchange(moving.Place(workspace, shelf, call, is_stamped), seen, done)
                except (UnknownFormat, moving.Refused) as reason:
                    done.refuse(reason)
    except OSError as error:
        done.refuse(error)
    try:
        target_dir.make_build_dir(build)
    except OSError:
        pass  # cargo will say why
    files.remove(os.path.join(profile, OLD_STAMP))
    shelf.note(call, others=done.is_refused)
    return done


def _values_seen(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables as cargo sees them: it notes nothing for what is not Unicode."""
    found = {name: value_of(name, environ) for name in names}
    return {name: None if value and _is_not_unicode(value) else value for name, value in found.items()}


def _is_not_unicode(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def _is_due(
    call: CallNote, recorded: Mapping[str, set[str | None]], sets: Iterable[Set], seen: Values
) -> bool:
    differs = any(values != {seen[name]} for name, values in recorded.items() if name in seen)
    return differs or any(each.fits(call, seen) for each in sets)
