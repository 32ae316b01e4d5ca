"""Whose turn it is among the deliveries of one object, where the store can tell better than the order of arrival."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from app.domain.order import family_of

# Among so many that came first the oldest is looked for: one may overtake all of them but itself.
LOOKED_THROUGH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A delivery that waits. One that `is_held` failed before or blocks: whatever comes now comes after it."""

    row_id: int
    place: bytes | None
    is_held: bool
    is_due: bool


def in_turn(waiting: Sequence[Standing], *, are_all: bool) -> list[Standing]:
    """Put the deliveries of one object, given in the order they came, in the order they go.

    Unless they are all there are, only as far as no other can come in between.
    """
    left = list(waiting)
    gone: list[Standing] = []
    while left and (are_all or len(left) >= LOOKED_THROUGH):
        following = _following(left)
        left.remove(following)
        gone.append(following)
    return gone


def _following(left: Sequence[Standing]) -> Standing:
    """Give the one that goes next: it overtakes only what is known to be newer, and nothing that was tried."""
    for each in left:
        if each.is_held:
            return each
    first = left[0]
    if first.place is None:
        return first
    family = family_of(first.place)
    comparable = takewhile(
        lambda each: each.place is not None and family_of(each.place) == family, left[:LOOKED_THROUGH]
    )
    # The first of equals, since they tell nothing.
    return min(comparable, key=lambda each: each.place or b"")
