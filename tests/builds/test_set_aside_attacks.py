"""Real cargo where units could be moved that somebody else still needs, or come back to the wrong call."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_set_aside import Interpreters
from .tiny_cargo import TinyCargo


@pytest.fixture
def there(tmp_path: Path) -> Interpreters:
    return Interpreters(TinyCargo(tmp_path))


def test_a_target_folder_in_the_target_folder_is_another(there: Interpreters) -> None:
    """As rust-analyzer's ``cargo.targetDir`` and cargo-llvm-cov have it: not a platform's."""
    own = {"CARGO_TARGET_DIR": str(there.there.target / "rust-analyzer")}
    there.cargo("B", "check", **own)
    there.build("A")
    there.build("C")
    assert there.cargo("B", "check", **own) == set()
