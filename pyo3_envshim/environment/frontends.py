"""The one table of front ends: how to recognise them, and where they make ephemeral environments.

Must not import the rest of the package: hatch_build.py loads this file by its path, and makes the
startup hooks from it. The hooks import nothing, so they hold copies of the names in this table.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

# One of these variables is set around a build back end's hook: by pyproject-hooks 1.x (pip, build,
# pdm, poetry, hatch), by its older releases and pep517, and by uv 0.13.
MARKERS = ("_PYPROJECT_HOOKS_BUILD_BACKEND", "PEP517_BUILD_BACKEND", "UV_INTERNAL__BUILD_DIR")

_RANDOM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")  # of tempfile.mkdtemp


class FrontEnd:
    """What distinguishes one front end's processes and environments from others.

    *name*: its name on PyPI. *programs*: what its own Python process is started as, with ``-m`` or
    as a script. *environment*: a function that tells, from a path and the temporary folders, whether
    an environment is one of its ephemeral ones; None if it makes none. *why* says what it does instead
    of making one for each build (*starts_others*: it starts other front ends). *python*: whether its own
    process is a Python, beside which the shim can be installed; *scripts*: the scripts that it then
    installs, if not its programs. *unpacks*: how the names of the folders start below which it unpacks an
    sdist to build from, and *holds* a function that tells whether a folder elsewhere is one below which it
    unpacks, or clones, what it builds. *in_place*: the command that builds where the sources are, if any.
    *passes_cargo*: whether what it starts gets a CARGO that is set around it.

    The rest is for `doctor`. *commands*: its names on PATH. *option*: without it, the front end makes no
    ephemeral environment; *settings*: the arguments with which it lists what is set. *target*:
    those with which it prints the interpreter that it would build for, if that is not its own.
    """

    environment: Callable[[str, Sequence[str]], bool] | None = None
    starts_others = False
    python = passes_cargo = True
    why = in_place = option = ""
    settings: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    unpacks: tuple[str, ...] = ()
    holds: Callable[[str], bool] | None = None

    def __init__(self, name: str, *programs: str, **facts: Any) -> None:
        """Take what differs from the defaults in *facts*."""
        self.name = name
        self.programs = self.scripts = programs
        self.commands: tuple[str, ...] = (name,)
        self.__dict__.update(facts)


def _is_random(name: str, prefix: str) -> bool:
    """Tell whether *name* is *prefix* and eight characters that ``tempfile.mkdtemp`` may choose."""
    rest = name[len(prefix) :]
    return name.startswith(prefix) and len(rest) == 8 and _RANDOM.issuperset(rest)


def _temporary(prefix: str) -> Callable[[str, Sequence[str]], bool]:
    """Match ``<temporary folder>/<prefix><eight random characters>`` (tempfile.mkdtemp)."""

    def matches(root: str, temporary: Sequence[str]) -> bool:
        parent, name = os.path.split(root)
        return (
            _is_random(name, prefix)
            and os.path.realpath(parent) in temporary
            # On POSIX, only its owner may look into what mkdtemp makes; pip has git make it anew.
            and (os.name == "nt" or not os.stat(root).st_mode & 0o077 or _is_clone(root))
        )

    return matches


def _is_clone(path: str) -> bool:
    """Tell whether this user has cloned something to *path*, of which pip knows four kinds."""
    ours = os.stat(path).st_uid == os.geteuid()
    return ours and any(os.path.isdir(os.path.join(path, name)) for name in (".git", ".hg", ".bzr", ".svn"))


def _of_uv(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<uv's cache>/builds-v0/.tmpXXXXXX`` (uv-build-frontend, uv-cache's buckets)."""
    parent, name = os.path.split(root)
    suffix = name[len(".tmp") :]
    in_bucket = os.path.basename(parent).startswith("builds-v")
    return in_bucket and name.startswith(".tmp") and len(suffix) == 6 and suffix.isalnum()


