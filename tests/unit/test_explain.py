"""What `explain` makes of cargo's log: the parts, on lines that cargos wrote (paths shortened)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import causes, explain, fingerprints, observer
from pyo3_envshim.fingerprints import Value

from .making import FakeCargo, Shared, script

_LIB = 'TargetInner { name_inferred: true, ..: lib_target("top", ["lib"], "/p/src/lib.rs", Edition2021) }'
_SPAN = 'prepare_target{force=false package_id=top v0.1.0 (/p) target="top"}'
_MODULE = "cargo::core::compiler::fingerprint"
_BACKTRACE = """

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


class TestTheSieve:
    """It takes the log out of stderr, and holds up nothing else."""

    LOG = (
        *(new_line(AT, "DEBUG"), new_line(ERROR), new_line(NOT_FOUND) + _BACKTRACE),
        *(new_line(AT, module="cargo::compiler::fingerprint"), old_line(AT, "DEBUG"), old_line(ERROR)),
        old_line(
            "    err: unit dependency information changed\n    \n    Caused by:\n        new (a) != old (b)"
        ),
        "   0.452567949s DEBUG cargo::core::compiler::fingerprint: write fingerprint (afea) : /p/x",
    )
    SHOWN = (
        *(
            "     Locking 1 package\n",
            "   Compiling dep v0.1.0 (/p/dep)\n",
            "    Blocking waiting for lock\n",
        ),
        *("\x1b[1m\x1b[92m   Compiling\x1b[0m top v0.1.0\r\n", "    Building [==>   ] 1/2: dep\r", "\n"),
        *("warning: 3.5s is not a log\n", "   12.5\n", "[2026] INFO of something else\n"),
        "   0.1s  INFO other::module: not ours\n",
    )

    @given(
        st.lists(st.sampled_from([*((line + "\n", False) for line in LOG), *((it, True) for it in SHOWN)])),
        st.lists(st.integers(1, 400)),
    )
    def test_tells_the_two_apart_however_they_arrive(
        self, pieces: list[tuple[str, bool]], sizes: list[int]
    ) -> None:
        # cargo writes no empty line after an error; it would be taken for its continuation
        kept = [piece for at, piece in enumerate(pieces) if piece[0] != "\n" or (at and pieces[at - 1][1])]
        data = "".join(text for text, _ in kept).encode()
        sieve, shown = observer.Sieve(), b""
        for size in sizes:
            shown += sieve.feed(data[:size])
            data = data[size:]
        shown += sieve.feed(data) + sieve.rest()
        assert shown.decode() == "".join(text for text, is_shown in kept if is_shown)
        assert "\n".join(sieve.log) == "".join(text for text, is_shown in kept if not is_shown).rstrip("\n")

    @pytest.mark.parametrize("piece", ["    Building [=> ] 1/3: a", "Password: ", "x", "\x1b[K"])
    def test_passes_the_start_of_a_line_on_at_once(self, piece: str) -> None:
        assert observer.Sieve().feed(piece.encode()) == piece.encode()

    def test_holds_back_what_may_be_the_log_until_it_is_asked(self) -> None:
        sieve = observer.Sieve()
        assert sieve.feed(b"   0.02") == b""
        assert sieve.rest() == b"   0.02"
        assert sieve.feed(b"5s of them\n") == b"5s of them\n"
        assert sieve.log == []

    def test_keeps_what_the_user_asked_for(self) -> None:
        line = (new_line(AT) + "\n").encode()
        sieve = observer.Sieve(keep=True)
        assert sieve.feed(line) == line
        assert sieve.log == [new_line(AT)]

    def test_notes_what_is_compiled_also_in_pieces(self) -> None:
        sieve = observer.Sieve()
        for piece in (b"\x1b[1m   Compiling", b" \x1b[0mdep v0.1.0 (/p)\n", b"    Checking top v2.0.0\n"):
            sieve.feed(piece)
        assert sieve.compiled == ["dep v0.1.0", "top v2.0.0"]


