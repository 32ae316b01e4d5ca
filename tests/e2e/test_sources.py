"""How sources fare, as people see it over REST, with a real gateway: rate, lag, queue, quarantine, pause."""

from collections.abc import Callable

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
