"""An environment's digest changes with what an interpreter in it can see, and with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.environment import digest as digests
from pyo3_envshim.environment import hashing, interpreter, layout, overlay
from pyo3_envshim.environment.item import NotStorable
from pyo3_envshim.environment.launchers import normal_launcher
from pyo3_envshim.store.store import Store

from .entries import stored
from .environments import (
    Shared,
    install,
    make_environment,
    make_wheel,
    program_in,
    run,
    script,
    site_packages,
)
from .sample_wheels import SampleWheels, digest, read, sha256_of
from .test_launchers import launcher

Change = Callable[[Path], object]


def edit(relative: str, old: str, new: str) -> Change:
    """Return an edit of a file in site-packages, or (``/…``) in the environment."""

    def change(root: Path) -> None:
        path = root / relative[1:] if relative.startswith("/") else site_packages(root) / relative
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def add(relative: str, text: str | bytes = "added\n") -> Change:
    """Return a function that adds a file to site-packages, or (``/…``) to the environment."""

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
    subprocess.run([program_in(root, "python"), "-m", "compileall", "-q", site_packages(root)], check=True)
    assert list(site_packages(root).rglob("*.pyc"))


def rewrite_every_file(root: Path) -> None:
    """Give each file another inode, and each folder another order."""
    for path in sorted(site_packages(root).rglob("*"), reverse=True):
        if path.is_file():
            copy = path.with_name(path.name + ".copy")
            shutil.copy2(path, copy)
            copy.replace(path)


def copy_interpreter(root: Path) -> None:
    python = program_in(root, "python")
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
    "a link to a script": lambda root: os.symlink("hello", root / "bin" / "greet"),
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
    "with a link to its interpreter among its modules": lambda root: link(
        "python", os.path.realpath(root / "bin" / "python")
    )(root),
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
    "of GraalPy's on Windows": lambda root: edit(
        "/pyvenv.cfg", "\nversion", "\nvenvlauncher_command = C:\\graalpy.exe\nversion"
    )(root),
    "whose interpreter is gone": add("/pyvenv.cfg", "home = /gone/bin\n"),
}


@pytest.mark.parametrize("what", NOTICED)
def test_a_change_that_can_be_seen_is_noticed(what: str, sample: SampleWheels) -> None:
    root = sample.environment()
    before = digest(root)
    NOTICED[what](root)
    try:
        after: str | None = digest(root)
    except NotStorable:
        after = None
    assert after != before


@pytest.mark.parametrize("what", UNNOTICED)
def test_what_cannot_be_seen_is_not_noticed(what: str, sample: SampleWheels) -> None:
    root = sample.environment()
    before = digest(root)
    UNNOTICED[what](root)
    assert digest(root) == before


@pytest.mark.parametrize("what", NOT_STORABLE)
def test_an_environment_is_left_alone_with_a_short_reason(what: str, sample: SampleWheels) -> None:
    root = sample.environment()
    NOT_STORABLE[what](root)
    with pytest.raises(NotStorable) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 250


class TestEqualEnvironments:
    def test_have_one_digest_wherever_they_are(self, sample: SampleWheels) -> None:
        assert digest(sample.environment("one")) == digest(sample.environment("two/three"))

    def test_have_one_digest_whatever_the_order_of_installation(self, sample: SampleWheels) -> None:
        one = sample.environment("one", "tiny")
        two = sample.environment("two", "other")
        install(one, sample.wheels["other"], environ=sample.environ)
        install(two, sample.wheels["tiny"], environ=sample.environ)
        assert digest(one) == digest(two)

    @pytest.mark.parametrize("installer", ["pip", "uv"])
    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    def test_have_one_digest_whichever_front_end_made_them(
        self, sample: SampleWheels, maker: str, installer: str
    ) -> None:
        assert digest(sample.environment("one", maker=maker, installer=installer)) == digest(
            sample.environment("two")
        )

    def test_have_one_digest_on_each_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        sample = SampleWheels(shared, python, environ, tmp_path)
        roots = [sample.environment("one", maker="venv"), sample.environment("two")]
        for root in roots:  # for Python 3.9, uv patches distutils with a module of its own
            for path in site_packages(root).glob("_virtualenv.*"):
                path.unlink()
        assert digest(roots[0]) == digest(roots[1])

    def test_have_one_digest_after_a_requirement_changed_and_changed_back(self, sample: SampleWheels) -> None:
        root = sample.environment()
        before = digest(root)
        install(root, sample.wheels["other2"], environ=sample.environ)
        assert digest(root) != before
        install(root, sample.wheels["other"], environ=sample.environ)
        assert digest(root) == before

    def test_have_one_digest_though_their_path_is_too_long_for_a_first_line(
        self, sample: SampleWheels
    ) -> None:
        """Installers then write a script that a shell starts."""
        assert digest(sample.environment("long" * 50, "plain")) == digest(
            sample.environment("short", "plain")
        )

    def test_have_one_digest_though_there_is_a_space_in_their_path(self, sample: SampleWheels) -> None:
        assert digest(sample.environment("with space", "plain")) == digest(
            sample.environment("without", "plain")
        )

    def test_have_one_digest_behind_a_link_whose_path_ends_that_of_the_folder(
        self, sample: SampleWheels
    ) -> None:
        """As on macOS, where ``/tmp/x`` is ``/private/tmp/x``: one path contains the other."""
        real = Path(f"{sample.folder}/a{sample.folder}/z")
        real.mkdir(parents=True)
        (sample.folder / "z").symlink_to(real)
        one = sample.environment(str(real / "e"), "plain")
        two = sample.environment("two", "plain")
        assert digest(sample.folder / "z" / "e") == digest(one) == digest(two)

    def test_have_one_digest_behind_a_linked_temporary_folder(self, sample: SampleWheels) -> None:
        """Where ``TMPDIR`` is a link (macOS: /tmp), scripts do not contain the resolved path."""
        (sample.folder / "real").mkdir()
        (sample.folder / "link").symlink_to("real")
        roots = [sample.environment(f"link/{name}") for name in ("one", "two")]
        found = [interpreter.environment_of(str(program_in(root, "python"))) for root in roots]
        assert digest(Path(found[0] or "")) == digest(Path(found[1] or ""))


class TestAnEnvironmentOfLinks:
    """With ``UV_LINK_MODE=symlink`` it consists of links into uv's cache."""

    @pytest.fixture
    def linked(self, sample: SampleWheels) -> Path:
        sample.environ = {**sample.environ, "UV_LINK_MODE": "symlink"}
        root = sample.environment("linked")
        assert (site_packages(root) / "tiny" / "__init__.py").is_symlink()
        return root

    @pytest.mark.parametrize("link_mode", ["copy", "hardlink"])
    def test_has_the_digest_of_one_of_files(self, link_mode: str, linked: Path, sample: SampleWheels) -> None:
        sample.environ = {**sample.environ, "UV_LINK_MODE": link_mode}
        assert digest(linked) == digest(sample.environment("files"))

    def test_is_stored_as_files_that_outlive_uvs_cache(self, linked: Path, store: Store) -> None:
        environment, entry = stored(store, linked)
        links = {path.relative_to(entry).parts[0] for path in entry.rglob("*") if path.is_symlink()}
        assert links <= {"bin", "lib64"}
        assert run([program_in(entry, "python"), "-c", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"
        (site_packages(linked) / "tiny" / "__init__.py").unlink()
        (site_packages(linked) / "tiny" / "__init__.py").write_text("NAME = 'changed'\n")
        assert digest(linked) != environment.digest

    @pytest.mark.parametrize("untagged", [False, True])
    def test_is_not_stored_where_a_link_leads_elsewhere(
        self, untagged: bool, linked: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "cache" / ("archive-v0" if untagged else "other") / "id" / "module.py"
        other.parent.mkdir(parents=True)
        other.touch()
        if not untagged:
            (tmp_path / "cache" / "CACHEDIR.TAG").touch()
        (site_packages(linked) / "module.py").symlink_to(other)
        with pytest.raises(NotStorable, match=r"module\.py is a link to"):
            read(linked)

    def test_is_not_stored_where_a_link_leads_to_no_file(self, linked: Path) -> None:
        real = (site_packages(linked) / "tiny" / "data.txt").resolve()
        (site_packages(linked) / "folder").symlink_to(real.parent)
        with pytest.raises(NotStorable, match="folder is a link to"):
            read(linked)
        (site_packages(linked) / "folder").unlink()
        (site_packages(linked) / "gone").symlink_to(real.parent / "gone")
        with pytest.raises(NotStorable, match="gone is a link to"):
            read(linked)


class TestDifferentEnvironments:
    def test_have_different_interpreters(self, shared: Shared, sample: SampleWheels, python: str) -> None:
        if python == sample.python:
            pytest.skip("it is the same interpreter")
        other = SampleWheels(shared, python, sample.environ, sample.folder / "other")
        assert digest(other.environment()) != digest(sample.environment())

    @pytest.mark.parametrize("part", ["bin/python", "_sysconfigdata", "patchlevel.h"])
    def test_have_an_interpreter_that_was_upgraded_in_place(self, sample: SampleWheels, part: str) -> None:
        root = sample.environment()

        def upgraded(path: str) -> str:
            return "upgraded" if part in path else sha256_of(path)

        assert read(root, upgraded).digest != digest(root)

    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    def test_have_interpreters_at_different_paths(self, sample: SampleWheels, maker: str) -> None:
        roots = []
        for name in ("one", "two"):
            (sample.folder / name).symlink_to(Path(sample.python).parents[1])
            python = sample.folder / name / "bin" / os.path.basename(sample.python)
            roots.append(make_environment(maker, python, sample.folder / f"of-{name}", sample.environ))
        code = "import sys; print(sys.base_prefix)"
        if len({run([program_in(root, "python"), "-c", code], sample.environ) for root in roots}) == 1:
            pytest.skip("it does not tell them apart")
        assert digest(roots[0]) != digest(roots[1])

    def test_have_different_modules_on_their_path(self, sample: SampleWheels) -> None:
        root = sample.environment()
        found = {digest(root), digest(root, PYTHONPATH="/a"), digest(root, PYTHONPATH="/b")}
        assert len(found) == 3

    @pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME"])
    def test_are_not_those_with_an_empty_path(self, name: str, sample: SampleWheels) -> None:
        """pip's venv isolation and build set ``PYTHONPATH=``; uv does not."""
        root = sample.environment()
        assert digest(root, **{name: ""}) == digest(root)

    def test_have_a_distribution_of_another_version_with_the_same_files(self, sample: SampleWheels) -> None:
        assert digest(sample.environment("one", "other")) != digest(sample.environment("two", "other2"))

    def test_have_one_more_distribution(self, sample: SampleWheels) -> None:
        assert digest(sample.environment("one", "tiny")) != digest(sample.environment("two", "tiny", "other"))

    def test_have_the_same_bytes_under_other_names(self, sample: SampleWheels) -> None:
        one, two = sample.environment("one"), sample.environment("two")
        add("a.py", "b.py")(one)
        add("b.py", "b.py")(two)
        assert digest(one) != digest(two)

    def test_have_large_files_that_differ_at_their_end(self, sample: SampleWheels) -> None:
        one, two = sample.environment("one"), sample.environment("two")
        for root, last in ((one, b"1"), (two, b"2")):
            add("large.so", bytes(3 << 19) + last)(root)
        assert digest(one) != digest(two)
        add("large.so", bytes(3 << 19) + b"1")(two)
        assert digest(one) == digest(two)


class TestANormalForm:
    def test_lists_every_file_that_can_be_seen(self, sample: SampleWheels) -> None:
        root = sample.environment()
        paths = {item.path for item in read(root).items}
        site = site_packages(root).relative_to(root).as_posix()
        for relative in (*FILES_OF_TINY, "tiny-1.dist-info/RECORD", "tiny-1.dist-info/METADATA", "other.py"):
            assert f"{site}/{relative}" in paths
        assert {"bin/python", "bin/hello", "bin/tool", "share/tiny/shared.txt", "pyvenv.cfg"} <= paths

    def test_lists_nothing_that_an_installer_or_a_shell_left(self, sample: SampleWheels) -> None:
        root = sample.environment(maker="venv", installer="pip")
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

    def test_has_the_interpreters_links_as_venv_makes_them(self, sample: SampleWheels) -> None:
        root = sample.environment()
        items = read(root).items
        library = site_packages(root).parent.name
        links = {"bin/python": sample.python, "bin/python3": "python", f"bin/{library}": "python"}
        if sys.maxsize > 2**32 and sys.platform == "linux":
            links["lib64"] = "lib"
        assert {item.path: item.target for item in items if item.target is not None} == links
        assert not any(item.executable or item.text for item in items if item.target is not None)
        assert read(root).base == sample.python

    @pytest.mark.parametrize("name", ["python3.13t", "pypy", "pypy3.11"])
    def test_has_no_other_name_of_the_interpreter(self, sample: SampleWheels, name: str) -> None:
        root = sample.environment()
        before = digest(root)
        (root / "bin" / name).symlink_to(sample.python)
        assert digest(root) == before

    def test_has_links_within_the_environment(self, sample: SampleWheels) -> None:
        root = sample.environment()
        site = site_packages(root)
        (site / "tiny" / "link.py").symlink_to("../other.py")
        (root / "shared").symlink_to("share")  # which holds a folder only
        links = {item.path: item.target for item in read(root).items}
        assert links[(site / "tiny" / "link.py").relative_to(root).as_posix()] == "../other.py"
        assert links["shared"] == "share"

    def test_has_no_name_that_is_not_called_like_an_interpreter(self, sample: SampleWheels) -> None:
        """As the one that venv makes on Python 3.14."""
        root = sample.environment()
        before = digest(root)
        (root / "bin" / "\U0001d70bthon").symlink_to("python")
        assert digest(root) == before

    def test_has_what_stands_beside_the_libraries(self, sample: SampleWheels) -> None:
        root = sample.environment()
        add("/lib/pkgconfig/tiny.pc")(root)
        assert "lib/pkgconfig/tiny.pc" in [item.path for item in read(root).items]

    def test_has_the_start_up_lines_of_path_files(self, sample: SampleWheels) -> None:
        root = sample.environment()
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
        self, sample: SampleWheels, given: str, version: str
    ) -> None:
        root = sample.environment()
        home = os.path.dirname(sample.python)
        more = "include-system-site-packages = FALSE\nprompt = x\n"
        (root / "pyvenv.cfg").write_text(f"home = {home}\n{more}{given}")
        (found,) = [item for item in read(root).items if item.path == "pyvenv.cfg"]
        text = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
        assert found.text == f"{text}executable = {sample.python}\n".encode()
        assert not found.executable

    def test_names_an_interpreter_called_python_once(self, tmp_path: Path) -> None:
        paths = [item.path for item in digests._interpreter_links(str(tmp_path / "python"), "python3.13")]
        assert sorted(paths) == sorted({*paths, "bin/python", "bin/python3", "bin/python3.13"})

    def test_names_a_base_whose_path_is_not_utf_8(self, tmp_path: Path) -> None:
        real = tmp_path / "base\udcff"
        real.mkdir()
        (tmp_path / "link").symlink_to(real.name)
        text = digests._normal_configuration(str(tmp_path / "link" / "python"), {})
        assert os.fsencode(f"home = {tmp_path}/link\n") in text
        assert os.fsencode(f"executable = {real}/python\n") in text

    def test_is_sorted_and_names_each_path_once(self, sample: SampleWheels) -> None:
        paths = [item.path for item in read(sample.environment()).items]
        assert paths == sorted(set(paths))

    def test_does_not_hold_the_environments_path(self, sample: SampleWheels) -> None:
        root = sample.environment()
        for item in read(root).items:
            content = item.text if item.text is not None else b""
            if item.source is not None:
                content = Path(item.source).read_bytes()
            assert os.fsencode(root) not in content, item.path
            assert str(root) not in (item.target or "")

    def test_leaves_the_environment_as_it_was(self, sample: SampleWheels) -> None:
        root = sample.environment()
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
    """Return the stat of everything in a folder, without the times of the last access."""
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


class TestAnInterpreterOfAnotherName:
    """Debian's debug builds: python3.11d is the program, python3.11-dbg a link to it."""

    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    @pytest.mark.parametrize("name", ["python3.11d", "python3.11-dbg", "python3.13td", "python3-intel64"])
    def test_is_the_base_of_an_environment(
        self, name: str, maker: str, a_python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        prefix = Path(a_python).parents[1]
        (tmp_path / "prefix" / "bin").mkdir(parents=True)
        for folder in ("lib", "include"):
            (tmp_path / "prefix" / folder).symlink_to(prefix / folder)
        real = tmp_path / "prefix" / "bin" / name.replace("-dbg", "d")
        shutil.copy(a_python, real)
        python = tmp_path / "prefix" / "bin" / name
        if python != real:
            python.symlink_to(real.name)
        root = make_environment(maker, str(python), tmp_path / "environment", environ)
        environment = read(root)
        assert environment.base == str(real)
        links = {item.path: item.target for item in environment.items if item.path.startswith("bin/")}
        assert links["bin/python"] == str(real)
        assert links[f"bin/{real.name}"] == "python"
        assert digest(root) != digest(make_environment(maker, a_python, tmp_path / "other", environ))


class TestADistribution:
    @pytest.mark.parametrize(
        "line", ["/etc/passwd,sha256=x,1", "../../../../../x.py,,", "broken", '"broken,,', "C:\\x.py,,"]
    )
    def test_with_a_record_that_cannot_be_trusted_is_left_alone(
        self, sample: SampleWheels, line: str
    ) -> None:
        root = sample.environment()
        record = site_packages(root) / "other-1.dist-info" / "RECORD"
        record.write_text(record.read_text() + line + "\n")
        with pytest.raises(NotStorable, match="RECORD"):
            read(root)

    def test_with_files_that_differ_from_its_record_is_not_the_one_that_record_describes(
        self, sample: SampleWheels
    ) -> None:
        one, two = sample.environment("one"), sample.environment("two")
        edit("other.py", "1", "2")(one)
        assert digest(one) != digest(two)

    def test_that_is_editable_for_real_is_left_alone(
        self, sample: SampleWheels, environ: dict[str, str], tmp_path: Path
    ) -> None:
        root = sample.environment()
        info = "linked-1.dist-info"
        wheel = make_wheel(tmp_path / "w", "linked", "1", {"linked.pth": f"{tmp_path}/src\n"})
        install(root, wheel, environ=environ)
        assert (site_packages(root) / info).exists()
        with pytest.raises(NotStorable, match=r"linked\.pth"):
            read(root)


LIMIT = 1 << 20  # larger files are not searched for the environment's path


class TestALargeFile:
    def test_is_read_to_its_end(self, sample: SampleWheels) -> None:
        root = sample.environment()
        path = site_packages(root) / "tiny" / "large.so"
        for content in (bytes(LIMIT + 1), bytes(LIMIT) + b"1", bytes(3 * LIMIT), b"1" + bytes(3 * LIMIT)):
            path.write_bytes(content)
            (item,) = [item for item in read(root).items if item.path.endswith("large.so")]
            assert (item.source, item.content) == (str(path), hashing.of_bytes(content))
            assert not item.executable
        before = digest(root)
        path.chmod(0o755)
        assert digest(root) != before

    def test_may_hold_the_path_of_the_environment(self, sample: SampleWheels) -> None:
        root = sample.environment()
        path = site_packages(root) / "tiny" / "large.so"
        path.write_bytes(str(root).encode().ljust(LIMIT + 1))
        digest(root)
        path.write_bytes(str(root).encode().ljust(LIMIT))
        with pytest.raises(NotStorable, match="own path"):
            digest(root)

    def test_is_a_record_all_the_same(self, sample: SampleWheels) -> None:
        root = sample.environment()
        path = site_packages(root) / "other-1.dist-info" / "RECORD"
        lines = [*path.read_text().splitlines(), *(f"{'x' * 200}/{number}.py,," for number in range(6000))]
        found = set()
        for order in (lines, lines[::-1]):
            path.write_text("\n".join(order))
            assert path.stat().st_size > LIMIT
            found.add(digest(root))
        assert len(found) == 1


def test_an_entry_point_is_found_among_other_metadata(sample: SampleWheels) -> None:
    roots = [sample.environment(installer, "plain", installer=installer) for installer in ("pip", "uv")]
    for root in roots:
        (site_packages(root) / "plain-1.dist-info" / "top_level.txt").write_text("tiny\n")
    assert digest(roots[0]) == digest(roots[1])


def test_a_script_may_have_a_name_that_begins_like_an_interpreters(sample: SampleWheels) -> None:
    root = sample.environment()
    for name in ("bin/py", "bin/pytest", "bin/python-config", "bin/pyproject-build", "bin/pythonX"):
        script(root / name, "#!/bin/sh\n")
        assert name in [item.path for item in read(root).items]


def test_a_script_may_have_a_name_that_ends_like_a_program_of_windows(sample: SampleWheels) -> None:
    root = sample.environment()
    script(root / "bin" / "tool.exe", f"#!{root}/bin/python\n")
    (found,) = [item for item in read(root).items if item.path == "bin/tool.exe"]
    assert (found.text, found.executable) == (b"#!@PYO3-ENVSHIM-ENVIRONMENT@/bin/python\n", True)


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("name", ["short", "long" * 50, "with space"])
def test_the_wrappers_that_installers_really_write_are_recognised(
    sample: SampleWheels, installer: str, name: str
) -> None:
    root = sample.environment(name, installer=installer)
    items = {item.path: item for item in read(root).items}
    assert items["bin/hello"].text == (
        b"#!@PYO3-ENVSHIM-ENVIRONMENT@/bin/python\nimport sys\nfrom tiny import main\n"
        b'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    assert items["bin/method"].text is not None
    assert b"sys.exit(NAME.upper())" in items["bin/method"].text
    assert b"hello from" in run([program_in(root, "hello")], {}).encode()


@pytest.mark.parametrize(
    ("platform", "maxsize", "there"),
    [("linux", 2**63 - 1, True), ("linux", 2**31 - 1, False), ("darwin", 2**63 - 1, False)],
)
def test_a_second_name_of_lib_is_made_where_venv_makes_it(
    platform: str, maxsize: int, there: bool, sample: SampleWheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = sample.environment()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    found = read(root)
    monkeypatch.undo()
    assert ("lib64" in [item.path for item in found.items]) is there


class TestBelowAnOverlay:
    """pip's default isolation hides what is installed, and fills a folder with a random name."""

    @staticmethod
    def overlaid(temporary: Path, at: str, text: str, hidden: Path) -> dict[str, str]:
        above = temporary / f"pip-build-env-{at}"
        script, record = f"#!{temporary}/{at}/bin/python\n", f"../../bin/reqlib,sha256={at},3\nreqlib.py,,\n"
        hiding = f"system_sites=['{site_packages(hidden)}']"
        files = {"site/sitecustomize.py": hiding, "overlay/lib/reqlib.py": text, "overlay/bin/reqlib": script}
        for path, content in {**files, "overlay/lib/reqlib.dist-info/RECORD": record}.items():
            (above / path).parent.mkdir(parents=True, exist_ok=True)
            (above / path).write_text(content)
        above.chmod(0o700)
        path = os.pathsep.join([str(above / "site"), "/elsewhere"])
        python = f"{temporary}/{at}/bin/python"
        return {"TMPDIR": str(temporary), "PYTHONPATH": path, "PYO3_PYTHON": python}

    def test_what_is_installed_does_not_count_and_the_overlays_content_does(
        self, sample: SampleWheels, tmp_path: Path
    ) -> None:
        one, two = sample.environment("one", "tiny"), sample.environment("two", "other")
        first = self.overlaid(tmp_path, "aaaaaaaa", "1", one)
        found = digest(one, **first)
        assert found == digest(two, **self.overlaid(tmp_path, "bbbbbbbb", "1", two))
        assert found != digest(one, **self.overlaid(tmp_path, "cccccccc", "2", one))
        elsewhere = {**first, "PYTHONPATH": first["PYTHONPATH"] + "2"}
        assert found != digest(one, **elsewhere)
        assert found != digest(one)
        assert not any("site-packages" in item.path for item in read(one, **first).items)
        assert read(one, **first).hidden

    def test_of_another_interpreter_hides_nothing_here(self, sample: SampleWheels, tmp_path: Path) -> None:
        """A back end under pip's isolation that starts `python -m build`, whose environment inherits it."""
        one, two = sample.environment("one", "tiny"), sample.environment("two", "other")
        overlaid = self.overlaid(tmp_path, "aaaaaaaa", "1", sample.environment("outer", "tiny"))
        assert digest(one, **overlaid) != digest(two, **overlaid)
        assert not read(one, **overlaid).hidden

    def test_one_that_is_not_in_the_temporary_folder_is_a_path_like_any_other(
        self, sample: SampleWheels, tmp_path: Path
    ) -> None:
        root = sample.environment("one", "tiny")
        mine = {**self.overlaid(tmp_path, "aaaaaaaa", "1", root), "TMPDIR": str(tmp_path / "other")}
        assert not read(root, **mine).hidden

    def test_is_left_alone_on_windows_where_names_have_no_case(
        self, sample: SampleWheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = sample.environment("one", "tiny")
        overlaid = self.overlaid(tmp_path, "aaaaaaaa", "1", root)
        customize = tmp_path / "pip-build-env-aaaaaaaa" / "site" / "sitecustomize.py"
        customize.write_text(customize.read_text().upper())
        assert not read(root, **overlaid).hidden
        for module in (digests, overlay):
            monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        with pytest.raises(NotStorable, match="an overlay hides it"):
            read(root, **overlaid)
        assert not read(root).hidden


class TestOnWindows:
    """Of an environment's parts; tests/windows reads whole ones there."""

    @pytest.fixture(autouse=True)
    def windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "WINDOWS", True)

    def test_the_programs_of_entry_points_are_written_anew(self, tmp_path: Path) -> None:
        distribution = "Lib/site-packages/tiny-1.dist-info"
        (tmp_path / distribution).mkdir(parents=True)
        walk = digests._Walk(str(tmp_path), "", "Lib/site-packages")
        walk.records[distribution] = b"../../Scripts/hello.exe,sha256=x,1\ntiny.py,,\n"
        walk.entry_points[distribution] = b"[console_scripts]\nhello = tiny:main\n"
        program = launcher(tmp_path, rf"{tmp_path}\Scripts\python.exe")
        walk.scripts["Scripts/hello.exe"] = program, False
        found = {item.path: item.text for item in digests._distributions(walk)}
        assert found == {
            "Scripts/hello.exe": normal_launcher(program, walk.names, "tiny:main"),
            f"{distribution}/RECORD": b"../../Scripts/hello.exe,,\ntiny.py,,\n",
        }
        walk.entry_points.clear()
        with pytest.raises(NotStorable, match="own path"):
            digests._distributions(walk)

    def test_no_name_of_the_interpreter_is_a_link_and_its_library_has_one_name(self, tmp_path: Path) -> None:
        assert digests._interpreter_links("/base/python.exe", "") == []
        assert digests._library(str(tmp_path)) == ""
