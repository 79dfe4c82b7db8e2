"""What cargo does not see, and a new path would have made it compile: each was a stale wheel once.

Each test puts a file, or a link, that is older than the last build in place of another; or one that is newer,
but of which cargo has no note.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .tiny_cargo import LIBRARY, MANIFEST, STANDIN, TinyCargo, set_back, write
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
_LISTS = """fn main() {
    let mut all: Vec<_> = std::fs::read_dir("gen").unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    println!("cargo:rustc-env=PART={}", all[0]);
}"""
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


def check(there: TinyCargo, tree: Path, change: Callable[[], object], *arguments: str) -> None:
    """What was built is trusted at last; the change is noticed, and costs no PyO3."""
    for _ in range(3):  # what lies outside of the packages is known from the second build on
        there.build(tree, *arguments)
    assert there.build(tree, *arguments) == set()
    assert there.mark() == "one"
    change()
    assert "standin" not in there.build(tree, *arguments)
    assert there.mark() == "two"
    assert there.build(tree, *arguments) == set()


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


# What follows does not depend on the layout of the build folder.


@pytest.fixture
def first(tmp_path: Path) -> TinyCargo:
    return TinyCargo(tmp_path)


_FUNCTION = """\
extern crate proc_macro;
#[proc_macro]
pub fn template(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let at = |name: &str| std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/" + name;
    let text = %s;
    format!("#[used] #[no_mangle] pub static MARK: &str = {:?};", text).parse().unwrap()
}
"""
TEMPLATE = 'std::fs::read_to_string(at("templates/x")).unwrap()'
NAMES = """{ let mut all: Vec<_> = std::fs::read_dir(at("templates")).unwrap()
    .map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    all.sort(); format!("{{{{{}}}}}", all.last().unwrap()) }"""
_METADATA = """std::fs::read_to_string(at("Cargo.toml")).unwrap().split('%').nth(1).unwrap().to_string()"""


def vendored(there: TinyCargo, name: str, also: str, files: dict[str, str]) -> Path:
    """Write a crate of a directory source."""
    folder = there.folder / "vendor" / name
    write(folder / "Cargo.toml", MANIFEST.format(name=name) + also)
    for path, text in {".cargo-checksum.json": '{"files": {}}', **files}.items():
        write(folder / path, text)
    return folder


def with_macro(there: TinyCargo, code: str, files: dict[str, str], crate: str = "macros") -> Path:
    """Return a tree whose library is what a macro of others makes."""
    manifest = f'[lib]\nname = "{crate}"\nproc-macro = true\n'
    vendored(there, "macros", manifest, {"src/lib.rs": _FUNCTION % code})
    return there.tree(also='macros = "0.1"\n', files={"src/lib.rs": f"{crate}::template!();\n", **files})


def _edit_manifest(tree: Path) -> None:
    manifest = tree / "Cargo.toml"
    write(manifest, manifest.read_text().replace("{{one}}", "{{two}}"))


_TWO = {"templates/one": "", "templates/two": ""}


@pytest.mark.parametrize(
    ("code", "files", "change"),
    [
        (TEMPLATE, {"templates/x": "{{one}}"}, lambda tree: write(tree / "templates" / "x", "{{two}}")),
        (NAMES, _TWO, lambda tree: write(tree / "templates" / "zwei", "")),
        (NAMES, _TWO, lambda tree: (tree / "templates" / "two").unlink()),
        (_METADATA, {}, _edit_manifest),
    ],
    ids=["edited", "added", "removed", "manifest"],
)
def test_what_a_macro_reads_is_noticed_though_it_is_newer(
    code: str, files: dict[str, str], change: Callable[[Path], object], first: TinyCargo
) -> None:
    """cargo has no note of it."""
    tree = with_macro(first, code, files)
    write(tree / "Cargo.toml", (tree / "Cargo.toml").read_text() + "# %{{one}}%\n", 3600)
    for _ in range(3):
        first.build(tree)
    before = first.mark()
    assert first.build(tree) == set()
    change(tree)
    assert first.build(tree) == {"tiny"}
    assert first.mark() != before
    assert first.build(tree) == set()


def with_member(there: TinyCargo, manifest: str, files: dict[str, str]) -> Path:
    """Return a tree of two packages, ``tiny`` and ``one``, with a macro of others that reads a template."""
    write(there.folder / "tree" / "one" / "Cargo.toml", MANIFEST.format(name="one") + manifest)
    write(there.folder / "tree" / "one" / "src" / "lib.rs", "")
    tree = with_macro(there, TEMPLATE, {"templates/x": "{{one}}", **files})
    root = (tree / "Cargo.toml").read_text()
    write(tree / "Cargo.toml", root + '[workspace]\nmembers = ["one"]\n', 3600)
    return tree


_INCLUDES = 'pub const TEXT: &str = include_str!("../../templates/x");\n'
_DECLARES = 'fn main() { println!("cargo:rerun-if-changed=../templates/x"); }\n'
_PROGRAM = 'fn main() { print!("{}", include_str!("../templates/x")); }\n'


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["--workspace"], {"one/src/lib.rs": _INCLUDES}),
        (["--workspace"], {"one/build.rs": _DECLARES}),
        (["--workspace", "--bins"], {"src/main.rs": _PROGRAM}),
    ],
    ids=["another package", "another package's build script", "another target"],
)
def test_what_a_macro_reads_is_noticed_though_something_else_has_a_note_of_it(
    arguments: list[str], files: dict[str, str], first: TinyCargo
) -> None:
    """That is what cargo compiles, and not what the macro has made."""
    tree = with_member(first, "", files)
    check(first, tree, lambda: write(tree / "templates" / "x", "{{two}}"), *arguments)


def test_what_a_crate_of_others_declares_in_its_own_folder_is_no_note_of_the_projects(
    first: TinyCargo,
) -> None:
    paths = ("templates", first.folder / "system" / "x")
    write(first.folder / "system" / "x", "", 3600)
    write(first.folder / "vendor" / "standin" / "templates" / "y", "", 3600)
    declared = "".join(f'println!("cargo:rerun-if-changed={path}");' for path in paths)
    script = STANDIN.replace("{ ", f"{{ {declared}")
    write(first.folder / "vendor" / "standin" / "build.rs", script, 3600)
    tree = with_member(first, "", {"one/src/lib.rs": _INCLUDES})
    check(first, tree, lambda: write(tree / "templates" / "x", "{{two}}"), "--workspace")


def test_a_new_module_in_a_folder_that_another_packages_build_script_declares(first: TinyCargo) -> None:
    """All that is in there counts as noted, what is new as well."""
    script = 'fn main() { println!("cargo:rerun-if-changed=../templates"); }\n'
    tree = with_member(first, "", {"one/build.rs": script, "templates/one.rs": ""})
    (tree / "templates" / "x").unlink()
    replace(first.folder / "vendor" / "macros" / "src" / "lib.rs", _FUNCTION % NAMES)
    for _ in range(3):
        first.build(tree, "--workspace")
    write(tree / "templates" / "two.rs", "")
    assert "standin" not in first.build(tree, "--workspace")
    assert first.mark() == "two.rs"


def test_a_module_of_tests_that_is_gone_and_comes_back_and_a_macro_lists(first: TinyCargo) -> None:
    """The library has no note of it."""
    tests = '#[path = "../templates/two.rs"] mod two;\n'
    tree = with_macro(first, NAMES, {"templates/one.rs": "", "templates/two.rs": "", "tests/it.rs": tests})
    for _ in range(3):
        first.build(tree, "--tests")
    (tree / "templates" / "two.rs").unlink()
    assert "standin" not in first.build(tree)
    assert first.mark() == "one.rs"
    write(tree / "templates" / "two.rs", "")
    assert "standin" not in first.build(tree)
    assert first.mark() == "two.rs"


@pytest.mark.parametrize("files", [{}, {"build.rs": "fn main() {}\n"}], ids=["macro", "and a script"])
@pytest.mark.parametrize("edited", ["one", "tiny"])
def test_an_edited_module_compiles_no_other_package(
    edited: str, files: dict[str, str], first: TinyCargo
) -> None:
    """Though that needs PyO3, too."""
    tree = with_member(first, _NEEDS_STANDIN, files)
    for _ in range(3):
        first.build(tree, "--workspace")
    path = tree / ("one" if edited == "one" else "") / "src" / "lib.rs"
    for _ in range(2):
        write(path, path.read_text() + "// edited\n")
        assert first.build(tree, "--workspace") - {"build-script-build"} == {edited}


@pytest.mark.parametrize(
    "name",
    [
        "dist/tiny-1-py3-none.whl",
        "dist/tiny-1.tar.gz",
        "tiny.egg-info/x",
        "x/_x.abi3.so",
        ".home/.global-cache",
    ],
)
def test_what_builds_leave_in_the_project_is_no_source(name: str, first: TinyCargo) -> None:
    """Or each build would make the next one compile."""
    first.environment["CARGO_HOME"] = str(first.folder / "tree" / ".home")
    tree = with_macro(first, TEMPLATE, {"templates/x": "{{one}}"})
    first.build(tree)
    write(tree / name, "")
    assert first.build(tree) == set()


@pytest.mark.parametrize(
    "script", [False, True], ids=["plain", "with a build script that tells cargo something"]
)
def test_a_newer_file_that_nothing_is_known_to_read_costs_nothing(script: bool, first: TinyCargo) -> None:
    tree = scripted(first, "x", {"x": "one"}, declares="x") if script else first.tree()
    for _ in range(2):
        first.build(tree)
    write(tree / "tests" / "test_x.py", "")
    assert first.build(tree) == set()


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_what_git_ignores_and_a_build_script_without_directives_reads(change: str, first: TinyCargo) -> None:
    """cargo does not look at it; nor does it notice that a file is gone."""
    script = _READS.format("", "gen/x") if change == "edited" else _LISTS
    tree = first.tree(
        "tree", 'env!("PART")', _USES_STANDIN, {"build.rs": script, "gen/x": "one", "gen/y": ""}
    )
    write(tree / ".gitignore", "gen\n", 3600)
    run(["git", "init", "-q", "."], os.environ, tree)
    run(["git", "add", "-A"], os.environ, tree)
    for _ in range(3):
        first.build(tree)
    before = first.mark()
    if change == "edited":
        write(tree / "gen" / "x", "two")
    else:
        (tree / "gen" / "x").unlink()
    assert "standin" not in first.build(tree)
    assert first.mark() != before


def test_a_module_is_gone_that_a_build_script_without_directives_names(first: TinyCargo) -> None:
    """cargo would compile the library by what the script has written before."""
    script = """fn main() {
        let is_there = std::path::Path::new("src/two.rs").exists();
        let name = if is_there { "two" } else { "one" };
        let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/src/" + name + ".rs";
        let code = format!("#[path = {path:?}] mod {name}; pub use {name}::NAME;");
        std::fs::write(std::env::var("OUT_DIR").unwrap() + "/modules.rs", code).unwrap();
    }"""
    library = """include!(concat!(env!("OUT_DIR"), "/modules.rs"));
    #[used] #[no_mangle] pub static MARK: &str = NAME;
    """
    names = {f"src/{name}.rs": f'pub const NAME: &str = "{{{{{name}}}}}";' for name in ("one", "two")}
    tree = first.tree(also=_USES_STANDIN, files={"build.rs": script, "src/lib.rs": library, **names})
    for _ in range(3):
        first.build(tree)
    assert first.mark() == "two"
    (tree / "src" / "two.rs").unlink()
    assert "standin" not in first.build(tree)
    assert first.mark() == "one"


def test_a_macro_of_the_project_that_is_called_like_a_known_one(first: TinyCargo) -> None:
    files = {
        "indoc/Cargo.toml": MANIFEST.format(name="indoc") + "[lib]\nproc-macro = true\n",
        "indoc/src/lib.rs": _FUNCTION % TEMPLATE,
        "src/lib.rs": "indoc::template!();\n",
        "templates/x": "{{one}}",
    }
    tree = first.tree(also='indoc = { path = "indoc" }\n', files=files)
    check(first, tree, lambda: write(tree / "templates" / "x", "{{two}}"))


@pytest.mark.parametrize("age", [0, _YEARS], ids=["newer", "older"])
def test_a_macro_that_is_called_like_a_known_one(age: int, first: TinyCargo) -> None:
    tree = with_macro(first, TEMPLATE, {"templates/x": "{{one}}"}, crate="indoc")
    place = tree / "templates" / "x"
    check(first, tree, lambda: replace(place, "{{two}}") if age else write(place, "{{two}}"))


def vendored_in_the_tree(there: TinyCargo) -> Path:
    """Return a vendored crate in the project's folder, which holds what is built."""
    (there.folder / "vendor").rename(there.folder / "tree-vendor")
    (there.folder / "tree").mkdir()
    (there.folder / "tree-vendor").rename(there.folder / "tree" / "vendor")
    (there.folder / "vendor").symlink_to("tree/vendor")
    over = vendored(there, "over", _NEEDS_STANDIN, {"src/lib.rs": _MACRO.format("one")})
    return there.folder / "tree" / over.relative_to(there.folder)


