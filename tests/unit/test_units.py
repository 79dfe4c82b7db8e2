"""cargo's units: what is read of them, and what belongs to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyo3_envshim.cargo import units

HASH = "0123456789abcdef"
OTHER = "fedcba9876543210"


def unit_folder(profile: Path, package: str = "tiny-rs", number: str = HASH, **files: str) -> Path:
    """Write a folder of fingerprints; in names, `__` stands for a hyphen."""
    place = profile / ".fingerprint" / f"{package}-{number}"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", "-").replace("_json", ".json")).write_text(text)
    return place


def facts(*local: object, needs: tuple[int, ...] = ()) -> str:
    return json.dumps({"deps": [[1, "x", False, need] for need in needs], "local": local})


ASKED = {"RerunIfEnvChanged": {"var": "PYO3_PYTHON", "val": "/a"}}


class TestUnitsAndWhatBelongsToThem:
    def test_a_hash_has_its_lowest_byte_first(self, tmp_path: Path) -> None:
        unit_folder(tmp_path, lib__tiny="0100000000000000", lib__tiny_json=facts(ASKED, needs=(7,)))
        (unit,) = units.unit_folders([str(tmp_path)])
        (found,) = unit.fingerprints
        assert (unit.package, unit.hash, unit.is_second_layout) == ("tiny-rs", HASH, False)
        assert (found.name, found.number, set(found.needs)) == ("lib-tiny", 1, {7})
        assert found.variables == {"PYO3_PYTHON": "/a"}

    def test_one_that_was_never_finished(self, tmp_path: Path) -> None:
        place = unit_folder(
            tmp_path, lib__tiny="", lib__tiny_json="{", dep__lib__tiny="", output__lib__tiny=""
        )
        (place / "invoked.timestamp").touch()
        unit_folder(tmp_path, number=OTHER)
        found = units.unit_folders([str(tmp_path)])
        assert sorted([it.number for it in unit.fingerprints] for unit in found) == [[], [0]]
        assert units.to_move(found, {"PYO3_PYTHON": "/b"}) == []

    @pytest.mark.parametrize("name", [f"-{HASH}", "tiny-0123", "tiny", f"tiny-{HASH.upper()}"])
    def test_is_not_guessed_at_by_an_odd_name(self, name: str, tmp_path: Path) -> None:
        (tmp_path / ".fingerprint" / name).mkdir(parents=True)
        with pytest.raises(units.UnknownFormat, match="is not named after"):
            units.unit_folders([str(tmp_path)])

    def test_is_not_guessed_at_where_a_hash_is_none(self, tmp_path: Path) -> None:
        place = unit_folder(tmp_path, lib__tiny_json=facts())
        (place / "lib-tiny").write_bytes(b"\xff" * 16)
        with pytest.raises(units.UnknownFormat, match="without what its hash was made of"):
            units.unit_folders([str(tmp_path)])

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (HASH, None),
            ("0123", facts()),
            (HASH, "{"),
            (HASH, "{}"),
            (HASH, '{"deps": [[1, "x", false, "2"]], "local": []}'),
            (HASH, '{"deps": [[1, 2, 3]], "local": []}'),
            (HASH, facts({"RerunIfTheMoonIsFull": 1})),
        ],
    )
    def test_is_not_guessed_at_where_files_are_odd(
        self, number: str, text: str | None, tmp_path: Path
    ) -> None:
        place = unit_folder(tmp_path, lib__tiny=number)
        if text is not None:
            (place / "lib-tiny.json").write_text(text)
        with pytest.raises(units.UnknownFormat):
            units.unit_folders([str(tmp_path)])

    def test_is_read_beside_one_that_was_never_finished(self, tmp_path: Path) -> None:
        unit_folder(tmp_path, bin__a="", lib__tiny=HASH, lib__tiny_json=facts())
        (unit,) = units.unit_folders([str(tmp_path)])
        assert [(it.name, bool(it.number)) for it in unit.fingerprints] == [
            ("bin-a", False),
            ("lib-tiny", True),
        ]

    def test_has_a_mark_of_its_own_that_stays(self, tmp_path: Path) -> None:
        for number in (HASH, OTHER):
            unit_folder(tmp_path, number=number, lib__tiny=HASH, lib__tiny_json=facts())
        one, other = units.unit_folders([str(tmp_path)])
        assert one.read_mark() == ""
        marks = [it.mark() for it in (one, other, one, other)]
        assert (marks[:2], len({"", *marks})) == (marks[2:], 3)
        assert one.read_mark() == marks[0]
        assert sorted(os.path.basename(path) for path in one.files()) == ["lib-tiny", "lib-tiny.json"]
        assert one.files()[0].endswith("lib-tiny")
        assert [it.name for unit in units.unit_folders([str(tmp_path)]) for it in unit.fingerprints] == [
            "lib-tiny"
        ] * 2

    @pytest.mark.parametrize(
        "name", ["lib-a", "test-integration-test-a", "test-bench-a", "doc-bin-a", "run-build-script-x"]
    )
    def test_names(self, tmp_path: Path, name: str) -> None:
        unit_folder(tmp_path, **{name: HASH, f"{name}.json": facts()})
        (unit,) = units.unit_folders([str(tmp_path)])
        assert [it.name for it in unit.fingerprints] == [name]

    def outputs(self, profile: Path, *paths: str) -> set[str]:
        """Return which of these files belong to the unit."""
        for path in paths:
            (profile / path).parent.mkdir(parents=True, exist_ok=True)
            (profile / path).touch()
        (unit,) = units.unit_folders([str(profile)])
        outputs = units.Outputs([str(profile)])
        return {os.path.relpath(path, profile) for path in outputs.of(unit, outputs.claims(unit))}

    def test_what_bears_its_hash(self, tmp_path: Path) -> None:
        unit_folder(tmp_path, lib__tiny=HASH, lib__tiny_json=facts())
        own = [
            *(f"deps/{name}" for name in (f"libtiny-{HASH}.rlib", f"tiny-{HASH}.d", f"tiny-{HASH}.dll.lib")),
            *(f"examples/ex_a-{HASH}.pdb", f"deps/tiny-{HASH}.x.y.rcgu.o", f"deps/tiny-{HASH}"),
        ]
        folders = [f"build/tiny-rs-{HASH}/out/x", f"deps/artifact/tiny-rs-{HASH}/bin/x"]
        others = ["deps/libtiny.so", "deps/tiny.d", f"deps/libtiny-{OTHER}.rlib", f"build/x-{OTHER}/out"]
        found = self.outputs(tmp_path, *own, *folders, *others)
        assert found == {*own, f"build/tiny-rs-{HASH}", f"deps/artifact/tiny-rs-{HASH}"}

    def test_nothing_but_what_bears_its_hash_if_anything_does(self, tmp_path: Path) -> None:
        """Either all outputs of a unit do, or none does."""
        unit_folder(tmp_path, lib__tiny=HASH, lib__tiny_json=facts())
        assert self.outputs(tmp_path) == set()
        assert self.outputs(tmp_path, "deps/libtiny.so") == {"deps/libtiny.so"}
        for name in (f"examples/x-{HASH}", f"deps/x-{HASH}"):
            assert self.outputs(tmp_path, name) == {name}
            (tmp_path / name).unlink()

    def test_all_beside_it_in_the_second_layout(self, tmp_path: Path) -> None:
        place = tmp_path / "build" / "tiny-rs" / HASH
        for name in ("fingerprint/lib-tiny", "out/libtiny.so", "run/stdout"):
            (place / name).parent.mkdir(parents=True)
            (place / name).write_text(HASH)
        (place / "fingerprint" / "lib-tiny.json").write_text(facts())
        own = f"build/tiny-rs/{HASH}"
        assert self.outputs(tmp_path, "deps/libtiny.so") == {f"{own}/out", f"{own}/run"}
        (unit,) = units.unit_folders([str(tmp_path)])
        assert (unit.package, unit.hash, unit.is_second_layout) == ("tiny-rs", HASH, True)

    def test_what_has_no_hash(self, tmp_path: Path) -> None:
        for name in ("lib-tiny_rs", "bin-my-bin", "example-ex-a", "test-lib-no"):
            unit_folder(tmp_path, **{name: HASH, f"{name}.json": facts()})
        own = [
            "deps/libtiny_rs.so",
            "deps/tiny_rs.d",
            "deps/libtiny_rs.so.dwp",
            "deps/my_bin.exe",
            "deps/my_bin.pdb",
        ]
        own += ["examples/libex_a.so", f"deps/artifact/tiny-rs-{HASH}"]
        others = ["deps/my-bin", "deps/no", "deps/libno.so", "examples/libtiny_rs.so", "deps/tiny_rs_more.d"]
        assert self.outputs(tmp_path, *own, *others) == {*own}


class TestTheGraph:
    """`c` needs `b`, which needs `a`; `lone` needs nothing."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.profile = tmp_path
        for package, number, *needs in (("a", 1), ("b", 2, 1), ("c", 3, 2, 1), ("lone", 4)):
            self.unit(package, number, *needs)

    def unit(self, package: str, number: int, *needs: int, name: str = "lib-x", value: str = "") -> None:
        text = number.to_bytes(8, "little").hex() if number else ""
        asked = [{"RerunIfEnvChanged": {"var": "PYO3_PYTHON", "val": value}}] if value else []
        files = {
            name: text,
            f"{name}.json": facts(*asked, needs=needs),
            f"dep-{name}": "",
            f"output-{name}": "",
        }
        unit_folder(self.profile, package, **files)

    def read(self) -> list[units.UnitFolder]:
        return sorted(units.unit_folders([str(self.profile)]), key=lambda it: it.package)

    def names(self, found: Iterable[units.UnitFolder]) -> list[str]:
        return [it.package for it in found]

    def with_dependents(self, package: str, order: int = 1) -> list[str]:
        found = self.read()[::order]
        chosen = [it for it in found if it.package == package]
        return self.names(units.with_dependents(chosen, found))

    @pytest.mark.parametrize("order", [1, -1])
    def test_dependents_come_before_what_they_need(self, order: int) -> None:
        assert self.with_dependents("a", order) == ["c", "b", "a"]
        assert self.with_dependents("b", order) == ["c", "b"]
        self.unit("d", 8, 1)
        assert self.with_dependents("a") == ["c", "d", "b", "a"]

    def test_units_in_one_folder_may_need_each_other(self) -> None:
        self.unit("a", 5, 1, name="test-lib-x")
        self.unit("c", 9, 3, name="test-lib-x")
        assert self.with_dependents("a") == ["c", "b", "a"]

    def test_a_circle_is_no_end(self) -> None:
        """A number may be that of two units: of the host and of the target."""
        self.unit("a", 5, 2, name="test-lib-x")
        found = self.with_dependents("a")
        assert (found[0], sorted(found)) == ("c", ["a", "b", "c"])

    def test_what_has_other_values_is_to_be_moved(self) -> None:
        self.unit("b", 2, 1, value="/one")
        found = self.read()
        assert self.names(units.to_move(found, {"PYO3_PYTHON": "/two"})) == ["c", "b"]
        assert units.to_move(found, {"PYO3_PYTHON": "/one"}) == []
        assert units.to_move(found, {"OTHER": "/two"}) == []

    def test_what_cargo_compiles_anyway_is_known(self) -> None:
        self.unit("begun", 0)
        self.unit("broken", 6, 99)
        self.unit("after", 7, 6, 1)
        found = units.doomed(self.read())
        assert [(it.package, name) for it, name in found] == [
            (it, "lib-x") for it in ("after", "begun", "broken")
        ]

    def test_one_alone_that_lacks_what_it_needs_is_compiled_anyway(self) -> None:
        assert [it.package for it, _ in units.doomed(self.read()[1:2])] == ["b"]

    def test_a_unit_is_invalidated_alone(self) -> None:
        self.unit("a", 5, 1, name="test-lib-x")
        (found,) = self.read()[:1]
        units.invalidate([(found, "lib-x")])
        assert [it.name for it in found.fingerprints] == ["test-lib-x"]
        assert [it.name for it in self.read()[:1][0].fingerprints] == ["test-lib-x"]
        assert len(os.listdir(found.place)) == 4

    def test_values_are_those_that_were_seen_unless_they_contradict(self) -> None:
        self.unit("a", 1, value="/one")
        self.unit("b", 2, 1, value="/one")
        seen = {"PYO3_PYTHON": "/three"}
        assert units.values_of(self.read(), seen) == {"PYO3_PYTHON": "/one"}
        assert units.values_of(self.read(), {}) == {}
        self.unit("c", 3, 2, value="/two")
        assert units.values_of(self.read(), seen) is None
        assert units.values_of(self.read()[2:3], seen) == {"PYO3_PYTHON": "/two"}
