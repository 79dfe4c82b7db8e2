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


def test_the_flavours_know_their_own_separators() -> None:
    assert layout.paths(True) is ntpath
    assert layout.paths(False) is os.path
