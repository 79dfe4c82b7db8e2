"""cargo's units: what is read of them, and what belongs to them."""

from __future__ import annotations

import json
import os
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
