"""The wrapper's plans in this process: what it asks, in which order, and what cargo is given in the end."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from pyo3_envshim import _startup, wrapper
from pyo3_envshim.call import MOVED, RECORDING, CargoCall, PassThrough, Plan
from pyo3_envshim.cargo.metadata import MetadataError, Workspace
from pyo3_envshim.environment.item import NotStorable
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
                assert call.cargo == "/cargo"
                stage.done.append("asked")

            def __enter__(self) -> Query:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def workspace(self) -> Workspace:
                return stage.workspace

        self.let("cargo.metadata.Query", Query)

    def did(self, what: object, answer: Any) -> Any:
        self.done.append(what)
        return answer

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


class TestWhatIsImported:
    """Nothing of the project's: not from the working directory, and not from PYTHONPATH."""

    OWN = os.path.dirname(os.path.dirname(os.path.abspath(wrapper.__file__)))

    def isolated(self, patch: pytest.MonkeyPatch, *path: str, named: str | None = None) -> list[str]:
        patch.setattr(sys, "path", list(path))
        if named is None:
            patch.delenv("PYTHONPATH", raising=False)
        else:
            patch.setenv("PYTHONPATH", named)
        wrapper.isolate_imports()
        return sys.path

    def test_comes_from_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        here, other = str(tmp_path), str(tmp_path / "other")
        found = self.isolated(monkeypatch, "", here, self.OWN, f"{here}/", "/lib", ".", other)
        assert found == [self.OWN, "/lib", other]
        named = os.pathsep.join(["/lib/", "other/../other", ""])
        assert self.isolated(monkeypatch, self.OWN, "/lib", other, "/x", named=named) == [self.OWN, "/x"]

    def test_comes_from_our_own_folder_which_an_overlay_hides(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.isolated(monkeypatch, "/lib") == ["/lib", self.OWN]

    def test_comes_from_the_standard_library_wherever_that_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = os.path.dirname(os.__file__)
        monkeypatch.chdir(library)
        assert self.isolated(monkeypatch, library, self.OWN, named=library) == [library, self.OWN]

    def test_may_come_from_elsewhere_where_the_working_folder_is_gone(
        self, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def getcwd() -> str:
            raise FileNotFoundError

        monkeypatch.setattr(os, "getcwd", getcwd)
        assert self.isolated(monkeypatch, "", "lib", "/x", self.OWN, named="lib") == ["/x", self.OWN]


class TestTheLocale:
    """Where it is C, Python sets LC_CTYPE (PEP 538)."""

    @pytest.mark.parametrize(
        ("started_with", "left"),
        [
            (b"A=1\0LC_CTYPE=C\0B=2\0", {"A": "1", "LC_CTYPE": "C"}),
            (b"A=1\0odd\0LC_CTYPE=a=b\0", {"A": "1", "LC_CTYPE": "a=b"}),
            (b"A=1\0LC_ALL=C\0", {"A": "1"}),
            (None, {"A": "1", "LC_CTYPE": "C.UTF-8"}),
        ],
    )
    def test_is_as_this_process_was_started(
        self, started_with: bytes | None, left: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def opened(path: str, mode: str) -> io.BytesIO:
            assert (path, mode) == ("/proc/self/environ", "rb")
            if started_with is None:
                raise FileNotFoundError
            return io.BytesIO(started_with)

        monkeypatch.setattr("builtins.open", opened)
        environ = {"A": "1", "LC_CTYPE": "C.UTF-8"}
        wrapper._restore_locale(environ)
        assert environ == left

    def test_is_not_asked_for_where_nobody_set_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environ = {"A": "1"}
        wrapper._restore_locale(environ)
        assert environ == {"A": "1"}


class TestTheCall:
    @pytest.mark.parametrize(("value", "verbose"), [(None, False), ("", False), ("0", False), ("1", True)])
    def test_is_what_this_process_was_started_for(
        self, stage: Stage, value: str | None, verbose: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["pyo3-envshim-cargo", "build", "-v"])
        monkeypatch.setenv("PYO3_ENVSHIM_CARGO", "/own/cargo")
        monkeypatch.setenv("CARGO", "/env/bin/pyo3-envshim-cargo")
        monkeypatch.delenv("PYO3_ENVSHIM_VERBOSE", raising=False)
        if value is not None:
            monkeypatch.setenv("PYO3_ENVSHIM_VERBOSE", value)
        asked: list[Any] = []

        def find_cargo(*it: object) -> str:
            asked.append(it)
            return "/found/cargo"

        stage.let("wrapper.find_cargo", find_cargo)
        call = wrapper.make_call()
        assert call
        assert (call.cargo, call.arguments, call.verbose) == ("/found/cargo", ["build", "-v"], verbose)
        assert call.environ["CARGO"] == "/own/cargo"
        assert asked == [(call.environ, os.environ)]

    def test_that_has_no_cargo_ends_with_a_hint(self, stage: Stage, capsys: Said) -> None:
        stage.let("wrapper.find_cargo", lambda *_: None)
        stage.let("wrapper.isolate_imports", lambda: stage.done.append("isolated"))
        assert wrapper.main() == 127
        assert capsys.readouterr().err.splitlines() == [
            "pyo3-envshim: cargo was not found on PATH",
            "pyo3-envshim: hint: install it, or set PYO3_ENVSHIM_CARGO to its path",
        ]
        assert stage.done == ["isolated"]

    def test_is_planned_set_aside_for_and_executed(self, stage: Stage) -> None:
        call = stage.call()
        plan = SimpleNamespace(execute=lambda: stage.did("executed", 3))
        stage.let("wrapper.isolate_imports", lambda: None)
        stage.let("wrapper.make_call", lambda: call)
        stage.let("wrapper.make_plan", lambda it: stage.did(it, plan))
        stage.let("wrapper.set_aside", stage.done.append)
        assert wrapper.main() == 3
        assert stage.done == [call, plan, "executed"]

    def test_that_is_interrupted_ends_by_the_signal(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.fails("wrapper.make_call", KeyboardInterrupt())
        stage.let("wrapper.isolate_imports", lambda: None)
        monkeypatch.setattr(signal, "signal", lambda *it: stage.done.append(it))
        system = SimpleNamespace(**{**vars(os), "name": "posix", "kill": lambda *it: stage.done.append(it)})
        monkeypatch.setattr(wrapper, "os", system)
        assert wrapper.main() == 130
        assert stage.done == [(signal.SIGINT, signal.SIG_DFL), (os.getpid(), signal.SIGINT)]
        system.name = "nt"
        assert wrapper.main() % (1 << 32) == 0xC000013A  # STATUS_CONTROL_C_EXIT


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
            stage.done.append(f"guarded {workspace.profile}")
            return "whether it was stamped"

        stage.let("set_aside.exchange", exchange)
        stage.let("freshness.refresh", refresh)
        return found

    def test_asks_and_guards_where_nobody_has(self, stage: Stage, moved: Exchange, capsys: Said) -> None:
        plan = Plan(stage.call(), {"A": "1"})
        wrapper.set_aside(plan)
        expected = ({"A": "1"}, stage.workspace, "whether it was stamped", False)
        assert stage.done == ["asked", "guarded debug", expected]
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
        assert ("guarded debug" in stage.done) == (bool(python) or locked == "pyo3-ffi")

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


class TestAStoredEnvironment:
    @pytest.fixture
    def entry(self, stage: Stage, tmp_path: Path) -> Any:
        """An entry of the store, in which an ephemeral environment was stored."""
        found = SimpleNamespace(
            digest="0123456789abcdef",
            is_new=False,
            damage="",
            path=lambda nonce="": f"/store/0123{'-' + nonce if nonce else ''}",
            add_nonce=lambda nonce: stage.done.append(f"nonce {nonce}"),
            inherit_lock=lambda: stage.done.append("locked"),
            hold_in_child="hold",
        )
        self.environment: Any = SimpleNamespace(base="/base/python", hidden=False)
        store = SimpleNamespace(
            root="/store", hash_file="hash", acquire=lambda it: found if it is self.environment else None
        )

        def read(*it: object) -> object:
            assert it == (str(tmp_path / "env"), stage.environ, "hash")
            return self.environment

        stage.environ |= {
            "PYO3_PYTHON": str(tmp_path / "env" / "bin" / "python"),
            "PATH": f"{tmp_path}/env/bin:/bin",
        }
        stage.let("wrapper.ephemeral_environment", lambda environ: str(tmp_path / "env"))
        stage.let("store.store.Store.open", lambda environ: store if environ == stage.environ else None)
        stage.let("environment.digest.read", read)
        stage.let("wrapper.kept_build_dir", lambda call, *_: None if call.environ else 0)
        stage.let("freshness.nonce_for", lambda workspace: stage.did(workspace, ""))
        return found

    @pytest.mark.parametrize(("nonce", "is_new"), [("", False), ("0a1b2c3d", True)])
    def test_has_the_path_of_its_entry(
        self, stage: Stage, entry: Any, nonce: str, is_new: bool, capsys: Said
    ) -> None:
        entry.is_new = is_new
        stage.let("wrapper._prune", lambda _, environ: environ["PATH"])
        stage.let("launcher.isolate", lambda environ: environ["PATH"])
        stage.let("freshness.nonce_for", lambda workspace: stage.did(workspace, nonce))
        call = stage.call()
        plan = wrapper.make_plan(call)
        place = "/store/0123-0a1b2c3d" if nonce else "/store/0123"
        base = f"{place}/bin/python" if nonce else "/base/python"
        assert plan.environ == {
            **stage.environ,
            "PYO3_PYTHON": f"{place}/bin/python",
            "PATH": f"{place}/bin:/bin",
            "PYO3_BASE_PYTHON": base,
            "PYO3_ENVSHIM_BASE": base,
        }
        assert (plan.call, plan.build_dir, plan.workspace) == (call, None, stage.workspace)
        assert stage.done == ["asked", stage.workspace, *[f"nonce {nonce}"] * bool(nonce), "locked"]
        assert stage.workspace.exclude[-1] == "/store"
        note = "0123456789ab-0a1b2c3d stored" if nonce else "0123456789ab reused"
        assert (
            capsys.readouterr().err == f"pyo3-envshim: environment {note}: PYO3_PYTHON={place}/bin/python\n"
        )

    def test_whose_programs_are_not_stored_stays_on_path(self, stage: Stage, entry: Any) -> None:
        self.environment.hidden = True
        plan = wrapper.make_plan(stage.call())
        assert (plan.environ["PATH"], plan.is_fallback) == (stage.environ["PATH"], False)
        del stage.environ["PATH"]
        plan = wrapper.make_plan(stage.call())
        assert ("PATH" in plan.environ, plan.is_fallback) == (False, False)

    def test_in_a_kept_build_folder_needs_no_guard(self, stage: Stage, entry: Any, capsys: Said) -> None:
        stage.let(
            "wrapper.kept_build_dir", lambda *it: stage.kept if it[1:] == (stage.workspace, "/store") else 0
        )
        plan = wrapper.make_plan(stage.call())
        assert (plan.build_dir, plan.environ["KEPT"]) == (stage.kept, "1")
        assert stage.done == ["asked", "locked"]
        assert stage.kept.in_child == "hold"
        assert f" reused, build folder {stage.kept.folder}: PYO3_PYTHON=" in capsys.readouterr().err

    def test_lets_the_build_folder_go_if_something_fails(self, stage: Stage, entry: Any) -> None:
        stage.let("wrapper.kept_build_dir", lambda *_: stage.kept)
        stage.kept.variables = lambda _: 1 / 0
        assert wrapper.make_plan(stage.call()).is_fallback
        assert stage.done[-1] == "released"

    @pytest.mark.parametrize(
        ("name", "error", "said"),
        [
            (
                "environment.digest.read",
                NotStorable("an editable"),
                "the environment cannot be stored: an editable",
            ),
            ("cargo.metadata.Query", MetadataError("no manifest"), "no manifest"),
        ],
    )
    def test_that_cannot_be_had_is_passed_through(
        self, stage: Stage, entry: Any, name: str, error: Exception, said: str, capsys: Said
    ) -> None:
        stage.fails(name, error)
        call = stage.call()
        plan = wrapper.make_plan(call)
        is_ours = name == "cargo.metadata.Query"  # where it starts; see below for its answer
        assert (plan.environ, plan.is_fallback) == (call.environ, is_ours)
        assert capsys.readouterr().err.endswith(f": {said}\n")

    def test_where_cargo_cannot_tell_is_passed_through(self, stage: Stage, entry: Any, capsys: Said) -> None:
        def workspace(_: object) -> Workspace:
            raise MetadataError("no manifest")

        stage.let("cargo.metadata.Query.workspace", workspace)
        plan = wrapper.make_plan(stage.call())
        assert (plan.environ, plan.is_fallback) == (stage.environ, False)
        assert capsys.readouterr().err == "pyo3-envshim: left alone: no manifest\n"

    def test_is_told_if_it_had_changed(self, stage: Stage, entry: Any, capsys: Said) -> None:
        entry.damage = "a file is longer"
        store: Any = SimpleNamespace(acquire=lambda _: entry)
        assert wrapper.store_environment(store, self.environment, {}) is entry
        said = "a stored environment had changed and was replaced: /store/0123: a file is longer"
        assert capsys.readouterr().err == f"pyo3-envshim: {said}\n"

    def test_that_is_new_has_the_store_pruned_and_the_launcher_isolated(
        self, stage: Stage, entry: Any
    ) -> None:
        store: Any = SimpleNamespace(acquire=lambda _: entry)
        stage.let("wrapper._prune", lambda *it: stage.done.append(it))
        stage.let("launcher.isolate", stage.done.append)
        wrapper.store_environment(store, self.environment, {"A": "1"})
        assert stage.done == []
        entry.is_new = True
        wrapper.store_environment(store, self.environment, {"A": "1"})
        assert stage.done == [(store, {"A": "1"}), {"A": "1"}]


class TestTheEnvironmentOfACall:
    """The rest is in `TestACallThatIsPassedThrough` of test_wrapper."""

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"PYO3_CROSS": "1"}, "PYO3_CROSS is set"),
            ({_startup.MARKERS[0]: None}, "no build front end runs this"),
            ({"PYO3_PYTHON": "/bin/python"}, "PYO3_PYTHON=/bin/python is in no environment"),
            ({"PYO3_PYTHON": None}, "PYO3_PYTHON= is in no environment"),
        ],
    )
    def test_is_none_of_a_front_end(self, more: dict[str, str | None], reason: str, tmp_path: Path) -> None:
        (tmp_path / "env" / "bin").mkdir(parents=True)
        (tmp_path / "env" / "pyvenv.cfg").touch()
        python = f"{tmp_path}/env/bin/python"
        environ = {"PYO3_PYTHON": python, _startup.MARKERS[0]: "1", **more}
        with pytest.raises(PassThrough) as raised:
            wrapper.ephemeral_environment({name: it for name, it in environ.items() if it is not None})
        assert str(raised.value) == reason


