"""PostgreSQL restarted under load: no process ends, nothing is lost."""

import asyncio
import json
from collections.abc import Callable

import pytest

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres, StopMode
from tests.bed.receiver import Receiver

MODES: tuple[StopMode, ...] = ("fast", "immediate")


@pytest.mark.parametrize("mode", MODES)
async def test_a_restart_under_load_loses_nothing(
    own_postgres: EmbeddedPostgres, aws: Aws, receiver: Receiver, make_gateway: Callable[..., Gateway], mode: StopMode
) -> None:
    """The gateway goes on with the same process, says meanwhile that it is not ready, and delivers everything."""
    gateway = make_gateway(database_url=own_postgres.url, env={"BUCKETPOST_DELIVERY__LEASE_SECONDS": "2"})
    gateway.start()
    await gateway.ready()
    process = gateway.process.pid
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    queue_url = await aws.create_queue(visibility_seconds=2)
    await wiring.add_queue(gateway.api, aws, queue_url)
    sent: set[str] = set()

    async def send(count: int) -> None:
        for _ in range(count):
            key = f"{len(sent)}.jpg"
            await aws.send(queue_url, s3_messages.message_for("photos", key))
            sent.add(key)
            await asyncio.sleep(0.05)

    for _ in range(3):
        sending = asyncio.create_task(send(40))
        await asyncio.sleep(0.7)
        await own_postgres.stop(mode)
        await asyncio.sleep(1)
        await own_postgres.start()
        await sending
    heard = await receiver.wait_for(
        lambda requests: sent <= {json.loads(each.body)["data"]["key"] for each in requests}, within=40
    )

    assert {json.loads(each.body)["data"]["key"] for each in heard} == sent
    assert gateway.process.is_running
    assert gateway.process.pid == process
    await gateway.ready()
