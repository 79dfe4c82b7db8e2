"""Build folders that outlive the unpacked sdists that are built in them.

A front end that unpacks an sdist throws cargo's build folder away with it. So cargo gets one
that is kept (``build.build-dir``, cargo 1.91) below the cache folder:

    builds/<name>-<hash>/    for one project; locked while in use

It holds cargo's own files, sets of units for other interpreters (`set_aside`), `freshness`' stamp (whose
mtime is the last use), and the configuration that maturin writes for PyO3, named after its content.

Nothing stale is reused. In doubt, by the rule of `freshness`, everything is removed before
cargo starts, except what was compiled from sources in cargo's home, which cargo knows by name,
version and checksum, or by a commit, and what depends on nothing else. Nothing else uses the
folder until cargo has ended: this process waits for it, and holds a lock that no other process
inherits. If we are killed while cargo runs on, the next build sees the record lock that cargo's
process holds (`lock.hold`); where there are none, cargo's own, taken about 0.1 s after start.

Nor is what may depend on the system: without us, that is compiled in each build (`cargo.harmless`
has the rule). With ``PYO3_ENVSHIM_BUILD_CACHE=on`` it stays; what a registry's crate reads without
telling cargo then counts when the crate is next compiled, as in an ordinary build folder. A local
crate that uses ``OUT_DIR`` in its code may contain a path below this folder; one below the unpacked
tree is as random.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from pyo3_envshim import files, subprocesses
from pyo3_envshim.assessment import assess
from pyo3_envshim.build_notes import DISK_FULL, TOO_LARGE, BuildNotes
from pyo3_envshim.builds import (
    BUILDS,
    LIMIT,
    USED,
    VARIABLE,
    Build,
    clear,
    flaw_of,
    keeps_all,
    limit_of,
    prune,
)
from pyo3_envshim.call import warn
from pyo3_envshim.cargo import harmless, inputs, metadata, target_dir
from pyo3_envshim.cargo.command_line import values_of
from pyo3_envshim.environment import frontends
from pyo3_envshim.shelf import Shelf
from pyo3_envshim.stamp import write_stamp
from pyo3_envshim.store.lock import close, hold, hold_again, is_held, open_folder, stands, try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyo3_envshim.call import CargoCall
    from pyo3_envshim.cargo.metadata import Workspace

ROOM = 1 << 30  # what must be free: else all folders go, for a build that fails on a full disk is our fault
# A user who sets one of these has chosen where cargo works.
OWN = ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR")


class Ineligible(Exception):
    """The call gets no kept build folder; the message says why."""


class BuildDir:
    """A build folder that this process has locked. *in_child* is called in cargo's process at first.

    *target*: where a back end looks for results.
    """

    def __init__(self, call: CargoCall, folder: str, descriptor: int, limit: float, target: str = "") -> None:
        self.folder = folder
        self._call = call
        self._descriptor = descriptor
        self._limit = limit
        self._target = target
        self._notes = BuildNotes(folder)
        self._held = hold(os.path.join(folder, USED))
        self.in_child: Callable[[], object] | None = None

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Return cargo's arguments with the folder among them.

        It is not set by a variable: a cargo that a build script starts would inherit that,
        and wait forever for the lock of the cargo that waits for the script.
        """
        after = 1 if arguments and arguments[0].startswith("+") else 0
        return [*arguments[:after], *_setting(self.folder), *arguments[after:]]

    def variables(self, environ: dict[str, str]) -> dict[str, str]:
        """Return *environ* with maturin's configuration for PyO3 moved from the tree into the folder.

        PyO3 is compiled again if the path of its configuration changes, and the tree's is random.
        """
        path = environ.get("PYO3_CONFIG_FILE")
        if not path:
            return environ
        with open(path, "rb") as file:
            content = file.read()
        name = f"{inputs.KEPT_CONFIGURATION}{hashlib.sha256(content).hexdigest()[:32]}.txt"
        kept = os.path.join(self.folder, name)
        if not os.path.exists(kept):
            files.replace(kept, content)
        return {**environ, "PYO3_CONFIG_FILE": kept}

    def run(self, call: CargoCall, environ: Mapping[str, str]) -> int:
        """Run cargo and wait for it, prune the kept folders, and end as cargo did. Raises OSError."""
        try:
            command = [call.cargo, *self.arguments(call.arguments)]
            process = subprocesses.started(command, environ, in_child=self._hold_in_child)
            status = subprocesses.ended(process)
            try:
                self._hand_over()
                self._notes.note_outputs()
                self._note_compiler()
                if status > 0 and shutil.disk_usage(self.folder).free < ROOM:
                    self._give_up()
            except Exception:  # cargo has done its work; the next build keeps nothing
                pass
            try:  # not this folder: the back end may look for what a build script made
                prune(os.path.dirname(os.path.dirname(self.folder)), self._limit)
                if Build(self.folder).size > self._limit:
                    self._notes.mark(TOO_LARGE)
            except OSError:
                pass  # the next build prunes
        finally:
            self.release()
        return subprocesses.end_as(status)

    def _hold_in_child(self) -> None:
        if self._held is not None:
            hold_again(self._held)
        if self.in_child:
            self.in_child()

    def _give_up(self) -> None:
        """Leave the room to others, and a note for the next build, which may need more than there is."""
        for path in target_dir.paths_in(self.folder):
            if os.path.basename(path) != USED:
                files.remove(path)
        self._notes.mark(DISK_FULL)

    def _hand_over(self) -> None:
        """Move what build scripts have left beside cargo's results, found from ``OUT_DIR``, to the tree's."""
        for path in target_dir.left_by_scripts(self.folder) if self._target else ():
            to = os.path.join(self._target, os.path.relpath(path, self.folder))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if os.path.isdir(path):
                shutil.copytree(path, to, dirs_exist_ok=True)
            elif not os.path.lexists(to) or os.stat(to).st_mtime_ns < os.stat(path).st_mtime_ns:
                shutil.copy2(path, to)
            files.remove(path)

    def use_for(self, python: str, content: str) -> None:
        """Make cargo run what asked for *python*, if it has seen another *content* of its overlay.

        Raises OSError.
        """
        known = self._notes.overlays()
        if known.get(python) == content:
            return
        for profile in target_dir.profiles(self.folder):
            if python in inputs.recorded_variables([profile]).get("PYO3_PYTHON", ()):
                asked = (*inputs.OF_ENVIRONMENT, "PYTHONPATH")
                target_dir.invalidate([profile], inputs.packages_asking_for(asked, [profile]))
            for each in Shelf(profile).sets():
                if each.values.get("PYO3_PYTHON") == python:
                    files.remove(each.path)
        self._notes.note_overlays({**known, python: content})

    def _note_compiler(self) -> None:
        if not keeps_all(self._call.environ):
            settings = values_of("--config", self._call.arguments)
            self._notes.note_compiler(harmless.compiler(settings, self._call.environ, self.folder))

    def judge_again(self) -> None:
        """Remove what must not stay of a set that has come back. Raises OSError."""
        try:
            target_dir.evict(self.folder, *_staying(self.folder, self._call, _setting(self.folder)))
        except metadata.MetadataError:
            target_dir.evict(self.folder, *_nothing(self.folder))

    def release(self) -> None:
        close(self._held)
        os.close(self._descriptor)


