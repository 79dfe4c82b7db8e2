"""The store on Windows: what was changed is noticed, what is in use stays, and what is not goes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyo3_envshim import files, sources
from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.store import prune
from pyo3_envshim.store.store import Store, StoreError
from unit.entries import damage, is_whole, put, small_environment, use
from unit.environments import ROOT, started_together

_PROCESS = """\
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from pyo3_envshim.store.store import Store
from unit.entries import small_environment
environment = small_environment(Path({folder!r}))
store = Store({root!r})
print("ready", flush=True)
sys.stdin.readline()
{then}
"""


def processes(count: int, store: Store, folder: Path, then: str) -> list[subprocess.Popen[str]]:
    """Start processes that do *then* at once, with `store` and `environment`."""
    paths = [str(ROOT), str(ROOT / "tests")]
    code = _PROCESS.format(paths=paths, folder=str(folder), root=store.root, then=then)
    return started_together([[sys.executable, "-c", code]] * count)


def change(path: Path) -> None:
    """Change a file in place: its size and times stay."""
    before = path.stat()
    with open(path, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def put_another(path: Path) -> None:
    """Put another file in the place of one, with its size and times."""
    before, content = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    path.with_name("added.py").touch()


CHANGES = pytest.mark.parametrize("how", [change, put_another, remove, add])


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Return an interpreter, and a module that is not empty."""
    (tmp_path / "module.py").write_text("one")
    return small_environment(tmp_path)


