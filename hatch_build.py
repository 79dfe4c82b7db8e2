"""Builds this project's two wheels, and writes the startup hooks into them.

The hooks are made from their sources in hooks/ and from the one table of front ends,
pyo3_envshim/environment/frontends.py. pyo3_envshim/_startup.py, which must not import the table, holds
two lists from it: a build compares them, and ``python hatch_build.py`` writes them.

There are two wheels because Python 3.18 and later ignore import lines in ``.pth`` files and run
``.start`` files instead (PEP 829). A ``.start`` costs more at start-up, and where there is one, Python
does not run the ``.pth`` beside it, so the wheel for Python 3.9 to 3.17 must not contain one.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import runpy
import tempfile
import zipfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAG = "py318-none-any"
# Not py3: Python 3.19 would prefer that to py318, but prefers py318 to this
# (packaging's tags.compatible_tags, which pip and uv follow).
FIRST_TAG = "py39-none-any"
START = "pyo3_envshim.start"


class Wheels(BuildHookInterface[Any]):
    """hatchling's build hook of this project, for the wheel target."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the startup hooks to the wheel, and tag the first wheel."""
        check_startup(self.root)
        self.folder = tempfile.TemporaryDirectory()
        for number, (path, text) in enumerate(hooks(self.root).items()):
            source = os.path.join(self.folder.name, str(number))
            with open(source, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            build_data["force_include"][source] = path
        if version == "standard":
            build_data["tag"] = FIRST_TAG

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Write the second wheel beside the first, which hatchling has just written."""
        self.folder.cleanup()
        if version == "standard":
            with open(os.path.join(self.root, "hooks", START), "rb") as file:
                add_start_file(artifact_path, file.read())


def hooks(root: str) -> dict[str, str]:
    """Return the texts of the startup hooks, by their paths in the wheel; *root* is the checkout."""
    table, startup = _load(root, "environment", "frontends.py"), _load(root, "_startup.py")
    scripts = [name for front_end in table["FRONT_ENDS"] for name in front_end.scripts]
    names = ["-m", *scripts, startup["WRAPPER"]]
    lists = {
        "@ENDINGS@": [name[-3:] for name in (*names, ".exe")],
        "@PROGRAMS@": [name.rstrip("0123456789.") for name in names],
        "@MARKERS@": table["MARKERS"],
    }

    def filled(name: str) -> str:
        with open(os.path.join(root, "hooks", name), encoding="utf-8") as file:
            text = file.read()
        for placeholder, words in lists.items():
            text = text.replace(placeholder, " ".join(dict.fromkeys(words)))
        return text

    line = " ".join(part for part in filled("pyo3_envshim.pth.in").splitlines() if not part.startswith("#"))
    return {
        "pyo3_envshim.pth": line + "\n",
        "pyo3_envshim/_sitecustomize.py.in": filled("sitecustomize.py"),
    }


def check_startup(root: str) -> None:
    """Raise ValueError if ``_startup.py`` does not hold the names that the table of front ends has."""
    startup = _load(root, "_startup.py")
    for name, words in _startup_lists(root).items():
        if startup[name] != " ".join(words):
            raise ValueError(f"{name} in _startup.py is not the table's: run `python hatch_build.py`")


def write_startup(root: str) -> None:
    """Write the names that the table of front ends has into ``_startup.py``."""
    path = os.path.join(root, "pyo3_envshim", "_startup.py")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, words in _startup_lists(root).items():
        text = re.sub(rf'(?m)^{name} = "[^"]*"', f'{name} = "{" ".join(words)}"', text)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _startup_lists(root: str) -> dict[str, list[str]]:
    table = _load(root, "environment", "frontends.py")
    programs = [name for front_end in table["FRONT_ENDS"] for name in front_end.programs]
    return {"_PROGRAMS": programs, "_MARKERS": list(table["MARKERS"])}


def _load(root: str, *path: str) -> dict[str, Any]:
    """Return what a module of the package holds; the package need not be importable here."""
    return runpy.run_path(os.path.join(root, "pyo3_envshim", *path))


def add_start_file(wheel: str, start: bytes) -> str:
    """Copy *wheel* (a path) to one tagged `TAG` that contains *start* as well; return its path."""
    folder, name = os.path.split(wheel)
    project = name.rsplit("-", 3)[0]
    target = os.path.join(folder, f"{project}-{TAG}.whl")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        infos = old.infolist()
        contents = {info.filename: old.read(info) for info in infos}
        like = next(info for info in infos if info.filename == "pyo3_envshim.pth")
        changed = {START: start}
        metadata = f"{project}.dist-info/WHEEL"
        changed[metadata] = contents[metadata].replace(FIRST_TAG.encode(), TAG.encode())
        record = f"{project}.dist-info/RECORD"
        lines = [
            line for line in contents[record].decode().splitlines() if line.partition(",")[0] not in changed
        ]
        lines[-1:-1] = [_record_line(path, content) for path, content in changed.items()]
        changed[record] = "".join(line + "\n" for line in lines).encode()
        for info in infos:
            if info.filename == record:
                added = zipfile.ZipInfo(START, like.date_time)
                added.external_attr, added.compress_type = like.external_attr, like.compress_type
                new.writestr(added, start)
            new.writestr(info, changed.get(info.filename, contents[info.filename]))
    return target


def _record_line(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"


if __name__ == "__main__":
    write_startup(os.path.dirname(os.path.abspath(__file__)))
