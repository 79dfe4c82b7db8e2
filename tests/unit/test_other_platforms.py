"""What differs on Windows and macOS, as far as it is a function over names: neither was to be had."""

from __future__ import annotations

import contextlib
import io
import ntpath
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import distlib  # type: ignore[import-untyped]
import pytest
from distlib.scripts import ScriptMaker  # type: ignore[import-untyped]

from pyo3_envshim import _startup, cargo, environments, interpreters, layout, store
from pyo3_envshim.environments import PLACEHOLDER, normal_launcher

from .kit import Kit, read
from .making import ROOT, script, tree

THROWN_AWAY = r"C:\Users\Jo Doe\AppData\Local\Temp\build-env-a1b2c3d4"
ENTRY = r"C:\Users\Jo Doe\AppData\Local\pyo3-envshim\environments\0123"
BASE = r"C:\Python313\python.exe"


class TestTheNamesInAnEnvironment:
    @pytest.mark.parametrize(
        ("windows", "python", "site"),
        [
            (False, "/e/bin/python", "lib/python3.13/site-packages"),
            (True, r"/e\Scripts\python.exe", "Lib/site-packages"),
        ],
    )
    def test_are_those_of_sysconfigs_schemes(self, windows: bool, python: str, site: str) -> None:
        assert layout.interpreter("/e", windows) == python
        assert layout.site_packages("python3.13", windows) == site
        assert layout.scripts(windows) == layout.paths(windows).split(python)[0][3:]

    def test_are_case_insensitive_on_windows(self) -> None:
        assert layout.same_folder(r"C:\Temp\E", r"c:/temp/e\.", windows=True)
        assert not layout.same_folder("/Temp/E", "/temp/e", windows=False)

    @pytest.mark.parametrize("windows", [False, True])
    def test_no_folder_is_not_a_folder(self, windows: bool) -> None:
        assert not layout.same_folder("", "", windows)

    def test_a_script_folder_is_found_beside_site_packages(self) -> None:
        site = "C:/e/Lib/site-packages"
        assert _startup.script_folders(site, "C:/e/Scripts", windows=True)[0] == "C:/e/Scripts"

    def test_the_wrapper_has_an_ending_on_windows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = script(tmp_path / "Scripts" / "pyo3-envshim-cargo.exe", "")
        installed = tmp_path / "Lib" / "site-packages" / "pyo3_envshim" / "_startup.py"
        monkeypatch.setattr(_startup, "__file__", str(installed))
        assert _startup.wrapper(windows=True) == str(path)


class TestTheVariablesOfAServedCallOnWindows:
    def readdressed(self, **environ: str) -> dict[str, str]:
        return cargo.readdressed(environ, THROWN_AWAY, ENTRY, BASE, windows=True)

    def test_name_the_address_wherever_they_named_the_environment(self) -> None:
        found = self.readdressed(
            PYO3_PYTHON=rf"{THROWN_AWAY}\Scripts\python.exe",
            PYTHON_SYS_EXECUTABLE=rf"{THROWN_AWAY.upper()}\scripts\PYTHON.exe",
            VIRTUAL_ENV=THROWN_AWAY.replace("\\", "/"),
            PATH=rf"{THROWN_AWAY}\scripts\;C:\Windows;{THROWN_AWAY}\other",
        )
        assert found == {
            "PYO3_PYTHON": rf"{ENTRY}\Scripts\python.exe",
            "PYTHON_SYS_EXECUTABLE": rf"{ENTRY}\Scripts\python.exe",
            "VIRTUAL_ENV": ENTRY,
            "PATH": rf"{ENTRY}\Scripts;C:\Windows;{THROWN_AWAY}\other",
            "PYO3_BASE_PYTHON": BASE,
            "PYO3_ENVSHIM_BASE": BASE,
        }

    def test_stay_where_they_named_another(self) -> None:
        others = {
            "VIRTUAL_ENV": r"C:\mine",
            "PATH": "",
            "PYTHON_SYS_EXECUTABLE": r"C:\mine\Scripts\python.exe",
        }
        assert {name: self.readdressed(**others)[name] for name in others} == others

    def test_name_the_tokened_address_as_base_too(self) -> None:
        found = cargo.readdressed({}, THROWN_AWAY, ENTRY + "-abcd", BASE, windows=True)
        assert found["PYO3_BASE_PYTHON"] == found["PYO3_PYTHON"] == rf"{ENTRY}-abcd\Scripts\python.exe"


@pytest.mark.parametrize(
    ("value", "windows", "elsewhere"),
    [
        (None, "off", "on"),
        ("", "off", "on"),
        ("1", "off", "on"),
        (" On", "on", "on"),
        ("base", "base", "base"),
    ],
)
def test_it_has_to_be_asked_for_on_windows(value: str | None, windows: str, elsewhere: str) -> None:
    environ = {} if value is None else {"PYO3_ENVSHIM": value}
    assert _startup.mode(environ, windows=True) == windows
    assert _startup.mode(environ, windows=False) == elsewhere


