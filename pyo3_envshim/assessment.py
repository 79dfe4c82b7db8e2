"""Which local sources count, and which of them cargo may misjudge: compared with what the last build left.

The rule of the freshness guard:

    cargo's time stamps can be trusted if the last build here was of the same workspace
    root, and every local source file either has an mtime later than the end of that build
    (cargo will see it, if it has a note of the file), or is the very file that was there when
    that build started: the same inode, size, mtime and ctime, and a ctime before the start. A
    link must lead where it led, and a folder that has lost a file must be newer than that end.

"Here" is one profile of the build folder, in which cargo compiles as if there were no other.
"The end" is when the newest unit of a local package was started; where there is no such unit,
nothing can be stale. Where more than rustc and build scripts that told cargo what they read may have
read files, "newer" is no excuse for a manifest, nor for a file that cargo has no note of, or not of all that
may have read it (`cargo.unseen`); and never for a vendored crate.

Sources are all that cargo or rustc is known to have read, by the names that they used: cargo
notes where a link led, and not the link. Of a folder that a build script declares, that is all
that is in it. What build scripts made is no source. The other files in the packages' folders are
sources too, unless rustc alone reads: no local package has a build script, and all macros are
known to read no files. Where a build script told cargo nothing, those in hidden folders count as
well. While a unit is being compiled it is not known what is read, so all files count.
"""

from __future__ import annotations

import os  # nothing else from the standard library: every call that compiles imports this module
from os.path import dirname

from pyo3_envshim.cargo import configuration as cargo_configuration
from pyo3_envshim.cargo import inputs, target_dir
from pyo3_envshim.sources import FILES, HIDDEN_TOO, LINK, SOURCES, Listing, Source, listed, plain
from pyo3_envshim.stamp import CONFIGURATION, STAMP, Stamp, gone_sources, is_of_this_kind, read_stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from pyo3_envshim.cargo.metadata import Workspace
    from pyo3_envshim.cargo.target_dir import Unit


_VENDORED = os.sep + ".cargo-checksum.json"  # in each crate of a directory source
_MANIFEST = os.sep + "Cargo.toml"
# Crates of macros that read no files, by their source and that of what they use (releases of 2026-11).
_KNOWN_MACROS = """
pyo3_macros async_trait bytemuck_derive clap_derive darling_macro derive_builder_macro derive_more_impl
displaydoc enum_dispatch futures_macro indoc monostate_impl num_derive openssl_macros paste pastey phf_macros
pin_project_internal ref_cast_impl schemars_derive serde_derive serde_repr strum_macros thiserror_impl
time_macros tokio_macros tracing_attributes yoke_derive zerocopy_derive zerofrom_derive zeroize_derive
zerovec_derive
"""
MACROS = frozenset(_KNOWN_MACROS.split())


class Assessment:
    """What is known of the local sources when a build is about to start.

    *sources*: by path, configuration files among them. *folders*: the local packages by resolved folder.
    *notes*: what cargo noted; *noted*: the packages that noted each file. *stamp*: of the last build.
    *is_other*: whether that was of another workspace root, or with another configuration. *doubted*: the
    sources that cargo may misjudge; None where all that was built here is in doubt. *overwritten*: local
    packages, and folders of single units, whose outputs others may have written since. *unplaced*: packages
    whose folders are not known.
    """

    __slots__ = (
        *("doubted", "folders", "is_other", "noted", "notes", "overwritten", "sources", "stamp"),
        "unplaced",
    )

    def __init__(self, folders: dict[str, set[str]], notes: inputs.Notes) -> None:
        self.folders = folders
        self.notes = notes
        self.noted = noted_by(folders, {**notes.declared, **notes.inputs})
        self.sources: dict[str, Source] = {}
        self.stamp: Stamp | None = None
        self.is_other = False
        self.doubted: list[str] | None = None
        self.overwritten: set[str] = set()
        self.unplaced: set[str] = set()

    @property
    def trusted(self) -> bool:
        """Whether cargo's time stamps can be trusted."""
        return not self.is_other and self.doubted == [] and not self.overwritten and not self.unplaced

    @property
    def vendored(self) -> tuple[str, ...]:
        """The folders of directory sources that lie among the sources, now or at the last build."""
        paths = (*self.sources, *(self.stamp.files if self.stamp else ()))
        crates = {dirname(path) for path in paths if path.endswith(_VENDORED)} - self.folders.keys()
        return tuple({os.path.join(dirname(crate), "") for crate in crates})


