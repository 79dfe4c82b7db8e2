"""Real cargo for several interpreters in turn: nothing is compiled twice, and nothing is another's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pyo3_envshim import freshness
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo.metadata import Query
from pyo3_envshim.set_aside import Exchange, exchange
from support import CHECKOUT
from support.interpreters import base_interpreter, other_interpreter
from support.sample_crates import PyO3, write_project
from unit.fabricated_cargo import Killed
from unit.test_set_aside import failing

from .tiny_cargo import LIBRARY, MANIFEST, TinyCargo, compiled, write
from .workshop import real_cargo

SEES = """\
fn main() {
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    println!("cargo:rustc-env=SEEN={}", std::env::var("PYO3_PYTHON").unwrap_or_default());
}
"""
SEEN = 'pub const SEEN: &str = concat!("{{", env!("SEEN"), "}}");\n'
USES = "#[used] #[no_mangle] pub static MARK: &str = standin::SEEN;\npub fn f() -> u32 { core_of_it::f() }\n"
PRINTS = 'fn main() { println!("{}", standin::SEEN) }\n'
TARGETS = """\
core-of-it = { path = "core" }
[features]
more = []
[lib]
crate-type = ["cdylib", "rlib"]
[[example]]
name = "plug-in"
crate-type = ["cdylib"]
[workspace]
members = ["core"]
"""
# What has `{{…}}` in it; the first two are put in place of a wheel's.
RESULTS = ("libtiny.so", "libtiny.rlib", "my-bin", "examples/ex-a", "examples/libplug_in.so")
EVERYTHING = ("--workspace", "--lib", "--bins", "--examples")
OWN = {"tiny", "my-bin", "ex-a", "plug-in"}
DEPENDENT = {"standin", *OWN}


def interpreter(path: Path) -> None:
    """Make what stands for an interpreter, if it is not there: another mtime would mean another one."""
    if not path.exists():
        path.touch()


def exchanged(environ: Mapping[str, str]) -> Exchange:
    """Do what the wrapper does before cargo starts in the working directory."""
    call = CargoCall(real_cargo(), ["build"], environ)
    with Query(call) as query:
        workspace = query.workspace()
    return exchange(environ, workspace, freshness.refresh(workspace))


class Interpreters:
    """A workspace, its target folder, and a target folder for each interpreter to compare with."""

    def __init__(self, there: TinyCargo) -> None:
        self.there = there
        standin = there.folder / "vendor" / "standin"
        write(standin / "build.rs", SEES)
        write(standin / "src" / "lib.rs", SEEN)
        files = {
            "src/lib.rs": USES,
            "src/bin/my-bin.rs": PRINTS,
            "examples/ex-a.rs": PRINTS,
            "examples/plug-in.rs": "#[used] #[no_mangle] pub static MARK: &str = standin::SEEN;\n",
            "core/Cargo.toml": MANIFEST.format(name="core-of-it"),
            "core/src/lib.rs": "pub fn f() -> u32 { 1 }\n",
        }
        self.tree = there.tree(also=TARGETS, files=files)
        for name in "ABC":
            (there.folder / name).touch()

    def environ(self, name: str) -> dict[str, str]:
        return {**self.there.environment, "PYO3_PYTHON": str(self.there.folder / name)}

    def exchange(self, name: str) -> Exchange:
        """Do what the wrapper does before cargo starts."""
        before = os.getcwd()
        os.chdir(self.tree)
        try:
            return exchanged(self.environ(name))
        finally:
            os.chdir(before)

    def cargo(self, name: str, *arguments: str, **variables: str) -> set[str]:
        """Run cargo; return what it compiled."""
        arguments = arguments or ("build", *EVERYTHING)
        if arguments[0] != "clean":
            arguments = (*arguments, "--message-format=json")
        environ = {**self.environ(name), **variables}
        return set(compiled(self.there.run(list(arguments), self.tree, **environ).splitlines()))

    def build(self, name: str, *arguments: str) -> set[str]:
        """Exchange, and run cargo."""
        self.exchange(name)
        return self.cargo(name, *arguments)

    def check(self, name: str, *arguments: str) -> None:
        """Fail if results are not, byte for byte, those of a target folder of this interpreter's own."""
        own = self.there.folder / f"target-{name}"
        self.cargo(name, *arguments, CARGO_TARGET_DIR=str(own))
        for result in RESULTS:
            content = (self.there.target / "debug" / result).read_bytes()
            assert content == (own / "debug" / result).read_bytes(), result
            assert b"/%s}}" % name.encode() in content


