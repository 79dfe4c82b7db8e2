"""Stores an environment in one child process after another, and injects a fault at another step in each.

    python fault_injection.py WHAT ERRORS FOLDER ENVIRONMENT ENVIRONMENT

A step is what the interpreter announces to an audit hook (PEP 578), before it is done:
making, renaming, linking, removing, listing, locking, opening something of the store. A child
process for each step fails there. Standard output gets the number of steps, by kind.
WHAT is one of `ARRANGED`. ERRORS are names with commas between them, which the steps meet
in turn; with none, the child is killed there. FOLDER is to be filled. The second
ENVIRONMENT has been stored before.
"""

from __future__ import annotations

import collections
import errno
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from pyo3_envshim import wrapper
from pyo3_envshim.call import CargoCall
from pyo3_envshim.environment import digest
from pyo3_envshim.store import prune
from pyo3_envshim.store.entry import ABSENT, MANIFEST, USES
from pyo3_envshim.store.store import Store
from unit.entries import add_nonce, damage, is_whole, put, use

KINDS: tuple[str, ...] = (
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.truncate",
)
KINDS += ("os.scandir", "os.listdir", "shutil.rmtree", "fcntl.flock", "fcntl.lockf")
KINDS += ("fcntl.fcntl", "open")
NONCE = "0a1b2c3d"


def main(what: str, errors: str, folder: str, *roots: str) -> None:
    """Take all steps; raise AssertionError at the first that leaves the store in a bad state."""
    for module in ("fcntl", "shutil", "time", "json", "pyo3_envshim.freshness"):
        importlib.import_module(module)  # not in a child, where it would be a step
    print(json.dumps(collections.Counter(taken(Scene(Path(folder), *roots), what, errors.split(",")))))


def taken(scene: Scene, what: str, errors: list[str]) -> Iterator[str]:
    """Yield the kind of each step, after it was hindered and all was found well."""
    for number in range(1, 10_000):
        code = errors[number % len(errors)]
        scene.empty()
        ARRANGED[what](scene)
        kind = scene.hindered(number, code)
        try:
            scene.check(bool(code) or not kind)
            assert kind or scene.got["PYO3_PYTHON"] != scene.environ["PYO3_PYTHON"]
        except BaseException as error:
            raise AssertionError(f"step {number}, {kind} {code}: {scene.said!r}") from error
        if not kind:
            return
        yield kind
    raise AssertionError("it has no end")