_HERE = '[source.crates-io]\nreplace-with = "here"\n[source.here]\n'


@pytest.mark.parametrize(
    ("text", "age"),
    [
        (_HERE + 'directory = "tree/vendor"\n', 0),
        (_HERE + '"directory" = "tree/vendor"\n', _YEARS),
        ('include = ["more.toml"]\n', _YEARS),
    ],
    ids=["newer", "quoted", "include"],
)
def test_a_vendored_crate_in_the_project(text: str, age: int, first: TinyCargo) -> None:
    over = vendored_in_the_tree(first)
    write(first.folder / ".cargo" / "more.toml", _HERE + 'directory = "tree/vendor"\n')
    write(first.folder / ".cargo" / "config.toml", text)
    also = 'over = "0.1"\n[workspace]\nexclude = ["vendor"]\n'
    tree = first.tree("tree", "over::mark!()", also, {"src/x": ""})
    for _ in range(3):
        first.build(tree)
    place = over / "src" / "lib.rs"
    replace(place, _MACRO.format("two")) if age else write(place, _MACRO.format("two"))
    assert {"over", "tiny"} <= first.build(tree)
    assert first.mark() == "two"
    # Doubt about the project's own sources costs what it costs elsewhere.
    replace(tree / "src" / "lib.rs", LIBRARY.format('"new"'))
    assert first.build(tree) == {"tiny"}
    assert first.mark() == "new"


