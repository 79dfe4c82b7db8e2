"""More attacks on what is kept by default: odd places, full disks, compilers, what back ends look for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .kept_cargo import KeptCargo, can_mount, library, manifest
from .test_kept_attacks import overlay
from .test_kept_by_default import System
from .workshop import real_cargo

FILES = {"Cargo.toml": manifest(), "src/lib.rs": library("1")}
TWO = {**FILES, "Cargo.toml": manifest(dependencies='unicode-ident = "1"\nproc-macro2 = "1"\n')}
HAS_SCRIPT = {**FILES, "build.rs": "fn main() {}\n"}


@pytest.fixture
def cargo(tmp_path: Path) -> KeptCargo:
    return KeptCargo(tmp_path)


@pytest.fixture
def system(tmp_path: Path) -> System:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    return System(tmp_path)


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
@pytest.mark.parametrize("under", ["environment", "overlay"])
def test_a_cache_where_no_program_may_be_started(cargo: KeptCargo, under: str) -> None:
    """A folder that is mounted with noexec; front ends unpack elsewhere. The build goes on as without us."""
    if under == "overlay":
        cargo.environment["PYTHONPATH"] = str(overlay(cargo))
        cargo.environment["PYO3_PYTHON"] = "/usr/bin/python3"
    said = cargo.on_a_file_system("noexec", cargo.unpack(HAS_SCRIPT), "build")
    assert said.count(f"no program can be started in {cargo.cache} (noexec); set PYO3_ENVSHIM_CACHE_DIR") == 1


FILLS = """\
fn main() {{
    let out = std::env::var("OUT_DIR").unwrap();
    if out.starts_with("{cache}") {{
        let file = std::fs::File::create(out + "/big").unwrap();
        for _ in 0..300 {{ std::io::Write::write_all(&mut &file, &[1; 1 << 20]).unwrap(); }}
        panic!("as on a full disk");
    }}
}}
"""


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
def test_a_project_that_needs_more_than_the_disk_has(cargo: KeptCargo) -> None:
    """The sources lie on a disk that has enough: not again and again."""
    tree = cargo.unpack({**FILES, "build.rs": FILLS.format(cache=cargo.cache)})
    said = cargo.on_a_file_system("size=1200m", tree, "! build && build && build")
    assert said.count("less than 5G is free") == 2


IN_A_SHELL = """\
fn main() {
    let script = format!("cd {0} && touch {0}/made && test -e made", std::env::var("OUT_DIR").unwrap());
    assert!(std::process::Command::new("sh").arg("-c").arg(script).status().unwrap().success());
}
"""


@pytest.mark.parametrize("name", ["a:b", "a b", "a'b", "$a", "a,b", "a=b", "ä"])
def test_a_cache_with_an_odd_name(cargo: KeptCargo, name: str) -> None:
    """cargo cannot have a separator of paths in one, make and many a script no space."""
    cache = cargo.folder / name / "cache"
    tree = cargo.unpack({**FILES, "build.rs": IN_A_SHELL})
    assert cargo.build(tree, PYO3_ENVSHIM_CACHE_DIR=str(cache)).ours == []
    assert (cache / "builds").exists() == (name in ("a,b", "a=b", "ä"))


def test_a_file_system_without_locks_is_no_news(cargo: KeptCargo) -> None:
    """Lustre, as it is mounted by default."""
    patch = "import errno, fcntl\ndef flock(*_): raise OSError(errno.ENOSYS, '')\nfcntl.flock = flock\n"
    text = cargo.wrapper.read_text()
    cargo.wrapper.write_text(text.replace("from pyo3_envshim", f"{patch}from pyo3_envshim", 1))
    assert cargo.build(cargo.unpack(FILES)).ours == []


@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("ending", [".rlib", ".rmeta", "build-script-build"])
def test_files_that_lost_their_ends(cargo: KeptCargo, size: int, ending: str) -> None:
    """In a power failure: cargo looks at their times only."""
    cargo.build(cargo.unpack(TWO))
    for path in cargo.kept[0].rglob("*"):
        if path.name.endswith(ending) and path.is_file():
            times = path.stat()
            os.truncate(path, size)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    cargo.build(cargo.unpack(TWO))
    assert cargo.build(cargo.unpack(TWO)).compiled == ["tiny"]


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}'])
def test_a_note_of_sizes_that_lost_its_end(cargo: KeptCargo, text: str) -> None:
    cargo.build(cargo.unpack(FILES))
    (cargo.kept[0] / "outputs").write_text(text)
    assert cargo.build(cargo.unpack(FILES)).ours == []
    assert cargo.build(cargo.unpack(FILES)).compiled == ["tiny"]


def test_a_build_that_failed_costs_no_other_crate(cargo: KeptCargo) -> None:
    cargo.build(cargo.unpack(FILES))
    cargo.build(cargo.unpack({**FILES, "src/lib.rs": "nonsense"}), fails=True)
    assert cargo.build(cargo.unpack(FILES)).compiled == ["tiny"]


def test_a_rustc_that_starts_another(cargo: KeptCargo) -> None:
    """The shims of asdf and mise: cargo has noted what rustc says of itself, and looks at a shim's time."""
    command = ["rustc", "--print", "sysroot"]
    real = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()) / "bin"
    if not (real / "cargo").exists():
        pytest.skip("rustc's cargo is elsewhere")
    version = cargo.folder / "version"
    tools = cargo.folder / "shims"
    tools.mkdir()
    script = f'case $* in -vV) {real}/rustc -vV | sed "s/commit-hash: .*/commit-hash: $(cat {version})/";;'
    (tools / "rustc").write_text(f'#!/bin/sh\n{script}\n*) exec {real}/rustc "$@";; esac\n')
    (tools / "rustc").chmod(0o755)
    variables = {
        "PATH": f"{tools}:{cargo.environment['PATH']}",
        "PYO3_ENVSHIM_CARGO": str(real / "cargo"),
    }
    for number, compiled in (
        ("1", ["tiny", "unicode-ident"]),
        ("1", ["tiny"]),
        ("2", ["tiny", "unicode-ident"]),
    ):
        version.write_text(number)
        assert cargo.build(cargo.unpack(FILES), **variables).compiled == compiled  # type: ignore[arg-type]


