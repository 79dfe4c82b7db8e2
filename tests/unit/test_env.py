"""What `env` and `run` decide, write and start; builds/test_ways_in.py builds with them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim.cli import env
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.store.store import Store

from .environments import Shared, program_in, script
from .posix import posix_only
from .test_main import Cli

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


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the program as the wheel installs it."""
    return Cli(shared.environment(a_python), environ, home)


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
        code = env.shell_code({"CARGO": value, "LAST": "1"}, "sh")
        assert evaluated(["sh", "-c"], code, home) == f"{value}|1".encode()

    @each_hostile_value
    def test_for_sh_survives_eval_of_a_substitution(self, value: str, home: Path, tmp_path: Path) -> None:
        """As in the documented `eval "$(pyo3-envshim env)"`."""
        file = tmp_path / "code"
        file.write_bytes(env.shell_code({"CARGO": value, "LAST": "1"}, "sh").encode())
        assert evaluated(["sh", "-c"], f'eval "$(cat {file})"\n', home) == f"{value}|1".encode()

    @each_hostile_value
    def test_for_fish_sets_the_very_value(self, value: str, home: Path) -> None:
        fish = shutil.which("fish")
        if fish is None:
            pytest.skip("there is no fish on PATH")
        code = env.shell_code({"CARGO": value, "LAST": "1"}, "fish")
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
        assert env.shell_code({"CARGO": value}, "powershell") == f"$env:CARGO = {quoted}\n"

    @pytest.mark.parametrize("shell", env.SHELLS)
    def test_of_nothing_is_nothing(self, shell: str) -> None:
        assert env.shell_code({}, shell) == ""

    @pytest.mark.parametrize("shell", env.SHELLS)
    def test_has_a_line_for_each_variable(self, shell: str) -> None:
        code = env.shell_code({"CARGO": "a", "PYO3_ENVSHIM_CARGO": "b"}, shell)
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
    assert env.shell_of(environ, windows) == expected


