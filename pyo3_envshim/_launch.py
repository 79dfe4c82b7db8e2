"""What the launcher (pyo3-envshim-cargo, beside this file) runs in an isolated Python.

Takes two arguments before cargo's own: LC_CTYPE as it was, with ``=`` in front, or nothing if it
was unset; and the path by which the launcher was started.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

# What a shell sets in its own environment: dash only PWD, bash all of them.
SHELLS = ("PWD", "OLDPWD", "SHLVL", "_")


def restore(environ: MutableMapping[str, str], parent: Mapping[str, str]) -> None:
    """Set in *environ* what the launcher's shell has changed, as far as *parent* tells.

    *parent* are the variables that the parent process was started with. Where we have most of
    them, we have inherited them; else it made up ours, and PWD is taken for the shell's.
    """
    if 2 * len(parent.keys() & environ.keys()) <= len(parent):
        environ.pop("PWD", None)
        return
    for name in SHELLS:
        environ.pop(name, None)
        if name in parent:
            environ[name] = parent[name]


def main() -> int:
    if sys.argv[1]:  # Python may have set it (PEP 538)
        os.environ["LC_CTYPE"] = sys.argv[1][1:]
    else:
        os.environ.pop("LC_CTYPE", None)
    try:
        with open(f"/proc/{os.getppid()}/environ", "rb") as file:
            pairs = [os.fsdecode(entry).partition("=") for entry in file.read().split(b"\0")]
        restore(os.environ, {name: value for name, equals, value in pairs if equals})
    except OSError:  # not Linux, or another user's: no program is known that minds
        pass
    del sys.argv[:2]
    # The standard library comes first: nothing that is installed beside us can replace a part of it.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from pyo3_envshim.wrapper import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
