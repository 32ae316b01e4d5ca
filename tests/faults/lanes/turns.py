"""Whose turn it is among the rows of a lane, as its endpoint wants them: said anew here, not asked of the product."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from tests.faults.lanes.seen import SeenRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A lane at the moment it was looked at: its rows, those its reader has in memory, those that could be sent."""

    rows: Sequence[SeenRow]
    leave_out: frozenset[int]
    fit: frozenset[int]
    by_turn: bool

    def heads(self, at_hand: Iterable[int]) -> list[SeenRow]:
        """Give what goes next of each object when this is at hand."""
        there = set(at_hand)
        return heads([row for row in self.rows if row.id not in there], by_turn=self.by_turn)

    def may_follow(self, row_id: int, at_hand: Iterable[int]) -> bool:
        """Tell whether a row can be sent when this has gone before it."""
        return row_id in self.fit and row_id in {row.id for row in self.heads(at_hand)}


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
