"""Both wheels: what is in them, which Python gets which, and that they leave no trace."""

from __future__ import annotations

import csv
import email
import io
import os
import re
import sys
import zipfile
from pathlib import Path

import platformdirs
import pytest
import uv
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

import hatch_build
from pyo3_envshim import __version__
from pyo3_envshim.store import store

from .environments import (
    IN_A_BUILD,
    ROOT,
    Shared,
    install,
    make_environment,
    program_in,
    record_hash,
    run,
    site_packages,
    tree,
)

INFO = f"pyo3_envshim-{__version__}.dist-info"
BOTH = pytest.mark.parametrize("which", ["wheel", "start_wheel"])


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_one_command_builds_both(shared: Shared) -> None:
    assert sorted(path.name for path in shared.wheels.glob("*.whl")) == [
        f"pyo3_envshim-{__version__}-py318-none-any.whl",
        f"pyo3_envshim-{__version__}-py39-none-any.whl",
    ]


class TestAWheel:
    @BOTH
    def test_holds_the_package_and_its_startup_line(self, which: str, shared: Shared) -> None:
        found = contents(getattr(shared, which))
        files = [path for path in (ROOT / "pyo3_envshim").rglob("*") if path.suffix != ".pyc"]
        package = {path.relative_to(ROOT).as_posix() for path in files if path.is_file()}
        outside = {name for name in found if not name.startswith((f"{INFO}/", "pyo3_envshim/"))}
        inside = {name for name in found if name.startswith("pyo3_envshim/")}
        assert inside == package | {"pyo3_envshim/_sitecustomize.py.in"}
        assert outside == {"pyo3_envshim.pth"} | ({"pyo3_envshim.start"} if which == "start_wheel" else set())

    @BOTH
    def test_holds_the_hooks_with_all_names_filled_in(self, which: str, shared: Shared) -> None:
        found = contents(getattr(shared, which))
        hooks = {name: text.encode() for name, text in hatch_build.hooks(str(ROOT)).items()}
        if which == "start_wheel":
            hooks["pyo3_envshim.start"] = (ROOT / "hooks" / "pyo3_envshim.start").read_bytes()
        assert {name: found[name] for name in hooks} == hooks
        assert [name for name in hooks if re.search(rb"@[A-Z]+@", hooks[name].replace(b"@SITE@", b""))] == []

    @BOTH
    def test_lists_each_file_with_its_hash(self, which: str, shared: Shared) -> None:
        found = contents(getattr(shared, which))
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(found[f"{INFO}/RECORD"].decode()))}
        assert rows.pop(f"{INFO}/RECORD") == ["", ""]
        found.pop(f"{INFO}/RECORD")
        assert rows == {name: [record_hash(data), str(len(data))] for name, data in found.items()}

    @BOTH
    def test_lists_each_file_once(self, which: str, shared: Shared) -> None:
        with zipfile.ZipFile(getattr(shared, which)) as archive:
            names = archive.namelist()
        assert len(names) == len(set(names))

    @BOTH
    def test_is_pure_and_tagged_as_it_is_named(self, which: str, shared: Shared) -> None:
        wheel = getattr(shared, which)
        metadata = email.message_from_bytes(contents(wheel)[f"{INFO}/WHEEL"])
        assert metadata["Root-Is-Purelib"] == "true"
        assert {metadata["Tag"]} == {str(tag) for tag in parse_wheel_filename(wheel.name)[3]}

    @BOTH
    def test_asks_for_platformdirs_only_without_extras(self, which: str, shared: Shared) -> None:
        metadata = email.message_from_bytes(contents(getattr(shared, which))[f"{INFO}/METADATA"])
        assert metadata.get_all("Requires-Dist") == [
            "platformdirs>=3",
            "argcomplete>=3; extra == 'completion'",
        ]
        assert metadata["Requires-Python"] == ">=3.9"

    @BOTH
    def test_declares_both_programs_and_the_plugin(self, which: str, shared: Shared) -> None:
        text = contents(getattr(shared, which))[f"{INFO}/entry_points.txt"].decode()
        cli = "pyo3-envshim = pyo3_envshim.cli.main:main"
        wrapper = "pyo3-envshim-cargo = pyo3_envshim.wrapper:main"
        plugin = ["[tox]", "pyo3-envshim = pyo3_envshim.tox_plugin"]
        assert text.split("\n") == ["[console_scripts]", cli, wrapper, "", *plugin, ""]

    @BOTH
    def test_says_what_one_may_do_with_it(self, which: str, shared: Shared) -> None:
        licenses = {
            name.rpartition("/")[2] for name in contents(getattr(shared, which)) if "/licenses/" in name
        }
        assert licenses == {path.name for path in ROOT.glob("LICENSE*")}

    def test_differs_from_the_other_in_the_start_file_only(self, shared: Shared) -> None:
        one, two = contents(shared.wheel), contents(shared.start_wheel)
        assert set(two) - set(one) == {"pyo3_envshim.start"}
        assert {name for name in one if one[name] != two[name]} == {f"{INFO}/WHEEL", f"{INFO}/RECORD"}

    def test_is_the_same_each_time(self, shared: Shared, tmp_path: Path) -> None:
        builds = [tmp_path / "one", tmp_path / "two"]
        for folder in builds:
            run(
                [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                shared.environ,
                ROOT,
            )
        for wheel in shared.wheels.glob("*.whl"):
            one, two = ((folder / wheel.name).read_bytes() for folder in builds)
            assert one == two


@pytest.mark.parametrize(("minor", "number"), [(9, "39"), (13, "39"), (17, "39"), (18, "318"), (30, "318")])
def test_each_python_gets_the_wheel_that_it_can_use(minor: int, number: str, shared: Shared) -> None:
    """Installers prefer tags in this order."""
    platforms = ["manylinux_2_28_x86_64", "linux_x86_64"]
    version = (3, minor)
    order = [*cpython_tags(version, platforms=platforms), *compatible_tags(version, f"cp3{minor}", platforms)]
    wheels = {wheel.name: parse_wheel_filename(wheel.name)[3] for wheel in shared.wheels.glob("*.whl")}
    ranks = {
        name: min((order.index(tag) for tag in tags if tag in order), default=None)
        for name, tags in wheels.items()
    }
    usable = {name: rank for name, rank in ranks.items() if rank is not None}
    assert min(usable, key=lambda name: usable[name]) == f"pyo3_envshim-{__version__}-py{number}-none-any.whl"


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_an_uninstallation_leaves_nothing(
    installer: str, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    if installer == "pip" and "3.9" in os.path.basename(python):
        pytest.skip("current pip does not install for 3.9")
    root = make_environment("uv", python, tmp_path / "environment", environ)
    executable, site = program_in(root, "python"), site_packages(root)
    run([executable, "-c", ""], environ)  # which compiles what is there
    before = tree(root)
    install(root, shared.wheel, environ=environ, installer=installer)
    for name in ("pyo3-envshim", "pyo3-envshim-cargo"):
        assert os.access(program_in(root, name), os.X_OK)
    assert (site / "pyo3_envshim.pth").exists()
    run([executable, "-c", "import pyo3_envshim.wrapper"], {**environ, **IN_A_BUILD})
    commands: dict[str, list[str | Path]] = {
        "pip": [sys.executable, "-m", "pip", "-q", "--python", executable, "uninstall", "-y"],
        "uv": [uv.find_uv_bin(), "pip", "uninstall", "-q", "--python", executable],
    }
    run([*commands[installer], "pyo3-envshim"], environ)
    assert {name for name in set(tree(root)) - set(before) if not name.endswith(".lock")} == set()
    assert not (site / "pyo3_envshim").exists()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "/xdg/cache",
        "/xdg/cache/",
        "relative",
        "./relative",
        "~",
        "~/cache",
        "/with space",
        "/a/../b",
    ],
)
def test_the_store_lies_where_platformdirs_would_put_it(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value and not os.path.isabs(value.strip() or "/") and sys.version_info < (3, 10):
        pytest.skip("platformdirs 4.4, the last for Python 3.9, takes a relative path")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("PYO3_ENVSHIM_CACHE_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert store.folder(os.environ) == platformdirs.user_cache_dir("pyo3-envshim", appauthor=False)
