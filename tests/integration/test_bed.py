"""The test bed does what the tests rely on. What the gateway does is not here."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from standardwebhooks.webhooks import Webhook

from tests.bed import s3_messages
from tests.bed.aws import Aws, QueueDepth
from tests.bed.gateway import Gateway
from tests.bed.kafka import EmbeddedKafka, Kafka
from tests.bed.kafka_journal import KafkaJournal
from tests.bed.postgres import Databases, EmbeddedPostgres, StopMode
from tests.bed.process import BedError
from tests.bed.receiver import Answer, Received, Receiver
from tests.bed.receiver_process import ReceiverProcess, read_journal

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_a_database_can_be_made_and_dropped(postgres: Databases) -> None:
    """A database is there when made, keeps what is written, is copied from, and is gone when dropped."""
    url = await postgres.create()
    await _execute(url, "CREATE TABLE seen AS SELECT 7 AS number")
    copy = await postgres.create(template=url)

    numbers = [await _fetch(database, "SELECT number FROM seen") for database in (url, copy)]
    await postgres.drop(url)
    await postgres.drop(copy)

    assert numbers == [7, 7]
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await _fetch(url, "SELECT 1")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgres_keeps_its_url_and_data_over_a_restart(own_postgres: EmbeddedPostgres, mode: StopMode) -> None:
    """What was committed is there after a restart, under the same URL; while it is down nobody connects."""
    url = await own_postgres.databases.create()
    await _execute(url, "CREATE TABLE seen AS SELECT 7 AS number")

    await own_postgres.stop(mode)
    with pytest.raises(OSError, match=r"No such file|refused"):
        await _fetch(url, "SELECT 1")
    await own_postgres.start()

    assert await _fetch(url, "SELECT number FROM seen") == 7


async def test_records_go_through_kafka_in_order(kafka: Kafka) -> None:
    """The journal holds each record of a topic with its key, headers and value."""
    topic = await kafka.create_topic(config={"max.message.bytes": "2000000"})
    await _produce(kafka, topic, b"1", b"2", b"3")

    async with KafkaJournal(kafka.bootstrap_servers, [topic]) as journal:
        records = await journal.wait_for(3)

    assert [record.value for record in records] == [b"1", b"2", b"3"]
    assert [record.offset for record in records] == [0, 1, 2]
    assert (records[0].key, records[0].header("idempotency-key")) == (b"bucket/key", "abc")


async def test_kafka_keeps_its_records_over_a_restart(own_kafka: EmbeddedKafka) -> None:
    """A journal reads on after the broker was stopped, and after it was killed, each record once."""
    topic = await own_kafka.create_topic(partitions=2)
    await _produce(own_kafka, topic, b"before")

    async with KafkaJournal(own_kafka.bootstrap_servers, [topic]) as journal:
        await journal.wait_for(1)
        await own_kafka.restart()
        await _produce(own_kafka, topic, b"between")
        await journal.wait_for(2, within=30)
        await own_kafka.kill()
        await own_kafka.start()
        await _produce(own_kafka, topic, b"after")
        records = await journal.wait_for(3, within=30)

    assert [record.value for record in records] == [b"before", b"between", b"after"]


async def test_an_upload_arrives_on_a_queue_directly_and_through_sns(aws: Aws) -> None:
    """One put is told once to the queue, once wrapped and once raw through topics, after the test events."""
    direct, wrapped, raw = [await aws.create_queue() for _ in range(3)]
    topic = await aws.create_topic()
    await aws.subscribe(topic, wrapped)
    await aws.subscribe(topic, raw, raw=True)
    bucket = await aws.create_bucket(queue_url=direct, topic_arn=topic)

    await aws.put_object(bucket, "photos/ü 1+2.jpg")
    messages = [(await aws.take(queue, 2))[1] for queue in (direct, wrapped, raw)]

    texts = [messages[0], json.loads(messages[1])["Message"], messages[2]]
    assert [_key(text) for text in texts] == ["photos%2F%C3%BC+1%2B2.jpg"] * 3
    assert QueueDepth(visible=0, in_flight=0) == await aws.depth(direct)


async def test_a_received_message_is_in_flight(aws: Aws) -> None:
    """The depth of a queue tells what waits from what was received and not deleted."""
    queue = await aws.create_queue(visibility_seconds=60)
    await aws.send(queue, s3_messages.message_for("photos", "a.jpg"))
    await aws.send(queue, s3_messages.sns_wrapped(s3_messages.s3_test_event("photos")))

    await aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1)

    assert QueueDepth(visible=1, in_flight=1) == await aws.depth(queue)


async def test_the_receiver_tells_a_good_signature_from_a_bad_one(receiver: Receiver) -> None:
    """A right signature verifies; another body's, a malformed or a missing one do not."""
    receiver.verify("/hook", SECRET)
    right = _signed(b"body")
    async with aiohttp.ClientSession() as session:
        await session.post(receiver.url("/hook"), data=b"body", headers=right)
        await session.post(receiver.url("/hook"), data=b"other", headers=right)
        await session.post(receiver.url("/hook"), data=b"body", headers={**right, "webhook-signature": "x"})
        await session.post(receiver.url("/hook"), data=b"body")
        await session.post(receiver.url("/other"), data=b"body", headers=right)

    requests = await receiver.wait_for(5)

    assert [request.verified for request in requests] == [True, False, False, False, None]
    assert [request.number for request in requests] == [1, 2, 3, 4, 5]
    assert requests[1].body == b"other"
    assert requests[0].header("Webhook-Id") == "msg_1"


