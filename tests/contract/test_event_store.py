"""The port EventStore over both databases: what was heard is written down once, with what it owes."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import delete, select, text, update

from app.domain.configuration import Filter
from app.domain.errors import StoreRefused
from app.domain.identity import delivery_key
from app.domain.ids import DEFAULT_TENANT, TenantId
from app.domain.message import Recorded, Refusal
from app.store.columns import FAR, now
from app.store.days import SENTINEL
from app.store.outbox_schema import event as event_table
from app.store.outbox_schema import lane
from app.store.schema import source
from tests.bed.stored import SOURCE, Stored, changed, heard, make_event, make_events, only_lease, owed_by


async def test_new_events_are_written_once_with_what_they_owe(stored: Stored) -> None:
    """Each new event owes one delivery through each subscription that takes it."""
    lane_id, subscription_id = await stored.add_subscribed()
    events = make_events(3)

    recorded = await stored.store.record([heard(events[0], events[1]), heard(events[2])])

    assert recorded == Recorded(events=3, duplicates=0, deliveries=3, quarantined=0, lanes=frozenset({lane_id}))
    rows = await stored.rows("delivery", "id")
    assert [row.event_id for row in rows] == [each.id for each in events]
    assert {row.delivery_key for row in rows} == {delivery_key(each.id, subscription_id) for each in events}
    assert {row.order_key for row in rows} == {None}
    assert {(row.tries, row.failures, row.lane_id) for row in rows} == {(0, 0, lane_id)}


async def test_an_event_is_kept_as_it_was_said(stored: Stored) -> None:
    """Every field of an event comes back from the outbox as it went in, odd ones too."""
    await stored.add_subscribed()
    odd = changed(
        make_event(1),
        key=b"\xff\x00 caf\xc3\xa9",
        received_key="%FF%00+caf%C3%A9",
        version_id="v1",
        size=2**63 - 1,
        time=datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC),
        actor="AWS:1",
        host_id="h",
        extra='{"a": "\N{SNOWMAN}"}',
        record=b"\x00\xff{}",
    )
    await stored.store.record([heard(odd)])
    outbox = stored.outbox()

    (owed,) = await owed_by(outbox, await only_lease(outbox))

    assert owed.stored is not None
    assert owed.stored.event == odd
    assert owed.stored.source_id == SOURCE
    assert abs(owed.stored.recorded_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_duplicate_is_recognised_within_a_batch_and_after_it(stored: Stored) -> None:
    """The same event twice in a message, in a batch or in two batches is one event, and owes once."""
    await stored.add_subscribed()
    first, second = make_events(2)

    one = await stored.store.record([heard(first, first), heard(first)])
    two = await stored.store.record([heard(first, second)])

    assert (one.events, one.duplicates, one.deliveries) == (1, 2, 1)
    assert (two.events, two.duplicates, two.deliveries) == (1, 1, 1)
    assert await stored.count("event") == 2
    assert await stored.count("delivery") == 2


async def test_concurrent_batches_write_an_event_once(stored: Stored) -> None:
    """Batches that hold the same events in opposite order neither deadlock nor write one twice."""
    await stored.add_subscribed()
    events = make_events(200)
    batches = [events, events[::-1], events[100:] + events[:100], events[::2] + events[1::2]]

    results = await asyncio.gather(*(stored.store.record([heard(each) for each in batch]) for batch in batches))

    assert sum(each.events for each in results) == 200
    assert sum(each.deliveries for each in results) == 200
    assert await stored.count("event") == 200
    assert await stored.count("delivery") == 200


async def test_an_empty_batch_writes_nothing(stored: Stored) -> None:
    """No messages, no work."""
    assert await stored.store.record([]) == Recorded(events=0, duplicates=0, deliveries=0, quarantined=0)


async def test_events_are_matched_under_the_newest_committed_set_up(stored: Stored) -> None:
    """A subscription counts from its commit on, and no longer than until its deletion."""
    endpoint_id = await stored.add_endpoint()

    before = await stored.store.record([heard(make_event(1))])
    subscription_id = await stored.add_subscription(endpoint_id)
    during = await stored.store.record([heard(make_event(2))])
    await stored.delete_subscription(subscription_id)
    after = await stored.store.record([heard(make_event(3))])

    assert [before.deliveries, during.deliveries, after.deliveries] == [0, 1, 0]


async def test_a_subscription_takes_what_its_filter_says_and_its_tenant_owns(stored: Stored) -> None:
    """Buckets that do not match and other tenants' subscriptions owe nothing."""
    endpoint_id = await stored.add_endpoint()
    await stored.add_subscription(endpoint_id, wanted=Filter(buckets=("videos",)))
    await stored.add_subscription(endpoint_id, tenant_id=TenantId(DEFAULT_TENANT + 1))

    recorded = await stored.store.record([heard(make_event(1), make_event(2, bucket="videos"))])

    assert recorded.deliveries == 1


