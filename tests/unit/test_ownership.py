"""Whose folders the store trusts, with real users where the tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyo3_envshim.store.entry import NOT_A_FOLDER, NOT_OURS, surface
from pyo3_envshim.store.store import Store, StoreError

from .environments import ROOT

ME, OTHER = 61001, 61002
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to other users")

_OPEN = """\
import os, sys
sys.path.insert(0, {root!r})
from pyo3_envshim.store.store import Store, StoreError
import fcntl, shutil
user = int(sys.argv[1])
os.setgroups([])
os.setgid(user)
os.setuid(user)
try:
    Store(sys.argv[2])
except (OSError, StoreError) as error:
    print(error, end="")
"""


def opened(user: int, path: Path) -> str:
    """Open a store as *user*; return the error's message."""
    command = [sys.executable, "-c", _OPEN.format(root=str(ROOT)), str(user), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 0
    return done.stdout


def folder(path: Path, owner: int, mode: int = 0o755) -> Path:
    path.mkdir()
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def link(path: Path, target: Path | str, owner: int) -> Path:
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


@pytest.fixture
def base() -> Iterator[Path]:
    """Return a folder of root's that others can enter, unlike pytest's."""
    found = Path(tempfile.mkdtemp())
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


@AS_ROOT
class TestWithRealUsers:
    def test_a_store_of_ones_own_is_used(self, base: Path) -> None:
        home = folder(base / "home", ME)
        assert opened(ME, home / ".cache" / "pyo3-envshim") == ""
        for path in (home / ".cache", home / ".cache" / "pyo3-envshim" / "environments"):
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (ME, 0o700)

    def test_a_store_of_another_user_is_refused(self, base: Path) -> None:
        cache = folder(base / "cache", OTHER, 0o755)
        hint = "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own"
        assert opened(ME, cache) == f"{cache} belongs to another user (uid {OTHER}); {hint}"

    def test_a_store_of_roots_is_refused(self, base: Path) -> None:
        assert "another user (uid 0)" in opened(ME, folder(base / "cache", 0))

    @pytest.mark.parametrize("name", ["environments", "interpreters"])
    def test_a_part_of_another_user_is_refused(self, name: str, base: Path) -> None:
        cache = folder(base / "cache", ME)
        folder(cache / name, OTHER)
        assert f"{name} belongs to another user" in opened(ME, cache)

    def test_a_parent_of_another_user_is_refused_and_nothing_is_made_there(self, base: Path) -> None:
        parent = folder(base / "parent", OTHER, 0o777)
        assert f"{parent} belongs to another user" in opened(ME, parent / "new" / "cache")
        cache = folder(parent / "cache", ME)
        assert f"{parent} belongs to another user" in opened(ME, cache)
        assert os.listdir(parent) == ["cache"]
        assert os.listdir(cache) == []

    def test_root_does_not_use_a_callers_folder(self, base: Path) -> None:
        """sudo with the caller's HOME."""
        home = folder(base / "home", ME)
        assert f"{home} belongs to another user (uid {ME})" in opened(0, home / ".cache" / "pyo3-envshim")
        cache = folder(home / "cache", 0)
        assert f"{home} belongs to another user (uid {ME})" in opened(0, cache)
        assert os.listdir(cache) == []

    def test_a_folder_that_all_write_to_may_be_above_if_it_is_sticky(self, base: Path) -> None:
        shared = folder(base / "tmp", 0, 0o1777)
        assert opened(ME, folder(shared / "mine", ME)) == ""
        assert opened(ME, shared / "new") == ""
        assert "another user" in opened(ME, folder(shared / "theirs", OTHER))

    def test_a_link_of_another_user_is_refused(self, base: Path) -> None:
        shared = folder(base / "tmp", 0, 0o1777)
        mine = folder(base / "mine", ME)
        theirs = link(shared / "cache", mine, OTHER)
        assert f"{theirs} belongs to another user" in opened(ME, theirs)
        assert f"{theirs} belongs to another user" in opened(ME, theirs / "below")
        assert os.listdir(mine) == []

    @pytest.mark.parametrize("owner", [ME, 0])
    def test_a_link_of_ones_own_or_of_roots_is_followed(self, owner: int, base: Path) -> None:
        mine = folder(base / "mine", ME)
        assert opened(ME, link(base / "absolute", mine, owner) / "one") == ""
        assert opened(ME, link(base / "relative", "mine", owner) / "two") == ""
        up = f"../{base.name}//../{base.name}/./../{base.name}/mine"
        assert opened(ME, link(base / "up", up, owner)) == ""
        assert sorted(os.listdir(mine)) == ["environments", "interpreters", "one", "two"]

    def test_a_link_of_ones_own_through_another_users_folder_is_refused(self, base: Path) -> None:
        theirs = folder(base / "theirs", OTHER)
        folder(theirs / "cache", ME)
        for target in (theirs / "cache", "theirs/cache", "theirs/../theirs/cache"):
            mine = link(base / "mine", target, ME)
            assert f"{theirs} belongs to another user" in opened(ME, mine)
            mine.unlink()

    def test_an_entry_of_another_user_is_not_used(self, base: Path) -> None:
        store = Store(str(base / "store"))
        folder(Path(store.path("0" * 32)), OTHER, 0o700)
        assert surface(store.path("0" * 32))[0] is NOT_OURS


class TestWithModes:
    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o720])
    def test_a_parent_that_others_can_write_to_is_refused_with_the_way_out(
        self, mode: int, tmp_path: Path
    ) -> None:
        parent = tmp_path / "parent"
        parent.mkdir()
        parent.chmod(mode)
        with pytest.raises(StoreError) as caught:
            Store(str(parent / "middle" / "store"))
        assert str(caught.value) == f"{parent} can be written by others; run: chmod go-w {parent}"
        assert caught.value.text == f"{parent} can be written by others"
        assert caught.value.hint == f"chmod go-w {parent}"
        assert os.listdir(parent) == []
        parent.chmod(mode & ~0o022)
        Store(str(parent / "middle" / "store"))

    def test_what_is_behind_a_link_of_ones_own_is_looked_at_too(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        (tmp_path / "link").symlink_to("open")
        (tmp_path / "fine").mkdir()
        (tmp_path / "round").symlink_to("fine/../open")
        for name in ("link", "round"):
            with pytest.raises(StoreError) as caught:
                Store(str(tmp_path / name / "store"))
            assert str(caught.value).startswith(f"{tmp_path}/open can be written by others")

    @pytest.mark.parametrize("name", ["environments", "interpreters"])
    def test_a_part_of_the_store_is_no_link(self, name: str, tmp_path: Path) -> None:
        Store(str(tmp_path / "store"))
        (tmp_path / "store" / name).rename(tmp_path / "elsewhere")
        (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=f"{name} is not a folder"):
            Store(str(tmp_path / "store"))

    @pytest.mark.parametrize("target", ["gone", "loop", "file", "file/below"])
    def test_a_link_that_leads_to_no_folder_is_an_error(self, target: str, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "loop").symlink_to(target)
        before = sorted(os.listdir(tmp_path))
        with pytest.raises((OSError, StoreError)):
            Store(str(tmp_path / "loop"))
        assert sorted(os.listdir(tmp_path)) == before

    def test_all_that_is_made_is_the_users_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            Store(str(tmp_path / "a" / "b" / "store"))
        finally:
            os.umask(before)
        made: list[Path] = [path for path in tmp_path.rglob("*") if path.is_dir()]
        assert len(made) == 5
        assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


def make_a_link(entry: Path) -> None:
    entry.rename(entry.with_name("moved"))
    entry.symlink_to("moved")


def make_a_file(entry: Path) -> None:
    entry.rmdir()
    entry.touch()


ODD: dict[str, Callable[[Path], None]] = {
    "a link": make_a_link,
    "a file": make_a_file,
    "open to a group": lambda entry: entry.chmod(0o770),
    "open to all": lambda entry: entry.chmod(0o777),
    "closed to its owner": lambda entry: entry.chmod(0o000),
}


@pytest.mark.parametrize("what", ODD)
def test_an_entry_that_is_odd_from_outside_is_not_used(what: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    entry = Path(store.path("0" * 32))
    entry.mkdir(mode=0o700)
    ODD[what](entry)
    assert surface(str(entry))[0] in (NOT_A_FOLDER, NOT_OURS)
