"""Builds on Windows: real front ends and back ends, and a stand-in for cargo that judges as cargo does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unit.environments import ROOT, Shared, make_environment, program, program_in, run

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
ALL = {
    "pyo3-ffi run-build-script-build-script-build",
    "pyo3-ffi lib-pyo3_ffi",
    "pyo3 lib-pyo3",
    "tiny lib-tiny",
}


@pytest.fixture
def host(shared: Shared, a_python: str) -> Path:
    """An environment with front ends, and the shim beside them."""

    def make(root: Path) -> None:
        make_environment("venv", a_python, root, shared.environ)
        links = ["--no-index", "--find-links", str(WHEELS)] if WHEELS.exists() else []
        environ = {**shared.environ, "PIP_NO_INDEX": "0", "UV_OFFLINE": "0"}
        pip = [sys.executable, "-m", "pip", "--python", str(program_in(root, "python"))]
        run([*pip, "install", "-q", "--no-compile", *links, "pip", "build", "uv", shared.wheel], environ)

    return shared.once("windows-host", make)


class Bench:
    """A project, with the variables of a user who builds it."""

    def __init__(self, folder: Path, shared: Shared, host: Path) -> None:
        self.folder = folder
        self.host = host
        self.wheel = shared.wheel
        self.project = folder / "a project"
        self.log = folder / "calls"
        self.out = 0
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
        (self.project / "Cargo.toml").write_text(MANIFEST)
        (self.project / "Cargo.lock").write_text(LOCK)
        (self.project / "src" / "lib.rs").write_text("// one\n")
        text = BACK_ENDS[back_end].format(more="".join(f', "{it}"' for it in more))
        (self.project / "pyproject.toml").write_text(text)

    def build(self, front_end: str, **variables: str) -> tuple[bytes, list[dict[str, Any]]]:
        """Build a wheel; return it, and the calls that compiled."""
        self.out += 1
        out = self.folder / f"out {self.out}"
        words = {
            "python": program_in(self.host, "python"),
            "shim": program_in(self.host, "pyo3-envshim"),
            "uv": program_in(self.host, "uv"),
            "base": getattr(sys, "_base_executable", None),
            "out": out,
            "project": self.project,
        }
        command = [str(words.get(word.strip("{}"), word)) for word in FRONT_ENDS[front_end].split()]
        self.log.unlink(missing_ok=True)
        environ = {**self.environ, **variables}
        done = subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert done.returncode == 0, said
        assert "pyo3-envshim: warning" not in said
        assert "Traceback" not in said
        (wheel,) = out.glob("*.whl")
        calls = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        shutil.rmtree(self.project / "build", ignore_errors=True)  # setuptools' own, with files' times
        return wheel.read_bytes(), [call for call in calls if call["compiled"] is not None]

    def compiled(self, calls: list[dict[str, Any]]) -> set[str]:
        return {unit for call in calls for unit in call["compiled"]}


@pytest.fixture
def bench(tmp_path: Path, shared: Shared, host: Path) -> Bench:
    return Bench(tmp_path, shared, host)


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_second_build_compiles_nothing_and_the_wheel_is_the_same(
    front_end: str, back_end: str, bench: Bench
) -> None:
    bench.has(back_end, *(["pyo3-envshim"] if "required" in front_end else []))
    plain, calls = bench.build(front_end, PYO3_ENVSHIM="off")
    assert bench.compiled(calls) == ALL
    first, calls = bench.build(front_end)
    assert bench.compiled(calls) == ALL
    second, calls = bench.build(front_end)
    assert bench.compiled(calls) == set()
    assert plain == first == second
    for call in calls:
        check(call["environ"], bench)


def check(environ: Mapping[str, str | None], bench: Bench) -> None:
    """Check what cargo was given: the stored copy, in all that named the environment."""
    python = environ["PYO3_PYTHON"] or ""
    entry = Path(python).parents[1]
    assert entry.parent == Path(bench.environ["PYO3_ENVSHIM_CACHE_DIR"], "environments")
    assert (entry / "pyvenv.cfg").exists()
    assert environ["CARGO"] is None
    if environ["VIRTUAL_ENV"] is not None:
        assert Path(environ["VIRTUAL_ENV"]) == entry
    folders = (environ["PATH"] or "").split(os.pathsep)
    assert not any("build-env-" in folder or ".tmp" in folder for folder in folders)


def test_a_file_of_the_same_size_with_its_time_put_back_is_compiled(bench: Bench) -> None:
    """cargo looks at times only; without the shim, the random path makes it compile."""
    bench.has("maturin")
    bench.build("uv")
    source = bench.project / "src" / "lib.rs"
    before = source.stat()
    source.write_text("// two\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    wheel, calls = bench.build("uv")
    assert bench.compiled(calls) == {"tiny lib-tiny"}
    assert wheel == bench.build("uv", PYO3_ENVSHIM="off")[0]


def test_the_checkout_is_what_runs(host: Path, shared: Shared) -> None:
    told = run([program_in(host, "pyo3-envshim"), "--version"], shared.environ)
    assert told.split()[-1] in (ROOT / "pyo3_envshim" / "__init__.py").read_text()