class _Reading:
    """Who may have read local files, as far as is known.

    *configuration*: cargo's. *programs*: those that it names. *has_others*: whether more than rustc and build
    scripts that told cargo what they read may have read files; *is_any*: for any unit. *is_noted*: whether
    all that was read is noted, and *noted*: what is, links not resolved. *reach*: how much of the packages'
    folders counts. *names*: of what is known to have been read; *told*: of what PyO3 alone reads.
    *workspace*: whose files these are. *profiles*: where all was noted: what is judged, and *stayed*, beside
    it.
    """

    __slots__ = (
        *("configuration", "has_others", "is_any", "is_noted", "names", "noted", "profiles", "programs"),
        *("reach", "stayed", "told", "workspace"),
    )

    def __init__(self, workspace: Workspace, found: Assessment, stayed: inputs.Notes) -> None:
        notes = found.notes
        self.workspace, self.stayed = workspace, stayed
        self.profiles = [*notes.profiles, *stayed.profiles]
        self.names: Container[str] = ()
        self.told: set[str] = set()
        self.configuration = read = cargo_configuration.read(workspace.settings)
        self.programs = [os.path.realpath(path) for path in cargo_configuration.programs(read)]
        rustc = inputs.read_by_rustc(notes)
        knows_macros = rustc.macros | inputs.read_by_rustc(stayed).macros <= MACROS
        links_files = cargo_configuration.links_files(read, workspace.flags)
        self.is_any = links_files or not knows_macros
        self.has_others = self.is_any or bool(notes.undirected or stayed.undirected)
        self.is_noted = rustc.is_all and not self.has_others and _has_no_other_reader(workspace, found)
        self.reach = FILES if self.is_noted else SOURCES if knows_macros else HIDDEN_TOO
        # Where nothing was built, it is not known what will be read.
        if not any(notes.inputs.values()) or cargo_configuration.may_vendor_below(found.folders, read):
            self.is_noted, self.reach = False, HIDDEN_TOO
        root = os.path.realpath(workspace.root)
        self.noted = {*found.noted, *(os.path.join(root, name) for name in rustc.names)}
        if self.has_others:
            self.noted.update(noted_by(found.folders, stayed.inputs))


