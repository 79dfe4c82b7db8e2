"""What is noted in a kept build folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyo3_envshim.build_notes import DISK_FULL, TOO_LARGE, BuildNotes

from .environments import ROOT, run

HASH = "0123456789abcdef"


def test_what_was_noted_is_read(tmp_path: Path) -> None:
    notes = BuildNotes(str(tmp_path))
    assert (notes.checksums(), notes.compiler(), notes.overlays(), notes.each_time()) == ({}, "", {}, {})
    odd = "/\udcff"  # what is not UTF-8
    notes.note_checksums({"a 1": "12"})
    notes.note_compiler(f"{odd} 1 2\n")
    notes.note_overlays({odd: "34", "/b": "56"})
    notes.note_each_time({"c", "b"}, set())
    notes = BuildNotes(str(tmp_path))
    assert notes.checksums() == {"a 1": "12"}
    assert notes.compiler() == f"{odd} 1 2\n"
    assert notes.overlays() == {odd: "34", "/b": "56"}
    assert notes.each_time() == {"asks": ["b", "c"], "needs": []}


def test_it_is_read_whatever_the_locale(tmp_path: Path) -> None:
    BuildNotes(str(tmp_path)).note_overlays({"/\u00fc": "12"})
    code = "import sys; from pyo3_envshim.build_notes import BuildNotes as it; "
    code += "print(ascii(it(sys.argv[1]).overlays()))"
    environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert run([sys.executable, "-c", code, tmp_path], environ, ROOT) == "{'/\\xfc': '12'}\n"


def test_until_cargo_has_ended_nothing_is_known_of_its_end(tmp_path: Path) -> None:
    notes = BuildNotes(str(tmp_path))
    for mark in (DISK_FULL, TOO_LARGE):
        notes.mark(mark)
        assert notes.has(mark)
    notes.note_compiler("1")
    notes.note_checksums({"a 1": "12"})
    notes.begin()
    assert not notes.has(DISK_FULL)
    assert not notes.has(TOO_LARGE)
    assert (notes.compiler(), notes.checksums()) == ("", {"a 1": "12"})


def test_an_output_that_lost_its_end_is_damage_and_one_that_is_gone_is_none(tmp_path: Path) -> None:
    library = tmp_path / "release" / "deps" / f"liba-{HASH}.rlib"
    library.parent.mkdir(parents=True)
    library.write_text("12")
    notes = BuildNotes(str(tmp_path))
    assert not notes.is_damaged()  # nothing is known
    notes.note_outputs()
    assert not notes.is_damaged()
    library.write_text("1")
    assert notes.is_damaged()
    library.unlink()
    assert not notes.is_damaged()


@pytest.mark.parametrize("text", ["", "5", "[", "\udcff", "null"])
def test_rubbish_is_doubt(text: str, tmp_path: Path) -> None:
    for name in ("checksums", "outputs", "each-time"):
        (tmp_path / name).write_text(text, errors="surrogateescape")
    notes = BuildNotes(str(tmp_path))
    assert notes.checksums() is None
    assert notes.is_damaged()
    assert notes.each_time() == {}
