"""Whose turn it is: the oldest goes first where the store tells, and nothing else moves."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from app.domain.order import family_of
from app.domain.turns import LOOKED_THROUGH, Standing, in_turn

ONE: Final = b"\x01"
OTHER: Final = b"\x02"


def standing(row_id: int, place: bytes | None, *, is_held: bool = False) -> Standing:
    """Let a delivery wait."""
    return Standing(row_id=row_id, place=place, is_held=is_held, is_due=True)


def turns(*waiting: Standing) -> list[int]:
    """Give the rows as they go."""
    return [each.row_id for each in in_turn(waiting, are_all=True)]


def test_the_oldest_goes_first() -> None:
    """In the order of their places, however they came."""
    assert turns(standing(1, ONE + b"c"), standing(2, ONE + b"a"), standing(3, ONE + b"b")) == [2, 3, 1]


def test_equal_places_keep_the_order_of_arrival() -> None:
    """They tell nothing of one another."""
    assert turns(standing(1, ONE + b"b"), standing(2, ONE + b"a"), standing(3, ONE + b"a")) == [2, 3, 1]


def test_what_cannot_be_told_is_not_overtaken_and_overtakes_nothing() -> None:
    """Around one without a place, and one of another family, all keep their side."""
    assert turns(standing(1, ONE + b"c"), standing(2, None), standing(3, ONE + b"a")) == [1, 2, 3]
    assert turns(standing(1, ONE + b"c"), standing(2, OTHER + b"b"), standing(3, ONE + b"a")) == [1, 2, 3]


def test_one_that_failed_before_is_not_overtaken() -> None:
    """It goes first, wherever it stands; then the oldest."""
    assert turns(standing(1, ONE + b"c"), standing(2, ONE + b"d", is_held=True), standing(3, ONE + b"a")) == [2, 3, 1]


def test_one_overtakes_only_so_many() -> None:
    """Those that came much earlier go first, so that what has to be read stays bounded."""
    line = [standing(number, ONE + b"b") for number in range(LOOKED_THROUGH)]

    assert turns(*line, standing(99, ONE + b"a"))[:3] == [0, 99, 1]


PLACES = st.none() | st.builds(lambda family, rest: family + rest, st.sampled_from([ONE, OTHER]), st.binary(max_size=1))


@given(st.lists(PLACES, max_size=60))
def test_only_the_older_overtakes(places: list[bytes | None]) -> None:
    """Of any two in another order than they came, both places are known, of one family, and the smaller goes first."""
    rows = [standing(number, place) for number, place in enumerate(places)]

    gone = turns(*rows)

    assert sorted(gone) == list(range(len(places)))
    for at, first in enumerate(gone):
        for then in gone[at + 1 :]:
            if then < first:
                place, other = places[first], places[then]
                assert place is not None
                assert other is not None
                assert family_of(place) == family_of(other)
                assert place < other


@given(st.lists(PLACES, max_size=60), st.lists(PLACES, max_size=60))
def test_what_is_told_before_all_is_known_stays_true(known: list[bytes | None], more: list[bytes | None]) -> None:
    """Whatever comes after those that were read, the turns given already are the same."""
    rows = [standing(number, place) for number, place in enumerate([*known, *more])]

    early = in_turn(rows[: len(known)], are_all=False)

    assert early == in_turn(rows, are_all=True)[: len(early)]
