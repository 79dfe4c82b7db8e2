"""A model of cargo's freshness rule, and of a file system, for histories that no real one can play.

The rule is that of cargo 1.95 (``core/compiler/fingerprint``): a unit is dirty if it was never
built, if the value of a variable it registered differs, if a unit it depends on is dirty or has
newer output, or if one of the inputs it noted is gone or has an mtime later than the unit's own
``invoked.timestamp``. An input within the package is noted relative to it, and where a link led.

A worktree is a package of three inputs: ``lib``, which may include ``y``; ``data``, or what it leads to
if it is a link (``x`` or ``y``);
and the names in the folder ``parts``, which the build script watches. The units are ``standin``
(PyO3: its build script, ``asking``, registers PYO3_PYTHON), ``script`` and ``tiny``, which depend on it.
cargo holds a lock on a profile while it compiles, and does not believe what it left of a unit when it
was killed.
`tests/builds/test_guard_histories.py` holds the model against the real cargo.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from pyo3_envshim.assessment import doubtful
from pyo3_envshim.sources import LINK, Source
from pyo3_envshim.stamp import Stamp

TICK = 4_000_000  # ns: what the kernel's file times count
SECOND = 1_000_000_000
PARTS = ("parts/p", "parts/q")
FILES = ("lib", "x", "y", "data", *PARTS)
ALL = (*FILES, "parts")
LOCAL = ("script", "tiny")
PROFILES = ("debug", "release")
Content = tuple[object, ...]
Step = tuple[Any, ...]

# What is removed of a target folder: which units, and whether the stamps. All by hand or by ``cargo clean``;
# the local ones by Swatinem/rust-cache; none but the stamps by whatever takes them for litter.
CLEANED = [("asking standin script tiny", False), ("asking standin script tiny", True)]
CLEANED += [("script tiny", False), ("script tiny", True), ("", True)]

AGES = [0, 0, TICK, SECOND, 100 * SECOND, 100 * SECOND, -100 * SECOND]  # the last: in the future
PASSES = [0, TICK, SECOND // 10, 3 * SECOND, 3 * SECOND, 1000 * SECOND, -50 * SECOND]


def steps(random: Random, count: int) -> Iterator[Step]:
    """Make up a history: names of what happens, with arguments."""
    names = "build guard cargo begin finish random stable "
    names += "write replace touch remove link check_out swap pass_time target"
    weights = [6, 2, 3, 2, 2, 1, 1, 3, 2, 1, 2, 3, 3, 1, 4, 2]
    for name in random.choices(names.split(), weights, k=random.randint(1, count)):
        tree = random.choice("aab")
        if name in ("build", "guard", "random", "stable"):
            yield name, tree, random.choice(["debug", "debug", "debug", "release"])
        elif name in ("write", "replace"):
            yield name, tree, random.choice(FILES), str(random.random()), random.choice(AGES)
        elif name == "check_out":
            yield name, tree, str(random.random()), random.choice(AGES)
        elif name == "touch":
            yield name, tree, random.choice(FILES)
        elif name == "remove":
            yield name, tree, random.random() < 0.5
        elif name == "link":
            yield name, tree, random.choice("xy")
        elif name == "swap":
            yield name, "a", "b"
        elif name == "pass_time":
            yield name, random.choice(PASSES)
        elif name in ("cargo", "begin"):
            yield name, random.randrange(3)
        elif name == "finish":
            yield name, random.choice(PROFILES), random.random() < 0.3
        else:
            more: list[Step] = [
                ("clean", *random.choice(CLEANED)),
                ("stamp_at", random.choice([1, 990])),
                ("save",),
                ("restore", random.random() < 0.5),
            ]
            yield random.choice(more)


def behind(files: dict[str, File]) -> str:
    """Return the name of the file that ``data`` is, or leads to."""
    content = str(files["data"].content)
    return content if content in ("x", "y") else "data"


def name_of(path: str) -> str:
    """Return the name of a source within its worktree."""
    return path.partition("/")[2].partition("//-> ")[0]


def includes_more(lib: object) -> bool:
    """Tell whether a library with this content includes ``y``."""
    return str(lib)[-1] in "02468"


class File:
    """A file, a link (whose content is where it leads) or a folder: contents are all of one size."""

    def __init__(self, content: object, inode: int, time: int) -> None:
        self.content = content
        self.inode = inode
        self.mtime = self.ctime = time


class Unit:
    """What cargo left of a unit's last build."""

    def __init__(self, python: str, time: int, inputs: list[str], content: Content) -> None:
        self.python = python
        self.time = time
        self.inputs = inputs
        self.noted: list[str] = []  # by cargo and by rustc, when it is complete
        self.content = content
        self.is_complete = False


