"""The wrapper's plans in this process: what it asks, in which order, and what cargo is given in the end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyo3_envshim import _startup, wrapper
from pyo3_envshim.call import MOVED, RECORDING, CargoCall, PassThrough, Plan
from pyo3_envshim.cargo.metadata import MetadataError, Workspace
from pyo3_envshim.set_aside import Exchange

Said = pytest.CaptureFixture[str]


class Stage:
    """What stands around the wrapper, and what was done there, in order."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.patch = patch
        self.done: list[Any] = []
        self.environ = {"PYO3_PYTHON": "/env/bin/python", "HOME": str(folder)}
        where = {"workspace_root": str(folder), "target_directory": f"{folder}/target", "packages": []}
        self.workspace = Workspace(where, [], ["build"])
        self.kept: Any = SimpleNamespace(
            folder=f"{folder}/kept",
            in_child=None,
            judge_again=lambda: self.done.append("judged"),
            release=lambda: self.done.append("released"),
            variables=lambda environ: {**environ, "KEPT": "1"},
            use_for=lambda *it: self.done.append(("used", *it)),
        )
        stage = self

        class Query:
            def __init__(self, call: CargoCall) -> None:
                stage.done.append("asked")

            def __enter__(self) -> Query:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def workspace(self) -> Workspace:
                return stage.workspace

        self.let("cargo.metadata.Query", Query)

    def let(self, name: str, what: object) -> None:
        self.patch.setattr(f"pyo3_envshim.{name}", what)

    def fails(self, name: str, error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        self.let(name, fail)

    def call(self, *arguments: str, cargo: str = "/cargo", **more: str) -> CargoCall:
        return CargoCall(cargo, arguments or ["build"], {**self.environ, **more}, verbose=True)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_startup, "switch", lambda: str(tmp_path / "off"))
    return Stage(monkeypatch, tmp_path)


class TestSettingAside:
    @pytest.fixture
    def moved(self, stage: Stage) -> Exchange:
        """Stand in for what moves units; return what it says that it did."""
        found = Exchange()
        found.put_aside = 2

        def exchange(*it: object) -> Exchange:
            stage.done.append(it)
            return found

        def refresh(workspace: Workspace) -> str:
            stage.done.append("guarded")
            return "whether it was stamped"

        stage.let("set_aside.exchange", exchange)
        stage.let("freshness.refresh", refresh)
        return found

    def test_asks_and_guards_where_nobody_has(self, stage: Stage, moved: Exchange, capsys: Said) -> None:
        plan = Plan(stage.call(), {"A": "1"})
        wrapper.set_aside(plan)
        expected = ({"A": "1"}, stage.workspace, "whether it was stamped", False)
        assert stage.done == ["asked", "guarded", expected]
        assert capsys.readouterr().err == "pyo3-envshim: 2 units set aside, 0 brought back\n"
        assert plan.environ == {"A": "1"}

    def test_asks_nobody_where_it_is_known(self, stage: Stage, moved: Exchange) -> None:
        wrapper.set_aside(Plan(stage.call(), {}, None, stage.workspace))
        assert stage.done == [({}, stage.workspace, True, False)]

    @pytest.mark.parametrize("count", [0, 1])
    def test_in_a_kept_folder_has_it_judged(self, stage: Stage, moved: Exchange, count: int) -> None:
        moved.brought_back = count
        wrapper.set_aside(Plan(stage.call(), {}, stage.kept, stage.workspace))
        assert stage.done == [({}, stage.workspace, False, True), *["judged"] * count]
        assert stage.workspace.build_dir == stage.kept.folder

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("put_aside", 0, ""),
            ("put_aside", 1, "1 units set aside, 0 brought back"),
            ("brought_back", 1, "0 units set aside, 1 brought back"),
            ("reason", "no locks", "0 units set aside, 0 brought back: no locks"),
        ],
    )
    def test_is_told_if_there_is_something_to_tell(
        self, stage: Stage, moved: Exchange, name: str, value: Any, said: str, capsys: Said
    ) -> None:
        moved.put_aside = 0
        setattr(moved, name, value)
        wrapper.set_aside(Plan(stage.call(), {}, None, stage.workspace))
        assert capsys.readouterr().err == (f"pyo3-envshim: {said}\n" if said else "")

    def test_is_noted_for_a_recorder(self, stage: Stage, moved: Exchange) -> None:
        plan = Plan(stage.call(cargo=f"/tmp/{RECORDING}1/bin/cargo"), {}, None, stage.workspace)
        wrapper.set_aside(plan)
        assert plan.environ == {MOVED: str(moved)}

    @pytest.mark.parametrize("python", ["", "/env/bin/python"])
    @pytest.mark.parametrize("locked", ["pyo3-ffi", "serde"])
    def test_is_for_projects_with_a_python(
        self, stage: Stage, moved: Exchange, python: str, locked: str, tmp_path: Path
    ) -> None:
        (tmp_path / "Cargo.lock").write_text(f'[[package]]\nname = "{locked}"\nversion = "1.0.0"\n')
        wrapper.set_aside(Plan(stage.call(PYO3_PYTHON=python), {}))
        assert ("guarded" in stage.done) == (bool(python) or locked == "pyo3-ffi")

    @pytest.mark.parametrize("how", ["a fallback", "off", "base", "fetch"])
    def test_is_not_for_every_call(self, stage: Stage, moved: Exchange, how: str) -> None:
        mode = {"PYO3_ENVSHIM": how} if how in ("off", "base") else {}
        plan = Plan(stage.call("fetch" if how == "fetch" else "build", **mode), {})
        plan.is_fallback = how == "a fallback"
        wrapper.set_aside(plan)
        assert stage.done == []

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (MetadataError("no manifest"), "nothing is set aside: no manifest"),
            (PassThrough("doubt"), "nothing is set aside: doubt"),
            (ZeroDivisionError("us"), "warning: nothing is set aside: ZeroDivisionError: us"),
        ],
    )
    def test_that_fails_is_one_line(
        self, stage: Stage, moved: Exchange, error: Exception, said: str, capsys: Said
    ) -> None:
        stage.fails("freshness.refresh", error)
        wrapper.set_aside(Plan(stage.call(), {}))
        assert capsys.readouterr().err == f"pyo3-envshim: {said}\n"


