"""The build front ends: how each is asked to build a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_UV_PROJECT = ("--project", "{project}")
_UV_INSTALL = ("--no-deps", "--reinstall-package", "tiny")


@dataclass(frozen=True)
class FrontEnd:
    """A front end's command line.

    `{host}` is the environment that holds the front end, `{project}` the source folder, `{out}`
    a folder for the wheel, `{site}` an environment to install into, `{base}` the base interpreter.
    """

    name: str
    command: tuple[str, ...]
    throw_away: bool = True
    makes_wheel: bool = True

    def arguments(self, **places: object) -> Sequence[str]:
        """Return the command line for these places."""
        return [word.format(**places) for word in self.command]


_PIP = ("{host}/bin/python", "-m", "pip", "wheel", "--no-deps", "-w", "{out}")
_BUILD = ("{host}/bin/python", "-m", "build", "-o", "{out}")
_UV_BUILD = ("{host}/bin/uv", "build", "--python", "{base}", "-o", "{out}")

PIP = FrontEnd("pip", (*_PIP, "{project}"), throw_away=False)
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
)
FRONT_ENDS = (PIP, PIP_VENV, BUILD, BUILD_WITH_UV, UV_BUILD, UV_PIP, UV_SYNC)

BUILD_FROM_SDIST = FrontEnd("build-from-sdist", (*_BUILD, "{project}"))
UV_BUILD_FROM_SDIST = FrontEnd("uv-build-from-sdist", (*_UV_BUILD, "{project}"))
