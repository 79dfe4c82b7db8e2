"""What scripts/show-the-trap expects, and its first case; `.ci/run` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .scripts import loaded
from .workshop import real_cargo

_PYO3 = ["pyo3-ffi", "pyo3", "tiny"]
_FRESH: list[str] = []
# Of four builds: the answer, and what was compiled. 1, 2, 3 and 3 are the right answers.
_OLD_CODE = [(1, _PYO3), (1, _FRESH), (1, _FRESH), (1, _FRESH)]
_ALWAYS_COMPILED = [(1, _PYO3), (2, _PYO3), (3, _PYO3), (3, _PYO3)]
_WARM_AT_LAST = [(1, _PYO3), (2, _PYO3), (3, _PYO3), (3, _FRESH)]


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with loaded("show-the-trap") as module:
        yield module


def _otherwise(script: Any, kind: str, builds: list[tuple[int, list[str]]]) -> list[str]:
    """Return what of these builds is not as expected of a case."""
    case = {
        "one-path": script.CASES[0],
        "random": next(it for it in script.CASES if not it.stale and not it.shimmed),
        "shim": next(it for it in script.CASES if it.shimmed),
    }[kind]
    changed = ["the first build", "the function", "the worktree", script.UNCHANGED]
    outcomes = [
        script.Outcome(what, right, answer, crates)
        for what, right, (answer, crates) in zip(changed, (1, 2, 3, 3), builds)
    ]
    return list(script.otherwise(case, outcomes))


def test_plain_cargo_runs_the_first_worktrees_code(script: Any, tmp_path: Path) -> None:
    workshop = script.TrapWorkshop(tmp_path, real_cargo(), script.Progress(1))
    first, second = workshop.plain_cargo()
    assert (first.answer, first.crates, first.stale) == (1, ["plain"], False)
    assert (second.answer, second.crates, second.stale) == (1, [], True)
    assert "OLD CODE" in script.table("plain cargo", [first, second])


@pytest.mark.parametrize(
    ("kind", "builds"),
    [("one-path", _OLD_CODE), ("random", _ALWAYS_COMPILED), ("shim", _WARM_AT_LAST)],
    ids=["one-path", "random", "shim"],
)
def test_what_is_expected_is_no_fault(script: Any, kind: str, builds: list[tuple[int, list[str]]]) -> None:
    assert _otherwise(script, kind, builds) == []


@pytest.mark.parametrize(
    ("kind", "builds", "said"),
    [
        ("one-path", _WARM_AT_LAST, "the function: the right code"),
        ("random", _WARM_AT_LAST, "nothing: recompiled nothing"),
        ("shim", _ALWAYS_COMPILED, "nothing: recompiled pyo3-ffi, pyo3, tiny"),
        ("shim", [*_WARM_AT_LAST[:2], (1, _PYO3), (3, _FRESH)], "the worktree: old code"),
        ("shim", [*_WARM_AT_LAST[:3], (3, ["tiny"])], "nothing: recompiled tiny"),
        ("shim", [(1, _FRESH), *_WARM_AT_LAST[1:]], "the rest shows nothing"),
        ("shim", [(2, _PYO3), *_WARM_AT_LAST[1:]], "the rest shows nothing"),
    ],
)
def test_what_is_not_expected_is_named(
    script: Any, kind: str, builds: list[tuple[int, list[str]]], said: str
) -> None:
    assert any(line.endswith(said) for line in _otherwise(script, kind, builds))
