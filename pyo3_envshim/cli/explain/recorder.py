"""The cargo that ``pyo3-envshim explain`` puts before the real one, to record what it does.

Reads: its arguments (cargo's own); ``settings.json`` in the folder that `command` made.

Sets for the real cargo: ``CARGO_LOG``, so that cargo tells of its fingerprints on stderr;
and on a terminal, unless the user sets them, ``CARGO_TERM_COLOR`` and
``CARGO_TERM_PROGRESS_…``, because cargo's stderr is a pipe here. ``CARGO`` and ``PATH`` are
as they were before `explain`. None of these is part of a fingerprint.

Leaves: a ``call-….json`` in that folder for each call that compiles.

Leaves alone: standard input and output, exit status, signals, cargo's folders; and stderr,
but for the lines of the log, which it takes out.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

from pyo3_envshim import _startup, files, subprocesses
from pyo3_envshim.build_notes import BuildNotes
from pyo3_envshim.call import MOVED, CargoCall, reason_of, run, warn
from pyo3_envshim.cargo import command_line, fingerprints, inputs, metadata, target_dir
from pyo3_envshim.cli import cache
from pyo3_envshim.cli.explain import cargo_log
from pyo3_envshim.environment import frontends, interpreter
from pyo3_envshim.shelf import Shelf
from pyo3_envshim.store import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

# cargo's module that decides: up to 1.97, and in its sources of August 2026.
TARGETS = ("cargo::core::compiler::fingerprint", "cargo::compiler::fingerprint")
_LINE = re.compile(cargo_log.LINE.encode())
# How a line of the log may start, as far as it has arrived.
_PERHAPS = re.compile(rb"(?: *(?:\d+(?:\.\d*(?:s(?: .*)?)?)?)?|\[[\dTZ:. -]*(?:[A-Z]+ +.*)?)$", re.DOTALL)
# An error's causes, and the backtrace that RUST_BACKTRACE adds.
_MORE = re.compile(rb"\s*(?:Caused by:|Stack backtrace:)?$|\s+\d+: |\s+at ")
_COMPILED = re.compile(r"\s*(?:Compiling|Checking|Documenting) (\S+ v\S+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LogFilter:
    """Takes the lines of the log out of cargo's stderr, and passes everything else on at once.

    With *keep* it takes nothing out: the user asked for a log too.
    """

    def __init__(self, keep: bool = False) -> None:
        self.log: list[str] = []
        self.compiled: list[str] = []
        self._keep = keep
        self._held = b""
        self._passed = b""  # the start of the current line, if it was passed on already
        self._error = False  # whether the next lines may belong to an error in the log
        self._previous = b""

    def feed(self, data: bytes) -> bytes:
        """Take what cargo wrote; return what is to be shown."""
        *lines, rest = re.split(rb"(?<=[\r\n])", self._held + data)
        shown = b"".join(map(self._filter, lines))
        self._held = rest
        if rest and (self._passed or not (self._error or _PERHAPS.match(rest))):
            shown += self.rest()
        return shown

    def rest(self) -> bytes:
        """Return what was held back because it might be the start of a line of the log."""
        rest, self._held = self._held, b""
        self._passed += rest
        return rest

    def _filter(self, line: bytes) -> bytes:
        passed, self._passed = self._passed, b""
        plain = line.rstrip(b"\r\n")
        if not passed and self._is_log(plain):
            self._previous = plain
            self.log.append(plain.decode(errors="surrogateescape"))
            return line if self._keep else b""
        self._error = False
        if found := _COMPILED.match(_COLOUR.sub("", (passed + plain).decode(errors="replace"))):
            self.compiled.append(found[1])
        return line

    def _is_log(self, plain: bytes) -> bool:
        if _LINE.match(plain):
            self._error = b"     err: " in plain
            return True
        return self._error and (bool(_MORE.match(plain)) or self._previous.strip() == b"Caused by:")


def main(folder: str) -> int:
    """Run cargo, and record what it did if it compiles; return its exit status."""
    with open(os.path.join(folder, "settings.json"), encoding="utf-8") as file:
        settings = json.load(file)
    environ = restored(os.environ, os.path.join(folder, "bin"), settings["CARGO"])
    cargo = command_line.find_cargo(environ, {})
    if cargo is None:
        warn("cargo was not found on PATH")
        return 127
    call = CargoCall(cargo, sys.argv[1:], environ)
    try:
        if not command_line.compiles(call.arguments):
            return run(cargo, call.arguments, environ)
        return record(call, folder)
    except OSError as error:
        warn(f"{cargo} cannot be run: {error.strerror}")
        return 126


def restored(environ: Mapping[str, str], ours: str, own: str | None) -> dict[str, str]:
    """Return *environ* as it is without `explain`: *ours* is not on PATH, ``CARGO`` is the user's *own*."""
    found = {**environ, "CARGO": own, MOVED: None}
    if "PATH" in environ:
        entries = environ["PATH"].split(os.pathsep)
        found["PATH"] = os.pathsep.join(entry for entry in entries if entry != ours)
    return {name: value for name, value in found.items() if value is not None}


def logging(environ: Mapping[str, str], columns: int | None) -> dict[str, str]:
    """Return *environ* with what makes cargo log; *columns* is the terminal's width, None without one."""
    found = dict(environ)
    directives = [environ.get("CARGO_LOG", ""), *(f"{target}=debug" for target in TARGETS)]
    found["CARGO_LOG"] = ",".join(filter(None, directives))
    if columns is not None and "NO_COLOR" not in environ:
        found.setdefault("CARGO_TERM_COLOR", "always")
    if columns and not any(name.startswith("CARGO_TERM_PROGRESS") for name in environ):
        found["CARGO_TERM_PROGRESS_WHEN"] = "always"
        found["CARGO_TERM_PROGRESS_WIDTH"] = str(columns)
    return found


