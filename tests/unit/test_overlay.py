"""What front ends put over the invoking interpreter: known by its place, and judged by its content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.environment import overlay

from .test_launchers import launcher

ENVIRONMENT = "/tmp/Environment-a1b2c3d4"  # the interpreter's, whose name may be random
RECORD = (
    b"../../bin/tool,sha256=%b,9\r\ntool-1.dist-info/direct_url.json,sha256=%b,8\r\ntool.py,sha256=3,7\r\n"
)


def overlaid(temporary: Path, name: str, hides: str = "") -> dict[str, str]:
    """Make an overlay; return the variables of a build below it."""
    site = temporary / f"pip-build-env-{name}" / "site"
    site.mkdir(parents=True)
    site.parent.chmod(0o700)
    (site / "sitecustomize.py").write_text(f"# {name}\nsystem_sites={[hides]!r}\n")
    (site.parent / "overlay" / "tool.py").parent.mkdir()
    (site.parent / "overlay" / "tool.py").write_text("1")
    return {"TMPDIR": str(temporary), "PYTHONPATH": str(site), "PYO3_PYTHON": f"{ENVIRONMENT}/bin/python"}


def put(path: str, content: bytes | str) -> Callable[[Path], object]:
    """Return a function that writes a file of an overlay, or, if *content* is text, makes a link."""

    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (root / path).symlink_to(content)
        else:
            (root / path).write_bytes(content)

    return change


NOTICED = {
    "a file": (put("lib/more.py", b""), put("lib/other.py", b"")),
    "a file's content": (put("lib/more.py", b"1"), put("lib/more.py", b"2")),
    "a name that is not UTF-8": (put("lib/\udcff", b""), put("lib/\udcfe", b"")),
    "where a link to a folder leads": (put("lib/link", ".."), put("lib/link", "../overlay")),
    "where a link to nothing leads": (put("lib/link", "/gone/1"), put("lib/link", "/gone/2")),
    "a script": (put("bin/tool", b"#!/bin/sh\n1"), put("bin/tool", b"#!/bin/sh\n2")),
    "a script's interpreter": (put("bin/tool", b"#!/bin/sh\n"), put("bin/tool", b"#!/bin/bash\n")),
    "a program with the interpreter's path": (
        put("bin/tool", f"ELF {ENVIRONMENT}/bin".encode()),
        put("bin/tool", b"ELF "),
    ),
    "a line of a RECORD": (put("lib/RECORD", RECORD), put("lib/RECORD", RECORD + b"more.py,,\n")),
    "a file with the interpreter's path": (
        put("lib/tool", f"#!{ENVIRONMENT}/bin/python".encode()),
        put("lib/tool", b"#!/python"),
    ),
}


@pytest.mark.parametrize("what", NOTICED)
def test_a_change_that_can_be_seen_is_noticed(what: str, tmp_path: Path) -> None:
    found = set()
    for name, change in zip(("aaaaaaaa", "bbbbbbbb"), NOTICED[what]):
        environ = overlaid(tmp_path, name)
        change(Path(environ["PYTHONPATH"]).parent)
        found.add(overlay.path_by_content(environ))
    assert len(found) == 2


UNNOTICED: dict[str, Callable[[Path], object]] = {
    "its own path": lambda root: None,
    "byte code": put("lib/__pycache__/more.pyc", os.urandom(8)),
    "where a distribution came from": put("lib/tool-1.dist-info/direct_url.json", os.urandom(8)),
}


@pytest.mark.parametrize("what", UNNOTICED)
def test_what_cannot_be_seen_is_not_noticed(what: str, tmp_path: Path) -> None:
    found = set()
    for name, change in (("aaaaaaaa", UNNOTICED[what]), ("bbbbbbbb", lambda root: None)):
        environ = overlaid(tmp_path, name)
        change(Path(environ["PYTHONPATH"]).parent)
        environ["PYTHONPATH"] += os.pathsep + "/elsewhere"
        found.add(overlay.path_by_content(environ))
    (path,) = found
    assert path.endswith(os.pathsep + "/elsewhere")


def test_a_pipe_in_it_is_not_waited_for(tmp_path: Path) -> None:
    environ = overlaid(tmp_path, "aaaaaaaa")
    os.mkfifo(tmp_path / "pip-build-env-aaaaaaaa" / "pipe")
    assert overlay.path_by_content(environ).startswith("overlay ")


def test_a_path_without_one_stays(tmp_path: Path) -> None:
    assert overlay.path_by_content({"PYTHONPATH": "/elsewhere"}) == "/elsewhere"
    assert overlay.path_by_content({}) == ""


@pytest.mark.parametrize("folder", ["bin", "Scripts"])
def test_neither_the_path_of_its_interpreter_counts_nor_the_date_of_a_launcher(
    folder: str, tmp_path: Path
) -> None:
    found = set()
    for name in ("aaaaaaaa", "bbbbbbbb"):
        python = f"{tmp_path}/{name}/bin/python"
        environ = {**overlaid(tmp_path, name), "PYO3_PYTHON": python}
        root = Path(environ["PYTHONPATH"]).parent
        put(f"{folder}/tool", f"#!{python}\nimport tool\n".encode())(root)
        date = f"1{ord(name[0])}0000000"
        put(f"{folder}/tool.exe", launcher(tmp_path, python, date))(root)
        put("lib/tool-1.dist-info/RECORD", RECORD.replace(b"%b", name.encode()))(root)
        found.add(overlay.path_by_content(environ))
    assert len(found) == 1


def test_its_content_is_known_where_no_interpreter_is_named(tmp_path: Path) -> None:
    environ = overlaid(tmp_path, "aaaaaaaa")
    named = overlay.path_by_content(environ)
    del environ["PYO3_PYTHON"]
    assert overlay.path_by_content(environ) == named


def test_it_is_told_whether_there_is_nothing_else_on_the_path(tmp_path: Path) -> None:
    environ = overlaid(tmp_path, "aaaaaaaa")
    assert overlay.is_all(environ)
    assert not overlay.is_all({**environ, "PYTHONPATH": environ["PYTHONPATH"] + os.pathsep})
    assert not overlay.is_all({**environ, "PYTHONPATH": f"/elsewhere{os.pathsep}{environ['PYTHONPATH']}"})
    assert not overlay.is_all({})


def test_a_folder_without_the_front_ends_hook_is_none(tmp_path: Path) -> None:
    environ = overlaid(tmp_path, "aaaaaaaa")
    Path(environ["PYTHONPATH"], "sitecustomize.py").unlink()
    assert overlay.path_by_content(environ) == environ["PYTHONPATH"]
    assert not overlay.hides(ENVIRONMENT, environ)


def test_it_hides_the_environment_that_its_hook_names(tmp_path: Path) -> None:
    environ = overlaid(tmp_path, "aaaaaaaa", hides=f"{ENVIRONMENT}/lib/python3.13/site-packages")
    assert overlay.hides(ENVIRONMENT, environ)
    assert not overlay.hides(ENVIRONMENT[:-1], environ)
    assert not overlay.hides(ENVIRONMENT, {**environ, "PYTHONPATH": ""})


def test_names_have_no_case_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip writes them as Python's source, in which a backslash is two."""
    environ = overlaid(tmp_path, "aaaaaaaa", hides="C:\\build-env-A1/LIB\\site-packages")
    monkeypatch.setattr(overlay, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    assert overlay.hides("c:\\Build-env-a1", environ)
    assert not overlay.hides("c:\\build-env-a", environ)
    assert not overlay.hides("d:\\build-env-a1", environ)