@pytest.mark.parametrize("value", [None, "", " ", "3G"])
def test_the_store_has_the_users_limit_or_ours(stage: Stage, value: str | None, capsys: Said) -> None:
    stage.let("store.prune.prune", lambda *it: stage.done.append(it))
    store: Any = "the store"
    wrapper._prune(store, {} if value is None else {"PYO3_ENVSHIM_CACHE_SIZE": value})
    assert (stage.done, capsys.readouterr().err) == ([(store, (3 if value == "3G" else 2) << 30)], "")


class TestABaseOfOurs:
    @pytest.mark.parametrize(
        ("more", "base"),
        [
            ({}, "/base/of/env"),
            ({"PYO3_PYTHON": "/other/bin/python"}, None),
            ({"PYO3_PYTHON": None}, None),
            ({"PYO3_CROSS": "1"}, None),
        ],
    )
    def test_is_that_of_the_interpreter_of_the_call(
        self, stage: Stage, more: dict[str, str | None], base: str | None
    ) -> None:
        known = {"/env/bin/python": "/env"}
        stage.let("environment.interpreter.environment_of", lambda python: known.get(python.strip()))
        stage.let("environment.interpreter.base_of", {"/env": "/base/of/env"}.__getitem__)
        of_another = {"PYO3_BASE_PYTHON": "/base", "PYO3_ENVSHIM_BASE": "/base"}
        environ = {name: it for name, it in {**stage.environ, **more}.items() if it is not None}
        of_this = dict.fromkeys(of_another, base) if base else {}
        assert wrapper.with_base({**environ, **of_another}) == {**environ, **of_this}
        own = {**environ, "PYO3_BASE_PYTHON": "/own"}
        assert wrapper.with_base(own) == own


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, None),
        ({"PYO3_NO_PYTHON": ""}, None),
        ({"PYO3_NO_PYTHON": "1"}, "PYO3_NO_PYTHON"),
        ({"PYO3_CROSS_LIB_DIR": "/x"}, "PYO3_CROSS_LIB_DIR"),
        ({"CARGO_BUILD_TARGET": "x"}, "CARGO_BUILD_TARGET"),
        ({"PYO3_CONFIG_FILE": "/p/target/maturin/pyo3-config-abi3.txt"}, None),
        ({"PYO3_CONFIG_FILE": "/p/target/maturin/own.txt"}, "PYO3_CONFIG_FILE"),
        ({"PYO3_CONFIG_FILE": "/p/target/other/pyo3-config-abi3.txt"}, "PYO3_CONFIG_FILE"),
        ({"PYO3_CROSS": "/p/target/maturin/pyo3-config-abi3.txt"}, "PYO3_CROSS"),
    ],
)
def test_what_a_user_has_told_pyo3_is_found(environ: dict[str, str], name: str | None) -> None:
    assert wrapper.user_setting({"A": "1", **environ}) == name


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
        stage.let("store.store.Store.open", lambda environ: SimpleNamespace(root="/cache" if environ else ""))
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

    def test_nothing_is_asked_where_no_interpreter_is_named(self, overlaid: Stage) -> None:
        del overlaid.environ["PYO3_PYTHON"]
        assert wrapper._with_overlay(overlaid.call()) is None
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


