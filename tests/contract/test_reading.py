"""What the store tells of events, deliveries and the quarantine, on both databases; and owing a delivery again."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.domain.ids import DEFAULT_TENANT, DeliveryKey, EndpointId, EventId, SubscriptionId, TenantId
from app.store.columns import FAR, now
from app.store.database import Database
from app.store.deliveries import (
    Delivery,
    DeliveryFilter,
    deliveries_of_event,
    detail_statement,
    get_delivery,
    list_deliveries,
    list_statement,
)
from app.store.events import EventFilter, get_event, get_record, list_events
from app.store.outbox_schema import attempt, dead_letter, delivery
from app.store.place import Place
from app.store.quarantine import get_quarantined, list_quarantine
from app.store.retry import Retry, retry
from app.store.schema import endpoint, subscription
from tests.bed import rows
from tests.bed.rows import ENDPOINT, LANE, NOON, OTHER_SUBSCRIPTION, SUBSCRIPTION, YESTERDAY, Owed

SECOND = timedelta(seconds=1)
STRANGER = TenantId(2)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open a prepared database, once SQLite and once PostgreSQL."""
    opened = Database(database_url)
    await rows.prepare(opened)
    yield opened
    await opened.aclose()


async def test_events_are_listed_newest_first_and_each_once(database: Database) -> None:
    """Events that come in while a list is read neither push any out nor show any twice."""
    async with database.write() as connection:
        made = [await rows.add_event(connection, number, recorded_at=NOON) for number in range(3)]
        made += [await rows.add_event(connection, number) for number in range(3, 7)]

    seen: list[EventId] = []
    after = None
    async with database.write() as connection:
        while page := await list_events(connection, DEFAULT_TENANT, wanted=EventFilter(), after=after, limit=2):
            seen += [each.event.id for each in page]
            after = Place(at=page[-1].recorded_at, id=page[-1].event.id)
            await rows.add_event(connection, 100 + len(seen))

    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (EventFilter(), [4, 3, 2, 1]),
        (EventFilter(bucket="photos"), [4, 3, 1]),
        (EventFilter(bucket="phot%"), []),
        (EventFilter(type="s3:ObjectRemoved:Delete"), [3]),
        (EventFilter(type="ObjectRemoved:Delete"), [3]),
        (EventFilter(type="ObjectRemoved:*"), [3]),
        (EventFilter(key_prefix=b"a%"), [1]),
        (EventFilter(key_prefix=b"a"), [2, 1]),
        (EventFilter(key_prefix=b"A"), []),
        (EventFilter(key_prefix=b"\xff"), [3]),
        (EventFilter(key_prefix="ü/".encode()), [4]),
        (EventFilter(key_prefix=b"\x00"), []),
        (EventFilter(since=NOON + SECOND * 2), [4, 3, 2]),
        (EventFilter(until=NOON + SECOND * 2), [1]),
        (EventFilter(bucket="photos", since=NOON + SECOND, until=NOON + SECOND * 4), [3, 1]),
        (EventFilter(bucket="'; DROP TABLE event; --"), []),
    ],
)
async def test_each_filter_of_events(database: Database, wanted: EventFilter, numbers: list[int]) -> None:
    """Each filter takes what it says: names and families, bytes of keys without wildcards, half-open spans of time."""
    async with database.write() as connection:
        for number, key in enumerate((b"a%/cat", b"a_/cat", b"\xff\xfe", "ü/cat".encode()), start=1):
            await rows.add_event(
                connection,
                number,
                key=key,
                bucket="films" if number == 2 else "photos",
                type="s3:ObjectRemoved:Delete" if number == 3 else "s3:ObjectCreated:Put",
                time=NOON + SECOND * number,
            )

    async with database.read() as connection:
        found = await list_events(connection, DEFAULT_TENANT, wanted=wanted, after=None, limit=50)

    assert [each.event.id for each in found] == [rows.event_id(number) for number in numbers]


