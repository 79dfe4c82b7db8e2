"""Draw one benchmark's chart: ``python charts.py FILE.json FILE.svg``, where matplotlib is.

Kinds: *bars* (``series``: name → row → figure) and *lines* (``series``: name → points). The same
figures give the same file: no date, no random names.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_COLOURS = ("#9aa5b1", "#d9822b", "#2f6fab", "#7a9e54", "#8d6cab", "#c0504d", "#4bacc6", "#333333")
_STYLE = {"svg.hashsalt": "pyo3-envshim", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}


def draw(chart: dict[str, Any], place: Path) -> None:
    """Write the chart as SVG."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(_STYLE)
    pyplot = import_module("matplotlib.pyplot")

    bars = chart["kind"] == "bars"
    rows = list(dict.fromkeys(row for values in chart["series"].values() for row in values)) if bars else []
    height = 1.2 + 0.16 * len(rows) * (len(chart["series"]) + 1) if bars else 4.0
    figure, axes = pyplot.subplots(figsize=(8, max(2.5, height)), layout="constrained")
    for number, (name, values) in enumerate(chart["series"].items()):
        colour = _COLOURS[number % len(_COLOURS)]
        if bars:
            width = 0.85 / len(chart["series"])
            places = [rows.index(row) + width * (number + 0.5) - 0.425 for row in values]
            drawn = axes.barh(places, values.values(), width, label=name, color=colour)
            axes.bar_label(drawn, fmt="{:,.3g}", padding=2, fontsize=7)
        else:
            axes.plot(*zip(*values), marker="o", label=name, color=colour)
    if bars:
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.margins(x=0.12)
    else:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(chart["x"])
    axes.set_ylabel(chart.get("y", ""))
    axes.grid(axis="x" if bars else "both", color="#e5e5e5")
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart["series"]) > 1:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(place, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())["chart"], Path(sys.argv[2]))
