"""The command line's own error, which `main` prints as one line and a hint."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what was asked: *hint* is the way out, *status* the exit status."""

    def __init__(self, message: str, hint: str, status: int = 2) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
