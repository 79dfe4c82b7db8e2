"""What cargo does not see, and a new path would have made it compile: each was a stale wheel once.

Each test puts a file, or a link, that is older than the last build in place of another.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .tiny_cargo import MANIFEST, TinyCargo, set_back, write
from .workshop import run

_YEARS = 5 * 365 * 24 * 3600
_USES_STANDIN = '[build-dependencies]\nstandin = "0.1"\n'
_NEEDS_STANDIN = '[dependencies]\nstandin = "0.1"\n'
_READS = """fn main() {{
    {}
    println!("cargo:rustc-env=PART={{}}", std::fs::read_to_string("{}").unwrap());
}}"""
_BY_SCRIPT = """
#[macro_export]
macro_rules! mark { () => {
    #[used] #[no_mangle]
    pub static MARK: [u8; 7] = {
        let part = over::PART.as_bytes();
        [b'{', b'{', part[0], part[1], part[2], b'}', b'}']
    };
} }
"""
_CALLS_SCRIPT = "over::mark!();\n"
_MACRO = '#[macro_export] macro_rules! mark {{ () => {{ "{}" }} }}'


def replace(path: Path, text: str) -> None:
    """Put an older file in place of another; its folder keeps its time."""
    folder = path.parent.stat()
    write(path.with_name("beside"), text, _YEARS).replace(path)
    os.utime(path.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def point(link: Path, place: str) -> None:
    """Make a link, with an old time, in a folder that keeps its own."""
    folder = link.parent.stat()
    link.unlink(missing_ok=True)
    link.symlink_to(place)
    os.utime(link, (1e9, 1e9), follow_symlinks=False)
    os.utime(link.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def scripted(there: TinyCargo, reads: str, files: dict[str, str], declares: str = "") -> Path:
    """Return a tree whose build script reads a file."""
    directive = f'println!("cargo:rerun-if-changed={declares}");' if declares else ""
    script = {"build.rs": _READS.format(directive, reads)}
    return there.tree("tree", 'env!("PART")', _USES_STANDIN, {**script, **files})


def check(there: TinyCargo, tree: Path, change: Callable[[], object]) -> None:
    """What was built is trusted at last; the change is noticed, and costs no PyO3."""
    for _ in range(3):  # what lies outside of the packages is known from the second build on
        there.build(tree)
    assert there.build(tree) == set()
    assert there.mark() == "one"
    change()
    assert "standin" not in there.build(tree)
    assert there.mark() == "two"
    assert there.build(tree) == set()


@pytest.mark.parametrize("place", ["parts/.sub/x", "parts/build/lib.linux/x", "parts/.git/x"])
def test_a_hidden_folder_below_one_that_a_build_script_declares(place: str, there: TinyCargo) -> None:
    """cargo looks at all that is in a declared folder."""
    tree = scripted(there, place, {place: "one"}, declares="parts")
    check(there, tree, lambda: replace(tree / place, "two"))


def test_a_tagged_folder_below_one_that_a_build_script_declares(there: TinyCargo) -> None:
    tree = scripted(there, "parts/sub/x", {"parts/sub/x": "one", "parts/sub/pyvenv.cfg": ""}, "parts")
    check(there, tree, lambda: replace(tree / "parts" / "sub" / "x", "two"))


@pytest.mark.parametrize("place", [".parts/x", "deep/.parts/x"])
def test_a_hidden_folder_that_a_build_script_without_directives_reads(place: str, there: TinyCargo) -> None:
    """In a git repository, cargo looks at all files that git knows, but only at the newest one's time."""
    tree = scripted(there, place, {place: "one"})
    run(["git", "init", "-q", "."], os.environ, tree)
    run(["git", "add", "-A"], os.environ, tree)
    check(there, tree, lambda: replace(tree / place, "two"))


def test_a_declared_link_to_a_folder(there: TinyCargo) -> None:
    tree = scripted(there, ".h/link/x", {"a/x": "one", "b/x": "two", ".h/y": ""}, declares=".h/link")
    point(tree / ".h" / "link", "../a")
    check(there, tree, lambda: point(tree / ".h" / "link", "../b"))


def test_a_link_below_a_declared_folder(there: TinyCargo) -> None:
    tree = scripted(there, ".h/sub/link/x", {".a/x": "one", ".b/x": "two", ".h/sub/y": ""}, declares=".h")
    point(tree / ".h" / "sub" / "link", "../../.a")
    check(there, tree, lambda: point(tree / ".h" / "sub" / "link", "../../.b"))


@pytest.mark.parametrize("mark", ['include!("../.hidden/link")', 'include!("../.link/x")'])
def test_an_included_link_in_a_hidden_folder(mark: str, there: TinyCargo) -> None:
    """cargo notes where a link led, and not the link."""
    tree = there.tree(mark=mark)
    for name in ("one", "two"):
        write(tree / ".hidden" / name, f'"{name}"', _YEARS)
        write(tree / ".hidden" / f"folder-{name}" / "x", f'"{name}"', _YEARS)
    point(tree / ".hidden" / "link", "one")
    point(tree / ".link", ".hidden/folder-one")

    def change() -> None:
        point(tree / ".hidden" / "link", "two")
        point(tree / ".link", ".hidden/folder-two")

    check(there, tree, change)


