"""The digest and the store against the size of the environment, and with several builders at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.building import Failure
from support import CHECKOUT

from .common import Found, Setting, Target, median, run, site_packages, the_same

TITLE = "Store: digest and put against the size of the environment"
ABOUT = """
Wall time, in a process that has imported what it needs, of reading an environment (digest), of storing it
anew with hard links and with copies, and of looking at the entry when it is there. Files have 4 KB of
random bytes each. A copy is what it comes to where the environment lies on another file system. *at once*:
so many processes store the same environment, or all find it there; the time is from the first one's
start to the last one's end. Each entry is seen to be whole, to have all files, and to be made of links or
of copies.
"""
NEEDS: tuple[str, ...] = ()

_FILES = (10, 100, 1000, 3000, 10_000)
_DISTRIBUTIONS = (1, 10, 50, 200)
_BUILDERS = (1, 2, 4, 8, 16)
_OF_ALL = (2000, 10)  # the files and distributions of a size that is not varied
_SHARED_MEMORY = Path("/dev/shm")

# A builder: gets ready, waits for a line, does it, tells how long it took and what there is.
_BUILDER = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from pyo3_envshim.environment import digest
from pyo3_envshim.store import entry, store
root, folder, warm_root, warm_folder = sys.argv[2:]
def build(root, place):
    start = time.perf_counter()
    found = digest.read(root, {}, place.hash_file)
    read = time.perf_counter()
    acquired = place.acquire(found)
    spent = dict(start=start, read=read - start, use=time.perf_counter() - read)
    return found, dict(spent, known=not acquired.is_new, damage=acquired.damage)
build(warm_root, store.Store(warm_folder))
place = store.Store(folder)
print("ready", flush=True)
sys.stdin.readline()
found, told = build(root, place)
told["end"] = time.perf_counter()
told["whole"] = entry.damage_of(place.path(found.digest), found) is None
told["digest"] = found.digest
path = place.path(found.digest)
told["files"] = sum(item.source is not None for item in found.items)
told["links"] = sum(
    item.source is not None and os.path.samefile(item.source, os.path.join(path, item.path))
    for item in found.items
)
print(json.dumps(told))
"""


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    return 1 + _rounds(setting) * (len(_sizes(setting.quick)) + 2 * len(_builders(setting.quick)))


def _rounds(setting: Setting) -> int:
    return setting.rounds or (1 if setting.quick else 7)


def _sizes(quick: bool) -> list[tuple[int, int]]:
    """Return the sizes that are measured: files and distributions."""
    files, distributions = (_FILES[:3], _DISTRIBUTIONS[:2]) if quick else (_FILES, _DISTRIBUTIONS)
    found = [(number, min(number, _OF_ALL[1])) for number in files]
    return [*found, *((100 if quick else _OF_ALL[0], number) for number in distributions)]


def _builders(quick: bool) -> Sequence[int]:
    return _BUILDERS[:2] if quick else _BUILDERS


