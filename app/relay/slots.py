"""Who may have one of the process's slots, one for each send in flight, so that no lane takes them from the others.

Four bounds, nested: all together; each class of lanes; each tenant; and each lane, by how many slots are free. And
nobody starts a send while too much of what was sent is not written down: a crash would send all of that once more.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from app.domain.ids import TenantId
from app.telemetry import SLOTS_TAKEN

SlotClass = Literal["fast", "slow", "probing"]
CLASSES: Final[tuple[SlotClass, ...]] = get_args(SlotClass)

# Fast lanes may have all slots; the others share so much of them.
SLOW_SHARE: Final = 0.25
PROBING_SHARE: Final = 0.05
TENANT_SHARE: Final = 0.25
# Once half of the slots are taken, a lane gets another only while it has fewer than this part of those that are free:
# however many lanes start to hang at one moment, some slots are left for the first sends of others.
FREE_PART: Final = 1 / 16
# What waits to be written down or is being written, of all lanes together: a few settles' worth.
UNSETTLED_LIMIT: Final = 2048


@dataclass(slots=True, kw_only=True, eq=False)
class Berth:
    """One lane's place: whose it is, its class now, whether it has something to send, and how to send it."""

    tenant_id: TenantId
    slot_class: Callable[[], SlotClass]
    wants: Callable[[], bool]
    launch: Callable[[], None]
    in_flight: int = 0
    ticket: int = 0
    counted_as: SlotClass = "fast"
    is_waiting: bool = field(default=False)


class Slots:
    """All of the process's. A lane that gets none waits in turn; within a class it is first come, first served."""

    def __init__(self, total: int) -> None:
        """Take how many there are."""
        self._total = total
        self._limits: dict[SlotClass, int] = {
            "fast": total,
            "slow": max(1, int(total * SLOW_SHARE)),
            "probing": max(1, int(total * PROBING_SHARE)),
        }
        self._taken = 0
        self._unsettled = 0
        self._of_class: Counter[SlotClass] = Counter()
        self._of_tenant: Counter[TenantId] = Counter()
        # Sends in flight and lanes that wait: a tenant is active while it has any.
        self._present: Counter[TenantId] = Counter()
        self._queues: dict[SlotClass, dict[Berth, None]] = {each: {} for each in CLASSES}
        self._busy: set[Berth] = set()
        self._tickets = 0

    def take(self, berth: Berth) -> bool:
        """Take a slot if there is one for this lane now; otherwise it is called when its turn has come."""
        self._look_at_class(berth)
        # Whoever waits may not have a slot either, so nobody is overtaken.
        if self._may_enter(berth):
            self._enter(berth)
            return True
        self._queue(berth)
        return False

    def leave(self, berth: Berth) -> None:
        """Give a slot back: whoever waits and may have it gets it at once."""
        self._leave(berth)
        self._hand_out()

    def note_unsettled(self) -> None:
        """Hear of one more outcome to be written down."""
        self._unsettled += 1

    def note_settled(self, count: int) -> None:
        """Hear that so many of them hold nobody up any more."""
        was_full = self._unsettled >= UNSETTLED_LIMIT
        self._unsettled -= count
        if was_full:
            self._hand_out()

    def look(self) -> None:
        """Count lanes as what they are now: one that hangs turns slow without asking for anything."""
        for berth in self._busy:
            self._look_at_class(berth)

    def close(self, berth: Berth) -> None:
        """Give back whatever a lane still has, and wait no more."""
        self._unqueue(berth)
        while berth.in_flight:
            self._leave(berth)
        self._hand_out()

    def _hand_out(self) -> None:
        while (berth := self._next()) is not None:
            self._unqueue(berth)
            if not berth.wants():
                continue
            self._enter(berth)
            berth.launch()
            if berth.wants():
                self._queue(berth)

    def _next(self) -> Berth | None:
        """Find the lane that has waited longest of those that may have a slot now."""
        if self._taken >= self._total or self._unsettled >= UNSETTLED_LIMIT:
            return None
        found: Berth | None = None
        for slot_class in CLASSES:
            berth = self._first_of(slot_class)
            if berth is not None and (found is None or berth.ticket < found.ticket):
                found = berth
        return found

    def _first_of(self, slot_class: SlotClass) -> Berth | None:
        while self._of_class[slot_class] < self._limits[slot_class]:
            berth = next((each for each in self._queues[slot_class] if self._may_enter(each)), None)
            if berth is None or not self._look_at_class(berth):
                return berth
        return None

    def _may_enter(self, berth: Berth) -> bool:
        free = self._total - self._taken
        return (
            free > 0
            and self._unsettled < UNSETTLED_LIMIT
            and self._of_class[berth.counted_as] < self._limits[berth.counted_as]
            and self._of_tenant[berth.tenant_id] < self._tenant_limit(berth.tenant_id)
            and (self._taken < self._total // 2 or berth.in_flight < max(1, int(free * FREE_PART)))
        )

    def _tenant_limit(self, tenant_id: TenantId) -> int:
        active = len(self._present) + (tenant_id not in self._present)
        return max(1, int(self._total * TENANT_SHARE), self._total // active)

    def _look_at_class(self, berth: Berth) -> bool:
        """Count a lane, with all it has in flight, as what it is now; True when that was something else before."""
        before, now = berth.counted_as, berth.slot_class()
        if before == now:
            return False
        self._of_class[before] -= berth.in_flight
        self._of_class[now] += berth.in_flight
        berth.counted_as = now
        if berth.is_waiting:
            del self._queues[before][berth]
            self._queues[now][berth] = None
        self._tell(before, now)
        return True

    def _enter(self, berth: Berth) -> None:
        berth.in_flight += 1
        self._busy.add(berth)
        self._taken += 1
        self._of_class[berth.counted_as] += 1
        self._of_tenant[berth.tenant_id] += 1
        self._present[berth.tenant_id] += 1
        self._tell(berth.counted_as)

    def _leave(self, berth: Berth) -> None:
        berth.in_flight -= 1
        if not berth.in_flight:
            self._busy.discard(berth)
        self._taken -= 1
        self._of_class[berth.counted_as] -= 1
        self._of_tenant[berth.tenant_id] -= 1
        self._is_less_present(berth.tenant_id)
        self._tell(berth.counted_as)

    def _queue(self, berth: Berth) -> None:
        if not berth.is_waiting:
            self._tickets += 1
            berth.ticket, berth.is_waiting = self._tickets, True
            self._queues[berth.counted_as][berth] = None
            self._present[berth.tenant_id] += 1

    def _unqueue(self, berth: Berth) -> None:
        if berth.is_waiting:
            berth.is_waiting = False
            del self._queues[berth.counted_as][berth]
            self._is_less_present(berth.tenant_id)

    def _is_less_present(self, tenant_id: TenantId) -> None:
        self._present[tenant_id] -= 1
        if not self._present[tenant_id]:
            del self._present[tenant_id]

    def _tell(self, *classes: SlotClass) -> None:
        for each in classes:
            SLOTS_TAKEN[each].set(self._of_class[each])
