"""What is kept of an unpacked sdist's dependencies where nobody has set anything: what knows no system."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .kept_cargo import CDYLIB, Done, KeptCargo, library, manifest
from .workshop import real_cargo

# A crate from git, whose build script looks at the system and tells cargo nothing of that.
SCRIPT = """\
fn main() {{
    println!("cargo:rerun-if-changed=build.rs");
    let number = {number};
    println!("cargo:rustc-env=NUMBER={{}}", number.trim());
}}
"""
NUMBER = 'pub fn number() -> i32 { env!("NUMBER").parse().unwrap() }\n'
USES = {"Cargo.toml": manifest(dependencies='unicode-ident = "1"\nsys = { git = "file://%s" }\n')}


class System:
    """A machine with a library, of which a crate from git asks, and an sdist that uses that crate."""

    def __init__(self, folder: Path) -> None:
        self.cargo = KeptCargo(folder)
        self.folder = folder / "system"
        self.folder.mkdir()
        self.crate = folder / "sys"
        self.cargo.use_home()

    def publish(self, files: dict[str, str]) -> None:
        """Make a git repository of the crate."""
        files = {"Cargo.toml": manifest("sys", "", 'name = "sys"'), **files}
        for name, text in files.items():
            (self.crate / name).parent.mkdir(parents=True, exist_ok=True)
            (self.crate / name).write_text(text)
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
            subprocess.run([*git, *command], cwd=self.crate, check=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the system that is older than all builds."""
        path = self.folder / name
        path.write_text(text)
        os.utime(path, (1_500_000_000, 1_500_000_000))
        return path

    def commit(self) -> str:
        """Return the name of what was published last."""
        command = ["git", "-C", str(self.crate), "rev-parse", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def unpack(self, at: str, commit: str = "") -> Path:
        """Unpack the sdist, which uses this commit of the crate."""
        git = f'git = "file://{self.crate}", rev = "{commit or self.commit()}"'
        files = {
            "Cargo.toml": manifest(dependencies=f'unicode-ident = "1"\nsys = {{ {git} }}\n'),
            "src/lib.rs": library("sys::number()"),
        }
        return self.cargo.unpack(files, at)

    def build(self, at: str, commit: str = "", **variables: str) -> Done:
        """Unpack the sdist and build it."""
        return self.cargo.build(self.unpack(at, commit), **variables)  # type: ignore[arg-type]


@pytest.fixture
def system(tmp_path: Path) -> System:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    return System(tmp_path)


def test_without_a_build_script_it_is_compiled_once(system: System) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    assert system.build("aaaaaaaa").compiled == ["sys", "tiny", "unicode-ident"]
    second = system.build("bbbbbbbb")
    assert (second.compiled, second.answer) == (["tiny"], 1)
    assert second.ours == []


@pytest.mark.parametrize(
    "number",
    [
        'std::fs::read_to_string("{folder}/foo.h").unwrap()',
        'String::from_utf8(std::process::Command::new("cat").arg("{folder}/foo.pc").output().unwrap().stdout).unwrap()',
        'std::fs::read_to_string("{folder}/libfoo.so").unwrap()',
        'std::env::var("FOO").unwrap()',
    ],
    ids=["a header", "a .pc file", "a shared object", "a variable"],
)
def test_what_a_build_script_asks_the_system_is_asked_each_time(system: System, number: str) -> None:
    system.publish(
        {"build.rs": SCRIPT.format(number=number.format(folder=system.folder)), "src/lib.rs": NUMBER}
    )
    for value in ("1", "2"):
        for name in ("foo.h", "foo.pc", "libfoo.so"):
            system.write(name, value)
        done = system.build("aaaaaaaa", FOO=value)
        assert done.answer == int(value)
        assert done.compiled == (["sys", "tiny", "unicode-ident"] if value == "1" else ["sys", "tiny"])
    for value in ("3", "4"):  # as asked for: it is kept, stale or not
        for name in ("foo.h", "foo.pc", "libfoo.so"):
            system.write(name, value)
        done = system.build("bbbbbbbb", FOO=value, PYO3_ENVSHIM_BUILD_CACHE="on")
    assert done.compiled == ["tiny"]
    assert done.answer == 2


def with_inner(number: str) -> dict[str, str]:
    """Return a repository with a crate, and with another that it needs, whose build script asks a number."""
    return {
        "Cargo.toml": manifest("sys", 'inner = { path = "inner" }\n', 'name = "sys"'),
        "src/lib.rs": "pub fn number() -> i32 { inner::number() }\n",
        "inner/Cargo.toml": manifest("inner", "", 'name = "inner"'),
        "inner/build.rs": SCRIPT.format(number=number),
        "inner/src/lib.rs": NUMBER,
    }


def test_what_needs_such_a_crate_is_compiled_too(system: System) -> None:
    """By a path within the repository, as a workspace has it."""
    system.publish(with_inner('std::env::var("FOO").unwrap()'))
    for value in ("1", "2"):
        done = system.build("aaaaaaaa", FOO=value)
        assert done.answer == int(value)
    assert done.compiled == ["inner", "sys", "tiny"]


def test_why_it_is_compiled_each_time_is_explained(system: System) -> None:
    system.publish(with_inner('"1"'))
    system.build("aaaaaaaa")
    found = system.cargo.explained(system.unpack("bbbbbbbb"))
    causes = {cause["name"]: (cause["kind"], cause["hint"]) for cause in found["causes"]}
    hint = "set PYO3_ENVSHIM_BUILD_CACHE=on to keep it"
    assert causes == {"inner": ("system", hint), "sys": ("system", hint), "tiny": ("unpacked", "")}
    assert [cause["text"] for cause in found["causes"] if cause["name"] == "sys"] == [
        "sys needs what may depend on the system: inner"
    ]


def test_its_folder_for_generated_code_is_this_builds(system: System) -> None:
    system.publish(
        {
            "build.rs": 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n',
            "src/lib.rs": 'pub fn number() -> i32 { env!("OUT_DIR").len() as i32 }\n',
        }
    )
    for at in ("aaaaaaaa", "bbbbbbbb"):
        assert "sys" in system.build(at).compiled


@pytest.mark.parametrize(
    ("name", "value"),
    [("RUSTFLAGS", "-Ctarget-cpu=native"), ("RUSTC_BOOTSTRAP", "1"), ("CARGO_CFG_X", "1"), ("LIBC_CI", "1")],
)
def test_nothing_is_kept_where_the_machine_or_an_untold_variable_counts(
    system: System, name: str, value: str
) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    for at in ("aaaaaaaa", "bbbbbbbb"):
        done = system.build(at, **{name: value})
        assert done.compiled == ["sys", "tiny", "unicode-ident"]
    assert system.cargo.kept == []


def test_nothing_that_another_build_of_the_compiler_made_is_kept(system: System) -> None:
    """One with the same version, for all that it tells of itself."""
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    tools = system.folder / "bin"
    tools.mkdir()
    rustc = shutil.which("rustc", path=str(Path(real_cargo()).parent)) or "rustc"
    (tools / "rustc").write_text(f'#!/bin/sh\nexec "{rustc}" "$@"\n')
    (tools / "rustc").chmod(0o755)
    variables = {"PATH": f"{tools}:{system.cargo.environment['PATH']}"}
    for _ in range(2):
        done = system.build("aaaaaaaa", **variables)
    assert done.compiled == ["tiny"]
    os.utime(tools / "rustc", (1_600_000_000, 1_600_000_000))
    assert system.build("aaaaaaaa", **variables).compiled == ["sys", "tiny", "unicode-ident"]


def test_off_keeps_nothing(system: System) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    system.build("aaaaaaaa", PYO3_ENVSHIM_BUILD_CACHE="off")
    assert system.cargo.kept == []


def test_another_commit_is_compiled_and_so_is_the_first_one_again(system: System) -> None:
    commits = {}
    for number in (1, 2):
        system.publish({"src/lib.rs": f"pub fn number() -> i32 {{ {number} }}\n"})
        commits[number] = system.commit()
    for number in (1, 2, 1):
        done = system.build("aaaaaaaa", commits[number])
        assert (done.answer, "tiny" in done.compiled) == (number, True)


def test_a_cdylib_is_what_cargo_alone_makes(system: System) -> None:
    assert "cdylib" in CDYLIB
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    system.build("aaaaaaaa")
    content = system.build("bbbbbbbb").content
    assert content == system.build("bbbbbbbb", PYO3_ENVSHIM="off").content
