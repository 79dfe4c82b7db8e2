"""Reads an environment into its normal form, and computes the digest of that.

The store writes the normal form and nothing else, so the digest, by which an entry is named, decides
everything that an interpreter in the entry can see. The normal form consists of:

- the base interpreter: its path, and the contents of the files in `interpreter.parts_of`;
- every file below the environment's folders: its path, content and executable bit;
- every relative link to one of these (a link into uv's cache counts as the file that it leads to);
- every ``RECORD``, sorted, without the lines for what is not in the normal form;
- the `VARIABLES`, as text; an unset one counts as empty, an overlay's folder by its content.

Where pip overlays it, which hides what is installed, only the interpreter is in it.

The following is not in it, and therefore neither noticed nor stored: time stamps, owners and other
mode bits; byte code in ``__pycache__``, which may hold nothing else; installers' notes about an
installation (`record.INSTALLER_NOTES`); activation scripts; files beside ``pyvenv.cfg``, where front
ends keep theirs; empty folders; whether pip or uv wrote the script of an entry point, which is
rewritten; the names under which ``bin`` links to the interpreter; and all of ``pyvenv.cfg`` but
``home`` and the version.

Contents are read, not taken from ``RECORD``, which does not show that a file was changed after its
installation. cargo answers the metadata query meanwhile.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup
from pyo3_envshim.environment import hashing, interpreter, layout, overlay
from pyo3_envshim.environment.frontends import in_uvs_cache
from pyo3_envshim.environment.item import Item, NotStorable
from pyo3_envshim.environment.record import INSTALLER_NOTES, entry_points, is_distribution, normal_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# venv, virtualenv 21 and uv 0.13 write these for shells; they contain the environment's path.
ACTIVATION = frozenset(
    ("activate", "activate_this.py", "Activate.ps1", "pydoc.bat")
    + tuple(f"activate.{shell}" for shell in ("bat", "csh", "fish", "nu", "ps1", "xsh"))
    + tuple(f"deactivate.{shell}" for shell in ("bat", "csh", "nu"))
)

# These change what an interpreter sees that starts in the environment (CPython's getpath, sysconfig).
VARIABLES = ("PYTHONPATH", "PYTHONHOME", "_PYTHON_HOST_PLATFORM", "_PYTHON_SYSCONFIGDATA_NAME")

# Larger files are not searched for the environment's path, which installers write only into scripts
# and small text files.
_SEARCHED = 1 << 20
FORMAT = "pyo3-envshim 3"  # changes with the normal form


class Environment:
    """A build environment: its base interpreter, its items, its digest; whether an overlay hides it."""

    def __init__(self, base: str, items: list[Item], digest: str, hidden: bool) -> None:
        self.hidden = hidden
        self.base = base
        self.items = items
        self.digest = digest


def read(root: str, environ: Mapping[str, str], hash_file: Callable[[str], str]) -> Environment:
    """Read the environment at *root* (an absolute path) into its normal form.

    *hash_file* returns the SHA-256, in hex, of a file of the base interpreter (the store remembers
    these). Raises `NotStorable` where the normal form is in doubt, and OSError where something
    cannot be read.
    """
    import hashlib

    config = _configuration(root)
    library = _library(root)
    base = interpreter.base_of(root)
    if base is None:
        raise NotStorable("its base interpreter was not found")
    parts = interpreter.parts_of(base, library)
    if parts is None:
        raise NotStorable(f"the base interpreter {base} has no sysconfig data")

    walk = _Walk(root, base, layout.site_packages(library))
    hidden = overlay.hides(root, environ)
    if hidden and os.name == "nt":
        raise NotStorable("an overlay hides it")
    items = _interpreter_links(base, library)
    if not hidden:
        walk.folder("")
        items += [*walk.items, *_distributions(walk)]
    items.append(_text_item("pyvenv.cfg", _normal_configuration(base, config)))
    items.sort(key=lambda item: os.fsencode(item.path))
    _check_places(items, walk.links)

    total = hashlib.sha256()

    def add(*fields: str) -> None:  # NUL-terminated: no path and no variable contains NUL
        total.update(b"".join(os.fsencode(field) + b"\0" for field in fields))

    add(FORMAT)
    for part in parts:
        add("interpreter", part, hash_file(part))
    add(*variables(environ))
    for item in items:
        add(item.path, item.kind, item.content)
    return Environment(base, items, total.hexdigest()[:32], hidden)


def variables(environ: Mapping[str, str]) -> list[str]:
    """Return the values of `VARIABLES`, an overlay's folder by its content. Raises OSError."""
    values = {**environ, "PYTHONPATH": overlay.path_by_content(environ)}
    return [values.get(name, "") for name in VARIABLES]


