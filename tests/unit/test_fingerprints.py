"""A fingerprint, as it is read after a build."""

from __future__ import annotations

import json
import ntpath
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.cargo import fingerprints, inputs, target_dir

from .test_target_dir import HASH, OTHER, unit


class TestAUnit:
    @pytest.mark.parametrize("place", [".fingerprint/{}-{}/lib-a", "build/{}/{}/fingerprint/lib-a"])
    def test_is_found_with_other_settings_in_both_layouts(self, tmp_path: Path, place: str) -> None:
        one, other, foreign = (
            tmp_path / place.format(name, digit * 16)
            for name, digit in (("a", "1"), ("a", "2"), ("a-b", "3"))
        )
        for path in (one, other, foreign):
            path.parent.mkdir(parents=True)
            path.touch()
        assert fingerprints.siblings(str(one)) == [str(other)]

    @pytest.mark.parametrize("place", ["lib-a", ".fingerprint/a-nohash/lib-a", f"x{HASH}/lib-a"])
    def test_without_a_hash_has_no_other_settings(self, tmp_path: Path, place: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"x{OTHER}").mkdir()
        assert fingerprints.siblings(str(tmp_path / place)) == []

    def test_is_found_with_other_settings_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = {r"C:\t\debug\build\a": [HASH, OTHER, "other"]}
        monkeypatch.setattr(fingerprints, "os", SimpleNamespace(path=ntpath, listdir=listed.__getitem__))
        place = rf"C:\t\debug\build\a\{HASH}\fingerprint\lib-a"
        assert fingerprints.siblings(place) == [place.replace(HASH, OTHER)]

    def test_is_read_as_nothing_where_it_is_gone(self, tmp_path: Path) -> None:
        found = fingerprints.read_unit(str(tmp_path / "gone"))
        assert found == {"hash": "", "facts": {}, "begun": None, "ended": None}

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"local": null}', '{"local": [1, {"RerunIfEnvChanged": 2}]}', "\udcff"]
    )
    def test_is_read_as_nothing_where_it_is_not_known(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "unit").write_text("00")
        (tmp_path / "unit.json").write_text(text, errors="surrogateescape")
        assert inputs.watched_variables(fingerprints.read_unit(str(tmp_path / "unit"))) == {}

    @pytest.mark.parametrize(
        ("place", "stamp"),
        [
            (f".fingerprint/a-{HASH}/lib-a", f".fingerprint/a-{HASH}"),
            (f".fingerprint/a-{HASH}/run-build-script-build-script-build", f"build/a-{HASH}"),
            (f"build/a/{HASH}/fingerprint/lib-a", f"build/a/{HASH}/fingerprint"),
            (f"build/a/{HASH}/fingerprint/run-build-script-build-script-build", f"build/a/{HASH}/run"),
        ],
    )
    def test_is_read_with_its_times_and_variables(self, tmp_path: Path, place: str, stamp: str) -> None:
        path = tmp_path / place
        for folder in (path.parent, tmp_path / stamp):
            folder.mkdir(parents=True, exist_ok=True)
        path.write_text("00")
        watched = {"local": [{"RerunIfEnvChanged": {"var": "X", "val": None}}, {"RerunIfChanged": {}}]}
        path.with_name(path.name + ".json").write_text(json.dumps(watched))
        (tmp_path / stamp / "invoked.timestamp").touch()
        os.utime(tmp_path / stamp / "invoked.timestamp", (1, 1))
        os.utime(path, (2, 2))
        found = fingerprints.read_unit(str(path))
        assert found == {"hash": "00", "facts": watched, "begun": 1.0, "ended": 2.0}
        assert inputs.watched_variables(found) == {"X": None}

    def test_belongs_to_the_build_folder_above_it(self, tmp_path: Path) -> None:
        place = tmp_path / "target" / "x86_64" / "debug" / "build" / "a" / HASH / "fingerprint" / "lib-a"
        assert fingerprints.containing(str(place)) is None
        (tmp_path / "target").mkdir()
        target_dir.tag(str(tmp_path / "target"))
        assert fingerprints.containing(str(place)) == str(tmp_path / "target")


def test_a_profile_was_built_before_where_it_holds_an_older_unit(tmp_path: Path) -> None:
    unit(tmp_path / "debug", "a", "a")
    (tmp_path / "x86_64" / "release" / "build" / "a" / HASH).mkdir(parents=True)
    (tmp_path / "empty" / ".fingerprint").mkdir(parents=True)
    (tmp_path / "first" / ".fingerprint" / f"a-{HASH}").mkdir(parents=True)
    assert fingerprints.built_profiles(str(tmp_path), 4e9) == ["debug", "first", "x86_64/release"]
    assert fingerprints.built_profiles(str(tmp_path), 1.0) == []
    assert fingerprints.built_profiles(None, 4e9) == []
