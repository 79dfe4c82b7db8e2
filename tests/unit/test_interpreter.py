"""An environment's base interpreter and its parts, in real environments and in broken ones."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.environment import interpreter, layout

from .environments import Shared, make_environment, program_in, run, script

IDENTITY = "import sys; print(sys.version, sys.base_prefix, sep='\\n')"


@pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
@pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
def test_the_base_is_the_interpreter_outside_of_any_environment(
    shared: Shared, python: str, maker: str, nested: bool, environ: dict[str, str]
) -> None:
    root = shared.environment(python, maker, nested)
    base = interpreter.base_of(str(root))
    assert base is not None
    assert not any((above / "pyvenv.cfg").exists() for above in Path(base).parents[:2])
    assert os.path.realpath(base) == python
    inside = program_in(root, "python")
    assert run([base, "-c", IDENTITY], environ) == run([inside, "-c", IDENTITY], environ)


def test_every_maker_leads_to_the_same_name_of_the_base(shared: Shared, python: str) -> None:
    bases = {interpreter.base_of(str(shared.environment(python, m))) for m in ("venv", "virtualenv", "uv")}
    assert len(bases) == 1


@pytest.mark.parametrize("name", ["python", "python3", "{0}"])
def test_the_base_has_its_own_name_whatever_the_environment_calls_it(
    name: str, a_python: str, tmp_path: Path
) -> None:
    called = Path(a_python).with_name(name.format(os.path.basename(a_python)))
    if os.path.realpath(called) != a_python:
        pytest.skip(f"{called} is not {a_python}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(called)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {called.parent}\n")
    assert interpreter.base_of(str(tmp_path)) == a_python
    (tmp_path / "bin" / "python").unlink()
    shutil.copy(a_python, tmp_path / "bin" / "python")
    (tmp_path / "pyvenv.cfg").write_text(f"home = {called.parent}\nbase-executable = {called}\n")
    assert interpreter.base_of(str(tmp_path)) == a_python


def test_the_base_keeps_the_name_it_is_called_by_where_its_own_is_not_beside_it(
    a_python: str, tmp_path: Path
) -> None:
    base = tmp_path / "base" / "bin" / "python"
    for link, target in ((base, a_python), (tmp_path / "environment" / "bin" / "python", str(base))):
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
    (tmp_path / "environment" / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    assert interpreter.base_of(str(tmp_path / "environment")) == str(base)


@pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
def test_the_base_lies_where_the_environment_says_it_does(
    maker: str, python: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    """`sys.base_prefix` keeps the link behind which Homebrew's and others' interpreters lie."""
    (tmp_path / "current").symlink_to(Path(python).parents[1])
    given = tmp_path / "current" / "bin" / os.path.basename(python)
    root = make_environment(maker, given, tmp_path / "environment", environ)
    code = "import sys; print(sys.base_prefix)"
    prefix = run([root / "bin" / "python", "-c", code], environ).strip()
    assert interpreter.base_of(str(root)) == os.path.join(prefix, "bin", os.path.basename(python))


class TestABrokenEnvironment:
    @pytest.mark.parametrize(
        "config",
        [
            b"",
            b"home",
            b"home = ",
            b"home = /not/there\n",
            b"home = bin\n",
            b"\xef\xbb\xbfhome = /usr/bin\n",
            b"\xff\xfeh\0o\0m\0e\0",
            b"home = /usr\0/bin\n",
            b"home = ../elsewhere\nexecutable = ../python\n",
        ],
    )
    def test_has_no_base_or_one_that_exists(self, config: bytes, tmp_path: Path) -> None:
        (tmp_path / "pyvenv.cfg").write_bytes(config)
        base = interpreter.base_of(str(tmp_path))
        assert base is None or (os.path.isabs(base) and os.path.isfile(base))

    @pytest.mark.parametrize("name", ["bin/python", "python"])
    def test_that_names_itself_has_no_base(self, name: str, tmp_path: Path) -> None:
        python = script(tmp_path / name, "")
        (tmp_path / "pyvenv.cfg").write_text(f"home = {python.parent}\nexecutable = {python}\n")
        assert interpreter.base_of(str(tmp_path)) is None

    def test_that_names_one_that_names_it_has_no_base(self, tmp_path: Path) -> None:
        for name, other in (("one", "two"), ("two", "one")):
            (tmp_path / name / "bin").mkdir(parents=True)
            (tmp_path / name / "bin" / "python").touch()
            (tmp_path / name / "pyvenv.cfg").write_text(f"home = {tmp_path}/{other}/bin\n")
        assert interpreter.base_of(str(tmp_path / "one")) is None

    def test_whose_configuration_is_a_folder_has_no_base(self, tmp_path: Path) -> None:
        (tmp_path / "pyvenv.cfg").mkdir()
        assert interpreter.base_of(str(tmp_path)) is None

    def test_that_is_not_there_has_no_base(self, tmp_path: Path) -> None:
        assert interpreter.base_of(str(tmp_path / "gone")) is None

    def test_whose_base_is_gone_has_no_base(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to("/gone/bin/python3.11")
        (tmp_path / "pyvenv.cfg").write_text("home = /gone/bin\nexecutable = /gone/bin/python3.11\n")
        assert interpreter.base_of(str(tmp_path)) is None


class TestTheEnvironmentOfAnInterpreter:
    def test_is_found_by_each_of_its_names(self, shared: Shared, a_python: str) -> None:
        root = shared.environment(a_python)
        for name in ("python", "python3", os.path.basename(a_python)):
            assert interpreter.environment_of(str(root / "bin" / name)) == str(root)

    def test_is_found_through_a_link_by_the_name_it_was_called(
        self, shared: Shared, a_python: str, tmp_path: Path
    ) -> None:
        """Its scripts contain that path (a linked ``TMPDIR``; macOS: ``/tmp``)."""
        (tmp_path / "link").symlink_to(shared.environment(a_python))
        assert interpreter.environment_of(f"{tmp_path}/link/bin/python") == f"{tmp_path}/link"

    def test_is_the_inner_one_of_nested_environments(self, shared: Shared, a_python: str) -> None:
        root = shared.environment(a_python, "venv", nested=True)
        assert interpreter.environment_of(str(root / "bin" / "python")) == str(root)

    def test_of_a_base_interpreter_is_none(self, a_python: str) -> None:
        assert interpreter.environment_of(a_python) is None

    @pytest.mark.parametrize(
        "value", ["", "python", "bin/python", "./bin/python", "bin", "{root}", "{root}/bin"]
    )
    def test_of_anything_else_is_none(
        self, shared: Shared, a_python: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = shared.environment(a_python)
        monkeypatch.chdir(root)
        assert interpreter.environment_of(value.format(root=root)) is None

    def test_of_a_program_that_is_not_there_is_none(self, shared: Shared, a_python: str) -> None:
        assert interpreter.environment_of(str(shared.environment(a_python) / "bin" / "python9")) is None

    def test_of_what_cannot_be_run_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "pyvenv.cfg").touch()
        (tmp_path / "bin" / "folder").mkdir(parents=True)
        (tmp_path / "bin" / "text").touch(0o644)
        for name in ("folder", "text"):
            assert interpreter.environment_of(str(tmp_path / "bin" / name)) is None


class TestThePartsOfAnInterpreter:
    def test_are_its_executable_its_build_data_and_its_version(
        self, python: str, environ: dict[str, str]
    ) -> None:
        parts = interpreter.parts_of(python, os.path.basename(python))
        assert parts is not None
        assert parts[0] == python
        code = "import sysconfig; print(sysconfig._get_sysconfigdata_name())"
        data = run([python, "-c", code], environ).strip()
        assert any(os.path.basename(part) == f"{data}.py" for part in parts)
        assert any(os.path.basename(part) == "patchlevel.h" for part in parts)
        assert all(os.path.isabs(part) and os.path.isfile(part) for part in parts)

    def test_are_its_shared_library_where_the_executable_needs_one(self, python: str) -> None:
        needed = subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout
        libraries = [line.split("=>")[1].split()[0] for line in needed.splitlines() if "libpython" in line]
        parts = interpreter.parts_of(python, os.path.basename(python)) or []
        assert {os.path.realpath(library) for library in libraries} <= {
            os.path.realpath(part) for part in parts
        }

    def test_are_the_same_in_the_same_order_each_time(self, python: str) -> None:
        found = [interpreter.parts_of(python, os.path.basename(python)) for _ in range(3)]
        assert found[0] == found[1] == found[2]

    def test_are_unknown_where_there_is_nothing_but_an_executable(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        python = tmp_path / "bin" / "python3.11"
        python.touch()
        assert interpreter.parts_of(str(python), "python3.11") is None

    @pytest.mark.parametrize("platform_library", ["lib", "lib64"])
    @pytest.mark.parametrize("folder", ["lib", "lib64", "bin"])
    @pytest.mark.parametrize("library", ["libpython3.13.so.1.0", "libpython3.13.dylib"])
    def test_are_all_that_decide_and_no_others(
        self, platform_library: str, folder: str, library: str, tmp_path: Path
    ) -> None:
        data = f"{platform_library}/python3.13/_sysconfigdata__linux_.py"
        parts = ["bin/python3.13", f"{folder}/{library}", "include/python3.13/patchlevel.h", data]
        others = ["bin/pip", f"{folder}/libpython3.13.a", f"{folder}/libother.so", f"{data}.orig"]
        others += [f"{platform_library}/python3.13/os.py", "include/python3.13/Python.h"]
        for name in (*parts, *others):
            script(tmp_path / name, "")
        (tmp_path / platform_library / "python3.13" / "_sysconfigdata_.py").mkdir()
        found = interpreter.parts_of(str(tmp_path / "bin" / "python3.13"), "python3.13")
        assert found == [str(tmp_path / name) for name in parts]


class TestTheStateOfAnInterpreter:
    @pytest.mark.parametrize("lib", ["lib", "lib64"])
    @pytest.mark.parametrize("name", ["bin/python3.11", "{}/python3.11/_sysconfigdata_x.py"])
    def test_is_another_when_it_was_built_anew_or_is_another_one(
        self, tmp_path: Path, name: str, lib: str
    ) -> None:
        name = name.format(lib)
        for file in ("bin/python3.11", f"{lib}/python3.11/_sysconfigdata_x.py", f"{lib}/python3.11/os.py"):
            script(tmp_path / file, "")
        python = str(tmp_path / "bin" / "python3.11")
        if os.name == "nt":
            (tmp_path / "bin" / "python311.dll").write_text("")
            (tmp_path / "bin" / "include").mkdir()
            name = name.replace(f"{lib}/python3.11/_sysconfigdata_x.py", "bin/python311.dll")
        else:
            (tmp_path / "bin" / "python3").symlink_to("python3.11")
            python = str(tmp_path / "bin" / "python3")
        before = interpreter.state_of(python)
        (tmp_path / lib / "python3.11" / "os.py").write_text("edited")
        assert interpreter.state_of(python) == before
        (tmp_path / name).write_text("built anew")
        assert interpreter.state_of(python) != before

    def test_of_an_environment_is_its_bases(self, shared: Shared, a_python: str) -> None:
        inside = layout.interpreter(str(shared.environment(a_python, "venv")))
        assert interpreter.state_of(inside) == interpreter.state_of(a_python)

    def test_of_a_copy_in_an_environment_is_its_bases(self, a_python: str, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        shutil.copy(a_python, tmp_path / "bin" / "python")
        (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(a_python).parent}\nexecutable = {a_python}\n")
        assert interpreter.state_of(str(tmp_path / "bin" / "python")) == interpreter.state_of(a_python)

    def test_is_that_of_its_libraries_too_on_windows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        python, library = script(tmp_path / "python.exe", ""), script(tmp_path / "python313.dll", "")
        monkeypatch.setattr(interpreter, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        on_windows = functools.partial(interpreter.parts_of, windows=True)
        monkeypatch.setattr(interpreter, "parts_of", on_windows)
        before = interpreter.state_of(str(python))
        library.write_text("built anew")
        assert interpreter.state_of(str(python)) != before

    @pytest.mark.parametrize(
        "name", ["python", "bin/python", "shims/python", "shims/python.bat", "shims/Python.CMD"]
    )
    def test_is_not_known_of_a_name_of_nothing_and_of_a_script(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(tmp_path / "python", "")
        monkeypatch.chdir(tmp_path)
        script(tmp_path / "shims" / "python", "#!/bin/sh\n")
        for ending in ("python.bat", "Python.CMD"):
            script(tmp_path / "shims" / ending, "@echo off\n")
        path = str(tmp_path / name) if "/" in name else name
        assert interpreter.state_of(path) == ""

    def test_is_not_known_where_it_cannot_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Microsoft Store's Python is started by an alias, which is no file that can be opened."""
        python = script(tmp_path / "python.exe", "")

        def refuse(*_: object) -> None:
            raise OSError(errno.EINVAL, "The file cannot be accessed by the system")

        monkeypatch.setattr(interpreter, "open", refuse, raising=False)
        assert interpreter.state_of(str(python)) == ""


