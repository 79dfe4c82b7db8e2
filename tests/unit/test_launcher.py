"""The script that starts the wrapper: when it is rewritten, and what cannot reach it then."""

from __future__ import annotations

import ast
import errno
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest
import uv

from pyo3_envshim import _startup, files, launcher
from pyo3_envshim.environment.item import NotStorable
from support.interpreters import interpreter

from .environments import (
    ROOT,
    VERSIONS,
    Shared,
    install,
    make_environment,
    run,
    script,
    site_packages,
    standard_input,
    started_together,
)
from .environments import wrapper as wrapper_of
from .sample_wheels import SampleWheels, read
from .test_wrapper import Bench, fine, warned

SECOND_LINE = "# Written by pyo3-envshim over the installer's script: "


class Installed:
    """An environment with the shim, as a front end's user has it."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.script = wrapper_of(root)
        self.environ = dict(environ)

    def run(self, *command: str | Path, **more: str) -> str:
        return run(command, {**self.environ, **more})

    def env(self, **more: str) -> bool:
        """Run `pyo3-envshim env`; tell whether the script starts Python isolated afterwards."""
        assert self.run(self.root / "bin" / "python", "-Im", "pyo3_envshim", "env", **more).startswith(
            "export CARGO="
        )
        assert names_in(self.script.parent) == {self.script.name}
        return launcher.is_isolated(str(self.script))


def names_in(folder: Path) -> set[str]:
    """Return the names of the wrapper's scripts in a folder, half-written ones too."""
    return {name for name in os.listdir(folder) if name.startswith(_startup.WRAPPER)}


Make = Callable[..., Installed]


