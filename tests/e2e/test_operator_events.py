"""Trouble with one receiver is told to another, over real HTTP: once, signed, and to nobody who did not ask."""

import json
from collections.abc import Callable
from typing import Any

from app.store.database import Database
from tests.bed import s3_messages, wiring
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.pushing import RawClient, add_push_source, post
from tests.bed.receiver import Receiver


async def test_an_operator_hears_of_a_death_and_of_a_disabled_endpoint(
    database_url: str, receiver: Receiver, make_gateway: Callable[..., Gateway]
) -> None:
    """A receiver that answers 410 is disabled, another refuses: one webhook for the one, one for each death."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    receiver.answer("/gone", then=410)
    receiver.answer("/refusing", then=404)
    gone = await wiring.add_webhook(gateway.api, receiver.url("/gone"))
    refusing = await wiring.add_webhook(gateway.api, receiver.url("/refusing"), answers={"404": "die"})
    await wiring.add_webhook(gateway.api, receiver.url("/photos"), wanted={"events": ["*"]})
    for path, name in (("/disabled", "gateway.endpoint.disabled"), ("/dead", "gateway.delivery.*")):
        operators = await wiring.add_webhook(gateway.api, receiver.url(path), wanted={"events": [name]})
        receiver.verify(path, operators["secret"])

    await push(gateway, database_url)
    [disabled] = await receiver.wait_for(1, path="/disabled", within=20)
    deaths = await receiver.wait_for(2, path="/dead", within=20)
    await until(lambda: nothing_is_owed(gateway), within=20, what="all is settled")

    told = json.loads(disabled.body)
    shown = await gateway.api.get(f"/endpoints/{gone['id']}")
    assert (told["type"], told["timestamp"]) == ("gateway.endpoint.disabled", shown["disabled_at"])
    assert told["data"]["endpoint_id"] == gone["id"]
    assert told["data"]["reason"] == shown["disabled_reason"] == "The receiver answered 410: it wants no more."
    bodies = {data["endpoint_id"]: data for data in (json.loads(each.body)["data"] for each in deaths)}
    assert {key: data["reason"] for key, data in bodies.items()} == {gone["id"]: "gone", refusing["id"]: "refused"}
    letter = await gateway.api.get(f"/deliveries/{bodies[gone['id']]['delivery_id']}")
    assert (letter["status"], letter["reason"]) == ("dead", "gone")
    assert all(each.verified for each in (disabled, *deaths))
    assert [len(receiver.received(path)) for path in ("/disabled", "/dead", "/photos")] == [1, 2, 1]
    events = (await gateway.api.get("/events", type="gateway.*"))["data"]
    assert sorted(each["type"] for each in events) == ["gateway.delivery.dead"] * 2 + ["gateway.endpoint.disabled"]
    assert {(each["bucket"], each["key"]) for each in events} == {(None, None)}


async def push(gateway: Gateway, database_url: str) -> None:
    """Let a store tell of one upload."""
    database = Database(database_url)
    source = await add_push_source(database, config={"profile": "minio"})
    await database.aclose()
    body = s3_messages.message_for("photos", "cat.jpg").encode()
    async with RawClient.to(gateway.port) as client:
        await client.send(post(source.path, body, f"{source.bearer}Content-Type: application/json\r\n"), body)
        assert (await client.answer()).status == 200


async def nothing_is_owed(gateway: Gateway) -> bool:
    """Tell whether every delivery is over."""
    pending: list[Any] = (await gateway.api.get("/deliveries", status="pending"))["data"]
    return not pending