def test_a_file_of_the_project_that_a_vendored_crate_declares_by_a_relative_path(first: TinyCargo) -> None:
    script = _READS.format('println!("cargo:rerun-if-changed=../../tree/parts/x");', "../../tree/parts/x")
    library = f'pub const PART: &str = env!("PART");\n{_BY_SCRIPT}'
    vendored(first, "over", _USES_STANDIN, {"build.rs": script, "src/lib.rs": library})
    files = {"src/lib.rs": _CALLS_SCRIPT, "parts/x": "one"}
    tree = first.tree(also='over = "0.1"\n', files=files)
    for _ in range(3):
        first.build(tree)
    replace(tree / "parts" / "x", "two")
    first.build(tree)
    assert first.mark() == "two"


@pytest.mark.parametrize("below", ["registry/src/index-1/util-0.1.0", "git/checkouts/util-1/2"])
def test_a_path_dependency_where_cargo_unpacks_crates(below: str, first: TinyCargo) -> None:
    util = first.folder / "home" / below
    first.environment["CARGO_HOME"] = str(first.folder / "home")
    write(util / "Cargo.toml", MANIFEST.format(name="util") + _NEEDS_STANDIN)
    write(util / "src" / "lib.rs", _MACRO.format("one"))
    set_back(util, 3600)
    tree = first.tree("tree", "util::mark!()", f'util = {{ path = "{util}" }}\n')
    check(first, tree, lambda: replace(util / "src" / "lib.rs", _MACRO.format("two")))


