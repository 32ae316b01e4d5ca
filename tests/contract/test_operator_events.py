"""Operator events over both databases: told once, with what they tell of, to those who ask and to nobody else."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from sqlalchemy import Executable, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Filter
from app.domain.delivery import Settlement
from app.domain.errors import StoreError
from app.domain.ids import DEFAULT_TENANT, EndpointId, public_id
from app.domain.outcome import Outcome
from app.domain.verdict import Verdict
from app.store import endpoints, heard
from app.store.columns import now
from app.store.events import EventFilter
from app.store.expiry import end_old
from app.store.outbox_schema import delivery, pulse
from app.store.replay import Wanted
from app.store.schema import source
from tests.bed.stored import SOURCE, Stored, dead, make_events, only_lease, owed_by
from tests.bed.stored import heard as said
from tests.contract.test_replay import do_slice, make

DAY: Final = 86_400.0
ALL: Final = Filter(events=("gateway.*",))


async def add_operator(stored: Stored, *, wanted: Filter = ALL) -> EndpointId:
    """Set up an operator's endpoint, which wants to hear of trouble."""
    endpoint_id = await stored.add_endpoint()
    await stored.add_subscription(endpoint_id, wanted=wanted)
    return endpoint_id


async def told(stored: Stored) -> list[Any]:
    """Give the operator events there are."""
    return [row for row in await stored.rows("event", "recorded_at") if row.dialect == "gateway"]


async def owed_to(stored: Stored, endpoint_id: EndpointId) -> list[Any]:
    """Give what an endpoint is owed."""
    return [row for row in await stored.rows("delivery", "id") if row.endpoint_id == endpoint_id]


async def let_die(stored: Stored, count: int) -> None:
    """Record events and let their deliveries die as too old, as the sweep does."""
    await stored.store.record([said(*make_events(count))])
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY)))
    await stored.outbox().sweep()


async def test_a_death_is_told_with_its_ids_and_reason(stored: Stored) -> None:
    """A settle that gives a delivery up writes one event and owes it to the operator alone."""
    _, subscription_id = await stored.add_subscribed()
    await stored.store.record([said(*make_events(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    (owed,) = await owed_by(outbox, lease)
    operator = await add_operator(stored)

    await outbox.settle([dead(lease, owed, reason="exhausted")])
    await outbox.settle([dead(lease, owed, reason="exhausted")])

    (event,) = await told(stored)
    (letter,) = await stored.rows("dead_letter")
    (telling,) = await stored.rows("delivery")
    data = json.loads(event.record)
    assert (event.type, event.bucket, event.change) == ("gateway.delivery.dead", "", "other")
    assert event.time == letter.ended_at
    assert event.event_day == letter.ended_at.date()
    assert (data["delivery_id"], data["event_id"]) == (owed.idempotency_key, public_id("evt", letter.event_id))
    assert data["subscription_id"] == public_id("sub", subscription_id)
    assert data["endpoint_id"] == public_id("ep", letter.endpoint_id)
    assert (data["name"], data["reason"]) == ("orders", "exhausted")
    assert (telling.endpoint_id, telling.event_id) == (operator, event.id)


async def test_a_death_nobody_asks_for_is_not_told(stored: Stored) -> None:
    """Whoever takes everything of S3, or another operator event, causes no event and no delivery."""
    await stored.add_subscribed()
    await add_operator(stored, wanted=Filter(events=("*", "s3:ObjectCreated:*", "gateway.source.stalled")))
    await stored.store.record([said(*make_events(2))])
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY)))

    await stored.outbox().sweep()

    assert (await told(stored), await stored.count("delivery")) == ([], 0)
    assert await stored.count("dead_letter") == 4


async def test_deaths_by_age_are_told_in_the_slice_that_ends_them(stored: Stored) -> None:
    """Each slice writes the events of its own deaths, no more."""
    lane_id, _ = await stored.add_subscribed()
    operator = await add_operator(stored)
    await stored.store.record([said(*make_events(3))])
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY)))

    ids = [row.id for row in await stored.rows("delivery", "id")]
    async with stored.database.write() as connection:
        await end_old(connection, lane_id=lane_id, ids=ids[:2])

    events = await told(stored)
    assert [json.loads(each.record)["reason"] for each in events] == ["expired", "expired"]
    assert {row.event_id for row in await owed_to(stored, operator)} == {each.id for each in events}


