"""Who gets the process's slots: no class, no tenant and no lane takes them from the others, and nobody starves."""

import itertools
from collections import Counter
from random import Random

import pytest

from app.domain.ids import DEFAULT_TENANT, TenantId
from app.relay.slots import UNSETTLED_LIMIT, Berth, SlotClass, Slots

_tenants = itertools.count(1000)


class Lane:
    """A lane that always has so much to send."""

    def __init__(
        self, slots: Slots, *, slot_class: SlotClass = "fast", tenant: TenantId = DEFAULT_TENANT, most: int = 8
    ) -> None:
        self.slot_class: SlotClass = slot_class
        self.most = most
        self.launched = 0
        self._slots = slots
        self.berth = Berth(tenant_id=tenant, slot_class=lambda: self.slot_class, wants=self.wants, launch=self.launch)

    @property
    def in_flight(self) -> int:
        """Count what it has."""
        return self.berth.in_flight

    def wants(self) -> bool:
        """Tell whether it has something to send."""
        return self.in_flight < self.most

    def launch(self) -> None:
        """Send."""
        self.launched += 1

    def start(self) -> "Lane":
        """Send as much as may be sent."""
        while self.wants() and self._slots.take(self.berth):
            self.launch()
        return self

    def end(self, count: int = 1) -> None:
        """End sends, and go on."""
        for _ in range(count):
            self._slots.leave(self.berth)
        self.start()


def new_tenant() -> TenantId:
    """Give one more."""
    return TenantId(next(_tenants))


@pytest.mark.parametrize(("slot_class", "expected"), [("fast", 512), ("slow", 128), ("probing", 25)])
def test_a_class_has_its_share(slot_class: SlotClass, expected: int) -> None:
    """However many lanes want: fast ones may have all, slow ones a quarter, probing ones a twentieth."""
    slots = Slots(512)

    lanes = [Lane(slots, slot_class=slot_class).start() for _ in range(600)]

    assert sum(lane.in_flight for lane in lanes) == expected


def test_while_too_much_is_not_written_down_nobody_gets_one() -> None:
    """What was refused for that is called when enough was written down, and not before."""
    slots = Slots(512)
    for _ in range(UNSETTLED_LIMIT + 1):
        slots.note_unsettled()
    lane = Lane(slots, most=2).start()
    refused = lane.launched

    slots.note_settled(1)
    still_refused = lane.launched
    slots.note_settled(1)

    assert (refused, still_refused, lane.launched) == (0, 0, 2)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_each_class_has_at_least_one_slot(total: int) -> None:
    """Also in the smallest process."""
    slots = Slots(total)

    assert Lane(slots, slot_class="probing", most=1).start().in_flight == 1


def test_lanes_that_start_to_hang_leave_slots_for_others() -> None:
    """Sixty-four lanes that look fast and take all they may leave each healthy one more than one send."""
    slots = Slots(512)
    hanging = [Lane(slots).start() for _ in range(64)]

    healthy = [Lane(slots).start() for _ in range(10)]

    assert sum(lane.in_flight for lane in hanging) >= 384
    assert min(lane.in_flight for lane in healthy) >= 2


def test_a_lane_that_turns_slow_is_counted_with_all_it_has() -> None:
    """What it has in flight fills the slow ones' share, so no more of them join."""
    slots = Slots(512)
    turned = [Lane(slots).start() for _ in range(20)]
    for lane in turned:
        lane.slot_class = "slow"
        lane.end()

    late = Lane(slots, slot_class="slow").start()

    assert 128 <= sum(lane.in_flight for lane in turned) < 160
    assert late.in_flight == 0


def test_lanes_that_hang_are_counted_though_they_ask_for_nothing() -> None:
    """They fill the slow ones' share before the first of them asks for more."""
    slots = Slots(512)
    hanging = [Lane(slots, most=2).start() for _ in range(64)]
    for lane in hanging:
        lane.slot_class = "slow"

    slots.look()
    first = hanging[0]
    first.most = 8
    first.end()

    assert first.in_flight == 2
    assert sum(lane.in_flight for lane in hanging) == 128


