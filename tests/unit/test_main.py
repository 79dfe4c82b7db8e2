"""The command line, as installed: its help and its completion."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyo3_envshim

from .environments import Shared, program_in, wrapper

COMMANDS = ("env", "run", "explain", "off", "on", "install", "uninstall", "doctor", "cache")


@dataclass
class Cli:
    """The installed program, and what it is run with."""

    root: Path
    environ: Mapping[str, str]
    cwd: Path

    @property
    def wrapper(self) -> str:
        """The cargo that it puts in front."""
        return str(wrapper(self.root))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        command = [str(program_in(self.root, "pyo3-envshim")), *arguments]
        environ = {**self.environ, **variables}
        return subprocess.run(command, env=environ, cwd=self.cwd, capture_output=True, text=True)

    def said(self, *arguments: str, **variables: str) -> str:
        """Run it with success; return what it printed."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refused(self, *arguments: str, status: int = 2, **variables: str) -> tuple[str, str]:
        """Run it without success; return the error and the hint: all that it printed."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stdout) == (status, "")
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

    @pytest.mark.parametrize("words", [("cache", "dir", "--no"), ("doctor", "--no"), ("--no",)])
    def test_of_the_command_is_what_an_unknown_option_gets(self, cli: Cli, words: tuple[str, ...]) -> None:
        done = cli.run(*words)
        usage, error = done.stderr.splitlines()
        name = " ".join(["pyo3-envshim", *words[:-1]])
        assert done.returncode == 2
        assert usage.startswith(f"usage: {name} [-h]")
        assert error == f"{name}: error: unrecognized arguments: --no"

    def test_of_on_is_not_that_of_off(self, cli: Cli) -> None:
        on, off = (cli.said(command, "--help").split("\n\n")[1] for command in ("on", "off"))
        assert on.startswith("Undo off")
        assert off.startswith("Switch the shim off")

    def test_of_the_version(self, cli: Cli) -> None:
        assert cli.said("--version") == f"pyo3-envshim {pyo3_envshim.__version__}\n"

    def test_works_with_python_m(self, cli: Cli) -> None:
        command = [str(program_in(cli.root, "python")), "-m", "pyo3_envshim", "--version"]
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