def test_a_path_with_an_arrow_in_it(first: TinyCargo) -> None:
    tree = first.tree("a -> b", 'include_str!("x")', files={"src/x": "one"})
    check(first, tree, lambda: replace(tree / "src" / "x", "two"))


def test_a_build_folder_that_was_copied(there: TinyCargo) -> None:
    """cargo compares with dep-info, which may be newer than the time stamp of the unit then."""
    tree = there.tree("tree", 'include_str!("x")', files={"src/x": "one"})
    for _ in range(3):
        there.build(tree)
    now = time.time()
    for path in there.target.rglob("*"):
        moment = now - 50 if path.name == "invoked.timestamp" else now + 50
        if path.is_file() and not path.name.endswith("-envshim"):
            os.utime(path, (moment, moment))
    write(tree / "src" / "x", "two")
    there.build(tree)
    assert there.mark() == "two"


@pytest.mark.parametrize("declares", ["/usr/include/stdio.h", "/usr/include"])
def test_a_header_of_the_system_makes_no_doubt_expensive(declares: str, first: TinyCargo) -> None:
    """bindgen's callbacks declare each one that a crate includes."""
    script = f'fn main() {{ println!("cargo:rerun-if-changed={declares}"); }}'
    vendored(first, "over", "", {"build.rs": script, "src/lib.rs": ""})
    tree = first.tree("tree", 'include_str!("x")', 'over = "0.1"\n', {"src/x": "one"})
    check(first, tree, lambda: replace(tree / "src" / "x", "two"))