class TestTheMode:
    OURS: ClassVar = {"PYO3_BASE_PYTHON": "/base", "PYO3_ENVSHIM_BASE": "/base"}

    @pytest.fixture(autouse=True)
    def served(self, stage: Stage) -> None:
        stage.let("wrapper._with_stored_environment", lambda call: stage.did("served", Plan(call, {})))

    @pytest.mark.parametrize(
        ("value", "arguments", "has_base"),
        [
            ("base", ["build"], False),
            ("off", ["build"], True),
            ("", ["fetch"], True),
            ("off", ["fetch"], True),
        ],
    )
    def test_may_be_not_to_serve(
        self, stage: Stage, value: str, arguments: list[str], has_base: bool, capsys: Said
    ) -> None:
        """A base of ours for another interpreter is taken back."""
        call = stage.call(*arguments, PYO3_ENVSHIM=value, **self.OURS)
        plan = wrapper.make_plan(call)
        assert plan.call is call
        assert plan.environ == {**stage.environ, "PYO3_ENVSHIM": value, **(self.OURS if has_base else {})}
        assert (plan.is_fallback, stage.done, capsys.readouterr().err) == (False, [], "")

    @pytest.mark.parametrize("value", ["", " on ", "1", "Yes", "TRUE"])
    def test_is_on(self, stage: Stage, value: str, capsys: Said) -> None:
        wrapper.make_plan(stage.call(PYO3_ENVSHIM=value))
        wrapper.make_plan(stage.call())
        assert (stage.done, capsys.readouterr().err) == (["served"] * 2, "")

    def test_is_on_if_it_is_not_known(self, stage: Stage, capsys: Said) -> None:
        wrapper.make_plan(stage.call(PYO3_ENVSHIM="maybe"))
        said = "pyo3-envshim: warning: PYO3_ENVSHIM=maybe is not known and taken as on\n"
        assert (stage.done, capsys.readouterr().err) == (["served"], said)

    def test_is_as_if_we_were_not_there_where_not_even_the_base_is_known(
        self, stage: Stage, capsys: Said
    ) -> None:
        stage.fails("wrapper.with_base", OSError("us"))
        call = stage.call(**self.OURS)
        plan = wrapper.make_plan(call)
        assert plan.call is call
        assert (plan.environ, plan.is_fallback) == (call.environ, True)
        assert capsys.readouterr().err == "pyo3-envshim: warning: not used for this build: OSError: us\n"


def test_other_trouble_of_ours_is_one_line(stage: Stage, capsys: Said) -> None:
    stage.fails("wrapper._with_stored_environment", OSError("us"))
    call = stage.call(PYO3_BASE_PYTHON="/own")
    plan = wrapper.make_plan(call)
    assert plan.call is call
    assert (plan.environ, plan.is_fallback, plan.workspace) == (call.environ, True, None)
    assert capsys.readouterr().err == "pyo3-envshim: warning: not used for this build: OSError: us\n"
