"""What a set is for: a call, the variables that it noted, and the interpreters that these name."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import shelf
from pyo3_envshim.shelf import CallNote, call_note

from .environments import script


class TestACallExplains:
    def test_what_it_has_not_noted(self) -> None:
        """In a new folder, nobody knows yet what build scripts will ask for."""
        assert call_note("/work", [], {}).explains({"CC": "gcc"})

    def test_any_path(self) -> None:
        """rustup puts the toolchain's folder in front of it."""
        note = call_note("/work", ["PATH"], {"PATH": "/bin"})
        assert note.explains({"PATH": "/toolchain/bin:/bin"})

    def test_nothing_else(self) -> None:
        note = call_note("/work", ["CC", "CXX"], {"CC": "gcc"})
        assert note.explains({"CC": "gcc", "CXX": None})
        assert not note.explains({"CC": "clang"})
        assert not note.explains({"CC": "gcc", "CXX": "g++"})

    def test_nothing_for_an_interpreter_that_is_not_known(self) -> None:
        values = {"PYO3_PYTHON": "/python"}
        assert CallNote("/work", values, {"PYO3_PYTHON": ["/python", 1, 2]}).explains(values)
        assert not CallNote("/work", values, {"PYO3_PYTHON": None}).explains(values)

    def test_nothing_if_its_workspace_is_not_known(self) -> None:
        assert not CallNote("", {}, {}).explains({})


def test_the_case_of_a_variable_does_not_count_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"MY_CC": "gcc"}
    assert (shelf.value_of("MY_CC", environ), shelf.value_of("My_cc", environ)) == ("gcc", None)
    monkeypatch.setattr(shelf, "os", SimpleNamespace(name="nt"))
    assert shelf.value_of("My_cc", environ) == "gcc"


class TestTheInterpreterOfAVariable:
    """Another one at the same path has another size or mtime."""

    def found(self, value: str, path: str = "", *, windows: bool = False) -> str:
        environ = {"PATH": path} if path else {}
        place, size, mtime = shelf._interpreter(value, environ, windows)
        there = os.path.exists(place)
        assert [size, mtime] == ([os.stat(place).st_size, os.stat(place).st_mtime_ns] if there else [0, 0])
        return str(place)

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_is_the_file_that_a_link_leads_to(self, tmp_path: Path) -> None:
        python = script(tmp_path / "base" / "python3", "1")
        (tmp_path / "python").symlink_to(python)
        assert self.found(str(tmp_path / "python")) == str(python)

    def test_is_not_looked_for_on_path_if_it_has_a_folder(self, tmp_path: Path) -> None:
        python = script(tmp_path / "env" / "python", "1")
        script(tmp_path / "other" / "env" / "python", "2")
        assert self.found("env/python", str(tmp_path / "other")) == str(python)

    def test_is_the_first_on_path_otherwise(self, tmp_path: Path) -> None:
        script(tmp_path / "python", "here")
        python = script(tmp_path / "b" / "python", "1")
        for name in ("python", "python.exe"):
            script(tmp_path / "c" / name, "2")
        folders = (str(tmp_path / name) for name in "abc")
        assert self.found("python", os.pathsep.join(folders)) == str(python)

    @pytest.mark.parametrize(
        ("names", "windows"),
        [
            (["bin/python"], False),
            (["Scripts\\python.exe", "python.exe"], True),
            (["python.exe"], True),
        ],
    )
    def test_is_an_environments(self, names: list[str], windows: bool, tmp_path: Path) -> None:
        pythons = [script(tmp_path / "env" / name, "1") for name in names]
        assert self.found(str(tmp_path / "env"), windows=windows) == str(pythons[0])

    @pytest.mark.parametrize(("value", "windows"), [("python", False), ("python", True), ("env", False)])
    def test_may_be_none(self, value: str, windows: bool, tmp_path: Path) -> None:
        (tmp_path / "env").mkdir()
        place = tmp_path / value / "bin" / "python" if value == "env" else tmp_path / value
        assert self.found(value, windows=windows) == str(place)