async def test_a_recorded_lane_is_awake(stored: Stored) -> None:
    """After the commit the lanes that owe something are there to be leased."""
    lane_id, _ = await stored.add_subscribed()

    await stored.store.record([heard(make_event(1))])

    assert await stored.scalar(select(lane.c.wake_at <= now()).where(lane.c.id == lane_id))


async def test_a_failed_hint_fails_no_batch(stored_on_postgres: Stored) -> None:
    """When lanes cannot be woken the batch is recorded all the same, and the sweep wakes them."""
    lane_id, _ = await stored_on_postgres.add_subscribed()
    await stored_on_postgres.store.record([heard()])
    await stored_on_postgres.execute(text("ALTER TABLE lane RENAME TO lane_away"))

    recorded = await stored_on_postgres.store.record([heard(make_event(1))])

    await stored_on_postgres.execute(text("ALTER TABLE lane_away RENAME TO lane"))
    assert recorded.deliveries == 1
    assert await stored_on_postgres.scalar(select(lane.c.wake_at == FAR).where(lane.c.id == lane_id))
    assert await stored_on_postgres.outbox().sweep() == 1


async def test_what_cannot_be_decoded_is_kept_and_counted(stored: Stored) -> None:
    """The same bytes for the same reason are one row of the quarantine, with how often they were seen."""
    refusal = Refusal(reason="not JSON:\x00 \ud800", raw=b"\x00\xffhello")
    other = Refusal(reason="not JSON", raw=b"other")

    first = await stored.store.record([heard(make_event(1), refusals=[refusal, refusal]), heard(refusals=[other])])
    second = await stored.store.record([heard(refusals=[refusal])])

    assert (first.events, first.quarantined, second.quarantined) == (1, 3, 1)
    rows = sorted(await stored.rows("quarantine"), key=lambda row: row.raw)
    assert [(row.raw, row.seen, row.reason) for row in rows] == [
        (b"\x00\xffhello", 3, "not JSON:\N{REPLACEMENT CHARACTER} ?"),
        (b"other", 1, "not JSON"),
    ]
    assert rows[0].first_seen_at < rows[0].last_seen_at
    assert rows[0].source_id == SOURCE


async def test_a_source_shows_signs_of_life(stored: Stored) -> None:
    """A message sets when its source was last heard from, one with an event that too; a test event is apart."""
    await stored.add_source()

    await stored.store.record([heard(make_event(1))])
    (after_event,) = await stored.rows("source")
    await stored.store.record([heard(is_test_event=True)])
    (after_test,) = await stored.rows("source")

    assert after_event.last_received_at is not None
    assert after_event.last_event_at is not None
    assert after_event.test_event_at is None
    assert after_test.last_event_at == after_event.last_event_at
    assert after_test.test_event_at is not None


async def test_a_source_deleted_meanwhile_loses_nothing(stored: Stored) -> None:
    """Events of a source that is gone are recorded like any other."""
    await stored.add_source()
    await stored.add_subscribed()
    await stored.execute(delete(source))

    recorded = await stored.store.record([heard(make_event(1), is_test_event=True)])

    assert recorded.deliveries == 1


async def test_a_sources_state_is_kept_and_changes_no_set_up(stored: Stored) -> None:
    """State and error are for people: nobody reads the configuration anew for them."""
    await stored.add_source()
    epoch = (await stored.rows("configuration_epoch"))[0].epoch

    await stored.store.note_source(SOURCE, "failing", "AccessDenied: \ud800 not allowed\x00")

    (row,) = await stored.rows("source")
    assert (row.state, row.last_error) == ("failing", "AccessDenied: ? not allowed\N{REPLACEMENT CHARACTER}")
    await stored.store.note_source(SOURCE, "ok", None)
    (row,) = await stored.rows("source")
    assert (row.state, row.last_error) == ("ok", None)
    assert (await stored.rows("configuration_epoch"))[0].epoch == epoch


