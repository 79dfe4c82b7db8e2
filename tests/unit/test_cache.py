"""`pyo3-envshim cache`: what it says of a store with real entries, and what it takes away."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.cli import cache
from pyo3_envshim.store import entry as entry_files
from pyo3_envshim.store import lock, prune
from pyo3_envshim.store.store import Store

from .environments import FakeCargo, Shared, program_in, site_packages
from .posix import posix_only
from .sample_wheels import SampleWheels, read
from .test_main import Cli


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the installed program, with a store of the test's own that is not there yet."""
    return Cli(shared.environment(a_python), {**environ, "PYO3_ENVSHIM_CACHE_DIR": str(home / "store")}, home)


def fill(cli: Cli, sample: SampleWheels, **ages: float) -> dict[str, Path]:
    """Store an environment with each of these wheels, last used so many days ago; return the entries."""
    store = Store(cli.environ["PYO3_ENVSHIM_CACHE_DIR"])
    found = {}
    for name, days in ages.items():
        acquired = store.acquire(read(sample.environment(name, name)))
        acquired.release()
        found[name] = entry = Path(acquired.path())
        moment = time.time() - days * prune.DAY
        for file in (entry_files.MANIFEST, entry_files.USES):
            os.utime(entry / file, (moment, moment))
    return found


def as_json(cli: Cli, *arguments: str) -> dict[str, Any]:
    """Run it; return what it says as JSON."""
    found: dict[str, Any] = json.loads(cli.said("cache", *arguments, "--json"))
    return found


class TestDir:
    def test_prints_the_path_and_makes_nothing(self, cli: Cli, home: Path) -> None:
        assert cli.said("cache", "dir") == f"{home / 'store'}\n"
        assert not (home / "store").exists()

    def test_tells_the_same_as_json(self, cli: Cli, home: Path) -> None:
        assert as_json(cli, "dir") == {"folder": str(home / "store")}

    def test_follows_the_users_cache_folder(self, cli: Cli, home: Path) -> None:
        said = cli.said("cache", "dir", PYO3_ENVSHIM_CACHE_DIR="", XDG_CACHE_HOME=str(home / "xdg"))
        assert said == f"{home / 'xdg' / 'pyo3-envshim'}\n"


class TestList:
    def test_of_an_empty_store_says_so(self, cli: Cli, home: Path) -> None:
        assert cli.said("cache", "list") == f"no entries in {home / 'store'}\n"
        nothing = {"folder": str(home / "store"), "size": 0, "entries": [], "builds": [], "sets": []}
        assert as_json(cli, "list") == nothing

    def test_has_a_line_for_each_the_last_used_first(
        self, cli: Cli, sample: SampleWheels, a_python: str
    ) -> None:
        entries = fill(cli, sample, tiny=3, other=1)
        head, first, second, summary = cli.said("cache", "list").splitlines()
        assert re.split(r"  +", head) == list(cache._COLUMNS)
        for line, name, used in ((first, "other", "1 day ago"), (second, "tiny", "3 days ago")):
            cells = re.split(r"  +", line)
            assert cells[0] == entries[name].name[:12]
            assert cells[2:4] == ["1", used]
            assert os.path.realpath(cells[5]) == a_python
            assert cells[6] == f"{name} 1"
        assert summary.startswith("2 entries, ")
        assert summary.endswith(f" in {cli.environ['PYO3_ENVSHIM_CACHE_DIR']}")

    def test_tells_the_same_as_json(self, cli: Cli, sample: SampleWheels) -> None:
        entry = fill(cli, sample, tiny=2)["tiny"]
        found = as_json(cli, "list")
        (one,) = found["entries"]
        assert (one["digest"], one["path"]) == (entry.name, str(entry))
        assert (one["uses"], one["distributions"]) == (1, ["tiny 1"])
        files = (path for path in entry.rglob("*") if not path.name.startswith(entry_files.MANIFEST))
        assert (
            one["size"]
            == found["size"]
            == sum(
                {
                    it.lstat().st_ino: it.lstat().st_size for it in files if it.is_symlink() or it.is_file()
                }.values()
            )
        )

    def test_counts_shared_files_once(self, cli: Cli, sample: SampleWheels) -> None:
        store = Store(cli.environ["PYO3_ENVSHIM_CACHE_DIR"])
        root = sample.environment("one", "tiny")
        for path in ("", "/somewhere"):  # two digests of the same files
            store.acquire(read(root, PYTHONPATH=path)).release()
        found = as_json(cli, "list")
        assert len(found["entries"]) == 2
        assert found["size"] < sum(one["size"] for one in found["entries"])


