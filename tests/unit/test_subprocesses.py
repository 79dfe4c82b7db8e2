"""Programs that run, as others see them; and one in the middle of a chain."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import subprocesses

from .environments import ROOT, script


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what is running")
def test_a_program_runs_until_it_ends(tmp_path: Path) -> None:
    cat = shutil.copy(shutil.which("cat") or sys.executable, tmp_path / "cat")
    others = [str(tmp_path / "gone"), __file__]
    with subprocess.Popen([cat], stdin=subprocess.PIPE) as process:
        assert subprocesses.running([*others, str(cat)]) == f"/proc/{process.pid}/exe"
        assert subprocesses.running(others) is None
        process.communicate()
    assert subprocesses.running([str(cat)]) is None


def test_nothing_runs_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert subprocesses.running([sys.executable]) is None


@pytest.mark.parametrize(
    ("status", "taken"), [(0, 0), (101, 101), ((1 << 31) - 1, (1 << 31) - 1), (0xC0000005, -0x3FFFFFFB)]
)
def test_a_status_of_windows_has_no_sign(status: int, taken: int) -> None:
    assert subprocesses.as_status(status) == taken
    assert subprocesses.as_status(1 << 31) == -(1 << 31)


@pytest.mark.skipif(os.name == "nt", reason="about POSIX: signals")
def test_a_program_gets_its_variables_and_streams(tmp_path: Path) -> None:
    signals = signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP
    before = {number: signal.getsignal(number) for number in signals}
    try:
        process = subprocesses.started(
            ["/bin/sh", "-c", 'echo "$A"; echo error >&2'],
            {"A": "b"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            in_child=(tmp_path / "first").touch,
        )
        assert process.communicate() == (b"b\n", b"error\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (tmp_path / "first").exists()


class TestOnWindows:
    """By its rules, here."""

    @pytest.fixture(autouse=True)
    def system(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        found = SimpleNamespace(**{**vars(os), "name": "nt"})
        monkeypatch.setattr(subprocesses, "os", found)
        return found

    def test_nobody_can_write_to_a_program_that_runs(self, system: SimpleNamespace, tmp_path: Path) -> None:
        def opened(path: str, how: int) -> int:
            if path.endswith("runs.exe") and how == os.O_RDWR:
                raise PermissionError
            return os.open(path, how)

        system.open = opened
        paths = [str(tmp_path / name) for name in ("folder", "gone.exe", "ended.exe", "runs.exe")]
        (tmp_path / "folder").mkdir()
        for path in paths[2:]:
            Path(path).touch()
        can_count = os.name != "nt" and os.path.isdir("/proc/self/fd")  # Wine shows what is its own
        before = os.listdir("/proc/self/fd") if can_count else []
        assert subprocesses.running(paths) == paths[3]
        assert subprocesses.running(paths[:3]) is None
        assert (os.listdir("/proc/self/fd") if before else []) == before

    def test_a_program_ends_with_this_one_and_what_it_leaves_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[object] = []

        def end_together(process: object) -> str:
            done.append(process)
            return "job"

        def wait() -> int:
            done.append("ended")
            return 0xC0000005

        bound = SimpleNamespace(end_together=end_together, let_live=done.append)
        monkeypatch.setitem(sys.modules, "pyo3_envshim.windows", bound)
        process = SimpleNamespace(wait=wait)
        assert subprocesses.ended(process) == -0x3FFFFFFB  # type: ignore[arg-type]
        assert done == [process, "ended", "job"]

    def test_it_is_bound_soon_and_has_an_interruption_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[object] = []
        monkeypatch.setattr(subprocesses, "_windows", lambda: done.append("ready"))
        monkeypatch.setattr(signal, "signal", lambda number, _: done.append(number))
        monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
        monkeypatch.setattr(subprocess, "Popen", lambda _, **how: done.append(how["preexec_fn"]))
        subprocesses.started(["cargo"], {}, in_child=sys.exit)
        assert done == ["ready", signal.SIGINT, None]

    @pytest.mark.parametrize("status", [0, 3, -0x3FFFFFFB])
    def test_there_are_no_signals_to_end_by(self, status: int) -> None:
        assert subprocesses.end_as(status) == status


WAITS = """\
import sys
from pyo3_envshim import subprocesses as it
sys.exit(it.end_as(it.ended(it.started(sys.argv[1:], None))))
"""


def blocking(folder: Path, name: str, code: str) -> Path:
    """Write a program that blocks a signal, so that none is lost, and runs *code*."""
    text = f"#!{sys.executable}\nimport signal, sys\n"
    text += f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}])\n"
    return script(folder / "waits", f"{text}print('here', flush=True)\n{code}\nprint('received')\n")


@pytest.mark.skipif(os.name == "nt", reason="about POSIX: signals")
class TestSignals:
    def waiting(self, program: Path, *ignored: signal.Signals) -> subprocess.Popen[str]:
        """Start a process that waits for *program*; return it when that has said that it is there."""

        def prepare() -> None:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)  # the tests may run in the background
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        command, pipe = [sys.executable, "-c", WAITS, str(program)], subprocess.PIPE
        found = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, preexec_fn=prepare)
        assert found.stdout is not None
        assert found.stdout.readline() == "here\n"
        return found

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_meant_for_the_one_reach_the_other(self, name: str, tmp_path: Path) -> None:
        with self.waiting(blocking(tmp_path, name, f"signal.sigwait([signal.{name}])")) as process:
            process.send_signal(getattr(signal, name))
            assert process.communicate()[0] == "received\n"
        assert process.returncode == 0

    @pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
    def test_of_a_terminal_have_reached_it(self, name: str, tmp_path: Path) -> None:
        waits = "if sys.stdin.readline() and not signal.sigpending(): sys.exit(7)"
        with self.waiting(blocking(tmp_path, name, waits)) as process:
            process.send_signal(getattr(signal, name))
            process.communicate("\n")
        assert process.returncode == 7

    def test_that_were_ignored_stay_ignored(self, tmp_path: Path) -> None:
        """As nohup has it."""
        with self.waiting(
            script(tmp_path / "waits", "#!/bin/sh\necho here\nread line\n"), signal.SIGHUP
        ) as process:
            process.send_signal(signal.SIGHUP)
            process.communicate("\n")
        assert process.returncode == 0

    @pytest.mark.parametrize("name", ["TERM", "KILL", "USR1"])
    def test_end_this_one_as_they_have_ended_the_other(self, name: str, tmp_path: Path) -> None:
        program = script(tmp_path / "ends", f"#!/bin/sh\necho here\nkill -{name} $$\n")
        with self.waiting(program) as process:
            process.communicate()
        assert process.returncode == -getattr(signal, f"SIG{name}")
