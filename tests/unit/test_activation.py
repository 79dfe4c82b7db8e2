"""What `env`, `run` and `install` decide and write; builds/test_ways_in.py builds with them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim import activation

HOSTILE = {
    "empty": "",
    "spaces": " a  b ",
    "quotes": 'it\'s "quoted"',
    "a quote at each end": "'x'",
    "substitution": "$(touch pwned) `touch pwned` ${HOME} $HOME %PATH%",
    "separators": "a; touch pwned & touch pwned | b > pwned # c",
    "globs": "* ? [a] {a,b} ~ !1",
    "backslashes": "\\ \\\\ \\' \\n C:\\new\\table\\",
    "lines": "one\ntwo\n",
    "a tab and a return": "\ta\r",
    "other scripts": "\u00fc \u65e5\u672c \U0001f980 \u2019",
    "a leading dash": "-n -e",
}
each_hostile_value = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)

# Two variables, because what follows a value must still be code.
PRINTS = """\
import os, sys
sys.stdout.buffer.write(os.fsencode(os.environ["CARGO"] + "|" + os.environ["LAST"]))
"""


def evaluated(shell: list[str], code: str, cwd: Path) -> bytes:
    """Evaluate code in a shell; return what the variables then are in what it starts."""
    command = [*shell, f"{code}{shlex.quote(sys.executable)} -c '{PRINTS}'"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environ, cwd=cwd, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not (cwd / "pwned").exists()
    return done.stdout


class TestShellCode:
    """The code that sets variables in a shell."""

    @each_hostile_value
    def test_for_sh_sets_the_very_value(self, value: str, home: Path) -> None:
        code = activation.shell_code({"CARGO": value, "LAST": "1"}, "sh")
        assert evaluated(["sh", "-c"], code, home) == f"{value}|1".encode()

    @each_hostile_value
    def test_for_sh_survives_eval_of_a_substitution(self, value: str, home: Path, tmp_path: Path) -> None:
        """As in the documented `eval "$(pyo3-envshim env)"`."""
        file = tmp_path / "code"
        file.write_bytes(activation.shell_code({"CARGO": value, "LAST": "1"}, "sh").encode())
        assert evaluated(["sh", "-c"], f'eval "$(cat {file})"\n', home) == f"{value}|1".encode()

    @each_hostile_value
    def test_for_fish_sets_the_very_value(self, value: str, home: Path) -> None:
        fish = shutil.which("fish")
        if fish is None:
            pytest.skip("there is no fish on PATH")
        code = activation.shell_code({"CARGO": value, "LAST": "1"}, "fish")
        assert evaluated([fish, "--no-config", "-c"], code, home) == f"{value}|1".encode()

    @pytest.mark.parametrize(
        ("value", "quoted"),
        [
            ("/usr/bin/cargo", "'/usr/bin/cargo'"),
            ("it's", "'it''s'"),
            ("C:\\Program Files\\$(x)`n", "'C:\\Program Files\\$(x)`n'"),
            # about_Quoting_Rules: PowerShell ends a string at each of these as well
            ("a\u2018b\u2019c\u201ad\u201be", "'a\u2018\u2018b\u2019\u2019c\u201a\u201ad\u201b\u201be'"),
        ],
        ids=["plain", "quote", "windows", "typographic quotes"],
    )
    def test_for_powershell_doubles_what_ends_a_string(self, value: str, quoted: str) -> None:
        assert activation.shell_code({"CARGO": value}, "powershell") == f"$env:CARGO = {quoted}\n"

    @pytest.mark.parametrize("shell", activation.SHELLS)
    def test_of_nothing_is_nothing(self, shell: str) -> None:
        assert activation.shell_code({}, shell) == ""

    @pytest.mark.parametrize("shell", activation.SHELLS)
    def test_has_a_line_for_each_variable(self, shell: str) -> None:
        code = activation.shell_code({"CARGO": "a", "PYO3_ENVSHIM_CARGO": "b"}, shell)
        first, second = code.splitlines()
        assert "CARGO" in first
        assert "PYO3_ENVSHIM_CARGO" in second
        assert code.endswith("\n")


@pytest.mark.parametrize(
    ("shell", "windows", "expected"),
    [
        ("/bin/sh", False, "sh"),
        ("/bin/bash", False, "sh"),
        ("/usr/bin/zsh", False, "sh"),
        ("/usr/bin/fish", False, "fish"),
        ("/opt/fish/bin/bash", False, "sh"),
        (None, False, "sh"),
        ("", False, "sh"),
        (None, True, "powershell"),
        ("", True, "powershell"),
        ("/usr/bin/bash", True, "sh"),  # Git for Windows
        ("/usr/bin/fish", True, "fish"),
    ],
)
def test_the_shell_is_detected(shell: str | None, windows: bool, expected: str) -> None:
    environ = {} if shell is None else {"SHELL": shell}
    assert activation.shell_of(environ, windows) == expected


def test_a_checkout_is_not_installed() -> None:
    """Its `sitecustomize` lies elsewhere than in the wheel."""
    with pytest.raises(activation.ActivationError, match="not a whole installation") as error:
        activation.install(sys.executable, dry_run=True)
    assert "wheel" in error.value.hint


class TestAJobOfGitHubActions:
    """`env --github`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> dict[str, str]:
        """Return the variables of a job, whose files have content already."""
        environ = {name: str(tmp_path / name.lower()) for name in ("GITHUB_ENV", "GITHUB_PATH")}
        for path in environ.values():
            Path(path).write_text("before\n")
        return environ

    def test_gets_the_variables_appended(self, job: dict[str, str]) -> None:
        found = {"CARGO": "/w/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own cargo"}
        said = activation.append_for_github(found, job)
        assert Path(job["GITHUB_ENV"]).read_text() == (
            "before\nCARGO=/w/pyo3-envshim-cargo\nPYO3_ENVSHIM_CARGO=/own cargo\n"
        )
        assert said == "switched on for the following steps: CARGO PYO3_ENVSHIM_CARGO"

    def test_gets_no_variable_more_than_asked_for(self, job: dict[str, str]) -> None:
        """GitHub reads a line each: a value of several lines must not become several variables."""
        hostile = "/own\nLD_PRELOAD=/evil.so"
        try:
            activation.append_for_github({"CARGO": "/w", "PYO3_ENVSHIM_CARGO": hostile}, job)
        except activation.ActivationError:
            return
        assert variables_of(Path(job["GITHUB_ENV"]).read_text().partition("\n")[2]) == {
            "CARGO": "/w",
            "PYO3_ENVSHIM_CARGO": hostile,
        }

    @pytest.mark.parametrize("missing", ["GITHUB_ENV", "GITHUB_PATH"])
    @pytest.mark.parametrize("empty", [False, True], ids=["unset", "empty"])
    def test_is_asked_for_outside_of_one(self, job: dict[str, str], missing: str, empty: bool) -> None:
        environ = {**job, missing: ""} if empty else {n: v for n, v in job.items() if n != missing}
        with pytest.raises(activation.ActivationError, match=f"{missing} is not set") as error:
            activation.append_for_github({"CARGO": "/w"}, environ)
        assert "GitHub Actions" in error.value.hint
        assert {Path(path).read_text() for path in job.values()} == {"before\n"}

    def test_whose_file_cannot_be_written_is_told(self, job: dict[str, str], tmp_path: Path) -> None:
        job["GITHUB_ENV"] = str(tmp_path)
        with pytest.raises(activation.ActivationError, match="cannot be written") as error:
            activation.append_for_github({"CARGO": "/w"}, job)
        assert "GITHUB_ENV" in error.value.hint


def variables_of(text: str) -> dict[str, str]:
    """Read a GITHUB_ENV file as the runner does: `name=value`, or `name<<end`, lines and `end`."""
    found = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, end, value = line, "", ""
        if "<<" in line and "=" not in line.partition("<<")[0]:
            name, _, end = line.partition("<<")
            value = "\n".join(iter(lambda: next(lines), end))
        else:
            name, _, value = line.partition("=")
        found[name] = value
    return found