class TestTheParser:
    """It reads what Rust's {:?} prints, and leaves the rest as it is."""

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("RustcChanged", Value("RustcChanged")),
            (
                'EnvVarChanged { name: "A", old_value: None, new_value: Some("b \\"c\\" \\u{fc}\\n") }',
                Value("EnvVarChanged", {"name": "A", "old_value": None, "new_value": 'b "c" \u00fc\n'}),
            ),
            (
                'RustflagsChanged { old: [], new: ["-C", "x=\\"{}\\""] }',
                Value("RustflagsChanged", {"old": [], "new": ["-C", 'x="{}"']}),
            ),
            (
                "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(2) })",
                Value(
                    "FsStatusOutdated",
                    items=(Value("StaleDepFingerprint", {"unit": Value("UnitIndex", items=(2,))}),),
                ),
            ),
        ],
    )
    def test_reads_values(self, text: str, found: Value) -> None:
        assert fingerprints.value(text) == found

    @pytest.mark.parametrize(
        "text", ["", "RUSTFLAGS has changed: previously []", "A {", "A(", "A { b }", '"a"']
    )
    def test_says_what_it_does_not_read(self, text: str) -> None:
        assert fingerprints.value(text) is None

    @given(st.text())
    def test_never_fails(self, text: str) -> None:
        fingerprints.value(text)
        fingerprints.read([text, new_line(text), old_line(text)])

    @given(st.text(st.characters(exclude_characters="\r\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0")))
    def test_reads_any_path(self, name: str) -> None:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        found = fingerprints.value(f'MissingFile {{ path: "{escaped}" }}')
        assert found == Value("MissingFile", {"path": name})

    @pytest.mark.parametrize("line", [new_line, old_line])
    def test_finds_the_units_of_every_format(self, line: Any) -> None:
        fresh = AT.replace("top", "fresh")
        told = fingerprints.read(
            [line(fresh), line(AT), line("stale: changed"), line(DIRTY), line("    dirty: RustcChanged")]
        )
        (unit,) = told.dirty
        assert (unit.package, unit.version, unit.place) == ("top", "0.1.0", AT.split(": ")[1])
        assert (unit.cold, unit.reason) == (False, Value("RustcChanged"))
        assert len(told.units) == 2

    def test_knows_a_unit_without_a_fingerprint(self) -> None:
        (unit,) = fingerprints.read([new_line(AT), new_line(ERROR), new_line(NOT_FOUND)]).dirty
        assert unit.cold


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
    environment = {"python": None, "front_end": None, "stored": False, "mode": "on"}
    return {**found, **call, **rest, "environment": environment, **facts}


def said_of(*messages: str, **facts: Any) -> str:
    """Return the report on such a call."""
    return explain.report([causes.judge(record(*messages, **facts), started=9.0)])


