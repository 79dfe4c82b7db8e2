"""Kept build folders on Windows: real front ends unpack sdists; files that are open, locks, long paths."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim import builds
from pyo3_envshim.cargo import target_dir
from unit.environments import ROOT, make_wheel, started_together

from .bench import ALL, FROM_SDISTS, Bench, in_pairs

OWN = {"tiny lib-tiny"}


def kept(bench: Bench) -> Path:
    """Return the one kept folder."""
    (found,) = (it for it in Path(bench.environ["PYO3_ENVSHIM_CACHE_DIR"], "builds").iterdir() if it.is_dir())
    return found


@pytest.mark.parametrize(("front_end", "back_end"), in_pairs(FROM_SDISTS, first=1))
def test_a_second_build_from_an_sdist_compiles_the_projects_own_crate(
    front_end: str, back_end: str, bench: Bench
) -> None:
    bench.has(back_end)
    plain, calls = bench.build(front_end, PYO3_ENVSHIM="off")
    assert bench.compiled(calls) == ALL
    first, calls = bench.build(front_end)
    assert bench.compiled(calls) == ALL
    second, calls = bench.build(front_end)
    assert bench.compiled(calls) == OWN
    assert plain == first == second


def test_an_edit_with_its_time_put_back_is_compiled(bench: Bench) -> None:
    bench.has("maturin")
    second, _ = bench.build("uv, sdist")
    source = bench.project / "src" / "lib.rs"
    before = source.stat()
    source.write_text("// two\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    third, calls = bench.build("uv, sdist")
    assert bench.compiled(calls) == OWN
    assert third != second
    assert b"// two" in (kept(bench) / "release" / "deps" / "tiny.dll").read_bytes()


def test_an_overlay_with_a_script_is_the_same_though_it_was_installed_at_another_time(bench: Bench) -> None:
    """pip's launchers hold an archive with the time."""
    bench.has("setuptools-rust", "wheel")
    for year in (1_600_000_000, 1_700_000_000):
        _, calls = bench.build("pip, sdist", SOURCE_DATE_EPOCH=str(year))
    assert bench.compiled(calls) == OWN


def test_an_overlay_with_another_content_is_another(bench: Bench) -> None:
    bench.has("setuptools-rust", "reqlib")
    for number in (1, 2):
        wheels = bench.folder / f"wheels {number}"
        wheels.mkdir()
        make_wheel(wheels, "reqlib", "1", {"reqlib.py": f"VERSION = {number}\n"})
        links = f"{bench.environ['PIP_FIND_LINKS']} {wheels.as_uri()}"
        _, calls = bench.build("pip, sdist", PIP_FIND_LINKS=links)
        assert bench.compiled(calls) == ALL


def test_off_keeps_nothing(bench: Bench) -> None:
    bench.has("maturin")
    for _ in range(2):
        _, calls = bench.build("uv, sdist", PYO3_ENVSHIM_BUILD_CACHE="off")
        assert bench.compiled(calls) == ALL


def test_a_file_that_is_open_keeps_no_build_from_its_own_result(bench: Bench) -> None:
    """As a scanner or an editor has it: nobody can remove it then."""
    bench.has("maturin")
    bench.build("uv, sdist")
    (bench.project / "src" / "lib.rs").write_text("// two\n")
    right, _ = bench.build("uv, sdist", PYO3_ENVSHIM="off")
    with open(kept(bench) / "release" / "deps" / "tiny.dll", "rb"):
        wheel, _ = bench.build("uv, sdist", PYO3_ENVSHIM_VERBOSE="1")
    assert wheel == right
    wheel, calls = bench.build("uv, sdist")
    assert wheel == right
    assert bench.compiled(calls) <= ALL


def test_what_is_marked_read_only_is_removed(tmp_path: Path) -> None:
    """A build script that copies a file to OUT_DIR copies the mark, too."""
    out = tmp_path / "release" / "build" / "some-0123456789abcdef" / "out"
    out.mkdir(parents=True)
    (tmp_path / "release" / ".fingerprint" / "some-0123456789abcdef").mkdir(parents=True)
    program = tmp_path / "release" / "examples" / "a.exe"
    program.parent.mkdir()
    for path in (out / "copied.h", program):
        path.touch()
        path.chmod(stat.S_IREAD)
    target_dir.evict(str(tmp_path), set(), set())
    assert not out.parent.exists()
    assert not program.exists()


HOLDS = """\
import sys
sys.path.insert(0, {root!r})
from pyo3_envshim import build_dir
print("ready", flush=True)
sys.stdin.readline()
descriptor = build_dir.lock({folder!r})
print("locked", flush=True)
sys.stdin.readline()
"""


class TestALock:
    def holder(self, folder: Path) -> subprocess.Popen[str]:
        code = HOLDS.format(root=str(ROOT), folder=str(folder))
        (found,) = started_together([[sys.executable, "-c", code]])
        return found

    def test_is_waited_for_and_ends_with_its_process(self, tmp_path: Path) -> None:
        folder = tmp_path / "builds" / "tiny-0123"
        first, second = self.holder(folder), self.holder(folder)
        assert first.stdout is not None
        assert second.stdout is not None
        assert second.stderr is not None
        holder, waits = first, second
        assert first.stdout.readline() == "locked\n"
        assert "waits for another build" in second.stderr.readline()
        holder.kill()
        assert second.stdout.readline() == "locked\n"
        for it in (holder, waits):
            it.communicate()

    def test_keeps_the_folder_while_it_is_in_use(self, tmp_path: Path) -> None:
        folder = tmp_path / "builds" / "tiny-0123"
        (folder / "release").mkdir(parents=True)
        (folder / "release" / "a.rlib").touch(mode=stat.S_IREAD)
        holder = self.holder(folder)
        assert holder.stdout is not None
        holder.stdout.readline()
        assert builds.clear(str(tmp_path)) == []
        assert folder.exists()
        holder.communicate("\n")
        assert builds.clear(str(tmp_path)) == ["tiny-0123"]
        assert [name for name in os.listdir(tmp_path / "builds") if name != ".locks"] == []


def test_a_path_that_is_too_long_for_a_linker_is_left_alone(bench: Bench) -> None:
    """Compilers and linkers know 260 characters: what builds in a short path must not fail in a long one."""
    bench.has("maturin")
    cache = bench.folder / ("long" * 30)
    for _ in range(2):
        _, calls = bench.build("uv, sdist", PYO3_ENVSHIM_CACHE_DIR=str(cache), PYO3_ENVSHIM_VERBOSE="1")
    assert bench.compiled(calls) == ALL
    assert "too long" in bench.said