class _Walk:
    """Reads each file below an environment once."""

    def __init__(self, root: str, base: str, site: str) -> None:
        self.root = root
        self.base = base
        self.site = site
        # Scripts contain the path as the front end spelled it, or as it resolves (macOS: /tmp is a link).
        self.real_root = os.path.realpath(root)
        self.names = sorted({os.fsencode(root), os.fsencode(self.real_root)}, key=len, reverse=True)
        self.items: list[Item] = []
        self.records: dict[str, bytes] = {}  # by the distribution's folder
        self.entry_points: dict[str, bytes] = {}
        self.scripts: dict[str, tuple[bytes, bool]] = {}  # those that contain the environment's path
        self.links: dict[str, str] = {}  # to where each link leads, resolved

    def folder(self, relative: str) -> None:
        with os.scandir(os.path.join(self.root, relative)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = f"{relative}/{entry.name}" if relative else entry.name
            full = entry.path
            if entry.is_symlink() and not in_uvs_cache(full := os.path.realpath(full)):
                self._link(path, entry.path)
            elif entry.is_dir():
                if entry.name != "__pycache__":
                    self.folder(path)
                elif not all(".pyc" in name for name in os.listdir(entry.path)):
                    raise NotStorable(f"{path} holds more than byte code")
            elif not entry.is_file():
                raise NotStorable(f"{path} is neither file nor folder")
            elif relative and not self._is_left_out(relative, entry.name):
                at = entry.stat()
                # On Windows it would be the name's ending, and that for `os.stat` only.
                executable = bool(at.st_mode & 0o100) and not layout.WINDOWS
                self._file(path, full, executable, at.st_size)

    def _is_left_out(self, folder: str, name: str) -> bool:
        if folder == layout.scripts():
            return name in ACTIVATION
        return name in INSTALLER_NOTES and is_distribution(folder, self.site)

    def _link(self, path: str, full: str) -> None:
        target = os.readlink(full)
        real = os.path.realpath(full)
        # venv and uv make lib64 on some systems; the normal form has it by the same rule.
        if path == "lib64" and real == os.path.join(self.real_root, "lib"):
            return
        # python, python3, and whatever else venv calls the interpreter (a joke in 3.14).
        if (
            path.startswith("bin/")
            and (layout.is_interpreter(path[4:]) or layout.is_interpreter(target))
            and real == os.path.realpath(self.base)
        ):
            return
        named = os.path.normpath(os.path.join(os.path.dirname(path), target))
        # A `..` after another name could leave the environment through a link.
        plain = target == os.path.normpath(target) and not os.path.isabs(target)
        if not plain or named.startswith("..") or not real.startswith(self.real_root + os.sep):
            raise NotStorable(f"{path} is a link to {target}")
        self.links[path] = os.path.relpath(real, self.real_root)
        self.items.append(_link_item(path, target))

    def _file(self, path: str, full: str, executable: bool, size: int) -> None:
        if path.startswith("bin/py") and layout.is_interpreter(path[4:]):
            raise NotStorable(f"{path} is not a link to the base interpreter")
        folder, name = os.path.split(path)
        if size > _SEARCHED and name != "RECORD":
            self.items.append(Item(path, hashing.of_file(full), executable, source=full))
            return
        with open(full, "rb", buffering=0) as file:
            data = file.read()
        if name in ("RECORD", "entry_points.txt") and is_distribution(folder, self.site):
            if name == "RECORD":
                self.records[folder] = data
                return
            self.entry_points[folder] = data
        if any(name in data for name in self.names):
            if folder != layout.scripts():
                raise NotStorable(f"{path} holds the environment's own path")
            self.scripts[path] = data, executable
            return
        self.items.append(Item(path, hashing.of_bytes(data), executable, source=full))


def _check_places(items: Sequence[Item], links: Mapping[str, str]) -> None:
    """Raise `NotStorable` if a link leads out of the normal form, or if two items have one place."""
    folders = {""}
    for item in items:
        folder = os.path.dirname(item.path)
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    paths = {item.path for item in items}
    files = paths - links.keys()
    for path, real in links.items():
        if real not in files and real not in folders:
            raise NotStorable(f"{path} is a link to {real}, which is not stored")
    for path in paths & folders:
        raise NotStorable(f"{path} is a folder, where a link belongs")


def _distributions(walk: _Walk) -> list[Item]:
    """Return the items for each distribution's ``RECORD`` and for the scripts that contain a path."""
    references: dict[str, str] = {}
    for name in sorted(os.listdir(os.path.join(walk.root, walk.site))):
        folder = f"{walk.site}/{name}"
        full = os.path.join(walk.root, folder)
        if name.endswith(".dist-info"):
            if folder not in walk.records:
                raise NotStorable(f"{name} has no RECORD")
            _check_not_editable(full)
            references.update(entry_points(walk.entry_points.get(folder, b"")))
        elif name.endswith((".egg-info", ".egg", ".egg-link")) or name.startswith("__editable__"):
            raise NotStorable(f"{name} may change unseen")
        elif name.endswith(".pth") and os.path.isfile(full):
            _check_path_file(full)

    items = []
    if walk.scripts:  # few build environments have any
        from pyo3_envshim.environment.scripts import normal_script
    for path, (data, executable) in walk.scripts.items():
        name = path.partition("/")[2]
        if layout.WINDOWS and name.endswith(".exe"):
            from pyo3_envshim.environment.launchers import normal_launcher

            text = normal_launcher(data, walk.names, references.get(name[:-4]))
        else:
            text = normal_script(data, walk.names, references.get(name))
        if text is None:
            raise NotStorable(f"{path} holds the environment's own path")
        items.append(_text_item(path, text, executable))
    for folder, record in walk.records.items():
        items.append(_text_item(f"{folder}/RECORD", normal_record(record, walk.site, set(walk.scripts))))
    return items


def _check_not_editable(distribution: str) -> None:
    """Raise `NotStorable` if the distribution in a folder is editable (PEP 610's ``direct_url.json``)."""
    try:
        with open(os.path.join(distribution, "direct_url.json"), "rb") as file:
            note = file.read()
    except FileNotFoundError:
        return
    if b'"editable":true' in b"".join(note.split()):
        raise NotStorable(f"{os.path.basename(distribution)} is installed as editable")


def _check_path_file(path: str) -> None:
    """Raise `NotStorable` if a ``.pth`` adds a folder, because that folder could change unseen."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        lines = content.decode("utf-8").splitlines()  # as site does; earlier releases split at less
    except ValueError:
        raise NotStorable(f"{os.path.basename(path)} is not UTF-8") from None
    for line in lines:
        if line.strip() and not line.startswith(("#", "import ", "import\t")):
            raise NotStorable(f"{os.path.basename(path)} adds a folder to the path")


def _configuration(root: str) -> dict[str, str]:
    config = _startup.read_config(root)
    if not config.get("home"):
        raise NotStorable("its pyvenv.cfg names no home")
    if "venvlauncher_command" in config:  # uv's, for GraalPy on Windows; the normal form has none
        raise NotStorable("its pyvenv.cfg names what is to be started")
    if config.get("include-system-site-packages", "true").lower() != "false":  # site's default
        raise NotStorable("it includes the system's site-packages")
    return config


def _normal_configuration(base: str, config: Mapping[str, str]) -> bytes:
    version = config.get("version") or config.get("version_info") or ""
    text = f"home = {os.path.dirname(base)}\ninclude-system-site-packages = false\n"
    text += f"version = {'.'.join(version.split('.')[:3])}\nexecutable = {os.path.realpath(base)}\n"
    return text.encode("utf-8", "surrogateescape")


def _library(root: str) -> str:
    """Return the name of the interpreter's folder under ``lib``: ``python3.11``, ``pypy3.11``."""
    if layout.WINDOWS:
        return ""
    folder = os.path.join(root, "lib")
    names = [n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n, "site-packages"))]
    if len(names) != 1:
        raise NotStorable("it has no lib/python3.x/site-packages, or several")
    return names[0]


def _interpreter_links(base: str, library: str) -> list[Item]:
    """Return the links to the interpreter; a copied interpreter has no place in the normal form.

    There are none on Windows, where ``python.exe`` is a launcher, a file like any other, that finds
    the base interpreter through ``pyvenv.cfg``.
    """
    if layout.WINDOWS:
        return []
    names = {"python3", library, os.path.basename(base)} - {"python"}
    links = [_link_item("bin/python", os.path.realpath(base))]
    links += [_link_item(f"bin/{name}", "python") for name in sorted(names)]
    if sys.maxsize > 2**32 and sys.platform != "darwin":  # as venv does
        links.append(_link_item("lib64", "lib"))
    return links


def _link_item(path: str, target: str) -> Item:
    return Item(path, hashing.of_bytes(os.fsencode(target)), target=target)


def _text_item(path: str, text: bytes, executable: bool = False) -> Item:
    return Item(path, hashing.of_bytes(text), executable, text=text)
