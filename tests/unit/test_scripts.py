"""The normal form of scripts and Windows launchers."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyo3_envshim.environment import scripts
from pyo3_envshim.environment.item import PLACEHOLDER

normal_script = functools.partial(scripts.normal_script, windows=False)

ROOT = b"/tmp/build-env-a1b2c3d4"
PIP = b"""\
#!/tmp/build-env-a1b2c3d4/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from tiny import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""
UV = b"""\
#!/tmp/build-env-a1b2c3d4/bin/python3
# -*- coding: utf-8 -*-
import sys
from tiny import main
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(main())
"""
LONG = (
    b"#!/bin/sh\n'''exec' \"/tmp/build-env-a1b2c3d4/bin/python\" \"$0\" \"$@\"\n' '''\n"
    + UV.partition(b"\n")[2]
)


class TestAScript:
    def test_is_the_same_whoever_wrote_it_for_an_entry_point(self) -> None:
        found = {normal_script(data, [ROOT], "tiny:main") for data in (PIP, UV, LONG)}
        assert len(found) == 1
        (text,) = found
        assert text is not None
        assert ROOT not in text
        assert PLACEHOLDER in text
        assert b"from tiny import main" in text

    def test_of_another_entry_point_is_another(self) -> None:
        method = UV.replace(b"sys.exit(main())", b"sys.exit(main.run())")
        one = normal_script(UV, [ROOT], "tiny:main")
        two = normal_script(method, [ROOT], "tiny:main.run")
        assert one != two
        assert b"from tiny import main\n" in (two or b"")
        assert b"sys.exit(main.run())" in (two or b"")
        assert (two or b"").count(b"\n") == 5

    def test_that_does_more_than_an_entry_point_keeps_its_text(self) -> None:
        own = UV + b"print('more')\n"
        assert normal_script(own, [ROOT], "tiny:main") == own.replace(ROOT, PLACEHOLDER)

    def test_that_calls_something_else_than_its_entry_point_keeps_its_text(self) -> None:
        assert normal_script(UV, [ROOT], "tiny:other") == UV.replace(ROOT, PLACEHOLDER)

    def test_that_is_no_text_in_a_place_keeps_its_bytes(self) -> None:
        odd = UV.replace(b'".exe"', b'"\xff"')
        assert normal_script(odd, [ROOT], "tiny:main") == odd.replace(ROOT, PLACEHOLDER)

    def test_of_no_entry_point_keeps_its_text(self) -> None:
        assert normal_script(UV, [ROOT], None) == UV.replace(ROOT, PLACEHOLDER)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x7fELF\0" + ROOT,
            b"import " + ROOT,
            b"#!" + ROOT + b"/bin/python\n\n\nprint('" + ROOT + b"')\n",
            b"#!" + ROOT + b"/bin/python\0\n",
            b"# " + ROOT + b"/bin/python\n",
            b"#!" + ROOT + b"/bin/python -X pycache_prefix=" + ROOT + b"\n",
        ],
    )
    def test_that_cannot_be_moved_has_no_normal_form(self, data: bytes) -> None:
        assert normal_script(data, [ROOT], None) is None

    @pytest.mark.parametrize(
        "line",
        [
            "{exec} {python}",
            ": {exec} {python} {arguments}",
            "exec {python} {arguments}",
            "{python} {arguments}",
            "{exec} X{python} {arguments}",
            "{exec} {python} {arguments} >log",
            "{exec} {python} {arguments} {arguments}",
            "{exec} {python} -I -S {arguments}",
            '{exec} "{python}" "-I" {arguments}',
            "{exec} {python} {arguments}\nprint()",
        ],
    )
    def test_whose_shell_does_more_than_start_python_has_no_normal_form(self, line: str) -> None:
        """One line that names the interpreter would not do the same."""
        parts = {"exec": "'''exec'", "python": f"{ROOT.decode()}/bin/python", "arguments": '"$0" "$@"'}
        data = f"#!/bin/sh\n{line.format(**parts)}\n' '''\n".encode() + UV.partition(b"\n")[2]
        assert normal_script(data, [ROOT], "tiny:main") is None

    @given(st.binary(), st.one_of(st.none(), st.just("tiny:main"), st.text()))
    def test_is_read_or_refused_whatever_it_holds(self, data: bytes, reference: str | None) -> None:
        found = normal_script(b"#!" + ROOT + b"/bin/python\n" + data, [ROOT], reference)
        assert found is None or ROOT not in found


