"""What differs on Windows, as far as functions show it: no Windows was available."""

from __future__ import annotations

import contextlib
import functools
import ntpath
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import call, shelf, subprocesses, wrapper
from pyo3_envshim.cargo.command_line import find_cargo
from pyo3_envshim.environment import layout
from pyo3_envshim.store.store import Store, seen_by_others

from .environments import IN_A_BUILD, ROOT, script

EPHEMERAL = r"C:\Users\Jo Doe\AppData\Local\Temp\build-env-a1b2c3d4"
ENTRY = r"C:\Users\Jo Doe\AppData\Local\pyo3-envshim\environments\0123"
BASE = r"C:\Python313\python.exe"


class TestTheRedirectedVariablesOnWindows:
    def redirect(self, **environ: str) -> dict[str, str]:
        return wrapper.redirect(environ, EPHEMERAL, ENTRY, BASE, windows=True)

    def test_name_the_entry_wherever_they_named_the_environment(self) -> None:
        found = self.redirect(
            PYO3_PYTHON=rf"{EPHEMERAL}\Scripts\python.exe",
            PYTHON_SYS_EXECUTABLE=rf"{EPHEMERAL.upper()}\scripts\PYTHON.exe",
            VIRTUAL_ENV=EPHEMERAL.replace("\\", "/"),
            PATH=rf"{EPHEMERAL}\scripts\;C:\Windows;{EPHEMERAL}\other",
        )
        assert found == {
            "PYO3_PYTHON": rf"{ENTRY}\Scripts\python.exe",
            "PYTHON_SYS_EXECUTABLE": rf"{ENTRY}\Scripts\python.exe",
            "VIRTUAL_ENV": ENTRY,
            "PATH": rf"{ENTRY}\Scripts;C:\Windows;{EPHEMERAL}\other",
            "PYO3_BASE_PYTHON": BASE,
            "PYO3_ENVSHIM_BASE": BASE,
        }

    def test_are_found_without_a_look_at_each_entry_of_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Windows may wait for a share that is gone, 20 seconds or more."""
        looked_at: list[str] = []
        real = ntpath.realpath

        def realpath(path: str) -> str:
            looked_at.append(path)
            return real(path)

        monkeypatch.setattr(ntpath, "realpath", realpath)
        self.redirect(PATH=rf"\\gone\share\bin;C:\Windows;{EPHEMERAL}\Scripts;Z:\tools")
        assert not [path for path in looked_at if not path.startswith(EPHEMERAL)]

    def test_stay_where_they_named_another(self) -> None:
        others = {
            "VIRTUAL_ENV": r"C:\mine",
            "PATH": "",
            "PYTHON_SYS_EXECUTABLE": r"C:\mine\Scripts\python.exe",
        }
        assert {name: self.redirect(**others)[name] for name in others} == others

    def test_stay_where_they_named_another_program_beside_it(self) -> None:
        """venv copies python_d.exe too, where the base has one (before 3.13)."""
        debug = rf"{EPHEMERAL}\Scripts\python_d.exe"
        assert self.redirect(PYTHON_SYS_EXECUTABLE=debug)["PYTHON_SYS_EXECUTABLE"] == debug


@pytest.mark.parametrize(
    "name", ["python.exe", "PYTHON.EXE", "python_d.exe", "pythonw.exe", "python3.13t.exe"]
)
def test_only_what_the_entry_has_as_its_interpreter_is_served_on_windows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a build for a debug Python would get the stored python.exe, and be for another."""
    root = tmp_path / "build-env-a1b2c3d4"
    python = script(root / "Scripts" / name, "")
    (root / "pyvenv.cfg").touch()
    root.chmod(0o700)
    environ = {**IN_A_BUILD, "PYO3_PYTHON": str(python), "TMPDIR": str(tmp_path)}
    monkeypatch.setattr(layout, "is_the_one", functools.partial(layout.is_the_one, windows=True))
    if name.lower() == "python.exe":
        assert wrapper.ephemeral_environment(environ) == str(root)
    else:
        with pytest.raises(call.PassThrough, match="may be another"):
            wrapper.ephemeral_environment(environ)


