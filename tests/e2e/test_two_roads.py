"""One change by several roads through real queues and a topic: one event, and one delivery to a receiver."""

import json
from collections.abc import Callable
from functools import partial

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.receiver import Receiver

CHANGES = 20

MakeGateway = Callable[..., Gateway]


async def test_a_change_by_two_queues_a_topic_and_a_redrive_is_delivered_once(
    database_url: str, aws: Aws, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """Two queues, each a source; a second rule's copies through SNS, wrapped and raw; and all of it sent anew."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    direct, of_topic, raw = [await aws.create_queue(visibility_seconds=30) for _ in range(3)]
    topic_arn = await aws.create_topic()
    await aws.subscribe(topic_arn, of_topic)
    await aws.subscribe(topic_arn, raw, raw=True)
    for queue_url in (direct, of_topic, raw):
        await wiring.add_queue(gateway.api, aws, queue_url)
    changes = [s3_messages.record("photos", f"cat {number}.jpg") for number in range(CHANGES)]

    for change in changes:
        await aws.send(direct, s3_messages.message(change))
        change["s3"]["configurationId"] = "another rule"
        await aws.sns.publish(TopicArn=topic_arn, Message=s3_messages.message(change))
    for change in reversed(changes):
        await aws.send(direct, s3_messages.message(change))
    await receiver.wait_for(CHANGES, path="/hook", within=30)
    for queue_url in (direct, of_topic, raw):
        await until(partial(_is_drained, aws, queue_url), within=30, what="a queue is empty")
    await until(lambda: _are_settled(gateway), within=10, what="nothing is owed")

    keys = [json.loads(each.body)["data"]["key"] for each in receiver.received("/hook")]
    assert sorted(keys) == sorted(f"cat {number}.jpg" for number in range(CHANGES))
    assert len((await gateway.api.get("/events?limit=500"))["data"]) == CHANGES
    assert (await gateway.api.get("/quarantine"))["data"] == []


async def _is_drained(aws: Aws, queue_url: str) -> bool:
    depth = await aws.depth(queue_url)
    return depth.visible == depth.in_flight == 0


async def _are_settled(gateway: Gateway) -> bool:
    deliveries = (await gateway.api.get("/deliveries?limit=500"))["data"]
    return [each["status"] for each in deliveries] == ["delivered"] * CHANGES
