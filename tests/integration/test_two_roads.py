"""10,000 changes by every road, all copies in random order, into both databases: each is one event, and owed once."""

import asyncio
import copy
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from app.decode import decode
from app.domain.configuration import Filter, Source
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Message
from app.ingest.recorder import Recorder
from app.store.database import Database
from app.store.migrate import migrate
from app.store.partitions import make_days
from tests.bed import s3_messages
from tests.bed.stored import Stored
from tests.bed.twins import eventbridge_twin

CHANGES: Final = 10_000
POLLERS: Final = 8
POLLED_AT_ONCE: Final = 10
NOW: Final = datetime.now(UTC).replace(microsecond=0)

Record = dict[str, Any]


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[Stored]:
    """Open a migrated database."""
    database = Database(database_url)
    try:
        await migrate(database)
        await database.write_again(make_days)
        yield Stored(database)
    finally:
        await database.aclose()


async def test_each_change_is_one_event_and_owed_once_by_whatever_road(stored: Stored) -> None:
    """By two queues, SNS, EventBridge and two rules, alone or ten to a message, and out of a dead-letter queue."""
    chance = random.Random(4)  # noqa: S311 -- no secret
    endpoint_id = await stored.add_endpoint()
    to_all = await stored.add_subscription(endpoint_id)
    to_some = await stored.add_subscription(endpoint_id, wanted=Filter(key_prefix="key 1"))
    changes = list(_changes(chance))
    roads = _roads(changes, chance)

    await _record(stored, roads)

    rows = await stored.rows("event")
    assert len(changes) == len(rows) == CHANGES
    assert Counter(map(_who_row, rows)) == Counter(map(_who, changes))
    wanted = {(row.id, to_all) for row in rows} | {(row.id, to_some) for row in rows if row.key.startswith(b"key 1")}
    deliveries = [(row.event_id, row.subscription_id) for row in await stored.rows("delivery")]
    assert len(deliveries) == len(wanted) > CHANGES
    assert set(deliveries) == wanted
    assert await stored.count("quarantine") == 0


def _changes(chance: random.Random) -> Iterator[Record]:
    """Make changes that are hard to tell apart: few keys, shared requests, constant, short or absent sequencers."""
    yield from (_change(chance) for _ in range(7_000))
    for _ in range(100):
        yield from _deleted_together(10)
    yield from (_record_of("constant", sequencer="0055AED6DCD90281E5") for _ in range(500))
    yield from (_without(_record_of("tags", name="ObjectTagging:Put"), "sequencer") for _ in range(500))
    for number in range(500):
        later = NOW + timedelta(milliseconds=number)
        yield _without(_without(_record_of("moto", time=later), "sequencer"), "x-amz-request-id")
    yield from (_without(_record_of("counted", sequencer=f"{n:X}"), "x-amz-request-id") for n in range(1, 501))


def _change(chance: random.Random) -> Record:
    name = chance.choice(["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete"])
    return _record_of(
        f"key {chance.randrange(500)}",
        name=name,
        time=NOW - timedelta(seconds=chance.randrange(3600), milliseconds=chance.randrange(1000)),
        version_id=chance.choice([None, secrets.token_hex(8)]),
        size=None if name == "ObjectRemoved:Delete" else 1024,
    )


def _deleted_together(count: int) -> Iterator[Record]:
    request_id, sequencer = secrets.token_hex(8).upper(), s3_messages.new_sequencer(NOW)
    for number in range(count):
        yield _record_of(
            f"key {number}", name="ObjectRemoved:Delete", request_id=request_id, sequencer=sequencer, size=None
        )


def _record_of(key: str, *, name: str = "ObjectCreated:Put", time: datetime = NOW, **fields: Any) -> Record:
    return s3_messages.record("photos", key, event_name=name, time=time, **fields)


def _without(record: Record, name: str) -> Record:
    record["s3"]["object"].pop(name, None)
    record["responseElements"].pop(name, None)
    return record


def _roads(changes: Sequence[Record], chance: random.Random) -> tuple[list[str], list[str]]:
    """Give the bodies in each of two queues, in random order."""
    first = [s3_messages.message(*group) for group in _grouped(changes, chance)]
    redriven = chance.sample(first, len(first) // 2)
    second_rule = [copy.deepcopy(each) for each in changes]
    for each in second_rule:
        each["s3"]["configurationId"] = "another rule"
    wrapped = [s3_messages.sns_wrapped(s3_messages.message(*group)) for group in _grouped(second_rule, chance)]
    twins = [eventbridge_twin(each) for each in changes if _has_twin(each)]
    twins += chance.sample(twins, len(twins) // 10)  # two rules of EventBridge
    queues = (first + redriven, wrapped + twins)
    for queue in queues:
        chance.shuffle(queue)
    return queues


def _grouped(records: Sequence[Record], chance: random.Random) -> Iterator[list[Record]]:
    shuffled = chance.sample(records, len(records))
    while shuffled:
        size = chance.choice([1, 1, 2, 10])
        group, shuffled = shuffled[:size], shuffled[size:]
        yield group


def _has_twin(record: Record) -> bool:
    """Tell whether EventBridge tells of it with a sequencer, and its request is known."""
    return len(record["s3"]["object"].get("sequencer", "")) > 16


async def _record(stored: Stored, queues: tuple[list[str], list[str]]) -> None:
    """Hand the bodies to a recorder as pollers do."""
    recorder = Recorder(store=stored.store, decode=decode, wake=lambda _: None)
    stop = asyncio.Event()
    running = asyncio.create_task(recorder.run(stop))
    async with asyncio.TaskGroup() as pollers:
        for number, queue in enumerate(queues, start=1):
            for poller in range(POLLERS):
                pollers.create_task(_poll(recorder, _source(number), queue[poller::POLLERS]))
    stop.set()
    await running


async def _poll(recorder: Recorder, source: Source, bodies: Sequence[str]) -> None:
    for start in range(0, len(bodies), POLLED_AT_ONCE):
        slice_ = bodies[start : start + POLLED_AT_ONCE]
        await recorder.record(
            source, [Message(body=body.encode(), receipt="r", message_id=secrets.token_hex(8)) for body in slice_]
        )


def _source(number: int) -> Source:
    return Source(
        id=SourceId(bytes([number]) * 16),
        tenant_id=DEFAULT_TENANT,
        name=f"queue {number}",
        kind="sqs",
        config={},
        created_at=NOW,
        updated_at=NOW,
    )


def _who(record: Record) -> tuple[Any, ...]:
    """Say which change a record tells of, by what each of the ways to make them varies."""
    thing = record["s3"]["object"]
    request_id = record["responseElements"].get("x-amz-request-id")
    sequencer = thing.get("sequencer")
    time = None if sequencer else datetime.fromisoformat(record["eventTime"])
    return (
        thing["key"].replace("+", " ").encode(),
        f"s3:{record['eventName']}",
        thing.get("versionId"),
        request_id,
        _digits(sequencer),
        time,
    )


def _who_row(row: Any) -> tuple[Any, ...]:
    time = None if row.sequencer else row.time
    return row.key, row.type, row.version_id, row.request_id, _digits(row.sequencer), time


def _digits(sequencer: str | None) -> str | None:
    return sequencer and sequencer.upper().lstrip("0")
