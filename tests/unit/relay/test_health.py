"""What is written down of how a lane fares: little of one that goes on well, and now and then of one that fails."""

from app.domain.outcome import Outcome
from app.relay.health import STILL_FAILS_SECONDS
from tests.unit.relay.fake_destination import DELIVERED
from tests.unit.relay.receivers import Receivers
from tests.unit.relay.replica import Replica, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time

NOT_FOUND = Outcome(kind="answered", latency_seconds=0.01, status_code=404)


async def words_of_ten_minutes(answer: Outcome) -> int:
    """Let a delivery come every five seconds; gives how often something was written down of the lane."""
    outbox, set_up = one_lane(schedule_seconds=())
    async with Replica(outbox, set_up, Receivers(answer=lambda _: answer)):
        for _ in range(120):
            outbox.owe(make_owed(1))
            await pass_time(5.0)
    return outbox.calls["health"]


@in_virtual_time
async def test_that_a_lane_still_fails_is_told_every_minute() -> None:
    """Also where nobody lets the receiver be, because it is there: how long it has failed is told by that."""
    words = await words_of_ten_minutes(NOT_FOUND)

    assert 600 / STILL_FAILS_SECONDS <= words <= 600 / STILL_FAILS_SECONDS + 10


@in_virtual_time
async def test_of_a_lane_that_goes_on_well_nothing_is_told() -> None:
    """A settle then changes nothing of its row but the lease."""
    assert await words_of_ten_minutes(DELIVERED) == 0
