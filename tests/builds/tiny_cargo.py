"""Real cargo on crates that compile in no time, through the guard: what the guard's own tests build with.

``standin`` stands in for PyO3: it comes from a directory source, and all it does is
``rerun-if-env-changed=PYO3_PYTHON``. Builds take the wrapper's own way from the answer of
``cargo metadata`` to the nonce; the nonce then stands in ``PYO3_PYTHON``, as in a path of the store.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from support import CHECKOUT
from support.rust_cache import remove

from .workshop import real_cargo, small_environment

if str(CHECKOUT) not in sys.path:  # the package of this checkout, installed or not
    sys.path.insert(0, str(CHECKOUT))

from pyo3_envshim import freshness
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo.metadata import Query

MANIFEST = """\
[package]
name = "{name}"
version = "0.1.0"
edition = "2021"
"""
WORKSPACE = MANIFEST.format(name="tiny") + '[dependencies]\nstandin = "0.1"\n'
STANDIN = 'fn main() { println!("cargo:rerun-if-env-changed=PYO3_PYTHON"); }\n'
LIBRARY = '#[used] #[no_mangle] pub static MARK: &str = concat!("{{{{", {}, "}}}}");\n'


class TinyCargo:
    """A folder for worktrees, and the variables of a build in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        standin = folder / "vendor" / "standin"
        write(standin / "Cargo.toml", MANIFEST.format(name="standin"))
        write(standin / "build.rs", STANDIN)
        write(standin / "src" / "lib.rs", "")
        write(standin / ".cargo-checksum.json", '{"files": {}}')
        sources = '[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "vendor"\n'
        write(folder / ".cargo" / "config.toml", sources)
        self.environment = {
            **small_environment(),
            "CARGO_NET_OFFLINE": "true",
            "PYO3_PYTHON": "/random/0",
        }
        self.move_target(folder / "target")
        self.command = "build"
        self._builds = 0

    def tree(
        self,
        name: str = "tree",
        mark: str = '"one"',
        also: str = "",
        files: Mapping[str, str] | None = None,
        *,
        age: float = 3600,
    ) -> Path:
        """Write a worktree, *age* seconds old, whose library holds *mark* (an expression).

        *also*: more of its manifest; *files*: more files.
        """
        tree = self.folder / name
        for path, text in {
            "Cargo.toml": WORKSPACE + also,
            "src/lib.rs": LIBRARY.format(mark),
            **(files or {}),
        }.items():
            write(tree / path, text)
        self.run(["metadata", "--format-version=1"], tree)  # writes Cargo.lock
        set_back(tree, age)
        return tree

    def move_target(self, target: Path) -> None:
        """Have cargo use another target folder."""
        self.target = target
        self.environment["CARGO_TARGET_DIR"] = str(target)

    def use_second_layout(self) -> None:
        """Have cargo use its second layout of a build folder; skip the test if it has none."""
        self.environment |= {"CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true", "RUSTC_BOOTSTRAP": "1"}
        self.build(self.tree("layout"))
        if (self.target / "debug" / ".fingerprint").exists():
            pytest.skip("this cargo has no second layout")
        remove([self.target, self.folder / "layout"])

    def guard(self, tree: Path, *arguments: str) -> str:
        """Do what the wrapper does before cargo; return the value of PYO3_PYTHON."""
        call = CargoCall(real_cargo(), [self.command, *arguments], self._at(tree))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tree)
            patch.setattr(os, "environ", self._at(tree))
            with Query(call) as query:
                nonce = freshness.nonce_for(query.workspace())
        return f"/store/environment-{nonce}"

    def unguarded(self) -> str:
        """Return the value of PYO3_PYTHON in an ordinary isolated build: a new one each time."""
        self._builds += 1
        return f"/random/{self._builds}"

    def build(self, tree: Path, *arguments: str, python: str | None = None) -> set[str]:
        """Build through the guard, or with this PYO3_PYTHON; return the packages that were compiled."""
        output = self.run(
            [self.command, "--message-format=json", "--lib", *arguments],
            tree,
            PYO3_PYTHON=self.guard(tree, *arguments) if python is None else python,
        )
        return set(compiled(output.splitlines()))

    def run(self, arguments: list[str], tree: Path, **variables: str) -> str:
        """Run cargo in a tree; return what it printed."""
        process = self.start(arguments, tree, **variables)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output

    def start(self, arguments: list[str], tree: Path, **variables: str) -> subprocess.Popen[str]:
        """Start cargo in a tree."""
        environment = {**self._at(tree), **variables}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [real_cargo(), *arguments], cwd=tree, env=environment, stdout=pipe, stderr=pipe, text=True
        )

    def mark(self, profile: str = "debug") -> str:
        """Return what the last library holds."""
        return mark_of(self.target / profile / "libtiny.rlib")

    def _at(self, tree: Path) -> dict[str, str]:
        return {**self.environment, "PWD": str(tree)}


def mark_of(library: Path) -> str:
    """Return what a library holds."""
    return library.read_bytes().partition(b"{{")[2].partition(b"}}")[0].decode()


def compiled(lines: Iterable[str]) -> list[str]:
    """Return the packages that cargo compiled, from its JSON messages."""
    messages = (json.loads(line) for line in lines if line.startswith("{"))
    return [
        message["target"]["name"]
        for message in messages
        if message["reason"] == "compiler-artifact" and not message["fresh"]
    ]


def write(path: Path, text: str, seconds: float = 0) -> Path:
    """Write a file whose mtime lies in the past."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if seconds:
        set_back(path, seconds)
    return path


def set_back(path: Path, seconds: float) -> None:
    """Move the mtime of a file, or of all below a folder, into the past."""
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if not each.is_symlink() or each.exists():
            moment = each.stat().st_mtime - seconds
            os.utime(each, (moment, moment))
