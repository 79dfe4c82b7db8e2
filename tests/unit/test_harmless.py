"""What cannot depend on the system may stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim.cargo import harmless

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
