"""What every PullSource promises, asked of each kind. What one kind's config may say is in tests/unit/sources."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.configuration import JSON, Source
from app.domain.errors import SourceError
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Message
from app.domain.ports import PullSource
from app.sources import KINDS, PullKind
from tests.bed.aws import Aws
from tests.bed.relay import relayed

TEXT = 'key "café" \u00fc \U0001f4e6 + %2F\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place that holds messages, apart from the source that reads it."""

    kind: str
    config: Mapping[str, JSON]
    send: Callable[[str], Awaitable[str]]
    count: Callable[[], Awaitable[int]]
    polled: asyncio.Event
    absent: Mapping[str, JSON]
    unreachable: Mapping[str, JSON]

    def open(self, changes: Mapping[str, JSON] | None = None) -> PullSource:
        """Open a source that reads the place, with its config changed."""
        now = datetime.now(UTC)
        source = Source(
            id=SourceId(bytes(16)),
            tenant_id=DEFAULT_TENANT,
            name="tested",
            kind=self.kind,
            config={**self.config, **(changes or {})},
            created_at=now,
            updated_at=now,
        )
        kind = KINDS[self.kind]
        assert isinstance(kind, PullKind)
        return kind.open(source)


@pytest.fixture(params=["sqs"])
async def place(request: pytest.FixtureRequest, aws: Aws) -> AsyncIterator[Place]:
    """Make an empty place of each kind."""
    makers = {"sqs": _queue}
    async with makers[request.param](aws) as made:
        yield made


@asynccontextmanager
async def _queue(aws: Aws) -> AsyncIterator[Place]:
    """Make a queue, reached over a relay that tells when a poll comes by."""
    url = await aws.create_queue(visibility_seconds=30)
    polled = asyncio.Event()

    async def count() -> int:
        depth = await aws.depth(url)
        return depth.visible + depth.in_flight

    async with relayed(aws.endpoint_url, seen=lambda data: polled.set() if b"ReceiveMessage" in data else None) as to:
        yield Place(
            kind="sqs",
            config={
                "queue_url": url,
                "region": aws.region,
                "endpoint_url": to,
                "wait_seconds": 1,
                "visibility_seconds": 2,
            },
            send=lambda body: aws.send(url, body),
            count=count,
            polled=polled,
            absent={"queue_url": f"{url}-that-is-not-there"},
            unreachable={"endpoint_url": "http://127.0.0.1:9"},
        )


@pytest.fixture
async def source(place: Place) -> AsyncIterator[PullSource]:
    """Open the place."""
    opened = place.open()
    yield opened
    await opened.aclose()


async def _received(source: PullSource, wanted: int = 1) -> list[Message]:
    """Receive until that many have come; the places may take several polls for it."""
    messages: list[Message] = []
    async with asyncio.timeout(20):
        while len(messages) < wanted:
            messages.extend(await source.receive())
    return messages


async def test_an_empty_place_gives_no_messages(source: PullSource) -> None:
    """None is a normal answer."""
    assert list(await source.receive()) == []


async def test_a_body_comes_as_it_was_sent(place: Place, source: PullSource) -> None:
    """The body's bytes are those that were sent, in UTF-8; the message has an id and a receipt."""
    message_id = await place.send(TEXT)

    [message] = await _received(source)

    assert message.body == TEXT.encode()
    assert message.message_id == message_id
    assert message.receipt


async def test_an_acknowledged_message_is_gone(place: Place, source: PullSource) -> None:
    """More than ten are acknowledged in one call, and the place is empty then."""
    for number in range(12):
        await place.send(f"message {number}")
    messages = await _received(source, 12)

    left = await source.ack(messages)

    assert list(left) == []
    assert await place.count() == 0


async def test_a_message_not_acknowledged_comes_again(place: Place, source: PullSource) -> None:
    """After the visibility span the same message is handed out again."""
    await place.send("again")
    [first] = await _received(source)

    hidden = await source.receive()
    [second] = await _received(source)

    assert list(hidden) == []
    assert second.message_id == first.message_id


async def test_an_extended_message_stays_hidden(place: Place, source: PullSource) -> None:
    """Extending again and again keeps a message from others beyond its first span, and it can still be acked."""
    await place.send("slow")
    messages = await _received(source)
    other = place.open()

    seen: list[Message] = []
    for _ in range(3):  # each poll waits for a second: together longer than the span of two
        await source.extend(messages)
        seen.extend(await other.receive())
    left = await source.ack(messages)
    await other.aclose()

    assert seen == []
    assert list(left) == []
    assert await place.count() == 0


async def test_a_message_that_is_not_forgotten_is_given_back(place: Place, source: PullSource) -> None:
    """Of a batch with a receipt that the place refuses, that one comes back and the others are gone."""
    for number in range(2):
        await place.send(f"message {number}")
    good, other = await _received(source, 2)
    bad = replace(other, receipt="no-receipt-of-this-place")

    left = await source.ack([good, bad])

    assert list(left) == [bad]
    assert await place.count() == 1


