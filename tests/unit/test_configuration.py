"""cargo's configuration files, and variables that cargo may see with another value than its process has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyo3_envshim.cargo.configuration import may_change, read

NAMES = ("PYO3_PYTHON", "PATH", "RUSTFLAGS", "OTHER")


def changed(*arguments: str, **environ: str) -> set[str]:
    return may_change(NAMES, arguments, {"HOME": "/nonexistent", **environ}) - {"PATH", "RUSTFLAGS"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that cargo is started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rustup_extends_some() -> None:
    assert may_change(NAMES, [], {"HOME": "/nonexistent"}) == {"PATH", "RUSTFLAGS"}


@pytest.mark.parametrize("name", ["config.toml", "config"])
def test_a_file_above_mentions_one(tmp_path: Path, name: str) -> None:
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / name).write_text('env.PYO3_PYTHON = "python3"\n')
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.chdir(tmp_path / "a" / "b")
    assert changed() == {"PYO3_PYTHON"}
    assert list(read({"HOME": "/nonexistent"})) == [str(tmp_path / ".cargo" / name)]


def test_cargos_home_mentions_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".cargo").mkdir(parents=True)
    (home / ".cargo" / "config.toml").write_text('[env]\nOTHER = "x"\n')
    assert changed(HOME=str(home)) == {"OTHER"}
    assert changed(CARGO_HOME=str(home / ".cargo")) == {"OTHER"}
    assert changed() == set()


def test_an_option_mentions_one(tmp_path: Path) -> None:
    assert changed("--config", 'env.OTHER="x"', "build") == {"OTHER"}
    (tmp_path / "more.toml").write_text('[env]\nPYO3_PYTHON = "x"\n')
    assert changed("--config=more.toml") == {"PYO3_PYTHON"}


def test_a_file_that_includes_others_may_set_any(tmp_path: Path) -> None:
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / "config.toml").write_text('include = ["more.toml"]\n')
    assert changed() == {"PYO3_PYTHON", "OTHER"}
