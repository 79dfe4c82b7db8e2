"""Real cargo, started by the wrapper, in trees that look like unpacked sdists; quick, as there is no PyO3."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import CHECKOUT
from support.interpreters import base_interpreter

from .workshop import real_cargo, run, small_environment

_WRAPPER = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from pyo3_envshim import wrapper
sys.exit(wrapper.main())
"""
MANIFEST = """\
[package]
name = "{name}"
version = "0.1.0"
edition = "2021"

[lib]
{lib}

[dependencies]
{dependencies}
"""
CDYLIB = 'crate-type = ["cdylib"]'
UNICODE = 'unicode-ident = "1"\n'
HECK = 'heck = "0.5"\n'
# As maturin writes them: every file of every sdist has one time.
_TIME = 1153704088


def manifest(name: str = "tiny", dependencies: str = UNICODE, lib: str = CDYLIB, more: str = "") -> str:
    """Return the text of a Cargo.toml."""
    return MANIFEST.format(name=name, lib=lib, dependencies=dependencies) + more


def library(expression: str, before: str = "") -> str:
    """Return the text of a library whose `answer()` is the number that a Rust expression gives."""
    used = "#[no_mangle] pub fn used() -> bool { unicode_ident::is_xid_start('a') }\n"
    return f'{before}\n{used}#[no_mangle] pub extern "C" fn answer() -> i32 {{ {expression} }}\n'


def can_mount() -> bool:
    """Tell whether this user may mount a file system, for a process of its own."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Done:
    """What a build said, what cargo compiled, and the library that it made."""

    said: str
    status: int
    file: Path

    @property
    def compiled(self) -> list[str]:
        """The crates that cargo compiled."""
        return sorted(set(re.findall(r"^ *Compiling (\S+)", self.said, re.MULTILINE)))

    @property
    def ours(self) -> list[str]:
        """The lines of the wrapper."""
        return [line for line in self.said.splitlines() if line.startswith("pyo3-envshim: ")]

    @property
    def content(self) -> bytes:
        """The library."""
        return self.file.read_bytes()

    @property
    def answer(self) -> int:
        """What the library answers."""
        call = f"import ctypes; print(ctypes.CDLL({str(self.file)!r}).answer())"
        return int(run([sys.executable, "-c", call], small_environment()))


class KeptCargo:
    """A cache, an ephemeral environment, and a temporary folder for unpacked sdists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.cache = folder / "cache"
        self.wrapper = folder / "pyo3-envshim-cargo"
        self.wrapper.write_text(_WRAPPER.format(python=base_interpreter(), root=str(CHECKOUT)))
        self.wrapper.chmod(0o755)
        made = self.temporary / "build-env-abcdefgh"
        run([base_interpreter(), "-m", "venv", "--without-pip", str(made)], small_environment())
        made.chmod(0o700)
        self.environment = {
            **small_environment(),
            "CARGO_NET_OFFLINE": "true",
            "TMPDIR": str(self.temporary),
            "PYO3_ENVSHIM_CACHE_DIR": str(self.cache),
            "_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin",
            "PYO3_PYTHON": str(made / "bin" / "python"),
        }

    def use_home(self, name: str = "cargo-home") -> str:
        """Give cargo a home of its own, with the crates that are here; return its path.

        What is fetched writes the index anew, which other tests read meanwhile.
        """
        home = self.folder / name
        shared = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry"
        (home / "registry").mkdir(parents=True)
        for part in ("cache", "src"):
            (shared / part).mkdir(parents=True, exist_ok=True)
            (home / "registry" / part).symlink_to(shared / part)
        self.environment["CARGO_HOME"] = str(home)
        return str(home)

    @property
    def kept(self) -> list[Path]:
        """The build folders that are kept."""
        return sorted(self.cache.glob("builds/*"))

    def unpack(self, files: Mapping[str, str], at: str = "aaaaaaaa") -> Path:
        """Unpack an sdist, as `python -m build` does; *at*: the random part of its path."""
        outer = self.temporary / f"build-via-sdist-{at}"
        shutil.rmtree(outer, ignore_errors=True)
        tree = outer / "tiny-0.1.0"
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        outer.chmod(0o700)
        if "Cargo.toml" in files and "Cargo.lock" not in files:
            self.lock(tree)
        for path in [*tree.rglob("*")]:
            os.utime(path, (_TIME, _TIME))
        return tree

    def lock(self, tree: Path) -> None:
        """Write Cargo.lock, with what is on this machine, or else with what it brings here."""
        for variables in ({}, {"CARGO_NET_OFFLINE": "false"}):
            command = [real_cargo(), "fetch" if variables else "generate-lockfile"]
            environ = {**self.environment, **variables}
            if subprocess.run(command, cwd=tree, env=environ, capture_output=True).returncode == 0:
                return
        raise AssertionError("there is no Cargo.lock")

    @staticmethod
    def call(package: str = "tiny") -> list[str]:
        """Return cargo's arguments."""
        return ["rustc", "-p", package, "--lib"]

    def explained(self, tree: Path) -> Any:
        """Build the tree, and return what `explain` says of it, as JSON."""
        command = [
            sys.executable,
            "-m",
            "pyo3_envshim",
            "explain",
            "--json",
            "--",
            str(self.wrapper),
            *self.call(),
        ]
        environ = {**self.environment, "CARGO": str(self.wrapper), "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def on_a_file_system(self, options: str, tree: Path, script: str) -> str:
        """Run a shell script in the tree, in which ``build`` is one, with a file system for the cache."""
        self.cache.mkdir(mode=0o700)
        text = (
            f"set -e; mount -t tmpfs -o mode=0700,{options} tmpfs '{self.cache}'\n"
            f"build() {{ '{self.wrapper}' {' '.join(self.call())}; }}\n"
            + script.replace("{cache}", str(self.cache))
        )
        environ = {**self.environment, "PYO3_ENVSHIM_VERBOSE": "1"}
        command = ["unshare", "-m", "sh", "-c", text]
        done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def start(
        self, tree: Path, *arguments: str, shim: bool = True, package: str = "tiny", **variables: str
    ) -> subprocess.Popen[str]:
        """Start a build."""
        program = str(self.wrapper) if shim else real_cargo()
        call = [program, *self.call(package), *arguments]
        environ = {**self.environment, **variables}
        out, err = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(call, cwd=tree, env=environ, stdout=out, stderr=err, text=True)

    def build(
        self,
        tree: Path,
        *arguments: str,
        shim: bool = True,
        fails: bool = False,
        package: str = "tiny",
        **more: str,
    ) -> Done:
        """Build the tree."""
        process = self.start(tree, *arguments, shim=shim, package=package, **more)
        said = process.communicate()[1]
        assert bool(process.returncode) == fails, said
        return Done(said, process.returncode, tree / "target" / "debug" / "libtiny.so")

    def built_without(self, files: Mapping[str, str], at: str) -> bytes:
        """Return the library that cargo alone makes at this place."""
        return self.build(self.unpack(files, at), shim=False).content
