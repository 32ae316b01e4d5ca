"""`bucketpost serve` killed with -9 at random, twenty times under a steady load, loses nothing."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.kafka import Kafka
from tests.bed.kafka_journal import KafkaJournal
from tests.bed.process import until
from tests.bed.receiver_process import ReceiverProcess

KILLS = 20
BUCKET = "photos"
MESSAGES_A_SECOND = 6
LEASE_SECONDS = "1"


class Producer:
    """Sends messages at a steady rate and keeps a journal of what SQS accepted."""

    def __init__(self, aws: Aws, queue_url: str) -> None:
        self._aws = aws
        self._queue_url = queue_url
        self.accepted: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stopped; an object's key tells one event from all others."""
        number = 0
        while not stop.is_set():
            keys = [f"{number}-{part}.jpg" for part in range(1 + number % 3)]
            await self._aws.send(self._queue_url, s3_messages.message_for(BUCKET, *keys))
            self.accepted.update(keys)
            number += 1
            await asyncio.sleep(1 / MESSAGES_A_SECOND)


async def test_twenty_kills_lose_nothing(  # noqa: PLR0913, PLR0917 -- the parts of the bed
    database_url: str,
    aws: Aws,
    kafka: Kafka,
    make_gateway: Callable[..., Gateway],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every event that SQS accepted arrives at both receivers, and each duplicate under the same key."""
    chance = random.Random(20)  # noqa: S311 -- a reproducible choice of moments
    gateway = make_gateway(database_url=database_url, env={"BUCKETPOST_DELIVERY__LEASE_SECONDS": LEASE_SECONDS})
    topic = await kafka.create_topic(partitions=3)
    queue_url = await aws.create_queue(visibility_seconds=2)
    gateway.start()
    await gateway.ready()
    async with (
        ReceiverProcess(tmp_path / "webhooks.jsonl") as receiver,
        KafkaJournal(kafka.bootstrap_servers, [topic]) as journal,
    ):
        await wiring.add_webhook(gateway.api, receiver.url("/hook"))
        await wiring.add_topic(gateway.api, kafka.bootstrap_servers, topic)
        await wiring.add_queue(gateway.api, aws, queue_url)
        producer = Producer(aws, queue_url)
        stop = asyncio.Event()
        producing = asyncio.create_task(producer.run(stop))

        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.05, 1.2))
            await gateway.kill()
            gateway.start()
            if chance.random() < 0.8:  # else the next kill may hit it before it is ready
                await gateway.ready()
        stop.set()
        await producing
        if not gateway.process.is_running:
            gateway.start()
        await gateway.ready()

        await receiver.wait_for(
            lambda requests: producer.accepted <= {_key_of(each.body) for each in requests}, within=40
        )
        await journal.wait_for(
            lambda records: producer.accepted <= {_key_of_record(each.key) for each in records}, within=40
        )
        await until(lambda: _owes_nothing(gateway), within=20, what="nothing is owed")

        webhooks = [(_key_of(each.body), each.header("webhook-id")) for each in receiver.received()]
        records = [(_key_of_record(each.key), each.header("idempotency-key")) for each in journal.records]

    duplicates = [len(heard) - len(producer.accepted) for heard in (webhooks, records)]
    with capsys.disabled():
        print(  # noqa: T201 -- the figure of the run
            f"\n{KILLS} kills on {database_url.split(':', maxsplit=1)[0]}: accepted {len(producer.accepted)}, lost 0, "
            f"duplicates: webhook {duplicates[0]}, Kafka {duplicates[1]}"
        )
    for heard in (webhooks, records):
        assert {key for key, _ in heard} == producer.accepted
        assert _keys_with_two_names(heard) == {}


async def _owes_nothing(gateway: Gateway) -> bool:
    return not (await gateway.api.get("/deliveries", status="pending"))["data"]


def _key_of(body: bytes) -> str:
    key: str = json.loads(body)["data"]["key"]
    return key


def _key_of_record(key: bytes | None) -> str:
    return (key or b"").decode().removeprefix(f"{BUCKET}/")


def _keys_with_two_names(heard: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key, idempotency_key in heard:
        names[key].add(idempotency_key)
    return {key: found for key, found in names.items() if len(found) > 1}
