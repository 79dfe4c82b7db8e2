"""The cargo that ``pyo3-envshim explain`` puts in front of the real one, and what it writes down.

Reads: its arguments (cargo's own); ``settings.json`` in the folder that `explain` made.

Sets for the real cargo: ``CARGO_LOG``, so that cargo tells of its fingerprints on stderr;
and on a terminal, where nobody has set them, ``CARGO_TERM_COLOR`` and
``CARGO_TERM_PROGRESS_…``, because cargo's stderr is a pipe here. ``CARGO`` and ``PATH`` are
as they were before `explain`. None of these is part of a fingerprint.

Leaves: a ``call-….json`` in that folder for each call that compiles. Standard input and
output, exit status and signals are cargo's own; of its stderr, only the lines of the log
are taken out. Nothing in cargo's folders is written.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

from pyo3_envshim import _startup, fingerprints, frontends, interpreters, store
from pyo3_envshim import cargo as wrapper
from pyo3_envshim.processes import end_as, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# cargo's module that decides: up to 1.97, and in its sources of August 2026.
TARGETS = ("cargo::core::compiler::fingerprint", "cargo::compiler::fingerprint")
_LINE = re.compile(fingerprints.LINE.encode())
_PERHAPS = re.compile(rb"(?: *(?:\d+(?:\.\d*(?:s(?: .*)?)?)?)?|\[[\dTZ:. -]*(?:[A-Z]+ +.*)?)$", re.DOTALL)
# An error's causes, and the backtrace that RUST_BACKTRACE adds.
_MORE = re.compile(rb"\s*(?:Caused by:|Stack backtrace:)?$|\s+\d+: |\s+at ")
_COMPILED = re.compile(r"\s*(?:Compiling|Checking|Documenting) (\S+ v\S+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HASHED = re.compile(r"(.*[-/\\])[0-9a-f]{16}([/\\].*)")  # a unit's folder, in both of cargo's layouts


class Sieve:
    """Takes the lines of cargo's log out of its stderr; the rest is passed on at once.

    With *keep*, the user asked for a log too: nothing is taken out.
    """

    def __init__(self, keep: bool = False) -> None:
        self.log: list[str] = []
        self.compiled: list[str] = []
        self._keep = keep
        self._held = b""
        self._passed = b""  # the start of this line, that was passed on already
        self._error = False  # what follows may belong to an error in the log
        self._previous = b""

    def feed(self, data: bytes) -> bytes:
        """Take what cargo wrote; return what is to be shown."""
        *lines, rest = re.split(rb"(?<=[\r\n])", self._held + data)
        shown = b"".join(map(self._sift, lines))
        self._held = rest
        if rest and (self._passed or not (self._error or _PERHAPS.match(rest))):
            shown += self.rest()
        return shown

    def rest(self) -> bytes:
        """Return what was held back, because it might have been the start of a line of the log."""
        rest, self._held = self._held, b""
        self._passed += rest
        return rest

    def _sift(self, line: bytes) -> bytes:
        passed, self._passed = self._passed, b""
        plain = line.rstrip(b"\r\n")
        if not passed and self._is_log(plain):
            self._previous = plain
            self.log.append(plain.decode(errors="surrogateescape"))
            return line if self._keep else b""
        self._error = False
        found = _COMPILED.match(_COLOUR.sub("", (passed + plain).decode(errors="replace")))
        if found:
            self.compiled.append(found[1])
        return line

    def _is_log(self, plain: bytes) -> bool:
        if _LINE.match(plain):
            self._error = b"     err: " in plain
            return True
        return self._error and (bool(_MORE.match(plain)) or self._previous.strip() == b"Caused by:")


def main(folder: str) -> int:
    """Run cargo, and write down what it did if it compiles; return its exit status."""
    with open(os.path.join(folder, "settings.json"), encoding="utf-8") as file:
        settings = json.load(file)
    arguments = sys.argv[1:]
    environ = restored(os.environ, os.path.join(folder, "bin"), settings["CARGO"])
    cargo = wrapper.find_cargo(environ, {})
    if cargo is None:
        wrapper.say("cargo was not found on PATH")
        return 127
    try:
        if not wrapper.compiles(arguments):
            return wrapper.run(cargo, arguments, environ)
        return observe(cargo, arguments, environ, folder)
    except OSError as error:
        wrapper.say(f"{cargo} cannot be run: {error.strerror}")
        return 126


def restored(environ: Mapping[str, str], ours: str, own: str | None) -> dict[str, str]:
    """Return *environ* as it would be without `explain`: *ours* not on PATH, ``CARGO`` the user's own."""
    found = {name: value for name, value in environ.items() if name != "CARGO"}
    if own is not None:
        found["CARGO"] = own
    if "PATH" in found:
        entries = found["PATH"].split(os.pathsep)
        found["PATH"] = os.pathsep.join(entry for entry in entries if entry != ours)
    return found


