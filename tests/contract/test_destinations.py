"""What every destination promises, whatever its kind. A new kind adds one Side to SIDES."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

import pytest

from app.destinations import KINDS
from app.destinations.formats import http_message, kafka_message
from app.domain.configuration import JSON, Endpoint, Format
from app.domain.delivery import Owed
from app.domain.ports import Destination
from tests.bed.clocks import machine_time
from tests.bed.kafka import Kafka
from tests.bed.kafka_journal import KafkaJournal
from tests.bed.ports import free_port
from tests.bed.receiver import Receiver
from tests.unit.destinations.raw_receiver import Connection, RawReceiver
from tests.unit.destinations.values import make_endpoint, make_owed

SIDES = ("webhook", "kafka")
FORMATS: tuple[Format, ...] = ("standard", "s3", "cloudevents", "cloudevents-binary")
SHORT_SECONDS = 0.5
# A destination may overstep its limit by what giving up a connection takes, and no more.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One delivery as the other side has it."""

    idempotency_key: str
    content_type: str
    body: bytes


class Side(Protocol):
    """The other side of a kind of destination."""

    def config(self) -> dict[str, JSON]:
        """Where it takes deliveries."""

    def config_at(self, host: str, port: int) -> dict[str, JSON]:
        """Where it would be, were it there."""

    def written(self, owed: Owed) -> Arrived:
        """Tell how a delivery is to arrive."""

    async def arrived(self, count: int) -> Sequence[Arrived]:
        """Wait for that many deliveries, and give them in order of arrival."""


class WebhookSide:
    """A receiver in this process."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def config(self) -> dict[str, JSON]:
        """Where it takes deliveries."""
        return {"url": self._receiver.url()}

    def config_at(self, host: str, port: int) -> dict[str, JSON]:
        """Where it would be, were it there."""
        return {"url": f"http://{host}:{port}/"}

    def written(self, owed: Owed) -> Arrived:
        """Tell how a delivery is to arrive."""
        message = http_message(owed)
        return Arrived(
            idempotency_key=owed.idempotency_key, content_type=message.headers["Content-Type"], body=message.body
        )

    async def arrived(self, count: int) -> Sequence[Arrived]:
        """Wait for that many deliveries, and give them in order of arrival."""
        return [
            Arrived(
                idempotency_key=request.header("Idempotency-Key"),
                content_type=request.header("Content-Type"),
                body=request.body,
            )
            for request in await self._receiver.wait_for(count)
        ]


class KafkaSide:
    """A topic of its own on a real broker."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic

    def config(self) -> dict[str, JSON]:
        """Where it takes deliveries."""
        return {"bootstrap_servers": self._kafka.bootstrap_servers, "topic": self._topic}

    def config_at(self, host: str, port: int) -> dict[str, JSON]:
        """Where it would be, were it there."""
        return {"bootstrap_servers": f"{host}:{port}", "topic": self._topic}

    def written(self, owed: Owed) -> Arrived:
        """Tell how a delivery is to arrive."""
        message = kafka_message(owed)
        content_type = dict(message.headers)["content-type"].decode()
        return Arrived(idempotency_key=owed.idempotency_key, content_type=content_type, body=message.value)

    async def arrived(self, count: int) -> Sequence[Arrived]:
        """Wait for that many deliveries, and give them in order of arrival."""
        async with KafkaJournal(self._kafka.bootstrap_servers, [self._topic]) as journal:
            records = await journal.wait_for(count)
        return [
            Arrived(
                idempotency_key=record.header("idempotency-key"),
                content_type=record.header("content-type"),
                body=record.value or b"",
            )
            for record in records
        ]


@pytest.fixture
async def webhook_side(receiver: Receiver) -> Side:
    """Give a receiver."""
    return WebhookSide(receiver)


@pytest.fixture
async def kafka_side(kafka: Kafka) -> Side:
    """Give a topic."""
    return KafkaSide(kafka, await kafka.create_topic())


@pytest.fixture(params=SIDES)
def kind(request: pytest.FixtureRequest) -> str:
    """Run the test once for each kind."""
    return str(request.param)


@pytest.fixture
def side(request: pytest.FixtureRequest, kind: str) -> Side:
    """Give the other side of the kind."""
    given: Side = request.getfixturevalue(f"{kind}_side")
    return given


@pytest.fixture
async def destination(kind: str) -> AsyncIterator[Destination]:
    """Give the destination of the kind, which may go to this machine."""
    opened = KINDS[kind].open(allow_cidrs=(IPv4Network("127.0.0.0/8"),), version="0.0.0", now=machine_time)
    yield opened
    await asyncio.wait_for(opened.aclose(), CLOSE_SECONDS)


def endpoint_of(kind: str, config: dict[str, JSON], *, timeout_seconds: float = 10.0) -> Endpoint:
    """Give an endpoint, its config validated as the API does."""
    context = {"allow_cidrs": (IPv4Network("127.0.0.0/8"),)}
    kept = KINDS[kind].config.model_validate(config, context=context).model_dump()
    return make_endpoint(kind, kept, timeout_seconds=timeout_seconds)


