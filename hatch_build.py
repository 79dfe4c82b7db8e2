"""Makes the second wheel beside the first, for Python 3.18 and later.

From 3.18 on, Python ignores import lines in ``.pth`` files and runs ``.start`` files
(PEP 829). Those cost more at start-up, and where one stands beside a ``.pth`` the latter
is not run, so that the wheel for Python 3.9 to 3.17 must not carry one.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAG = "py318-none-any"
# Not py3: Python 3.19 would prefer that to py318, but prefers py318 to this
# (packaging's tags.compatible_tags, which pip and uv follow).
FIRST_TAG = "py39-none-any"
START = "pyo3_envshim.start"


class StartWheel(BuildHookInterface[Any]):
    """hatchling's build hook of this project, for the wheel target."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Tag the first wheel."""
        if version == "standard":
            build_data["tag"] = FIRST_TAG

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Write the second wheel beside the first, which hatchling has just written."""
        if version == "standard":
            with open(os.path.join(self.root, "hooks", START), "rb") as file:
                add_start_file(artifact_path, file.read())


def add_start_file(wheel: str, start: bytes) -> str:
    """Copy *wheel* (a path) to one tagged `TAG` that holds *start* as well; return its path."""
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