def assess(workspace: Workspace, build: str, profile: str = "", place: str = "") -> Assessment:
    """Compare the sources with what the last build left in a profile of the folder *build*, or in all.

    *place*: where a part of that is now, if that part is to be judged (`judge_set`). What has stayed, macros
    for one, may have read files for it, or noted what these read. Raises OSError where the guard cannot tell.
    """
    profiles, stayed = _profiles(build, profile), inputs.Notes((), ())
    unwatched = inputs.unwatched(profiles)
    skip = {build, *profiles}
    if place:
        stayed = inputs.read_notes(profiles, workspace.local_names, build)
        profiles = moved(profiles, workspace, place)
    notes = inputs.read_notes(profiles, workspace.local_names, build, unwatched)
    found = Assessment(_resolved(workspace), notes)
    reading = _Reading(workspace, found, stayed)
    listing = _list_sources(workspace, found, skip, reading.reach)
    excluded = {*workspace.exclude} - {build, workspace.build_dir, workspace.target_dir}
    unread = _beside((*unwatched, *map(os.path.realpath, excluded)), found.folders)
    listing.add_read(reading.noted, unread)
    listing.add_read(reading.programs)
    found.sources = listing.found
    # Read the end last: what cargo compiles meanwhile can only make it later. A vendored crate may be
    # changed with its times: then all that was built here counts.
    found.stamp = read_stamp(os.path.join(place or os.path.join(build, profile), STAMP))
    told = list(filter(None, [os.environ.get("PYO3_CONFIG_FILE")]))  # PyO3's build script will declare it
    known = found.stamp.files if found.stamp else {}
    reading.told = {
        path for path in map(os.path.realpath, (*_configurations(workspace), *told)) if path in known
    }
    listing.add_read(reading.told)
    vendored = found.vendored
    end = inputs.end_of_last_build(profiles, () if vendored else notes.foreign)
    reading.names = listing.read
    _doubt(found, reading, vendored, end)
    found.overwritten = _overwritten(workspace, notes)
    if notes.unplaced:
        compiled = compiled_for_a_new_path(workspace, reading.profiles)
        found.unplaced = notes.unplaced & (compiled or notes.unplaced)
    found.sources.update(_as_sources(reading.configuration))
    # What the last build did not know, nothing in place has read but what cargo noted; this one will read it.
    found.sources = {**listed(told), **found.sources}
    if found.stamp:
        found.is_other = not is_of_this_kind(found.stamp, workspace.root, found.sources)
    return found


def _overwritten(workspace: Workspace, notes: inputs.Notes) -> set[str]:
    """Return what `Assessment` says.

    In cargo's first layout, packages whose libraries have one name overwrite each other's. Whose it is,
    times do not tell: the other may be about to be compiled, or has been, at the same time.
    """
    own = workspace.local_names
    local = [unit for unit in notes.local if unit.package in own]
    found = {unit.folder for unit in target_dir.overwritten(local)}
    there = {unit.package for unit in local if not unit.out}
    for packages in workspace.namesakes:
        if len(packages & there) > 1:
            found |= packages
    return found


def _doubt(found: Assessment, reading: _Reading, vendored: tuple[str, ...], end: int | None) -> None:
    """Find the sources that are in doubt."""
    read = reading.names
    gone = gone_sources(found.stamp, found.sources, read if reading.is_noted else None)
    sources = {**gone, **found.sources}
    told = {it for path in found.notes.told for it in (os.path.normpath(path), os.path.realpath(path))}
    unseen = {*told, *reading.programs, *(path for path in sources if path.startswith(vendored))}
    if reading.has_others and end is not None:
        newer = {path for path, source in sources.items() if source.mtime > end}
        unseen.update(_unseen({path for path in newer if path not in unseen}, found, reading))
    found.doubted = doubtful(sources, found.stamp, end, unseen)
    if reading.is_noted and found.doubted:
        # Nobody has read the others, as far as is known; who reads one later must not find it known.
        unread = {path for path in found.doubted if plain(path) not in read}
        found.sources = {path: it for path, it in found.sources.items() if path not in unread}
        found.doubted = [path for path in found.doubted if path not in unread]


def moved(profiles: Iterable[str], workspace: Workspace, place: str) -> list[str]:
    """Return where profiles are in a folder that holds them as the build folder does."""
    return [os.path.join(place, os.path.relpath(profile, workspace.build_dir)) for profile in profiles]


def _list_sources(workspace: Workspace, found: Assessment, skip: set[str], reach: int) -> Listing:
    """List the packages' folders as far as *reach* tells, and the crates' below them: rustc reads there."""
    skip.update(workspace.exclude)
    if reach != FILES:  # in the project in some CI jobs
        skip.add(cargo_configuration.cargo_home(os.environ))
    listing = Listing(skip, found.folders)
    for folder in (workspace.root, *workspace.packages):
        listing.add(folder, reach)
    for folder in workspace.crates:
        place = os.path.realpath(folder)
        is_below = any(place.startswith(os.path.join(package, "")) for package in found.folders)
        listing.add(folder, max(reach, SOURCES) if is_below else reach)
    if reach == HIDDEN_TOO and os.path.exists("pyproject.toml"):
        here = os.getcwd()
        if os.path.realpath(workspace.root).startswith(os.path.join(here, "")):
            listing.add(here)  # the Python project's folder, which holds the workspace's
    for folder, names in found.folders.items():
        if not names.isdisjoint(found.notes.undirected):
            listing.add(folder, HIDDEN_TOO)
    listing.add_read(os.path.join(folder, "Cargo.toml") for folder in found.folders)
    return listing


