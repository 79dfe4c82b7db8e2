"""A build folder that outlives the unpacked sdist: nothing stale, and of dependencies nothing twice.

Each story builds one sdist, then another whose files have the very same times, elsewhere and in
the same place. What comes out is byte for byte what cargo alone makes there, and its function is called.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .kept_cargo import HECK, UNICODE, Done, KeptCargo, can_mount, library, manifest
from .workshop import real_cargo

Files = dict[str, str]


@pytest.fixture
def cargo(tmp_path: Path) -> KeptCargo:
    return KeptCargo(tmp_path)


def sdist(expression: str = "1", before: str = "", **more: str) -> Files:
    files = {"Cargo.toml": manifest(), "src/lib.rs": library(expression, before)}
    return {**files, **{name.replace("__", "/").replace("_rs", ".rs"): text for name, text in more.items()}}


def script(value: int) -> str:
    """Return a build script that writes a number, unless there is one already."""
    return f"""
        fn main() {{
            let path = std::env::var("OUT_DIR").unwrap() + "/number";
            if !std::path::Path::new(&path).exists() {{ std::fs::write(path, "{value}").unwrap(); }}
        }}
    """


NUMBER = 'include_str!(concat!(env!("OUT_DIR"), "/number")).trim().parse().unwrap()'
PATH_DEPENDENCY = UNICODE + 'part = { path = "part" }\n'
PART = {"Cargo.toml": manifest(dependencies=PATH_DEPENDENCY), "src/lib.rs": library("part::number()")}


def with_part(number: int, name: str = "part", more: Mapping[str, str] | None = None) -> Files:
    """Return an sdist with a path dependency."""
    part = manifest(name, "", 'name = "part"')
    needed = UNICODE + f'{name} = {{ path = "part" }}\n'
    files = {"part/Cargo.toml": part, "part/src/lib.rs": f"pub fn number() -> i32 {{ {number} }}"}
    return {**PART, "Cargo.toml": manifest(dependencies=needed), **files, **(more or {})}


def in_a_workspace(number: int) -> Files:
    """Return an sdist that is a workspace, the module in one member and its number in the other."""
    files = with_part(number)
    found = {f"module/{name}": text for name, text in files.items() if not name.startswith("part/")}
    found["module/Cargo.toml"] = found["module/Cargo.toml"].replace('"part" }', '"../part" }')
    parts = {name: text for name, text in files.items() if name.startswith("part/")}
    return {"Cargo.toml": '[workspace]\nmembers = ["module", "part"]\nresolver = "2"\n', **found, **parts}


def vendored(number: int) -> Files:
    """Return an sdist that brings its dependency along, with the number in it."""
    config = '[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "vendor"\n'
    crate = manifest("unicode-ident", "", 'name = "unicode_ident"').replace("0.1.0", "1.0.27")
    source = f"pub fn is_xid_start(_: char) -> bool {{ true }} pub fn number() -> i32 {{ {number} }}"
    return {
        **sdist("unicode_ident::number()"),
        ".cargo/config.toml": config,
        "vendor/unicode-ident/Cargo.toml": crate,
        "vendor/unicode-ident/src/lib.rs": source,
        "vendor/unicode-ident/.cargo-checksum.json": '{"files": {}}',
    }


def patched(number: int) -> Files:
    """Return an sdist that replaces a registry's crate by its own."""
    files = vendored(number)
    own = {f"own/{name.split('/', 2)[2]}": text for name, text in files.items() if name.startswith("vendor/")}
    patch = '[patch.crates-io]\nunicode-ident = { path = "own" }\n'
    return {**sdist("unicode_ident::number()"), "Cargo.toml": manifest(more=patch), **own}


