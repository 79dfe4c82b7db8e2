"""What is in an environment, in a normal form, and the digest of that.

The normal form is what the store writes, so that the address of an environment
decides everything an interpreter started there can see. In it are:

- the base interpreter: its path, and the content of the files in `interpreters.parts_of`;
- every file below the environment's folders, by path, content and executable bit, and
  every relative link to one of these;
- ``RECORD``, sorted, without the lines for what is not in the normal form;
- the `VARIABLES`, as text; not set is the same as empty.

Not in it, and so never noticed nor stored: time stamps, owners and other mode bits;
byte code in ``__pycache__``, where nothing else may lie; what an installer notes about
itself (`INSTALLER_NOTES`); activation scripts; files beside ``pyvenv.cfg``, which front
ends keep there; empty folders; whether a wrapper script of an entry point was written by
pip or by uv (it is written anew); which of its names the interpreter links to; and all of
``pyvenv.cfg`` but ``home`` and the version.

Contents are read, not taken from ``RECORD``: a file that was changed after it was
installed would go unnoticed otherwise. This runs while cargo is asked where it works.

An environment that cannot be brought into this form without doubt raises `NotStorable`.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup, hashing, interpreters, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Written beside a distribution by pip, uv and poetry about the installation, not its content.
INSTALLER_NOTES = frozenset(
    ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "provenance_url.json")
)
# Written by venv, virtualenv 21 and uv 0.13 for shells; they hold the environment's path.
ACTIVATION = frozenset(
    ("activate", "activate_this.py", "Activate.ps1", "pydoc.bat")
    + tuple(f"activate.{shell}" for shell in ("bat", "csh", "fish", "nu", "ps1", "xsh"))
    + tuple(f"deactivate.{shell}" for shell in ("bat", "csh", "nu"))
)

# They change what an interpreter sees that is started there (CPython's getpath, sysconfig).
VARIABLES = ("PYTHONPATH", "PYTHONHOME", "_PYTHON_HOST_PLATFORM", "_PYTHON_SYSCONFIGDATA_NAME")

PLACEHOLDER = b"@PYO3-ENVSHIM-ENVIRONMENT@"
# Larger files are not searched for the environment's path: installers write it into
# scripts and small text files only.
_SEARCHED = 1 << 20
FORMAT = "pyo3-envshim 3"  # changes when the normal form does


class NotStorable(Exception):
    """An environment that is left alone; the message says why, in a few words."""


class Item:
    """One file or link of the normal form.

    *path* is relative to the environment, with ``/``. A file is either to be taken from
    *source* (an absolute path) or has *text*, in which `PLACEHOLDER` stands for the
    environment's path; a link has *target*. *content* is the hash of what it has (`hashing`).
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
        """What distinguishes it from another with the same content."""
        kind = "link" if self.target is not None else "text" if self.text is not None else "file"
        return kind + (" executable" if self.executable else "")


class Environment:
    """A build environment: its base interpreter, its items, its digest."""

    __slots__ = ("base", "digest", "items")

    def __init__(self, base: str, items: list[Item], digest: str) -> None:
        self.base = base
        self.items = items
        self.digest = digest


def read(root: str, environ: Mapping[str, str], hash_file: Callable[[str], str]) -> Environment:
    """Read the environment at *root* (an absolute path) into its normal form.

    *hash_file* gives the SHA-256, in hex, of a file of the base interpreter (the store
    remembers these). Raises `NotStorable`, and OSError where something cannot be read.
    """
    import hashlib

    config = _configuration(root)
    library = _library(root)
    base = interpreters.base_of(root)
    if base is None:
        raise NotStorable("its base interpreter was not found")
    parts = interpreters.parts_of(base, library)
    if parts is None:
        raise NotStorable(f"the base interpreter {base} has no sysconfig data")

    walk = _Walk(root, base, layout.site_packages(library))
    walk.folder("")
    items = [*walk.items, *_distributions(walk)]
    items += _interpreter_links(base, library)
    items.append(_text_item("pyvenv.cfg", _normal_configuration(base, config)))
    items.sort(key=lambda item: os.fsencode(item.path))

    _check_places(items, walk.links)

    total = hashlib.sha256()

    def add(*fields: str) -> None:  # each ended by what no path and no variable holds
        total.update(b"".join(os.fsencode(field) + b"\0" for field in fields))

    add(FORMAT)
    for part in parts:
        add("interpreter", part, hash_file(part))
    add(*(environ.get(name, "") for name in VARIABLES))
    for item in items:
        add(item.path, item.kind, item.content)
    return Environment(base, items, total.hexdigest()[:32])


