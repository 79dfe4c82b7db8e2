"""The figures in README and the comparison are those that the benchmarks came to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support import CHECKOUT

NAMES = {"small, maturin": "one function"}
COMMANDS = {"uv": "uv build --wheel", "build": "python -m build -w", "uv build": "uv build"}
PLAIN, SHIM, SCCACHE = "without the shim", "with the shim", "sccache"
LIMITS = ("limit: no isolation", "in tree, the same crates")


def rows_of(benchmark: str) -> list[dict[str, Any]]:
    """Return the rows that a benchmark has saved."""
    data = json.loads((CHECKOUT / "docs" / "benchmarks" / f"{benchmark}.json").read_text("utf-8"))
    return list(data["rows"])


def shown(seconds: float) -> str:
    """Return seconds as README has them."""
    return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 99.95 else 0}f}"


def measured() -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Return the rows by project and command, and then by way."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in [*rows_of("rebuild"), *rows_of("unpacked")]:
        project = NAMES.get(row["project"], row["project"].replace("==", " "))
        if command := COMMANDS.get(row["front end"]):
            found.setdefault((project, f"`{command}`"), {})[row["way"]] = row
    return found


def text_of(name: str) -> str:
    """Return what a page says, in one line."""
    return " ".join((CHECKOUT / name).read_text("utf-8").split())


def table() -> list[list[str]]:
    """Return the cells of README's first table, without its head."""
    first = (CHECKOUT / "README.md").read_text("utf-8").split("|---", 1)[1].split("\n\n", 1)[0]
    return [re.split(r" *\| *", line)[1:-1] for line in first.splitlines()[1:]]


@pytest.mark.parametrize("cells", table(), ids=lambda cells: "-".join(cells[:2]))
def test_a_row_of_readme_is_what_was_measured(cells: list[str]) -> None:
    project, command, *figures = cells
    ways = measured()[project, command]
    (limit,) = (ways[name] for name in LIMITS if name in ways)
    expected = []
    for way in (ways[PLAIN], ways[SHIM]):
        expected += [str(way["recompiled"]), shown(way["seconds"])]
    expected += [shown(ways[SCCACHE]["seconds"]), shown(limit["seconds"])]
    assert [re.sub(r"\*\*|,.*", "", cell) for cell in figures] == expected


def test_readme_has_each_command() -> None:
    assert {cells[1] for cells in table()} == {f"`{it}`" for it in COMMANDS.values()}


def test_several_interpreters_in_readme() -> None:
    ways = {row["way"]: row for row in rows_of("matrix") if row["project"] == "small, maturin"}
    plain, shim, sccache = (ways[name] for name in (PLAIN, SHIM, SCCACHE))
    assert (
        f"{plain['second round']} crates and {shown(plain['seconds'])} s a wheel without the shim, "
        f"{shown(sccache['seconds'])} s with sccache, {shim['second round']} crates and "
        f"{shown(shim['seconds'])} s with the shim"
    ) in text_of("README.md")


def test_the_comparison_with_sccache() -> None:
    small, large = (
        [shown(measured()[project, "`uv build`"][way]["seconds"]) for way in (PLAIN, SCCACHE, SHIM)]
        for project in ("one function", "pydantic-core 2.50.4")
    )
    assert (
        f"{small[0]} s without either, {small[1]} with sccache, {small[2]} with the shim; of pydantic-core, "
        f"{large[0]}, {large[1]} and {large[2]}"
    ) in text_of("docs/comparison.md")