STORIES: dict[str, tuple[Files, Files]] = {
    "a changed function": (sdist("1"), sdist("2")),
    "a changed file that is included": (
        sdist('include_str!("number").trim().parse().unwrap()', src__number="1"),
        sdist('include_str!("number").trim().parse().unwrap()', src__number="2"),
    ),
    "a changed build script": (sdist(NUMBER, build_rs=script(1)), sdist(NUMBER, build_rs=script(2))),
    "an added module": (
        sdist("1"),
        sdist("more::number()", "mod more;", src__more_rs="pub fn number() -> i32 { 2 }"),
    ),
    "a removed module": (
        sdist("more::number()", "mod more;", src__more_rs="pub fn number() -> i32 { 1 }"),
        sdist("2"),
    ),
    "a changed path dependency": (with_part(1), with_part(2)),
    "a renamed path dependency": (with_part(1), with_part(2, "other-part")),
    "a changed member of a workspace": (in_a_workspace(1), in_a_workspace(2)),
    "a changed Cargo.lock": (
        sdist("1"),
        {**sdist("2"), "Cargo.toml": manifest(dependencies=UNICODE + HECK)},
    ),
    "a changed vendored crate": (vendored(1), vendored(2)),
    "a registry's crate, then a vendored one": (sdist("1"), vendored(2)),
    "a registry's crate, then a patch": (sdist("1"), patched(2)),
    "a changed patch": (patched(1), patched(2)),
    "another version": (sdist("1"), {**sdist("2"), "Cargo.toml": manifest().replace("0.1.0", "0.2.0")}),
    "another project of the same name": (
        with_part(1),
        {**sdist(NUMBER, build_rs=script(2)), "Cargo.toml": manifest(dependencies=UNICODE + HECK)},
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_what_is_built_is_what_cargo_alone_builds_there(cargo: KeptCargo, story: str) -> None:
    one, two = STORIES[story]
    expected = {at: cargo.built_without(two, at) for at in ("bbbbbbbb", "aaaaaaaa")}
    back = cargo.built_without(one, "cccccccc")
    names_its_folder = "OUT_DIR" in str(two)
    assert cargo.build(cargo.unpack(one, "aaaaaaaa")).answer == 1
    for at, wanted in expected.items():
        done = cargo.build(cargo.unpack(two, at))
        assert done.answer == 2
        assert names_its_folder or done.content == wanted
    done = cargo.build(cargo.unpack(one, "cccccccc"))
    assert done.answer == 1
    assert names_its_folder or done.content == back
    assert cargo.kept
    assert not done.ours


def test_a_registrys_crates_are_compiled_once(cargo: KeptCargo) -> None:
    assert cargo.build(cargo.unpack(sdist("1"))).compiled == ["tiny", "unicode-ident"]
    assert cargo.build(cargo.unpack(sdist("2"), "bbbbbbbb")).compiled == ["tiny"]
    assert cargo.build(cargo.unpack(with_part(3), "cccccccc")).compiled == ["part", "tiny"]


def test_a_second_call_in_the_same_tree_compiles_nothing(cargo: KeptCargo) -> None:
    tree = cargo.unpack(with_part(1))
    cargo.build(tree)
    assert cargo.build(tree).compiled == []


def test_what_changes_between_two_calls_in_the_same_tree_is_noticed(cargo: KeptCargo) -> None:
    tree = cargo.unpack(sdist("1"))
    cargo.build(tree)
    moment = (tree / "src" / "lib.rs").stat()
    (tree / "src" / "lib.rs").write_text(library("2"))
    os.utime(tree / "src" / "lib.rs", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert cargo.build(tree).answer == 2


def test_a_crate_of_the_registry_that_depends_on_a_patched_one_is_compiled_against_it(
    cargo: KeptCargo,
) -> None:
    """proc-macro2 depends on unicode-ident. The clock goes back between the builds."""
    patch = '[patch.crates-io]\nunicode-ident = { path = "own" }\n'
    needed = manifest(dependencies=UNICODE + 'proc-macro2 = "1"\n', more=patch)
    more = "pub fn is_xid_continue(_: char) -> bool { true } pub fn number"
    for number, at in ((1, "aaaaaaaa"), (2, "bbbbbbbb")):
        files = {**patched(number), "Cargo.toml": needed}
        files["own/src/lib.rs"] = files["own/src/lib.rs"].replace("pub fn number", more)
        done = cargo.build(cargo.unpack(files, at))
        assert done.answer == number
        assert {"proc-macro2", "tiny", "unicode-ident"} <= set(done.compiled)
        for path in (path for kept in cargo.kept for path in kept.rglob("*")):
            os.utime(path, (time.time() + 3600, time.time() + 3600))


def test_generated_files_of_another_tree_are_not_there(cargo: KeptCargo) -> None:
    listing = 'std::fs::read_dir(std::env::var("OUT_DIR").unwrap()).unwrap().count()'
    build = f"""fn main() {{
        println!("cargo:rustc-env=COUNT={{}}", {listing});
        std::fs::write(std::env::var("OUT_DIR").unwrap() + "/left", "").unwrap();
    }}"""
    files = sdist('env!("COUNT").parse().unwrap()', build_rs=build)
    for at in ("aaaaaaaa", "bbbbbbbb"):
        assert cargo.build(cargo.unpack(files, at)).answer == 0
    again = cargo.unpack(files, "bbbbbbbb")
    for path in again.rglob("*"):
        os.utime(path)
    assert cargo.build(again).answer == 0


def test_a_lock_file_that_cargo_has_to_change_is_left_to_cargo(cargo: KeptCargo) -> None:
    old = cargo.unpack(sdist("1"))
    cargo.build(old)
    lock = {"Cargo.lock": (old / "Cargo.lock").read_text()}
    done = cargo.build(cargo.unpack({**with_part(2), **lock}, "bbbbbbbb"), PYO3_ENVSHIM_VERBOSE="1")
    assert done.answer == 2
    assert "no build folder is kept" in done.said or "left alone" in done.said


def test_a_cargo_that_a_build_script_starts_does_not_wait_for_the_one_that_waits_for_it(
    cargo: KeptCargo,
) -> None:
    build = f"""fn main() {{
        let done = std::process::Command::new("{real_cargo()}")
            .args(["build", "--offline", "--manifest-path", "inner/Cargo.toml"]).status().unwrap();
        assert!(done.success());
    }}"""
    inner = manifest("inner", "", 'name = "inner"') + "[workspace]\n"
    files = sdist("1", build_rs=build, inner__Cargo_toml="")
    del files["inner/Cargo_toml"]
    assert cargo.build(cargo.unpack({**files, "inner/Cargo.toml": inner, "inner/src/lib.rs": ""})).answer == 1


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[str]:
    """Make a build script that runs until the test ends, whoever started it."""
    gate = tmp_path / "gate"
    gate.touch()
    yield f"""fn main() {{
        while std::path::Path::new("{gate}").exists() {{
            std::thread::sleep(std::time::Duration::from_millis(50));
        }}
    }}"""
    gate.unlink()


class TestTwoBuilds:
    def test_of_one_project_take_turns_and_the_second_says_so(self, cargo: KeptCargo) -> None:
        slow = "fn main() { std::thread::sleep(std::time::Duration::from_secs(4)); }"
        one = cargo.unpack(sdist("1", build_rs=slow), "aaaaaaaa")
        two = cargo.unpack(sdist("2"), "bbbbbbbb")
        first = cargo.start(one)
        assert first.stderr is not None
        while "Compiling tiny" not in first.stderr.readline():
            pass
        second = cargo.build(two)
        assert first.wait() == 0
        assert second.answer == 2
        (line,) = second.ours
        assert line == f"pyo3-envshim: waits for another build that uses {cargo.kept[0]}"
        assert Done("", 0, one / "target" / "debug" / "libtiny.so").answer == 1

    def test_of_different_projects_do_not_wait(self, cargo: KeptCargo, waiting: str) -> None:
        other = {**sdist("1", build_rs=waiting), "Cargo.toml": manifest("other")}
        held = cargo.start(cargo.unpack(other), package="other")
        assert held.stderr is not None
        while "Compiling other" not in held.stderr.readline():
            pass
        done = cargo.build(cargo.unpack(sdist("1"), "bbbbbbbb"))
        assert (done.answer, done.ours) == (1, [])
        held.terminate()
        assert held.wait() == -signal.SIGTERM
        held.stderr.close()

    def test_of_which_one_was_killed_and_left_its_cargo_do_not_meet(
        self, cargo: KeptCargo, waiting: str
    ) -> None:
        first = cargo.start(cargo.unpack(sdist("1", build_rs=waiting)), "--message-format=short")
        assert first.stderr is not None
        while "Compiling tiny" not in first.stderr.readline():
            pass
        left = int((Path(f"/proc/{first.pid}/task/{first.pid}/children")).read_text().split()[0])
        first.kill()
        first.wait()
        try:
            done = cargo.build(cargo.unpack(sdist("2"), "bbbbbbbb"), PYO3_ENVSHIM_VERBOSE="1")
            assert done.answer == 2
            assert "nobody waits for" in done.ours[0]
        finally:
            os.kill(left, signal.SIGKILL)
            first.stderr.close()


def test_what_ended_a_build_ends_the_wrapper(cargo: KeptCargo) -> None:
    assert cargo.build(cargo.unpack(sdist("nonsense")), fails=True).status == 101
    assert cargo.build(cargo.unpack(sdist("2"), "bbbbbbbb")).answer == 2


LEFT_AS_IT_CAME = {
    "CARGO_TARGET_DIR is set": {"CARGO_TARGET_DIR": "{tree}/target"},
    "CARGO_BUILD_BUILD_DIR is set": {"CARGO_BUILD_BUILD_DIR": "{folder}/own"},
    "PYO3_ENVSHIM_BUILD_CACHE is off": {"PYO3_ENVSHIM_BUILD_CACHE": "off"},
}


@pytest.mark.parametrize("why", LEFT_AS_IT_CAME)
def test_nothing_is_kept(cargo: KeptCargo, why: str) -> None:
    tree = cargo.unpack(sdist("1"))
    values = {
        name: value.format(tree=tree, folder=cargo.folder) for name, value in LEFT_AS_IT_CAME[why].items()
    }
    cargo.environment.update(values)
    done = cargo.build(tree, PYO3_ENVSHIM_VERBOSE="1")
    assert why in "\n".join(done.ours)
    assert done.answer == 1
    assert not cargo.kept


@pytest.mark.parametrize(
    "how", ["an option", "the sdist's configuration", "a build folder there", "no Cargo.lock"]
)
def test_nothing_is_kept_where_it_was_chosen_by(cargo: KeptCargo, how: str) -> None:
    tree = cargo.unpack(sdist("1"))
    config = tree / ".cargo" / "config.toml"
    config.parent.mkdir()
    if how == "no Cargo.lock":
        (tree / "Cargo.lock").unlink()
    elif how != "an option":
        config.write_text(f'[build]\n{"build" if "build" in how else "target"}-dir = "own"\n')
    done = cargo.build(tree, *(["--target-dir", "own"] if how == "an option" else []))
    assert done.ours == []
    assert not cargo.kept


def test_a_worktree_of_the_users_keeps_its_own_build_folder(cargo: KeptCargo) -> None:
    tree = cargo.unpack(sdist("1"))
    own = tree.rename(cargo.folder / "worktree")
    assert cargo.build(own).answer == 1
    assert (own / "target" / "debug" / "deps").exists()
    assert not cargo.kept


@pytest.mark.parametrize("flaw", ["a file is there", "it is another's to write to"])
def test_a_folder_that_cannot_be_had_is_done_without(cargo: KeptCargo, flaw: str) -> None:
    builds = cargo.cache / "builds"
    cargo.cache.mkdir(mode=0o700)
    if flaw == "a file is there":
        builds.write_text("")
    else:
        builds.mkdir()
        builds.chmod(0o777)
    assert cargo.build(cargo.unpack(sdist("1"))).answer == 1
    assert cargo.build(cargo.unpack(sdist("2"))).answer == 2


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
class TestAFileSystemOfItsOwnForTheCache:
    """It ends with the script that mounts it."""

    def test_that_is_nearly_full_is_spared(self, cargo: KeptCargo) -> None:
        tree = cargo.unpack(sdist("1"))
        said = cargo.on_a_file_system("size=900m", tree, "build && test ! -e {cache}/builds/*")
        assert "less than 1G is free" in said
        assert Done(said, 0, tree / "target" / "debug" / "libtiny.so").answer == 1

    def test_that_is_filled_by_others_gets_its_room_back(self, cargo: KeptCargo) -> None:
        one, two = cargo.unpack(sdist("1")), cargo.unpack(sdist("2"), "bbbbbbbb")
        fill = "test -e {cache}/builds/* && dd if=/dev/zero of={cache}/others bs=1M count=1100 2>/dev/null"
        script = f"build && {fill} && cd '{two}' && build && test ! -e {{cache}}/builds/*"
        said = cargo.on_a_file_system("size=2g", one, script)
        assert "less than 1G is free" in said
        assert Done(said, 0, two / "target" / "debug" / "libtiny.so").answer == 2

    def test_that_cannot_be_written_to_any_more_is_one_line_each(self, cargo: KeptCargo) -> None:
        one, two = cargo.unpack(sdist("1")), cargo.unpack(sdist("2"), "bbbbbbbb")
        script = f"build && mount -o remount,ro {{cache}} && cd '{two}' && build"
        said = cargo.on_a_file_system("size=2g", one, script)
        assert re.search("warning: no build folder is kept: /.*: Read-only file system$", said, re.MULTILINE)
        assert Done(said, 0, two / "target" / "debug" / "libtiny.so").answer == 2


class TestWhatIsKept:
    def test_is_pruned_at_the_limit_the_least_recently_used_first(self, cargo: KeptCargo) -> None:
        cargo.build(cargo.unpack(sdist("1")))
        (old,) = cargo.kept
        other = {**sdist("1"), "Cargo.toml": manifest("other") + "[features]\nx = []\n"}
        cargo.build(cargo.unpack(other, "bbbbbbbb"), package="other", PYO3_ENVSHIM_BUILD_CACHE="1K")
        assert old not in cargo.kept

    def test_is_explained(self, cargo: KeptCargo) -> None:
        cargo.build(cargo.unpack(sdist("1")))
        tree = cargo.unpack(sdist("2"), "bbbbbbbb")
        found = cargo.explained(tree)
        assert [crate["name"] for crate in found["calls"][0]["recompiled"]] == ["tiny"]
        assert [cause["kind"] for cause in found["causes"]] == ["unpacked"]