async def test_an_event_is_found_by_its_id_on_any_day(database: Database) -> None:
    """All of it comes back, its record byte for byte; to another tenant it is unknown."""
    record = b'{"a": "\xff\x00 \xc3\xbc" }'
    async with database.write() as connection:
        made = await rows.add_event(
            connection, 1, event_day=YESTERDAY, key=b"\xff\x00", record=record, size=2**40, extra='{"b":1}', etag="e"
        )

    async with database.read() as connection:
        found = await get_event(connection, DEFAULT_TENANT, made)
        kept = await get_record(connection, DEFAULT_TENANT, made)
        unknown = await get_event(connection, DEFAULT_TENANT, rows.event_id(2))
        foreign = await get_event(connection, STRANGER, made), await get_record(connection, STRANGER, made)

    assert found is not None
    assert (found.event.day, found.event.key, found.event.size) == (YESTERDAY, b"\xff\x00", 2**40)
    assert (found.event.extra, found.event.etag, found.event.version_id) == ('{"b":1}', "e", None)
    assert (found.source_id, found.recorded_at) == (rows.SOURCE, NOON + SECOND)
    assert found.event.record == kept == record
    assert unknown is None
    assert foreign == (None, None)


async def test_deliveries_keep_their_place_when_they_end(database: Database) -> None:
    """A list read while deliveries end, come back and come in shows each that was there once, newest first."""
    all_owed = [_owed(number, created_at=NOON + SECOND * (number // 4)) for number in range(12)]
    async with database.write() as connection:
        for each in all_owed:
            await rows.add_owed(connection, each)
        await rows.end(connection, all_owed[1], "delivered")
        await rows.end(connection, all_owed[2], "dead", reason="gone")

    seen: list[DeliveryKey] = []
    after = None
    async with database.write() as connection:
        while page := await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), after=after, limit=3):
            seen += [each.key for each in page]
            after = Place(at=page[-1].created_at, id=page[-1].key)
            await rows.add_owed(connection, _owed(50 + len(seen)))
            if len(seen) == 3:
                await rows.end(connection, all_owed[10], "delivered")
                await rows.end(connection, all_owed[8], "delivered")
                await rows.end(connection, all_owed[7], "cancelled", number=0)
                await retry(connection, DEFAULT_TENANT, all_owed[2].key)

    in_order = sorted(all_owed, key=lambda each: (each.created_at, each.key), reverse=True)
    assert seen == [each.key for each in in_order]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (DeliveryFilter(), [4, 3, 2, 1, 0]),
        (DeliveryFilter(status="pending"), [4, 0]),
        (DeliveryFilter(status="delivered"), [1]),
        (DeliveryFilter(status="dead"), [2]),
        (DeliveryFilter(status="cancelled"), [3]),
        (DeliveryFilter(subscription_id=OTHER_SUBSCRIPTION), [4, 1]),
        (DeliveryFilter(subscription_id=OTHER_SUBSCRIPTION, status="pending"), [4]),
        (DeliveryFilter(endpoint_id=ENDPOINT), [4, 3, 2, 1, 0]),
        (DeliveryFilter(endpoint_id=EndpointId(b"endpoint-two----")), []),
        (DeliveryFilter(event_id=rows.event_id(1)), [4, 1, 0]),
        (DeliveryFilter(event_id=rows.event_id(1), status="delivered"), [1]),
        (DeliveryFilter(event_id=rows.event_id(3)), []),
    ],
)
async def test_each_filter_of_deliveries(database: Database, wanted: DeliveryFilter, numbers: list[int]) -> None:
    """Each filter takes what it says, from both tables."""
    third = SubscriptionId(b"subscription-3--")
    all_owed = [
        _owed(0, event_id=rows.event_id(1)),
        _owed(1, event_id=rows.event_id(1), subscription_id=OTHER_SUBSCRIPTION),
        _owed(2, event_id=rows.event_id(2)),
        _owed(3, event_id=rows.event_id(4), subscription_id=third),
        _owed(4, event_id=rows.event_id(2), subscription_id=OTHER_SUBSCRIPTION),
    ]
    all_owed[4] = _owed(4, event_id=rows.event_id(1), subscription_id=third) if wanted.event_id else all_owed[4]
    async with database.write() as connection:
        for each in all_owed:
            await rows.add_owed(connection, each)
        await rows.add_try(connection, all_owed[0], 1)
        await rows.end(connection, all_owed[1], "delivered")
        await rows.end(connection, all_owed[2], "dead", reason="exhausted")
        await rows.end(connection, all_owed[3], "cancelled", number=0)

    async with database.read() as connection:
        found = await list_deliveries(connection, DEFAULT_TENANT, wanted=wanted, after=None, limit=50)
        foreign = await list_deliveries(connection, STRANGER, wanted=wanted, after=None, limit=50)

    assert [each.key for each in found] == [all_owed[number].key for number in numbers]
    assert foreign == []