def _of_poetry(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<temporary folder>/tmpXXXXXXXX/.venv``, alone in its folder (utils/env/__init__.py)."""
    parent, name = os.path.split(root)
    return name == ".venv" and _temporary("tmp")(parent, temporary) and os.listdir(parent) == [name]


def _is_uvs_bucket(path: str) -> bool:
    """Match ``<uv's cache>/sdists-v9``, and ``git-v0``, which holds a checkout for each commit (uv-cache)."""
    above, name = os.path.split(path)
    kind, _, version = name.rpartition("-v")
    tagged = os.path.exists(os.path.join(above, "CACHEDIR.TAG"))
    is_one = kind == "sdists" or (kind == "git" and os.path.isdir(os.path.join(path, "checkouts")))
    return tagged and is_one and version.isdigit()


def _is_pre_commits_clone(path: str) -> bool:
    """Match ``<pre-commit's cache>/repoXXXXXXXX``, beside its database (store.py)."""
    above, name = os.path.split(path)
    is_one = _is_random(name, "repo") and os.path.isdir(os.path.join(path, ".git"))
    return is_one and all(os.path.isfile(os.path.join(above, it)) for it in ("db.db", "README"))


def _of_pipx(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<temporary folder>/tmpXXXXXXXX``, where it looks for a package's name (commands/common.py)."""
    if not os.path.isdir(os.path.join(root, "lib")) or not _temporary("tmp")(root, temporary):
        return False
    folders = (os.path.join(root, "lib", name) for name in os.listdir(os.path.join(root, "lib")))
    return any(os.path.isfile(os.path.join(it, "site-packages", "pipx_shared.pth")) for it in folders)


def _of_pre_commit(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<clone>/py_env-python3.11`` (lang_base.py), which is as random as the clone."""
    above, name = os.path.split(root)
    return name.startswith("py_env-") and _is_pre_commits_clone(above)


PERMANENT = "uses an environment with a permanent path"
OVERLAY = "uses the invoking interpreter, whose path is permanent, with an overlay on PYTHONPATH"

# A place may only match if a user would not give it its name: a user's own environment never matches.
FRONT_ENDS = (
    # 26.3. The default isolation is an overlay; --use-feature=venv-isolation makes environments.
    FrontEnd(
        *("pip", "pip", "__pip-runner__"),
        environment=_temporary("pip-build-env-"),
        scripts=("pip", "pip3", *(f"pip3.{minor}" for minor in range(9, 21))),
        unpacks=("pip-req-build-", "pip-install-", "pip-wheel-", "pip-download-"),
        commands=("pip", "pip3"),
        option="--use-feature=venv-isolation",
        settings=("config", "list"),
    ),
    FrontEnd(  # 1.6.1
        *("build", "build", "pyproject-build"),
        environment=_temporary("build-env-"),
        unpacks=("build-via-sdist-",),
        in_place="python -m build --wheel",
        commands=("pyproject-build",),
    ),
    FrontEnd(  # 0.13.9
        *("uv", "uv"),
        environment=_of_uv,
        python=False,
        scripts=(),
        unpacks=("sdists-v",),
        holds=_is_uvs_bucket,
        in_place="uv build --wheel",
        target=("python", "find"),
    ),
    FrontEnd("pdm", "pdm", why=OVERLAY),  # 2.29.4
    FrontEnd("poetry", "poetry", environment=_of_poetry),  # 2.5.1
    FrontEnd("hatch", "hatch", why=PERMANENT),  # 1.18.2
    # 4.67.15. By default pip builds an sdist in its environments; beside tox, the shim passes CARGO on to it.
    FrontEnd(
        *("tox", "tox"),
        why="starts pip; `package = wheel` or `editable` builds in an environment with a permanent path",
        starts_others=True,
        passes_cargo=False,
    ),
    FrontEnd("nox", "nox", why="starts pip or uv", starts_others=True),  # 2026.10.20
    FrontEnd(  # 1.18.4
        *("pipx", "pipx"),
        environment=_of_pipx,
        why="starts pip or uv",
        starts_others=True,
    ),
    FrontEnd(  # 4.7.0
        *("pre-commit", "pre-commit", "pre_commit"),
        environment=_of_pre_commit,
        holds=_is_pre_commits_clone,
        why="starts pip",
        starts_others=True,
        scripts=("pre-commit",),
    ),
    FrontEnd("cibuildwheel", "cibuildwheel", why="starts pip, build or uv", starts_others=True),  # 4.3.5
)


def maker_of(root: str, environ: Mapping[str, str]) -> FrontEnd | None:
    """Return the front end that made *root* as an ephemeral environment, or None.

    *root* is an absolute path, *environ* the variables of a process that builds in it. Only the
    place is looked at: the caller knows that an environment is there, and that a build back
    end's hook runs (`MARKERS`).
    """
    temporary = temporary_folders(environ)
    return next((it for it in FRONT_ENDS if it.environment and it.environment(root, temporary)), None)


# How the names of these environments, or of the folders that hold them, begin; and the random rest's length.
_EPHEMERAL = {"pip-build-env-": 8, "build-env-": 8, ".tmp": 6, "tmp": 8, "repo": 8}


def is_named_as_ephemeral(path: str) -> bool:
    """Tell by the names in *path*, which may be gone, whether it is in an ephemeral environment."""
    return any(
        name.startswith(prefix) and len(name) == len(prefix) + more
        for name in os.path.normpath(path).split(os.sep)
        for prefix, more in _EPHEMERAL.items()
    )


# pip 26.3, pdm 2.29.4: what the folders are called that hold what `OVERLAY` adds, before what is random.
_OVERLAYS = ("pip-build-env-", "pdm-build-env-")


def is_overlay(path: str, environ: Mapping[str, str]) -> bool:
    """Tell whether a front end made the folder *path* to overlay an interpreter with what is in it."""
    temporary = temporary_folders(environ)
    return any(_temporary(prefix)(path, temporary) for prefix in _OVERLAYS)


def unpacked_by(path: str) -> FrontEnd | None:
    """Return the front end whose unpacked sdist *path* lies in, judged by the folders' names, or None."""
    names = path.split(os.sep)
    return next((it for it in FRONT_ENDS if any(name.startswith(it.unpacks) for name in names)), None)


def unpacked_at(path: str, environ: Mapping[str, str]) -> FrontEnd | None:
    """Return the front end that unpacked or cloned what *path* lies in, by names and places, or None."""
    temporary = temporary_folders(environ)
    while path != os.path.dirname(path):
        for it in FRONT_ENDS:
            is_temporary = any(_temporary(prefix)(path, temporary) for prefix in it.unpacks)
            if is_temporary or (it.holds and it.holds(path)):
                return it
        path = os.path.dirname(path)
    return None


def in_uvs_cache(path: str) -> bool:
    """Tell whether *path* (resolved) is a file of a wheel in uv's cache (its bucket ``archive-v0``).

    uv 0.13 makes environments of links to these, if ``UV_LINK_MODE`` is ``symlink``.
    """
    cache, bucket, _ = path.partition(os.path.join(os.sep, "archive-v0", ""))
    tag = os.path.join(cache, "CACHEDIR.TAG")
    return bool(bucket) and os.path.isfile(path) and os.path.isfile(tag)


def temporary_folder(environ: Mapping[str, str]) -> str:
    """Return the first of `temporary_folders` that is there."""
    return next(filter(os.path.isdir, temporary_folders(environ)), os.sep)


def temporary_folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders, resolved, in which ``tempfile`` puts what it makes.

    Order and names are those of ``tempfile._candidate_tempdir_list``.
    """
    named = [environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    usual = ["/tmp", "/var/tmp", "/usr/tmp"]
    if os.name == "nt":
        own = [os.path.expanduser(r"~\AppData\Local\Temp"), os.path.expandvars(r"%SYSTEMROOT%\Temp")]
        usual = [*own, r"c:\temp", r"c:\tmp", r"\temp", r"\tmp"]
    return [os.path.realpath(folder) for folder in [*named, *usual] if folder]
