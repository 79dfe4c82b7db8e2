"""Histories on the real cargo: none is stale through the guard, and the model of cargo agrees.

What a history needs but no real file can have are the ctimes of another clock: kernels set
them. All mtimes here, cargo's own too, are those of the model's clock, which may step.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from pyo3_envshim.stamp import STAMP
from support.rust_cache import clean_as_rust_cache, remove
from unit.cargo_model import FILES, LOCAL, SECOND, File, History, Model, includes_more, steps

from .tiny_cargo import LIBRARY, TinyCargo, write

_DAY = 24 * 3600 * SECOND
SEEDS = int(os.environ.get("GUARD_HISTORIES", "3"))  # of each kind, and with each layout of a build folder
_NEAR = {"lib": "src/lib.rs", "x": "src/x", "y": "src/y", "data": "src/data", "parts": "parts"}
_HIDDEN = {"x": ".h/x", "y": ".h/y", "data": ".h/data", "parts": ".h/parts"}
_LISTING = """\
fn main() {
    println!("cargo:rerun-if-changed=%s");
    let names = std::fs::read_dir("%s").unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    println!("cargo:rustc-env=PARTS={}", names.join("+"));
}
"""
_USES_STANDIN = '[build-dependencies]\nstandin = "0.1"\n'
_MARK = '"{}|", include_str!("../{}"){}, "|"'
_MORE = ', "+", include_str!("../{}")'
_PARTS = ', env!("PARTS")'


class OnDisk(Model):
    """A model whose steps happen on disk too, and whose builds are cargo's.

    *hidden*: all but the crate's root lies in a hidden folder.
    """

    def __init__(self, cargo: TinyCargo, scripted: bool = True, hidden: bool = False) -> None:
        self.cargo_there = cargo
        self.where = {**_NEAR, **(_HIDDEN if hidden else {})}
        folder, parts = cargo.folder, self.where["parts"]
        self.start = (folder.stat().st_mtime_ns // SECOND) * SECOND + _DAY
        self.shown: dict[str, dict[str, tuple[int, object]]] = {"a": {}, "b": {}}
        self.locks: dict[str, tuple[int, str, str]] = {}
        super().__init__(scripted=scripted)
        for tree in "ab":
            files = {"build.rs": _LISTING % (parts, parts)} if scripted else {}
            self.cargo_there.tree(tree, '""', _USES_STANDIN if scripted else "", files)
        self.show()

    def path(self, tree: str, name: str) -> Path:
        folder, _, part = name.partition("/")
        return self.cargo_there.folder / tree / self.where[folder] / part

    def show(self) -> None:
        """Make the files on disk what they are in the model."""
        for tree, files in self.trees.items():
            shown = self.shown[tree]
            for name in [name for name in shown if name not in files]:
                self.path(tree, name).unlink()
                del shown[name]
            for name, file in files.items():
                now = (file.inode, file.content)
                if shown.get(name) != now:
                    self.put(self.path(tree, name), name, file, shown.get(name, now)[0] != file.inode)
                    shown[name] = now
            for name in (*FILES, "parts"):  # the folder last: putting files changes its time
                if name in files:
                    set_time(self.path(tree, name), self.start + files[name].mtime)

    def put(self, path: Path, name: str, file: File, anew: bool) -> None:
        if name == "parts":
            return
        place = path.with_name("beside") if anew else path
        if name == "data" and file.content in ("x", "y"):
            place.symlink_to(str(file.content))
        else:
            more = _MORE.format(self.where["y"]) if includes_more(file.content) else ""
            mark = _MARK.format(file.content, self.where["data"], more)
            mark += _PARTS if self.scripted else ""
            write(place, LIBRARY.format(mark) if name == "lib" else str(file.content))
        place.replace(path)

    def age_target(self) -> None:
        """Give what cargo or the guard has just written the model's time."""
        for path in self.cargo_there.target.rglob("*"):
            if path.is_file() and path.stat().st_mtime_ns < self.start:
                set_time(path, self.start + self.now)

    def swap(self, one: str, other: str) -> None:
        super().swap(one, other)
        self.shown[one], self.shown[other] = self.shown[other], self.shown[one]
        folder = self.cargo_there.folder
        for old, new in ((one, "away"), (other, one), ("away", other)):
            (folder / old).rename(folder / new)

    def clean(self, names: str, stamps: bool) -> None:
        super().clean(names, stamps)
        target = self.cargo_there.target
        if "standin" in names:
            remove(path for path in target.glob("*/*") if path.name != STAMP)
        elif names:
            clean_as_rust_cache(target, ["standin"])
        if stamps:
            remove(target.glob(f"*/{STAMP}"))

    def stamp_at(self, seconds: int) -> None:
        super().stamp_at(seconds)
        for stamp in self.cargo_there.target.glob(f"*/{STAMP}"):
            set_time(stamp, self.start + seconds * SECOND)

    def saved(self) -> object:
        place = self.cargo_there.folder / "saved"
        shutil.rmtree(place, ignore_errors=True)
        if self.cargo_there.target.exists():
            shutil.copytree(self.cargo_there.target, place)
        return super().saved()

    def restore(self, saved: object, new_times: bool) -> None:
        place, target = self.cargo_there.folder / "saved", self.cargo_there.target
        shutil.rmtree(target, ignore_errors=True)
        if place.exists():
            shutil.copytree(place, target)
        if new_times:
            for path in target.rglob("*"):
                set_time(path, self.start + self.now)
        super().restore(saved, new_times)

    def guard(self, tree: str, profile: str = "debug", locked: bool = False) -> str:
        self.show()
        arguments = ["--release"] if profile == "release" else []
        python = self.cargo_there.guard(self.cargo_there.folder / tree, *arguments)
        self.age_target()
        places = (
            f"{profile}/{place}/lib-tiny" for place in (".fingerprint/tiny-*", "build/tiny/*/fingerprint")
        )
        if not any(path for place in places for path in self.cargo_there.target.glob(place)):
            self.invalidate([key for key in self.units if key[0] == profile and key[1] in LOCAL])
        return python

    def begin(self, tree: str, python: str, profile: str) -> set[str]:
        """Hold the lock that a cargo would hold until `finish`, when a real one does all of its work."""
        (self.cargo_there.target / profile).mkdir(parents=True, exist_ok=True)
        lock = os.open(self.cargo_there.target / profile / ".cargo-lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.locks[profile] = lock, tree, python
        return set()

    def finish(self, profile: str) -> None:
        lock, tree, python = self.locks.pop(profile)
        os.close(lock)
        self.cargo(tree, python, profile)

    def kill(self, profile: str) -> None:
        os.close(self.locks.pop(profile)[0])

    def cargo(self, tree: str, python: str, profile: str = "debug") -> set[str]:
        """Build for real, and tell whether the model of cargo would have built the same."""
        self.show()
        arguments = ["--release"] if profile == "release" else []
        packages = self.cargo_there.build(self.cargo_there.folder / tree, *arguments, python=python)
        self.age_target()
        expected = super().begin(tree, python, profile)
        super().finish(profile)
        assert packages - {"build-script-build"} == expected - {"asking", "script"}
        lib, data, parts = super().built(profile)
        names = "+".join(part[-1] for part in parts) if isinstance(parts, tuple) else ""
        assert self.cargo_there.mark(profile) == f"{lib}|{data}|{names}"
        return expected


def set_time(path: Path, time: int) -> None:
    """Set the mtime of a file or link, but leave its ctime alone where that is so already."""
    if path.lstat().st_mtime_ns != time:
        os.utime(path, ns=(time, time), follow_symlinks=False)


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """Return a folder in memory, where there is such a thing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("hidden", [False, True], ids=["near", "hidden"])
@pytest.mark.parametrize("scripted", [True, False], ids=["all files", "noted files"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_history_is_stale(
    there: TinyCargo, other_file_system: Path, seed: int, scripted: bool, hidden: bool
) -> None:
    if seed % 2:
        there.move_target(other_file_system / "target")
    History(OnDisk(there, scripted, hidden)).play(steps(Random(f"{seed} {scripted} {hidden}"), 30))


def test_cargo_looks_at_the_sources_when_it_has_its_lock(tmp_path: Path) -> None:
    """So a build that waits is one whose cargo starts later, as the next test has it."""
    there = TinyCargo(tmp_path)
    tree = there.tree()
    there.build(tree)
    python = there.guard(tree)
    with open(there.target / "debug" / ".cargo-lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = there.start(["build"], tree, PYO3_PYTHON=python)
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "build directory" in line or "artifact directory" in line:
                break
        write(tree / "src" / "lib.rs", LIBRARY.format('"two"'))
    waiting.communicate()
    assert waiting.returncode == 0
    assert there.mark() == "two"


_EVENTS = ("guard a", "cargo a", "guard b", "cargo b")
_ORDERS = [
    (order, edited)
    for edited in ((), ("edit a",))
    for order in itertools.permutations((*_EVENTS, *edited))
    if all(order.index(f"guard {tree}") < order.index(f"cargo {tree}") for tree in "ab")
]


@pytest.mark.parametrize("age", [0, 3600], ids=["new", "old"])
def test_two_worktrees_that_wait_for_cargos_lock_keep_their_own_code(tmp_path: Path, age: int) -> None:
    """The second worktree is newer, or older, than the last build."""
    there = TinyCargo(tmp_path)
    there.tree("a", '"a"')
    for number, (order, edited) in enumerate(_ORDERS):
        if age and edited:
            break
        there.build(tmp_path / "a")
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        trees = {"a": tmp_path / "a", "b": there.tree("b", f'"b{number}"', age=age)}
        python, edits = {}, 0
        for event in order:
            what, name = event.split()
            if what == "guard":
                python[name] = there.guard(trees[name])
            elif what == "edit":
                edits = number
                write(trees[name] / "src" / "lib.rs", LIBRARY.format(f'"a{number}"'))
            else:
                there.build(trees[name], python=python[name])
                assert there.mark().startswith(name), order
                assert name == "a" or there.mark() == f"b{number}", order
                assert name == "b" or not edits or there.mark() == f"a{number}", order


def replaced_file(path: str) -> Callable[[Path], None]:
    def replace(tree: Path) -> None:
        write(tree / path, '"two"', 3600)

    return replace


def hard_link(tree: Path) -> None:
    """As `cp -al` and a rename do: an older file under a second name."""
    write(tree / "other", '"two"', 3600)
    os.link(tree / "other", tree / "beside")
    (tree / "beside").replace(tree / "x")


def replaced_link(target: str) -> Callable[[Path], None]:
    """Point a link to a file or folder that is newer than the last build."""

    def replace(tree: Path) -> None:
        name, leads_to = target.split(" -> ")
        for path in [tree / "two", tree / "folders" / "two" / "x"]:
            write(path, '"two"')
        (tree / name).unlink()
        (tree / name).symlink_to(leads_to)

    return replace


_ATTACKS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "a module elsewhere": ("../../elsewhere/x", "", replaced_file("../elsewhere/x")),
    "a hidden folder": ("../.hidden/x", "", replaced_file(".hidden/x")),
    "what setuptools copies": ("../build/lib.linux/x", "", replaced_file("build/lib.linux/x")),
    "a tagged folder": ("../tagged/x", "tagged/CACHEDIR.TAG", replaced_file("tagged/x")),
    "a link to another file": ("../link", "link -> one", replaced_link("link -> two")),
    "a link to another folder": ("../link/x", "link -> folders/one", replaced_link("link -> folders/two")),
    "a hard link": ("../x", "", hard_link),
}


@pytest.mark.parametrize("what", _ATTACKS)
def test_what_a_crate_includes_is_watched_wherever_it_lies(tmp_path: Path, what: str) -> None:
    there = TinyCargo(tmp_path)
    included, also, change = _ATTACKS[what]
    tree = there.tree(mark=f'include!("{included}")')
    for path in ("one", "folders/one/x", "folders/two/x"):
        write(tree / path, '"one"', 3600)
    if " -> " in also:
        name, leads_to = also.split(" -> ")
        (tree / name).symlink_to(leads_to)
    else:
        write(tree / "src" / included, '"one"', 3600)
        write(tree / (also or "other"), "Signature: 8a477f597d28d172789f06886806bc55", 3600)
    for _ in range(2):  # what lies outside is known from the second build on
        there.build(tree)
    assert there.build(tree) == set()
    assert there.mark() == "one"
    change(tree)
    there.build(tree)
    assert there.mark() == "two"


def test_what_a_build_script_asks_to_be_run_for_is_watched_wherever_it_lies(tmp_path: Path) -> None:
    there = TinyCargo(tmp_path)
    script = """fn main() {
        println!("cargo:rerun-if-changed=.parts");
        println!("cargo:rustc-env=PART={}", std::fs::read_to_string(".parts/x").unwrap());
    }"""
    tree = there.tree("tree", 'env!("PART")', _USES_STANDIN, {"build.rs": script, ".parts/x": "one"})
    for _ in range(2):
        there.build(tree)
    assert there.build(tree) == set()
    write(tree / ".parts" / "x", "two", 3600)
    there.build(tree)
    assert there.mark() == "two"


def test_a_file_that_is_gone_is_noticed_though_its_folder_kept_its_time(tmp_path: Path) -> None:
    there = TinyCargo(tmp_path)
    tree = there.tree(
        "tree",
        'env!("PARTS")',
        _USES_STANDIN,
        {"build.rs": _LISTING % ("parts", "parts"), "parts/p": "", "parts/q": ""},
    )
    there.build(tree)
    assert there.build(tree) == set()
    time = (tree / "parts").stat().st_mtime_ns
    (tree / "parts" / "q").unlink()
    set_time(tree / "parts", time)
    there.build(tree)
    assert there.mark() == "p"


def test_worktrees_whose_crate_lies_outside_of_its_package_keep_their_own_code(tmp_path: Path) -> None:
    """cargo notes the absolute path of such a file: that of the other worktree."""
    there = TinyCargo(tmp_path)
    for name in ("one", "two"):
        write(tmp_path / name / "lib.rs", LIBRARY.format(f'"{name}"'))
        there.build(there.tree(f"{name}/package", also='[lib]\npath = "../lib.rs"\n', age=0))
        assert there.mark() == name


def test_an_input_in_the_target_folder_raises_no_doubt(tmp_path: Path) -> None:
    """Code that the build script writes: cargo runs it when it must."""
    there = TinyCargo(tmp_path)
    script = """fn main() {
        println!("cargo:rerun-if-changed={}/x", std::env::var("OUT_DIR").unwrap());
        std::fs::write(std::env::var("OUT_DIR").unwrap() + "/x", "1").unwrap();
    }"""
    mark = 'include!(concat!(env!("OUT_DIR"), "/x"))'
    tree = there.tree("tree", mark, _USES_STANDIN, {"build.rs": script})
    there.build(tree)
    nonce = there.guard(tree)
    there.build(tree)
    assert there.guard(tree) == nonce


def test_what_is_replaced_by_older_files_while_a_build_waits_is_seen_by_the_next(tmp_path: Path) -> None:
    there = TinyCargo(tmp_path)
    tree = there.tree()
    there.build(tree)
    python = there.guard(tree)
    write(tree / "src" / "lib.rs", LIBRARY.format('"two"'), 3600)
    there.build(tree, python=python)
    there.build(tree)
    assert there.mark() == "two"