class TestWhatIsSaid:
    """The report."""

    @pytest.mark.parametrize(
        "reason",
        [
            "NothingObvious",
            "SomethingOfTheFuture { why: [Because(1)] }",
            "EnvVarChanged { variable: 1 }",
            "env var `A` changed: previously None, now Some",
            "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(0) })",  # of none that is dirty
        ],
    )
    def test_of_an_unknown_reason_is_that(self, reason: str) -> None:
        said = said_of(AT, DIRTY, f"    dirty: {reason}")
        assert f"cause: top: {reason}\n" in said
        assert "does not know the cause" in said

    @pytest.mark.parametrize(
        ("name", "mode", "hint"),
        [
            ("build", "on", "switch the shim on: pip install pyo3-envshim beside build, or add "),
            (
                "build",
                "off",
                "switch the shim on: unset PYO3_ENVSHIM, pip install pyo3-envshim beside build,",
            ),
            ("uv", "on", "switch the shim on: pyo3-envshim run -- uv …, or add "),
        ],
    )
    def test_of_a_throw_away_environment_names_the_way_in(self, name: str, mode: str, hint: str) -> None:
        reason = 'EnvVarChanged { name: "PYO3_PYTHON", old_value: None, new_value: Some("/b/bin/python") }'
        environment = {"python": "/b/bin/python", "front_end": name, "stored": False, "mode": mode}
        said = said_of(AT, DIRTY, f"    dirty: {reason}", environment=environment)
        assert "cause: PYO3_PYTHON changed: unset → /b/bin/python (" in said
        assert f"hint: {hint}" in said

    def test_of_a_crate_that_the_log_gives_no_reason_for_is_that(self) -> None:
        said = said_of(AT, DIRTY, "    dirty: RustcChanged", compiled=("top v0.1.0", "forced v1.0.0"))
        assert "cause: forced: cargo gave no reason\n" in said

    @pytest.mark.parametrize("log", [(), ("a new form of log",)])
    def test_of_a_log_that_is_not_understood(self, log: tuple[str, ...]) -> None:
        lines = said_of(*log).splitlines()
        assert lines[0] == "cargo compiled top v0.1.0"
        assert lines[1].startswith("error: this cargo's log is not understood")
        assert [line.strip() for line in lines[2:-1]] == [new_line(line).strip() for line in log]
        assert lines[-1].startswith("hint: ")

    def test_of_a_fingerprint_that_is_not_understood(self) -> None:
        units: Any = {AT.split(": ")[1]: {"hash": "zz", "facts": {"deps": {}}, "begun": None, "ended": None}}
        assert "log is not understood" in said_of(AT, DIRTY, "    dirty: RustcChanged", units=units)

    def test_of_nothing_compiled(self) -> None:
        assert said_of(AT, compiled=()) == "cargo recompiled nothing: all of 1 crates were fresh\n"

    def test_of_many_crates_is_short(self) -> None:
        lines = []
        for number in range(40):
            lines += [AT.replace("top", f"c{number}"), DIRTY.replace("for top", f"for c{number}")]
            lines.append("    dirty: RustcChanged")
        places = [line.split(": ")[1] for line in lines if "at: " in line]
        units = {
            p: {"hash": "00", "facts": {}, "begun": 10.0, "ended": 10.0 + i} for i, p in enumerate(places)
        }
        said = said_of(*lines, compiled=(), units=units, before={p: [] for p in places}).splitlines()
        assert len(said) < 20
        assert said[-3].strip() == "and 28 more, that took less"
        assert said[2].split()[0] == "c28"

    def test_has_colours_where_asked(self) -> None:
        call = causes.judge(record(AT, DIRTY, "    dirty: RustcChanged"), started=9.0)
        plain, coloured = (explain.report([call], colour=it) for it in (False, True))
        assert "\x1b" not in plain
        assert observer._COLOUR.sub("", coloured) == plain != coloured

    def test_names_the_status_of_a_call_that_failed(self) -> None:
        assert "ended with status 101\n" in said_of(AT, DIRTY, "    dirty: RustcChanged", status=101)

    def test_is_the_same_for_machines(self) -> None:
        call = causes.judge(record(AT, DIRTY, "    dirty: RustcChanged"), started=9.0)
        data = json.loads(json.dumps(explain.as_data([call], 0)))
        assert set(data) == {"version", "status", "calls", "causes"}
        assert set(data["causes"][0]) == {"kind", "name", "old", "new", "text", "hint"}
        (crate,) = data["calls"][0]["recompiled"]
        assert crate == {
            "name": "top",
            "version": "0.1.0",
            "seconds": None,
            "depends_on": [],
            "causes": [0],
        }


