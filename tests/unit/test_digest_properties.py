"""Any visible change changes the digest, no other change does, and the digest determines the entry.

The examples change real environments on disk. `seen`, which shares no code with the package, tells
what is visible.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.environment.item import PLACEHOLDER, NotStorable
from pyo3_envshim.store.store import Store

from . import sample_wheels
from .environments import ROOT, Shared, make_environment, run, script, site_packages, tree
from .sample_wheels import SampleWheels, sha256_of

MAKERS = (("uv", "uv"), ("venv", "pip"), ("virtualenv", "uv"), ("virtualenv", "pip"))
NOTES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "provenance_url.json")
SHELLS = ("activate", "activate_this.py", "Activate.ps1", "pydoc.bat") + tuple(
    f"{what}.{shell}"
    for what in ("activate", "deactivate")
    for shell in ("bat", "csh", "fish", "nu", "ps1", "xsh")
)

# Each example copies one small environment, or copies two and stores them.
on_disk = settings(max_examples=settings().max_examples // 2)
in_stores = settings(max_examples=settings().max_examples // 4)


@pytest.fixture(scope="module")
def made(shared: Shared) -> Path:
    """Return a folder with an environment of each maker and installer, all with the same wheels."""

    def make(folder: Path) -> None:
        sample = SampleWheels(shared, os.path.realpath(sys.executable), shared.environ, folder)
        for maker, installer in MAKERS:
            sample.environment(f"{maker}-{installer}", maker=maker, installer=installer)

    return shared.once("made", make)


hash_file = lru_cache(None)(sha256_of)  # all examples share one base interpreter


def read(root: Path, **environ: str) -> Environment:
    return sample_wheels.read(root, hash_file, **environ)


def digest(root: Path, **environ: str) -> str:
    return read(root, **environ).digest


@contextmanager
def copies(*originals: Path) -> Iterator[list[Path]]:
    """Yield copies of environments, as if front ends had made them in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        yield [copied(original, Path(folder, str(number))) for number, original in enumerate(originals)]


def copied(original: Path, root: Path) -> Path:
    shutil.copytree(original, root, symlinks=True)
    for path in (root / "bin").iterdir():
        if path.is_file() and not path.is_symlink():
            path.write_bytes(path.read_bytes().replace(os.fsencode(original), os.fsencode(root)))
    return root


# What can be seen


def seen(root: Path) -> dict[str, object]:
    """Return what an interpreter in the environment can see, by path."""
    site = site_packages(root)
    config = dict(line.split(" = ") for line in (root / "pyvenv.cfg").read_text().splitlines())
    found: dict[str, object] = {"pyvenv.cfg": config["home"]}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in [*names, *(name for name in folders if Path(folder, name).is_symlink())]:
            path = Path(folder, name)
            own = path.parent.suffix == ".dist-info" and path.parent.parent == site
            if path.parent == root or (own and name in NOTES):
                continue
            if path.parent == root / "bin" and name in SHELLS:
                continue
            if path.is_symlink():
                found[str(path.relative_to(root))] = os.readlink(path)
                continue
            content = path.read_bytes()
            what: object = content
            if path.parent == root / "bin":  # blank lines of a wrapper are not kept
                what = [line for line in content.replace(os.fsencode(root), b"@").split(b"\n") if line]
            elif own and name == "RECORD":
                found[str(path.relative_to(root))] = rows(content)
                continue
            found[str(path.relative_to(root))] = what, bool(path.stat().st_mode & 0o100)
    return found


def rows(record: bytes) -> object:
    """Return what the csv module reads in a RECORD, without its order, and without what is left out."""
    text = io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")
    try:
        found = [tuple(row) for row in csv.reader(text, strict=True) if row]
    except csv.Error:
        return record
    return {  # a script has a different hash in each environment
        (path.replace("\\", "/"), *([] if path.startswith("../../../bin/") else rest))
        for path, *rest in found
        if "__pycache__/" not in path and path.partition("/")[2] not in NOTES
    }


# Changes that can be seen


