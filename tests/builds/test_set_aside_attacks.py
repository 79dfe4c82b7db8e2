"""Real cargo where units could be moved that somebody else still needs, or come back to the wrong call."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyo3_envshim import freshness
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo.metadata import Query
from pyo3_envshim.set_aside import exchange

from .test_set_aside import Interpreters, exchanged, interpreter
from .test_stale_holes import NAMES, TEMPLATE, with_macro, with_member
from .tiny_cargo import LIBRARY, MANIFEST, TinyCargo, compiled, mark_of, write
from .workshop import real_cargo


@pytest.fixture
def there(tmp_path: Path) -> Interpreters:
    return Interpreters(TinyCargo(tmp_path))


@pytest.fixture
def second(tmp_path: Path) -> Interpreters:
    """With cargo's second layout of a build folder, if it has one."""
    cargo = TinyCargo(tmp_path)
    cargo.use_second_layout()
    return Interpreters(cargo)


def test_a_target_folder_in_the_target_folder_is_another(there: Interpreters) -> None:
    """As rust-analyzer's ``cargo.targetDir`` and cargo-llvm-cov have it: not a platform's."""
    own = {"CARGO_TARGET_DIR": str(there.there.target / "rust-analyzer")}
    there.cargo("B", "check", **own)
    there.build("A")
    there.build("C")
    assert there.cargo("B", "check", **own) == set()


class TwoRoots:
    """Two worktrees with one target folder, built with interpreters of their user's own."""

    def __init__(self, folder: Path) -> None:
        self.cargo = TinyCargo(folder)
        self.trees = {name: self.cargo.tree(name, f'"{name}"') for name in ("one", "two")}

    def build(self, name: str, python: str, *steps: str) -> list[str]:
        """Build a worktree: take some of ``serve`` or ``refresh``, ``exchange``, ``cargo``."""
        tree = self.trees[name]
        interpreter(self.cargo.folder / python)
        environ = {**self.cargo.environment, "PYO3_PYTHON": str(self.cargo.folder / python)}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tree)
            with Query(CargoCall(real_cargo(), ["build"], environ)) as query:
                workspace = query.workspace()
            if "serve" in steps:
                freshness.nonce_for(workspace)
            is_stamped = "serve" in steps or ("refresh" in steps and freshness.refresh(workspace))
            if "exchange" in steps:
                exchange(environ, workspace, is_stamped)
            if "cargo" not in steps:
                return []
            output = self.cargo.run(["build", "--message-format=json"], tree, **environ)
        return compiled(output.splitlines())

    def through_us(self, name: str, python: str) -> list[str]:
        return self.build(name, python, "refresh", "exchange", "cargo")


def a_cargo_without_us(there: TwoRoots) -> None:
    there.through_us("one", "A")
    there.build("two", "B", "cargo")
    there.through_us("one", "A")
    there.through_us("one", "B")


def a_cargo_without_us_for_the_same_interpreter(there: TwoRoots) -> None:
    there.through_us("one", "B")
    (there.trees["two"] / "src" / "lib.rs").touch()  # an edit
    there.build("two", "B", "cargo")
    assert there.cargo.mark() == "two"
    there.through_us("one", "A")
    there.through_us("one", "B")


