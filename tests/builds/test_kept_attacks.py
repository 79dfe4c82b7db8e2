"""Attacks on what is kept by default: each was tried by someone who had not written it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.interpreters import base_interpreter, interpreter

from .kept_cargo import KeptCargo, library, manifest
from .test_kept_by_default import NUMBER, SCRIPT, System
from .workshop import real_cargo


@pytest.fixture
def system(tmp_path: Path) -> System:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    return System(tmp_path)


def publish(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return f'git = "file://{folder}"'


def overlay(cargo: KeptCargo, at: str = "aaaaaaaa") -> Path:
    above = cargo.temporary / f"pip-build-env-{at}"
    (above / "site").mkdir(parents=True)
    above.chmod(0o700)
    (above / "site" / "sitecustomize.py").write_text("")
    return above / "site"


def test_a_variable_that_rustc_reads_for_a_crate_from_git(system: System) -> None:
    system.publish(
        {"src/lib.rs": 'pub fn number() -> i32 { option_env!("FOO").unwrap_or("0").parse().unwrap() }\n'}
    )
    for value in ("1", "2"):
        assert system.build("aaaaaaaa", FOO=value).answer == int(value)


def test_a_variable_of_the_sdists_configuration(system: System) -> None:
    system.publish(
        {"src/lib.rs": 'pub fn number() -> i32 { option_env!("FOO").unwrap_or("0").parse().unwrap() }\n'}
    )
    for value in ("1", "2"):
        tree = system.unpack("aaaaaaaa")
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text(f'[env]\nFOO = "{value}"\n')
        assert system.cargo.build(tree).answer == int(value)


def test_a_path_in_another_cargos_home(system: System) -> None:
    system.publish(
        {
            "src/lib.rs": (
                'pub fn number() -> i32 { std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), '
                '"/Cargo.toml")).exists() as i32 }\n'
            )
        }
    )
    first, second = system.cargo.use_home("home-1"), system.cargo.use_home("home-2")
    online = {"CARGO_NET_OFFLINE": "false"}
    assert system.build("aaaaaaaa", CARGO_HOME=first, **online).answer == 1
    shutil.rmtree(first)
    done = system.build("aaaaaaaa", CARGO_HOME=second, **online)
    assert done.answer == 1, done.said
    plain = system.build("aaaaaaaa", CARGO_HOME=second, PYO3_ENVSHIM="off", **online)
    assert plain.answer == 1


def test_a_tool_that_a_build_dependency_carries_in_another_cargos_home(system: System) -> None:
    """As protoc-bin-vendored does: no build script, env!("CARGO_MANIFEST_DIR")."""
    system.publish(
        {
            "tool.sh": "#!/bin/sh\necho 7\n",
            "src/lib.rs": (
                "pub fn number() -> i32 { "
                'String::from_utf8(std::process::Command::new("sh")'
                '.arg(concat!(env!("CARGO_MANIFEST_DIR"), '
                '"/tool.sh")).output().unwrap().stdout).unwrap().trim().parse().unwrap() }\n'
            ),
        }
    )
    first, second = system.cargo.use_home("home-1"), system.cargo.use_home("home-2")
    online = {"CARGO_NET_OFFLINE": "false"}
    git = f'git = "file://{system.crate}", rev = "{system.commit()}"'
    files = {
        "Cargo.toml": manifest(more=f"[build-dependencies]\nsys = {{ {git} }}\n"),
        "build.rs": 'fn main() { println!("cargo:rustc-env=N={}", sys::number()); }\n',
        "src/lib.rs": library('env!("N").parse().unwrap()'),
    }
    assert system.cargo.build(system.cargo.unpack(files), CARGO_HOME=first, **online).answer == 7  # type: ignore[arg-type]
    shutil.rmtree(first)
    tree = system.cargo.unpack(files)
    assert system.cargo.build(tree, shim=False, CARGO_HOME=second, **online).answer == 7  # type: ignore[arg-type]
    assert system.cargo.build(system.cargo.unpack(files), CARGO_HOME=second, **online).answer == 7  # type: ignore[arg-type]


def test_flags_from_a_file(system: System) -> None:
    system.publish(
        {
            "src/lib.rs": (
                "#![allow(unexpected_cfgs)]\npub fn number() -> i32 { if cfg!(special) { 2 } else { 1 } }\n"
            )
        }
    )
    for text, number in (("--cfg\nplain\n", 1), ("--cfg\nspecial\n", 2)):
        flags = system.write("flags", text)
        assert system.build("aaaaaaaa", RUSTFLAGS=f"@{flags}").answer == number


def test_native_in_a_file(system: System) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    flags = system.write("flags", "-Ctarget-cpu=native\n")
    system.build("aaaaaaaa", RUSTFLAGS=f"@{flags}")
    assert system.cargo.kept == []


@pytest.mark.parametrize(
    "text", ['[env]\nRUSTC_BOOTSTRAP = "1"\n', '[env]\nLIBC_CI = { value = "1", force = true }\n']
)
def test_an_untold_variable_in_the_configuration(system: System, text: str) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    for at in ("aaaaaaaa", "bbbbbbbb"):
        tree = system.unpack(at)
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text(text)
        system.cargo.build(tree)
    assert system.cargo.kept == []


def test_bootstrap_in_the_configuration_is_seen_by_rustc(system: System) -> None:
    """A crate from git whose macro_rules need no script: rustc itself answers otherwise."""
    system.publish(
        {"src/lib.rs": 'pub fn number() -> i32 { option_env!("RUSTC_BOOTSTRAP").is_some() as i32 }\n'}
    )
    for number in (0, 1):
        tree = system.unpack("aaaaaaaa")
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text('[env]\nRUSTC_BOOTSTRAP = "1"\n' if number else "")
        assert system.cargo.build(tree).answer == number


def test_a_system_dependent_package_that_only_a_feature_brings(system: System, tmp_path: Path) -> None:
    new = publish(
        tmp_path / "new",
        {
            "Cargo.toml": manifest("inner", "", 'name = "inner"').replace("0.1.0", "2.0.0"),
            "src/lib.rs": "pub fn number() -> i32 { 0 }\n",
        },
    )
    old = publish(
        tmp_path / "old",
        {
            "Cargo.toml": manifest("inner", "", 'name = "inner"'),
            "build.rs": SCRIPT.format(number='std::env::var("FOO").unwrap()'),
            "src/lib.rs": NUMBER,
        },
    )
    files = {
        "Cargo.toml": manifest(
            dependencies=(
                'unicode-ident = "1"\n'
                f"inner = {{ {new} }}\n"
                f'old = {{ {old}, package = "inner", optional = true }}\n'
            ),
            more='[features]\nextra = ["dep:old"]\n',
        ),
        "src/lib.rs": library("old::number() + inner::number()"),
    }
    for value in ("1", "2"):
        tree = system.cargo.unpack(files)
        done = system.cargo.build(tree, "--features", "extra", FOO=value)
        assert done.answer == int(value), done.said


@pytest.mark.parametrize("python", ["python3", "", "/nowhere/python"])
def test_an_interpreter_by_name_is_no_trouble(tmp_path: Path, python: str) -> None:
    cargo = KeptCargo(tmp_path)
    site = overlay(cargo)
    files = {"Cargo.toml": manifest(), "src/lib.rs": library("1")}
    for _ in range(2):
        done = cargo.build(cargo.unpack(files), PYTHONPATH=str(site), PYO3_PYTHON=python)
        assert done.answer == 1
        assert done.ours == []


def test_a_dangling_link_in_an_overlay(tmp_path: Path) -> None:
    cargo = KeptCargo(tmp_path)
    site = overlay(cargo)
    (site / "link").symlink_to("/nowhere/at/all")
    python = base_interpreter()
    files = {"Cargo.toml": manifest(), "src/lib.rs": library("1")}
    done = cargo.build(cargo.unpack(files), PYTHONPATH=str(site), PYO3_PYTHON=python)
    assert (done.answer, done.ours) == (1, [])


@pytest.mark.parametrize("name", ["overlays", "compiler", "each-time", "checksums"])
@pytest.mark.parametrize("kind", ["folder", "rubbish"])
def test_rubbish_in_the_folder(system: System, name: str, kind: str) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    site = overlay(system.cargo)
    python = base_interpreter()
    more = {"PYTHONPATH": str(site), "PYO3_PYTHON": python}
    system.build("aaaaaaaa", **more)
    place = system.cargo.kept[0] / name
    if place.exists():
        place.unlink()
    if kind == "folder":
        place.mkdir()
    else:
        place.write_bytes(b"\xff\0\0\n\n{")
    done = system.build("bbbbbbbb", **more)
    assert done.answer == 1
    if kind == "rubbish":
        place.write_bytes(b"[1]\xff")
        system.cargo.environment.update(more)
        system.cargo.explained(system.unpack("cccccccc"))


def test_the_path_of_a_source_in_another_cargos_home(system: System) -> None:
    """file!(), panics and debug information name it: byte for byte?"""
    system.publish({"src/lib.rs": 'pub fn number() -> i32 { file!().contains("home-2") as i32 }\n'})
    first, second = system.cargo.use_home("home-1"), system.cargo.use_home("home-2")
    online = {"CARGO_NET_OFFLINE": "false"}
    assert system.build("aaaaaaaa", CARGO_HOME=first, **online).answer == 0
    assert system.build("aaaaaaaa", CARGO_HOME=second, **online).answer == 1


def test_a_static_library_that_the_flags_lead_to(system: System) -> None:
    """No build script: #[link(kind = "static")], which rustc puts into the rlib; -L is the user's."""
    system.publish(
        {
            "src/lib.rs": (
                '#[link(name = "foo", kind = "static")] extern "C" { fn foo() -> i32; }\n'
                "pub fn number() -> i32 { unsafe { foo() } }\n"
            )
        }
    )
    for number in (1, 2):
        source = system.folder / "foo.c"
        source.write_text(f"int foo(void) {{ return {number}; }}\n")
        subprocess.run(["cc", "-fPIC", "-c", "-o", "foo.o", "foo.c"], cwd=system.folder, check=True)
        subprocess.run(["ar", "rcs", "libfoo.a", "foo.o"], cwd=system.folder, check=True)
        assert system.build("aaaaaaaa", RUSTFLAGS=f"-Lnative={system.folder}").answer == number


