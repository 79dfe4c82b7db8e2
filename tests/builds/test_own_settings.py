"""Who tells PyO3 or cargo what to build for gets exactly that: nothing differs with the shim."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from support.front_ends import BUILD, UV_BUILD, FrontEnd, Host
from support.interpreters import base_interpreter
from support.sample_crates import MATURIN, NEWEST, SETUPTOOLS_RUST, BackEnd, PyO3

from .workshop import Bench, normalised

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_ABI3 = PyO3(features=("abi3-py39",))
_PYO3_CONFIG = f"""\
implementation=CPython
version={_VERSION}
shared=false
abi3=false
executable={base_interpreter()}
pointer_width=64
suppress_build_script_link_lines=false
"""


def _triple() -> str:
    """Return the triple that rustc builds for here."""
    return subprocess.check_output(["rustc", "--print", "host-tuple"], text=True).strip()


@dataclass(frozen=True)
class _Settings:
    """Variables that a user sets for a build; `{folder}`, `{lib}` and `{triple}` are filled in."""

    name: str
    variables: Mapping[str, str]
    pyo3: PyO3 = NEWEST
    builds: bool = True

    def filled_in(self, **places: str) -> dict[str, str]:
        """Return the variables for these places."""
        return {name: value.format(**places) for name, value in self.variables.items()}


_CROSS = {"PYO3_CROSS_LIB_DIR": "{lib}", "PYO3_CROSS_PYTHON_VERSION": _VERSION}
_SETTINGS = (
    _Settings("config-file", {"PYO3_CONFIG_FILE": "{folder}/pyo3.config"}),
    # maturin writes one of its own to a folder of this name
    _Settings("config-file-in-maturin", {"PYO3_CONFIG_FILE": "{folder}/maturin/pyo3.config"}),
    _Settings("no-config-file", {"PYO3_CONFIG_FILE": "{folder}/not-there"}, builds=False),
    _Settings("no-python", {"PYO3_NO_PYTHON": "1"}, _ABI3),
    _Settings("no-python-without-abi3", {"PYO3_NO_PYTHON": "1"}, builds=False),
    _Settings("cross", {"PYO3_CROSS": "1", **_CROSS}),
    _Settings("cross-by-folder", _CROSS),
    _Settings("target", {"CARGO_BUILD_TARGET": "{triple}"}),
)
_BUILDS = ((BUILD, MATURIN), (BUILD, SETUPTOOLS_RUST), (UV_BUILD, MATURIN))


def _outcome(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd, host: Host, settings: _Settings
) -> tuple[bool, list[dict[str, str]]]:
    """Build; return whether that succeeded, and the variables of each cargo that compiles."""
    # Equal in number, so that both environments lie alike.
    also = "pyo3-envshim" if host.shimmed else "platformdirs"
    name = "with" if host.shimmed else "without"
    project = bench.project(back_end, name=name, pyo3=settings.pyo3, also_requires=(also,))
    for folder in (bench.folder, bench.folder / "maturin"):
        folder.mkdir(exist_ok=True)
        (folder / "pyo3.config").write_text(_PYO3_CONFIG)
    places = {"folder": str(bench.folder), "lib": sysconfig.get_path("stdlib"), "triple": _triple()}
    bench.variables = settings.filled_in(**places)
    try:
        built = bench.build(front_end, project, host)
    except AssertionError:
        calls, succeeded = bench.cargo.take_calls(), False
    else:
        calls, succeeded = built.calls, bench.answer(built) == "42"
    names = {str(host.folder): "<host>", str(project.folder): "<project>"}
    return succeeded, [normalised(call.environment, names) for call in calls if call.compiles]


@pytest.mark.parametrize(("front_end", "back_end"), _BUILDS, ids=lambda it: it.name)
@pytest.mark.parametrize("settings", _SETTINGS, ids=lambda it: it.name)
def test_with_a_setting_of_the_user_nothing_differs(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd, settings: _Settings
) -> None:
    succeeded, without = _outcome(bench, front_end, back_end, bench.plain, settings)
    alike, with_it = _outcome(bench, front_end, back_end, bench.shimmed, settings)
    assert len(with_it) == len(without)
    for one, other in zip(without, with_it):
        assert sorted(one.items() ^ other.items()) == []
    assert succeeded == alike == settings.builds
    assert bench.entries == []
