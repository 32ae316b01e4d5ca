"""Merge patches, by RFC 7396's own table and its one law, and strict validation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from app.api.bodies import merge, validate
from app.api.errors import Problem, pointer_to

# RFC 7396, appendix A: original, patch, result.
TABLE: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("target", "patch", "merged"), TABLE)
def test_a_merge_is_what_the_rfc_says(target: Any, patch: Any, merged: Any) -> None:
    """Every line of the RFC's table."""
    assert merge(target, patch) == merged


@given(JSON_VALUES, JSON_VALUES)
def test_a_merge_twice_is_a_merge_once(target: Any, patch: Any) -> None:
    """A repeated patch changes nothing more."""
    once = merge(target, patch)

    assert merge(once, patch) == once


class _Inner(BaseModel):
    sizes: tuple[int, ...]


class _Outer(BaseModel):
    inner: _Inner


def test_arrays_become_tuples_and_nothing_else_becomes_anything_else() -> None:
    """A text of digits is no number."""
    assert validate(_Outer, {"inner": {"sizes": [1, 2]}}).inner.sizes == (1, 2)
    with pytest.raises(Problem) as caught:
        validate(_Outer, {"inner": {"sizes": [1, "2"]}}, under=("config",))

    assert [each.pointer for each in caught.value.errors] == ["/config/inner/sizes/1"]


def test_a_pointer_is_escaped_and_fit_to_be_shown() -> None:
    """RFC 6901's two escapes; what no answer can hold is replaced."""
    assert pointer_to(("a/b", "c~d", 0)) == "/a~1b/c~0d/0"
    assert pointer_to(("\ud800\x00",)) == "/?\ufffd"
    assert pointer_to(()) == ""