_WRAPPER = '#!/bin/sh\nexec "$@" --cfg \'mark="%s"\'\n'
_BY_WRAPPER = 'if cfg!(mark = "one") { "{{one}}" } else { "{{two}}" }'


def wrapped(there: TinyCargo) -> Path:
    """Return a tree whose library tells which of two wrappers around rustc compiled it."""
    for mark in ("one", "two"):
        write(there.folder / mark, _WRAPPER % mark, 3600).chmod(0o755)
    return there.tree(files={"src/lib.rs": f"#[used] #[no_mangle] pub static MARK: &str = {_BY_WRAPPER};"})


@pytest.mark.parametrize("how", ["RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER", "--config", "file", "include"])
def test_another_wrapper_around_rustc(how: str, first: TinyCargo) -> None:
    """cargo does not compare which one it is, though it may change all that is compiled."""
    tree = wrapped(first)
    more, main = first.folder / ".cargo" / "more.toml", first.folder / ".cargo" / "config.toml"
    if how == "include":
        main.write_text('include = ["more.toml"]\n' + main.read_text())
    for mark in ("one", "two"):
        arguments = []
        setting = f"build.rustc-wrapper = '{first.folder / mark}'"
        if how.endswith("WRAPPER"):
            first.environment[how] = str(first.folder / mark)
        elif how == "--config":
            arguments = ["--config", setting]
        else:
            write(more, setting, _YEARS)
            arguments = ["--config", str(more)] if how == "file" else []
        for _ in range(2):
            first.build(tree, *arguments)
        assert first.mark() == mark
        assert first.build(tree, *arguments) == set()


@pytest.mark.parametrize("how", ["variable", "on PATH", "configuration"])
def test_a_wrapper_around_rustc_that_was_edited(how: str, first: TinyCargo) -> None:
    tree = wrapped(first)
    wrapper = first.folder / "one"
    if how == "variable":
        first.environment["RUSTC_WRAPPER"] = str(wrapper)
    elif how == "on PATH":
        first.environment["RUSTC_WRAPPER"] = wrapper.name
        first.environment["PATH"] = f"{first.folder}:{first.environment['PATH']}"
    else:
        main = first.folder / ".cargo" / "config.toml"
        main.write_text(f'[build]\n"rustc-wrapper" = "./one"\n{main.read_text()}')
    check(first, tree, lambda: write(wrapper, _WRAPPER % "two"))