async def test_the_deliveries_of_an_event_are_found_at_the_edges_of_the_index(database: Database) -> None:
    """Also where the id's first bytes are the last there are; events with the same ones are kept apart."""
    last = [EventId(b"\xff" * 4 + bytes([number]) * 12) for number in (0, 255)]
    all_owed = [
        _owed(number, event_id=event_id, subscription_id=each)
        for number, (event_id, each) in enumerate(
            (event_id, each) for event_id in last for each in (SUBSCRIPTION, OTHER_SUBSCRIPTION)
        )
    ]
    async with database.write() as connection:
        for each in all_owed:
            await rows.add_owed(connection, each)
        await rows.end(connection, all_owed[3], "delivered")

    async with database.read() as connection:
        found = await deliveries_of_event(connection, DEFAULT_TENANT, last[1])

    assert [each.key for each in found] == [all_owed[3].key, all_owed[2].key]


async def test_a_delivery_tells_its_attempts_in_order(database: Database) -> None:
    """Attempts come by number, then by start; an ending without a try is none of them."""
    owed = _owed(1, due_at=NOON + SECOND * 9)
    async with database.write() as connection:
        await rows.add_owed(connection, owed)
        await rows.add_try(connection, owed, 2, started_at=NOON, error="late", status_code=503, response=b"\xff")
        await rows.add_try(connection, owed, 1, day=YESTERDAY, latency_ms=12)
        await rows.add_try(connection, owed, 2, started_at=NOON - SECOND)

    async with database.read() as connection:
        while_owed = await get_delivery(connection, DEFAULT_TENANT, owed.key)
    async with database.write() as connection:
        await rows.end(connection, owed, "dead", number=0, reason="expired")
        when_over = await get_delivery(connection, DEFAULT_TENANT, owed.key)

    assert while_owed is not None
    assert when_over is not None
    assert while_owed[0] == Delivery(
        key=owed.key,
        event_id=owed.event_id,
        subscription_id=SUBSCRIPTION,
        endpoint_id=ENDPOINT,
        status="pending",
        reason=None,
        due_at=NOON + SECOND * 9,
        created_at=owed.created_at,
        ended_at=None,
    )
    assert when_over[0] == replace(
        while_owed[0], status="dead", reason="expired", due_at=None, ended_at=NOON + timedelta(hours=1)
    )
    assert while_owed[1] == when_over[1]
    assert [(each.number, each.started_at) for each in when_over[1]] == [
        (1, NOON + timedelta(minutes=1)),
        (2, NOON - SECOND),
        (2, NOON),
    ]
    assert (when_over[1][2].status_code, when_over[1][2].error, when_over[1][2].response) == (503, "late", b"\xff")


async def test_a_delivery_without_attempts_and_one_that_is_not_there(database: Database) -> None:
    """The first has none; the second is unknown, to another tenant too."""
    owed = _owed(1)
    async with database.write() as connection:
        await rows.add_owed(connection, owed)

    async with database.read() as connection:
        found = await get_delivery(connection, DEFAULT_TENANT, owed.key)
        unknown = await get_delivery(connection, DEFAULT_TENANT, _owed(2).key)
        foreign = await get_delivery(connection, STRANGER, owed.key)

    assert found is not None
    assert found[1] == []
    assert (unknown, foreign) == (None, None)


async def test_retrying_what_is_owed_makes_it_due(database: Database) -> None:
    """It is due now, nothing else of it changes, and its lane wakes."""
    owed = _owed(1, tries=3, failures=2)
    async with database.write() as connection:
        await rows.add_owed(connection, owed)

    answer = await _retry(database, owed.key)

    assert answer == Retry(answer="owed", lane_id=LANE)
    [row] = await _outbox(database)
    assert (row.is_due, row.tries, row.failures, row.created_at) == (True, 3, 2, owed.created_at)
    async with database.read() as connection:
        assert await rows.wakes_at(connection) < FAR


