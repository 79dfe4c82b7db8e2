"""The cargo that would run without the shim runs with it, whatever it is called and however it is started."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from support.front_ends import BUILD, UV_BUILD, FrontEnd
from support.recording_cargo import RecordingCargo
from support.sample_crates import BACK_ENDS, SETUPTOOLS_RUST, BackEnd

from .workshop import Bench, Built, real_cargo

# As cross does, it works in a container, where the target folder is /target.
_CROSS = """\
#!{python} -IS
import subprocess, sys
target = {target!r}
open({log!r}, "a").write(sys.argv[1] + "\\n")
done = subprocess.run([{cargo!r}, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
sys.stdout.write(done.stdout.replace(target, "/target"))
sys.exit(done.returncode)
"""
_OWN_VARIABLES = (
    "\nenv = {{ PATH = {path!r}, HOME = {home!r}, CARGO_HOME = {cargo_home!r}, LC_ALL = 'C.UTF-8' }}\n"
)


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
def test_a_cargo_called_cross_is_what_the_back_end_sees(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    """Both back ends then map the paths that it prints."""
    programs = bench.folder / "programs"
    programs.mkdir()
    project = bench.project(back_end, also_requires=("pyo3-envshim",))
    log = programs / "calls"
    places = {"cargo": bench.cargo.executable, "target": project.target, "log": log}
    text = _CROSS.format(python=sys.executable, **{name: str(path) for name, path in places.items()})
    (programs / "cross").write_text(text)
    (programs / "cross").chmod(0o755)
    bench.variables["PATH"] = f"{programs}:{bench.environment()['PATH']}"
    seen = []
    for host in (bench.plain, bench.shimmed):
        built = bench.build(front_end, project, host, CARGO="cross")
        assert bench.answer(built) == "42"
        seen.append((log.read_text(), built.compiling_environment.get("CARGO")))
        log.unlink()
    assert seen[0] == seen[1]


class TestACargoThatTheProjectStartsWithItsOwnVariables:
    """setuptools-rust's `RustExtension(env={…})`: `PYO3_ENVSHIM_CARGO` is not among them."""

    @pytest.fixture
    def own(self, bench: Bench) -> RecordingCargo:
        """Return the user's own cargo, which is not on PATH."""
        return RecordingCargo(bench.folder / "own" / "cargo", real_cargo())

    def build(self, bench: Bench, own: RecordingCargo, folders: list[Path]) -> list[Built]:
        """Build without the shim and with it, with a PATH of these folders in the project's variables."""
        project = bench.project(SETUPTOOLS_RUST, also_requires=("pyo3-envshim",))
        home = os.environ["HOME"]
        variables = _OWN_VARIABLES.format(
            path=":".join(map(str, [*folders, "/usr/bin", "/bin"])),
            home=home,
            cargo_home=os.environ.get("CARGO_HOME", f"{home}/.cargo"),
        )
        target = 'target = "tiny.tiny"\n'
        pyproject = (project.folder / "pyproject.toml").read_text()
        assert target in pyproject
        project.write("pyproject.toml", pyproject.replace(target, target + variables))
        return [
            bench.build(BUILD, project, host, CARGO=str(own.executable))
            for host in (bench.plain, bench.shimmed)
        ]

    def test_is_the_users_own_where_there_is_no_other(self, bench: Bench, own: RecordingCargo) -> None:
        rustc = bench.folder / "rustc"
        rustc.mkdir()
        (rustc / "rustc").symlink_to(shutil.which("rustc") or "")
        built = self.build(bench, own, [rustc])
        assert [bench.answer(it) for it in built] == ["42", "42"]
        calls = [call for call in own.take_calls() if call.compiles]
        half = len(calls) // 2
        assert [call.arguments for call in calls[:half]] == [call.arguments for call in calls[half:]] != []
        assert sorted(calls[0].environment) == sorted(calls[half].environment)

    def test_is_not_another_that_lies_on_its_path(self, bench: Bench, own: RecordingCargo) -> None:
        other = RecordingCargo(bench.folder / "other" / "cargo", real_cargo())
        self.build(bench, own, [other.executable.parent, Path(real_cargo()).parent])
        assert [call for call in own.take_calls() if call.compiles]
        assert not [call for call in other.take_calls() if call.compiles]
