"""An upload reaches a webhook and a Kafka topic, by every road that SQS offers, on both databases."""

import json
from collections.abc import Callable

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.kafka import Kafka
from tests.bed.kafka_journal import KafkaJournal
from tests.bed.process import until
from tests.bed.receiver import Receiver

MakeGateway = Callable[..., Gateway]


async def test_an_upload_reaches_a_webhook_and_a_topic(
    database_url: str, aws: Aws, kafka: Kafka, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """A put to a real bucket is told through SNS and SQS, and heard once by both, under the same event."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    topic = await kafka.create_topic()
    endpoint = await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    receiver.verify("/hook", endpoint["secret"])
    await wiring.add_topic(gateway.api, kafka.bootstrap_servers, topic)
    queue_url = await aws.create_queue()
    topic_arn = await aws.create_topic()
    await aws.subscribe(topic_arn, queue_url)
    source = await wiring.add_queue(gateway.api, aws, queue_url)

    async with KafkaJournal(kafka.bootstrap_servers, [topic]) as journal:
        bucket = await aws.create_bucket(topic_arn=topic_arn)
        await aws.put_object(bucket, "photos/ü 1+2.jpg", b"cat")
        [request] = await receiver.wait_for(1, path="/hook", within=20)
        [record] = await journal.wait_for(1, within=20)

    event = json.loads(request.body)["data"]
    assert request.verified is True
    assert request.header("webhook-id") == request.header("idempotency-key")
    assert event["key"] == "photos/ü 1+2.jpg"
    assert event["type"] == "s3:ObjectCreated:Put"
    assert record.key == f"{bucket}/photos/ü 1+2.jpg".encode()
    assert record.header("ce_id") == event["id"]
    assert record.header("idempotency-key") != request.header("idempotency-key")
    shown = await gateway.api.get(f"/sources/{source['id']}")
    assert shown["state"] == "ok"
    assert shown["test_event_at"] is not None
    await until(lambda: _are_delivered(gateway, event["id"]), within=10, what="both are settled")
    assert (await gateway.terminate()).status == 0


async def test_one_change_by_three_roads_is_one_event(
    sqlite_url: str, aws: Aws, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """The same record straight to SQS, wrapped by SNS and through SNS raw is one event and one delivery."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    queue_url = await aws.create_queue()
    await wiring.add_queue(gateway.api, aws, queue_url)
    text = s3_messages.message_for("photos", "cat.jpg")

    for body in (text, s3_messages.sns_wrapped(text), text, s3_messages.message_for("photos", "dog.jpg")):
        await aws.send(queue_url, body)
    await receiver.wait_for(lambda requests: any(b"dog.jpg" in each.body for each in requests), within=20)
    await until(lambda: _is_drained(aws, queue_url), within=20, what="the queue is empty")

    keys = sorted(json.loads(each.body)["data"]["key"] for each in receiver.received("/hook"))
    assert keys == ["cat.jpg", "dog.jpg"]
    assert len((await gateway.api.get("/events"))["data"]) == 2


async def test_the_good_records_of_a_bad_message_are_delivered(
    database_url: str, aws: Aws, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """What cannot be decoded is kept with its bytes and reason and acknowledged; its neighbours go their way."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    queue_url = await aws.create_queue()
    source = await wiring.add_queue(gateway.api, aws, queue_url)
    good = s3_messages.record("photos", "good.jpg")
    bad = {**s3_messages.record("photos", "bad.jpg"), "eventTime": "yesterday"}

    await aws.send(queue_url, "{this is not JSON")
    await aws.send(queue_url, s3_messages.message(bad, good))
    [request] = await receiver.wait_for(1, path="/hook", within=20)
    await until(lambda: _is_drained(aws, queue_url), within=20, what="the queue is empty")

    assert json.loads(request.body)["data"]["key"] == "good.jpg"
    kept = (await gateway.api.get("/quarantine"))["data"]
    assert len(kept) == 2
    assert {each["source_id"] for each in kept} == {source["id"]}
    assert all(each["reason"] for each in kept)


async def _are_delivered(gateway: Gateway, event_id: str) -> bool:
    deliveries = (await gateway.api.get(f"/events/{event_id}"))["deliveries"]
    return [each["status"] for each in deliveries] == ["delivered", "delivered"]


async def _is_drained(aws: Aws, queue_url: str) -> bool:
    depth = await aws.depth(queue_url)
    return depth.visible == depth.in_flight == 0