def one_that_was_interrupted_while_it_waited(there: TwoRoots) -> None:
    there.through_us("two", "B")
    with (there.cargo.target / "debug" / ".cargo-lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        there.build("one", "A", "serve", "exchange")
    there.through_us("one", "A")
    there.through_us("one", "B")


@pytest.mark.parametrize(
    "happens",
    [
        a_cargo_without_us,
        a_cargo_without_us_for_the_same_interpreter,
        one_that_was_interrupted_while_it_waited,
    ],
)
def test_units_of_another_worktree_are_not_the_last_ones(
    tmp_path: Path, happens: Callable[[TwoRoots], None]
) -> None:
    """cargo alone compiles: the build between overwrote them."""
    there = TwoRoots(tmp_path)
    happens(there)
    assert there.cargo.mark() == "one"
    there.through_us("one", "A")
    assert there.through_us("one", "B") == []


_WRITES = """fn main() {
    println!("cargo:rerun-if-changed=build.rs\\ncargo:rerun-if-env-changed=PYO3_PYTHON");
    let python = std::env::var("PYO3_PYTHON").unwrap();
    let made = format!("\\"{}\\"", python.rsplit('/').next().unwrap());
    if IS_EACH_TIME || std::fs::read_to_string("src/made.rs").map_or(true, |found| found != made) {
        std::fs::write("src/made.rs", made).unwrap();
    }
}
const IS_EACH_TIME: bool = """


@pytest.mark.parametrize("first", ["refresh", "serve"])
@pytest.mark.parametrize("is_each_time", ["true", "false"])
@pytest.mark.parametrize("turns", ["ABABAB", "ABCABCABC", "BBBAAABBBA"])
def test_what_a_build_script_writes_into_the_sources_is_of_its_own_interpreter(
    first: str, is_each_time: str, turns: str, tmp_path: Path
) -> None:
    """A set's own units may be fresh, while another's script has overwritten what they are made from."""
    there = TwoRoots(tmp_path)
    tree = there.trees["one"]
    write(tree / "build.rs", f"{_WRITES}{is_each_time};", 3600)
    write(tree / "src" / "lib.rs", LIBRARY.format('include!("made.rs")'), 3600)
    found = ""
    for python in turns:
        there.build("one", python, first, "exchange", "cargo")
        found += there.cargo.mark()
    assert found == turns


def test_units_of_a_worktree_within_the_worktree_are_not_its_own(tmp_path: Path) -> None:
    there = TwoRoots(tmp_path)
    there.trees["two"] = there.cargo.tree("one/.worktrees/two", '"two"', files={".git": "gitdir: …"})
    a_cargo_without_us_for_the_same_interpreter(there)
    assert there.cargo.mark() == "one"


def test_units_of_another_worktree_of_a_program_with_a_hyphen(tmp_path: Path) -> None:
    there = TwoRoots(tmp_path)
    for name, tree in there.trees.items():
        program = '[[bin]]\nname = "my-app"\npath = "src/main.rs"\n'
        write(tree / "Cargo.toml", (tree / "Cargo.toml").read_text() + program)
        (tree / "src" / "lib.rs").rename(tree / "src" / "main.rs")
        code = LIBRARY.format(f'"{name}"') + 'fn main() { println!("{MARK}") }'
        write(tree / "src" / "main.rs", code, 3600)
    there.through_us("one", "B")
    (there.trees["two"] / "src" / "main.rs").touch()
    there.build("two", "B", "cargo")
    there.through_us("one", "A")
    there.through_us("one", "B")
    assert mark_of(there.cargo.target / "debug" / "my-app") == "one"


@pytest.mark.parametrize("before", ["", "B", "A"])
def test_another_interpreter_at_the_same_path(there: Interpreters, before: str) -> None:
    """A virtual environment made anew, or an upgrade: cargo alone compiles, after another one's build.

    *before*: whose build comes first after that.
    """
    path = there.there.folder / "A"
    there.build("A")
    if not before:
        there.build("B")
    path.write_text("another")
    if before:
        there.build(before)
        there.build("B")
    assert "standin" in there.build("A")
    there.build("B")
    assert there.build("A") == set()


def test_the_same_interpreter_in_an_environment_made_anew(there: Interpreters) -> None:
    path = there.there.folder / "A"
    path.unlink()
    for _ in range(2):
        path.unlink(missing_ok=True)
        path.symlink_to("B")
        there.build("A")
        there.build("C")
    assert there.build("A") == set()


@pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="nothing tells what is running")
@pytest.mark.parametrize("layout", ["there", "second"])
def test_tests_that_run_meanwhile_stay(layout: str, request: pytest.FixtureRequest) -> None:
    """cargo releases its lock before it starts the first one."""
    there: Interpreters = request.getfixturevalue(layout)
    write(there.tree / "tests" / "a.rs", "#[test] fn a() { std::io::stdin().lines().next(); }")
    write(there.tree / "tests" / "b.rs", "#[test] fn b() {}")
    there.build("A", "test", "--no-run")
    pipe = subprocess.PIPE
    command = [real_cargo(), "test", "--test", "*"]
    with subprocess.Popen(
        command, cwd=there.tree, env=there.environ("A"), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert any("running 1 test" in line for line in process.stdout or ())
        done = there.exchange("B")
        said = process.communicate("\n")
    assert process.returncode == 0, said
    assert "a test of this project is in use" in done.reason
    assert there.exchange("B").put_aside > 0


def test_a_call_that_was_interrupted_while_it_waited_loses_nothing(there: Interpreters) -> None:
    there.build("A")
    with (there.there.target / "debug" / ".cargo-lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        there.exchange("B")  # and then cargo is interrupted
    there.build("C")
    assert there.build("A") == set()


class Turns:
    """A tree, and an interpreter and variables in turn."""

    def __init__(self, cargo: TinyCargo, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cargo = cargo
        self.tree = tree
        monkeypatch.chdir(tree)

    def build(self, name: str, *arguments: str, **variables: str) -> set[str]:
        """Exchange, and run cargo; return what it compiled."""
        interpreter(self.cargo.folder / name)
        environ = {**self.cargo.environment, "PYO3_PYTHON": str(self.cargo.folder / name), **variables}
        exchanged(environ)
        arguments = arguments if "test" in arguments else ("build", "--lib", *arguments)
        return set(
            compiled(self.cargo.run([*arguments, "--message-format=json"], self.tree, **environ).splitlines())
        )

    def settled(self, *calls: tuple[str, ...]) -> None:
        """Build in turn until nothing is compiled; what lies outside of packages is known from then on."""
        for _ in range(3):
            for call in calls:
                self.build(*call)
        assert [self.build(*call) for call in calls] == [set()] * len(calls)


_ASKS = 'fn main() { println!("cargo:rerun-if-env-changed=FEATURES"); }\n'


@pytest.mark.parametrize("age", [0, 7200], ids=["newer", "older"])
@pytest.mark.parametrize("place", ["templates/x", "one/data/x", "../shared/x"])
@pytest.mark.parametrize("variable", ["PYO3_PYTHON", "FEATURES"])
def test_what_a_macro_reads_that_has_stayed_in_place(
    variable: str, place: str, age: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The macro's library is not in the set, nor is what has a note of the file: neither needs a Python.

    If the set is for another variable, what asks for the Python has stayed as well.
    """
    cargo = TinyCargo(tmp_path)
    write(tmp_path / "tree" / place, "{{one}}", 3600)
    includes = f'pub const TEXT: &str = include_str!("../../{place}");'
    tree = with_member(cargo, "", {"one/src/lib.rs": includes, "build.rs": _ASKS})
    macros = tmp_path / "vendor" / "macros" / "src" / "lib.rs"
    write(macros, macros.read_text().replace("templates/x", place))
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A", "--workspace"))
    other = "B" if variable == "PYO3_PYTHON" else "A"
    there.build(other, "-p", "one", FEATURES="more")
    write(tree / place, "{{two}}", age)
    assert there.build(other, "-p", "one", FEATURES="more") == {"one"}
    assert "standin" not in there.build("A", "--workspace")
    assert cargo.mark() == "two"
    assert there.build("A", "--workspace") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="flags of this linker")
def test_a_library_that_a_build_script_names_that_has_stayed_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script told cargo nothing, and the linker reads the library for the set."""
    cargo = TinyCargo(tmp_path)
    library = tmp_path / "tree" / "native" / "libx.a"

    def archive(text: str) -> None:
        write(tmp_path / "x.c", f'const char x_mark[] = "{{{{{text}}}}}";')
        write(library, "").unlink()
        for command in (["cc", "-fPIC", "-c", "x.c"], ["ar", "rcD", str(library), "x.o"]):
            subprocess.run(command, cwd=tmp_path, check=True)

    archive("one")
    search, link = f"cargo:rustc-link-search=native={library.parent}", "cargo:rustc-link-lib=x"
    library_of_two = (
        '[lib]\ncrate-type = ["cdylib"]\n[dependencies]\nstandin = "0.1"\none = { path = "../one" }\n'
    )
    files = {
        "one/Cargo.toml": MANIFEST.format(name="one"),
        "one/build.rs": f'fn main() {{ println!("{search}\\n{link}"); }}',
        "one/src/lib.rs": 'extern "C" { pub static x_mark: u8; }',
        "two/Cargo.toml": MANIFEST.format(name="two") + library_of_two,
        "two/src/lib.rs": '#[no_mangle] pub extern "C" fn x() -> *const u8 { unsafe { &one::x_mark } }',
    }
    tree = cargo.tree(also='[workspace]\nmembers = ["one", "two"]\n', files=files)
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A", "-p", "two"))
    there.build("B", "-p", "one")
    archive("two")
    there.build("B", "-p", "one")
    assert "standin" not in there.build("A", "-p", "two")
    assert mark_of(cargo.target / "debug" / "libtwo.so") == "two"


@pytest.mark.parametrize(
    ("edited", "other"),
    [
        ("src/tests.rs", ("test", "--no-run")),
        ("tests/it.rs", ("test", "--no-run")),
        ("one/src/lib.rs", ("-p", "one")),
    ],
)
def test_an_edited_module_of_another_set_compiles_nothing(
    edited: str, other: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a macro is not known that has stayed in place."""
    files = {"src/tests.rs": "", "tests/it.rs": ""}
    cargo = TinyCargo(tmp_path)
    tree = with_member(cargo, '[dependencies]\nstandin = "0.1"\n', files)
    write(tree / "src" / "lib.rs", "macros::template!();\n#[cfg(test)] mod tests;\n", 3600)
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A",), ("B", *other), ("C",))
    there.build("B", *other)
    write(tree / edited, "// edited\n")
    assert "standin" not in there.build("B", *other)
    assert [there.build(name) for name in "AC"] == [set(), set()]


def test_a_new_module_that_a_macro_lists_is_noticed_where_only_another_set_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing local was in place when another interpreter's build came upon it."""
    cargo = TinyCargo(tmp_path)
    tests = '#[path = "../src/parts/two.rs"] mod two;\n'
    tree = with_macro(
        cargo, NAMES.replace("templates", "src/parts"), {"src/parts/one.rs": "", "tests/it.rs": tests}
    )
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A",))
    there.build("B", "-p", "standin")
    write(tree / "src" / "parts" / "two.rs", "")
    there.build("B", "test", "--no-run")
    assert "standin" not in there.build("A")
    assert cargo.mark() == "two.rs"


def test_a_new_module_that_a_macro_lists_is_noticed_where_only_what_has_stayed_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The macro is aside as well: it needs what asks for the Python."""
    cargo = TinyCargo(tmp_path)
    tree = with_member(cargo, "", {"one/src/parts/one.rs": ""})
    macros = tmp_path / "vendor" / "macros"
    code = (macros / "src" / "lib.rs").read_text()
    write(macros / "src" / "lib.rs", code.replace(TEMPLATE, NAMES.replace("templates", "one/src/parts")))
    manifest = (macros / "Cargo.toml").read_text()
    write(macros / "Cargo.toml", manifest + '[build-dependencies]\nstandin = "0.1"\n')
    write(macros / "build.rs", 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n')
    (tree / "Cargo.lock").unlink()
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A",), ("B", "-p", "one"))
    write(tree / "one" / "src" / "parts" / "two.rs", "")
    write(tree / "one" / "src" / "lib.rs", '#[path = "parts/two.rs"] mod two;\n')
    there.build("B", "-p", "one")
    assert "standin" not in there.build("A")
    assert cargo.mark() == "two.rs"


_FOR_B = """fn main() {
    println!("cargo:rerun-if-changed=build.rs\\ncargo:rerun-if-env-changed=PYO3_PYTHON");
    println!("cargo:rustc-check-cfg=cfg(for_b)");
    if std::env::var("PYO3_PYTHON").unwrap().ends_with("B") { println!("cargo:rustc-cfg=for_b"); }
}"""


@pytest.mark.parametrize("last", ["B", "C"])
def test_a_module_for_another_interpreter_that_a_macro_reads(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the very target that is built here, too: no test, and nothing of another package."""
    cargo = TinyCargo(tmp_path)
    code = TEMPLATE.replace("templates/x", "src/compat.rs")
    tree = with_macro(cargo, code, {"src/compat.rs": "// {{one}}\n", "build.rs": _FOR_B})
    write(tree / "src" / "lib.rs", "macros::template!();\n#[cfg(for_b)] mod compat;\n", 3600)
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A",), ("B",), (last,))
    write(tree / "src" / "compat.rs", "// {{two}}\n")
    there.build(last)
    assert "standin" not in there.build("A")
    assert cargo.mark() == "two"


def test_a_module_that_another_set_knows_from_older_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is none any more, but what a macro reads."""
    cargo = TinyCargo(tmp_path)
    code = TEMPLATE.replace("templates/x", "src/x.rs")
    tree = with_macro(cargo, code, {"src/x.rs": "// {{one}}\n"})
    write(tree / "src" / "lib.rs", "macros::template!();\nmod x;\n", 3600)
    there = Turns(cargo, tree, monkeypatch)
    there.settled(("A",), ("B",))
    write(tree / "src" / "lib.rs", "macros::template!();\n")
    there.settled(("A",))
    there.build("C", "-p", "standin")
    write(tree / "src" / "x.rs", "// {{two}}\n")
    assert "standin" not in there.build("A")
    assert cargo.mark() == "two"
