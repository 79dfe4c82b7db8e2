"""What a startup line costs a Python that has nothing to do with a build: instructions, by callgrind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from shared.building import Failure
from support import CHECKOUT

from .common import Found, Setting, Target, make_environment, run, site_packages

TITLE = "Startup: `python -c pass` with a startup line"
ABOUT = """
Instructions (callgrind) of `python -c pass` in an environment with this one startup file, over those with
one that holds only a comment. The environments have paths of one length and are alike but for that file and
what it imports. Before it is counted, each line is seen to run, and ours to do its work when a build calls.

In an environment, `site` compiles and runs each line twice, up to Python 3.14; *import os* is the least that
a line costs. Ours has to look at the first argument and for three variables, and must hold the code that
runs in a build, safe from exceptions. Compiling that is four fifths of what it costs beyond *import os*;
other ways to write it cost up to a tenth more. Most of the last fifth are three look-ups in `os.environ`,
each of which ends in an exception inside; only its private `_data` knows a cheaper way. Not counted is what
any `.pth` with text in it costs once: from Python 3.13 on, `site` imports a codec to read it (a comment, less
*an empty .pth*).

A `.start` file (PEP 829, Python 3.15) makes `site` import `pkgutil`, whatever it names: *a .start that
does nothing* calls `os.getpid`. Ours is for Python 3.18 and later, where import lines in a `.pth` end.
"""
NEEDS = ("valgrind",)

_EMPTY = "an empty .pth"
_COMMENT = "a comment"
_LEAST = "import os"
_OURS = "pyo3_envshim.pth"
_START = "pyo3_envshim.start"
_EMPTY_START = "a .start that does nothing"
_OTHERS = ("setuptools==82.0.1", "coverage", "virtualenv", "pytest-cov<7")
_PACKAGES = ("setuptools", "coverage", "virtualenv", "pytest-cov")
_SEEN = "\nimport os; os.environ['BENCH_SEEN'] = '1'\n"
_TELL = "import os; print(*(name for name in ('BENCH_SEEN', 'PYO3_BASE_PYTHON') if name in os.environ))"


def steps(setting: Setting) -> int:
    """Return how many steps it takes, at most."""
    return len(setting.pythons) * (1 + (5 if setting.quick else 10))


def measure(setting: Setting) -> Found:
    """Count for each interpreter and line."""
    rows, targets, series = [], [], {}
    versions: dict[str, str] = {
        "valgrind": run(["valgrind", "--version"], setting.folder).strip()[len("valgrind-") :]
    }
    for number, python in enumerate(setting.pythons):
        version = run([python, "-c", "import platform; print(platform.python_version())"], setting.folder)
        folder = setting.folder / f"python-{number}"
        folder.mkdir()
        counts = _count(setting, folder, python, version.strip(), versions)
        over = {name: count - counts[_COMMENT] for name, count in counts.items()}
        for name, count in counts.items():
            rows.append(
                {"Python": version.strip(), "startup line": name, "instructions": count, "over": over[name]}
            )
        del over[_EMPTY], over[_COMMENT]
        series[version.strip()] = {name: count / 1e6 for name, count in over.items()}
        others = [count for name, count in over.items() if name.endswith(")")]
        text = f"Python {version.strip()}: instructions over a comment, and the cheapest other"
        targets.append(Target(text, over[_OURS], min(others), timed=False))
    chart = {"kind": "bars", "x": "million instructions over a comment", "series": series}
    return Found(rows, targets, chart, versions)


def _count(
    setting: Setting, folder: Path, python: str, version: str, versions: dict[str, str]
) -> dict[str, int]:
    """Return the instructions by startup line."""
    setting.progress.step(f"{version}: installing what others use")
    lines = _lines(folder, python, setting.quick, versions)
    counts = {}
    for number, (name, (ending, text, imported)) in enumerate(lines.items()):
        setting.progress.step(f"{version}: {name}")
        environment = folder / str(number)
        run([python, "-m", "venv", "--without-pip", environment], folder)
        site = site_packages(environment)
        shutil.copytree(CHECKOUT / "pyo3_envshim", site / "pyo3_envshim")
        for it in imported:
            copy = shutil.copytree if it.is_dir() else shutil.copy
            copy(it, site / it.name)
        own = str(environment / "bin" / "python")
        file = site / f"pyo3_envshim{ending}"
        check(own, file, text, ours=name in (_OURS, _START))
        file.write_text(text)
        counts[name] = instructions([own, "-c", "pass"])
    return counts


def _lines(
    folder: Path, python: str, quick: bool, versions: dict[str, str]
) -> dict[str, tuple[str, str, list[Path]]]:
    """Return each startup line by name: the file's ending, its text, and what it imports."""
    others = folder / "others"
    own = make_environment(others, python, str(CHECKOUT), *(_OTHERS[:1] if quick else _OTHERS))
    site = site_packages(others)
    for line in run([own, "-m", "pip", "list", "--format=freeze"], folder).splitlines():
        package, _, version = line.partition("==")
        known = versions.get(package, "")
        if package in _PACKAGES and version not in known.split(" and "):  # older ones, for an old Python
            versions[package] = f"{known} and {version}" if known else version
    found: dict[str, tuple[str, str, list[Path]]] = {_EMPTY: (".pth", "", [])}
    found[_COMMENT] = (".pth", "# nothing\n", [])
    found[_LEAST] = (".pth", "import os\n", [])
    found[_OURS] = (".pth", (site / _OURS).read_text(), [])
    name = "distutils-precedence.pth"
    found[f"{name} (setuptools)"] = (".pth", (site / name).read_text(), [site / "_distutils_hack"])
    if quick:
        return found
    for name, package in (("a1_coverage.pth", "coverage"), ("pytest-cov.pth", "pytest-cov 6")):
        if (site / name).exists():  # not in the coverage that is for Python 3.9
            found[f"{name} ({package})"] = (".pth", (site / name).read_text(), [])
    made = folder / "virtualenv"
    run([own, "-m", "virtualenv", "--no-seed", "-q", "-p", python, made], folder)
    name = "_virtualenv.pth"
    if (site_packages(made) / name).exists():
        text = (site_packages(made) / name).read_text()
        found[f"{name} (virtualenv)"] = (".pth", text, [site_packages(made) / "_virtualenv.py"])
    if run([own, "-c", "import sys; print(sys.version_info >= (3, 15))"], folder).strip() == "True":
        found[_EMPTY_START] = (".start", "os:getpid\n", [])
        found[_START] = (".start", (CHECKOUT / "hooks" / _START).read_text(), [])
    return found


def check(python: str, file: Path, text: str, ours: bool) -> None:
    """Make sure that the line runs, and that ours does its work in a build."""
    witness = file.with_suffix(".pth") if file.suffix == ".pth" else file.with_name("witness.pth")
    file.write_text(text)
    with open(witness, "a") as more:
        more.write(_SEEN)
    environ = {**_environ(), "_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin"}
    said = run([python, "-c", _TELL], file.parent, environ).split()
    witness.unlink()
    if said != ["BENCH_SEEN"] + ["PYO3_BASE_PYTHON"] * ours:
        raise Failure(f"{file} does not do what it should: {said}", text)


def _environ() -> dict[str, str]:
    # Few, because each variable costs; hash randomisation would change the count from run to run.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}


def instructions(command: list[str], cwd: str = "/", **environ: str) -> int:
    """Return how many instructions a command takes, without what it starts."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    counts = []
    for _ in range(3):  # the first writes byte code
        done = subprocess.run(
            valgrind, env={**_environ(), **environ}, cwd=cwd, capture_output=True, text=True, check=False
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not found:
            raise Failure(f"`{' '.join(valgrind)}` ended with {done.returncode}", done.stderr)
        counts.append(int(found[1]))
    return min(counts[1:])
