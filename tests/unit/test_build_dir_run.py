"""A kept build folder while cargo works in it, and what is noted and moved when cargo has ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import build_dir, builds
from pyo3_envshim.build_notes import DISK_FULL, TOO_LARGE, BuildNotes
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo import metadata
from pyo3_envshim.store.lock import try_lock

from .environments import ROOT, run, script
from .fabricated_cargo import Environ, Fabricated
from .test_builds import keep
from .test_set_aside import ALL, environs

KEEPING_ALL = {"PYO3_ENVSHIM_BUILD_CACHE": "on"}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Undo what waiting changes in this process."""
    names = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP")
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Kept:
    """A build folder that is locked, and a cargo that is a script."""

    def __init__(self, folder: Path, limit: float = builds.LIMIT, *, is_looked_at: bool = True) -> None:
        self.folder = folder / "cache" / "builds" / "tiny-0a1b"
        self.target = folder / "tree" / "target"
        self.cargo = folder / "bin" / "cargo"
        self.descriptor = build_dir.lock(str(self.folder))
        call = CargoCall(str(self.cargo), ["build"], KEEPING_ALL)
        target = [str(self.target)] if is_looked_at else []
        self.dir = build_dir.BuildDir(call, str(self.folder), self.descriptor, limit, *target)
        self.call = call
        self.notes = BuildNotes(str(self.folder))

    def run(self, *lines: str) -> int:
        """Let cargo do what a shell's *lines* say, in the folder; return how it ended."""
        text = "\n".join(("#!/bin/sh", f'cd "{self.folder}" && PATH=/bin:/usr/bin', *lines))
        script(self.cargo, f"{text}\n")
        return self.dir.run(self.call, self.call.environ)

    def names(self) -> set[str]:
        return set(os.listdir(self.folder))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def free(folder: Path) -> bool:
    """Tell whether nobody has locked a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return bool(try_lock(descriptor, exclusive=True, wait=False))
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Tell whether a cargo works in a folder, as another process sees it."""
    code = "import sys; from pyo3_envshim.store.lock import is_held; print(is_held(sys.argv[1]))"
    return run([sys.executable, "-c", code, folder / builds.USED], {}, ROOT) == "True\n"


_WRAPPER = """\
import os, sys
from pyo3_envshim import build_dir, call
cargo, folder = sys.argv[1:]
it = call.CargoCall(cargo, ["build"], {"PYO3_ENVSHIM_BUILD_CACHE": "on"})
build_dir.BuildDir(it, folder, build_dir.lock(folder), 1 << 30).run(it, it.environ)
"""


def test_a_folder_is_cargos_though_the_wrapper_is_killed(tmp_path: Path) -> None:
    cargo = script(tmp_path / "cargo", "#!/bin/sh\necho here\nread line\n")
    command, pipe = [sys.executable, "-c", _WRAPPER, str(cargo), str(tmp_path / "kept")], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == b"here\n"
        wrapper.kill()
        wrapper.wait()
        assert held(tmp_path / "kept")


