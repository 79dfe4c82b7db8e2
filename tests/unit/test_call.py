"""A call of cargo: the variables that it would have without the wrapper, what is said."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pyo3_envshim import call as module
from pyo3_envshim.call import CargoCall, Plan, user_environ, warn


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PYO3_ENVSHIM_CARGO": "/own", "CARGO": "/own"}, "PYO3_ENVSHIM_CARGO"),
        ({"PYO3_ENVSHIM_CARGO": "/other", "CARGO": "/own"}, "CARGO"),
        ({"PYO3_ENVSHIM_CARGO": "/other"}, ""),
        ({}, ""),
    ],
)
def test_a_cargo_is_named_by_a_variable(environ: dict[str, str], expected: str) -> None:
    assert module.variable_of("/own", environ) == expected


@pytest.mark.parametrize(
    ("environ", "restored"),
    [
        ({"CARGO": "/env/bin/pyo3-envshim-cargo"}, {}),
        ({"CARGO": "/env/bin/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own"}, {"CARGO": "/own"}),
        ({"CARGO": "/own/cargo"}, {"CARGO": "/own/cargo"}),
        ({"CARGO": "pyo3-envshim-cargo.exe", "PYO3_ENVSHIM_CARGO": ""}, {}),
        ({"OTHER": "1", "PYO3_ENVSHIM_CARGO": "/own"}, {"OTHER": "1"}),
        ({}, {}),
        ({"PATH": "/cache/pyo3-envshim-path-0a1b2c3d:/usr/bin:/bin"}, {"PATH": "/usr/bin:/bin"}),
        ({"PATH": "/cache/pyo3-envshim-path-0a1b2c3d/:/usr/bin"}, {"PATH": "/usr/bin"}),
        ({"PATH": ":/pyo3-envshim-path-of-mine/bin"}, {"PATH": ":/pyo3-envshim-path-of-mine/bin"}),
    ],
)
def test_the_variables_are_what_they_would_be_without_us(
    environ: dict[str, str], restored: dict[str, str]
) -> None:
    before = dict(environ)
    assert user_environ(environ) == restored
    assert environ == before


def test_only_a_verbose_call_tells(capsys: pytest.CaptureFixture[str]) -> None:
    CargoCall("cargo", ["build"], {}).tell("nothing")
    CargoCall("cargo", ["build"], {}, verbose=True).tell("something")
    assert capsys.readouterr().err == "pyo3-envshim: something\n"


def test_a_call_keeps_its_own_variables_and_arguments() -> None:
    environ, arguments = {"A": "1"}, ["build"]
    call = CargoCall("cargo", arguments, environ)
    environ.clear()
    arguments.clear()
    assert (call.environ, call.arguments) == ({"A": "1"}, ["build"])


class TestAPlan:
    @pytest.fixture
    def call(self) -> CargoCall:
        return CargoCall("/bin/cargo", ["build", "-v"], {"A": "1"})

    def test_is_to_run_a_call_with_other_variables(
        self, call: CargoCall, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "run", lambda *it: it)
        plan = Plan(call, {"B": "2"})
        assert plan.execute() == ("/bin/cargo", ["build", "-v"], {"B": "2"})  # type: ignore[comparison-overlap]
        assert (plan.build_dir, plan.workspace, plan.is_fallback) == (None, None, False)

    def test_may_have_a_kept_build_folder_to_run_it_in(self, call: CargoCall) -> None:
        kept: Any = SimpleNamespace(run=lambda *it: it)
        workspace: Any = "where cargo works"
        plan = Plan(call, {"B": "2"}, kept, workspace)
        assert plan.execute() == (call, {"B": "2"})  # type: ignore[comparison-overlap]
        assert plan.workspace == workspace

    def test_that_cannot_be_executed_ends_as_a_shell_would(
        self, call: CargoCall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(*_: object) -> int:
            raise OSError(13, "Permission denied")

        monkeypatch.setattr(module, "run", run)
        assert Plan(call, {}).execute() == 126
        assert capsys.readouterr().err == "pyo3-envshim: /bin/cargo cannot be run: Permission denied\n"


@pytest.mark.skipif(os.name == "nt", reason="about POSIX: exec")
def test_cargo_takes_the_place_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the signals that Python ignores as they were."""

    class Became(Exception):
        pass

    def execve(*it: object) -> None:
        assert [signal.getsignal(number) for number in ignored] == [signal.SIG_DFL] * 2
        raise Became(*it)

    ignored = signal.SIGPIPE, signal.SIGXFSZ
    before = [signal.getsignal(number) for number in ignored]
    monkeypatch.setattr(os, "execve", execve)
    try:
        with pytest.raises(Became) as became:
            module.run("/bin/cargo", ("build",), {"A": "1"})
    finally:
        for number, handler in zip(ignored, before):
            signal.signal(number, handler)
    assert became.value.args == ("/bin/cargo", ["/bin/cargo", "build"], {"A": "1"})


@pytest.mark.parametrize("stream", [None, "closed", "full"])
def test_nothing_fails_for_a_message_that_cannot_be_told(
    stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    found = io.StringIO() if stream == "closed" else Full() if stream else None
    if stream == "closed":
        assert found
        found.close()
    monkeypatch.setattr(sys, "stderr", found)
    warn("nothing")
