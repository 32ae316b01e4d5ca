"""How many bytes of deliveries all lanes of the process have in memory together, and how many rows one may read on."""

from typing import Final

from app.domain.delivery import Owed

LIMIT_BYTES: Final = 64 * 2**20
# A lane reads on only while it has less than this part of what is free: many slow lanes leave room for others.
FREE_PART: Final = 1 / 4
# What a row costs beside the bytes of its event's record: the objects around it.
ROW_BYTES: Final = 2048
# A lane whose rows nobody has weighed yet reads so few first, and is prepared for large ones.
UNKNOWN_ROWS: Final = 8
UNKNOWN_ROW_BYTES: Final = 256 * 1024
# How much the newest row counts in the average.
NEWEST_SHARE: Final = 0.1


class Memory:
    """One for the process. Nobody knows what a row weighs before it is read, so what rows weighed lately is taken."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Take how many bytes there are."""
        self.taken_bytes = 0
        self._limit_bytes = limit_bytes
        self._row_bytes = float(ROW_BYTES)

    def room(self, held_bytes: int, *, row_bytes: float) -> int:
        """Tell how many rows a lane may read that has so many bytes already. One with none may always read one.

        `row_bytes`: what one of its rows weighed so far, 0 if that is not known.
        """
        free = self._limit_bytes - self.taken_bytes
        rows = int((free * FREE_PART - held_bytes) / self._expected(row_bytes))
        return max(0 if held_bytes else 1, rows if row_bytes else min(rows, UNKNOWN_ROWS))

    def expect(self, rows: int, *, row_bytes: float) -> int:
        """Take bytes for rows that are about to be read; to be given back when it is known what they weigh."""
        expected = int(rows * self._expected(row_bytes))
        self.taken_bytes += expected
        return expected

    def take(self, row: Owed) -> int:
        """Take what a row that was read weighs; gives how much that is."""
        weight = ROW_BYTES + (len(row.stored.event.record) if row.stored else 0)
        self.taken_bytes += weight
        self._row_bytes += NEWEST_SHARE * (weight - self._row_bytes)
        return weight

    def give_back(self, weight: int) -> None:
        """Give bytes back."""
        self.taken_bytes -= weight

    def _expected(self, row_bytes: float) -> float:
        return max(self._row_bytes, row_bytes) if row_bytes else UNKNOWN_ROW_BYTES
