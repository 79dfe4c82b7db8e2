"""The build front ends, how each is asked to build a project, and the environments that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

_UV_PROJECT = ("--project", "{project}")
_UV_INSTALL = ("--no-deps", "--reinstall-package", "tiny")


@dataclass(frozen=True)
class Host:
    """An environment that holds front ends, with the shim beside them or without."""

    folder: Path
    shimmed: bool

    def script(self, name: str) -> Path:
        """Return the path of one of its programs."""
        return self.folder / "bin" / name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.script("python")

    @property
    def wrapper(self) -> Path:
        """The shim's cargo."""
        return self.script("pyo3-envshim-cargo")


@dataclass(frozen=True)
class FrontEnd:
    """A front end's command line.

    `{host}` is the environment that holds the front end, `{project}` the source folder, `{out}`
    a folder for the wheel, `{site}` an environment to install into, `{base}` the base interpreter.
    Those that need more: `{work}` is a folder for the front end's own files, `{sdists}` the one that the
    sdist is in, `{index}` the address of a package index. `ephemeral` tells whether it makes an
    environment for each build and removes it afterwards. `requirements` are what an environment of its
    own holds, `files` are written before a build and `anew` removed, `installs_into` is where it
    installs, where that is not `{site}`.
    """

    name: str
    command: tuple[str, ...]
    ephemeral: bool = True
    makes_wheel: bool = True
    requirements: tuple[str, ...] = ()
    cwd: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    anew: tuple[str, ...] = ()
    installs_into: str = "{site}"

    def arguments(self, **places: object) -> Sequence[str]:
        """Return the command line for these places."""
        return [word.format(**places) for word in self.command]

    def mentions(self, place: str) -> bool:
        """Tell whether it needs a place, by its name."""
        pairs = [*self.variables, *self.files]
        texts = [*self.command, *(text for pair in pairs for text in pair)]
        return any("{" + place + "}" in text for text in texts)

    @property
    def is_python(self) -> bool:
        """Whether it is a Python program, in which a startup hook runs."""
        return not self.command[0].endswith(("uv", "maturin"))

    def variant(self, *options: str, name: str = "", **places: str) -> FrontEnd:
        """Return it with more options before its last argument, and with some places filled in."""
        *words, last = self.command
        command = [*words, *options, last]
        for place, path in places.items():
            command = [word.replace("{" + place + "}", path) for word in command]
        return replace(self, name=name or self.name, command=tuple(command))


_PIP = ("{host}/bin/python", "-m", "pip", "wheel", "--no-deps", "-w", "{out}")
_BUILD = ("{host}/bin/python", "-m", "build", "-o", "{out}")
_UV_BUILD = ("{host}/bin/uv", "build", "--python", "{base}", "-o", "{out}")

PIP = FrontEnd("pip", (*_PIP, "{project}"), ephemeral=False)
PIP_VENV = FrontEnd("pip-venv-isolation", (*_PIP, "--use-feature=venv-isolation", "{project}"))
BUILD = FrontEnd("build", (*_BUILD, "-w", "{project}"))
BUILD_WITH_UV = FrontEnd("build-installer-uv", (*_BUILD, "-w", "--installer", "uv", "{project}"))
UV_BUILD = FrontEnd("uv-build", (*_UV_BUILD, "--wheel", "{project}"))
UV_PIP = FrontEnd(
    "uv-pip-install",
    ("{host}/bin/uv", "pip", "install", "--python", "{site}", *_UV_INSTALL, "{project}"),
    makes_wheel=False,
)
UV_SYNC = FrontEnd(
    "uv-sync",
    ("{host}/bin/uv", "sync", "--python", "{base}", "--reinstall-package", "tiny", *_UV_PROJECT),
    makes_wheel=False,
    installs_into="{project}/.venv",
)
FRONT_ENDS = (PIP, PIP_VENV, BUILD, BUILD_WITH_UV, UV_BUILD, UV_PIP, UV_SYNC)

BUILD_FROM_SDIST = FrontEnd("build-from-sdist", (*_BUILD, "{project}"))
UV_BUILD_FROM_SDIST = FrontEnd("uv-build-from-sdist", (*_UV_BUILD, "{project}"))

