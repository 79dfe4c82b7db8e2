"""A project, and builds of it with real front ends and back ends, and a stand-in for cargo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unit.environments import Shared, make_environment, program, program_in, run

# Where scripts/maintain/bring-windows puts them; elsewhere they come from the package index.
WHEELS = Path("Z:/opt/wheels")
STAND_IN = Path(__file__).with_name("standin_cargo.py")
MANIFEST = """\
[package]
name = "tiny"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
pyo3 = "0.30"
"""
LOCK = """\
version = 4

[[package]]
name = "pyo3"
version = "0.30.1"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

[[package]]
name = "tiny"
version = "0.1.0"
dependencies = [
 "pyo3",
]
"""
BACK_ENDS = {
    "maturin": """\
[build-system]
requires = ["maturin"{more}]
build-backend = "maturin"

[project]
name = "tiny"
version = "0.1.0"
requires-python = ">=3.9"
""",
    "setuptools-rust": """\
[build-system]
requires = ["setuptools", "setuptools-rust"{more}]
build-backend = "setuptools.build_meta"

[project]
name = "tiny"
version = "0.1.0"
requires-python = ">=3.9"

[tool.setuptools]
packages = []

[[tool.setuptools-rust.ext-modules]]
target = "tiny"
binding = "PyO3"
""",
}
FRONT_ENDS = {
    "pip": "{python} -m pip wheel --use-feature=venv-isolation --no-deps -w {out} {project}",
    "build": "{python} -m build --wheel --outdir {out} {project}",
    "uv": "{shim} run -- {uv} build --wheel --python {base} --out-dir {out} {project}",
    "uv, shim required": "{uv} build --wheel --python {base} --out-dir {out} {project}",
}
# They build from an sdist, which they unpack.
FROM_SDISTS = {
    "pip, sdist": "{python} -m pip wheel --no-deps -w {out} {sdist}",
    "build, sdist": "{python} -m build --installer=uv --outdir {out} {project}",
    "uv, sdist": "{shim} run -- {uv} build --python {base} --out-dir {out} {project}",
}
ALL = {
    "pyo3-ffi run-build-script-build-script-build",
    "pyo3-ffi lib-pyo3_ffi",
    "pyo3 lib-pyo3",
    "tiny lib-tiny",
}


def in_pairs(front_ends: Mapping[str, str], first: int = 0) -> list[tuple[str, str]]:
    """Return each of the front ends with one of the back ends, in turns: a build takes long under Wine."""
    back_ends = list(BACK_ENDS)
    return [(name, back_ends[(number + first) % 2]) for number, name in enumerate(front_ends)]


def make_host(root: Path, python: str, shared: Shared) -> None:
    """Make an environment with front ends, and the shim beside them."""
    make_environment("venv", python, root, shared.environ)
    links = ["--no-index", "--find-links", str(WHEELS)] if WHEELS.exists() else []
    environ = {**shared.environ, "PIP_NO_INDEX": "0", "UV_OFFLINE": "0"}
    pip = [sys.executable, "-m", "pip", "--python", str(program_in(root, "python"))]
    run([*pip, "install", "-q", "--no-compile", *links, "pip", "build", "uv", shared.wheel], environ)


def content_of(wheel: Path) -> bytes:
    """Return what is in a wheel, but for what holds the path of the unpacked sources: maturin's SBOM."""
    with zipfile.ZipFile(wheel) as found:
        parts = [(name, found.read(name)) for name in found.namelist() if "/sboms/" not in name]
    lines = [(name, line) for name, content in parts for line in content.splitlines(keepends=True)]
    return b"".join(line for name, line in lines if not (name.endswith("/RECORD") and b"/sboms/" in line))