class _Walk:
    """The files below an environment, each read once."""

    def __init__(self, root: str, base: str, site: str) -> None:
        self.root = root
        self.base = base
        self.site = site
        # As it was called when scripts were written, and as it resolves (macOS' /tmp is a link).
        self.real_root = os.path.realpath(root)
        self.names = sorted({os.fsencode(root), os.fsencode(self.real_root)}, key=len, reverse=True)
        self.items: list[Item] = []
        self.records: dict[str, bytes] = {}  # by distribution's folder
        self.entry_points: dict[str, bytes] = {}
        self.scripts: dict[str, tuple[bytes, bool]] = {}  # those with the environment's path
        self.links: dict[str, str] = {}  # to where they lead, resolved

    def folder(self, relative: str) -> None:
        with os.scandir(os.path.join(self.root, relative)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_symlink():
                self._link(path, entry.path)
            elif entry.is_dir():
                if entry.name != "__pycache__":
                    self.folder(path)
                elif not all(".pyc" in name for name in os.listdir(entry.path)):
                    raise NotStorable(f"{path} holds more than byte code")
            elif not entry.is_file():
                raise NotStorable(f"{path} is neither file nor folder")
            elif relative and not self._unseen(relative, entry.name):
                at = entry.stat()
                self._file(path, entry.path, bool(at.st_mode & 0o100), at.st_size)

    def _unseen(self, folder: str, name: str) -> bool:
        if folder == layout.scripts():
            return name in ACTIVATION
        return self._is_distribution(folder) and name in INSTALLER_NOTES

    def _is_distribution(self, folder: str) -> bool:
        """Tell whether *folder* is one that an installer made, not one inside of a package."""
        return folder.endswith(".dist-info") and folder.rpartition("/")[0] == self.site

    def _holds_own_path(self, data: bytes) -> bool:
        return any(name in data for name in self.names)

    def _link(self, path: str, full: str) -> None:
        target = os.readlink(full)
        real = os.path.realpath(full)
        # venv and uv make it on some systems; the normal form, by the same rule
        if path == "lib64" and real == os.path.join(self.real_root, "lib"):
            return
        # python, python3, and whatever venv calls it besides (3.14 has a joke there)
        if (
            path.startswith("bin/")
            and (_is_interpreter_name(path[4:]) or _is_interpreter_name(target))
            and real == os.path.realpath(self.base)
        ):
            return
        named = os.path.normpath(os.path.join(os.path.dirname(path), target))
        # `..` behind another name may leave the environment by way of a link
        plain = target == os.path.normpath(target) and not os.path.isabs(target)
        if not plain or named.startswith("..") or not real.startswith(self.real_root + os.sep):
            raise NotStorable(f"{path} is a link to {target}")
        self.links[path] = os.path.relpath(real, self.real_root)
        self.items.append(_link_item(path, target))

    def _file(self, path: str, full: str, executable: bool, size: int) -> None:
        if path.startswith("bin/py") and _is_interpreter_name(path[4:]):
            raise NotStorable(f"{path} is not a link to the base interpreter")
        folder, name = os.path.split(path)
        if size > _SEARCHED and name != "RECORD":
            self.items.append(Item(path, hashing.of_file(full), executable, source=full))
            return
        with open(full, "rb", buffering=0) as file:
            data = file.read()
        if self._is_distribution(folder) and name == "RECORD":
            self.records[folder] = data
            return
        if self._is_distribution(folder) and name == "entry_points.txt":
            self.entry_points[folder] = data
        if self._holds_own_path(data):
            if folder == layout.scripts():
                self.scripts[path] = data, executable
                return
            raise NotStorable(f"{path} holds the environment's own path")
        self.items.append(Item(path, hashing.of_bytes(data), executable, source=full))


def _check_places(items: Sequence[Item], links: Mapping[str, str]) -> None:
    """Raise `NotStorable` if a link leads to what is not in the normal form, or two items share a place."""
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
    """Return the items for each distribution's ``RECORD`` and for the scripts with a path in them."""
    references: dict[str, str] = {}
    for name in sorted(os.listdir(os.path.join(walk.root, walk.site))):
        folder = f"{walk.site}/{name}"
        if name.endswith(".dist-info"):
            if folder not in walk.records:
                raise NotStorable(f"{name} has no RECORD")
            _check_not_editable(os.path.join(walk.root, folder))
            references.update(parse_entry_points(walk.entry_points.get(folder, b"")))
        elif name.endswith((".egg-info", ".egg", ".egg-link")) or name.startswith("__editable__"):
            raise NotStorable(f"{name} may change unseen")
        elif name.endswith(".pth") and os.path.isfile(os.path.join(walk.root, folder)):
            _check_path_file(os.path.join(walk.root, folder))

    items = []
    for path, (data, executable) in walk.scripts.items():
        name = path.partition("/")[2]
        if layout.WINDOWS and name.endswith(".exe"):
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


def normal_record(record: bytes, site: str, scripts: set[str]) -> bytes:
    """Return the normal form of a distribution's ``RECORD``.

    Its lines are sorted; what is not in the normal form of an environment is left out;
    those of *scripts* (paths relative to the environment) lose hash and size. *site* is
    the relative path of site-packages. The format is that of the specification "Recording
    installed projects": CSV. Raises `NotStorable` for a line that is not of that format
    or names a file outside the environment.
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
        own = folder.endswith(".dist-info") and folder.rpartition("/")[0] == site
        if "/__pycache__/" in full or (own and name in INSTALLER_NOTES):
            continue
        if full in scripts:
            rest = ","
        quoted = '"' + path.replace('"', '""') + '"' if set(path) & set('",') else path
        lines.add(f"{quoted},{rest}\n")
    return "".join(sorted(lines)).encode("utf-8", "surrogateescape")


def _first_field(line: str) -> tuple[str | None, str]:
    """Split a line of CSV after its first field; None where it is not ended well."""
    if not line.startswith('"'):
        path, comma, rest = line.partition(",")
        return (path if comma and path else None), rest
    end = 1
    while True:
        end = line.find('"', end)
        if end < 0:
            return None, ""
        if line[end : end + 2] != '""':
            break
        end += 2
    path = line[1:end].replace('""', '"')
    return (path if path and line[end + 1 : end + 2] == "," else None), line[end + 2 :]


def parse_entry_points(text: bytes) -> dict[str, str]:
    """Return the scripts (name to ``module:object``) that an ``entry_points.txt`` declares."""
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


def normal_script(data: bytes, names: Sequence[bytes], reference: str | None) -> bytes | None:
    """Return the normal form of a script that holds the environment's path, or None.

    *names* are the spellings of that path, which may only stand where the interpreter is
    named. A wrapper that an installer wrote for the entry point *reference* is written
    anew; in another script the path is replaced, and stands in the first line.
    """
    if b"\0" in data or PLACEHOLDER in data:
        return None
    interpreter, body = _split_script(data)
    for name in names:
        if name in body:
            return None
        interpreter = interpreter.replace(name, PLACEHOLDER, 1)
    folder, _, called = interpreter.rpartition(b"/")
    if folder != PLACEHOLDER + b"/bin":
        return None
    if reference and _is_interpreter_name(os.fsdecode(called)) and _is_generated(body, reference):
        return b"#!" + PLACEHOLDER + b"/bin/python\n" + _generated(reference)
    return b"#!" + interpreter + b"\n" + body


def normal_launcher(data: bytes, names: Sequence[bytes], reference: str | None) -> bytes | None:
    """Return the normal form of a Windows launcher that holds the environment's path, or None.

    pip's (distlib's ``ScriptMaker._write_script``) is a program, a first line that names
    the interpreter, and a zip archive with the wrapper as ``__main__.py``, whose time
    differs from one installation to the next. uv's has another form: left alone.
    """
    import io
    import zipfile

    start = max(data.rfind(b"PK\3\4"), 0)  # of the archive, which has one member
    program, _, line = data[:start].rpartition(b"#!")
    interpreter = line.strip().strip(b'"')
    if not reference or any(name in program for name in names):
        return None
    if interpreter.lower() not in [(name + b"\\Scripts\\python.exe").lower() for name in names]:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data[start:])) as found:
            if found.namelist() != ["__main__.py"]:
                return None
            body = found.read("__main__.py").replace(b"\r\n", b"\n")
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return None
    if not _is_generated(body, reference):
        return None
    anew = io.BytesIO()
    with zipfile.ZipFile(anew, "w") as made:
        made.writestr(zipfile.ZipInfo("__main__.py"), _generated(reference))  # dated 1980
    return program + b'#!"' + PLACEHOLDER + b'\\Scripts\\python.exe"\n' + anew.getvalue()


def _generated(reference: str) -> bytes:
    """Return a wrapper, without its first line, for the entry point *reference*."""
    module, _, function = reference.partition(":")
    return (
        b"import sys\n"
        + f"from {module} import {function.partition('.')[0]}\n".encode()
        + b'if __name__ == "__main__":\n'
        + f"    sys.exit({function}())\n".encode()
    )


def _split_script(data: bytes) -> tuple[bytes, bytes]:
    """Return the interpreter (with its options) that a script names, or b"", and what follows.

    Where the path is too long for a first line, or has a space in it, installers write
    three lines: sh replaces itself, and Python sees a string. pip quotes the path with
    double quotes if need be, uv with single ones. They name no options, which sh would
    split as no first line is split, and nothing else.
    """
    first, _, rest = data.partition(b"\n")
    if first != b"#!/bin/sh":
        return (first[2:].strip() if first.startswith(b"#!") else b""), rest
    second, _, rest = rest.partition(b"\n")
    third, _, rest = rest.partition(b"\n")
    before, _, after = second.partition(b"'''exec' ")
    command, arguments, more = after.partition(b' "$0" "$@"')
    path = command.strip(b"'\"")
    plain = _is_interpreter_name(os.fsdecode(path.rpartition(b"/")[2]))
    if before or more or not (arguments and plain) or third != b"' '''":
        return b"", data
    return path, rest


# What the wrappers that pip (distlib's template, old and new, and its own, 20 to 26), uv 0.13
# and installer 0.7 write are made of: lines before the last part, its first line, and what
# is done to `sys.argv[0]` in it, all but the lines that name the entry point.
_NEEDLESS = {b"# -*- coding: utf-8 -*-", b"import re"}
_MAIN = (b"if __name__ == '__main__':", b'if __name__ == "__main__":')
_FIXES = (
    "",
    r"""    sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])""",
    r"""    sys.argv[0] = re.sub(r'(-script\.pyw?|\.exe)?$', '', sys.argv[0])""",
    r"""    sys.argv[0] = re.sub(r"(-script\.pyw|\.exe)?$", "", sys.argv[0])""",
    "    sys.argv[0] = sys.argv[0].removesuffix('.exe')",
    """\
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]""",
)


def _is_generated(body: bytes, reference: str) -> bool:
    """Tell whether *body* is what an installer writes for the entry point *reference*."""
    module, _, name = reference.partition(":")
    load = f"from {module} import {name.partition('.')[0]}".encode()
    lines = [line for line in body.split(b"\n") if line]
    starts = [number for number, line in enumerate(lines) if line in _MAIN]
    if len(starts) != 1:
        return False
    before, (*after, last) = lines[: starts[0]], lines[starts[0] :]
    fix = after[1:]
    if fix[:1] == [b"    " + load]:  # distlib 0.4
        before, fix = [*before, load], fix[1:]
    needed = {b"import sys", load} | {b"import re" for line in fix if b"re.sub" in line}
    return (
        needed <= set(before) <= needed | _NEEDLESS
        and b"\n".join(fix).decode("utf-8", "replace") in _FIXES
        and last == f"    sys.exit({name}())".encode()
    )


def _check_path_file(path: str) -> None:
    """Raise `NotStorable` if a ``.pth`` adds a folder: what is in it could change unseen."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        lines = content.decode("utf-8").splitlines()  # as site reads them; earlier releases split less
    except ValueError:
        raise NotStorable(f"{os.path.basename(path)} is not UTF-8") from None
    for line in lines:
        if line.strip() and not line.startswith(("#", "import ", "import\t")):
            raise NotStorable(f"{os.path.basename(path)} adds a folder to the path")


