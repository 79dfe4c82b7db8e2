"""The store: what it holds stays whole, whoever stores, locks, races or refuses."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from pyo3_envshim import files
from pyo3_envshim.cli.cache import open_store
from pyo3_envshim.environment import hashing, layout
from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.environment.item import Item
from pyo3_envshim.store import entry as entry_module
from pyo3_envshim.store import prune
from pyo3_envshim.store.entry import MANIFEST, USES, Damage, damage_of, write
from pyo3_envshim.store.lock import close
from pyo3_envshim.store.ownership import HINT
from pyo3_envshim.store.store import Acquired, Store, StoreError, folder, folder_in_use, spare_folder

from .entries import add_nonce, damage, is_whole, put, small_environment, stored, use
from .environments import ROOT, program_in, run, script, site_packages, started_together
from .posix import fcntl, names_in
from .sample_wheels import SampleWheels, read
from .windows_stand_in import StandIn

PREFIX = "import sys; print(sys.prefix)"


@pytest.fixture
def small(tmp_path: Path) -> Environment:
    return small_environment(tmp_path)


class TestPuttingFails:
    @pytest.mark.parametrize("call", ["link", "symlink", "makedirs", "rename", "mkdir"])
    def test_with_the_error_and_leaves_nothing_behind(
        self, call: str, store: Store, sample: SampleWheels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = read(sample.environment())

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(OSError, match="No space left"):
                put(store, environment)
        assert names_in(store.environments) == []
        put(store, environment)
        assert is_whole(store, environment)

    @pytest.mark.parametrize(
        "make", [Path.touch, getattr(os, "mkfifo", Path.touch), lambda path: path.symlink_to("gone")]
    )
    def test_not_where_something_else_lies_in_its_place(
        self, make: Callable[[Path], object], store: Store, small: Environment
    ) -> None:
        make(Path(store.path(small.digest)))
        assert damage(store, small) == "it is not a folder"
        put(store, small)
        assert is_whole(store, small)

    def test_not_where_what_was_in_its_place_cannot_be_removed(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        put(store, small)
        Path(store.path(small.digest), "added").touch()
        with monkeypatch.context() as patched:
            patched.setattr(os, "rmdir", refuse)
            put(store, small)
        assert is_whole(store, small)
        assert len(names_in(store.environments)) == 2
        prune.prune(store, None)
        assert names_in(store.environments) == [small.digest]


def in_place(path: Path, data: bytes) -> None:
    """Write to the same inode, and put the times back."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


_RACER = """\
import sys
sys.path[:0] = {paths!r}
from pyo3_envshim.environment import digest
from pyo3_envshim.store.store import Store
from unit.entries import is_whole, put
store = Store(sys.argv[2])
environment = digest.read(sys.argv[1], {{}}, store.hash_file)
print("ready", flush=True)
sys.stdin.readline()
put(store, environment)
print(is_whole(store, environment), environment.digest)
"""


@pytest.mark.parametrize("tampered", [False, True], ids=["new", "tampered"])
def test_processes_that_store_the_same_at_once_all_succeed(
    tampered: bool, store: Store, sample: SampleWheels, tmp_path: Path
) -> None:
    root = sample.environment()
    if tampered:
        other = sample.environment("other")
        _, entry = stored(store, other)
        shutil.rmtree(other)
        (site_packages(entry) / "other.py").unlink()
    command = [
        sys.executable,
        "-c",
        _RACER.format(paths=[str(ROOT), str(ROOT / "tests")]),
        str(root),
        store.root,
    ]
    racers = started_together([command] * 8)
    ends = [racer.communicate() for racer in racers]
    digest = read(root).digest
    assert ends == [(f"True {digest}\n", "")] * len(racers)
    assert names_in(store.environments) == [digest]


