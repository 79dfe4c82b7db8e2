"""The root causes that `explain` finds, and the ways out that it names."""

from __future__ import annotations

from typing import Any

import pytest

from .recorded_calls import AT, DIRTY, said_of


class TestTheCause:
    """What the report says of it; builds/test_explain.py provokes each in a real build."""

    @pytest.mark.parametrize(
        "reason",
        [
            "NothingObvious",
            "SomethingOfTheFuture { why: [Because(1)] }",
            "EnvVarChanged { variable: 1 }",
            "env var `A` changed: previously None, now Some",
            "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(0) })",  # of none that is dirty
        ],
    )
    def test_of_an_unknown_reason_is_that(self, reason: str) -> None:
        said = said_of(AT, DIRTY, f"    dirty: {reason}")
        assert f"cause: top: {reason}\n" in said
        assert "does not know the cause" in said

    @pytest.mark.parametrize(
        ("name", "mode", "hint"),
        [
            ("build", "on", "switch the shim on: pip install pyo3-envshim beside build, or add "),
            ("build", "off", "switch the shim on: pyo3-envshim on\n"),
            ("uv", "on", "switch the shim on: pyo3-envshim run -- uv …, or add "),
        ],
    )
    def test_of_an_ephemeral_environment_names_the_way_in(self, name: str, mode: str, hint: str) -> None:
        reason = 'EnvVarChanged { name: "PYO3_PYTHON", old_value: None, new_value: Some("/b/bin/python") }'
        environment = {"python": "/b/bin/python", "front_end": name, "stored": False, "mode": mode}
        environment["switch"] = "pyo3-envshim on"
        said = said_of(AT, DIRTY, f"    dirty: {reason}", environment=environment)
        assert "cause: PYO3_PYTHON changed: unset → /b/bin/python (" in said
        assert f"hint: {hint}" in said

    @pytest.mark.parametrize(
        ("moved", "hint"),
        [
            (
                None,
                "set it alike, or put the shim in front of each (pyo3-envshim env --path), which keeps both",
            ),
            ("0 units set aside, 0 brought back: no locks", "is kept, but here: 0 units set aside, 0"),
        ],
    )
    def test_of_a_variable_tells_what_the_shim_would_do(self, moved: str | None, hint: str) -> None:
        reason = 'EnvVarChanged { name: "X", old_value: Some("/a"), new_value: Some("/b") }'
        said = said_of(AT, DIRTY, f"    dirty: {reason}", moved=moved)
        assert hint in said
        assert "CARGO_TARGET_DIR" not in said
        assert (f"before that, the shim moved units: {moved}\n" in said) == bool(moved)

    @pytest.mark.parametrize("name", ["PATH", "VIRTUAL_ENV"])
    def test_of_an_environment_that_the_back_end_does_not_name_is_told(self, name: str) -> None:
        reason = f'EnvVarChanged {{ name: "{name}", old_value: Some("/a"), new_value: Some("/b") }}'
        environment = {"python": None, "front_end": "uv", "stored": False, "mode": "on"}
        said = said_of(AT, DIRTY, f"    dirty: {reason}", environment=environment)
        assert f"cause: {name} changed: /a → /b (uv makes an environment for each build" in said
        assert "hint: the build back end names no interpreter to cargo, " in said
        assert "set PYO3_PYTHON to the path of the interpreter that the wheel is for" in said
        assert "set it alike" not in said

    def test_of_a_crate_that_the_log_gives_no_reason_for_is_that(self) -> None:
        said = said_of(AT, DIRTY, "    dirty: RustcChanged", compiled=("top v0.1.0", "forced v1.0.0"))
        assert "cause: forced: cargo gave no reason\n" in said

    def test_of_a_fingerprint_that_is_not_understood(self) -> None:
        units: Any = {AT.split(": ")[1]: {"hash": "zz", "facts": {"deps": {}}, "begun": None, "ended": None}}
        assert "log is not understood" in said_of(AT, DIRTY, "    dirty: RustcChanged", units=units)