async def test_the_death_of_an_operator_event_is_not_told(stored: Stored) -> None:
    """Or an operator whose receiver is gone would be told of it for ever."""
    await stored.add_subscribed()
    await add_operator(stored)
    await let_die(stored, 1)
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY)))

    await stored.outbox().sweep()

    assert len(await told(stored)) == 1
    assert await stored.count("delivery") == 0
    assert await stored.count("dead_letter") == 2


async def test_an_endpoint_disabled_by_an_answer_is_told_to_others(stored: Stored) -> None:
    """Once, with the reason and the moment; the endpoint that was disabled is told nothing of itself."""
    endpoint_id = await stored.add_endpoint()
    await stored.add_subscription(endpoint_id)
    await stored.store.record([said(*make_events(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    (owed,) = await owed_by(outbox, lease)
    await stored.add_subscription(endpoint_id, wanted=Filter(events=("gateway.endpoint.*",)))
    operator = await add_operator(stored, wanted=Filter(events=("gateway.endpoint.disabled",)))
    gone = dead(lease, owed, reason="gone", outcome=Outcome(kind="answered", status_code=410, latency_seconds=0.1))

    for _ in range(2):
        await outbox.settle([disabling(gone)])

    (event,) = await told(stored)
    row = next(each for each in await stored.rows("endpoint") if each.id == endpoint_id)
    data = json.loads(event.record)
    assert event.type == "gateway.endpoint.disabled"
    assert event.time == row.disabled_at
    assert (data["endpoint_id"], data["reason"]) == (public_id("ep", endpoint_id), row.disabled_reason)
    assert [each.endpoint_id for each in await stored.rows("delivery")] == [operator]


async def test_an_endpoint_disabled_twice_is_told_twice(stored: Stored) -> None:
    """Enabled in between, it is another event: its id holds the moment."""
    endpoint_id = await stored.add_endpoint()
    await add_operator(stored)

    for _ in range(2):
        async with stored.database.write() as connection:
            assert await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")
        async with stored.database.write() as connection:
            assert await endpoints.enable(connection, DEFAULT_TENANT, endpoint_id)

    assert len(await told(stored)) == 2


async def test_nothing_is_told_of_what_is_not_committed(stored: Stored) -> None:
    """The event stands and falls with what it tells of."""
    endpoint_id = await stored.add_endpoint()
    await add_operator(stored)

    async def disable_and_fail(connection: AsyncConnection) -> None:
        await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")
        raise StoreError

    with pytest.raises(StoreError):
        await stored.database.write_again(disable_and_fail)

    assert await told(stored) == []


async def test_other_tenants_and_deleted_listeners_hear_nothing(stored: Stored) -> None:
    """Nor those whose endpoint is gone."""
    endpoint_id, stranger = await stored.add_endpoint(), await stored.add_endpoint()
    await stored.add_subscription(stranger, wanted=ALL, tenant_id=2)
    gone = await stored.add_subscription(stranger, wanted=ALL)
    await stored.delete_subscription(gone)
    await stored.delete_endpoint(await add_operator(stored))

    async with stored.database.write() as connection:
        await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")

    assert (await told(stored), await stored.count("delivery")) == ([], 0)


async def test_buckets_and_keys_do_not_narrow_operator_events(stored: Stored) -> None:
    """A filter that names both takes what it names of either."""
    endpoint_id = await stored.add_endpoint()
    wanted = Filter(
        buckets=("photos",), events=("s3:ObjectCreated:*", "gateway.*"), key_prefix="in/", key_suffix=".jpg"
    )
    operator = await add_operator(stored, wanted=wanted)

    async with stored.database.write() as connection:
        await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")

    assert len(await owed_to(stored, operator)) == 1


async def test_a_source_that_keeps_failing_is_told_once(stored: Stored) -> None:
    """Five minutes after it began, whatever it says meanwhile; anew after it was well."""
    await stored.add_source()
    await add_operator(stored)
    outbox = stored.outbox()

    async def fail(error: str, *, for_seconds: float) -> None:
        async with stored.database.write() as connection:
            await heard.note_state(connection, SOURCE, state="failing", error=error)
        await stored.execute(update(source).values(failing_since=now(-for_seconds)))
        await outbox.sweep()

    await fail("no such queue", for_seconds=290)
    early = await told(stored)
    await fail("no such queue", for_seconds=301)
    await fail("no right to read", for_seconds=900)
    once = await told(stored)
    async with stored.database.write() as connection:
        await heard.note_state(connection, SOURCE, state="ok", error=None)
    await outbox.sweep()
    await fail("no such queue", for_seconds=301)

    data = json.loads(once[0].record)
    assert (early, len(once), len(await told(stored))) == ([], 1, 2)
    assert once[0].type == "gateway.source.stalled"
    assert (data["source_id"], data["name"]) == (public_id("src", SOURCE), "uploads")
    assert data["reason"] == "It has been failing for 300 s: no such queue"


async def test_failing_counts_from_its_beginning(stored: Stored) -> None:
    """Another error does not begin it anew, and being well ends it."""
    await stored.add_source()
    moments = []

    for state, error in (("failing", "one"), ("failing", "another"), ("ok", None)):
        async with stored.database.write() as connection:
            await heard.note_state(connection, SOURCE, state=state, error=error)
        moments.append((await stored.rows("source"))[0].failing_since)

    assert moments[0] is not None
    assert moments == [moments[0], moments[0], None]


async def test_a_source_that_is_late_is_told_until_a_measure_says_it_is_not(stored: Stored) -> None:
    """What it brings waited for too long; no measure at all does not end the stall."""
    await stored.add_source()
    await add_operator(stored)
    outbox = stored.outbox()
    async with stored.database.write() as connection:
        await heard.note_state(connection, SOURCE, state="ok", error=None)
    counts = []

    for oldest in (899.0, 901.0, None, 1_000.0, 10.0, 901.0):
        await stored.execute(delete(pulse))
        await stored.execute(_measure(oldest))
        await outbox.sweep()
        counts.append(len(await told(stored)))

    assert counts == [0, 1, 1, 1, 1, 2]
    (first, _) = await told(stored)
    assert json.loads(first.record)["reason"] == "What it brings has waited for 901 s."


@pytest.mark.parametrize("change", [{"is_paused": True}, {"deleted_at": datetime(2026, 1, 1, tzinfo=UTC)}])
async def test_a_source_that_is_left_alone_does_not_stall(stored: Stored, change: dict[str, Any]) -> None:
    """Paused or deleted, it is not expected to bring anything."""
    await stored.add_source()
    await add_operator(stored)
    await stored.execute(update(source).values(state="failing", failing_since=now(-DAY), **change))

    await stored.outbox().sweep()

    assert await told(stored) == []


async def test_what_is_told_is_delivered_like_any_event(stored: Stored) -> None:
    """The sweep wakes the operator's lane, and the delivery brings the whole event."""
    endpoint_id = await stored.add_endpoint()
    await add_operator(stored)
    async with stored.database.write() as connection:
        await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")
    outbox = stored.outbox()

    await outbox.sweep()
    lease = await only_lease(outbox)
    (owed,) = await owed_by(outbox, lease)

    assert owed.stored is not None
    assert owed.stored.event.is_operator_event
    assert owed.stored.event.key_text == public_id("ep", endpoint_id)


async def test_a_replay_owes_operator_events_to_later_subscriptions(stored: Stored) -> None:
    """To those that name them; asked for by bucket or key there are none."""
    endpoint_id = await stored.add_endpoint()
    await add_operator(stored)
    async with stored.database.write() as connection:
        await endpoints.disable(connection, endpoint_id, reason="It answers nothing.")
    later = await add_operator(stored)
    await stored.add_subscribed()
    filters = (EventFilter(bucket="photos"), EventFilter(key_prefix=b"ep"), EventFilter(type="gateway.endpoint.*"))

    slices = [await do_slice(stored, await make(stored, Wanted(events=each))) for each in filters]

    assert [(each.looked_at, each.owed) for each in slices] == [(0, 0), (0, 0), (1, 1)]
    assert len(await owed_to(stored, later)) == 1


def disabling(settlement: Settlement) -> Settlement:
    """Let the verdict disable the endpoint too."""
    return replace(settlement, verdict=Verdict(status="dead", reason="gone", disables=True))


def _measure(oldest_seconds: float | None) -> Executable:
    return insert(pulse).values(
        source_id=SOURCE,
        replica_id=bytes(16),
        seen_at=now(),
        events_per_second=1.0,
        queue_depth=1,
        queue_in_flight=0,
        queue_delayed=0,
        oldest_seconds=oldest_seconds,
    )
