"""The main claim: a second build recompiles nothing, in every front end in its newest release.

pdm, hatch, tox, and nox with pip build in the invoking interpreter or in an environment that
stays: there the shim changes nothing.

cibuildwheel needs containers on Linux, which are not to be had here: what is tested are the
command lines that it runs inside them, with pyo3-envshim beside the front end or, for uv,
in ``CARGO``, as ``CIBW_ENVIRONMENT`` would put it there.
"""

from __future__ import annotations

import pytest

from support.front_ends import BUILD, FRONT_ENDS, OTHER_FRONT_ENDS, UV_BUILD, FrontEnd
from support.sample_crates import BACK_ENDS, BackEnd

from .workshop import Bench

_ALL = (*FRONT_ENDS, *OTHER_FRONT_ENDS)
_EPHEMERAL = [front_end for front_end in _ALL if front_end.ephemeral]
_PERMANENT = [front_end for front_end in OTHER_FRONT_ENDS if not front_end.ephemeral]


def _name(parameter: FrontEnd | BackEnd) -> str:
    return parameter.name


# With debug information: it names files and folders, so it would tell a difference.
_REPRODUCIBLE = {"SOURCE_DATE_EPOCH": "1700000000", "CARGO_PROFILE_DEV_DEBUG": "2"}

_each_back_end = pytest.mark.parametrize("back_end", BACK_ENDS, ids=_name)


@_each_back_end
@pytest.mark.parametrize("front_end", _ALL, ids=_name)
def test_a_second_build_recompiles_nothing(bench: Bench, front_end: FrontEnd, back_end: BackEnd) -> None:
    project = bench.project(back_end)
    host = bench.host(front_end, shimmed=True)
    first = bench.build(front_end, project, host)
    assert "pyo3" in first.compiled
    second = bench.build(front_end, project, host)
    assert second.compiled == []
    assert second.pyo3_python.startswith(str(bench.store)) == front_end.ephemeral
    assert bench.answer(second) == "42"


@pytest.mark.parametrize("front_end", _EPHEMERAL, ids=_name)
def test_without_the_shim_a_second_build_recompiles_pyo3(bench: Bench, front_end: FrontEnd) -> None:
    """By either back end: `test_explain` says so, of three front ends."""
    project = bench.project()
    host = bench.host(front_end, shimmed=False)
    bench.build(front_end, project, host)
    second = bench.build(front_end, project, host)
    assert len(second.compiled) >= 2
    assert bench.answer(second) == "42"


@_each_back_end
@pytest.mark.parametrize(("first", "second"), [(BUILD, UV_BUILD), (UV_BUILD, BUILD)], ids=_name)
def test_the_front_ends_share_what_is_compiled(
    bench: Bench, first: FrontEnd, second: FrontEnd, back_end: BackEnd
) -> None:
    project = bench.project(back_end)
    one = bench.build(first, project, bench.shimmed)
    other = bench.build(second, project, bench.shimmed)
    assert other.compiled == []
    assert other.pyo3_python == one.pyo3_python


@_each_back_end
@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=_name)
def test_the_wheel_is_the_same_byte_for_byte(bench: Bench, front_end: FrontEnd, back_end: BackEnd) -> None:
    project = bench.project(back_end, warm=False)
    wheels = []
    for host in (bench.plain, bench.shimmed):
        built = bench.build(front_end, project, host, **_REPRODUCIBLE)
        assert "pyo3" in built.compiled
        assert built.pyo3_python.startswith(str(bench.store)) == host.shimmed
        assert built.wheel is not None
        wheels.append(built.wheel)
        project.remove_what_builds_left()
    assert wheels[0].name == wheels[1].name
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


@pytest.mark.parametrize("front_end", _PERMANENT, ids=_name)
def test_a_permanent_environment_is_left_alone(bench: Bench, front_end: FrontEnd) -> None:
    project = bench.project()
    told = []
    for shimmed in (False, True):
        host = bench.host(front_end, shimmed=shimmed)
        built = bench.build(front_end, project, host)
        told.append(built.pyo3_python.replace(str(host.folder), "<host>"))
    assert told[0] == told[1]
    assert bench.entries == []
