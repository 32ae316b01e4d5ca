"""What is older than its endpoint wants is not sent, whatever kept it back."""

from dataclasses import replace

import pytest

from app.domain.configuration import OnDead, Ordering
from tests.unit.relay.fake_destination import FakeDestination
from tests.unit.relay.replica import Replica, all_ended, make_endpoint, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until


@in_virtual_time
async def test_what_got_old_in_a_pause_is_not_sent() -> None:
    """It is dead as expired without a try; what came late enough is sent."""
    outbox, set_up = one_lane()
    endpoint = replace(make_endpoint(), max_age_seconds=60.0)
    set_up.put(replace(endpoint, is_paused=True))
    destination = FakeDestination(batch_limit=10)
    old, young = make_many(5), make_many(5)

    async with Replica(outbox, set_up, destination):
        outbox.owe(*old)
        await pass_time(50.0)
        outbox.owe(*young)
        await pass_time(20.0)
        set_up.put(endpoint)
        await all_ended(outbox)

    assert {(outbox.ended[each.key].status, outbox.ended[each.key].reason) for each in old} == {("dead", "expired")}
    assert [each.outcome for each in outbox.settled if each.verdict.reason == "expired"] == [None] * 5
    assert set(destination.started) == {each.key for each in young}


@in_virtual_time
async def test_what_got_old_in_memory_is_not_sent() -> None:
    """A slow lane has read it long before its turn comes."""
    outbox, set_up = one_lane()
    set_up.put(replace(make_endpoint(), max_age_seconds=10.0, rate_limit_per_second=1.0))
    destination = FakeDestination()
    outbox.owe(*make_many(30))

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert 9 <= len(destination.started) <= 11
    assert outbox.statuses()["dead"] == 30 - len(destination.started)


@pytest.mark.parametrize(("ordering", "on_dead"), [("key", "skip"), ("key", "block"), ("none", "block")])
@in_virtual_time
async def test_what_got_old_blocks_those_behind_it_as_any_death_does(ordering: Ordering, on_dead: OnDead) -> None:
    """Where its endpoint says so, and keeps an order."""
    outbox, set_up = one_lane()
    endpoint = replace(make_endpoint(), max_age_seconds=60.0, ordering=ordering, on_dead=on_dead)
    set_up.put(replace(endpoint, is_paused=True))
    outbox.owe(make_owed(order_key=7))

    async with Replica(outbox, set_up, FakeDestination()):
        await pass_time(70.0)
        set_up.put(endpoint)
        await until(lambda: bool(outbox.settled))

    assert [each.blocks for each in outbox.settled] == [(ordering, on_dead) == ("key", "block")]
