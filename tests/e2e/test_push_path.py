"""A store's push reaches a webhook, through a whole gateway, also when that dies right after its answer."""

import json
from collections.abc import Callable

from app.store.database import Database
from tests.bed import s3_messages, wiring
from tests.bed.gateway import Gateway
from tests.bed.pushing import RawClient, add_push_source, post
from tests.bed.receiver import Receiver


async def test_a_push_answered_200_outlives_the_process(
    database_url: str, receiver: Receiver, make_gateway: Callable[..., Gateway]
) -> None:
    """Killed as soon as it answered, and started again, it delivers; the source was made while it ran."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    database = Database(database_url)
    source = await add_push_source(database, config={"profile": "minio"})
    await database.aclose()
    body = s3_messages.message_for("photos", "cat.jpg").encode()

    async with RawClient.to(gateway.port) as client:
        await client.send(post(source.path, body, f"{source.bearer}Content-Type: application/json\r\n"), body)
        answer = await client.answer()
    await gateway.kill()
    gateway.start()
    await gateway.ready()
    requests = await receiver.wait_for(1, path="/hook", within=20)

    assert (answer.status, answer.body) == (200, b"")
    assert {json.loads(each.body)["data"]["key"] for each in requests} == {"cat.jpg"}
    assert (await gateway.api.get(f"/sources/{source.path.rpartition('/')[2]}"))["last_received_at"] is not None