class TestPrune:
    def test_removes_what_was_not_used_for_long(self, cli: Cli, sample: SampleWheels) -> None:
        entries = fill(cli, sample, tiny=31, other=29)
        said = cli.said("cache", "prune")
        assert re.fullmatch(r"removed 1 entry, freed \S+ (B|KiB); 1 entry left, \S+ (B|KiB)\n", said)
        assert {name: path.exists() for name, path in entries.items()} == {"tiny": False, "other": True}

    def test_removes_what_was_not_used_for_the_days_asked_for(self, cli: Cli, sample: SampleWheels) -> None:
        entries = fill(cli, sample, tiny=3, other=1)
        found = as_json(cli, "prune", "--days", "2")
        assert found["removed"] == [entries["tiny"].name]
        assert found["left"] == 1

    @pytest.mark.parametrize("way", ["option", "variable"])
    def test_removes_the_least_recently_used_beyond_a_size(
        self, cli: Cli, sample: SampleWheels, way: str
    ) -> None:
        entries = fill(cli, sample, tiny=3, other=1)
        before = as_json(cli, "list")
        (newest,) = (one["size"] for one in before["entries"] if one["distributions"] == ["other 1"])
        if way == "option":
            cli.said("cache", "prune", "--size", str(newest))
        else:
            cli.said("cache", "prune", PYO3_ENVSHIM_CACHE_SIZE=str(newest))
        assert {name: path.exists() for name, path in entries.items()} == {"tiny": False, "other": True}

    def test_says_what_it_freed(self, cli: Cli, sample: SampleWheels) -> None:
        fill(cli, sample, tiny=3, other=1)
        before = as_json(cli, "list")["size"]
        change = as_json(cli, "prune", "--days", "2")
        assert change["freed"] == before - as_json(cli, "list")["size"] > 0

    def test_says_that_there_was_nothing(self, cli: Cli, sample: SampleWheels) -> None:
        fill(cli, sample, tiny=0)
        assert cli.said("cache", "prune").startswith("nothing to remove: 1 entry left, ")

    def test_refuses_what_is_no_size(self, cli: Cli) -> None:
        error, hint = cli.refused("cache", "prune", "--size", "much")
        assert error.startswith("--size: 'much' is not a size")
        assert "500M" in hint
        assert error.partition("size")[2] not in ("", hint)  # they do not say the same
        assert cli.refused("cache", "prune", "--size", "")[0] == "--size: '' is not a size"
        assert "PYO3_ENVSHIM_CACHE_SIZE: " in cli.refused("cache", "prune", PYO3_ENVSHIM_CACHE_SIZE="-1")[0]

    @pytest.mark.parametrize("days", ["-1", "-0.1", "nan", "inf", "1e400", "", "x"])
    def test_refuses_what_is_no_number_of_days(self, cli: Cli, sample: SampleWheels, days: str) -> None:
        fill(cli, sample, tiny=99)
        error, hint = cli.refused("cache", "prune", f"--days={days}")
        assert (error, hint) == (f"--days: {days!r} is not a number of days", "for example 30, 0.5, or 0")
        assert len(as_json(cli, "list")["entries"]) == 1