class TestAJobOfGitHubActions:
    """`env --github`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> dict[str, str]:
        """Return the variables of a job, whose files have content already."""
        environ = {name: str(tmp_path / name.lower()) for name in ("GITHUB_ENV", "GITHUB_PATH")}
        for path in environ.values():
            Path(path).write_text("before\n")
        (tmp_path / "home").mkdir()
        return {**environ, "HOME": str(tmp_path / "home")}

    def files(self, job: dict[str, str]) -> set[str]:
        return {Path(job[name]).read_text() for name in ("GITHUB_ENV", "GITHUB_PATH")}

    def test_gets_the_variables_appended(self, job: dict[str, str]) -> None:
        found = {"CARGO": "/w/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own cargo"}
        said = env.append_for_github(found, job)
        assert Path(job["GITHUB_ENV"]).read_text() == (
            "before\nCARGO=/w/pyo3-envshim-cargo\nPYO3_ENVSHIM_CARGO=/own cargo\n"
        )
        assert said == "switched on for the following steps: CARGO PYO3_ENVSHIM_CARGO"

    def test_gets_no_variable_more_than_asked_for(self, job: dict[str, str]) -> None:
        """GitHub reads a line each: a value of several lines must not become several variables."""
        hostile = "/own\nLD_PRELOAD=/evil.so"
        try:
            env.append_for_github({"CARGO": "/w", "PYO3_ENVSHIM_CARGO": hostile}, job)
        except CommandError:
            return
        assert variables_of(Path(job["GITHUB_ENV"]).read_text().partition("\n")[2]) == {
            "CARGO": "/w",
            "PYO3_ENVSHIM_CARGO": hostile,
        }

    @pytest.mark.parametrize("missing", ["GITHUB_ENV", "GITHUB_PATH"])
    @pytest.mark.parametrize("empty", [False, True], ids=["unset", "empty"])
    def test_is_asked_for_outside_of_one(self, job: dict[str, str], missing: str, empty: bool) -> None:
        environ = {**job, missing: ""} if empty else {n: v for n, v in job.items() if n != missing}
        with pytest.raises(CommandError, match=f"{missing} is not set") as error:
            env.append_for_github({"CARGO": "/w"}, environ)
        assert "GitHub Actions" in error.value.hint
        assert self.files(job) == {"before\n"}

    def test_gets_a_cache_folder_that_works_where_home_is_the_runners(
        self, job: dict[str, str], tmp_path: Path
    ) -> None:
        """In a container, HOME and RUNNER_TEMP belong to the runner's user, who is not root."""
        (tmp_path / "home").chmod(0o777)
        (tmp_path / "tmp").mkdir()
        said = env.append_for_github({"CARGO": "/w"}, {**job, "TMPDIR": str(tmp_path / "tmp")})
        spare = f"{tmp_path}/tmp/pyo3-envshim-{os.geteuid()}"
        assert Path(job["GITHUB_ENV"]).read_text() == f"before\nCARGO=/w\nPYO3_ENVSHIM_CACHE_DIR={spare}\n"
        assert said == "switched on for the following steps: CARGO PYO3_ENVSHIM_CACHE_DIR"
        assert Store.open({**job, "PYO3_ENVSHIM_CACHE_DIR": spare}).root == spare

    def test_gets_none_where_none_works_or_one_was_chosen(self, job: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "home").chmod(0o777)
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp").chmod(0o777)
        job["TMPDIR"] = str(tmp_path / "tmp")
        for more in ({}, {"PYO3_ENVSHIM_CACHE_DIR": str(tmp_path / "home")}):
            assert "CACHE_DIR" not in env.append_for_github({"CARGO": "/w"}, {**job, **more})

    def test_whose_file_cannot_be_written_is_told(self, job: dict[str, str], tmp_path: Path) -> None:
        job["GITHUB_ENV"] = str(tmp_path)
        with pytest.raises(CommandError, match="cannot be written") as error:
            env.append_for_github({"CARGO": "/w"}, job)
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
        command = [str(program_in(cli.root, "pyo3-envshim")), "env"]
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

    def test_for_github_shadows_no_program_of_the_steps(self, cli: Cli, tmp_path: Path) -> None:
        """Our environment's python, say, is not the one that setup-python has brought."""
        files = {name: str(tmp_path / name) for name in ("GITHUB_ENV", "GITHUB_PATH")}
        for more, programs in ((), []), (("--path",), ["cargo"]):
            Path(files["GITHUB_PATH"]).write_text("")
            cli.said("env", "--github", *more, **files)
            folders = Path(files["GITHUB_PATH"]).read_text().splitlines()
            assert [name for folder in folders for name in os.listdir(folder)] == programs

    def test_with_path_puts_a_cargo_in_front(self, cli: Cli) -> None:
        said = cli.said("env", "--path")
        line = said.splitlines()[1]
        assert line.startswith("export PATH=")
        first = line.partition("=")[2].split(":")[0]
        assert os.path.realpath(f"{first}/cargo") == os.path.realpath(str(cli.wrapper))
        assert line == f"export PATH={first}:{cli.environ['PATH']}"
        again = cli.said("env", "--path", PATH=f"{first}:{cli.environ['PATH']}")
        assert again == f"export CARGO={cli.wrapper}\n"

    def test_with_path_for_github_puts_a_cargo_in_front(self, cli: Cli, tmp_path: Path) -> None:
        files = {name: str(tmp_path / name) for name in ("GITHUB_ENV", "GITHUB_PATH")}
        cli.said("env", "--github", "--path", **files)
        (folder,) = Path(files["GITHUB_PATH"]).read_text().splitlines()
        assert os.path.samefile(f"{folder}/cargo", str(cli.wrapper))
        assert Path(files["GITHUB_ENV"]).read_text() == f"CARGO={cli.wrapper}\n"

    def test_with_path_lets_nobody_else_replace_the_cargo(self, cli: Cli, tmp_path: Path) -> None:
        store = tmp_path / "store"
        store.mkdir(mode=0o700)
        folder = Path(
            cli.said("env", "--path", PYO3_ENVSHIM_CACHE_DIR=str(store)).split("PATH=")[1].split(":")[0]
        )
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "cargo").unlink()
        (folder / "cargo").symlink_to("/bin/false")
        cli.said("env", "--path", PYO3_ENVSHIM_CACHE_DIR=str(store))
        assert os.readlink(folder / "cargo") == cli.wrapper
        folder.chmod(0o777)
        error, _ = cli.refused("env", "--path", PYO3_ENVSHIM_CACHE_DIR=str(store))
        assert error == f"{folder} can be written by others"
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o777)  # the store is in the temporary folder then, which gets cleaned
        error, _ = cli.refused("env", "--path", HOME=str(tmp_path / "shared"), TMPDIR=str(tmp_path))
        assert str(tmp_path / "shared") in error

    def test_with_path_says_where_it_cannot_write(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        error, _ = cli.refused("env", "--path", PYO3_ENVSHIM_CACHE_DIR=str(tmp_path / "file"))
        assert str(tmp_path / "file") in error
        error, hint = cli.refused("env", "--path", PYO3_ENVSHIM_CACHE_DIR=str(tmp_path / "a:b"))
        assert "cannot stand in PATH" in error
        assert "PYO3_ENVSHIM_CACHE_DIR" in hint

    def test_leaves_a_cargo_that_has_another_name(self, cli: Cli) -> None:
        done = cli.run("env", CARGO="cross")
        assert (done.returncode, done.stdout) == (0, "")
        assert "CARGO=cross is not called cargo" in done.stderr

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

    def test_with_path_puts_a_cargo_in_front(self, cli: Cli) -> None:
        cargo = cli.said("run", "--path", "--", "sh", "-c", "command -v cargo").strip()
        assert os.path.realpath(cargo) == os.path.realpath(str(cli.wrapper))

    @pytest.mark.parametrize("status", [0, 1, 2, 77, 255])
    def test_ends_with_the_commands_status(self, cli: Cli, status: int) -> None:
        done = cli.run("run", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
        assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "err\n")

    @posix_only("signals")
    @pytest.mark.parametrize("by", ["SIGINT", "SIGTERM", "SIGKILL", "SIGPIPE"])
    def test_ends_by_the_commands_signal(self, cli: Cli, by: str) -> None:
        number = getattr(signal, by)
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
        command = [str(program_in(cli.root, "pyo3-envshim")), "run", "--", "sh", "-c"]
        command += ['cat; printf "[%s]" "$@"', "sh", *odd]
        done = subprocess.run(command, env=cli.environ, cwd=cli.cwd, input=b"in", capture_output=True)
        expected = b"in" + b"".join(b"[%s]" % os.fsencode(word) for word in odd)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")

    def test_without_a_command_shows_one(self, cli: Cli) -> None:
        for words in ((), ("--",)):
            error, hint = cli.refused("run", *words)
            assert error == "no command given"
            assert hint.startswith("pyo3-envshim run -- ")

    @pytest.mark.parametrize("way", ["run", "explain"])
    @pytest.mark.parametrize(
        ("command", "status", "reason", "hint"),
        [
            ("no-such-command", 127, "not found", "is it on PATH?"),
            ("/no/such/command", 127, "not found", "is the path right?"),
            ("./plain file", 126, "it is not executable", "chmod +x './plain file'"),
            ("/etc", 126, "it is a folder", "name a program"),
        ],
    )
    def test_says_what_it_cannot_run_and_ends_as_a_shell_would(
        self, cli: Cli, way: str, command: str, status: int, reason: str, hint: str
    ) -> None:
        (cli.cwd / "plain file").touch()
        said = cli.refused(way, "--", command, status=status)
        assert said == (f"{command} cannot be run: {reason}", hint)

    def test_says_what_the_system_cannot_run(self, cli: Cli, tmp_path: Path) -> None:
        program = script(tmp_path / "program", "\x7fELF is what this is not")
        error, hint = cli.refused("run", "--", str(program), status=126)
        assert error == f"{program} cannot be run: Exec format error"
        assert "PATH" not in hint


class TestAnInstallationThatIsNotWhole:
    """The wrapper is not beside the program."""

    @pytest.mark.parametrize("command", [("env",), ("run", "--", "true")], ids=["env", "run"])
    def test_is_told(self, shared: Shared, a_python: str, cli: Cli, command: tuple[str, ...]) -> None:
        bare = shared.environment(a_python, shim=False)
        package = next((cli.root / "lib").glob("python3.*/site-packages"))
        script = "from pyo3_envshim.cli.main import main; raise SystemExit(main())"
        done = subprocess.run(
            [str(program_in(bare, "python")), "-c", script, *command],
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