def test_a_deployment_target(cargo: KeptCargo) -> None:
    """maturin sets one for each build on macOS; rustc reads it."""
    for value, compiled in (
        ("11.0", ["tiny", "unicode-ident"]),
        ("11.0", ["tiny"]),
        ("12.0", ["tiny", "unicode-ident"]),
        ("", ["tiny", "unicode-ident"]),
    ):
        done = cargo.build(cargo.unpack(FILES), MACOSX_DEPLOYMENT_TARGET=value)
        assert done.compiled == compiled


def test_a_deployment_target_in_the_configuration(cargo: KeptCargo) -> None:
    for _ in range(2):
        configuration = '[env]\nMACOSX_DEPLOYMENT_TARGET = "11.0"\n'
        cargo.build(cargo.unpack({**FILES, ".cargo/config.toml": configuration}))
    assert cargo.kept == []


LEAVES = """\
fn main() {{
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());
    let profile = out.ancestors().nth(3).unwrap();
    std::fs::create_dir_all(profile.join("man/man1")).unwrap();
    std::fs::write(profile.join("{name}.h"), "1").unwrap();
    std::fs::write(profile.join("man/man1/{name}.1"), "1").unwrap();
}}
"""


def left(tree: Path) -> list[str]:
    profile = tree / "target" / "debug"
    return sorted(str(it.relative_to(profile)) for it in [*profile.glob("*.h"), *profile.rglob("*.1")])


def test_what_a_build_script_leaves_beside_the_results(cargo: KeptCargo) -> None:
    """Found by walking up from OUT_DIR, as cargo offers no other way; a back end packs it."""
    for name in ("one", "two"):
        tree = cargo.unpack({**FILES, "build.rs": LEAVES.format(name=name)})
        cargo.build(tree)
        assert left(tree) == [f"man/man1/{name}.1", f"{name}.h"]


def test_what_a_killed_builds_script_has_left_is_not_the_next_ones(cargo: KeptCargo) -> None:
    cargo.build(cargo.unpack(FILES))
    (cargo.kept[0] / "debug" / "stale.h").write_text("")
    tree = cargo.unpack({**FILES, "build.rs": LEAVES.format(name="one")})
    cargo.build(tree)
    assert left(tree) == ["man/man1/one.1", "one.h"]


def test_what_one_call_left_another_adds_to(cargo: KeptCargo) -> None:
    tree = cargo.unpack({**FILES, "build.rs": LEAVES.format(name="one")})
    cargo.build(tree)
    (tree / "build.rs").write_text(LEAVES.format(name="two"))
    cargo.build(tree)
    assert left(tree) == ["man/man1/one.1", "man/man1/two.1", "one.h", "two.h"]


def test_a_build_scripts_folder_stays_until_the_back_end_has_looked(cargo: KeptCargo) -> None:
    """cargo names it in its messages; the limit is less than this one folder."""
    tree = cargo.unpack(HAS_SCRIPT)
    command = [str(cargo.wrapper), *cargo.call(), "--message-format=json"]
    environ = {**cargo.environment, "PYO3_ENVSHIM_BUILD_CACHE": "1K"}
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    (folder,) = (it["out_dir"] for it in messages if it["reason"] == "build-script-executed")
    assert os.path.isdir(folder)