class TestClear:
    def test_removes_all_when_told_so(self, cli: Cli, sample: SampleWheels) -> None:
        fill(cli, sample, tiny=0, other=0)
        assert cli.said("cache", "clear", "--yes").startswith("removed 2 entries, freed ")
        assert cli.said("cache", "list").startswith("no entries")

    def test_leaves_no_folder_of_ours(self, cli: Cli, sample: SampleWheels, home: Path) -> None:
        """Nor the one for `PATH`, but where a shell would still look for cargo there."""
        fill(cli, sample, tiny=0)
        cli.said("env", "--path")
        (folder,) = home.glob("store/pyo3-envshim-path-*")
        cli.said("cache", "clear", "--yes", PATH=f"{folder}:{cli.environ['PATH']}")
        assert list((home / "store").iterdir()) == [folder]
        (home / "store" / "builds").mkdir()
        cli.said("cache", "clear", "--yes")
        assert list((home / "store").iterdir()) == []  # it was chosen

    def test_leaves_no_cache_folder_that_was_not_chosen(self, cli: Cli, home: Path) -> None:
        (home / "xdg" / "pyo3-envshim" / "builds").mkdir(0o700, parents=True)
        cli.said("cache", "clear", "--yes", PYO3_ENVSHIM_CACHE_DIR="", XDG_CACHE_HOME=str(home / "xdg"))
        assert list((home / "xdg").iterdir()) == []

    def test_tells_of_the_switch_that_stays(self, cli: Cli) -> None:
        path = cli.said("off").strip().rpartition(": ")[2]
        done = cli.run("cache", "clear", "--yes")
        assert done.returncode == 0
        assert done.stderr == f"hint: {path} still switches it off; pyo3-envshim on removes it\n"
        cli.said("on")
        assert cli.run("cache", "clear", "--yes").stderr == ""

    def test_removes_nothing_when_nobody_can_be_asked(self, cli: Cli, sample: SampleWheels) -> None:
        fill(cli, sample, tiny=0)
        command = [str(program_in(cli.root, "pyo3-envshim")), "cache", "clear"]
        done = subprocess.run(
            command, env=cli.environ, cwd=cli.cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(
            "error: refusing to clear without confirmation: stdin is not a terminal\nhint: pass `--yes`\n"
        )
        assert len(as_json(cli, "list")["entries"]) == 1

    @posix_only("pseudo-terminals")
    @pytest.mark.parametrize(("answer", "left"), [("y", 0), ("YES", 0), ("", 1), ("n", 1), ("what", 1)])
    def test_asks_on_a_terminal(self, cli: Cli, sample: SampleWheels, answer: str, left: int) -> None:
        fill(cli, sample, tiny=0)
        ours, its = os.openpty()
        os.write(ours, answer.encode() + b"\n")
        command = [str(program_in(cli.root, "pyo3-envshim")), "cache", "clear"]
        done = subprocess.run(
            command, env=cli.environ, cwd=cli.cwd, stdin=its, capture_output=True, text=True
        )
        for descriptor in (ours, its):
            os.close(descriptor)
        assert done.stderr.startswith("Remove 1 entry, ")
        assert done.returncode == (1 if left else 0)
        assert len(as_json(cli, "list")["entries"]) == left

    def test_leaves_what_a_build_uses(self, cli: Cli, sample: SampleWheels) -> None:
        entries = fill(cli, sample, tiny=0, other=0)
        held = lock.share(str(entries["tiny"]))
        try:
            done = cli.run("cache", "clear", "--yes")
        finally:
            lock.close(held)
        assert done.returncode == 0
        assert done.stderr == "hint: left, because running builds use them: 1 entry\n"
        assert {name: path.exists() for name, path in entries.items()} == {"tiny": True, "other": False}


class TestVerify:
    def test_says_that_all_is_whole(self, cli: Cli, sample: SampleWheels, home: Path) -> None:
        fill(cli, sample, tiny=0, other=0)
        assert cli.said("cache", "verify") == f"2 entries in {home / 'store'}, all whole\n"

    def test_names_what_has_changed_and_the_way_out(self, cli: Cli, sample: SampleWheels) -> None:
        entry = fill(cli, sample, tiny=0, other=0)["tiny"]
        changed = site_packages(entry) / "tiny" / "data.txt"
        changed.unlink()  # it is a hard link
        changed.write_text("DATA\n")
        done = cli.run("cache", "verify")
        assert done.returncode == 1
        assert done.stdout == f"{entry.name[:12]}: changed file {changed.relative_to(entry).as_posix()}\n"
        error, hint = done.stderr.splitlines()
        assert error == "error: 1 of 2 entries damaged"
        assert hint.startswith("hint: ")
        assert "pyo3-envshim cache clear" in hint

    def test_tells_each_as_json(self, cli: Cli, sample: SampleWheels) -> None:
        entries = fill(cli, sample, tiny=0, other=0)
        (entries["tiny"] / "pyvenv.cfg").unlink()
        done = cli.run("cache", "verify", "--json")
        assert done.returncode == 1
        found = json.loads(done.stdout)["entries"]
        assert found[entries["other"].name] is None
        assert "pyvenv.cfg" in found[entries["tiny"].name]


@pytest.mark.parametrize("action", ["list", "prune", "clear", "verify"])
class TestAStoreThatCannotBeUsed:
    def test_is_told_in_a_line_and_a_hint(self, cli: Cli, home: Path, action: str) -> None:
        (home / "store").mkdir()
        (home / "store").chmod(0o777)
        error, hint = cli.refused("cache", action)
        assert error == f"{home / 'store'} can be written by others"
        assert hint == f"chmod go-w {home / 'store'}"

    def test_is_told_where_there_is_no_folder(self, cli: Cli, home: Path, action: str) -> None:
        (home / "file").touch()
        error, hint = cli.refused("cache", action, PYO3_ENVSHIM_CACHE_DIR=str(home / "file" / "store"))
        assert "Not a directory" in error or "not a folder" in error or os.name == "nt"
        assert hint

    def test_is_never_to_be_removed(self, cli: Cli, home: Path, action: str) -> None:
        (home / "store").write_text("the user's own")
        error, hint = cli.refused("cache", action)
        assert error == f"{home / 'store'} is not a folder"
        assert hint.startswith("set PYO3_ENVSHIM_CACHE_DIR to ")

    def test_is_told_where_it_would_depend_on_the_working_folder(
        self, cli: Cli, home: Path, action: str
    ) -> None:
        error, hint = cli.refused("cache", action, PYO3_ENVSHIM_CACHE_DIR="store")
        assert error == "PYO3_ENVSHIM_CACHE_DIR=store depends on the working directory"
        assert hint == "set PYO3_ENVSHIM_CACHE_DIR to a full path"
        assert not (home / "store").exists()


@pytest.mark.parametrize("action", ["dir", "list", "prune", "clear", "verify"])
def test_a_folder_that_is_missing_stays_so(cli: Cli, home: Path, action: str) -> None:
    yes = ["--yes"] if action == "clear" else []
    xdg = {"PYO3_ENVSHIM_CACHE_DIR": "", "XDG_CACHE_HOME": str(home / "x" / "dg")}
    there = sorted(home.rglob("*"))
    for variables in ({"PYO3_ENVSHIM_CACHE_DIR": str(home / "no" / "such")}, xdg):
        cli.said("cache", action, *yes, **variables)
        assert sorted(home.rglob("*")) == there


class TestHelp:
    @pytest.mark.parametrize("action", ["dir", "list", "prune", "clear", "verify"])
    def test_of_an_action_has_an_example(self, cli: Cli, action: str) -> None:
        said = cli.said("cache", action, "--help", COLUMNS="200")
        example = said.splitlines()[-1]
        assert example.startswith("example: ")
        assert f"pyo3-envshim cache {action}" in example

    def test_is_shown_for_no_action(self, cli: Cli) -> None:
        done = cli.run("cache")
        assert done.returncode == 2
        assert "ACTION" in done.stderr


class TestNumbersForPeople:
    @given(st.integers(0, 1 << 50))
    def test_a_size_is_what_the_limit_takes(self, size: int) -> None:
        """It is as near as its one decimal, and never wider than nine characters."""
        said = cache.human(size)
        number, unit = said.split()
        power = ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
        assert abs(float(number) * 1024**power - size) <= 0.051 * 1024**power
        assert power == 0 or float(number) > 0.9

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (86400, "1 day ago"),
            (86400 * 40, "40 days ago"),
        ],
    )
    def test_a_time_is_in_whole_units(self, seconds: float, said: str) -> None:
        assert cache.ago(seconds) == said


