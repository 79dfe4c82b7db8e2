"""What installers write about a distribution: its ``RECORD`` and its ``entry_points.txt``."""

from __future__ import annotations

import os

from pyo3_envshim.environment.item import PLACEHOLDER, NotStorable

# pip, uv and poetry write these beside a distribution, about its installation, not its content.
INSTALLER_NOTES = frozenset(
    ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "provenance_url.json")
)


def is_distribution(folder: str, site: str) -> bool:
    """Tell whether an installer made *folder*; a package in *site* may contain others' distributions."""
    return folder.endswith(".dist-info") and folder.rpartition("/")[0] == site


def normal_record(record: bytes, site: str, scripts: set[str]) -> bytes:
    """Return the normal form of a distribution's ``RECORD``.

    Its lines are sorted, and those for files that are not in an environment's normal form are
    dropped. The lines of *scripts* (paths relative to the environment) lose hash and size. *site*
    is the relative path of site-packages. The format is CSV, as the specification "Recording
    installed projects" has it. Raises `NotStorable` for a line that is malformed or that names
    a file outside of the environment.
    """
    if PLACEHOLDER in record:
        raise NotStorable("a RECORD names the placeholder of the environment's path")
    lines = set()
    for number, line in enumerate(record.decode("utf-8", "surrogateescape").split("\n"), 1):
        line = line[:-1] if line.endswith("\r") else line
        if not line:
            continue
        path, rest = _first_field(line)
        if path is None or rest.count(",") != 1 or '"' in rest or "\r" in line:
            raise NotStorable(f"line {number} of a RECORD is malformed: {line[:80]!r}")
        path = path.replace("\\", "/")
        full = os.path.normpath(f"{site}/{path}").replace(os.sep, "/")
        if path.startswith("/") or full.startswith("..") or ":" in path.partition("/")[0]:
            raise NotStorable(f"line {number} of a RECORD leaves the environment: {line[:80]!r}")
        folder, _, name = full.rpartition("/")
        if "/__pycache__/" in full or (name in INSTALLER_NOTES and is_distribution(folder, site)):
            continue
        if full in scripts:
            rest = ","
        quoted = '"' + path.replace('"', '""') + '"' if set(path) & set('",') else path
        lines.add(f"{quoted},{rest}\n")
    return "".join(sorted(lines)).encode("utf-8", "surrogateescape")


def _first_field(line: str) -> tuple[str | None, str]:
    """Split a line of CSV after its first field, which is None where it is malformed."""
    if not line.startswith('"'):
        path, comma, rest = line.partition(",")
        return (path if comma and path else None), rest
    end = line.find('"', 1)
    while line[end : end + 2] == '""':
        end = line.find('"', end + 2)
    path = line[1:end].replace('""', '"')
    return (path if path and line[end + 1 : end + 2] == "," else None), line[end + 2 :]


def entry_points(text: bytes) -> dict[str, str]:
    """Return the scripts that an ``entry_points.txt`` declares: name to ``module:object``."""
    found = {}
    section = ""
    for raw in text.decode("utf-8", "replace").splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section in ("[console_scripts]", "[gui_scripts]") and line[:1] not in ("", "#", ";"):
            name, _, reference = line.partition("=")
            found[name.strip()] = "".join(reference.partition("[")[0].split())
    return found