TYPE_SIZE = (
    '#[no_mangle] pub extern "C" fn answer() -> i32 { '
    "core::mem::size_of::<(pyo3_ffi::PyTypeObject, pyo3_ffi::PyObject)>() as i32 }\n"
)
FFI = 'pyo3-ffi = { version = "=0.29.3", features = ["extension-module"] }\n'


def test_a_launcher_of_interpreters_under_an_overlay(tmp_path: Path) -> None:
    """PYO3_PYTHON=~/.pyenv/shims/python: `pyenv global` changes what it starts, not the file."""
    cargo = KeptCargo(tmp_path)
    cargo.use_home()
    site = overlay(cargo)
    launcher, real = tmp_path / "shims" / "python", tmp_path / "version"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec "$(cat {real})" "$@"\n')
    launcher.chmod(0o755)
    files = {
        "Cargo.toml": manifest(dependencies=FFI),
        "src/lib.rs": TYPE_SIZE,
    }
    found = {}
    for version in ("3.9", "3.13"):
        python = interpreter(version) or pytest.skip(f"there is no CPython {version}")
        real.write_text(python)
        more = {"PYTHONPATH": str(site), "PYO3_PYTHON": str(launcher)}
        tree = cargo.unpack(files)
        with_shim = cargo.build(tree, **more).answer  # type: ignore[arg-type]
        plain = cargo.build(cargo.unpack(files), shim=False, **more).answer  # type: ignore[arg-type]
        found[version] = (with_shim, plain)
    assert found == {it: (plain, plain) for it, (_, plain) in found.items()}


