"""The cargo of `explain`: what it takes out of cargo's stderr, and what it leaves as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.cli.explain import command, recorder

from .environments import FakeCargo, Shared, program_in, script
from .recorded_calls import AT, BACKTRACE, ERROR, NOT_FOUND, new_line, old_line


class TestTheLogFilter:
    """It takes the log out of stderr, and holds up nothing else."""

    LOG = (
        *(new_line(AT, "DEBUG"), new_line(ERROR), new_line(NOT_FOUND) + BACKTRACE),
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
        log_filter, shown = recorder.LogFilter(), b""
        for size in sizes:
            shown += log_filter.feed(data[:size])
            data = data[size:]
        shown += log_filter.feed(data) + log_filter.rest()
        assert shown.decode() == "".join(text for text, is_shown in kept if is_shown)
        assert "\n".join(log_filter.log) == "".join(text for text, is_shown in kept if not is_shown).rstrip(
            "\n"
        )

    @pytest.mark.parametrize("piece", ["    Building [=> ] 1/3: a", "Password: ", "x", "\x1b[K"])
    def test_passes_the_start_of_a_line_on_at_once(self, piece: str) -> None:
        assert recorder.LogFilter().feed(piece.encode()) == piece.encode()

    def test_holds_back_what_may_be_the_log_until_it_is_asked(self) -> None:
        log_filter = recorder.LogFilter()
        assert log_filter.feed(b"   0.02") == b""
        assert log_filter.rest() == b"   0.02"
        assert log_filter.feed(b"5s of them\n") == b"5s of them\n"
        assert log_filter.log == []

    def test_keeps_what_the_user_asked_for(self) -> None:
        line = (new_line(AT) + "\n").encode()
        log_filter = recorder.LogFilter(keep=True)
        assert log_filter.feed(line) == line
        assert log_filter.log == [new_line(AT)]

    def test_notes_what_is_compiled_also_in_pieces(self) -> None:
        log_filter = recorder.LogFilter()
        for piece in (b"\x1b[1m   Compiling", b" \x1b[0mdep v0.1.0 (/p)\n", b"    Checking top v2.0.0\n"):
            log_filter.feed(piece)
        assert log_filter.compiled == ["dep v0.1.0", "top v2.0.0"]


def test_where_the_cache_would_be_is_told_and_nothing_made(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "x"), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    assert recorder.environment(environ)["builds"].endswith(os.path.join("pyo3-envshim", "builds"))
    assert os.listdir(tmp_path) == []


class TestTheRecorder:
    """What stands where cargo is looked for."""

    def test_gives_cargo_its_variables_back(self, tmp_path: Path) -> None:
        for own in ({}, {"CARGO": "/own/cargo"}):
            before = {"PATH": "/a:/b:/a", "HOME": "/h", **own}
            during = command.with_recorder(before, str(tmp_path))
            assert during["CARGO"] == str(tmp_path / "bin" / "cargo")
            settings = json.loads((tmp_path / "settings.json").read_text())
            assert recorder.restored(during, str(tmp_path / "bin"), settings["CARGO"]) == before

    def test_asks_for_colours_on_a_terminal_only(self) -> None:
        assert set(recorder.logging({}, None)) == {"CARGO_LOG"}
        assert recorder.logging({}, 80)["CARGO_TERM_PROGRESS_WIDTH"] == "80"
        own = {"CARGO_TERM_COLOR": "never", "CARGO_TERM_PROGRESS_WHEN": "never"}
        assert {**recorder.logging(own, 80), "CARGO_LOG": ""} == {**own, "CARGO_LOG": ""}
        assert "CARGO_TERM_COLOR" not in recorder.logging({"NO_COLOR": "1"}, 80)
        assert recorder.logging({"CARGO_LOG": "x=info"}, None)["CARGO_LOG"].startswith("x=info,")

    @pytest.mark.parametrize("status", [0, 3])
    def test_passes_a_cargo_on_that_it_does_not_understand(
        self, shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path, status: int
    ) -> None:
        cargo = FakeCargo(tmp_path)
        cargo.behaves(out="out", err="   Compiling top v0.1.0\nunfinished", status=status)
        program = program_in(shared.environment(a_python), "pyo3-envshim")
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


@pytest.mark.parametrize("own", ["cross", "/x/cross", "/x/cargo"])
def test_a_cargo_that_is_typed_is_the_one_on_path(
    shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path, own: str
) -> None:
    """Whatever CARGO names: that is for back ends."""
    cargo = FakeCargo(tmp_path)
    cargo.behaves(err="   Compiling top v0.1.0\n")
    program = program_in(shared.environment(a_python), "pyo3-envshim")
    variables = {**environ, "PATH": f"{tmp_path}:{environ['PATH']}", "CARGO": own}
    words = [str(program), "explain", "--", "cargo", "build"]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert "cargo compiled top v0.1.0" in done.stderr
    assert (done.returncode, cargo.call.arguments) == (0, ["build"])


def test_what_cargo_left_running_is_not_waited_for(
    shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """As a compiler cache's server that was started with cargo's stderr."""
    text = f"#!/bin/sh\n[ $1 = build ] || exit\nsleep 600 >{os.devnull} &\necho $! >{tmp_path}/pid\nexit 3\n"
    script(tmp_path / "cargo", text)
    program = program_in(shared.environment(a_python), "pyo3-envshim")
    path = f"{tmp_path}:{environ['PATH']}"
    done = subprocess.run([program, "explain", "--", "cargo", "build"], env={**environ, "PATH": path})
    assert done.returncode == 3
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)  # it still runs
