"""cargo's configuration: what of it is compared, and what it names."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim.cargo import configuration

pytestmark = pytest.mark.quick

NAMES = ("PYO3_PYTHON", "PATH", "RUSTFLAGS", "OTHER")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# x\n\n[build]\r\n  jobs = 1 \n", "[build]\njobs = 1"),
        ("[alias]\nx = 'build'\n[build]\njobs = 1\n", "[build]\njobs = 1"),
        ("[registries.x] # x\nindex = 'y'\n", ""),
        ("[net]\nx = [\n['a'],\n]\n[ build ]\njobs = 1", "['a'],\n]\n[ build ]\njobs = 1"),
        ("[alias] # [x]\nx = 'y'", ""),
        ("['alias']\nx = 'y'", "['alias']\nx = 'y'"),
        ("alias.x = 'y'", "alias.x = 'y'"),
        ("[alias.x]\n[aliases]\nx = 'y'", "[aliases]\nx = 'y'"),
        ('[env]\nx = """\n# y\n[net]\n"""\n', '[env]\nx = """\n# y\n[net]\n"""\n'),
        ("[env]\nx = '''\n# y\n'''\n", "[env]\nx = '''\n# y\n'''\n"),
    ],
)
def test_what_compiles_nothing_is_not_compared(text: str, expected: str) -> None:
    assert configuration.compared(text.encode()) == expected.encode()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("-C target-cpu=native -Clink-arg=-fuse-ld=mold --cfg=x", False),
        ("-C link-arg=-undefined -C link-arg=dynamic_lookup", False),
        ("-Clink-arg=-Wl,-rpath,$ORIGIN/../lib", False),
        ("-Clink-args=-Wl,-rpath,@loader_path/../lib", False),
        ("--cfg=aX-lb", False),
        ("-Lnative=libs", True),
        ("-Copt-level=3 -lz", True),
        ("-C\x1flink-arg=parts/x.o", True),
        ("-Clink-arg=@list", True),
        ("--extern x=libx.rlib", True),
    ],
)
def test_flags_that_name_files_are_known(flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARGO_ENCODED_RUSTFLAGS", flags)
    assert configuration.links_files({}) == expected
    monkeypatch.delenv("CARGO_ENCODED_RUSTFLAGS")
    text = "[build]\nrustflags = [" + ", ".join(f"'{it}'" for it in flags.split()) + "]\nx = '/x'\n[env]\n"
    assert configuration.links_files({"/.cargo/config.toml": text.encode()}) == expected


def test_flags_count_in_a_variable_and_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSTFLAGS", "-lz")
    assert configuration.links_files({"/.cargo/config.toml": b"build.rustflags = ['--cfg=x']"})


def test_flags_behind_the_arguments_and_files_beside_the_project_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As maturin (``rustc-args``) and setuptools-rust (``rustc_flags``) hand them on."""
    monkeypatch.chdir(tmp_path)
    assert configuration.links_files({}, ["-C", "link-arg=native/a.o"])
    assert configuration.links_files({}, ["-Clink-arg=-Tlink.x"])
    assert configuration.links_files({}, ["-Copt-level=3", "-lz"])
    assert not configuration.links_files({}, ["--crate-type", "cdylib", "-Clink-arg=-s", "-Clink-arg=a.o"])
    (tmp_path / "a.o").touch()
    assert configuration.links_files({}, ["-Clink-arg=a.o"])
    assert not configuration.links_files({}, ["-Clink-args=-Wl,-install_name,@rpath/tiny.so"])


@pytest.mark.parametrize("key", ["linker", "rustc", "rustc-wrapper", "rustc-workspace-wrapper"])
@pytest.mark.parametrize("name", ["linker", "my-rustc", "rustc-wrapper.sh", "tools/linker/rustc"])
@pytest.mark.parametrize(
    "form",
    [
        "rustc = 'x'\nlinker = 'x'\n{} = './{}'\ny = 'z'",
        '"{}" = "./{}"',
        "b = {{ {} = './{}' }}",
        "a.{}='./{}'",
    ],
)
def test_a_program_counts_whatever_it_is_called(
    form: str, name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / ".cargo" / "config.toml", tmp_path / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(form.format(key, name))
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / name) in map(os.path.normpath, configuration.programs(configuration.read()))


def test_a_linker_is_a_program_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".cargo").mkdir()
    (tmp_path / "ld.sh").touch()
    (tmp_path / ".cargo" / "config.toml").write_text("[target.x]\nlinker = './ld.sh'\n")
    monkeypatch.chdir(tmp_path)
    assert [Path(path).name for path in configuration.programs(configuration.read())] == ["ld.sh"]
    (tmp_path / ".cargo" / "config.toml").unlink()
    monkeypatch.setenv("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", str(tmp_path / "ld.sh"))
    assert configuration.programs(configuration.read()) == [str(tmp_path / "ld.sh")]


def test_a_program_is_found_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one/x", "two/wrap", "two/wrap.exe"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUSTC_WRAPPER", "wrap")
    monkeypatch.setenv("PATH", os.pathsep.join(["", str(tmp_path / "one"), str(tmp_path / "two")]))
    assert configuration.programs(configuration.read(), windows=False) == [str(tmp_path / "two" / "wrap")]
    monkeypatch.delenv("PATH")
    assert configuration.programs(configuration.read(), windows=False) == []


def test_no_other_variable_names_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").touch()
    for name in ("CARGO_TARGET_DIR", "MY_LINKER", "MY_RUSTC"):
        monkeypatch.setenv(name, "./x")
    assert configuration.programs(configuration.read()) == []


@pytest.mark.parametrize("named", ["wrap", "tools/wrap", "tools/wrap.EXE", "tools/wrap.sh"])
def test_a_program_is_named_without_its_ending_on_windows(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `RUSTC_WRAPPER=sccache` is; a script of that name beside it is not what is started."""
    name = named if named.endswith((".EXE", ".sh")) else f"{named}.exe"
    for path in (*(tmp_path / "tools" / it for it in (Path(name).name, "wrap", "wrap.EXE.exe")),):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / "config.toml").write_text(f"[build]\nrustc-wrapper = '{named}'\n")
    found = configuration.programs(configuration.read(), windows=True)
    assert [*map(os.path.normpath, found)] == [str(tmp_path / "tools" / Path(name).name)]