def logging(environ: Mapping[str, str], columns: int | None) -> dict[str, str]:
    """Return *environ* with what makes cargo tell; *columns* is the terminal's width, None without one."""
    found = dict(environ)
    directives = [environ.get("CARGO_LOG", ""), *(f"{target}=debug" for target in TARGETS)]
    found["CARGO_LOG"] = ",".join(filter(None, directives))
    if columns is not None and "NO_COLOR" not in environ:
        found.setdefault("CARGO_TERM_COLOR", "always")
    if columns and not any(name.startswith("CARGO_TERM_PROGRESS") for name in environ):
        found["CARGO_TERM_PROGRESS_WHEN"] = "always"
        found["CARGO_TERM_PROGRESS_WIDTH"] = str(columns)
    return found


def observe(cargo: str, arguments: Sequence[str], environ: dict[str, str], folder: str) -> int:
    """Run cargo, pass on what it says, and write a record of the call; return its exit status."""
    columns = None
    if os.isatty(2):
        columns = os.get_terminal_size(2).columns
    sieve = Sieve(keep=bool(environ.get("CARGO_LOG")))
    facts: dict[str, Any] = {"environment": {}, "rustc": [None, None], "variables": {}}
    try:
        facts["environment"] = environment(environ)
        facts["rustc"][0] = rustc_before(cargo, arguments, environ)
    except Exception:  # the build is worth more than its explanation
        pass
    begun = time.time()
    status = _run([cargo, *arguments], logging(environ, columns), sieve, facts["variables"])
    ended = time.time()
    try:
        facts.update(arguments=list(arguments), cwd=os.getcwd(), status=status, begun=begun, ended=ended)
        facts.update(log=sieve.log, compiled=sieve.compiled)
        facts.update(left_by(sieve.log, begun))
        if facts["target"]:
            facts["rustc"][1] = rustc_of(facts["target"])
        path = os.path.join(folder, f"call-{time.time_ns()}-{os.getpid()}.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(facts, file)
        os.replace(path + ".new", path)
    except Exception as error:
        wrapper.say(f"warning: this call of cargo is not explained: {type(error).__name__}: {error}")
    return end_as(status)


def _run(
    command: Sequence[str],
    environ: Mapping[str, str],
    sieve: Sieve,
    before: dict[str, dict[str, str | None]],
) -> int:
    """Run cargo, and put into *before* the variables that build scripts watched, by place."""
    seen = 0
    output, theirs = os.pipe()
    process = started(command, environ, stderr=theirs)
    os.close(theirs)
    ended = False
    while True:
        ready = select.select([output], [], [], 0.1)[0]
        if ready:
            data = os.read(output, 65536)
            _show(sieve.feed(data))
            # cargo names all units before it starts the first; of several variables, it tells of one
            for line in sieve.log[seen:]:
                if fingerprints.AT in line and "run-build-script-" in line:
                    place = line.split(fingerprints.AT, 1)[1]
                    before[place] = variables_of(unit_at(place))
            seen = len(sieve.log)
            if not data:
                break
        else:
            _show(sieve.rest())
            if ended:  # who holds the pipe open now is not cargo
                break
        ended = ended or process.poll() is not None
    _show(sieve.rest())
    os.close(output)
    return process.wait()


def _show(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(2, data) :]
        except BlockingIOError:
            select.select([], [2], [])
        except OSError:  # nobody listens
            return


def environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of the environment that is built in: it may be gone afterwards."""
    python = environ.get("PYO3_PYTHON", "")
    stored = python.startswith(os.path.join(store.folder(environ), ""))
    root = interpreters.environment_of(python)
    maker = frontends.throw_away(root, environ) if root else None
    name = maker.name if maker else None
    mode = _startup.mode(environ)
    builds = os.path.join(store.folder(environ), "builds")
    return {"python": python or None, "front_end": name, "stored": stored, "mode": mode, "builds": builds}


def left_by(log: Sequence[str], begun: float) -> dict[str, Any]:
    """Return what cargo left of the units that the log names, and of those that stood there before."""
    places = [line.split(fingerprints.AT, 1)[1] for line in log if fingerprints.AT in line]
    units = {place: unit_at(place) for place in places}
    before = {}
    for place in places:
        found = [unit_at(other) for other in siblings(place) if other not in units]
        before[place] = [unit for unit in found if unit["facts"] and (unit["ended"] or 0) < begun]
    target = target_of(log)
    return {"units": units, "before": before, "target": target, "profiles": profiles(target, begun)}


def unit_at(place: str) -> dict[str, Any]:
    """Return what stands at a unit's fingerprint: its hash, its facts, when it was begun and ended."""
    found: dict[str, Any] = {"hash": "", "facts": {}, "begun": None, "ended": None}
    try:
        with open(place, encoding="ascii") as file:
            found["hash"] = file.read()
        found["ended"] = os.stat(place).st_mtime
        with open(place + ".json", encoding="utf-8") as file:
            facts = json.load(file)
        found["facts"] = facts if isinstance(facts, dict) else {}
        found["begun"] = _invoked(place)
    except (OSError, ValueError):
        pass
    return found


def variables_of(unit: dict[str, Any]) -> dict[str, str | None]:
    """Return the variables that a build script's run depends on, from what stands at its fingerprint."""
    found = {}
    for local in unit["facts"].get("local") or ():
        watched = local.get("RerunIfEnvChanged") if isinstance(local, dict) else None
        if isinstance(watched, dict):
            found[watched.get("var", "")] = watched.get("val")
    return found


def _invoked(place: str) -> float | None:
    """Return when a unit was begun. A build script that is run has the file where its output is."""
    folder = os.path.dirname(place)
    above, name = os.path.split(folder)
    for candidate in (folder, os.path.join(os.path.dirname(above), "build", name), above, above + "/run"):
        try:
            return os.stat(os.path.join(candidate, "invoked.timestamp")).st_mtime
        except OSError:
            pass
    return None


def siblings(place: str) -> list[str]:
    """Return the fingerprints of the same unit with other settings: beside it, with another hash."""
    found = _HASHED.fullmatch(place)
    if not found:
        return []
    folder, prefix = os.path.split(found[1])
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    others = [os.path.join(folder, name) + found[2] for name in names if name.startswith(prefix)]
    return [it for it in others if it != place and _HASHED.sub(r"\1", it) == found[1]]


def target_of(log: Sequence[str]) -> str | None:
    """Return cargo's build folder, from the first fingerprint in the log."""
    for line in log:
        if fingerprints.AT in line:
            folder = line.split(fingerprints.AT, 1)[1]
            for _ in range(8):
                folder = os.path.dirname(folder)
                if os.path.exists(os.path.join(folder, ".rustc_info.json")) or os.path.exists(
                    os.path.join(folder, "CACHEDIR.TAG")
                ):
                    return folder
    return None


def profiles(target: str | None, begun: float) -> list[str]:
    """Return the folders of profiles in *target* that an earlier build left something in."""
    if target is None:
        return []
    found = set()
    for above in ["", *(entry.name for entry in os.scandir(target) if entry.is_dir())]:
        for entry in os.scandir(os.path.join(target, above)):
            for prints in (".fingerprint", "build"):
                folder = os.path.join(entry.path, prints)
                kept = os.scandir(folder) if os.path.isdir(folder) else ()
                # not mtime: cargo touches none of them, but a restored cache brings its own
                if any(os.path.getctime(unit.path) < begun for unit in kept):
                    found.add(os.path.join(above, entry.name))
    return sorted(found)


def rustc_before(cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the compiler of the build before: cargo writes its own as soon as it starts."""
    asked = wrapper.metadata_arguments(arguments), wrapper.metadata_environ(arguments, environ)
    answer = wrapper.Query(cargo, *asked).answer()
    return rustc_of(answer.get("build_directory") or answer.get("target_directory"))


def rustc_of(target: str | None) -> str | None:
    """Return the compiler of the last build in *target*, as it calls itself."""
    try:
        with open(os.path.join(target or "", ".rustc_info.json"), encoding="utf-8") as file:
            outputs = json.load(file)["outputs"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    told = [output.get("stdout", "") for output in outputs]
    return next((text.splitlines()[0] for text in told if text.startswith("rustc ")), None)
