"""What a lane has in memory, where reading and settling cross."""

from app.domain.delivery import AT_HAND_LIMIT, Lease, Owed, Settlement
from app.domain.identity import ORDER_KEY_OF_ALL
from app.domain.ids import LaneId
from app.domain.verdict import DELIVERED, Verdict
from app.relay.memory import Memory
from app.relay.window import Window
from tests.unit.relay.replica import endpoint_id, make_owed

LEASE = Lease(lane_id=LaneId(1), endpoint_id=endpoint_id(1), fence=1)
LATER = Verdict(status="pending", delay_seconds=5.0)
OBJECT = 7


def settled(owed: Owed, verdict: Verdict) -> Settlement:
    """Settle what was sent."""
    return Settlement(lease=LEASE, owed=owed, outcome=None, verdict=verdict, started_seconds_ago=0.0)


def sending(first: Owed) -> Window:
    """Give a window whose first delivery is under way while the next ones are asked for."""
    window = Window(Memory())
    window.begin_look()
    window.queue(window.take_in([first]), in_order=True)
    assert window.take(1) == [first]
    window.begin_look()
    return window


def test_what_was_asked_for_behind_one_that_failed_meanwhile_is_asked_for_again() -> None:
    """It was read because the one before it was at hand, which it is no more."""
    first, second = make_owed(order_key=OBJECT), make_owed(order_key=OBJECT)
    window = sending(first)
    window.settled([first], [settled(first, LATER)])
    window.must_look = False

    window.queue(window.take_in([second]), in_order=True)

    assert (window.ready, len(window), window.must_look) == (0, 0, True)


def test_what_was_asked_for_behind_one_that_is_over_goes_on() -> None:
    """Nothing stands before it."""
    first, second = make_owed(order_key=OBJECT), make_owed(order_key=OBJECT)
    window = sending(first)
    window.settled([first], [settled(first, DELIVERED)])

    window.queue(window.take_in([second]), in_order=True)

    assert window.take(1) == [second]


def test_an_object_of_which_enough_is_in_memory_is_crowded_until_half_of_it_is_over() -> None:
    """It is named with its first row; when half of it is over, there is more to look for."""
    rows = [make_owed(order_key=OBJECT) for _ in range(AT_HAND_LIMIT)]
    window = Window(Memory())
    window.begin_look()
    window.queue(window.take_in(rows), in_order=True)
    assert window.crowded == {OBJECT: rows[0].row_id}

    for row in rows[: AT_HAND_LIMIT // 2 - 1]:
        window.settled(window.take(1), [settled(row, DELIVERED)])
    looked_early = window.must_look
    last = window.take(1)
    window.settled(last, [settled(last[0], DELIVERED)])

    assert (looked_early, window.must_look) == (False, True)
    assert window.crowded == {}


def test_the_one_object_of_an_endpoint_in_order_is_never_crowded() -> None:
    """There are no others to keep room for."""
    window = Window(Memory())

    window.take_in([make_owed(order_key=ORDER_KEY_OF_ALL) for _ in range(2 * AT_HAND_LIMIT)])

    assert window.crowded == {}
