"""How each build front end is recognised, and where it makes its throw-away environments.

One table. Nothing here imports the rest of the package. A user's own environment must
never match: a place is only trusted where its name cannot have been chosen by hand.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_RANDOM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")  # of tempfile.mkdtemp


class FrontEnd:
    """One front end: the facts that tell its processes and environments from others.

    *name*: as on PyPI. *programs*: what its own Python process is started as.
    *environment*: a function that tells, from the parts of a path and the temporary
    folders, whether an environment is one of its throw-away ones; None if it makes none
    (*why* then says what it does instead). *seen*: the release in which it was seen.
    *python*: whether its own process is a Python, so that the shim can be installed beside
    it. *unpacks*: how the names of folders start that it unpacks an sdist below, to build
    from there; *in_place*: the command that builds where the sources are, if there is one.

    For `doctor`: *commands*: its names on PATH. *option*: without it, it makes no such
    environment, and *settings* are the arguments that make it list what is set. *target*:
    those that make it print the interpreter that it would build for, if not its own.
    """

    __slots__ = (
        *("environment", "in_place", "name", "programs", "python", "seen", "unpacks", "why"),
        *("commands", "option", "settings", "target"),
    )

    def __init__(
        self,
        name: str,
        programs: Sequence[str],
        seen: str,
        environment: Callable[[str, Sequence[str]], bool] | None = None,
        why: str = "",
        python: bool = True,
        unpacks: Sequence[str] = (),
        in_place: str = "",
        commands: Sequence[str] = (),
        option: str = "",
        settings: Sequence[str] = (),
        target: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.programs = tuple(programs)
        self.seen = seen
        self.environment = environment
        self.why = why
        self.python = python
        self.unpacks = tuple(unpacks)
        self.in_place = in_place
        self.commands = tuple(commands) or (name,)
        self.option = option
        self.settings = tuple(settings)
        self.target = tuple(target)


def _temporary(prefix: str) -> Callable[[str, Sequence[str]], bool]:
    """Match ``<temporary folder>/<prefix><eight random characters>`` (tempfile.mkdtemp)."""

    def matches(root: str, temporary: Sequence[str]) -> bool:
        parent, name = os.path.split(root)
        suffix = name[len(prefix) :]
        return (
            name.startswith(prefix)
            and len(suffix) == 8
            and _RANDOM.issuperset(suffix)
            and os.path.realpath(parent) in temporary
            and _is_private(root)
        )

    return matches


def _is_private(folder: str) -> bool:
    """Tell whether only the owner may look into *folder*, as mkdtemp leaves it on POSIX."""
    return os.name == "nt" or not os.stat(folder).st_mode & 0o077


def _of_uv(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<uv's cache>/builds-v0/.tmpXXXXXX`` (uv-build-frontend, uv-cache's buckets)."""
    parent, name = os.path.split(root)
    suffix = name[len(".tmp") :]
    return (
        os.path.basename(parent).startswith("builds-v")
        and name.startswith(".tmp")
        and len(suffix) == 6
        and suffix.isalnum()
    )


def _of_poetry(root: str, temporary: Sequence[str]) -> bool:
    """Match ``<temporary folder>/tmpXXXXXXXX/.venv``, alone in its folder (utils/env/__init__.py)."""
    parent, name = os.path.split(root)
    return name == ".venv" and _temporary("tmp")(parent, temporary) and os.listdir(parent) == [name]


PERMANENT = "uses an environment with a permanent path"
OVERLAY = "uses the invoking interpreter, whose path is permanent, with an overlay on PYTHONPATH"
STARTS = "starts "

FRONT_ENDS = (
    # pip's default isolation is an overlay; --use-feature=venv-isolation makes environments
    FrontEnd(
        "pip",
        ("pip", "__pip-runner__"),
        "26.3",
        _temporary("pip-build-env-"),
        unpacks=("pip-req-build-", "pip-install-", "pip-wheel-"),
        commands=("pip", "pip3"),
        option="--use-feature=venv-isolation",
        settings=("config", "list"),
    ),
    FrontEnd(
        "build",
        ("build", "pyproject-build"),
        "1.6.1",
        _temporary("build-env-"),
        unpacks=("build-via-sdist-",),
        in_place="python -m build --wheel",
        commands=("pyproject-build",),
    ),
    FrontEnd(
        "uv",
        ("uv",),
        "0.13.9",
        _of_uv,
        python=False,
        unpacks=("sdists-v",),
        in_place="uv build --wheel",
        target=("python", "find"),
    ),
    FrontEnd("pdm", ("pdm",), "2.29.3", why=OVERLAY),
    FrontEnd("poetry", ("poetry",), "2.5.1", _of_poetry),
    FrontEnd("hatch", ("hatch",), "1.18.2", why=PERMANENT),
    FrontEnd("tox", ("tox",), "4.67.15", why=PERMANENT),
    FrontEnd("nox", ("nox",), "2026.10.20", why=STARTS + "pip or uv"),
    FrontEnd("cibuildwheel", ("cibuildwheel",), "4.3.3", why=STARTS + "pip, build or uv"),
)


def throw_away(root: str, environ: Mapping[str, str]) -> FrontEnd | None:
    """Return the front end that made the environment at *root* to throw it away, or None.

    *root* is an absolute path, *environ* the variables of a process that builds in it.
    Only its place is looked at: the caller knows that it is an environment, and that
    a build backend's hook runs (`_startup.MARKERS`).
    """
    temporary = temporary_folders(environ)
    for front_end in FRONT_ENDS:
        if front_end.environment and front_end.environment(root, temporary):
            return front_end
    return None


def unpacked_by(path: str) -> FrontEnd | None:
    """Return the front end that unpacked an sdist somewhere above *path*, by the folders' names."""
    names = path.split(os.sep)
    for front_end in FRONT_ENDS:
        if front_end.unpacks and any(name.startswith(front_end.unpacks) for name in names):
            return front_end
    return None


def unpacked_at(path: str, environ: Mapping[str, str]) -> FrontEnd | None:
    """Return the front end that unpacked an sdist at *path*, or above it, to throw it away; by place."""
    temporary = temporary_folders(environ)
    while path != os.path.dirname(path):
        name = os.path.basename(path)
        for front_end in FRONT_ENDS:
            for prefix in front_end.unpacks:
                if name.startswith(prefix) and (_temporary(prefix)(path, temporary) or _of_uvs_cache(path)):
                    return front_end
        path = os.path.dirname(path)
    return None


def _of_uvs_cache(path: str) -> bool:
    """Match ``<uv's cache>/sdists-v9`` (uv-cache's buckets)."""
    above, name = os.path.split(path)
    tagged = os.path.exists(os.path.join(above, "CACHEDIR.TAG"))
    return tagged and name.startswith("sdists-v") and name[len("sdists-v") :].isdigit()


def temporary_folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders, resolved, in which ``tempfile`` puts what it makes.

    The order and the names are ``tempfile._candidate_tempdir_list``'s.
    """
    named = [environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    usual = ["/tmp", "/var/tmp", "/usr/tmp"] if os.name == "posix" else []
    return [os.path.realpath(folder) for folder in [*named, *usual] if folder]
