"""Which compiled crates cannot depend on the system: they alone are kept by default (`build_dir`).

Such a crate comes from a registry or from git, and neither it nor anything that it needs (build
dependencies and macros too) has a build script, but for those in `SCRIPTS`, which were read, and PyO3's
own, whose input is the interpreter. What a script left is looked at as well, and what it was built with:
the next release of a package may do something else.
"""

from __future__ import annotations

import os
import shutil

from pyo3_envshim.cargo import configuration, inputs, target_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pyo3_envshim.call import CargoCall
    from pyo3_envshim.cargo.metadata import Workspace

# Packages of crates.io whose build scripts ask nothing but the compiler, their own sources, and variables
# that they tell cargo of or that are in `UNTOLD` (read: releases up to 2026-11).
_SCRIPTS = """
ahash anyhow async-trait bigdecimal camino chrono-tz crc32fast crossbeam-deque crossbeam-epoch
crossbeam-utils crunchy fs-err futures-core futures-task generic-array getrandom heapless httparse
icu_locid_transform_data icu_normalizer_data icu_properties_data indexmap libc libm lock_api matrixmultiply
memoffset mime_guess nix no-panic num-bigint num-integer num-iter num-rational num-traits objc2 object
parking_lot_core paste portable-atomic portable-atomic-util prettyplease proc-macro2 quote radium rayon-core
rust_decimal rustix rustls rustversion semver serde serde_core serde_json slab syn target-lexicon thiserror
tiny-keccak typenum unicase valuable winapi winapi-i686-pc-windows-gnu winapi-x86_64-pc-windows-gnu
windows_aarch64_gnullvm windows_aarch64_msvc windows_i686_gnu windows_i686_gnullvm windows_i686_msvc
windows_x86_64_gnu windows_x86_64_gnullvm windows_x86_64_msvc zerocopy zmij
"""
SCRIPTS = frozenset(_SCRIPTS.split())
# These ask for the interpreter, which cargo compares: PyO3's own, and what hands its settings on.
_OF_PYO3 = "pyo3 pyo3-build-config pyo3-ffi pyo3-macros pyo3-macros-backend jiter numpy"
OF_PYO3 = frozenset(_OF_PYO3.split())
_LINKING = ("winapi", "windows_")  # these name libraries of the system, without looking at them
# What such scripts may need to be built.
_NEEDED = """
autocfg cfg_aliases chrono-tz-build pyo3-build-config python3-dll-a rustversion target-lexicon unicase
version_check
"""
_HELPERS = frozenset(_NEEDED.split())
# Macros that ask the time, chance, a variable, a repository or a database when they expand; what uses them
# may hold the answer (by their descriptions, not their sources).
_ASKING = """
build-time compile-time const-random-macro dotenv_codegen_implementation dotenvy_macro git-version-macro
sqlx-macros
"""
MACROS = frozenset(_ASKING.split())
# Variables that some of these scripts, or rustc, read without telling cargo.
_UNTOLD_NAMES = """
DOCS_RS ENSURE_NO_PANIC ICU4X_DATA_DIR LIBC_CI PORTABLE_ATOMIC_DENY_WARNINGS RUSTC_BOOTSTRAP RUSTC_STAGE
WIND_RELEASE_ID
"""
UNTOLD = frozenset(_UNTOLD_NAMES.split())
# Likewise, but maturin sets it for each build on macOS: another value is like another compiler.
_DEPLOYMENT = "MACOSX_DEPLOYMENT_TARGET"
_UNTOLD_PREFIXES = ("CARGO_CFG_", "CARGO_FEATURE_", "DEP_", "RUST_LIBC_UNSTABLE_")
_PLATFORMS = ("emscripten", "vxworks")  # for these, libc's script asks the system
_CRATES_IO = ("registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/")
_OBJECTS = (".o", ".a", ".so", ".dylib", ".obj", ".lib", ".dll")


