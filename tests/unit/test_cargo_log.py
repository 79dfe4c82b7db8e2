"""What is read of cargo's log, on lines that cargos wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.cli.explain import cargo_log
from pyo3_envshim.cli.explain.cargo_log import Value

from .recorded_calls import AT, DIRTY, ERROR, NOT_FOUND, new_line, old_line


class TestTheParser:
    """It reads what Rust's {:?} prints, and leaves the rest as it is."""

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("RustcChanged", Value("RustcChanged")),
            (
                'EnvVarChanged { name: "A", old_value: None, new_value: Some("b \\"c\\" \\u{fc}\\n") }',
                Value("EnvVarChanged", {"name": "A", "old_value": None, "new_value": 'b "c" \u00fc\n'}),
            ),
            (
                'RustflagsChanged { old: [], new: ["-C", "x=\\"{}\\""] }',
                Value("RustflagsChanged", {"old": [], "new": ["-C", 'x="{}"']}),
            ),
            (
                "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(2) })",
                Value(
                    "FsStatusOutdated",
                    items=(Value("StaleDepFingerprint", {"unit": Value("UnitIndex", items=(2,))}),),
                ),
            ),
        ],
    )
    def test_reads_values(self, text: str, found: Value) -> None:
        assert cargo_log.value(text) == found

    @pytest.mark.parametrize(
        "text", ["", "RUSTFLAGS has changed: previously []", "A {", "A(", "A { b }", '"a"']
    )
    def test_says_what_it_does_not_read(self, text: str) -> None:
        assert cargo_log.value(text) is None

    @given(st.text())
    def test_never_fails(self, text: str) -> None:
        cargo_log.value(text)
        cargo_log.read([text, new_line(text), old_line(text)])

    @given(st.text(st.characters(exclude_characters="\r\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0")))
    def test_reads_any_path(self, name: str) -> None:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        found = cargo_log.value(f'MissingFile {{ path: "{escaped}" }}')
        assert found == Value("MissingFile", {"path": name})

    @pytest.mark.parametrize("line", [new_line, old_line])
    def test_finds_the_units_of_every_format(self, line: Any) -> None:
        fresh = AT.replace("top", "fresh")
        log = cargo_log.read(
            [line(fresh), line(AT), line("stale: changed"), line(DIRTY), line("    dirty: RustcChanged")]
        )
        (unit,) = log.dirty
        assert (unit.package, unit.version, unit.place) == ("top", "0.1.0", AT.split(": ")[1])
        assert (unit.cold, unit.reason) == (False, Value("RustcChanged"))
        assert len(log.units) == 2

    def test_knows_a_unit_without_a_fingerprint(self) -> None:
        (unit,) = cargo_log.read([new_line(AT), new_line(ERROR), new_line(NOT_FOUND)]).dirty
        assert unit.cold