class TestAKeptBuildFolder:
    @pytest.fixture
    def unpacked(self, stage: Stage) -> Stage:
        def acquire(*it: object) -> object:
            stage.done.append(it)
            return stage.kept

        stage.let("environment.frontends.unpacked_at", lambda root, environ: root if environ else None)
        stage.let("build_dir.acquire", acquire)
        return stage

    def test_is_for_an_unpacked_sdist(self, unpacked: Stage) -> None:
        call = unpacked.call()
        assert wrapper.kept_build_dir(call, unpacked.workspace, "/cache") is unpacked.kept
        assert unpacked.done == [(call, unpacked.workspace, "/cache")]
        unpacked.let("environment.frontends.unpacked_at", lambda *_: None)
        assert wrapper.kept_build_dir(call, unpacked.workspace, "/cache") is None

    def test_is_not_for_a_build_script_whose_cargo_may_wait_for_this_one(
        self, unpacked: Stage, capsys: Said
    ) -> None:
        names = _startup.BUILD_SCRIPT
        call = unpacked.call(**dict.fromkeys(names, "1"))
        assert wrapper.kept_build_dir(call, unpacked.workspace, "/cache") is None
        assert capsys.readouterr().err == (
            "pyo3-envshim: no build folder is kept: a build script runs this\n"
        )
        call = unpacked.call(**dict.fromkeys(names[:-1], "1"))
        assert wrapper.kept_build_dir(call, unpacked.workspace, "/cache")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (MetadataError("why"), "no build folder is kept: why"),
            (PassThrough("why"), "no build folder is kept: why"),
            (OSError("why"), "warning: no build folder is kept: OSError: why"),
        ],
    )
    def test_that_cannot_be_had_is_one_line(
        self, unpacked: Stage, error: Exception, said: str, capsys: Said
    ) -> None:
        unpacked.fails("build_dir.acquire", error)
        assert wrapper.kept_build_dir(unpacked.call(), unpacked.workspace, "/cache") is None
        assert capsys.readouterr().err == f"pyo3-envshim: {said}\n"