class TestTheObserver:
    """What stands where cargo is looked for."""

    def test_gives_cargo_its_variables_back(self, tmp_path: Path) -> None:
        for own in ({}, {"CARGO": "/own/cargo"}):
            before = {"PATH": "/a:/b:/a", "HOME": "/h", **own}
            during = explain.observed(before, str(tmp_path))
            assert during["CARGO"] == str(tmp_path / "bin" / "cargo")
            settings = json.loads((tmp_path / "settings.json").read_text())
            assert observer.restored(during, str(tmp_path / "bin"), settings["CARGO"]) == before

    def test_goes_behind_the_shim(self, tmp_path: Path) -> None:
        before = {"PATH": "/a", "CARGO": "/x/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own/cargo"}
        during = explain.observed(before, str(tmp_path))
        assert during["CARGO"] == before["CARGO"]
        assert during["PYO3_ENVSHIM_CARGO"] == str(tmp_path / "bin" / "cargo")
        assert json.loads((tmp_path / "settings.json").read_text()) == {"CARGO": "/own/cargo"}

    def test_starts_from_an_interpreter_with_a_space_in_its_path(self, tmp_path: Path, a_python: str) -> None:
        python = tmp_path / "with a space" / "python"
        python.parent.mkdir()
        python.symlink_to(a_python)
        text = explain._first_line(str(python)) + "import sys\nprint(sys.argv[1:], sys.flags.isolated)\n"
        command = [str(script(tmp_path / "script", text)), "a b", "$x"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "['a b', '$x'] 1\n"

    @pytest.mark.parametrize("place", [".fingerprint/{}-{}/lib-a", "build/{}/{}/fingerprint/lib-a"])
    def test_finds_a_unit_with_other_settings_in_both_layouts(self, tmp_path: Path, place: str) -> None:
        one, other, foreign = (
            tmp_path / place.format(name, digit * 16)
            for name, digit in (("a", "1"), ("a", "2"), ("a-b", "3"))
        )
        for path in (one, other, foreign):
            path.parent.mkdir(parents=True)
            path.touch()
        assert observer.siblings(str(one)) == [str(other)]

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"local": null}', '{"local": [1, {"RerunIfEnvChanged": 2}]}', "\udcff"]
    )
    def test_reads_what_it_does_not_know_as_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "unit").write_text("00")
        (tmp_path / "unit.json").write_text(text, errors="surrogateescape")
        assert observer.variables_of(observer.unit_at(str(tmp_path / "unit"))) == {}

    def test_asks_for_colours_on_a_terminal_only(self) -> None:
        assert set(observer.logging({}, None)) == {"CARGO_LOG"}
        assert observer.logging({}, 80)["CARGO_TERM_PROGRESS_WIDTH"] == "80"
        own = {"CARGO_TERM_COLOR": "never", "CARGO_TERM_PROGRESS_WHEN": "never"}
        assert {**observer.logging(own, 80), "CARGO_LOG": ""} == {**own, "CARGO_LOG": ""}
        assert "CARGO_TERM_COLOR" not in observer.logging({"NO_COLOR": "1"}, 80)
        assert observer.logging({"CARGO_LOG": "x=info"}, None)["CARGO_LOG"].startswith("x=info,")

    @pytest.mark.parametrize("status", [0, 3])
    def test_passes_a_cargo_on_that_it_does_not_understand(
        self, shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path, status: int
    ) -> None:
        cargo = FakeCargo(tmp_path)
        cargo.behaves(out="out", err="   Compiling top v0.1.0\nunfinished", status=status)
        program = shared.environment(a_python) / "bin" / "pyo3-envshim"
        done = subprocess.run(
            [program, "explain", "--", "cargo", "build", "a b"],
            env={**environ, "PATH": f"{tmp_path}:{environ['PATH']}"},
            input="in",
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (status, "out")
        assert done.stderr.startswith("   Compiling top v0.1.0\nunfinishedcargo compiled top v0.1.0")
        assert "not understood; " not in done.stderr
        assert "not understood: it is empty" in done.stderr
        assert (cargo.call.arguments, cargo.call.input) == (["build", "a b"], "in")
        assert cargo.call.environ["PATH"] == f"{tmp_path}:{environ['PATH']}"
        assert "CARGO" not in cargo.call.environ


def test_what_cargo_left_running_is_not_waited_for(
    shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """As a compiler cache's server that was started with cargo's stderr."""
    text = f"#!/bin/sh\n[ $1 = build ] || exit\nsleep 600 >{os.devnull} &\necho $! >{tmp_path}/pid\nexit 3\n"
    script(tmp_path / "cargo", text)
    program = shared.environment(a_python) / "bin" / "pyo3-envshim"
    path = f"{tmp_path}:{environ['PATH']}"
    done = subprocess.run([program, "explain", "--", "cargo", "build"], env={**environ, "PATH": path})
    assert done.returncode == 3
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)  # it still runs
