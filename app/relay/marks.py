"""How far the receiver has come with the objects that a lane has in memory: each row knows it as of its reading."""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from app.domain.configuration import Endpoint
from app.domain.delivery import Owed, Settlement
from app.domain.identity import ORDER_KEY_OF_ALL
from app.domain.order import FAMILY_BYTES, family_of, is_before, place_of


class Marks:
    """The newest places that were delivered and written down since the rows in memory were read."""

    def __init__(self) -> None:
        """Start with nothing known beyond what each row says."""
        self._reached: dict[tuple[int, int], bytes] = {}

    def note(self, settlement: Settlement) -> None:
        """Learn from what was written down."""
        reached, order_key = settlement.reached, settlement.owed.order_key
        if reached is not None and order_key is not None:
            at = (order_key, family_of(reached))
            self._reached[at] = max(reached, self._reached.get(at, reached))

    def forget_but(self, order_keys: Container[int]) -> None:
        """Forget what a new reading knows itself: all but the objects that are still in memory."""
        self._reached = {at: reached for at, reached in self._reached.items() if at[0] in order_keys}

    def is_late(self, row: Owed) -> bool:
        """Tell whether the receiver has something newer of the row's object, as far as that can be told."""
        place = None if row.stored is None else place_of(row.stored.event)
        if place is None or row.order_key is None:
            return False
        return is_before(place, row.mark) or is_before(place, self._reached.get((row.order_key, family_of(place))))


def part_late(
    endpoint: Endpoint, rows: Sequence[Owed], *, is_late: Callable[[Owed], bool]
) -> tuple[list[Owed], list[Owed]]:
    """Give what is to be sent, with what comes late marked, and what this endpoint does not want any more."""
    to_send: list[Owed] = []
    unwanted: list[Owed] = []
    looks = endpoint.ordering == "key" and endpoint.late != "deliver"
    for row in rows:
        # Those recorded before the endpoint kept the order of objects stand in one row, whatever their objects.
        comes_late = looks and row.order_key != ORDER_KEY_OF_ALL and is_late(row)
        if comes_late and endpoint.late == "drop" and not _is_asked_for(row):
            unwanted.append(row)
        else:
            to_send.append(replace(row, is_late=True) if comes_late else row)
    return to_send, unwanted


def _is_asked_for(row: Owed) -> bool:
    """Tell whether a person asked for a row: it has no place of its own any more, and is sent however late."""
    return row.place is None or len(row.place) <= FAMILY_BYTES