def acquire(call: CargoCall, workspace: Workspace, cache: str) -> BuildDir:
    """Return a build folder for a call that compiles in an unpacked sdist, locked and ready for use.

    *cache*: the cache folder. Raises `Ineligible`, `MetadataError`, OSError.
    """
    limit, flaw = limit_of(call.environ)
    if flaw:
        warn(f"warning: {flaw}")
    if not limit:
        raise Ineligible(f"{VARIABLE} is off")
    check(workspace, call.environ)
    if not keeps_all(call.environ) and (flaw := harmless.flaw_of(workspace, call.environ)):
        raise Ineligible(f"{flaw}; {VARIABLE}=on keeps all")
    above = os.path.join(cache, BUILDS)
    folder = os.path.join(above, key(workspace))
    if flaw := flaw_of(folder, len(workspace.build_dir)):
        raise Ineligible(flaw)
    if BuildNotes(folder).has(DISK_FULL) and shutil.disk_usage(above).free < LIMIT:
        raise Ineligible(f"the last build in {folder} failed, and less than 5G is free")
    if shutil.disk_usage(above).free < ROOM and (not clear(cache) or shutil.disk_usage(above).free < ROOM):
        raise Ineligible(f"less than 1G is free in {above}")
    descriptor = lock(folder)
    try:
        if is_held(os.path.join(folder, USED)):
            raise Ineligible(f"a cargo that nobody waits for works in {folder}")
        evict_stale(folder, workspace, call)
        return BuildDir(call, folder, descriptor, limit, workspace.target_dir)
    except BaseException:
        os.close(descriptor)
        raise


def check(workspace: Workspace, environ: Mapping[str, str]) -> None:
    """Raise `Ineligible` if cargo works in no unpacked sdist, or not in the folder that is its default."""
    root = workspace.root
    if frontends.unpacked_at(root, environ) is None:
        raise Ineligible(f"{root} is not an sdist that a front end unpacked")
    for name in OWN:
        if environ.get(name):
            raise Ineligible(f"{name} is set")
    if not workspace.tells_build_dir:
        raise Ineligible("cargo is older than 1.91")
    if {workspace.build_dir, workspace.target_dir} != {os.path.join(root, "target")}:
        raise Ineligible("a target or build folder is configured")
    if not os.path.exists(os.path.join(root, "Cargo.lock")):
        raise Ineligible("the sdist has no Cargo.lock")