def _resolved(workspace: Workspace) -> dict[str, set[str]]:
    """Return the local packages by folder, without links; the workspace's root may have none."""
    found: dict[str, set[str]] = {os.path.realpath(workspace.root): set()}
    for folder, names in workspace.packages.items():
        found.setdefault(os.path.realpath(folder), set()).update(names)
    return found


def _beside(folders: Iterable[str], packages: Iterable[str]) -> tuple[str, ...]:
    """Return those of *folders* that no package lies in, as prefixes of paths; all are without links."""
    found = {os.path.join(folder, "") for folder in folders}
    return tuple(at for at in found if not any(os.path.join(it, "").startswith(at) for it in packages))


def _has_no_other_reader(workspace: Workspace, found: Assessment) -> bool:
    """Tell whether rustc, and macros, are all that may have read local files."""
    is_plain = not workspace.scripts and not workspace.settings and not found.notes.unplaced
    return is_plain and not is_read_by_others(workspace, found)


def is_read_by_others(workspace: Workspace, found: Assessment) -> bool:
    """Tell whether crates of others declare files in the project, but for the target and build folder.

    A relative path may lead there: it is not known where the crate lies.
    """
    if not found.notes.declared:
        return False
    below = _beside(map(os.path.realpath, (workspace.build_dir, workspace.target_dir)), found.folders)
    own = tuple(os.path.join(folder, "") for folder in found.folders)
    for path in {path for declared in found.notes.declared.values() for path in declared}:
        place = os.path.join(os.path.realpath(path), "")
        if not os.path.isabs(path) or (place.startswith(own) and not place.startswith(below)):
            return True
    return False


def compiled_for_a_new_path(workspace: Workspace, profiles: Iterable[str]) -> set[str] | None:
    """Return the packages that a random path makes cargo compile; None if there is no lock file."""
    from pyo3_envshim.cargo.metadata import dependents

    asking = inputs.packages_asking_for(inputs.OF_ENVIRONMENT, profiles)
    return dependents(os.path.join(workspace.root, "Cargo.lock"), asking)


def _configurations(workspace: Workspace) -> list[str]:
    """Return the files by which maturin (1.16) tells PyO3 what to build for, one for each interpreter."""
    paths = target_dir.paths_in(workspace.target_dir, "maturin")
    return [path for path in paths if os.path.basename(path).startswith("pyo3-config-")]


def _as_sources(configuration: Mapping[str, bytes]) -> dict[str, Source]:
    """Return configuration files as sources without a time: their state is their content."""
    if not configuration:
        return {}
    from pyo3_envshim.environment.hashing import of_bytes

    texts = {path: cargo_configuration.compared(text) for path, text in configuration.items()}
    return {CONFIGURATION + path: Source(of_bytes(it), 0, 0) for path, it in texts.items() if it}


def _profiles(build: str, profile: str) -> list[str]:
    return target_dir.profiles_called(profile, build) if profile else list(target_dir.profiles(build))