def files_of(root: Path) -> list[Path]:
    """Return the visible files."""
    paths = (root / name for name in sorted(seen(root)) if name != "pyvenv.cfg")
    return [path for path in paths if path.is_file() and not path.is_symlink()]


SEEDS = st.integers(0, 10**6)
NAMES = st.one_of(
    st.sampled_from(
        ["added.py", "json.py", "a.pth", "sitecustomize.py", "x.dist-info", "y.egg-info", "RECORD"]
    ),
    st.sampled_from(["activate-more", "pythonw", "lib64", "INSTALLER", "entry_points.txt", "activate.py"]),
    st.binary(min_size=1, max_size=40).map(os.fsdecode),
).filter(lambda name: name not in (".", "..") and not {"/", "\0"} & set(name))
KINDS = ("edit", "append", "cut", "mode", "remove", "rename", "link", "folder", "swap", "add", "add a link")


def change(root: Path, kind: str, seed: int, name: str, data: bytes) -> None:
    """Change something in the environment; *seed* decides where, *name* and *data* are what is new."""
    files = files_of(root)
    path = files[seed % len(files)]
    other = files[seed // len(files) % len(files)]
    new = path.with_name(name)
    content = path.read_bytes()
    if kind == "edit" and content:
        at = seed // 7 % len(content)
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 + seed % 255)]) + content[at + 1 :])
    elif kind == "append":
        path.write_bytes(content + data)
    elif kind == "cut":
        path.write_bytes(content[: seed // 7 % (len(content) + 1)])
    elif kind == "mode":
        path.chmod(path.stat().st_mode ^ 0o100)
    elif kind == "remove":
        path.unlink()
    elif kind == "rename" and not os.path.lexists(new):
        path.rename(new)
    elif kind == "link":
        path.unlink()
        path.symlink_to(os.path.relpath(other, path.parent) if seed % 2 else name)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
        (path / name).write_bytes(data)
    elif kind == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == "add" and not os.path.lexists(new):
        new.write_bytes(data)
    elif kind == "add a link" and not os.path.lexists(new):
        new.symlink_to(path.name)


def check_noticed(root: Path, *changes: tuple[str, int, str, bytes]) -> bool:
    """Carry out changes, check that the digest notices, and tell whether anything visible changed."""
    before, digest_before = seen(root), digest(root)
    for each in changes:
        change(root, *each)
    if seen(root) == before:
        return False
    try:
        after = digest(root)
    except (NotStorable, OSError):
        return True
    assert after != digest_before, changes
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_of_any_file_is_noticed(made: Path, kind: str) -> None:
    count = len(files_of(made / "uv-uv"))
    seen_changes = 0
    for number in range(count):
        with copies(made / "uv-uv") as (root,):
            seen_changes += check_noticed(root, (kind, number + count * 5, "added.txt", b"added\n"))
    assert (
        seen_changes > count * 3 // 4
    )  # swapping a file with itself, or cutting it at its end, changes nothing


@on_disk
@given(
    maker=st.sampled_from(MAKERS),
    changes=st.lists(
        st.tuples(st.sampled_from(KINDS), SEEDS, NAMES, st.binary(max_size=30)), min_size=1, max_size=3
    ),
)
def test_any_changes_that_can_be_seen_are_noticed(
    made: Path, maker: tuple[str, str], changes: list[tuple[str, int, str, bytes]]
) -> None:
    with copies(made / "-".join(maker)) as (root,):
        assume(check_noticed(root, *changes))


def test_a_script_that_is_named_like_those_for_shells_is_noticed(made: Path) -> None:
    """argcomplete installs one."""
    with copies(made / "uv-uv") as (root,):
        before = digest(root)
        script(root / "bin" / "activate-global-python-argcomplete", "#!/bin/sh\n")
        assert digest(root) != before


def test_a_file_is_not_taken_for_a_link_with_the_same_words(made: Path) -> None:
    """Neither is a script that names the placeholder taken for one that names the environment."""
    with copies(made / "uv-uv", made / "uv-uv") as (one, two):
        (site_packages(one) / "tiny" / "new").symlink_to("data.txt")
        for words in ("data.txt", "link data.txt", f"link\0{site_packages(one)}/data.txt"):
            (site_packages(two) / "tiny" / "new").write_text(words)
            assert digest(one) != digest(two)
    with copies(made / "uv-uv", made / "uv-uv") as (one, two):
        placeholder = PLACEHOLDER.decode()
        script(one / "bin" / "new", f"#!{one}/bin/python\n")
        script(two / "bin" / "new", f"#!{placeholder}/bin/python\n")
        assert digest(one) != digest(two)


def test_a_placeholder_that_was_there_before_is_not_filled_in(made: Path) -> None:
    placeholder = PLACEHOLDER.decode()
    for name in ("bin/new", "RECORD"):
        with copies(made / "uv-uv") as (root,):
            if name == "RECORD":
                with (site_packages(root) / "other-1.dist-info" / "RECORD").open("a") as file:
                    file.write(f"{placeholder}.py,,\n")
            else:
                script(root / name, f"#!{root}/bin/python\nprint('{placeholder}')\n")
            with pytest.raises(NotStorable):
                read(root)


@pytest.mark.parametrize("leads_to", ["__pycache__/x.pyc", "../tiny-1.dist-info/INSTALLER", "../empty"])
def test_a_link_to_what_is_not_stored_is_not_stored(made: Path, leads_to: str) -> None:
    with copies(made / "uv-uv") as (root,):
        target = site_packages(root) / "tiny" / leads_to
        if leads_to.endswith("empty"):
            target.mkdir()
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"x")
        (site_packages(root) / "tiny" / "linked").symlink_to(leads_to)
        with pytest.raises(NotStorable, match="not stored"):
            read(root)


def test_a_second_interpreter_in_bin_is_not_taken_for_the_first(made: Path) -> None:
    with copies(made / "venv-pip") as (root,):
        (root / "bin" / "python3").unlink()
        (root / "bin" / "python3").symlink_to("/bin/sh")
        with pytest.raises(NotStorable, match=r"bin/python3"):
            read(root)


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "PYTHONHOME", "_PYTHON_HOST_PLATFORM", "_PYTHON_SYSCONFIGDATA_NAME"]
)
def test_a_variable_that_changes_what_an_interpreter_sees_is_noticed(made: Path, name: str) -> None:
    root = made / "uv-uv"
    assert len({digest(root), digest(root, **{name: "/a"}), digest(root, **{name: "/b"})}) == 3


