"""The digest of an environment notices what an interpreter in it could see, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import environments, hashing, interpreters
from pyo3_envshim.environments import NotStorable

from .kit import Kit, digest, read, sha256_of
from .making import Shared, install, make_environment, make_wheel, run, script, site_packages

Change = Callable[[Path], object]


def edit(relative: str, old: str, new: str) -> Change:
    """Return a change of a file in site-packages, or of one in the environment if it begins with ``/``."""

    def change(root: Path) -> None:
        path = root / relative[1:] if relative.startswith("/") else site_packages(root) / relative
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def add(relative: str, text: str | bytes = "added\n") -> Change:
    """Return the addition of a file, to site-packages or (``/…``) to the environment."""

    def change(root: Path) -> None:
        path = root / relative[1:] if relative.startswith("/") else site_packages(root) / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    return change


def remove(relative: str) -> Change:
    def change(root: Path) -> None:
        (site_packages(root) / relative).unlink()

    return change


def link(relative: str, target: str) -> Change:
    def change(root: Path) -> None:
        os.symlink(target, site_packages(root) / relative)

    return change


def mode(relative: str, bits: int) -> Change:
    return lambda root: (root / relative).chmod(bits)


def touch_everything(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(Path(folder, name), (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def compile_everything(root: Path) -> None:
    subprocess.run([root / "bin" / "python", "-m", "compileall", "-q", site_packages(root)], check=True)
    assert list(site_packages(root).rglob("*.pyc"))


def rewrite_every_file(root: Path) -> None:
    """Give each file another inode, and the folders another order."""
    for path in sorted(site_packages(root).rglob("*"), reverse=True):
        if path.is_file():
            copy = path.with_name(path.name + ".copy")
            shutil.copy2(path, copy)
            copy.replace(path)


def copy_interpreter(root: Path) -> None:
    python = root / "bin" / "python"
    real = python.resolve()
    python.unlink()
    shutil.copy(real, python)


NOTICED: dict[str, Change] = {
    "a module": edit("tiny/__init__.py", "tiny", "tinY"),
    "a module of the same size": edit("tiny/__init__.py", "hello", "holla"),
    "a data file": edit("tiny/data.txt", "data", "other"),
    "an extension module": add("tiny/_native.abi3.so", b"\x7fELF\0\1\2\4"),
    "a header": edit("tiny/include/tiny.h", "1", "2"),
    "a file that RECORD quotes": edit("tiny/with, comma and \u00fc.txt", "quoted", "Quoted"),
    "a file outside of site-packages": edit("/share/tiny/shared.txt", "shared", "Shared"),
    "a script of its own": edit("/bin/tool", "tool in", "tool at"),
    "an entry point": edit("/bin/hello", "sys.exit(main())", "sys.exit(main() or 1)"),
    "the declaration of an entry point": edit("tiny-1.dist-info/entry_points.txt", "tiny:main", "tiny:other"),
    "metadata": edit("tiny-1.dist-info/METADATA", "Version: 1", "Version: 9"),
    "a line of a RECORD": edit("other-1.dist-info/RECORD", "other.py,sha256=", "other.py,sha256=x"),
    "an added module": add("added.py"),
    "an added module in a package": add("tiny/added.py"),
    "an added data file": add("/share/added.txt"),
    "an added script": lambda root: script(root / "bin" / "added", "#!/bin/sh\n"),
    "an added start-up line": add("added.pth", "import os\n"),
    "an added sitecustomize": add("sitecustomize.py"),
    "a file with a name that is not UTF-8": lambda root: add(os.fsdecode(b"x\xff.py"))(root),
    "a removed module": remove("tiny/data.txt"),
    "a removed start-up line": remove("tiny_start.pth"),
    "a changed start-up module": add("_virtualenv.py", "x = 1\n"),
    "a removed distribution": lambda root: shutil.rmtree(site_packages(root) / "other-1.dist-info"),
    "a script that cannot be run": mode("bin/tool", 0o644),
    "a module that can be run": mode("share/tiny/shared.txt", 0o755),
    "a link": link("tiny/link.txt", "data.txt"),
    "a link to the folder of libraries": lambda root: os.symlink("lib", root / "lib32"),
    "a file in a package with the name of an installer's note": add("tiny/INSTALLER"),
    "a module instead of a folder": lambda root: (site_packages(root) / "tiny" / "include").rename(
        site_packages(root) / "tiny" / "include2"
    ),
    "byte code without its source": add("legacy.pyc", b"\0\1\2"),
    "the RECORD of a distribution inside of another": edit(
        "tiny/_vendor/inner-1.dist-info/RECORD", "inner", "x"
    ),
    "the metadata of a distribution inside of another": edit(
        "tiny/_vendor/inner-1.dist-info/METADATA", "Version: 1", "Version: 2"
    ),
    "the entry points of a distribution inside of another": edit(
        "tiny/_vendor/inner-1.dist-info/entry_points.txt", "inner:main", "inner:other"
    ),
}

UNNOTICED: dict[str, Change] = {
    "times": touch_everything,
    "byte code": compile_everything,
    "inodes and the order of folders": rewrite_every_file,
    "who installed it": edit("tiny-1.dist-info/INSTALLER", "uv", "pip"),
    "that it was asked for": add("tiny-1.dist-info/REQUESTED", ""),
    "where it came from": add("tiny-1.dist-info/direct_url.json", '{"url": "file:///elsewhere"}'),
    "that it came from an index": remove("tiny-1.dist-info/direct_url.json"),
    "what uv notes": add("tiny-1.dist-info/uv_cache.json", "{}"),
    "activation": edit("/bin/activate", "deactivate", "reactivate"),
    "the prompt": lambda root: add("/pyvenv.cfg", (root / "pyvenv.cfg").read_text() + "prompt = x\n")(root),
    "files beside pyvenv.cfg": add("/.lock", ""),
    "an empty folder": lambda root: (site_packages(root) / "empty").mkdir(),
    "group's and others' permissions": mode("share/tiny/shared.txt", 0o600),
    "that others may run it": mode("share/tiny/shared.txt", 0o655),
    "the order of a RECORD": lambda root: add(
        "tiny-1.dist-info/RECORD",
        "".join(
            sorted(
                (site_packages(root) / "tiny-1.dist-info/RECORD").read_text().splitlines(True), reverse=True
            )
        ),
    )(root),
}

EDITABLE = '{"url": "file:///project", "dir_info": {"editable": true}}'

NOT_STORABLE: dict[str, Change] = {
    "that sees the system's site-packages": lambda root: edit(
        "/pyvenv.cfg", "packages = false", "packages = true"
    )(root),
    "with an editable distribution": add("tiny-1.dist-info/direct_url.json", EDITABLE),
    "with an editable distribution, written tersely": add(
        "tiny-1.dist-info/direct_url.json", EDITABLE.replace(" ", "")
    ),
    "with setuptools' finder for an editable one": add("__editable___tiny_1_finder.py"),
    "with a distribution without RECORD": remove("other-1.dist-info/RECORD"),
    "with an egg-info folder": add("old-1.egg-info/PKG-INFO"),
    "with an egg-info file": add("old-1.egg-info"),
    "with an egg": add("old.egg/EGG-INFO/PKG-INFO"),
    "with a copy of the interpreter": copy_interpreter,
    "with an egg-link": add("old.egg-link", "/project\n"),
    "with a link out of it": link("outside", "../../../../outside"),
    "with a link that leaves it and comes back": lambda root: link(
        "back", f"../../../../{root.name}/share/tiny/shared.txt"
    )(root),
    "with an absolute link": link("absolute", "/etc/hostname"),
    "with an absolute link into itself": lambda root: link("absolute", str(site_packages(root) / "other.py"))(
        root
    ),
    "with a dangling link": link("dangling", "nothing"),
    "with a link to itself": link("loop", "loop"),
    "with a path file that adds a folder": add("add.pth", "/project/src\n"),
    "with a path file that adds a folder late": add("add.pth", "# comment\nimport os\n\n  ../src\n"),
    "with its own path in a file": lambda root: add("tiny/where.py", f"HERE = '{root}'\n")(root),
    "with its own path in a program": lambda root: add("/bin/program", f"\x7fELF\0{root}/lib\0")(root),
    "with its own path deep in a script": lambda root: script(
        root / "bin" / "odd", f"#!{root}/bin/python\nimport sys\n\n\nprint('{root}')\n"
    ),
    "with a pipe": lambda root: os.mkfifo(site_packages(root) / "pipe"),
    "with a copied interpreter": lambda root: script(root / "bin" / "copy", "\x7fELF").replace(
        root / "bin" / "python"
    ),
    "with two libraries": lambda root: (root / "lib" / "python3.1" / "site-packages").mkdir(parents=True),
    "without a configuration": lambda root: (root / "pyvenv.cfg").unlink(),
    "with a configuration that is cut short": add("/pyvenv.cfg", "ho"),
    "with a configuration that is no text": add("/pyvenv.cfg", b"\xff\xfe\0home"),
    "whose interpreter is gone": add("/pyvenv.cfg", "home = /gone/bin\n"),
}


@pytest.mark.parametrize("what", NOTICED)
def test_a_change_that_can_be_seen_is_noticed(what: str, kit: Kit) -> None:
    root = kit.environment()
    before = digest(root)
    NOTICED[what](root)
    try:
        after: str | None = digest(root)
    except NotStorable:
        after = None
    assert after != before


@pytest.mark.parametrize("what", UNNOTICED)
def test_what_cannot_be_seen_is_not_noticed(what: str, kit: Kit) -> None:
    root = kit.environment()
    before = digest(root)
    UNNOTICED[what](root)
    assert digest(root) == before


@pytest.mark.parametrize("what", NOT_STORABLE)
def test_an_environment_is_left_alone_with_a_short_reason(what: str, kit: Kit) -> None:
    root = kit.environment()
    NOT_STORABLE[what](root)
    with pytest.raises(NotStorable) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 250


class TestEqualEnvironments:
    def test_have_one_digest_wherever_they_are(self, kit: Kit) -> None:
        assert digest(kit.environment("one")) == digest(kit.environment("two/three"))

    def test_have_one_digest_whatever_the_order_of_installation(self, kit: Kit) -> None:
        one = kit.environment("one", "tiny")
        two = kit.environment("two", "other")
        install(one, kit.wheels["other"], environ=kit.environ)
        install(two, kit.wheels["tiny"], environ=kit.environ)
        assert digest(one) == digest(two)

    @pytest.mark.parametrize("installer", ["pip", "uv"])
    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    def test_have_one_digest_whichever_front_end_made_them(
        self, kit: Kit, maker: str, installer: str
    ) -> None:
        assert digest(kit.environment("one", maker=maker, installer=installer)) == digest(
            kit.environment("two")
        )

    def test_have_one_digest_on_each_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        kit = Kit(shared, python, environ, tmp_path)
        roots = [kit.environment("one", maker="venv"), kit.environment("two")]
        for root in roots:  # for Python 3.9 uv mends distutils by a module of its own
            for path in site_packages(root).glob("_virtualenv.*"):
                path.unlink()
        assert digest(roots[0]) == digest(roots[1])

    def test_have_one_digest_after_a_requirement_changed_and_changed_back(self, kit: Kit) -> None:
        root = kit.environment()
        before = digest(root)
        install(root, kit.wheels["other2"], environ=kit.environ)
        assert digest(root) != before
        install(root, kit.wheels["other"], environ=kit.environ)
        assert digest(root) == before

    def test_have_one_digest_though_their_path_is_too_long_for_a_first_line(self, kit: Kit) -> None:
        """Installers then write a script that a shell starts."""
        assert digest(kit.environment("long" * 50, "plain")) == digest(kit.environment("short", "plain"))

    def test_have_one_digest_though_there_is_a_space_in_their_path(self, kit: Kit) -> None:
        assert digest(kit.environment("with space", "plain")) == digest(kit.environment("without", "plain"))

    def test_have_one_digest_behind_a_link_whose_path_ends_that_of_the_folder(self, kit: Kit) -> None:
        """As on macOS, where ``/tmp/x`` is ``/private/tmp/x``: one name is found within the other."""
        real = Path(f"{kit.folder}/a{kit.folder}/z")
        real.mkdir(parents=True)
        (kit.folder / "z").symlink_to(real)
        one = kit.environment(str(real / "e"), "plain")
        two = kit.environment("two", "plain")
        assert digest(kit.folder / "z" / "e") == digest(one) == digest(two)

    def test_have_one_digest_behind_a_linked_temporary_folder(self, kit: Kit) -> None:
        """``TMPDIR`` is a link, so that scripts hold another path than the resolved one (macOS: /tmp)."""
        (kit.folder / "real").mkdir()
        (kit.folder / "link").symlink_to("real")
        roots = [kit.environment(f"link/{name}") for name in ("one", "two")]
        found = [interpreters.environment_of(str(root / "bin" / "python")) for root in roots]
        assert digest(Path(found[0] or "")) == digest(Path(found[1] or ""))


class TestDifferentEnvironments:
    def test_have_different_interpreters(self, shared: Shared, kit: Kit, python: str) -> None:
        if python == kit.python:
            pytest.skip("it is the same interpreter")
        other = Kit(shared, python, kit.environ, kit.folder / "other")
        assert digest(other.environment()) != digest(kit.environment())

    @pytest.mark.parametrize("part", ["bin/python", "_sysconfigdata", "patchlevel.h"])
    def test_have_an_interpreter_that_was_upgraded_in_place(self, kit: Kit, part: str) -> None:
        root = kit.environment()

        def upgraded(path: str) -> str:
            return "upgraded" if part in path else sha256_of(path)

        assert environments.read(str(root), {}, upgraded).digest != digest(root)

    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    def test_have_interpreters_at_different_paths(self, kit: Kit, maker: str) -> None:
        roots = []
        for name in ("one", "two"):
            (kit.folder / name).symlink_to(Path(kit.python).parents[1])
            python = kit.folder / name / "bin" / os.path.basename(kit.python)
            roots.append(make_environment(maker, python, kit.folder / f"of-{name}", kit.environ))
        code = "import sys; print(sys.base_prefix)"
        if len({run([root / "bin" / "python", "-c", code], kit.environ) for root in roots}) == 1:
            pytest.skip("it does not tell them apart")
        assert digest(roots[0]) != digest(roots[1])

    def test_have_different_modules_on_their_path(self, kit: Kit) -> None:
        root = kit.environment()
        found = {digest(root), digest(root, PYTHONPATH="/a"), digest(root, PYTHONPATH="/b")}
        assert len(found) == 3

    def test_are_not_those_with_an_empty_path(self, kit: Kit) -> None:
        """pip's venv isolation and build set ``PYTHONPATH=``; uv does not."""
        root = kit.environment()
        assert digest(root, PYTHONPATH="") == digest(root)

    def test_have_a_distribution_of_another_version_with_the_same_files(self, kit: Kit) -> None:
        assert digest(kit.environment("one", "other")) != digest(kit.environment("two", "other2"))

    def test_have_one_more_distribution(self, kit: Kit) -> None:
        assert digest(kit.environment("one", "tiny")) != digest(kit.environment("two", "tiny", "other"))

    def test_have_the_same_bytes_under_other_names(self, kit: Kit) -> None:
        one, two = kit.environment("one"), kit.environment("two")
        add("a.py", "b.py")(one)
        add("b.py", "b.py")(two)
        assert digest(one) != digest(two)

    def test_have_large_files_that_differ_at_their_end(self, kit: Kit) -> None:
        one, two = kit.environment("one"), kit.environment("two")
        for root, last in ((one, b"1"), (two, b"2")):
            add("large.so", bytes(3 << 19) + last)(root)
        assert digest(one) != digest(two)
        add("large.so", bytes(3 << 19) + b"1")(two)
        assert digest(one) == digest(two)