@pytest.mark.parametrize("own", ["cargo", "Cargo.EXE", "other"])
def test_a_program_is_looked_for_with_its_ending_on_windows(own: str, tmp_path: Path) -> None:
    name = own if own.endswith("EXE") else own + ".exe"
    script(tmp_path / name, "")
    script(tmp_path / "cargo", "")
    environ = {"PATH": str(tmp_path), "CARGO": own}
    assert cargo.find_cargo(environ, environ, windows=True) == str(tmp_path / name)


@contextlib.contextmanager
def keeping_sigint() -> Iterator[None]:
    """Undo what waiting does to this process."""
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
            assert cargo.run_and_wait(str(program), ["build"], {"A": "b"}) == status

    def test_leaves_an_interruption_to_cargo(self, tmp_path: Path) -> None:
        """Both are of one group, as at a console: cargo ends as it likes, and its status is ours."""
        program = script(tmp_path / "cargo", "#!/bin/sh\ntrap 'exit 7' INT\nkill -INT 0\nexit 1\n")
        wait = f"cargo.run_and_wait({str(program)!r}, [], {{}})"
        code = f"import sys; from pyo3_envshim import cargo; sys.exit({wait})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, start_new_session=True)
        assert (done.returncode, done.stderr) == (7, b"")

    def test_is_what_windows_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "WINDOWS", True)
        with keeping_sigint():
            assert cargo.run("/bin/sh", ["-c", "exit $STATUS"], {"STATUS": "3"}) == 3