async def test_what_has_been_due_for_longer_keeps_its_turn(database: Database) -> None:
    """A retry never puts a delivery behind others, nor wakes a lane later than it would."""
    owed = _owed(1, due_at=NOON - SECOND)
    async with database.write() as connection:
        await rows.add_owed(connection, owed)
    await _retry(database, owed.key)
    async with database.read() as connection:
        woken = await rows.wakes_at(connection)

    await _retry(database, owed.key)

    [row] = await _outbox(database)
    assert row.due_at == NOON - SECOND
    async with database.read() as connection:
        assert await rows.wakes_at(connection) == woken


async def test_retrying_a_dead_one_owes_it_again_with_a_fresh_schedule(database: Database) -> None:
    """Its tries count on, its failures start anew, it keeps its place, and it can end once more."""
    owed = _owed(1)
    async with database.write() as connection:
        await rows.add_try(connection, owed, 1)
        await rows.end(connection, owed, "dead", number=2, reason="exhausted")

    answer = await _retry(database, owed.key)

    assert answer == Retry(answer="owed", lane_id=LANE)
    [row] = await _outbox(database)
    assert (row.is_due, row.tries, row.failures, row.created_at) == (True, 2, 0, owed.created_at)
    assert (row.lane_id, row.order_key, row.event_day) == (LANE, owed.order_key, owed.event_day)
    assert await _count(database, dead_letter) == 0
    async with database.read() as connection:
        assert await rows.wakes_at(connection) < FAR
        listed = await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), after=None, limit=5)
        found = await get_delivery(connection, DEFAULT_TENANT, owed.key)
    assert found is not None
    assert [(each.status, each.reason, each.ended_at) for each in listed] == [("pending", None, None)]
    assert [each.number for each in found[1]] == [1, 2]
    async with database.write() as connection:
        await rows.end(connection, owed, "delivered", number=3)
        again = await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), after=None, limit=5)
    assert [each.status for each in again] == ["delivered"]


async def test_two_retries_at_once_are_one(database: Database) -> None:
    """Both are told that it is owed; the outbox holds it once."""
    owed = _owed(1)
    async with database.write() as connection:
        await rows.end(connection, owed, "dead", reason="gone")

    answers = await asyncio.gather(*(_retry(database, owed.key) for _ in range(4)))

    assert answers == [Retry(answer="owed", lane_id=LANE)] * 4
    assert len(await _outbox(database)) == 1


@pytest.mark.parametrize("status", ["delivered", "cancelled"])
async def test_what_is_over_for_good_is_not_retried(database: Database, status: str) -> None:
    """A success and a cancellation stand."""
    owed = _owed(1)
    async with database.write() as connection:
        await rows.end(connection, owed, status)

    answer = await _retry(database, owed.key)

    assert answer == Retry(answer="ended")
    assert await _outbox(database) == []


async def test_what_was_never_owed_is_unknown(database: Database) -> None:
    """So is another tenant's delivery, which stays as it is."""
    owed = _owed(1)
    async with database.write() as connection:
        await rows.end(connection, owed, "dead", reason="gone")

    answers = await _retry(database, _owed(2).key), await _retry(database, owed.key, tenant_id=STRANGER)

    assert answers == (Retry(answer="unknown"), Retry(answer="unknown"))
    assert await _count(database, dead_letter) == 1


@pytest.mark.parametrize("table", [endpoint, subscription])
@pytest.mark.parametrize("status", ["pending", "dead"])
async def test_nothing_is_owed_anew_to_what_was_deleted(database: Database, table: Any, status: str) -> None:
    """Without its endpoint or subscription a delivery stays as it is."""
    owed = _owed(1)
    async with database.write() as connection:
        if status == "pending":
            await rows.add_owed(connection, owed)
        else:
            await rows.end(connection, owed, "dead", reason="gone")
        await connection.execute(update(table).values(deleted_at=now()))

    answer = await _retry(database, owed.key)

    assert answer == Retry(answer="unsubscribed")
    assert await _count(database, dead_letter) == (status == "dead")
    assert all(not row.is_due for row in await _outbox(database))
    assert await _count(database, attempt, attempt.c.ended == "dead") == (status == "dead")


