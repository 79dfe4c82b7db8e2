"""Whose folders the store trusts, with real users where the tests run as root."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import files
from pyo3_envshim.store import ownership
from pyo3_envshim.store.entry import NOT_A_FOLDER, NOT_OURS, surface
from pyo3_envshim.store.store import Store, StoreError

from .environments import ROOT

ME, OTHER = 61001, 61002
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to other users")

HINT = "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own, below folders of yours or root's"
_AS_USER = """\
import os, sys
sys.path.insert(0, {root!r})
from pyo3_envshim.environment import frontends
from pyo3_envshim.store.store import Store, StoreError
import ctypes, fcntl, shutil
user, mapped, path = int(sys.argv[1]), *sys.argv[2:]
os.setgroups([])
os.setgid(user)
os.setuid(user)
if mapped != "all":  # a user namespace of its own, in which this user is *mapped*, and nobody else is
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE: or /proc/self is root's
    if libc.unshare(0x10000000):  # CLONE_NEWUSER
        sys.exit(f"no user namespaces: {{os.strerror(ctypes.get_errno())}}")
    if mapped:
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"{{mapped}} {{user}} 1")
try:
    print((Store(path) if path else Store.open(os.environ)).root, end="")
except (OSError, StoreError) as error:
    print(error, end="")
"""


def as_user(user: int, path: Path | str = "", mapped: str = "all", **environ: str) -> str:
    """Open a store as *user*: the one at *path*, or that for the variables; return its path, or the error."""
    command = [sys.executable, "-c", _AS_USER.format(root=str(ROOT)), str(user), mapped, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if "no user namespaces" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 0
    return done.stdout


def opened(user: int, path: Path) -> str:
    """Open a store as *user*; return the error's message."""
    found = as_user(user, path)
    return "" if found == str(path) else found


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
        assert opened(ME, cache) == f"{cache} belongs to another user (uid {OTHER}); {HINT}"

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


@AS_ROOT
class TestAFolderToImportFrom:
    """Is it as safe as the script that is to name it? Here, root's."""

    @pytest.fixture
    def script(self, base: Path) -> str:
        return str(folder(base / "bin", 0) / "script")

    def test_of_ones_own_is(self, script: str, base: Path) -> None:
        found = folder(folder(base / "tmp", 0, 0o1777) / "packages", 0)
        assert ownership.is_as_safe_as(script, str(found))
        assert ownership.is_as_safe_as(script, str(link(base / "link", found, 0)))

    def test_of_another_user_is_not_nor_below_nor_behind_a_link(self, script: str, base: Path) -> None:
        theirs = folder(base / "theirs", ME)
        behind = link(base / "behind", folder(theirs / "packages", 0), 0)
        across = link(base / "across", folder(base / "packages", 0), ME)
        for found in (theirs, theirs / "packages", behind, across):
            assert not ownership.is_as_safe_as(script, str(found))

    def test_that_all_can_add_to_is_not_though_it_is_sticky(self, script: str, base: Path) -> None:
        found = folder(base / "tmp", 0, 0o1777)
        for path in (found, link(base / "link", found, 0)):
            assert not ownership.is_as_safe_as(script, str(path))

    def test_below_one_that_all_can_write_to_is_not(self, script: str, base: Path) -> None:
        found = folder(folder(base / "open", 0, 0o777) / "packages", 0)
        assert not ownership.is_as_safe_as(script, str(found))

    def test_that_a_group_can_write_to_is_if_it_can_replace_the_script(self, script: str, base: Path) -> None:
        found = folder(base / "packages", 0, 0o775)
        assert not ownership.is_as_safe_as(script, str(found))
        Path(script).parent.chmod(0o775)
        assert ownership.is_as_safe_as(script, str(found))
        os.chown(found, 0, OTHER)
        assert not ownership.is_as_safe_as(script, str(found))
        os.chown(found, 0, 0)
        found.chmod(0o777)
        assert not ownership.is_as_safe_as(script, str(found))


