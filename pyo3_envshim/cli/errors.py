"""The command line's own error, which `main` prints as one line and a hint."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what was asked: the message says why, *hint* is the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
