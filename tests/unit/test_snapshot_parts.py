"""What `doctor` looks at, part by part, in this process."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from pyo3_envshim import builds
from pyo3_envshim.cli import snapshot
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.cli.snapshot import OFF, OK, Project
from pyo3_envshim.environment.frontends import FrontEnd

from .environments import script, standard_input

LET = "pyo3_envshim.cli.snapshot."


class TestAll:
    @pytest.fixture(autouse=True)
    def parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("_cargo", "_store"):
            monkeypatch.setattr(LET + name, lambda environ, name=name: (name, environ))
        monkeypatch.setattr(LET + "_builds", lambda environ: ("builds", environ))
        monkeypatch.setattr(LET + "_interpreter", lambda: "python")
        ends = [SimpleNamespace(name=name) for name in ("a", "gone", "b")]
        monkeypatch.setattr(LET + "FRONT_ENDS", ends)
        monkeypatch.setattr(
            LET + "detect", lambda it, environ: None if it.name == "gone" else (it.name, environ)
        )

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
    def test_is_what_a_build_in_a_folder_would_meet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        toml = '[build-system]\nrequires = ["maturin"]\n[tool.maturin]\nmanifest-path = "rust/Cargo.toml"\n'
        extra = '[extra-build-dependencies]\nx = ["pyo3-envshim"]\n'
        for name, text in (
            *(("pyproject.toml", toml), ("uv.toml", extra), ("rust/Cargo.toml", "[package]")),
            *(("rust/Cargo.lock", "version = 4"), ("Cargo.toml", "other"), ("Cargo.lock", "other")),
        ):
            script(tmp_path / name, text)
        environ = {"A": "1"}
        found: Any = snapshot.take(environ, str(tmp_path))
        assert found.environ is environ
        assert found.project == Project(("maturin",), manifest="rust/Cargo.toml", extra=("x",))
        assert found.findings == (("_cargo", environ), ("_store", environ), ("builds", environ), "python")
        assert found.front_ends == (("a", environ), ("b", environ))
        found = snapshot.take(environ, str(tmp_path), "b")
        assert found.front_ends == (("b", environ),)
        assert (found.manifest, found.lock) == ("[package]", "version = 4")

    def test_is_less_without_a_project(self, tmp_path: Path) -> None:
        found = snapshot.take({}, str(tmp_path))
        assert (found.project, found.manifest, found.lock) == (None, None, None)
        for name in ("Cargo.toml", "Cargo.lock"):
            (tmp_path / name).write_text(name)
        found = snapshot.take({}, str(tmp_path))
        assert (found.manifest, found.lock) == ("Cargo.toml", "Cargo.lock")


class TestAProject:
    @pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
    @pytest.mark.parametrize(
        ("text", "project"),
        [
            ("", Project()),
            ('[build-system]\nbuild-backend = "maturin"\n', Project(backend="maturin")),
            (
                "[build-system]\nbuild-backend = 1\nrequires = [1, '-', {x = 1}, 'A.b_C>1']\n",
                Project(("1", "a-b-c")),
            ),
            ('[tool.maturin]\nmanifest-path = "a"\nuse-base-python = 1\n', Project(manifest="a")),
            ("[tool.maturin]\nuse-base-python = true\n", Project(uses_base=True)),
            (
                "[tool.uv.extra-build-dependencies]\n"
                "a = [{x = 1}, {requirement = 'pyo3-envshim'}]\nb = ['pyo3-envshim-x']\n",
                Project(extra=("a",)),
            ),
            ("tool = 1\nbuild-system = []\n", Project()),
        ],
    )
    def test_is_read(self, text: str, project: Project) -> None:
        assert snapshot.read_project(text) == project

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
    @pytest.mark.parametrize(("text", "uv"), [("[", None), ("", "[")])
    def test_that_is_not_toml_is_told(self, text: str, uv: str | None) -> None:
        found = snapshot.read_project(text, uv)
        assert found
        assert found == Project(flaw=found.flaw, broken=True)
        assert found.flaw.startswith("not TOML: ")

    def test_is_not_read_by_an_older_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def import_module(name: str) -> None:
            assert name == "tomllib"
            raise ModuleNotFoundError

        monkeypatch.setattr(importlib, "import_module", import_module)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        flaw = f"pyproject.toml was not read: Python {version} has no TOML parser"
        assert snapshot.read_project("") == Project(flaw=flaw)
        assert snapshot.read_project(None) is None

    @pytest.mark.parametrize(
        ("project", "is_rust"),
        [
            (Project(("x", "maturin")), True),
            (Project(backend="setuptools_rust.x"), False),
            (Project(backend="maturin.x"), True),
            (Project(), False),
        ],
    )
    def test_may_have_a_back_end_that_we_serve(self, project: Project, is_rust: bool) -> None:
        assert project.is_rust == is_rust


class TestAFrontEnd:
    ANSWER: ClassVar[dict[str, Any]] = {
        "version": "1.2",
        "python": "/e/python",
        "prefix": "/e",
        "has_pip": True,
        "hooked": "",
        "hook": "/h",
    }

    def detect(self, folder: Path, patch: pytest.MonkeyPatch, answer: Any, **said: str) -> Any:
        """Detect one that has two names, the second of which is on PATH."""
        self.asked: list[Any] = []

        def ask(*it: object) -> Any:
            self.asked.append(it)
            return answer

        def output(command: list[str], environ: object) -> str:
            assert command[0] == str(folder / "second")
            assert environ is self.environ
            return said.get(command[1], "")

        patch.setattr(LET + "_ask", ask)
        patch.setattr(LET + "_output", output)
        patch.setattr("pyo3_envshim.cli.install.installed", self.installed)
        script(folder / "second", "#!/bin/sh\n")
        self.environ = {"PATH": str(folder)}
        facts = {"commands": ("first", "second"), "settings": ("config", "x"), "target": ("find", "y")}
        return snapshot.detect(FrontEnd("it", **{**facts, **self.facts}), self.environ)

    facts: Mapping[str, Any] = MappingProxyType({})

    @staticmethod
    def installed(python: str) -> Any:
        return f"installed for {python}"

    def test_that_answers_is_what_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.detect(tmp_path, monkeypatch, self.ANSWER)
        path = str(tmp_path / "second")
        assert self.asked == [(path, "it", self.environ)]
        told = (found.version, found.python, found.prefix, found.has_pip, found.hooked, found.hook)
        assert told == ("1.2", "/e/python", "/e", True, "", "/h")
        assert (found.name, found.path, found.asked, found.option) == ("it", path, True, False)
        assert found.installed == "installed for /e/python"

    def test_that_does_not_answer_is_asked_for_its_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = {"--version": "it 1.20.rc3 (2)", "find": " /p/python\n"}
        found = self.detect(tmp_path, monkeypatch, None, **said)
        assert (found.version, found.python, found.asked) == ("1.20.rc3", "/p/python", False)
        assert found.installed == "installed for /p/python"
        self.facts = {"target": ()}
        found = self.detect(tmp_path, monkeypatch, None, **{**said, "--version": "none"})
        assert (found.version, found.python, found.installed) == ("", "", None)

    def test_whose_python_does_not_run_has_nothing_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def installed(_: str) -> None:
            raise CommandError("it does not run", "")

        monkeypatch.setattr(self, "installed", installed)
        assert self.detect(tmp_path, monkeypatch, self.ANSWER).installed is None

    @pytest.mark.parametrize(("said", "is_set"), [("a=1\nb='--isolated'", True), ("a=1", False)])
    def test_may_have_its_option_set(
        self, said: str, is_set: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.facts = {"option": "--use=--isolated"}
        assert self.detect(tmp_path, monkeypatch, self.ANSWER, config=said).option == is_set

    def test_that_is_not_there_is_none(self) -> None:
        assert snapshot.detect(FrontEnd("it"), {"PATH": "/nothing"}) is None


class TestAsking:
    """A front end's own process."""

    def ask(self, folder: Path, text: str = "", **environ: str) -> dict[str, Any] | None:
        (folder / "tmp").mkdir(exist_ok=True)
        path = script(folder / "front-end", text or f"#!{sys.executable}\nimport sys\nsys.exit('it ran')\n")
        return snapshot._ask(str(path), "pytest", {"PATH": "/bin:/usr/bin", **environ})

    def test_says_what_it_is(self, tmp_path: Path) -> None:
        hooks = tmp_path / "hooks"
        script(hooks / "pyo3_envshim.pth", "")
        more = {"PYTHONPATH": str(hooks), "CARGO": "/own/cargo", "PYO3_ENVSHIM": "off"}
        assert self.ask(tmp_path, **more) == {
            "version": pytest.__version__,
            "python": sys.executable,
            "prefix": sys.prefix if sys.prefix != sys.base_prefix else "",
            "has_pip": True,
            "hooked": "/own/cargo",
            "hook": str(hooks),
        }

    def test_has_it_switched_on_and_told_its_version(self, tmp_path: Path) -> None:
        text = 'echo "$PYO3_ENVSHIM $* $CARGO $PYTHONPATH" >' + shlex.quote(str(tmp_path / "said"))
        more = {"CARGO": "/e/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own", "PYTHONPATH": "/x:/y"}
        assert self.ask(tmp_path, f"#!/bin/sh\n{text}\n", PYO3_ENVSHIM="off", **more) is None
        *said, path = (tmp_path / "said").read_text().split()
        assert said == ["on", "--version", "/own"]
        probe, *rest = path.split(":")
        assert rest == ["/x", "/y"]
        assert os.path.basename(probe).startswith("pyo3-envshim-doctor-")
        assert not os.path.exists(probe)
        self.ask(tmp_path, f"#!/bin/sh\n{text}\n")
        assert ":" not in (tmp_path / "said").read_text()


