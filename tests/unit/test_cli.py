"""The command line, as installed: what it prints, where, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyo3_envshim

from .making import Shared, script, tree

COMMANDS = ("env", "run", "explain", "install", "uninstall", "doctor", "cache")


@dataclass
class Cli:
    """The installed program, and what it is run with."""

    root: Path
    environ: Mapping[str, str]
    cwd: Path

    @property
    def wrapper(self) -> str:
        """The cargo that it puts in front."""
        return str(self.root / "bin" / "pyo3-envshim-cargo")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        command = [str(self.root / "bin" / "pyo3-envshim"), *arguments]
        environ = {**self.environ, **variables}
        return subprocess.run(command, env=environ, cwd=self.cwd, capture_output=True, text=True)

    def said(self, *arguments: str, **variables: str) -> str:
        """Run it with success; return what it printed."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refused(self, *arguments: str, **variables: str) -> tuple[str, str]:
        """Run it without success; return the error and the hint: all that it printed."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        return error[7:], hint[6:]


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the program as the wheel installs it."""
    return Cli(shared.environment(a_python), environ, home)


class TestHelp:
    """What `--help` says."""

    def test_names_every_command(self, cli: Cli) -> None:
        said = cli.said("--help")
        for command in COMMANDS:
            assert re.search(rf"^    {command}\s+\w", said, re.MULTILINE)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_a_command_is_whole(self, cli: Cli, command: str) -> None:
        """A sentence, every option with an explanation, and an example that names the command."""
        said = cli.said(command, "--help", COLUMNS="200")
        usage, description, *rest = said.split("\n\n")
        assert usage.startswith(f"usage: pyo3-envshim {command} ")
        assert description.rstrip().endswith(".")
        for line in "\n".join(rest).splitlines():
            if line.startswith("  ") and not line.lstrip().startswith("example"):
                assert len(line.split("  ")[-1].split()) > 1, f"{line!r} is not explained"
        example = said.strip().splitlines()[-1]
        assert example.startswith("example: ")
        assert f"pyo3-envshim {command}" in example

    def test_is_what_no_command_gets(self, cli: Cli) -> None:
        done = cli.run()
        assert done.returncode == 2
        assert "usage: pyo3-envshim" in done.stdout + done.stderr

    def test_of_the_version(self, cli: Cli) -> None:
        assert cli.said("--version") == f"pyo3-envshim {pyo3_envshim.__version__}\n"

    def test_works_with_python_m(self, cli: Cli) -> None:
        command = [str(cli.root / "bin" / "python"), "-m", "pyo3_envshim", "--version"]
        done = subprocess.run(command, env=cli.environ, cwd=cli.cwd, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, cli.said("--version"))


class TestCompletion:
    """What a shell is told that asks as argcomplete's shell code does."""

    @staticmethod
    def completed(cli: Cli, line: str, **variables: str) -> list[str]:
        answer = cli.cwd / "completions"
        variables.update(_ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), IFS="\n")
        variables.update(_ARGCOMPLETE_STDOUT_FILENAME=str(answer))
        done = cli.run(**variables)
        assert (done.stdout, done.stderr) == ("", "")
        return re.split(r"[\n\v]", answer.read_text()) if answer.exists() else []

    def test_knows_commands_and_options(self, cli: Cli) -> None:
        argcomplete = pytest.importorskip("argcomplete")
        path = {"PYTHONPATH": os.path.dirname(os.path.dirname(argcomplete.__file__))}
        assert [it.strip() for it in self.completed(cli, "pyo3-envshim do", **path)] == ["doctor"]
        assert "poetry" in self.completed(cli, "pyo3-envshim doctor ", **path)
        assert self.completed(cli, "pyo3-envshim cache prune --si", **path)[0].strip() == "--size"

    def test_is_silent_without_argcomplete(self, cli: Cli) -> None:
        assert self.completed(cli, "pyo3-envshim do") == []