def test_files_that_include_each_other_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('include = "more.toml"')
    (tmp_path / "more.toml").write_text("[[include]]\npath = './config.toml'")
    found = [Path(path).name for path in configuration.read() if str(tmp_path) in path]
    assert sorted(found) == ["config.toml", "more.toml"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("work/vendor", True),
        ("'{}/work/member/vendor'", True),
        ("work", True),
        ("elsewhere/../work/vendor", True),
        ("vendor", False),
        ("work-2/vendor", False),
        ("work-2", False),
        (".", False),
    ],
)
def test_vendored_crates_may_lie_in_the_project(value: str, expected: bool, tmp_path: Path) -> None:
    text = f"[source.x]\ndirectory = '{value}'\n".replace("''", "'").format(tmp_path)
    folders = [str(tmp_path / name) for name in ("other", "work")]
    files = {str(tmp_path / ".cargo" / "config.toml"): text.encode(), "--config 0": b"x = 1"}
    assert configuration.may_vendor_below(folders, files) == expected
    assert not configuration.may_vendor_below(folders, dict.fromkeys(files, b"[source.x]"))


@pytest.mark.parametrize(("system", "home"), [("nt", "profile"), ("posix", "home")])
def test_cargos_home_is_in_the_users(system: str, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "os", SimpleNamespace(**{**vars(os), "name": system}))
    environ = {"USERPROFILE": "profile", "HOME": "home", "CARGO_HOME": ""}
    assert configuration.cargo_home(environ) == os.path.join(home, ".cargo")
    assert configuration.cargo_home({}) == os.path.join(os.path.expanduser("~"), ".cargo")
    assert configuration.cargo_home({**environ, "CARGO_HOME": "own"}) == "own"


class TestVariablesThatCargoMaySeeWithAnotherValue:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Return the folder that cargo is started in."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CARGO_HOME", str(tmp_path / "home"))
        return tmp_path

    def changed(self, *settings: str) -> set[str]:
        return configuration.may_change(NAMES, settings) - {"PATH", "RUSTFLAGS"}

    def test_rustup_extends_some(self) -> None:
        assert configuration.may_change(NAMES, []) == {"PATH", "RUSTFLAGS"}

    @pytest.mark.parametrize("name", ["config.toml", "config"])
    def test_a_file_above_mentions_one(self, folder: Path, name: str) -> None:
        (folder / ".cargo").mkdir()
        (folder / ".cargo" / name).write_text('env.PYO3_PYTHON = "python3"\n')
        (folder / "a" / "b").mkdir(parents=True)
        os.chdir(folder / "a" / "b")
        assert self.changed() == {"PYO3_PYTHON"}

    def test_cargos_home_mentions_one(self, folder: Path) -> None:
        assert self.changed() == set()
        (folder / "home").mkdir()
        (folder / "home" / "config.toml").write_text('[env]\nOTHER = "x"\n')
        assert self.changed() == {"OTHER"}

    def test_an_option_or_what_it_names_mentions_one(self, folder: Path) -> None:
        assert self.changed('env.OTHER="x"') == {"OTHER"}
        (folder / "more.toml").write_text('[env]\nPYO3_PYTHON = "x"\n')
        assert self.changed("more.toml") == {"PYO3_PYTHON"}

    def test_the_case_counts_but_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.changed('env.Other="x"') == set()
        monkeypatch.setattr(configuration, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        assert self.changed('env.Other="x"') == {"OTHER"}

    @pytest.mark.parametrize("mark", ["'", '"'])
    def test_what_a_file_includes_mentions_one(self, mark: str, folder: Path) -> None:
        (folder / ".cargo").mkdir()
        (folder / ".cargo" / "config.toml").write_text(f"include = [{mark}more.toml{mark}]\n")
        (folder / ".cargo" / "more.toml").write_text('env.OTHER = "x"\n')
        assert self.changed() == {"OTHER"}