@pytest.fixture(params=["first layout", "second layout"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Interpreters:
    """Real cargo, with each of its layouts of a build folder."""
    cargo = TinyCargo(tmp_path)
    if request.param == "second layout":
        cargo.environment |= {"CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true", "RUSTC_BOOTSTRAP": "1"}
    found = Interpreters(cargo)
    if request.param == "second layout":
        found.cargo("A", "check", "-p", "core-of-it")
        if (cargo.target / "debug" / ".fingerprint").exists():
            pytest.skip("this cargo has no second layout")
        shutil.rmtree(cargo.target)
    return found


def test_the_second_round_compiles_nothing(there: Interpreters) -> None:
    assert there.build("A") == {*DEPENDENT, "build-script-build", "core_of_it"}
    for name in "BC":
        assert there.build(name) == DEPENDENT
    for name in "ABC":
        assert there.build(name) == set()
        there.check(name)


def test_an_editor_and_tests_in_the_same_profile(there: Interpreters) -> None:
    calls = {"A": ["build", *EVERYTHING], "B": ["check", "--all-targets"], "C": ["test", "--no-run"]}
    for name, arguments in calls.items():
        there.build(name, *arguments)
    for name, arguments in calls.items():
        assert there.build(name, *arguments) == set()
    there.build("A")
    there.check("A")


def test_another_platform_in_the_same_target_folder(there: Interpreters) -> None:
    (host,) = (
        line.partition(": ")[2]
        for line in there.there.run(["-vV"], there.tree).splitlines()
        if line.startswith("host: ")
    )
    for name in "AB":
        there.build(name)
        there.build(name, "build", "--target", host)
    for name in "AB":
        assert there.build(name) == set()
        assert there.build(name, "build", "--target", host) == set()
        there.check(name)


def test_documentation_is_made_again(there: Interpreters) -> None:
    for name in "AB":
        there.build(name)
        there.build(name, "doc", "--lib", "--no-deps")
    there.build("A")
    assert "tiny" in there.build("A", "doc", "--lib", "--no-deps")
    there.check("A")


def an_edit(there: Interpreters) -> None:
    write(there.tree / "src" / "lib.rs", USES + "pub fn g() {}\n")


def an_edit_of_what_needs_no_python(there: Interpreters) -> None:
    write(there.tree / "core" / "src" / "lib.rs", "pub fn f() -> u32 { 2 }\n")


def an_older_source(there: Interpreters) -> None:
    write(there.tree / "src" / "lib.rs", USES + "pub fn g() {}\n")
    os.utime(there.tree / "src" / "lib.rs", (1_700_000_000, 1_700_000_000))


def an_older_source_that_needs_no_python(there: Interpreters) -> None:
    write(there.tree / "core" / "src" / "lib.rs", "pub fn f() -> u32 { 2 }\n")
    os.utime(there.tree / "core" / "src" / "lib.rs", (1_700_000_000, 1_700_000_000))
    there.cargo("B", "clean", "-p", "core-of-it")  # as the guard does for a front end, and no other


def other_features(there: Interpreters) -> None:
    there.build("C", "build", *EVERYTHING, "--features", "more")
    there.build("A", "build", *EVERYTHING, "--features", "more")


def other_flags(there: Interpreters) -> None:
    there.exchange("A")
    there.cargo("A", RUSTFLAGS="-Cdebug-assertions=no")


def a_package_cleaned(there: Interpreters) -> None:
    there.cargo("A", "clean", "-p", "tiny")


def everything_cleaned(there: Interpreters) -> None:
    there.cargo("A", "clean")


def a_cargo_without_us(there: Interpreters) -> None:
    there.cargo("A")


def half_a_call(there: Interpreters) -> None:
    write(there.tree / "src" / "lib.rs", "error")
    there.exchange("C")
    with pytest.raises(AssertionError):
        there.cargo("C")
    write(there.tree / "src" / "lib.rs", USES)


@pytest.mark.parametrize(
    ("happens", "is_compiled"),
    [
        (an_edit, OWN),
        (an_edit_of_what_needs_no_python, {*OWN, "core_of_it"}),
        (an_older_source, OWN),
        (an_older_source_that_needs_no_python, {*OWN, "core_of_it"}),
        (other_features, OWN),  # the library has no hash in its names
        (other_flags, None),
        (a_package_cleaned, OWN),
        (everything_cleaned, None),
        (a_cargo_without_us, DEPENDENT),
        (half_a_call, None),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_between_the_rounds(
    there: Interpreters, happens: Callable[[Interpreters], None], is_compiled: set[str] | None
) -> None:
    for name in "AB":
        there.build(name)
    happens(there)
    for name in "AB":
        found = there.build(name)
        if is_compiled is not None:
            assert found <= is_compiled
        there.check(name)
    for name in "AB":
        assert there.build(name) == set()


def test_a_cleaned_package_is_compiled(there: Interpreters) -> None:
    for name in "AB":
        there.build(name)
    there.cargo("B", "clean", "-p", "tiny")
    assert "tiny" in there.build("A")


def test_an_older_source_of_what_was_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No local unit is in place meanwhile, so that only the set's own stamp tells."""
    cargo = TinyCargo(tmp_path)
    tree = cargo.tree()
    monkeypatch.chdir(tree)

    def build(name: str, *arguments: str) -> list[str]:
        interpreter(tmp_path / name)
        environ = {**cargo.environment, "PYO3_PYTHON": str(tmp_path / name)}
        exchanged(environ)
        output = cargo.run(["build", "--message-format=json", *arguments], tree, **environ)
        return compiled(output.splitlines())

    build("A")
    build("B", "-p", "standin")
    write(tree / "src" / "lib.rs", "pub fn other() {}\n")
    os.utime(tree / "src" / "lib.rs", (1_700_000_000, 1_700_000_000))
    assert build("A") == ["tiny"]
    assert build("B") == ["tiny"]
    assert build("A") == []


class Worktrees:
    """Two worktrees with one target folder, built in turn as the wrapper does it for a front end."""

    def __init__(self, folder: Path) -> None:
        self.cargo = TinyCargo(folder)
        self.trees = {name: self.cargo.tree(name, f'"{name}"') for name in ("one", "two")}

    def build(self, name: str) -> list[str]:
        """Build a worktree; return what was compiled."""
        tree = self.trees[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tree)
            with Query(CargoCall(real_cargo(), ["build"], self.cargo.environment)) as query:
                workspace = query.workspace()
            python = self.cargo.folder / f"environment-{freshness.nonce_for(workspace)}"
            interpreter(python)
            environ = {**self.cargo.environment, "PYO3_PYTHON": str(python)}
            exchange(environ, workspace, is_stamped=True)
            output = self.cargo.run(["build", "--message-format=json"], tree, **environ)
        return compiled(output.splitlines())

    def check(self, name: str, mark: str = "") -> None:
        """Fail if the last library is not that of a worktree."""
        assert self.cargo.mark() == (mark or name)


def test_two_worktrees_in_turn(tmp_path: Path) -> None:
    there = Worktrees(tmp_path)
    for number in range(4):
        for name in ("one", "two"):
            found = there.build(name)
            there.check(name)
            assert found == [] or number < 2


@pytest.mark.parametrize("time", [0, 1_700_000_000])
def test_a_worktree_that_has_changed_meanwhile(tmp_path: Path, time: int) -> None:
    there = Worktrees(tmp_path)
    for name in ("one", "two") * 2:
        there.build(name)
    source = write(there.trees["one"] / "src" / "lib.rs", LIBRARY.format('"three"'))
    if time:
        os.utime(source, (time, time))
    assert there.build("one") == ["tiny"]
    there.check("one", "three")
    assert there.build("two") == []
    there.check("two")


def test_a_worktree_whose_units_have_stayed_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they could not be put aside, nothing tells whether they can be trusted: the nonce is new."""
    there = Worktrees(tmp_path)
    for name in ("one", "two") * 2:
        there.build(name)
    shelf, kept = tmp_path / "target" / "debug" / ".envshim-sets", tmp_path / "kept"
    shutil.copytree(shelf, kept)
    there.build("one")
    shutil.rmtree(shelf)
    kept.rename(shelf)  # as if cargo's locks had not been free for it
    monkeypatch.setitem(globals(), "exchange", lambda *_, **__: None)
    there.cargo.guard(there.trees["two"])  # nor for the other one, which is interrupted
    source = write(there.trees["one"] / "src" / "lib.rs", LIBRARY.format('"three"'))
    os.utime(source, (1_700_000_000, 1_700_000_000))
    there.build("one")
    there.check("one", "three")


def test_what_only_a_nonce_cures_is_in_doubt_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another crate declares a file of the project: it may be stale, too."""
    cargo = TinyCargo(tmp_path)
    declares = f'println!("cargo:rerun-if-changed={tmp_path}/tree/x");'
    write(tmp_path / "vendor" / "standin" / "build.rs", SEES.replace("{\n", "{" + declares, 1))
    tree = cargo.tree(files={"x": ""})
    monkeypatch.chdir(tree)

    def build(*, is_served: bool) -> list[str]:
        with Query(CargoCall(real_cargo(), ["build"], cargo.environment)) as query:
            workspace = query.workspace()
        python = tmp_path / (f"environment-{freshness.nonce_for(workspace)}" if is_served else "own")
        interpreter(python)
        environ = {**cargo.environment, "PYO3_PYTHON": str(python)}
        exchange(environ, workspace, is_served or freshness.refresh(workspace))
        return compiled(cargo.run(["build", "--message-format=json"], tree, **environ).splitlines())

    build(is_served=False)
    write(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    os.utime(tree / "src" / "lib.rs", (1_700_000_000, 1_700_000_000))
    assert "tiny" in build(is_served=True)
    assert "tiny" in build(is_served=False)
    assert cargo.mark() == "two"
    assert build(is_served=True) == []


def test_a_dependency_compiled_while_the_clock_was_wrong(there: Interpreters) -> None:
    """It is older than the dependents that were put aside, so that cargo would take them for fresh."""
    for name in "AB":
        there.build(name)
    write(there.tree / "core" / "src" / "lib.rs", "pub fn f() -> u32 { 2 }\n")
    there.cargo("B")
    for path in [there.tree / "core", *there.there.target.rglob("*core*")]:
        for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.utime(file, (1_700_000_000, 1_700_000_000))
    assert "tiny" in there.build("A")
    there.check("A")


def test_killed_at_some_renames(there: Interpreters, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "AB":
        there.build(name)
    for at in range(1, 120, 17):
        for name, other in (("A", at), ("B", at // 2)):
            with failing(monkeypatch, Killed(), other, ("rename",)):
                there.exchange(name)
        for name in "AB":
            there.build(name)
            there.check(name)


def wrapped(there: Interpreters, name: str, *arguments: str, **variables: str) -> tuple[list[str], str]:
    """Run cargo through the wrapper, in a call that passes through: no front end is there.

    Returns what was compiled, and what was said.
    """
    program = f"import sys; sys.path.append({str(CHECKOUT)!r}); from pyo3_envshim.wrapper import main; main()"
    command = [sys.executable, "-I", "-c", program, *arguments]
    environ = {**there.environ(name), "PYO3_ENVSHIM_CARGO": real_cargo(), "PYO3_ENVSHIM_VERBOSE": "1"}
    environ |= {"PYO3_ENVSHIM": "on", **variables}
    process = subprocess.run(command, cwd=there.tree, env=environ, capture_output=True, text=True, check=True)
    return compiled(process.stdout.splitlines()), process.stderr


def test_the_wrapper_does_it_in_calls_that_pass_through(there: Interpreters) -> None:
    build = ("build", *EVERYTHING, "--message-format=json")
    for name in "AB":
        wrapped(there, name, *build)
    for name in "AB":
        names, said = wrapped(there, name, *build)
        assert names == []
        assert "6 units set aside, 6 brought back" in said
        there.check(name)
    for value in ("off", "base"):
        assert "set aside" not in wrapped(there, "C", "check", PYO3_ENVSHIM=value)[1]


def test_what_was_compiled_before_us_stays(there: Interpreters) -> None:
    """In a call that passes through; a served one has a path that cargo has never seen."""
    build = ("build", *EVERYTHING, "--message-format=json")
    there.cargo("A")
    assert wrapped(there, "A", *build)[0] == []
    assert set(wrapped(there, "B", *build)[0]) == DEPENDENT
    assert wrapped(there, "A", *build)[0] == []
    there.check("A")


def test_a_project_without_a_python_is_left_alone(tmp_path: Path) -> None:
    there = Interpreters(TinyCargo(tmp_path))
    del there.there.environment["PYO3_PYTHON"]
    said = wrapped(there, "A", "check", PYO3_PYTHON="")[1]
    assert "set aside" not in said
    assert not list(there.there.target.rglob("*envshim*"))


@pytest.mark.slow
@pytest.mark.parametrize("second_layout", [False, True])
@pytest.mark.parametrize("features", [(), ("abi3-py39",)])
def test_real_pyo3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second_layout: bool, features: tuple[str, ...]
) -> None:
    cargo = TinyCargo(tmp_path / "tiny")
    cargo.move_target(tmp_path / "target")
    project = write_project(tmp_path / "project", pyo3=PyO3(features=features))
    monkeypatch.chdir(project.folder)
    if second_layout:
        cargo.environment |= {"CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true", "RUSTC_BOOTSTRAP": "1"}
    del cargo.environment["CARGO_NET_OFFLINE"]

    def library(python: str, target: Path) -> tuple[list[str], bytes]:
        variables = {"PYO3_PYTHON": python, "CARGO_TARGET_DIR": str(target)}
        output = cargo.run(["build", "--message-format=json"], project.folder, **variables)
        return compiled(output.splitlines()), (target / "debug" / "libtiny.so").read_bytes()

    pythons = (base_interpreter(), other_interpreter())
    own = {python: library(python, tmp_path / f"own-{at}")[1] for at, python in enumerate(pythons)}
    for is_second in (False, True):
        for python in pythons:
            done = exchanged({**cargo.environment, "PYO3_PYTHON": python})
            assert done.reason == ""
            names, content = library(python, cargo.target)
            assert content == own[python]
            assert names == [] if is_second else "tiny" in names