def _unseen(newer: set[str], found: Assessment, reading: _Reading) -> set[str]:
    """Return those of the files *newer* of which cargo's notes are not enough.

    Of a manifest, cargo compares only what it knows itself. Modules are taken to be read by rustc alone; for
    a set, also those of targets that only other sets have. But not one that is new, or gone: a macro or a
    build script may list the folder.
    """
    workspace, notes, build = reading.workspace, found.notes, reading.workspace.build_dir
    known = found.stamp.files if found.stamp else {}
    modules = {path for path in newer if path.endswith(".rs") and path in known and path in found.sources}
    strange = {path for path in newer if plain(path) not in reading.names or path.endswith(_MANIFEST)}
    seen = {path for path in newer - strange - reading.told - modules if plain(path) == path}
    # Not in place: no lock is held there, so another call may take a set while it is read.
    if reading.stayed.profiles and (modules := modules & strange):
        strange -= modules & _noted_for_others(workspace, found, reading)
    if not seen:
        return strange
    from pyo3_envshim.cargo.unseen import Readers

    compiled = compiled_for_a_new_path(workspace, reading.profiles)
    packages = set(notes.inputs) if compiled is None else compiled & workspace.local_names
    noted = inputs.noted_by_units([notes, reading.stayed], found.folders, build)
    readers = Readers(noted, packages if reading.is_any else (), notes.undirected & packages)
    return strange | readers.left_out(seen, notes.profiles, reading.stayed.profiles)


def _noted_for_others(workspace: Workspace, found: Assessment, reading: _Reading) -> set[str]:
    """Return what is noted in the workspace's other sets, and there only for targets that are not here.

    A test of a library is made of that, too. A set of a cargo that is not known says nothing.
    """
    from pyo3_envshim.shelf import Shelf

    build, profiles = workspace.build_dir, _profiles(workspace.build_dir, workspace.profile)
    made = inputs.unwatched(profiles)
    known = {target for unit in (*found.notes.local, *reading.stayed.local) for target in _targets(unit)}
    here = known.union((package, name[len("test-") :]) for package, name in known if name.startswith("test-"))
    for_others: set[str] = set()
    for_these: set[str] = set()
    for path in Shelf(os.path.join(build, workspace.profile)).paths_of(workspace.root):
        try:
            notes = inputs.read_notes(moved(profiles, workspace, path), workspace.local_names, build, made)
            noted = inputs.noted_by_units([notes], found.folders, build)
        except OSError:
            continue
        same = {unit.folder for unit in notes.local if not here.isdisjoint(_targets(unit))}
        for source, units in noted.items():
            (for_others if same.isdisjoint(units) else for_these).add(source)
    return for_others - for_these


def _targets(unit: Unit) -> list[tuple[str, str]]:
    """Return a unit's package and the names of its fingerprints, by target and kind."""
    return [(unit.package, name) for name in target_dir.names_in(unit.folder) if name.endswith(".json")]


def doubtful(
    sources: Mapping[str, Source], stamp: Stamp | None, end: int | None, unseen: Container[str] = ()
) -> list[str] | None:
    """Return the sources that cargo may misjudge, by the rule in this module's docstring; None if all.

    *stamp* is None where there is none; *end*, in ns, is None where nothing local was built. *unseen*:
    those whose times cargo does not look at.
    """
    if end is None:
        return []
    if stamp is None:
        return None
    found = []
    for path, source in sources.items():
        same = stamp.files.get(path) == source.state
        # cargo looks at the file that a link within a package led to, not at the link.
        if source.mtime > end and path not in unseen and (same or source.state != LINK):
            continue
        if not same or not _before(source.ctime, stamp.start):
            found.append(path)
    return found


def noted_by(
    folders: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]
) -> dict[str, set[str]]:
    """Return the packages that noted each file, by the file's path.

    *folders*: the packages by folder. *inputs*: the files by package, some relative to its folder.
    """
    found: dict[str, set[str]] = {}
    for package, paths in inputs.items():
        own = [folder for folder, names in folders.items() if package in names] or folders
        for folder in own:
            for path in paths:
                found.setdefault(os.path.join(folder, path), set()).add(package)
    return found


def _before(time: int, start: int) -> bool:
    """Tell whether *time* is surely before *start*, however coarse the file system's clock is.

    FAT counts two seconds, HFS+ and ext3 one; a time without a fraction may be from one of these.
    """
    return (time + 2_000_000_000 if time % 1_000_000_000 == 0 else time) < start