def test_nightly_and_the_second_layout(system: System) -> None:
    if subprocess.run([real_cargo(), "+nightly", "--version"], capture_output=True).returncode:
        pytest.skip("there is no nightly toolchain of rustup")
    number = 'std::env::var("FOO").unwrap()'
    system.publish({"build.rs": SCRIPT.format(number=number), "src/lib.rs": NUMBER})
    for value in ("1", "2"):
        tree = system.unpack("aaaaaaaa")
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text("[unstable]\nbuild-dir-new-layout = true\n")
        done = system.cargo.build(tree, FOO=value, RUSTUP_TOOLCHAIN="nightly")
        assert done.answer == int(value)
    assert done.compiled == ["sys", "tiny"]


# In pip 26.3's words (build_env.py).
HIDING = """\
import os, site, sys
original_sys_path = sys.path[:]
known_paths = set()
for path in {system!r}:
    site.addsitedir(path, known_paths=known_paths)
system_paths = set(os.path.normcase(path) for path in sys.path[len(original_sys_path):])
original_sys_path = [path for path in original_sys_path if os.path.normcase(path) not in system_paths]
sys.path = original_sys_path
for path in {lib!r}:
    assert not path in sys.path
    site.addsitedir(path)
"""
ASKS_PYTHON = """\
fn main() {
    let mut asked = std::process::Command::new(std::env::var("PYO3_PYTHON").unwrap());
    let said = asked.args(["-m", "helper"]).output().unwrap();
    assert!(said.status.success());
    println!("cargo:rustc-env=N={}", String::from_utf8(said.stdout).unwrap().trim());
}
"""


