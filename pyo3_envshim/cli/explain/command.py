"""``pyo3-envshim explain``: runs a command, and says what cargo recompiled in it and why.

The command finds a `recorder` where it looks for cargo: as the user's own ``CARGO``, which
the shim, where it is on, runs like any other; and first on ``PATH``. The command's output,
exit status and signals are its own.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyo3_envshim import _startup, subprocesses
from pyo3_envshim.call import RECORDING
from pyo3_envshim.cli import env
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.cli.explain import causes
from pyo3_envshim.cli.explain.causes import Call, Cause
from pyo3_envshim.set_aside import Exchange

_ROWS = 12
_RECORDER = """\
import sys
sys.path.insert(0, {site!r})
from pyo3_envshim.cli.explain import recorder
sys.exit(recorder.main({folder!r}))
"""


def explain(command: Sequence[str], as_json: bool = False, colour: bool = False) -> int:
    """Run *command* and explain it, on stderr or, as JSON, on stdout; return its exit status.

    With *as_json*, the command's own standard output goes to stderr. Raises `CommandError`
    if it cannot be started.
    """
    if os.name == "nt":
        raise CommandError("explain does not run on Windows", "PYO3_ENVSHIM_VERBOSE=1 tells what is done")
    with tempfile.TemporaryDirectory(prefix=RECORDING) as folder:
        name, own = command[0], dict(os.environ)
        if os.path.basename(name) == "cargo":  # the user names the cargo to record
            own["CARGO"] = os.path.abspath(name) if os.path.dirname(name) else ""
            name = "cargo"
        environ = with_recorder(own, folder)
        program = env.program_of(name, environ)
        began = time.time()
        try:
            stdout = 2 if as_json else None
            status = subprocesses.started([program, *command[1:]], environ, stdout).wait()
        except OSError as error:
            raise env.not_run(command[0], error) from None
        records = sorted(Path(folder).glob("call-*.json"))  # in the order in which the calls ended
        calls = [causes.diagnose(json.loads(path.read_bytes()), began) for path in records]
    if as_json:
        print(json.dumps(as_data(calls, status), indent=2), flush=True)
    else:
        print(report(calls, colour, status), end="", file=sys.stderr, flush=True)
    return subprocesses.end_as(status)


def with_recorder(environ: Mapping[str, str], folder: str) -> dict[str, str]:
    """Put a recorder into *folder*; return *environ* with the recorder in place of the real cargo.

    It is called as that is: back ends ask whether ``CARGO`` is cross.
    """
    scripts = os.path.join(folder, "bin")
    os.makedirs(scripts, exist_ok=True)
    site = os.path.dirname(os.path.dirname(os.path.abspath(_startup.__file__)))
    name = "PYO3_ENVSHIM_CARGO" if _startup.is_wrapper(environ.get("CARGO", "")) else "CARGO"
    own = environ.get(name) or "cargo"
    path = os.path.join(scripts, os.path.basename(own))
    with open(os.path.join(folder, "settings.json"), "w", encoding="utf-8") as file:
        json.dump({"CARGO": environ.get(name) or None}, file)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(_first_line(sys.executable) + _RECORDER.format(site=site, folder=folder))
    os.chmod(path, 0o755)
    by_name = own == os.path.basename(own) != "cargo"  # and found first on PATH
    found = {**environ, name: own if by_name else path}
    return {**found, "PATH": scripts + os.pathsep + environ.get("PATH", os.defpath)}


def _first_line(python: str) -> str:
    """Return the first lines of a script for *python*, also where its path does not fit into ``#!``."""
    if len(python) < 120 and not any(letter.isspace() for letter in python):
        return f"#!{python} -IS\n"
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} -IS \"$0\" \"$@\"\n'''\n"


