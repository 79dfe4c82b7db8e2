"""What is set aside and brought back, on files as cargo leaves them (`fabricated_cargo`)."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim import shelf
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.inputs import KEPT_CONFIGURATION
from pyo3_envshim.cargo.metadata import Workspace
from pyo3_envshim.set_aside import exchange
from pyo3_envshim.stamp import OLD_STAMP, STAMP, read_stamp, write_stamp

from .fabricated_cargo import UNITS, Environ, Fabricated, Killed, Unit
from .posix import fcntl
from .test_inputs import dep_info

ALL = ("tiny", "test", "bin", "example", "plug", "plain", "cross")
SOME = ("tiny", "plug")
DEPENDENT = {"run", "standin", "tiny", "test", "bin", "example", "plug", "cross"}
Environs = dict[str, Environ]


@pytest.fixture(params=["first layout", "second layout"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fabricated:
    monkeypatch.chdir(tmp_path)
    return Fabricated(tmp_path / "target", second_layout=request.param == "second layout")


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fabricated:
    monkeypatch.chdir(tmp_path)
    return Fabricated(tmp_path / "target")


@pytest.fixture
def python(tmp_path: Path) -> Environs:
    """Variables of calls for different interpreters, which exist."""
    return environs(tmp_path)


def environs(folder: Path) -> Environs:
    found: Environs = {"none": {}}
    for name in ("A", "B", "C"):
        if not (folder / name).exists():  # another mtime would mean another interpreter
            (folder / name).touch()
        found[name] = {"PYO3_PYTHON": str(folder / name)}
    return found


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> str:
    """One more unit that asks for a Python, by its name."""
    unit = Unit("other", "run-build-script-build-script-build", [], ["PYO3_PYTHON"])
    monkeypatch.setitem(UNITS, "other", unit)
    return "other"


class TestRounds:
    def test_what_was_compiled_for_each_value_comes_back(self, there: Fabricated, python: Environs) -> None:
        for name in ("A", "B", "C", "none"):
            assert set(there.build_for(python[name], *ALL)) >= DEPENDENT
        for name in ("A", "B", "C", "none", "A"):
            assert there.build_for(python[name], *ALL) == []

    def test_every_file_is_as_it_was(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        before = there.files()
        there.build_for(python["B"], *ALL)
        done = there.exchange(python["A"])
        assert there.files() == before
        assert str(done) == "8 units set aside, 8 brought back"

    def test_the_same_value_again_moves_nothing(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        done = there.exchange(python["A"])
        assert (done.put_aside, done.brought_back, done.reason, there.sets()) == (0, 0, "", [])

    def test_it_comes_back_wherever_cargo_is_started(
        self, there: Fabricated, python: Environs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert there.build_for(python["A"], *ALL) == []

    def test_an_edit_between_the_rounds_costs_what_it_concerns(
        self, there: Fabricated, python: Environs
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        there.edit("tiny")
        for name in "AB":
            assert there.build_for(python[name], *ALL) == ["tiny", "test", "bin", "example"]
        there.edit("core")
        assert "core" in there.build_for(python["A"], *ALL)
        there.build_for(python["B"], *ALL)
        assert there.build_for(python["A"], *ALL) == []

    def test_two_layouts_in_one_folder(self, first: Fabricated, python: Environs) -> None:
        for name in ("A", "B", "A", "B"):
            for second_layout in (False, True):
                first.second_layout = second_layout
                first.build_for(python[name], *ALL)
        for name in ("A", "B"):
            for second_layout in (False, True):
                first.second_layout = second_layout
                assert first.build_for(python[name], *ALL) == []

    def test_a_call_that_was_interrupted_before_it_compiled_loses_nothing(
        self, there: Fabricated, python: Environs
    ) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["B"])  # and then cargo is interrupted
        assert there.build_for(python["A"], *ALL) == []

    @pytest.mark.parametrize("at", sorted(DEPENDENT))
    def test_a_compiler_that_failed(self, there: Fabricated, python: Environs, at: str) -> None:
        there.build_for(python["A"], *ALL)
        before = there.files()
        there.exchange(python["B"])
        there.cargo(python["B"], *ALL, breaks_at=at)
        assert there.build_for(python["A"], *ALL) == []
        assert there.files() == before  # not a file of the other's beside them
        there.build_for(python["B"], *ALL)

    def test_a_later_build_that_we_know_nothing_of_stays(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["B"])
        there.edit("tiny")
        there.cargo(python["A"], *ALL)
        assert there.build_for(python["A"], *ALL) == []
        assert there.sets() == []

    def test_a_dependent_of_what_was_overwritten_is_trusted_no_more(
        self, there: Fabricated, python: Environs
    ) -> None:
        there.build_for(python["A"], *ALL)
        there.cargo(python["B"], "tiny")
        there.exchange(python["C"])
        assert not (there.place("test") / "test-lib-tiny").exists()


class TestAnotherWorkspaceInTheSameBuildFolder:
    """cargo knows a crate by its place in its workspace, and would take the other's for its own."""

    def test_it_gets_no_set_of_the_first_one(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["B"])
        there.cargo(python["B"], *ALL)
        assert there.exchange(python["A"], "/other").brought_back == 0
        assert there.exchange(python["A"]).brought_back == 8

    def test_gets_one_in_a_folder_that_is_kept_for_unpacked_sources(
        self, there: Fabricated, python: Environs, tmp_path: Path
    ) -> None:
        for number, name in enumerate("ABA"):
            tree = tmp_path / str(number)
            tree.mkdir()
            done = there.exchange(python[name], str(tree), is_kept=True)
            there.cargo(python[name], *ALL)
        assert str(done) == "8 units set aside, 8 brought back"

    def test_gets_one_there_where_pyo3_declares_its_kept_configuration(
        self, there: Fabricated, python: Environs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain, path = there._facts, str(there.build / f"{KEPT_CONFIGURATION}0.txt")

        def declaring(*of: Any) -> dict[str, Any]:
            facts: dict[str, Any] = plain(*of)
            if of[0].variables:
                facts["local"].append({"RerunIfChanged": {"output": "x", "paths": [path]}})
            return facts

        monkeypatch.setattr(there, "_facts", declaring)
        self.test_gets_one_in_a_folder_that_is_kept_for_unpacked_sources(there, python, tmp_path)

    def test_makes_a_set_of_its_own(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["A"], "/other")
        there.cargo(python["A"], *ALL)
        there.exchange(python["B"])
        assert [each.root for each in shelf.Shelf(str(there.build / "debug")).sets()] == ["/other"]

    @pytest.mark.parametrize(
        ("sources", "is_ours"),
        [
            ("ROOT/src/lib.rs", True),
            ("/other/src/lib.rs ROOT/src/x.rs", True),
            ("/other/\udcff.rs ROOT/src/lib.rs", True),  # no Unicode
            ("src/lib.rs", True),  # `build.dep-info-basedir`
            ("/other/src/lib.rs", False),
            ("ROOT-2/src/lib.rs", False),
            ("/other/ROOT/src/lib.rs", False),
            ("src/x.rs /other/src/lib.rs", False),
            ("ROOT/.worktrees/two/src/lib.rs", False),
            ("ROOT/.worktrees/two/src/lib.rs ROOT/x.rs", True),
        ],
    )
    @pytest.mark.parametrize("name", ["debug/libtiny.d", "debug/my-bin.d", "x86_64-pc/debug/libcross.d"])
    def test_whose_sources_cargo_has_noted_beside_a_result_makes_no_set(
        self, there: Fabricated, python: Environs, name: str, sources: str, is_ours: bool
    ) -> None:
        """A cargo without us has compiled there, for what our last call had."""
        there.root += " of mine"
        there.build_for(python["A"], *ALL)
        for tree in ("", ".worktrees/two"):
            Path(there.root, tree, "src").mkdir(parents=True, exist_ok=True)
            Path(there.root, tree, ".git").touch()
        result = there.build / name
        root = there.root.replace(" ", "\\ ")
        text = f"{result.with_suffix('.so')}: {sources.replace('ROOT', root)}\n"
        result.write_text(text, errors="surrogateescape")
        assert there.exchange(python["B"]).put_aside == (8 if is_ours else 0)
        assert len(there.sets()) == is_ours

    def test_units_that_nobody_knows_the_workspace_of_make_no_set(
        self, there: Fabricated, python: Environs
    ) -> None:
        there.cargo(python["A"], *ALL)
        assert (there.exchange(python["B"]).put_aside, there.sets()) == (0, [])

    def test_and_keep_no_others_from_making_one(
        self, there: Fabricated, python: Environs, other: str
    ) -> None:
        """What a cargo without us left before, and nobody has overwritten since."""
        there.cargo(python["C"], *ALL, other)
        for number in range(2):
            for name in "AB":
                assert there.build_for(python[name], *SOME) == [] or number == 0
                there.check()

    def test_but_keep_them_if_they_may_be_later_than_the_last_call(
        self, there: Fabricated, python: Environs, other: str
    ) -> None:
        there.cargo(python["C"], other)
        there.build_for(python["A"], *SOME)
        noted = (there.build / "debug" / ".envshim-sets" / "last").stat().st_mtime_ns
        place = there.place(other)
        os.utime(place / UNITS[other].name, ns=(noted, noted))
        os.utime(place, ns=(0, 0))  # cargo writes over a fingerprint that is there
        assert (there.exchange(python["B"]).put_aside, there.sets()) == (0, [])

    def test_and_make_room_for_a_set_that_comes_back(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        there.build_for(python["B"], *ALL)
        there.cargo(python["C"], *ALL)
        (there.build / "debug" / ".envshim-sets" / "last").unlink()
        done = there.exchange(python["A"])
        assert (done.put_aside, done.brought_back) == (8, 8)
        assert there.cargo(python["A"], *ALL) == []
        there.check()


class TestTheStamp:
    """A set has the one of its units, by which they are judged when they come back."""

    def exchange(self, there: Fabricated, environ: Environ, *is_stamped: bool) -> None:
        where = {"workspace_root": there.root, "target_directory": str(there.build), "packages": []}
        workspace = Workspace(where, [], ["build"])
        workspace.packages = {there.root: {"tiny"}}
        exchange(environ, workspace, *is_stamped)

    @pytest.mark.parametrize("name", [STAMP, OLD_STAMP])
    def test_is_that_of_the_last_build_there(self, there: Fabricated, python: Environs, name: str) -> None:
        """The old one, where the guard has left another for this call."""
        there.build_for(python["A"], *ALL)
        profile = there.build / "debug"
        write_stamp(str(profile), "/old", "", {})
        if name == OLD_STAMP:
            (profile / STAMP).rename(profile / OLD_STAMP)
            write_stamp(str(profile), "/new", "", {})
        self.exchange(there, python["B"])
        (found,) = there.sets()
        stamp = read_stamp(str(found / STAMP))
        assert stamp
        assert stamp.root == "/old"
        assert not (profile / OLD_STAMP).exists()

    def test_without_one_what_is_local_is_compiled(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        for name in "BA":
            self.exchange(there, python[name])
        assert there.cargo(python["A"], *ALL) == ["tiny", "test", "bin", "example"]

    @pytest.mark.parametrize("is_stamped", [(True,), (False,), ()])
    def test_in_place_knows_what_has_come_back(
        self, there: Fabricated, python: Environs, tmp_path: Path, is_stamped: tuple[bool, ...]
    ) -> None:
        """If it is this call's: otherwise it would seem to be the state at an earlier one."""
        source = tmp_path / "elsewhere.rs"
        source.touch()
        there.build_for(python["A"], *ALL)
        (there.place("tiny") / "dep-lib-tiny").write_bytes(dep_info(str(source)))
        self.exchange(there, python["B"])
        write_stamp(str(there.build / "debug"), there.root, "", {})
        self.exchange(there, python["A"], *is_stamped)
        stamp = read_stamp(str(there.build / "debug" / STAMP))
        assert stamp
        assert (str(source) in stamp.files) == any(is_stamped)


class TestAtEveryMoment:
    def test_no_fingerprint_is_beside_what_it_was_not_made_for(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moments = 0

        def checked(call: Callable[..., Any]) -> Callable[..., Any]:
            def checked(*arguments: Any, **options: Any) -> Any:
                nonlocal moments
                found = call(*arguments, **options)
                there.check()
                moments += 1
                return found

            return checked

        for name in ("A", "B"):
            there.build_for(python[name], *ALL)
        for name in ("rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, checked(getattr(os, name)))
        for name in ("A", "B", "C", "A"):
            there.exchange(python[name])
        assert moments > 200


class TestWhatRustdocMade:
    def test_it_has_no_hash_and_is_made_again(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], "tiny", "doc")
        there.build_for(python["B"], "tiny", "doc")
        assert there.build_for(python["A"], "tiny", "doc") == ["doc"]


class TestKilledAtAnyPoint:
    """Twice, for two values: what was put aside by halves never comes back."""

    def test_at_every_rename(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *SOME)
        for at in range(1000):
            with failing(monkeypatch, Killed(), at, ("rename",)) as is_over:
                there.exchange(python["A"])
            if at % 2:
                there.cargo(python["A"], *SOME)
            with failing(monkeypatch, Killed(), at * 7 % 50, ("rename",)):
                there.exchange(python["B"])
            if at % 3:
                there.cargo(python["B"], *SOME)
            for name in "AB":
                there.build_for(python[name], *SOME)
            if is_over():
                break
        assert at > 30
        assert not [path for path in there.sets() if path.name.startswith("tmp-")]


def test_what_was_not_committed_is_no_set(tmp_path: Path) -> None:
    """However whole it looks."""
    found = shelf.Shelf(str(tmp_path))
    os.makedirs(temporary := found.temporary())
    assert os.path.dirname(temporary) == found.folder
    found.commit(temporary, {"X": "1"}, shelf.CallNote("/work", {"X": "1"}, {}), {})
    (kept,) = found.sets()
    os.rename(kept.path, found.temporary())
    assert found.sets() == []
    found.sweep()
    assert os.listdir(found.folder) == []


class TestErrorsOfTheFileSystem:
    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EACCES, errno.ENOSPC, errno.EROFS])
    def test_at_every_step(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *SOME)
        for at in range(0, 1000, 3):
            with failing(monkeypatch, OSError(number, os.strerror(number)), at) as is_over:
                done = there.exchange(python["A"])
            assert is_over() or done.reason or not there.exchange(python["A"]).reason
            for name in "AB":
                there.build_for(python[name], *SOME)
            if is_over():
                break
        assert at > 50
        assert there.build_for(python["A"], *SOME) == []

    @pytest.mark.parametrize("variable", ["PYO3_PYTHON", "CC"])
    def test_what_cannot_be_listed(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        def listdir(_: object) -> list[str]:
            raise PermissionError(errno.EACCES, "may not be listed")

        monkeypatch.setitem(UNITS, "run", dataclasses.replace(UNITS["run"], variables=[variable]))
        A, B = ({variable: python[name]["PYO3_PYTHON"]} for name in "AB")
        there.build_for(A, *ALL)
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listdir)
            assert "may not be listed" in there.exchange(B).reason
        assert (there.exchange(B).put_aside, len(there.sets())) == (8, 1)

    def test_a_refusal_leaves_everything_as_it_was(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there.build_for(python["A"], *ALL)
        before = there.files()
        for at in range(0, 40, 5):
            with failing(monkeypatch, OSError(errno.EXDEV, "another device"), at, ("rename",)):
                done = there.exchange(python["B"])
            assert (done.put_aside, "another device" in done.reason) == (0, True)
            assert there.files() == before


class failing:
    """Let the call *at* of those of *names* fail; after `Killed`, nothing changes a file system any more."""

    NAMES = ("rename", "replace", "mkdir", "unlink", "rmdir", "open")

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        error: BaseException,
        at: int,
        names: tuple[str, ...] = NAMES,
    ) -> None:
        self.patch, self.error, self.left, self.names = patch, error, at, names

    def __enter__(self) -> Callable[[], bool]:
        self.context = self.patch.context()
        patch = self.context.__enter__()
        for name in self.NAMES:
            patch.setattr(os, name, self.counted(getattr(os, name)))
        return lambda: self.left >= 0

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if call.__name__ == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **options)
            if self.left < 0 and isinstance(self.error, Killed):
                raise self.error
            if call.__name__ in self.names:
                self.left -= 1
                if self.left == -1:
                    raise self.error
            return call(*arguments, **options)

        return counted

    def __exit__(self, _kind: object, error: object, _traceback: object) -> bool:
        self.context.__exit__(None, None, None)
        return isinstance(error, Killed)


class TestWhatLiesOutside:
    def test_a_dependency_that_was_compiled_while_the_clock_was_wrong(
        self, there: Fabricated, python: Environs
    ) -> None:
        """It is older than its dependents that come back, which cargo takes for fresh."""
        there.build_for(python["A"], *ALL)
        there.clock -= 3600
        there.sources["core"] = (2, there.clock)
        core = there.outputs("core")[0]
        core.unlink()  # so that even this clock lets cargo see it
        there.build_for(python["B"], *ALL)
        there.clock += 3600
        assert there.build_for(python["A"], *ALL) == ["tiny", "test", "bin", "example"]

    def test_a_dependency_with_other_settings(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["B"])
        place = there.place("core")
        (place / "lib-core_x").write_text("00" * 8)
        done = there.exchange(python["A"])
        assert (done.brought_back, done.reason) == (4, "")  # all but what needs it
        assert there.sets() == []

    def test_where_nothing_comes_back_of_a_set_a_reason_is_given(
        self, there: Fabricated, python: Environs
    ) -> None:
        there.build_for(python["A"], *ALL)
        there.exchange(python["B"])
        for package in ("standin", "tiny", "plug"):
            there.clean(package)
        assert "in doubt, or was cleaned" in str(there.exchange(python["A"]))


class TestCleaned:
    @pytest.mark.parametrize("again", [False, True])
    @pytest.mark.parametrize("package", ["standin", "tiny", "plug"])
    def test_a_package(self, there: Fabricated, python: Environs, package: str, again: bool) -> None:
        """``cargo clean -p`` knows nothing of sets, and means them."""
        for name in "AB":
            there.build_for(python[name], *ALL)
        there.clean(package)
        if again:
            there.cargo(python["B"], *ALL)  # a cargo that we know nothing of
        assert package in there.build_for(python["A"], *ALL)

    def test_the_crate_itself_was_cleaned_because_of_older_sources(
        self, there: Fabricated, python: Environs
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        there.sources["tiny"] = (7, there.sources["tiny"][1])
        there.clean("tiny")
        there.build_for(python["A"], *ALL)


class TestWhatHasLostItsOutputs:
    def test_does_not_come_back_beside_anothers(self, there: Fabricated, python: Environs) -> None:
        there.build_for(python["A"], "tiny")
        for path in there.outputs("tiny"):
            path.unlink(missing_ok=True)
        there.build_for(python["B"], "tiny")
        (there.place("tiny") / UNITS["tiny"].name).write_text("")  # a cargo was interrupted at its end
        there.build_for(python["A"], "tiny")


class TestASetThatIsNotWhatItWas:
    @pytest.mark.parametrize("what", ["gone", "touched", "longer", "added", "manifest", "cut short"])
    def test_it_does_not_come_back(self, there: Fabricated, python: Environs, what: str) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        (found,) = there.sets()
        output = next(found.rglob("libtiny.so"))
        at = output.stat().st_mtime
        if what == "gone":
            output.unlink()
        elif what == "added":
            (output.parent / "more").touch()
        elif what == "manifest":
            (found / "manifest").unlink()
        elif what == "cut short":
            with (found / "manifest").open("r+") as file:
                file.truncate(file.seek(0, 2) - 100)
        else:
            output.write_text(output.read_text() + ("x" if what == "longer" else ""))
            os.utime(output, (at, at) if what == "longer" else (at, at + 1))
        reason = "" if what == "manifest" else "the set is not what it was"
        assert there.exchange(python["A"]).reason == reason
        assert set(there.build_for(python["A"], *ALL)) == DEPENDENT
        assert found not in there.sets()


class TestNothingIsMoved:
    def refused(self, there: Fabricated, python: Environs, words: str) -> None:
        there.build_for(python["A"], *ALL)
        before = there.files()
        done = there.exchange(python["B"])
        assert str(done) == f"0 units set aside, 0 brought back: {done.reason}"
        assert words in done.reason
        assert there.files() == before

    @pytest.mark.parametrize("name", target_dir.LOCKS)
    def test_a_cargo_works_there(self, there: Fabricated, python: Environs, name: str) -> None:
        with (there.build / "debug" / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self.refused(there, python, "locked")

    def test_another_platforms_cargo_works_there(self, there: Fabricated, python: Environs) -> None:
        lock = there.build / "x86_64-pc" / "debug" / ".cargo-lock"
        lock.parent.mkdir(parents=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.refused(there, python, "locked")

    def test_on_a_network_share(
        self, there: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pyo3_envshim.store.lock.is_on_network", lambda _: True)
        self.refused(there, python, "network")

    @pytest.mark.parametrize(
        "name", ["", ".fingerprint", "build", "deps", "deps/artifact", "examples", ".envshim-sets"]
    )
    def test_a_folder_is_a_link(self, first: Fabricated, python: Environs, tmp_path: Path, name: str) -> None:
        folder = first.build / "debug" / name
        if folder.exists():
            folder.rename(tmp_path / "elsewhere")
        else:
            (tmp_path / "elsewhere").mkdir()
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(tmp_path / "elsewhere")
        self.refused(first, python, "is a link")

    @pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what is running")
    @pytest.mark.parametrize(("name", "put_aside"), [("test", 0), ("bin", 8)])
    def test_a_test_is_running(self, there: Fabricated, python: Environs, name: str, put_aside: int) -> None:
        there.build_for(python["A"], *ALL)
        program = shutil.copy(shutil.which("cat") or "cat", there.outputs(name)[0].with_suffix(""))
        with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
            done = there.exchange(python["B"])
            process.communicate()
        assert (done.put_aside, "in use" in done.reason) == (put_aside, not put_aside)

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("lib-standin.json", "{"),
            ("lib-standin.json", '{"deps": [], "local": [{"RerunIfTheMoonIsFull": 1}]}'),
            ("lib-standin.json", '{"deps": [[1, 2, 3]], "local": []}'),
            ("lib-standin.json", '{"deps": [[1, "x", false, "2"]], "local": []}'),
            ("lib-standin.json", '{"local": []}'),
            ("lib-standin", "0123"),
            ("lib-more", "0123456789abcdef"),
            ("lib.json", "{}"),
            ("wasm-standin", ""),
            ("../odd/lib-x", ""),
        ],
    )
    def test_cargos_files_are_not_as_we_know_them(
        self, first: Fabricated, python: Environs, path: str, text: str
    ) -> None:
        first.build_for(python["A"], *ALL)
        file = first.place("standin") / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        before = first.files()
        done = first.exchange(python["B"])
        assert (done.put_aside, bool(done.reason)) == (0, True)
        assert first.files() == before

    def test_a_file_without_a_hash_may_belong_to_another_unit(
        self, first: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(UNITS, "plain", Unit("plain", "lib-tiny", source="plain", is_hashless=True))
        first.build_for(python["A"], "tiny")
        first.cargo(python["A"], "plain")  # overwrites the other's output, as cargo does with a warning
        done = first.exchange(python["B"])
        assert (done.put_aside, "may belong" in done.reason) == (0, True)

    def test_it_may_belong_to_another_unit_by_the_time_the_set_comes_back(
        self, first: Fabricated, python: Environs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(UNITS, "plain", Unit("plain", "lib-tiny", source="plain", is_hashless=True))
        first.build_for(python["A"], "tiny")
        first.exchange(python["B"])
        first.cargo(python["B"], "plain")
        assert "may belong" in first.exchange(python["A"]).reason
        assert first.cargo(python["A"], "plain") == []
        assert first.content("plain") == first.right("plain", python["A"])


class TestValues:
    def test_a_variable_that_cargos_configuration_sets(
        self, there: Fabricated, python: Environs, tmp_path: Path
    ) -> None:
        """cargo then sees another value than its process: it would be put aside in each call."""
        there.build_for(python["A"], *ALL)
        (tmp_path / ".cargo").mkdir()
        (tmp_path / ".cargo" / "config.toml").write_text('[env]\nPYO3_PYTHON = "python3"\n')
        assert there.exchange(python["B"]).put_aside == 0

    @pytest.mark.parametrize("character", [0xD800, 0xDCFF, 0xDFFF])
    def test_one_that_is_not_unicode(
        self, first: Fabricated, monkeypatch: pytest.MonkeyPatch, character: int
    ) -> None:
        """cargo notes nothing for it. On Windows, it may be any surrogate."""
        monkeypatch.setitem(UNITS, "run", dataclasses.replace(UNITS["run"], variables=["CC"]))
        odd = {"CC": f"/{chr(character)}"}
        first.exchange(odd)
        first.cargo({}, *ALL)
        assert first.exchange(odd).put_aside == 0

    @pytest.mark.parametrize("is_known", [True, False])
    def test_values_that_contradict_are_not_kept(
        self, there: Fabricated, python: Environs, other: str, is_known: bool
    ) -> None:
        there.build_for(python["A"], *ALL)
        there.cargo(python["B"], other)
        if not is_known:
            (there.build / "debug" / ".envshim-sets" / "last").unlink()
        done = there.exchange(python["C"])
        assert (done.put_aside, done.reason, there.sets()) == (0, "", [])

    @pytest.mark.parametrize("name", ["build-env-abcd1234", ".tmpAbc123", "tmpabcd1234"])
    def test_an_ephemeral_environment_that_is_gone(
        self, there: Fabricated, tmp_path: Path, name: str
    ) -> None:
        gone = {"PYO3_PYTHON": str(tmp_path / name / "bin" / "python")}
        own = {"PYO3_PYTHON": str(tmp_path / "mine" / "python")}
        there.build_for(gone, *ALL)
        assert there.exchange(own).put_aside == 0  # cargo overwrites it
        there.build_for(own, *ALL)
        assert there.exchange(gone).put_aside == 8
        assert len(there.sets()) == 1  # tox will make it anew

    def test_another_interpreter_at_the_same_path(
        self, there: Fabricated, python: Environs, tmp_path: Path
    ) -> None:
        for name in "AB":
            there.build_for(python[name], *ALL)
        (tmp_path / "A").write_text("another")
        assert (there.exchange(python["A"]).brought_back, len(there.sets())) == (0, 2)

    def test_one_of_two_interpreters_at_a_path_and_it_is_not_known_which(
        self, there: Fabricated, python: Environs, tmp_path: Path
    ) -> None:
        there.build_for(python["A"], *ALL)
        (tmp_path / "A").write_text("another")
        there.build_for(python["A"], *ALL)  # to cargo, it is the same one
        assert (there.exchange(python["B"]).put_aside, there.sets()) == (0, [])

    def test_what_is_for_an_interpreter_that_is_gone_goes_first(
        self, there: Fabricated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shelf, "KEPT", 2)
        python = environs(tmp_path)
        for name in ("A", "B"):
            there.build_for(python[name], *ALL)
        there.exchange(python["C"])
        (tmp_path / "B").unlink()
        there.build_for(python["C"], *ALL)
        there.exchange(python["none"])
        assert there.build_for(python["A"], *ALL) == []

    def test_not_more_than_a_few(
        self, there: Fabricated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shelf, "KEPT", 2)
        python = environs(tmp_path)
        for name in ("A", "B", "C", "none"):
            there.build_for(python[name], *ALL)
        assert len(there.sets()) == 2
        assert there.build_for(python["B"], *ALL) == []
        assert set(there.build_for(python["A"], *ALL)) == DEPENDENT