@pytest.mark.parametrize("hides", [False, True])
def test_an_environment_within_anothers_overlay_keeps_its_packages(tmp_path: Path, hides: bool) -> None:
    """pip's default isolation; its back end starts `python -m build`, say: that environment is not hidden."""
    cargo = KeptCargo(tmp_path)
    site = overlay(cargo)
    lib = site.parent / "overlay" / "lib" / "site-packages"
    lib.mkdir(parents=True)
    if hides:
        text = HIDING.format(system=[str(tmp_path / "outer" / "site-packages")], lib=[str(lib)])
        (site / "sitecustomize.py").write_text(text)
    root = Path(cargo.environment["PYO3_PYTHON"]).parent.parent
    (next(root.glob("lib/python3*/site-packages")) / "helper.py").write_text("print(5)\n")
    expression = 'env!("N").parse().unwrap()'
    files = {"Cargo.toml": manifest(), "build.rs": ASKS_PYTHON, "src/lib.rs": library(expression)}
    assert cargo.build(cargo.unpack(files), shim=False, PYTHONPATH=str(site)).answer == 5
    assert cargo.build(cargo.unpack(files), PYTHONPATH=str(site)).answer == 5


NESTED = """\
fn main() {
    let o = std::process::Command::new("timeout").args(["20", "%s", "rustc", "-p", "tiny", "--lib"])
        .current_dir("%s").env_remove("PYO3_ENVSHIM_CARGO").env("PYO3_ENVSHIM_VERBOSE", "1")
        .output().unwrap();
    println!("cargo:warning={}", String::from_utf8(o.stderr).unwrap().replace(char::from(10), "|"));
    assert!(o.status.success(), "the inner build did not end");
}
"""


def test_a_build_of_the_same_name_within_the_build(tmp_path: Path) -> None:
    """A build script that builds an sdist of the same name must not wait for itself."""
    cargo = KeptCargo(tmp_path)
    inner = cargo.unpack({"Cargo.toml": manifest(), "src/lib.rs": library("3")}, "innerinn")
    files = {
        "Cargo.toml": manifest(),
        "build.rs": NESTED % (cargo.wrapper, inner),
        "src/lib.rs": library("4"),
    }
    assert cargo.build(cargo.unpack(files), shim=False).answer == 4
    shutil.rmtree(inner / "target", ignore_errors=True)
    done = cargo.build(cargo.unpack(files))
    assert done.answer == 4


def test_what_is_noted_after_cargo_does_not_fail_a_build(tmp_path: Path) -> None:
    """The disk is full, the quota is used up, the folder was removed: cargo has succeeded."""
    cargo = KeptCargo(tmp_path)
    files = {
        "Cargo.toml": manifest(),
        "build.rs": (
            f'fn main() {{ for e in std::fs::read_dir("{cargo.cache}/builds").unwrap() {{ '
            f'std::fs::create_dir_all(e.unwrap().path().join("compiler/x")).unwrap(); }} }}\n'
        ),
        "src/lib.rs": library("1"),
    }
    done = cargo.build(cargo.unpack(files))
    assert done.answer == 1