class TestEnv:
    """`pyo3-envshim env`."""

    def test_prints_cargo_alone(self, cli: Cli) -> None:
        assert cli.said("env") == f"export CARGO={cli.wrapper}\n"

    def test_keeps_a_cargo_of_the_user(self, cli: Cli) -> None:
        said = cli.said("env", CARGO="/my own/cargo")
        assert said == f"export CARGO={cli.wrapper}\nexport PYO3_ENVSHIM_CARGO='/my own/cargo'\n"

    def test_prints_nothing_where_it_is_on(self, cli: Cli) -> None:
        assert cli.said("env", CARGO=cli.wrapper, PYO3_ENVSHIM_CARGO="/own/cargo") == ""

    def test_takes_the_place_of_a_wrapper_that_is_gone(self, cli: Cli) -> None:
        assert cli.said("env", CARGO="/gone/bin/pyo3-envshim-cargo") == f"export CARGO={cli.wrapper}\n"

    @pytest.mark.parametrize(
        ("shell", "line"),
        [("sh", "export CARGO={}"), ("fish", "set -gx CARGO '{}'"), ("powershell", "$env:CARGO = '{}'")],
    )
    def test_speaks_the_shell_asked_for(self, cli: Cli, shell: str, line: str) -> None:
        assert cli.said("env", "--shell", shell, SHELL="/bin/zsh") == line.format(cli.wrapper) + "\n"

    def test_speaks_the_shell_detected(self, cli: Cli) -> None:
        assert cli.said("env", SHELL="/usr/bin/fish").startswith("set -gx ")

    def test_refuses_an_unknown_shell(self, cli: Cli) -> None:
        done = cli.run("env", "--shell", "tcsh")
        assert done.returncode == 2
        assert "tcsh" in done.stderr

    def test_prints_a_path_that_is_not_unicode(self, cli: Cli) -> None:
        own = os.fsdecode(b"/\xff/cargo")
        command = [str(cli.root / "bin" / "pyo3-envshim"), "env"]
        # most locales' error handler; C.UTF-8, which the tests have, is an exception
        environ = {**cli.environ, "CARGO": own, "PYTHONIOENCODING": "utf-8:strict"}
        done = subprocess.run(command, env=environ, cwd=cli.cwd, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\nexport PYO3_ENVSHIM_CARGO='/\xff/cargo'\n" in done.stdout

    def test_for_github_appends_to_the_files(self, cli: Cli, tmp_path: Path) -> None:
        files = {name: str(tmp_path / name) for name in ("GITHUB_ENV", "GITHUB_PATH")}
        said = cli.said("env", "--github", **files)
        assert len(said.splitlines()) == 1
        assert Path(files["GITHUB_ENV"]).read_text() == f"CARGO={cli.wrapper}\n"
        assert Path(files["GITHUB_PATH"]).read_text() == f"{cli.root / 'bin'}\n"

    def test_for_github_refuses_outside_of_a_job(self, cli: Cli) -> None:
        error, hint = cli.refused("env", "--github")
        assert error == "GITHUB_ENV is not set"
        assert "GitHub Actions" in hint


class TestRun:
    """`pyo3-envshim run -- COMMAND`: the command's own process, with the variables set."""

    @pytest.mark.parametrize("dashes", [True, False], ids=["after --", "bare"])
    def test_sets_the_variables(self, cli: Cli, dashes: bool) -> None:
        command = ["sh", "-c", 'echo "$CARGO|$PYO3_ENVSHIM_CARGO"']
        said = cli.said("run", *["--"] * dashes, *command, CARGO="/own/cargo")
        assert said == f"{cli.wrapper}|/own/cargo\n"

    def test_sets_nothing_that_names_an_interpreter(self, cli: Cli) -> None:
        before = subprocess.run(["env", "-0"], env=cli.environ, cwd=cli.cwd, capture_output=True, text=True)
        after = cli.said("run", "--", "env", "-0")
        assert set(after.split("\0")) - set(before.stdout.split("\0")) == {f"CARGO={cli.wrapper}"}

    @pytest.mark.parametrize("status", [0, 1, 2, 77, 255])
    def test_ends_with_the_commands_status(self, cli: Cli, status: int) -> None:
        done = cli.run("run", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
        assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "err\n")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGPIPE])
    def test_ends_by_the_commands_signal(self, cli: Cli, number: signal.Signals) -> None:
        done = cli.run("run", "--", "sh", "-c", f"kill -{int(number)} $$")
        assert (done.returncode, done.stderr) == (-number, "")

    def test_leaves_every_signal_as_it_was(self, cli: Cli) -> None:
        """Python ignores some, and what is ignored stays so in what it starts."""
        asks = ["grep", "^SigIgn:", "/proc/self/status"]
        if not os.path.exists(asks[-1]):
            pytest.skip("this reads Linux's /proc")
        directly = subprocess.run(["env", *asks], env=cli.environ, capture_output=True, text=True)
        assert cli.said("run", "--", *asks) == directly.stdout

    def test_passes_standard_input_and_odd_arguments_on(self, cli: Cli) -> None:
        odd = ["", "a b", "--", "-x", "--help", "$HOME", "*", os.fsdecode(b"\xff")]
        command = [str(cli.root / "bin" / "pyo3-envshim"), "run", "--", "sh", "-c"]
        command += ['cat; printf "[%s]" "$@"', "sh", *odd]
        done = subprocess.run(command, env=cli.environ, cwd=cli.cwd, input=b"in", capture_output=True)
        expected = b"in" + b"".join(b"[%s]" % os.fsencode(word) for word in odd)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")

    def test_without_a_command_shows_one(self, cli: Cli) -> None:
        for words in ((), ("--",)):
            error, hint = cli.refused("run", *words)
            assert error == "no command given"
            assert hint.startswith("pyo3-envshim run -- ")

    @pytest.mark.parametrize("command", ["no-such-command", "/no/such/command", "/etc/passwd"])
    def test_says_what_it_cannot_run(self, cli: Cli, command: str) -> None:
        error, _ = cli.refused("run", "--", command)
        assert error.startswith(f"{command} cannot be run: ")

    def test_says_what_the_system_cannot_run(self, cli: Cli, tmp_path: Path) -> None:
        program = script(tmp_path / "program", "\x7fELF is what this is not")
        error, _ = cli.refused("run", "--", str(program))
        assert error == f"{program} cannot be run: Exec format error"


