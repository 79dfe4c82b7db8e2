"""What a set is for: a call, the variables that it noted, and the interpreters that these name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import files, shelf
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


class TestTheShelf:
    @pytest.fixture
    def found(self, tmp_path: Path) -> shelf.Shelf:
        return shelf.Shelf(str(tmp_path))

    def commit(self, found: shelf.Shelf, values: dict[str, str | None]) -> None:
        os.makedirs(temporary := found.temporary())
        found.commit(temporary, values, CallNote("/work", values, {}), {})

    def test_has_one_set_for_the_same_values(self, found: shelf.Shelf) -> None:
        self.commit(found, {"CC": "gcc", "CXX": None})
        self.commit(found, {"CXX": None, "CC": "gcc"})
        self.commit(found, {"CC": "clang"})
        assert sorted(str(each.values["CC"]) for each in found.sets()) == ["clang", "gcc"]
        assert len(os.listdir(found.folder)) == 2

    def test_is_pruned_of_what_is_old_and_what_nobody_will_ask_for(self, found: shelf.Shelf) -> None:
        at = 1_000_000_000
        for name, time in (("old", at * 10**9 - 1), ("new", at * 10**9)):
            self.commit(found, {"CC": name})
            os.utime(os.path.join(found.sets()[0].path, "manifest"), ns=(time, time))
        gone = {each.values["CC"]: each.path for each in found.sets()}["old"]
        self.commit(found, {"PYO3_PYTHON": "/tmp/build-env-0a1b2c3d/bin/python"})
        assert gone in found.prune(before=at)
        assert [each.values for each in found.sets()] == [{"CC": "new"}]

    def test_knows_a_few_calls_before_if_their_units_may_be_there(self, tmp_path: Path) -> None:
        def note(number: int, *, others: bool) -> list[str]:
            shelf.Shelf(str(tmp_path)).note(CallNote(str(number), {}, {}), others)
            return [call.root for call in shelf.Shelf(str(tmp_path)).last]

        for number in range(shelf.KEPT + 2):
            last = note(number, others=True)
        assert last == [str(number) for number in range(1, shelf.KEPT + 2)]
        assert note(5, others=True) == [*(it for it in last if it != "5"), "5"]
        assert note(5, others=False) == ["5"]
        file = tmp_path / ".envshim-sets" / "last"
        os.utime(file, (1, 1))
        assert note(5, others=False) == ["5"]
        assert file.stat().st_mtime == 1  # nothing new, nothing written

    def test_takes_nothing_for_a_calls_if_that_cannot_be_noted(
        self, found: shelf.Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        found.note(CallNote("/one", {}, {}), others=False)
        assert [call.root for call in shelf.Shelf(str(tmp_path)).last] == ["/one"]
        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", replace)
            found.note(CallNote("/two", {}, {}), others=False)
        assert shelf.Shelf(str(tmp_path)).last == []


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

    def test_is_noted_with_a_call(self, tmp_path: Path) -> None:
        python = script(tmp_path / "bin" / "python", "1")
        note = call_note("/work", [], {"PYO3_PYTHON": "python", "PATH": str(tmp_path / "bin")})
        assert note.interpreters_of(note.values) == {
            "PYO3_PYTHON": [str(python), 1, python.stat().st_mtime_ns]
        }

    def test_has_its_ending_on_windows(self, tmp_path: Path) -> None:
        python = script(tmp_path / "env" / "python.exe", "1")
        assert self.found("env/python", windows=True) == str(python)

    @pytest.mark.parametrize(
        ("value", "windows", "place"),
        [
            ("python", False, "python"),
            ("python", True, "python"),
            ("env", False, "env/bin/python"),
            ("env", True, "env/Scripts\\python.exe"),
        ],
    )
    def test_may_be_none(self, value: str, windows: bool, place: str, tmp_path: Path) -> None:
        (tmp_path / "env").mkdir()
        assert self.found(value, windows=windows) == str(tmp_path / place)
