"""The plugin for tox: what it adds to the variables that tox passes on."""

from __future__ import annotations

from typing import Any

import pytest

from pyo3_envshim import tox_plugin

OURS, CARGO = "PYO3_ENVSHIM*", "CARGO"
WRAPPED = {"CARGO": "/env/bin/pyo3-envshim-cargo"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (WRAPPED, [OURS, CARGO]),
        ({**WRAPPED, "PYO3_ENVSHIM": "on"}, [OURS, CARGO]),
        ({**WRAPPED, "PYO3_ENVSHIM": "off"}, [OURS]),  # so that it is off in there as well
        ({"PYO3_ENVSHIM": "base"}, [OURS]),
        ({}, [OURS]),
        ({"CARGO": "/opt/rust/bin/cross"}, [OURS]),  # not ours to pass on
        # The user's own, which tox would not pass on, is behind it.
        ({"CARGO": "/opt/x/./../../env/bin/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/opt/x/cargo"}, []),
    ],
)
def test_passes_the_wrapper_on_and_no_cargo_of_the_users(
    environ: dict[str, str], expected: list[str], home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))  # where the user's switch is
    assert tox_plugin.passed_on(environ) == expected


def test_keeps_what_the_user_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tox_plugin, "passed_on", lambda environ: [OURS, CARGO])
    settings = {"pass_env": ["HOME", "TOKEN"]}
    tox_plugin.tox_add_env_config(settings, None)
    assert settings == {"pass_env": ["HOME", "TOKEN", OURS, CARGO]}


def test_leaves_a_setting_that_is_wrong_to_tox() -> None:
    class Settings:
        def __getitem__(self, name: str) -> list[str]:
            raise ValueError("pass_env values cannot contain whitespace")

    tox_plugin.tox_add_env_config(Settings(), None)


def test_is_a_hook_that_an_older_tox_need_not_know_and_comes_after_other_plugins() -> None:
    marks: dict[str, Any] = getattr(tox_plugin.tox_add_env_config, "tox_impl")  # noqa: B009
    assert (marks["optionalhook"], marks["trylast"]) == (True, True)
