"""uv's environments of links into its cache (``UV_LINK_MODE=symlink``)."""

from __future__ import annotations

from support.front_ends import UV_BUILD

from .workshop import Bench


def test_one_of_links_is_the_same_to_cargo_as_one_of_files(bench: Bench) -> None:
    bench.variables["SOURCE_DATE_EPOCH"] = "1700000000"
    project = bench.project()
    plain = bench.build(UV_BUILD, project, bench.plain, UV_LINK_MODE="symlink")
    first = bench.build(UV_BUILD, project, bench.shimmed, UV_LINK_MODE="symlink")
    second = bench.build(UV_BUILD, project, bench.shimmed, UV_LINK_MODE="copy")
    third = bench.build(UV_BUILD, project, bench.shimmed, UV_LINK_MODE="symlink")
    assert (second.compiled, third.compiled) == ([], [])
    assert first.pyo3_python == second.pyo3_python == third.pyo3_python
    assert first.pyo3_python.startswith(str(bench.store))
    assert plain.wheel is not None
    assert third.wheel is not None
    assert plain.wheel.read_bytes() == third.wheel.read_bytes()
