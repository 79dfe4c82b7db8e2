"""The command line: ``pyo3-envshim``. Parses, calls, prints; decides nothing."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pyo3_envshim import __version__, activation

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pyo3-envshim`` with *arguments* (default: the process's); return its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 2
    try:
        return int(chosen.act(chosen))
    except activation.ActivationError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2


def _env(chosen: argparse.Namespace) -> int:
    found = activation.variables(os.environ)
    if chosen.github:
        print(activation.append_for_github(found, os.environ))
    else:
        shell = chosen.shell or activation.shell_of(os.environ, os.name == "nt")
        # A path may hold what stdout's encoding does not
        sys.stdout.buffer.write(os.fsencode(activation.shell_code(found, shell)))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    return activation.run(_command(chosen))


def _explain(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import explain

    return explain.explain(_command(chosen), chosen.json)


def _command(chosen: argparse.Namespace) -> list[str]:
    command: list[str] = chosen.COMMAND[1:] if chosen.COMMAND[:1] == ["--"] else chosen.COMMAND
    if not command:
        raise activation.ActivationError("no command given", f"pyo3-envshim {chosen.command} -- uv build")
    return command


def _install(chosen: argparse.Namespace) -> int:
    print(activation.install(chosen.python, chosen.chain, chosen.force, chosen.dry_run))
    return 0


def _uninstall(chosen: argparse.Namespace) -> int:
    print(activation.uninstall(chosen.python, chosen.dry_run))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyo3-envshim",
        description="Gives the throw-away environments of isolated builds one permanent address, "
        "so that cargo does not recompile PyO3 when nothing changed.",
    )
    parser.add_argument("--version", action="version", version=f"pyo3-envshim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    env = commands.add_parser(
        "env",
        help="print what a shell evaluates to switch it on",
        description="Print what a shell evaluates to switch the shim on for everything it starts.",
        epilog='example: eval "$(pyo3-envshim env)"',
    )
    env.add_argument("--shell", choices=activation.SHELLS, help="default: detected")
    env.add_argument("--github", action="store_true", help="append to the files of a GitHub Actions job")
    env.set_defaults(act=_env)
    run = commands.add_parser(
        "run",
        help="run one command with it on",
        description="Run one command with the shim on. Exit status and signals are the command's.",
        epilog="example: pyo3-envshim run -- uv sync",
    )
    run.add_argument("COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments, after --")
    run.set_defaults(act=_run)
    explain = commands.add_parser(
        "explain",
        help="run one command, and say what cargo recompiled and why",
        description="Run a build command and say which crates cargo recompiled, the root cause of each, and "
        "the way out. It changes nothing: the shim is on or off as without it. The explanation goes to "
        "stderr; output, exit status and signals are the command's.",
        epilog="example: pyo3-envshim explain -- uv build --wheel",
    )
    explain.add_argument(
        "--json", action="store_true", help="explain to stdout, as JSON; the command's own goes to stderr"
    )
    explain.add_argument("COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments, after --")
    explain.set_defaults(act=_explain)
    install = commands.add_parser(
        "install",
        help="switch it on for every environment made from an interpreter",
        description="Write a sitecustomize.py into an interpreter's standard-library folder, so that the "
        "shim is on in every environment made from it, uv's included.",
        epilog="example: pyo3-envshim install --python python3.13",
    )
    install.add_argument("--chain", action="store_true", help="keep and run another owner's sitecustomize.py")
    install.add_argument("--force", action="store_true", help="even if externally managed (PEP 668)")
    install.set_defaults(act=_install)
    uninstall = commands.add_parser(
        "uninstall",
        help="undo install",
        description="Remove exactly what install wrote, and restore what it kept.",
        epilog="example: pyo3-envshim uninstall --python python3.13",
    )
    uninstall.set_defaults(act=_uninstall)
    for command in (install, uninstall):
        command.add_argument("--python", default=sys.executable, help="default: the one that runs this")
        command.add_argument("--dry-run", action="store_true", help="say what would be done")
    return parser
