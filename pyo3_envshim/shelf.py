"""The shelf of a profile: the sets of units that lie there, when one counts, and how many are kept.

    <build folder>/<profile>/.envshim-sets/
        last            the last calls that we know of (`Shelf.note`)
        <hash>/         a set; its manifest says what it is for, and each file's size and mtime
        tmp-…/          does not count: about to be a set, or about to be gone

A set counts from the rename to its name on, until the rename to another ``tmp-…``. Whatever removes
a profile removes its shelf.
"""

from __future__ import annotations

import os  # nothing heavy at the top: every call that compiles imports this module
import stat

from pyo3_envshim import files
from pyo3_envshim.cargo import fast_json, target_dir
from pyo3_envshim.environment import frontends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Values = Mapping[str, "str | None"]

FOLDER = ".envshim-sets"
KEPT = 8  # an interpreter's wheels, tests and editor need one or two
_LAST = "last"
_MANIFEST = "manifest"
_FORMAT = "pyo3-envshim set 2"
_TEMPORARY = "tmp-"
# What PyO3 finds an interpreter by; nobody tells cargo that there is another one at the same path.
_INTERPRETERS = ("PYO3_PYTHON", "PYTHON_SYS_EXECUTABLE", "VIRTUAL_ENV", "CONDA_PREFIX")


class CallNote:
    """What is known of a call: the workspace's root, values of variables, and the interpreters these name.

    An interpreter is its path without links, its size and its mtime; None where it is not known which one
    units were compiled for.
    """

    __slots__ = ("interpreters", "root", "values")

    def __init__(self, root: str, values: Values, interpreters: Mapping[str, list[Any] | None]) -> None:
        self.root = root
        self.values = values
        self.interpreters = interpreters

    def facts(self) -> dict[str, Any]:
        """Return what `Shelf.note` writes."""
        return {"root": self.root, "values": self.values, "interpreters": self.interpreters}

    def explains(self, values: Values) -> bool:
        """Tell whether units with these values may come from this call: not if another cargo was here since.

        That may have been one without us, or one that waited for a lock.
        """
        known = all(self.values.get(name, value) == value for name, value in values.items())
        return bool(self.root) and known and None not in self.interpreters_of(values).values()

    def interpreters_of(self, values: Values) -> dict[str, list[Any] | None]:
        """Return the interpreters that are among *values*."""
        return {name: self.interpreters.get(name) for name in _INTERPRETERS if values.get(name)}


def call_note(root: str, names: Iterable[str], environ: Mapping[str, str]) -> CallNote:
    """Return what is to be noted of a call, *names* being the variables that build scripts ask for."""
    values = {name: value_of(name, environ) for name in (*_INTERPRETERS, *sorted(names)) if name != "PATH"}
    named = {name: value for name in _INTERPRETERS if (value := environ.get(name))}
    return CallNote(root, values, {name: _interpreter(it, environ) for name, it in named.items()})


def value_of(name: str, environ: Mapping[str, str]) -> str | None:
    """Return a variable as cargo sees it: on Windows, where Python has capitals, the case does not count."""
    return environ.get(name.upper() if os.name == "nt" else name)


def _interpreter(value: str, environ: Mapping[str, str], windows: bool = os.name == "nt") -> list[Any]:
    folders = [""] if os.path.dirname(value) else environ.get("PATH", "").split(os.pathsep)
    endings = [".exe", ""] if windows else [""]  # pyenv-win has a script on PATH that has none
    paths = [os.path.join(folder, value + ending) for ending in endings for folder in folders]
    path = next(filter(os.path.exists, paths), value)
    if os.path.isdir(path):
        # Of an environment; on Windows, conda's is not in Scripts.
        names = [r"Scripts\python.exe", "python.exe"] if windows else ["bin/python"]
        own = [os.path.join(path, name) for name in names]
        path = next(filter(os.path.exists, own), own[0])
    try:
        found = os.stat(path)
        return [os.path.realpath(path), found.st_size, found.st_mtime_ns]
    except OSError:
        return [os.path.realpath(path), 0, 0]


class Set:
    """What was put aside together: its path, the root, values and interpreters it is for, and when."""

    __slots__ = ("interpreters", "path", "root", "time", "values")

    def __init__(self, path: str, head: Mapping[str, Any], time: int) -> None:
        self.path = path
        self.root: str = head["root"]
        self.values: dict[str, str | None] = head["values"]
        self.interpreters: dict[str, list[Any]] = head["interpreters"]
        self.time = time

    @property
    def size(self) -> int:
        """The size of its files in bytes. Raises OSError."""
        return sum(size for size, _ in states(target_dir.paths_in(self.path), self.path).values())

    def fits(self, call: CallNote, seen: Values) -> bool:
        """Tell whether it is for this call, of which cargo sees these values."""
        if self.root != call.root or self.interpreters != call.interpreters_of(self.values):
            return False
        return all(name in seen and seen[name] == value for name, value in self.values.items())

    def body(self) -> dict[str, Any] | None:
        """Return what the manifest says of the units; None if the set is not what it was. Raises OSError."""
        with open(os.path.join(self.path, _MANIFEST), encoding="utf-8") as file:
            text = file.read()
        try:
            body: dict[str, Any] = fast_json.loads(text.partition("\n")[2])
            there = states(target_dir.paths_in(self.path), self.path)
            del there[_MANIFEST]
            return body if body.pop("files") == there else None
        except (ValueError, KeyError):
            return None


def is_worthwhile(values: Values) -> bool:
    """Tell whether anybody may ask for these values again: not for an ephemeral environment that is gone."""
    python = values.get("PYO3_PYTHON") or ""
    return bool(values) and not (_is_gone(python) and frontends.is_named_as_ephemeral(python))