class Model:
    """Worktrees that share one target folder.

    Not *scripted*: there is no build script, and the guard goes by what cargo noted, where that is enough.
    """

    linked = True  # False: nobody looks at the link, which no two worktrees have in common
    without = ""  # the part of the guard's rule that is left out, to see that it is needed

    def __init__(self, grain: int = TICK, target_grain: int = TICK, scripted: bool = True) -> None:
        self.scripted = scripted
        self.now = 1000 * SECOND
        self.grain = grain
        self.target_grain = target_grain
        self.units: dict[tuple[str, str], Unit] = {}
        self.stamps: dict[str, Stamp] = {}
        self.running: dict[str, dict[str, Unit]] = {}  # those of the cargo that has a profile's lock
        self.artefacts: dict[str, Content] = {}
        self.inodes = self.nonces = 0
        self.trees: dict[str, dict[str, File]] = {}
        for tree in "ab":
            self.check_out(tree, tree, 0)

    def time(self, grain: int) -> int:
        return self.now // grain * grain

    def new(self, content: object) -> File:
        self.inodes += 1
        return File(content, self.inodes, self.time(self.grain))

    # What happens to sources

    def pass_time(self, nanoseconds: int) -> None:
        """Or step the clock back."""
        self.now += nanoseconds

    def write(self, tree: str, name: str, content: str, age: int = 0) -> None:
        """Write a file in place, or anew if there is none or a link; set its mtime back as ``cp -p`` does."""
        if name == "data" and name in self.trees[tree] and behind(self.trees[tree]) != name:
            del self.trees[tree][name]
        if name not in self.trees[tree]:
            self.trees[tree][name] = self.new(content)
            self.touch_parts(tree, name)
        file = self.trees[tree][name]
        file.content = content
        file.mtime = (self.now - age) // self.grain * self.grain
        file.ctime = self.time(self.grain)

    def replace(self, tree: str, name: str, content: str, age: int = 0) -> None:
        """Write a file beside, set its time, and rename it into place, as ``rsync -t`` does."""
        self.trees[tree].pop(name, None)
        self.write(tree, name, content, age)
        self.touch_parts(tree, name)

    def touch(self, tree: str, name: str) -> None:
        if name in self.trees[tree]:
            self.trees[tree][name].mtime = self.trees[tree][name].ctime = self.time(self.grain)

    def remove(self, tree: str, keep_time: bool) -> None:
        """Remove a part; the folder's time may be set back afterwards."""
        if self.trees[tree].pop("parts/q", None):
            before = self.trees[tree]["parts"].mtime
            self.touch(tree, "parts")
            if keep_time:
                self.trees[tree]["parts"].mtime = before

    def touch_parts(self, tree: str, name: str) -> None:
        if name in PARTS:
            self.touch(tree, "parts")

    def link(self, tree: str, name: str) -> None:
        """Point the link elsewhere: a new link."""
        self.trees[tree]["data"] = self.new(name)

    def check_out(self, tree: str, mark: str, age: int) -> None:
        """Make a worktree anew: with the times of now, or as a source archive has them."""
        self.trees[tree] = {name: self.new(f"{mark} {name}") for name in ALL}
        if self.scripted:
            self.trees[tree]["data"].content = "x"
        for file in self.trees[tree].values():
            file.mtime = (self.now - age) // self.grain * self.grain

    def swap(self, one: str, other: str) -> None:
        """Let two worktrees change places, by renaming folders: no file's times change."""
        self.trees[one], self.trees[other] = self.trees[other], self.trees[one]

    # What happens to the target folder

    def clean(self, names: str, stamps: bool) -> None:
        """Remove some units, and the stamps."""
        self.units = {key: unit for key, unit in self.units.items() if key[1] not in names.split()}
        if stamps:
            self.stamps = {}

    def stamp_at(self, seconds: int) -> None:
        """Set the stamps' time."""
        for stamp in self.stamps.values():
            stamp.start = seconds * SECOND

    def saved(self) -> object:
        return copy.deepcopy((self.units, self.stamps))

    def restore(self, saved: object, new_times: bool) -> None:
        """Put a saved target folder in place of what is there, with its times or with new ones."""
        assert isinstance(saved, tuple)
        self.units, self.stamps = copy.deepcopy(saved)
        if new_times:
            for unit in self.units.values():
                unit.time = self.time(self.target_grain)
            self.stamp_at(self.now // SECOND)

    # Builds

    def truth(self, tree: str) -> Content:
        """Return what a compiler would read now."""
        files = self.trees[tree]
        data = [files[behind(files)].content]
        data += [files["y"].content] if includes_more(files["lib"].content) else []
        parts = tuple(name for name in PARTS if name in files and self.scripted)
        return files["lib"].content, "+".join(map(str, data)), parts

    def sources(self, tree: str) -> dict[str, Source]:
        """Do what `sources.Listing` does."""
        found = {}
        for name, file in self.trees[tree].items():
            if name == "data" and behind(self.trees[tree]) != "data":
                if not self.linked:
                    continue
                found[f"{tree}/{name}//-> {file.content}"] = Source(LINK, file.mtime, file.ctime)
            elif name != "parts":
                state = f"{file.inode}-{file.mtime}-{file.ctime}"
                found[f"{tree}/{name}"] = Source(state, file.mtime, file.ctime)
        return found

    def gone(self, tree: str, stamp: Stamp | None, sources: dict[str, Source]) -> dict[str, Source]:
        """Do what `gone_sources` does."""
        return {
            path: Source("gone", 0 if state == LINK else self.trees[tree]["parts"].mtime, 0)
            for path, state in (stamp.files if stamp else {}).items()
            if path.startswith(f"{tree}/") and path not in sources
        }

    def guard(self, tree: str, profile: str = "debug", locked: bool = False) -> str:
        """Do what `freshness.nonce_for` does, while a cargo has *locked* the profile; return PYO3_PYTHON."""
        sources = self.sources(tree)
        local = [(profile, name) for name in LOCAL if (profile, name) in self.units]
        end = max((self.units[key].time for key in local), default=None)
        stamp = self.stamps.get(profile)
        judged = {**self.gone(tree, stamp, sources), **sources}
        by_notes = not self.scripted and local != []
        if self.without != "notes":  # those of a unit that is being compiled are not yet written
            by_notes = by_notes and all(self.units[key].is_complete for key in local)
        if by_notes:
            read = {name for key in local for name in self.units[key].noted}
            if self.without == "links":  # cargo notes where one led, rustc its name
                read.discard("data")
            judged = {path: it for path, it in judged.items() if name_of(path) in read}
        doubted = doubtful(judged, stamp, end)
        if self.without == "doubt" or (self.without == "no stamp" and stamp is None):
            doubted = []
        is_other = stamp is not None and stamp.root != tree and self.without != "root"
        nonce = stamp.nonce if stamp else ""
        if is_other or (doubted != [] and locked and self.without != "lock"):
            self.nonces += 1
            nonce = f"{self.nonces:x}"
        elif doubted != []:
            self.invalidate([key for key in local if key[1] != self.without])
        everything = doubtful({**self.gone(tree, stamp, sources), **sources}, stamp, end) or []
        unread = set(everything) - judged.keys()
        files = {path: source.state for path, source in sources.items() if path not in unread}
        self.stamps[profile] = Stamp(tree, nonce, self.time(self.target_grain), files)
        return f"/entry-{nonce}"

    def invalidate(self, units: Iterable[tuple[str, str]]) -> None:
        """Do what `target_dir.invalidate` does."""
        for key in units:
            del self.units[key]

    def random(self) -> str:
        """Return the PYO3_PYTHON of an isolated build without the shim."""
        self.nonces += 1
        return f"/random/{self.nonces}"

    def cargo(self, tree: str, python: str, profile: str = "debug") -> set[str]:
        """Build; return the units that were compiled or run."""
        dirty = self.begin(tree, python, profile)
        self.finish(profile)
        return dirty

    def begin(self, tree: str, python: str, profile: str) -> set[str]:
        """Lock the profile, look at the sources, read those that are to be compiled; return the units."""
        files = self.trees[tree]
        plan = {
            "asking": [],
            "standin": [],
            "script": ["parts", *(name for name in PARTS if name in files)],
            "tiny": ["lib", behind(files), *(["y"] if includes_more(files["lib"].content) else [])],
        }
        if not self.scripted:
            del plan["script"]
        dirty: set[str] = set()
        self.running[profile] = {}
        for name, inputs in plan.items():
            unit = self.units.get((profile, name))
            needs = self.running[profile].values()  # each depends on all before it
            value = "" if name == "asking" else python
            if dirty or unit is None or unit.python != value or self.is_dirty(unit, files, needs):
                dirty.add(name)
                before = unit.noted if unit else []
                unit = Unit(value, self.time(self.target_grain), inputs, self.truth(tree))
                unit.noted = before
                self.units[profile, name] = unit
            self.running[profile][name] = unit
        return dirty

    def finish(self, profile: str) -> None:
        """Write down what was compiled."""
        units = self.running.pop(profile)
        for name, unit in units.items():
            if not unit.is_complete:
                self.units[profile, name] = unit
                unit.is_complete = True
                unit.noted = [*unit.inputs, *(["data"] if name == "tiny" else [])]
        lib, data, _ = units["tiny"].content
        self.artefacts[profile] = lib, data, units["script" if self.scripted else "tiny"].content[2]

    def kill(self, profile: str) -> None:
        """Let the cargo that has the lock end as it is."""
        self.running.pop(profile)

    def is_dirty(self, unit: Unit, files: dict[str, File], needs: Iterable[Unit]) -> bool:
        if not unit.is_complete or any(need.time > unit.time for need in needs):
            return True
        if "parts" in unit.inputs:  # a folder is as new as the newest in it
            return any(file.mtime > unit.time for name, file in files.items() if name.startswith("parts"))
        return any(name not in files or files[name].mtime > unit.time for name in unit.inputs)

    def built(self, profile: str = "debug") -> Content:
        """Return what is in the artefact."""
        return self.artefacts[profile]


class Build:
    """A build through the guard, and what its sources said since the guard looked."""

    def __init__(self, tree: str, profile: str, python: str, said: Content) -> None:
        self.tree = tree
        self.profile = profile
        self.python = python
        self.said = [said]


class History:
    """Plays steps on a model, and checks each artefact that is built through the guard."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.saved = self.model.saved()
        self.waiting: list[Build] = []
        self.running: dict[str, Build] = {}

    def play(self, steps: Iterable[Step]) -> None:
        for name, *arguments in steps:
            if name in ("clean", "save", "restore"):
                # Removing the folder of a running build is not ours to answer for.
                if not self.waiting and not self.running:
                    getattr(self, name)(*arguments)
            elif name in ("build", "guard", "cargo", "begin", "finish", "random", "stable"):
                getattr(self, name)(*arguments)
            elif not (self.waits_for(arguments) and self.sets_back(name, arguments)):
                getattr(self.model, name)(*arguments)
            for build in (*self.waiting, *self.running.values()):
                build.said.append(self.model.truth(build.tree))

    def waits_for(self, arguments: list[object]) -> bool:
        return any(build.tree in arguments for build in self.waiting)

    def sets_back(self, name: str, arguments: list[object]) -> bool:
        """Tell whether a step may leave older times, or a link, where cargo is about to look."""
        trees = [files for tree, files in self.model.trees.items() if tree in arguments]
        if any(file.mtime > self.model.now for files in trees for file in files.values()):
            return True
        return name in ("swap", "link") or (arguments[-1] not in (0, False) and name != "touch")

    def clean(self, names: str, stamps: bool) -> None:
        self.model.clean(names, stamps)

    def save(self) -> None:
        self.saved = self.model.saved()

    def restore(self, new_times: bool) -> None:
        self.model.restore(self.saved, new_times)

    def guard(self, tree: str, profile: str) -> None:
        """Start a build that waits for cargo's lock."""
        said = self.model.truth(tree)
        python = self.model.guard(tree, profile, profile in self.running)
        self.waiting.append(Build(tree, profile, python, said))
        self.model.pass_time(10 * TICK)  # starting cargo takes more

    def begin(self, which: int) -> None:
        """Let one that waits have the lock, if that is free."""
        free = [build for build in self.waiting if build.profile not in self.running]
        if free:
            build = free[which % len(free)]
            self.waiting.remove(build)
            self.running[build.profile] = build
            self.model.begin(build.tree, build.python, build.profile)

    def finish(self, profile: str, killed: bool = False) -> None:
        """Let the cargo that has the lock end."""
        build = self.running.pop(profile, None)
        if build and killed:
            self.model.kill(profile)
        elif build:
            self.model.finish(profile)
            self.model.pass_time(10 * TICK)
            assert self.model.built(profile) in [*build.said, self.model.truth(build.tree)]

    def cargo(self, which: int = 0) -> None:
        """Let one that waits have the lock, and end."""
        before = dict(self.running)
        self.begin(which)
        for profile in self.running.keys() - before.keys():
            self.finish(profile)

    def build(self, tree: str, profile: str) -> None:
        self.finish(profile)
        self.guard(tree, profile)
        self.cargo([build.profile not in self.running for build in self.waiting].count(True) - 1)

    def random(self, tree: str, profile: str) -> None:
        """Build without the shim: never stale."""
        self.finish(profile)
        self.model.cargo(tree, self.model.random(), profile)
        assert self.model.built(profile) == self.model.truth(tree)

    def stable(self, tree: str, profile: str) -> None:
        """Build outside of isolation: stale if cargo is misled, in both worlds."""
        self.finish(profile)
        self.model.cargo(tree, "/home/me/.venv/bin/python", profile)
