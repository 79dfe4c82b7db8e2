"""The notes that are left in a kept build folder, for the next build in it.

    checksums   what registries had when it was compiled: cargo compares names and versions
    compiler    the state of the last build's
    disk-full   a build failed in here, and left little room
    each-time   the packages that asked the system in the last build, and those that need them
    outputs     their sizes: cargo looks at their times only, and rustc fails on what lost its end
    overlays    the last content of an overlay, by interpreter
    too-large   more than the limit by itself: the next build keeps nothing

What cannot be read raises OSError, where nothing else is said.
"""

from __future__ import annotations

import json
import os

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_CHECKSUMS = "checksums"
_COMPILER = "compiler"
_EACH_TIME = "each-time"
_OUTPUTS = "outputs"
_OVERLAYS = "overlays"
DISK_FULL = "disk-full"
TOO_LARGE = "too-large"


class BuildNotes:
    """The notes in a folder."""

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def begin(self) -> None:
        """Remove what does not hold until cargo has ended."""
        for name in (_COMPILER, DISK_FULL, TOO_LARGE):
            files.remove(self._path(name))

    def has(self, mark: str) -> bool:
        """Tell whether there is a mark: `DISK_FULL`, `TOO_LARGE`."""
        return os.path.exists(self._path(mark))

    def mark(self, mark: str) -> None:
        """Leave a mark."""
        self._write(mark, "")

    def checksums(self) -> dict[str, str] | None:
        """Return what `metadata.checksums` was for all builds in the folder; None if that is not known."""
        try:
            return dict(target_dir.read_json(self._path(_CHECKSUMS)))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError):
            return None

    def note_checksums(self, checksums: Mapping[str, str]) -> None:
        self._write(_CHECKSUMS, json.dumps(checksums))

    def compiler(self) -> str:
        """Return `harmless.compiler` of the last build; "" if that is not known."""
        return self._read(_COMPILER)

    def note_compiler(self, state: str) -> None:
        self._write(_COMPILER, state)

    def is_damaged(self) -> bool:
        """Tell whether an output has another size than after the last build, as after a power failure."""
        try:
            sizes = target_dir.read_json(self._path(_OUTPUTS)).items()
        except FileNotFoundError:
            return False
        except (OSError, ValueError, AttributeError):
            return True
        now = target_dir.sizes_of_outputs(self._folder)
        return any(now.get(name, size) != size for name, size in sizes)

    def note_outputs(self) -> None:
        self._write(_OUTPUTS, json.dumps(target_dir.sizes_of_outputs(self._folder)))

    def overlays(self) -> dict[str, str]:
        """Return the last content of each interpreter's overlay."""
        lines = self._read(_OVERLAYS).splitlines()
        return dict(line.split("\0") for line in lines if "\0" in line)

    def note_overlays(self, contents: Mapping[str, str]) -> None:
        self._write(_OVERLAYS, "".join(f"{name}\0{it}\n" for name, it in contents.items()))

    def each_time(self) -> dict[str, list[str]]:
        """Return the packages that the last build did not keep, by why: *asks*, *needs*. Raises nothing."""
        try:
            return dict(json.loads(self._read(_EACH_TIME)))
        except (OSError, ValueError, TypeError):
            return {}

    def note_each_time(self, asks: Collection[str], needs: Collection[str]) -> None:
        self._write(_EACH_TIME, json.dumps({"asks": sorted(asks), "needs": sorted(needs)}))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _read(self, name: str) -> str:
        try:
            with open(self._path(name), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        files.replace(self._path(name), text.encode("utf-8", "surrogateescape"))
