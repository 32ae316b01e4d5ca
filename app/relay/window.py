"""What a lane has in memory: queued, in flight or not yet settled. None of it is read again until it is forgotten."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from app.domain.delivery import Owed, Settlement, at_hand_limit
from app.domain.ids import SubscriptionId
from app.relay.marks import Marks
from app.relay.memory import NEWEST_SHARE, Memory
from app.relay.waiting import Waiting


class Window:
    """One lane's part of the deliveries in memory. `must_look` says that there is, or may be, more to read."""

    def __init__(self, memory: Memory) -> None:
        """Start empty, with something to look for."""
        self.must_look = True
        self.bytes = 0
        # What its rows weigh, on average of late; 0 before the first.
        self.row_bytes = 0.0
        self._memory = memory
        self._waiting = Waiting()
        self._marks = Marks()
        self._weights: dict[int, int] = {}
        # The rows of each object, and the objects of which there was enough and not much went since.
        self._of_object: dict[int, dict[int, None]] = {}
        self._crowded: set[int] = set()
        self._held_back: set[int] = set()
        self._subscriptions: set[SubscriptionId] = set()

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._weights)

    @property
    def row_ids(self) -> tuple[int, ...]:
        """Name the rows."""
        return tuple(self._weights)

    @property
    def crowded(self) -> Mapping[int, int]:
        """Name the objects of which enough is in memory, each with its first row."""
        return {key: next(iter(rows)) for key, rows in self._of_object.items() if len(rows) >= at_hand_limit(key)}

    @property
    def ready(self) -> int:
        """Count those that may be sent now."""
        return len(self._waiting)

    @property
    def following(self) -> Owed | None:
        """Give the one that goes next."""
        return self._waiting.first

    def begin_look(self) -> None:
        """Say that rows are asked for, all but those in memory: what went back before that is asked for too."""
        self.must_look = False
        self._held_back.clear()
        self._marks.forget_but(self._waiting.order_keys)

    def take_in(self, rows: Iterable[Owed]) -> list[Owed]:
        """Keep rows that were read, and give those that were not in memory before."""
        fresh = [row for row in rows if row.row_id not in self._weights and not self._is_overtaken(row)]
        for row in fresh:
            self._weights[row.row_id] = weight = self._memory.take(row)
            if row.order_key is not None:
                self._of_object.setdefault(row.order_key, {})[row.row_id] = None
            self.bytes += weight
            self.row_bytes += (weight - self.row_bytes) * (NEWEST_SHARE if self.row_bytes else 1.0)
        self._crowded.update(self.crowded)
        return fresh

    def queue(self, rows: Iterable[Owed], *, in_order: bool) -> None:
        """Let rows wait for their turn to be sent."""
        self._waiting.add(rows, in_order=in_order)

    def take(self, count: int) -> list[Owed]:
        """Take up to so many out of the queue, to be sent; they stay in memory."""
        return self._waiting.take(count)

    def wanted(self, rows: Sequence[Owed], there: Collection[SubscriptionId]) -> list[Owed]:
        """Leave out what is owed through subscriptions that were there and are gone; one never seen is newer."""
        self._subscriptions.update(row.subscription_id for row in rows if row.subscription_id in there)
        return [row for row in rows if row.subscription_id in there or row.subscription_id not in self._subscriptions]

    def settled(self, rows: Sequence[Owed], settlements: Sequence[Settlement]) -> None:
        """Forget rows, and let those go that stood behind what is over; behind what is not, nobody goes."""
        self._forget(rows)
        for each in settlements:
            self._marks.note(each)
        over = {each.owed.row_id for each in settlements if each.verdict.status != "pending" and not each.blocks}
        for row in rows:
            if row.row_id in over:
                self._waiting.go_on(row)
            elif row.order_key is not None:
                self._forget(self._waiting.hold_back(row))
                self._held_back.add(row.order_key)
                self.must_look = True

    def is_late(self, row: Owed) -> bool:
        """Tell whether the receiver has something newer of a row's object: to be asked when its turn has come."""
        return self._marks.is_late(row)

    def forget_queue(self) -> None:
        """Forget what is not in flight; it stays owed."""
        self._forget(self._waiting.clear())

    def forget_all(self) -> None:
        """Forget also what was in flight, where nobody came to say what became of it."""
        for weight in self._weights.values():
            self._memory.give_back(weight)
        self._weights.clear()

    def _is_overtaken(self, row: Owed) -> bool:
        """Tell whether what comes before a row was in memory when it was asked for, and went back meanwhile."""
        is_overtaken = row.order_key is not None and row.order_key in self._held_back
        self.must_look |= is_overtaken
        return is_overtaken

    def _forget(self, rows: Iterable[Owed]) -> None:
        for row in rows:
            weight = self._weights.pop(row.row_id, 0)
            self.bytes -= weight
            self._memory.give_back(weight)
            if row.order_key is not None:
                self._forget_of_object(row.order_key, row.row_id)

    def _forget_of_object(self, order_key: int, row_id: int) -> None:
        rows = self._of_object.get(order_key, {})
        rows.pop(row_id, None)
        if order_key in self._crowded and len(rows) <= at_hand_limit(order_key) / 2:
            # What was parked meanwhile is due by now.
            self._crowded.discard(order_key)
            self.must_look = True
        if not rows:
            self._of_object.pop(order_key, None)
