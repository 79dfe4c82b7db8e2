"""What `install` and `uninstall` write and refuse; builds/test_ways_in.py then runs the interpreter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyo3_envshim import files, launcher
from pyo3_envshim.cli import install
from pyo3_envshim.cli.errors import CommandError

from .environments import ROOT, Shared, make_environment, program, run, script, tree
from .environments import install as install_wheels
from .test_main import Cli


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the program as the wheel installs it."""
    return Cli(shared.environment(a_python), environ, home)


PYTHON = "python.exe" if os.name == "nt" else "python"


def test_a_checkout_is_not_installed() -> None:
    """Its `sitecustomize` lies elsewhere than in the wheel."""
    with pytest.raises(CommandError, match="not a whole installation") as error:
        install.install(sys.executable, dry_run=True)
    assert "wheel" in error.value.hint


@pytest.mark.parametrize("command", ["install", "uninstall"])
class TestInstallAndUninstall:
    """What both refuse; builds/test_ways_in.py installs."""

    def test_refuse_what_is_no_interpreter(self, cli: Cli, command: str) -> None:
        error, hint = cli.refused(command, "--python", "/no/such/python")
        assert error == "/no/such/python cannot be run: No such file or directory"
        assert "python3.13" in hint
        error, _ = cli.refused(command, "--python", "/bin/false")
        assert error == "/bin/false is not a Python that runs"

    def test_refuse_an_unknown_option(self, cli: Cli, command: str) -> None:
        done = cli.run(command, "--nonsense")
        assert done.returncode == 2
        assert "--nonsense" in done.stderr

    def test_take_a_name_on_path(self, cli: Cli, command: str, a_python: str) -> None:
        said = cli.said(
            command, "--dry-run", "--python", os.path.basename(a_python), PATH=os.path.dirname(a_python)
        )
        assert len(said.splitlines()) == 1


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a standard-library folder, with something that answers as its interpreter does."""
    folder = tmp_path / "library"
    answers_for(folder, folder / "python")
    return folder


def answers_for(folder: Path, python: Path) -> None:
    """Make *python* answer as the interpreter whose standard library *folder* is."""
    program(python, f"print({json.dumps([str(folder), '3.13.1'])!r})")


class TestInThisProcess:
    """The functions, with a text of ours that is not the wheel's."""

    OURS = "# pyo3-envshim: written by us\n"

    @pytest.fixture(autouse=True)
    def text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(install, "_sitecustomize", lambda: self.OURS)

    @pytest.fixture
    def python(self, library: Path) -> str:
        return str(library / PYTHON)

    def test_the_interpreter_is_asked_isolated_and_in_silence(
        self, library: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        answer = json.dumps([str(library), "3.13.1"])
        text = "import sys\nassert sys.argv[1:4] == ['-I', '-S', '-c']\nprint('noise', file=sys.stderr)\n"
        python = str(program(library / "python", f"{text}print({answer!r})"))
        assert install.install(python).startswith("installed ")
        assert capfd.readouterr() == ("", "")

    def test_it_is_written_beside_its_place(
        self, python: str, library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        real = files.write_beside

        def write_beside(path: str, content: bytes) -> str:
            asked.append(path)
            return real(path, content)

        monkeypatch.setattr(files, "write_beside", write_beside)
        install.install(python)
        assert asked == [str(library / "sitecustomize.py")]

    @pytest.mark.parametrize("umask", [0, 0o077])
    def test_everybody_can_read_what_is_installed(self, python: str, library: Path, umask: int) -> None:
        path = library / "sitecustomize.py"
        before = os.umask(umask)
        try:
            assert install.install(python) == f"installed {path} for Python 3.13.1"
        finally:
            os.umask(before)
        assert path.read_text() == self.OURS
        assert path.stat().st_mode & 0o777 == 0o644
        assert install.install(python) == f"already installed: {path}"
        assert sorted(os.listdir(library)) == [PYTHON, "sitecustomize.py"]

    def test_an_older_one_of_ours_is_replaced(self, python: str, library: Path) -> None:
        (library / "sitecustomize.py").write_text(f"{self.OURS}# older\n")
        install.install(python)
        assert (library / "sitecustomize.py").read_text() == self.OURS

    @pytest.mark.parametrize("what", ["", "theirs = 1\n", "a link"])
    def test_another_owners_is_chained_and_given_back(self, python: str, library: Path, what: str) -> None:
        path, before = library / "sitecustomize.py", library / "sitecustomize-before-pyo3-envshim.py"
        before.write_text("stale: an upgrade had overwritten ours")
        if what == "a link":
            path.symlink_to("theirs.py")
        else:
            path.write_text(what)
        for options in ({}, {"force": True}, {"dry_run": True}):
            with pytest.raises(CommandError, match=f"^{path} belongs to another owner$"):
                install.install(python, **options)
        would = install.install(python, chain=True, dry_run=True)
        done = install.install(python, chain=True)
        assert done == f"installed {path} for Python 3.13.1, which runs {before}"
        assert would == f"would have {done}"
        assert path.read_text() == self.OURS
        assert before.is_symlink() == (what == "a link")
        assert install.uninstall(python, dry_run=True) == f"would have restored {path} of Python 3.13.1"
        assert install.uninstall(python) == f"restored {path} of Python 3.13.1"
        assert (os.readlink(path) if what == "a link" else path.read_text()) == (
            "theirs.py" if what == "a link" else what
        )
        assert install.uninstall(python) == f"not installed: {path}"

    def test_what_was_kept_of_a_file_that_came_back_goes(self, python: str, library: Path) -> None:
        (library / "sitecustomize.py").write_text("theirs = 2\n")
        kept = library / "sitecustomize-before-pyo3-envshim.py"
        kept.write_text("theirs = 1\n")
        assert install.uninstall(python, dry_run=True).startswith("not installed: ")
        assert kept.exists()
        install.uninstall(python)
        assert not kept.exists()
        assert (library / "sitecustomize.py").read_text() == "theirs = 2\n"

    def test_what_is_externally_managed_is_refused(self, python: str, library: Path) -> None:
        (library / "EXTERNALLY-MANAGED").touch()
        with pytest.raises(CommandError) as raised:
            install.install(python)
        assert str(raised.value) == (
            f"{python} (Python 3.13.1) is externally managed: {library}/EXTERNALLY-MANAGED"
        )
        assert install.install(python, force=True).startswith("installed ")
        assert install.install(python).startswith("already installed: ")

    def test_what_cannot_be_written_leaves_nothing_beside(
        self, python: str, library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace(*_: object) -> None:
            raise OSError(28, "No space left on device")

        before = tree(library)
        for name in ("pyo3_envshim.files.write_beside", "os.replace"):
            with monkeypatch.context() as patch:
                patch.setattr(name, replace)
                with pytest.raises(
                    CommandError, match=r"cannot be written: No space left on device$"
                ) as raised:
                    install.install(python)
            assert raised.value.hint == "is the folder yours?"
            assert tree(library) == before

    def test_byte_code_of_ours_goes_and_no_other(self, python: str, library: Path) -> None:
        install.install(python)
        others = ("site.x.pyc", "sitecustomize2.x.pyc", "sitecustomize-before-pyo3-envshim2.x.pyc")
        names = ("sitecustomize.x.pyc", "sitecustomize-before-pyo3-envshim.x.pyc", *others)
        for name in names:
            script(library / "__pycache__" / name, "")
        assert install.uninstall(python) == f"removed {library / 'sitecustomize.py'} of Python 3.13.1"
        assert sorted(os.listdir(library / "__pycache__")) == sorted(others)

    def test_what_cannot_be_removed_is_told_of(
        self, python: str, library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unlink(*_: object) -> None:
            raise OSError(16, "Device or resource busy")

        install.install(python)
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink)
            with pytest.raises(CommandError, match=r"cannot be removed: Device or resource busy$") as raised:
                install.uninstall(python)
        assert raised.value.hint == "is the folder yours?"

    @pytest.mark.parametrize("command", [install.install, install.uninstall])
    def test_a_folder_that_is_not_ours_to_write_to_is_refused(
        self, command: Callable[..., str], python: str, library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if command is install.uninstall:
            install.install(python)
        monkeypatch.setattr(os, "access", lambda path, how: (path, how) != (str(library), os.W_OK))
        with pytest.raises(CommandError, match=f"^{library} is not writable$") as raised:
            command(python)
        assert raised.value.hint == "run this as the interpreter's owner"

    @pytest.mark.parametrize("answer", ["", "[1]", "exit 1"])
    def test_what_does_not_answer_is_no_python(self, answer: str, tmp_path: Path) -> None:
        text = f"import sys\nprint({answer!r})\nsys.exit({answer.startswith('exit'):d})"
        python = str(program(tmp_path / "python", text))
        with pytest.raises(CommandError, match=r"is not a Python that runs$") as raised:
            install.install(python)
        assert raised.value.hint.startswith("--python takes ")

    def test_it_is_whole_if_the_package_that_it_names_is_there(self, python: str, library: Path) -> None:
        path = library / "sitecustomize.py"
        assert install.installed(python) is None
        for site, is_whole in ((library, False), (Path(install.__file__).parents[2], True)):
            path.write_text(f"{self.OURS}try:\n    sitedir = {json.dumps(str(site))}\n")
            assert install.installed(python) == (str(path), is_whole)
        path.write_text(self.OURS)
        assert install.installed(python) == (str(path), False)
        path.write_text("# another owner's\n")
        assert install.installed(python) is None


def test_a_file_of_any_encoding_is_read_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("\u00fc".encode() + b"\xff")
    assert install.read_text(str(tmp_path / "file")) == "\u00fc\ufffd"
    code = "import sys; from pyo3_envshim.cli import install as it; print(ascii(it.read_text(sys.argv[1])))"
    environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert run([sys.executable, "-c", code, tmp_path / "file"], environ, ROOT) == "'\\xfc\\ufffd'\n"


def test_the_text_names_the_folder_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "\u00fc" / "pyo3_envshim"
    package.mkdir(parents=True)
    (package / "_sitecustomize.py.in").write_text('# pyo3-envshim: written by\nsitedir = "@SITE@"\n')
    monkeypatch.setattr("pyo3_envshim._startup.__file__", str(package / "_startup.py"))
    assert install._sitecustomize() == f'# pyo3-envshim: written by\nsitedir = "{package.parent}"\n'


class TestAnInterpretersLibrary:
    """What `install` does there; builds/test_ways_in.py then runs the interpreter."""

    @pytest.fixture
    def say(self, cli: Cli, library: Path) -> Callable[..., str]:
        """Return what runs a command for the interpreter."""
        return lambda *words: cli.said(*words, "--python", str(library / PYTHON))

    @pytest.fixture
    def refuse(self, cli: Cli, library: Path) -> Callable[..., tuple[str, str]]:
        """Return what runs a command that is refused for the interpreter, and changes nothing."""

        def refuse(*words: str) -> tuple[str, str]:
            before = tree(library)
            said = cli.refused(*words, "--python", str(library / PYTHON))
            assert tree(library) == before
            return said

        return refuse

    def test_gets_one_file_and_loses_it_again(self, say: Callable[..., str], library: Path) -> None:
        before = tree(library)
        assert say("install") == f"installed {library / 'sitecustomize.py'} for Python 3.13.1\n"
        assert tree(library).keys() - before.keys() == {"sitecustomize.py"}
        assert say("install") == f"already installed: {library / 'sitecustomize.py'}\n"
        script(library / "__pycache__" / "sitecustomize.cpython-313.pyc", "")
        other = script(library / "__pycache__" / "site.cpython-313.pyc", "")
        assert say("uninstall") == f"removed {library / 'sitecustomize.py'} of Python 3.13.1\n"
        assert tree(library) == {**before, str(other.relative_to(library)): b""}
        assert say("uninstall") == f"not installed: {library / 'sitecustomize.py'}\n"

    def test_gets_another_owners_file_back(
        self, say: Callable[..., str], refuse: Callable[..., tuple[str, str]], library: Path
    ) -> None:
        (library / "sitecustomize.py").write_text("theirs = 1\n")
        before = tree(library)
        assert refuse("install")[1].startswith("--chain ")
        say("install", "--chain")
        assert before["sitecustomize.py"] in tree(library).values()
        assert say("uninstall").startswith("restored ")
        assert tree(library) == before

    def test_loses_what_was_kept_of_a_file_that_came_back(
        self, say: Callable[..., str], library: Path
    ) -> None:
        """By an upgrade of the interpreter."""
        (library / "sitecustomize.py").write_text("theirs = 1\n")
        say("install", "--chain")
        (library / "sitecustomize.py").write_text("theirs = 2\n")
        say("uninstall")
        assert tree(library).keys() == {PYTHON, "sitecustomize.py"}

    def test_stays_as_it_is_in_a_dry_run(self, say: Callable[..., str], library: Path) -> None:
        before = tree(library)
        assert say("install", "--dry-run").startswith("would have installed ")
        assert tree(library) == before
        say("install")
        before = tree(library)
        assert say("uninstall", "--dry-run").startswith("would have removed ")
        assert tree(library) == before

    def test_that_is_externally_managed_is_changed_by_force_only(
        self, say: Callable[..., str], refuse: Callable[..., tuple[str, str]], library: Path
    ) -> None:
        (library / "EXTERNALLY-MANAGED").touch()
        error, hint = refuse("install")
        assert "externally managed" in error
        assert "--force" in hint
        assert say("install", "--force").startswith("installed ")

    @pytest.mark.parametrize("what", ["nothing", "a file", "a folder where the file belongs"])
    def test_that_cannot_be_written_to_is_told_of(
        self, what: str, refuse: Callable[..., tuple[str, str]], library: Path
    ) -> None:
        place = library / "place"
        if what == "a file":
            place.touch()
        elif what != "nothing":
            script(place / "sitecustomize.py" / "theirs", "")
        answers_for(place, library / "python")
        assert str(place) in refuse("install", "--chain")[0]

    def test_that_cannot_be_given_back_what_was_kept_is_told_of(
        self, say: Callable[..., str], refuse: Callable[..., tuple[str, str]], library: Path
    ) -> None:
        say("install")
        (library / "sitecustomize-before-pyo3-envshim.py").mkdir()
        assert refuse("uninstall")[0].startswith(f"{library / 'sitecustomize.py'} cannot be removed: ")


class TestAnInterpreterInstalledInto:
    """`pyo3-envshim install` is seen, and whether the package that it names is still there."""

    def test_is_seen(self, cli: Cli, tmp_path: Path) -> None:
        library = tmp_path / "library"
        library.mkdir()
        answer = json.dumps([str(library), "3.11.7"])
        python = str(program(tmp_path / "python", f"print({answer!r})"))
        assert install.installed(python) is None
        cli.said("install", "--python", python)
        file = library / "sitecustomize.py"
        assert install.installed(python) == (str(file), True)
        file.write_text(file.read_text().replace(json.dumps(str(cli.root))[1:-1], "/gone"))
        assert install.installed(python) == (str(file), False)
        file.write_text("# another owner's\n")
        assert install.installed(python) is None


def test_install_lets_the_wrapper_start_python_isolated(
    shared: Shared, a_python: str, environ: dict[str, str], home: Path, library: Path, tmp_path: Path
) -> None:
    root = make_environment("venv", a_python, tmp_path / "own", environ)
    install_wheels(root, shared.wheel, environ=environ)
    cli = Cli(root, environ, home)
    python = str(library / PYTHON)
    for words, isolated in ((["--dry-run"], False), ([], True)):
        cli.said("install", "--python", python, *words)
        assert launcher.is_isolated(cli.wrapper) == isolated