class TestCargo:
    @pytest.mark.parametrize(
        ("path", "said", "finding"),
        [
            (
                None,
                "",
                ("cargo", OFF, "not found on PATH", "install Rust, or set PYO3_ENVSHIM_CARGO to its path"),
            ),
            (
                "/a b/cargo",
                "rustup: no",
                ("cargo", OFF, "/a b/cargo does not tell its version", "'/a b/cargo' --version"),
            ),
            ("/cargo", "cargo 1.95.0 (x)\n", ("cargo", OK, "1.95.0, /cargo", "")),
        ],
    )
    def test_is_asked_for_its_version(
        self, path: str | None, said: str, finding: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ = {"CARGO": "/e/pyo3-envshim-cargo"}

        def find_cargo(user: object, own: object) -> str | None:
            assert (user, own) == ({}, environ)
            return path

        def output(command: list[str], given: object) -> str:
            assert (command, given) == ([path, "--version"], environ)
            return said

        monkeypatch.setattr("pyo3_envshim.cargo.command_line.find_cargo", find_cargo)
        monkeypatch.setattr(LET + "_output", output)
        assert snapshot._cargo(environ) == finding


class TestTheStore:
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        found = SimpleNamespace(environments=str(tmp_path), root="/store", instead_of=None)
        entries = [SimpleNamespace(path=name) for name in ("a", "b", "c")]
        monkeypatch.setattr("pyo3_envshim.cli.cache.open_store", lambda environ: found if environ else None)
        monkeypatch.setattr("pyo3_envshim.cli.cache.content", lambda it: f"{len(it)} entries")
        monkeypatch.setattr("pyo3_envshim.store.prune.entries", lambda it: entries if it is found else None)
        monkeypatch.setattr("pyo3_envshim.store.entry.surface", lambda path: (None, {}))
        return found

    def test_has_a_size_and_a_limit(self, store: SimpleNamespace) -> None:
        found = snapshot._store({"A": "1"})
        assert found == ("store", OK, "/store: 3 entries (at most 2.0 GiB)", "")
        found = snapshot._store({"PYO3_ENVSHIM_CACHE_SIZE": "none"})
        assert found.reason == "/store: 3 entries (no limit)"

    def test_may_have_damaged_entries(self, store: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "pyo3_envshim.store.entry.surface", lambda path: ("damage" if path in "ab" else None, {})
        )
        found = snapshot._store({"A": "1"})
        said = "/store: 3 entries (at most 2.0 GiB); 2 damaged, to be replaced when needed"
        assert found.reason == said
        assert (found.state, found.hint) == (OK, "pyo3-envshim cache verify")

    def test_may_lie_elsewhere(self, store: SimpleNamespace) -> None:
        store.instead_of = SimpleNamespace(text="/c is open", hint="chmod")
        found = snapshot._store({"A": "1"})
        assert found.reason == (
            "/store: 3 entries (at most 2.0 GiB), for as long as this machine or container runs: /c is open"
        )
        assert found.hint == "chmod"

    @pytest.mark.parametrize("missing", [os.W_OK, os.X_OK])
    def test_may_be_read_only(
        self, store: SimpleNamespace, missing: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = store.environments
        monkeypatch.setattr(os, "access", lambda path, how: path != folder or not how & missing)
        found = snapshot._store({"A": "1"})
        assert found == ("store", OFF, f"{folder} is not writable", f"chmod u+rwx {folder}")

    @pytest.mark.parametrize(("error", "hint"), [(CommandError("no", "do"), "do"), (OSError("no"), "")])
    def test_may_be_none(
        self, store: SimpleNamespace, error: Exception, hint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def open_store(_: object) -> None:
            raise error

        monkeypatch.setattr("pyo3_envshim.cli.cache.open_store", open_store)
        assert snapshot._store({"A": "1"}) == ("store", OFF, "no", hint)


_KEPT = (("1 folder", "1 folder"), ("", "no build folders yet"))
_OFF = f"{builds.VARIABLE} is off, so unpacked sdists keep nothing"
_X = f"{builds.VARIABLE}='x' is taken as its default: say on, off or a size such as 10G"


@pytest.mark.parametrize(
    ("value", "content", "finding"),
    [
        ("on", "1 folder", (OK, "unpacked sdists keep what is compiled: 1 folder (at most 5.0 GiB)", "")),
        ("none", "1 folder", (OK, "unpacked sdists keep what is compiled: 1 folder (no limit)", "")),
        ("on", "", (OK, "unpacked sdists keep what is compiled: no build folders yet (at most 5.0 GiB)", "")),
        *(("off", content, (OK, f"{said}; {_OFF}", f"unset {builds.VARIABLE}")) for content, said in _KEPT),
        ("x", "", (OK, f"unpacked sdists keep what is compiled: {_KEPT[1][1]} (at most 5.0 GiB); {_X}", "")),
    ],
)
def test_the_build_folders(
    value: str, content: str, finding: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {builds.VARIABLE: value}
    monkeypatch.setattr(
        "pyo3_envshim.store.store.folder_in_use", lambda it: "/cache" if it is environ else ""
    )
    monkeypatch.setattr(builds, "builds", lambda cache: [content] if content and cache == "/cache" else [])
    monkeypatch.setattr("pyo3_envshim.cli.cache.content_of_builds", lambda it: "".join(it))
    assert snapshot._builds(environ) == ("build cache", *finding)


@pytest.mark.parametrize(
    ("root", "base", "made"),
    [
        (None, None, ""),
        ("/env", "/base/python", ", made from /base/python"),
        ("/env", None, ", made from an interpreter that is gone"),
    ],
)
@pytest.mark.parametrize(
    ("wrapper", "is_isolated", "starts"),
    [
        (None, False, ""),
        ("/w", True, "; the wrapper starts it isolated"),
        ("/w", False, "; the wrapper starts it with its site"),
    ],
)
def test_the_interpreter(
    root: str | None,
    base: str | None,
    made: str,
    wrapper: str | None,
    is_isolated: bool,
    starts: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = "pyo3_envshim."
    monkeypatch.setattr(
        f"{at}environment.interpreter.environment_of", lambda it: root if it == sys.executable else 1
    )
    monkeypatch.setattr(f"{at}environment.interpreter.base_of", lambda it: base if it == root else 1)
    monkeypatch.setattr(f"{at}_startup.wrapper", lambda: wrapper)
    monkeypatch.setattr(f"{at}launcher.is_isolated", lambda it: is_isolated if it == wrapper else 1)
    version = ".".join(map(str, sys.version_info[:3]))
    assert snapshot._interpreter() == ("python", OK, f"{version}, {sys.executable}{made}{starts}", "")


def test_what_a_command_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It has no input, and what it complains of is not shown."""
    text = 'read line && exit 1\nprintf "$A \\377"; echo noise >&2\n'
    path = str(script(tmp_path / "it", f"#!/bin/sh\n{text}"))
    with standard_input(b"not for it\n"):
        assert snapshot._output([path], {"A": "\u00fc"}) == "\u00fc \ufffd"
    for command in ([str(tmp_path / "gone")], ["/bin/sh", "-c", "echo x; exit 1"]):
        assert snapshot._output(command, {}) == ""
    assert capfd.readouterr() == ("", "")


def test_a_command_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_output(command: list[str], *, timeout: float, **_: object) -> bytes:
        assert timeout
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "check_output", check_output)
    assert snapshot._output(["it"], {}) == ""