_XDG = tuple((f"XDG_{name}_HOME", "{work}/" + name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE"))
_ACTIVE = (("VIRTUAL_ENV", "{site}"),)

# pdm alone resolves to a hishel and a dep-logic that it does not work with, and its extra `locked` to
# an older pdm, because it names a certifi that was withdrawn (2.29.4).
_pdm = partial(
    FrontEnd,
    requirements=("pdm>=2.29.4", "hishel<2", "dep-logic<0.7.2"),
    ephemeral=False,
    cwd="{project}",
    variables=(*_XDG, *_ACTIVE, ("PDM_PYPI_URL", "{index}"), ("PDM_CHECK_UPDATE", "0")),
)
PDM_BUILD = _pdm("pdm-build", ("{host}/bin/pdm", "build", "--no-sdist", "-d", "{out}"))
PDM_INSTALL = _pdm(
    "pdm-install",
    ("{host}/bin/pdm", "install"),
    makes_wheel=False,
    anew=("{project}/pdm.lock", "{site}"),
)

# Its build environments are filled from the sources of the project that it is called for.
_POETRY_SOURCE = """
[[tool.poetry.source]]
name = "local"
url = "{index}"
priority = "primary"
"""
_POETRY_APP = """\
[project]
name = "app"
version = "1"
requires-python = ">=3.9"
dependencies = ["tiny @ file://{project}"]

[tool.poetry]
package-mode = false
"""
_poetry = partial(
    FrontEnd,
    requirements=("poetry",),
    cwd="{work}/app",
    variables=(*_XDG, *_ACTIVE, ("POETRY_KEYRING_ENABLED", "false")),
    files=(("{work}/app/pyproject.toml", _POETRY_APP + _POETRY_SOURCE),),
)
POETRY_INSTALL = _poetry(
    "poetry-install",
    ("{host}/bin/poetry", "install", "--no-interaction"),
    makes_wheel=False,
    anew=("{site}", "{work}/app/poetry.lock"),
)

HATCH_BUILD = FrontEnd(
    "hatch-build",
    ("{host}/bin/hatch", "build", "-t", "wheel", "{out}"),
    ephemeral=False,
    requirements=("hatch",),
    cwd="{project}",
    variables=(*_XDG, ("HATCH_PYTHON", "{base}")),
)

# tox passes on what is in `pass_env`, and by default neither CARGO nor our variables, as here. What is named
# are the tests' own settings: where Rust is, and how cargo, maturin and setuptools-rust are to compile.
PASSED_TO_TOX = (
    "RUSTUP_*, CARGO_HOME, CARGO_NET_OFFLINE, CARGO_INCREMENTAL, CARGO_PROFILE_*, "
    "MATURIN_PEP517_ARGS, SETUPTOOLS_RUST_CARGO_PROFILE"
)
_TOX_INI = f"""\
[tox]
env_list = tests
[testenv]
package = @PACKAGE@
base_python = {{base}}
pass_env = {PASSED_TO_TOX}
[pkgenv]
pass_env = {PASSED_TO_TOX}
"""


def _tox(package: str) -> FrontEnd:
    return FrontEnd(
        f"tox-{package}",
        ("{host}/bin/tox", "run", "--discover", "{base}"),
        ephemeral=False,
        makes_wheel=False,
        requirements=("tox",),
        cwd="{project}",
        variables=_XDG,
        files=(("{project}/tox.ini", _TOX_INI.replace("@PACKAGE@", package)),),
        installs_into="{project}/.tox/tests",
    )


TOX, TOX_SDIST = _tox("wheel"), _tox("sdist")
# With what our pages say where the plugin is not beside tox.
TOX_PASS_ENV = replace(
    TOX_SDIST,
    name="tox-pass-env",
    files=tuple(
        (path, text.replace("pass_env = ", "pass_env = CARGO, PYO3_ENVSHIM*, "))
        for path, text in TOX_SDIST.files
    ),
    variables=(*_XDG, ("TOX_DISABLED_EXTERNAL_PLUGINS", "pyo3-envshim")),
)

_NOXFILE = """\
import nox

@nox.session(python="{base}")
def tests(session):
    session.install("--no-deps", ".")
"""
_nox = partial(
    FrontEnd,
    makes_wheel=False,
    requirements=("nox[uv]",),
    cwd="{project}",
    variables=_XDG,
    files=(("{project}/noxfile.py", _NOXFILE),),
    installs_into="{project}/.nox/tests",
)
NOX = _nox("nox", ("{host}/bin/nox", "--no-reuse-existing-virtualenvs"), ephemeral=False)
NOX_WITH_UV = _nox("nox-uv", (*NOX.command, "--default-venv-backend", "uv"))

# What cibuildwheel 4.3.5 runs in its containers, with their Python first on PATH (platforms/linux.py).
_CIBW_OUT = ("--wheel", "--outdir={out}")
CIBUILDWHEEL = (
    FrontEnd(
        "cibuildwheel-pip",
        ("python", "-m", "pip", "wheel", "{project}", "--wheel-dir={out}", "--no-deps"),
        ephemeral=False,
    ),
    FrontEnd("cibuildwheel-build", ("python", "-m", "build", "{project}", *_CIBW_OUT)),
    FrontEnd("cibuildwheel-build[uv]", ("python", "-m", "build", "{project}", *_CIBW_OUT, "--installer=uv")),
    FrontEnd(
        "cibuildwheel-uv",
        ("uv", "build", "--python={host}/bin/python", "{project}", "--wheel", "--out-dir={out}"),
    ),
)

OTHER_FRONT_ENDS = (
    *(PDM_BUILD, PDM_INSTALL, POETRY_INSTALL, HATCH_BUILD, TOX, NOX, NOX_WITH_UV),
    *CIBUILDWHEEL,
)

# From sources that they unpack, or clone, for each build. `{sdists}` is the folder that the sdist is in.
_TO_SITE = ("install", "--no-deps", "--force-reinstall")
_PIP_TO_SITE = ("{host}/bin/python", "-m", "pip", "--python", "{site}/bin/python", *_TO_SITE)
_UV_TO_SITE = UV_PIP.command[:-1]
_of_site = partial(FrontEnd, ephemeral=False, makes_wheel=False)
PIP_INSTALL_SDIST = _of_site("pip-install-sdist", (*_PIP_TO_SITE, "{sdists}/tiny-0.1.0.tar.gz"))
PIP_INSTALL_GIT = _of_site("pip-install-git", (*_PIP_TO_SITE, "git+file://{project}"))
_BY_NAME = ("--no-binary", "tiny", "tiny")
PIP_WHEEL_NAME = FrontEnd("pip-wheel-name", (*_PIP, *_BY_NAME), ephemeral=False)
PIP_INSTALL_NAME = _of_site("pip-install-name", (*_PIP_TO_SITE, *_BY_NAME))
UV_INSTALL_NAME = _of_site("uv-pip-install-name", (*_UV_TO_SITE, *_BY_NAME), ephemeral=True)
UV_INSTALL_GIT = _of_site("uv-pip-install-git", (*_UV_TO_SITE, "git+file://{project}"), ephemeral=True)
_UV_APP = """\
[project]
name = "app"
version = "1"
requires-python = ">=3.9"
dependencies = ["tiny"]

[tool.uv.sources]
tiny = {{ git = "file://{project}" }}
"""
_uv_app = ("--project", "{work}", "--python", "{base}")
UV_SYNC_GIT = _of_site(
    "uv-sync-git",
    ("{host}/bin/uv", "sync", *_uv_app, "--upgrade-package", "tiny"),
    ephemeral=True,
    files=(("{work}/pyproject.toml", _UV_APP),),
    installs_into="{work}/.venv",
)
PIPX = _of_site(
    "pipx",
    ("{host}/bin/pipx", "install", "--force", "--python", "{base}", "{sdists}/tiny-0.1.0.tar.gz"),
    requirements=("pipx",),
    variables=(("PIPX_HOME", "{work}/home"), ("PIPX_BIN_DIR", "{work}/bin"), ("PIP_NO_INDEX", "0")),
    installs_into="{work}/home/venvs/tiny",
)
_HOOKS = """\
repos:
- repo: {project}
  rev: HEAD
  hooks: [{{id: tiny}}]
"""
# Each commit is cloned anew, and has an environment in its clone.
_PRE_COMMIT = """\
set -e; cd "$1"; export GIT_CONFIG_GLOBAL=/dev/null
git init -q .; git add .
"$2" autoupdate --bleeding-edge; "$2" install-hooks
ln -sfn "$(ls -td home/repo*/py_env-* | head -n 1)" site
"""
PRE_COMMIT = _of_site(
    "pre-commit",
    ("sh", "-c", _PRE_COMMIT.replace("{", "{{").replace("}", "}}"), "sh", "{work}", "{host}/bin/pre-commit"),
    requirements=("pre-commit",),
    variables=(("PRE_COMMIT_HOME", "{work}/home"),),
    files=(("{work}/.pre-commit-config.yaml", _HOOKS),),
    installs_into="{work}/site",
)
OF_UNPACKED = (
    *(BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST, PIP_INSTALL_SDIST, PIP_INSTALL_GIT, PIP_WHEEL_NAME),
    *(PIP_INSTALL_NAME, UV_INSTALL_NAME, UV_INSTALL_GIT, UV_SYNC_GIT, TOX_SDIST, TOX_PASS_ENV),
    *(PIPX, PRE_COMMIT),
)

# Called from one environment, building for another.
_PIP_PYTHON = ("{host}/bin/python", "-m", "pip", "--python", "{site}/bin/python", "wheel", "--no-deps")
PIP_PYTHON = FrontEnd("pip-python", (*_PIP_PYTHON, "-w", "{out}", "{project}"), ephemeral=False)
PIP_PYTHON_VENV = FrontEnd(
    "pip-python-venv-isolation",
    (*_PIP_PYTHON, "-w", "{out}", "--use-feature=venv-isolation", "{project}"),
)

# Without an ephemeral environment: in the user's own, {site}.
OWN_PIP = FrontEnd(
    "pip-no-build-isolation",
    (*_PIP_PYTHON, "-w", "{out}", "--no-build-isolation", "{project}"),
    ephemeral=False,
)
OWN_UV = FrontEnd("uv-no-build-isolation", (*UV_BUILD.command, "--no-build-isolation"), ephemeral=False)
OWN_BUILD = FrontEnd(
    "build-env-dir",
    (*_BUILD, "-w", "--env-dir", "{temporary}/build-env-mine", "{project}"),
    ephemeral=False,
)
_maturin = partial(FrontEnd, ephemeral=False, requirements=("maturin",), variables=_ACTIVE)
_MATURIN = ("-m", "{project}/Cargo.toml", "--profile", "dev")
MATURIN_DEVELOP = _maturin(
    "maturin-develop", ("{host}/bin/maturin", "develop", "--uv", *_MATURIN), makes_wheel=False
)
MATURIN_BUILD = _maturin(
    "maturin-build", ("{host}/bin/maturin", "build", *_MATURIN, "-i", "{base}", "-o", "{out}")
)
