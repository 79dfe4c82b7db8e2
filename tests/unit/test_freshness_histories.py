"""No history of edits and builds gets an older artefact through the guard: on a model of cargo.

A build without the shim compiles all that depends on PyO3 each time, so its artefact always
is what the sources said. Through the guard it must be what they said at some moment between
the guard's look and cargo's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .cargo_model import SECOND, TICK, History, Model, steps

GRAINS = [TICK, TICK, SECOND, 2 * SECOND]  # most file systems; HFS+ and ext3; FAT
EVENTS = ("guard a", "cargo a", "guard b", "cargo b", "edit a", "edit b")
ORDERS = [
    order
    for order in itertools.permutations(EVENTS)
    if all(order.index(f"guard {tree}") < order.index(f"cargo {tree}") for tree in "ab")
]


@settings(max_examples=300)
@given(st.randoms(), st.sampled_from(GRAINS), st.sampled_from(GRAINS))
def test_no_history_is_stale(random: Random, grain: int, target_grain: int) -> None:
    History(Model(grain, target_grain)).play(steps(random, 40))


@pytest.mark.parametrize("scripted", [True, False], ids=["all files", "noted files"])
def test_none_of_thousands_is_stale(scripted: bool) -> None:
    """Without shrinking, ten times as fast."""
    for seed in range(6000):
        random = Random(seed)
        grain, target_grain = random.choices(GRAINS, k=2)
        model = Model(grain, target_grain, scripted)
        History(model).play(steps(random, 40))


def play_order(history: History, order: Iterable[str], age: int) -> None:
    """Build ``a``, make ``b`` this old (or new), and let two builds and edits happen in an order."""
    history.play([("build", "a", "debug"), ("pass_time", SECOND), ("check_out", "b", "new", age)])
    for number, event in enumerate(order):
        history.play([("pass_time", SECOND)])
        what, tree = event.split()
        if what == "guard":
            history.guard(tree, "debug")
        elif what == "edit":
            history.play([("write", tree, "lib", str(number), 0)])
        else:
            history.cargo([waiting.tree for waiting in history.waiting].index(tree))
    history.play([("build", "a", "debug"), ("build", "b", "debug")])


@pytest.mark.parametrize("age", [0, 100 * SECOND], ids=["new", "old"])
def test_two_worktrees_that_wait_for_cargos_lock_keep_their_own_code(age: int) -> None:
    for order in ORDERS:
        model = Model()
        model.linked = False
        play_order(History(model), order, age)


INCLUDED_ANEW = [
    *(
        ("pass_time", 9 * SECOND + TICK),
        ("write", "a", "lib", "1", 0),
        ("pass_time", SECOND),
        ("build", "a", "debug"),
    ),
    *(("pass_time", SECOND), ("write", "a", "lib", "2", 0), ("pass_time", SECOND), ("guard", "a", "debug")),
    *(("begin", 0), ("replace", "a", "y", "other", 100 * SECOND), ("guard", "a", "debug")),
    *(("finish", "debug"), ("pass_time", SECOND), ("cargo", 0)),
]


@pytest.mark.parametrize("scripted", [True, False], ids=["all files", "noted files"])
def test_a_file_that_is_replaced_while_cargo_reads_it_for_the_first_time_is_noticed(scripted: bool) -> None:
    """It is not noted yet when the next build starts."""
    History(Model(scripted=scripted)).play(INCLUDED_ANEW)
    model = Model(scripted=False)
    model.without = "notes"
    with pytest.raises(AssertionError):
        History(model).play(INCLUDED_ANEW)


@pytest.mark.parametrize("part", ["doubt", "no stamp", "root", "lock", "script", "links", "notes"])
def test_no_part_of_the_rule_can_be_left_out(part: str) -> None:
    """Without the look at sources, root, lock, or links; without what makes a build script run."""
    for seed in range(60000):
        random = Random(seed)
        grain, target_grain = random.choices(GRAINS, k=2)
        model = Model(grain, target_grain, part not in ("links", "notes"))
        model.without = part
        try:
            History(model).play(steps(random, 40))
        except AssertionError:
            return
    pytest.fail("no history was stale")