@pytest.mark.parametrize("name", ["_PYTHON_SYSCONFIGDATA_NAME", "PYTHONPATH"])
def test_a_variable_of_pythons_under_an_overlay(tmp_path: Path, name: str) -> None:
    cargo = KeptCargo(tmp_path)
    cargo.use_home()
    site = overlay(cargo)
    python = interpreter("3.13") or pytest.skip("there is no CPython 3.13")
    code = (
        "import importlib as i, sysconfig as s; print(i.import_module(s._get_sysconfigdata_name()).__file__)"
    )
    file = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    data, own = Path(file).stem, Path(file).read_text()
    extra = tmp_path / "extra"
    extra.mkdir()
    other = own + "\nbuild_time_vars['Py_TRACE_REFS'] = 1\n"
    (extra / "_sysconfigdata_own.py").write_text(other)
    (extra / f"{data}.py").write_text(other)
    files = {"Cargo.toml": manifest(dependencies=FFI), "src/lib.rs": TYPE_SIZE}
    base = {"PYTHONPATH": str(site), "PYO3_PYTHON": python}
    if name == "PYTHONPATH":
        changed = {**base, "PYTHONPATH": f"{site}:{extra}"}
    else:
        base["PYTHONPATH"] = changed_path = f"{site}:{tmp_path / 'third'}"
        (tmp_path / "third").mkdir()
        shutil.copy(extra / "_sysconfigdata_own.py", tmp_path / "third")
        changed = {**base, "PYTHONPATH": changed_path, name: "_sysconfigdata_own"}
    cargo.build(cargo.unpack(files), **base)  # type: ignore[arg-type]
    with_shim = cargo.build(cargo.unpack(files), **changed)  # type: ignore[arg-type]
    answer = with_shim.answer
    plain = cargo.build(cargo.unpack(files), shim=False, **changed).answer  # type: ignore[arg-type]
    assert (answer, "pyo3-ffi" in with_shim.compiled) == (plain, True)


def test_a_set_that_comes_back_with_what_asks_the_system(system: System) -> None:
    script = (
        'fn main() { println!("cargo:rerun-if-env-changed=PYO3_PYTHON");'
        ' println!("cargo:rustc-env=NUMBER={}", std::env::var("FOO").unwrap()); }\n'
    )
    system.publish({"build.rs": script, "src/lib.rs": NUMBER})
    first = Path(system.cargo.environment["PYO3_PYTHON"]).parent.parent
    second = system.cargo.temporary / "build-env-bbbbbbbb"
    shutil.copytree(first, second, symlinks=True)
    second.chmod(0o700)
    (next(second.glob("lib/python3*/site-packages")) / "x.py").write_text("")
    for value, env in (("1", first), ("2", second), ("3", first), ("4", second), ("5", first)):
        done = system.build("aaaaaaaa", FOO=value, PYO3_PYTHON=str(env / "bin" / "python"))
        assert done.answer == int(value), done.said
        assert done.ours == []


def test_a_failed_build_in_between(system: System) -> None:
    system.publish({"build.rs": SCRIPT.format(number='std::env::var("FOO").unwrap()'), "src/lib.rs": NUMBER})
    system.build("aaaaaaaa", FOO="1")
    tree = system.unpack("aaaaaaaa")
    (tree / "src/lib.rs").write_text("nonsense")
    system.cargo.build(tree, FOO="2", fails=True)
    (tree / "src/lib.rs").write_text(library("sys::number()"))
    assert system.cargo.build(tree, FOO="2").answer == 2
    assert system.build("aaaaaaaa", FOO="3").answer == 3


def test_renames_and_build_dependencies(system: System) -> None:
    """One package for the host and the target, under other names."""
    system.publish({"build.rs": SCRIPT.format(number='std::env::var("FOO").unwrap()'), "src/lib.rs": NUMBER})
    git = f'git = "file://{system.crate}", package = "sys"'
    files = {
        "Cargo.toml": manifest(
            dependencies=f'unicode-ident = "1"\nother = {{ {git} }}\n',
            more=f"[build-dependencies]\nother = {{ {git} }}\n",
        ),
        "build.rs": 'fn main() { println!("cargo:rustc-env=N={}", other::number()); }\n',
        "src/lib.rs": library('env!("N").parse::<i32>().unwrap() * 10 + other::number()'),
    }
    for value in ("1", "2"):
        assert system.cargo.build(system.cargo.unpack(files), FOO=value).answer == int(value) * 11


def test_links_metadata(system: System) -> None:
    system.publish(
        {
            "Cargo.toml": manifest("sys", 'inner = { path = "inner" }\n', 'name = "sys"'),
            "build.rs": (
                'fn main() { println!("cargo:rustc-env=NUMBER={}", std::env::var("DEP_FOO_N").unwrap()); }\n'
            ),
            "src/lib.rs": NUMBER,
            "inner/Cargo.toml": manifest("inner", "", 'name = "inner"').replace(
                "edition", 'links = "foo"\nedition'
            ),
            "inner/build.rs": (
                'fn main() { println!("cargo:rerun-if-changed=build.rs"); println!("cargo:n={}", '
                'std::env::var("FOO").unwrap()); }\n'
            ),
            "inner/src/lib.rs": "",
        }
    )
    for value in ("1", "2"):
        assert system.build("aaaaaaaa", FOO=value).answer == int(value)


