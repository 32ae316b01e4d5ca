"""What was given up by a queue comes back by a redrive: an event known already stays one, a new one is delivered."""

import json
from collections.abc import Callable

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.receiver import Receiver

MakeGateway = Callable[..., Gateway]


async def test_a_redriven_message_is_one_event(
    sqlite_url: str, aws: Aws, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """It comes with a new message id, is recognised by what it says, and is acknowledged without a second delivery."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    dead_url = await aws.create_queue()
    policy = {"deadLetterTargetArn": await aws.queue_arn(dead_url), "maxReceiveCount": 5}
    queue_url = await aws.create_queue(RedrivePolicy=json.dumps(policy))
    source = await wiring.add_queue(gateway.api, aws, queue_url)
    known, new = s3_messages.message_for("photos", "known.jpg"), s3_messages.message_for("photos", "new.jpg")
    await aws.send(queue_url, known)
    await receiver.wait_for(1, path="/hook", within=20)
    for body in (known, new):
        await aws.send(dead_url, body)

    [before] = (await gateway.api.get(f"/sources/{source['id']}/dead-letter-queues"))["data"]
    [after] = (await gateway.api.post(f"/sources/{source['id']}/dead-letter-queues/redrive"))["data"]
    await receiver.wait_for(2, path="/hook", within=20)
    await until(lambda: _is_drained(aws, queue_url), within=20, what="the queue is empty")

    assert (before["depth"], after["depth"]) == (2, 0)
    assert after["redrive"] == {"state": "completed", "moved": 2, "failed": 0, "to_move": 2}
    keys = sorted(json.loads(each.body)["data"]["key"] for each in receiver.received("/hook"))
    assert keys == ["known.jpg", "new.jpg"]
    assert len((await gateway.api.get("/events"))["data"]) == 2


async def _is_drained(aws: Aws, queue_url: str) -> bool:
    depth = await aws.depth(queue_url)
    return depth.visible == depth.in_flight == 0