class TestANormalForm:
    def test_lists_every_file_that_can_be_seen(self, kit: Kit) -> None:
        root = kit.environment()
        paths = {item.path for item in read(root).items}
        site = site_packages(root).relative_to(root).as_posix()
        for relative in (*FILES_OF_TINY, "tiny-1.dist-info/RECORD", "tiny-1.dist-info/METADATA", "other.py"):
            assert f"{site}/{relative}" in paths
        assert {"bin/python", "bin/hello", "bin/tool", "share/tiny/shared.txt", "pyvenv.cfg"} <= paths

    def test_lists_nothing_that_an_installer_or_a_shell_left(self, kit: Kit) -> None:
        root = kit.environment(maker="venv", installer="pip")
        compile_everything(root)
        names = {os.path.basename(item.path) for item in read(root).items}
        assert not names & {
            "INSTALLER",
            "REQUESTED",
            "direct_url.json",
            "activate",
            "Activate.ps1",
            ".gitignore",
        }
        assert not any(name.endswith(".pyc") for name in names)

    def test_has_the_interpreters_links_as_venv_makes_them(self, kit: Kit) -> None:
        root = kit.environment()
        items = read(root).items
        library = site_packages(root).parent.name
        links = {"bin/python": kit.python, "bin/python3": "python", f"bin/{library}": "python"}
        if sys.maxsize > 2**32 and sys.platform == "linux":
            links["lib64"] = "lib"
        assert {item.path: item.target for item in items if item.target is not None} == links
        assert not any(item.executable or item.text for item in items if item.target is not None)
        assert read(root).base == kit.python

    @pytest.mark.parametrize("name", ["python3.13t", "pypy", "pypy3.11"])
    def test_has_no_other_name_of_the_interpreter(self, kit: Kit, name: str) -> None:
        root = kit.environment()
        before = digest(root)
        (root / "bin" / name).symlink_to(kit.python)
        assert digest(root) == before

    def test_has_what_stands_beside_the_libraries(self, kit: Kit) -> None:
        root = kit.environment()
        add("/lib/pkgconfig/tiny.pc")(root)
        assert "lib/pkgconfig/tiny.pc" in [item.path for item in read(root).items]

    def test_has_the_start_up_lines_of_path_files(self, kit: Kit) -> None:
        root = kit.environment()
        add("lines.pth", "# comment\n\nimport\tos\nimport sys\n")(root)
        assert any(item.path.endswith("/lines.pth") for item in read(root).items)

    @pytest.mark.parametrize(
        ("given", "version"),
        [
            ("version = 3.13.1\n", "3.13.1"),  # venv
            ("version_info = 3.13.1.final.0\n", "3.13.1"),  # uv
            ("version_info = 3.13.1.final.0\nversion = 3.13.2\n", "3.13.2"),
            ("", ""),
        ],
    )
    def test_has_a_configuration_with_the_base_and_the_version_only(
        self, kit: Kit, given: str, version: str
    ) -> None:
        root = kit.environment()
        home = os.path.dirname(kit.python)
        more = "include-system-site-packages = FALSE\nprompt = x\n"
        (root / "pyvenv.cfg").write_text(f"home = {home}\n{more}{given}")
        (found,) = [item for item in read(root).items if item.path == "pyvenv.cfg"]
        text = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
        assert found.text == f"{text}executable = {kit.python}\n".encode()
        assert not found.executable

    def test_is_sorted_and_names_each_path_once(self, kit: Kit) -> None:
        paths = [item.path for item in read(kit.environment()).items]
        assert paths == sorted(set(paths))

    def test_does_not_hold_the_environments_path(self, kit: Kit) -> None:
        root = kit.environment()
        for item in read(root).items:
            content = item.text if item.text is not None else b""
            if item.source is not None:
                content = Path(item.source).read_bytes()
            assert os.fsencode(root) not in content, item.path
            assert str(root) not in (item.target or "")

    def test_leaves_the_environment_as_it_was(self, kit: Kit) -> None:
        root = kit.environment()
        before = snapshot(root)
        read(root)
        assert snapshot(root) == before