class TestUnderAnOverlay:
    """Of pip's or pdm's: the interpreter is the user's own."""

    @pytest.fixture
    def overlaid(self, stage: Stage, tmp_path: Path) -> Stage:
        def kept_build_dir(*it: object) -> object:
            stage.done.append(it)
            return stage.kept

        stage.environ["PYTHONPATH"] = "/overlay"
        stage.let("environment.overlay.is_all", lambda environ: "PYTHONPATH" in environ)
        stage.let(
            "environment.frontends.unpacked_at",
            lambda root, environ: root if root == str(tmp_path) and environ else None,
        )
        stage.let("environment.interpreter.state_of", lambda python: f"state of {python}")
        stage.let("environment.digest.variables", lambda environ: ["a", environ["PYTHONPATH"]])
        stage.let("store.store.Store.open", lambda environ: SimpleNamespace(root="/cache"))
        stage.let("wrapper.kept_build_dir", kept_build_dir)
        return stage

    def test_the_build_folder_alone_is_kept(self, overlaid: Stage, capsys: Said) -> None:
        call = overlaid.call(PYO3_BASE_PYTHON="/base", PYO3_ENVSHIM_BASE="/base")
        plan = wrapper._with_overlay(call)
        assert plan
        assert plan.environ == {**overlaid.environ, "KEPT": "1"}
        assert (plan.call, plan.build_dir, plan.workspace) == (call, overlaid.kept, overlaid.workspace)
        content = hashlib.sha256(b"state of /env/bin/python\0a\0/overlay").hexdigest()
        python = "/env/bin/python"
        kept = (call, overlaid.workspace, "/cache")
        assert overlaid.done == ["asked", kept, ("used", python, content)]
        folder = overlaid.kept.folder
        assert capsys.readouterr().err == f"pyo3-envshim: build folder {folder}: PYO3_PYTHON={python} stays\n"

    @pytest.mark.parametrize(
        "more", [{"PYO3_PYTHON": ""}, {"PYTHONPATH": ""}, {"PYO3_CROSS": "1"}], ids=lambda it: next(iter(it))
    )
    def test_nothing_is_asked_without_one(self, overlaid: Stage, more: dict[str, str]) -> None:
        assert wrapper._with_overlay(overlaid.call(**more)) is None
        assert overlaid.done == []

    @pytest.mark.parametrize(
        ("name", "answer"),
        [
            ("environment.overlay.is_all", False),
            ("environment.frontends.unpacked_at", None),
            ("environment.interpreter.state_of", ""),
        ],
    )
    def test_nothing_is_asked_in_doubt(self, overlaid: Stage, name: str, answer: object) -> None:
        overlaid.let(name, lambda *_: answer)
        assert wrapper._with_overlay(overlaid.call()) is None
        assert overlaid.done == []

    def test_nothing_changes_without_a_folder(self, overlaid: Stage) -> None:
        overlaid.let("wrapper.kept_build_dir", lambda *_: None)
        assert wrapper._with_overlay(overlaid.call()) is None

    def test_nothing_changes_where_cargo_cannot_tell_where_it_works(self, overlaid: Stage) -> None:
        overlaid.fails("cargo.metadata.Query", MetadataError("no manifest"))
        assert wrapper._with_overlay(overlaid.call()) is None

    def test_the_folder_is_free_if_that_fails(self, overlaid: Stage) -> None:
        overlaid.kept.use_for = lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            wrapper._with_overlay(overlaid.call())
        assert overlaid.done[-1] == "released"

    def test_is_what_is_tried_where_the_environment_is_not_ephemeral(
        self, overlaid: Stage, capsys: Said
    ) -> None:
        call = overlaid.call()
        assert wrapper.make_plan(call).build_dir is overlaid.kept
        capsys.readouterr()
        overlaid.let("wrapper.kept_build_dir", lambda *_: None)
        plan = wrapper.make_plan(call)
        assert (plan.environ, plan.build_dir, plan.is_fallback) == (call.environ, None, False)
        assert capsys.readouterr().err == "pyo3-envshim: left alone: no build front end runs this\n"
        overlaid.fails("wrapper.kept_build_dir", OSError("us"))
        plan = wrapper.make_plan(call)
        assert (plan.environ, plan.is_fallback) == (call.environ, False)
        assert capsys.readouterr().err.splitlines() == [
            "pyo3-envshim: warning: not used for this build: OSError: us",
            "pyo3-envshim: left alone: no build front end runs this",
        ]


def test_other_trouble_of_ours_is_one_line(stage: Stage, capsys: Said) -> None:
    stage.fails("wrapper._with_stored_environment", OSError("us"))
    call = stage.call(PYO3_BASE_PYTHON="/own")
    plan = wrapper.make_plan(call)
    assert (plan.environ, plan.is_fallback, plan.workspace) == (call.environ, True, None)
    assert capsys.readouterr().err == "pyo3-envshim: warning: not used for this build: OSError: us\n"