def _configuration(root: str) -> dict[str, str]:
    config = _startup.read_config(root)
    if not config.get("home"):
        raise NotStorable("its pyvenv.cfg names no home")
    if config.get("include-system-site-packages", "true").lower() != "false":  # site's default
        raise NotStorable("it includes the system's site-packages")
    return config


def _normal_configuration(base: str, config: Mapping[str, str]) -> bytes:
    version = config.get("version") or config.get("version_info") or ""
    lines = [
        f"home = {os.path.dirname(base)}",
        "include-system-site-packages = false",
        f"version = {'.'.join(version.split('.')[:3])}",
        f"executable = {os.path.realpath(base)}",
    ]
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _library(root: str) -> str:
    """Return the name of the interpreter's folder under ``lib``: ``python3.11``, ``pypy3.11``."""
    if layout.WINDOWS:
        return ""
    folder = os.path.join(root, "lib")
    names = [n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n, "site-packages"))]
    if len(names) != 1:
        raise NotStorable("it has no lib/python3.x/site-packages, or several")
    return names[0]


def _is_interpreter_name(name: str) -> bool:
    """Tell whether *name*, in ``bin``, is one of the interpreter's: python, python3.11, pypy3…"""
    return name.rstrip("0123456789.t") in ("python", "pypy")


def _interpreter_links(base: str, library: str) -> list[Item]:
    """Return the links to the interpreter; a copied interpreter is not in the normal form.

    None on Windows: a launcher stands there, which is a file like others, and finds the
    base interpreter by ``pyvenv.cfg``.
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
