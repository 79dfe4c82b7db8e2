"""The normal form of scripts and Windows launchers."""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import distlib  # type: ignore[import-untyped]
import pytest
from distlib.scripts import ScriptMaker  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from pyo3_envshim.environment import scripts
from pyo3_envshim.environment.item import PLACEHOLDER
from pyo3_envshim.environment.launchers import normal_launcher

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