async def _say_nothing(connection: Connection) -> None:
    await connection.wait_for_hang_up()


def test_every_kind_is_held_to_this() -> None:
    """The registry has no kind that these tests leave out."""
    assert set(KINDS) == set(SIDES)


async def test_each_of_a_batch_arrives_and_has_its_outcome(kind: str, destination: Destination, side: Side) -> None:
    """Delivered, in the order of the batch, with the one key and the bytes of its format."""
    batch = [make_owed(number, form=FORMATS[number % 4]) for number in range(20)]

    outcomes = await destination.send(endpoint_of(kind, side.config()), batch)

    assert [outcome.kind for outcome in outcomes] == ["delivered"] * 20
    assert all(0 <= outcome.latency_seconds < 10 for outcome in outcomes)
    arrived = await side.arrived(20)
    assert {each.idempotency_key: each for each in arrived} == {
        owed.idempotency_key: side.written(owed) for owed in batch
    }
    assert len(arrived) == 20


async def test_an_empty_batch_is_well(kind: str, destination: Destination, side: Side) -> None:
    """There is nothing to do and nothing to tell."""
    assert list(await destination.send(endpoint_of(kind, side.config()), [])) == []
    assert destination.batch_limit >= 1


async def test_what_cannot_be_written_holds_nothing_up(kind: str, destination: Destination, side: Side) -> None:
    """It is unsendable, with a sentence; its neighbours are delivered."""
    bad = make_owed(2, form="cloudevents-binary", bucket="\ud800")

    outcomes = await destination.send(endpoint_of(kind, side.config()), [make_owed(1), bad, make_owed(3)])

    assert [outcome.kind for outcome in outcomes] == ["delivered", "unsendable", "delivered"]
    assert outcomes[1].error
    keys = {each.idempotency_key for each in await side.arrived(2)}
    assert keys == {make_owed(1).idempotency_key, make_owed(3).idempotency_key}


async def test_nobody_there_is_unreachable(kind: str, destination: Destination, side: Side) -> None:
    """For each of the batch, with a sentence."""
    endpoint = endpoint_of(kind, side.config_at("127.0.0.1", free_port()))

    outcomes = await destination.send(endpoint, [make_owed(1), make_owed(2)])

    assert [outcome.kind for outcome in outcomes] == ["unreachable"] * 2
    assert all(outcome.error for outcome in outcomes)


async def test_a_silent_side_is_timed_out(kind: str, destination: Destination, side: Side) -> None:
    """After the endpoint's own limit."""
    async with RawReceiver(_say_nothing) as silent:
        endpoint = endpoint_of(kind, side.config_at("127.0.0.1", silent.port), timeout_seconds=SHORT_SECONDS)
        sending = destination.send(endpoint, [make_owed(1), make_owed(2)])
        outcomes = await asyncio.wait_for(sending, SHORT_SECONDS + CLOSE_SECONDS)

    assert [outcome.kind for outcome in outcomes] == ["timed_out"] * 2
    assert all(outcome.error and "0.5 s" in outcome.error for outcome in outcomes)


async def test_a_metadata_service_is_refused(kind: str, destination: Destination, side: Side) -> None:
    """Should one have got past the look at the config, no connection is made to it."""
    endpoint = make_endpoint(kind, side.config_at("169.254.169.254", 8080))

    [outcome] = await destination.send(endpoint, [make_owed()])

    assert outcome.kind == "address_refused"
    assert outcome.error is not None
    assert "metadata" in outcome.error


async def test_a_cancelled_send_ends_at_once_and_can_be_done_again(
    kind: str, destination: Destination, side: Side
) -> None:
    """It leaves nothing behind that a later one waits for."""
    async with RawReceiver(_say_nothing) as silent:
        hanging = destination.send(endpoint_of(kind, side.config_at("127.0.0.1", silent.port)), [make_owed()])
        task = asyncio.ensure_future(asyncio.wait_for(hanging, 60))
        while silent.connections == 0:  # noqa: ASYNC110 -- turns of the loop until the server has accepted
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, CLOSE_SECONDS)

    [outcome] = await destination.send(endpoint_of(kind, side.config()), [make_owed()])

    assert task.cancelled()
    assert outcome.kind == "delivered"


async def test_closing_is_bounded_while_a_send_hangs(kind: str, destination: Destination, side: Side) -> None:
    """The send ends too, without an exception of the network's."""
    async with RawReceiver(_say_nothing) as silent:
        endpoint = endpoint_of(kind, side.config_at("127.0.0.1", silent.port), timeout_seconds=SHORT_SECONDS * 2)
        sending = asyncio.ensure_future(asyncio.gather(destination.send(endpoint, [make_owed()])))
        while silent.connections == 0:  # noqa: ASYNC110 -- turns of the loop until the server has accepted
            await asyncio.sleep(0)

        await asyncio.wait_for(destination.aclose(), CLOSE_SECONDS)
        [[outcome]] = await asyncio.wait_for(sending, CLOSE_SECONDS)

    assert outcome.kind in ("unreachable", "timed_out")