def test_flags_in_the_users_configuration_that_name_a_file(system: System) -> None:
    system.publish(
        {
            "src/lib.rs": (
                "#![allow(unexpected_cfgs)]\npub fn number() -> i32 { if cfg!(special) { 2 } else { 1 } }\n"
            )
        }
    )
    for text, number in (("--cfg\nplain\n", 1), ("--cfg\nspecial\n", 2)):
        flags = system.write("flags", text)
        tree = system.unpack("aaaaaaaa")
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text(f'[build]\nrustflags = ["@{flags}"]\n')
        assert system.cargo.build(tree).answer == number


def test_two_projects_of_one_name_take_turns(system: System) -> None:
    system.publish({"build.rs": SCRIPT.format(number='std::env::var("FOO").unwrap()'), "src/lib.rs": NUMBER})
    git = f'git = "file://{system.crate}"'
    other = {
        "Cargo.toml": manifest(
            dependencies=(
                f'unicode-ident = "1"\nsys = {{ {git}, default-features = false '
                f"}}\n[profile.dev]\nopt-level = 1\n"
            )
        ),
        "src/lib.rs": library("100 + sys::number()"),
    }
    for value in ("1", "2", "3"):
        assert system.build("aaaaaaaa", FOO=value).answer == int(value)
        assert system.cargo.build(system.cargo.unpack(other, "bbbbbbbb"), FOO=value).answer == 100 + int(
            value
        )


def fetched(cargo: KeptCargo, tree: Path, name: str) -> tuple[str, Path]:
    """Return the version that a tree's Cargo.lock has of a crate, and where cargo has unpacked it."""
    online = {**cargo.environment, "CARGO_NET_OFFLINE": "false"}
    subprocess.run([real_cargo(), "fetch"], cwd=tree, env=online, check=True, capture_output=True)
    (version,) = re.findall(rf'name = "{name}"\nversion = "(.*)"', (tree / "Cargo.lock").read_text())
    (source,) = Path(online["CARGO_HOME"]).glob(f"registry/src/*/{name}-{version}")
    return version, source


def test_a_helper_of_a_known_script_that_is_patched(tmp_path: Path) -> None:
    """`_HELPERS` are known by name, wherever they come from: [patch] gives num-traits another autocfg."""
    cargo = KeptCargo(tmp_path)
    cargo.use_home()
    fact = tmp_path / "fact"
    needed = 'num-traits = { version = "0.2", default-features = false }\n'
    library = {"src/lib.rs": '#[no_mangle] pub extern "C" fn answer() -> i32 { 1 }\n'}
    tree = cargo.unpack({"Cargo.toml": manifest(dependencies=needed), **library})
    version, source = fetched(cargo, tree, "autocfg")
    text = (source / "src" / "lib.rs").read_text()
    old = "pub fn emit_expression_cfg(&self, expr: &str, cfg: &str) {"
    assert old in text
    new = old + f' if std::fs::read_to_string("{fact}").unwrap().trim() == "no" {{ return; }}'
    git = publish(
        tmp_path / "autocfg",
        {
            "Cargo.toml": manifest("autocfg", "", 'name = "autocfg"')
            .replace("0.1.0", version)
            .replace("2021", "2015"),
            **{
                f"src/{it.name}": (text.replace(old, new) if it.name == "lib.rs" else it.read_text())
                for it in (source / "src").glob("*.rs")
            },
        },
    )
    patch = f"[patch.crates-io]\nautocfg = {{ {git} }}\n"
    files = {"Cargo.toml": manifest(dependencies=needed, more=patch), **library}
    done = None
    for value in ("yes", "no"):
        fact.write_text(value)
        done = cargo.build(cargo.unpack(files))
    assert done is not None
    assert "num-traits" in done.compiled, done.said


