"""Two replicas on one PostgreSQL share the lanes, and one takes over what the other leaves."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.receiver import Receiver

ENDPOINTS = 12
LEASE_SECONDS = 4
ROUNDS = 60


async def test_two_replicas_share_and_one_takes_over(
    postgres_url: str, aws: Aws, receiver: Receiver, make_gateway: Callable[..., Gateway]
) -> None:
    """Each delivers at least a quarter; after a kill the other serves all lanes within the lease and 2 s."""
    env = {"BUCKETPOST_DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS)}
    # The one that is killed polls no queue: moto's long poll would outlive it and swallow a message for a while.
    first = make_gateway(database_url=postgres_url, env=env, name="first", only="api,relay")
    first.start()
    await first.ready()
    second = make_gateway(database_url=postgres_url, env=env, name="second", key=await first.key())
    second.start()
    await second.ready()
    paths = [f"/hook-{number}" for number in range(ENDPOINTS)]
    for path in paths:
        await wiring.add_webhook(first.api, receiver.url(path))
    queue_url = await aws.create_queue(visibility_seconds=2)
    await wiring.add_queue(first.api, aws, queue_url)

    for number in range(ROUNDS):
        await aws.send(queue_url, s3_messages.message_for("photos", f"{number}.jpg"))
        await asyncio.sleep(0.1)
    await receiver.wait_for(ROUNDS * ENDPOINTS, within=40)
    await until(lambda: _has_logged(first, second, ROUNDS * ENDPOINTS), within=10, what="both have settled")
    shares = [_delivered(gateway) for gateway in (first, second)]

    assert sum(shares) == ROUNDS * ENDPOINTS
    assert min(shares) >= ROUNDS * ENDPOINTS / 4, shares

    await first.kill()
    await aws.send(queue_url, s3_messages.message_for("photos", "after.jpg"))
    await until(lambda: _holds_all(second), within=LEASE_SECONDS + 2, what="all lanes are the other's")
    heard = await receiver.wait_for(
        lambda requests: {each.path for each in requests if b"after.jpg" in each.body} == set(paths),
        within=LEASE_SECONDS
        + 2
        + 3,  # 3 s for moto: the killed poll may have swallowed the message until it shows again
    )
    counts = Counter(each.path for each in heard if b"after.jpg" in each.body)
    assert counts == dict.fromkeys(paths, 1)


async def _has_logged(first: Gateway, second: Gateway, count: int) -> bool:
    return _delivered(first) + _delivered(second) >= count


async def _holds_all(gateway: Gateway) -> bool:
    return f"bucketpost_lanes_held {ENDPOINTS}.0" in await gateway.metrics()


def _delivered(gateway: Gateway) -> int:
    lines = (json.loads(line) for line in gateway.process.stderr().splitlines() if line.startswith("{"))
    return sum(line["event"] == "delivery.attempted" and line.get("outcome") == "delivered" for line in lines)