@pytest.fixture
def make(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Make:
    """Return what makes such an environment, of a *name* in the test's folder."""

    def made(
        name: str = "installed", maker: str = "venv", installer: str = "uv", python: str = a_python
    ) -> Installed:
        found = Installed(make_environment(maker, python, tmp_path / name, environ), environ)
        install(found.root, shared.wheel, environ=found.environ, installer=installer)
        return found

    return made


@pytest.fixture
def installed(make: Make) -> Installed:
    return make()


BODY = """\
# -*- coding: utf-8 -*-
import sys
from pyo3_envshim.wrapper import main
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""


class TestTheText:
    """In this process, whose Python is the script's, and whose checkout is what is installed."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return script(tmp_path / "bin" / _startup.WRAPPER, f"#!{sys.executable}\n{BODY}")

    def text(self, path: Path, **environ: str) -> str | None:
        found = launcher.rewritten(str(path), environ)
        return found.decode() if found is not None else None

    def test_names_the_folders_to_import_from(self, path: Path) -> None:
        first, second, *rest = (self.text(path) or "").splitlines()
        assert first == f"#!{sys.executable} -IS"
        assert second.startswith(SECOND_LINE)
        folders = ast.literal_eval(
            next(line for line in rest if line.startswith("sys.path"))[len("sys.path += ") :]
        )
        assert folders == [str(ROOT), os.path.dirname(os.path.dirname(platformdirs.__file__))]

    def test_names_one_folder_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda _: SimpleNamespace(origin=f"{ROOT}/p/__init__.py")
        )
        assert f"sys.path += ['{ROOT}']\n" in (self.text(path) or "")
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        assert f"sys.path += ['{ROOT}']\n" in (self.text(path) or "")
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: SimpleNamespace(origin=None))
        assert f"sys.path += ['{ROOT}']\n" in (self.text(path) or "")

    @pytest.mark.parametrize(("name", "is_known"), [("cpython", True), ("pypy", True), ("graalpy", False)])
    def test_is_for_pythons_that_know_the_options(
        self, name: str, is_known: bool, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.implementation, "name", name)
        assert bool(self.text(path)) == is_known

    def test_is_not_for_windows(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(launcher, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        assert self.text(path) is None

    @pytest.mark.parametrize(("mode", "is_ours"), [(0o755, True), (0o700, True), (0o555, False)])
    def test_is_for_what_its_owner_may_write(self, mode: int, is_ours: bool, path: Path) -> None:
        path.chmod(mode)
        assert bool(self.text(path)) == is_ours

    @pytest.mark.parametrize(
        "line",
        [
            "//{python}",  # no interpreter's line, as long as one
            "#!{python} -E",
            "#!python",
            "#!/usr/bin/env",
        ],
    )
    def test_is_for_a_line_that_names_this_python_alone(self, line: str, path: Path) -> None:
        path.write_text(f"{line.format(python=sys.executable)}\n{BODY}")
        assert self.text(path) is None

    @pytest.mark.parametrize(("length", "fits"), [(126, True), (127, False)])
    def test_is_for_a_line_that_linux_reads(self, length: int, fits: bool, path: Path) -> None:
        room = length - len(f"#!{sys.executable} -IS")
        path.write_text(f"#!{'/' * room}{sys.executable}\n{BODY}")
        assert bool(self.text(path)) == fits

    @pytest.mark.parametrize("how", ["the working directory", "PYTHONPATH", "nothing", "not ASCII", "a file"])
    def test_is_for_a_package_that_is_installed(
        self, how: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ = {}
        if how == "the working directory":
            monkeypatch.chdir(ROOT)
            environ["PYTHONPATH"] = "/other"
        elif how == "PYTHONPATH":
            environ["PYTHONPATH"] = os.pathsep.join(["/other", str(ROOT)])
        elif how == "nothing":
            monkeypatch.setattr(sys, "path", [it for it in sys.path if it != str(ROOT)])
        else:
            place = tmp_path / ("\u00fc" if how == "not ASCII" else "archive.zip")
            monkeypatch.setattr(launcher, "__file__", f"{place}/pyo3_envshim/launcher.py")
            monkeypatch.syspath_prepend(str(place))
            if how == "not ASCII":
                place.mkdir()
        assert self.text(path, **environ) is None

    @pytest.mark.parametrize("executable", [None, "", "/bin/sh", "beside"])
    def test_is_for_the_python_that_runs_this(
        self, executable: str | None, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if executable == "beside":
            (tmp_path / "python").symlink_to(sys.executable)
            executable = str(tmp_path / "python")
        monkeypatch.setattr(sys, "executable", executable)
        assert self.text(path) is None

    def test_is_for_a_python_in_no_environment(
        self, path: Path, a_python: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", a_python)
        path.write_text(f"#!{a_python}\n{BODY}")
        assert self.text(path)

    def test_is_for_no_environment_whose_content_counts(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An ephemeral one, or an entry of the store."""
        root = tmp_path / "build-env-a1b2c3d4"
        (root / "bin").mkdir(parents=True)
        root.chmod(0o700)
        (root / "pyvenv.cfg").touch()
        (root / "bin" / "python").symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(root / "bin" / "python"))
        path.write_text(f"#!{root}/bin/python\n{BODY}")
        assert self.text(path, TMPDIR=str(tmp_path)) is None
        assert self.text(path, TMPDIR="/nothing")
        (root / ".manifest").touch()
        assert self.text(path, TMPDIR="/nothing") is None

    def test_is_for_folders_that_are_as_safe_as_the_script(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def is_as_safe_as(script: str, folder: str) -> bool:
            asked.append((script, folder))
            return len(asked) < 2

        monkeypatch.setattr("pyo3_envshim.store.ownership.is_as_safe_as", is_as_safe_as)
        assert self.text(path) is None
        assert [script for script, _ in asked] == [str(path)] * 2
        assert asked[0][1] == str(ROOT)


def test_a_script_that_was_rewritten_is_known(tmp_path: Path) -> None:
    first, second = "#!/python -IS", launcher._TEXT.splitlines()[0]
    for text, is_one in (
        (f"{first}\n{second}\nmore\n", True),
        (f"{first}\nsomething else\n", False),
        (f"#!/python\n{second}\n", False),
    ):
        (tmp_path / "script").write_text(text)
        assert launcher.is_isolated(str(tmp_path / "script")) == is_one
    assert not launcher.is_isolated(str(tmp_path / "gone"))


class TestTheScript:
    @pytest.mark.parametrize("installer", ["pip", "uv"])
    def test_is_rewritten_by_env_on_each_python(self, installer: str, python: str, make: Make) -> None:
        if (installer, Path(python).name) == ("pip", "python3.9"):
            pytest.skip("pip 26 knows Python 3.9 no more")
        installed = make(installer=installer, python=python)
        before, mode = installed.script.read_text().splitlines(), installed.script.stat().st_mode
        assert installed.env()
        first, second, *_ = installed.script.read_text().splitlines()
        assert first == before[0] + " -IS"
        assert second.startswith(SECOND_LINE)
        assert installed.script.stat().st_mode == mode
        assert installed.run(installed.script, "--version", PYO3_ENVSHIM_CARGO=sys.executable).startswith(
            "Python "
        )

    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    @pytest.mark.parametrize("command", [["env"], ["run", "true"]], ids=lambda it: it[0])
    def test_is_rewritten_by_what_a_person_types(self, command: list[str], maker: str, make: Make) -> None:
        installed = make(maker=maker)
        installed.run(installed.root / "bin" / "pyo3-envshim", *command)
        assert launcher.is_isolated(str(installed.script))

    def test_is_rewritten_once_something_was_stored(self, bench: Bench) -> None:
        fine(bench.run("fetch"))
        assert not launcher.is_isolated(str(bench.wrapper))
        line = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        assert launcher.is_isolated(str(bench.wrapper))
        other = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        assert (" stored: " in line, " reused: " in other) == (True, True)
        assert bench.cargo.calls[-1].environ == bench.cargo.calls[-2].environ
        assert [call.arguments[0] for call in bench.cargo.calls] == ["fetch", "build", "build"]

    @pytest.mark.parametrize("installer", ["pip", "uv"])
    def test_goes_with_what_it_belongs_to(self, installer: str, installed: Installed, shared: Shared) -> None:
        before = sorted(os.listdir(installed.script.parent)), installed.script.read_text()
        assert installed.env()
        python, package = installed.root / "bin" / "python", site_packages(installed.root) / "pyo3_envshim"
        command: list[str | Path] = [uv.find_uv_bin(), "pip"]
        more: list[str | Path] = ["--python", python]
        if installer == "pip":
            command, more = [sys.executable, "-m", "pip", "-q", "--python", python], []
        again = ["--force-reinstall"] if installer == "pip" else ["--reinstall"]
        installed.run(*command, "install", *again, "--no-deps", *more, shared.wheel)
        assert sorted(os.listdir(installed.script.parent)) == before[0]
        assert not launcher.is_isolated(str(installed.script))
        assert installed.env()
        installed.run(*command, "uninstall", *(["-y"] if installer == "pip" else []), *more, "pyo3-envshim")
        assert names_in(installed.script.parent) == set()
        assert not package.exists()

    def test_imports_from_the_checkout_of_an_editable_installation(self, installed: Installed) -> None:
        site, source = site_packages(installed.root), installed.root.parent / "source"
        source.mkdir()
        shutil.move(str(site / "pyo3_envshim"), source)
        (site / "_pyo3_envshim.pth").write_text(f"{source}\n")
        assert installed.env()
        assert str(source) in installed.script.read_text()
        assert installed.run(installed.script, "--version", PYO3_ENVSHIM_CARGO=sys.executable).startswith(
            "Python "
        )

    def test_imports_platformdirs_from_where_it_is(self, installed: Installed) -> None:
        elsewhere = installed.root.parent / "elsewhere"
        (site_packages(installed.root) / "elsewhere.pth").write_text(f"{elsewhere}\n")
        script(elsewhere / "platformdirs" / "__init__.py", "def user_cache_dir(*a, **b): return 'found'\n")
        assert installed.env()
        (line,) = [it for it in installed.script.read_text().splitlines() if it.startswith("sys.path += ")]
        folders = ast.literal_eval(line[len("sys.path += ") :])
        assert folders == [str(site_packages(installed.root)), str(elsewhere)]

    def test_is_told_by_doctor(self, installed: Installed) -> None:
        for how in ("with its site", "isolated"):
            data = subprocess.run(
                [installed.root / "bin" / "python", "-Im", "pyo3_envshim", "doctor", "--json"],
                env={**installed.environ, "PATH": "/nothing"},
                stdout=subprocess.PIPE,
                check=False,
            ).stdout
            (about,) = (it for it in json.loads(data)["findings"] if it["about"] == "python")
            assert about["reason"].endswith(f"; the wrapper starts it {how}")
            installed.env()

    def test_finds_its_package_once_the_environment_has_moved(self, installed: Installed) -> None:
        """What moves an environment may change the first line alone, as installers' scripts need no more."""
        assert installed.env()
        moved = installed.root.rename(installed.root.with_name("moved"))
        first, rest = wrapper_of(moved).read_text().split("\n", 1)
        wrapper_of(moved).write_text(f"{first.replace(str(installed.root), str(moved))}\n{rest}")
        hostile(moved.parent, "os", "site", "pyo3_envshim")
        more = {
            "PYTHONHOME": "/nothing",
            "PYTHONPATH": str(moved.parent / "hostile"),
            "HOSTILE_RAN": str(moved / "ran"),
        }
        said = installed.run(wrapper_of(moved), "--version", PYO3_ENVSHIM_CARGO=sys.executable, **more)
        assert said.startswith("Python ")

    def test_writes_byte_code_where_it_is_wanted(self, installed: Installed) -> None:
        assert installed.env(PYTHONDONTWRITEBYTECODE="1")
        package, elsewhere = site_packages(installed.root) / "pyo3_envshim", installed.root.parent / "code"
        for cache in package.rglob("__pycache__"):
            shutil.rmtree(cache)
        more = {"PYTHONPYCACHEPREFIX": str(elsewhere), "PYO3_ENVSHIM_CARGO": sys.executable}
        installed.run(installed.script, "--version", **more)
        assert not list(package.rglob("__pycache__"))
        assert list(elsewhere.rglob("wrapper.*.pyc"))

    def test_writes_no_byte_code_where_nobody_wants_it(self, installed: Installed) -> None:
        assert installed.env(PYTHONDONTWRITEBYTECODE="1")
        package = site_packages(installed.root) / "pyo3_envshim"
        for cache in package.rglob("__pycache__"):
            shutil.rmtree(cache)
        for value, written in (("1", False), ("", True)):
            more = {"PYTHONDONTWRITEBYTECODE": value, "PYO3_ENVSHIM_CARGO": sys.executable}
            installed.run(installed.script, "--version", **more)
            assert (package / "__pycache__").exists() == written


@pytest.fixture
def bench(
    installed: Installed, shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path
) -> Bench:
    """Return the bench with an environment of its own, whose script may be rewritten."""
    found = Bench(shared, a_python, environ, tmp_path / "bench")
    found.installed, found.wrapper = installed.root, installed.script
    found.environ["CARGO"] = str(installed.script)
    return found


def as_a_link(it: Installed) -> None:
    it.script.rename(it.root / "script")
    it.script.symlink_to("../script")


def in_another_form(before: str, after: str) -> Callable[[Installed], None]:
    def change(it: Installed) -> None:
        text = it.script.read_text().replace(f"#!{it.root}/bin/python", "#!INTERPRETER", 1)
        head, _, rest = text.partition("\n")
        head = f"#!{it.root}/bin/python"
        text = f"{head}\n{rest}"
        assert before.format(it.root) in text
        it.script.write_text(text.replace(before.format(it.root), after.format(it.root)))

    return change


def without_a_start(it: Installed) -> None:
    """Like a Python that does not start without a variable: here, the package needs one."""
    for path in (site_packages(it.root) / "pyo3_envshim").glob("wrapper.py"):
        text = path.read_text().replace("from __future__", "#")
        path.write_text(f"import sys\nassert not sys.flags.isolated\n{text}")


LEFT: dict[str, Callable[[Installed], object]] = {
    "that its owner must not write": lambda it: it.script.chmod(0o555),
    "that is a link": as_a_link,
    "with an option for Python": in_another_form("/bin/python", "/bin/python -E"),
    "by way of env": in_another_form("#!{}/bin/python", "#!/usr/bin/env python"),
    "by way of sh": in_another_form(
        "#!{0}/bin/python", "#!/bin/sh\n'''exec' {0}/bin/python \"$0\" \"$@\"\n' '''"
    ),
    "of another Python": in_another_form("#!{}/bin/python", f"#!{os.path.realpath(sys.executable)}"),
    "that does something else": in_another_form("    sys.exit(main())", "    sys.exit(main() or 0)"),
    "of another module": in_another_form("pyo3_envshim.wrapper", "other.wrapper"),
    "that would not run so": without_a_start,
    "in an entry of the store": lambda it: (it.root / ".manifest").touch(),
}


class TestAScript:
    @pytest.mark.parametrize("what", LEFT)
    def test_that_stays(self, what: str, installed: Installed) -> None:
        LEFT[what](installed)
        before = installed.script.read_bytes()
        assert not installed.env()
        assert installed.script.read_bytes() == before

    def test_whose_first_line_would_be_too_long_stays(self, make: Make, tmp_path: Path) -> None:
        for length, isolated in ((126, True), (127, False)):
            room = length - len(f"#!{tmp_path}//bin/python -IS")
            installed = make("x" * room)
            text = installed.script.read_text().partition("\n")[2]
            installed.script.write_text(f"#!{installed.root}/bin/python\n{text}")
            assert installed.env() == isolated

    @pytest.mark.parametrize("name", ["with space", "with-\u00fc"])
    def test_in_a_folder_of_an_odd_name_stays(self, name: str, make: Make) -> None:
        assert not make(name).env()

    def test_of_an_ephemeral_environment_stays(self, make: Make, tmp_path: Path) -> None:
        """pyo3-envshim may be a build requirement: a content that changes would be another environment."""
        installed = make("build-env-a1b2c3d4")
        installed.root.chmod(0o700)
        assert not installed.env(TMPDIR=str(tmp_path))
        assert installed.env(TMPDIR="/")

    @pytest.mark.parametrize("how", ["PYTHONPATH", "working directory"])
    def test_whose_package_is_not_the_installed_one_stays(
        self, how: str, installed: Installed, tmp_path: Path
    ) -> None:
        """Where no startup line runs; with it, the installed one is imported."""
        (site_packages(installed.root) / "pyo3_envshim.pth").unlink()
        shutil.copytree(site_packages(installed.root) / "pyo3_envshim", tmp_path / "other" / "pyo3_envshim")
        more = {"PYTHONPATH": str(tmp_path / "other")} if how == "PYTHONPATH" else {}
        environ = {**installed.environ, **more}
        python = installed.root / "bin" / "python"
        run([python, "-m", "pyo3_envshim", "env"], environ, tmp_path / "other")
        assert not launcher.is_isolated(str(installed.script))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_of_another_user_stays(self, installed: Installed) -> None:
        os.chown(installed.script, 12345, -1)
        assert not installed.env()
        assert installed.script.stat().st_uid == 12345

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
    @pytest.mark.parametrize("where", ["lib", "lib/python3*", "lib/python3*/site-packages"])
    def test_that_would_import_from_another_users_folder_stays(
        self, where: str, installed: Installed
    ) -> None:
        """Root, from an environment that has a user's own packages."""
        (folder,) = installed.root.glob(where)
        os.chown(folder, 12345, -1)
        assert not installed.env()
        os.chown(folder, 0, -1)
        assert installed.env()

    @pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
    @pytest.mark.parametrize("where", ["lib", "lib/python3*/site-packages"])
    def test_that_would_import_from_where_more_can_write_stays(
        self, mode: int, where: str, installed: Installed
    ) -> None:
        (folder,) = installed.root.glob(where)
        folder.chmod(mode)
        # Where the sticky bit is set, others can add, but not replace.
        assert installed.env() == (mode == 0o1777 and where == "lib")

    def test_that_its_group_can_replace_is_rewritten(self, installed: Installed) -> None:
        """A umask of 002, in an environment of one's own."""
        for folder in (installed.root, *installed.root.rglob("*")):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o775)
        if not os.geteuid():
            os.chown(site_packages(installed.root), -1, 12345)
            assert not installed.env()
            os.chown(site_packages(installed.root), -1, os.getegid())
        assert installed.env()

    def test_that_was_rewritten_stays(self, installed: Installed) -> None:
        assert installed.env()
        before = installed.script.stat()
        assert installed.env()
        assert installed.script.stat() == before

    def test_rewritten_in_an_ephemeral_environment_is_not_stored(self, sample: SampleWheels) -> None:
        """We do not make one; if somebody does, it is left alone."""
        root = sample.environment("one")
        text = f"#!{root}/bin/python -IS\nimport sys\nsys.path += [{str(root / 'lib')!r}]\n"
        script(root / "bin" / "pyo3-envshim-cargo", text)
        with pytest.raises(NotStorable):
            read(root)


class TestRewriting:
    """What can go wrong loses nothing."""

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
    @pytest.mark.parametrize("step", ["os.open", "os.chmod", "os.fsync", "os.replace", "subprocess.run"])
    def test_that_fails_at_any_step_leaves_the_script(
        self, step: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")
        module, _, name = step.partition(".")

        def fail(*arguments: object, **named: object) -> None:
            raise OSError(number, "made to fail")

        monkeypatch.setattr(_startup, "wrapper", lambda: str(path))
        monkeypatch.setattr(launcher, "rewritten", lambda *it: b"#!/bin/sh\necho Python 3\n")
        with monkeypatch.context() as broken:
            broken.setattr(importlib.import_module(module), name, fail)
            assert not launcher.isolate({})
        assert path.read_text() == "#!/bin/sh\n"
        assert os.listdir(tmp_path) == [path.name]
        assert launcher.isolate({})
        assert path.read_text() == "#!/bin/sh\necho Python 3\n"

    def test_that_runs_out_of_space_in_the_file_leaves_the_script(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")

        def half(path: str, content: bytes, executable: bool = False) -> None:
            Path(path).write_bytes(content[:5])
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(files, "create", half)
        with pytest.raises(OSError, match="no space"):
            launcher._replace(str(path), b"#!/bin/sh\necho Python 3\n")
        assert os.listdir(tmp_path) == [path.name]

    def test_keeps_the_group(self, tmp_path: Path) -> None:
        if os.geteuid():
            pytest.skip("only root may give a file to any group")
        path = script(tmp_path / "script", "before")
        os.chown(path, -1, 12345)
        assert launcher._replace(str(path), b"#!/bin/sh\necho Python 3\n")
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), 12345)

    @pytest.mark.parametrize("mode", [0o755, 0o700, 0o775, 0o750])
    def test_keeps_the_mode(self, mode: int, tmp_path: Path) -> None:
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")
        path.chmod(mode)
        assert launcher._replace(str(path), b"#!/bin/sh\necho Python 3\n")
        assert stat.S_IMODE(path.stat().st_mode) == mode

    @pytest.mark.parametrize(
        "text", ["#!/bin/sh\necho Python 3\nexit 1\n", "#!/bin/sh\n", "#!/nothing/python\n", "echo\n"]
    )
    def test_does_not_put_in_place_what_does_not_run(self, text: str, tmp_path: Path) -> None:
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")
        try:
            assert not launcher._replace(str(path), text.encode())
        except OSError:
            pass
        assert path.read_text() == "#!/bin/sh\n"
        assert os.listdir(tmp_path) == [path.name]

    def test_tries_it_in_silence(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """And leaves cargo's input alone."""
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")
        with standard_input(b"for cargo\n"):
            assert launcher._replace(str(path), b"#!/bin/sh\necho Python 3\necho noise >&2\nread line\n:\n")
            assert os.read(0, 100) == b"for cargo\n"
        assert capfd.readouterr() == ("", "")

    def test_removes_what_a_killed_process_has_left(self, tmp_path: Path) -> None:
        path = script(tmp_path / _startup.WRAPPER, "#!/bin/sh\n")
        gone = subprocess.Popen(["true"])
        gone.wait()
        numbers = (gone.pid, os.getpid(), 10**30, "old")
        lefts = [f"{path.name}.{number}-0a1b2c3d" for number in numbers]
        for name in lefts:
            (tmp_path / name).touch()
        assert launcher._replace(str(path), b"#!/bin/sh\necho Python 3\n")
        assert names_in(tmp_path) == {path.name, *lefts[1:]}

    def test_by_many_at_once_is_done_once_and_for_all(self, installed: Installed) -> None:
        code = (
            "import sys, os; from pyo3_envshim import launcher; print('ready', flush=True); input();"
            "launcher.isolate(os.environ)"
        )
        python = str(installed.root / "bin" / "python")
        found = started_together([[python, "-Ic", code]] * 4)
        assert [process.wait() for process in found] == [0] * 4
        assert launcher.is_isolated(str(installed.script))
        assert names_in(installed.script.parent) == {installed.script.name}


HOSTILE = "import os\nopen(os.environ['HOSTILE_RAN'], 'w').close()\nraise SystemExit(3)\n"
VARIABLES: dict[str, Callable[[Path], Mapping[str, str]]] = {
    "the home of no Python": lambda folder: {"PYTHONHOME": "/nothing"},
    "the home of another Python": lambda folder: {"PYTHONHOME": home_of_another()},
    "modules in place of the standard library's": lambda folder: hostile(folder, "json", "os"),
    "a sitecustomize": lambda folder: hostile(folder, "sitecustomize"),
    "a usercustomize": lambda folder: user_site(folder, "usercustomize.py", HOSTILE),
    "a line that ends Python": lambda folder: user_site(folder, "x.pth", f"import os; exec({HOSTILE!r})\n"),
    "a seed that is none": lambda folder: {"PYTHONHASHSEED": "none"},
    "an unknown allocator": lambda folder: {"PYTHONMALLOC": "bogus"},
    "warnings that are errors": lambda folder: {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    "an encoding that is none": lambda folder: {"PYTHONIOENCODING": "bogus"},
    "a wish to look into it": lambda folder: {"PYTHONINSPECT": "1"},
}


def home_of_another() -> str:
    for version in VERSIONS:
        found = interpreter(version)
        if found and not os.path.samefile(found, os.path.realpath(sys.executable)):
            return str(Path(found).parents[1])
    pytest.skip("this needs a second CPython")


def hostile(folder: Path, *names: str) -> Mapping[str, str]:
    for name in names:
        script(folder / "hostile" / f"{name}.py", HOSTILE)
    return {"PYTHONPATH": str(folder / "hostile")}


def user_site(folder: Path, name: str, text: str) -> Mapping[str, str]:
    """Put a file among a user's own packages."""
    for python in VERSIONS:
        script(folder / "base" / "lib" / f"python{python}" / "site-packages" / name, text)
    return {"PYTHONUSERBASE": str(folder / "base")}


class TestNothingOfThisReachesTheWrapper:
    """Once its script is rewritten."""

    @pytest.fixture
    def isolated(self, installed: Installed, bench: Bench) -> Bench:
        config = installed.root / "pyvenv.cfg"  # with a user's own packages, too
        config.write_text(config.read_text().replace("packages = false", "packages = true"))
        assert installed.env()
        return bench

    @pytest.mark.parametrize("command", ["build", "fetch"])
    @pytest.mark.parametrize("what", VARIABLES)
    def test_and_cargo_gets_it(self, what: str, command: str, isolated: Bench, tmp_path: Path) -> None:
        more = {**VARIABLES[what](tmp_path), "HOSTILE_RAN": str(tmp_path / "ran")}
        fine(isolated.run(command, **more))
        assert not (tmp_path / "ran").exists()
        assert ("PYO3_PYTHON" in isolated.changes(**more)) == (command == "build")
        assert set(isolated.changes(**more)) <= {
            *("PYO3_PYTHON", "PYTHON_SYS_EXECUTABLE", "VIRTUAL_ENV", "PATH", "PYO3_BASE_PYTHON"),
            "PYO3_ENVSHIM_BASE",
        }


# Prints all that a process was started with. Not the shell's own: dash drops what is no identifier.
_TELLS = "#!{} -IS\nimport sys\nsys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="there is no /proc")
@pytest.mark.parametrize(
    "more",
    [
        {"LC_ALL": "C"},
        {"LANG": "C"},
        {"LC_ALL": ""},
        {"LC_CTYPE": "C"},
        {"LC_CTYPE": "POSIX", "LANG": "de_DE.UTF-8"},
        {"LC_CTYPE": "C.UTF-8"},
        {"PYTHONCOERCECLOCALE": "0"},
        {"PYTHONCOERCECLOCALE": "warn"},
        {"PYTHONUTF8": "1", "LC_ALL": "POSIX"},
        {"CFLAGS_x86_64-unknown-linux-gnu": "-O3", "with space": "1", "1": "2", "\u00fc": "\udcff"},
        {"PWD": "/elsewhere", "OLDPWD": "/", "SHLVL": "7", "_": "x"},
        {"BASH_FUNC_f%%": "() { :\n}", "EMPTY": ""},
        {},
    ],
    ids=lambda it: "-".join(it) or "nothing",
)
def test_cargo_is_started_with_just_what_the_wrapper_was(
    more: dict[str, str], shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    bench = Bench(shared, a_python, environ, tmp_path, isolated=True)
    cargo = script(tmp_path / "tells" / "cargo", _TELLS.format(sys.executable))
    given = {"PATH": f"{cargo.parent}:/usr/bin:/bin", "HOME": str(tmp_path), **more}

    def told(program: Path) -> list[bytes]:
        done = subprocess.run([program, "fetch"], env=given, cwd=tmp_path, capture_output=True, check=True)
        assert done.stderr == b""
        return done.stdout.split(b"\0")

    assert told(bench.wrapper) == told(cargo)
    assert len(told(cargo)) == len(given) + 1
