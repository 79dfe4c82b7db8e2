"""cargo's configuration: what of it is compared, and what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyo3_envshim.cargo import configuration

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# x\n\n[build]\r\n  jobs = 1 \n", "[build]\njobs = 1"),
        ("[alias]\nx = 'build'\n[build]\njobs = 1\n", "[build]\njobs = 1"),
        ("[registries.x] # x\nindex = 'y'\n", ""),
        ("[net]\nx = [\n['a'],\n]\n[ build ]\njobs = 1", "['a'],\n]\n[ build ]\njobs = 1"),
        ("['alias']\nx = 'y'", "['alias']\nx = 'y'"),
        ("alias.x = 'y'", "alias.x = 'y'"),
        ("[alias.x]\n[aliases]\nx = 'y'", "[aliases]\nx = 'y'"),
        ('[env]\nx = """\n# y\n[net]\n"""\n', '[env]\nx = """\n# y\n[net]\n"""\n'),
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
        ("-Lnative=libs -lstatic=x", True),
        ("-C\x1flink-arg=parts/x.o", True),
        ("-Clink-arg=@list", True),
        ("--extern x=libx.rlib", True),
    ],
)
def test_flags_that_name_files_are_known(flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARGO_ENCODED_RUSTFLAGS", flags)
    assert configuration.links_files({}) == expected
    monkeypatch.delenv("CARGO_ENCODED_RUSTFLAGS")
    text = "[build]\nrustflags = [" + ", ".join(f"'{it}'" for it in flags.split()) + "]\njobs = '/x'"
    assert configuration.links_files({"/.cargo/config.toml": text.encode()}) == expected


def test_files_that_include_each_other_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('include = "more.toml"')
    (tmp_path / "more.toml").write_text("[[include]]\npath = './config.toml'")
    found = [Path(path).name for path in configuration.read() if str(tmp_path) in path]
    assert sorted(found) == ["config.toml", "more.toml"]
