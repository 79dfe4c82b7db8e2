"""Where things are in an environment, on POSIX and on Windows."""

from __future__ import annotations

import ntpath
import os

import pytest

from pyo3_envshim.environment import layout


class TestTheNamesInAnEnvironment:
    @pytest.mark.parametrize(
        ("windows", "python", "site"),
        [
            (False, "/e/bin/python", "lib/python3.13/site-packages"),
            (True, r"/e\Scripts\python.exe", "Lib/site-packages"),
        ],
    )
    def test_are_those_of_sysconfigs_schemes(self, windows: bool, python: str, site: str) -> None:
        assert layout.interpreter("/e", windows) == python
        assert layout.site_packages("python3.13", windows) == site
        assert layout.scripts(windows) == layout.paths(windows).split(python)[0][3:]

    def test_are_case_insensitive_on_windows(self) -> None:
        assert layout.same_folder(r"C:\Temp\E", r"c:/temp/e\.", windows=True)
        assert not layout.same_folder("/Temp/E", "/temp/e", windows=False)

    @pytest.mark.parametrize("windows", [False, True])
    def test_no_folder_is_not_a_folder(self, windows: bool) -> None:
        assert not layout.same_folder("", "", windows)


class TestAnInterpretersName:
    @pytest.mark.parametrize(
        "name",
        ["python", "python3", "python3.9", "python3.13", "python3.11d", "python3.13t", "python3.13td"]
        + ["python3.14.2", "python3-dbg", "python3.11-dbg", "python3.13t-dbg", "python3.13-intel64"]
        + ["python-dbg", "python3t", "pypy", "pypy3", "pypy3.11"],
    )
    def test_is_one_of_those_that_installers_give_it(self, name: str) -> None:
        assert layout.is_interpreter(name)

    @pytest.mark.parametrize(
        "name",
        ["", "3", "pip3.11", "py", "pythonw", "pythond", "pythont", "python-config", "python3-config"]
        + ["python3.11-config", "python3.11-dbg-config", "python3.11d-config", "python3.", "python.3"]
        + ["python3..1", "python3.1.2.3", "python3.11x", "python3.11dt", "python3.7dm", "python3.11-"]
        + ["python3d.11", "python3.11-dbg-dbg", "python3.11-dbgd", "pythonpython3"]
        + ["python-argcomplete-check-easy-install-script"]
        + ["python\u0663", "pypyr", "ipython3"],
    )
    def test_is_no_other_programs(self, name: str) -> None:
        assert not layout.is_interpreter(name)


def test_the_flavours_know_their_own_separators() -> None:
    assert layout.paths(True) is ntpath
    assert layout.paths(False) is os.path


def test_an_entry_of_path_may_be_quoted_on_windows() -> None:
    assert layout.is_entry_for(r'"X:\env\Scripts"', r"x:\env\scripts", windows=True)