@pytest.mark.parametrize("text", ["include-system-site-packages = true", ""])
def test_an_environment_that_sees_the_systems_packages_is_not_stored(made: Path, text: str) -> None:
    """An environment also sees them if its configuration does not mention them."""
    with copies(made / "uv-uv") as (root,):
        config = root / "pyvenv.cfg"
        config.write_text(config.read_text().replace("include-system-site-packages = false", text))
        code = "import sys, sysconfig; print(any(p.startswith(sys.base_prefix + '/lib/') and"
        code += " 'site-packages' in p for p in sys.path))"
        assert run([root / "bin" / "python", "-c", code], {}) == "True\n"
        with pytest.raises(NotStorable, match="system's"):
            read(root)


# The base interpreter


class Prefix:
    """An interpreter that can be upgraded in place: copies of the files that count, links to the rest."""

    def __init__(self, folder: Path, python: str) -> None:
        real = Path(python).resolve()
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.executable = folder / "bin" / name
        self.library = folder / "lib" / name
        self.header = folder / "include" / name / "patchlevel.h"
        for path in (self.executable, self.library, self.header):
            path.parent.mkdir(parents=True)
        shutil.copy(real, self.executable)
        self.library.mkdir()
        for child in (real.parents[1] / "lib" / name).iterdir():
            if child.name.startswith("_sysconfigdata"):
                self.data = Path(shutil.copy(child, self.library))
            else:
                (self.library / child.name).symlink_to(child)
        shutil.copy(real.parents[1] / "include" / name / "patchlevel.h", self.header)


