"""Overlays: pip's default isolation and pdm put one over the invoking interpreter, by ``PYTHONPATH``.

The interpreter's path is the same for each build, so cargo sees nothing change; its content counts here.
"""

from __future__ import annotations

import os

from pyo3_envshim.environment import frontends, hashing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders that a front end has filled for this build, and that ``PYTHONPATH`` leads to."""
    found = []
    for entry in environ.get("PYTHONPATH", "").split(os.pathsep):
        if os.path.basename(entry) == "site":
            above = os.path.dirname(os.path.realpath(entry))
            has_hook = os.path.exists(os.path.join(above, "site", "sitecustomize.py"))
            if has_hook and frontends.is_overlay(above, environ):
                found.append(above)
    return found


def hides(root: str, environ: Mapping[str, str]) -> bool:
    """Tell whether an overlay hides what is installed in the environment at *root*. Raises OSError.

    pip's ``sitecustomize.py`` names the folders that it takes from ``sys.path`` (26.3, build_env).
    """
    if not environ.get("PYTHONPATH"):
        return False
    names = [os.fsencode(_as_written(os.path.join(it, "lib"))) for it in (root, os.path.realpath(root))]
    for folder in folders(environ):
        with open(os.path.join(folder, "site", "sitecustomize.py"), "rb") as file:
            text = file.read()
        if os.name == "nt":
            text = text.lower()
        if any(name in text for name in names):
            return True
    return False


def _as_written(path: str) -> str:
    """Return a path as it is in Python's source; on Windows, where case does not count, in small letters."""
    return repr(path.lower())[1:-1] if os.name == "nt" else path


def is_all(environ: Mapping[str, str]) -> bool:
    """Tell whether ``PYTHONPATH`` leads to overlays, and to nothing else."""
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    return len(folders(environ)) == len(entries)


def path_by_content(environ: Mapping[str, str]) -> str:
    """Return ``PYTHONPATH`` with the content of overlays in place of their random names. Raises OSError."""
    path = environ.get("PYTHONPATH", "")
    found = folders(environ)
    if not found:
        return path
    rest = [it for it in path.split(os.pathsep) if os.path.dirname(os.path.realpath(it)) not in found]
    return os.pathsep.join([f"overlay {digest(found, environ)}", *rest])


def digest(found: list[str], environ: Mapping[str, str]) -> str:
    """Return a hash of the names and contents of all files in *found*. Raises OSError."""
    import hashlib

    total = hashlib.sha256()
    interpreters = os.fsencode(os.path.dirname(environ.get("PYO3_PYTHON", "")))
    for folder in found:
        for path in _files(folder):
            text = f"{os.path.relpath(path, folder)}\0{_content(path, interpreters)}\0"
            total.update(text.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _files(folder: str) -> Iterator[str]:
    """Yield the files that count: no byte code, and none that names the folder's own path."""
    own = os.path.join(folder, "site", "sitecustomize.py")
    for above, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(above, name))]
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted([*names, *links]):
            path = os.path.join(above, name)
            if path != own and name != "direct_url.json":
                yield path


def _content(path: str, interpreters: bytes) -> str:
    """Return a file's hash, without the folder of the interpreter that a script names: it may be random."""
    if not os.path.isfile(path):  # a link to a folder or to nothing, or what nobody can read to its end
        return os.readlink(path) if os.path.islink(path) else ""
    above, name = os.path.split(path)
    is_script = os.path.basename(above) in ("bin", "Scripts")
    if not is_script and name != "RECORD":
        return hashing.of_file(path)
    with open(path, "rb") as file:
        data = file.read()
    if is_script and data[:2] == b"MZ":
        from pyo3_envshim.environment.launchers import undated

        data = undated(data, interpreters)
    if is_script:
        return hashing.of_bytes(data.replace(interpreters, b"") if data[:2] == b"#!" else data)
    lines = (
        line for line in data.splitlines() if not line.startswith(b"..") and b"/direct_url.json," not in line
    )
    return hashing.of_bytes(b"\n".join(lines))
