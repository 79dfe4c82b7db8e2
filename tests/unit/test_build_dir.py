"""Kept build folders: what may stay in one, what goes, and how they are listed, pruned and cleared."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyo3_envshim import build_dir, builds, files
from pyo3_envshim.build_notes import DISK_FULL, TOO_LARGE, BuildNotes
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo import harmless, inputs, metadata
from pyo3_envshim.cargo.metadata import Workspace
from pyo3_envshim.environment import layout
from pyo3_envshim.stamp import STAMP
from pyo3_envshim.store.lock import Locks

from .environments import Shared, changed, script
from .posix import fcntl, names_in
from .test_builds import keep
from .test_harmless import HOME, answer, package
from .test_target_dir import HASH, OTHER, unit
from .test_wrapper import Bench, break_package, fine, warned

CALL = CargoCall("/no/cargo", ["build"], HOME)
LOCK = """
[[package]]
name = "good"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "0a"
"""


@pytest.mark.parametrize("arguments", [["rustc", "--lib"], ["+nightly", "rustc", "--", "-C", "x"]])
def test_the_folder_is_told_by_an_option_that_cargo_does_not_hand_on(
    arguments: list[str], tmp_path: Path
) -> None:
    found = build_dir.BuildDir(CALL, f'{tmp_path}/"odd\\\U0001f980', -1, 0).arguments(arguments)
    at = found.index("--config")
    assert [*found[:at], *found[at + 2 :]] == arguments
    assert at == arguments[0].startswith("+")
    own = json.dumps(str(tmp_path))[:-1]
    assert found[at + 1] == f'build.build-dir={own}/\\"odd\\\\\U0001f980"'


def test_what_maturin_tells_pyo3_has_a_path_that_its_content_decides(tmp_path: Path) -> None:
    kept = build_dir.BuildDir(CALL, str(tmp_path), -1, 0)
    paths = []
    for name, text in (("one", "abi3=true"), ("two", "abi3=true"), ("three", "abi3=false")):
        (tmp_path / name).write_text(text)
        path = kept.variables({"PYO3_CONFIG_FILE": str(tmp_path / name)})["PYO3_CONFIG_FILE"]
        assert Path(path).read_text() == text
        paths.append(path)
    assert paths[0] == paths[1] != paths[2]
    assert kept.variables({}) == {}


class TestASecondBuild:
    """Of a tree in the same place, when cargo's time stamps can be trusted."""

    @pytest.mark.parametrize(
        ("what", "stays"),
        [("nothing", True), ("src/lib.rs", True), ("Cargo.toml", False), ("Cargo.toml is gone", False)],
    )
    def test_finds_what_was_compiled_where_the_tree_is_the_same(
        self, what: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another tree has another Cargo.toml, even where all of it is newer."""
        tree, folder = tmp_path / "tree", tmp_path / "folder"
        (tree / "src").mkdir(parents=True)
        (tree / "src" / "lib.rs").touch()
        (tree / "Cargo.toml").touch()
        self.build(tree, folder, monkeypatch)
        os.utime(folder / STAMP, (3_000_000_000,) * 2)  # long after all sources
        unit(folder / "debug", "own", "own")
        built = folder / "debug" / ".fingerprint" / f"own-{HASH}" / "invoked.timestamp"
        os.utime(built, (4_000_000_000,) * 2)
        newer = tree if "gone" in what else tree / what
        if "gone" in what:
            (tree / "Cargo.toml").unlink()
        if newer.exists():
            os.utime(newer, (4_000_000_001,) * 2)
        self.build(tree, folder, monkeypatch)
        assert built.exists() == stays

    def build(
        self, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, keeps: str = "on"
    ) -> list[tuple[Any, ...]]:
        """Prepare a folder for a build of a tree; return what cargo was asked, beside the call."""
        asked: list[tuple[Any, ...]] = []

        def all_packages(_: CargoCall, *how: Any) -> dict[str, Any]:
            asked.append(how)
            return answer()

        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(metadata, "all_packages", all_packages)
        where = {"workspace_root": str(tree), "target_directory": f"{tree}/target", "packages": []}
        call = CargoCall("/no/cargo", ["build"], {**HOME, builds.VARIABLE: keeps})
        build_dir.evict_stale(str(folder), Workspace(where, []), call)
        return asked

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """An unpacked tree that was built in `folder`, with what may stay there."""
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "Cargo.toml").touch()
        (tree / "Cargo.lock").write_text(LOCK)
        return tree

    @pytest.fixture
    def folder(self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(harmless, "reusable", lambda *_: ({"good"}, {"good"}))

        def compiler(settings: list[str], environ: Mapping[str, str], folder: str) -> str:
            assert (settings, folder) == ([], str(tmp_path / "folder"))
            return f"rustc 1{environ.get('RUSTUP_TOOLCHAIN', '')}"

        monkeypatch.setattr(harmless, "compiler", compiler)
        self.build(tree, tmp_path / "folder", monkeypatch)
        unit(tmp_path / "folder" / "debug", "good", "good")
        unit(tmp_path / "folder" / "debug", "own", "own", OTHER)
        os.utime(tmp_path / "folder" / STAMP, (3_000_000_000,) * 2)  # long after all sources
        BuildNotes(str(tmp_path / "folder")).note_outputs()
        return tmp_path / "folder"

    def left(self, folder: Path) -> list[str]:
        return sorted(names_in(folder / "debug" / ".fingerprint"))

    def test_keeps_what_comes_from_a_registry_where_the_tree_is_another(
        self, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tree / "Cargo.toml").write_text("[package]")
        self.build(tree, folder, monkeypatch)
        assert self.left(folder) == [f"good-{HASH}"]

    @pytest.mark.parametrize("what", ["nothing", "more", "checksum", "rubbish", "large", "damage"])
    def test_keeps_nothing_in_doubt_about_what_comes_from_there(
        self, what: str, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notes = BuildNotes(str(folder))
        (folder / "debug" / ".envshim-sets" / "0a1b").mkdir(parents=True)
        if what == "more":
            (tree / "Cargo.lock").write_text(LOCK + LOCK.replace("good", "better").replace("0a", "0b"))
        elif what == "checksum":
            (tree / "Cargo.lock").write_text(LOCK.replace("0a", "0b"))
        elif what == "rubbish":
            (folder / "checksums").write_text("5")
        elif what == "large":
            notes.mark(TOO_LARGE)
            (tree / "Cargo.lock").write_text(LOCK.replace("good", "other"))
        elif what == "damage":
            (folder / "debug" / "deps" / f"libgood-{HASH}.rlib").write_text("more")
        self.build(tree, folder, monkeypatch)
        stays = what in ("nothing", "more")
        assert self.left(folder) == ([f"good-{HASH}", f"own-{OTHER}"] if stays else [])
        assert (folder / "debug" / ".envshim-sets").exists() == stays
        assert not notes.has(TOO_LARGE)
        known = metadata.checksums(str(tree / "Cargo.lock"))
        assert (notes.checksums(), len(known)) == (known, 2 if what == "more" else 1)

    def test_knows_the_checksums_of_all_builds_there(
        self, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = metadata.checksums(str(tree / "Cargo.lock"))
        (tree / "Cargo.lock").write_text(LOCK.replace("good", "other"))
        self.build(tree, folder, monkeypatch)
        after = metadata.checksums(str(tree / "Cargo.lock"))
        assert BuildNotes(str(folder)).checksums() == {**before, **after} != after

    @pytest.mark.parametrize(
        ("keeps", "compiler", "stays"),
        [("", "rustc 1", True), ("", "rustc 2", False), ("", "", False), ("on", "rustc 2", True)],
    )
    def test_keeps_nothing_of_another_compiler(
        self,
        keeps: str,
        compiler: str,
        stays: bool,
        tree: Path,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With ``on``, as cargo does, which compares its version."""
        BuildNotes(str(folder)).note_compiler(compiler)
        self.build(tree, folder, monkeypatch, keeps)
        assert bool(self.left(folder)) == stays
        assert BuildNotes(str(folder)).compiler() == ""  # until cargo has ended

    @pytest.mark.parametrize("is_known", [True, False])
    def test_has_cargo_ask_which_compiler_it_is_where_cargo_would_not(
        self, is_known: bool, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = '{"outputs": {"1": {"stdout": "host: here\\n"}}}'
        (folder / ".rustc_info.json").write_text(told)
        (tree / "Cargo.toml").write_text("[package]")
        monkeypatch.setattr(harmless, "is_compiler_known", lambda *it: is_known and it[2] == str(folder))
        option = ["--config", f"build.build-dir={json.dumps(str(folder))}"] if is_known else []
        assert self.build(tree, folder, monkeypatch) == [(["here"], option)]
        assert (folder / ".rustc_info.json").exists() == is_known


class TestWhatStays:
    """Where not all is kept: what cannot depend on the system, by name."""

    OURS = ("good", "asks", "near-it", "two-of", "other")
    UNTOLD = """
[[package]]
name = "two-of"
version = "2.0.0"

[[package]]
name = "other"
version = "1.0.0"
source = "registry"
"""

    def stay(self, monkeypatch: pytest.MonkeyPatch, folder: Path, **more: str) -> tuple[set[str], set[str]]:
        place = os.path.normpath("/home/me/.cargo/registry/src/index")
        found = [*(package(name, place) for name in self.OURS), package("vendored", "/tmp/tree/vendor")]
        told = [{**it, "version": "1.0.0"} for it in [*found, package("own", "/tmp/tree", None)]]
        told_of = {**answer(*told, **{"near-it": ["asks"]}), "workspace_root": str(folder)}
        verified = inputs.verified_sources(HOME)

        def all_packages(call: CargoCall, platforms: list[str], settings: list[str]) -> dict[str, Any]:
            assert (call.cargo, platforms, settings) == ("/no/cargo", ["here"], ["--config", "a=1"])
            return told_of

        def system_dependent(packages: object, profiles: list[str], places: object) -> set[str]:
            assert (packages, profiles, places) == (told, [str(folder / "debug")], verified)
            return {"asks", "own"}

        def may_ask(name: str, version: str, source: str | None, places: object) -> bool:
            assert (name, version, source, places) == ("two-of", "2.0.0", None, verified)
            return True

        (folder / "debug").mkdir()
        (folder / ".rustc_info.json").write_text('{"outputs": {"1": {"stdout": "host: here\\n"}}}')
        (folder / "Cargo.lock").write_text(self.UNTOLD)
        monkeypatch.setattr(metadata, "all_packages", all_packages)
        monkeypatch.setattr(harmless, "system_dependent", system_dependent)
        monkeypatch.setattr(harmless, "may_ask", may_ask)
        call = CargoCall("/no/cargo", ["build"], {**HOME, **more})
        return build_dir._staying(str(folder), call, ["--config", "a=1"])

    def test_is_what_neither_asks_it_nor_needs_what_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of one with another version that cargo tells nothing of, it is not known which is which."""
        assert self.stay(monkeypatch, tmp_path) == ({"good", "other"}, {"good", "other"})
        assert BuildNotes(str(tmp_path)).each_time() == {"asks": ["asks"], "needs": ["near-it", "two-of"]}

    def test_is_all_of_a_registry_if_that_is_wanted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names, _ = self.stay(monkeypatch, tmp_path, **{builds.VARIABLE: "on"})
        assert names == set(self.OURS)


class TestHolding:
    def test_is_not_inherited(self, tmp_path: Path) -> None:
        held = build_dir.lock(str(tmp_path / "above" / "folder"))
        assert not os.get_inheritable(held)
        assert (tmp_path / "above" / "folder").stat().st_mode & 0o777 == 0o700
        other = os.open(tmp_path / "above" / "folder", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        os.close(held)

    def test_makes_a_folder_as_windows_needs_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Below the user's profile, it is private as it is."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(files, "private_mode", functools.partial(files.private_mode, windows=True))
        before = os.umask(0o022)
        try:
            os.close(build_dir.lock(str(tmp_path / "folder")))
        finally:
            os.umask(before)
        assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("pruned", [0, 1, 2])
    def test_waits_says_so_once_and_holds_what_is_there_then(
        self, pruned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The folder may be pruned meanwhile, and another build may lock the one that replaces it."""
        folder = tmp_path / "folder"
        said: list[str] = []
        waits = threading.Semaphore(0)
        real = fcntl.flock

        def flock(file: int, how: int) -> None:
            if how == fcntl.LOCK_EX:
                waits.release()
            real(file, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(build_dir, "warn", said.append)
        held = build_dir.lock(str(folder))
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(build_dir.lock, str(folder))
            assert waits.acquire(timeout=30)
            for number in range(pruned):
                folder.rename(tmp_path / str(number))
                following = build_dir.lock(str(folder))
                os.close(held)
                held = following
                assert waits.acquire(timeout=30)
            os.close(held)
            found = waiting.result()
        assert os.path.samestat(os.fstat(found), folder.stat())
        assert said == [f"waits for another build that uses {folder}"]
        os.close(found)

    def test_makes_a_folder_that_was_removed_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "folder"
        held = build_dir.lock(str(folder))

        def warn(_: str) -> None:
            folder.rmdir()
            os.close(held)

        monkeypatch.setattr(build_dir, "warn", warn)
        os.close(build_dir.lock(str(folder)))
        assert folder.is_dir()

    def test_ends_where_waiting_is_interrupted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        held = build_dir.lock(str(tmp_path / "folder"))

        def interrupted(_: str) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(build_dir, "warn", interrupted)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(KeyboardInterrupt):
            build_dir.lock(str(tmp_path / "folder"))
        assert os.listdir("/proc/self/fd") == before
        os.close(held)

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(OSError, match="link"):
            build_dir.lock(str(tmp_path / "link"))


def check(answer: dict[str, Any], environ: dict[str, str]) -> None:
    build_dir.check(Workspace(answer, []), environ)


def key_of(answer: dict[str, Any]) -> str:
    return build_dir.key(Workspace(answer, []))


class TestACallIsEligible:
    @pytest.fixture
    def answer(self, tmp_path: Path) -> dict[str, Any]:
        """What cargo 1.91 and later answer in an unpacked sdist."""
        tree = tmp_path / "build-via-sdist-abcd1234" / "tiny"
        tree.mkdir(parents=True)
        tree.parent.chmod(0o700)
        (tree / "Cargo.lock").write_text("")
        target = str(tree / "target")
        packages = [
            {"name": name, "manifest_path": str(tree / name / "Cargo.toml")} for name in ("part", "other")
        ]
        packages.append({"name": "tiny", "manifest_path": str(tree / "Cargo.toml")})
        found = {"workspace_root": str(tree), "target_directory": target, "build_directory": target}
        return {**found, "packages": packages}

    def test_in_an_unpacked_sdist(self, answer: dict[str, Any], tmp_path: Path) -> None:
        check(answer, {"TMPDIR": str(tmp_path)})

    def test_not_by_a_cargo_without_build_folders(self, answer: dict[str, Any], tmp_path: Path) -> None:
        del answer["build_directory"]
        with pytest.raises(build_dir.Ineligible, match=r"older than 1\.91"):
            check(answer, {"TMPDIR": str(tmp_path)})

    @pytest.mark.parametrize("name", ["build_directory", "target_directory"])
    def test_not_where_cargo_works_elsewhere(self, answer: dict[str, Any], tmp_path: Path, name: str) -> None:
        answer[name] = "/elsewhere"
        with pytest.raises(build_dir.Ineligible, match="is configured"):
            check(answer, {"TMPDIR": str(tmp_path)})

    def test_and_has_a_folder_for_its_root_package(self, answer: dict[str, Any]) -> None:
        name = key_of(answer)
        assert name.startswith("tiny-")
        assert key_of({**answer, "packages": answer["packages"][2:]}) == name

    def test_and_has_one_for_the_members_where_there_is_no_root_package(self, answer: dict[str, Any]) -> None:
        answer["packages"].pop()
        assert key_of(answer).startswith("other-")
        answer["packages"].clear()
        assert re.fullmatch("[0-9a-f]{12}", key_of(answer))

    def test_and_has_one_with_a_name_that_is_not_too_long(self, answer: dict[str, Any]) -> None:
        answer["packages"][2]["name"] = "n" * 200
        assert re.fullmatch("n{40}-[0-9a-f]{12}", key_of(answer))

    @pytest.mark.parametrize("name", build_dir.OWN)
    def test_not_where_the_user_has_chosen_a_folder(
        self, name: str, answer: dict[str, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(build_dir.Ineligible, match=f"^{name} is set$"):
            check(answer, {"TMPDIR": str(tmp_path), name: "/mine"})

    def test_not_in_the_users_own_sources(self, answer: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(build_dir.Ineligible, match="is not an sdist that a front end unpacked"):
            check(answer, {"TMPDIR": f"{tmp_path}/elsewhere"})

    def acquire(self, cache: Path, answer: dict[str, Any], value: str = "on") -> build_dir.BuildDir:
        cache.mkdir(0o700, exist_ok=True)
        environ = {"TMPDIR": str(cache.parent), "HOME": "/home/me", builds.VARIABLE: value}
        call = CargoCall("/no/cargo", ["build"], environ)
        return build_dir.acquire(call, Workspace(answer, []), str(cache))

    def test_and_holds_its_folder_until_it_is_released(self, answer: dict[str, Any], tmp_path: Path) -> None:
        kept = self.acquire(tmp_path / "cache", answer)
        assert builds.clear(f"{tmp_path}/cache") == []
        kept.release()
        assert builds.clear(f"{tmp_path}/cache") == [os.path.basename(kept.folder)]

    def test_and_lets_it_go_where_that_fails(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(metadata, "all_packages", interrupted)
        unit(
            tmp_path / "cache" / "builds" / key_of(answer) / "debug",
            "own",
            "own",
        )
        (tmp_path / "cache").chmod(0o700)
        with pytest.raises(KeyboardInterrupt):
            self.acquire(tmp_path / "cache", answer)
        assert builds.clear(f"{tmp_path}/cache")

    def test_not_where_it_is_off(self, answer: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(build_dir.Ineligible, match="is off"):
            self.acquire(tmp_path / "cache", answer, "off")

    @pytest.mark.parametrize("name", [b"{", b"\xff", b" ", b":"])
    def test_not_where_the_path_is_trouble(self, name: bytes, answer: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(build_dir.Ineligible, match="can work with the path"):
            self.acquire(tmp_path / os.fsdecode(name), answer)

    def test_not_where_others_can_write(self, answer: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "cache" / "builds").mkdir(parents=True)
        (tmp_path / "cache" / "builds").chmod(0o777)
        with pytest.raises(build_dir.Ineligible, match="builds"):
            self.acquire(tmp_path / "cache", answer)

    def test_not_where_little_room_is_left(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build_dir, "ROOM", 1 << 60)
        with pytest.raises(build_dir.Ineligible, match="less than 1G is free"):
            self.acquire(tmp_path / "cache", answer)
        assert names_in(tmp_path / "cache" / "builds") == []

    @pytest.mark.parametrize(
        ("free", "with_others", "is_eligible", "stay"),
        [(0, 0, True, True), (0, -1, True, False), (-1, -1, False, False)],
    )
    def test_and_others_make_room_for_it(
        self,
        free: int,
        with_others: int,
        is_eligible: bool,
        stay: bool,
        answer: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What is free, beside what must be, without others and with them."""
        above = tmp_path / "cache" / "builds"

        def disk_usage(path: str) -> SimpleNamespace:
            assert path == str(above)
            return SimpleNamespace(free=build_dir.ROOM + (with_others if (above / "old").exists() else free))

        monkeypatch.setattr(shutil, "disk_usage", disk_usage)
        keep(tmp_path / "cache", old=1)
        if is_eligible:
            self.acquire(tmp_path / "cache", answer).release()
        else:
            with pytest.raises(build_dir.Ineligible, match="less than 1G is free"):
                self.acquire(tmp_path / "cache", answer)
        assert (above / "old").exists() == stay

    def test_and_has_what_is_known_of_it(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build_dir, "BuildDir", lambda *it: it)
        given: Any = self.acquire(tmp_path / "cache", answer, "3G")
        call, folder, descriptor, limit, target = given
        os.close(descriptor)
        assert (call.arguments, call.environ[builds.VARIABLE]) == (["build"], "3G")
        assert folder == str(tmp_path / "cache" / "builds" / key_of(answer))
        assert (limit, target) == (3 << 30, answer["target_directory"])

    def test_may_have_a_path_as_long_as_its_own(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build_dir, "flaw_of", lambda folder, longest: f"{longest} letters")
        with pytest.raises(build_dir.Ineligible, match=f"^{len(answer['target_directory'])} letters$"):
            self.acquire(tmp_path / "cache", answer)

    @pytest.mark.parametrize("is_enough", [True, False])
    def test_not_where_a_build_in_it_has_filled_the_disk(
        self, is_enough: bool, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = builds.LIMIT if is_enough else builds.LIMIT - 1
        above = str(tmp_path / "cache" / "builds")
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: SimpleNamespace(free=free) if path == above else None
        )
        folder = tmp_path / "cache" / "builds" / key_of(answer)
        folder.mkdir(parents=True)
        BuildNotes(str(folder)).mark(DISK_FULL)
        (tmp_path / "cache").chmod(0o700)
        if is_enough:
            self.acquire(tmp_path / "cache", answer).release()
            assert not BuildNotes(str(folder)).has(DISK_FULL)
        else:
            with pytest.raises(build_dir.Ineligible, match=r"the last build in .* failed"):
                self.acquire(tmp_path / "cache", answer)

    def test_not_where_there_are_no_locks(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build_dir, "try_lock", lambda *_, **__: None)
        with pytest.raises(build_dir.Ineligible, match="there are no locks"):
            self.acquire(tmp_path / "cache", answer)

    def test_not_where_something_may_depend_on_the_system(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def flaw_of(workspace: Workspace, environ: Mapping[str, str]) -> str:
            return f"flaw {len(workspace.names)}{environ[builds.VARIABLE]}"

        monkeypatch.setattr(harmless, "flaw_of", flaw_of)
        with pytest.raises(build_dir.Ineligible, match=f"^flaw 1; {builds.VARIABLE}=on keeps all$"):
            self.acquire(tmp_path / "cache", answer, "")
        self.acquire(tmp_path / "cache", answer, "on").release()

    def test_not_while_a_cargo_holds_it_that_nobody_waits_for(
        self, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        used = str(tmp_path / "cache" / "builds" / key_of(answer) / builds.USED)
        monkeypatch.setattr(build_dir, "is_held", lambda path: path == used)
        with pytest.raises(build_dir.Ineligible, match="that nobody waits for"):
            self.acquire(tmp_path / "cache", answer)

    @pytest.mark.parametrize(
        "name", ["debug/.cargo-lock", "debug/.cargo-build-lock", "x86_64/debug/.cargo-lock"]
    )
    def test_not_beside_a_cargo_that_nobody_waits_for(
        self, name: str, answer: dict[str, Any], tmp_path: Path
    ) -> None:
        folder = tmp_path / "cache" / "builds" / key_of(answer)
        (folder / name).parent.mkdir(parents=True)
        unit(folder / "debug", "own", "own")
        (tmp_path / "cache").chmod(0o700)
        (folder / name).touch()
        with Locks([str(folder / name)]), pytest.raises(build_dir.Ineligible, match="that nobody waits for"):
            self.acquire(tmp_path / "cache", answer)


class TestACallInAnUnpackedSdist:
    """The installed wrapper, in front of a fake cargo."""

    @pytest.fixture
    def bench(self, shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
        found = Bench(shared, a_python, environ, tmp_path)
        tree = tmp_path / "tmp" / "build-via-sdist-abcd1234" / "tiny"
        tree.parent.mkdir(0o700)
        found.project.rename(tree)
        (tree / "Cargo.lock").write_text("")
        old, new = (json.dumps(str(it))[1:-1] for it in (found.project, tree))
        text = json.dumps(found.metadata).replace(old, new)
        found.project = tree
        found.metadata = json.loads(text)
        found.metadata["build_directory"] = found.metadata["target_directory"]
        found.metadata["packages"][0]["id"] = "tiny 1"
        found.metadata["resolve"] = {"nodes": []}
        found.cargo.answers(found.metadata)
        found.environ[builds.VARIABLE] = "on"
        return found

    def kept(self, bench: Bench) -> Path:
        (found,) = (bench.store / "builds" / name for name in names_in(bench.store / "builds"))
        return found

    def test_is_given_a_folder_that_stays(self, bench: Bench) -> None:
        bench.cargo.behaves(out="out\n", err="err\n", status=7)
        done = bench.run("+nightly", "build", "--release", input="in\n")
        assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
        option = f"build.build-dir={json.dumps(str(self.kept(bench)))}"
        assert bench.cargo.call.arguments == ["+nightly", "--config", option, "build", "--release"]
        assert bench.cargo.call.input == "in\n"
        names = {STAMP, ".in-use", "CACHEDIR.TAG", "checksums", "outputs", "release"}
        if layout.WINDOWS:  # what is locked there lies beside the folder
            names.remove(".in-use")
        assert set(os.listdir(self.kept(bench))) == names
        assert not (bench.project / "target").exists()
        (digest,) = bench.entries
        assert bench.changes()["PYO3_PYTHON"] == layout.interpreter(
            str(bench.store / "environments" / digest)
        )

    def test_says_which_if_asked(self, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        (digest,) = bench.entries
        python = layout.interpreter(str(bench.store / "environments" / digest))
        said = f"environment {digest[:12]} stored, build folder {self.kept(bench)}: PYO3_PYTHON={python}"
        assert line == f"pyo3-envshim: {said}\n"

    def test_shares_it_with_the_next_tree_of_the_project(self, bench: Bench) -> None:
        fine(bench.run("build"))
        first = bench.cargo.calls[-1]
        other = bench.project.parent.with_name("build-via-sdist-00000000")
        bench.project.parent.rename(other)
        bench.cargo.answers(json.loads(json.dumps(bench.metadata).replace("abcd1234", "00000000")))
        bench.project = other / "tiny"
        fine(bench.run("build"))
        assert bench.cargo.calls[-1].arguments == first.arguments
        assert bench.cargo.calls[-1].environ["PYO3_PYTHON"] == first.environ["PYO3_PYTHON"]

    @pytest.mark.parametrize(
        ("host", "target", "platforms"),
        [
            ("x86_64-linux", "", ["x86_64-linux"]),
            ("x86_64-linux", "wasm32-wasip1", ["x86_64-linux", "wasm32-wasip1"]),
            ("", "wasm32-wasip1", []),
        ],
    )
    def test_asks_cargo_what_of_it_may_stay_where_sources_changed(
        self, host: str, target: str, platforms: list[str], bench: Bench
    ) -> None:
        fine(bench.run("build"))
        (bench.project / "src" / "lib.rs").write_text("fn other() {}\n")
        if host:
            text = f'{{"outputs":{{"1":{{"stdout":"rustc \u00fc\\nhost: {host}\\n"}}}}}}'
            (self.kept(bench) / ".rustc_info.json").write_text(text, "utf-8")
        unit(self.kept(bench) / "release", "own", "own", OTHER)
        unit(self.kept(bench) / "release", "good", "good")
        home = bench.environ["USERPROFILE" if os.name == "nt" else "HOME"]
        bench.metadata["packages"].append(package("good", f"{home}/.cargo/registry/src/index"))
        bench.cargo.answers(bench.metadata)
        in_ascii = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        fine(bench.run("build", *(["--target", target] if target else []), **in_ascii))
        asked = bench.cargo.all_calls[-2]
        wanted = [word for platform in platforms for word in ("--filter-platform", platform)]
        assert asked.arguments == ["metadata", "--format-version", "1", "--locked", *wanted]
        assert changed(bench.plain(**in_ascii), asked.environ) == {}
        assert os.listdir(self.kept(bench) / "release" / ".fingerprint") == [f"good-{HASH}"]

    def test_says_that_it_waits(self, bench: Bench) -> None:
        fine(bench.run("build"))
        held = build_dir.lock(str(self.kept(bench)))
        process = subprocess.Popen(
            [bench.wrapper, "build"], env=bench.environ, cwd=bench.project, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        said, _, _ = select.select([process.stderr], [], [], 30)
        os.close(held)
        line = process.stderr.readline() if said else ""
        assert line == f"pyo3-envshim: waits for another build that uses {self.kept(bench)}\n"
        assert process.communicate()[1] == ""
        assert process.returncode == 0

    def test_names_what_maturin_tells_pyo3_by_its_content(self, bench: Bench) -> None:
        config = script(bench.project / "target" / "maturin" / "pyo3-config-1.txt", "abi3=true\n")
        fine(bench.run("build", PYO3_CONFIG_FILE=str(config)))
        path = Path(bench.cargo.call.environ["PYO3_CONFIG_FILE"])
        assert path.parent == self.kept(bench)
        assert path.read_text() == "abi3=true\n"

    def test_runs_as_it_came_where_that_cannot_be_read(self, bench: Bench) -> None:
        config = f"{bench.project}/target/maturin/pyo3-config-1.txt"
        line = warned(bench.run("build", PYO3_CONFIG_FILE=config))
        reason = f"{config}: {os.strerror(errno.ENOENT)}"
        assert line == f"pyo3-envshim: warning: not used for this build: {reason}\n"
        assert bench.cargo.call.arguments == ["build"]
        assert bench.changes(PYO3_CONFIG_FILE=config) == {}

    @pytest.mark.parametrize("verbose", ["", "1"])
    def test_goes_on_without_where_it_is_not_eligible(self, verbose: str, bench: Bench) -> None:
        (bench.project / "Cargo.lock").unlink()
        done = bench.run("build", PYO3_ENVSHIM_VERBOSE=verbose)
        assert bench.cargo.call.arguments == ["build"]
        assert bench.changes(PYO3_ENVSHIM_VERBOSE=verbose)["PYO3_PYTHON"]
        assert (bench.project / "target" / "debug" / STAMP).exists()
        assert not (bench.store / "builds").exists()
        reason = "pyo3-envshim: no build folder is kept: the sdist has no Cargo.lock\n"
        assert done.stderr.startswith(reason) == bool(verbose)
        assert done.stderr.count("\n") == 2 * bool(verbose)

    def test_has_its_default_where_the_variable_says_nothing(self, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_BUILD_CACHE="wrong"))
        said = "PYO3_ENVSHIM_BUILD_CACHE='wrong' is taken as its default: say on, off or a size such as 10G"
        assert line == f"pyo3-envshim: warning: {said}\n"
        assert self.kept(bench).is_dir()

    def test_goes_on_without_where_that_fails(self, bench: Bench) -> None:
        break_package(bench, "build_dir")
        line = warned(bench.run("build"))
        assert line.startswith("pyo3-envshim: warning: no build folder is kept: SyntaxError: ")
        assert bench.cargo.call.arguments == ["build"]
        assert bench.changes()["PYO3_PYTHON"]

    def test_removes_others_beyond_the_limit_afterwards(self, bench: Bench) -> None:
        fine(bench.run("build"))
        own = self.kept(bench)
        keep(bench.store, old=3)
        fine(bench.run("build"))
        assert len(names_in(bench.store / "builds")) == 2
        size = sum(path.stat().st_size for path in own.rglob("*") if path.is_file())
        fine(bench.run("build", **{builds.VARIABLE: str(size + 500)}))
        assert self.kept(bench) == own

    def test_ends_by_the_signal_that_ended_cargo(self, bench: Bench) -> None:
        self.cargo_does("kill -TERM $$", bench)
        assert bench.run("build").returncode == -signal.SIGTERM

    def test_says_that_cargo_cannot_be_run(self, bench: Bench) -> None:
        self.cargo_does(":", bench, meanwhile='chmod -x "$0"')
        done = bench.run("build")
        assert (done.returncode, done.stderr) == (
            126,
            f"pyo3-envshim: {bench.cargo.path} cannot be run: Permission denied\n",
        )

    def cargo_does(self, what: str, bench: Bench, meanwhile: str = ":") -> None:
        answer = f'cat "{bench.cargo.folder}/metadata.json"; {meanwhile}'
        script(bench.cargo.path, f'#!/bin/sh\nif [ "$1" = metadata ]; then {answer}\nelse {what}; fi\n')
