"""Environments on Windows: what pip and uv write is stored in one form each, and runs where it is stored."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyo3_envshim import _startup, sources
from pyo3_envshim.cargo import harmless
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
def test_a_script_of_an_environment_that_was_moved_is_known_not_to_start(installer: str, made: Made) -> None:
    """python.exe starts there, and so a build that the wrapper would break."""
    root = made("build-env-one", installer=installer)
    assert _startup._is_program(str(program_in(root, "hello")))
    moved = root.rename(root.with_name("moved"))
    subprocess.run([program_in(moved, "python"), "-c", ""], check=True)
    assert not _startup._is_program(str(program_in(moved, "hello")))


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


def edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def in_site(root: Path, name: str) -> Path:
    return root / "Lib" / "site-packages" / name


# What a build script can see, and what it cannot: unit/test_digest.py has more, with paths of POSIX.
NOTICED: dict[str, Callable[[Path], object]] = {
    "a module": lambda root: edit(in_site(root, "tiny.py"), b"import sys", b"import os "),
    "an added module": lambda root: in_site(root, "added.py").touch(),
    "a removed module": lambda root: in_site(root, "tiny.py").unlink(),
    "an extension module": lambda root: in_site(root, "tiny.pyd").write_bytes(b"MZ"),
    "a start-up line": lambda root: in_site(root, "added.pth").write_text("import os"),
    "an entry point": lambda root: edit(
        in_site(root, "tiny-1.dist-info/entry_points.txt"), b":main", b":else"
    ),
    "a script": lambda root: edit(root / "Scripts" / "tool.py", b"tiny.main", b"tiny.else"),
    "a program": lambda root: (root / "Scripts" / "added.exe").write_bytes(b"MZ"),
    "a RECORD": lambda root: edit(
        in_site(root, "tiny-1.dist-info/RECORD"), b"tiny.py,sha256=", b"tiny.py,sha256=x"
    ),
}
UNNOTICED: dict[str, Callable[[Path], object]] = {
    "times": lambda root: os.utime(in_site(root, "tiny.py"), (1_000_000_000, 1_000_000_000)),
    "a mark": lambda root: in_site(root, "tiny.py").chmod(stat.S_IREAD),
    "byte code": lambda root: run([program_in(root, "python"), "-m", "compileall", "-q", root / "Lib"], {}),
    "who installed it": lambda root: edit(in_site(root, "tiny-1.dist-info/INSTALLER"), b"pip", b"uv "),
    "activation": lambda root: (root / "Scripts" / "activate.bat").write_text("other"),
}


def digest_of(root: Path) -> str:
    """Return the digest, or why the environment has none."""
    try:
        return read(root).digest
    except NotStorable as error:
        return str(error)


def test_a_change_that_can_be_seen_is_noticed_and_no_other_is(made: Made) -> None:
    root = made("build-env-one")
    before = read(root).digest
    for name, change in UNNOTICED.items():
        change(root)
        assert read(root).digest == before, name
    in_site(root, "tiny.py").chmod(stat.S_IREAD | stat.S_IWRITE)
    for name, change in NOTICED.items():
        kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        change(root)
        assert digest_of(root) != before, name
        for path in set(root.rglob("*")) - kept.keys():
            if path.is_file():
                path.unlink()
        for path, content in kept.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        assert read(root).digest == before, name


def test_an_environment_that_pips_overlay_hides_is_not_stored(made: Made, tmp_path: Path) -> None:
    """pip writes the paths that it hides as Python's literals, in small letters (26.3, build_env)."""
    root = made("build-env-one")
    site = tmp_path / "pip-build-env-abcd1234" / "site"
    site.mkdir(parents=True)
    environ = {"PYTHONPATH": str(site), "TEMP": str(tmp_path)}
    hook = site / "sitecustomize.py"
    hook.write_text(f"for path in { ({str(tmp_path / 'elsewhere').lower()})!r}:\n    pass\n", "utf-8")
    assert read(root, **environ).digest
    sites = {str(root / "Lib" / "site-packages").lower()}
    hook.write_text(f"for path in {sites!r}:\n    pass\n", "utf-8")
    with pytest.raises(NotStorable, match="an overlay hides it"):
        read(root, **environ)


def test_what_two_dots_and_a_backslash_lead_to_is_not_the_packages_own() -> None:
    assert harmless.leads_elsewhere("..\\sys\\foo.h")
    assert harmless.leads_elsewhere("C:\\Windows\\foo.h")
    assert not harmless.leads_elsewhere("src\\foo.h")


def test_a_folder_that_is_a_name_of_another_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wine makes no junctions; pnpm makes them in circles."""
    inner = tmp_path / "crate" / "node_modules" / "inner"
    inner.mkdir(parents=True)
    (inner / "lib.rs").touch()
    os.utime(inner, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(sources, "_is_junction", lambda found: int(found.st_mtime) == 1_000_000_000)
    listing = sources.Listing([], [str(tmp_path / "crate")])
    listing.add(str(tmp_path / "crate"))
    assert any(path.startswith(f"{inner}{sources.ARROW}") for path in listing.found)


def test_the_base_interpreters_files_are_part_of_the_digest(made: Made, a_python: str) -> None:
    root = made("build-env-one")
    parts: list[str] = []

    def hash_file(path: str) -> str:
        parts.append(os.path.basename(path))
        return "0" * 64

    assert os.path.samefile(read(root, hash_file).base, a_python)
    assert {"python.exe", "python3.dll", "python312.dll", "patchlevel.h"} <= set(parts)
