"""In doubt, cargo compiles the project's own crates that are in doubt, and what needs them; never PyO3."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pyo3_envshim.stamp import STAMP
from support.rust_cache import clean_as_rust_cache, remove

from .tiny_cargo import LIBRARY, MANIFEST, WORKSPACE, TinyCargo, compiled, write

_HOUR = 3600


def replace(path: Path, text: str) -> None:
    """Put an older file in place of another."""
    write(path.with_name("beside"), text, 2 * _HOUR).replace(path)


def test_one_crate_is_compiled_and_not_what_it_depends_on(there: TinyCargo) -> None:
    tree = there.tree()
    assert there.build(tree) == {"standin", "tiny", "build-script-build"}
    replace(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    assert there.build(tree) == {"tiny"}
    assert there.mark() == "two"
    assert there.build(tree) == set()


_READS = 'fn main() { println!("cargo:rerun-if-changed=x"); println!("cargo:x={}", %s); }\n'
_PASSES_ON = 'fn main() { println!("cargo:rerun-if-changed=build.rs"); println!("cargo:%s={}", %s); }\n'


def workspace(there: TinyCargo) -> Path:
    """Return a tree whose crate depends on two local ones that do not know the stand-in for PyO3.

    What the last one's build script reads gets to the crate by way of the others' build scripts.
    """
    files = {
        "core/Cargo.toml": MANIFEST.format(name="core-of-it") + 'links = "core"\n',
        "core/build.rs": _READS % 'std::fs::read_to_string("x").unwrap()',
        "core/x": "one",
        "mid/Cargo.toml": MANIFEST.format(name="mid") + 'links = "mid"\n[dependencies]\n'
        'core-of-it = { path = "../core" }\n',
        "mid/build.rs": _PASSES_ON % ("x", 'std::env::var("DEP_CORE_X").unwrap()'),
        "build.rs": _PASSES_ON % ("rustc-env=CORE", 'std::env::var("DEP_MID_X").unwrap()'),
        **dict.fromkeys(("core/src/lib.rs", "mid/src/lib.rs"), ""),
    }
    also = 'mid = { path = "mid" }\n[build-dependencies]\nstandin = "0.1"\n'
    return there.tree("tree", 'env!("CORE")', also, files)


def test_what_depends_on_a_local_crate_is_compiled_with_it(there: TinyCargo) -> None:
    """Though only the output of its build script differs: each script runs again."""
    tree = workspace(there)
    there.build(tree)
    assert there.build(tree) == set()
    replace(tree / "core" / "x", "two")
    assert "standin" not in there.build(tree)
    assert there.mark() == "two"


def test_a_local_crate_that_does_not_need_what_is_in_doubt_stays(there: TinyCargo) -> None:
    tree = workspace(there)
    there.build(tree)
    replace(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    assert there.build(tree) == {"tiny", "build-script-build"}
    assert there.mark() == "two"


def test_a_file_that_is_nobodys_makes_cargo_compile_what_a_new_path_would(there: TinyCargo) -> None:
    """A build script may read it."""
    members = {
        "Cargo.toml": '[workspace]\nmembers = ["py", "core"]\nresolver = "2"\n',
        "py/Cargo.toml": WORKSPACE + 'core-of-it = { path = "../core" }\n',
        "py/src/lib.rs": LIBRARY.format('"one"'),
        "py/build.rs": "fn main() {}",
        "core/Cargo.toml": MANIFEST.format(name="core-of-it"),
        "core/src/lib.rs": "",
    }
    tree = there.tree(files=members)
    assert there.build(tree) == {"standin", "tiny", "core_of_it", "build-script-build"}
    write(tree / "queries" / "one.json", "", _HOUR)
    assert there.build(tree) == {"tiny", "build-script-build"}


@pytest.mark.parametrize("place", ["vendor", ".vendor"])
def test_a_vendored_crate_that_was_replaced_is_compiled(place: str, there: TinyCargo) -> None:
    """cargo compares nothing of it until it compiles it for another reason, such as a new path."""
    (there.folder / "vendor").rename(there.folder / place)
    configuration = there.folder / ".cargo" / "config.toml"
    configuration.write_text(configuration.read_text().replace('"vendor"', f"'{place}'"))
    tree = there.tree(".")
    for _ in range(2):
        there.build(tree)
    assert there.build(tree) == set()
    replace(there.folder / place / "standin" / "src" / "lib.rs", "pub fn two() {}")
    assert "standin" in there.build(tree)


@pytest.mark.parametrize("name", [".cargo-lock", ".cargo-build-lock"])
def test_all_is_compiled_where_another_cargo_has_the_lock(there: TinyCargo, name: str) -> None:
    tree = there.tree()
    there.build(tree)
    replace(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    with open(there.target / "debug" / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = there.guard(tree)
    assert "standin" in there.build(tree, python=python)
    assert there.mark() == "two"


def test_a_crate_for_another_platform_is_compiled_too(there: TinyCargo) -> None:
    """One that is named is another to cargo, even if it is the host's."""
    (host,) = (
        line.partition(": ")[2]
        for line in there.run(["version", "--verbose"], there.folder).splitlines()
        if line.startswith("host: ")
    )
    tree = there.tree()
    there.build(tree, "--target", host)
    replace(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    assert there.build(tree, "--target", host) == {"tiny"}
    assert there.mark(f"{host}/debug") == "two"


class TestAfterACheckInAnotherProfile:
    """An editor's, say, between two wheels."""

    def check(self, there: TinyCargo, tree: Path) -> set[str]:
        output = there.run(["check", "--message-format=json"], tree, PYO3_PYTHON="/usr/bin/python3")
        return set(compiled(output.splitlines()))

    def test_the_crate_alone_is_compiled(self, there: TinyCargo) -> None:
        tree = there.tree()
        for number in range(3):
            write(tree / "src" / "lib.rs", LIBRARY.format(f'"{number}"'))
            assert "tiny" in self.check(there, tree)
            assert ("standin" in there.build(tree, "--release")) == (number == 0)
            assert there.mark("release") == str(number)
            assert self.check(there, tree) == set()
            assert there.build(tree, "--release") == set()


class TestInACiCache:
    """Restored beside a fresh clone, at the same path."""

    def restored(self, there: TinyCargo, mark: str, age: float, stamps: bool) -> Path:
        """Clone anew, with files of this age, beside what rust-cache leaves of the target folder."""
        clean_as_rust_cache(there.target, ["standin"])
        if not stamps:
            remove(there.target.glob("*/*-envshim"))
        away = there.folder / "away"
        remove([away] if away.exists() else [])
        (there.folder / "tree").rename(away)
        return there.tree("tree", mark, age=age)

    # git-restore-mtime gives files the times of their commits.
    @pytest.mark.parametrize("age", [0, 1000 * _HOUR], ids=["times of now", "times of commits"])
    @pytest.mark.parametrize("stamps", [True, False], ids=["with stamps", "without stamps"])
    def test_the_crate_alone_is_compiled_in_each_job(self, tmp_path: Path, age: float, stamps: bool) -> None:
        there = TinyCargo(tmp_path)
        there.build(there.tree(), "--release")
        for number in range(3):
            tree = self.restored(there, f'"{number}"', age, stamps)
            assert there.build(tree, "--release") == {"tiny"}
            assert there.mark("release") == str(number)
            assert there.build(tree, "--release") == set()

    def test_a_path_that_was_new_stays(self, tmp_path: Path) -> None:
        there = TinyCargo(tmp_path)
        for name in ("other", "tree"):
            there.build(there.tree(name))
        tree = self.restored(there, '"two"', 0, stamps=True)
        assert there.build(tree) == {"tiny"}

    @pytest.mark.parametrize("age", [0, 1000 * _HOUR], ids=["times of now", "times of commits"])
    def test_a_folder_that_went_through_tar_is_as_good(self, tmp_path: Path, age: float) -> None:
        """With all that was in it, its times cut to seconds."""
        there = TinyCargo(tmp_path)
        there.build(there.tree())
        for path in there.target.rglob("*"):
            os.utime(path, (path.stat().st_mtime // 1,) * 2)
        away = there.folder / "away"
        (there.folder / "tree").rename(away)
        assert there.build(there.tree("tree", '"two"', age=age)) == {"tiny"}
        assert there.mark() == "two"


_READER = """\
fn main() {
    let conf = std::env::var("CONF").unwrap();
    println!("cargo:rerun-if-changed={conf}");
    println!("cargo:rustc-env=READ={}", std::fs::read_to_string(conf).unwrap());
}
"""


def declared_by_others(there: TinyCargo, conf: Path) -> Path:
    """Return a tree that uses a crate of a registry whose build script declares this file."""
    reader = there.folder / "vendor" / "reader"
    write(reader / "Cargo.toml", MANIFEST.format(name="reader") + '[build-dependencies]\nstandin = "0.1"\n')
    write(reader / "build.rs", _READER)
    write(reader / "src" / "lib.rs", 'pub const READ: &str = env!("READ");')
    write(reader / ".cargo-checksum.json", '{"files": {}}')
    library = "#[used] #[no_mangle] pub static MARK: [u8; 7] = { let c = reader::READ.as_bytes(); "
    library += "[b'{', b'{', c[0], c[1], c[2], b'}', b'}'] };\n"
    tree = there.tree(also='reader = "0.1"\n', files={"src/lib.rs": library})
    there.environment["CONF"] = str(conf)
    write(conf, "one", _HOUR)
    for _ in range(3):
        there.build(tree)
    assert there.build(tree) == set()
    return tree


@pytest.mark.parametrize("lost", ["nothing", "stamp", "local units"])
def test_a_file_that_a_crate_of_others_declares_gets_a_new_path(there: TinyCargo, lost: str) -> None:
    """It is not the project's own crate that would be stale, but one that cargo takes for unchanging."""
    tree = declared_by_others(there, there.folder / "tree" / "conf.txt")
    if lost == "stamp":
        (there.target / "debug" / STAMP).unlink()
    elif lost == "local units":
        clean_as_rust_cache(there.target, ["tiny"])
    replace(tree / "conf.txt", "two")
    assert "reader" in there.build(tree)
    assert there.mark() == "two"


def test_one_in_the_project_makes_all_doubt_expensive(there: TinyCargo) -> None:
    """Its build script may have read more than it declares."""
    tree = declared_by_others(there, there.folder / "tree" / "conf.txt")
    library = (tree / "src" / "lib.rs").read_text()
    replace(tree / "src" / "lib.rs", library + "pub fn more() {}\n")
    assert "reader" in there.build(tree)


@pytest.mark.parametrize("path", ["target/gen/conf.txt", "link/gen/conf.txt", "link/gen/../gen/conf.txt"])
def test_one_below_the_target_folder_makes_no_other_doubt_expensive(there: TinyCargo, path: str) -> None:
    """As maturin's, for abi3; it is watched for all that."""
    (there.folder / "link").symlink_to("target")
    (there.target / "gen").mkdir(parents=True)
    tree = declared_by_others(there, there.folder / path)
    library = (tree / "src" / "lib.rs").read_text()
    replace(tree / "src" / "lib.rs", library + "pub fn more() {}\n")
    assert there.build(tree) == {"tiny"}
    replace(there.target / "gen" / "conf.txt", "two")
    assert "reader" in there.build(tree)
    assert there.mark() == "two"