@AS_ROOT
class TestWhereNoneWasChosen:
    """HOME is what it is in container jobs and sandboxes; the temporary folder is there."""

    @pytest.fixture
    def temporary(self, base: Path) -> Path:
        return folder(base / "tmp", 0, 0o1777)

    @pytest.mark.parametrize(("owner", "mode"), [(OTHER, 0o755), (ME, 0o775), (ME, 0o777), (0, 0o755)])
    def test_a_home_that_cannot_be_used_gives_way_to_a_private_folder(
        self, owner: int, mode: int, base: Path, temporary: Path
    ) -> None:
        home = folder(base / "home", owner, mode)
        spare = temporary / f"pyo3-envshim-{ME}"
        for _ in range(2):
            assert as_user(ME, HOME=str(home), TMPDIR=str(temporary)) == str(spare)
        assert (spare.stat().st_uid, spare.stat().st_mode & 0o777) == (ME, 0o700)
        assert os.listdir(home) == []

    def test_root_in_the_home_of_another_gets_one_too(self, base: Path, temporary: Path) -> None:
        home = folder(base / "home", ME)
        assert as_user(0, HOME=str(home), TMPDIR=str(temporary)) == f"{temporary}/pyo3-envshim-0"

    def test_a_home_that_can_be_used_is(self, base: Path, temporary: Path) -> None:
        home = folder(base / "home", ME)
        (temporary / f"pyo3-envshim-{ME}").mkdir()
        assert as_user(ME, HOME=str(home), TMPDIR=str(temporary)) == f"{home}/.cache/pyo3-envshim"

    def test_a_home_that_is_not_there_and_a_temporary_folder_that_is_not_there_are_not_made(
        self, base: Path, temporary: Path
    ) -> None:
        gone = {"HOME": f"{base}/gone", "TMPDIR": f"{base}/gone-too", "TMP": str(temporary)}
        assert as_user(ME, **gone) == f"{temporary}/pyo3-envshim-{ME}"
        assert os.listdir(base) == ["tmp"]

    def test_what_was_chosen_is_refused_with_a_hint_that_names_no_folder(
        self, base: Path, temporary: Path
    ) -> None:
        cache = folder(base / "cache", OTHER)
        chosen = {"PYO3_ENVSHIM_CACHE_DIR": str(cache), "TMPDIR": str(temporary)}
        assert as_user(ME, **chosen) == f"{cache} belongs to another user (uid {OTHER}); {HINT}"
        assert os.listdir(temporary) == []

    @pytest.mark.parametrize("squat", ["folder", "link", "open", "file"])
    def test_a_squatter_gets_nothing_but_that_it_is_off(
        self, squat: str, base: Path, temporary: Path
    ) -> None:
        home = folder(base / "home", OTHER)
        spare = temporary / f"pyo3-envshim-{ME}"
        if squat == "folder":
            folder(spare, OTHER, 0o777)
        elif squat == "link":
            link(spare, folder(base / "mine", ME), OTHER)
        elif squat == "open":
            folder(spare, ME, 0o777)
        else:
            spare.touch()
        said = as_user(ME, HOME=str(home), TMPDIR=str(temporary))
        assert said == f"{home} belongs to another user (uid {OTHER}); {HINT}"

    @pytest.mark.parametrize(("owner", "mode"), [(OTHER, 0o1777), (0, 0o777), (OTHER, 0o755)])
    def test_a_temporary_folder_is_trusted_no_more_than_others(
        self, owner: int, mode: int, base: Path
    ) -> None:
        home, temporary = folder(base / "home", OTHER), folder(base / "tmp", owner, mode)
        said = as_user(ME, HOME=str(home), TMPDIR=str(temporary))
        assert said == f"{home} belongs to another user (uid {OTHER}); {HINT}"
        assert os.listdir(temporary) == []

    def test_chmod_is_named_to_who_may_do_it(self, base: Path, temporary: Path) -> None:
        mine = folder(base / "mine", ME, 0o777)
        roots = folder(base / "roots", 0, 0o777)
        chosen = {"PYO3_ENVSHIM_CACHE_DIR": str(mine)}
        assert as_user(ME, **chosen) == f"{mine} can be written by others; run: chmod go-w {mine}"
        chosen = {"PYO3_ENVSHIM_CACHE_DIR": f"{roots}/cache"}
        assert as_user(ME, **chosen) == f"{roots} can be written by others; {HINT}"