def report(calls: Sequence[Call], colour: bool = False, status: int = 0) -> str:
    lines = []
    if not calls and status:
        lines.append(f"cargo compiled nothing: the command failed before, with status {status}")
    elif not calls:
        lines.append("cargo compiled nothing: no call that compiles was seen")
        lines.append("hint: the front end may have used a wheel that it had (uv: --no-cache builds anew)")
    for call in calls:
        lines += _of_call(call)
        moved = call.record.get("moved")
        if moved and moved != str(Exchange()):  # something was
            lines.append(f"before that, the shim moved units: {moved}")
    for cause in root_causes(calls):
        lines.append(f"cause: {cause.text}")
        if cause.hint:
            lines.append(f"hint: {cause.hint}")
    return "".join(_coloured(line, colour) + "\n" for line in lines)


def _of_call(call: Call) -> list[str]:
    status = call.record["status"]
    ended = "" if status == 0 else f", and ended with status {status}"
    if not call.understood:
        log = call.record["log"][:_ROWS]
        lines = [f"cargo compiled {', '.join(call.record['compiled'])}{ended}"]
        start = "; it starts with:" if log else ": it is empty"
        lines += [f"error: this cargo's log is not understood{start}", *(f"  {line}" for line in log)]
        return [*lines, "hint: cargo build --verbose names a reason for each crate, without its root cause"]
    if not call.crates:
        return [f"cargo recompiled nothing: all of {call.total} crates were fresh{ended}"]
    count = len(call.crates)
    lines = [f"cargo recompiled {count} of {call.total} crates in {call.seconds:.1f} s{ended}"]
    slow = sorted(call.crates, key=lambda it: -(it.seconds or 0))[:_ROWS]
    shown = [crate for crate in call.crates if crate in slow]
    width = max(len("crate"), *(len(crate.name) for crate in shown))
    lines.append(f"  {'crate':{width}}  {'time':>7}  because")
    for crate in shown:
        time = "-" if crate.seconds is None else f"{crate.seconds:.1f} s"
        because = "; ".join(cause.brief for cause in crate.causes)
        because = because or f"depends on {', '.join(crate.because)}"
        lines.append(f"  {crate.name:{width}}  {time:>7}  {because}")
    if count > _ROWS:
        lines.append(f"  and {count - _ROWS} more, that took less")
    return lines


def root_causes(calls: Sequence[Call]) -> list[Cause]:
    """Return the causes of all calls, each once."""
    found: dict[str, Cause] = {}
    for cause in (cause for call in calls for crate in call.crates for cause in crate.causes):
        if cause.text not in found or found[cause.text].hint == causes.KEPT:  # another hint wins
            found[cause.text] = cause
    return list(found.values())


def as_data(calls: Sequence[Call], status: int) -> dict[str, Any]:
    """Return the explanation for machines. Later versions only add keys."""
    found = root_causes(calls)
    names, texts = ("kind", "name", "old", "new", "text", "hint"), [cause.text for cause in found]
    root = [{name: getattr(cause, name) for name in names} for cause in found]
    return {"version": 1, "status": status, "calls": [_as_data(it, texts) for it in calls], "causes": root}


def _as_data(call: Call, texts: list[str]) -> dict[str, Any]:
    record = call.record
    data = {"arguments": record["arguments"], "folder": record["cwd"], "target": record["target"]}
    data.update(status=record["status"], seconds=round(call.seconds, 3), crates=call.total, recompiled=[])
    for crate in call.crates:
        seconds = None if crate.seconds is None else round(crate.seconds, 3)
        roots = sorted({texts.index(cause.text) for cause in crate.roots})
        facts = {"seconds": seconds, "depends_on": crate.because, "causes": roots}
        data["recompiled"].append({"name": crate.name, "version": crate.version, **facts})
    data["moved"] = record.get("moved")
    return {**data, "understood": call.understood, "log": [] if call.understood else record["log"]}


def _coloured(line: str, colour: bool) -> str:
    codes = {"cause:": "1;33", "hint:": "1;36", "error:": "1;31", "cargo": "1"}
    first = line.partition(" ")[0]
    bold = line if first == "cargo" else first
    is_plain = not colour or first not in codes
    return line if is_plain else f"\x1b[{codes[first]}m{bold}\x1b[0m{line[len(bold) :]}"