class TestAChangedFile:
    """Fault 4: `st_ctime` is the time of creation there."""

    @CHANGES
    def test_of_an_entry_is_noticed(
        self, how: Callable[[Path], None], store: Store, environment: Environment
    ) -> None:
        put(store, environment)
        assert is_whole(store, environment)
        how(Path(store.path(environment.digest), "module.py"))
        assert damage(store, environment)
        assert use(store, environment)[0]
        assert is_whole(store, environment)

    @pytest.mark.parametrize("how", [change, put_another])
    def test_of_the_sources_has_another_state(self, how: Callable[[Path], None], tmp_path: Path) -> None:
        source = tmp_path / "crate" / "lib.rs"
        source.parent.mkdir()
        source.write_text("fn one() {}")
        states = []
        for _ in range(2):
            listing = sources.Listing([], [str(source.parent)])
            listing.add(str(source.parent))
            states.append({path: it.state for path, it in listing.found.items()})
            how(source)
        assert states[0].keys() == states[1].keys()
        assert states[0] != states[1]

    def test_of_an_interpreter_is_read_again(self, store: Store, tmp_path: Path) -> None:
        part = tmp_path / "python312.dll"
        part.write_bytes(b"MZ one")
        before = store.hash_file(str(part))
        assert store.hash_file(str(part)) == before
        change(part)
        assert store.hash_file(str(part)) != before

    def test_is_read_each_time_where_times_of_change_are_not_kept(
        self, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on FAT and exFAT."""
        monkeypatch.setattr(files, "change_time", lambda path, found: None)
        put(store, environment)
        assert is_whole(store, environment)
        change(Path(store.path(environment.digest), "module.py"))
        assert damage(store, environment) == "changed file module.py"


class TestASecondName:
    """Fault 3: a folder, because a symbolic link takes a right there that few have."""

    def path(self, store: Store, environment: Environment) -> Path:
        """Use the entry by a second name; return that."""
        acquired = store.acquire(environment)
        try:
            acquired.add_nonce("0123abcd")
        finally:
            acquired.release()
        return Path(acquired.path("0123abcd"))

    def contents(self, path: Path) -> dict[str, bytes]:
        found = (it for it in path.rglob("*") if it.is_file() and not it.name.startswith(".manifest"))
        return {str(it.relative_to(path)): it.read_bytes() for it in found}

    def test_has_the_entrys_files(self, store: Store, environment: Environment) -> None:
        second = self.path(store, environment)
        (program,) = second.glob("Scripts/python.exe")
        assert program.samefile(Path(store.path(environment.digest), "Scripts", "python.exe"))
        assert self.path(store, environment) == second
        assert sorted(os.listdir(store.environments)) == [".locks", second.name[:32], second.name]

    @CHANGES
    def test_is_made_anew_if_something_in_it_was_changed(
        self, how: Callable[[Path], None], store: Store, environment: Environment
    ) -> None:
        second = self.path(store, environment)
        right = self.contents(second)
        how(second / "module.py")
        assert self.contents(self.path(store, environment)) == right

    @CHANGES
    def test_is_made_anew_with_an_entry_that_was_changed(
        self, how: Callable[[Path], None], store: Store, environment: Environment
    ) -> None:
        second = self.path(store, environment)
        right = self.contents(second)
        how(Path(store.path(environment.digest), "module.py"))
        assert self.contents(self.path(store, environment)) == right

    def test_that_a_running_build_uses_is_not_replaced(self, store: Store, environment: Environment) -> None:
        second = self.path(store, environment)
        other = store.acquire(environment)
        (second / "added.py").touch()
        with pytest.raises(StoreError, match="a running build uses it"):
            self.path(store, environment)
        other.release()
        self.path(store, environment)
        assert not (second / "added.py").exists()

    def test_takes_the_place_of_others_where_a_file_has_as_many_as_it_may_have(
        self, store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On NTFS 1024, of which each new workspace takes one."""
        link = os.link

        def refuse(source: str, target: str) -> None:
            if os.stat(source).st_nlink > 3:
                error = OSError(22, "An attempt was made to create more links than the file system supports")
                error.winerror = 1142  # type: ignore[attr-defined]
                raise error
            link(source, target)

        monkeypatch.setattr(os, "link", refuse)
        acquired = store.acquire(environment)
        for number in range(6):
            acquired.add_nonce(f"0000000{number}")
            assert Path(acquired.path(f"0000000{number}"), "module.py").exists()
        acquired.release()
        assert is_whole(store, environment)
        assert not [name for name in os.listdir(store.environments) if name.startswith((".new", ".old"))]

    def test_goes_with_its_entry(self, store: Store, environment: Environment) -> None:
        self.path(store, environment)
        assert prune.clear(store) == []
        assert os.listdir(store.environments) == [".locks"]

    def test_of_an_entry_that_is_gone_is_swept(self, store: Store, environment: Environment) -> None:
        self.path(store, environment)
        store.discard(store.path(environment.digest))
        prune.prune(store, None)
        assert os.listdir(store.environments) == [".locks"]


class TestLocks:
    """Fault 5."""

    def test_keep_what_another_process_uses(
        self, store: Store, environment: Environment, tmp_path: Path
    ) -> None:
        then = 'used = store.acquire(environment)\nprint("used", flush=True)\nsys.stdin.readline()'
        (holder,) = processes(1, store, tmp_path, then)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "used\n"
        assert prune.clear(store) == [environment.digest]
        holder.kill()
        holder.communicate()
        assert prune.clear(store) == []

    def test_let_the_store_be_pruned(self, store: Store, environment: Environment) -> None:
        use(store, environment)
        assert prune.prune(store, 0) == [environment.digest]

    def test_sweep_what_was_left_half_made(self, store: Store) -> None:
        for name in (".new-1", ".old-1"):
            Path(store.environments, name).mkdir()
        prune.prune(store, None)
        assert [name for name in os.listdir(store.environments) if name != ".locks"] == []


class TestManyAtOnce:
    """Fault 6."""

    @pytest.mark.parametrize("damaged", [False, True], ids=["new", "damaged"])
    def test_all_get_the_entry(
        self, damaged: bool, store: Store, environment: Environment, tmp_path: Path
    ) -> None:
        if damaged:
            put(store, environment)
            change(Path(store.path(environment.digest), "module.py"))
        then = "used = store.acquire(environment)\nused.add_nonce('0123abcd')\nused.release()\nprint('done')"
        running = processes(8, store, tmp_path, then)
        told = [process.communicate() for process in running]
        assert told == [("done\n", "")] * 8
        assert is_whole(store, environment)

    def test_a_file_that_is_open_for_a_moment_is_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a virus scanner has it; Windows refuses to rename the folder, too, which Wine does not."""
        target = tmp_path / "target"
        target.touch()
        code = "import sys; file = open(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()"
        pipe = subprocess.PIPE
        holder = subprocess.Popen([sys.executable, "-c", code, str(target)], stdin=pipe, stdout=pipe)
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        monkeypatch.setattr(time, "sleep", lambda seconds: holder.communicate(b"\n"))
        files.replace(str(target), b"new")
        assert target.read_bytes() == b"new"


def test_a_damaged_entry_whose_python_runs_is_replaced_or_left_alone(
    store: Store, environment: Environment, a_python: str
) -> None:
    """Windows does not rename a folder with a running program in it, and Wine does."""
    use(store, environment)
    python = Path(store.path(environment.digest), "Scripts", "python.exe")
    (python.parents[1] / "pyvenv.cfg").write_text(f"home = {os.path.dirname(a_python)}\n")
    pipe = subprocess.PIPE
    running = subprocess.Popen([str(python), "-c", "input()"], stdin=pipe, stdout=pipe, text=True)
    with contextlib.suppress(StoreError):
        use(store, environment)
        assert is_whole(store, environment)
    running.communicate("\n")
    use(store, environment)
    assert is_whole(store, environment)


def test_a_folder_whose_path_is_too_long_is_refused(tmp_path: Path) -> None:
    """Fault 12: Windows starts no program whose path has 260 characters or more."""
    used = len(r"\environments\0123456789abcdef0123456789abcdef-01234567\Scripts\python.exe")
    room = 259 - used - len(str(tmp_path)) - 1
    assert Store(str(tmp_path / ("x" * room))).root
    with pytest.raises(StoreError, match="too long") as found:
        Store(str(tmp_path / ("x" * (room + 1))))
    assert found.value.hint == "set PYO3_ENVSHIM_CACHE_DIR to a shorter one"