def test_no_interpreter_is_started(shared: Shared, a_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(shared.environment(a_python))

    def refuse(event: str, _: object) -> None:
        if watching and event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.system"):
            raise AssertionError(event)

    watching = True
    sys.addaudithook(refuse)
    try:
        base = interpreter.base_of(root)
        assert base is not None
        assert interpreter.parts_of(base, os.path.basename(a_python))
    finally:
        watching = False


class TestThePartsOnOtherPlatforms:
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
        found = interpreter.parts_of(str(tmp_path / "python.exe"), "", windows=True)
        assert found is not None
        names = [os.path.relpath(path, tmp_path) for path in found]
        assert names == ["python.exe", "Python313.dll", "python3.dll", "include/patchlevel.h"]

    def test_is_in_doubt_where_only_its_executable_is_found(self, tmp_path: Path) -> None:
        script(tmp_path / "python.exe", "")
        assert interpreter.parts_of(str(tmp_path / "python.exe"), "", windows=True) is None
        script(tmp_path / "python3.dll", "")
        assert interpreter.parts_of(str(tmp_path / "python.exe"), "", windows=True) is not None

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
        found = interpreter.parts_of(str(tmp_path / "opt" / "bin" / "python3.13"), "python3.13")
        assert found == [str(version / name) for name in parts]
