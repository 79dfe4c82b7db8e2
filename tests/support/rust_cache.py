"""What Swatinem/rust-cache, the GitHub action, leaves of a target folder: for tests and a benchmark."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path


def clean_as_rust_cache(target: Path, packages: Collection[str]) -> None:
    """Do what Swatinem/rust-cache (2.9, ``cleanup.ts``) does to a target folder before it saves that.

    *packages* are those that do not lie in the workspace, each with a crate of its name. It takes what
    follows the last hyphen of a name for a hash.
    """
    remove(path for path in target.glob("*") if path.is_file() and path.name != "CACHEDIR.TAG")
    crates = [name.replace("-", "_") for name in packages]
    keep = {
        "*/*": ["build", ".fingerprint", "deps"],
        "*/build/*": packages,
        "*/.fingerprint/*": packages,
        "*/deps/*": [*crates, *(f"lib{name}" for name in crates)],
    }
    for pattern, names in keep.items():
        found = list(target.glob(pattern))
        remove(path for path in found if re.sub("-[^-]*$", "", path.name) not in names)


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders."""
    for path in list(paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
