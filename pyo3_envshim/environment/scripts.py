"""The normal form of scripts that name their environment's interpreter.

Knows what pip, uv and installer write for an entry point. `launchers` knows what they write on Windows.
"""

from __future__ import annotations

import os

from pyo3_envshim.environment import layout
from pyo3_envshim.environment.item import PLACEHOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def normal_script(
    data: bytes, names: Sequence[bytes], reference: str | None, windows: bool = layout.WINDOWS
) -> bytes | None:
    """Return the normal form of a script that holds the environment's path, or None if it has none.

    *names* are the spellings of that path, which may occur only where the script names its
    interpreter. What an installer wrote for the entry point *reference* is rewritten; any other
    script keeps its text, with a first line that has the placeholder for the path.
    """
    if b"\0" in data or PLACEHOLDER in data:
        return None
    interpreter, body = _split_script(data)
    for name in names:
        if name in body:
            return None
        interpreter = interpreter.replace(name, PLACEHOLDER, 1)
    if windows:
        is_its = interpreter.strip(b'"').lower() in interpreters(PLACEHOLDER.lower())
        return b"#!" + interpreter + b"\n" + body if is_its else None
    folder, _, called = interpreter.rpartition(b"/")
    if folder != PLACEHOLDER + b"/bin":
        return None
    if reference and layout.is_interpreter(os.fsdecode(called)) and is_generated(body, reference):
        return b"#!" + PLACEHOLDER + b"/bin/python\n" + generated(reference)
    return b"#!" + interpreter + b"\n" + body


def interpreters(root: bytes) -> list[bytes]:
    """Return those of an environment of Windows, *root* being in lower case: pythonw.exe has no console."""
    return [root + b"\\scripts\\" + name for name in (b"python.exe", b"pythonw.exe")]


def generated(reference: str) -> bytes:
    """Return a script, without its first line, for the entry point *reference*."""
    module, _, function = reference.partition(":")
    text = f"import sys\nfrom {module} import {function.partition('.')[0]}\n"
    return (text + f'if __name__ == "__main__":\n    sys.exit({function}())\n').encode()


def _split_script(data: bytes) -> tuple[bytes, bytes]:
    """Return the interpreter (with its options) that a script names, or b"", and the rest.

    Installers write three lines where the path contains a space or is too long for a first line:
    sh runs the interpreter in its own place, and Python reads the lines as a string. pip quotes
    the path with double quotes if it must, uv with single ones. Such lines never hold options,
    which sh would split and a first line would not, nor anything else.
    """
    first, _, rest = data.partition(b"\n")
    if first != b"#!/bin/sh":
        return (first[2:].strip() if first.startswith(b"#!") else b""), rest
    second, _, rest = rest.partition(b"\n")
    third, _, rest = rest.partition(b"\n")
    before, _, after = second.partition(b"'''exec' ")
    command, arguments, more = after.partition(b' "$0" "$@"')
    path = command.strip(b"'\"")
    plain = layout.is_interpreter(os.fsdecode(path.rpartition(b"/")[2]))
    if before or more or not (arguments and plain) or third != b"' '''":
        return b"", data
    return path, rest


# What pip 20 to 26 (distlib's old and new templates, and its own), uv 0.13 and installer 0.7 write
# for an entry point, apart from the lines that name it: lines that may precede the main part, the
# main part's first line, and the change of `sys.argv[0]` that follows.
_OPTIONAL = {b"# -*- coding: utf-8 -*-", b"import re"}
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


def is_generated(body: bytes, reference: str) -> bool:
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
        needed <= set(before) <= needed | _OPTIONAL
        and b"\n".join(fix).decode("utf-8", "replace") in _FIXES
        and last == f"    sys.exit({name}())".encode()
    )