def _is_gone(python: str) -> bool:
    return os.path.isabs(python) and not os.path.lexists(python)


def states(paths: Iterable[str], above: str) -> dict[str, list[int]]:
    """Return size and mtime of all files at or below *paths*, by their paths relative to *above*."""
    found = {}
    left = list(paths)
    while left:
        path = left.pop()
        at = os.lstat(path)
        if stat.S_ISDIR(at.st_mode):
            left += target_dir.paths_in(path)
        else:
            found[os.path.relpath(path, above)] = [at.st_size, at.st_mtime_ns]
    return found


class Shelf:
    """The shelf in a folder. *last*: the calls that may have left what is in place, as far as is known.

    *noted*: when the last of them was noted, in ns; what is older in place is of none of them.
    """

    __slots__ = ("folder", "last", "noted")

    def __init__(self, profile: str) -> None:
        self.folder = os.path.join(profile, FOLDER)
        self.last: list[CallNote] = []
        self.noted = 0
        try:
            with open(os.path.join(self.folder, _LAST), encoding="utf-8") as file:
                self.noted = os.fstat(file.fileno()).st_mtime_ns
                self.last = [CallNote(**it) for it in fast_json.loads(file.read())]
        except (OSError, ValueError, TypeError):
            pass

    def origin(self, values: Values) -> CallNote | None:
        """Return the call that left the units with these values; None if that is not known.

        It is not known then whose sources they were compiled from: they make no set.
        """
        found = [call for call in self.last if call.explains(values)]
        kinds = [(call.root, call.interpreters_of(values)) for call in found]
        return found[0] if found and kinds.count(kinds[0]) == len(kinds) else None

    def note(self, call: CallNote, others: bool) -> None:
        """Note a call that is about to start. If that fails, its units must not be taken for another's.

        *others*: whether units of those before may still be in place, or at work. Where there is another
        interpreter at the same path, units that cargo takes for fresh may be for either.
        """
        for name, found in call.interpreters.items():
            for before in self.last:
                if before.values.get(name) == call.values[name] and before.interpreters.get(name) != found:
                    call.interpreters = {**call.interpreters, name: None}
        known = [it.facts() for it in self.last]
        noted = [it for it in known if it != call.facts()][-KEPT:] if others else []
        noted.append(call.facts())
        if noted != known:
            import json

            name = os.path.join(self.folder, _LAST)
            try:
                os.makedirs(self.folder, exist_ok=True)
                files.replace(name, json.dumps(noted).encode())
            except OSError:
                files.remove(name)

    def sets(self) -> list[Set]:
        """Return the sets, the newest first. Raises OSError."""
        found = []
        for path in target_dir.paths_in(self.folder):
            if not os.path.basename(path).startswith(_TEMPORARY):
                name = os.path.join(path, _MANIFEST)
                try:
                    with open(name, encoding="utf-8") as file:
                        head = fast_json.loads(file.readline())
                    if head["format"] == _FORMAT:
                        found.append(Set(path, head, os.stat(name).st_mtime_ns))
                except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
                    pass  # the last call; or a set cut short by a full disk, or by what removes caches
        return sorted(found, key=lambda each: (each.time, each.path), reverse=True)

    def paths_of(self, root: str) -> list[str]:
        """Return the paths of the sets that are of a workspace. Raises OSError."""
        return [each.path for each in self.sets() if each.root == root]

    def temporary(self) -> str:
        """Return a new path for what does not count. Raises OSError."""
        os.makedirs(self.folder, exist_ok=True)
        return os.path.join(self.folder, f"{_TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")

    def commit(self, temporary: str, values: Values, origin: CallNote, body: dict[str, Any]) -> None:
        """Let what lies in *temporary* be a set, in place of an older one for the same. Raises OSError."""
        import hashlib
        import json

        body["files"] = states(target_dir.paths_in(temporary), temporary)
        head = {"format": _FORMAT, "root": origin.root, "values": values}
        key = json.dumps(head, sort_keys=True)
        head["interpreters"] = origin.interpreters_of(values)
        text = f"{json.dumps(head)}\n{json.dumps(body)}\n"
        files.create(os.path.join(temporary, _MANIFEST), text.encode())
        path = os.path.join(self.folder, hashlib.sha256(key.encode()).hexdigest()[:16])
        if os.path.lexists(path):
            files.remove(self.take(path))
        files.rename(temporary, path)

    def take(self, path: str) -> str:
        """Let a set count no more; return where it is now. Raises OSError."""
        temporary = self.temporary()
        files.rename(path, temporary)
        return temporary

    def sweep(self) -> None:
        """Remove what processes left that were killed."""
        for path in target_dir.paths_in(self.folder):
            if os.path.basename(path).startswith(_TEMPORARY):
                files.remove(path)

    def clear(self) -> list[str]:
        """Remove all; return the sets' paths. What is in place makes no set until it is compiled anew.

        Raises OSError.
        """
        removed = self.prune(float("inf"))
        files.remove(self.folder)
        return removed

    def prune(self, before: float = 0) -> list[str]:
        """Remove what is no set, what nobody will ask for, and what exceeds `KEPT`.

        Sets go first whose interpreter is gone (tox and nox make it anew), then the oldest; and in any case
        those that were put aside *before* a time in seconds. Returns their paths. Raises OSError.
        """
        sets = [each for each in self.sets() if is_worthwhile(each.values) and each.time >= before * 1e9]
        sets.sort(key=lambda each: _is_gone(each.values.get("PYO3_PYTHON") or ""))
        kept = [each.path for each in sets[:KEPT]]
        paths = target_dir.paths_in(self.folder)
        removed = [path for path in paths if path not in kept and os.path.isdir(path)]
        for path in removed:
            files.remove(self.take(path))
        return removed
