"""How far the receiver has come with the objects that a lane has in memory: each row knows it as of its reading."""

from collections.abc import Container

from app.domain.delivery import Owed, Settlement
from app.domain.order import family_of, is_before, place_of


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