@pytest.mark.parametrize("own", ["cargo", "Cargo.EXE", "other"])
def test_a_program_is_looked_for_with_its_ending_on_windows(own: str, tmp_path: Path) -> None:
    name = own if own.endswith("EXE") else own + ".exe"
    script(tmp_path / name, "")
    script(tmp_path / "cargo", "")
    environ = {"PATH": str(tmp_path), "CARGO": own}
    assert find_cargo(environ, environ, windows=True) == str(tmp_path / name)


class TestACacheFolderThatOthersSeeElsewhere:
    """As Microsoft Store's Python has it: it writes to its package's folder, and cargo sees none of that."""

    LOCAL = r"C:\Users\me\AppData\Local"
    PACKAGE = rf"{LOCAL}\Packages\PythonSoftwareFoundation.Python.3.12_qbz5n2kfra8p0\LocalCache\Local"
    PROFILE = r"\config\systemprofile\AppData\Local"

    @pytest.mark.parametrize(
        ("path", "real", "moved"),
        [
            (LOCAL, PACKAGE, True),
            (LOCAL, LOCAL, False),
            (PACKAGE, PACKAGE.lower(), False),
            (rf"C:\Windows\system32{PROFILE}", rf"C:\Windows\SysWOW64{PROFILE}", True),
            (r"X:", r"C:\a folder with a short name", False),  # subst: shorter, which may be why
        ],
    )
    def test_is_used_by_the_name_that_they_know(self, path: str, real: str, moved: bool) -> None:
        path, real = rf"{path}\pyo3-envshim\Cache", rf"{real}\pyo3-envshim\Cache"
        assert seen_by_others(path, real) == (real if moved else path)

    def test_is_looked_at_when_it_is_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = tmp_path / "LocalCache" / "pyo3-envshim"
        place.mkdir(parents=True)
        (tmp_path / "Local").symlink_to("LocalCache")
        monkeypatch.setattr(layout, "WINDOWS", True)
        opened = Store.open({"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path / "Local" / "pyo3-envshim")})
        assert opened.root == str(place)


@pytest.mark.parametrize("value", ["python", "python.exe"])
def test_an_interpreter_that_is_named_without_its_ending_is_what_windows_starts(
    value: str, tmp_path: Path
) -> None:
    """pyenv-win has a script of that name, without an ending, in front of it."""
    script(tmp_path / "shims" / "python", "#!/bin/sh\n")
    python = script(tmp_path / "bin" / "python.exe", "")
    script(tmp_path / "bin" / "python", "")
    path = os.pathsep.join([str(tmp_path / "shims"), str(tmp_path / "bin")])
    assert shelf._interpreter(value, {"PATH": path}, windows=True)[0] == str(python)


@contextlib.contextmanager
def keeping_sigint() -> Iterator[None]:
    """Undo what waiting changes in this process."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class TestWaitingInsteadOfExec:
    @pytest.mark.parametrize("status", [0, 1, 101])
    def test_passes_the_exit_status_and_the_variables(self, status: int, tmp_path: Path) -> None:
        program = script(
            tmp_path / "cargo", f'#!/bin/sh\n[ "$1" = build ] && [ "$A" = b ] && exit {status}\n'
        )
        with keeping_sigint():
            assert subprocesses.run_and_wait(str(program), ["build"], {"A": "b"}) == status

    def test_leaves_an_interruption_to_cargo(self, tmp_path: Path) -> None:
        """Both are in one process group, as at a console; cargo decides how to end, with what status."""
        program = script(tmp_path / "cargo", "#!/bin/sh\ntrap 'exit 7' INT\nkill -INT 0\nexit 1\n")
        wait = f"subprocesses.run_and_wait({str(program)!r}, [], {{}})"
        code = f"import sys; from pyo3_envshim import subprocesses; sys.exit({wait})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, start_new_session=True)
        assert (done.returncode, done.stderr) == (7, b"")

    def test_is_what_windows_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(call, "os", SimpleNamespace(name="nt"))
        with keeping_sigint():
            assert call.run("/bin/sh", ["-c", "exit $STATUS"], {"STATUS": "3"}) == 3

    def test_takes_no_ctypes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """conda's Python may be unable to import it where nothing activated its environment."""
        monkeypatch.setitem(sys.modules, "pyo3_envshim.windows", None)
        program = script(tmp_path / "cargo", "#!/bin/sh\nexit 3\n")
        monkeypatch.setattr(subprocesses, "os", SimpleNamespace(name="nt"))
        with keeping_sigint():
            assert subprocesses.run_and_wait(str(program), [], {}) == 3
