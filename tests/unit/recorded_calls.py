"""Lines of cargo's log as cargos wrote them (paths shortened), and records of calls made of them."""

from __future__ import annotations

from typing import Any

from pyo3_envshim.cli.explain import causes, command

_LIB = 'TargetInner { name_inferred: true, ..: lib_target("top", ["lib"], "/p/src/lib.rs", Edition2021) }'
_SPAN = 'prepare_target{force=false package_id=top v0.1.0 (/p) target="top"}'
_MODULE = "cargo::core::compiler::fingerprint"
BACKTRACE = """

Caused by:
    No such file or directory (os error 2)

Stack backtrace:
   0: cargo_util::paths::read_bytes
   1: <cargo::cli::Exec>::exec
             at /rustc/59807616e1fa/library/core/src/ops/function.rs:287:21"""


def new_line(message: str, level: str = "INFO", module: str = _MODULE) -> str:
    """Return a line as cargo 1.95 and 1.97 write it."""
    return f"   0.022894467s {level:>5} {_SPAN}: {module}: {message}"


def old_line(message: str, level: str = "INFO") -> str:
    """Return a line as cargo 1.65 writes it."""
    return f"[2026-11-22T18:14:01Z {level:5} {_MODULE}] {message}"


AT = "fingerprint at: /p/target/debug/.fingerprint/top-48737be18984da83/lib-top"
DIRTY = f"fingerprint dirty for top v0.1.0 (/p)/Build/{_LIB}"
ERROR = f"fingerprint error for top v0.1.0 (/p)/Build/{_LIB}"
NOT_FOUND = "    err: failed to read `/p/target/debug/.fingerprint/top-48737be18984da83/lib-top`"


def record(*messages: str, compiled: tuple[str, ...] = ("top v0.1.0",), **facts: Any) -> dict[str, Any]:
    """Return the record of a call with one unit, that said *messages* of it."""
    place = AT.split(": ")[1]
    unit = {"hash": "", "facts": {}, "begun": 10.0, "ended": 12.5}
    lines = [new_line(message) for message in messages]
    found = {
        "log": lines,
        "compiled": compiled,
        "units": {place: unit},
        "before": {place: []},
        "variables": {},
    }
    call = {"begun": 9.0, "ended": 13.0, "status": 0, "arguments": ["build"], "cwd": "/p"}
    rest = {"target": "/p/target", "profiles": ["debug"], "rustc": ["rustc 1", "rustc 1"]}
    moved: dict[str, Any] = {"aside": {}, "moved": None}
    environment = {"python": None, "front_end": None, "stored": False, "mode": "on"}
    return {**found, **call, **rest, **moved, "environment": environment, **facts}


def said_of(*messages: str, **facts: Any) -> str:
    """Return the report on such a call."""
    return command.report([causes.diagnose(record(*messages, **facts), started=9.0)])
