"""Requests with an Idempotency-Key to real gateways over HTTP: sent at once, to two replicas, and after a crash."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.bed.api_client import ApiAnswer
from tests.bed.gateway import Gateway

MakeGateway = Callable[..., Gateway]
WEBHOOK: Final = {"name": "inbox", "kind": "webhook", "config": {"url": "http://127.0.0.1:8080/hook"}}
REPLAY: Final[dict[str, Any]] = {"filter": {}}


async def post(gateway: Gateway, path: str, body: Any, key: str) -> ApiAnswer:
    """POST with a key of the caller's."""
    return await gateway.api.request("POST", path, body=body, headers={"Idempotency-Key": key})


async def test_an_answer_outlives_a_crash(database_url: str, make_gateway: MakeGateway) -> None:
    """After a kill -9 the same request gets the same endpoint with its secret; no second one is there."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()
    first = await post(gateway, "/endpoints", WEBHOOK, "make-it")
    await gateway.kill()
    gateway.start()
    await gateway.ready()

    again = await post(gateway, "/endpoints", WEBHOOK, "make-it")
    other = await post(gateway, "/endpoints", {**WEBHOOK, "name": "other"}, "make-it")

    assert (first.status, again.status, other.status) == (201, 201, 422)
    assert (again.body, again.headers["Location"]) == (first.body, first.headers["Location"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [each["id"] for each in (await gateway.api.get("/endpoints"))["data"]] == [first.body["id"]]
    assert (await gateway.terminate()).status == 0


async def test_replicas_asked_at_once_make_one_replay(postgres_url: str, make_gateway: MakeGateway) -> None:
    """Sixteen at once, over two replicas: one job, and all who were answered heard of it."""
    first = make_gateway(database_url=postgres_url)
    first.start()
    await first.ready()
    second = make_gateway(database_url=postgres_url, key=await first.key(), name="second")
    second.start()
    await second.ready()

    answers = await asyncio.gather(*(post(each, "/replays", REPLAY, "at-once") for each in [first, second] * 8))

    made = {each.body["id"] for each in answers if each.status == 201}
    assert {each.status for each in answers} <= {201, 409}
    assert sum(each.status == 201 and "Idempotency-Replayed" not in each.headers for each in answers) == 1
    assert [each["id"] for each in (await second.api.get("/replays"))["data"]] == list(made)
    assert (await post(second, "/replays", REPLAY, "at-once")).body["id"] in made
    assert [(await each.terminate()).status for each in (first, second)] == [0, 0]