def record(call: CargoCall, folder: str) -> int:
    """Run cargo, pass on its output, and write a record of the call; return its exit status."""
    columns = os.get_terminal_size(2).columns if os.isatty(2) else None
    log_filter = LogFilter(keep=bool(call.environ.get("CARGO_LOG")))
    facts: dict[str, Any] = {"environment": {}, "rustc": [None, None], "variables": {}}
    facts["moved"] = os.environ.get(MOVED)
    try:
        facts["environment"] = environment(call.environ)
        with metadata.Query(call) as query:  # now: cargo notes its own compiler as soon as it starts
            workspace = metadata.Workspace(query.answer(), ())
        facts["rustc"][0] = target_dir.rustc_version(workspace.build_dir)
    except Exception:  # the build matters more than its explanation
        pass
    begun = time.time()
    command = [call.cargo, *call.arguments]
    status = _run(command, logging(call.environ, columns), log_filter, facts["variables"])
    facts.update(begun=begun, ended=time.time(), status=status, arguments=call.arguments)
    facts.update(log=log_filter.log, compiled=log_filter.compiled)
    try:
        facts.update(left_by(log_filter.log, begun), cwd=os.getcwd())
        facts["rustc"][1] = target_dir.rustc_version(facts["target"])
        path = os.path.join(folder, f"call-{time.time_ns()}-{os.getpid()}.json")
        files.replace(path, json.dumps(facts).encode())
    except Exception as error:
        warn(f"warning: this call of cargo is not explained: {reason_of(error)}")
    return subprocesses.end_as(status)


def _run(
    command: Sequence[str], environ: Mapping[str, str], log_filter: LogFilter, before: dict[str, Any]
) -> int:
    """Run cargo, and put into *before*, by place, the variables that build scripts watched until now."""
    seen = 0
    output, theirs = os.pipe()
    process = subprocesses.started(command, environ, stderr=theirs)
    os.close(theirs)
    ended = False
    while True:
        if select.select([output], [], [], 0.1)[0]:
            data = os.read(output, 65536)
            _show(log_filter.feed(data))
            # Read them now: cargo names all units before it starts the first, and of several
            # variables that changed, its log names one only.
            for place in cargo_log.places(log_filter.log[seen:]):
                if "run-build-script-" in place:
                    before[place] = inputs.watched_variables(fingerprints.read_unit(place))
            seen = len(log_filter.log)
            if not data:
                break
        else:
            _show(log_filter.rest())
            if ended:  # another process holds the pipe open, such as a compiler cache's server
                break
        ended = ended or process.poll() is not None
    _show(log_filter.rest())
    os.close(output)
    return process.wait()


def _show(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(2, data) :]
        except BlockingIOError:
            select.select([], [2], [])
        except OSError:  # nobody reads it
            return


def environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of the environment that this builds in: it may be gone afterwards."""
    with cache.leaving_no_folders(environ):
        folder = store.folder_in_use(environ)
    python = environ.get("PYO3_PYTHON", "")
    if python:
        roots = [interpreter.environment_of(python)]
    else:  # PyO3 looks at VIRTUAL_ENV, then along PATH; pip's overlay is one folder deeper
        folders = [os.path.dirname(it) for it in environ.get("PATH", "").split(os.pathsep)]
        roots = [environ.get("VIRTUAL_ENV"), *folders, *map(os.path.dirname, folders)]
    makers = (frontends.maker_of(root, environ) for root in roots if root and os.path.isdir(root))
    maker = next(filter(None, makers), None)
    return {
        "python": python or None,
        "front_end": maker.name if maker else None,
        "stored": python.startswith(os.path.join(folder, "")),
        "mode": _startup.mode(environ),
        "switch": "unset PYO3_ENVSHIM" if environ.get("PYO3_ENVSHIM") else "pyo3-envshim on",
        "builds": os.path.join(folder, "builds"),
    }


def left_by(log: Sequence[str], begun: float) -> dict[str, Any]:
    """Return what cargo left of the units that the log names, and of those that were there before."""
    units = {place: fingerprints.read_unit(place) for place in cargo_log.places(log)}
    before = {}
    for place in units:
        found = [fingerprints.read_unit(it) for it in fingerprints.siblings(place) if it not in units]
        before[place] = [unit for unit in found if unit["facts"] and (unit["ended"] or 0) < begun]
    target = next(filter(None, map(fingerprints.containing, units)), None)
    profiles = fingerprints.built_profiles(target, begun)
    aside = set_aside(target, units) if target else {}
    return {
        "units": units,
        "before": before,
        "target": target,
        "profiles": profiles,
        "aside": aside,
        "each_time": BuildNotes(target).each_time() if target else {},
    }


def set_aside(target: str, places: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """Return for what values the last set of each place was compiled, by place, where there is one."""
    sets = [each for profile in target_dir.profiles(target) for each in Shelf(profile).sets()]
    sets.sort(key=lambda each: each.time)
    names = {place: os.path.relpath(place, target) for place in places}
    return {
        place: each.values
        for each in sets
        for place, name in names.items()
        if os.path.exists(os.path.join(each.path, name))
    }