def waits_for(other: str, how: int, work: Callable[[], object]) -> bool:
    """Tell whether *work* waits for another process that has locked the folder *other*."""
    waited = []
    lock = fcntl.flock

    def flock(folder: int, how: int) -> None:
        try:
            lock(folder, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if how & fcntl.LOCK_NB:
                raise
            waited.append(folder)
            lock(locked, fcntl.LOCK_UN)
            lock(folder, how | fcntl.LOCK_NB)

    locked = os.open(other, os.O_RDONLY)
    lock(locked, how | fcntl.LOCK_NB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        work()
    os.close(locked)
    return bool(waited)


def open_files() -> list[str]:
    return os.listdir("/dev/fd")


class TestHolding:
    """What other processes do at just that moment is done by this one, in between."""

    def test_begins_before_another_process_can_prune(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check = store._share_and_check

        def prune_and_check(path: str, environment: Environment) -> tuple[int | None, Damage | None]:
            assert prune.prune(Store(store.root), 0) == []
            return check(path, environment)

        monkeypatch.setattr(store, "_share_and_check", prune_and_check)
        assert use(store, small) == (True, None)

    def test_is_of_the_entry_of_another_process_that_was_faster(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write_too_late(environment: Environment, new: str, path: str) -> None:
            monkeypatch.setattr(entry_module, "write", write)
            write(environment, new, path)
            others.append(Store(store.root).acquire(environment))

        others: list[Acquired] = []
        before = open_files()
        monkeypatch.setattr(entry_module, "write", write_too_late)
        acquired = store.acquire(small)
        others[0].release()
        assert (acquired.is_new, acquired.damage) == (True, None)
        assert names_in(store.environments) == [small.digest]
        assert prune.prune(Store(store.root), 0) == []
        acquired.release()
        assert len(open_files()) == len(before)

    @pytest.mark.parametrize("stored_anew", [False, True])
    def test_is_of_what_stands_there_after_it_was_looked_at(
        self, stored_anew: bool, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = []

        def damage_before(path: str, environment: Environment) -> Damage | None:
            looks.append(damage_of(path, environment))
            if len(looks) == 1:
                store.discard(path)
                if stored_anew:
                    put(store, small)
            return looks[-1]

        put(store, small)
        monkeypatch.setattr(entry_module, "damage_of", damage_before)
        before = open_files()
        acquired = store.acquire(small)
        assert (acquired.is_new, acquired.damage) == (not stored_anew, None)
        assert looks[0] is None
        assert prune.prune(Store(store.root), 0) == []
        acquired.release()
        assert len(open_files()) == len(before)
        assert prune.prune(Store(store.root), 0) == [small.digest]

    @pytest.mark.parametrize("moment", ["os.mkdir", "fcntl.flock"])
    def test_is_of_a_folder_made_anew_where_one_was_swept(
        self, moment: str, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, _, name = moment.partition(".")
        do = getattr(sys.modules[module], name)
        swept: list[str] = []

        def do_and_sweep(*arguments: object) -> None:
            do(*arguments)
            if not swept:
                swept.extend(names_in(store.environments))
                os.rmdir(os.path.join(store.environments, swept[0]))

        before = open_files()
        monkeypatch.setattr(moment, do_and_sweep)
        put(store, small)
        assert is_whole(store, small)
        assert swept[0].startswith(".new-")
        assert names_in(store.environments) == [small.digest]
        assert len(open_files()) == len(before)

    @pytest.mark.parametrize("how", ["mode", "file"])
    def test_keeps_what_was_changed_from_being_replaced(
        self, how: str, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        acquired = store.acquire(small)
        if how == "mode":
            os.chmod(acquired.path(), 0o755)
        else:
            Path(acquired.path(), "added").touch()
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        with pytest.raises(
            StoreError, match=r"had changed \((its owner|added file).*a running build uses it"
        ):
            store.acquire(small)
        assert sum(slept) > 0.5
        acquired.release()
        assert store.acquire(small).is_new

    def test_waits_for_who_takes_the_entry_away(self, store: Store, small: Environment) -> None:
        put(store, small)
        entry = store.path(small.digest)
        assert waits_for(entry, fcntl.LOCK_EX, lambda: use(store, small))
        assert not waits_for(entry, fcntl.LOCK_SH, lambda: use(store, small))

    def test_waits_for_who_mends_another_entry(self, store: Store, small: Environment) -> None:
        put(store, small)
        Path(store.path(small.digest), "added").touch()
        assert waits_for(store.environments, fcntl.LOCK_SH, lambda: use(store, small))

    def test_that_fails_is_an_error_and_leaves_nothing_open(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        put(store, small)
        before = open_files()
        monkeypatch.setattr(fcntl, "flock", fail)
        calls: tuple[Callable[[], object], ...] = (
            lambda: store.acquire(small),
            lambda: put(store, small),
            lambda: add_nonce(store, small.digest, "0a1b2c3d"),
        )
        for call in calls:
            with pytest.raises(OSError, match="Input/output error"):
                call()
        assert len(open_files()) == len(before)
        assert names_in(store.environments) == [small.digest]


class TestHandingOver:
    """What replaces this process holds the entry by a record lock, or else by the flock."""

    def inherited(self, acquired: Acquired) -> list[str]:
        """Return what is handed over by it."""
        before = set(open_files())
        acquired.inherit_lock()
        new = [int(name) for name in set(open_files()) - before if os.path.exists(f"/dev/fd/{name}")]
        return [os.readlink(f"/dev/fd/{it}") for it in new if os.get_inheritable(it)]

    def test_is_by_the_file_of_uses(self, store: Store, small: Environment) -> None:
        acquired = store.acquire(small)
        assert self.inherited(acquired) == [os.path.join(acquired.path(), USES)]
        before = len(open_files())
        for _ in range(2):
            acquired.release()
        assert len(open_files()) == before - 2

    def test_is_to_a_child_as_well(self, store: Store, small: Environment) -> None:
        """With a kept build folder, cargo is one, and may outlive this process."""
        acquired = store.acquire(small)
        acquired.inherit_lock()
        cargo = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            close_fds=False,
            preexec_fn=acquired.hold_in_child,
        )
        acquired.release()
        assert prune.clear(Store(store.root)) == [small.digest]
        cargo.communicate(b"\n")
        assert prune.clear(Store(store.root)) == []

    @pytest.mark.parametrize("make", [os.mkdir, lambda path: path.symlink_to("elsewhere")])
    def test_is_by_the_folder_where_that_is_no_file(
        self, make: Callable[[Path], object], store: Store, small: Environment
    ) -> None:
        acquired = store.acquire(small)
        path = Path(acquired.path(), USES)
        path.unlink()
        make(path)
        assert self.inherited(acquired) == [acquired.path()]
        acquired.release()
        assert prune.clear(Store(store.root)) == [small.digest]  # there is the inherited one still

    def test_is_by_the_folder_where_there_are_no_record_locks(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "lockf", refuse)
        acquired = store.acquire(small)
        assert self.inherited(acquired) == [acquired.path()]

    def test_keeps_nobody_from_replacing_what_is_damaged_where_there_are_no_record_locks(
        self, store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        use(store, small)
        monkeypatch.setattr(fcntl, "lockf", refuse)
        assert prune.prune(store, 0) == []
        Path(store.path(small.digest), "module.py").unlink()
        assert use(store, small) == (True, "missing file module.py")


class TestAnAlias:
    def test_waits_for_who_sweeps_but_not_for_who_gives_another(self, store: Store) -> None:
        assert waits_for(store.environments, fcntl.LOCK_EX, lambda: add_nonce(store, "digest", "0a1b2c3d"))
        assert not waits_for(
            store.environments, fcntl.LOCK_SH, lambda: add_nonce(store, "digest", "11111111")
        )

    def test_leads_to_the_entry(self, store: Store, sample: SampleWheels) -> None:
        environment, entry = stored(store, sample.environment())
        add_nonce(store, environment.digest, "0a1b2c3d")
        path = store.path(environment.digest, "0a1b2c3d")
        assert path == f"{entry}-0a1b2c3d"
        assert run([program_in(Path(path), "python"), "-c", PREFIX], {}) == f"{path}\n"

    def test_may_be_given_twice(self, store: Store, sample: SampleWheels) -> None:
        environment, _ = stored(store, sample.environment())
        add_nonce(store, environment.digest, "0a1b2c3d")
        add_nonce(store, environment.digest, "0a1b2c3d")

    def test_is_not_taken_from_something_else(self, store: Store, sample: SampleWheels) -> None:
        environment, _ = stored(store, sample.environment())
        os.symlink("elsewhere", store.path(environment.digest, "0a1b2c3d"))
        os.mkdir(store.path(environment.digest, "11111111"))
        for nonce in ("0a1b2c3d", "11111111"):
            with pytest.raises(OSError, match=nonce):
                add_nonce(store, environment.digest, nonce)

    def test_outlives_a_replacement_of_the_entry(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        environment, entry = stored(store, root)
        add_nonce(store, environment.digest, "0a1b2c3d")
        (site_packages(entry) / "added.py").touch()
        put(store, environment)
        path = store.path(environment.digest, "0a1b2c3d")
        assert run([program_in(Path(path), "python"), "-c", "import tiny"], {}) == ""

    def test_that_cannot_be_had_is_told(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On Windows, where it has second names of the files, others may have used those up."""
        environment = small_environment(tmp_path)
        acquired = store.acquire(environment)

        def refuse(source: str, target: str) -> None:
            raise OSError(errno.EMLINK, "a file has too many names")

        monkeypatch.setattr(os, "link", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="too many names"):
                acquired._link_files(acquired.path("0a1b2c3d"))
            os.mkdir(acquired.path("11111111"))  # now there is one to give up
        acquired.release()

    def test_without_a_nonce_is_the_entry_itself(self, store: Store) -> None:
        assert store.path("digest", "") == store.path("digest")


class TestOnWindows:
    """A second name is a folder there, and a lock is of a name; tests/windows shows the same there."""

    NONCE = "0a1b2c3d"

    @pytest.fixture
    def environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
        monkeypatch.setattr(layout, "WINDOWS", True)
        monkeypatch.setitem(sys.modules, "pyo3_envshim.windows", StandIn)

        def change_time(path: str, found: os.stat_result) -> int:  # which is by the path, there
            return os.lstat(path).st_ctime_ns

        monkeypatch.setattr(files, "change_time", change_time)
        monkeypatch.setattr(files, "private_mode", functools.partial(files.private_mode, windows=True))
        items = []
        for name, mode in (("bin/python", 0o755), ("module.py", 0o644)):
            source = script(tmp_path / "original" / name, name)
            source.chmod(mode)
            content = hashing.of_file(str(source))
            items.append(Item(name, content, executable=mode == 0o755, source=str(source)))
        return Environment(sys.executable, items, "0" * 32, hidden=False)

    def second(self, store: Store, environment: Environment) -> Path:
        """Give the entry a second name; return its path."""
        acquired = store.acquire(environment)
        try:
            acquired.add_nonce(self.NONCE)
        finally:
            acquired.release()
        return Path(acquired.path(self.NONCE))

    @staticmethod
    def is_right(path: Path) -> bool:
        names = {str(it.relative_to(path)) for it in path.rglob("*") if it.is_file()}
        entry = path.with_name("0" * 32)
        right = {it for it in names if (entry / it).samefile(path / it) and not it.startswith(MANIFEST)}
        return right == {"bin/python", "module.py"} and all(it.startswith(MANIFEST) for it in names - right)

    def test_a_second_name_has_the_entrys_files(
        self, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unfinished: set[str] = set()
        link = os.link

        def note_and_link(source: str, target: str) -> None:
            unfinished.update(os.listdir(store.environments))
            link(source, target)

        use(store, environment)
        monkeypatch.setattr(os, "link", note_and_link)
        descriptors = len(open_files())
        path = self.second(store, environment)
        assert self.is_right(path)
        assert len(open_files()) == descriptors
        assert all(name.startswith(".new-") for name in unfinished - {environment.digest})
        before = path.stat().st_ino
        assert self.second(store, environment).stat().st_ino == before
        assert sorted(os.listdir(store.environments)) == [environment.digest, path.name]

    @pytest.mark.parametrize("how", ["another", "fewer", "more", "link"])
    def test_a_second_name_that_was_changed_is_made_anew(
        self, how: str, store: Store, environment: Environment
    ) -> None:
        path = self.second(store, environment)
        if how == "link":
            path.rename(path.with_name("elsewhere"))
            path.symlink_to("elsewhere")
        elif how == "more":
            (path / "added.py").touch()
        else:
            (path / "module.py").unlink()
            if how == "another":
                (path / "module.py").write_text("module.py")
        assert self.is_right(self.second(store, environment))
        assert not [name for name in os.listdir(store.environments) if name.startswith(".")]

    def test_a_second_name_that_a_running_build_uses_is_not_replaced(
        self, store: Store, environment: Environment
    ) -> None:
        path, other = self.second(store, environment), store.acquire(environment)
        (path / "added.py").touch()
        with pytest.raises(StoreError, match=f"^{path} had changed, and a running build uses it") as found:
            self.second(store, environment)
        assert found.value.hint == ""
        other.release()
        mine = store.acquire(environment)
        mine.add_nonce(self.NONCE)
        assert self.is_right(path)
        assert prune.clear(Store(store.root)) == [environment.digest]  # it is still held
        store.acquire(environment).release()  # and others may use it
        mine.release()

    @pytest.mark.parametrize("code", ["EMLINK", "ERROR_TOO_MANY_LINKS", "EIO"])
    def test_a_second_name_takes_the_place_of_others_where_there_are_too_many(
        self, code: str, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = OSError(getattr(errno, code, errno.EINVAL), "refused")
        if code == "ERROR_TOO_MANY_LINKS":
            error.winerror = 1142  # type: ignore[attr-defined]
        link, most = os.link, 4

        def refuse(source: str, target: str) -> None:
            if os.stat(source).st_nlink > most:
                raise error
            link(source, target)

        acquired = store.acquire(environment)
        monkeypatch.setattr(os, "link", refuse)
        names = [f"0000000{number}" for number in range(5)]
        for name in names[:3]:
            acquired.add_nonce(name)
        if code == "EIO":
            with pytest.raises(OSError, match="refused"):
                acquired.add_nonce(names[3])
            assert self.is_right(Path(acquired.path(names[0])))
            return
        for name in names[3:]:
            acquired.add_nonce(name)
            assert self.is_right(Path(acquired.path(name)))
        assert not os.path.exists(acquired.path(names[0]))
        other, most = store.acquire(environment), 0
        with pytest.raises(StoreError, match=f"^{acquired.path()} has too many names, and a running build"):
            acquired.add_nonce("11111111")
        other.release()
        acquired.release()

    def test_a_second_name_waits_for_who_gives_another(self, store: Store, environment: Environment) -> None:
        put(store, environment)
        give = functools.partial(add_nonce, store, environment.digest, self.NONCE)
        assert waits_for(store.environments, fcntl.LOCK_SH, give)

    @pytest.mark.parametrize("gone", [False, True])
    def test_a_second_name_goes_with_its_entry(
        self, gone: bool, store: Store, environment: Environment
    ) -> None:
        self.second(store, environment)
        os.mkdir(store.path("digest", "kept"))  # something else
        if gone:
            store.discard(store.path(environment.digest))
            prune.prune(store, None)
        else:
            assert prune.clear(store) == []
        assert os.listdir(store.environments) == ["digest-kept"]

    def test_a_use_is_noted_without_a_flag_for_links(
        self, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "O_NOFOLLOW")
        for _ in range(2):
            use(store, environment)
        assert Path(store.path(environment.digest), USES).read_bytes() == b".."

    def test_an_entry_is_held_from_its_first_moment_on(self, store: Store, environment: Environment) -> None:
        held = store._put(environment)
        assert prune.clear(Store(store.root)) == [environment.digest]
        close(held)
        assert prune.clear(Store(store.root)) == []

    def test_a_new_entry_is_waited_for_while_a_scanner_reads_it(
        self, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rename(source: str, target: str) -> None:
            refused.append(target)
            if len(refused) < 100:
                error = PermissionError(errno.EACCES, "Access is denied")
                error.winerror = 5  # type: ignore[attr-defined]
                raise error
            os.rename(source, target)

        refused: list[str] = []
        monkeypatch.setattr(files, "os", SimpleNamespace(**{**vars(os), "name": "nt", "rename": rename}))
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        put(store, environment)
        assert is_whole(store, environment)

    def test_an_interpreters_hash_is_remembered(self, store: Store, environment: Environment) -> None:
        for _ in range(2):
            assert len(store.hash_file(sys.executable)) == 64

    def test_an_entrys_mode_says_nothing(self, store: Store, environment: Environment) -> None:
        put(store, environment)
        os.chmod(store.path(environment.digest), 0o755)
        assert is_whole(store, environment)

    def test_a_folder_whose_path_is_too_long_is_refused(
        self, tmp_path: Path, environment: Environment
    ) -> None:
        """Windows starts no program whose path has 260 characters or more."""
        used = len(f"/environments/{'0' * 32}-{'0' * 8}/bin/python")
        room = 259 - used - len(str(tmp_path)) - 1
        assert Store(str(tmp_path / ("x" * room))).root
        with pytest.raises(StoreError, match="too long") as found:
            Store(str(tmp_path / ("x" * (room + 1))))
        assert found.value.hint == "set PYO3_ENVSHIM_CACHE_DIR to a shorter one"

    def test_the_store_is_where_cargo_sees_it(self, tmp_path: Path, environment: Environment) -> None:
        """What Microsoft Store's Python makes below AppData lies in its package's folder."""
        (tmp_path / "LocalCache").mkdir()
        (tmp_path / "Local").symlink_to("LocalCache")
        store = Store.open({"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path / "Local" / "cache")})
        assert store.root == os.path.realpath(tmp_path / "LocalCache" / "cache")

    def test_there_is_no_other_folder_than_the_users(self, tmp_path: Path, environment: Environment) -> None:
        (tmp_path / ".cache").touch()
        with pytest.raises((OSError, StoreError)):
            Store.open({"HOME": str(tmp_path), "TMPDIR": str(tmp_path)})


class TestTrust:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_only_the_user_can_enter(self, umask: int, tmp_path: Path) -> None:
        before = os.umask(umask)
        try:
            store = Store(str(tmp_path / "new" / "store"))
        finally:
            os.umask(before)
        for path in (store.root, store.environments, store.interpreters):
            assert os.stat(path).st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_an_entry_is_the_same_under_each_umask(
        self, umask: int, store: Store, sample: SampleWheels
    ) -> None:
        root = sample.environment()
        (root / "share" / "tiny" / "shared.txt").chmod(0o700)
        (site_packages(root) / "tiny" / "data.txt").chmod(0o600)
        before = os.umask(umask)
        try:
            environment, entry = stored(store, root)
        finally:
            os.umask(before)
        assert is_whole(store, environment)
        assert os.stat(entry).st_mode & 0o777 == 0o700
        modes = {stat.S_IMODE(path.lstat().st_mode) for path in entry.rglob("*") if not path.is_symlink()}
        assert modes == {0o644, 0o755}
        assert stat.S_IMODE((entry / MANIFEST).stat().st_mode) == 0o644
        assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"

    def test_a_use_is_noted_by_the_user_alone_and_not_behind_a_link(
        self, tmp_path: Path, store: Store, small: Environment
    ) -> None:
        use(store, small)
        note = Path(store.path(small.digest), USES)
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        (tmp_path / "elsewhere").touch()
        note.unlink()
        note.symlink_to(tmp_path / "elsewhere")
        assert use(store, small) == (False, None)
        assert (tmp_path / "elsewhere").read_bytes() == b""

    @pytest.mark.parametrize("part", ["", "environments", "interpreters"])
    @pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
    def test_a_folder_that_others_can_write_to_is_refused(self, part: str, mode: int, tmp_path: Path) -> None:
        Store(str(tmp_path / "store"))
        open_to_others = tmp_path / "store" / part
        open_to_others.chmod(mode)
        with pytest.raises(StoreError, match=f"^{open_to_others} can be written by others"):
            Store(str(tmp_path / "store"))

    def test_a_folder_that_others_can_read_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir(0o755)
        Store(str(tmp_path / "store"))

    def test_a_folder_of_another_user_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "store").mkdir(0o700)
        monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
        with pytest.raises(StoreError, match="another user"):
            Store(str(tmp_path / "store"))

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "store").write_text("a file")
        with pytest.raises((OSError, StoreError)):
            Store(str(tmp_path / "store"))


class TestARememberedHash:
    def test_is_the_files(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        for _ in range(2):
            assert store.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()

    def test_is_not_computed_again(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        real = store.hash_file(str(path))
        (note,) = Path(store.interpreters).iterdir()
        note.write_text(note.read_text().replace(real, "0" * 64))
        assert Store(store.root).hash_file(str(path)) == "0" * 64

    def test_is_forgotten_when_the_file_changes_whatever_its_times_say(
        self, store: Store, tmp_path: Path
    ) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        store.hash_file(str(path))
        in_place(path, b"two")
        assert store.hash_file(str(path)) == hashlib.sha256(b"two").hexdigest()

    def test_is_forgotten_when_another_file_takes_its_place(self, store: Store, tmp_path: Path) -> None:
        for name, data in (("interpreter", b"one"), ("new", b"two")):
            (tmp_path / name).write_bytes(data)
            os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
        store.hash_file(str(tmp_path / "interpreter"))
        (tmp_path / "new").replace(tmp_path / "interpreter")
        assert store.hash_file(str(tmp_path / "interpreter")) == hashlib.sha256(b"two").hexdigest()

    @pytest.mark.parametrize(
        "note", [b"", b"garbage", b"\xff\xfe", b"STATE", b"STATE short", b"STATE " + "\u00fc".encode() * 64]
    )
    def test_that_cannot_be_read_is_computed_again(self, note: bytes, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        store.hash_file(str(path))
        (kept,) = Path(store.interpreters).iterdir()
        state = kept.read_bytes().partition(b" ")[0]
        kept.write_bytes(note.replace(b"STATE", state))
        assert store.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()

    def test_that_cannot_be_kept_is_computed_all_the_same(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(os, "replace", refuse)
        assert store.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()
        assert os.listdir(store.interpreters) == []

    def test_of_a_file_that_is_not_there_is_an_error(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            store.hash_file(str(tmp_path / "gone"))


class TestTheFolder:
    def test_is_the_one_that_was_asked_for(self, tmp_path: Path) -> None:
        assert folder({"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path)}) == str(tmp_path)

    @pytest.mark.parametrize("value", ["cache", "./cache", "~/cache"])
    def test_that_was_asked_for_must_not_depend_on_the_working_folder(self, value: str) -> None:
        """That of a build is the project, or where an sdist was unpacked."""
        with pytest.raises(StoreError, match=f"^PYO3_ENVSHIM_CACHE_DIR={value} depends on the working"):
            Store.open({"PYO3_ENVSHIM_CACHE_DIR": value})

    def test_in_use_is_the_one_that_was_asked_for_though_it_cannot_be_used(self, tmp_path: Path) -> None:
        for name in ("cache", "file"):
            (tmp_path / "file").touch()
            environ = {"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path / name), "TMPDIR": str(tmp_path)}
            assert folder_in_use(environ) == str(tmp_path / name)
        for name in (".cache", f"pyo3-envshim-{getattr(os, 'geteuid', int)()}"):
            (tmp_path / name).touch()
        environ = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        assert folder_in_use(environ) == folder(environ)

    def test_says_why_the_users_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        (tmp_path / ".cache").touch()
        why = Store.open({"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}).instead_of
        assert why is not None
        reason = f"{tmp_path}/.cache/pyo3-envshim cannot be made: Not a directory"
        assert (why.text, why.hint) == (reason, HINT)

    def test_is_one_in_which_programs_can_be_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A build script may start what its requirements have brought: a home may be mounted with noexec."""
        here = str(tmp_path / "home")
        environ = {"HOME": here, "PYO3_ENVSHIM_CACHE_DIR": "", "TMPDIR": str(tmp_path)}
        monkeypatch.setattr(files, "starts_programs", lambda path: not path.startswith(here))
        store = Store.open(environ)
        assert store.root == str(tmp_path / f"pyo3-envshim-{os.geteuid()}")
        assert store.instead_of is not None
        why = f"no program can be started in {folder(environ)} (noexec)"
        assert (store.instead_of.text, store.instead_of.hint) == (
            why,
            "set PYO3_ENVSHIM_CACHE_DIR to another folder",
        )
        with pytest.raises(StoreError, match=rf"^no program can be started in {here}/x \(noexec\); set "):
            Store.open({**environ, "PYO3_ENVSHIM_CACHE_DIR": f"{here}/x"})
        monkeypatch.setattr(files, "starts_programs", lambda path: False)
        with pytest.raises(StoreError, match=rf"^no program can be started in {here}/"):
            Store.open(environ)

    def test_is_seen_though_no_build_uses_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise nothing could clear it. By default it is that of the builds, wherever that is."""
        monkeypatch.setattr(files, "starts_programs", lambda path: not path.startswith(f"{tmp_path}/home"))
        environ = {"HOME": f"{tmp_path}/home", "TMPDIR": str(tmp_path)}
        assert open_store(environ).root == spare_folder(environ)
        environ["PYO3_ENVSHIM_CACHE_DIR"] = f"{tmp_path}/home/x"
        assert open_store(environ).root == f"{tmp_path}/home/x"

    def test_that_was_asked_for_is_used_by_that_name(self, tmp_path: Path) -> None:
        """On Windows, one in a package's folder is used by its own."""
        (tmp_path / "LocalCache").mkdir()
        (tmp_path / "link").symlink_to("LocalCache")
        assert Store.open({"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path / "link")}).root == str(tmp_path / "link")

    def test_is_the_users_where_none_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        the_users = platformdirs.user_cache_dir("pyo3-envshim", appauthor=False)
        assert folder({"PYO3_ENVSHIM_CACHE_DIR": ""}) == folder({}) == the_users

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere it lies elsewhere")
    def test_is_below_the_home_that_the_variables_name(self) -> None:
        assert folder({"HOME": "/home/me"}) == "/home/me/.cache/pyo3-envshim"

    @pytest.mark.parametrize(
        "value", [None, "", " ", "/xdg", "relative", "./here", "~", "~/cache", "/a/../b", "/with space"]
    )
    def test_is_always_absolute(self, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        environ = {} if value is None else {"XDG_CACHE_HOME": value}
        assert os.path.isabs(folder(environ))