async def test_extending_what_is_gone_is_no_error(place: Place, source: PullSource) -> None:
    """A message acknowledged meanwhile may still be extended: the two may cross."""
    await place.send("gone")
    messages = await _received(source)
    await source.ack(messages)

    await source.extend(messages)

    assert await place.count() == 0


async def test_nothing_to_do_is_no_call(place: Place) -> None:
    """Acknowledging or extending no messages needs no place that answers."""
    source = place.open(place.unreachable)

    assert list(await source.ack([])) == []
    await source.extend([])
    await source.aclose()


async def test_an_absent_place_is_a_source_error(place: Place) -> None:
    """What the place says is in the error, in one line."""
    source = place.open(place.absent)

    with pytest.raises(SourceError, match=r"^[\w.]+: .*does not exist") as caught:
        await source.receive()

    assert "\n" not in str(caught.value)
    await source.aclose()


@pytest.mark.parametrize("call", ["receive", "ack", "extend", "measure"])
async def test_an_unreachable_place_is_a_source_error(place: Place, call: str) -> None:
    """Each call says which address could not be reached."""
    source = place.open(place.unreachable)
    message = Message(body=b"", receipt="r", message_id="m")
    calls: Mapping[str, Callable[[], Awaitable[object]]] = {
        "receive": source.receive,
        "ack": lambda: source.ack([message]),
        "extend": lambda: source.extend([message]),
        "measure": source.measure,
    }

    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        await calls[call]()

    await source.aclose()


async def test_acknowledging_does_not_wait_for_a_poll(place: Place) -> None:
    """While a poll is under way a message is extended and acknowledged, and the poll is still waiting then."""
    source = place.open({"wait_seconds": 3})
    await place.send("first")
    messages = await _received(source)
    place.polled.clear()
    poll = asyncio.create_task(source.receive())
    await place.polled.wait()

    await source.extend(messages)
    left = await source.ack(messages)

    assert list(left) == []
    assert not poll.done()
    assert list(await poll) == []
    await source.aclose()


async def test_closing_ends_a_poll_under_way(place: Place) -> None:
    """A poll that is waiting when the source is closed ends with SourceError, as does every later call."""
    source = place.open({"wait_seconds": 3})
    poll = asyncio.create_task(source.receive())
    await place.polled.wait()

    await source.aclose()

    with pytest.raises(SourceError):
        await poll
    with pytest.raises(SourceError, match="closed"):
        await source.receive()


async def test_closing_before_the_first_answer_leaves_nothing_open(place: Place) -> None:
    """A source that is closed while it connects ends its call with SourceError."""
    source = place.open()
    poll = asyncio.create_task(source.receive())
    await asyncio.sleep(0)

    await source.aclose()

    with pytest.raises(SourceError, match="closed"):
        await poll


async def test_a_cancelled_poll_loses_nothing(place: Place, source: PullSource) -> None:
    """What is sent after a poll was cancelled is received, at the latest when its visibility ends."""
    poll = asyncio.create_task(source.receive())
    await place.polled.wait()
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)

    await place.send("kept")
    [message] = await _received(source)

    assert message.body == b"kept"


async def test_what_waits_is_counted(place: Place, source: PullSource) -> None:
    """What may be received, what was received and is hidden, and how old the oldest of these is."""
    for number in range(3):
        await place.send(f"message {number}")
    [first, *_] = await _received(source, 3)
    await source.ack([first])
    await place.send("waiting")

    measure = await source.measure()

    assert (measure.depth, measure.in_flight, measure.delayed) == (1, 2, 0)
    assert measure.oldest_seconds is not None
    assert measure.oldest_seconds >= 0


async def test_nothing_is_as_old_as_nothing(place: Place, source: PullSource) -> None:
    """An empty place has no age; one where something waits that was not received has an unknown one."""
    empty = await source.measure()
    await place.send("waiting")
    waiting = await source.measure()

    assert (empty.depth, empty.oldest_seconds) == (0, 0.0)
    assert (waiting.depth, waiting.oldest_seconds) == (1, None)


async def test_a_message_says_when_it_was_sent(place: Place, source: PullSource) -> None:
    """By the place's clock, which here is ours."""
    before = datetime.now(UTC)
    await place.send("dated")

    [message] = await _received(source)

    assert message.sent_at is not None
    assert before - timedelta(seconds=1) <= message.sent_at <= datetime.now(UTC) + timedelta(seconds=1)


async def test_as_many_polls_as_allowed_may_be_under_way(place: Place) -> None:
    """They do not wait for one another, and each message goes to one of them."""
    source = place.open({"pollers": 4, "wait_seconds": 2})
    for number in range(8):
        await place.send(f"message {number}")

    polls = await asyncio.gather(*(source.receive() for _ in range(source.max_polls)))
    await source.aclose()

    ids = [each.message_id for messages in polls for each in messages]
    assert len(set(ids)) == len(ids) == 8