def test_a_folder_that_exceeds_the_limit_by_itself_does_not_grow(cargo: KeptCargo) -> None:
    for setting, compiled in (
        ("1K", ["tiny", "unicode-ident"]),
        ("on", ["tiny", "unicode-ident"]),
        ("on", ["tiny"]),
    ):
        done = cargo.build(cargo.unpack(FILES), PYO3_ENVSHIM_BUILD_CACHE=setting)
        assert done.compiled == compiled


def test_no_home(cargo: KeptCargo) -> None:
    """cargo and Python know it from the list of users."""
    if "CARGO_HOME" in cargo.environment:
        pytest.skip("CARGO_HOME is set")
    del cargo.environment["HOME"]
    for _ in range(2):
        done = cargo.build(cargo.unpack(FILES))
    assert done.compiled == ["tiny"]


WAITS = """\
fn main() {{
    std::fs::write("{folder}/begun", "").unwrap();
    while !std::path::Path::new("{folder}/go").exists() {{
        std::thread::sleep(std::time::Duration::from_millis(20));
    }}
}}
"""


def test_a_cargo_without_locks_whose_wrapper_was_killed(cargo: KeptCargo) -> None:
    """On a network share cargo takes none."""
    first = cargo.start(cargo.unpack({**FILES, "build.rs": WAITS.format(folder=cargo.folder)}))
    while not (cargo.folder / "begun").exists():
        assert first.poll() is None
    for path in cargo.kept[0].rglob(".cargo-*lock"):
        path.unlink()
    first.kill()
    first.wait()
    try:
        tree = cargo.unpack(FILES, "bbbbbbbb")
        done = cargo.build(tree, PYO3_ENVSHIM_VERBOSE="1")
        assert "nobody waits for" in done.ours[0]
        assert (tree / "target" / "debug" / "deps").exists()
    finally:
        (cargo.folder / "go").write_text("")
    assert first.communicate()[1]


def test_a_branch_that_moves(system: System) -> None:
    for number in (1, 2, 1):
        system.publish({"src/lib.rs": f"// {os.urandom(4).hex()}\npub fn number() -> i32 {{ {number} }}\n"})
        files = {
            "Cargo.toml": manifest(
                dependencies=f'unicode-ident = "1"\nsys = {{ git = "file://{system.crate}" }}\n'
            ),
            "src/lib.rs": library("sys::number()"),
        }
        shutil.rmtree(Path(system.cargo.environment["CARGO_HOME"]) / "git", ignore_errors=True)
        done = system.cargo.build(system.cargo.unpack(files), CARGO_NET_OFFLINE="false")
        assert done.answer == number


def test_odd_files_in_an_sdist(cargo: KeptCargo) -> None:
    for _ in range(2):
        tree = cargo.unpack(HAS_SCRIPT)
        for name, leads in (("loop", "loop"), ("dangling", "nowhere/x"), ("up", "..")):
            (tree / name).symlink_to(leads)
        os.mkfifo(tree / "fifo")
        (tree / os.fsdecode(b"\xff\xfe")).write_text("x")
        done = cargo.build(tree)
        assert done.ours == []
    assert done.compiled == ["tiny"]


def test_features_of_a_member_of_a_virtual_workspace(cargo: KeptCargo) -> None:
    files = {
        "Cargo.toml": '[workspace]\nmembers = ["a", "b"]\nresolver = "2"\n',
        "a/Cargo.toml": manifest(more="[features]\nextra = []\n"),
        "a/src/lib.rs": library("1"),
        "b/Cargo.toml": manifest("b", lib=""),
        "b/src/lib.rs": "",
    }
    for _ in range(2):
        done = cargo.build(cargo.unpack(files), "--features", "extra")
    assert done.compiled == ["tiny"]


@pytest.mark.parametrize("how", ["an option", "the configuration"])
def test_another_platforms_folders(cargo: KeptCargo, how: str) -> None:
    said = subprocess.run([real_cargo(), "-vV"], check=True, capture_output=True, text=True).stdout
    triple = next(line.split()[1] for line in said.splitlines() if line.startswith("host: "))
    is_option = how == "an option"
    files = TWO if is_option else {**TWO, ".cargo/config.toml": f'[build]\ntarget = "{triple}"\n'}
    for _ in range(2):
        tree = cargo.unpack(files)
        options = ["--target", triple] if is_option else []
        assert cargo.build(tree, *options).compiled[-1] != ""
        assert (tree / "target" / triple / "debug" / "libtiny.so").exists()
    assert cargo.build(cargo.unpack(files), *options).compiled == ["tiny"]