async def test_an_event_is_filed_under_its_own_day_while_that_is_kept(stored: Stored) -> None:
    """Days from yesterday to a week ahead are filed under themselves; others under the sentinel."""
    today = datetime.now(UTC).date()
    days = [today + timedelta(days=offset) for offset in (-1, 0, 7, 9, -400)]
    events = [make_event(number, day=day) for number, day in enumerate(days)]

    await stored.store.record([heard(*events)])
    again = await stored.store.record([heard(*events)])

    filed = {row.id: row.event_day for row in await stored.rows("event")}
    assert [filed[each.id] for each in events] == [*days[:3], SENTINEL, SENTINEL]
    assert again.duplicates == 5


async def test_a_day_dropped_meanwhile_files_its_events_under_the_sentinel(stored_on_postgres: Stored) -> None:
    """A partition that goes away under a store that still knows it costs no event."""
    event = make_event(1)
    await stored_on_postgres.store.record([heard(event)])
    await stored_on_postgres.execute(text(f"DROP TABLE event_{event.day:%Y%m%d}"))

    recorded = await stored_on_postgres.store.record([heard(make_event(2))])

    assert recorded.events == 1
    assert await stored_on_postgres.scalar(select(event_table.c.event_day)) == date(1, 1, 1)


@pytest.mark.parametrize(
    "fields",
    [{"etag": "lone \ud800 surrogate"}, {"size": 2**63}, {"size": -(2**70)}],
    ids=["lone surrogate", "one too large", "far too small"],
)
async def test_data_the_database_refuses_is_named_and_nothing_is_written(
    stored: Stored, fields: dict[str, object]
) -> None:
    """A text that is no Unicode or a number too large is StoreRefused; the batch around it leaves no trace."""
    await stored.add_subscribed()

    with pytest.raises(StoreRefused):
        await stored.store.record([heard(make_event(1), changed(make_event(2), **fields))])

    assert [await stored.count(table) for table in ("event", "delivery")] == [0, 0]
    assert (await stored.store.record([heard(make_event(1))])).events == 1


async def test_postgresql_refuses_a_nul(stored_on_postgres: Stored) -> None:
    """A NUL in a text is StoreRefused on PostgreSQL; SQLite keeps it."""
    with pytest.raises(StoreRefused):
        await stored_on_postgres.store.record([heard(changed(make_event(1), actor="a\x00b"))])


async def test_a_cancelled_batch_can_be_recorded_again(stored: Stored) -> None:
    """After a cancellation in the midst, the same batch is recorded, and the connections still serve."""
    await stored.add_subscribed()
    events = make_events(50)

    for steps in range(1, 12):
        task = asyncio.create_task(stored.store.record([heard(each) for each in events]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    recorded = await stored.store.record([heard(each) for each in events])

    assert recorded.events + recorded.duplicates == 50
    assert await stored.count("event") == 50
    assert await stored.count("delivery") == 50


async def test_the_first_sign_of_life_is_not_repeated_within_a_second(stored: Stored) -> None:
    """Batches that follow closely do not queue for their source's row."""
    await stored.add_source()
    await stored.store.record([heard(make_event(1))])
    (first,) = await stored.rows("source")

    await stored.store.record([heard(make_event(2))])
    (second,) = await stored.rows("source")
    await stored.execute(update(source).values(last_received_at=now(-2.0)))
    await stored.store.record([heard(make_event(3))])
    (third,) = await stored.rows("source")

    assert first.last_received_at == second.last_received_at
    assert first.last_event_at == second.last_event_at
    assert third.last_received_at > second.last_received_at


async def test_the_last_event_counts_known_ones_and_waits_for_no_second(stored: Stored) -> None:
    """A refusal is no event; the first event shows though its source was heard from just now, and a duplicate too."""
    await stored.add_source()
    await stored.store.record([heard(refusals=[Refusal(reason="not JSON", raw=b"{")])])
    (refused,) = await stored.rows("source")
    await stored.store.record([heard(make_event(1))])
    (first,) = await stored.rows("source")
    await stored.execute(update(source).values(last_event_at=now(-2.0)))
    (aged,) = await stored.rows("source")

    await stored.store.record([heard(make_event(1))])

    (again,) = await stored.rows("source")
    assert refused.last_received_at is not None
    assert refused.last_event_at is None
    assert first.last_event_at is not None
    assert again.last_event_at > aged.last_event_at
