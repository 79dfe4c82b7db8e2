"""What real cargo, behind rustup's proxy, holds of the store, and what a daemon of the build does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyo3_envshim.store import prune
from pyo3_envshim.store.store import Store
from support.daemon import Daemon

from .kept_cargo import KeptCargo, library, manifest

_SCRIPT = """
    fn main() {{
        let daemon = std::process::Command::new("{python}").args(["{program}", "{note}"]).status();
        assert!(daemon.unwrap().success());
        std::fs::write("{started}", "").unwrap();
        std::fs::read("{goes_on}").unwrap();
    }}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.end()


@pytest.mark.parametrize("kept", [False, True], ids=["own build folder", "kept build folder"])
def test_an_entry_is_cargos_until_it_ends_whatever_ends_or_stays(
    kept: bool, daemon: Daemon, tmp_path: Path
) -> None:
    """The wrapper has become cargo; or, where a build folder is kept, waits for it and is killed."""
    cargo = KeptCargo(tmp_path)
    started, goes_on = tmp_path / "started", tmp_path / "goes-on"
    for path in (started, goes_on):
        os.mkfifo(path)
    names = {"program": daemon.program, "note": daemon.note, "started": started, "goes_on": goes_on}
    build_rs = _SCRIPT.format(python=sys.executable, **names)
    files = {"Cargo.toml": manifest(), "src/lib.rs": library("1"), "build.rs": build_rs}
    build = cargo.start(cargo.unpack(files), PYO3_ENVSHIM_BUILD_CACHE="on" if kept else "off")
    assert started.read_text() == ""
    if kept:
        build.kill()
        build.wait()
    store = Store(str(cargo.cache))
    (entry,) = prune.entries(store)
    assert prune.clear(store) == [entry.digest]

    goes_on.write_text("")
    said = build.communicate()[1]  # the end of cargo, and of all that it has started but the daemon
    assert "Finished" in said
    assert daemon.lives()
    assert prune.clear(store) == []
