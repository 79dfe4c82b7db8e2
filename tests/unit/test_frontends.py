"""The table of front ends matches their ephemeral environments, and never a user's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.environment import frontends

from .environments import script

WINDOWS = SimpleNamespace(**{**vars(os), "name": "nt"})


def front_end_of(root: str | Path, **environ: str) -> str | None:
    found = frontends.maker_of(str(root), environ)
    return found.name if found else None


@pytest.mark.parametrize(
    ("name", "front_end"),
    [("pip-build-env-x0_8kz3q", "pip"), ("build-env-a1b2c3d4", "build"), ("tmpa1b2c3d4/.venv", "poetry")],
)
class TestAnEnvironmentInTheTemporaryFolder:
    @pytest.mark.parametrize("variable", ["TMPDIR", "TEMP", "TMP"])
    def test_is_its_front_ends(self, name: str, front_end: str, variable: str, tmp_path: Path) -> None:
        made(tmp_path / name)
        assert front_end_of(tmp_path / name, **{variable: str(tmp_path)}) == front_end

    def test_is_its_front_ends_through_a_link(self, name: str, front_end: str, tmp_path: Path) -> None:
        """As on macOS, where ``/tmp`` is a link, and ``PYO3_PYTHON`` may be resolved or not."""
        made(tmp_path / "real" / name)
        (tmp_path / "link").symlink_to("real")
        for given in ("real", "link"):
            for asked in ("real", "link"):
                root = tmp_path / asked / name
                assert front_end_of(root, TMPDIR=str(tmp_path / given)) == front_end

    def test_is_the_users_anywhere_else(self, name: str, front_end: str, tmp_path: Path) -> None:
        made(tmp_path / name)
        made(tmp_path / "mine" / name)
        assert front_end_of(tmp_path / name) is None
        assert front_end_of(tmp_path / "mine" / name, TMPDIR=str(tmp_path)) is None

    def test_is_the_users_if_others_may_look_into_it(self, name: str, front_end: str, tmp_path: Path) -> None:
        """Only its owner can enter what `tempfile.mkdtemp` makes, unlike what ``mkdir`` and ``venv`` make."""
        made(tmp_path / name)
        (tmp_path / name.split("/")[0]).chmod(0o755)
        assert front_end_of(tmp_path / name, TMPDIR=str(tmp_path)) is None

    def test_is_its_front_ends_whatever_its_mode_on_windows(
        self, name: str, front_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made(tmp_path / name)
        (tmp_path / name.split("/")[0]).chmod(0o755)
        monkeypatch.setattr(frontends, "os", WINDOWS)
        assert front_end_of(tmp_path / name, TMPDIR=str(tmp_path)) == front_end

    def test_is_not_what_lies_in_it(self, name: str, front_end: str, tmp_path: Path) -> None:
        made(tmp_path / name)
        made(tmp_path / name / "inner" / ".venv")
        assert front_end_of(tmp_path / name / "inner" / ".venv", TMPDIR=str(tmp_path)) is None

    @pytest.mark.parametrize(
        "old_and_new", [("d4", "D4"), ("3q", "3Q"), ("d4", "d"), ("3q", "3"), ("3", "33")]
    )
    def test_has_a_name_that_tempfile_gives(
        self, name: str, front_end: str, old_and_new: tuple[str, str], tmp_path: Path
    ) -> None:
        other = name.replace(*old_and_new)
        made(tmp_path / other)
        assert (front_end_of(tmp_path / other, TMPDIR=str(tmp_path)) is None) == (other != name)

    def test_counts_no_empty_variable_for_the_working_folder(
        self, name: str, front_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert front_end_of(tmp_path / name, TMPDIR="", TEMP="", TMP="") is None


@pytest.mark.parametrize("prefix", ["pip-build-env-", "build-env-"])
@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp"])
def test_what_tempfile_makes_in_the_usual_folders_is_known(folder: str, prefix: str) -> None:
    root = tempfile.mkdtemp(prefix=prefix, dir=folder)
    try:
        assert front_end_of(os.path.realpath(root)) == prefix.split("-")[0]
    finally:
        os.rmdir(root)


def test_poetrys_environment_is_alone_in_its_folder(tmp_path: Path) -> None:
    """A project in a temporary folder may have a ``.venv`` of its own."""
    made(tmp_path / "tmpa1b2c3d4" / ".venv")
    (tmp_path / "tmpa1b2c3d4" / "pyproject.toml").touch()
    assert front_end_of(tmp_path / "tmpa1b2c3d4" / ".venv", TMPDIR=str(tmp_path)) is None


def test_pipxs_environment_has_its_shared_libraries(tmp_path: Path) -> None:
    root = tmp_path / "tmpa1b2c3d4"
    made(root)
    assert front_end_of(root, TMPDIR=str(tmp_path)) is None
    script(root / "lib" / "python3.13" / "site-packages" / "tiny.py", "")
    assert front_end_of(root, TMPDIR=str(tmp_path)) is None
    script(root / "lib" / "python3.13" / "site-packages" / "pipx_shared.pth", "")
    assert front_end_of(root, TMPDIR=str(tmp_path)) == "pipx"
    assert front_end_of(root) is None


def test_pre_commits_environment_lies_in_its_clone(tmp_path: Path) -> None:
    made(tmp_path / "repoab12_xyz" / ".git")
    assert front_end_of(tmp_path / "repoab12_xyz" / "py_env-python3.13") is None
    for name in ("db.db", "README"):
        (tmp_path / name).touch()
    assert front_end_of(tmp_path / "repoab12_xyz" / "py_env-python3.13") == "pre-commit"
    assert front_end_of(tmp_path / "repoab12_xyz" / "node_env-22") is None
    assert front_end_of(tmp_path / "py_env-python3.13") is None


@pytest.mark.parametrize("name", ["pip-build-env-x0_8kz3q", "build-env-a1b2c3d4", "tmpa1b2c3d4/.venv"])
def test_an_environment_that_is_gone_is_nobodys(name: str, tmp_path: Path) -> None:
    try:
        assert front_end_of(tmp_path / name, TMPDIR=str(tmp_path)) is None
    except FileNotFoundError:
        pass  # just as good: the wrapper warns, and runs cargo


def made(root: Path) -> None:
    """Make the folders down to *root*, as `tempfile.mkdtemp` does."""
    root.mkdir(parents=True)
    for folder in (root, root.parent):
        if folder.name.startswith(("tmp", "pip-", "pdm-", "build-")):
            folder.chmod(0o700)


@pytest.mark.parametrize("bucket", ["builds-v0", "builds-v1", "builds-v12"])
def test_an_environment_in_uvs_cache_is_uvs(bucket: str, tmp_path: Path) -> None:
    assert front_end_of(tmp_path / "uv" / bucket / ".tmpAb3xYz") == "uv"


@pytest.mark.parametrize(
    "root",
    [
        "/home/me/project/.venv",
        "/home/me/.cache/uv/environments-v2/tool-0123456789abcdef",
        "/home/me/.cache/uv/archive-v0/AbCdEf0123456789",
        "/home/me/.local/share/uv/tools/ruff",
        "/home/me/.cache/uv/builds-v0/.tmpAb3xY",
        "/home/me/.cache/uv/builds-v0/.tmpAb3xYzq",
        "/home/me/.cache/uv/builds-v0/.tmpAb3xY-",
        "/home/me/.cache/uv/builds-v0/tmpAb3xYz",
        "/home/me/.cache/uv/builds-v0/.tmpAb3xYz/.venv",
        "/home/me/.cache/uv/.tmpAb3xYz",
        "/home/me/.cache/pypoetry/virtualenvs/project-AbCdEfGh-py3.11",
        "/home/me/.virtualenvs/build-env-a1b2c3d4",
        "/home/me/project/.tox/.pkg-cpython311",
        "/home/me/project/.nox/tests",
        "/home/me/.local/share/hatch/env/virtual/project/AbCdEf/hatch-build",
        "/tmp/venv",
        "/tmp/build-env",
        "/tmp/my-build-env-a1b2c3d4",
        "/tmp/project/.venv",
        "/tmp/tmpa1b2c3d4",
        "/",
        "",
    ],
)
def test_a_users_own_environment_is_left_alone(root: str) -> None:
    assert front_end_of(root) is None


def test_each_front_end_stands_once_and_says_what_it_does() -> None:
    names = [front_end.name for front_end in frontends.FRONT_ENDS]
    assert len(names) == len(set(names))
    for front_end in frontends.FRONT_ENDS:
        assert front_end.programs
        assert front_end.environment is None or not front_end.why or front_end.starts_others, front_end.name
        assert front_end.environment or front_end.why, front_end.name
        assert front_end.starts_others == front_end.why.startswith("starts "), front_end.name
        assert bool(front_end.scripts) == front_end.python, front_end.name


def test_each_front_end_says_how_it_is_asked_and_what_to_do() -> None:
    for it in frontends.FRONT_ENDS:
        assert all(it.commands), it.name
        assert bool(it.settings) == bool(it.option), it.name
        assert bool(it.target) == (not it.python), it.name  # a Python knows its own interpreter
        for arguments in (it.settings, it.target, it.unpacks):
            assert isinstance(arguments, tuple), it.name
    by_name = {it.name: it for it in frontends.FRONT_ENDS}
    assert by_name["build"].commands == ("pyproject-build",)
    assert [name for name, it in by_name.items() if not it.python] == ["uv"]
    assert [name for name, it in by_name.items() if it.option] == ["pip"]
    assert [name for name, it in by_name.items() if it.in_place] == ["build", "uv"]


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("pip-build-env-x0_8kz3q", True),
        ("pdm-build-env-x0_8kz3q", True),
        ("build-env-x0_8kz3q", False),
        ("pip-build-env-mine", False),
        ("mine/pip-build-env-x0_8kz3q", False),
    ],
)
def test_an_overlay_is_known_by_its_place(name: str, there: bool, tmp_path: Path) -> None:
    made(tmp_path / name)
    assert frontends.is_overlay(str(tmp_path / name), {"TMPDIR": str(tmp_path)}) is there


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/gone/build-env-a1b2c3d4/bin/python", True),
        ("/gone/tmpa1b2c3d4/.venv/bin/python", True),
        ("/gone/uv/builds-v0/.tmpAb3xYz/bin/python", True),
        ("/gone/repoab12_xyz/py_env-python3.13/bin/python", True),
        ("/gone/build-env-a1b2/bin/python", False),
        ("/gone/tmp/bin/python", False),
        ("/gone/template01/bin/python", False),
        ("/home/me/project/.venv/bin/python", False),
    ],
)
def test_an_environment_that_is_gone_is_known_by_its_names(path: str, is_one: bool) -> None:
    assert frontends.is_named_as_ephemeral(path.replace("/", os.sep)) is is_one


def test_a_file_of_a_wheel_in_uvs_cache_is_known_by_its_place(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "my"):
        script(folder / "CACHEDIR.TAG", "")
    for path, is_one in (
        ("archive-v0/AbCdEf/tiny.py", True),
        ("archive-v0/AbCdEf/tiny/archive-v0/data.py", True),
        ("archive-v01/AbCdEf/tiny.py", False),
        ("myarchive-v0/AbCdEf/tiny.py", False),
        ("AbCdEf/tiny.py", False),
        ("untagged/archive-v0/AbCdEf/tiny.py", False),
    ):
        file = script(tmp_path / path, "")
        assert frontends.in_uvs_cache(str(file)) is is_one, path
    assert not frontends.in_uvs_cache(str(tmp_path / "archive-v0" / "AbCdEf" / "gone.py"))


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("environ", [{}, {"TMPDIR": "/one", "TEMP": "/two", "TMP": "/three"}])
def test_the_temporary_folders_are_tempfiles(
    environ: dict[str, str], windows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if windows:
        monkeypatch.setattr(frontends, "os", WINDOWS)
        monkeypatch.setattr(tempfile, "_os", WINDOWS)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    *candidates, here = tempfile._candidate_tempdir_list()  # type: ignore[attr-defined]
    assert here == os.getcwd()  # tempfile's last resort, which we do not trust
    assert frontends.temporary_folders(environ) == [os.path.realpath(folder) for folder in candidates]


def test_the_temporary_folder_is_the_first_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"TMPDIR": str(tmp_path / "gone"), "TEMP": str(tmp_path)}
    assert frontends.temporary_folder(environ) == os.path.realpath(tmp_path)
    monkeypatch.setattr(frontends, "temporary_folders", lambda environ: ["/gone"])
    assert frontends.temporary_folder(environ) == os.sep


class TestWhatAFrontEndUnpacked:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("build-via-sdist-abcd1234/tiny-0.1.0", "build"),
            ("pip-req-build-abcd_234", "pip"),
            ("pip-install-abcd1234/tiny_0123456789abcdef/rust", "pip"),
            ("cache/sdists-v9/.tmpAbCdEf/tiny-0.1.0", "uv"),
            ("cache/sdists-v9/pypi/tiny/0.1.0/abc/src", "uv"),
            ("cache/git-v0/checkouts/0123456789abcdef/a1b2c3d", "uv"),
            ("cache/git-vault/checkouts/0123456789abcdef/a1b2c3d", None),
            ("cache/git-v0/db/0123456789abcdef", None),
            ("cache/repoab12_xyz", "pre-commit"),
            ("cache/repoab12_xyz/rust", "pre-commit"),
            ("cache/repoab12", None),
            ("cache/repository1", None),
            ("repoab12_xyz", None),
            ("build-via-sdist-mine/tiny", None),
            ("build-via-sdist-abcd12345/tiny", None),
            ("below/build-via-sdist-abcd1234/tiny", None),
            ("sdists-v9/tiny", None),
            ("cache/sdists-vault/tiny", None),
            ("tiny", None),
        ],
    )
    def test_is_known_by_its_place(self, tmp_path: Path, path: str, name: str | None) -> None:
        folder = tmp_path / path
        folder.mkdir(parents=True)
        (tmp_path / path.split("/")[0]).chmod(0o700)
        if path.startswith("cache"):
            for file in ("CACHEDIR.TAG", "db.db", "README"):
                (tmp_path / "cache" / file).write_text("")
            if "repo" in path:
                (tmp_path / "cache" / path.split("/")[1] / ".git").mkdir()
        found = frontends.unpacked_at(str(folder), {"TMPDIR": str(tmp_path)})
        assert (found.name if found else None) == name

    def test_is_not_what_others_may_look_into(self, tmp_path: Path) -> None:
        folder = tmp_path / "pip-req-build-abcd1234"
        folder.mkdir()
        folder.chmod(0o755)
        assert frontends.unpacked_at(str(folder), {"TMPDIR": str(tmp_path)}) is None

    def test_is_no_clone_without_what_git_keeps(self, tmp_path: Path) -> None:
        for name in ("db.db", "README"):
            (tmp_path / name).touch()
        (tmp_path / "repoab12_xyz").mkdir()
        assert frontends.unpacked_at(str(tmp_path / "repoab12_xyz"), {}) is None

    @pytest.mark.parametrize("kept", [".git", ".hg", ".bzr", ".svn"])
    def test_is_also_a_clone_which_pip_has_git_make(self, kept: str, tmp_path: Path) -> None:
        folder = tmp_path / "pip-req-build-abcd1234"
        (folder / kept).mkdir(parents=True)
        folder.chmod(0o755)
        found = frontends.unpacked_at(str(folder / "rust"), {"TMPDIR": str(tmp_path)})
        assert found is not None
        assert found.name == "pip"


def test_an_unpacked_sdist_is_known_by_its_folder() -> None:
    for path, name in (
        ("/tmp/build-via-sdist-a1b2c3d4/tiny-1/target", "build"),
        ("/c/uv/sdists-v9/.tmpAbCdEf/tiny-1/target", "uv"),
        ("/tmp/pip-req-build-a1b2c3d4/target", "pip"),
    ):
        found = frontends.unpacked_by(path.replace("/", os.sep))
        assert found is not None
        assert found.name == name
    assert frontends.unpacked_by("/home/me/project/target") is None