def launcher(folder: Path, executable: str, date: str = "1700000000") -> bytes:
    """Return what pip writes for an entry point on Windows: with distlib's own program and archive."""
    maker = ScriptMaker(None, str(folder), add_launchers=True)
    # what distlib does where os.name is nt, with a path that has a space
    maker._is_nt = True
    maker._get_launcher = lambda kind: Path(distlib.__file__).with_name(f"{kind}64.exe").read_bytes()
    maker._get_shebang = lambda encoding, post=b"", options=None: f'#!"{executable}"\n'.encode(encoding)
    maker.variants = {""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", date)
        (path,) = maker.make("hello = tiny:main")
    return Path(path).read_bytes()


class TestALauncher:
    NAMES = (os.fsencode(THROWN_AWAY),)

    def normal(self, data: bytes, reference: str | None = "tiny:main") -> bytes | None:
        return normal_launcher(data, self.NAMES, reference)

    def test_is_one_whoever_installed_it_when_and_where(self, tmp_path: Path) -> None:
        one = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        other = launcher(tmp_path, rf"{ENTRY}\Scripts\python.exe", date="1800000000")
        found = self.normal(one)
        assert found is not None
        assert found == normal_launcher(other, [os.fsencode(ENTRY)], "tiny:main")
        assert os.fsencode(THROWN_AWAY) not in found

    def test_starts_the_entry_point_with_the_entrys_interpreter(self, tmp_path: Path) -> None:
        original = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        found = self.normal(original)
        assert found is not None
        placed = found.replace(PLACEHOLDER, os.fsencode(ENTRY))
        program, line, archive = placed.partition(os.fsencode(f'#!"{ENTRY}\\Scripts\\python.exe"\n'))
        assert original.startswith(program)
        assert line
        assert (
            zipfile.ZipFile(io.BytesIO(archive))
            .read("__main__.py")
            .startswith(b"import sys\nfrom tiny import main\n")
        )

    def test_is_not_known_where_anything_differs(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        assert self.normal(good, reference=None) is None
        assert self.normal(good, reference="tiny:other") is None
        assert normal_launcher(good, [b"C:\\other"], "tiny:main") is None
        assert self.normal(os.fsencode(THROWN_AWAY) + good) is None
        assert self.normal(launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\other.exe")) is None
        assert self.normal(b"MZ" + os.fsencode(THROWN_AWAY) + b"UVSC") is None
        assert self.normal(b"") is None
        for size in range(len(good) - 400, len(good), 7):
            assert self.normal(good[:size]) is None

    def test_may_lie_on_any_drive(self, tmp_path: Path) -> None:
        data = launcher(tmp_path, r"X:\build-env-a1\Scripts\python.exe")
        assert normal_launcher(data, [rb"X:\build-env-a1"], "tiny:main") is not None

    def test_may_have_the_line_ends_of_windows_in_its_wrapper(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        start = good.rindex(b"PK\3\4")
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            text = archive.read("__main__.py")
        anew = io.BytesIO()
        with zipfile.ZipFile(anew, "w") as archive:
            archive.writestr("__main__.py", text.replace(b"\n", b"\r\n"))
        found = self.normal(good[:start] + anew.getvalue())
        assert found is not None
        assert found == self.normal(good)

    def test_may_have_a_program_with_the_mark_of_an_archive_in_it(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        assert self.normal(b"MZ PK\3\4 " + good) is not None

    def test_with_another_member_is_not_known(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{THROWN_AWAY}\Scripts\python.exe")
        archive = io.BytesIO(good)
        with zipfile.ZipFile(archive, "a") as members:
            members.writestr("other.py", "")
        assert self.normal(archive.getvalue()) is None

    @pytest.mark.parametrize("name", ["python.exe", "Python.EXE"])
    def test_names_its_interpreter_in_any_case(self, name: str, tmp_path: Path) -> None:
        assert self.normal(launcher(tmp_path, rf"{THROWN_AWAY.lower()}\scripts\{name}")) is not None


class TestTheBaseInterpreter:
    def test_is_its_executable_libraries_and_version_on_windows(self, tmp_path: Path) -> None:
        for name in (
            "python.exe",
            "python3.dll",
            "Python313.dll",
            "vcruntime140.dll",
            "include/patchlevel.h",
            "include/Python.h",
            "NEWS.txt",
        ):
            script(tmp_path / name, "")
        found = interpreters.parts_of(str(tmp_path / "python.exe"), "", windows=True)
        assert found is not None
        names = [os.path.relpath(path, tmp_path) for path in found]
        assert names == ["python.exe", "Python313.dll", "python3.dll", "include/patchlevel.h"]

    def test_is_in_doubt_where_only_its_executable_is_found(self, tmp_path: Path) -> None:
        script(tmp_path / "python.exe", "")
        assert interpreters.parts_of(str(tmp_path / "python.exe"), "", windows=True) is None
        script(tmp_path / "python3.dll", "")
        assert interpreters.parts_of(str(tmp_path / "python.exe"), "", windows=True) is not None

    def test_is_its_library_and_program_in_a_framework(self, tmp_path: Path) -> None:
        """As Homebrew and python.org install it: the name in ``bin`` is a link, or a stub."""
        version = tmp_path / "Python.framework" / "Versions" / "3.13"
        app = "Resources/Python.app/Contents/MacOS/Python"
        parts = ["bin/python3.13", "Python", app, "include/python3.13/patchlevel.h"]
        parts += ["lib/python3.13/_sysconfigdata__darwin_darwin.py"]
        for name in (*parts, "Headers"):
            script(version / name, "")
        (tmp_path / "opt" / "bin").mkdir(parents=True)
        (tmp_path / "opt" / "bin" / "python3.13").symlink_to(version / "bin" / "python3.13")
        found = interpreters.parts_of(str(tmp_path / "opt" / "bin" / "python3.13"), "python3.13")
        assert found == [str(version / name) for name in parts]


@pytest.mark.parametrize(
    ("platform", "maxsize", "there"),
    [("linux", 2**63 - 1, True), ("linux", 2**31 - 1, False), ("darwin", 2**63 - 1, False)],
)
def test_a_second_name_of_lib_is_made_where_venv_makes_it(
    platform: str, maxsize: int, there: bool, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = kit.environment()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    found = read(root)
    monkeypatch.undo()
    assert ("lib64" in [item.path for item in found.items]) is there


def test_a_record_of_windows_names_its_scripts_like_another() -> None:
    record = b"tiny.py,sha256=x,1\n..\\..\\Scripts\\hello.exe,sha256=y,2\n"
    found = environments.normal_record(record, "Lib/site-packages", {"Scripts/hello.exe"})
    assert found == b"../../Scripts/hello.exe,,\ntiny.py,sha256=x,1\n"


def test_the_flavours_know_their_own_separators() -> None:
    assert layout.paths(True) is ntpath
    assert layout.paths(False) is os.path


class TestASecondNameOnWindows:
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
        found = store.Store(str(tmp_path / "cache"))
        script(Path(found.address("0123"), "Scripts", "python.exe"), "MZ")
        Path(found.address("0123"), "link").symlink_to("Scripts")
        monkeypatch.setattr(layout, "WINDOWS", True)
        return found

    def test_is_a_folder_of_the_same_files(self, place: store.Store) -> None:
        for _ in range(2):
            place.alias("0123", "abcd")
        one, other = (Path(place.address("0123", token)) for token in ("", "abcd"))
        assert (one / "Scripts" / "python.exe").samefile(other / "Scripts" / "python.exe")
        assert not other.is_symlink()
        assert tree(one) == tree(other)
        assert sorted(os.listdir(place.environments)) == ["0123", "0123-abcd"]

    def test_of_what_is_not_there_is_an_error_and_leaves_nothing(self, place: store.Store) -> None:
        with pytest.raises(OSError, match="4567"):
            place.alias("4567", "abcd")
        assert os.listdir(place.environments) == ["0123"]

    @pytest.mark.parametrize("answer", [False, True])
    def test_has_a_lock_that_answers_as_it_was_told(self, answer: bool, place: store.Store) -> None:
        for wait in (False, True):
            with store.Lock(place.root, exclusive=True, without=answer, wait=wait) as had:
                assert had is answer
