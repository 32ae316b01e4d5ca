"""Identifiers as people see them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.ids import Prefix, parse_id, public_id

PREFIXES: tuple[Prefix, ...] = ("evt", "ep", "sub", "src", "dlv", "qrn", "key")
ZERO = "evt_" + "a" * 26


@given(st.sampled_from(PREFIXES), st.binary(min_size=16, max_size=16))
@settings(deadline=None)
def test_an_id_reads_back(prefix: Prefix, raw: bytes) -> None:
    """Showing and reading are inverse."""
    text = public_id(prefix, raw)

    assert raw == parse_id(prefix, text)
    assert len(text) == len(prefix) + 1 + 26
    assert text == text.lower()


@given(st.sampled_from(PREFIXES), st.text(st.characters(), max_size=40))
@settings(deadline=None)
def test_any_other_text_is_none(prefix: Prefix, text: str) -> None:
    """Reading never raises."""
    raw = parse_id(prefix, text)

    assert raw is None or public_id(prefix, raw) == text


@pytest.mark.parametrize(
    "text",
    ["", "evt", "evt_", ZERO[:-1], ZERO + "a", ZERO.upper(), "ep_" + ZERO[4:], ZERO[:-1] + "b", ZERO[:-1] + "1",
     ZERO[:-1] + "=", ZERO[:-1] + "\u017f", " " + ZERO, "evt-" + ZERO[4:]],
)  # fmt: skip
def test_another_spelling_is_no_id(text: str) -> None:
    """Only what public_id writes is an id: an id is one text."""
    assert parse_id("evt", ZERO) == bytes(16)
    assert parse_id("evt", text) is None