class Yard:
    """Environments of several sizes, and stores."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._empty = folder / "empty"
        run([python, "-m", "venv", "--without-pip", self._empty], folder)

    def environment(self, files: int, distributions: int, folder: Path) -> Path:
        """Return an environment of this size below *folder*: made, if it is not there."""
        root = folder / f"files-{files}-{distributions}"
        if root.exists():
            return root
        shutil.copytree(self._empty, root, symlinks=True)
        content = random.Random(files)
        for number in range(distributions):
            site = site_packages(root)
            info = site / f"package_{number}-1.dist-info"
            info.mkdir()
            (site / f"package_{number}").mkdir()
            lines = [f"{info.name}/RECORD,,"]
            for at in range(number, files, distributions):
                name = f"package_{number}/file_{at}.py"
                (site / name).write_bytes(content.getrandbits(8 * 4096).to_bytes(4096, "big"))
                lines.append(f"{name},sha256=x,4096")
            (info / "RECORD").write_text("\n".join(lines) + "\n")
        return root

    def build(self, root: Path, count: int = 1, anew: bool = True) -> list[dict[str, Any]]:
        """Let *count* builders use an environment at once; return what they tell.

        *anew*: it is not in the store. Raises `Failure` if the entry is not whole.
        """
        if anew:
            # Not what is remembered of the interpreter, which all environments share.
            shutil.rmtree(self.store / "environments", ignore_errors=True)
        words = [CHECKOUT, root, self.store, self._empty, self.folder / "warm"]
        command = [sys.executable, "-B", "-I", "-c", _BUILDER, *map(str, words)]
        builders = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        told = []
        try:
            for builder in builders:
                assert builder.stdout is not None
                if builder.stdout.readline() != "ready\n":
                    raise Failure("a builder did not get ready; what it said stands above")
            for builder in builders:
                assert builder.stdin is not None
                builder.stdin.write("go\n")
                builder.stdin.flush()
            for builder in builders:
                output, _ = builder.communicate()
                if builder.returncode:
                    raise Failure("a builder failed; what it said stands above")
                told.append(json.loads(output))
        finally:
            for builder in builders:
                builder.kill()
                builder.wait()
        self._check(told, anew)
        return told

    def _check(self, told: list[dict[str, Any]], anew: bool) -> None:
        entries = [name for name in os.listdir(self.store / "environments") if not name.startswith(".")]
        if entries != [told[0]["digest"]]:
            raise Failure(f"there should be one entry, {told[0]['digest']}: {entries}")
        the_same("the entry", {f"builder {n}": (it["digest"], it["files"]) for n, it in enumerate(told)})
        for it in told:
            if it["damage"] or not it["whole"] or (it["known"] and anew and len(told) == 1):
                raise Failure("an entry is not whole, or was there before", str(it))
            if not anew and not it["known"]:
                raise Failure("an entry that was there was not found", str(it))


def measure(setting: Setting) -> Found:
    """Measure each size, then several builders."""
    setting.progress.step("making environments")
    yard = Yard(setting.folder, setting.pythons[0])
    yard.build(yard.environment(1, 1, setting.folder))  # from now on, it knows the interpreter
    notes = []
    device = os.stat(setting.folder).st_dev
    elsewhere = tempfile.TemporaryDirectory(dir=_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None
    if elsewhere is None or os.stat(elsewhere.name).st_dev == device:
        notes.append(f"No copies: {_SHARED_MEMORY} is not another file system than the temporary folder.")
    sizes = _sizes(setting.quick)
    times: dict[tuple[int, int], dict[str, list[float]]] = {size: {} for size in sizes}
    try:
        for _ in range(_rounds(setting)):
            for files, distributions in sizes:
                setting.progress.step(f"{files:,} files, {distributions} distributions")
                found = times[files, distributions]
                root = yard.environment(files, distributions, setting.folder)
                _note(found, _linked(yard.build(root), files), "digest", "put, links")
                _note(found, yard.build(root, anew=False), "", "present")
                if elsewhere is not None and not notes:
                    copied = yard.environment(files, distributions, Path(elsewhere.name))
                    _note(found, _linked(yard.build(copied), 0), "", "put, copies")
                    shutil.rmtree(copied)
        together = _together(setting, yard)
    finally:
        if elsewhere is not None:
            elsewhere.cleanup()
    return _found(setting.quick, times, together, notes)


def _linked(told: list[dict[str, Any]], expected: int) -> list[dict[str, Any]]:
    """Return what was told, if that many of the files were linked, and not copied."""
    if told[0]["links"] != expected:
        raise Failure(f"{told[0]['links']} files were linked, not {expected}: different work is compared")
    return told


def _note(found: dict[str, list[float]], told: list[dict[str, Any]], read: str, use: str) -> None:
    for name, key in ((read, "read"), (use, "use")):
        if name:
            found.setdefault(name, []).append(told[0][key] * 1000)


def _together(setting: Setting, yard: Yard) -> dict[int, dict[str, list[float]]]:
    """Return the times of several builders at once, by their number."""
    size = (100, 10) if setting.quick else _OF_ALL
    root = yard.environment(*size, setting.folder)
    times: dict[int, dict[str, list[float]]] = {count: {} for count in _builders(setting.quick)}
    for _ in range(_rounds(setting)):
        for count, found in times.items():
            for anew in (True, False):
                setting.progress.step(f"{count} at once, {'storing' if anew else 'present'}")
                told = yard.build(root, count, anew)
                took = max(it["end"] for it in told) - min(it["start"] for it in told)
                found.setdefault("stored" if anew else "present", []).append(took * 1000)
    return times


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of the straight line through points (least squares), and its R²."""
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points))
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    return xy / xx, xy * xy / (xx * yy) if yy else 1.0


def _found(
    quick: bool,
    times: dict[tuple[int, int], dict[str, list[float]]],
    together: dict[int, dict[str, list[float]]],
    notes: list[str],
) -> Found:
    kinds = ("digest", "put, links", "put, copies", "present")
    rows: list[dict[str, Any]] = []
    for (files, distributions), found in times.items():
        row: dict[str, Any] = {"at once": 1, "files": files, "distributions": distributions}
        milliseconds = {kind: median(found[kind]) if kind in found else None for kind in kinds}
        rows.append({**row, **{f"{kind}, ms": it for kind, it in milliseconds.items()}})
    number = len(_FILES[:3] if quick else _FILES)
    series: dict[str, list[tuple[float, float]]] = {}
    targets = []
    for kind in kinds:
        points = [(row["files"], row[f"{kind}, ms"]) for row in rows[:number]]
        if None not in dict(points).values():
            series[kind] = points
            per_file, explained = slope(points)
            notes.append(f"{kind}: {per_file * 1000:.1f} µs a file (R² {explained:.4f})")
            targets.append(
                Target(f"{kind} is linear: what a straight line leaves unexplained", 1 - explained, 0.02)
            )
    for count, found in together.items():
        stored, present = median(found["stored"]), median(found["present"])
        notes.append(
            f"{count} at once: {stored} ms to store, {present} ms where it is present (digest and entry)"
        )
    chart = {"kind": "lines", "x": "files", "y": "milliseconds", "series": series}
    return Found(rows, targets, chart, _versions(), notes)


def _versions() -> dict[str, str]:
    return {"CPython": ".".join(map(str, sys.version_info[:3]))}