WINDOWS_ROOT = r"C:\Users\Jo Doe\AppData\Local\Temp\build-env-a1b2c3d4"
LINES = (
    *("# -*- coding: utf-8 -*-", "import re", "import sys", "from tiny import main", ""),
    *("if __name__ == '__main__':", 'if __name__ == "__main__":', "    from tiny import main"),
    "    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])",
    "    sys.argv[0] = sys.argv[0].removesuffix('.exe')",
    '    if sys.argv[0].endswith("-script.pyw"):',
    "        sys.argv[0] = sys.argv[0][:-11]",
    '    elif sys.argv[0].endswith(".exe"):',
    "        sys.argv[0] = sys.argv[0][:-4]",
    *("    sys.exit(main())", "sys.exit(main())", "    main()", "print('more')"),
)
GOOD = (
    (0, 1, 2, 3, 5, 8, 14),
    (0, 2, 3, 6, 10, 11, 12, 13, 14),
    (2, 3, 5, 9, 14),
    (0, 1, 2, 5, 7, 8, 14),
)


def ran(text: str) -> tuple[str, object]:
    """Run a script with a fake entry point; return its output and exit status."""
    code = (
        "import sys, types\n"
        "sys.modules['tiny'] = types.ModuleType('tiny')\n"
        "sys.modules['tiny'].main = lambda: print('called', sys.argv) or 7\n"
        "exec(compile(sys.stdin.read(), 'script', 'exec'), {'__name__': '__main__'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", code], input=text, capture_output=True, text=True, check=False
    )
    return done.stdout, done.returncode


@settings(max_examples=settings().max_examples // 4)
@given(st.sampled_from(GOOD), st.integers(0, 8), st.integers(0, 8), st.sampled_from(range(len(LINES))))
def test_a_script_that_is_written_anew_does_what_it_did(
    good: tuple[int, ...], one: int, other: int, line: int
) -> None:
    """Lines are swapped, deleted or inserted."""
    numbers = list(good)
    one, other = one % len(numbers), other % len(numbers)
    if line % 3 == 0:
        numbers[one], numbers[other] = numbers[other], numbers[one]
    elif line % 3 == 1:
        del numbers[one]
    else:
        numbers.insert(one, line)
    body = "\n".join(LINES[number] for number in numbers) + "\n"
    data = f"#!/tmp/env/bin/python\n{body}".encode()
    found = normal_script(data, [b"/tmp/env"], "tiny:main")
    assert found is not None
    if found.partition(b"\n")[2] != body.encode():
        assert ran(found.decode()) == ran(body)


@pytest.mark.parametrize("numbers", GOOD)
def test_a_script_that_an_installer_writes_is_written_anew(numbers: tuple[int, ...]) -> None:
    body = "\n".join(LINES[number] for number in numbers)
    data = f"#!/tmp/env/bin/python\n{body}\n".encode()
    found = normal_script(data, [b"/tmp/env"], "tiny:main")
    assert found is not None
    assert found.count(b"\n") == 5


@pytest.mark.parametrize("numbers", [(0, 1, 2, 5, 7, 16, 8, 14), (2, 3, 5, 8, 14)])
def test_a_script_that_does_more_or_fails_keeps_its_text(numbers: tuple[int, ...]) -> None:
    """It calls the entry point twice, or uses ``re`` without an import."""
    data = "\n".join(["#!/tmp/env/bin/python", *(LINES[number] for number in numbers)]).encode()
    assert normal_script(data, [b"/tmp/env"], "tiny:main") == data.replace(b"/tmp/env", PLACEHOLDER)


@pytest.mark.parametrize(
    "line", ['"{}\\Scripts\\Python.EXE"', "{}\\Scripts\\pythonw.exe", '"{}\\Scripts\\tool.exe"']
)
def test_a_script_of_windows_names_the_entrys_interpreter_or_has_no_normal_form(line: str) -> None:
    text = f"#!{line}\nimport tiny\n".format
    found = scripts.normal_script(text(WINDOWS_ROOT).encode(), [WINDOWS_ROOT.encode()], None, windows=True)
    assert found == (None if "tool" in line else text(PLACEHOLDER.decode()).encode())