@pytest.mark.parametrize("part", ["executable", "data", "header"])
def test_an_interpreter_that_is_upgraded_in_place_is_another(
    part: str, tmp_path: Path, a_python: str, environ: dict[str, str]
) -> None:
    """It has the same path, size and mtime, and the store remembers its hash."""
    prefix = Prefix(tmp_path / "prefix", a_python)
    root = make_environment("uv", prefix.executable, tmp_path / "environment", environ)
    hash_file = Store(str(tmp_path / "store")).hash_file
    path: Path = getattr(prefix, part)
    with path.open("ab") as file:
        file.write(b"\n")
    before, at = sample_wheels.read(root, hash_file), path.stat()
    assert before.base == str(prefix.executable)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b" ")
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_ino == at.st_ino
    assert sample_wheels.read(root, hash_file).digest != before.digest


def test_an_interpreter_without_sysconfig_data_is_not_known(
    tmp_path: Path, a_python: str, environ: dict[str, str]
) -> None:
    prefix = Prefix(tmp_path / "prefix", a_python)
    root = make_environment("uv", prefix.executable, tmp_path / "environment", environ)
    lib64 = tmp_path / "prefix" / "lib64" / prefix.library.name
    prefix.data.unlink()
    with pytest.raises(NotStorable, match="sysconfig"):
        read(root)
    lib64.mkdir(parents=True)  # Fedora's place for it
    found = []
    for text in ("build_time_vars = {}\n", "build_time_vars = {'A': 1}\n"):
        (lib64 / prefix.data.name).write_text(text)
        found.append(sample_wheels.read(root).digest)
    assert found[0] != found[1]


def test_an_interpreter_may_be_called_python_and_no_more(
    tmp_path: Path, a_python: str, environ: dict[str, str]
) -> None:
    prefix = Prefix(tmp_path / "prefix", a_python)
    python = prefix.executable.rename(prefix.executable.with_name("python"))
    root = make_environment("uv", python, tmp_path / "environment", environ)
    found = sample_wheels.read(root)
    links = [(item.path, item.target) for item in found.items if item.path.startswith("bin/")]
    assert links == [("bin/python", str(python))] + [
        (f"bin/{name}", "python") for name in ("python3", prefix.library.name)
    ]


