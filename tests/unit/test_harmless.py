"""What cannot depend on the system may stay."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo import harmless
from pyo3_envshim.cargo.metadata import Workspace

from .environments import ROOT, run, script
from .test_inputs import dep_info
from .test_target_dir import HASH

HOME = {"USERPROFILE" if os.name == "nt" else "HOME": os.path.normpath("/home/me")}
REGISTRY = "/home/me/.cargo/registry/src/index"


def package(name: str, place: str, source: str | None = "registry", *crates: str) -> dict[str, Any]:
    targets = [{"name": crate} for crate in crates or (name,)]
    manifest = os.path.normpath(f"{place}/{name}-1/Cargo.toml")
    return {"id": name, "name": name, "source": source, "manifest_path": manifest, "targets": targets}


def answer(*packages: dict[str, Any], **needs: list[str]) -> dict[str, Any]:
    """Return what cargo tells of these packages, and of which of them depends on which."""
    nodes = [{"id": it["id"], "dependencies": needs.get(it["id"], [])} for it in packages]
    return {"packages": list(packages), "resolve": {"nodes": nodes}}


class TestReusable:
    def test_is_what_lies_in_cargos_home(self) -> None:
        found = answer(
            package("good", REGISTRY, "registry", "good-one", "build-script-build"),
            package("commit", "/home/me/.cargo/git/checkouts/it", "git"),
            package("vendored", "/tmp/tree/vendor"),
            package("own", "/tmp/tree", None),
            package("odd", "/home/me/.cargo/registry/srcs"),
        )
        names, crates = harmless.reusable(found, HOME)
        assert names == {"good", "commit"}
        assert {"good_one", "commit"} <= crates
        assert crates.isdisjoint({"vendored", "own", "odd"})

    def test_is_in_a_home_of_the_users_choice(self) -> None:
        found = answer(package("good", "/cargo/registry/src/index"))
        assert harmless.reusable(found, {**HOME, "CARGO_HOME": os.path.normpath("/cargo")})[0] == {"good"}
        assert harmless.reusable(found, HOME)[0] == set()
        assert harmless.reusable(found, {}) == (set(), set())

    def test_is_in_a_home_behind_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        found = answer(*(package(at, f"{tmp_path}/{at}/registry/src/index") for at in ("real", "link")))
        assert harmless.reusable(found, {"CARGO_HOME": f"{tmp_path}/link"})[0] == {"real", "link"}

    def test_is_nothing_that_depends_on_what_is_not(self) -> None:
        names = ("far", "near", "free")
        found = answer(
            *(package(name, REGISTRY) for name in names),
            package("own", "/tmp/tree", None),
            far=["near"],
            near=["own"],
        )
        assert harmless.reusable(found, HOME)[0] == {"free"}

    def test_is_what_cargo_tells_no_needs_of(self) -> None:
        found = answer(package("good", REGISTRY), package("own", "/tmp/tree", None))
        del found["resolve"]["nodes"][0]
        assert harmless.reusable(found, HOME)[0] == {"good"}

    def test_is_nothing_that_has_the_name_of_what_is_not(self) -> None:
        own = {**package("same", "/tmp/tree", None, "lib"), "id": "own"}
        found = answer(package("same", REGISTRY), package("other", REGISTRY, "registry", "lib"), own)
        assert harmless.reusable(found, HOME) == ({"other"}, {"same"})


@pytest.mark.parametrize("ending", ["", ".exe", ".EXE"])
def test_rustups_proxies_are_its_own_program(ending: str, tmp_path: Path) -> None:
    """Links to rustup, or hard links, as on Windows; there, all have an ending."""
    rustup = tmp_path / f"rustup{ending}"
    rustup.touch()
    for name in ("rustc", "cargo"):
        os.link(rustup, tmp_path / f"{name}{ending}")
        assert harmless._is_of_rustup(str(tmp_path / f"{name}{ending}"))
    (tmp_path / f"other{ending}").touch()
    assert not harmless._is_of_rustup(str(tmp_path / f"other{ending}"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that cargo is started in, without any configuration of its user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "home"))
    for name in (*os.environ,):
        if name.endswith("RUSTFLAGS") or name.startswith("CARGO_BUILD_"):
            monkeypatch.delenv(name)
    return tmp_path


class TestACallOfWhichNothingIsKept:
    def flaw(self, *arguments: str, **environ: str) -> str:
        answer = {"workspace_root": "/work", "target_directory": "/work/target", "packages": []}
        return harmless.flaw_of(Workspace(answer, [], ["build", *arguments]), environ)

    @pytest.mark.parametrize("name", ["RUSTC_BOOTSTRAP", "DEP_Z_ROOT", "CARGO_CFG_X", "RUST_LIBC_UNSTABLE_X"])
    def test_has_a_variable_that_scripts_read_untold(self, name: str, here: Path) -> None:
        assert self.flaw(**{name: "1"}) == f"{name} is set"
        assert self.flaw(**{name: ""}) == ""
        assert self.flaw(**{f"X_{name}": "1"}) == ""
        assert "is set in cargo's configuration" in self.flaw("--config", f"env.{name}='1'")
        (here / ".cargo").mkdir()
        (here / ".cargo" / "config.toml").write_text(f"[env]\n{name} = '1'\n")
        assert "is set in cargo's configuration" in self.flaw()

    def test_has_the_deployment_target_in_its_configuration(self, here: Path) -> None:
        """maturin sets the variable for each build on macOS."""
        assert self.flaw(MACOSX_DEPLOYMENT_TARGET="11.0") == ""
        assert "MACOSX_DEPLOYMENT_TARGET is set in" in self.flaw(
            "--config", "env.MACOSX_DEPLOYMENT_TARGET='11.0'"
        )

    def test_has_flags_that_may_name_files(self, here: Path) -> None:
        expected = "flags for rustc may name files, of which cargo looks at the names only"
        assert self.flaw("--", "-Lnative=x") == expected
        assert self.flaw("--config", "build.rustflags=['-Lnative=x']") == expected
        assert self.flaw("--", "-Cdebuginfo=1") == ""

    @pytest.mark.parametrize(
        ("arguments", "environ"),
        [
            (("--", "-Ctarget-cpu=native"), {}),
            (("--", "-C", "target-cpu=native"), {}),
            (("--config", "build.rustflags='-Ctarget-cpu=native'"), {}),
            ((), {"RUSTFLAGS": "-C target-cpu=native"}),
            ((), {"CARGO_ENCODED_RUSTFLAGS": "-C\x1ftarget-cpu=native"}),
        ],
    )
    def test_compiles_for_this_processor(
        self, arguments: tuple[str, ...], environ: dict[str, str], here: Path
    ) -> None:
        assert self.flaw(*arguments, **environ) == "rustc is told to compile for this very processor"

    @pytest.mark.parametrize("flag", ["-Ctarget-cpu=x86-64-v3", "-Clink-arg=-native", "--cfg=native"])
    def test_is_not_one_that_compiles_for_another(self, flag: str, here: Path) -> None:
        assert (
            self.flaw("--", flag) == self.flaw(RUSTFLAGS=flag) == self.flaw(FLAGS="target-cpu=native") == ""
        )

    @pytest.mark.parametrize("platform", ["wasm32-unknown-emscripten", "x86_64-wrs-vxworks"])
    def test_compiles_for_a_platform_of_which_scripts_ask_the_system(self, platform: str, here: Path) -> None:
        expected = f"{platform.rpartition('-')[2]} is compiled for"
        assert self.flaw("--target", platform) == expected
        assert self.flaw(CARGO_BUILD_TARGET=platform) == expected
        assert self.flaw("--config", f"build.target='{platform}'") == expected
        assert self.flaw("--target", "x86_64-unknown-linux-gnu") == self.flaw("-p", platform) == ""


CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
SPARSE = "sparse+https://index.crates.io/"
GIT = "git+https://example.org/x#0123"


def crate(
    name: str, kind: str = "lib", source: str = CRATES_IO, build: str = "", dev: str = ""
) -> dict[str, Any]:
    """Return what cargo tells of a package with a library, and a target of another *kind*."""
    targets = [{"kind": ["lib"]}, {"kind": [kind]}]
    needs: list[dict[str, Any]] = [
        {"name": build, "kind": "build"},
        {"name": dev, "kind": "dev"},
        {"name": "cc", "kind": None},
    ]
    return {
        "id": name,
        "name": name,
        "source": source,
        "targets": targets,
        "dependencies": [it for it in needs if it["name"]],
    }


def dependent(
    *packages: Mapping[str, Any], profile: Path = Path("/gone"), verified: str = "/gone/"
) -> set[str]:
    return harmless.system_dependent(packages, [str(profile)], (verified,))


class TestWhatMayDependOnTheSystem:
    SCRIPT, MACRO = "custom-build", "proc-macro"

    @pytest.mark.parametrize(
        ("package", "expected"),
        [
            (crate("x"), False),
            (crate("x", source=GIT), False),
            (crate("x", MACRO), False),
            (crate("x", MACRO, SPARSE), False),
            (crate("x", MACRO, GIT), True),
            (crate("sqlx-macros", MACRO), True),
            (crate("x", SCRIPT), True),
            (crate("serde", SCRIPT), False),
            (crate("serde", SCRIPT, SPARSE), False),
            (crate("serde", SCRIPT, GIT), True),
            (crate("pyo3-ffi", SCRIPT, build="pyo3-build-config"), False),
            (crate("serde", SCRIPT, build="cc"), True),
            (crate("serde", SCRIPT, build="autocfg", dev="cc"), False),
        ],
    )
    def test_by_its_name_and_source(self, package: dict[str, Any], expected: bool) -> None:
        assert dependent(crate("autocfg"), package) == ({package["id"]} if expected else set())

    def test_by_a_build_dependency_that_is_not_the_usual_one(self) -> None:
        packages = crate("num-traits", self.SCRIPT, build="autocfg"), crate("autocfg", source=GIT)
        assert dependent(*packages) == {"num-traits"}

    @pytest.mark.parametrize("output", [f"libc-{HASH}/output", f"libc/{HASH}/run/stdout"])
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("cargo:rustc-link-lib=z", True),
            ("  cargo::rustc-link-search=/usr/lib", True),
            ("cargo:rustc-flags=-lz", True),
            ("cargo:rustc-cdylib-link-arg=-lz", True),
            ("cargo:rerun-if-changed=/usr/include/zlib.h", True),
            ("cargo::rerun-if-changed=../zlib.h", True),
            ("cargo:rerun-if-changed=/usr/include/a=b.h", True),
            ("cargo:rerun-if-changed=build.rs", False),
            ("cargo:rerun-if-env-changed=/x", False),
            ("cargo:rustc-cfg=z", False),
            ("rustc-link-lib=z", False),
            ("\udcff", False),
        ],
    )
    def test_by_what_its_script_said(self, line: str, expected: bool, output: str, tmp_path: Path) -> None:
        path = tmp_path / "build" / output
        path.parent.mkdir(parents=True)
        path.write_text(f"x\n{line}\nx\n", errors="surrogateescape")
        found = dependent(crate("libc", self.SCRIPT), crate("x"), profile=tmp_path)
        (tmp_path / ".fingerprint" / f"libc-{HASH}").mkdir(parents=True)
        found |= dependent(crate("libc", self.SCRIPT), crate("x"), profile=tmp_path)
        assert found == ({"libc"} if expected else set())

    @pytest.mark.parametrize("name", ["winapi", "windows_x86_64_gnu", "pyo3-ffi"])
    def test_not_by_what_is_known_to_be_said(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "build" / name / HASH / "run" / "stdout"
        path.parent.mkdir(parents=True)
        path.write_text("cargo:rustc-link-lib=kernel32\n")
        assert dependent(crate(name, self.SCRIPT), profile=tmp_path) == set()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("x.rs", False), *((f"deep/x{ending}", True) for ending in (".o", ".a", ".so", ".dylib", ".lib"))],
    )
    def test_by_what_its_script_compiled(self, name: str, expected: bool, tmp_path: Path) -> None:
        (tmp_path / ".fingerprint" / f"libc-{HASH}").mkdir(parents=True)
        path = tmp_path / "build" / f"libc-{HASH}" / "out" / name
        path.parent.mkdir(parents=True)
        path.touch()
        assert dependent(crate("libc", self.SCRIPT), profile=tmp_path) == ({"libc"} if expected else set())

    @pytest.mark.parametrize(
        ("path", "expected"), [("/usr/include/x.rs", True), ("/cargo/src/x.rs", False), ("src/lib.rs", False)]
    )
    def test_by_what_rustc_read_for_it(self, path: str, expected: bool, tmp_path: Path) -> None:
        unit = tmp_path / ".fingerprint" / f"libc-{HASH}"
        unit.mkdir(parents=True)
        (unit / "dep-lib-libc").write_bytes(dep_info("src/x.rs", path))
        (unit / "lib-libc").write_text(HASH)
        found = dependent(crate("libc", self.SCRIPT), crate("x"), profile=tmp_path, verified="/cargo/")
        assert found == ({"libc"} if expected else set())


class TestAPackageThatCargoDoesNotTellOf:
    """By a feature, or for another platform."""

    def asks(self, folder: Path, name: str = "x", source: str | None = CRATES_IO) -> bool:
        verified = [str(folder / "none"), str(folder / "src")]
        return harmless.may_ask(name, "1.0.0", source, verified)

    @pytest.mark.parametrize("source", [None, GIT])
    def test_may_ask_the_system_if_it_is_of_no_registry(self, source: str | None, tmp_path: Path) -> None:
        assert self.asks(tmp_path, "serde", source)

    def test_is_read_whatever_the_locale(self, tmp_path: Path) -> None:
        manifest = tmp_path / "src" / "index" / "x-1.0.0" / "Cargo.toml"
        manifest.parent.mkdir(parents=True)
        manifest.write_text('# \u00fc\nbuild = "x.rs"\n', "utf-8")
        code = "import sys; from pyo3_envshim.cargo import harmless\n"
        code += f"print(harmless.may_ask('x', '1.0.0', {CRATES_IO!r}, sys.argv[1:]))"
        environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        assert run([sys.executable, "-c", code, str(tmp_path / "src")], environ, ROOT) == "True\n"

    def test_may_ask_if_it_is_known_to(self, tmp_path: Path) -> None:
        assert self.asks(tmp_path, "sqlx-macros")
        assert not self.asks(tmp_path, "serde")
        assert not self.asks(tmp_path, "pyo3-ffi")

    @pytest.mark.parametrize(
        ("name", "manifest", "script", "expected"),
        [
            ("x", '[package]\nbuild = "build/main.rs"\n', False, True),
            ("x", "[package]\nbuild = false\n", False, False),
            ("x", "[package]\n", True, True),
            ("serde", "[package]\n", True, False),
        ],
    )
    def test_may_ask_if_it_is_here_and_has_a_script(
        self, name: str, manifest: str, script: bool, expected: bool, tmp_path: Path
    ) -> None:
        (tmp_path / "src" / "another-index").mkdir(parents=True)
        folder = tmp_path / "src" / "index" / f"{name}-1.0.0"
        folder.mkdir(parents=True)
        if script:
            (folder / "build.rs").touch()
        assert not self.asks(tmp_path, name)  # without a manifest, it is not here
        (folder / "Cargo.toml").write_text(manifest)
        assert self.asks(tmp_path, name) == expected


class Compiler:
    """A rustc on PATH, its folder, a wrapper, and a build folder that knows of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sysroot = folder / "sysroot"
        self.rustc = script(self.sysroot / "bin" / "rustc", "")
        self.environ = {"PATH": str(self.rustc.parent)}
        for name in ("lib/librustc_driver-1.so", "lib/libother.so", "lib/rustlib/x86_64/lib/libstd.rlib"):
            (self.sysroot / name).parent.mkdir(parents=True, exist_ok=True)
            (self.sysroot / name).touch()
        (self.sysroot / "bin" / "rustc.exe").touch()
        self.knows(str(self.sysroot))

    def knows(self, sysroot: str) -> None:
        outputs = {"1": {"stdout": f"___\n{sysroot}\nlib___.so\n/gone\n"}}
        (self.folder / ".rustc_info.json").write_text(json.dumps({"outputs": outputs}))

    def state(self) -> str:
        return harmless.compiler([], self.environ, str(self.folder))

    def is_known(self, cargo: str = "/no/cargo") -> bool:
        call = CargoCall(cargo, ["build"], self.environ)
        return harmless.is_compiler_known([], call, str(self.folder))

    def wrap(self) -> Path:
        (self.folder / ".cargo").mkdir()
        (self.folder / ".cargo" / "config.toml").write_text("build.rustc-wrapper = './wrapper'\n")
        return script(self.folder / "wrapper", "")