class Scene:
    """A store, an environment to be stored, and another that is stored already."""

    def __init__(self, folder: Path, root: str, other: str) -> None:
        self.folder = folder
        self.root = folder / "store"
        self.fake = folder / "cargo"
        answer = {
            "workspace_root": f"{folder}/project",
            "target_directory": f"{folder}/target",
            "packages": [],
        }
        self.fake.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        self.fake.chmod(0o755)
        (folder / "project").mkdir()
        self.environment, self.other = (digest.read(path, {}, hashed) for path in (root, other))
        self.environ = {
            "PYO3_PYTHON": f"{root}/bin/python",
            "PYO3_ENVSHIM_CACHE_DIR": str(self.root),
            "PYO3_ENVSHIM_CACHE_SIZE": "none",
            "PYO3_ENVSHIM_VERBOSE": "1",
            "TMPDIR": str(Path(root).parent),
            "_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin",
        }
        self.said = ""
        self.got: dict[str, str] = {}
        self.keeps_other = True
        self.allowed: set[str | None] = set()

    @property
    def store(self) -> Store:
        return Store(str(self.root))

    @property
    def entry(self) -> Path:
        return Path(self.store.path(self.environment.digest))

    def empty(self) -> None:
        """Start anew: with a store that holds the other environment."""
        for path in (self.root, self.folder / "target"):
            shutil.rmtree(path, ignore_errors=True)
        self.environ["PYO3_ENVSHIM_CACHE_SIZE"] = "none"
        self.keeps_other = True
        self.allowed = {None, str(ABSENT)}
        put(self.store, self.other)

    def hindered(self, number: int, code: str) -> str:
        """Serve a call in a child, which meets *code*, or dies, at a step; return the step's kind, if any."""
        log, kind = self.folder / "said", self.folder / "kind"
        kind.write_text("")
        child = os.fork()
        if not child:
            with open(log, "w") as said, open(kind, "w") as file:
                sys.stderr = said
                sys.addaudithook(Hindrance(str(self.root), number, code, file))
                plan = wrapper.make_plan(CargoCall(str(self.fake), ["build"], self.environ, verbose=True))
                said.flush()
                (self.folder / "got").write_text(json.dumps(plan.environ))
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        self.said = log.read_text()
        if status == 0:
            self.got = json.loads((self.folder / "got").read_text())
        found = kind.read_text()
        assert status == (signal.SIGKILL if found and not code else 0), status
        return found

    def check(self, ended: bool) -> None:
        """Check that no reader sees what is not whole, that the next one is served, and all is clean then."""
        store = self.store
        assert damage(store, self.environment) in self.allowed
        if self.keeps_other:
            assert is_whole(store, self.other)
        if ended:
            self._check_the_call()
        names = prune.verify(store)
        assert all(found in self.allowed for found in names.values()), names
        assert set(names) <= {self.environment.digest, self.other.digest}

        use(store, self.environment)
        add_nonce(store, self.environment.digest, NONCE)
        assert is_whole(store, self.environment)
        prune.prune(store, None, now=os.stat(self.root).st_mtime + 2 * prune.DAY)
        left = set(os.listdir(store.environments))
        entries = {self.environment.digest, f"{self.environment.digest}-{NONCE}"}
        assert entries <= left <= {*entries, self.other.digest, f"{self.other.digest}-{NONCE}"}, left
        assert (f"{self.other.digest}-{NONCE}" in left) <= (self.other.digest in left)
        for name in left:
            files = {file for file in os.listdir(os.path.join(store.environments, name)) if file[0] == "."}
            assert files <= {MANIFEST, USES}, files

    def _check_the_call(self) -> None:
        """It was served, or it is as it came and there is a line that says why."""
        lines = self.said.splitlines()
        if self.got["PYO3_PYTHON"] == self.environ["PYO3_PYTHON"]:
            assert self.got == self.environ
            assert len([line for line in lines if "warning: not used for this build" in line]) == 1, lines
        else:
            assert self.got["PYO3_PYTHON"] == f"{self.entry}/bin/python"
        assert len([line for line in lines if "warning" in line]) <= 1, lines
        assert all(line.startswith("pyo3-envshim: ") for line in lines), lines


class Hindrance:
    """An audit hook that ends the process at a step, or raises an OSError."""

    def __init__(self, root: str, number: int, code: str, kind: Any) -> None:
        self.root = root
        self.left = number
        self.code = code
        self.kind = kind

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in KINDS or not self._is_of_the_store(event, arguments):
            return
        self.left -= 1
        if self.left:
            return
        self.kind.write(event)
        self.kind.flush()
        if not self.code:
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.code)
        raise OSError(number, os.strerror(number))

    def _is_of_the_store(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event.startswith("fcntl."):
            return True
        names = arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]
        # an open folder, and names relative to it: shutil.rmtree's
        numbers = isinstance(names[0], int) and event in ("os.scandir", "os.listdir")
        relative = isinstance(names[0], str) and not os.path.isabs(names[0])
        return numbers or relative or any(isinstance(n, str) and n.startswith(self.root) for n in names)


def nothing(_: Scene) -> None:
    """Only the other environment is stored."""


def a_damaged_entry(scene: Scene) -> None:
    put(scene.store, scene.environment)
    scene.allowed.add("missing file pyvenv.cfg")
    (scene.entry / "pyvenv.cfg").unlink()


def an_entry_to_be_pruned(scene: Scene) -> None:
    add_nonce(scene.store, scene.other.digest, NONCE)
    scene.environ["PYO3_ENVSHIM_CACHE_SIZE"] = "0"
    scene.keeps_other = False


def leftovers(scene: Scene) -> None:
    environments = scene.root / "environments"
    for name in (".new-1-ab", ".old-1-ab"):
        (environments / name / "entry").mkdir(parents=True)
        (environments / name / "entry" / "file").touch()
    (environments / ("0" * 32 + "-" + NONCE)).symlink_to("0" * 32)


def whole(scene: Scene) -> None:
    put(scene.store, scene.environment)
    scene.allowed.remove(str(ABSENT))


def touched(scene: Scene) -> None:
    """It is read again, and the manifest written anew."""
    whole(scene)
    os.utime(scene.entry / "pyvenv.cfg")


ARRANGED: dict[str, Callable[[Scene], object]] = {
    "a new entry": nothing,
    "a damaged entry": a_damaged_entry,
    "an entry to be pruned": an_entry_to_be_pruned,
    "leftovers": leftovers,
    "an entry that is there": whole,
    "an entry that was touched": touched,
}


def hashed(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
