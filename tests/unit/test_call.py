"""A call of cargo: the variables that it would have without the wrapper, what is said."""

from __future__ import annotations

import pytest

from pyo3_envshim.call import CargoCall, user_environ


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
