"""How sources fare, as people see it over REST, with a real gateway: rate, lag, queue, quarantine, pause."""

from collections.abc import Callable
from typing import Any

import aiohttp

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import until

MakeGateway = Callable[..., Gateway]


async def test_a_source_shows_how_it_fares(database_url: str, aws: Aws, make_gateway: MakeGateway) -> None:
    """After a few messages: ok, a rate, a lag, what waits in the queue, and what could not be decoded."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    queue_url = await aws.create_queue()
    source = await wiring.add_queue(gateway.api, aws, queue_url)

    for number in range(3):
        await aws.send(queue_url, s3_messages.message_for("photos", f"{number}.jpg", f"{number}.png"))
    await aws.send(queue_url, "{this is not JSON")

    async def fares() -> bool:
        shown = await gateway.api.get(f"/sources/{source['id']}")
        return all(
            (
                shown["state"] == "ok",
                shown["events_per_second"] > 0,
                shown["lag_seconds"] is not None,
                shown["queue"] is not None,
                shown["quarantined"] == 1,
                shown["last_event_at"] is not None,
            )
        )

    await until(fares, within=30, what="the source shows how it fares")
    listed = (await gateway.api.get("/sources"))["data"]
    assert [each["quarantined"] for each in listed] == [1]
    assert listed[0]["events_per_second"] > 0
    assert 0 <= listed[0]["lag_seconds"] < 60
    assert (await gateway.terminate()).status == 0


async def test_a_source_that_is_pushed_to_shows_how_it_fares(database_url: str, make_gateway: MakeGateway) -> None:
    """From its creation to a rotated token, all over REST: the token opens it, and no older one does."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    source = await gateway.api.post("/sources", {"name": "store", "kind": "http", "config": {}})
    path = f"/sources/{source['id']}"
    good = s3_messages.message_for("photos", "a.jpg", "b.jpg").encode()

    taken = [await _push(source["push_url"], source["token"], body) for body in (good, b"{this is not JSON")]
    await until(lambda: _fares_well(gateway, path), within=30, what="the source shows how it fares")
    rotated = await gateway.api.post(f"{path}/rotate-token")
    await until(lambda: _is_refused(source, good), within=10, what="the old token is refused")
    renewed = await _push(rotated["push_url"], rotated["token"], good)
    await gateway.api.patch(path, {"paused": True})
    await until(lambda: _is_held_off(rotated, good), within=10, what="the pause holds")

    assert source["push_url"] == f"{gateway.url}/v1/ingest/s3/{source['id']}"
    assert (taken, renewed) == ([200, 200], 200)
    assert (await gateway.api.get(path))["state"] == "paused"
    assert (await gateway.terminate()).status == 0


async def test_a_paused_source_is_left_alone_until_the_pause_ends(
    sqlite_url: str, aws: Aws, make_gateway: MakeGateway
) -> None:
    """What came meanwhile stays in its queue, while a neighbour is worked off, and is heard afterwards."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()
    queue_url, busy_url = await aws.create_queue(), await aws.create_queue()
    source = await wiring.add_queue(gateway.api, aws, queue_url, paused=True)
    await wiring.add_queue(gateway.api, aws, busy_url)
    await aws.send(queue_url, s3_messages.message_for("photos", "waits.jpg"))
    await aws.send(busy_url, s3_messages.message_for("photos", "goes.jpg"))

    await until(lambda: _is_heard(gateway, "goes.jpg"), within=20, what="the neighbour is heard")
    depth = await aws.depth(queue_url)
    paused = await gateway.api.get(f"/sources/{source['id']}")
    resumed = await gateway.api.patch(f"/sources/{source['id']}", {"paused": False})
    await until(lambda: _is_heard(gateway, "waits.jpg"), within=20, what="the one that waited is heard")

    assert (depth.visible, depth.in_flight) == (1, 0)
    assert (paused["state"], paused["last_received_at"], resumed["state"]) == ("paused", None, "starting")


async def _is_heard(gateway: Gateway, key: str) -> bool:
    return bool((await gateway.api.get("/events", key_prefix=key))["data"])


async def _fares_well(gateway: Gateway, path: str) -> bool:
    shown = await gateway.api.get(path)
    figures = (shown["state"], shown["quarantined"], shown["queue"])
    is_heard = shown["last_event_at"] is not None and shown["lag_seconds"] is not None
    return figures == ("ok", 1, None) and is_heard and shown["events_per_second"] > 0


async def _push(url: str, token: str, body: bytes) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def _is_refused(source: dict[str, Any], body: bytes) -> bool:
    return await _push(source["push_url"], source["token"], body) == 401


async def _is_held_off(source: dict[str, Any], body: bytes) -> bool:
    return await _push(source["push_url"], source["token"], body) == 503