def test_a_linker_that_was_edited(first: TinyCargo) -> None:
    linker, main = first.folder / "linker", first.folder / ".cargo" / "config.toml"
    write(linker, '#!/bin/sh\nexec cc "$@"\n', 3600).chmod(0o755)
    main.write_text(f"[target.'cfg(unix)']\nlinker = './linker'\n{main.read_text()}")
    tree = first.tree(also='[lib]\ncrate-type = ["rlib", "cdylib"]\n')
    for _ in range(2):
        first.build(tree)
    assert first.build(tree) == set()
    replace(linker, '#!/bin/sh\nexec cc -s "$@"\n')
    linker.chmod(0o755)
    assert first.build(tree) == {"tiny"}
    assert first.build(tree) == set()


@pytest.mark.parametrize("text", ["# a comment\n", "\n\n[alias] # mine\nx = 'build'\n", "[net]\nretry = 3\n"])
def test_configuration_that_compiles_nothing_costs_nothing(text: str, first: TinyCargo) -> None:
    tree = first.tree()
    for _ in range(2):
        first.build(tree)
    main = first.folder / ".cargo" / "config.toml"
    main.write_text(main.read_text() + text)
    assert first.build(tree) == set()
    main.write_text(main.read_text() + "[build]\nrustc-wrapper = 'env'\n")
    assert "standin" in first.build(tree)


@pytest.mark.parametrize("age", [0, _YEARS], ids=["newer", "older"])
def test_a_hidden_folder_that_a_macro_reads(age: int, first: TinyCargo) -> None:
    tree = with_macro(first, TEMPLATE.replace("templates", ".schema"), {".schema/x": "{{one}}"})
    place = tree / ".schema" / "x"
    check(first, tree, lambda: replace(place, "{{two}}") if age else write(place, "{{two}}"))


def test_a_template_beside_the_folder_of_the_workspace(first: TinyCargo) -> None:
    """In the Python project, in whose folder front ends start cargo."""
    with_macro(first, TEMPLATE.replace("templates", "../templates"), {})
    project = first.folder / "project"
    files = {"src/lib.rs": "macros::template!();\n", "../templates/x": "{{one}}", "../pyproject.toml": ""}
    first.tree("project/rust", also='macros = "0.1"\n', files=files)
    set_back(project, 3600)
    argument = "--manifest-path=rust/Cargo.toml"
    for _ in range(3):
        first.build(project, argument)
    assert first.build(project, argument) == set()
    write(project / "templates" / "x", "{{two}}")
    assert first.build(project, argument) == {"tiny"}
    assert first.mark() == "two"


_LIBRARY = 'const char *x_mark = "{{%s}}";'


@pytest.mark.parametrize("age", [0, _YEARS], ids=["newer", "older"])
@pytest.mark.parametrize("how", ["variable", "command line"])
def test_a_library_that_flags_name(how: str, age: int, first: TinyCargo) -> None:
    tree = first.tree(
        files={"src/lib.rs": '#[used] #[no_mangle] pub static MARK: &str = "";', "native/y": ""}
    )
    place = tree / "native" / "libx.a"

    def make(mark: str) -> None:
        at = place.parent.stat()
        place.unlink(missing_ok=True)
        write(first.folder / "x.c", _LIBRARY % mark)
        run(["cc", "-c", "x.c", "-o", "x.o"], os.environ, first.folder)
        run(["ar", "rcD", str(place), "x.o"], os.environ, first.folder)
        if age:
            os.utime(place, (1e9, 1e9))
            os.utime(place.parent, ns=(at.st_atime_ns, at.st_mtime_ns))

    make("one")
    flags = [f"-Lnative={place.parent}", "-lstatic=x"]
    if how == "variable":
        first.environment["RUSTFLAGS"] = " ".join(flags)
        check(first, tree, lambda: make("two"))
    else:  # as maturin's rustc-args
        first.command = "rustc"
        check(first, tree, lambda: make("two"), "--", *flags)
