"""Random histories of calls for several interpreters: what is built is what an empty folder would give."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fabricated_cargo import Environ, Fabricated, Killed
from .test_set_aside import environs, failing

WANTED = [("tiny",), ("tiny", "bin"), ("test", "example"), ("plug", "plain"), ("tiny", "cross", "doc")]
VALUES = st.sampled_from(["A", "A", "B", "B", "C", "none"])
UNITS_THAT_BREAK = st.sampled_from(["", "", "", "run", "standin", "tiny", "core", "test"])
CALL = st.tuples(st.just("call"), VALUES, st.sampled_from(WANTED), st.booleans(), UNITS_THAT_BREAK)
KILLED = st.tuples(st.just("killed"), VALUES, st.integers(0, 60))
EDIT = st.tuples(st.just("edit"), st.sampled_from(["core", "tiny", "plain"]))
CLEAN = st.tuples(st.just("clean"), st.sampled_from(["core-x", "tiny", "standin", "plug"]))
BACK = st.tuples(st.just("back"), st.integers(1, 200))
Step = tuple[object, ...]


@contextmanager
def folder() -> Iterator[Path]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def play(there: Fabricated, python: dict[str, Environ], step: Step, *, with_us: bool) -> bool:
    """Do one step; tell whether it is a call that built all that was wanted, and rightly."""
    kind, *rest = step
    if kind == "edit":
        there.edit(str(rest[0]))
    elif kind == "clean":
        there.clean(str(rest[0]))
    elif kind == "back":
        assert isinstance(rest[0], int)
        there.clock -= rest[0]
        there.sources["core"] = (there.sources["core"][0] + 1, there.clock)
    elif kind == "killed" and with_us:
        assert isinstance(rest[1], int)
        with pytest.MonkeyPatch.context() as patch, failing(patch, Killed(), rest[1]):
            there.exchange(python[str(rest[0])])
    elif kind == "call":
        name, wanted, through_us, breaks_at = rest
        assert isinstance(wanted, tuple)
        if with_us and through_us:
            there.exchange(python[str(name)])
        compiled = there.cargo(python[str(name)], *wanted, breaks_at=str(breaks_at))
        if breaks_at not in compiled:
            return all(there.content(it) == there.right(it, python[str(name)]) for it in wanted)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("second_layout", [False, True])
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.one_of(CALL, CALL, CALL, KILLED, EDIT, CLEAN), max_size=14))
def test_what_is_built_is_right(second_layout: bool, steps: list[Step]) -> None:
    with folder() as at:
        python = environs(at)
        there = Fabricated(at / "target", second_layout=second_layout)
        for step in steps:
            assert play(there, python, step, with_us=True), step


@pytest.mark.slow
@pytest.mark.parametrize("second_layout", [False, True])
@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.one_of(CALL, CALL, CALL, BACK, CLEAN), max_size=14))
def test_with_a_clock_that_steps_back_it_is_wrong_only_where_cargo_alone_is(
    second_layout: bool, steps: list[Step]
) -> None:
    with folder() as at:
        python = environs(at)
        ours = Fabricated(at / "ours", second_layout=second_layout)
        alone = Fabricated(at / "alone", second_layout=second_layout)
        for step in steps:
            if play(alone, python, step, with_us=False):
                assert play(ours, python, step, with_us=True), step
            else:
                play(ours, python, step, with_us=True)
