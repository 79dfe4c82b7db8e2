"""The normal form of a RECORD, and the scripts that an entry_points.txt declares.

Both parsers are compared with those of the programs that read these files.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.environment import record
from pyo3_envshim.environment.item import NotStorable

SITE = "lib/python3.11/site-packages"


def normal(text: str, scripts: set[str] | None = None) -> str:
    return record.normal_record(text.encode(), SITE, scripts or set()).decode()


class TestARecord:
    def test_is_sorted(self) -> None:
        assert normal("b.py,sha256=x,1\na.py,sha256=y,2\n") == "a.py,sha256=y,2\nb.py,sha256=x,1\n"

    def test_loses_lines_for_what_is_not_in_the_normal_form(self) -> None:
        lines = ["a.py,sha256=x,1", "__pycache__/a.cpython-311.pyc,,", "t/__pycache__/b.pyc,,"]
        lines += [f"t-1.dist-info/{name},," for name in sorted(record.INSTALLER_NOTES)]
        assert normal("\n".join([*lines, "b.py,sha256=y,2"])) == "a.py,sha256=x,1\nb.py,sha256=y,2\n"

    def test_loses_hash_and_size_of_scripts_with_a_path_in_them(self) -> None:
        assert normal("../../../bin/hello,sha256=x,200\n", {"bin/hello"}) == "../../../bin/hello,,\n"
        assert (
            normal("../../../bin/other,sha256=x,200\n", {"bin/hello"}) == "../../../bin/other,sha256=x,200\n"
        )

    def test_may_have_windows_line_ends_and_separators(self) -> None:
        assert normal("t\\a.py,sha256=x,1\r\n\r\n") == "t/a.py,sha256=x,1\n"

    def test_keeps_quoted_names(self) -> None:
        line = '"with, comma and ""quotes""",sha256=x,1\n'
        assert normal(line) == line

    @pytest.mark.parametrize(
        "line",
        ["aX.py,h,1", '"""a",h,1', "a/b:c/d,h,1", "tiny/INSTALLER,h,1", "t/x.dist-info/INSTALLER,h,1"],
    )
    def test_keeps_other_lines_as_they_are(self, line: str) -> None:
        assert set(normal(f"{line}\n\nz.py,h,1\n").splitlines()) == {line, "z.py,h,1"}

    def test_quotes_alike(self) -> None:
        assert normal('"a.py",sha256=x,1\n') == "a.py,sha256=x,1\n"

    def test_may_hold_names_that_are_not_utf_8(self) -> None:
        line = b"x\xff.py,sha256=x,1\n"
        assert record.normal_record(line, SITE, set()) == line

    @pytest.mark.parametrize(
        "line",
        [
            "/etc/passwd,sha256=x,1",
            "../../../../outside.py,sha256=x,1",
            "../../../bin/../../outside.py,sha256=x,1",
            "C:/windows/x.py,sha256=x,1",
            "C:\\windows\\x.py,sha256=x,1",
            "\\\\server\\x.py,sha256=x,1",
        ],
    )
    def test_that_leaves_the_environment_is_refused(self, line: str) -> None:
        with pytest.raises(NotStorable, match=r"line 2 .* leaves the environment"):
            normal(f"a.py,,\n{line}\n")

    @pytest.mark.parametrize(
        "line",
        [
            "a.py",
            "a.py,",
            "a.py,x",
            "a.py,x,1,2",
            'a.py,",1',
            "a.py,\r,1",
            '"a"x",x,1',
            ",x,1",
            '"a.py,x,1',
            '"a.py"x,x,1',
            '"a""b",x",,',
            '"",x,1',
            '"a',
            '"',
        ],
    )
    def test_that_is_malformed_is_refused(self, line: str) -> None:
        with pytest.raises(NotStorable, match=r"line 2 .* malformed"):
            normal(f"a.py,,\n{line}\n")

    @given(st.binary())
    def test_is_read_or_refused_whatever_it_holds(self, content: bytes) -> None:
        try:
            found = record.normal_record(content, SITE, set())
        except NotStorable:
            return
        assert record.normal_record(found, SITE, set()) == found

    @given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)))
    def test_keeps_any_name(self, names: list[str]) -> None:
        safe = ["n" + name.replace("/", "").replace("\\", "").replace(":", "") for name in names]
        rows = ['"{}",,\n'.format(name.replace('"', '""')) for name in safe]
        kept = normal("".join(rows)).splitlines()
        assert len(kept) == len(set(safe))