def test_a_link_that_a_build_script_includes(there: TinyCargo) -> None:
    script = 'fn main() { println!("cargo:rerun-if-changed=build.rs"); '
    script += 'println!("cargo:rustc-env=PART={}", include_str!(".hidden/link")); }'
    tree = there.tree("tree", 'env!("PART")', _USES_STANDIN, {"build.rs": script})
    for name in ("one", "two"):
        write(tree / ".hidden" / name, name, _YEARS)
    point(tree / ".hidden" / "link", "one")
    check(there, tree, lambda: point(tree / ".hidden" / "link", "two"))


@pytest.mark.parametrize("lock", [True, False], ids=["with a lock file", "without one"])
def test_a_path_dependency_of_one_outside_of_the_workspace(lock: bool, there: TinyCargo) -> None:
    files = {
        "../core/Cargo.toml": MANIFEST.format(name="core-x")
        + '[dependencies]\nutil-x = { path = "../util" }\n',
        "../core/src/lib.rs": "pub use util_x::mark;",
        "../util/Cargo.toml": MANIFEST.format(name="util-x") + _NEEDS_STANDIN,
        "../util/src/lib.rs": _MACRO.format("one"),
    }
    tree = there.tree("tree", "core_x::mark!()", 'core-x = { path = "../core" }\n', files)
    for name in ("core", "util"):
        set_back(there.folder / name, _YEARS)
    for number, mark in enumerate(("one", "one", "one", "two")):
        if not lock:
            (tree / "Cargo.lock").unlink()
        if mark == "two":
            replace(there.folder / "util" / "src" / "lib.rs", _MACRO.format(mark))
        assert ("standin" in there.build(tree)) == (number == 0)
        assert there.mark() == mark


@pytest.mark.parametrize("script", [False, True], ids=["plain", "with a build script"])
def test_a_crate_that_the_configuration_puts_in_the_place_of_another(script: bool, there: TinyCargo) -> None:
    """By ``paths``: neither ``cargo metadata --no-deps`` nor the lock file tells where it lies."""
    vendor, other = there.folder / "vendor" / "over", there.folder / "override"
    for folder, text in ((vendor, "vendored"), (other, "one")):
        needs = _NEEDS_STANDIN + (_USES_STANDIN if script else "")
        write(folder / "Cargo.toml", MANIFEST.format(name="over") + needs)
        if script:
            write(folder / "build.rs", _READS.format('println!("cargo:rerun-if-changed=x");', "x"))
            write(folder / "x", text)
            write(folder / "src" / "lib.rs", f'pub const PART: &str = env!("PART");\n{_BY_SCRIPT}')
        else:
            write(folder / "src" / "lib.rs", _MACRO.format(text))
    write(vendor / ".cargo-checksum.json", '{"files": {}}')
    files = {"src/lib.rs": _CALLS_SCRIPT} if script else {}
    tree = there.tree("tree", "over::mark!()", 'over = "0.1"\n', files)
    configuration = there.folder / ".cargo" / "config.toml"
    configuration.write_text(f'paths = ["{other}"]\n' + configuration.read_text())
    set_back(other, _YEARS)
    for _ in range(2):
        there.build(tree)
    assert there.mark() == "one"
    if script:
        replace(other / "x", "two")
    else:
        replace(other / "src" / "lib.rs", _MACRO.format("two"))
    assert "standin" not in there.build(tree)
    assert there.mark() == "two"


@pytest.mark.parametrize("where", ["..", "."])
def test_a_target_folder_above_the_sources(where: str, there: TinyCargo) -> None:
    """All that cargo notes is below it then."""
    there.move_target((there.folder / "tree" / where).resolve())
    tree = there.tree(mark='include!("../.hidden/x")', files={".hidden/x": '"one"'})
    check(there, tree, lambda: replace(tree / ".hidden" / "x", '"two"'))


@pytest.mark.parametrize("place", ["gen/x", "debug/x", "build/x"])
def test_a_file_in_the_target_folder_that_no_build_script_made(place: str, there: TinyCargo) -> None:
    tree = there.tree(mark=f'include!("../../target/{place}")')
    write(there.target / place, '"one"', _YEARS)
    check(there, tree, lambda: replace(there.target / place, '"two"'))


def test_a_module_that_a_link_leads_to_outside(there: TinyCargo) -> None:
    tree = there.tree(mark='include!("part")')
    for name in ("one", "two"):
        write(there.folder / name / "part", f'"{name}"', _YEARS)
    point(tree / "src" / "part", "../../one/part")
    check(there, tree, lambda: point(tree / "src" / "part", "../../two/part"))
    shutil.rmtree(there.folder / "one")
    assert there.build(tree) == set()
