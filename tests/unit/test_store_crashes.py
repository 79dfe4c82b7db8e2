"""The store when processes are killed, disks are full, and many write at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim.store import prune
from pyo3_envshim.store.store import Store

from . import fault_injection
from .entries import is_whole, put
from .environments import ROOT, Shared, run, started_together
from .sample_wheels import SampleWheels, read
from .test_wrapper import Bench, fine, warned

ERRORS = "ENOSPC,EACCES,EROFS,EIO,EMLINK,EXDEV,ELOOP,ENAMETOOLONG"


@pytest.fixture
def sample(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> SampleWheels:
    return SampleWheels(shared, a_python, environ, tmp_path / "tmp")


@pytest.fixture
def roots(sample: SampleWheels) -> list[Path]:
    """Return two ephemeral environments."""
    found = [sample.environment(f"build-env-{wheel:0<8}", wheel) for wheel in ("plain", "other")]
    for root in found:
        root.chmod(0o700)
    return found


@pytest.mark.parametrize("what", fault_injection.ARRANGED)
@pytest.mark.parametrize("errors", ["", ERRORS], ids=["killed", "hindered"])
def test_wherever_a_call_is_stopped_the_store_stays_whole(
    errors: str, what: str, roots: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    counts = json.loads(run([sys.executable, fault_injection.__file__, what, errors, folder, *roots], {}))
    assert counts["fcntl.flock"]
    assert counts["open"]


_MANY = """\
import os, random, sys
sys.path[:0] = {paths!r}
from pyo3_envshim.environment import digest
from pyo3_envshim.store import prune
from pyo3_envshim.store.store import Store
from unit import fault_injection
from unit.entries import damage
root, number, *roots = sys.argv[1:]
dice = random.Random(int(number))
store = Store(root)
found = [digest.read(one, {{}}, store.hash_file) for one in roots]
for module in ("fcntl", "shutil", "time"):
    __import__(module)
print("ready", flush=True)
sys.stdin.readline()
if int(number) % 2:
    sys.addaudithook(fault_injection.Hindrance(root, dice.randrange(1, 120), "", open(os.devnull, "w")))
for _ in range(6):
    mine, other = dice.sample(found, 2)
    acquired = store.acquire(mine)
    assert acquired.damage is None
    acquired.add_nonce("0a1b2c3d")
    prune.prune(store, 0)
    read = store.acquire(other)
    assert read.damage is None
    read.release()
    assert damage(store, mine) is None, damage(store, mine)
    assert os.path.exists(acquired.path("0a1b2c3d") + "/bin/python")
    acquired.release()
print("done")
"""


def test_of_32_that_store_and_prune_at_once_those_that_are_not_killed_succeed(
    sample: SampleWheels, roots: list[Path], tmp_path: Path
) -> None:
    """A reader sees all or nothing; what one holds, none of the others takes away."""
    store = Store(str(tmp_path / "store"))
    roots.append(sample.environment("third", "tiny"))
    code = _MANY.format(paths=[str(ROOT), str(ROOT / "tests")])
    many = started_together(
        [[sys.executable, "-c", code, store.root, str(number), *map(str, roots)] for number in range(32)]
    )
    ends = [one.communicate() for one in many]
    assert ends[::2] == [("done\n", "")] * 16
    assert {one.returncode for one in many[1::2]} <= {0, -9}
    assert -9 in {one.returncode for one in many}

    assert set(prune.verify(store).values()) <= {None}
    for root in roots:
        put(store, read(root))
        assert is_whole(store, read(root))
    prune.prune(store, None)
    assert sorted(entry.digest for entry in prune.entries(store)) == sorted(read(r).digest for r in roots)
    left = [name for name in os.listdir(store.environments) if name.startswith(".")]
    assert left == []


def _can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, capture_output=True).returncode


@pytest.mark.skipif(not _can_mount(), reason="this user may not mount a file system")
class TestARealFileSystem:
    """One of its own for the store, which ends with the script that mounts it."""

    @pytest.fixture
    def bench(self, shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
        found = Bench(shared, a_python, environ, tmp_path)
        found.store.mkdir(mode=0o700)
        found.environ["PWD"] = str(found.project)  # a shell sets it
        return found

    def run(self, bench: Bench, options: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script, in which ``build`` is a call that compiles."""
        check = (
            "from pyo3_envshim.store import prune; from pyo3_envshim.store.store import Store; import os;"
            " store = Store(os.environ['PYO3_ENVSHIM_CACHE_DIR']); found = prune.verify(store);"
            " assert set(found.values()) <= {None}, found; prune.prune(store, None);"
            " assert not [name for name in os.listdir(store.environments) if name.startswith('.')]"
        )
        text = (
            f"set -e; mount -t tmpfs -o mode=0700,{options} tmpfs '{bench.store}'\n"
            f"build() {{ '{bench.wrapper}' build; }}\n"
            f"valid() {{ PYTHONPATH='{ROOT}' '{sys.executable}' -c \"{check}\"; }}\n{script}\n"
        )
        return bench.run_program(Path(shutil.which("unshare") or ""), "-m", "sh", "-c", text)

    def test_that_is_full_is_one_line_and_the_next_call_is_served(self, bench: Bench) -> None:
        line = warned(
            self.run(
                bench, "size=64k", f"build; valid; mount -o remount,size=20m '{bench.store}'; build; valid"
            )
        )
        assert "No space left on device" in line
        assert "warning: not used for this build" in line
        first, second = bench.cargo.calls
        assert first.environ == bench.plain()
        assert second.environ["PYO3_PYTHON"].startswith(str(bench.store))

    def test_that_cannot_be_written_to_is_one_line(self, bench: Bench) -> None:
        line = warned(self.run(bench, "size=20m,ro", "build"))
        assert "Read-only file system" in line
        assert bench.changes() == {}

    def test_that_cannot_be_written_to_any_more_is_still_used(self, bench: Bench) -> None:
        fine(self.run(bench, "size=20m", f"build; mount -o remount,ro '{bench.store}'; build"))
        first, second = bench.cargo.calls
        assert first.environ == second.environ
        assert first.environ["PYO3_PYTHON"].startswith(str(bench.store))

    def test_of_its_own_has_the_environment_copied(self, bench: Bench) -> None:
        """Two file systems have no hard links between them."""
        file = f"'{bench.store}'/environments/*/share/tiny/shared.txt"
        done = self.run(bench, "size=20m", f"build; valid; stat -c %h {file}")
        assert (done.stdout, done.stderr) == ("1\n", "")
        assert bench.cargo.call.environ["PYO3_PYTHON"].startswith(str(bench.store))
