"""A stable path must never let cargo hand out code that is not in the sources.

Every test calls what it built. Without the freshness guard cargo would find its own older
artefact "fresh" and each of these would answer with the wrong text. One is an exception: uv
(0.13.9) unpacks an sdist with the times of now, so its default build is safe by itself.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support.front_ends import BUILD, BUILD_FROM_SDIST, UV_BUILD, UV_BUILD_FROM_SDIST, FrontEnd
from support.sample_crates import Project, PyO3

from .workshop import Bench

_HOUR = 3600.0


def _build_and_expect(
    bench: Bench,
    answer: str,
    project: Project,
    *,
    front_end: FrontEnd = BUILD,
    shim: bool = True,
    **variables: str,
) -> None:
    """Build with or without the shim; the wheel must answer what the sources say."""
    host = bench.shimmed if shim else bench.plain
    assert bench.answer(bench.build(front_end, project, host, **variables)) == answer


def _two_worktrees(bench: Bench, *, warm: bool = False) -> tuple[Project, Project]:
    """Return two worktrees, "one" and "two"; the files of "two" are older than any build."""
    one = bench.project(name="one/tree", answer="one", warm=warm)
    two = bench.project(name="two/tree", answer="two", warm=warm)
    one.age(_HOUR)
    two.age(2 * _HOUR)
    return one, two


@pytest.mark.parametrize("front_end", [BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST], ids=lambda it: it.name)
def test_a_wheel_from_an_sdist_holds_the_changed_function(bench: Bench, front_end: FrontEnd) -> None:
    project = bench.project(warm=False)
    target = str(bench.fill(bench.folder / "target"))
    for answer in ("first", "second"):
        project.set_answer(answer)
        _build_and_expect(bench, answer, project, front_end=front_end, CARGO_TARGET_DIR=target)


@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
def test_worktrees_that_share_a_target_folder_keep_their_own_code(bench: Bench, front_end: FrontEnd) -> None:
    one, two = _two_worktrees(bench)
    target = str(bench.fill(bench.folder / "target"))
    for answer, tree in (("one", one), ("two", two), ("one", one)):
        _build_and_expect(bench, answer, tree, front_end=front_end, CARGO_TARGET_DIR=target)


def _copy_over(older: Project, project: Project) -> None:
    """As `cp -p` does: the same files, older content, older times."""
    shutil.copytree(older.folder, project.folder, dirs_exist_ok=True)


def _unpack_over(older: Project, project: Project) -> None:
    """As `tar -x` does: new files in place of the old ones, older times."""
    archive = project.folder.parent / "older.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(older.folder, arcname=".")
    with tarfile.open(archive) as tar:
        tar.extractall(project.folder, filter="tar")


def _rename_over(older: Project, project: Project) -> None:
    """As `rsync -t` does: written beside, times set, renamed into place."""
    for path in older.folder.rglob("*"):
        if path.is_file():
            place = project.folder / path.relative_to(older.folder)
            beside = place.with_name(f".{place.name}.partial")
            shutil.copy2(path, beside)
            beside.replace(place)


def _replace_folder(older: Project, project: Project) -> None:
    """Move the whole source folder away and the older one in its place; `target` stays."""
    away = project.folder.with_name("away")
    project.folder.rename(away)
    older.folder.rename(project.folder)
    (away / "target").rename(project.target)


def _replace_source_folder(older: Project, project: Project) -> None:
    """Move only `src` away and the older one in its place."""
    (project.folder / "src").rename(project.folder.parent / "src-away")
    (older.folder / "src").rename(project.folder / "src")


@pytest.mark.parametrize(
    "overwrite",
    [_copy_over, _unpack_over, _rename_over, _replace_folder, _replace_source_folder],
    ids=lambda it: it.__name__.strip("_"),
)
def test_sources_replaced_by_older_ones_are_noticed(
    bench: Bench, overwrite: Callable[[Project, Project], None]
) -> None:
    project = bench.project(answer="newer")
    older = bench.project(name="older", answer="older", warm=False)
    older.age(_HOUR)
    _build_and_expect(bench, "newer", project)
    overwrite(older, project)
    _build_and_expect(bench, "older", project)
    assert bench.build(BUILD, project, bench.shimmed).compiled == []


def test_a_target_folder_filled_without_the_shim_is_not_trusted(bench: Bench) -> None:
    one, two = _two_worktrees(bench)
    target = str(bench.fill(bench.folder / "target"))
    for answer, tree, shim in (("one", one, False), ("two", two, True), ("one", one, True)):
        _build_and_expect(bench, answer, tree, shim=shim, CARGO_TARGET_DIR=target)


def test_builds_without_the_shim_in_between_are_not_trusted(bench: Bench) -> None:
    one, two = _two_worktrees(bench)
    target = str(bench.fill(bench.folder / "target"))
    for answer, tree, shim in (
        ("one", one, True),
        ("two", two, False),
        ("two", two, True),
        ("one", one, True),
    ):
        _build_and_expect(bench, answer, tree, shim=shim, CARGO_TARGET_DIR=target)


@pytest.mark.parametrize("key", ["target-dir", "build-dir"])
def test_a_build_folder_named_in_the_configuration_is_noticed(bench: Bench, key: str) -> None:
    one, two = _two_worktrees(bench)
    target = bench.fill(bench.folder / "shared-target")
    configuration = bench.folder / ".cargo" / "config.toml"
    configuration.parent.mkdir()
    configuration.write_text(f'[build]\n{key} = "{target}"\n')
    for answer, tree in (("one", one), ("two", two), ("one", one)):
        _build_and_expect(bench, answer, tree)


def test_a_target_folder_named_on_the_command_line_is_noticed(bench: Bench) -> None:
    one, two = _two_worktrees(bench)
    target = bench.fill(bench.folder / "shared-target")
    arguments = f"--profile dev --target-dir {target}"
    for answer, tree in (("one", one), ("two", two), ("one", one)):
        _build_and_expect(bench, answer, tree, MATURIN_PEP517_ARGS=arguments)


_CORE_MANIFEST = """\
[package]
name = "core-of-it"
version = "0.1.0"
edition = "2021"

