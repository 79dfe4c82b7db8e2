"""The kept build folders in the cache: which of them go."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import build_dir, builds
from pyo3_envshim.environment import layout
from pyo3_envshim.stamp import STAMP

from .posix import fcntl, names_in
from .test_cache import as_json, cli  # noqa: F401
from .test_main import Cli
from .test_target_dir import undeletable


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("", 5 << 30),
        ("off", 0),
        ("0", 0),
        ("No", 0),
        ("false", 0),
        ("on", 5 << 30),
        (" ON ", 5 << 30),
        ("1", 5 << 30),
        ("yes", 5 << 30),
        ("True", 5 << 30),
        ("3G", 3 << 30),
        ("none", float("inf")),
    ],
)
def test_the_variable_says_how_much_is_kept(value: str, limit: float) -> None:
    assert builds.limit_of({builds.VARIABLE: value}) == (limit, "")
    assert builds.limit_of({}) == (builds.LIMIT, "")


def test_a_variable_that_says_nothing_is_taken_as_its_default() -> None:
    limit, flaw = builds.limit_of({builds.VARIABLE: "wrong"})
    told = "PYO3_ENVSHIM_BUILD_CACHE='wrong' is taken as its default: say on, off or a size such as 10G"
    assert (limit, flaw) == (builds.LIMIT, told)


@pytest.mark.parametrize(("value", "all_is_kept"), [(" On ", True), ("1", True), ("3G", False), ("", False)])
def test_the_variable_says_whether_all_is_kept(value: str, all_is_kept: bool) -> None:
    assert builds.keeps_all({builds.VARIABLE: value}) == all_is_kept
    assert not builds.keeps_all({})


class TestAPlace:
    @pytest.mark.parametrize("number", [0xD800, 0xDFFF])
    def test_whose_path_is_not_unicode_is_none(self, number: int) -> None:
        assert "can work with the path" in builds.flaw_of(f"/{chr(number)}", 0)

    @pytest.mark.parametrize(
        ("length", "longest", "is_one"),
        [(128, 0, True), (129, 0, False), (129, 129, True), (130, 129, False)],
    )
    def test_must_not_be_too_long_for_windows(
        self, length: int, longest: int, is_one: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pyo3_envshim.store.ownership.flaw_of", lambda _: None)
        folder = "/" + "x" * (length - 1)
        assert not builds.flaw_of(folder, longest)
        monkeypatch.setattr(layout, "WINDOWS", True)
        assert builds.flaw_of(folder, longest) == (
            "" if is_one else f"the path {folder} is too long for compilers on Windows"
        )

    def test_is_none_where_nothing_can_be_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = str(tmp_path / "builds" / "tiny")
        monkeypatch.setattr(os, "ST_NOEXEC", 8, raising=False)
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=1), raising=False)
        assert builds.flaw_of(folder, 0) == ""
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=9), raising=False)
        assert "no build script can be started" in builds.flaw_of(folder, 0)
        monkeypatch.delattr(os, "ST_NOEXEC")  # macOS
        assert builds.flaw_of(folder, 0) == ""


def keep(cache: Path, **days: float) -> dict[str, Path]:
    """Write build folders of 1000 bytes, last used so many days ago."""
    found = {}
    for name, ago in days.items():
        found[name] = folder = cache / "builds" / name
        (folder / "debug" / "deps").mkdir(parents=True)
        (folder / "debug" / "deps" / "file").write_bytes(b"0" * 1000)
        os.link(folder / "debug" / "deps" / "file", folder / "debug" / "again")
        (folder / STAMP).write_text("")
        os.utime(folder / STAMP, (time.time() - ago * 86400,) * 2)
    cache.chmod(0o700)
    return found


class TestPruning:
    def test_takes_the_least_recently_used_beyond_the_limit(self, tmp_path: Path) -> None:
        keep(tmp_path, old=3, new=1, middle=2)
        assert [(it.name, it.size) for it in builds.builds(str(tmp_path))] == [
            ("old", 1000),
            ("middle", 1000),
            ("new", 1000),
        ]
        assert builds.prune(str(tmp_path), 3000) == []
        assert builds.prune(str(tmp_path), 1999) == ["old", "middle"]
        assert names_in(tmp_path / "builds") == ["new"]

    def test_takes_nothing_that_is_in_use(self, tmp_path: Path) -> None:
        folders = keep(tmp_path, old=3, new=1)
        held = build_dir.lock(str(folders["old"]))
        assert builds.clear(str(tmp_path)) == ["new"]
        os.close(held)
        assert builds.clear(str(tmp_path)) == ["old"]

    def test_takes_nothing_that_a_cargo_works_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody waits for it, if the wrapper was killed."""
        folders = keep(tmp_path, old=3, new=1)
        used = str(folders["old"] / builds.USED)
        monkeypatch.setattr(builds, "is_held", lambda path: path == used)
        assert builds.clear(str(tmp_path)) == ["new"]

    def test_sweeps_what_was_being_removed(self, tmp_path: Path) -> None:
        (tmp_path / "builds" / ".old-1-abc" / "debug").mkdir(parents=True)
        assert builds.builds(str(tmp_path)) == []
        assert builds.prune(str(tmp_path), 0) == []
        assert names_in(tmp_path / "builds") == []

    def test_takes_nothing_that_is_not_its_own_alone(self, tmp_path: Path) -> None:
        """Of two that prune, the second could take what a build has made there meanwhile."""
        other = os.open(keep(tmp_path, old=3)["old"], os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_SH)
        assert builds.clear(str(tmp_path)) == []
        os.close(other)

    def test_takes_nothing_where_it_cannot_tell_what_is_in_use(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def flock(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        folders = keep(tmp_path, old=3)
        monkeypatch.setattr(fcntl, "flock", flock)
        assert builds.clear(str(tmp_path)) == []
        assert folders["old"].exists()

    def test_does_not_name_what_it_cannot_take(self, tmp_path: Path) -> None:
        folders = keep(tmp_path, old=3, new=1)
        with undeletable(folders["old"]):
            assert builds.clear(str(tmp_path)) == ["new"]
        assert folders["old"].exists()

    def test_needs_no_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keep(tmp_path, old=3)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        (tmp_path / "here").rmdir()
        assert builds.clear(str(tmp_path)) == ["old"]

    def test_takes_what_was_never_used_first(self, tmp_path: Path) -> None:
        folders = keep(tmp_path, never=0, old=3)
        (folders["never"] / STAMP).unlink()
        assert builds.prune(str(tmp_path), 2000) == []
        old = builds.builds(str(tmp_path))[1]
        assert builds.prune(str(tmp_path), 2000, before=old.used) == ["never"]
        assert names_in(tmp_path / "builds") == ["old"]

    def test_of_nothing_is_nothing(self, tmp_path: Path) -> None:
        assert not builds.builds(str(tmp_path))
        assert not builds.clear(str(tmp_path))


@pytest.fixture
def cache(cli: Cli) -> Path:  # noqa: F811
    return Path(cli.environ["PYO3_ENVSHIM_CACHE_DIR"])


class TestTheCommand:
    def test_lists_them(self, cli: Cli, cache: Path) -> None:  # noqa: F811
        keep(cache, old=3, new=1)
        lines = cli.said("cache", "list").splitlines()
        assert [line.split("  ")[0].split()[0] for line in lines[-3:]] == ["new", "old", "2"]
        assert lines[-1] == f"2 build folders, 2.0 KiB in {cache}"
        assert [it["name"] for it in as_json(cli, "list")["builds"]] == ["old", "new"]

    def test_prunes_them(self, cli: Cli, cache: Path) -> None:  # noqa: F811
        keep(cache, old=31, new=1)
        assert cli.said("cache", "prune").splitlines()[1] == "removed 1 build folder, freed 1000 B"
        assert names_in(cache / "builds") == ["new"]
        changes = as_json(cli, "prune", "--days", "0.5")
        assert (changes["removed_builds"], changes["freed_of_builds"]) == (["new"], 1000)

    def test_clears_them(self, cli: Cli, cache: Path) -> None:  # noqa: F811
        folders = keep(cache, old=31, new=1)
        held = build_dir.lock(str(folders["old"]))
        done = cli.run("cache", "clear", "--yes")
        os.close(held)
        assert done.stdout.splitlines()[1] == "removed 1 build folder, freed 1000 B"
        assert "1 build folder, 1000 B" in done.stderr
        assert names_in(cache / "builds") == ["old"]

    def test_refuses_what_is_no_size(self, cli: Cli) -> None:  # noqa: F811
        error, _ = cli.refused("cache", "prune", PYO3_ENVSHIM_BUILD_CACHE="banana")
        assert error.startswith("PYO3_ENVSHIM_BUILD_CACHE: 'banana' is not a size")

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("on", "1 build folder, 1000 B (at most 5.0 GiB)"),
            ("off", "1 build folder, 1000 B; PYO3_ENVSHIM_BUILD_CACHE is off"),
            ("banana", "(at most 5.0 GiB); PYO3_ENVSHIM_BUILD_CACHE='banana' is taken as its default"),
        ],
    )
    def test_doctor_knows_them(self, cli: Cli, cache: Path, value: str, says: str) -> None:  # noqa: F811
        keep(cache, one=1)
        said = cli.run("doctor", PYO3_ENVSHIM_BUILD_CACHE=value).stdout
        (line,) = (line for line in said.splitlines() if line.startswith("build cache"))
        assert line.startswith("build cache  ok")
        assert says in line
        assert f"{builds.VARIABLE}=on" not in said  # what is riskier is not advised

    def test_doctor_says_that_they_are_off_without_any(self, cli: Cli) -> None:  # noqa: F811
        said = cli.run("doctor", PYO3_ENVSHIM_BUILD_CACHE="off").stdout
        assert "no build folders yet; PYO3_ENVSHIM_BUILD_CACHE is off" in said
