"""How scripts/bench counts, judges and shows; and its benchmarks, in their smallest case.

But `ci`, which does what rebuild does, and `matrix`, whose builds test_set_aside makes: run by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.front_ends import Host

from .scripts import SCRIPTS, loaded


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with loaded("bench") as module:
        yield module


@pytest.fixture(scope="module")
def common(script: Any) -> Any:
    return sys.modules[script.Found.__module__]


@pytest.fixture(scope="module")
def ranges(script: Any) -> Any:
    return sys.modules[script.rebuild.Range.__module__]


def _bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "bench"), *arguments, "--save", str(folder / "found")]
    environ = {**os.environ, "PYTHON": sys.executable, "TMPDIR": str(folder)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("rebuild", "cargo"),
        ("unpacked", "cargo"),
        ("store", "sh"),
        ("startup", "valgrind"),
        ("wrapper", "cargo"),
    ],
)
def test_the_smallest_case_is_measured_and_saved(name: str, tool: str, tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH")
    done = _bench(tmp_path, name, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "found" / f"{name}.json").read_text())
    assert data["rows"]
    last_step = done.stderr.splitlines()[-1]
    assert re.match(r"\[ *(\d+)/\1\] ", last_step), last_step
    assert data["chart"]["series"]
    assert all(target["met"] for target in data["targets"] if not target["timed"])
    assert all(target["text"] in done.stdout for target in data["targets"])
    page = (tmp_path / "found.md").read_text()
    assert f"`./scripts/bench {name} --quick" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found", "found.md"]  # and nothing else


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "dirname", "git"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    environ = {"PATH": str(tmp_path / "bin"), "PYTHON": sys.executable}
    command = [str(SCRIPTS / "bench"), "startup", "--save", str(tmp_path / "found")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bench: startup needs valgrind, which is not on PATH; hint: ")
    assert not (tmp_path / "found").exists()


def test_it_ends_at_the_next_step_after_a_signal_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        str(SCRIPTS / "bench"),
        "store",
        "--rounds",
        "1000",
        "--quick",
        "--save",
        str(tmp_path / "found"),
    ]
    environ = {**os.environ, "PYTHON": sys.executable, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.terminate()
        assert process.stderr.read().endswith("bench: interrupted\n")
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.rglob("*")) == [tmp_path / "found"]


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    done = _bench(tmp_path, "speed")
    assert done.returncode == 2
    assert "rebuild, unpacked, matrix, startup, wrapper, store, ci, or all" in done.stderr


def _found(common: Any, measured: float, timed: bool) -> Any:
    target = common.Target("crates", measured, 2, timed=timed)
    rows = [
        {"way": "plain", "crates": 3, "seconds": 9.5},
        {"way": "with the shim", "crates": 0, "seconds": None},
    ]
    return common.Found(rows, [target], {"kind": "bars"}, {"cargo": "1"}, ["note"])


class Stand:
    """A benchmark that comes to what it is given."""

    TITLE, ABOUT, NEEDS = "Stand", "What it is.", ()

    def __init__(self, found: Callable[[], Any]) -> None:
        self._found = found

    def steps(self, setting: Any) -> int:
        return 0

    def measure(self, setting: Any) -> Any:
        return self._found()


def _options(script: Any, folder: Path, *names: str, quick: bool = False) -> Any:
    return script.argparse.Namespace(
        benchmarks=list(names),
        quick=quick,
        pythons=[],
        rounds=0,
        keep=False,
        chart=False,
        save=folder / "found",
    )


@pytest.mark.parametrize(
    ("measured", "timed", "quick", "missed"),
    [
        (2, True, False, []),
        (2.1, True, False, ["crates"]),
        (2.1, True, True, []),
        (2.1, False, True, ["crates"]),
    ],
    ids=["met", "missed", "a-time-in-a-quick-run", "a-count-in-a-quick-run"],
)
def test_a_missed_target_is_a_failure_unless_it_is_a_time_in_a_quick_run(
    script: Any,
    common: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    measured: float,
    timed: bool,
    quick: bool,
    missed: list[str],
) -> None:
    monkeypatch.setattr(script, "BENCHMARKS", {"stand": Stand(lambda: _found(common, measured, timed))})
    options = _options(script, tmp_path, "stand", quick=quick)
    if missed:
        with pytest.raises(script.Failure, match="targets missed: 1"):
            script.bench(options, "./scripts/bench stand")
    else:
        script.bench(options, "./scripts/bench stand")
    assert ("MISSED" if measured > 2 else "met: crates: 2 of 2") in capsys.readouterr().out
    page = (tmp_path / "found.md").read_text()
    assert "| way | crates | seconds |\n| --- | --- | --- |\n| plain | 3 | 9.50 |\n" in page
    assert "Made by `./scripts/bench stand`, commit " in page
    assert "cargo 1." in page


def test_a_benchmark_is_no_load_for_the_next_one(
    script: Any, common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure() -> Any:
        monkeypatch.setattr(os, "getloadavg", lambda: (100.0, 100.0, 100.0))
        return _found(common, 1, timed=True)

    monkeypatch.setattr(script, "BENCHMARKS", {"one": Stand(measure), "two": Stand(measure)})
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    options = _options(script, tmp_path, "one", "two")
    script.bench(options, "./scripts/bench one two")
    assert "busy" not in (tmp_path / "found.md").read_text()


def test_a_table_has_its_figures_to_the_right(common: Any) -> None:
    text = _found(common, 1, True).text().splitlines()
    assert text[0] == "way            crates  seconds"
    assert text[2] == "plain               3     9.50"
    assert text[3] == "with the shim       0        -"
    assert text[-2:] == ["note", "met: crates: 1 of 2"]


@pytest.mark.parametrize(
    ("figure", "shown"),
    [(1234567, "1,234,567"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (None, "-"), ("3.9", "3.9")],
)
def test_a_figure_is_shown_with_what_means_something(common: Any, figure: object, shown: str) -> None:
    assert common.shown(figure) == shown


def test_different_work_is_not_compared(script: Any, common: Any) -> None:
    common.the_same("the wheel", {"one": "a", "other": "a"})
    with pytest.raises(script.Failure, match=r"the wheel of 'other' is not that of 'one'"):
        common.the_same("the wheel", {"one": "a", "other": "b"})


@dataclass(frozen=True)
class _Build:
    crates: list[str]
    seconds: float = 1.0
    wheel: str = "tiny.whl"
    sha256: str = "a"


_COLD = _Build(["pyo3", "pyo3-ffi", "tiny"])
_WARM = _Build([])


def _ways(
    script: Any, shim: list[_Build], limit: list[_Build] | None = None, *beside: list[_Build]
) -> list[Any]:
    """*beside*: the builds with sccache, and with both."""
    rebuild = script.rebuild
    builds = {rebuild.LIMIT: limit or [_COLD, _WARM], rebuild.PLAIN: [_COLD, _COLD], rebuild.SHIM: shim}
    builds |= zip(("sccache", "shim + sccache"), beside)
    return [rebuild.Way(name, None, None, {}, list(made)) for name, made in builds.items()]


def _rebuilt(
    script: Any, common: Any, shim: list[_Build], limit: list[_Build] | None = None, *beside: list[_Build]
) -> Any:
    found = common.Found([], [], {"series": {}}, {})
    ways = _ways(script, shim, limit, *beside)
    script.rebuild._add(found, script.rebuild.PROJECTS[0], "uv", ways, 0.5)
    return found


def test_the_shim_may_take_the_limit_and_the_environment(script: Any, common: Any) -> None:
    crates, seconds = _rebuilt(script, common, [_COLD, replace(_WARM, seconds=1.64)]).targets
    assert (crates.met, seconds.met) == (True, True)
    crates, seconds = _rebuilt(script, common, [_COLD, replace(_WARM, seconds=1.66)]).targets
    assert (crates.met, seconds.met) == (True, False)


def test_the_shim_may_recompile_what_the_limit_does(script: Any, common: Any) -> None:
    own = _Build(["tiny"])
    crates, _ = _rebuilt(script, common, [_COLD, own], [_COLD, own]).targets
    assert crates.met
    crates, _ = _rebuilt(script, common, [_COLD, own]).targets
    assert (crates.met, crates.timed) == (False, False)


@pytest.mark.parametrize(
    ("shim", "said"),
    [
        ([_Build(["pyo3"]), _WARM], "what the first build compiled"),
        ([_COLD, replace(_WARM, sha256="b")], "the wheels"),
        ([_COLD, replace(_WARM, wheel="other.whl")], "the wheels"),
    ],
    ids=["crates", "a-wheel", "a-name"],
)
def test_builds_that_did_different_work_have_no_row(
    script: Any, common: Any, shim: list[_Build], said: str
) -> None:
    with pytest.raises(script.Failure, match=f"{said} of 'with the shim'"):
        _rebuilt(script, common, shim)


def test_a_first_build_without_pyo3_shows_nothing(script: Any, ranges: Any) -> None:
    ways = _ways(script, [_WARM, _WARM], [_WARM, _WARM])
    ways[1].builds[:] = [_WARM, _WARM]
    with pytest.raises(script.Failure, match="compiled no PyO3"):
        ranges.check("tiny", ways)


def test_a_ci_job_that_compiles_more_than_the_limit_misses_its_target(script: Any, common: Any) -> None:
    own, more = _Build(["tiny"]), _Build(["pyo3", "tiny"])
    for second, met in ((own, True), (more, False)):
        found = common.Found([], [], {"series": {}}, {})
        script.ci._add(found, "tiny, uv", _ways(script, [_COLD, second], [_COLD, own]))
        assert [target.met for target in found.targets] == [met]
        assert found.rows[2]["of these"] == ", ".join(second.crates)


@pytest.mark.parametrize(
    ("shim", "sccache", "both", "met"),
    [
        (1.0, 1.0, 1.1, [True, True]),
        (1.1, 1.0, 1.1, [False, True]),
        (1.0, 2.0, 1.2, [True, False]),
        (2.0, 1.0, 1.2, [False, False]),
        (None, 1.0, 1.1, [True]),
        (None, 1.0, 1.2, [False]),
        (1.0, None, 9.0, []),
    ],
)
def test_the_shim_is_to_be_ahead_of_sccache_and_both_together_as_good_as_the_better_one(
    ranges: Any,
    shim: float | None,
    sccache: float | None,
    both: float,
    met: list[bool],
) -> None:
    named = {ranges.SHIM: shim, ranges.SCCACHE: sccache, ranges.BOTH: both}
    seconds = {name: took for name, took in named.items() if took is not None}
    targets = ranges.beside_sccache("tiny", seconds)
    assert [target.met for target in targets] == met
    assert all(target.timed for target in targets)


def _slow(build: _Build) -> list[_Build]:
    return [_COLD, replace(build, seconds=9)]


def test_sccache_is_a_way_to_rebuild_alone_and_with_the_shim(script: Any, common: Any) -> None:
    found = _rebuilt(script, common, [_COLD, _WARM], None, _slow(_COLD), [_COLD, _WARM])
    assert [(row["way"], row["recompiled"]) for row in found.rows[3:]] == [
        ("sccache", 3),
        ("shim + sccache", 0),
    ]
    assert [target.met for target in found.targets] == [True] * 5
    found = _rebuilt(script, common, _slow(_WARM), None, [_COLD, _COLD], _slow(_COLD))
    assert [target.met for target in found.targets] == [True, False, False, False, False]
    with pytest.raises(script.Failure, match=r"the wheels of 'shim . sccache'"):
        _rebuilt(script, common, [_COLD, _WARM], None, _slow(_COLD), [_COLD, replace(_WARM, sha256="b")])


def test_a_ci_job_is_held_against_sccache(script: Any, common: Any) -> None:
    own = [_COLD, _Build(["tiny"])]
    for both, met in (
        (own, [True, True, True, True]),
        (_slow(_Build(["pyo3", "tiny"])), [True, False, True, False]),
        (_slow(_Build(["tiny"])), [True, True, True, False]),
    ):
        found = common.Found([], [], {"series": {}}, {})
        ways = _ways(script, own, own, _slow(_COLD), both)
        script.ci._add(found, "tiny, uv, target folder", ways)
        assert [target.met for target in found.targets] == met
    assert [row["of these"] for row in found.rows] == ["tiny", "all", "tiny", "all", "tiny"]
    assert [row["seconds"] for row in found.rows] == [1, 1, 1, 9, 9]


@pytest.mark.parametrize(
    ("sccache", "both", "met"),
    [
        (1.0, _WARM, [True, True, True, True, True]),
        (0.9, _WARM, [True, True, True, False, False]),
        (9.0, replace(_WARM, seconds=1.2), [True, True, True, True, False]),
        (9.0, _COLD, [True, False, True, True, True]),
    ],
)
def test_a_matrix_is_held_against_sccache(
    script: Any,
    common: Any,
    ranges: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sccache: float,
    both: _Build,
    met: list[bool],
) -> None:
    matrix = script.matrix
    second = {ranges.PLAIN: _COLD, ranges.SCCACHE: replace(_COLD, seconds=sccache), ranges.BOTH: both}

    class Place:
        folder, progress = tmp_path, common.Steps(0)
        hosts = tuple(Host(tmp_path / name, shimmed=name == "ours") for name in ("plain", "ours"))

        def build_in_turn(self, way: Any, key: str) -> None:
            (tmp_path / "targets" / key).mkdir(parents=True, exist_ok=True)
            assert ("RUSTC_WRAPPER" in way.variables) == (way.name in (ranges.SCCACHE, ranges.BOTH))
            assert ("CARGO" in way.variables) == (way.name not in (ranges.PLAIN, ranges.SCCACHE))
            way.builds.append(second.get(way.name, _WARM) if way.builds else _COLD)

    monkeypatch.setattr(ranges.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(matrix, "several_interpreters", lambda: ["/bin/python3.11", "/bin/python3.12"])
    found = common.Found([], [], {"series": {}}, {})
    matrix._measure_project(found, Place(), script.rebuild.PROJECTS[0])
    assert [row["way"] for row in found.rows][3:] == [ranges.SCCACHE, ranges.BOTH]
    assert [target.met for target in found.targets] == met


def test_without_a_target_folder_a_job_has_something_from_the_last_one_with_sccache_only(script: Any) -> None:
    own = [_COLD, _Build(["tiny"])]
    ways = _ways(script, own, own, own, own)
    kept = {kept: [way.name for way in script.ci._with(kept, ways)] for kept in script.ci.KEPT}
    assert kept.pop(script.ci.NOTHING) == ["sccache", "shim + sccache"]
    assert [len(names) for names in kept.values()] == [5, 5]


def test_a_job_finds_what_the_first_one_kept_in_a_new_clone(
    script: Any, common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci = script.ci
    monkeypatch.setattr(sys.modules[ci.Range.__module__], "find_cargo", lambda: "/bin/cargo")
    jobs = ci.Jobs(tmp_path, common.Steps(0))
    jobs.source.mkdir()
    (jobs.source / "Cargo.toml").touch()
    (jobs.source / "Cargo.lock").write_text('name = "tiny"\nname = "pyo3"\n')
    monkeypatch.setattr(jobs, "own_crates", lambda: {"tiny"})
    jobs.commit()
    made = ["CACHEDIR.TAG", ".rustc_info.json", *(f"release/.fingerprint/{it}-0" for it in ("pyo3", "tiny"))]
    found: list[list[str]] = []

    def built(way: Any) -> None:
        assert sorted(it.name for it in jobs.source.iterdir()) == [".git", "Cargo.lock", "Cargo.toml"]
        (jobs.source / "left").touch()
        places = {name: tmp_path / name for name in ("target", "sccache", "shim-cache")}
        found.append([name for name, place in places.items() if place.exists()])
        found.append([name for name in made if (jobs.target / name).exists()])
        for place in places.values():
            place.mkdir(exist_ok=True)
        for name in made:
            (jobs.target / name).parent.mkdir(parents=True, exist_ok=True)
            (jobs.target / name).touch()

    monkeypatch.setattr(jobs, "build_way", built)
    way = ci.Way("shim: sccache", None, None)
    jobs.first_job(ci.Way("another", None, None))
    jobs.first_job(way)
    for kept in ci.KEPT:
        jobs.next_job(way, kept)
    assert found[::2] == [[], [], *[["target", "sccache"]] * 2, ["sccache"]]
    assert found[1::2] == [[], [], made, ["CACHEDIR.TAG", "release/.fingerprint/pyo3-0"], []]


def test_ways_with_sccache_have_a_server_and_a_cache_of_their_own(
    ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ours = (ranges.Way(name, None, None, {"CARGO": name}, [_COLD]) for name in ("plain", "ours"))
    monkeypatch.setattr(ranges.shutil, "which", lambda name: f"/bin/{name}")
    one, both = ranges.with_sccache(tmp_path, plain, ours)
    assert (one.name, one.variables["CARGO"], both.name, both.variables["CARGO"]) == (
        ranges.SCCACHE,
        "plain",
        ranges.BOTH,
        "ours",
    )
    assert one.builds == both.builds == []
    assert one.variables["RUSTC_WRAPPER"] == "/bin/sccache"
    for name in ("SCCACHE_DIR", "SCCACHE_SERVER_UDS"):
        assert one.variables[name] != both.variables[name]
    monkeypatch.setattr(ranges.shutil, "which", lambda name: None)
    assert ranges.with_sccache(tmp_path, plain, ours) == []


def _unpacked(
    script: Any,
    common: Any,
    kept: list[_Build],
    in_tree: list[_Build],
    sccache: Sequence[_Build] = (),
    **more: Any,
) -> Any:
    unpacked = script.unpacked
    found = common.Found([], [], {"series": {}}, {})
    builds = {unpacked.IN_TREE: in_tree, unpacked.PLAIN: [_COLD, _COLD], unpacked.SHIM: kept}
    if sccache:
        builds |= {"sccache": list(sccache), "shim + sccache": more.get("both", kept)}
    ways = [unpacked.Way(name, None, None, {}, list(made)) for name, made in builds.items()]
    named = more.get("named", set())
    unpacked._add(found, script.rebuild.PROJECTS[0], "uv build", ways, named, {"tiny"}, 0.5)
    return found


_OWN = _Build(["tiny"])


@pytest.mark.parametrize(("seconds", "met"), [(1.72, True), (1.73, False)])
def test_an_unpacked_sdist_may_take_what_the_tree_and_the_environments_do(
    script: Any, common: Any, seconds: float, met: bool
) -> None:
    found = _unpacked(script, common, [_COLD, replace(_OWN, seconds=seconds)], [_COLD, _OWN])
    assert [target.met for target in found.targets] == [True, met]
    assert [row["recompiled"] for row in found.rows] == [1, 3, 1]


def test_an_unpacked_sdist_may_recompile_its_own_crates_only(script: Any, common: Any) -> None:
    more = _Build(["pyo3", "tiny"])
    crates, _ = _unpacked(script, common, [_COLD, _OWN, more], [_COLD, _OWN]).targets
    assert (crates.met, crates.timed) == (False, False)


def test_an_unpacked_sdist_may_recompile_what_the_rule_names(script: Any, common: Any) -> None:
    more = _Build(["pyo3", "tiny"])
    found = _unpacked(script, common, [_COLD, more], [_COLD, more], [_COLD, _COLD], named={"pyo3"})
    assert found.targets[0].met
    assert found.notes == ["small, maturin, uv build: compiled each time: pyo3"]
    assert len(found.targets) == 5  # sccache's too


@pytest.mark.parametrize(
    ("seconds", "both", "met"),
    [
        (0.9, _OWN, [True, True, False, False]),
        (1.1, _OWN, [True, True, True, True]),
        (1.1, _Build(["pyo3", "tiny"]), [True, False, True, True]),
        (1.1, replace(_OWN, seconds=1.2), [True, True, True, False]),
    ],
)
def test_a_kept_folder_is_to_be_ahead_of_sccache(
    script: Any, common: Any, seconds: float, both: _Build, met: list[bool]
) -> None:
    sccache = [_COLD, replace(_COLD, seconds=seconds)]
    found = _unpacked(script, common, [_COLD, _OWN], [_COLD, _OWN], sccache, both=[_COLD, both])
    targets = [target.met for target in found.targets]
    assert [*targets[:2], *targets[3:]] == met


@pytest.mark.parametrize(
    ("kept", "in_tree"),
    [
        ([_COLD, _WARM], [_COLD, _OWN]),
        ([_COLD, _OWN], [_COLD, _WARM]),
        ([_COLD, _OWN], [_COLD, _Build(["pyo3", "tiny"])]),
    ],
    ids=["the-shim-compiled-nothing", "the-tree-compiled-nothing", "the-tree-compiled-more"],
)
def test_its_own_crates_are_compiled_by_each_build(
    script: Any, common: Any, kept: list[_Build], in_tree: list[_Build]
) -> None:
    with pytest.raises(script.Failure, match=r"its own crates, as compiled|what is to be compiled again"):
        _unpacked(script, common, kept, in_tree)


def test_a_wheel_is_compared_by_its_content_but_the_temporary_folder(script: Any, tmp_path: Path) -> None:
    def written(name: str, sbom: str, code: str = "") -> str:
        with zipfile.ZipFile(tmp_path / name / "a.whl", "w") as wheel:
            wheel.writestr("a-1.dist-info/RECORD", sbom)
            wheel.writestr("a-1.dist-info/sboms/a.cyclonedx.json", sbom)
            wheel.writestr("a.py", code)
        return str(script.unpacked.digest(tmp_path / name))

    for name in ("one", "other", "installed"):
        (tmp_path / name).mkdir()
    one = written("one", '"path+file:///tmp/one#a@1"')
    assert written("other", '"path+file:///tmp/other#a@1"') == one
    zipfile.ZipFile(tmp_path / "one" / "a.whl").extractall(tmp_path / "installed")
    (tmp_path / "installed" / "a-1.dist-info" / "INSTALLER").write_text("pip")
    assert script.unpacked.digest(tmp_path / "installed") == one
    assert written("other", '"path+file:///tmp/other#b@1"') != one
    assert written("other", '"path+file:///tmp/other#a@1"', "1") != one


def test_what_cargo_compiled_is_told_by_its_time_stamps(ranges: Any, tmp_path: Path) -> None:
    unit = tmp_path / "release" / ".fingerprint" / "pyo3-ffi-0123456789abcdef"
    unit.mkdir(parents=True)
    (unit / "invoked.timestamp").touch()
    before = ranges.stamps(tmp_path)
    assert [crate for crate, _ in before] == ["pyo3-ffi"]
    assert ranges.stamps(tmp_path) == before
    os.utime(unit / "invoked.timestamp", (1, 1))
    assert ranges.stamps(tmp_path) != before


@pytest.mark.parametrize(
    "text",
    [
        '[build-system]\nrequires = ["a>=1", "b[x]"]\nbuild-backend = "a"\n',
        "[project]\nname = 'x'\n[build-system]\nbuild-backend = 'a'\nrequires = [\n  'a>=1',  # not \"c\"\n"
        "  # 'd'\n  'b[x]',\n]\n",
    ],
    ids=["one-line", "many-lines"],
)
def test_what_a_build_requires_is_read(ranges: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert ranges.requirements(text) == ["a>=1", "b[x]"]


def test_a_straight_line_is_found(script: Any) -> None:
    slope, explained = script.store.slope([(0, 1), (10, 21), (20, 41)])
    assert (slope, explained) == (2, 1)
    assert script.store.slope([(0, 0), (10, 1), (20, 100)])[1] < 0.9


@pytest.mark.parametrize(("over", "met"), [(13.0, True), (14.0, False)])
def test_a_wrapped_call_is_judged_in_units_of_pythons_own_start(script: Any, over: float, met: bool) -> None:
    wrapper = script.wrapper
    bare = wrapper.Call("cargo metadata", wrapper._METADATA, {}, wrapped=False)
    call = wrapper.Call("does not compile", wrapper._METADATA, {}, units=1.3)
    times = {"python -c pass": [10.0], bare.name: [30.0], call.name: [30.0 + over]}
    found = wrapper._found([bare, call], times, {"imports": [2.0]}, {}, {})
    assert [target.met for target in found.targets] == [met]
    assert found.rows[-1] == {"call": "entry present: imports", "ms": 2.0, "over bare, ms": None,
        "in units": 0.2, "instructions": None}  # fmt: skip


@pytest.mark.parametrize(("crowded", "met"), [([63.0, 105.0], True), ([64.0, 106.0], False)])
def test_files_that_no_crate_reads_may_cost_a_wrapped_call_five_percent(
    script: Any, crowded: list[float], met: bool
) -> None:
    wrapper = script.wrapper
    bare = wrapper.Call("cargo build", wrapper._BUILD, {}, wrapped=False)
    present = wrapper.Call(wrapper._PRESENT, wrapper._BUILD, {})
    beside = replace(present, name=wrapper._CROWDED, crowded=True)
    times = {"python -c pass": [10.0], "cargo metadata": [20.0], bare.name: [30.0, 30.0]}
    times |= {present.name: [60.0, 100.0], beside.name: crowded}
    found = wrapper._found([bare, present, beside], times, {}, {}, {})
    assert [(target.met, target.timed) for target in found.targets] == [(met, True)]


def test_a_startup_line_that_does_not_run_is_not_counted(script: Any, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/*/site-packages")
    python = str(environment / "bin" / "python")
    script.startup.check(python, site / "line.pth", "import os", ours=False)
    for file, text, ours in (
        (site / "line.pth", "import no_such_module", False),  # site says so
        (site / "line.pth", "import os", True),  # PYO3_BASE_PYTHON is not set
        (site / "line.txt", "import os", True),
    ):
        with pytest.raises(script.Failure, match="does not do what it should"):
            script.startup.check(python, file, text, ours=ours)


@pytest.mark.parametrize(
    "chart",
    [
        {"kind": "bars", "x": "seconds", "series": {"plain": {"uv": 9.5}, "with the shim": {"uv": 0.7}}},
        {"kind": "lines", "x": "files", "y": "ms", "series": {"digest": [[10, 1], [100, 3]]}},
    ],
    ids=["bars", "lines"],
)
def test_the_same_figures_give_the_same_chart(chart: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "data.json").write_text(json.dumps({"chart": chart}))
    drawn = []
    for name in ("one.svg", "other.svg"):
        command = [sys.executable, "-B", str(SCRIPTS / "benchmarks" / "charts.py"), "data.json", name]
        subprocess.run(command, cwd=tmp_path, check=True)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    for name in chart["series"] if len(chart["series"]) > 1 else [chart["x"]]:
        assert f">{name}<".encode() in drawn[0]


def test_the_end_of_a_build_is_waited_for_and_not_looked_for(
    ranges: Any, common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Popen.wait sleeps up to 50 ms between two looks if it is given a timeout."""
    place = ranges.Range(tmp_path, common.Steps(0))
    naps: list[float] = []
    monkeypatch.setattr(subprocess.time, "sleep", naps.append)  # type: ignore[attr-defined]
    assert place._run([sys.executable, "-c", "print('done')"]) == "done\n"
    assert naps == []