@pytest.fixture
def compiler(here: Path) -> Compiler:
    return Compiler(here)


class TestTheCompilersState:
    @pytest.mark.parametrize(
        ("name", "counts"),
        [
            ("bin/rustc", True),
            ("bin/rustc.exe", True),
            ("lib/librustc_driver-1.so", True),
            ("lib/rustlib/x86_64/lib/another.rlib", True),
            ("lib/libother.so", False),
        ],
    )
    def test_changes_with_what_belongs_to_it(self, name: str, counts: bool, compiler: Compiler) -> None:
        (compiler.sysroot / "lib" / "rustlib" / "x86_64" / "lib").touch()
        os.utime(compiler.sysroot / "lib" / "rustlib" / "x86_64" / "lib", (1, 1))
        before = compiler.state()
        assert compiler.state() == before
        (compiler.sysroot / name).write_text("another")
        assert (compiler.state() != before) == counts

    @pytest.mark.parametrize("change", [lambda path: os.utime(path, (1, 1)), Path.unlink])
    def test_changes_with_a_wrapper(self, change: Callable[[Path], object], compiler: Compiler) -> None:
        before = compiler.state()
        wrapper = compiler.wrap()
        with_wrapper = compiler.state()
        change(wrapper)
        assert len({before, with_wrapper, compiler.state()}) == (2 if not wrapper.exists() else 3)

    @pytest.mark.parametrize("name", ["RUSTUP_TOOLCHAIN", "MACOSX_DEPLOYMENT_TARGET"])
    def test_changes_with_a_variable(self, name: str, compiler: Compiler) -> None:
        found = {compiler.state()}
        for value in ("one", "two"):
            compiler.environ[name] = value
            found.add(compiler.state())
        assert len(found) == 3
        compiler.environ["X_" + name] = "three"
        assert compiler.state() in found

    def test_changes_with_the_c_library(self, compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
        found = set()
        for version in ("glibc 2.36", "glibc 2.41"):
            versions = {"CS_GNU_LIBC_VERSION": version}
            monkeypatch.setattr(os, "confstr", versions.__getitem__, raising=False)
            found.add(compiler.state())
        for error in (ValueError, OSError):
            monkeypatch.setattr(os, "confstr", lambda name, error=error: (_ for _ in ()).throw(error))
            found.add(compiler.state())
        assert len(found) == 3

    def test_is_one_text_without_a_compiler(self, compiler: Compiler) -> None:
        compiler.environ["PATH"] = "/gone"
        (compiler.folder / ".rustc_info.json").unlink()
        assert str(compiler.folder) not in compiler.state()


class TestAnotherCompilerIsNoticed:
    """By cargo itself, which looks at the program's time, but not at what that starts."""

    def test_where_it_is_the_compiler(self, compiler: Compiler) -> None:
        assert compiler.is_known()
        linked = compiler.folder / "linked"
        linked.mkdir()
        (linked / "rustc").symlink_to(compiler.rustc)
        compiler.environ["PATH"] = str(linked)
        assert compiler.is_known()

    def test_not_where_a_program_starts_one_of_several(self, compiler: Compiler) -> None:
        shim = script(compiler.folder / "shims" / "rustc", "")
        compiler.environ["PATH"] = str(shim.parent)
        assert not compiler.is_known()

    def test_not_where_something_runs_in_front_of_it(self, compiler: Compiler) -> None:
        compiler.wrap()
        assert not compiler.is_known()

    def test_not_where_there_is_none(self, compiler: Compiler) -> None:
        compiler.environ["PATH"] = "/gone"
        assert not compiler.is_known()

    def test_where_rustup_starts_both(self, compiler: Compiler) -> None:
        """It tells cargo which one that is."""
        rustup = script(compiler.folder / "rustup" / "rustup", "")
        for name in ("cargo", "rustc"):
            (rustup.parent / name).symlink_to("rustup")
        compiler.environ["PATH"] = str(rustup.parent)
        assert compiler.is_known(str(rustup.parent / "cargo"))
        assert not compiler.is_known()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x", True),
        ("../x", True),
        ("src/../../x", True),
        ("src/x", False),
        ("src/..x", False),
        ("x..", False),
    ],
)
def test_a_path_leads_elsewhere(path: str, expected: bool) -> None:
    assert harmless.leads_elsewhere(path) == expected
