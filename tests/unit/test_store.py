"""The store: entries that run, and stay whole, whoever races, tampers or refuses a hard link."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from pyo3_envshim import contents, store, upkeep
from pyo3_envshim.environments import Environment, Item, NotStorable
from pyo3_envshim.store import Store, StoreError

from .kit import Kit, read, sha256_of
from .making import ROOT, Shared, run, script, site_packages, started_together, tree

PREFIX = "import sys; print(sys.prefix)"


def stored(place: Store, root: Path) -> tuple[Environment, Path]:
    """Store the environment at *root*; return it, and its entry."""
    environment = read(root)
    place.put(environment)
    assert place.get(environment)
    return environment, Path(place.address(environment.digest))


@pytest.fixture
def small(tmp_path: Path) -> Environment:
    """Return the least that can be stored, for where it matters only who does what, and when."""
    source = tmp_path / "module.py"
    source.touch()
    items = [
        Item("bin/python", "", target=sys.executable),
        Item("module.py", sha256_of(str(source)), source=str(source)),
    ]
    return Environment(sys.executable, items, "0" * 32)


class TestAnEntry:
    def test_is_there_after_it_was_put(self, place: Store, kit: Kit) -> None:
        environment = read(kit.environment())
        assert not place.get(environment)
        place.put(environment)
        assert place.get(environment)

    def test_is_found_by_an_equal_environment_elsewhere(self, place: Store, kit: Kit) -> None:
        stored(place, kit.environment("one"))
        assert place.get(read(kit.environment("two", maker="venv", installer="pip")))

    def test_is_not_found_by_a_different_one(self, place: Store, kit: Kit) -> None:
        stored(place, kit.environment("one", "tiny"))
        assert not place.get(read(kit.environment("two", "other")))

    def test_is_an_environment(self, shared: Shared, python: str, place: Store, kit: Kit) -> None:
        kit.python = python
        _, entry = stored(place, kit.environment())
        code = "import sys; print(sys.prefix, sys.base_prefix != sys.prefix)"
        assert run([entry / "bin" / "python", "-c", code], {}) == f"{entry} True\n"

    def test_has_the_modules_the_original_has(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        code = "import tiny, other; print(tiny.__file__)"
        assert (
            run([entry / "bin" / "python", "-Bc", code], {}) == f"{site_packages(entry)}/tiny/__init__.py\n"
        )

    def test_has_the_distributions_the_original_has(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        code = (
            "from importlib import metadata as m;"
            " print(sorted((d.name, d.version) for d in m.distributions()))"
        )
        assert run([entry / "bin" / "python", "-Bc", code], {}) == "[('other', '1'), ('tiny', '1')]\n"
        code = (
            "from importlib import metadata as m;"
            " print([f for d in m.distributions() for f in d.files if not f.locate().exists()])"
        )
        assert run([entry / "bin" / "python", "-Bc", code], {}) == "[]\n"

    def test_has_the_configuration_the_original_has(self, place: Store, kit: Kit) -> None:
        """`sysconfig`, `sys.path` and the base are the original's, but for the path of the environment."""
        code = (
            "import sys, sysconfig; print(sys.path, sys.base_prefix, sys.base_exec_prefix, sys.flags,"
            " sorted(sysconfig.get_paths().items()), sysconfig.get_config_vars('INCLUDEPY', 'LIBDIR'))"
        )
        root = kit.environment()
        _, entry = stored(place, root)
        of_original = run([root / "bin" / "python", "-c", code], {})
        assert run([entry / "bin" / "python", "-c", code], {}) == of_original.replace(str(root), str(entry))

    def test_runs_its_scripts(self, place: Store, kit: Kit) -> None:
        _, entry = stored(place, kit.environment())
        assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"
        assert run([entry / "bin" / "tool"], {}) == f"tool in {entry}\n"

    @pytest.mark.parametrize("name", ["with space", "long" * 60])
    def test_runs_its_scripts_wherever_the_store_is(self, name: str, tmp_path: Path, kit: Kit) -> None:
        """A first line of a script can hold no space, and no more than 127 or 255 bytes."""
        root = kit.environment()
        _, entry = stored(Store(str(tmp_path / name)), root)
        assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"
        assert run([entry / "bin" / "tool"], {}) == f"tool in {entry}\n"
        _, plain = stored(Store(str(tmp_path / "store")), root)
        assert (entry / "pyvenv.cfg").read_bytes() == (plain / "pyvenv.cfg").read_bytes()

    def test_runs_its_scripts_where_a_space_is_in_a_short_path(self, kit: Kit) -> None:
        with tempfile.TemporaryDirectory(prefix="a b") as folder:
            _, entry = stored(Store(folder), kit.environment())
            assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"

    @pytest.mark.parametrize("name", ["store", "with space", "long" * 60])
    def test_runs_its_scripts_with_their_options(self, name: str, tmp_path: Path, kit: Kit) -> None:
        root = kit.environment()
        text = "import sys\nprint('isolated in', sys.prefix, sys.flags.isolated)\n"
        for space in (" ", "  "):
            script(root / "bin" / f"isolated{space}", f"#!{root}/bin/python{space}-I\n{text}")
        _, entry = stored(Store(str(tmp_path / name)), root)
        for space in (" ", "  "):
            assert run([entry / "bin" / f"isolated{space}"], {}) == f"isolated in {entry} 1\n"

    def test_works_without_the_original(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        shutil.rmtree(root)
        assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"
        assert (site_packages(entry) / "tiny" / "include" / "tiny.h").read_text() == "#define TINY 1\n"
        assert not [path for path in entry.rglob("*") if path.is_symlink() and not path.exists()]

    def test_names_the_original_nowhere(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        for name, content in tree(entry).items():
            data = content if isinstance(content, bytes) else os.fsencode(content)
            assert os.fsencode(root) not in data, name

    def test_holds_no_byte_code(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        run([root / "bin" / "python", "-m", "compileall", "-q", site_packages(root)], {})
        _, entry = stored(place, root)
        assert not list(entry.rglob("*.pyc"))

    def test_is_not_changed_by_the_byte_code_that_its_use_leaves(self, place: Store, kit: Kit) -> None:
        environment, entry = stored(place, kit.environment())
        run([entry / "bin" / "python", "-c", "import tiny"], {})
        assert list(entry.rglob("*.pyc"))
        assert place.get(environment)

    def test_may_hold_names_that_are_not_utf_8(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        name = os.fsdecode(b"x\xff.txt")
        (site_packages(root) / name).write_text("odd\n")
        _, entry = stored(place, root)
        assert (site_packages(entry) / name).read_text() == "odd\n"

    @pytest.mark.parametrize(
        "name", ["with space", " ", "with\nline", "\n", "with\rreturn", "with\u2028separator"]
    )
    def test_may_hold_names_with_white_space(self, name: str, place: Store, kit: Kit) -> None:
        root = kit.environment()
        (site_packages(root) / name).write_text("odd\n")
        try:
            environment = read(root)
        except NotStorable:
            return
        place.put(environment)
        assert place.get(environment)

    def test_may_hold_a_name_that_begins_with_a_space(self, place: Store, small: Environment) -> None:
        small.items.append(Item(" x", "", text=b""))
        place.put(small)
        assert place.get(small)

    def test_keeps_what_can_be_run_and_what_can_not(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        (root / "share" / "tiny" / "shared.txt").chmod(0o755)
        _, entry = stored(place, root)
        assert os.access(entry / "share" / "tiny" / "shared.txt", os.X_OK)
        assert not (site_packages(entry) / "tiny" / "data.txt").stat().st_mode & 0o111


class TestTheOriginal:
    def test_is_not_written_to(self, place: Store, kit: Kit) -> None:
        root = kit.environment()

        def state() -> dict[str, object]:
            paths = [root, *root.rglob("*")]
            return {str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in paths}

        before = (tree(root), state())
        stored(place, root)
        assert (tree(root), state()) == before

    def test_shares_its_files_with_the_entry(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        assert (site_packages(root) / "tiny" / "data.txt").samefile(
            site_packages(entry) / "tiny" / "data.txt"
        )

    def test_does_not_share_what_is_written_anew(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        _, entry = stored(place, root)
        for name in ("bin/hello", "bin/tool", "pyvenv.cfg"):
            assert not (root / name).samefile(entry / name)

    @pytest.mark.parametrize(
        "code", ["EXDEV", "EMLINK", "EPERM", "EACCES", "ENOTSUP", "ENOSYS"], ids=lambda code: str(code)
    )
    def test_is_copied_where_a_hard_link_is_refused(
        self, code: str, place: Store, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = kit.environment()

        def refuse(*_: object, **__: object) -> None:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

        monkeypatch.setattr(os, "link", refuse)
        _, entry = stored(place, root)
        assert not (site_packages(root) / "tiny" / "data.txt").samefile(
            site_packages(entry) / "tiny" / "data.txt"
        )
        assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"

    def test_has_its_entry_copied_with_the_right_modes(
        self, place: Store, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        def with_modes(name: str) -> Path:
            root = kit.environment(name)
            (root / "share" / "tiny" / "shared.txt").chmod(0o755)
            (site_packages(root) / "tiny" / "data.txt").chmod(0o400)
            return root

        monkeypatch.setattr(os, "link", refuse)
        first = with_modes("first")
        _, entry = stored(place, first)
        shutil.rmtree(first)
        assert os.access(entry / "share" / "tiny" / "shared.txt", os.X_OK)
        assert not (site_packages(entry) / "tiny" / "data.txt").stat().st_mode & 0o111
        assert place.get(read(with_modes("second")))


class TestPuttingFails:
    @pytest.mark.parametrize("call", ["link", "symlink", "makedirs", "rename", "mkdir"])
    def test_with_the_error_and_leaves_nothing_behind(
        self, call: str, place: Store, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = read(kit.environment())

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(OSError, match="No space left"):
                place.put(environment)
        assert os.listdir(place.environments) == []
        place.put(environment)
        assert place.get(environment)

    @pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("gone")])
    def test_not_where_something_else_lies_in_its_place(
        self, make: Callable[[Path], object], place: Store, small: Environment
    ) -> None:
        make(Path(place.address(small.digest)))
        assert place.damage(small) == "it is not a folder"
        place.put(small)
        assert place.get(small)

    def test_not_where_what_was_in_its_place_cannot_be_removed(
        self, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        place.put(small)
        Path(place.address(small.digest), "added").touch()
        with monkeypatch.context() as patched:
            patched.setattr(os, "rmdir", refuse)
            place.put(small)
        assert place.get(small)
        assert len(os.listdir(place.environments)) == 2
        upkeep.prune(place, None)
        assert os.listdir(place.environments) == [small.digest]


def in_place(path: Path, data: bytes) -> None:
    """Write to the same inode, and put the times back."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def half(path: Path) -> None:
    in_place(path, path.read_bytes()[: path.stat().st_size // 2])


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "x").touch()


def empty(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def move_out(folder: Path, elsewhere: Path) -> None:
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def rewrite(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


TAMPERING: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda entry: in_place(site_packages(entry) / "tiny" / "data.txt", b"evil\n"),
    "a replaced file": lambda entry: rewrite(site_packages(entry) / "other.py", "VERSION = 9\n"),
    "a changed script": lambda entry: in_place(entry / "bin" / "hello", b"#!/bin/sh\n"),
    "a changed configuration": lambda entry: in_place(entry / "pyvenv.cfg", b"home = /usr/bin\n"),
    "a removed file": lambda entry: (site_packages(entry) / "other.py").unlink(),
    "an added file": lambda entry: (site_packages(entry) / "added.py").write_text("x = 1\n"),
    "an added file in an added folder": lambda entry: fill(entry / "added"),
    "an added link": lambda entry: (entry / "bin" / "cc").symlink_to("/bin/false"),
    "a script that lost its mode": lambda entry: (entry / "bin" / "hello").chmod(0o644),
    "a file that gained a mode": lambda entry: (site_packages(entry) / "other.py").chmod(0o755),
    "no interpreter": lambda entry: (entry / "bin" / "python").unlink(),
    "a broken interpreter": lambda entry: relink(entry / "bin" / "python", "/gone/python"),
    "another interpreter": lambda entry: relink(entry / "bin" / "python", "/bin/sh"),
    "another second name of the interpreter": lambda entry: relink(entry / "bin" / "python3", "/bin/sh"),
    "a link instead of a file": lambda entry: relink(site_packages(entry) / "other.py", "/etc/hostname"),
    "a file instead of a link": lambda entry: rewrite(entry / "bin" / "python3", "link python"),
    "a pipe instead of a file": lambda entry: replace_by_a_pipe(site_packages(entry) / "other.py"),
    "a link instead of a folder": lambda entry: move_out(
        site_packages(entry) / "tiny" / "include", entry.parents[1] / "elsewhere"
    ),
    "no manifest": lambda entry: (entry / contents.MANIFEST).unlink(),
    "an empty manifest": lambda entry: in_place(entry / contents.MANIFEST, b""),
    "half a manifest": lambda entry: half(entry / contents.MANIFEST),
    "a manifest that is no text": lambda entry: in_place(entry / contents.MANIFEST, b"\xff\0\n\n \n"),
    "nothing in it": empty,
}


class TestTampering:
    @pytest.mark.parametrize("what", TAMPERING)
    def test_is_noticed_and_mended(self, what: str, place: Store, kit: Kit) -> None:
        first = kit.environment("first")
        _, entry = stored(place, first)
        whole = tree(entry)
        whole.pop(contents.MANIFEST)
        shutil.rmtree(first)
        TAMPERING[what](entry)
        environment = read(kit.environment("second"))
        assert not place.get(environment)
        place.put(environment)
        assert place.get(environment)
        mended = tree(entry)
        mended.pop(contents.MANIFEST)
        assert mended == whole
        assert os.listdir(place.environments) == [environment.digest]

    def test_with_the_manifest_is_told(self, place: Store, small: Environment, kit: Kit) -> None:
        _, other = stored(place, kit.environment())
        place.put(small)
        entry = Path(place.address(small.digest))
        (entry / contents.MANIFEST).unlink()
        assert place.damage(small) == "it has no manifest"
        shutil.rmtree(entry)
        other.rename(entry)
        assert place.damage(small) == "its manifest is another's"
        assert place.use(small) == (False, "its manifest is another's")
        assert place.get(small)

    def test_with_the_folders_mode_is_mended_too(self, place: Store, small: Environment) -> None:
        place.put(small)
        os.chmod(place.address(small.digest), 0o755)
        assert place.use(small) == (False, "its owner or mode has changed")
        assert place.use(small) == (True, None)

    def test_may_be_whatever_cannot_be_looked_at(self, place: Store, small: Environment) -> None:
        source = small.items[1].source
        assert source is not None
        place.put(small)
        os.utime(source)
        os.unlink(source)
        assert place.damage(small) == f"[Errno 2] No such file or directory: {source!r}"

    def test_that_cannot_be_mended_is_told_with_what_was_in_the_way(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        environment, entry = stored(place, root)
        (entry / "pyvenv.cfg").unlink()
        shutil.rmtree(root)
        with pytest.raises(StoreError, match=r"missing file pyvenv\.cfg.* was not replaced: .*No such file"):
            place.use(environment)

    def test_is_not_taken_for_what_only_changes_times(self, place: Store, kit: Kit) -> None:
        environment, entry = stored(place, kit.environment())
        for path in entry.rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
        assert place.get(environment)
        for name, (state, _) in contents.read_manifest(str(entry)).items():  # or it is read again each time
            assert state == contents.state_of((entry / name).lstat())

    def test_is_not_taken_for_what_others_may_do(self, place: Store, small: Environment) -> None:
        place.put(small)
        module = Path(place.address(small.digest), "module.py")
        rewrite(module, "")
        module.chmod(0o645)
        assert place.get(small)

    def test_is_noticed_after_times_changed_too(self, place: Store, kit: Kit) -> None:
        """What is remembered of a file that was read again is its state then."""
        first = kit.environment("first")
        _, entry = stored(place, first)
        shutil.rmtree(first)
        second = read(kit.environment("second"))
        assert place.get(second)
        in_place(site_packages(entry) / "tiny" / "data.txt", b"evil\n")
        assert not place.get(second)

    def test_of_the_original_after_it_was_read_does_not_reach_the_store_unseen(
        self, place: Store, kit: Kit
    ) -> None:
        """The entry and the original are one file under two names."""
        root = kit.environment()
        environment, _ = stored(place, root)
        in_place(site_packages(root) / "tiny" / "data.txt", b"evil\n")
        again = read(root)
        assert again.digest != environment.digest
        assert not place.get(again)
        shutil.rmtree(root)
        assert not place.get(read(kit.environment("second")))


_RACER = """\
import sys
sys.path.insert(0, {root!r})
from pyo3_envshim import environments, store
place = store.Store(sys.argv[2])
environment = environments.read(sys.argv[1], {{}}, place.hash_file)
print("ready", flush=True)
sys.stdin.readline()
place.put(environment)
print(place.get(environment), environment.digest)
"""


@pytest.mark.parametrize("tampered", [False, True], ids=["new", "tampered"])
def test_processes_that_store_the_same_at_once_all_succeed(
    tampered: bool, place: Store, kit: Kit, tmp_path: Path
) -> None:
    root = kit.environment()
    if tampered:
        other = kit.environment("other")
        _, entry = stored(place, other)
        shutil.rmtree(other)
        (site_packages(entry) / "other.py").unlink()
    command = [sys.executable, "-c", _RACER.format(root=str(ROOT)), str(root), place.root]
    racers = started_together([command] * 8)
    ends = [racer.communicate() for racer in racers]
    digest = read(root).digest
    assert ends == [(f"True {digest}\n", "")] * len(racers)
    assert os.listdir(place.environments) == [digest]


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
        self, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inspect = place._inspect

        def prune_and_inspect(path: str, environment: Environment) -> tuple[int | None, str | None]:
            assert upkeep.prune(Store(place.root), 0) == []
            return inspect(path, environment)

        monkeypatch.setattr(place, "_inspect", prune_and_inspect)
        assert place.use(small) == (False, None)

    def test_is_of_the_entry_of_another_process_that_was_faster(
        self, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = contents.write

        def write_too_late(environment: Environment, new: str, path: str) -> None:
            monkeypatch.setattr(contents, "write", write)
            write(environment, new, path)
            Store(place.root).put(environment)

        before = open_files()
        monkeypatch.setattr(contents, "write", write_too_late)
        assert place.use(small) == (False, None)
        assert os.listdir(place.environments) == [small.digest]
        assert upkeep.prune(Store(place.root), 0) == []
        place.release()
        assert len(open_files()) == len(before)

    @pytest.mark.parametrize("stored_anew", [False, True])
    def test_is_of_what_stands_there_after_it_was_looked_at(
        self, stored_anew: bool, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damage_of = contents.damage_of
        looks = []

        def damage_before(path: str, environment: Environment) -> str | None:
            looks.append(damage_of(path, environment))
            if len(looks) == 1:
                place.discard(path)
                if stored_anew:
                    place.put(small)
            return looks[-1]

        place.put(small)
        monkeypatch.setattr(contents, "damage_of", damage_before)
        before = open_files()
        assert place.use(small) == (stored_anew, None)
        assert looks[0] is None
        assert upkeep.prune(Store(place.root), 0) == []
        place.release()
        assert len(open_files()) == len(before)
        assert upkeep.prune(Store(place.root), 0) == [small.digest]

    @pytest.mark.parametrize("moment", ["os.mkdir", "fcntl.flock"])
    def test_is_of_a_folder_made_anew_where_one_was_swept(
        self, moment: str, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, _, name = moment.partition(".")
        do = getattr(sys.modules[module], name)
        swept: list[str] = []

        def do_and_sweep(*arguments: object) -> None:
            do(*arguments)
            if not swept:
                swept.extend(os.listdir(place.environments))
                os.rmdir(os.path.join(place.environments, swept[0]))

        before = open_files()
        monkeypatch.setattr(moment, do_and_sweep)
        place.put(small)
        assert place.get(small)
        assert swept[0].startswith(".new-")
        assert os.listdir(place.environments) == [small.digest]
        assert len(open_files()) == len(before)

    def test_waits_for_who_takes_the_entry_away(self, place: Store, small: Environment) -> None:
        place.put(small)
        entry = place.address(small.digest)
        assert waits_for(entry, fcntl.LOCK_EX, lambda: place.use(small))
        assert not waits_for(entry, fcntl.LOCK_SH, lambda: place.use(small))

    def test_waits_for_who_mends_another_entry(self, place: Store, small: Environment) -> None:
        place.put(small)
        Path(place.address(small.digest), "added").touch()
        assert waits_for(place.environments, fcntl.LOCK_SH, lambda: place.use(small))

    def test_that_fails_is_an_error_and_leaves_nothing_open(
        self, place: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        place.put(small)
        before = open_files()
        monkeypatch.setattr(fcntl, "flock", fail)
        calls = (place.use, place.put, lambda environment: place.alias(environment.digest, "0a1b2c3d"))
        for call in calls:
            with pytest.raises(OSError, match="Input/output error"):
                call(small)
        assert len(open_files()) == len(before)
        assert os.listdir(place.environments) == [small.digest]


class TestASecondName:
    def test_waits_for_who_sweeps_but_not_for_who_gives_another(self, place: Store) -> None:
        assert waits_for(place.environments, fcntl.LOCK_EX, lambda: place.alias("digest", "0a1b2c3d"))
        assert not waits_for(place.environments, fcntl.LOCK_SH, lambda: place.alias("digest", "11111111"))

    def test_leads_to_the_entry(self, place: Store, kit: Kit) -> None:
        environment, entry = stored(place, kit.environment())
        place.alias(environment.digest, "0a1b2c3d")
        address = place.address(environment.digest, "0a1b2c3d")
        assert address == f"{entry}-0a1b2c3d"
        assert run([Path(address) / "bin" / "python", "-c", PREFIX], {}) == f"{address}\n"

    def test_may_be_given_twice(self, place: Store, kit: Kit) -> None:
        environment, _ = stored(place, kit.environment())
        place.alias(environment.digest, "0a1b2c3d")
        place.alias(environment.digest, "0a1b2c3d")

    def test_is_not_taken_from_something_else(self, place: Store, kit: Kit) -> None:
        environment, _ = stored(place, kit.environment())
        os.symlink("elsewhere", place.address(environment.digest, "0a1b2c3d"))
        os.mkdir(place.address(environment.digest, "11111111"))
        for token in ("0a1b2c3d", "11111111"):
            with pytest.raises(OSError, match=token):
                place.alias(environment.digest, token)

    def test_outlives_a_replacement_of_the_entry(self, place: Store, kit: Kit) -> None:
        root = kit.environment()
        environment, entry = stored(place, root)
        place.alias(environment.digest, "0a1b2c3d")
        (site_packages(entry) / "added.py").touch()
        place.put(environment)
        address = place.address(environment.digest, "0a1b2c3d")
        assert run([Path(address) / "bin" / "python", "-c", "import tiny"], {}) == ""

    def test_without_a_token_is_the_entry_itself(self, place: Store) -> None:
        assert place.address("digest", "") == place.address("digest")


class TestTrust:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_only_the_user_can_enter(self, umask: int, tmp_path: Path) -> None:
        before = os.umask(umask)
        try:
            place = Store(str(tmp_path / "new" / "store"))
        finally:
            os.umask(before)
        for path in (place.root, place.environments, place.interpreters):
            assert os.stat(path).st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_an_entry_is_the_same_under_each_umask(self, umask: int, place: Store, kit: Kit) -> None:
        root = kit.environment()
        (root / "share" / "tiny" / "shared.txt").chmod(0o700)
        (site_packages(root) / "tiny" / "data.txt").chmod(0o600)
        before = os.umask(umask)
        try:
            environment, entry = stored(place, root)
        finally:
            os.umask(before)
        assert place.get(environment)
        assert os.stat(entry).st_mode & 0o777 == 0o700
        modes = {stat.S_IMODE(path.lstat().st_mode) for path in entry.rglob("*") if not path.is_symlink()}
        assert modes == {0o644, 0o755}
        assert stat.S_IMODE((entry / contents.MANIFEST).stat().st_mode) == 0o644
        assert run([entry / "bin" / "hello"], {}) == f"hello from {entry}\n"

    def test_a_use_is_noted_by_the_user_alone_and_not_behind_a_link(
        self, tmp_path: Path, place: Store, small: Environment
    ) -> None:
        place.use(small)
        note = Path(place.address(small.digest), contents.USES)
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        (tmp_path / "elsewhere").touch()
        relink(note, str(tmp_path / "elsewhere"))
        assert place.use(small) == (True, None)
        assert (tmp_path / "elsewhere").read_bytes() == b""

    @pytest.mark.parametrize("folder", ["", "environments", "interpreters"])
    @pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
    def test_a_folder_that_others_can_write_to_is_refused(
        self, folder: str, mode: int, tmp_path: Path
    ) -> None:
        Store(str(tmp_path / "store"))
        open_to_others = tmp_path / "store" / folder
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
    def test_is_the_files(self, place: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        for _ in range(2):
            assert place.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()

    def test_is_not_computed_again(self, place: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        real = place.hash_file(str(path))
        (note,) = Path(place.interpreters).iterdir()
        note.write_text(note.read_text().replace(real, "0" * 64))
        assert Store(place.root).hash_file(str(path)) == "0" * 64

    def test_is_forgotten_when_the_file_changes_whatever_its_times_say(
        self, place: Store, tmp_path: Path
    ) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        place.hash_file(str(path))
        in_place(path, b"two")
        assert place.hash_file(str(path)) == hashlib.sha256(b"two").hexdigest()

    def test_is_forgotten_when_another_file_takes_its_place(self, place: Store, tmp_path: Path) -> None:
        for name, data in (("interpreter", b"one"), ("new", b"two")):
            (tmp_path / name).write_bytes(data)
            os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
        place.hash_file(str(tmp_path / "interpreter"))
        (tmp_path / "new").replace(tmp_path / "interpreter")
        assert place.hash_file(str(tmp_path / "interpreter")) == hashlib.sha256(b"two").hexdigest()

    @pytest.mark.parametrize(
        "note", [b"", b"garbage", b"\xff\xfe", b"STATE", b"STATE short", b"STATE " + "\u00fc".encode() * 64]
    )
    def test_that_cannot_be_read_is_computed_again(self, note: bytes, place: Store, tmp_path: Path) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")
        place.hash_file(str(path))
        (kept,) = Path(place.interpreters).iterdir()
        state = kept.read_bytes().partition(b" ")[0]
        kept.write_bytes(note.replace(b"STATE", state))
        assert place.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()

    def test_that_cannot_be_kept_is_computed_all_the_same(
        self, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "interpreter"
        path.write_bytes(b"one")

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(os, "replace", refuse)
        assert place.hash_file(str(path)) == hashlib.sha256(b"one").hexdigest()
        assert os.listdir(place.interpreters) == []

    def test_of_a_file_that_is_not_there_is_an_error(self, place: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            place.hash_file(str(tmp_path / "gone"))


class TestTheFolder:
    def test_is_the_one_that_was_asked_for(self, tmp_path: Path) -> None:
        assert store.folder({"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path)}) == str(tmp_path)

    def test_that_was_asked_for_may_be_relative_to_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert store.folder({"PYO3_ENVSHIM_CACHE_DIR": "cache"}) == str(tmp_path / "cache")

    def test_is_the_users_where_none_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        the_users = platformdirs.user_cache_dir("pyo3-envshim", appauthor=False)
        assert store.folder({"PYO3_ENVSHIM_CACHE_DIR": ""}) == store.folder({}) == the_users

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere it lies elsewhere")
    def test_is_below_the_home_that_the_variables_name(self) -> None:
        assert store.folder({"HOME": "/home/me"}) == "/home/me/.cache/pyo3-envshim"

    @pytest.mark.parametrize(
        "value", [None, "", " ", "/xdg", "relative", "./here", "~", "~/cache", "/a/../b", "/with space"]
    )
    def test_is_always_absolute(self, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        environ = {} if value is None else {"XDG_CACHE_HOME": value}
        assert os.path.isabs(store.folder(environ))
