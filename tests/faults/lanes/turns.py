"""Whose turn it is among the rows of a lane, as its endpoint wants them: said anew here, not asked of the product."""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from tests.faults.lanes.seen import SeenRow


def heads(rows: Iterable[SeenRow], *, by_turn: bool) -> list[SeenRow]:
    """Give of each object the row that goes next; the rows, of one lane, as they came."""
    of_object: dict[int, list[SeenRow]] = {}
    for row in rows:
        if row.order_key is not None:
            of_object.setdefault(row.order_key, []).append(row)
    return [_head(each) if by_turn else each[0] for each in of_object.values()]


def is_older(place: bytes | None, other: bytes | None) -> bool:
    """Tell whether a place is known to be the older one; all places of a play are of one family."""
    return place is not None and other is not None and place < other


def _head(rows: Sequence[SeenRow]) -> SeenRow:
    """Give the one that failed, or else the oldest of those before the first that nothing is known of."""
    held = [row for row in rows if row.failures or row.blocks]
    known = list(takewhile(lambda row: row.place is not None, rows))
    return held[0] if held else min(known, key=lambda row: row.place or b"", default=rows[0])
