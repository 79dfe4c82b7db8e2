"""Imports go one way, as the table in docs/architecture.md has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from support import CHECKOUT

PACKAGE = CHECKOUT / "pyo3_envshim"
HOOK = ("_boot.py", "_startup.py")


def rooms() -> list[tuple[str, ...]]:
    """Return the first column of the table: modules, and folders with a slash at the end."""
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("\n## Rooms\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return [tuple(re.findall(r"`(.+?)`", cell)) for cell in cells]


ROOMS = rooms()
MODULES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


def room_of(module: str) -> int:
    """Return the place in the table of the room that a module, such as `store/lock.py`, is in."""
    found = [
        at for at, names in enumerate(ROOMS) if module in names or f"{module.partition('/')[0]}/" in names
    ]
    assert len(found) == 1, f"{module} is in {len(found)} rooms of the table in docs/architecture.md"
    return found[0]


def imported(source: str) -> Iterator[str]:
    """Yield the full names of all that is imported, at any time, but not for type annotations."""
    left: list[ast.AST] = [ast.parse(source)]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            left += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        left += ast.iter_child_nodes(node)


def own_imports(source: str) -> Iterator[str]:
    """Yield the modules of the package that a source imports, as paths in it; `__version__` is none."""
    for name in imported(source):
        package, *parts = name.split(".")
        if package != PACKAGE.name:
            continue
        for count in (len(parts), len(parts) - 1):
            path = "/".join(parts[:count]) + ".py"
            if (PACKAGE / path).is_file():
                yield path
                break


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_room_and_those_above_it(module: str) -> None:
    here = room_of(module)
    for other in own_imports((PACKAGE / module).read_text(encoding="utf-8")):
        assert room_of(other) <= here, f"{module} imports {other}"


@pytest.mark.parametrize("module", HOOK)
def test_the_hook_imports_os_and_sys_only(module: str) -> None:
    names = set(imported((PACKAGE / module).read_text(encoding="utf-8")))
    assert names - {"__future__.annotations"} <= {"os", "sys", "pyo3_envshim._startup"}


def test_nothing_imports_the_command_line_but_itself() -> None:
    others = [module for module in MODULES if not module.startswith("cli/")]
    assert others[0] in HOOK
    for module in others:
        found = set(imported((PACKAGE / module).read_text(encoding="utf-8")))
        assert not [name for name in found if name.startswith(f"{PACKAGE.name}.cli")], module


def test_nothing_imports_the_plugin_for_tox() -> None:
    """It needs pluggy, which is there where tox is."""
    for module in MODULES:
        assert "tox_plugin.py" not in own_imports((PACKAGE / module).read_text(encoding="utf-8")), module


def test_every_room_of_the_table_is_there() -> None:
    for name in (name for names in ROOMS for name in names):
        assert (PACKAGE / name).exists(), name


def test_an_import_is_seen_wherever_it_stands() -> None:
    source = """\
if TYPE_CHECKING:
    import a
else:
    import b
def f():
    try:
        from pyo3_envshim.store import lock
    except ImportError:
        import c
import pyo3_envshim.cargo.metadata
from pyo3_envshim.files import remove
from pyo3_envshim import __version__
"""
    assert {"b", "c"} <= set(imported(source))
    assert "a" not in set(imported(source))
    assert set(own_imports(source)) == {"store/lock.py", "cargo/metadata.py", "files.py"}