@AS_ROOT
@pytest.mark.parametrize("inside", ["0", str(ME), "65533"], ids=["as root", "as oneself", "next to nobody"])
class TestInAUserNamespace:
    """Where one user is known, and root's folders belong to nobody (bubblewrap, ``unshare -Ur``)."""

    def test_ones_home_is_used_though_nobody_owns_what_is_above(self, inside: str, base: Path) -> None:
        above = folder(base / "home", 0)
        home = folder(above / "me", ME)
        assert as_user(ME, mapped=inside, HOME=str(home)) == f"{home}/.cache/pyo3-envshim"

    def test_ones_home_is_used_behind_a_link_of_nobodys(self, inside: str, base: Path) -> None:
        """As on Fedora Silverblue: /home is a link to var/home."""
        (base / "var").mkdir()
        folder(folder(base / "var" / "home", 0) / "me", ME)
        home = link(base / "home", "var/home", 0) / "me"
        assert as_user(ME, mapped=inside, HOME=str(home)) == f"{home}/.cache/pyo3-envshim"

    def test_a_private_folder_is_used_though_nobody_owns_what_is_above(self, inside: str, base: Path) -> None:
        temporary = folder(base / "tmp", 0, 0o1777)
        home = folder(base / "home", 0)
        spare = f"{temporary}/pyo3-envshim-{inside}"
        assert as_user(ME, mapped=inside, HOME=str(home), TMPDIR=str(temporary)) == spare

    def test_what_may_be_another_users_is_refused(
        self, inside: str, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Below folders that the build relies on anyway nobody may be root; elsewhere, it may be anyone."""
        shared = folder(base / "shared", OTHER)
        cache = folder(shared / "cache", ME)
        home = folder(base / "shared-home", ME)
        said = as_user(ME, mapped=inside, HOME=str(home), PYO3_ENVSHIM_CACHE_DIR=str(cache))
        assert said == f"{shared} belongs to another user (uid 65534); {HINT}"
        monkeypatch.chdir(cache)
        said = as_user(ME, mapped=inside, HOME="relative", PYO3_ENVSHIM_CACHE_DIR=str(cache))
        assert said.endswith(f" belongs to another user (uid 65534); {HINT}")

    def test_a_link_that_may_be_another_users_is_refused(self, inside: str, base: Path) -> None:
        temporary = folder(base / "tmp", 0, 0o1777)
        link(temporary / f"pyo3-envshim-{inside}", folder(base / "mine", ME), OTHER)
        home = folder(base / "home", OTHER)
        said = as_user(ME, mapped=inside, HOME=str(home), TMPDIR=str(temporary))
        assert said == f"{home}/.cache cannot be made: Permission denied; {HINT}"
        assert os.listdir(base / "mine") == []

    def test_a_folder_that_others_can_write_to_is_refused(self, inside: str, base: Path) -> None:
        above = folder(base / "home", 0, 0o777)
        home = folder(above / "me", ME)
        temporary = folder(base / "tmp", 0, 0o777)
        said = as_user(ME, mapped=inside, HOME=str(home), TMPDIR=str(temporary))
        assert said == f"{above} can be written by others; {HINT}"


@AS_ROOT
def test_who_is_nobody_trusts_nothing_in_a_user_namespace(base: Path) -> None:
    """There, all that belongs to anybody seems to be one's own."""
    home = folder(base / "home", OTHER)
    why = "uid 65534 is not mapped in this user namespace, and may be anyone"
    assert as_user(ME, home / "cache", mapped="") == f"{why}; {HINT}"
    assert as_user(65534, folder(base / "mine", 65534)) == f"{base}/mine"
    assert as_user(ME, folder(base / "mapped", ME), mapped="65534") == f"{base}/mapped"


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

    def test_are_not_looked_at_on_windows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All below the user's profile is private there."""
        monkeypatch.setattr(ownership, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        on_windows = functools.partial(files.private_mode, windows=True)
        monkeypatch.setattr(files, "private_mode", on_windows)
        for name in ("", "middle/store/environments"):
            Store(str(tmp_path / "middle" / "store"))
            (tmp_path / name).chmod(0o777)
        Store(str(tmp_path / "middle" / "store"))

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
        with pytest.raises(StoreError, match=f"{name} is not a folder; {HINT}$"):
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
