"""Changes that come shuffled, and late, through a whole gateway to webhooks that care for their order."""

import json
from collections.abc import Callable
from typing import Any

from app.store.database import Database
from tests.bed import s3_messages, wiring
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.pushing import PushSourceMade, RawClient, add_push_source, post
from tests.bed.receiver import Received, Receiver


def change(number: int | None) -> dict[str, Any]:
    """Make the record of a change of one object; without a number its store tells no sequencer."""
    sequencer = None if number is None else f"0066{number:014X}"
    record = s3_messages.record("photos", "cat.jpg", sequencer=sequencer, size=number)
    if number is None:
        del record["s3"]["object"]["sequencer"]
    return record


async def push(gateway: Gateway, source: PushSourceMade, *records: dict[str, Any]) -> None:
    """Hand a message over."""
    body = s3_messages.message(*records).encode()
    async with RawClient.to(gateway.port) as client:
        await client.send(post(source.path, body, f"{source.bearer}Content-Type: application/json\r\n"), body)
        assert (await client.answer()).status == 200


def numbers_of(requests: list[Received]) -> list[tuple[int | None, bool]]:
    """Tell which changes came, and which of them were marked as late."""
    return [(json.loads(each.body)["data"]["size"], ("bucketpost-late", "true") in _headers(each)) for each in requests]


def _headers(request: Received) -> set[tuple[str, str]]:
    return {(name.lower(), value) for name, value in request.headers}


async def test_a_window_puts_changes_in_order_and_what_comes_late_is_marked_or_dropped(
    database_url: str, receiver: Receiver, make_gateway: Callable[..., Gateway]
) -> None:
    """Each endpoint as it says, all from the same events; the one that came late and was dropped is told."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    keyed: dict[str, Any] = {"ordering": "key"}
    await wiring.add_webhook(gateway.api, receiver.url("/plain"), **keyed)
    await wiring.add_webhook(gateway.api, receiver.url("/deliver"), **keyed, reorder_window_seconds=0.5)
    await wiring.add_webhook(gateway.api, receiver.url("/mark"), **keyed, reorder_window_seconds=0.5, late="mark")
    drop = await wiring.add_webhook(
        gateway.api, receiver.url("/drop"), **keyed, reorder_window_seconds=0.5, late="drop"
    )
    database = Database(database_url)
    source = await add_push_source(database)
    await database.aclose()

    await push(gateway, source, *map(change, (5, 3, 4, 2)))
    await receiver.wait_for(16, within=30)
    cancelled = f"/deliveries?status=cancelled&endpoint_id={drop['id']}"

    async def is_settled() -> bool:
        return not (await gateway.api.get("/deliveries?status=pending"))["data"]

    await until(is_settled, within=20, what="all is settled")
    await push(gateway, source, change(1))
    await receiver.wait_for(19, within=30)
    await until(is_settled, within=20, what="all is settled")

    in_order = [(number, False) for number in (2, 3, 4, 5)]
    got = {path: numbers_of(list(receiver.received(path))) for path in ("/plain", "/deliver", "/mark", "/drop")}
    assert got == {
        "/plain": [(5, False), (3, False), (4, False), (2, False), (1, False)],
        "/deliver": [*in_order, (1, False)],
        "/mark": [*in_order, (1, True)],
        "/drop": in_order,
    }
    (dropped,) = (await gateway.api.get(cancelled))["data"]
    assert dropped["reason"] == "late"


async def test_without_sequencers_a_window_keeps_the_order_of_arrival(
    sqlite_url: str, receiver: Receiver, make_gateway: Callable[..., Gateway]
) -> None:
    """And nothing is late."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(
        gateway.api, receiver.url("/hook"), ordering="key", reorder_window_seconds=0.2, late="drop"
    )
    database = Database(sqlite_url)
    source = await add_push_source(database)
    await database.aclose()
    records = [change(None) for _ in range(5)]
    for size, record in enumerate(records):
        record["s3"]["object"]["size"] = size

    await push(gateway, source, *records)
    requests = await receiver.wait_for(5, within=30)

    assert numbers_of(list(requests)) == [(size, False) for size in range(5)]
