"""The user's switch: `pyo3-envshim off` and `on`, and what doctor says of it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from pyo3_envshim import _startup, files
from pyo3_envshim.cli import doctor, switch
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.store.store import folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and no variable of ours."""
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path))
    monkeypatch.delenv("PYO3_ENVSHIM", raising=False)
    return tmp_path


def test_it_is_off_until_it_is_on_again(home: Path) -> None:
    assert _startup.mode({}) == "on"
    for _ in range(2):
        assert switch.turn(on=False) == f"switched off for this user: {_startup.switch()}"
        assert _startup.mode({}) == "off"
    for _ in range(2):
        assert switch.turn(on=True) == "switched on for this user"
        assert _startup.mode({}) == "on"


@pytest.mark.parametrize(("windows", "mode"), [(False, 0o700), (True, 0o777)])
def test_its_folder_is_the_users_alone(windows: bool, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, all below the profile is."""
    monkeypatch.setattr(files, "private_mode", functools.partial(files.private_mode, windows=windows))
    before = os.umask(0)
    try:
        switch.turn(on=False)
    finally:
        os.umask(before)
    assert os.stat(os.path.dirname(_startup.switch())).st_mode & 0o777 == mode


@pytest.mark.parametrize(("value", "mode"), [("on", "on"), ("1", "on"), ("base", "base"), ("off", "off")])
def test_a_variable_counts_more(value: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    switch.turn(on=False)
    assert _startup.mode({"PYO3_ENVSHIM": value}) == mode
    monkeypatch.setenv("PYO3_ENVSHIM", value)
    assert switch.turn(on=False).endswith(f"; here, PYO3_ENVSHIM={value} counts")


@pytest.mark.skipif(not _startup.switch("linux").endswith(".cache/pyo3-envshim/switched-off"), reason="Linux")
def test_it_lies_beside_the_default_store_wherever_the_variables_put_that(home: Path) -> None:
    """tox passes on HOME and none of the others."""
    assert os.path.dirname(_startup.switch("linux")) == folder({"HOME": str(home)})
    elsewhere = {"HOME": str(home), "XDG_CACHE_HOME": "/x", "PYO3_ENVSHIM_CACHE_DIR": "/y"}
    assert folder(elsewhere) == "/y"
    assert os.path.dirname(_startup.switch("darwin")) == f"{home}/Library/Caches/pyo3-envshim"
    assert os.path.dirname(_startup.switch("win32")) == f"{home}/AppData/Local/pyo3-envshim"


def test_doctor_says_which_of_them_counts() -> None:
    switch.turn(on=False)
    off = doctor.of_mode({})
    assert (off.state, off.hint) == ("off", "pyo3-envshim on")
    assert _startup.switch() in off.reason
    on = doctor.of_mode({"PYO3_ENVSHIM": "on"})
    assert (on.state, on.reason) == ("ok", "PYO3_ENVSHIM=on means on and counts more than the user's switch")


def test_a_folder_that_cannot_be_made_is_one_clear_line(home: Path) -> None:
    (home / ".cache").touch()
    (home / "Library").touch()
    with pytest.raises(CommandError) as raised:
        switch.turn(on=False)
    assert str(home) in str(raised.value)


def test_doctor_says_that_a_cargo_of_another_name_stays() -> None:
    (found,) = doctor.of_settings({"CARGO": "cross"}, None)
    assert (found.state, found.hint) == ("off", "unset CARGO")
    assert doctor.of_settings({"CARGO": "/x/cargo"}, None) == []