FILES_OF_TINY = (
    "tiny/__init__.py",
    "tiny/data.txt",
    "tiny/_native.abi3.so",
    "tiny/with, comma and \u00fc.txt",
    "tiny/_vendor/inner-1.dist-info/METADATA",
    "tiny/_vendor/inner-1.dist-info/RECORD",
    "tiny/_vendor/inner-1.dist-info/entry_points.txt",
)


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Return the stat, but for the time of the last access, of everything in a folder."""
    found: dict[str, tuple[int, ...]] = {}
    for folder, folders, names in os.walk(root):
        for name in ["", *folders, *names]:
            at = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (
                at.st_ino,
                at.st_mode,
                at.st_size,
                at.st_mtime_ns,
                at.st_ctime_ns,
            )
    return found


SITE = "lib/python3.11/site-packages"


def normal(record: str, scripts: set[str] | None = None) -> str:
    return environments.normal_record(record.encode(), SITE, scripts or set()).decode()


class TestARecord:
    def test_is_sorted(self) -> None:
        assert normal("b.py,sha256=x,1\na.py,sha256=y,2\n") == "a.py,sha256=y,2\nb.py,sha256=x,1\n"

    def test_loses_lines_for_what_is_not_in_the_normal_form(self) -> None:
        lines = ["a.py,sha256=x,1", "__pycache__/a.cpython-311.pyc,,", "t/__pycache__/b.pyc,,"]
        lines += [f"t-1.dist-info/{name},," for name in sorted(environments.INSTALLER_NOTES)]
        assert normal("\n".join(lines)) == "a.py,sha256=x,1\n"

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
        record = b"x\xff.py,sha256=x,1\n"
        assert environments.normal_record(record, SITE, set()) == record

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
            '"",x,1',
            '"a',
            '"',
        ],
    )
    def test_that_is_malformed_is_refused(self, line: str) -> None:
        with pytest.raises(NotStorable, match=r"line 2 .* malformed"):
            normal(f"a.py,,\n{line}\n")

    @given(st.binary())
    def test_is_read_or_refused_whatever_it_holds(self, record: bytes) -> None:
        try:
            found = environments.normal_record(record, SITE, set())
        except NotStorable:
            return
        assert environments.normal_record(found, SITE, set()) == found

    @given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)))
    def test_keeps_any_name(self, names: list[str]) -> None:
        safe = ["n" + name.replace("/", "").replace("\\", "").replace(":", "") for name in names]
        rows = ['"{}",,\n'.format(name.replace('"', '""')) for name in safe]
        kept = normal("".join(rows)).splitlines()
        assert len(kept) == len(set(safe))


class TestADistribution:
    @pytest.mark.parametrize(
        "line", ["/etc/passwd,sha256=x,1", "../../../../../x.py,,", "broken", '"broken,,', "C:\\x.py,,"]
    )
    def test_with_a_record_that_cannot_be_trusted_is_left_alone(self, kit: Kit, line: str) -> None:
        root = kit.environment()
        record = site_packages(root) / "other-1.dist-info" / "RECORD"
        record.write_text(record.read_text() + line + "\n")
        with pytest.raises(NotStorable, match="RECORD"):
            read(root)

    def test_with_files_that_differ_from_its_record_is_not_the_one_that_record_describes(
        self, kit: Kit
    ) -> None:
        one, two = kit.environment("one"), kit.environment("two")
        edit("other.py", "1", "2")(one)
        assert digest(one) != digest(two)

    def test_that_is_editable_for_real_is_left_alone(
        self, kit: Kit, environ: dict[str, str], tmp_path: Path
    ) -> None:
        root = kit.environment()
        info = "linked-1.dist-info"
        wheel = make_wheel(tmp_path / "w", "linked", "1", {"linked.pth": f"{tmp_path}/src\n"})
        install(root, wheel, environ=environ)
        assert (site_packages(root) / info).exists()
        with pytest.raises(NotStorable, match=r"linked\.pth"):
            read(root)


class TestEntryPoints:
    def test_are_read_from_both_sections(self) -> None:
        text = b"[console_scripts]\na = b:c\n\n[gui_scripts]\nd=e:f.g\n[other]\nh = i:j\n"
        assert environments.parse_entry_points(text) == {"a": "b:c", "d": "e:f.g"}

    def test_may_have_extras_comments_and_spaces(self) -> None:
        text = b"# x\n[console_scripts]\n; y\n a = b : c [extra]\n# d = e:f\ng = h:i [j=k]\n"
        assert environments.parse_entry_points(text) == {"a": "b:c", "g": "h:i"}

    def test_are_none_in_an_empty_file(self) -> None:
        assert environments.parse_entry_points(b"") == {}

    @given(st.binary())
    def test_are_read_whatever_the_file_holds(self, text: bytes) -> None:
        assert isinstance(environments.parse_entry_points(text), dict)


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
        found = {environments.normal_script(data, [ROOT], "tiny:main") for data in (PIP, UV, LONG)}
        assert len(found) == 1
        (text,) = found
        assert text is not None
        assert ROOT not in text
        assert environments.PLACEHOLDER in text
        assert b"from tiny import main" in text

    def test_of_another_entry_point_is_another(self) -> None:
        method = UV.replace(b"sys.exit(main())", b"sys.exit(main.run())")
        one = environments.normal_script(UV, [ROOT], "tiny:main")
        two = environments.normal_script(method, [ROOT], "tiny:main.run")
        assert one != two
        assert b"from tiny import main\n" in (two or b"")
        assert b"sys.exit(main.run())" in (two or b"")

    def test_that_does_more_than_an_entry_point_keeps_its_text(self) -> None:
        own = UV + b"print('more')\n"
        assert environments.normal_script(own, [ROOT], "tiny:main") == own.replace(
            ROOT, environments.PLACEHOLDER
        )

    def test_that_calls_something_else_than_its_entry_point_keeps_its_text(self) -> None:
        assert environments.normal_script(UV, [ROOT], "tiny:other") == UV.replace(
            ROOT, environments.PLACEHOLDER
        )

    def test_that_is_no_text_in_a_place_keeps_its_bytes(self) -> None:
        odd = UV.replace(b'".exe"', b'"\xff"')
        assert environments.normal_script(odd, [ROOT], "tiny:main") == odd.replace(
            ROOT, environments.PLACEHOLDER
        )

    def test_of_no_entry_point_keeps_its_text(self) -> None:
        assert environments.normal_script(UV, [ROOT], None) == UV.replace(ROOT, environments.PLACEHOLDER)

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
        assert environments.normal_script(data, [ROOT], None) is None

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
        """What names the interpreter in one line would not do the same."""
        parts = {"exec": "'''exec'", "python": f"{ROOT.decode()}/bin/python", "arguments": '"$0" "$@"'}
        data = f"#!/bin/sh\n{line.format(**parts)}\n' '''\n".encode() + UV.partition(b"\n")[2]
        assert environments.normal_script(data, [ROOT], "tiny:main") is None

    @given(st.binary(), st.one_of(st.none(), st.just("tiny:main"), st.text()))
    def test_is_read_or_refused_whatever_it_holds(self, data: bytes, reference: str | None) -> None:
        found = environments.normal_script(b"#!" + ROOT + b"/bin/python\n" + data, [ROOT], reference)
        assert found is None or ROOT not in found


LIMIT = 1 << 20  # what is larger is not searched for the environment's path


class TestALargeFile:
    def test_is_read_to_its_end(self, kit: Kit) -> None:
        root = kit.environment()
        path = site_packages(root) / "tiny" / "large.so"
        for content in (bytes(LIMIT + 1), bytes(LIMIT) + b"1", bytes(3 * LIMIT), b"1" + bytes(3 * LIMIT)):
            path.write_bytes(content)
            (item,) = [item for item in read(root).items if item.path.endswith("large.so")]
            assert (item.source, item.content) == (str(path), hashing.of_bytes(content))
            assert not item.executable
        before = digest(root)
        path.chmod(0o755)
        assert digest(root) != before

    def test_may_hold_the_path_of_the_environment(self, kit: Kit) -> None:
        root = kit.environment()
        path = site_packages(root) / "tiny" / "large.so"
        path.write_bytes(str(root).encode().ljust(LIMIT + 1))
        digest(root)
        path.write_bytes(str(root).encode().ljust(LIMIT))
        with pytest.raises(NotStorable, match="own path"):
            digest(root)

    def test_is_a_record_all_the_same(self, kit: Kit) -> None:
        root = kit.environment()
        path = site_packages(root) / "other-1.dist-info" / "RECORD"
        lines = [*path.read_text().splitlines(), *(f"{'x' * 200}/{number}.py,," for number in range(6000))]
        found = set()
        for order in (lines, lines[::-1]):
            path.write_text("\n".join(order))
            assert path.stat().st_size > LIMIT
            found.add(digest(root))
        assert len(found) == 1


def test_an_entry_point_is_found_among_other_metadata(kit: Kit) -> None:
    roots = [kit.environment(installer, "plain", installer=installer) for installer in ("pip", "uv")]
    for root in roots:
        (site_packages(root) / "plain-1.dist-info" / "top_level.txt").write_text("tiny\n")
    assert digest(roots[0]) == digest(roots[1])


def test_a_script_may_have_a_name_that_begins_like_an_interpreters(kit: Kit) -> None:
    root = kit.environment()
    for name in ("bin/py", "bin/pytest", "bin/python-config", "bin/pyproject-build", "bin/pythonX"):
        script(root / name, "#!/bin/sh\n")
        assert name in [item.path for item in read(root).items]


def test_a_script_may_have_a_name_that_ends_like_a_program_of_windows(kit: Kit) -> None:
    root = kit.environment()
    script(root / "bin" / "tool.exe", f"#!{root}/bin/python\n")
    (found,) = [item for item in read(root).items if item.path == "bin/tool.exe"]
    assert (found.text, found.executable) == (b"#!@PYO3-ENVSHIM-ENVIRONMENT@/bin/python\n", True)


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("name", ["short", "long" * 50, "with space"])
def test_the_wrappers_that_installers_really_write_are_recognised(
    kit: Kit, installer: str, name: str
) -> None:
    root = kit.environment(name, installer=installer)
    items = {item.path: item for item in read(root).items}
    assert items["bin/hello"].text == (
        b"#!@PYO3-ENVSHIM-ENVIRONMENT@/bin/python\nimport sys\nfrom tiny import main\n"
        b'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    assert items["bin/method"].text is not None
    assert b"sys.exit(NAME.upper())" in items["bin/method"].text
    assert b"hello from" in run([root / "bin" / "hello"], {}).encode()
