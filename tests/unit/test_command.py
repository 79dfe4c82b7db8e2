"""What `explain` prints of the calls of cargo, and what it puts in front of cargo."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pyo3_envshim.cli.explain import causes, command, recorder

from .environments import script
from .recorded_calls import AT, DIRTY, new_line, record, said_of


class TestWhatIsSaid:
    """The report."""

    @pytest.mark.parametrize("log", [(), ("a new form of log",)])
    def test_of_a_log_that_is_not_understood(self, log: tuple[str, ...]) -> None:
        lines = said_of(*log).splitlines()
        assert lines[0] == "cargo compiled top v0.1.0"
        assert lines[1].startswith("error: this cargo's log is not understood")
        assert [line.strip() for line in lines[2:-1]] == [new_line(line).strip() for line in log]
        assert lines[-1].startswith("hint: ")

    def test_of_nothing_compiled(self) -> None:
        assert said_of(AT, compiled=()) == "cargo recompiled nothing: all of 1 crates were fresh\n"

    @pytest.mark.parametrize(("number", "is_said"), [(0, False), (3, True), (10, True)])
    def test_of_units_that_were_set_aside(self, number: int, is_said: bool) -> None:
        moved = f"{number} units set aside, 0 brought back"
        said = said_of(AT, compiled=(), moved=moved)
        assert (f"before that, the shim moved units: {moved}\n" in said) == is_said

    def test_of_a_command_that_failed_before_cargo_is_no_guess_about_wheels(self) -> None:
        assert command.report([]).splitlines()[1].startswith("hint: the front end may have used a wheel")
        said = "cargo compiled nothing: the command failed before, with status 101\n"
        assert command.report([], status=101) == said

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
        call = causes.diagnose(record(AT, DIRTY, "    dirty: RustcChanged"), started=9.0)
        plain, coloured = (command.report([call], colour=it) for it in (False, True))
        assert "\x1b" not in plain
        assert recorder._COLOUR.sub("", coloured) == plain != coloured

    def test_names_the_status_of_a_call_that_failed(self) -> None:
        assert "ended with status 101\n" in said_of(AT, DIRTY, "    dirty: RustcChanged", status=101)

    def test_is_the_same_for_machines(self) -> None:
        call = causes.diagnose(record(AT, DIRTY, "    dirty: RustcChanged"), started=9.0)
        data = json.loads(json.dumps(command.as_data([call], 0)))
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


class TestTheRecorderIsPut:
    """Where cargo is looked for."""

    def test_goes_behind_the_shim(self, tmp_path: Path) -> None:
        before = {"PATH": "/a", "CARGO": "/x/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own/cargo"}
        during = command.with_recorder(before, str(tmp_path))
        assert during["CARGO"] == before["CARGO"]
        assert during["PYO3_ENVSHIM_CARGO"] == str(tmp_path / "bin" / "cargo")
        assert json.loads((tmp_path / "settings.json").read_text()) == {"CARGO": "/own/cargo"}

    @pytest.mark.parametrize(
        ("cargo", "during"), [("cross", "cross"), ("/x/cross", "{}/cross"), ("/x/cargo", "{}/cargo")]
    )
    def test_is_called_as_the_users_own_is(self, cargo: str, during: str, tmp_path: Path) -> None:
        """Back ends ask whether it is cross."""
        found = command.with_recorder({"PATH": "/a", "CARGO": cargo}, str(tmp_path))
        scripts = tmp_path / "bin"
        assert found["CARGO"] == during.format(scripts)
        assert found["PATH"] == f"{scripts}:/a"
        assert [path.name for path in scripts.iterdir()] == [Path(cargo).name]

    def test_starts_from_an_interpreter_with_a_space_in_its_path(self, tmp_path: Path, a_python: str) -> None:
        python = tmp_path / "with a space" / "python"
        python.parent.mkdir()
        python.symlink_to(a_python)
        text = command._first_line(str(python)) + "import sys\nprint(sys.argv[1:], sys.flags.isolated)\n"
        words = [str(script(tmp_path / "script", text)), "a b", "$x"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout == "['a b', '$x'] 1\n"
