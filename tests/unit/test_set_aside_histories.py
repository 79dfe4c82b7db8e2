"""Random histories of calls for several interpreters: what is built is what an empty folder would give."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .fabricated_cargo import Environ, Fabricated, Killed
from .test_set_aside import environs, failing

WANTED = (("tiny",), ("tiny", "bin", "plug"), ("tiny", "test", "example"), ("tiny", "cross", "doc"))
EVERYTHING = ("tiny", "test", "bin", "example", "plug", "cross")
VALUES = ("A", "A", "B", "B", "C", "none")
BREAKS = ("",) * 8 + ("run", "standin", "tiny", "core", "test")
HISTORIES = int(os.environ.get("HISTORIES", "40"))
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


def history(chance: random.Random, *kinds: str) -> list[Step]:
    """Return random steps: mostly calls, most of them through us."""
    found: list[Step] = []
    for kind in chance.choices(("call", *kinds), [4 * len(kinds), *[1] * len(kinds)], k=14):
        if kind == "call":
            through_us = chance.random() < 0.8
            wanted: tuple[str, ...] = chance.choice(WANTED)
            breaks_at = chance.choice(BREAKS)
            # A target folder of each interpreter's own would be wrong if calls left some out.
            if "back" in kinds:
                wanted, breaks_at = EVERYTHING, ""
            found.append((kind, chance.choice(VALUES), wanted, through_us, breaks_at))
        elif kind == "killed":
            found.append((kind, chance.choice(VALUES), chance.randrange(60)))
        elif kind == "edit":
            found.append((kind, chance.choice(("core", "tiny", "plain"))))
        elif kind == "clean":
            found.append((kind, chance.choice(("core-x", "tiny", "standin", "plug"))))
        else:
            found.append((kind, chance.randrange(1, 200)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("second_layout", [False, True])
def test_what_is_built_is_right(second_layout: bool) -> None:
    for seed in range(HISTORIES):
        with folder() as at:
            python = environs(at)
            there = Fabricated(at / "target", second_layout=second_layout)
            for step in history(random.Random(seed), "killed", "edit", "clean"):
                assert play(there, python, step, with_us=True), (seed, step)


@pytest.mark.slow
@pytest.mark.parametrize("second_layout", [False, True])
def test_with_a_clock_that_steps_back_it_is_wrong_only_where_cargo_alone_is(second_layout: bool) -> None:
    for seed in range(HISTORIES):
        with folder() as at:
            python = environs(at)
            ours = Fabricated(at / "ours", second_layout=second_layout)
            alone = Fabricated(at / "alone", second_layout=second_layout)
            for step in history(random.Random(seed), "back", "clean"):
                is_right = play(alone, python, step, with_us=False)
                assert play(ours, python, step, with_us=True) or not is_right, (seed, step)