def key(workspace: Workspace) -> str:
    """Return the name of the folder for a workspace."""
    text = "\0".join(workspace.names)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{workspace.names[0][:40]}-{digest}" if workspace.names else digest


def lock(folder: str) -> int:
    """Create *folder* if need be, and lock it. Raises OSError; `Ineligible` where there are no locks."""
    waits = False
    while True:
        os.makedirs(folder, files.private_mode(folder), exist_ok=True)
        descriptor = open_folder(folder)
        try:
            locked = try_lock(descriptor, exclusive=True, wait=waits)
            if locked is None:
                raise Ineligible(f"there are no locks in {folder}")
            if locked and stands(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked:  # otherwise the folder was pruned while we waited
            warn(f"waits for another build that uses {folder}")
            waits = True


def _setting(folder: str) -> list[str]:
    return ["--config", f"build.build-dir={json.dumps(folder, ensure_ascii=False)}"]


def evict_stale(folder: str, workspace: Workspace, call: CargoCall) -> None:
    """Remove from a locked *folder* what must not be reused for the sources of *workspace*.

    The stamp is written last: if we die earlier, the old one stays and the next build distrusts this folder.
    """
    found, notes = assess(workspace, folder), BuildNotes(folder)
    knows_compiler = harmless.is_compiler_known(workspace.settings, call, folder)
    path = os.path.join(os.path.realpath(workspace.root), "Cargo.toml")
    manifest = found.sources.get(path)
    # Another tree in the same place must not see files that build scripts generated for this one.
    is_another = found.stamp and (manifest is None or found.stamp.files.get(path) != manifest.state)
    compiler = "" if keeps_all(call.environ) else harmless.compiler(workspace.settings, call.environ, folder)
    is_of_another = bool(compiler) and notes.compiler() != compiler
    contents = metadata.checksums(os.path.join(workspace.root, "Cargo.lock"))
    known = notes.checksums()
    is_of_another |= known is None or any(known.get(name, it) != it for name, it in contents.items())
    is_of_another |= notes.has(TOO_LARGE) or notes.is_damaged()
    if is_another or is_of_another or not found.trusted:
        if target_dir.is_used(folder):
            raise Ineligible(f"a cargo that nobody waits for works in {folder}")
        # Where cargo has noted what rustc says, it need not ask: that takes longer than its answer.
        more = _setting(folder) if knows_compiler else []
        target_dir.evict(folder, *(_nothing(folder) if is_of_another else _staying(folder, call, more)))
    target_dir.tag(folder)
    if not knows_compiler:
        files.remove(os.path.join(folder, target_dir.RUSTC_INFO))  # cargo would not ask which one that is
    notes.begin()
    notes.note_checksums({**(known if known and not is_of_another else {}), **contents})
    write_stamp(folder, workspace.root, "", found.sources)


def _nothing(folder: str) -> tuple[set[str], set[str]]:
    """Return what may stay in a folder that another compiler has filled; remove the sets that lie there."""
    for profile in target_dir.profiles(folder):
        files.remove(Shelf(profile).folder)
    return set(), set()


def _staying(folder: str, call: CargoCall, settings: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return what may stay in a folder, packages' and crates' names. Raises MetadataError, OSError.

    *settings*: for the cargo that is asked.
    """
    answer = metadata.all_packages(call, target_dir.platforms(folder), settings)
    packages = answer["packages"]
    if keeps_all(call.environ):
        return harmless.reusable(answer, call.environ)
    verified = inputs.verified_sources(call.environ)
    dependent = harmless.system_dependent(packages, list(target_dir.profiles(folder)), verified)
    names, crates = harmless.reusable(answer, call.environ, dependent)
    # cargo tells of no package that a feature or another platform brings; one that stays may have its name.
    told = {(it["name"], it["version"], it["source"]) for it in packages}
    lock = os.path.join(answer["workspace_root"], "Cargo.lock")
    untold = {it[0] for it in metadata.locked(lock) if it not in told and harmless.may_ask(*it, verified)}
    names, crates = names - untold, crates - {name.replace("-", "_") for name in untold}
    foreign = [it for it in packages if it["source"] and it["manifest_path"].startswith(verified)]
    asks = {it["name"] for it in foreign if it["id"] in dependent}
    BuildNotes(folder).note_each_time(asks, {it["name"] for it in foreign} - names - asks)
    return names, crates
