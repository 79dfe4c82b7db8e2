"""JSON that is read without `json`'s imports says the same."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.cargo import fast_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.sampled_from(["", " ", "\n"]))
def test_it_says_what_json_says(value: object, ascii_only: bool, space: str) -> None:
    text = space + json.dumps(value, ensure_ascii=ascii_only) + space
    assert fast_json.loads(text) == json.loads(text) == value


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{} {}", "1 x", "nul", '"\n"', '{"a" 1}', '"\\x"'])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        fast_json.loads(text)


def test_an_interpreter_without_the_scanner_reads_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_json, "make_scanner", None)
    assert fast_json.loads('{"a": [1]}') == {"a": [1]}


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy has no such scanner")
def test_it_needs_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "json", None)
    assert fast_json.loads('{"a": [1, 2.5, null, "\\u00e9"]}\n') == {"a": [1, 2.5, None, "é"]}
