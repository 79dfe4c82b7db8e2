"""The normal form of the programs that pip and uv write for entry points on Windows."""

from __future__ import annotations

import functools
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Union

import distlib  # type: ignore[import-untyped]
import pytest
from distlib.scripts import ScriptMaker  # type: ignore[import-untyped]

from pyo3_envshim.environment import scripts
from pyo3_envshim.environment.item import PLACEHOLDER
from pyo3_envshim.environment.launchers import normal_launcher, undated

from .test_scripts import UV

EPHEMERAL = r"C:\Users\Jo Doe\AppData\Local\Temp\build-env-a1b2c3d4"
ENTRY = r"C:\Users\Jo Doe\AppData\Local\pyo3-envshim\environments\0123"


def launcher(folder: Path, executable: str, date: str = "1700000000") -> bytes:
    """Return what pip writes for an entry point on Windows, with distlib's program and archive."""
    maker = ScriptMaker(None, str(folder), add_launchers=True)
    # As distlib does where os.name is nt, for a path with a space.
    maker._is_nt = True
    maker._get_launcher = lambda kind: Path(distlib.__file__).with_name(f"{kind}64.exe").read_bytes()
    maker._get_shebang = lambda encoding, post=b"", options=None: f'#!"{executable}"\n'.encode(encoding)
    maker.variants = {""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", date)
        (path,) = maker.make("hello = tiny:main")
    return Path(path).read_bytes()


class TestALauncher:
    NAMES = (os.fsencode(EPHEMERAL),)

    def normal(self, data: bytes, reference: str | None = "tiny:main") -> bytes | None:
        return normal_launcher(data, list(self.NAMES), reference)

    def test_is_one_whoever_installed_it_when_and_where(self, tmp_path: Path) -> None:
        one = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        other = launcher(tmp_path, rf"{ENTRY}\Scripts\python.exe", date="1800000000")
        found = self.normal(one)
        assert found is not None
        assert found == normal_launcher(other, [os.fsencode(ENTRY)], "tiny:main")
        assert os.fsencode(EPHEMERAL) not in found

    def test_starts_the_entry_point_with_the_entrys_interpreter(self, tmp_path: Path) -> None:
        original = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        found = self.normal(original)
        assert found is not None
        placed = found.replace(PLACEHOLDER, os.fsencode(ENTRY))
        program, line, archive = placed.partition(os.fsencode(f'#!"{ENTRY}\\Scripts\\python.exe"\n'))
        assert original.startswith(program)
        assert line
        assert (
            zipfile.ZipFile(io.BytesIO(archive))
            .read("__main__.py")
            .startswith(b"import sys\nfrom tiny import main\n")
        )

    def test_is_not_known_where_anything_differs(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        assert self.normal(good, reference=None) is None
        assert self.normal(good, reference="tiny:other") is None
        assert normal_launcher(good, [b"C:\\other"], "tiny:main") is None
        assert self.normal(os.fsencode(EPHEMERAL) + good) is None
        assert self.normal(launcher(tmp_path, rf"{EPHEMERAL}\Scripts\other.exe")) is None
        assert self.normal(b"MZ" + os.fsencode(EPHEMERAL) + b"UVSC") is None
        assert self.normal(b"") is None
        for size in range(len(good) - 400, len(good), 7):
            assert self.normal(good[:size]) is None

    def test_may_lie_on_any_drive(self, tmp_path: Path) -> None:
        data = launcher(tmp_path, r"X:\build-env-a1\Scripts\python.exe")
        assert normal_launcher(data, [rb"X:\build-env-a1"], "tiny:main") is not None

    def test_may_have_the_line_ends_of_windows_in_its_wrapper(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        start = good.rindex(b"PK\3\4")
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            text = archive.read("__main__.py")
        anew = io.BytesIO()
        with zipfile.ZipFile(anew, "w") as archive:
            archive.writestr("__main__.py", text.replace(b"\n", b"\r\n"))
        found = self.normal(good[:start] + anew.getvalue())
        assert found is not None
        assert found == self.normal(good)

    def test_may_have_a_program_with_the_mark_of_an_archive_in_it(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        assert self.normal(b"MZ PK\3\4 " + good) is not None

    def test_with_another_member_is_not_known(self, tmp_path: Path) -> None:
        good = launcher(tmp_path, rf"{EPHEMERAL}\Scripts\python.exe")
        archive = io.BytesIO(good)
        with zipfile.ZipFile(archive, "a") as members:
            members.writestr("other.py", "")
        assert self.normal(archive.getvalue()) is None

    @pytest.mark.parametrize("name", ["python.exe", "Python.EXE"])
    def test_names_its_interpreter_in_any_case(self, name: str, tmp_path: Path) -> None:
        assert self.normal(launcher(tmp_path, rf"{EPHEMERAL.lower()}\scripts\{name}")) is not None

    def test_of_another_date_and_place_is_the_same_below_an_overlay(self, tmp_path: Path) -> None:
        found = set()
        for folder, date in ((EPHEMERAL, "1700000000"), (ENTRY, "1800000000")):
            data = b"MZ PK\3\4 " + launcher(tmp_path, rf"{folder}\python.exe", date)
            found.add(undated(data, os.fsencode(folder)))
        assert len(found) == 1

    def test_that_holds_more_is_another_below_an_overlay(self, tmp_path: Path) -> None:
        folder = os.fsencode(EPHEMERAL)
        good = launcher(tmp_path, rf"{EPHEMERAL}\python.exe")
        assert undated(good + b"more", folder) == good + b"more"
        assert folder in undated(b"MZ #!" + folder + good, folder)
        assert folder not in undated(good, folder)


Resource = Union[bytes, "dict[int | str, Resource]"]


class Tree:
    """A program's tree of resources, which is in memory *at* a place (the PE format)."""

    def __init__(self, at: int, root: dict[int | str, Resource], room: dict[bytes, int]) -> None:
        self.at = at
        self.room = room  # of what is shorter than its place
        self.data = bytearray()
        self.add(root)

    def add(self, node: Resource) -> int:
        """Write a table or a content; return where it is."""
        place = len(self.data)
        if isinstance(node, bytes):
            self.data += struct.pack("<IIII", self.at + place + 16, len(node), 0, 0)
            self.data += node.ljust(self.room.get(node, 0), b"\0")
            return place
        names = sum(isinstance(key, str) for key in node)
        self.data += struct.pack("<12xHH", names, len(node) - names) + bytes(8 * len(node))
        for number, (key, child) in enumerate(node.items()):
            name = key
            if isinstance(name, str):
                name = 1 << 31 | len(self.data)
                self.data += struct.pack("<H", len(str(key))) + str(key).encode("utf-16-le", "surrogatepass")
            struct.pack_into("<II", self.data, place + 16 + 8 * number, name, self.add(child))
        return place | 1 << 31


def trampoline(python: bytes, archive: bytes, room: dict[bytes, int] | None = None, **how: int) -> bytes:
    """Return a program as uv writes it, of 64 *bits*, with *others* among its resources or without."""
    content: dict[int | str, Resource] = {"UV_PYTHON_PATH": {0: python}, "UV_SCRIPT_DATA": {0: archive}}
    root: dict[int | str, Resource] = {10: content}
    if how.get("others", True):
        other: dict[int | str, Resource] = {"\ud800": {0: b"?"}, **content, 1: {0: b"1", 1033: b"2"}}
        root = {3: {1: {1033: b"icon"}}, 10: other, 24: {"UV_PYTHON_PATH": {0: b"other"}}}
    gap = 16 if how.get("others", True) else 0  # before it in its section
    tree = bytes(Tree(0x3000 + gap, root, room or {}).data)
    is_64 = how.get("bits", 64) == 64
    optional = struct.pack("<H", 0x20B if is_64 else 0x10B).ljust(112 if is_64 else 96, b"\0")
    optional += struct.pack("<16xII104x", 0x3000 + gap, len(tree))
    sections = struct.pack("<8sIIII16x", b".text", 0x2000, 0x1000, 0x200, 0x400)
    sections += struct.pack("<8sIIII16x", b".rsrc", gap + len(tree), 0x3000, gap + len(tree), 0x600)
    header = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 2, 0, 0, 0, len(optional), 0x22)
    start = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    return (start.ljust(0x80, b"\0") + header + optional + sections).ljust(0x600 + gap, b"\0") + tree


def archive(body: bytes) -> bytes:
    """Return an archive with a script."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("__main__.py", body)
    return made.getvalue()


class TestATrampoline:
    """uv's launcher, whose interpreter and script are resources."""

    PYTHON = rf"{EPHEMERAL}\Scripts\Python.exe".encode()
    SCRIPT = archive(UV)

    def normal(self, data: bytes, reference: str = "tiny:main") -> bytes | None:
        return normal_launcher(data, [os.fsencode(EPHEMERAL)], reference)

    @staticmethod
    def written(reference: str = "tiny:main") -> bytes:
        """Return the archive of the normal form."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as members:
            members.writestr(zipfile.ZipInfo("__main__.py"), scripts.generated(reference))
        return made.getvalue()

    @pytest.mark.parametrize("bits", [32, 64])
    @pytest.mark.parametrize("others", [False, True])
    def test_starts_the_interpreter_beside_it(self, bits: int, others: bool) -> None:
        program = functools.partial(trampoline, bits=bits, others=others)
        room = {b"python.exe": len(self.PYTHON), self.written(): len(self.SCRIPT)}
        found = self.normal(program(self.PYTHON, self.SCRIPT))
        assert found == program(b"python.exe", self.written(), room)
        del room[self.written()]
        found = self.normal(program(self.PYTHON, self.written()))  # which has no room to spare
        assert found == program(b"python.exe", self.written(), room)

    def test_is_not_known_where_anything_differs(self) -> None:
        good = trampoline(self.PYTHON, self.SCRIPT)
        assert self.normal(good, reference="tiny:other") is None
        assert self.normal(trampoline(self.PYTHON.replace(b"Python", b"other"), self.SCRIPT)) is None
        assert self.normal(trampoline(self.PYTHON, self.SCRIPT + b"more")) is None
        assert self.normal(good + os.fsencode(EPHEMERAL)) is None
        assert self.normal(b"NE" + good[2:]) is None
        assert self.normal(good.replace(b"PE\0\0", b"PE\0\1")) is None
        for size in range(0, good.index(self.SCRIPT) + len(self.SCRIPT), 7):
            assert self.normal(good[:size]) is None

    def test_without_room_for_its_normal_form_is_not_known(self) -> None:
        reference = f"tiny:{'m' * 2000}"
        script = archive(
            UV.replace(b"main\n", reference[5:].encode() + b"\n").replace(
                b"main()", reference[5:].encode() + b"()"
            )
        )
        assert len(script) < len(self.written(reference))
        assert self.normal(trampoline(self.PYTHON, script), reference) is None
