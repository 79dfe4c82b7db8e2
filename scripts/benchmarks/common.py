"""What the benchmarks share: what they find, how it is shown and judged, and what they take.

A benchmark is a module with ``TITLE``, ``ABOUT`` (Markdown) and ``measure(Setting) -> Found``. It first
makes sure that what it compares did the same work, and raises `Failure` if not.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.building import Failure, Interrupted, Progress
from support import CHECKOUT


@dataclass(frozen=True)
class Setting:
    """What a benchmark is given: its folder, whether the smallest case will do, interpreters, rounds."""

    folder: Path
    quick: bool
    pythons: Sequence[str]
    rounds: int
    progress: Progress


class Steps(Progress):
    """Says what is being done; between two steps, a signal ends it."""

    def step(self, text: str) -> None:
        """Begin a step."""
        Interrupted.check()
        super().step(text)


@dataclass(frozen=True)
class Target:
    """Something that is to hold: *measured* is at most *limit*. *timed*: a busy machine may spoil it."""

    text: str
    measured: float
    limit: float
    timed: bool = True

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.measured <= self.limit

    def line(self) -> str:
        """Return the line that says so."""
        measured, limit = (f"{it:,.0f}" if it >= 1000 else f"{it:.4g}" for it in (self.measured, self.limit))
        return f"{'met' if self.met else 'MISSED'}: {self.text}: {measured} of {limit}"


@dataclass
class Found:
    """What a benchmark found.

    *rows* have equal keys, which are the headings. *chart* is what `charts` draws. *versions*: of what
    took part. *notes*: what was passed over, and why.
    """

    rows: list[dict[str, Any]]
    targets: list[Target]
    chart: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def data(self, **more: Any) -> dict[str, Any]:
        """Return what is written as JSON."""
        targets = [{**asdict(it), "met": it.met} for it in self.targets]
        found = {"rows": self.rows, "targets": targets, "notes": self.notes, "chart": self.chart}
        return {**more, "versions": self.versions, **found}

    def text(self) -> str:
        """Return what is printed."""
        lines = aligned(cells(self.rows))
        return "\n".join([*lines, "", *self.notes, *(it.line() for it in self.targets)])


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the headings, and each row as it is shown."""
    return [list(rows[0]), *([shown(value) for value in row.values()] for row in rows)]


def shown(value: object) -> str:
    """Return a figure, or a text, as a table has it."""
    if isinstance(value, float):
        return f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of cells as text; columns of figures stand to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = [all(cell[:1] in "-+0123456789" for cell in column[1:]) for column in zip(*lines)]
    texts = (
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right)).rstrip()
        for line in lines
    )
    heading, *rest = texts
    return [heading, "-" * (sum(widths) + 2 * len(widths) - 2), *rest]


def section(module: Any, data: dict[str, Any], chart: str) -> str:
    """Return what docs/benchmarks.md says of one benchmark; *data* is its JSON, *chart* a path or nothing."""
    table = cells(data["rows"])
    table.insert(1, ["---"] * len(table[0]))
    lines = ["| " + " | ".join(line) + " |" for line in table]
    targets = [f"- {Target(**{k: v for k, v in it.items() if k != 'met'}).line()}" for it in data["targets"]]
    picture = f"![{module.TITLE.partition(':')[0]}]({chart})" if chart else ""
    parts = [f"## {module.TITLE}", module.ABOUT.strip(), picture]
    parts += ["\n".join(lines), "\n".join(targets), "\n".join(f"- {note}" for note in data["notes"])]
    made = ", ".join(f"{of} {version}" for of, version in data["versions"].items())
    parts.append(f"Made by `{data['command']}`, commit {data['commit']}, on {data['machine']}: {made}.")
    return "\n\n".join(part for part in parts if part)


def machine() -> str:
    """Return in a few words what this is measured on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({model})"


def commit() -> str:
    """Return the commit of this checkout, with ``-dirty`` if what is measured was changed since."""
    # Not docs, where an earlier benchmark may have left its results.
    sources = ["hatch_build.py", "hooks", "pyo3_envshim", "scripts", "tests/support"]
    commands = (["describe", "--always", "--exclude=*"], ["status", "--porcelain", "--", *sources])
    try:
        name, changes = (
            subprocess.run(["git", *command], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.strip() + ("-dirty" if changes else "")


def median(values: Sequence[float]) -> float:
    """Return the median, to what can be told apart."""
    return float(f"{statistics.median(values):.4g}")


def the_same(what: str, found: dict[str, object]) -> None:
    """Raise `Failure` if these values are not all equal: then different work was compared."""
    first, *others = found.items()
    for name, value in others:
        if value != first[1]:
            raise Failure(
                f"{what} of {name!r} is not that of {first[0]!r}: different work was compared",
                f"{first[0]}: {first[1]}\n{name}: {value}\n",
            )


def run(command: Sequence[str | Path], cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Run a command; return what it says. Raises `Failure`, with what it said, if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(f"`{' '.join(map(str, command))}` ended with {done.returncode}", done.stdout)
    return done.stdout


def make_environment(place: Path, python: str, *packages: str) -> Path:
    """Make an environment with the newest pip and these packages; return the path of its Python."""
    run([python, "-m", "venv", place], place.parent)
    own = place / "bin" / "python"
    install = [str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade"]
    # The scripts that the newest pip writes do not import re. --upgrade: venv may bring an old setuptools.
    for wanted in (("pip",), packages):
        if wanted:
            run([*install, *wanted], place.parent)
    return own


def site_packages(environment: Path) -> Path:
    """Return the folder that startup lines are read from."""
    return next(environment.glob("lib/*/site-packages"))
