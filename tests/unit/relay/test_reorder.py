"""A reorder window, and what becomes of what comes late: the store's order where it tells, else that of arrival."""

from dataclasses import replace
from random import Random
from typing import Final

import pytest

from app.domain.configuration import Late
from app.domain.delivery import Owed
from app.domain.order import place_of
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.replica import Replica, SetUp, all_ended, make_endpoint, make_owed
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time

WINDOW: Final = 2.0
LEASE_SECONDS: Final = 2.0


def set_up_lane(*, window_seconds: float = WINDOW, late: Late = "deliver") -> tuple[FakeOutbox, SetUp]:
    """Set up one lane ordered by key."""
    outbox = FakeOutbox(lease_seconds=LEASE_SECONDS)
    endpoint = make_endpoint(1, max_in_flight=4, ordering="key", reorder_window_seconds=window_seconds, late=late)
    return outbox, SetUp(outbox, [endpoint])


def change(number: int, *, order_key: int = 1, is_sequenced: bool = True, is_asked_for: bool = False) -> Owed:
    """Owe the change of an object that its store made as the so-manieth."""
    owed = make_owed(order_key=order_key)
    assert owed.stored is not None
    event = replace(owed.stored.event, sequencer=f"{number:020X}" if is_sequenced else None, size=number)
    place = None if is_asked_for else place_of(event)
    return replace(owed, stored=replace(owed.stored, event=event), place=place)


def number_of(owed: Owed) -> int:
    """Tell which change it is."""
    assert owed.stored is not None
    assert owed.stored.event.size is not None
    return owed.stored.event.size


def sent_by(destination: FakeDestination) -> list[int]:
    """Give the changes in the order they were sent, each once."""
    return list(dict.fromkeys(number_of(owed) for batch in destination.batches for owed in batch))


@in_virtual_time
async def test_what_comes_shuffled_within_the_window_goes_in_order() -> None:
    """The receiver hears the changes of an object in the order the store made them."""
    outbox, set_up = set_up_lane()
    destination = FakeDestination()
    async with Replica(outbox, set_up, destination):
        for number in (3, 1, 5, 2, 4):
            outbox.owe(change(number), window_seconds=WINDOW)
            await pass_time(0.3)
        assert destination.batches == []
        await all_ended(outbox)

    assert sent_by(destination) == [1, 2, 3, 4, 5]


@in_virtual_time
async def test_without_a_sequencer_the_order_of_arrival_stays() -> None:
    """After the window, as without one."""
    outbox, set_up = set_up_lane()
    destination = FakeDestination()
    outbox.owe(*(change(number, is_sequenced=False) for number in (3, 1, 2)), window_seconds=WINDOW)
    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert sent_by(destination) == [3, 1, 2]


@in_virtual_time
async def test_one_that_failed_is_not_overtaken() -> None:
    """An older one that comes after the first try waits for it, as all others of the object do."""
    outbox, set_up = set_up_lane()
    is_ill = True
    destination = FakeDestination(answer=lambda _: FAILED if is_ill else DELIVERED)
    outbox.owe(change(2), window_seconds=WINDOW)
    async with Replica(outbox, set_up, destination):
        await pass_time(WINDOW + 0.5)
        outbox.owe(change(1), window_seconds=WINDOW)
        await pass_time(WINDOW + 2.0)
        tried = sent_by(destination)
        is_ill = False
        await all_ended(outbox)

    assert tried == [2]
    assert sent_by(destination) == [2, 1]


class Watcher:
    """Answers with some luck, and notes what it got while another of the object was under way or before an older."""

    def __init__(self, chance: Random) -> None:
        """Know of no change yet."""
        self.chance = chance
        self.recorded_at: dict[tuple[int, int], float] = {}
        self.tried: set[tuple[int, int]] = set()
        self.too_early: list[tuple[int, int]] = []

    def answer(self, owed: Owed) -> Outcome:
        """Look whether one that is older, and was recorded within the window of it, was not tried before it."""
        assert owed.order_key is not None
        this = (owed.order_key, number_of(owed))
        for other, at in self.recorded_at.items():
            is_older = other[0] == this[0] and other[1] < this[1]
            if is_older and at < self.recorded_at[this] + WINDOW and other not in self.tried:
                self.too_early.append(this)
        self.tried.add(this)
        return FAILED if self.chance.random() < 0.2 else DELIVERED


