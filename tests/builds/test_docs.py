"""Every fenced block of the README and of docs/ is run, or read as what it is for reads it.

`_WAYS` says how, block by block; a block without a way fails, and so does a way without a block. What is
run starts with no more than the block's own page asks for, in a folder of its own.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support import CHECKOUT
from support.front_ends import BUILD, PASSED_TO_TOX
from support.interpreters import base_interpreter
from support.rust_cache import clean_as_rust_cache
from support.sample_crates import Project

from .fleet import machine, program, redis_server, taken
from .workshop import Bench, Built, run, small_environment

_TO_INSTALL = ("pip", "build", "uv", "tox")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the language after the fence, its text."""

    page: str
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is called here: its page and first line."""
        return self.page, self.text.partition("\n")[0]

    @property
    def toml(self) -> Mapping[str, Any]:
        """What it says, read as TOML."""
        tomllib = pytest.importorskip("tomllib")  # Python 3.11
        found: Mapping[str, Any] = tomllib.loads(self.text)
        return found


def _blocks() -> list[Block]:
    """Return all blocks."""
    pages = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
    found = []
    for page in pages:
        parts = re.split(r"^```(.*)\n", page.read_text(), flags=re.MULTILINE)
        assert len(parts) % 4 == 1, f"a fence of {page.name} is not closed"
        found += [Block(page.name, parts[at], parts[at + 1]) for at in range(1, len(parts), 4)]
    return found


_BLOCKS = _blocks()


def _block(page: str, start: str) -> Block:
    (found,) = (block for block in _BLOCKS if block.key == (page, start))
    return found


class Desk:
    """A bench, and an environment of the user's, in which what is asked for was installed."""

    def __init__(self, bench: Bench, *installed: str) -> None:
        self.bench = bench
        self.folder = bench.folder / "environment"
        shared = bench.shared
        wheels = shared.once("front-ends-wheelhouse", self._download)
        links = [str(wheels), str(shared.wheelhouse)]
        tools = bench.folder / "tools"
        bench.variables |= {
            "PIP_FIND_LINKS": " ".join(links),
            "UV_FIND_LINKS": ",".join(links),
            "UV_PYTHON": base_interpreter(),
            "UV_TOOL_DIR": str(tools),
            "UV_TOOL_BIN_DIR": str(tools / "bin"),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        uv = str(bench.plain.folder / "bin" / "uv")
        environment = bench.environment()
        run([uv, "venv", "-q", "--no-project", str(self.folder)], environment)
        python = str(self.folder / "bin" / "python")
        run([uv, "pip", "install", "-q", "-p", python, "pip", *installed], environment)
        path = [str(bench.cargo.executable.parent), str(self.folder / "bin"), str(tools / "bin")]
        path += [str(Path(base_interpreter()).parent), small_environment()["PATH"]]
        bench.variables["PATH"] = os.pathsep.join(path)

    def _download(self, folder: Path) -> None:
        pip = [str(self.bench.plain.python), "-m", "pip", "download", "-q"]
        run([*pip, "-d", str(folder), *_TO_INSTALL], small_environment())

    def sh(self, text: str, cwd: Path, **variables: str) -> Built:
        """Run shell code, and tell what happened."""
        self.bench.cargo.take_calls()
        output = run(["sh", "-eu", "-c", text], self.bench.environment() | variables, cwd)
        return Built(self.bench.cargo.take_calls(), None, self.folder, output)

    def answer(self, folder: Path) -> str:
        """Return what the only wheel in a folder answers."""
        (wheel,) = folder.glob("*.whl")
        return self.bench.answer(Built([], wheel, self.folder, ""))


# --- the ways ---------------------------------------------------------------------------------------


def _ci_runs_it(block: Block, bench: Bench) -> None:
    """Each command is a script of ours that CI runs."""
    commands = re.findall(r"^(?:\$ )?\./(scripts/\S+)", block.text, re.MULTILINE)
    assert commands
    ci = (CHECKOUT / ".ci" / "run").read_text()
    for command in commands:
        assert os.access(CHECKOUT / command, os.X_OK)
        assert f"\n./{command} " in ci


def _a_pyproject(block: Block, bench: Bench) -> None:
    """It is all that a project needs."""
    assert block.toml["build-system"]["build-backend"] == "maturin"
    project = bench.project()
    whole = (project.folder / "pyproject.toml").read_text()
    rest = whole[whole.index("[project]") :]
    project.write("pyproject.toml", f"{block.text}\n{rest}")
    first, second = (bench.build(BUILD, project, bench.plain) for _ in range(2))
    assert first.pyo3_python.startswith(str(bench.store))
    assert second.compiled == []


def _a_setting_of_uv(block: Block, bench: Bench) -> None:
    """uv reads it without a word; what it does is in test_ways_in.py."""
    assert block.toml["tool"]["uv"]["extra-build-dependencies"] == {"some-package": ["pyo3-envshim"]}
    project = Project(bench.folder / "application")
    head = '[project]\nname = "application"\nversion = "1"\nrequires-python = ">=3.9"\n\n'
    project.write("pyproject.toml", head + block.text)
    uv = str(bench.plain.folder / "bin" / "uv")
    output = run([uv, "lock", "--python", base_interpreter()], bench.environment(), project.folder)
    assert "warning" not in output


def _warm(*installed: str) -> Callable[[Block, Bench], None]:
    """It builds a wheel, and recompiles nothing when it is run again."""

    def way(block: Block, bench: Bench) -> None:
        desk = Desk(bench, *installed)
        project = bench.project()
        first, second = (desk.sh(block.text, project.folder) for _ in range(2))
        assert "pyo3" in first.compiled
        assert first.pyo3_python.startswith(str(bench.store))
        assert second.compiled == []
        assert desk.answer(project.folder / "dist") == "42"

    return way


def _a_tox_ini(block: Block, bench: Bench) -> None:
    """tox gets the shim beside it; an edit compiles the project's own crate, though an sdist is built."""
    desk = Desk(bench, "tox")
    project = bench.project(warm=False)
    project.write("tox.ini", f"{block.text}[testenv]\npass_env = {PASSED_TO_TOX}\n")
    for answer in ("first", "second"):
        project.set_answer(answer)
        built = desk.sh("tox run", project.folder)
    assert built.compiled == ["tiny"], built.output
    assert bench.answer(replace(built, site=project.folder / ".tox" / "py")) == "second"


def _a_workflow(block: Block, bench: Bench) -> None:
    """Its steps work one after the other; a second clone with the kept target compiles its crate only."""
    steps = _steps(block.text)
    assert [step for step in steps if step.startswith("uses: ")] == [
        f"uses: {name}"
        for name in ("actions/checkout@v6", "actions/setup-python@v6", "Swatinem/rust-cache@v2")
    ]
    desk = Desk(bench)
    project = bench.project()
    clone = project.copy_to(bench.folder / "clone")
    compiled = []
    packages = re.findall('name = "(.*)"', (project.folder / "Cargo.lock").read_text())
    for _ in range(3):
        files = {name: bench.folder / name for name in ("GITHUB_ENV", "GITHUB_PATH")}
        variables: dict[str, str] = {}
        for step in steps:
            if step.startswith("run: "):
                for file in files.values():
                    file.write_text("")
                named = {name: str(file) for name, file in files.items()}
                built = desk.sh(step[len("run: ") :], project.folder, **variables, **named)
                variables |= dict(line.split("=", 1) for line in files["GITHUB_ENV"].read_text().splitlines())
        compiled.append(built.compiled)
        clean_as_rust_cache(project.target, [name for name in packages if name != "tiny"])
        (project.target).rename(clone.target)
        shutil.rmtree(project.folder)
        shutil.rmtree(bench.store)
        shutil.copytree(clone.folder, project.folder, copy_function=shutil.copyfile, ignore=_target)
        clone.target.rename(project.target)
    assert "pyo3" in compiled[0]
    assert compiled[1:] == [["tiny"]] * 2


def _target(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "target"]


def _steps(workflow: str) -> list[str]:
    """Return the steps of the only job, each from its first key; it must be in the shape that we write."""
    head, _, rest = workflow.partition("    steps:\n")
    assert re.fullmatch(r"name: \w+\non: \[push\]\njobs:\n  \w+:\n    runs-on: [\w-]+\n", head)
    lines = rest.splitlines()
    for line in lines:
        assert re.fullmatch(r" {6}- (uses|run): \S.*| {8}with:| {10}[\w-]+: \S.*| {12}\S+", line), line
    return [line[len("      - ") :] for line in lines if line.startswith("      - ")]


def _a_dockerfile(block: Block, bench: Bench) -> None:
    """Its instructions, with COPY keeping times as Docker does, compile the crate only in the last one."""
    desk = Desk(bench)
    context = bench.project(warm=False)
    context.age(3600)
    image = bench.folder / "image"
    cwd = image

    def inside(text: str) -> str:
        return re.sub(r"(?<![\w.])/(opt|src|wheels|tmp/empty)\b", rf"{image}/\1", text)

    for line in block.text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "WORKDIR":
            cwd = Path(inside(rest))
            cwd.mkdir(parents=True)
            bench.fill(cwd / "target")
        elif word == "COPY":
            run(["cp", "-pR", *rest.split()[:-1], str(cwd)], os.environ, context.folder)
        elif word == "RUN" and not rest.startswith("apt-get "):
            image.mkdir(exist_ok=True)
            built = desk.sh(inside(rest), cwd)
        else:
            assert word in ("FROM", "RUN", "#"), line
    assert built.compiled == ["tiny"]
    assert desk.answer(image / "wheels") == "42"


def _a_fleet(block: Block, bench: Bench) -> None:
    """A machine that has nothing takes from the others what can be cached, with the shim and without."""
    desk = Desk(bench, "uv", "pyo3-envshim")
    bench.variables["PATH"] += os.pathsep + str(Path(program("sccache")).parent)
    compiled, found = [], []
    with redis_server() as address:
        text = re.sub(r"redis://\S+", address, block.text)
        for name, state in (("first", "on"), ("second", "on"), ("third", "off")):
            project = bench.project(name=f"{name}/project", warm=False)
            with machine(bench.folder / name / "home", address) as variables:
                for _ in range(2):
                    built = desk.sh(text, project.folder, PYO3_ENVSHIM=state, **variables)
                    compiled.append(sorted(built.compiled))
                    found.append(taken(variables))
            assert desk.answer(project.folder / "dist") == "42"
            shutil.rmtree(project.folder)
    first, _, second, again, third, _ = found
    assert first.hits == 0 < first.misses
    assert second.hits >= 0.8 * (second.hits + second.misses)
    assert (third.hits, third.misses) == (second.hits, second.misses)  # the shim spoils no hit
    # Where something is kept, sccache is not asked for it.
    assert compiled[1] == compiled[3] == ["tiny"]
    assert again.hits == 0


def _plain_cargo(block: Block, bench: Bench, configuration: str = "") -> list[str]:
    folder = bench.folder / "empty"
    (folder / ".cargo").mkdir(parents=True)
    (folder / ".cargo" / "config.toml").write_text(configuration)
    environment = bench.environment() | {"CARGO_HOME": str(bench.folder / "cargo-home")}
    return run(["sh", "-eu", "-c", block.text], environment, folder).split()


def _the_trap(block: Block, bench: Bench) -> None:
    """It prints what its comments say."""
    said = re.findall(r"# prints: (.*)$", block.text, re.MULTILINE)
    assert _plain_cargo(block, bench) == said == ["first", "first"]


def _a_remedy(block: Block, bench: Bench) -> None:
    """With it, cargo does not fall into the trap."""
    assert block.toml["build"].keys() == {"build-dir"}
    assert _plain_cargo(_block("the-trap.md", "mkdir trap"), bench, block.text) == ["first", "second"]


def _the_trap_in_pip(block: Block, bench: Bench) -> None:
    """Both its wheels answer with the old code, and with the block that mends it a third one is right."""
    desk = Desk(bench, "build")
    project = bench.project(answer="before")
    desk.sh(block.text, project.folder)
    assert '"after"' in (project.folder / "src" / "lib.rs").read_text()
    answers = [desk.answer(project.folder / f"wheel-{name}") for name in ("before", "after")]
    assert answers == ["before", "before"]
    mended = _block("the-trap.md", "mkdir unpacked")
    built = desk.sh(mended.text, project.folder, CARGO_TARGET_DIR=str(project.target))
    assert desk.answer(project.folder / "wheel-right") == "after"
    assert built.compiled == ["tiny"]


def _with_the_trap_in_pip(block: Block, bench: Bench) -> None:
    """It is run by `_the_trap_in_pip`."""
    assert block.key == ("the-trap.md", "mkdir unpacked")


def _says_what_it_does(block: Block, bench: Bench) -> None:
    """The wrapper says a line."""
    desk = Desk(bench, "build", "pyo3-envshim")
    output = desk.sh(block.text, bench.project().folder).output
    assert re.search(r"pyo3-envshim: environment [0-9a-f]{12}(-[0-9a-f]{8})? stored: PYO3_PYTHON=/", output)


def _a_transcript(block: Block, bench: Bench) -> None:
    """The second time it is run, with the shim elsewhere, it says that; but for names, paths and numbers."""
    desk = Desk(bench, "build")
    tools = bench.folder / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools / "pyo3-envshim").symlink_to(bench.shimmed.folder / "bin" / "pyo3-envshim")
    command, _, said = block.text[len("$ ") :].partition("\n...\n")
    project = bench.project()
    first, second = (desk.sh(command, project.folder).output for _ in range(2))
    assert first != second
    assert _normalised(second).endswith(_normalised(said.replace("demo ", "tiny ")))


