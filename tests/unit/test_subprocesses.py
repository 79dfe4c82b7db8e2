"""Programs that run, as others see them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim import subprocesses


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what is running")
def test_a_program_runs_until_it_ends(tmp_path: Path) -> None:
    cat = shutil.copy(shutil.which("cat") or sys.executable, tmp_path / "cat")
    others = [str(tmp_path / "gone"), __file__]
    with subprocess.Popen([cat], stdin=subprocess.PIPE) as process:
        assert subprocesses.running([*others, str(cat)]) == f"/proc/{process.pid}/exe"
        assert subprocesses.running(others) is None
        process.communicate()
    assert subprocesses.running([str(cat)]) is None