class TestAnInstallationThatIsNotWhole:
    """The wrapper is not beside the program."""

    @pytest.mark.parametrize("command", [("env",), ("run", "--", "true")], ids=["env", "run"])
    def test_is_told(self, shared: Shared, a_python: str, cli: Cli, command: tuple[str, ...]) -> None:
        bare = shared.environment(a_python, shim=False)
        package = next((cli.root / "lib").glob("python3.*/site-packages"))
        script = "from pyo3_envshim.cli import main; raise SystemExit(main())"
        done = subprocess.run(
            [str(bare / "bin" / "python"), "-c", script, *command],
            env={**cli.environ, "PYTHONPATH": str(moved(package, cli.cwd))},
            cwd=cli.cwd,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: pyo3-envshim-cargo is not beside ")
        assert hint == "hint: reinstall pyo3-envshim with its scripts"


def moved(site: Path, folder: Path) -> Path:
    """Return a folder with the package alone, away from its scripts."""
    place = folder / "deep" / "in" / "a" / "folder"
    place.mkdir(parents=True)
    (place / "pyo3_envshim").symlink_to(site / "pyo3_envshim")
    return place


@pytest.mark.parametrize("command", ["install", "uninstall"])
class TestInstallAndUninstall:
    """What both refuse; builds/test_ways_in.py installs."""

    def test_refuse_what_is_no_interpreter(self, cli: Cli, command: str) -> None:
        error, hint = cli.refused(command, "--python", "/no/such/python")
        assert error == "/no/such/python is not a Python that runs"
        assert "--python" in hint

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
    answers_for(folder, script(folder / "python", ""))
    return folder


def answers_for(folder: Path, python: Path) -> None:
    """Make *python* answer as the interpreter whose standard library *folder* is."""
    python.write_text(f'#!/bin/sh\necho \'["{folder}", "3.13.1"]\'\n')


class TestAnInterpretersLibrary:
    """What `install` does there; builds/test_ways_in.py then runs the interpreter."""

    @pytest.fixture
    def say(self, cli: Cli, library: Path) -> Callable[..., str]:
        """Return what runs a command for the interpreter."""
        return lambda *words: cli.said(*words, "--python", str(library / "python"))

    @pytest.fixture
    def refuse(self, cli: Cli, library: Path) -> Callable[..., tuple[str, str]]:
        """Return what runs a command that is refused for the interpreter, and changes nothing."""

        def refuse(*words: str) -> tuple[str, str]:
            before = tree(library)
            said = cli.refused(*words, "--python", str(library / "python"))
            assert tree(library) == before
            return said

        return refuse

    def test_gets_one_file_and_loses_it_again(self, say: Callable[..., str], library: Path) -> None:
        before = tree(library)
        assert say("install") == f"installed {library}/sitecustomize.py for Python 3.13.1\n"
        assert tree(library).keys() - before.keys() == {"sitecustomize.py"}
        assert say("install") == f"already installed: {library}/sitecustomize.py\n"
        script(library / "__pycache__" / "sitecustomize.cpython-313.pyc", "")
        other = script(library / "__pycache__" / "site.cpython-313.pyc", "")
        assert say("uninstall") == f"removed {library}/sitecustomize.py of Python 3.13.1\n"
        assert tree(library) == {**before, str(other.relative_to(library)): b""}
        assert say("uninstall") == f"not installed: {library}/sitecustomize.py\n"

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
        assert tree(library).keys() == {"python", "sitecustomize.py"}

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
        assert refuse("uninstall")[0].startswith(f"{library}/sitecustomize.py cannot be removed: ")