def flaw_of(workspace: Workspace, environ: Mapping[str, str]) -> str:
    """Return why nothing of what a call compiles is known not to depend on the system; or ""."""
    for name, value in environ.items():
        if value and (name in UNTOLD or name.startswith(_UNTOLD_PREFIXES)):
            return f"{name} is set"
    read = configuration.read(workspace.settings)
    if configuration.links_files(read, workspace.flags):
        return "flags for rustc may name files, of which cargo looks at the names only"
    settings = [*map(os.fsdecode, read.values())]
    for name in (*UNTOLD, *_UNTOLD_PREFIXES, _DEPLOYMENT):  # in a table [env]
        if any(name in text for text in settings):
            return f"{name} is set in cargo's configuration"
    texts = [*workspace.flags, *settings]
    texts += [value for name, value in environ.items() if name.endswith("RUSTFLAGS")]
    if any("target-cpu" in text and "native" in text for text in texts):
        return "rustc is told to compile for this very processor"
    asked = " ".join([*texts, *workspace.targets, environ.get("CARGO_BUILD_TARGET", "")])
    return next((f"{name} is compiled for" for name in _PLATFORMS if name in asked), "")


def system_dependent(
    packages: Iterable[Mapping[str, Any]], profiles: Sequence[str], verified: tuple[str, ...]
) -> set[str]:
    """Return the ids of *packages* (``cargo metadata``'s) that may depend on the system by themselves.

    *profiles*: those of the build folder, with what their build scripts left. *verified*: the folders in
    which cargo unpacks. Raises OSError.
    """
    left = _by_what_is_left(profiles) | inputs.reading_elsewhere(profiles, verified)
    all_of_them = list(packages)
    replaced = {it["name"] for it in all_of_them if it["source"] not in _CRATES_IO}
    return {it["id"] for it in all_of_them if it["name"] in left or not _is_known(it, _HELPERS - replaced)}


def _is_known(package: Mapping[str, Any], helpers: frozenset[str]) -> bool:
    is_macro = any("proc-macro" in target["kind"] for target in package["targets"])
    if package["name"] in MACROS or (is_macro and package["source"] not in _CRATES_IO):
        return False
    if not any("custom-build" in target["kind"] for target in package["targets"]):
        return True
    needs = {it["name"] for it in package["dependencies"] if it["kind"] == "build"}
    is_read = package["source"] in _CRATES_IO and package["name"] in (SCRIPTS | OF_PYO3)
    return is_read and needs <= helpers


