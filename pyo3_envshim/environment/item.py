"""One file or link of an environment's normal form: what the digest covers and the store writes."""

from __future__ import annotations

PLACEHOLDER = b"@PYO3-ENVSHIM-ENVIRONMENT@"  # stands for the environment's path in an item's text


class NotStorable(Exception):
    """Raised for an environment that has no normal form; the message says why in a few words."""


class Item:
    """A file or a link; *path* is relative to the environment and written with ``/``.

    A file either is copied from *source*, an absolute path, or has *text*, in which `PLACEHOLDER`
    stands for the environment's path. A link has *target*. *content* is the hash of what it holds.
    """

    __slots__ = ("content", "executable", "path", "source", "target", "text")

    def __init__(
        self,
        path: str,
        content: str,
        executable: bool = False,
        source: str | None = None,
        text: bytes | None = None,
        target: str | None = None,
    ) -> None:
        self.path = path
        self.content = content
        self.executable = executable
        self.source = source
        self.text = text
        self.target = target

    @property
    def kind(self) -> str:
        """What distinguishes this item from another with the same content."""
        kind = "link" if self.target is not None else "text" if self.text is not None else "file"
        return kind + (" executable" if self.executable else "")