class TestSetsOfUnits:
    """What is put aside in the working directory's project."""

    @pytest.fixture
    def cli(self, cli: Cli, home: Path) -> Cli:
        return Cli(cli.root, {**cli.environ, "PYO3_ENVSHIM_CARGO": str(FakeCargo(home).path)}, home)

    @pytest.fixture
    def shelf(self, home: Path) -> Path:
        """Return the shelf of a profile, with a set for each of two interpreters; the second is older."""
        target = home / "target"
        answer = {"workspace_root": str(home), "target_directory": str(target), "packages": []}
        (home / "metadata.json").write_text(json.dumps(answer))  # a `FakeCargo`'s
        shelf = target / "release" / ".envshim-sets"
        for name, days in (("new", 1), ("old", 31)):
            (shelf / name / "deps").mkdir(parents=True)
            (shelf / name / "deps" / "a").write_bytes(bytes(2000))
            values = {"PYO3_PYTHON": f"/{name}/python", "CC": "gcc", "PYO3_CROSS": None}
            head = {"format": "pyo3-envshim set 2", "root": str(home), "values": values, "interpreters": {}}
            (shelf / name / "manifest").write_text(json.dumps(head) + "\n{}\n")
            moment = time.time() - days * prune.DAY
            os.utime(shelf / name / "manifest", (moment, moment))
        return shelf

    def test_are_listed(self, cli: Cli, shelf: Path) -> None:
        lines = cli.said("cache", "list").splitlines()
        assert lines[-1] == f"2 sets of units in {shelf}"
        assert [line.split(maxsplit=2)[2] for line in lines[-3:-1]] == [
            "1 day ago    PYO3_PYTHON=/new/python",
            "31 days ago  PYO3_PYTHON=/old/python",
        ]
        found = as_json(cli, "list")["sets"]
        assert [(it["path"], it["values"]["CC"]) for it in found] == [
            (str(shelf / name), "gcc") for name in ("new", "old")
        ]
        assert found[0]["size"] > 2000

    def test_are_pruned(self, cli: Cli, shelf: Path) -> None:
        assert cli.said("cache", "prune").splitlines()[1] == "removed 1 set of units here"
        assert os.listdir(shelf) == ["new"]
        assert as_json(cli, "prune", "--days", "0.5")["removed_sets"] == [str(shelf / "new")]

    def test_are_cleared(self, cli: Cli, shelf: Path) -> None:
        done = cli.run("cache", "clear", "--yes")
        assert done.stdout.splitlines()[1] == "removed 2 sets of units here"
        assert not shelf.exists()

    def test_and_the_note_of_the_last_calls_is_cleared_too(self, cli: Cli, shelf: Path) -> None:
        cli.run("cache", "prune", "--days=0")
        (shelf / "last").write_text("[]")
        assert cli.said("cache", "list").count("\n") == 1
        cli.said("cache", "clear", "--yes")
        assert not shelf.exists()

    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            ({"PYO3_PYTHON": "/a", "CC": "gcc", "PYTHONPATH": None}, "PYO3_PYTHON=/a"),
            ({"VIRTUAL_ENV": "/v", "PYO3_PYTHON": "", "CONDA_PREFIX": None}, "VIRTUAL_ENV=/v"),
            ({"PYO3_PYTHON": None, "VIRTUAL_ENV": None, "PYO3_CROSS": ""}, "the python on PATH"),
        ],
    )
    def test_show_only_variables_that_were_set(self, values: dict[str, str | None], shown: str) -> None:
        assert cache._shown(values) == shown

    def test_are_none_where_there_is_no_project(self, cli: Cli, shelf: Path, home: Path) -> None:
        (home / "metadata.json").unlink()
        assert cli.said("cache", "list").splitlines() == [f"no entries in {home / 'store'}"]