@pytest.mark.parametrize("seed", range(4))
def test_within_the_window_nothing_newer_is_tried_first_whatever_happens(seed: int) -> None:
    """One in five attempts fails and replicas are killed: of two recorded within the window the older goes first."""

    @in_virtual_time
    async def story() -> None:
        chance = Random(seed)  # noqa: S311 -- a simulation has to come out the same every time
        outbox, set_up = set_up_lane()
        watcher = Watcher(chance)
        destination = FakeDestination(answer=watcher.answer, takes_seconds=0.1)
        replica = Replica(outbox, set_up, destination, name="0")
        await replica.__aenter__()
        numbers = list(range(200))
        for at in range(0, len(numbers), 5):
            numbers[at : at + 5] = chance.sample(numbers[at : at + 5], 5)
        for count, number in enumerate(numbers):
            key = number % 3
            watcher.recorded_at[key, number] = now()
            outbox.owe(change(number, order_key=key), window_seconds=WINDOW)
            await pass_time(chance.uniform(0.0, 0.8))
            if chance.randrange(20) == 0:
                await replica.crash()
                replica = Replica(outbox, set_up, destination, name=str(count + 1))
                await replica.__aenter__()
        await all_ended(outbox, within_seconds=1_000.0)
        await replica.__aexit__()

        assert watcher.too_early == []
        assert len(outbox.ended) == len(numbers)

    story()


@pytest.mark.parametrize(
    ("late", "sent", "status"),
    [
        ("deliver", [(5, False), (3, False)], "delivered"),
        ("mark", [(5, False), (3, True)], "delivered"),
        ("drop", [(5, False)], "cancelled"),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_one_that_comes_late_is_sent_marked_or_dropped(
    late: Late, sent: list[tuple[int, bool]], status: str, *, is_at_once: bool
) -> None:
    """As the endpoint says; whether it was in memory already when the newer one was delivered or not."""

    @in_virtual_time
    async def story() -> None:
        outbox, set_up = set_up_lane(window_seconds=0.0, late=late)
        destination = FakeDestination()
        newer, older, newest = change(5), change(3), change(6)
        outbox.owe(newer)
        if is_at_once:
            outbox.owe(older, newest)
        async with Replica(outbox, set_up, destination):
            await pass_time(5.0)
            if not is_at_once:
                outbox.owe(older, newest)
            await all_ended(outbox)

        got = [(number_of(owed), owed.is_late) for batch in destination.batches for owed in batch]
        assert got == [*sent, (6, False)]
        assert outbox.ended[older.key].status == status
        assert outbox.ended[older.key].reason == ("late" if late == "drop" else None)

    story()


@in_virtual_time
async def test_what_a_person_asks_for_is_sent_with_a_mark_instead_of_dropped() -> None:
    """A replay of an old event reaches also a receiver that wants nothing late."""
    outbox, set_up = set_up_lane(window_seconds=0.0, late="drop")
    destination = FakeDestination()
    outbox.owe(change(5), change(3, is_asked_for=True))
    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert [(number_of(owed), owed.is_late) for batch in destination.batches for owed in batch] == [
        (5, False),
        (3, True),
    ]


@in_virtual_time
async def test_what_cannot_be_told_is_never_late() -> None:
    """Not without a sequencer, not with the same place, and not because of a newer one of another object."""
    outbox, set_up = set_up_lane(window_seconds=0.0, late="drop")
    destination = FakeDestination()
    outbox.owe(change(5), change(5), change(3, is_sequenced=False), change(3, order_key=2))
    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 4}
    assert not any(owed.is_late for batch in destination.batches for owed in batch)
