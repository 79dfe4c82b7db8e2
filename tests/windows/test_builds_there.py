"""Builds on Windows: real front ends and back ends, and a stand-in for cargo that judges as cargo does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from unit.environments import ROOT, Shared, program_in, run

from .bench import ALL, FRONT_ENDS, Bench, in_pairs


@pytest.mark.parametrize(("front_end", "back_end"), in_pairs(FRONT_ENDS))
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
