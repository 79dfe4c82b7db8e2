"""Finds the root cause of each crate that one call of cargo recompiled.

Takes a `recorder`'s record and returns values; reads nothing. An unknown cause is shown as
cargo wrote it, never guessed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from typing import Any

from pyo3_envshim.cargo import inputs
from pyo3_envshim.cli.explain import cargo_log
from pyo3_envshim.cli.explain.cargo_log import Log, Unit, Value
from pyo3_envshim.environment import frontends

# What a fingerprint holds, the more telling first: the kind of the cause, its name for people,
# and the reason that cargo gives, where it compares with the last build in the same place.
_FIELDS = {
    "rustc": ("toolchain", "the Rust toolchain", "RustcChanged"),
    "compile_kind": ("target", "the target platform", "CompileKindChanged"),
    "profile": ("profile", "the profile's settings", "ProfileConfigurationChanged"),
    "rustflags": ("rustflags", "RUSTFLAGS", "RustflagsChanged"),
    "features": ("features", "the crate's features", "FeaturesChanged"),
    "declared_features": ("features", "the features that Cargo.toml declares", "DeclaredFeaturesChanged"),
    "config": ("config", "cargo's configuration", "ConfigSettingsChanged"),
    "path": ("path", "the path of the sources", "PathToSourceChanged"),
    "target": ("manifest", "the target's settings in Cargo.toml", "TargetConfigurationChanged"),
}
_REASONS = {reason: name for name, (_, _, reason) in _FIELDS.items()}
NAME_IT = "set PYO3_PYTHON to the path of the interpreter that the wheel is for"
KEPT = "cargo keeps what it compiled with each: the next build with either is warm"
_FOLLOWS = ("UnitDependencyInfoChanged", "StaleDepFingerprint")
_FOLLOWS_IN_PROSE = ("unit dependency information changed", "current filesystem status shows we're outdated")
_WATCHES = (
    *("LocalLengthsChanged", "LocalFingerprintTypeChanged", "DepInfoOutputChanged"),
    *("RerunIfChangedOutputFileChanged", "RerunIfChangedOutputPathsChanged"),
)


@dataclass(frozen=True)
class Cause:
    """A root cause.

    *kind*: for machines, stable. *name*: the variable, file or crate that it is about. *brief*:
    for a table. *text*: the whole. *hint*: the way out, or "" where there is nothing to do.
    """

    kind: str
    name: str
    brief: str
    text: str
    hint: str = ""
    old: str | None = None
    new: str | None = None


@dataclass
class Crate:
    """A crate that was recompiled: how long it took, and its own causes or the crates that it follows."""

    name: str
    version: str
    causes: list[Cause]
    because: list[str]
    roots: list[Cause]  # its own causes, and its dependencies'
    begun: float = 0
    seconds: float | None = None


@dataclass
class Call:
    """One call of cargo that compiles; *understood*: whether its log was."""

    record: dict[str, Any]
    crates: list[Crate]
    total: int
    understood: bool = True

    @property
    def seconds(self) -> float:
        return float(self.record["ended"] - self.record["begun"])


def diagnose(record: dict[str, Any], started: float) -> Call:
    """Diagnose one call of a command that was started at *started*."""
    log = cargo_log.read(record["log"])
    total = len({(unit.package, unit.version) for unit in log.units if unit.version})
    if log.dirty or not record["compiled"]:
        try:
            crates = sorted(_crates(record, log, started), key=lambda crate: crate.begun)
            return Call(record, crates, max(total, len(crates)))
        except (KeyError, TypeError, ValueError):  # a fingerprint of an unknown form
            pass
    return Call(record, [], total, understood=False)


def _crates(record: dict[str, Any], log: Log, started: float) -> list[Crate]:
    diagnoser = Diagnoser(record, log, started)
    needs = cargo_log.dependencies(log.dirty, record["units"])
    own = {unit.place: diagnoser.causes(unit, bool(needs[unit.place])) for unit in log.dirty}
    packages: dict[tuple[str, str], list[Unit]] = {}
    for unit in log.dirty:
        packages.setdefault((unit.package, unit.version), []).append(unit)
    crates = []
    for (name, version), units in packages.items():
        left = [record["units"][unit.place] for unit in units]
        causes = list(dict.fromkeys(cause for unit in units for cause in own[unit.place]))
        roots = [root for unit in units for place in _reached(unit.place, needs) for root in own[place]]
        needed = [it.package for unit in units if not own[unit.place] for it in needs[unit.place]]
        if not roots:
            causes = roots = [_renamed(name, version)]
        crate = Crate(name, version, causes, [it for it in dict.fromkeys(needed) if it != name], roots)
        crate.begun = min(it["begun"] or 0 for it in left)
        crate.seconds = _seconds(left, record["begun"])
        crates.append(crate)
    for name, version in (found.split(" v", 1) for found in dict.fromkeys(record["compiled"])):
        if (name, version) not in packages:
            unknown = [_unknown(name, "")]
            crates.append(Crate(name, version, unknown, [], unknown))
    return crates


def _reached(place: str, needs: dict[str, list[Unit]]) -> set[str]:
    found = {place}
    while more := {unit.place for at in found for unit in needs[at]} - found:
        found |= more
    return found


def _seconds(units: list[dict[str, Any]], begun: float) -> float | None:
    """Return how long the units took that this call completed: cargo empties the hash of those that fail."""
    done = [it for it in units if it["hash"] and it["begun"] and it["begun"] >= begun - 1]
    return sum(max(0.0, it["ended"] - it["begun"]) for it in done) if done else None


@dataclass
class Diagnoser:
    """Finds the causes of one call's units."""

    record: dict[str, Any]
    log: Log
    started: float

    def causes(self, unit: Unit, depends: bool) -> list[Cause]:
        """Return a unit's own causes; none if it only follows others (*depends*: whether there are any)."""
        reason = unit.reason
        if unit.cold:
            return self._of_cold(unit)
        while reason and reason.name in ("FsStatusOutdated", "StaleItem") and reason.items:
            reason = reason.items[0]
        try:
            found = self._of(unit, reason) if reason else None
        except (KeyError, TypeError, AttributeError):  # a known name with unknown fields
            found = None
        if found is not None:
            return [found, *self._more_variables(unit, found.name)]
        follows = reason.name in _FOLLOWS if reason else unit.raw in _FOLLOWS_IN_PROSE
        return [] if follows and depends else [_unknown(unit.package, unit.raw)]

    def _of(self, unit: Unit, reason: Value) -> Cause | None:
        fields = reason.fields
        if reason.name == "EnvVarChanged":
            return self._of_variable(fields["name"], fields["old_value"], fields["new_value"])
        if reason.name == "ChangedEnv":
            return self._of_variable(fields["var"], fields["previous"], fields["current"])
        if reason.name in ("MissingFile", "FailedToReadMetadata", "UnableToReadFile"):
            return self._of_missing(unit, fields["path"])
        if reason.name in ("ChangedFile", "FileSizeChanged", "ChangedChecksum"):
            path = str(fields.get("stale") or fields.get("path") or fields.get("source"))
            stale = fields.get("stale_mtime")
            return self._of_file(path, stale.fields["seconds"] + stale.fields["nanos"] / 1e9 if stale else 0)
        if reason.name == "PrecalculatedComponentsChanged":
            return self._of_content(unit, fields["old"], fields["new"])
        if reason.name == "StaleDependency":
            return self._of_rebuilt(fields["dep_mtime"])
        if reason.name in _WATCHES:
            text = f"what the build script of {unit.package} asks cargo to watch changed"
            return Cause("watches", unit.package, "its build script watches other things", text)
        if reason.name in _REASONS:
            return self._of_setting(_REASONS[reason.name], fields.get("old"), fields.get("new"), kept=False)
        return None

    def _of_cold(self, unit: Unit) -> list[Cause]:
        """Compare a unit that had no fingerprint with the nearest of those with other settings.

        Returns no cause where they hold the same: cargo names a unit by more than that.
        """
        facts = self.record["units"][unit.place]["facts"]
        if facts and unit.place in self.record["aside"]:
            return self._of_set_aside(unit)
        before = self.record["before"][unit.place]
        if not before:
            return [self._of_first(unit)]
        if not facts:  # it failed, and cargo left nothing to compare
            return [_unknown(unit.package, unit.raw)]

        def differences(old: dict[str, Any]) -> list[str]:
            found = [name for name in _FIELDS if facts.get(name) != old.get(name)]
            return found + ["local"] * (_content(facts) != _content(old))

        ended = sorted(before, key=lambda other: -other["ended"])
        old = min((other["facts"] for other in ended), key=lambda old: len(differences(old)))
        names = differences(old)
        if "rustc" in names:  # another cargo computes the rest differently
            names = ["rustc"]
        return [
            self._of_content(unit, _content(old), _content(facts))
            if name == "local"
            else self._of_setting(name, old.get(name), facts.get(name), kept=True)
            for name in names
        ]

    def _of_set_aside(self, unit: Unit) -> list[Cause]:
        """Compare the run of a build script with what was put aside of it; others follow."""
        before = self.record["aside"][unit.place]
        after = inputs.watched_variables(self.record["units"][unit.place])
        found = [self._of_variable(name, before[name], after[name]) for name in after if name in before]
        text, hint = (
            "; what was compiled for the old value is set aside",
            "the next build with either is warm",
        )
        changed = (it for it in found if it.old != it.new)
        return [replace(it, kind="set-aside", text=it.text + text, hint=hint) for it in changed]

    def _of_first(self, unit: Unit) -> Cause:
        target = self.record["target"] or ""
        inside = os.path.relpath(unit.place, target) if target else unit.place
        profile = re.split(r"[/\\](?:\.fingerprint|build)[/\\]", inside)[0]
        known = self.record["profiles"]
        if not known:
            maker = frontends.unpacked_by(target)
            brief = "the target folder is new"
            text, hint = f"the target folder {target} is new" if target else brief, ""
            if maker:
                text += f": {maker.name} unpacked the sdist below a temporary folder"
                in_place = f"build where the sources are: {maker.in_place}"
                hint = in_place if maker.in_place else "build from the source folder, not from an sdist"
                hint += "; or switch the shim on, which keeps most of what it depends on"
            return Cause("target-folder", target, brief, text, hint)
        if profile not in known:
            text = f"this is the first build in {os.path.join(target, profile)}; there is {', '.join(known)}"
            hint = "cargo keeps a folder for each profile and platform: the next build with either is warm"
            return Cause("profile", profile, f"first build for {profile}", text, hint, None, profile)
        if cause := self._of_system(unit):
            return cause
        if self._is_unpacked(unit):
            text = f"{unit.package} comes from an unpacked sdist, whose time stamps tell nothing"
            return Cause("unpacked", unit.package, "its sources were unpacked", text)
        text = f"{unit.package} {unit.version} was never compiled in {target}"
        if self.record["environment"].get("stored") and self._is_local(unit):
            text += ", or the shim had cargo compile it, because its sources' time stamps were in doubt"
        return Cause("new-crate", unit.package, "never compiled here", text)

    def _of_system(self, unit: Unit) -> Cause | None:
        """Return why a kept build folder does not keep a package, if that is so."""
        asks, needs = (self.record.get("each_time", {}).get(name, ()) for name in ("asks", "needs"))
        brief = "may depend on the system"
        if unit.package in asks:
            text = f"{unit.package} may depend on the system: what its build script reads is not known"
        elif unit.package in needs:
            text = f"{unit.package} needs what may depend on the system: {', '.join(asks)}"
            brief = f"needs what {brief}"
        else:
            return None
        return Cause("system", unit.package, brief, text, "set PYO3_ENVSHIM_BUILD_CACHE=on to keep it")

    def _is_unpacked(self, unit: Unit) -> bool:
        """Tell whether a unit is a local package's, in a build folder kept for unpacked sdists."""
        builds = self.record["environment"].get("builds")
        is_kept = bool(builds) and (self.record["target"] or "").startswith(os.path.join(builds, ""))
        return is_kept and self._is_local(unit)

    def _is_local(self, unit: Unit) -> bool:
        same = (other.place for other in self.log.units if other.package == unit.package)
        noted = (self.record["units"][place]["facts"].get("local") or () for place in same)
        return any("CheckDepInfo" in it for local in noted for it in local if isinstance(it, dict))

    def _of_setting(self, name: str, old: Any, new: Any, kept: bool) -> Cause:
        kind, called, _ = _FIELDS[name]
        if name == "rustc":
            old, new = self.record["rustc"]
        shown = _shown(name, old), _shown(name, new)
        brief = text = f"{called} changed"
        if any(shown) and shown[0] != shown[1]:
            text += f": {shown[0] or 'none'} → {shown[1] or 'none'}"
        hint = f"give {called} one value, or each its own target folder (CARGO_TARGET_DIR)"
        return Cause(kind, called, brief, text, KEPT if kept else hint, *shown)

    def _of_variable(self, name: str, old: str | None, new: str | None) -> Cause:
        text = f"{name} changed: {'unset' if old is None else old} → {'unset' if new is None else new}"
        made = self.record["environment"]
        python = made.get("python")
        maker = next((it for it in frontends.FRONT_ENDS if it.name == made.get("front_end")), None)
        kind = "variable"
        hint = f"the programs that build here (editor, terminal, front end) set {name} differently: "
        hint += "set it alike, or put the shim in front of each (pyo3-envshim env --path), which keeps both"
        if moved := self.record["moved"]:
            hint = f"set it alike; with the shim on, what was compiled for each is kept, but here: {moved}"
        is_place = name in ("PATH", "VIRTUAL_ENV")
        if maker and (new == python if python else is_place):
            kind = "ephemeral"
            text += f" ({maker.name} makes an environment for each build and throws it away)"
            beside = f"pip install pyo3-envshim beside {maker.name}"
            first = beside if maker.python else f"pyo3-envshim run -- {maker.name} …"
            hint = f'switch the shim on: {first}, or add "pyo3-envshim" to build-system.requires'
            if made["mode"] != "on":
                hint = f"switch the shim on: {made['switch']}"
            if not python:
                hint = f"the build back end names no interpreter to cargo, so the shim cannot help: {NAME_IT}"
        elif new and new == python and made["stored"]:
            kind = "stored"
            text += " (the environment's permanent address)"
            hint = "the build requirements, the interpreter or the sources' state changed, or this is the "
            hint += "first build with the shim: the next one is warm"
        elif is_place:
            hint += "; PYO3_PYTHON, set to one interpreter, takes the place of both"
        return Cause(kind, name, f"{name} changed", text, hint, old, new)

    def _more_variables(self, unit: Unit, named: str) -> list[Cause]:
        """Return the variables that changed besides the one that cargo names, the first that it finds."""
        before = self.record["variables"].get(unit.place, {})
        after = inputs.watched_variables(self.record["units"][unit.place])
        names = [name for name in before if name in after and before[name] != after[name]]
        return [self._of_variable(name, before[name], after[name]) for name in names if name != named]

    def _of_missing(self, unit: Unit, path: str) -> Cause:
        target = self.record["target"]
        if target and path.startswith(os.path.join(target, "")):
            text = f"{path} is not there: the build before failed, or it was removed"
            return Cause("missing-output", path, "what cargo had made is gone", text)
        brief = f"{os.path.join(*path.split(os.sep)[-2:])} does not exist"
        script = f"the build script of {unit.package}"
        text = f"{script} watches {path}, which does not exist: it runs in every build"
        hint = "let it print rerun-if-changed for what exists only"
        if "*" in path or "?" in path:
            hint = "cargo expands no patterns: let it print rerun-if-changed for the folder, or for each file"
        return Cause("missing-file", path, brief, text, hint)

    def _of_file(self, path: str, mtime: float) -> Cause:
        text, hint = f"{path} changed", ""
        if mtime > self.record["ended"]:
            hint = "its time stamp lies in the future: touch it"
        elif mtime >= self.started - 0.02:  # the file system's clock may be a tick late
            text += " while this command ran"
            hint = "something writes it in every build, before cargo: let it write only what differs"
        return Cause("file", path, f"{os.path.basename(path)} changed", text, hint)

    def _of_content(self, unit: Unit, old: str, new: str) -> Cause:
        """Compare a package that cargo knows as a whole: by its version, or by its newest file."""
        if newest := re.fullmatch(r"[\d.]+s \((.*)\)", new):
            text = f"{newest[1]} of {unit.package} changed"
            return Cause("file", newest[1], f"{os.path.basename(newest[1])} changed", text)
        text = f"{unit.package} changed: {old} → {new}"
        return Cause("version", unit.package, f"{old} → {new}", text, "", old, new)

    def _of_rebuilt(self, mtime: Value) -> Cause | None:
        moment = f"{mtime.fields['seconds']}.{mtime.fields['nanos']:09}"
        name = self.log.newer.get(moment)
        if name is None:
            return None
        text = f"{name} was compiled by another build since, with settings of which it keeps one"
        hint = "builds with different settings take turns here: give each its own CARGO_TARGET_DIR"
        return Cause("taking-turns", name, f"{name} was compiled by another build", text, hint)


def _renamed(name: str, version: str) -> Cause:
    text = f"{name} {version} is another unit to cargo than before, with the same fingerprint"
    hint = "its version, its source, or what is passed to cargo rustc differs from the builds before"
    return Cause("identity", name, "another unit than before", text, hint)


def _unknown(package: str, reason: str) -> Cause:
    reason = reason or "cargo gave no reason"
    hint = "this is what cargo wrote; pyo3-envshim does not know the cause"
    return Cause("unknown", package, reason, f"{package}: {reason}", hint)


def _content(facts: dict[str, Any]) -> str:
    local = facts.get("local") or []
    return next((it["Precalculated"] for it in local if isinstance(it, dict) and "Precalculated" in it), "")


def _shown(name: str, value: Any) -> str | None:
    """Return a setting as text, or None where cargo keeps only its hash."""
    if name in ("features", "declared_features") and isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if isinstance(value, list):
        return " ".join(value)
    return value if isinstance(value, str) else None