def test_another_content_of_one_version(tmp_path: Path) -> None:
    """A private registry whose versions are overwritten; cargo's home is new (CI), our cache is not."""
    import hashlib
    import io
    import json
    import tarfile

    cargo = KeptCargo(tmp_path)
    registry = tmp_path / "registry"
    (registry / "index" / "3" / "f").mkdir(parents=True)
    for number in (1, 2):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for name, text in {
                "Cargo.toml": manifest("foo", "", 'name = "foo"').replace("0.1.0", "1.0.0"),
                "src/lib.rs": f"pub fn number() -> i32 {{ {number} }}\n",
            }.items():
                member = tarfile.TarInfo(f"foo-1.0.0/{name}")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        (registry / "foo-1.0.0.crate").write_bytes(data.getvalue())
        total = hashlib.sha256(data.getvalue()).hexdigest()
        line = {"name": "foo", "vers": "1.0.0", "deps": [], "cksum": total, "features": {}, "yanked": False}
        (registry / "index" / "3" / "f" / "foo").write_text(json.dumps(line) + "\n")
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        cargo.environment["CARGO_HOME"] = str(home)
        (home / "config.toml").write_text(
            f'[source.crates-io]\nreplace-with = "local"\n[source.local]\nlocal-registry = "{registry}"\n'
        )
        files = {
            "Cargo.toml": manifest(dependencies='foo = "1"\n'),
            "src/lib.rs": '#[no_mangle] pub extern "C" fn answer() -> i32 { foo::number() }\n',
        }
        tree = cargo.unpack(files)
        assert total in (tree / "Cargo.lock").read_text()
        done = cargo.build(tree)
        assert done.answer == number, done.said


def test_a_build_of_the_same_name_within_the_build_under_an_overlay(tmp_path: Path) -> None:
    cargo = KeptCargo(tmp_path)
    inner = cargo.unpack({"Cargo.toml": manifest(), "src/lib.rs": library("3")}, "innerinn")
    files = {
        "Cargo.toml": manifest(),
        "build.rs": NESTED % (cargo.wrapper, inner),
        "src/lib.rs": library("4"),
    }
    more = {"PYTHONPATH": str(overlay(cargo)), "PYO3_PYTHON": base_interpreter()}
    assert cargo.build(cargo.unpack(files), shim=False, **more).answer == 4  # type: ignore[arg-type]
    shutil.rmtree(inner / "target", ignore_errors=True)
    done = cargo.build(cargo.unpack(files), **more)  # type: ignore[arg-type]
    assert done.answer == 4


def test_an_overridden_crate(tmp_path: Path) -> None:
    cargo = KeptCargo(tmp_path)
    cargo.use_home()
    files = {"Cargo.toml": manifest(), "src/lib.rs": library("unicode_ident::is_xid_start('a') as i32")}
    _, source = fetched(cargo, cargo.unpack(files), "unicode-ident")
    other = tmp_path / "unicode-ident"
    shutil.copytree(source, other)
    lib = other / "src" / "lib.rs"
    lib.write_text(
        lib.read_text().replace(
            "pub fn is_xid_start(ch: char) -> bool {",
            "pub fn is_xid_start(ch: char) -> bool { if ch == 'a' { return false; }",
        )
    )
    for is_other in (True, False, True):
        tree = cargo.unpack(files)
        (tree / ".cargo").mkdir()
        (tree / ".cargo" / "config.toml").write_text(f'paths = ["{other}"]\n' if is_other else "")
        assert cargo.build(tree).answer == (0 if is_other else 1)


def test_a_users_own_folders() -> None:
    import tempfile

    from pyo3_envshim.environment import frontends

    with tempfile.TemporaryDirectory() as top:
        found = []
        own = Path(top) / "src"
        # "repo" and eight characters, beside an application's db.db
        (own / "repo_service").mkdir(parents=True)
        (own / "db.db").write_text("")
        if frontends.unpacked_at(str(own / "repo_service"), {}):
            found.append("repo_service beside db.db")
        (own / "target" / "git-v2" / "project").mkdir(parents=True)
        (own / "target" / "CACHEDIR.TAG").write_text("")
        if frontends.unpacked_at(str(own / "target" / "git-v2" / "project"), {}):
            found.append("target/git-v2")
        assert found == []


def test_a_tool_of_the_compilers_sysroot(system: System) -> None:
    """The standard library of a target is replaced by another build of it; rustc stays as it is."""
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    # Only that it is looked at:
    from pyo3_envshim.cargo import harmless

    system.build("aaaaaaaa")
    text = harmless.compiler([], system.cargo.environment, str(system.cargo.kept[0]))
    assert "rustlib" in text