def test_an_interpreter_may_lie_at_a_path_that_is_no_text(made: Path, tmp_path: Path, a_python: str) -> None:
    prefix = Prefix(tmp_path / os.fsdecode(b"\xff"), a_python)
    home = tmp_path / "link" / "bin"
    (tmp_path / "link").symlink_to(prefix.executable.parents[1])
    with copies(made / "uv-uv") as (root,):
        (root / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
        (root / "bin" / "python").unlink()
        (root / "bin" / "python").symlink_to(home / prefix.executable.name)
        (config,) = [item for item in read(root).items if item.path == "pyvenv.cfg"]
    assert os.fsencode(f"home = {home}\n") in (config.text or b"")
    assert os.fsencode(f"executable = {prefix.executable}\n") in (config.text or b"")


# What cannot be seen


def touch(root: Path, seed: int) -> None:
    for path in files_of(root):
        os.utime(path, (seed, seed))


def give_other_inodes(root: Path, seed: int) -> None:
    for path in sorted(files_of(root), key=lambda path: hash((seed, path.name))):
        new = path.with_name(path.name + ".new")
        shutil.copy(path, new)
        new.replace(path)


def leave_byte_code(root: Path, seed: int) -> None:
    for folder in (site_packages(root), site_packages(root) / "tiny"):
        (folder / "__pycache__").mkdir(exist_ok=True)
        (folder / "__pycache__" / f"x{seed}.cpython-311.pyc").write_bytes(b"\0" * (seed % 50))


def note(root: Path, seed: int) -> None:
    name = NOTES[seed % len(NOTES)]
    record = site_packages(root) / "tiny-1.dist-info" / "RECORD"
    record.with_name(name).write_text(f'{{"url": "file:///{seed}"}}')
    record.write_text(f"{record.read_text()}tiny-1.dist-info/{name},,\n")


def shuffle_record(root: Path, seed: int) -> None:
    record = site_packages(root) / "tiny-1.dist-info" / "RECORD"
    lines = record.read_text().splitlines(keepends=True)
    at = seed % len(lines)
    record.write_text("".join(lines[at:] + lines[:at]))


def change_other_modes(root: Path, seed: int) -> None:
    for path in files_of(root):
        path.chmod(path.stat().st_mode & 0o100 | 0o600 | seed % 0o100 & ~0o11 | seed % 2 * 0o11)


def leave_files_beside(root: Path, seed: int) -> None:
    (root / f".lock-{seed}").write_text("locked")
    (root / "bin" / "activate.nu").write_text(f"{root} {seed}")
    with (root / "pyvenv.cfg").open("a") as file:
        file.write(f"prompt-{seed} = {seed}\n")


def make_empty_folders(root: Path, seed: int) -> None:
    (site_packages(root) / f"empty-{seed}" / "inner").mkdir(parents=True, exist_ok=True)


UNSEEN = [
    *(touch, give_other_inodes, leave_byte_code, note, shuffle_record),
    *(change_other_modes, leave_files_beside, make_empty_folders),
]


@in_stores
@given(
    makers=st.tuples(st.sampled_from(MAKERS), st.sampled_from(MAKERS)),
    changes=st.lists(st.tuples(st.sampled_from(UNSEEN), SEEDS), max_size=6),
    umasks=st.tuples(st.sampled_from([0o022, 0o002, 0o077, 0]), st.sampled_from([0o022, 0o077])),
)
def test_what_cannot_be_seen_changes_neither_digest_nor_entry(
    made: Path, makers: tuple[tuple[str, str], ...], changes: list[tuple[Any, int]], umasks: tuple[int, int]
) -> None:
    with copies(*(made / "-".join(maker) for maker in makers)) as (one, two):
        for unseen, seed in changes:
            unseen(two, seed)
        a, b = read(one), read(two)
        assert a.digest == b.digest
        store = one.parent / "store"
        assert entry(a, store, umasks[0]) == entry(b, store, umasks[1])


def stored(environment: Environment, store: Path) -> Path:
    """Store an environment in the store at *store*; return its entry."""
    acquired = Store(str(store)).acquire(environment)
    acquired.release()
    return Path(acquired.path())


def entry(environment: Environment, store: Path, umask: int) -> Mapping[str, object]:
    """Return all that an entry contains, with modes, after it was written to a new store at *store*."""
    before = os.umask(umask)
    try:
        root = stored(environment, store)
        assert stored(environment, store) == root
    finally:
        os.umask(before)
    contents = {name: it for name, it in tree(root).items() if not name.startswith(".manifest")}
    found = {
        str(path.relative_to(root)): (path.lstat().st_mode, contents.get(str(path.relative_to(root))))
        for path in root.rglob("*")
        if not path.name.startswith(".manifest")
    }
    shutil.rmtree(store)
    return found


AS_ANOTHER_PROCESS = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.umask(0o077)
from tests.unit import sample_wheels
from pathlib import Path
print(sample_wheels.digest(Path(sys.argv[2])))
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "HOME": "/nowhere", "TMPDIR": "/var/tmp"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "2"},
    ],
    ids=["home", "ASCII", "UTF-8"],
)
def test_another_process_finds_the_same_digest_elsewhere(
    made: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    """As on another machine: another path, home, locale, umask, order of hashes, working directory."""
    with copies(made / "uv-uv", made / "venv-pip") as roots:
        for root in roots:
            for name in ("\u00fc.py", "z\U0001f40d", os.fsdecode(b"y\xff")):
                (site_packages(root) / name).write_text("odd\n")
            script(root / "bin" / "\u00fc", f"#!{root}/bin/python\n")
        command = [sys.executable, "-c", AS_ANOTHER_PROCESS, str(ROOT), str(roots[1])]
        assert run(command, variables, tmp_path).strip() == digest(roots[0])


# What an interpreter in the entry sees

VIEW = """
import hashlib, importlib.metadata, importlib.util, json, os, pkgutil, sys, sysconfig
def described(file):
    if "__pycache__" in file.parts or file.name in NOTES:
        return ""
    if "bin" in file.parts:  # its hash is different in each environment
        return f"{file} {file.locate().exists()}"
    return f"{file} {file.hash} {file.size} {file.locate().exists()}"
found = {
    "path": sys.path,
    "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.executable],
    "paths": sorted(sysconfig.get_paths().items()),
    "variables": sorted(map(str, sysconfig.get_config_vars().items())),
    "version": [sys.version, sys.platform, sys.implementation.cache_tag],
    "distributions": sorted(
        [d.metadata["Name"], d.version, sorted(filter(None, map(described, d.files)))]
        for d in importlib.metadata.distributions()
    ),
    "entry points": sorted(
        f"{e.group} {e.name} {e.value} {e.load().__name__}"
        for d in importlib.metadata.distributions() for e in d.entry_points
        if e.group.endswith("_scripts")
    ),
    "modules": {},
    "files": {},
}
site = [p for p in sys.path if p.startswith(sys.prefix)]
for module in pkgutil.walk_packages(site):
    spec = importlib.util.find_spec(module.name)
    with open(spec.origin, "rb") as file:
        found["modules"][module.name] = [spec.origin, hashlib.sha256(file.read()).hexdigest()]
for folder, _, names in os.walk(site[0]):
    for name in names:
        path = os.path.join(folder, name)
        if "__pycache__" not in folder and name not in [*NOTES, "RECORD"]:
            with open(path, "rb") as file:
                found["files"][path] = hashlib.sha256(file.read()).hexdigest() + str(os.access(path, os.X_OK))
print(json.dumps(found).replace(sys.prefix, "@"))
"""


@pytest.mark.parametrize("maker", ["venv", "uv"])
def test_an_interpreter_in_the_entry_sees_what_one_in_the_environment_sees(
    maker: str, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    root = SampleWheels(shared, python, environ, tmp_path).environment(maker=maker)
    path = stored(read(root), tmp_path / "store")
    code = f"NOTES = {NOTES!r}\n" + VIEW
    views = [json.loads(run([f"{it}/bin/python", "-BIc", code], environ)) for it in (root, path)]
    assert views[0]["modules"].keys() >= {"tiny", "other"}
    assert len(views[0]["entry points"]) == 2
    for what, of_environment in views[0].items():
        assert views[1][what] == of_environment, what


# pyvenv.cfg


@pytest.fixture(scope="module")
def plain(shared: Shared) -> Path:
    """Return an environment whose configuration each example replaces."""

    def make(root: Path) -> None:
        SampleWheels(shared, os.path.realpath(sys.executable), shared.environ, root.parent).environment(
            root.name, "tiny"
        )

    return shared.once(f"plain-{os.getpid()}", make)


IS = """
import json, sys
outside = [p for p in sys.path if "site-packages" in p and not p.startswith(sys.prefix)]
print(json.dumps([sys.base_prefix, outside]))
"""
HOME = "@HOME@"
LINES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["home", "Home", " HOME ", "include-system-site-packages", "#home", "version", "home2"]),
    st.sampled_from(["=", " = ", " ", ":"]),
    st.sampled_from(["true", "false", "TRUE", "no", HOME, "/gone/bin", "", "3.11"]),
    st.sampled_from(["\n", "\r\n", "\n\n", "\x0c\n", "\r", ""]),
)
USUAL = (f"home = {HOME}\n", "include-system-site-packages = false\n")


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(LINES, max_size=3), st.integers(0, 2), st.sampled_from(["", "\ufeff"]))
def test_an_environment_is_stored_only_if_python_reads_its_configuration_as_we_do(
    plain: Path, lines: list[str], at: int, start: str
) -> None:
    text = start + "".join([*USUAL[:at], *lines, *USUAL[at:]])
    text = text.replace(HOME, os.path.dirname(os.path.realpath(sys.executable)))
    (plain / "pyvenv.cfg").write_bytes(text.encode())
    try:
        found = sample_wheels.read(plain, lambda path: path)
    except NotStorable:
        return
    with tempfile.TemporaryDirectory() as folder:
        roots = (plain, stored(found, Path(folder)))
        told = [json.loads(run([f"{root}/bin/python", "-BIc", IS], {})) for root in roots]
    assert told[0] == told[1] == [str(Path(found.base).parents[1]), []]