def may_ask(name: str, version: str, source: str | None, verified: Iterable[str]) -> bool:
    """Tell whether a package of a ``Cargo.lock`` that is here may have a build script that asks the system.

    *verified*: the folders in which cargo unpacks.
    """
    if source not in _CRATES_IO or name in MACROS:
        return True
    if name in SCRIPTS or name in OF_PYO3:
        return False
    for folder in (path for above in verified for path in target_dir.paths_in(above)):
        try:
            with open(os.path.join(folder, f"{name}-{version}", "Cargo.toml"), encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        if '\nbuild = "' in text or os.path.exists(os.path.join(folder, f"{name}-{version}", "build.rs")):
            return True
    return False


def _by_what_is_left(profiles: Iterable[str]) -> set[str]:
    """Return the packages whose build scripts told cargo of the system, or compiled something."""
    return {
        unit.package
        for unit in target_dir.units(profiles)
        if unit.package not in OF_PYO3 and not unit.package.startswith(_LINKING)
        if _tells_of_the_system(unit.run) or _has_objects(f"{unit.run}/out")
    }


def _tells_of_the_system(run: str) -> bool:
    """Tell whether a build script told cargo of libraries, or of files that are not its package's."""
    for name in ("output", "stdout"):  # in cargo's first and second layout
        try:
            with open(f"{run}/{name}", encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for line in lines:
            key, _, value = line[len("cargo:") :].lstrip(":").partition("=")
            if line.startswith("cargo:") and (
                key.startswith(("rustc-link", "rustc-flags", "rustc-cdylib"))
                or (key == "rerun-if-changed" and leads_elsewhere(value))
            ):
                return True
    return False


def leads_elsewhere(path: str) -> bool:
    """Tell whether a path that counts from a package's folder leads out of it."""
    return os.path.isabs(path) or ".." in path.replace(os.sep, "/").split("/")


def _has_objects(folder: str) -> bool:
    return any(name.endswith(_OBJECTS) for _, _, names in os.walk(folder) for name in names)


def compiler(settings: Iterable[str], environ: Mapping[str, str], folder: str) -> str:
    """Return the state of rustc, and of what runs in front of it, as far as cargo compares only a version.

    *settings*: the values of ``--config``. *folder*: the build folder, which knows where rustc was.
    """
    found = configuration.programs(configuration.read(settings))
    found += filter(None, [shutil.which("rustc", path=environ.get("PATH"))])
    for sysroot in target_dir.sysroots(folder):
        names = target_dir.paths_in(sysroot, "lib") + target_dir.paths_in(sysroot, "bin")
        found += [path for path in names if "rustc_driver" in path or os.path.basename(path) == "rustc.exe"]
        found += [os.path.join(path, "lib") for path in target_dir.paths_in(sysroot, "lib", "rustlib")]
    lines = {_state(os.path.realpath(path)) for path in found}
    values = (environ.get(name, "") for name in ("RUSTUP_TOOLCHAIN", _DEPLOYMENT))
    return "".join([*sorted(lines), _libc(), "\n".join(values)])


def is_compiler_known(settings: Iterable[str], call: CargoCall, folder: str) -> bool:
    """Tell whether a cargo that works in *folder* notices another compiler: it looks at the program's time.

    A program that starts one of several compilers stays as it is (asdf's, mise's). rustup's tells cargo
    which one that is, if it has started cargo as well.
    """
    rustc = shutil.which("rustc", path=call.environ.get("PATH"))
    if not rustc or configuration.programs(configuration.read(settings)):
        return False
    if all(_is_of_rustup(path) for path in (rustc, call.cargo)):
        return True
    own = os.path.dirname(os.path.dirname(os.path.realpath(rustc)))
    return own in map(os.path.realpath, target_dir.sysroots(folder))


def _is_of_rustup(program: str) -> bool:
    name = "rustup" + os.path.splitext(program)[1]  # on Windows, .exe
    try:
        return os.path.samefile(program, os.path.join(os.path.dirname(os.path.realpath(program)), name))
    except OSError:
        return False


def _libc() -> str:
    """Return the C library's version: scripts and macros that were compiled for another may not start."""
    try:
        return f"{os.confstr('CS_GNU_LIBC_VERSION')}\n"
    except (AttributeError, OSError, ValueError):  # another platform, another library
        return ""


def _state(path: str) -> str:
    try:
        at = os.stat(path)
    except OSError:
        return f"{path} gone\n"
    return f"{path} {at.st_size} {at.st_mtime_ns}\n"


def reusable(
    answer: Mapping[str, Any], environ: Mapping[str, str], dependent: Iterable[str] = ()
) -> tuple[set[str], set[str]]:
    """Return what may stay, packages' and crates' names; *answer*: ``cargo metadata``'s for all packages.

    *dependent*: the ids of packages that must not.
    """
    verified = inputs.verified_sources(environ)
    packages = {package["id"]: package for package in answer["packages"]}
    others = {
        name
        for name, it in packages.items()
        if it["source"] is None or not it["manifest_path"].startswith(verified)
    }
    others.update(dependent)
    needs = {node["id"]: node["dependencies"] for node in answer["resolve"]["nodes"]}
    # A package that depends on these was compiled against them.
    while more := {name for name in packages if not others.isdisjoint(needs.get(name, ()))} - others:
        others |= more
    rest = packages.keys() - others

    def names(ids: Iterable[str]) -> set[str]:
        return {packages[name]["name"] for name in ids}

    def crates(ids: Iterable[str]) -> set[str]:
        return {target["name"].replace("-", "_") for name in ids for target in packages[name]["targets"]}

    return names(rest) - names(others), crates(rest) - crates(others)