def test_a_file_of_the_system_that_rustc_reads(system: System) -> None:
    """No build script: include_str!; the file is replaced by one that is older than the build."""
    system.publish(
        {
            "src/lib.rs": (
                f'pub fn number() -> i32 {{ include_str!("{system.folder}/fact").trim().parse().unwrap() }}\n'
            )
        }
    )
    for value in ("1", "2"):
        system.write("fact", value)
        assert system.build("aaaaaaaa").answer == int(value)


MACRO = """\
use proc_macro::TokenStream;
#[proc_macro] pub fn fact(_: TokenStream) -> TokenStream {
    std::fs::read_to_string("%s").unwrap().parse().unwrap()
}
"""


@pytest.mark.parametrize("what", ["file", "variable"])
def test_a_macro_from_git_in_a_crate_from_git(system: System, what: str) -> None:
    """A macro of nobody's list; documented for 'the time, or a variable'."""
    text = MACRO % f"{system.folder}/fact"
    if what == "variable":
        text = text.replace(f'std::fs::read_to_string("{system.folder}/fact")', 'std::env::var("FOO")')
    system.publish(
        {
            "Cargo.toml": manifest("sys", 'inner = { path = "inner" }\n', 'name = "sys"'),
            "src/lib.rs": "pub fn number() -> i32 { inner::fact!() }\n",
            "inner/Cargo.toml": manifest("inner", "", "proc-macro = true"),
            "inner/src/lib.rs": text,
        }
    )
    for value in ("1", "2"):
        system.write("fact", value)
        assert system.build("aaaaaaaa", FOO=value).answer == int(value)


def test_explain_with_rubbish_in_each_time(system: System) -> None:
    system.publish({"src/lib.rs": "pub fn number() -> i32 { 1 }\n"})
    system.build("aaaaaaaa")
    (system.cargo.kept[0] / "each-time").write_text("[1]")
    (system.cargo.kept[0] / "compiler").unlink()
    system.cargo.explained(system.unpack("bbbbbbbb"))


def test_explain_of_a_crate_whose_each_time_is_old(system: System) -> None:
    """each-time was written by a build by default; now all is kept, and another feature was asked for."""
    system.publish({"build.rs": SCRIPT.format(number='"1"'), "src/lib.rs": NUMBER})
    system.build("aaaaaaaa")
    system.build("aaaaaaaa")
    system.cargo.environment["PYO3_ENVSHIM_BUILD_CACHE"] = "on"
    system.build("aaaaaaaa")
    system.cargo.environment["RUSTFLAGS"] = "-Copt-level=1"
    found = system.cargo.explained(system.unpack("bbbbbbbb"))
    assert "system" not in {cause["kind"] for cause in found["causes"]}, found["causes"]


def test_nested_with_on(tmp_path: Path) -> None:
    cargo = KeptCargo(tmp_path)
    inner = cargo.unpack({"Cargo.toml": manifest(), "src/lib.rs": library("3")}, "innerinn")
    files = {
        "Cargo.toml": manifest(),
        "build.rs": NESTED % (cargo.wrapper, inner),
        "src/lib.rs": library("4"),
    }
    more = {
        "PYTHONPATH": str(overlay(cargo)),
        "PYO3_PYTHON": base_interpreter(),
        "PYO3_ENVSHIM_BUILD_CACHE": "on",
    }
    assert cargo.build(cargo.unpack(files), **more).answer == 4  # type: ignore[arg-type]


def test_a_fifo_in_an_overlay_is_not_waited_for(tmp_path: Path) -> None:
    cargo = KeptCargo(tmp_path)
    site = overlay(cargo)
    os.mkfifo(site / "fifo")
    files = {"Cargo.toml": manifest(), "src/lib.rs": library("1")}
    tree = cargo.unpack(files)
    process = cargo.start(tree, PYTHONPATH=str(site), PYO3_PYTHON=base_interpreter())
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def test_what_a_feature_brings_is_kept(tmp_path: Path) -> None:
    """maturin's `features = [...]`: cargo metadata is not told of them."""
    cargo = KeptCargo(tmp_path)
    files = {
        "Cargo.toml": manifest(
            dependencies='unicode-ident = { version = "1", optional = true }\n',
            more='[features]\nextra = ["dep:unicode-ident"]\n',
        ),
        "src/lib.rs": library("1"),
    }
    cargo.build(cargo.unpack(files), "--features", "extra")
    assert cargo.build(cargo.unpack(files), "--features", "extra").compiled == ["tiny"]
