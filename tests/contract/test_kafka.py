"""What Kafka endpoints promise beyond the contract, against a real broker."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence

import pytest

from app.destinations.formats import kafka_message
from app.destinations.kafka import Kafka as KafkaDestination
from app.domain.configuration import Endpoint
from app.domain.outcome import Outcome
from tests.bed.clocks import machine_time
from tests.bed.kafka import EmbeddedKafka, Kafka
from tests.bed.kafka_journal import KafkaJournal, KafkaRecord
from tests.unit.destinations.values import make_endpoint, make_owed

CLOSE_SECONDS = 5.0


@pytest.fixture
async def destination() -> AsyncIterator[KafkaDestination]:
    """Give a destination; closing it is bounded whatever the broker does."""
    opened = KafkaDestination.open(allow_cidrs=(), version="0.0.0", now=machine_time)
    yield opened
    await asyncio.wait_for(opened.aclose(), CLOSE_SECONDS)


def endpoint_of(kafka: Kafka, topic: str, *, timeout_seconds: float = 10.0) -> Endpoint:
    """Give an endpoint for a topic."""
    config = {"bootstrap_servers": kafka.bootstrap_servers, "topic": topic}
    return make_endpoint("kafka", config, timeout_seconds=timeout_seconds)


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """Give the kinds of outcomes."""
    return [outcome.kind for outcome in outcomes]


async def records(kafka: Kafka, topic: str, count: int) -> Sequence[KafkaRecord]:
    """Read a topic until it has that many records."""
    async with KafkaJournal(kafka.bootstrap_servers, [topic]) as journal:
        return await journal.wait_for(count)


async def test_a_record_arrives_as_it_was_written(kafka: Kafka, destination: KafkaDestination) -> None:
    """Key, value and headers, byte for byte and in order."""
    topic = await kafka.create_topic()
    owed = make_owed(form="cloudevents-binary", key=b"caf\xc3\xa9/\xff")

    outcomes = await destination.send(endpoint_of(kafka, topic), [owed])

    message = kafka_message(owed)
    [record] = await records(kafka, topic, 1)
    assert kinds(outcomes) == ["delivered"]
    assert (record.key, record.value, record.headers) == (message.key, message.value, message.headers)


async def test_deliveries_of_one_object_go_to_one_partition(kafka: Kafka, destination: KafkaDestination) -> None:
    """By their record key, in the order of the batch."""
    topic = await kafka.create_topic(partitions=4)
    batch = [make_owed(number, key=b"object-%d" % (number % 7)) for number in range(200)]

    outcomes = await destination.send(endpoint_of(kafka, topic), batch)

    assert kinds(outcomes) == ["delivered"] * 200
    arrived = await records(kafka, topic, 200)
    for key in {record.key for record in arrived}:
        of_key = [record for record in arrived if record.key == key]
        assert len({record.partition for record in of_key}) == 1
        assert [record.header("idempotency-key") for record in of_key] == [
            owed.idempotency_key for owed in batch if kafka_message(owed).key == key
        ]


async def test_a_missing_topic_is_named_and_holds_up_no_other(kafka: Kafka, destination: KafkaDestination) -> None:
    """It is not made; one that is there is served meanwhile; when it comes it is served too."""
    topic = await kafka.create_topic()
    missing = f"{topic}-missing"

    without, other = await asyncio.gather(
        destination.send(endpoint_of(kafka, missing), [make_owed(1), make_owed(2)]),
        destination.send(endpoint_of(kafka, topic), [make_owed(3)]),
    )
    await kafka.create_topic(missing)
    after = await destination.send(endpoint_of(kafka, missing), [make_owed(1)])

    assert (kinds(without), kinds(other), kinds(after)) == (["topic_missing"] * 2, ["delivered"], ["delivered"])
    assert without[0].error == f"The topic {missing} does not exist."


async def test_a_topic_deleted_while_in_use_is_missing(kafka: Kafka, destination: KafkaDestination) -> None:
    """Though the producer has known it."""
    topic = await kafka.create_topic()
    await destination.send(endpoint_of(kafka, topic), [make_owed(1)])
    await kafka.delete_topic(topic)

    outcomes = await destination.send(endpoint_of(kafka, topic), [make_owed(2)])

    assert kinds(outcomes) == ["topic_missing"]


@pytest.mark.parametrize("size", [2_000, 5_000_000])
async def test_a_record_too_large_holds_up_no_other(kafka: Kafka, destination: KafkaDestination, size: int) -> None:
    """One that the topic does not take lies between good ones, which arrive once, and so do those after it."""
    topic = await kafka.create_topic(config={"max.message.bytes": "1500"} if size < 10_000 else {})
    large = make_owed(2, form="s3", record=b'"' + b"x" * size + b'"')
    small = [make_owed(number, form="s3", record=b"{}") for number in (1, 3, 4, 5)]
    endpoint = endpoint_of(kafka, topic)

    first = await destination.send(endpoint, [small[0], large, *small[1:3]])
    second = await destination.send(endpoint, [small[3]])
    alone = await destination.send(endpoint, [large])

    assert kinds(first) == ["delivered", "too_large", "delivered", "delivered"]
    assert (kinds(second), kinds(alone)) == (["delivered"], ["too_large"])
    assert first[1].error == "The broker answered MESSAGE_SIZE_TOO_LARGE."
    arrived = await records(kafka, topic, 4)
    assert sorted(record.header("idempotency-key") for record in arrived) == [owed.idempotency_key for owed in small]


async def test_a_batch_larger_than_the_topic_takes_arrives_one_by_one(
    kafka: Kafka, destination: KafkaDestination
) -> None:
    """Each record is small enough, only all together are not."""
    topic = await kafka.create_topic(config={"max.message.bytes": "3000"})
    batch = [make_owed(number) for number in range(10)]

    outcomes = await destination.send(endpoint_of(kafka, topic), batch)

    assert kinds(outcomes) == ["delivered"] * 10
    assert len(await records(kafka, topic, 10)) == 10


async def test_batches_in_flight_do_not_touch_one_another(kafka: Kafka, destination: KafkaDestination) -> None:
    """Many at a time to one topic, with one that is refused among them: each record arrives once."""
    topic = await kafka.create_topic()
    endpoint = endpoint_of(kafka, topic)
    large = make_owed(999, form="s3", record=b'"' + b"x" * 2_000_000 + b'"')
    batches = [[make_owed(number * 10 + each) for each in range(10)] for number in range(8)]

    outcomes = await asyncio.gather(
        *(destination.send(endpoint, batch) for batch in batches), destination.send(endpoint, [large])
    )

    assert [kinds(each) for each in outcomes] == [["delivered"] * 10] * 8 + [["too_large"]]
    arrived = await records(kafka, topic, 80)
    assert len({record.header("idempotency-key") for record in arrived}) == len(arrived) == 80


async def test_a_broker_that_goes_and_comes_back(own_kafka: EmbeddedKafka, destination: KafkaDestination) -> None:
    """While it is away each try ends within its limit; then all is delivered again, and nothing twice."""
    topic = await own_kafka.create_topic()
    endpoint = endpoint_of(own_kafka, topic, timeout_seconds=1.5)
    before = await destination.send(endpoint, [make_owed(1)])

    await own_kafka.stop()
    surprised = await asyncio.wait_for(destination.send(endpoint, [make_owed(2)]), 1.5 + CLOSE_SECONDS)
    away = await asyncio.wait_for(destination.send(endpoint, [make_owed(3)]), 1.5 + CLOSE_SECONDS)
    await own_kafka.start()
    back = await destination.send(endpoint_of(own_kafka, topic), [make_owed(2), make_owed(3)])

    assert (kinds(before), kinds(surprised), kinds(away)) == (["delivered"], ["timed_out"], ["unreachable"])
    assert kinds(back) == ["delivered"] * 2
    arrived = await records(own_kafka, topic, 3)
    assert [record.header("idempotency-key") for record in arrived] == [
        make_owed(number).idempotency_key for number in (1, 2, 3)
    ]


async def test_a_frozen_broker_costs_no_more_than_the_limit(
    own_kafka: EmbeddedKafka, destination: KafkaDestination
) -> None:
    """With a connection that is open already, and with one that is new; thawed, it is served again."""
    topic = await own_kafka.create_topic()
    endpoint = endpoint_of(own_kafka, topic, timeout_seconds=1.0)
    await destination.send(endpoint, [make_owed(1)])

    own_kafka.process.send(signal.SIGSTOP)
    try:
        frozen = [
            await asyncio.wait_for(destination.send(endpoint, [make_owed(2)]), 1.0 + CLOSE_SECONDS) for _ in range(2)
        ]
    finally:
        own_kafka.process.send(signal.SIGCONT)
    thawed = await destination.send(endpoint_of(own_kafka, topic), [make_owed(2)])

    assert [kinds(each) for each in (*frozen, thawed)] == [["timed_out"], ["timed_out"], ["delivered"]]


async def test_closing_is_bounded_while_the_broker_is_down(own_kafka: EmbeddedKafka) -> None:
    """Idle producers and one at work are given up, and no task of theirs is left."""
    topic = await own_kafka.create_topic()
    opened = KafkaDestination.open(allow_cidrs=(), version="0.0.0", now=machine_time)
    tasks = asyncio.all_tasks()
    endpoint = endpoint_of(own_kafka, topic)
    await asyncio.gather(*(opened.send(endpoint, [make_owed(number)]) for number in range(3)))
    await own_kafka.stop()
    hanging = asyncio.ensure_future(asyncio.gather(opened.send(endpoint, [make_owed(9)])))
    await asyncio.sleep(0)

    await asyncio.wait_for(opened.aclose(), CLOSE_SECONDS)
    [[outcome]] = await asyncio.wait_for(hanging, CLOSE_SECONDS)

    assert outcome.kind in ("timed_out", "unreachable")
    assert {task.get_name() for task in asyncio.all_tasks() - tasks} == set()
