"""What goes when the store grows, and what stays: that which a build uses."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import contents, upkeep
from pyo3_envshim.environments import Environment
from pyo3_envshim.store import Lock, Store
from pyo3_envshim.upkeep import DAY, parse_size

from .kit import Kit, read
from .making import Shared, script, site_packages
from .test_cargo import Bench, fine, warned

TOKEN = "0a1b2c3d"
NOW = float(int(time.time()))


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


def used(place: Store, environment: Environment, days_ago: float) -> str:
    """Store an environment, as if it was last used then; return its digest."""
    place.use(environment)
    place.release()
    date(place, environment.digest, days_ago)
    return environment.digest


def date(place: Store, digest: str, days_ago: float) -> None:
    for name in (contents.MANIFEST, contents.USES):
        os.utime(Path(place.address(digest), name), (NOW - days_ago * DAY,) * 2)


@pytest.fixture
def three(place: Store, kit: Kit) -> list[str]:
    """Return the digests of three entries, the one that was unused for longest first."""
    ages = {"plain": 20.0, "other": 10.0, "tiny": 1.0}
    return [used(place, read(kit.environment(name, name)), ages[name]) for name in ages]


def left(place: Store) -> list[str]:
    return sorted(os.listdir(place.environments))


def sizes(place: Store) -> dict[str, int]:
    return {entry.digest: entry.size for entry in upkeep.entries(place)}


class TestPruning:
    def test_takes_what_was_not_used_for_30_days(self, place: Store, three: list[str]) -> None:
        assert upkeep.prune(place, None, now=NOW + 10 * DAY) == []
        assert upkeep.prune(place, None, now=NOW + 10.1 * DAY) == three[:1]
        assert left(place) == sorted(three[1:])

    def test_takes_what_was_unused_for_longest_beyond_a_size(self, place: Store, three: list[str]) -> None:
        size = sum(sizes(place).values())
        assert upkeep.prune(place, size, now=NOW) == []
        assert upkeep.prune(place, size - 1, now=NOW) == three[:1]
        assert upkeep.prune(place, sizes(place)[three[2]], now=NOW) == three[1:2]
        assert left(place) == three[2:]

    def test_takes_everything_that_is_not_in_use_if_no_size_is_left(
        self, place: Store, three: list[str]
    ) -> None:
        assert upkeep.prune(place, 0, now=NOW) == three
        assert left(place) == []

    def test_is_put_off_by_a_use(self, place: Store, three: list[str], kit: Kit) -> None:
        environment = read(kit.folder / "plain")
        assert place.use(environment) == (True, None)
        place.release()
        first = next(entry for entry in upkeep.entries(place) if entry.digest == three[0])
        assert first.uses == 2
        assert first.used > NOW - DAY
        assert upkeep.prune(place, None, now=NOW + 25 * DAY) == three[1:2]

    def test_counts_a_file_of_two_entries_once(self, place: Store, kit: Kit) -> None:
        root = kit.environment("first", "tiny")
        large = site_packages(root) / "large.bin"
        large.write_bytes(bytes(1_000_000))
        first = used(place, read(root), 2)
        (site_packages(root) / "more.py").touch()
        second = used(place, read(root), 1)
        assert all(size > 1_000_000 for size in sizes(place).values())
        one, two = (entry.inodes for entry in upkeep.entries(place))
        assert upkeep.prune(place, sum({**one, **two}.values()), now=NOW) == []
        assert upkeep.prune(place, 1_000_000, now=NOW) == [first, second]

    def test_frees_nothing_where_another_entry_has_the_file_too(self, place: Store, kit: Kit) -> None:
        """So the next one has to go as well."""
        root = kit.environment("first", "tiny")
        (site_packages(root) / "large.bin").write_bytes(bytes(1_000_000))
        digests = []
        for number in range(3):
            (site_packages(root) / "more.py").write_text(f"{number}\n")
            digests.append(used(place, read(root), 3 - number))
        (site_packages(root) / "large.bin").unlink()
        digests.append(used(place, read(root), 0))
        inodes = {entry.digest: entry.inodes for entry in upkeep.entries(place)}
        after_one = {inode: size for digest in digests[1:] for inode, size in inodes[digest].items()}
        assert upkeep.prune(place, sum(after_one.values()) - 1, now=NOW) == digests[:2]
        assert upkeep.prune(place, 500_000, now=NOW) == digests[2:3]

    def test_leaves_what_is_held(self, place: Store, three: list[str], kit: Kit) -> None:
        place.use(read(kit.folder / "other"))
        date(place, three[1], 10)
        assert upkeep.prune(Store(place.root), 0, now=NOW) == [three[0], three[2]]
        place.release()
        assert upkeep.prune(Store(place.root), 0, now=NOW) == three[1:2]

    def test_takes_the_second_names_too(self, place: Store, three: list[str]) -> None:
        for digest in three[:2]:
            place.alias(digest, TOKEN)
            place.alias(digest, "11111111")
        upkeep.prune(place, None, now=NOW + 15 * DAY)
        assert left(place) == sorted([three[1], f"{three[1]}-{TOKEN}", f"{three[1]}-11111111", three[2]])

    def test_takes_what_has_no_manifest_first(self, place: Store, three: list[str]) -> None:
        Path(place.address(three[2]), contents.MANIFEST).unlink()
        Path(place.address(three[2]), contents.USES).unlink()
        assert upkeep.prune(place, None, now=NOW) == three[2:]

    @pytest.mark.parametrize("manifest", [b"", b"\xff", b"a b c", b"a-b-c d e", b"1-1 d e"])
    def test_is_not_stopped_by_a_manifest_that_is_none(
        self, manifest: bytes, place: Store, three: list[str]
    ) -> None:
        Path(place.address(three[2]), contents.MANIFEST).write_bytes(manifest)
        assert upkeep.verify(place)[three[2]] is not None
        assert upkeep.prune(place, 0, now=NOW) == three

    def test_takes_what_nobody_can_use_though_there_is_room(self, place: Store, three: list[str]) -> None:
        Path(place.address(three[1]), contents.MANIFEST).write_bytes(b"")
        assert upkeep.prune(place, upkeep.LIMIT, now=NOW) == three[1:2]

    def test_is_not_misled_by_a_clock_that_was_wrong(self, place: Store, three: list[str]) -> None:
        date(place, three[0], -1000)
        assert upkeep.prune(place, None, now=NOW) == []

    def test_takes_nothing_where_there_are_no_locks(
        self, place: Store, three: list[str], kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)
        os.mkdir(Path(place.environments, ".new-1-ab"))
        os.symlink("f" * 32, place.address("f" * 32, TOKEN))
        before = left(place)
        assert upkeep.prune(place, 0, now=NOW) == []
        assert place.use(read(kit.folder / "plain")) == (True, None)
        assert left(place) == before
        assert upkeep.verify(place) == dict.fromkeys(three)
        (Path(place.address(three[0])) / "pyvenv.cfg").unlink()
        assert place.use(read(kit.folder / "plain")) == (False, "missing file pyvenv.cfg")


class TestSweeping:
    @pytest.mark.parametrize("name", [".new-1-ab", ".old-1-ab"])
    def test_takes_what_nobody_holds(self, name: str, place: Store) -> None:
        Path(place.environments, name, "entry").mkdir(parents=True)
        upkeep.prune(place, None)
        assert left(place) == []

    def test_leaves_what_is_being_written(self, place: Store) -> None:
        path, held = place._temporary(".new-")
        upkeep.prune(Store(place.root), 0)
        assert left(place) == [os.path.basename(path)]
        assert held is not None
        os.close(held)
        upkeep.prune(place, 0)
        assert left(place) == []

    def test_takes_a_second_name_whose_entry_is_gone(self, place: Store, three: list[str]) -> None:
        place.alias(three[0], TOKEN)
        os.symlink(three[0], place.address(three[0], "a-b"))
        os.symlink("f" * 32, place.address("f" * 32, TOKEN))
        upkeep.prune(place, None, now=NOW)
        assert left(place) == sorted([*three, f"{three[0]}-{TOKEN}", f"{three[0]}-a-b"])

    def test_leaves_second_names_while_another_process_gives_one(self, place: Store) -> None:
        os.symlink("f" * 32, place.address("f" * 32, TOKEN))
        with Lock(place.environments, exclusive=False, without=False) as giving:
            assert giving
            upkeep.prune(place, None)
            assert len(left(place)) == 1
        upkeep.prune(place, None)
        assert left(place) == []

    def test_takes_files_that_were_to_replace_another_after_a_day(
        self, place: Store, three: list[str]
    ) -> None:
        name = f"{contents.MANIFEST}.1-ab"
        stale = [Path(place.address(digest), name) for digest in three]
        stale.append(Path(place.interpreters, "ab.1-ab"))
        elsewhere = Path(place.root, name)
        for number in range(10):  # in no order with the entries
            Path(place.environments, f"file{number}").touch()
            os.symlink("..", Path(place.environments, f"link{number}"))
        for path in (*stale, elsewhere):
            path.touch()
            os.utime(path, (NOW, NOW))
        upkeep.prune(place, None, age=100 * 365 * DAY, now=NOW + DAY)
        assert all(path.exists() for path in stale)
        upkeep.prune(place, None, age=100 * 365 * DAY, now=NOW + 2 * DAY)
        assert not any(path.exists() for path in stale)
        assert elsewhere.exists()

    def test_forgets_interpreters_after_the_same_time(self, place: Store, tmp_path: Path) -> None:
        (tmp_path / "python").touch()
        place.hash_file(str(tmp_path / "python"))
        upkeep.prune(place, None, now=time.time() + 29 * DAY)
        assert os.listdir(place.interpreters)
        upkeep.prune(place, None, now=time.time() + 31 * DAY)
        assert not os.listdir(place.interpreters)

    def test_leaves_what_is_not_the_stores(self, place: Store) -> None:
        Path(place.environments, "README").touch()
        Path(place.environments, "a-file").touch()
        for name in ("link", ".a-link"):
            os.symlink("elsewhere", Path(place.environments, name))
        upkeep.prune(place, 0)
        assert left(place) == [".a-link", "README", "a-file", "link"]


class TestTheEntries:
    def test_are_described(self, place: Store, kit: Kit, a_python: str) -> None:
        environment = read(kit.environment())
        used(place, environment, 3)
        place.alias(environment.digest, TOKEN)
        (entry,) = upkeep.entries(place)
        assert (entry.digest, entry.path) == (environment.digest, place.address(environment.digest))
        assert (entry.tokens, entry.uses, entry.used) == ([TOKEN], 1, NOW - 3 * DAY)
        assert entry.interpreter == a_python
        assert entry.version.startswith("3.")
        assert entry.distributions == ["other 1", "tiny 1"]
        files = [path for path in Path(entry.path).rglob("*") if not path.name.startswith(contents.MANIFEST)]
        assert entry.size == sum(
            path.lstat().st_size for path in files if path.is_symlink() or path.is_file()
        )

    def test_are_described_without_a_manifest(self, place: Store) -> None:
        os.mkdir(place.address("0" * 32), 0o700)
        (entry,) = upkeep.entries(place)
        assert (entry.size, entry.uses, entry.used, entry.distributions) == (0, 0, 0.0, [])
        assert (entry.interpreter, entry.version) == ("", "")

    @pytest.mark.parametrize(("gone", "uses"), [(contents.MANIFEST, 1), (contents.USES, 0)])
    def test_are_as_old_as_what_is_left_tells(self, gone: str, uses: int, place: Store, kit: Kit) -> None:
        digest = used(place, read(kit.environment()), 3)
        Path(place.address(digest), gone).unlink()
        (entry,) = upkeep.entries(place)
        assert (entry.used, entry.uses) == (NOW - 3 * DAY, uses)

    def test_are_no_hidden_folders(self, place: Store) -> None:
        os.mkdir(Path(place.environments, ".hidden"))
        assert upkeep.entries(place) == []

    def test_are_cleared_but_for_those_in_use(self, place: Store, three: list[str], kit: Kit) -> None:
        place.use(read(kit.folder / "other"))
        assert upkeep.clear(Store(place.root)) == [three[1]]
        assert left(place) == [three[1]]
        place.release()
        assert upkeep.clear(Store(place.root)) == []
        assert left(place) == []

    def test_are_verified_without_the_original(self, place: Store, three: list[str], kit: Kit) -> None:
        for name in ("plain", "other", "tiny"):
            shutil.rmtree(kit.folder / name)
        assert upkeep.verify(place) == dict.fromkeys(three)
        in_site = site_packages(Path(place.address(three[0])))
        before = (in_site / "tiny.py").stat()
        (in_site / "tiny.py").write_bytes(bytes(before.st_size))
        os.utime(in_site / "tiny.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        (site_packages(Path(place.address(three[1]))) / "other.py").chmod(0o755)
        (site_packages(Path(place.address(three[2]))) / "tiny" / "data.txt").chmod(0o645)
        name = str((in_site / "tiny.py").relative_to(place.address(three[0])))
        other = name.replace("tiny", "other")
        assert upkeep.verify(place) == {
            three[0]: f"changed file {name}",
            three[1]: f"changed file {other}",
            three[2]: None,
        }

    def test_are_verified_though_their_manifest_knows_no_modes(self, place: Store, three: list[str]) -> None:
        manifest = Path(place.address(three[0]), contents.MANIFEST)
        lines = [line.partition(b" ")[2] for line in manifest.read_bytes().split(b"\0")]
        manifest.write_bytes(b"\0".join(b"none " + line for line in lines))
        assert "'none'" in (upkeep.verify(place)[three[0]] or "")

    def test_are_verified_while_a_build_uses_them(self, place: Store, three: list[str], kit: Kit) -> None:
        place.use(read(kit.folder / "other"))
        assert upkeep.verify(Store(place.root)) == dict.fromkeys(three)

    def test_are_waited_for_while_another_process_looks_whether_they_may_go(
        self, place: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = os.open(place.address(three[0]), os.O_RDONLY)
        flock = fcntl.flock
        flock(other, fcntl.LOCK_EX)

        def goes_on_once_we_wait(folder: int, how: int) -> None:
            if not how & fcntl.LOCK_NB:
                flock(other, fcntl.LOCK_UN)
            flock(folder, how)

        monkeypatch.setattr("fcntl.flock", goes_on_once_we_wait)
        assert upkeep.verify(place) == dict.fromkeys(three)
        os.close(other)

    def test_are_told_with_the_error_if_they_cannot_be_held(
        self, place: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("fcntl.flock", refuse)
        assert upkeep.verify(place) == dict.fromkeys(three, "[Errno 5] Input/output error")
        assert upkeep.prune(place, 0, now=NOW) == []


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
        with pytest.raises(ValueError, match="is not a size such as"):
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
        (first,) = bench.addresses
        fine(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE="0"))
        assert bench.addresses == [first]
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE="0"))
        assert len(bench.addresses) == 1
        assert bench.addresses != [first]

    def test_keeps_two_gigabytes_for_30_days(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (first,) = bench.addresses
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build"))
        assert len(bench.addresses) == 2
        long_ago = time.time() - 31 * DAY
        for name in (contents.MANIFEST, contents.USES):
            os.utime(bench.store / "environments" / first / name, (long_ago, long_ago))
        (site_packages(bench.root) / "other.py").write_text("VERSION = 4\n")
        fine(bench.run("build"))
        assert len(bench.addresses) == 2
        assert first not in bench.addresses

    @pytest.mark.parametrize("value", ["much", "-1", "2 \u00fc"])
    def test_says_that_a_size_is_not_one(self, value: str, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_CACHE_SIZE=value))
        assert line.startswith("pyo3-envshim: warning: PYO3_ENVSHIM_CACHE_SIZE is taken as 2G: ")
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
        place = Store(str(bench.store))
        (digest,) = bench.addresses
        assert upkeep.prune(place, 0, now=time.time() + 90 * DAY) == []
        assert upkeep.clear(place) == [digest]
        assert build.communicate("go on\n")[0] == "tiny\n"
        assert upkeep.prune(place, 0) == [digest]

    def test_that_is_killed_holds_nothing(self, bench: Bench) -> None:
        bench.cargo.behaves(signal=9)
        assert bench.run("build").returncode == -9
        (digest,) = bench.addresses
        assert upkeep.prune(Store(str(bench.store)), 0) == [digest]

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
        (digest,) = bench.addresses
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
        assert bench.addresses == [digest]
        fine(bench.run("build"))

    def test_that_a_running_build_uses_is_neither_replaced_nor_used(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (digest,) = bench.addresses
        entry = bench.store / "environments" / digest
        place = Store(str(bench.store))
        place.use(read(bench.root))
        add(entry)
        line = warned(bench.run("build"))
        assert "warning: not used for this build" in line
        assert "had changed (added file" in line
        assert "a running build uses it" in line
        assert bench.changes() == {}
        assert (site_packages(entry) / "added.py").exists()
        place.release()
        assert "was replaced" in warned(bench.run("build"))

    def test_has_odd_names_said_in_one_line(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (digest,) = bench.addresses
        (bench.store / "environments" / digest / "new\nline").touch()
        assert "added file 'new\\nline'" in warned(bench.run("build"))
