"""Odd environments and odd variables cause no crash, and nothing outside is read or written.

The parsers of cargo's files and arguments are compared with parsers of others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.cargo import command_line
from pyo3_envshim.cargo.metadata import local_names

from .environments import Shared, run, script, site_packages, tree
from .test_digest import snapshot
from .test_wrapper import Bench

SECRET = "what lies outside of the environment\n"


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


# Environments


def put(relative: str, content: str | bytes = "odd\n") -> Callable[[Path], object]:
    """Return a function that adds a file to site-packages, or (``/…``) to the environment."""

    def change(root: Path) -> None:
        path = root / relative[1:] if relative.startswith("/") else site_packages(root) / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def link(relative: str, target: str) -> Callable[[Path], object]:
    return lambda root: os.symlink(target, site_packages(root) / relative)


def record(line: str | bytes) -> Callable[[Path], object]:
    """Return a function that adds a line to a RECORD."""

    def change(root: Path) -> None:
        with (site_packages(root) / "other-1.dist-info" / "RECORD").open("ab") as file:
            file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")

    return change


def config(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        path = root / "pyvenv.cfg"
        path.write_bytes(edit(path.read_bytes()))

    return change


def nest(root: Path, name: str, depth: int, file: str = "") -> None:
    """Nest folders, one by one: the last one's path may be longer than the system allows."""
    here = os.open(site_packages(root), os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    if file:
        os.close(os.open(file, os.O_CREAT, dir_fd=here))
    os.close(here)


def nearly_too_long(root: Path) -> None:
    """Create a file whose path has the greatest possible length; in the store it would be longer."""
    length = len(str(site_packages(root)))
    depth, rest = divmod(4094 - length, 201)
    nest(root, "p" * 200, depth - (rest < 2), "x" * (rest - 1 if rest > 1 else rest + 200))


def remove(path: Path) -> bool:
    path.unlink()
    return True


def replace_by_link(relative: str, target: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / relative).rename(root / (relative + "-elsewhere"))
        (root / relative).symlink_to(target)

    return change


def lib64_as_a_folder(root: Path) -> None:
    (root / "lib64").unlink(missing_ok=True)
    put("/lib64/python3.11/site-packages/more.py")(root)


SERVED: dict[str, Callable[[Path], object]] = {
    "names that are not UTF-8": put(os.fsdecode(b"\xff\xfe\x80.py")),
    "names with every odd character": put("a\n\r\t\x01\"'\\,;$`* \u2028\u202e.py"),
    "long names": put("n" * 250 + ".py"),
    "a long path": put("/".join(["p" * 200] * 9) + "/x.py"),
    "a thousand files": lambda root: [put(f"many/{number}.py")(root) for number in range(1000)],
    "a RECORD with a quoted name": record('"with, ""quotes"".py",,'),
    "a RECORD with a name that is not UTF-8": record(b"\xff.py,,"),
    "a RECORD with Windows line ends": record("x.py,,\r"),
    "a folder that is named like a path file": put("odd.pth/x.py"),
    "an entry_points.txt that is no text": put(
        "tiny-1.dist-info/entry_points.txt", b"\xff[\0console_scripts"
    ),
    "an empty module": put("empty.py", b""),
    "a link inside": link("linked.py", "other.py"),
    "a linked folder": link("linked", "tiny"),
}

LEFT_ALONE: dict[str, Callable[[Path], object]] = {
    "a dangling link": link("dangling", "nothing"),
    "links in a circle": lambda root: [link("one", "two")(root), link("two", "one")(root)],
    "a link to the folder above": link("tiny/up", "../../../../.."),
    "a link to itself by way of its folder": link("tiny/tiny", "../tiny/tiny"),
    "a link to a secret": link("secret.py", "../../../../../secret"),
    "a link to a secret by way of a link": lambda root: [
        link("way", "tiny/include")(root),
        link("secret.py", "way/../../../../../../../secret")(root),
    ],
    "a link to a script for shells": link("shell.txt", "../../../bin/activate"),
    "a link instead of its packages": replace_by_link("lib", "lib-elsewhere"),
    "a link instead of its scripts": replace_by_link("bin", "bin-elsewhere"),
    "a folder instead of lib64": lib64_as_a_folder,
    "a folder instead of python3": lambda root: [
        remove(root / "bin/python3"),
        put("/bin/python3/x")(root),
    ],
    "a RECORD with an absolute path": record("/etc/passwd,,"),
    "a RECORD that leaves": record("../../../../secret,,"),
    "a RECORD with half a quote": record('"half,,'),
    "a RECORD with a quote behind the name": record('x.py,"sha256=x,1'),
    "a RECORD that is no CSV": record(b"\0\1\2"),
    "a RECORD that is a link": lambda root: [
        remove(site_packages(root) / "other-1.dist-info/RECORD"),
        link("other-1.dist-info/RECORD", "METADATA")(root),
    ],
    "a RECORD that is a folder": lambda root: [
        remove(site_packages(root) / "other-1.dist-info/RECORD"),
        put("other-1.dist-info/RECORD/x")(root),
    ],
    "a pipe": lambda root: os.mkfifo(site_packages(root) / "pipe"),
    "a configuration that is cut": config(lambda text: text[:5]),
    "an empty configuration": config(lambda text: b""),
    "a binary configuration": config(lambda text: b"\0\xff\xfe" + text),
    "a configuration with a byte-order mark": config(lambda text: b"\xef\xbb\xbf" + text),
    "a configuration in UTF-16": config(lambda text: text.decode().encode("utf-16")),
    "a configuration with two homes": config(lambda text: text + b"home = /usr/bin\n"),
    "a configuration with two answers": config(lambda text: text + b"include-system-site-packages = true\n"),
    "a path file that is split by a form feed": put("odd.pth", "import os\x0c/outside\n"),
    "a path file that only looks like an import": put("odd.pth", " import os/../../../../../../secret\n"),
    "a path file that is not UTF-8": put("odd.pth", b"import os # \xff\n"),
    "a path file with a byte-order mark": put("odd.pth", b"\xef\xbb\xbf/outside\n"),
    "data beside byte code": put("tiny/__pycache__/data.txt"),
}

# What nobody foresees: a warning says that the build goes on without us.
WARNED: dict[str, Callable[[Path], object]] = {
    "a path that is too long": lambda root: nest(root, "p" * 250, 20),
    "folders in folders in folders": lambda root: nest(root, "d", 1100),
    "a path that is too long for the store": nearly_too_long,
}


def outside(bench: Bench) -> object:
    """Return the state of everything but the environment, the store, and the fake cargo's notes."""
    skipped = tuple(map(str, (bench.root, bench.store, bench.cargo.folder, bench.project / "target")))
    state = snapshot(bench.folder)
    return {
        path: it for path, it in state.items() if not path.startswith(skipped) and path != str(bench.folder)
    }


def build_in(bench: Bench, change: Callable[[Path], object]) -> tuple[str, bool]:
    """Build in an odd environment; return the messages, and whether cargo got a stored environment."""
    secret = bench.folder / "tmp" / "secret"
    secret.write_text(SECRET)
    change(bench.root)
    before, state = snapshot(bench.root), outside(bench)
    done = bench.run("build")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert bench.cargo.call.arguments == ["build"]
    served = "PYO3_PYTHON" in bench.changes()
    if served:
        assert bench.cargo.call.environ["PYO3_PYTHON"].startswith(str(bench.store))
    else:
        assert bench.changes().keys() <= {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"}
    after = snapshot(bench.root)
    assert after.keys() == before.keys()
    assert outside(bench).keys() == state.keys()  # type: ignore[attr-defined]
    assert secret.read_text() == SECRET
    assert secret.stat().st_nlink == 1
    for name, content in tree(bench.store).items():
        assert content != SECRET.encode(), name
    return done.stderr, served


@pytest.mark.parametrize("what", SERVED)
def test_an_odd_environment_is_served(what: str, bench: Bench) -> None:
    assert build_in(bench, SERVED[what]) == ("", True)
    python = bench.cargo.call.environ["PYO3_PYTHON"]
    assert run([python, "-BIc", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_an_odd_environment_is_left_alone_in_silence(what: str, bench: Bench) -> None:
    assert build_in(bench, LEFT_ALONE[what]) == ("", False)


@pytest.mark.parametrize("what", WARNED)
def test_an_environment_that_is_odd_beyond_reason_is_left_alone_with_one_line(
    what: str, bench: Bench
) -> None:
    try:
        said, served = build_in_unlisted(bench, WARNED[what])
    finally:  # shutil.rmtree cannot remove it
        subprocess.run(["rm", "-rf", bench.root, bench.store], check=True)
    assert not served
    assert said.startswith("pyo3-envshim: warning: not used for this build: ")
    assert said.count("\n") == 1


def build_in_unlisted(bench: Bench, change: Callable[[Path], object]) -> tuple[str, bool]:
    change(bench.root)
    done = bench.run("build")
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr, "PYO3_PYTHON" in bench.changes()


# Variables


@pytest.mark.parametrize(
    "value",
    ["", "python", "bin/python", "../bin/python", "{root}", "{root}/bin", "{root}/bin/gone", "/", "\n", "~"]
    + ["{root}/bin/unrunnable", "{root}/bin/python/", "{root}/bin/python/x", "{root}/bin/pipe", "\udcff"]
    + ["{root}/../{name}/lib/python", "/dev/null", "/dev/stdin", "p" * 5000],
)
def test_a_pyo3_python_that_is_no_interpreter_of_an_environment_is_left_as_it_is(
    value: str, bench: Bench
) -> None:
    (bench.root / "bin" / "unrunnable").write_text("#!/bin/sh\n")
    os.mkfifo(bench.root / "bin" / "pipe")
    value = value.format(root=bench.root, name=bench.root.name)
    done = bench.run("build", PYO3_PYTHON=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert bench.changes(PYO3_PYTHON=value) == {}
    assert bench.entries == []


# Code that is not ours

BARE = "import sys; print(*sys.modules)"
HOSTILE = "import os\nwith open(os.environ['HOSTILE_RAN'], 'a') as file:\n    file.write(__name__ + ' ')\n"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the names are not known")
class TestTheProjectBeingBuilt:
    """None of its modules replaces one of the standard library in a process of ours.

    Excepted are those that Python imports before any code of ours runs.
    """

    def test_in_the_wrapper_on_each_interpreter(
        self, python: str, shared: Shared, environ: dict[str, str], tmp_path: Path
    ) -> None:
        bench = Bench(shared, python, environ, tmp_path)
        runs_no_module_of(bench, set())

    def test_in_a_wrapper_that_no_startup_line_helps(self, bench: Bench) -> None:
        bench.wrapper = without_the_hook(bench)
        runs_no_module_of(bench, {"__future__"})  # wrapper.py imports it first


def runs_no_module_of(bench: Bench, spared: set[str]) -> None:
    """Check this for all modules except *spared*, on PYTHONPATH and in the working directory."""
    loaded = set(run([bench.installed / "bin" / "python", "-c", BARE], bench.environ).split())
    for name in (sys.stdlib_module_names | {"platformdirs"}) - loaded - spared:
        for folder in (bench.project, bench.folder / "hostile"):
            script(folder / f"{name}.py", HOSTILE)
    path = f"{os.pathsep}.{os.pathsep}{bench.folder / 'hostile'}"
    more = {"HOSTILE_RAN": str(bench.folder / "ran"), "PYTHONPATH": path}
    said = [bench.run(command, **more).stderr for command in ("fetch", "build", "build")]
    said.append(bench.run("build", **more, PYO3_ENVSHIM="base").stderr)
    assert said == [""] * 4
    assert not (bench.folder / "ran").exists(), (bench.folder / "ran").read_text()
    assert [call.environ["PYTHONPATH"] for call in bench.cargo.calls] == [path] * 4
    assert len(bench.entries) == 1


def without_the_hook(bench: Bench) -> Path:
    """Return a wrapper in whose Python no startup line runs."""
    path = bench.folder / "unhelped" / "pyo3-envshim-cargo"
    site = site_packages(bench.installed)
    program = f"import sys\nsys.path.append({str(site)!r})\nfrom pyo3_envshim.wrapper import main\n"
    return script(path, f"#!{bench.installed}/bin/python -S\n{program}sys.exit(main())\n")


# Cargo.lock and cargo's arguments

PACKAGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b-c", "d_e", "source"]),
        st.sampled_from([None, "registry+https://example.org/index", "git+https://example.org/a?b=c#d"]),
        st.lists(st.sampled_from(["a", "b-c 1.0.0", "x 1.0.0 (registry+https://example.org/index)"])),
        st.booleans(),
    )
)


@given(PACKAGES, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_local_packages_of_a_lock_file_are_those_that_a_toml_parser_finds(
    packages: list[tuple[str, str | None, list[str], bool]], end: str, unused: bool
) -> None:
    tomllib = pytest.importorskip("tomllib")
    text = "# made by cargo\nversion = 4\n"
    for name, source, needs, checksum in packages:
        text += f'\n[[package]]\nname = "{name}"\nversion = "1.0.0"\n'
        text += f'source = "{source}"\n' if source else ""
        text += f'checksum = "{"0" * 64}"\n' if checksum and source else ""
        text += "dependencies = [\n" + "".join(f' "{need}",\n' for need in needs) + "]\n" if needs else ""
    text += '\n[[patch.unused]]\nname = "p"\nversion = "1.0.0"\nsource = "git+x"\n' if unused else ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Cargo.lock")
        path.write_bytes(text.replace("\n", end).encode())
        found = set(local_names(str(path)))
    told = tomllib.loads(text).get("package", [])
    assert found == {package["name"] for package in told if "source" not in package}


WITH_VALUE = ("--manifest-path", "--config", "--target-dir", "--color", "-Z", "-p", "--features")
VALUES = st.sampled_from(["x", "a=b", "path/to it", "build.target='x'", "=", "x --config y"])
OPTIONS = st.one_of(
    st.builds(lambda name, value: [name, value], st.sampled_from(WITH_VALUE), VALUES),
    st.builds(lambda name, value: [f"{name}={value}"], st.sampled_from(WITH_VALUE[:4]), VALUES),
    st.builds(lambda value: [f"-Z{value}"], st.sampled_from(["x", "build-std"])),
    st.sampled_from([["--offline"], ["--release"], ["-v"], ["-q"], ["--lib"], ["--configs"]]),
)

WORDS = st.lists(OPTIONS).map(lambda options: [word for option in options for word in option])


@given(WORDS, WORDS, st.booleans())
def test_the_values_of_an_option_are_those_that_an_argument_parser_finds(
    options: list[str], behind: list[str], more: bool
) -> None:
    arguments = ["build", *options, *(["--", *behind] if more else [])]
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in WITH_VALUE:
        parser.add_argument(name, action="append", default=[], dest=name)
    parser.add_argument("rest", nargs="*")
    before = arguments[: arguments.index("--")] if more else arguments
    told = vars(parser.parse_known_args(before)[0])
    for name in WITH_VALUE[:3]:
        assert command_line.values_of(name, arguments) == told[name]
    asked = command_line.metadata_arguments(arguments)
    assert command_line.values_of("--config", asked) == told["--config"]
    assert command_line.values_of("--manifest-path", asked) == told["--manifest-path"]


BEFORE = st.lists(
    st.sampled_from(
        [["--color", "auto"], ["--color=always"], ["--config", "build"], ["--config=x"], ["-Z", "test"]]
        + [["-Zx"], ["-v"], ["-vv"], ["-q"], ["--offline"], ["--locked"], ["--frozen"]]
    )
).map(lambda options: [word for option in options for word in option])


@given(
    toolchain=st.sampled_from([[], ["+nightly"], ["+build"]]),
    before=BEFORE,
    command=st.sampled_from(
        [*sorted(command_line.COMPILING), "fetch", "metadata", "help", "clean", "my-build", ""]
    ),
    after=WORDS,
)
def test_a_call_compiles_if_its_command_does(
    toolchain: list[str], before: list[str], command: str, after: list[str]
) -> None:
    arguments = [*toolchain, *before, command, *after]
    assert command_line.compiles(arguments) == (command in command_line.COMPILING)


@given(st.lists(st.text(max_size=12)))
def test_any_arguments_are_looked_at_without_trouble(arguments: list[str]) -> None:
    assert isinstance(command_line.compiles(arguments), bool)
    assert command_line.metadata_arguments(arguments)[:1] != [""]
    assert all(isinstance(value, str) for value in command_line.values_of("--config", arguments))
