"""The normal form of the programs that stand for entry points on Windows, as pip and uv write them."""

from __future__ import annotations

import io
import struct
import zipfile

from pyo3_envshim.environment.item import PLACEHOLDER
from pyo3_envshim.environment.scripts import generated, interpreters, is_generated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Resource = tuple[int, int]  # where the entry of a program's resource is, and where its content

# What uv 0.13 calls the resources of its launchers (crates/uv-trampoline-builder).
_UV_PYTHON, _UV_SCRIPT = "UV_PYTHON_PATH", "UV_SCRIPT_DATA"


def normal_launcher(data: bytes, names: Sequence[bytes], reference: str | None) -> bytes | None:
    """Return the normal form of a Windows launcher that holds the environment's path, or None.

    pip's (distlib's ``ScriptMaker._write_script``) consists of a program, a first line that names
    the interpreter, and a zip archive with the script as ``__main__.py``, dated when it was
    installed. uv's is a program that has both as resources (`_normal_trampoline`).
    """
    if reference and (resources := _resources(data)).keys() >= {_UV_PYTHON, _UV_SCRIPT}:
        return _normal_trampoline(data, names, reference, resources)
    start = max(data.rfind(b"PK\3\4"), 0)  # of the archive, which has one member
    program, _, line = data[:start].rpartition(b"#!")
    interpreter = line.strip().strip(b'"')
    if not reference or any(name in program for name in names):
        return None
    called = _called_in(interpreter, names)
    archive = _normal_archive(data[start:], reference)
    if not called or archive is None:
        return None
    return program + b'#!"' + PLACEHOLDER + b"\\Scripts\\" + called + b'"\n' + archive


def undated(data: bytes, interpreters: bytes) -> bytes:
    """Return pip's launcher without the folder of the *interpreters*, and when it was installed.

    Another program is returned as it is.
    """
    start = data.rfind(b"PK\3\4")
    program, mark, line = data[: max(start, 0)].rpartition(b"#!")
    if not mark or data[-22:-18] != b"PK\5\6":
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data[start:])) as found:
            members = [part for name in found.namelist() for part in (name.encode(), found.read(name))]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return data
    return b"\0".join([program, line.replace(interpreters, b""), *members])


def _called_in(interpreter: bytes, names: Sequence[bytes]) -> bytes | None:
    """Return what *interpreter* is called in the environment with these *names*, or None if it is not its."""
    path = interpreter.lower()
    if any(path in interpreters(name.lower()) for name in names):
        return path.rpartition(b"\\")[2]
    return None


def _normal_archive(data: bytes, reference: str) -> bytes | None:
    """Return the normal form of the zip archive in a launcher, or None if there is none."""
    if data[-22:-18] != b"PK\5\6":  # something follows it
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            if found.namelist() != ["__main__.py"]:
                return None
            body = found.read("__main__.py").replace(b"\r\n", b"\n")
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return None
    if body.startswith(b"#!"):  # uv's
        body = body.partition(b"\n")[2]
    if not is_generated(body, reference):
        return None
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo("__main__.py"), generated(reference))  # dated 1980
    return archive.getvalue()


def _normal_trampoline(
    data: bytes, names: Sequence[bytes], reference: str, resources: dict[str, Resource]
) -> bytes | None:
    """Return the normal form of uv's launcher, or None.

    A path that is not absolute counts from the launcher's folder (uv-trampoline's ``bounce.rs``), so
    that of the environment is not needed.
    """
    found = bytearray(data)
    called = _called_in(_content(data, resources[_UV_PYTHON]), names)
    archive = _normal_archive(_content(data, resources[_UV_SCRIPT]), reference)
    if not called or archive is None:
        return None
    for name, content in ((_UV_PYTHON, called), (_UV_SCRIPT, archive)):
        entry, start = resources[name]
        (size,) = struct.unpack_from("<I", data, entry + 4)
        if len(content) > size:
            return None
        found[start : start + size] = content.ljust(size, b"\0")
        struct.pack_into("<I", found, entry + 4, len(content))
    return None if any(name in found for name in names) else bytes(found)


def _content(data: bytes, resource: Resource) -> bytes:
    entry, start = resource
    return data[start : start + struct.unpack_from("<I", data, entry + 4)[0]]


def _resources(data: bytes) -> dict[str, Resource]:
    """Return the named raw resources (RT_RCDATA) of a Windows program, or {} if *data* is none.

    The PE format's tree: a table of types, of names, of languages; then an entry that tells where the
    content is in memory, and its size.
    """
    found: dict[str, Resource] = {}
    try:
        (header,) = struct.unpack_from("<I", data, 0x3C)
        if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
            return {}
        sections, optional, kind = (struct.unpack_from("<H", data, header + at)[0] for at in (6, 20, 24))
        directories = header + 24 + (112 if kind == 0x20B else 96)  # of 64 or 32 bits
        (resources,) = struct.unpack_from("<I", data, directories + 8 * 2)  # where they are in memory
        for number in range(sections):
            size, start, _, at = struct.unpack_from("<IIII", data, header + 24 + optional + 40 * number + 8)
            if start <= resources < start + size:
                tree = resources - start + at
                raw = [table for key, table in _members(data, tree, tree) if key == 10]
                for name, names in [it for table in raw for it in _members(data, tree, table)]:
                    for _, entry in _members(data, tree, names):
                        found[str(name)] = entry, struct.unpack_from("<I", data, entry)[0] - start + at
    except struct.error:
        return {}
    return found


def _members(data: bytes, tree: int, table: int) -> list[tuple[int | str, int]]:
    """Return the members of a table in a program's *tree* of resources: number or name, and where it is."""
    found: list[tuple[int | str, int]] = []
    for number in range(sum(struct.unpack_from("<HH", data, table + 12))):
        key, at = struct.unpack_from("<II", data, table + 16 + 8 * number)
        name: int | str = key
        if key >> 31:
            start = tree + (key & 0x7FFFFFFF)
            (length,) = struct.unpack_from("<H", data, start)
            name = data[start + 2 : start + 2 + 2 * length].decode("utf-16-le", "replace")
        found.append((name, tree + (at & 0x7FFFFFFF)))
    return found
