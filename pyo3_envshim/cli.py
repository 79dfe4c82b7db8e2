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
        if chosen.command == "env":
            shell = chosen.shell or activation.shell_of(os.environ, os.name == "nt")
            print(activation.shell_code(activation.variables(os.environ), shell), end="")
            return 0
        command = chosen.COMMAND[1:] if chosen.COMMAND[:1] == ["--"] else chosen.COMMAND
        if not command:
            raise activation.ActivationError("no command given", "pyo3-envshim run -- uv build")
        return activation.run(command)
    except activation.ActivationError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2


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
    run = commands.add_parser(
        "run",
        help="run one command with it on",
        description="Run one command with the shim on. Exit status and signals are the command's.",
        epilog="example: pyo3-envshim run -- uv sync",
    )
    run.add_argument("COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments, after --")
    return parser
