"""Runs the unit tests, and this folder's, in the CPython for Windows of scripts/maintain/bring-windows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support import BROUGHT, CHECKOUT

SCRIPT = CHECKOUT / "scripts" / "maintain" / "bring-windows"
FOLDER = BROUGHT / "windows"
WHEELS = "argcomplete build coverage distlib filelock hatchling hypothesis packaging platformdirs pytest"
WHEELS += " pip pytest-xdist setuptools uv virtualenv"  # without -n: its workers do not start under Wine
# In a folder of the test's. The two run at once; the results say which tests failed.
# In real time, where that is allowed: a system call goes through two or three processes of Wine's, and beside
# tests that compile, each of them waits for its turn.
RUN = f"""set -e
chrt -r -p 1 $$ || true
wine /opt/python/python.exe -m venv --without-pip "$1/env"
python="$1/env/Scripts/python.exe"
# not its `pip`: it does not replace itself on Windows under a name that is a program's
PYTHONPATH="Z:$(echo /opt/wheels/pip-*.whl)" \\
    wine "$python" -m pip install -q --no-index --no-compile --find-links /opt/wheels {WHEELS}
run() {{
    wine "$python" -m pytest -q -p no:cacheprovider -o faulthandler_timeout=900 \\
        -o faulthandler_exit_on_timeout=true --basetemp "C:/pytest-$2" --junit-xml "$1/$2.xml" \\
        "tests/$2" || true
}}
run "$1" unit &
run "$1" windows
wait
"""


def small_environ() -> Mapping[str, str]:
    """Return what Wine needs; what Windows' programs get of PATH and HOME is its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture
def enter(tmp_path: Path) -> list[str]:
    """Return the beginning of a command that is to run inside, or skip the test."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root of a Linux can chroot into the folder with Wine")
    if not FOLDER.exists():
        pytest.skip(f"there is no {FOLDER}: scripts/maintain/bring-windows makes it")
    places = [word for place in (CHECKOUT, tmp_path) for word in ("--bind", str(place))]
    return [str(SCRIPT), "--enter", *places, str(FOLDER), "--"]


def test_all_tests_pass_in_a_python_for_windows(enter: list[str], tmp_path: Path) -> None:
    command = [*enter, "sh", "-c", RUN, "sh", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=small_environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    passed, failed = 0, []
    for name in ("unit", "windows"):
        report = tmp_path / f"{name}.xml"
        assert report.exists(), done.stdout + done.stderr
        for case in ElementTree.parse(report).iter("testcase"):
            outcome = case.find("failure") if case.find("error") is None else case.find("error")
            if outcome is not None:
                failed.append(f"{case.get('classname')}::{case.get('name')}\n{outcome.text}")
            elif case.find("skipped") is None:
                passed += 1
    assert not failed, "\n".join(failed)
    assert passed > 1000  # unit/posix.py names those that are left out
    print(passed, "tests passed")