def test_a_lane_that_waits_as_slow_goes_on_as_fast_when_it_is() -> None:
    """Its class is looked at for each send, also when its turn has come."""
    slots = Slots(64)
    first = Lane(slots, slot_class="slow", most=16).start()
    second = Lane(slots, slot_class="slow", most=4).start()
    waited = second.in_flight
    second.slot_class = "fast"

    second.start()

    assert (first.in_flight, waited, second.in_flight) == (16, 0, 4)


def test_it_is_first_come_first_served_within_a_class() -> None:
    """A lane that gets its turn stands behind those that waited before it asks for the next."""
    slots = Slots(1)
    holder = Lane(slots, most=1).start()
    order = [Lane(slots, most=3).start() for _ in range(4)]
    turns = []
    holder.most = 0
    holder.end()

    for _ in range(8):
        running = next(lane for lane in order if lane.in_flight)
        turns.append(order.index(running))
        running.end()

    assert turns == [0, 1, 2, 3, 0, 1, 2, 3]


def test_one_tenant_alone_may_have_all() -> None:
    """There is nobody to keep anything for."""
    slots = Slots(512)

    lanes = [Lane(slots).start() for _ in range(600)]

    assert sum(lane.in_flight for lane in lanes) == 512


def test_a_tenant_with_a_thousand_lanes_leaves_the_others_their_part() -> None:
    """Once another is there, it gets no more than half; among eight, no more than a quarter."""
    slots = Slots(512)
    first, *others = [new_tenant() for _ in range(8)]
    second_lanes = [Lane(slots, tenant=others[0], most=1).start()]
    many = [Lane(slots, tenant=first).start() for _ in range(1000)]
    of_two = sum(lane.in_flight for lane in many)

    second_lanes += [Lane(slots, tenant=others[0]).start() for _ in range(1000)]
    of_second = sum(lane.in_flight for lane in second_lanes)
    for tenant in others[1:]:
        Lane(slots, tenant=tenant).start()
    for lane in many:
        lane.end(lane.in_flight)

    assert (of_two, of_second) == (256, 256)
    assert sum(lane.in_flight for lane in many) <= 128


def test_a_lane_that_ends_gives_all_back() -> None:
    """And whoever waited has it at once."""
    slots = Slots(2)
    first = Lane(slots, most=2).start()
    others = [Lane(slots, most=1).start() for _ in range(2)]
    before = [lane.in_flight for lane in others]

    slots.close(first.berth)

    assert sum(before) < 2
    assert [lane.in_flight for lane in others] == [1, 1]


def test_a_lane_that_waits_and_ends_is_not_called() -> None:
    """Nor is one that has nothing to send any more."""
    slots = Slots(1)
    holder, gone, sated = (Lane(slots, most=1).start() for _ in range(3))
    slots.close(gone.berth)
    sated.most = 0
    holder.most = 0

    holder.end()

    assert (gone.launched, sated.launched) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_nobody_starves_and_no_bound_is_broken(seed: int) -> None:
    """Through any order of starts, ends and changes of class each lane has its turns, and no slot is lost."""
    chance = Random(seed)  # noqa: S311 -- a simulation has to come out the same every time
    slots = Slots(chance.choice((1, 5, 16, 64)))
    tenants = [new_tenant() for _ in range(3)]
    lanes = [Lane(slots, tenant=chance.choice(tenants), most=chance.randint(1, 9)) for _ in range(30)]
    for _ in range(6000):
        lane = chance.choice(lanes)
        if chance.random() < 0.05:
            lane.slot_class = chance.choice(("fast", "slow", "probing"))
        lane.start()
        busy = [each for each in lanes if each.in_flight]
        if busy and chance.random() < 0.6:
            chance.choice(busy).end()
        assert sum(each.in_flight for each in lanes) <= slots._total

    assert min(lane.launched for lane in lanes) >= 10
    for lane in lanes:
        slots.close(lane.berth)
    assert slots._taken == 0
    assert not +Counter(slots._of_class)
    assert not slots._present