async def test_the_quarantine_is_listed_newest_first(database: Database) -> None:
    """By when it first came: coming again moves nothing; bytes and counts come back as they were kept."""
    async with database.write() as connection:
        for number in range(5):
            await rows.add_quarantined(connection, number)
        await rows.add_quarantined(connection, 9, tenant_id=STRANGER)
        made = await rows.add_quarantined(
            connection, 0x10, first_seen_at=NOON, last_seen_at=NOON + SECOND * 99, seen=3, raw=b"\xff\x00"
        )

    async with database.read() as connection:
        first, place = await list_quarantine(connection, DEFAULT_TENANT, after=None, limit=3)
        rest, end = await list_quarantine(connection, DEFAULT_TENANT, after=place, limit=3)
        found = await get_quarantined(connection, DEFAULT_TENANT, made)
        foreign = await get_quarantined(connection, STRANGER, made)

    assert [each.id[-1] for each in (*first, *rest)] == [4, 3, 2, 1, 0x10, 0]
    assert end is None
    assert found is not None
    assert (found.raw, found.seen, found.last_seen_at) == (b"\xff\x00", 3, NOON + SECOND * 99)
    assert foreign is None


async def test_a_page_of_the_quarantine_holds_so_many_bytes(database: Database) -> None:
    """A page ends early where its bytes are too many, and holds at least one, however large."""
    async with database.write() as connection:
        for number, size in enumerate((4, 1, 3, 3, 9)):
            await rows.add_quarantined(connection, number, raw=b"x" * size)

    pages: list[list[int]] = []
    place = None
    async with database.read() as connection:
        while not pages or place is not None:
            page, place = await list_quarantine(connection, DEFAULT_TENANT, after=place, limit=3, most_bytes=6)
            pages.append([len(each.raw) for each in page])

    assert pages == [[9], [3, 3], [1, 4]]


@pytest.mark.parametrize("wanted", [DeliveryFilter(), DeliveryFilter(event_id=rows.event_id(1))])
async def test_lists_of_deliveries_walk_an_index(database: Database, wanted: DeliveryFilter) -> None:
    """A list looks at its page and what the filter names, never at a whole table."""
    after = Place(at=NOON, id=_owed(1).key)
    statements = [
        list_statement(DEFAULT_TENANT, wanted=wanted, after=after, limit=50),
        detail_statement(DEFAULT_TENANT, _owed(1).key),
    ]

    plans = [await _plan(database, statement) for statement in statements]

    for plan in plans:
        assert not re.search(r"Seq Scan|SCAN (delivery|attempt)", plan), plan


def _owed(number: int, **fields: Any) -> Owed:
    return Owed(**{"event_id": rows.event_id(number), "created_at": NOON + SECOND * number, **fields})


async def _retry(database: Database, key: DeliveryKey, *, tenant_id: TenantId = DEFAULT_TENANT) -> Retry:
    async with database.write() as connection:
        return await retry(connection, tenant_id, key)


async def _outbox(database: Database) -> list[Any]:
    async with database.read() as connection:
        return list(await connection.execute(select(delivery, (delivery.c.due_at <= now()).label("is_due"))))


async def _count(database: Database, table: Any, *conditions: Any) -> int:
    async with database.read() as connection:
        counted: int = (
            await connection.execute(select(func.count()).select_from(table).where(*conditions))
        ).scalar_one()
        return counted


async def _plan(database: Database, statement: Any) -> str:
    async with database.read() as connection:
        explain = "EXPLAIN QUERY PLAN"
        if database.dialect == "postgresql":
            # On a few rows a scan is the cheapest way; the question is whether there is another.
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            explain = "EXPLAIN"
        compiled = statement.compile(dialect=connection.dialect)
        values = tuple(compiled.construct_params()[name] for name in compiled.positiontup)
        plan = await connection.exec_driver_sql(f"{explain} {compiled}", values)
        return "\n".join(str(row[-1]) for row in plan)
