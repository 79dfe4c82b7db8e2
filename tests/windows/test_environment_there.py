"""Environments on Windows: what pip and uv write is stored in one form each, and runs where it is stored."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyo3_envshim.environment.item import NotStorable
from pyo3_envshim.store.store import Store
from unit.entries import put, use
from unit.environments import Shared, install, make_environment, make_wheel, program_in, run
from unit.sample_wheels import read

MAKERS = ("venv", "virtualenv", "uv")
MODULE = "import sys\n\n\ndef main():\n    open(sys.argv[1], 'w', encoding='utf-8').write(sys.prefix)\n"
INSTALLERS = pytest.mark.parametrize("installer", ["pip", "uv"])


@pytest.fixture
def wheel(shared: Shared) -> Path:
    """A wheel with a script of each kind."""

    def make(folder: Path) -> None:
        kinds = "[console_scripts]\nhello = tiny:main\n[gui_scripts]\nwindow = tiny:main\n"
        files = {
            "tiny.py": MODULE,
            "tiny-1.dist-info/entry_points.txt": kinds,
            "tiny-1.data/scripts/tool.py": "#!python\nimport tiny\ntiny.main()\n",
        }
        make_wheel(folder, "tiny", "1", files)

    (found,) = shared.once("windows-wheels", make).glob("*.whl")
    return found


class Made:
    """Makes environments with the wheel in them."""

    def __init__(self, folder: Path, python: str, environ: dict[str, str], wheel: Path) -> None:
        self.folder, self.python, self.environ, self.wheel = folder, python, environ, wheel

    def __call__(self, name: str, maker: str = "venv", installer: str = "pip") -> Path:
        root = make_environment(maker, self.python, self.folder / name, self.environ)
        install(root, self.wheel, environ=self.environ, installer=installer)
        return root


@pytest.fixture
def made(tmp_path: Path, a_python: str, environ: dict[str, str], wheel: Path) -> Made:
    return Made(tmp_path, a_python, environ, wheel)


@INSTALLERS
def test_equal_environments_have_one_entry_and_its_scripts_run(
    installer: str, made: Made, store: Store, tmp_path: Path
) -> None:
    """Faults 2 and 11: uv's launchers, and those without a console; scripts that are no programs."""
    first, second = made("build-env-one", installer=installer), made("build-env-two", installer=installer)
    environment = read(first)
    assert environment.digest == read(second).digest
    acquired = store.acquire(environment)
    acquired.add_nonce("0123abcd")
    shutil.rmtree(first)
    for root in (Path(acquired.path()), Path(acquired.path("0123abcd"))):
        for name in ("hello", "window"):
            told = tmp_path / "told"
            subprocess.run([program_in(root, name), told], check=True)
            assert Path(told.read_text("utf-8")) in (root, Path(acquired.path()))
    script = Path(acquired.path(), "Scripts", "tool.py").read_text("utf-8")
    assert acquired.path() in script.splitlines()[0]
    acquired.release()
    assert use(store, read(second)) == (False, None)


@INSTALLERS
def test_a_launcher_that_holds_the_path_elsewhere_is_not_storable(installer: str, made: Made) -> None:
    root = made("build-env-one", installer=installer)
    with open(program_in(root, "hello"), "ab") as file:
        file.write(os.fsencode(root))
    with pytest.raises(NotStorable, match=r"hello\.exe holds the environment's own path"):
        read(root)


@pytest.mark.parametrize("name", ["an environment", "env \u00fc\u4e2d"], ids=["spaces", "letters"])
@pytest.mark.parametrize("maker", MAKERS)
def test_an_environment_with_an_odd_name_is_stored_and_runs(
    maker: str, name: str, made: Made, store: Store, tmp_path: Path
) -> None:
    odd = Store(str(tmp_path / f"cache of {name}"))
    environment = read(made(name, maker, "uv"))
    put(odd, environment)
    told = tmp_path / "told"
    run([program_in(Path(odd.path(environment.digest)), "hello"), told], made.environ)
    assert told.read_text("utf-8") == odd.path(environment.digest)


def test_the_base_interpreters_files_are_part_of_the_digest(made: Made, a_python: str) -> None:
    root = made("build-env-one")
    parts: list[str] = []

    def hash_file(path: str) -> str:
        parts.append(os.path.basename(path))
        return "0" * 64

    assert os.path.samefile(read(root, hash_file).base, a_python)
    assert {"python.exe", "python3.dll", "python312.dll", "patchlevel.h"} <= set(parts)
