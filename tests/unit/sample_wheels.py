"""Small wheels, with one of each kind of file, for the tests of the digest and the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from pyo3_envshim.environment import digest as digests
from pyo3_envshim.environment import layout

from .environments import Shared, install, make_environment, make_wheel

MODULE = "import sys\nNAME = 'tiny'\n\n\ndef main():\n    print('hello from', sys.prefix)\n"
FILES: dict[str, str | bytes] = {
    "tiny/__init__.py": MODULE,
    "tiny/data.txt": "data\n",
    "tiny/_native.abi3.so": b"\x7fELF\0\1\2\3",
    "tiny/include/tiny.h": "#define TINY 1\n",
    "tiny/with, comma and \u00fc.txt": "quoted in RECORD\n",
    # like the distributions that setuptools vendors
    "tiny/_vendor/inner-1.dist-info/METADATA": "Name: inner\nVersion: 1\n",
    "tiny/_vendor/inner-1.dist-info/RECORD": "inner.py,,\n",
    "tiny/_vendor/inner-1.dist-info/entry_points.txt": "[console_scripts]\ninner = inner:main\n",
    "tiny-1.data/scripts/tool": "#!python\nimport sys\nprint('tool in', sys.prefix)\n",
    "tiny_start.pth": "import sys\n",
    "tiny-1.data/data/share/tiny/shared.txt": "shared\n",
}
SCRIPTS = {"hello": "tiny:main", "method": "tiny:NAME.upper"}


def wheels(shared: Shared) -> dict[str, Path]:
    """Return the wheels by name; plain has scripts only for entry points."""

    def make(folder: Path) -> None:
        make_wheel(folder, "tiny", "1", FILES, SCRIPTS)
        make_wheel(folder, "plain", "1", {"tiny.py": MODULE}, SCRIPTS)
        make_wheel(folder, "other", "1", {"other.py": "VERSION = 1\n"})
        make_wheel(folder, "other", "2", {"other.py": "VERSION = 1\n"})

    folder = shared.once("sample-wheels", make)
    found = {"tiny": "tiny-1", "plain": "plain-1", "other": "other-1", "other2": "other-2"}
    return {name: folder / f"{stem}-py3-none-any.whl" for name, stem in found.items()}


class SampleWheels:
    """Makes environments that contain the wheels."""

    def __init__(self, shared: Shared, python: str, environ: Mapping[str, str], folder: Path) -> None:
        self.wheels = wheels(shared)
        self.python = python
        self.environ = environ
        self.folder = folder

    def environment(
        self, name: str = "environment", *names: str, maker: str = "uv", installer: str = "uv"
    ) -> Path:
        """Make an environment with the wheels *names*, or tiny and other; return its root.

        On Windows, uv's launchers have a size that depends on the length of its path.
        """
        folder = self.folder / (name.ljust(len("build-env-a1b2c3d4"), "_") if layout.WINDOWS else name)
        root = make_environment(maker, self.python, folder, self.environ)
        chosen = [self.wheels[wheel] for wheel in names or ("tiny", "other")]
        install(root, *chosen, environ=self.environ, installer=installer)
        return root


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file, without remembering it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read(root: Path, hash_file: Callable[[str], str] = sha256_of, /, **environ: str) -> digests.Environment:
    """Read an environment."""
    return digests.read(str(root), environ, hash_file)


def digest(root: Path, **environ: str) -> str:
    """Return the digest of an environment."""
    return read(root, **environ).digest