class TestWhenCargoHasEnded:
    def test_its_status_is_ours_and_the_folder_is_free(self, kept: Kept) -> None:
        assert not free(kept.folder)
        assert held(kept.folder)
        kept.dir.in_child = (kept.folder / "first").touch
        assert kept.run('[ -e first ] && [ "$1" = --config ] && [ "$3" = build ] && exit 7') == 7
        assert free(kept.folder)
        assert not held(kept.folder)

    def test_it_is_free_though_there_was_no_cargo(self, kept: Kept) -> None:
        with pytest.raises(OSError, match="cargo"):
            kept.dir.run(kept.call, {})
        assert free(kept.folder)

    def test_the_sizes_of_its_outputs_are_noted(self, kept: Kept) -> None:
        library = "release/deps/liba-0123456789abcdef.rlib"
        kept.run("mkdir -p release/deps", f"echo 1 >{library}")
        assert not kept.notes.is_damaged()
        (kept.folder / library).write_text("")
        assert kept.notes.is_damaged()

    def test_the_compiler_is_noted_where_not_all_is_kept(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pyo3_envshim.cargo.harmless.compiler", lambda *it: repr(it))
        kept.run()
        assert kept.notes.compiler() == ""
        other = Kept(kept.folder.parents[2] / "other")
        other.call.environ.clear()
        other.call.arguments += ["--config", "a=1"]
        other.run()
        assert other.notes.compiler() == repr((["a=1"], {}, str(other.folder)))

    def test_others_go_beyond_the_limit_and_this_one_is_marked_if_it_is_larger(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, 1500)
        keep(tmp_path / "cache", old=3)
        kept.run("head -c 1200 /dev/zero >file")
        assert os.listdir(tmp_path / "cache" / "builds") == ["tiny-0a1b"]
        assert not kept.notes.has(TOO_LARGE)
        again = Kept(tmp_path, builds.Build(str(kept.folder)).size)
        again.run()
        assert not again.notes.has(TOO_LARGE)
        again = Kept(tmp_path, 1500)
        again.run("head -c 1600 /dev/zero >file")
        assert again.notes.has(TOO_LARGE)

    @pytest.mark.parametrize(
        ("ends", "is_room_left", "goes"),
        [
            ("exit 1", False, True),
            ("exit 1", True, False),
            ("exit 0", False, False),
            ("kill $$", False, False),
        ],
    )
    def test_on_a_full_disk_it_leaves_its_room_to_others(
        self, ends: str, is_room_left: bool, goes: bool, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room = build_dir.ROOM if is_room_left else build_dir.ROOM - 1
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda path: SimpleNamespace(free=room) if path == str(kept.folder) else None,
        )
        monkeypatch.setattr("pyo3_envshim.subprocesses.end_as", lambda status: status)
        kept.run("mkdir release; touch release/file", ends)
        assert kept.names() >= ({builds.USED, DISK_FULL} if goes else {"release"})
        assert ("release" in kept.names(), kept.notes.has(DISK_FULL)) == (not goes, goes)


class TestWhatBuildScriptsLeaveBesideResults:
    """A back end looks for it in the tree's target folder."""

    LEAVES = (
        *("mkdir -p release/gen/a release/deps", "echo new >release/gen/a/b.txt; echo new >release/c.h"),
        "touch -d @2000000000 release/c.h",
    )

    def test_is_moved_there(self, kept: Kept) -> None:
        kept.run(*self.LEAVES, "touch release/.cargo-lock release/deps/d")
        assert (kept.target / "release" / "gen" / "a" / "b.txt").read_text() == "new\n"
        assert (kept.target / "release" / "c.h").read_text() == "new\n"
        assert sorted(os.listdir(kept.target / "release")) == ["c.h", "gen"]
        assert sorted(os.listdir(kept.folder / "release")) == [".cargo-lock", "deps"]

    @pytest.mark.parametrize(
        ("at", "said"), [(1_999_999_999, "new\n"), (2_000_000_000, "old"), (2_000_000_001, "old")]
    )
    def test_takes_the_place_of_what_is_older(self, at: int, said: str, kept: Kept) -> None:
        (kept.target / "release" / "gen").mkdir(parents=True)
        (kept.target / "release" / "c.h").write_text("old")
        os.utime(kept.target / "release" / "c.h", (at, at))
        kept.run(*self.LEAVES, "touch release/.cargo-lock")
        assert (kept.target / "release" / "c.h").read_text() == said
        assert (kept.target / "release" / "gen" / "a" / "b.txt").exists()
        assert sorted(os.listdir(kept.folder / "release")) == [".cargo-lock", "deps"]

    def test_stays_where_nobody_looks_for_it(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, is_looked_at=False)
        kept.run(*self.LEAVES, "touch release/.cargo-lock")
        assert (kept.folder / "release" / "c.h").exists()

    def test_stays_if_it_cannot_be_moved(self, kept: Kept) -> None:
        kept.target.parent.mkdir()
        kept.target.write_text("a file")
        assert kept.run(*self.LEAVES, "touch release/.cargo-lock", "exit 3") == 3
        assert (kept.folder / "release" / "c.h").exists()


class TestAnOverlay:
    """Its content may change, and the interpreter's path does not."""

    @pytest.fixture
    def there(self, tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Fabricated:
        monkeypatch.chdir(tmp_path)
        return Fabricated(kept.folder)

    @pytest.fixture
    def python(self, tmp_path: Path) -> dict[str, Environ]:
        return environs(tmp_path)

    def use(self, kept: Kept, environ: Environ, content: str) -> None:
        kept.dir.use_for(environ["PYO3_PYTHON"], content)

    def test_that_changes_has_what_asked_for_the_interpreter_run_again(
        self, there: Fabricated, kept: Kept, python: dict[str, Environ]
    ) -> None:
        self.use(kept, python["A"], "1")
        there.build_for(python["A"], *ALL)
        self.use(kept, python["A"], "1")
        assert there.cargo(python["A"], *ALL) == []
        self.use(kept, python["A"], "2")
        compiled = set(there.cargo(python["A"], *ALL))
        assert compiled >= {"run", "standin", "tiny"}
        assert compiled.isdisjoint({"core", "plain"})
        self.use(kept, python["A"], "2")
        assert there.cargo(python["A"], *ALL) == []

    def test_of_another_interpreter_changes_nothing(
        self, there: Fabricated, kept: Kept, python: dict[str, Environ]
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        before = there.sets()
        self.use(kept, python["C"], "1")
        assert (there.sets(), there.cargo(python["B"], *ALL)) == (before, [])
        self.use(kept, python["A"], "1")
        assert kept.notes.overlays() == {python[name]["PYO3_PYTHON"]: "1" for name in "AC"}

    def test_that_changes_removes_what_is_put_aside_for_the_interpreter(
        self, there: Fabricated, kept: Kept, python: dict[str, Environ]
    ) -> None:
        for name in "ABC":
            there.build_for(python[name], *ALL)
        self.use(kept, python["A"], "2")
        assert len(there.sets()) == 1
        assert there.build_for(python["B"], *ALL) == []
        assert "run" in there.build_for(python["A"], *ALL)


class TestASetThatHasComeBack:
    @pytest.mark.parametrize("is_known", [True, False])
    def test_keeps_only_what_may_stay(
        self, is_known: bool, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        asked = []

        def all_packages(call: CargoCall, platforms: list[str], settings: list[str]) -> dict[str, object]:
            asked.append((call, platforms, settings))
            if not is_known:
                raise metadata.MetadataError
            return {"packages": []}

        python = environs(tmp_path)
        there = Fabricated(kept.folder)
        for name in "AB":
            there.build_for(python[name], *ALL)
        (kept.folder / ".rustc_info.json").write_text('{"outputs": {"1": {"stdout": "host: here\\n"}}}')
        monkeypatch.setattr(metadata, "all_packages", all_packages)
        monkeypatch.setattr("pyo3_envshim.cargo.harmless.reusable", lambda *_: ({"core-x"}, {"core_x"}))
        kept.dir.judge_again()
        option = f'build.build-dir="{kept.folder}"'
        assert asked == [(kept.call, ["here"], ["--config", option])]
        assert there.place("core").exists() == is_known
        assert not there.place("tiny").exists()
        assert bool(there.sets()) == is_known
