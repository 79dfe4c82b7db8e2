"""The entries of the store: they run like the original, and whatever has changed in one is noticed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyo3_envshim import files
from pyo3_envshim.environment import layout
from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.environment.item import PLACEHOLDER, Item, NotStorable
from pyo3_envshim.store.entry import MANIFEST, _placed, link_files, read_manifest, state_of
from pyo3_envshim.store.store import Store, StoreError

from .entries import damage, is_whole, put, small_environment, stored, use
from .environments import Shared, program_in, run, script, site_packages, tree
from .posix import names_in
from .sample_wheels import SampleWheels, read
from .test_wrapper import Bench, fine, warned


@pytest.fixture
def small(tmp_path: Path) -> Environment:
    return small_environment(tmp_path)


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


class TestAnEntry:
    def test_is_there_after_it_was_put(self, store: Store, sample: SampleWheels) -> None:
        environment = read(sample.environment())
        assert not is_whole(store, environment)
        put(store, environment)
        assert is_whole(store, environment)

    def test_is_found_by_an_equal_environment_elsewhere(self, store: Store, sample: SampleWheels) -> None:
        stored(store, sample.environment("one"))
        assert is_whole(store, read(sample.environment("two", maker="venv", installer="pip")))

    def test_is_not_found_by_a_different_one(self, store: Store, sample: SampleWheels) -> None:
        stored(store, sample.environment("one", "tiny"))
        assert not is_whole(store, read(sample.environment("two", "other")))

    def test_is_an_environment(self, shared: Shared, python: str, store: Store, sample: SampleWheels) -> None:
        sample.python = python
        _, entry = stored(store, sample.environment())
        code = "import sys; print(sys.prefix, sys.base_prefix != sys.prefix)"
        assert run([program_in(entry, "python"), "-c", code], {}) == f"{entry} True\n"

    def test_has_the_modules_the_original_has(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        code = "import tiny, other; print(tiny.__file__)"
        assert (
            run([program_in(entry, "python"), "-Bc", code], {})
            == f"{site_packages(entry) / 'tiny' / '__init__.py'}\n"
        )

    def test_has_the_distributions_the_original_has(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        code = (
            "from importlib import metadata as m;"
            " print(sorted((d.name, d.version) for d in m.distributions()))"
        )
        assert run([program_in(entry, "python"), "-Bc", code], {}) == "[('other', '1'), ('tiny', '1')]\n"
        code = (
            "from importlib import metadata as m;"
            " print([f for d in m.distributions() for f in d.files if not f.locate().exists()])"
        )
        assert run([program_in(entry, "python"), "-Bc", code], {}) == "[]\n"

    def test_has_the_configuration_the_original_has(self, store: Store, sample: SampleWheels) -> None:
        """`sysconfig`, `sys.path` and the base are the original's, but for the path of the environment."""
        code = (
            "import sys, sysconfig; print(sys.path, sys.base_prefix, sys.base_exec_prefix, sys.flags,"
            " sorted(sysconfig.get_paths().items()), sysconfig.get_config_vars('INCLUDEPY', 'LIBDIR'))"
        )
        root = sample.environment()
        _, entry = stored(store, root)
        of_original = run([program_in(root, "python"), "-c", code], {})
        assert run([program_in(entry, "python"), "-c", code], {}) == of_original.replace(
            str(root), str(entry)
        )

    def test_runs_its_scripts(self, store: Store, sample: SampleWheels) -> None:
        _, entry = stored(store, sample.environment())
        assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"
        assert run([entry / "bin" / "tool"], {}) == f"tool in {entry}\n"

    @pytest.mark.parametrize("name", ["with space", "long" * 60])
    def test_runs_its_scripts_wherever_the_store_is(
        self, name: str, tmp_path: Path, sample: SampleWheels
    ) -> None:
        """A first line of a script can hold no space, and no more than 127 or 255 bytes."""
        root = sample.environment()
        _, entry = stored(Store(str(tmp_path / name)), root)
        assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"
        assert run([entry / "bin" / "tool"], {}) == f"tool in {entry}\n"
        _, plain = stored(Store(str(tmp_path / "store")), root)
        assert (entry / "pyvenv.cfg").read_bytes() == (plain / "pyvenv.cfg").read_bytes()

    def test_runs_its_scripts_where_a_space_is_in_a_short_path(self, sample: SampleWheels) -> None:
        with tempfile.TemporaryDirectory(prefix="a b") as folder:
            _, entry = stored(Store(folder), sample.environment())
            assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"

    @pytest.mark.parametrize("name", ["store", "with space", "long" * 60])
    def test_runs_its_scripts_with_their_options(
        self, name: str, tmp_path: Path, sample: SampleWheels
    ) -> None:
        root = sample.environment()
        text = "import sys\nprint('isolated in', sys.prefix, sys.flags.isolated)\n"
        for space in (" ", "  "):
            script(root / "bin" / f"isolated{space}", f"#!{root}/bin/python{space}-I\n{text}")
        _, entry = stored(Store(str(tmp_path / name)), root)
        for space in (" ", "  "):
            assert run([entry / "bin" / f"isolated{space}"], {}) == f"isolated in {entry} 1\n"

    def test_works_without_the_original(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        shutil.rmtree(root)
        assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"
        assert (site_packages(entry) / "tiny" / "include" / "tiny.h").read_text() == "#define TINY 1\n"
        assert not [path for path in entry.rglob("*") if path.is_symlink() and not path.exists()]

    def test_names_the_original_nowhere(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        for name, content in tree(entry).items():
            data = content if isinstance(content, bytes) else os.fsencode(content)
            assert os.fsencode(root) not in data, name

    def test_holds_no_byte_code(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        run([program_in(root, "python"), "-m", "compileall", "-q", site_packages(root)], {})
        _, entry = stored(store, root)
        assert not list(entry.rglob("*.pyc"))

    def test_is_not_changed_by_the_byte_code_that_its_use_leaves(
        self, store: Store, sample: SampleWheels
    ) -> None:
        environment, entry = stored(store, sample.environment())
        run([program_in(entry, "python"), "-c", "import tiny"], {})
        assert list(entry.rglob("*.pyc"))
        assert is_whole(store, environment)

    def test_may_hold_names_that_are_not_utf_8(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        name = os.fsdecode(b"x\xff.txt")
        (site_packages(root) / name).write_text("odd\n")
        _, entry = stored(store, root)
        assert (site_packages(entry) / name).read_text() == "odd\n"

    @pytest.mark.parametrize(
        "name", ["with space", " ", "with\nline", "\n", "with\rreturn", "with\u2028separator"]
    )
    def test_may_hold_names_with_white_space(self, name: str, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        (site_packages(root) / name).write_text("odd\n")
        try:
            environment = read(root)
        except NotStorable:
            return
        put(store, environment)
        assert is_whole(store, environment)

    def test_may_hold_a_name_that_begins_with_a_space(self, store: Store, small: Environment) -> None:
        small.items.append(Item(" x", "", text=b""))
        put(store, small)
        assert is_whole(store, small)

    def test_keeps_what_can_be_run_and_what_can_not(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        (root / "share" / "tiny" / "shared.txt").chmod(0o755)
        _, entry = stored(store, root)
        assert os.access(entry / "share" / "tiny" / "shared.txt", os.X_OK)
        assert not (site_packages(entry) / "tiny" / "data.txt").stat().st_mode & 0o111


class TestTheOriginal:
    def test_is_not_written_to(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()

        def state() -> dict[str, object]:
            paths = [root, *root.rglob("*")]
            return {str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in paths}

        before = (tree(root), state())
        stored(store, root)
        assert (tree(root), state()) == before

    def test_shares_its_files_with_the_entry(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        assert (site_packages(root) / "tiny" / "data.txt").samefile(
            site_packages(entry) / "tiny" / "data.txt"
        )

    def test_does_not_share_what_is_written_anew(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment()
        _, entry = stored(store, root)
        for name in ("bin/hello", "bin/tool", "pyvenv.cfg"):
            assert not (root / name).samefile(entry / name)

    @pytest.mark.parametrize(
        "code", ["EXDEV", "EMLINK", "EPERM", "EACCES", "ENOTSUP", "ENOSYS"], ids=lambda code: str(code)
    )
    def test_is_copied_where_a_hard_link_is_refused(
        self, code: str, store: Store, sample: SampleWheels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = sample.environment()

        def refuse(*_: object, **__: object) -> None:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

        monkeypatch.setattr(os, "link", refuse)
        _, entry = stored(store, root)
        assert not (site_packages(root) / "tiny" / "data.txt").samefile(
            site_packages(entry) / "tiny" / "data.txt"
        )
        assert run([program_in(entry, "hello")], {}) == f"hello from {entry}\n"

    def test_has_its_entry_copied_with_the_right_modes(
        self, store: Store, sample: SampleWheels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        def with_modes(name: str) -> Path:
            root = sample.environment(name)
            (root / "share" / "tiny" / "shared.txt").chmod(0o755)
            (site_packages(root) / "tiny" / "data.txt").chmod(0o400)
            return root

        monkeypatch.setattr(os, "link", refuse)
        first = with_modes("first")
        _, entry = stored(store, first)
        shutil.rmtree(first)
        assert os.access(entry / "share" / "tiny" / "shared.txt", os.X_OK)
        assert not (site_packages(entry) / "tiny" / "data.txt").stat().st_mode & 0o111
        assert is_whole(store, read(with_modes("second")))


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
    "a changed script": lambda entry: in_place(program_in(entry, "hello"), b"#!/bin/sh\n"),
    "a changed configuration": lambda entry: in_place(entry / "pyvenv.cfg", b"home = /usr/bin\n"),
    "a removed file": lambda entry: (site_packages(entry) / "other.py").unlink(),
    "an added file": lambda entry: (site_packages(entry) / "added.py").write_text("x = 1\n"),
    "an added file in an added folder": lambda entry: fill(entry / "added"),
    "an added link": lambda entry: (entry / "bin" / "cc").symlink_to("/bin/false"),
    "a script that lost its mode": lambda entry: (program_in(entry, "hello")).chmod(0o644),
    "a file that gained a mode": lambda entry: (site_packages(entry) / "other.py").chmod(0o755),
    "no interpreter": lambda entry: program_in(entry, "python").unlink(),
    "a broken interpreter": lambda entry: relink(entry / "bin" / "python", "/gone/python"),
    "another interpreter": lambda entry: relink(entry / "bin" / "python", "/bin/sh"),
    "another second name of the interpreter": lambda entry: relink(entry / "bin" / "python3", "/bin/sh"),
    "a link instead of a file": lambda entry: relink(site_packages(entry) / "other.py", "/etc/hostname"),
    "a file instead of a link": lambda entry: rewrite(entry / "bin" / "python3", "link python"),
    "a pipe instead of a file": lambda entry: replace_by_a_pipe(site_packages(entry) / "other.py"),
    "a link instead of a folder": lambda entry: move_out(
        site_packages(entry) / "tiny" / "include", entry.parents[1] / "elsewhere"
    ),
    "no manifest": lambda entry: (entry / MANIFEST).unlink(),
    "an empty manifest": lambda entry: in_place(entry / MANIFEST, b""),
    "half a manifest": lambda entry: half(entry / MANIFEST),
    "a manifest that is no text": lambda entry: in_place(entry / MANIFEST, b"\xff\0\n\n \n"),
    "nothing in it": empty,
}


class TestTampering:
    @pytest.mark.parametrize("what", TAMPERING)
    def test_is_noticed_and_mended(self, what: str, store: Store, sample: SampleWheels) -> None:
        first = sample.environment("first")
        _, entry = stored(store, first)
        whole = tree(entry)
        whole.pop(MANIFEST)
        shutil.rmtree(first)
        TAMPERING[what](entry)
        environment = read(sample.environment("second"))
        assert not is_whole(store, environment)
        put(store, environment)
        assert is_whole(store, environment)
        mended = tree(entry)
        mended.pop(MANIFEST)
        assert mended == whole
        assert names_in(store.environments) == [environment.digest]

    def test_with_the_manifest_is_told(self, store: Store, small: Environment, sample: SampleWheels) -> None:
        _, other = stored(store, sample.environment())
        put(store, small)
        entry = Path(store.path(small.digest))
        (entry / MANIFEST).unlink()
        assert damage(store, small) == "it has no manifest"
        shutil.rmtree(entry)
        other.rename(entry)
        assert damage(store, small) == "its manifest is another's"
        assert use(store, small) == (True, "its manifest is another's")
        assert is_whole(store, small)

    def test_with_the_folders_mode_is_mended_too(self, store: Store, small: Environment) -> None:
        put(store, small)
        os.chmod(store.path(small.digest), 0o755)
        assert use(store, small) == (True, "its owner or mode has changed")
        assert use(store, small) == (False, None)

    def test_may_be_whatever_cannot_be_looked_at(self, store: Store, small: Environment) -> None:
        source = small.items[1].source
        assert source is not None
        put(store, small)
        os.utime(source)
        os.unlink(source)
        assert damage(store, small) == f"[Errno 2] No such file or directory: {source!r}"

    def test_that_cannot_be_mended_is_told_with_what_was_in_the_way(
        self, store: Store, sample: SampleWheels
    ) -> None:
        root = sample.environment()
        environment, entry = stored(store, root)
        (entry / "pyvenv.cfg").unlink()
        shutil.rmtree(root)
        with pytest.raises(StoreError, match=r"missing file pyvenv\.cfg.* was not replaced: .*No such file"):
            store.acquire(environment)

    def test_is_not_taken_for_what_only_changes_times(self, store: Store, sample: SampleWheels) -> None:
        environment, entry = stored(store, sample.environment())
        for path in entry.rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
        assert is_whole(store, environment)
        for name, (state, _) in read_manifest(str(entry)).items():  # or it is read again each time
            assert state == state_of(str(entry / name), (entry / name).lstat())

    def test_is_not_taken_for_what_others_may_do(self, store: Store, small: Environment) -> None:
        put(store, small)
        module = Path(store.path(small.digest), "module.py")
        rewrite(module, "")
        module.chmod(0o645)
        assert is_whole(store, small)

    def test_is_noticed_after_times_changed_too(self, store: Store, sample: SampleWheels) -> None:
        """What is remembered of a file that was read again is its state then."""
        first = sample.environment("first")
        _, entry = stored(store, first)
        shutil.rmtree(first)
        second = read(sample.environment("second"))
        assert is_whole(store, second)
        in_place(site_packages(entry) / "tiny" / "data.txt", b"evil\n")
        assert not is_whole(store, second)

    def test_of_the_original_after_it_was_read_does_not_reach_the_store_unseen(
        self, store: Store, sample: SampleWheels
    ) -> None:
        """The entry and the original are one file under two names."""
        root = sample.environment()
        environment, _ = stored(store, root)
        in_place(site_packages(root) / "tiny" / "data.txt", b"evil\n")
        again = read(root)
        assert again.digest != environment.digest
        assert not is_whole(store, again)
        shutil.rmtree(root)
        assert not is_whole(store, read(sample.environment("second")))


def change(entry: Path) -> None:
    (site_packages(entry) / "other.py").unlink()  # the original is the same file
    (site_packages(entry) / "other.py").write_text("VERSION = 9\n")


def add(entry: Path) -> None:
    (site_packages(entry) / "added.py").touch()


def take(entry: Path) -> None:
    (site_packages(entry) / "other.py").unlink()


def close(entry: Path) -> None:
    entry.chmod(0o755)


def lead_away(entry: Path) -> None:
    entry.rename(entry.parents[2] / "elsewhere")
    entry.symlink_to(entry.parents[2] / "elsewhere")


def lose_the_interpreter(entry: Path) -> None:
    (entry / "bin" / "python").unlink()
    (entry / "bin" / "python").symlink_to("/gone/python")


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "changed": (change, "changed file lib/python{}/site-packages/other.py"),
    "added": (add, "added file lib/python{}/site-packages/added.py"),
    "missing": (take, "missing file lib/python{}/site-packages/other.py"),
    "open": (close, "its owner or mode has changed"),
    "a link": (lead_away, "it is not a folder"),
    "no interpreter": (lose_the_interpreter, "its interpreter is gone"),
}


class TestATamperedEntry:
    @pytest.mark.parametrize("what", TAMPERED)
    def test_is_replaced_and_that_is_said_once(self, what: str, bench: Bench) -> None:
        fine(bench.run("build"))
        (digest,) = bench.entries
        entry = bench.store / "environments" / digest
        version = site_packages(entry).parent.name[len("python") :]
        tamper, reason = TAMPERED[what]
        tamper(entry)
        assert warned(bench.run("build")) == (
            "pyo3-envshim: a stored environment had changed and was replaced:"
            f" {entry}: {reason.format(version)}\n"
        )
        first, second = bench.cargo.calls
        assert first.environ == second.environ
        assert bench.entries == [digest]
        fine(bench.run("build"))

    def test_that_a_running_build_uses_is_neither_replaced_nor_used(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (digest,) = bench.entries
        entry = bench.store / "environments" / digest
        store = Store(str(bench.store))
        building = store.acquire(read(bench.root))
        add(entry)
        line = warned(bench.run("build"))
        assert "warning: not used for this build" in line
        assert "had changed (added file" in line
        assert "a running build uses it" in line
        assert bench.changes() == {}
        assert (site_packages(entry) / "added.py").exists()
        building.release()
        assert "was replaced" in warned(bench.run("build"))

    def test_has_odd_names_said_in_one_line(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (digest,) = bench.entries
        (bench.store / "environments" / digest / "new\nline").touch()
        assert "added file 'new\\nline'" in warned(bench.run("build"))


def test_a_second_name_that_cannot_be_given_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no hard links; shutil would name each file."""
    entry = tmp_path / "entry"
    for name in ("Lib/a.py", "Lib/b.py", "c.py"):
        script(entry / name, "")
    (tmp_path / "alias").mkdir()
    link_files(str(entry), str(tmp_path / "alias"))
    assert (tmp_path / "alias" / "Lib" / "b.py").samefile(entry / "Lib" / "b.py")

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Incorrect function")

    (tmp_path / "another").mkdir()
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="Incorrect function") as found:
        link_files(str(entry), str(tmp_path / "another"))
    assert len(str(found.value)) < 100
    with pytest.raises(FileNotFoundError):  # what cannot be read is not left out
        link_files(str(tmp_path / "gone"), str(tmp_path / "another"))


def test_a_script_keeps_its_first_line_where_that_can_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"#!" + PLACEHOLDER + b"/bin/python\n"
    for windows in (False, True):
        monkeypatch.setattr(layout, "WINDOWS", windows)
        for path in ("/short", "/with space", "/long" * 50):
            found = _placed(text, path)
            is_first_line = found == f"#!{path}/bin/python\n".encode()
            assert is_first_line is (windows or path == "/short")
            assert is_first_line or found.startswith(b"#!/bin/sh\n")


def test_a_file_whose_changes_are_not_kept_is_read_each_time(
    store: Store, small: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT (Windows): its times and size say nothing."""
    monkeypatch.setattr(files, "change_time", lambda path, found: None)
    put(store, small)
    assert is_whole(store, small)
    module = Path(store.path(small.digest), "module.py")
    states = [state_of(str(module), module.stat()) for _ in range(2)]
    assert states[0] != states[1]
