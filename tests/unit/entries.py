"""What tests do with the entries of a store: put one in, look at it, give it another path."""

from __future__ import annotations

import sys
from pathlib import Path

from pyo3_envshim.environment import hashing, layout
from pyo3_envshim.environment.digest import Environment
from pyo3_envshim.environment.item import Item
from pyo3_envshim.store.entry import damage_of
from pyo3_envshim.store.lock import close
from pyo3_envshim.store.store import Acquired, Store


def small_environment(folder: Path) -> Environment:
    """Return the least that can be stored, for where it matters only who does what, and when."""
    source = folder / "module.py"
    source.touch()
    python = Item("bin/python", "", target=sys.executable)
    if layout.WINDOWS:
        content = hashing.of_file(sys.executable)
        python = Item("Scripts/python.exe", content, source=sys.executable)
    items = [python, Item("module.py", hashing.of_file(str(source)), source=str(source))]
    return Environment(sys.executable, items, "0" * 32, hidden=False)


def put(store: Store, environment: Environment) -> None:
    """Store an environment, whatever is stored of it, and hold no lock."""
    close(store._put(environment))


def use(store: Store, environment: Environment) -> tuple[bool, str | None]:
    """Acquire the entry of an environment and release it; return whether it is new, and its damage."""
    acquired = store.acquire(environment)
    acquired.release()
    return acquired.is_new, acquired.damage


def damage(store: Store, environment: Environment) -> str | None:
    """Return what is wrong with the entry of an environment, in words, or None."""
    found = damage_of(store.path(environment.digest), environment)
    return None if found is None else str(found)


def is_whole(store: Store, environment: Environment) -> bool:
    """Tell whether an environment is stored, whole and unchanged."""
    return damage(store, environment) is None


def add_nonce(store: Store, digest: str, nonce: str) -> None:
    """Give an entry an alias, without a lock on the entry."""
    Acquired(store, digest, held=None, is_new=False, damage=None).add_nonce(nonce)


def stored(store: Store, root: Path) -> tuple[Environment, Path]:
    """Store the environment at *root*; return it, and its entry."""
    from .sample_wheels import read

    environment = read(root)
    put(store, environment)
    assert is_whole(store, environment)
    return environment, Path(store.path(environment.digest))