async def test_the_receiver_answers_as_told(receiver: Receiver) -> None:
    """Answers come in turn, then the last for ever; a function may decide; a connection may be hung up on."""
    receiver.answer("/turns", 503, Answer(status=429, headers={"Retry-After": "7"}, body=b"slow"), then=200)
    receiver.answer("/gone", Answer(hang_up=True))
    receiver.answer_with("/echo", _say_number)
    async with aiohttp.ClientSession() as session:
        turns = [await session.get(receiver.url("/turns")) for _ in range(4)]
        echo = await session.get(receiver.url("/echo?a=b"))
        other = await session.get(receiver.url())
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(receiver.url("/gone"), data=b"body")

    assert [answer.status for answer in turns] == [503, 429, 200, 200]
    assert (turns[1].headers["Retry-After"], echo.status, other.status) == ("7", 505, 204)
    assert [request.path for request in receiver.received("/gone")] == ["/gone"]


async def test_the_receiver_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    """What it hears reaches the test as it comes, and stands in the journal file afterwards."""
    journal = tmp_path / "journal"
    async with ReceiverProcess(journal, secrets={"/hook": SECRET}, answers={"/hook": [503, 200]}) as receiver:
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                await session.post(receiver.url("/hook"), data=b"body", headers=_signed(b"body"))
        requests = await receiver.wait_for(3)

    assert [request.verified for request in requests] == [True, True, True]
    assert list(requests) == read_journal(journal)


async def test_a_gateway_that_ends_at_once_says_why(make_gateway: Callable[..., Gateway]) -> None:
    """Waiting for a gateway that ended gives its exit status and output instead of running out of time."""
    gateway = make_gateway(env={"BUCKETPOST_NO_SUCH_SETTING": "1"})
    gateway.start()

    with pytest.raises(BedError, match="status"):
        await gateway.ready()


def test_a_made_record_decodes_to_what_went_in() -> None:
    """Keys are encoded as S3 does, and no two records share a sequencer or a request id."""
    first, second = (s3_messages.record("photos", "a b/ü+1.jpg") for _ in range(2))

    assert first["s3"]["object"]["key"] == "a+b/%C3%BC%2B1.jpg"
    assert len(first["s3"]["object"]["sequencer"]) == 18
    assert first["s3"]["object"]["sequencer"] < second["s3"]["object"]["sequencer"]
    assert first["responseElements"] != second["responseElements"]


async def test_credentials_for_moto_are_where_the_default_chain_looks(aws: Aws) -> None:
    """With the bed running, a client that is given no credentials finds moto's in the environment."""
    assert aws.env["AWS_ACCESS_KEY_ID"] == os.environ["AWS_ACCESS_KEY_ID"]


def _signed(body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = Webhook(SECRET).sign("msg_1", now, body.decode())
    timestamp = str(int(now.timestamp()))
    return {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": signature}


def _say_number(received: Received) -> Answer:
    return Answer(status=500 + received.number)


def _key(text: str) -> str:
    key: str = json.loads(text)["Records"][0]["s3"]["object"]["key"]
    return key


async def _produce(kafka: Kafka, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            headers = [("idempotency-key", b"abc")]
            await producer.send_and_wait(topic, value, key=b"bucket/key", headers=headers)
    finally:
        await producer.stop()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def _fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