def _normalised(text: str) -> str:
    text = re.sub(r"\S+/build-env-\w{8}/", "ENVIRONMENT/", text)
    return re.sub(r"(?<![\w.])\d+(\.\d+)?(?![\w.])", "0", re.sub(r" +", " ", text))


def _finds_them_equal(block: Block, bench: Bench) -> None:
    """It builds twice, once without the shim, and `cmp` finds no difference."""
    desk = Desk(bench, "build", "pyo3-envshim")
    built = desk.sh(block.text, bench.project().folder)
    served = [
        call.environment["PYO3_PYTHON"].startswith(str(bench.store)) for call in built.calls if call.compiles
    ]
    assert served == [False, True]


_WAYS: dict[tuple[str, str], Callable[[Block, Bench], None]] = {
    (
        "README.md",
        "$ ./scripts/demo    # the first two rows on your machine, and pip's, given Python 3.9+ and cargo",
    ): _ci_runs_it,
    ("README.md", "# pyproject.toml of a PyO3 project: nothing else needed, whoever builds it"): _a_pyproject,
    ("README.md", "# pyproject.toml of a project that uv builds a third-party sdist for"): _a_setting_of_uv,
    ("recipes.md", "[build-system]"): _a_pyproject,
    ("recipes.md", "pip install build pyo3-envshim"): _warm(),
    ("recipes.md", "uv tool install --quiet pyo3-envshim"): _warm("uv"),
    ("recipes.md", "pyo3-envshim run -- uv build --wheel"): _warm("uv", "pyo3-envshim"),
    ("recipes.md", "[tool.uv.extra-build-dependencies]"): _a_setting_of_uv,
    ("recipes.md", "name: wheel"): _a_workflow,
    ("recipes.md", "[tox]"): _a_tox_ini,
    ("recipes.md", "export RUSTC_WRAPPER=sccache"): _a_fleet,
    ("recipes.md", "FROM rust:1-slim-bookworm AS wheel"): _a_dockerfile,
    ("explain.md", "$ pyo3-envshim explain -- python -m build --wheel"): _a_transcript,
    ("the-trap.md", "mkdir trap"): _the_trap,
    ("the-trap.md", 'export CARGO_TARGET_DIR="$PWD/target"'): _the_trap_in_pip,
    ("the-trap.md", "mkdir unpacked"): _with_the_trap_in_pip,
    ("the-trap.md", "./scripts/show-the-trap"): _ci_runs_it,
    ("the-trap.md", "# .cargo/config.toml, in the home folder or above all worktrees"): _a_remedy,
    ("troubleshooting.md", "PYO3_ENVSHIM_VERBOSE=1 python -m build --wheel"): _says_what_it_does,
    ("troubleshooting.md", "export SOURCE_DATE_EPOCH=1700000000"): _finds_them_equal,
}


def test_no_block_is_left_out() -> None:
    found = [block.key for block in _BLOCKS]
    assert sorted(found) == sorted(_WAYS), "each block needs a way in _WAYS, by its page and first line"


@pytest.mark.parametrize("block", _BLOCKS, ids=lambda block: "-".join(block.key)[:60])
def test_it_does_what_its_page_says(block: Block, bench: Bench) -> None:
    assert block.key in _WAYS, "say in _WAYS how it is run"
    _WAYS[block.key](block, bench)


def test_links_within_the_pages_lead_somewhere() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