def test_a_record_of_windows_names_its_scripts_like_another() -> None:
    lines = b"tiny.py,sha256=x,1\n..\\..\\Scripts\\hello.exe,sha256=y,2\n"
    found = record.normal_record(lines, "Lib/site-packages", {"Scripts/hello.exe"})
    assert found == b"../../Scripts/hello.exe,,\ntiny.py,sha256=x,1\n"


# The CSV module as an oracle

NAMES = st.text(st.sampled_from("ab.\"',;/\\ \n\r\t\u2028\x0c\x85\udcff"), min_size=1, max_size=8)


@given(
    rows=st.lists(st.tuples(NAMES, st.sampled_from(["", "sha256=x"]), st.sampled_from(["", "1"]))),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cut=st.integers(0, 300),
    put_in=st.sampled_from(["", '"', ",", "\n", "\r", '""', '","', "\x0c"]),
)
def test_a_record_is_read_as_the_csv_module_reads_it_or_not_at_all(
    rows: list[tuple[str, str, str]], quoting: int, end: str, cut: int, put_in: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=end).writerows(rows)  # type: ignore[arg-type]
    content = text.getvalue()
    if put_in:
        content = content[:cut] + put_in + content[cut:]
    data = content.encode("utf-8", "surrogateescape")
    try:
        found = record.normal_record(data, SITE, set())
    except NotStorable:
        if put_in == "" and end != "\r" and quoting == csv.QUOTE_MINIMAL:
            assert any("\n" in name or "\r" in name or leaves(name) for name, _, _ in rows)
        return
    assert parsed(found) == {(path.replace("\\", "/"), *rest) for path, *rest in parsed(data)}


def leaves(name: str) -> bool:
    path = os.path.normpath(f"{SITE}/{name}".replace("\\", "/"))
    return name[:1] in ("/", "\\") or path.startswith("..")


def parsed(content: bytes) -> set[tuple[str, ...]]:
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    return {tuple(row) for row in csv.reader(text, strict=True) if row}


class TestEntryPoints:
    def test_are_read_from_both_sections(self) -> None:
        text = b"[console_scripts]\na = b:c\n\n[gui_scripts]\nd=e:f.g\n[other]\nh = i:j\n"
        assert record.entry_points(text) == {"a": "b:c", "d": "e:f.g"}

    def test_may_have_extras_comments_and_spaces(self) -> None:
        text = b"# x\n[console_scripts]\n; y\n a = b : c [extra]\n# d = e:f\ng = h:i [j=k]\n"
        assert record.entry_points(text) == {"a": "b:c", "g": "h:i"}

    def test_are_none_in_an_empty_file(self) -> None:
        assert record.entry_points(b"") == {}

    @given(st.binary())
    def test_are_read_whatever_the_file_holds(self, text: bytes) -> None:
        assert isinstance(record.entry_points(text), dict)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="its importlib reads them with configparser")
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["[console_scripts]", "[gui_scripts]", "[other]", "", "# no = no:no", "  "]),
            st.builds(
                "{}{}{}{}{}".format,
                st.sampled_from(["", " "]),
                st.sampled_from(["a", "b-c", "d.e", "Z_1"]),
                st.sampled_from(["=", " = ", " =\t"]),
                st.sampled_from(["m:f", "m.n:f.g", "m : f", "m:f [x,y]", "m"]),
                st.sampled_from(["", " ", "\r"]),
            ),
        )
    )
)
def test_entry_points_are_those_that_importlib_finds(lines: list[str]) -> None:
    if not lines or not any(line.startswith("[") for line in lines):
        lines = ["[console_scripts]", *lines]
    while not lines[0].startswith("["):  # importlib.metadata does not take one without a section
        lines = lines[1:]
    text = "\n".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "entry_points.txt").write_bytes(text.encode())
        entry_points = PathDistribution(Path(folder)).entry_points
    expected = {
        point.name: "".join(point.value.partition("[")[0].split())
        for point in entry_points
        if point.group in ("console_scripts", "gui_scripts")
    }
    assert record.entry_points(text.encode()) == expected
