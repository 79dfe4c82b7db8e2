"""What goes when the store grows, and what stays: that which a build uses."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import _startup
from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.store import prune
from pyo3_envshim.store.entry import MANIFEST, USES
from pyo3_envshim.store.lock import Lock
from pyo3_envshim.store.prune import DAY, parse_size
from pyo3_envshim.store.store import Store
from support.daemon import Daemon

from .entries import add_nonce, use
from .environments import Shared, script, site_packages
from .posix import fcntl, names_in
from .sample_wheels import SampleWheels, read
from .test_wrapper import Bench, fine, warned

NONCE = "0a1b2c3d"
NOW = float(int(time.time()))


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.end()


def calling(bench: Bench, daemon: Daemon, cargo: str = "") -> subprocess.Popen[str]:
    """Start a call whose cargo starts the daemon and waits for a line; later calls of it do neither.

    *cargo*: the text of a script that starts it, for cargo to be.
    """
    inner = (
        f'#!/bin/sh\ntest "$1" = metadata && exec cat "{bench.cargo.folder}/metadata.json"\n'
        f'test "$1" = build || exit 0\n"{sys.executable}" "{daemon.program}" "{daemon.note}"\n'
        "echo started >&2; read line\n"
    )
    script(bench.cargo.folder / "inner", inner)
    script(bench.cargo.path, cargo or inner)
    pipe = subprocess.PIPE
    command, environ, cwd = [str(bench.wrapper), "build"], bench.environ, bench.project
    found = subprocess.Popen(command, env=environ, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert found.stderr is not None
    assert found.stderr.readline() == "started\n"
    return found


def used(store: Store, environment: Environment, days_ago: float) -> str:
    """Store an environment, as if it was last used then; return its digest."""
    use(store, environment)
    date(store, environment.digest, days_ago)
    return environment.digest


def date(store: Store, digest: str, days_ago: float) -> None:
    for name in (MANIFEST, USES):
        os.utime(Path(store.path(digest), name), (NOW - days_ago * DAY,) * 2)


@pytest.fixture
def three(store: Store, sample: SampleWheels) -> list[str]:
    """Return the digests of three entries, the one that was unused for longest first."""
    ages = {"plain": 20.0, "other": 10.0, "tiny": 1.0}
    return [used(store, read(sample.environment(name, name)), ages[name]) for name in ages]


def left(store: Store) -> list[str]:
    return sorted(names_in(store.environments))


def sizes(store: Store) -> dict[str, int]:
    return {entry.digest: entry.size for entry in prune.entries(store)}


class TestPruning:
    def test_takes_what_was_not_used_for_30_days(self, store: Store, three: list[str]) -> None:
        assert prune.prune(store, None, now=NOW + 10 * DAY) == []
        assert prune.prune(store, None, now=NOW + 10.1 * DAY) == three[:1]
        assert left(store) == sorted(three[1:])

    def test_takes_what_was_unused_for_longest_beyond_a_size(self, store: Store, three: list[str]) -> None:
        size = sum(sizes(store).values())
        assert prune.prune(store, size, now=NOW) == []
        assert prune.prune(store, size - 1, now=NOW) == three[:1]
        assert prune.prune(store, sizes(store)[three[2]], now=NOW) == three[1:2]
        assert left(store) == three[2:]

    def test_takes_everything_that_is_not_in_use_if_no_size_is_left(
        self, store: Store, three: list[str]
    ) -> None:
        assert prune.prune(store, 0, now=NOW) == three
        assert left(store) == []

    def test_is_put_off_by_a_use(self, store: Store, three: list[str], sample: SampleWheels) -> None:
        environment = read(sample.folder / "plain")
        assert use(store, environment) == (False, None)
        first = next(entry for entry in prune.entries(store) if entry.digest == three[0])
        assert first.uses == 2
        assert first.used > NOW - DAY
        assert prune.prune(store, None, now=NOW + 25 * DAY) == three[1:2]

    def test_counts_a_file_of_two_entries_once(self, store: Store, sample: SampleWheels) -> None:
        root = sample.environment("first", "tiny")
        large = site_packages(root) / "large.bin"
        large.write_bytes(bytes(1_000_000))
        first = used(store, read(root), 2)
        (site_packages(root) / "more.py").touch()
        second = used(store, read(root), 1)
        assert all(size > 1_000_000 for size in sizes(store).values())
        one, two = (entry.inodes for entry in prune.entries(store))
        assert prune.prune(store, sum({**one, **two}.values()), now=NOW) == []
        assert prune.prune(store, 1_000_000, now=NOW) == [first, second]

    def test_frees_nothing_where_another_entry_has_the_file_too(
        self, store: Store, sample: SampleWheels
    ) -> None:
        """So the next one has to go as well."""
        root = sample.environment("first", "tiny")
        (site_packages(root) / "large.bin").write_bytes(bytes(1_000_000))
        digests = []
        for number in range(3):
            (site_packages(root) / "more.py").write_text(f"{number}\n")
            digests.append(used(store, read(root), 3 - number))
        (site_packages(root) / "large.bin").unlink()
        digests.append(used(store, read(root), 0))
        inodes = {entry.digest: entry.inodes for entry in prune.entries(store)}
        after_one = {inode: size for digest in digests[1:] for inode, size in inodes[digest].items()}
        assert prune.prune(store, sum(after_one.values()) - 1, now=NOW) == digests[:2]
        assert prune.prune(store, 500_000, now=NOW) == digests[2:3]

    def test_leaves_what_is_held(self, store: Store, three: list[str], sample: SampleWheels) -> None:
        acquired = store.acquire(read(sample.folder / "other"))
        date(store, three[1], 10)
        assert prune.prune(Store(store.root), 0, now=NOW) == [three[0], three[2]]
        acquired.release()
        assert prune.prune(Store(store.root), 0, now=NOW) == three[1:2]

    def test_takes_the_second_names_too(self, store: Store, three: list[str]) -> None:
        for digest in three[:2]:
            add_nonce(store, digest, NONCE)
            add_nonce(store, digest, "11111111")
        prune.prune(store, None, now=NOW + 15 * DAY)
        assert left(store) == sorted([three[1], f"{three[1]}-{NONCE}", f"{three[1]}-11111111", three[2]])

    def test_takes_what_has_no_manifest_first(self, store: Store, three: list[str]) -> None:
        Path(store.path(three[2]), MANIFEST).unlink()
        Path(store.path(three[2]), USES).unlink()
        assert prune.prune(store, None, now=NOW) == three[2:]

    @pytest.mark.parametrize("manifest", [b"", b"\xff", b"a b c", b"a-b-c d e", b"1-1 d e"])
    def test_is_not_stopped_by_a_manifest_that_is_none(
        self, manifest: bytes, store: Store, three: list[str]
    ) -> None:
        Path(store.path(three[2]), MANIFEST).write_bytes(manifest)
        assert prune.verify(store)[three[2]] is not None
        assert prune.prune(store, 0, now=NOW) == three

    def test_takes_what_nobody_can_use_though_there_is_room(self, store: Store, three: list[str]) -> None:
        Path(store.path(three[1]), MANIFEST).write_bytes(b"")
        assert prune.prune(store, prune.LIMIT, now=NOW) == three[1:2]

    def test_is_not_misled_by_a_clock_that_was_wrong(self, store: Store, three: list[str]) -> None:
        date(store, three[0], -1000)
        assert prune.prune(store, None, now=NOW) == []

    def test_takes_nothing_where_there_are_no_locks(
        self, store: Store, three: list[str], sample: SampleWheels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)
        os.mkdir(Path(store.environments, ".new-1-ab"))
        os.symlink("f" * 32, store.path("f" * 32, NONCE))
        before = left(store)
        assert prune.prune(store, 0, now=NOW) == []
        assert use(store, read(sample.folder / "plain")) == (False, None)
        assert left(store) == before
        assert prune.verify(store) == dict.fromkeys(three)
        (Path(store.path(three[0])) / "pyvenv.cfg").unlink()
        assert use(store, read(sample.folder / "plain")) == (True, "missing file pyvenv.cfg")


class Candidate:
    def __init__(self, used: float, **files: int) -> None:
        self.used = used
        self.inodes = {ord(name): size for name, size in files.items()}


def evicted(candidates: dict[str, Candidate], limit: float | None, before: float, kept: str = "") -> str:
    """Return the names of the candidates that are evicted, in that order; *kept* have to stay."""
    names = {id(candidate): name for name, candidate in candidates.items()}
    gone = prune.evict(candidates.values(), limit, before, lambda it: names[id(it)] not in kept)
    return "".join(names[id(candidate)] for candidate in gone)


class TestEvicting:
    THREE: ClassVar = {"B": Candidate(2, x=10, y=10), "A": Candidate(1, x=10), "C": Candidate(3, z=10)}

    @pytest.mark.parametrize(
        ("limit", "before", "gone"),
        [
            (None, 0, ""),
            (None, 2, "A"),
            (30, 0, ""),
            (29, 0, "AB"),  # A's only file is B's too
            (9, 0, "ABC"),
            (float("inf"), 3, "AB"),
        ],
    )
    def test_takes_the_least_recently_used_first(self, limit: float | None, before: float, gone: str) -> None:
        assert evicted(self.THREE, limit, before) == gone

    def test_goes_on_with_the_next_where_one_has_to_stay(self) -> None:
        assert evicted(self.THREE, 20, 0, kept="B") == "AC"
        assert evicted(self.THREE, None, 4, kept="A") == "BC"

    def test_takes_what_has_no_files_under_a_limit_only(self) -> None:
        assert evicted({**self.THREE, "D": Candidate(4)}, 30, 0) == "D"
        assert evicted({**self.THREE, "D": Candidate(4)}, None, 0) == ""


class TestSweeping:
    @pytest.mark.parametrize("name", [".new-1-ab", ".old-1-ab"])
    def test_takes_what_nobody_holds(self, name: str, store: Store) -> None:
        Path(store.environments, name, "entry").mkdir(parents=True)
        prune.prune(store, None)
        assert left(store) == []

    def test_leaves_what_is_being_written(self, store: Store) -> None:
        path, held = store._temporary(".new-")
        prune.prune(Store(store.root), 0)
        assert left(store) == [os.path.basename(path)]
        assert held is not None
        os.close(held)
        prune.prune(store, 0)
        assert left(store) == []

    def test_takes_a_second_name_whose_entry_is_gone(self, store: Store, three: list[str]) -> None:
        add_nonce(store, three[0], NONCE)
        os.symlink(three[0], store.path(three[0], "a-b"))
        os.symlink("f" * 32, store.path("f" * 32, NONCE))
        prune.prune(store, None, now=NOW)
        assert left(store) == sorted([*three, f"{three[0]}-{NONCE}", f"{three[0]}-a-b"])

    def test_leaves_second_names_while_another_process_gives_one(self, store: Store) -> None:
        os.symlink("f" * 32, store.path("f" * 32, NONCE))
        with Lock(store.environments, exclusive=False, without=False) as giving:
            assert giving
            prune.prune(store, None)
            assert len(left(store)) == 1
        prune.prune(store, None)
        assert left(store) == []

    def test_takes_files_that_were_to_replace_another_after_a_day(
        self, store: Store, three: list[str]
    ) -> None:
        name = f"{MANIFEST}.1-ab"
        stale = [Path(store.path(digest), name) for digest in three]
        stale.append(Path(store.interpreters, "ab.1-ab"))
        elsewhere = Path(store.root, name)
        for number in range(10):  # in no order with the entries
            Path(store.environments, f"file{number}").touch()
            os.symlink("..", Path(store.environments, f"link{number}"))
        for path in (*stale, elsewhere):
            path.touch()
            os.utime(path, (NOW, NOW))
        prune.prune(store, None, age=100 * 365 * DAY, now=NOW + DAY)
        assert all(path.exists() for path in stale)
        prune.prune(store, None, age=100 * 365 * DAY, now=NOW + 2 * DAY)
        assert not any(path.exists() for path in stale)
        assert elsewhere.exists()

    def test_forgets_interpreters_after_the_same_time(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "python").touch()
        store.hash_file(str(tmp_path / "python"))
        prune.prune(store, None, now=time.time() + 29 * DAY)
        assert os.listdir(store.interpreters)
        prune.prune(store, None, now=time.time() + 31 * DAY)
        assert not os.listdir(store.interpreters)

    def test_takes_a_folder_for_path_whose_wrapper_is_gone(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "wrapper").touch()
        found = []
        for name, target in (("0", "wrapper"), ("1", "gone"), ("2", "gone")):
            found.append(Path(store.root, _startup.ON_PATH + name))
            found[-1].mkdir()
            (found[-1] / "cargo").symlink_to(tmp_path / target)
        (found[2] / "own").touch()
        prune.prune(store, None)
        assert [folder.exists() for folder in found] == [True, False, True]
        assert (found[0] / "cargo").exists()
        assert os.listdir(found[2]) == ["own"]

    def test_leaves_what_is_not_the_stores(self, store: Store) -> None:
        Path(store.environments, "README").touch()
        Path(store.environments, "a-file").touch()
        for name in ("link", ".a-link"):
            os.symlink("elsewhere", Path(store.environments, name))
        prune.prune(store, 0)
        assert left(store) == [".a-link", "README", "a-file", "link"]


class TestTheEntries:
    def test_are_described(self, store: Store, sample: SampleWheels, a_python: str) -> None:
        environment = read(sample.environment())
        used(store, environment, 3)
        add_nonce(store, environment.digest, NONCE)
        (entry,) = prune.entries(store)
        assert (entry.digest, entry.path) == (environment.digest, store.path(environment.digest))
        assert (entry.nonces, entry.uses, entry.used) == ([NONCE], 1, NOW - 3 * DAY)
        assert entry.interpreter == a_python
        assert entry.version.startswith("3.")
        assert entry.distributions == ["other 1", "tiny 1"]
        files = [path for path in Path(entry.path).rglob("*") if not path.name.startswith(MANIFEST)]
        assert entry.size == sum(
            path.lstat().st_size for path in files if path.is_symlink() or path.is_file()
        )

    def test_are_described_without_a_manifest(self, store: Store) -> None:
        os.mkdir(store.path("0" * 32), 0o700)
        (entry,) = prune.entries(store)
        assert (entry.size, entry.uses, entry.used, entry.distributions) == (0, 0, 0.0, [])
        assert (entry.interpreter, entry.version) == ("", "")

    @pytest.mark.parametrize(("gone", "uses"), [(MANIFEST, 1), (USES, 0)])
    def test_are_as_old_as_what_is_left_tells(
        self, gone: str, uses: int, store: Store, sample: SampleWheels
    ) -> None:
        digest = used(store, read(sample.environment()), 3)
        Path(store.path(digest), gone).unlink()
        (entry,) = prune.entries(store)
        assert (entry.used, entry.uses) == (NOW - 3 * DAY, uses)

    def test_are_no_hidden_folders(self, store: Store) -> None:
        os.mkdir(Path(store.environments, ".hidden"))
        assert prune.entries(store) == []

    def test_are_cleared_but_for_those_in_use(
        self, store: Store, three: list[str], sample: SampleWheels
    ) -> None:
        acquired = store.acquire(read(sample.folder / "other"))
        assert prune.clear(Store(store.root)) == [three[1]]
        assert left(store) == [three[1]]
        acquired.release()
        assert prune.clear(Store(store.root)) == []
        assert left(store) == []

    def test_are_verified_without_the_original(
        self, store: Store, three: list[str], sample: SampleWheels
    ) -> None:
        for name in ("plain", "other", "tiny"):
            shutil.rmtree(sample.folder / name)
        assert prune.verify(store) == dict.fromkeys(three)
        in_site = site_packages(Path(store.path(three[0])))
        before = (in_site / "tiny.py").stat()
        (in_site / "tiny.py").write_bytes(bytes(before.st_size))
        os.utime(in_site / "tiny.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        (site_packages(Path(store.path(three[1]))) / "other.py").chmod(0o755)
        (site_packages(Path(store.path(three[2]))) / "tiny" / "data.txt").chmod(0o645)
        name = str((in_site / "tiny.py").relative_to(store.path(three[0])))
        other = name.replace("tiny", "other")
        assert prune.verify(store) == {
            three[0]: f"changed file {name}",
            three[1]: f"changed file {other}",
            three[2]: None,
        }

    def test_are_verified_though_their_manifest_knows_no_modes(self, store: Store, three: list[str]) -> None:
        manifest = Path(store.path(three[0]), MANIFEST)
        lines = [line.partition(b" ")[2] for line in manifest.read_bytes().split(b"\0")]
        manifest.write_bytes(b"\0".join(b"none " + line for line in lines))
        assert "'none'" in (prune.verify(store)[three[0]] or "")

    def test_are_verified_while_a_build_uses_them(
        self, store: Store, three: list[str], sample: SampleWheels
    ) -> None:
        acquired = store.acquire(read(sample.folder / "other"))
        assert prune.verify(Store(store.root)) == dict.fromkeys(three)
        acquired.release()

    def test_are_waited_for_while_another_process_looks_whether_they_may_go(
        self, store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = os.open(store.path(three[0]), os.O_RDONLY)
        flock = fcntl.flock
        flock(other, fcntl.LOCK_EX)

        def goes_on_once_we_wait(folder: int, how: int) -> None:
            if not how & fcntl.LOCK_NB:
                flock(other, fcntl.LOCK_UN)
            flock(folder, how)

        monkeypatch.setattr("fcntl.flock", goes_on_once_we_wait)
        assert prune.verify(store) == dict.fromkeys(three)
        os.close(other)

    def test_are_told_with_the_error_if_they_cannot_be_held(
        self, store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("fcntl.flock", refuse)
        assert prune.verify(store) == dict.fromkeys(three, "[Errno 5] Input/output error")
        assert prune.prune(store, 0, now=NOW) == []


class TestASize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("0", 0),
            ("1", 1),
            ("512", 512),
            ("10B", 10),
            ("1k", 1024),
            ("1K", 1024),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("500M", 500 << 20),
            ("2G", 2 << 30),
            (" 2 GiB ", 2 << 30),
            ("1T", 1 << 40),
            ("none", None),
            ("NONE", None),
        ],
    )
    def test_is_a_number_with_a_unit(self, text: str, size: int | None) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        "text", ["", " ", "-1", "+1", "1.5G", "G", "B", "iB", "1iB", "1P", "1KK", "1_000"]
    )
    def test_is_nothing_else(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(text)

    @given(st.text(max_size=8))
    def test_is_a_size_or_an_error_in_one_line(self, text: str) -> None:
        try:
            size = parse_size(text)
        except ValueError as error:
            size, text = 0, str(error)
            if "\n" in text:
                raise
        assert size is None or size >= 0


class TestACall:
    def test_prunes_when_it_stores(self, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE="0"))
        (first,) = bench.entries
        fine(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE="0"))
        assert bench.entries == [first]
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE="0"))
        assert len(bench.entries) == 1
        assert bench.entries != [first]

    def test_keeps_two_gigabytes_for_30_days(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (first,) = bench.entries
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build"))
        assert len(bench.entries) == 2
        long_ago = time.time() - 31 * DAY
        for name in (MANIFEST, USES):
            os.utime(bench.store / "environments" / first / name, (long_ago, long_ago))
        (site_packages(bench.root) / "other.py").write_text("VERSION = 4\n")
        fine(bench.run("build"))
        assert len(bench.entries) == 2
        assert first not in bench.entries

    @pytest.mark.parametrize("value", ["much", "-1", "2 \u00fc"])
    def test_says_that_a_size_is_not_one(self, value: str, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE=value))
        said = f"warning: PYO3_ENVSHIM_CACHE_SIZE={value!r} is taken as its default: say none or a size"
        assert line == f"pyo3-envshim: {said} such as 500M\n"
        assert bench.cargo.call.environ["PYO3_PYTHON"].startswith(str(bench.store))

    def test_holds_its_entry_as_long_as_cargo_lives(self, bench: Bench) -> None:
        script(
            bench.cargo.path,
            f'#!/bin/sh\ntest "$1" = metadata && exec cat "{bench.cargo.folder}/metadata.json"\n'
            # a shell's script may use these numbers for files of its own
            "exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0 9<&0\n"
            'echo started; read line; exec "$PYO3_PYTHON" -c "import tiny; print(tiny.NAME)"\n',
        )
        pipe = subprocess.PIPE
        build = subprocess.Popen(
            [bench.wrapper, "build"], env=bench.environ, cwd=bench.project, stdin=pipe, stdout=pipe, text=True
        )
        assert build.stdout is not None
        assert build.stdout.readline() == "started\n"
        store = Store(str(bench.store))
        (digest,) = bench.entries
        assert prune.prune(store, 0, now=time.time() + 90 * DAY) == []
        assert prune.clear(store) == [digest]
        assert build.communicate("go on\n")[0] == "tiny\n"
        assert prune.prune(store, 0) == [digest]

    def test_does_not_hold_it_by_a_daemon_that_it_leaves(self, bench: Bench, daemon: Daemon) -> None:
        build = calling(bench, daemon)
        store = Store(str(bench.store))
        (digest,) = bench.entries
        assert prune.clear(store) == [digest]
        assert build.communicate("go on\n") == ("", "")
        assert daemon.lives()
        assert prune.clear(store) == []
        assert bench.entries == []

    def test_has_its_entry_replaced_while_a_daemon_lives_but_not_while_cargo_runs(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        build = calling(bench, daemon)
        (digest,) = bench.entries
        (bench.store / "environments" / digest / "pyvenv.cfg").unlink()
        assert "and a running build uses it" in warned(bench.run("rustc"))
        assert build.communicate("go on\n") == ("", "")
        assert daemon.lives()
        line = warned(bench.run("rustc"))
        assert "had changed and was replaced" in line
        assert (bench.store / "environments" / digest / "pyvenv.cfg").exists()

    def test_holds_it_by_what_runs_cargo_and_waits(self, bench: Bench, daemon: Daemon) -> None:
        """A CARGO of the user's own may be a script, and close files that are open."""
        cargo = f'#!/bin/sh\nexec 3>&- 4>&- 5>&- 9>&-\n/bin/sh {bench.cargo.folder}/inner "$@"\n'
        build = calling(bench, daemon, cargo)
        assert prune.clear(Store(str(bench.store))) == bench.entries != []
        build.communicate("go on\n")
        assert prune.clear(Store(str(bench.store))) == []

    def test_that_is_killed_holds_nothing(self, bench: Bench) -> None:
        bench.cargo.behaves(signal=9)
        assert bench.run("build").returncode == -9
        (digest,) = bench.entries
        assert prune.prune(Store(str(bench.store)), 0) == [digest]

    def test_that_is_left_alone_holds_nothing(self, bench: Bench) -> None:
        """The guard fails after the entry was held."""
        (bench.project / "target").write_text("a file")
        script(
            bench.cargo.path,
            f'#!/bin/sh\ntest "$1" = metadata && exec cat "{bench.cargo.folder}/metadata.json"\n'
            "ls -l /proc/self/fd\n",
        )
        done = bench.run("build")
        assert "not used" in done.stderr
        assert str(bench.store) not in done.stdout