[dependencies]
pyo3 = "0.30"
"""


def test_a_path_dependency_outside_the_workspace_is_watched(bench: Bench) -> None:
    project = bench.project()
    core = bench.folder / "core"
    (core / "src").mkdir(parents=True)
    (core / "Cargo.toml").write_text(_CORE_MANIFEST)
    project.extend("Cargo.toml", 'core-of-it = { path = "../core" }\n')
    project.set_expression("core_of_it::answer()")
    for answer, age in (("newer", 0.0), ("older", _HOUR)):
        _write_aged(core / "src" / "lib.rs", f'pub fn answer() -> String {{ "{answer}".into() }}', age)
        bench.settle_lock(project)
        _build_and_expect(bench, answer, project)


def _write_aged(path: Path, text: str, seconds: float) -> None:
    """Write a file whose mtime lies in the past."""
    path.write_text(text)
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


@pytest.mark.parametrize(
    "place",
    [".venv/lib/added.py", "environment/lib/added.py", "target/added.rs", "cache/added.py"],
)
def test_a_file_added_where_no_sources_are_raises_no_doubt(bench: Bench, place: str) -> None:
    project = bench.project()
    for environment in (".venv", "environment"):
        project.write(f"{environment}/pyvenv.cfg", "home = /usr/bin\n")
    project.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
    bench.build(BUILD, project, bench.shimmed)
    (project.folder / place).parent.mkdir(parents=True, exist_ok=True)
    _write_aged(project.folder / place, "", _HOUR)
    assert bench.build(BUILD, project, bench.shimmed).compiled == []


def test_an_older_file_that_nobody_reads_raises_no_doubt(bench: Bench) -> None:
    project = bench.project()
    bench.build(BUILD, project, bench.shimmed)
    _write_aged(project.folder / "src" / "added.rs", "", _HOUR)
    assert bench.build(BUILD, project, bench.shimmed).compiled == []


def test_an_older_file_in_place_of_another_costs_the_projects_own_crate_once(bench: Bench) -> None:
    project = bench.project(answer="newer")
    bench.build(BUILD, project, bench.shimmed)
    project.set_answer("older")
    project.age(_HOUR)
    built = bench.build(BUILD, project, bench.shimmed)
    assert built.compiled == ["tiny"]
    assert bench.answer(built) == "older"
    assert bench.build(BUILD, project, bench.shimmed).compiled == []


@pytest.mark.parametrize("version", ["0.26", "0.30"])
def test_doubt_in_an_abi3_project_costs_its_own_crate(bench: Bench, version: str) -> None:
    """maturin (1.16) makes PyO3's build script declare a file that maturin writes below ``target``."""
    pyo3 = PyO3(version, ("abi3-py39",))
    project = bench.project(answer="newer", pyo3=pyo3)
    bench.build(BUILD, project, bench.shimmed)
    for answer in ("older", "oldest"):
        project.set_answer(answer)
        project.age(_HOUR)
        built = bench.build(BUILD, project, bench.shimmed)
        assert bench.answer(built) == answer
        assert built.compiled == ["tiny"]
    assert bench.build(BUILD, project, bench.shimmed).compiled == []


@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
def test_packages_of_a_workspace_keep_their_libraries_of_one_name(bench: Bench, front_end: FrontEnd) -> None:
    """cargo writes both to one file, and takes each for fresh."""
    members = [bench.project(name=f"workspace/{name}", answer=name, warm=False) for name in ("one", "two")]
    workspace = Project(members[0].folder.parent)
    workspace.write("Cargo.toml", '[workspace]\nmembers = ["one", "two"]\nresolver = "2"\n')
    for member in members:
        name = member.folder.name
        manifest = (member.folder / "Cargo.toml").read_text().replace('"tiny"', f'"{name}"')
        member.write("Cargo.toml", manifest.replace("[lib]", '[lib]\nname = "tiny"'))
        (member.folder / "Cargo.lock").replace(workspace.folder / "Cargo.lock")
    bench.settle_lock(workspace)
    bench.fill(workspace.target)
    for member in members * 2:
        _build_and_expect(bench, member.folder.name, member, front_end=front_end)
    for _ in range(2):  # the other's may be about to be written: each time
        again = bench.build(front_end, members[0], bench.shimmed)
        assert (bench.answer(again), [crate.split()[0] for crate in again.compiled]) == ("one", ["one"])