class Bench:
    """A project, with the variables of a user who builds it."""

    def __init__(self, folder: Path, shared: Shared, host: Path) -> None:
        self.folder = folder
        self.host = host
        self.wheel = shared.wheel
        self.project = folder / "a project"
        self.log = folder / "calls"
        self.out = 0
        self.packed: bytes | None = None
        self.said = ""
        bin = folder / "bin"
        for name in ("cargo", "rustc"):
            program(bin / name, STAND_IN.read_text("utf-8"))
        self.environ = {
            **shared.environ,
            "PATH": f"{bin}{os.pathsep}{shared.environ['PATH']}",
            "CARGO_HOME": str(folder / "cargo home"),
            "PYO3_ENVSHIM_CACHE_DIR": str(folder / "cache"),
            "STANDIN_LOG": str(self.log),
            "SOURCE_DATE_EPOCH": "1700000000",
            "UV_CACHE_DIR": str(folder / "uv"),
            "PIP_CACHE_DIR": str(folder / "pip"),
        }
        for name in ("PIP_NO_INDEX", "UV_OFFLINE"):
            del self.environ[name]
        links = [str(self.wheel.parent)]
        if WHEELS.exists():
            links.append(str(WHEELS))
            self.environ.update(PIP_NO_INDEX="1", UV_OFFLINE="1", UV_NO_INDEX="1")
        self.environ.update(PIP_FIND_LINKS=" ".join(links), UV_FIND_LINKS=",".join(links))

    def has(self, back_end: str, *more: str) -> None:
        """Write the project."""
        (self.project / "src").mkdir(parents=True)
        (self.project / "MANIFEST.in").write_text("include Cargo.*\nrecursive-include src *.rs\n")
        (self.project / "Cargo.toml").write_text(MANIFEST)
        (self.project / "Cargo.lock").write_text(LOCK)
        (self.project / "src" / "lib.rs").write_text("// one\n")
        text = BACK_ENDS[back_end].format(more="".join(f', "{it}"' for it in more))
        (self.project / "pyproject.toml").write_text(text)

    def build(self, front_end: str, **variables: str) -> tuple[bytes, list[dict[str, Any]]]:
        """Build a wheel; return it, and the calls that compiled."""
        self.out += 1
        out = self.folder / f"out {self.out}"
        command = {**FRONT_ENDS, **FROM_SDISTS}[front_end]
        if "{sdist}" in command:
            self.make_sdist(**variables)
        words = {
            "sdist": self.folder / "sdist" / "tiny-0.1.0.tar.gz",
            "python": program_in(self.host, "python"),
            "shim": program_in(self.host, "pyo3-envshim"),
            "uv": program_in(self.host, "uv"),
            "base": getattr(sys, "_base_executable", None),
            "out": out,
            "project": self.project,
        }
        arguments = [str(words[it[1:-1]] if it[0] == "{" else it) for it in command.split()]
        self.log.unlink(missing_ok=True)
        environ = {**self.environ, **variables}
        done = subprocess.run(arguments, env=environ, cwd=self.folder, capture_output=True, check=False)
        self.said = said = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert done.returncode == 0, said
        assert "pyo3-envshim: " not in said or "PYO3_ENVSHIM_VERBOSE" in variables, said
        assert "Traceback" not in said
        (wheel,) = out.glob("*.whl")
        calls = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        shutil.rmtree(self.project / "build", ignore_errors=True)  # setuptools' own, with files' times
        content = content_of(wheel) if front_end in FROM_SDISTS else wheel.read_bytes()
        return content, [call for call in calls if call["compiled"] is not None]

    def make_sdist(self, **variables: str) -> None:
        """Make an sdist of what the project holds now, if that has changed: it takes long under Wine."""
        out = self.folder / "sdist"
        source = (self.project / "src" / "lib.rs").read_bytes()
        if source == self.packed:
            return
        self.packed = source
        shutil.rmtree(out, ignore_errors=True)
        environ = {**self.environ, **variables, "PYO3_ENVSHIM": "off"}
        run([program_in(self.host, "python"), "-m", "build", "-s", "-o", out, self.project], environ)

    def compiled(self, calls: list[dict[str, Any]]) -> set[str]:
        return {unit for call in calls for unit in call["compiled"]}
