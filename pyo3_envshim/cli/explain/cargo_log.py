"""Parses cargo's log of fingerprints: which units it compiled, and the reasons that it gave.

No input or output, and no judgement: a reason that is not understood stays as cargo
wrote it. Reasons are what Rust's ``{:?}`` prints of cargo's ``DirtyReason`` (seen in
1.95 and 1.97; ``core/compiler/fingerprint/dirty_reason.rs``). Before 1.67 they are prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# How a line of the log begins. cargo wrote the second form up to 1.70.
LINE = r"(?: *\d+\.\d+s +[A-Z]+ (?:.*[ :])?|\[\S+ [A-Z]+ +)cargo::(?:core::)?compiler::fingerprint(?:: |\] )"
_AT = "fingerprint at: "
_MESSAGE = re.compile(LINE + "(.*)")
_UNIT = re.compile(
    r"fingerprint (?:dirty|error) for (?P<name>\S+) v(?P<version>\S+?)(?: \((?P<path>.+?)\))?"
    r"/(?:Build|Check|Test|Doc|Doctest|Docscrape|RunCustomBuild)\b"
)
_PACKAGE = re.compile(r"package_id=(\S+) v(\S+)")
_NEWER = re.compile(r"dependency on `(.+?)` is newer than we are (\d+\.\d+)s")


@dataclass(frozen=True)
class Value:
    """A Rust value with a name: ``Name``, ``Name { field: … }`` or ``Name(…)``."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    items: tuple[Any, ...] = ()


@dataclass
class Unit:
    """One unit that cargo compiles or runs: a library, a build script, its run…

    *place*: the path of its fingerprint. *reason*: why it was dirty, None if cargo did not
    say; *raw*: the same as cargo wrote it. *cold*: whether it had no fingerprint to read.
    """

    package: str
    version: str
    place: str
    dirty: bool = False
    cold: bool = False
    reason: Value | None = None
    raw: str = ""


@dataclass
class Log:
    units: list[Unit]
    newer: dict[str, str]  # mtime → name, of each dependency that another build compiled

    @property
    def dirty(self) -> list[Unit]:
        """The units that were not fresh, in the order of the log."""
        return [unit for unit in self.units if unit.dirty]


def places(lines: Iterable[str]) -> list[str]:
    """Return the fingerprints that these lines name."""
    return [line.split(_AT, 1)[1] for line in lines if _AT in line]


def read(lines: Iterable[str]) -> Log:
    log = Log([], {})
    for line in lines:
        found = _MESSAGE.match(line)
        if not found:
            if log.units and log.units[-1].cold and line.strip() == "No such file or directory (os error 2)":
                log.units[-1].raw += ": no such file"
            continue
        message = found[1]
        if message.startswith(_AT):
            package = _PACKAGE.search(line)
            name, version = package.groups() if package else ("", "")
            log.units.append(Unit(name, version, message[len(_AT) :]))
        elif newer := _NEWER.match(message):
            log.newer[newer[2]] = newer[1]
        elif log.units:
            _add(log.units[-1], message)
    return log


def _add(unit: Unit, message: str) -> None:
    """Add what a line says to the unit that it is about, the last one that was named."""
    if header := _UNIT.match(message):
        unit.dirty = True
        unit.package, unit.version = header["name"], header["version"]
    elif message.startswith("    dirty: "):
        unit.raw = message[len("    dirty: ") :]
        unit.reason = value(unit.raw)
    elif message.startswith("    err: "):
        unit.raw = message[len("    err: ") :]
        unit.cold = unit.raw.startswith("failed to read ")


_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\w.+-]+(?:::\w+)*|\S)')
_ESCAPE = re.compile(r"\\(u\{([0-9a-f]+)\}|.)")
_WORDS = {"None": None, "true": True, "false": False}
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


def value(text: str) -> Value | None:
    """Return the value whose ``{:?}`` is *text*, or None if that is not understood."""
    tokens: list[str] = _TOKEN.findall(text)
    tokens.reverse()  # so that pop() takes the next one
    try:
        found = _parse(tokens)
    except (IndexError, ValueError):
        return None
    return found if not tokens and isinstance(found, Value) else None


def _parse(tokens: list[str]) -> Any:
    token = tokens.pop()
    if token[0] == '"':
        return _ESCAPE.sub(lambda it: chr(int(it[2], 16)) if it[2] else _SHORT.get(it[1], it[1]), token[1:-1])
    if token == "[":
        return _items(tokens, "]")
    if token[0].isdigit() or token[0] == "-":
        return float(token) if "." in token else int(token)
    if not token[0].isalpha():
        raise ValueError(token)
    if tokens[-1:] == ["("]:
        tokens.pop()
        items = _items(tokens, ")")
        return items[0] if token == "Some" else Value(token, items=tuple(items))
    if tokens[-1:] == ["{"]:
        tokens.pop()
        return Value(token, dict(_items(tokens, "}")))
    return _WORDS.get(token, Value(token))


def _items(tokens: list[str], end: str) -> list[Any]:
    """Return what stands before *end*: values, or fields as pairs of name and value."""
    found: list[Any] = []
    while tokens[-1] != end:
        if end == "}":
            name = tokens.pop()
            if tokens.pop() != ":":
                raise ValueError(name)
            found.append((name, _parse(tokens)))
        else:
            found.append(_parse(tokens))
        if tokens[-1] == ",":
            tokens.pop()
    tokens.pop()
    return found


def dependencies(units: Sequence[Unit], left: dict[str, Any]) -> dict[str, list[Unit]]:
    """Return, by place, those among *units* that each of them depends on.

    *left* is what cargo left of each unit, by place: a fingerprint holds the hashes of its
    dependencies. Names decide where a build failed and left no fingerprint.
    """
    hashes = {unit.place: bytes.fromhex(left[unit.place]["hash"]) for unit in units}
    by_hash = {int.from_bytes(hashes[unit.place], "little"): unit for unit in units if hashes[unit.place]}
    needs: dict[str, list[Unit]] = {}
    for unit in units:
        found = needs[unit.place] = []
        for _, name, _, number in left[unit.place]["facts"].get("deps", []):
            if number in by_hash:
                found.append(by_hash[number])
            elif not hashes[unit.place]:
                found += [other for other in units if other is not unit and _is_called(other, name, unit)]
    return needs


def _is_called(unit: Unit, name: str, by: Unit) -> bool:
    file = re.split(r"[/\\]", unit.place)[-1]
    if name == "build_script_build":
        return unit.package == by.package and "build-script" in file
    return unit.package.replace("-", "_") == name and file.startswith("lib-")
