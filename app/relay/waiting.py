"""What a lane has read and not sent. Of those with one order key only the first may go, the others stand behind it."""

from collections import deque
from collections.abc import Iterable, KeysView

from app.domain.delivery import Owed


class Waiting:
    """Rows in the order they were read. A key is taken from its first row's arrival until that is out of the way."""

    def __init__(self) -> None:
        """Start empty."""
        self._ready: deque[Owed] = deque()
        self._behind: dict[int, deque[Owed]] = {}

    def __len__(self) -> int:
        """Count those that may go now."""
        return len(self._ready)

    @property
    def first(self) -> Owed | None:
        """Give the one that goes next."""
        return self._ready[0] if self._ready else None

    @property
    def order_keys(self) -> KeysView[int]:
        """Give the keys that are taken."""
        return self._behind.keys()

    def add(self, rows: Iterable[Owed], *, in_order: bool) -> None:
        """Take rows in; with `in_order` each goes behind those of its key."""
        for row in rows:
            if not in_order or row.order_key is None:
                self._ready.append(row)
            elif row.order_key in self._behind:
                self._behind[row.order_key].append(row)
            else:
                self._behind[row.order_key] = deque()
                self._ready.append(row)

    def take(self, count: int) -> list[Owed]:
        """Take up to so many out, to be sent; none of them waits for another."""
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def go_on(self, row: Owed) -> None:
        """Let the next one go: a row that was taken is out of the way, and that is written down."""
        behind = self._behind.get(row.order_key) if row.order_key is not None else None
        if behind:
            self._ready.append(behind.popleft())
        elif row.order_key is not None:
            self._behind.pop(row.order_key, None)

    def hold_back(self, row: Owed) -> list[Owed]:
        """Forget those behind a row that was taken and stays owed, and give them: they are read again in their turn."""
        return list(self._behind.pop(row.order_key, ())) if row.order_key is not None else []

    def clear(self) -> list[Owed]:
        """Forget everything, and give it."""
        forgotten = [*self._ready, *(row for behind in self._behind.values() for row in behind)]
        self._ready.clear()
        self._behind.clear()
        return forgotten
