"""Sources over REST: defaults, what is read only, pause, and how they fare. Tokens are in test_push_sources.py."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from app.domain.ids import ReplicaId, SourceId, parse_id
from app.domain.message import QueueMeasure
from app.domain.pulse import Pulse
from app.store import schema
from app.store.pulse import SqlPulseStore
from tests.bed.rows import add_quarantined
from tests.integration.api.conftest import Api

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"
SQS = {"name": "uploads", "kind": "sqs", "config": {"queue_url": QUEUE_URL}}


async def test_a_source_is_created_with_the_defaults(api_on_both: Api) -> None:
    """It is starting, nothing was heard yet, and the config shows what it will go by."""
    api = api_on_both

    made = await api.ask.post("/v1/sources", SQS)

    assert made.status == 201
    assert made.headers["location"] == f"/v1/sources/{made.body['id']}"
    assert made.body["config"]["queue_url"] == QUEUE_URL
    assert made.body["config"]["wait_seconds"] == 10
    fresh = ("paused", "push_url", "state", "last_error", "last_received_at", "last_event_at", "test_event_at")
    assert [made.body[name] for name in fresh] == [False, None, "starting", None, None, None, None]
    measured = ("events_per_second", "lag_seconds", "queue", "quarantined")
    assert [made.body[name] for name in measured] == [0, None, None, 0]
    assert "token" not in made.body
    assert (await api.ask.get(made.headers["location"])).body == made.body
    assert (await api.ask.get("/v1/sources")).body == {"data": [made.body], "next_cursor": None}


async def test_a_changed_config_starts_anew(api_on_both: Api) -> None:
    """What was said of the old config is forgotten; a new name changes nothing of it."""
    api = api_on_both
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]
    async with api.database.write() as connection:
        await connection.execute(update(schema.source).values(state="failing", last_error="no such queue"))

    renamed = await api.ask.patch(path, {"name": "renamed"})
    changed = await api.ask.patch(path, {"config": {"wait_seconds": 1}})

    assert (renamed.body["state"], renamed.body["last_error"]) == ("failing", "no such queue")
    assert (changed.body["state"], changed.body["last_error"]) == ("starting", None)
    assert changed.body["config"] == {**renamed.body["config"], "wait_seconds": 1}
    assert (await api.ask.get(path)).body == changed.body


async def test_null_takes_the_default_of_the_kind(api: Api) -> None:
    """Inside the config as well."""
    made = await api.ask.post("/v1/sources", SQS)
    path = made.headers["location"]
    await api.ask.patch(path, {"config": {"wait_seconds": 1, "region": "eu-west-1"}})

    changed = await api.ask.patch(path, {"config": {"wait_seconds": None, "region": None}})

    assert changed.body["config"] == made.body["config"]


async def test_a_deleted_source_is_gone(api: Api) -> None:
    """204, then 404."""
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]

    deleted = await api.ask.delete(path)

    later = [await api.ask.get(path), await api.ask.patch(path, {}), await api.ask.delete(path)]
    assert (deleted.status, [each.status for each in later]) == (204, [404, 404, 404])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "x" * 201}, "/name"),
    ({"kind": "kinesis"}, "/kind"),
    ({"config": "x"}, "/config"),
    ({"config": {"queue_url": 5}}, "/config/queue_url"),
    ({"config": {"queue_url": "not a url"}}, "/config/queue_url"),
    ({"config": {"queue_url": QUEUE_URL, "queue": 1}}, "/config/queue"),
    ({"config": {"queue_url": QUEUE_URL, "wait_seconds": 21}}, "/config/wait_seconds"),
    ({"config": {"queue_url": QUEUE_URL, "wait_seconds": "1"}}, "/config/wait_seconds"),
    ({"config": {"queue_url": QUEUE_URL, "visibility_seconds": 0}}, "/config/visibility_seconds"),
    ({"config": {"queue_url": QUEUE_URL, "endpoint_url": "http://169.254.169.254/"}}, "/config/endpoint_url"),
    ({"state": "ok"}, "/state"),
    ({"last_error": "none"}, "/last_error"),
    ({"last_received_at": "2026-11-24T10:00:00.000Z"}, "/last_received_at"),
    ({"test_event_at": "2026-11-24T10:00:00.000Z"}, "/test_event_at"),
    ({"last_event_at": "2026-11-24T10:00:00.000Z"}, "/last_event_at"),
    ({"events_per_second": 1.5}, "/events_per_second"),
    ({"lag_seconds": 1}, "/lag_seconds"),
    ({"queue": {"depth": 1}}, "/queue"),
    ({"quarantined": -1}, "/quarantined"),
    ({"push_url": "https://example.com/"}, "/push_url"),
    ({"token": "x" * 43}, "/token"),
    ({"token": None}, "/token"),
    ({"paused": "yes"}, "/paused"),
    ({"paused": 1}, "/paused"),
    ({"paused": []}, "/paused"),
    ({"name": None}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": "a\0"}, "/name"),
    ({"kind": ["sqs"]}, "/kind"),
    ({"config": [QUEUE_URL]}, "/config"),
    ({"config": {"queue_url": QUEUE_URL + "x" * 3000}}, "/config/queue_url"),
    ({"x" * 100_000: 1}, f"/{'x' * 499}"),
    ({"is_paused": True}, "/is_paused"),
    ({"token_hash": "x"}, "/token_hash"),
]


@pytest.mark.parametrize(("fields", "pointer"), BAD)
async def test_a_bad_field_is_422_and_pointed_at(api: Api, fields: dict[str, Any], pointer: str) -> None:
    """At creation and in a patch alike; what is read only is refused, not ignored."""
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]

    refused = await api.ask.post("/v1/sources", {**SQS, **fields})
    unpatched = await api.ask.patch(path, fields)

    assert refused.status == 422
    assert pointer in [each["pointer"] for each in refused.body["errors"]]
    assert unpatched.status == 422
    assert pointer in [each["pointer"] for each in unpatched.body["errors"]]


async def test_the_whole_may_be_sent_back(api: Api) -> None:
    """Who got a source may change one field and send the whole; a wrong name is refused also with null."""
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]
    whole = (await api.ask.get(path)).body

    changed = await api.ask.patch(path, {**whole, "name": "renamed"})
    refused = await api.ask.patch(path, {"nonsense": None})

    assert (changed.status, changed.body["name"]) == (200, "renamed")
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/nonsense")


async def test_the_whole_may_be_sent_back_while_it_moves(api: Api) -> None:
    """What is measured has moved on by the time it comes back: with the id beside it that is no fault."""
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]
    whole = (await api.ask.get(path)).body
    async with api.database.write() as connection:
        await connection.execute(update(schema.source).values(state="failing", last_error="no such queue"))
    await _measure(api, whole["id"], Pulse(source_id=_raw(whole["id"]), events_per_second=3))

    changed = await api.ask.patch(path, {**whole, "name": "renamed"})
    foreign = await api.ask.patch(path, {**whole, "id": f"src_{'a' * 26}"})

    assert (changed.status, changed.body["name"], changed.body["state"]) == (200, "renamed", "failing")
    assert foreign.status == 422
    assert "/id" in [each["pointer"] for each in foreign.body["errors"]]


async def test_a_source_is_paused_and_goes_on(api_on_both: Api) -> None:
    """`paused` covers the state, a change of nothing else ends it, and afterwards it starts anew."""
    api = api_on_both
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]
    async with api.database.write() as connection:
        await connection.execute(update(schema.source).values(state="failing", last_error="no such queue"))

    paused = await api.ask.patch(path, {"paused": True})
    renamed = await api.ask.patch(path, {"name": "renamed"})
    again = await api.ask.patch(path, {"paused": True})
    resumed = await api.ask.patch(path, {"paused": None})

    shown = [(each.body["paused"], each.body["state"]) for each in (paused, renamed, again, resumed)]
    assert shown == [(True, "paused"), (True, "paused"), (True, "paused"), (False, "starting")]
    assert (paused.body["last_error"], resumed.body["last_error"]) == ("no such queue", None)
    assert (await api.ask.get(path)).body == resumed.body
    assert api.around.changes == 5


@pytest.mark.parametrize(("given", "paused"), [({}, False), ({"paused": False}, False), ({"paused": True}, True)])
async def test_a_source_may_be_made_paused(api: Api, given: dict[str, Any], *, paused: bool) -> None:
    """It takes nothing until it is told to; left out, it is not."""
    made = await api.ask.post("/v1/sources", {**SQS, **given})

    assert (made.status, made.body["paused"]) == (201, paused)
    assert made.body["state"] == ("paused" if paused else "starting")


async def test_a_source_shows_how_it_fares(api_on_both: Api) -> None:
    """What the living replicas measured, joined and rounded, and how much is in quarantine, in each kind of answer."""
    api = api_on_both
    made = (await api.ask.post("/v1/sources", SQS)).body
    await api.ask.post("/v1/sources", {**SQS, "name": "idle"})
    source_id = _raw(made["id"])
    queue = QueueMeasure(depth=12, in_flight=3, delayed=1, oldest_seconds=7.12345)
    pulse = Pulse(source_id=source_id, events_per_second=1 / 3, lag_seconds=0.98765, queue=queue)
    await _measure(api, made["id"], pulse, Pulse(source_id=source_id, events_per_second=1))
    async with api.database.write() as connection:
        for number in range(3):
            await add_quarantined(connection, number, source_id=source_id)

    read = (await api.ask.get(f"/v1/sources/{made['id']}")).body
    patched = (await api.ask.patch(f"/v1/sources/{made['id']}", {})).body
    idle, listed = (await api.ask.get("/v1/sources")).body["data"]

    assert [read[name] for name in ("events_per_second", "lag_seconds", "quarantined")] == [1.333, 0.988, 3]
    assert read["queue"] == {"depth": 12, "in_flight": 3, "delayed": 1, "oldest_seconds": 7.123}
    assert {**patched, "updated_at": read["updated_at"]} == read
    assert listed == patched
    assert [idle[name] for name in ("events_per_second", "lag_seconds", "queue", "quarantined")] == [0, None, None, 0]


async def test_pages_show_how_each_source_fares(api: Api) -> None:
    """Page by page each source comes once, with what was measured of it and of no other."""
    made = [(await api.ask.post("/v1/sources", {**SQS, "name": str(number)})).body["id"] for number in range(5)]
    for number, source_id in enumerate(made):
        await _measure(api, source_id, Pulse(source_id=_raw(source_id), events_per_second=number))

    pages, cursor = [], ""
    while cursor is not None:
        page = (await api.ask.get("/v1/sources", limit=2, **({"cursor": cursor} if cursor else {}))).body
        pages.append([(each["name"], each["events_per_second"]) for each in page["data"]])
        cursor = page["next_cursor"]

    assert pages == [[("4", 4), ("3", 3)], [("2", 2), ("1", 1)], [("0", 0)]]


async def test_another_pause_at_once_loses_nothing(api_on_both: Api) -> None:
    """Patches of different fields that come together all hold."""
    api = api_on_both
    path = (await api.ask.post("/v1/sources", SQS)).headers["location"]

    await asyncio.gather(
        api.ask.patch(path, {"paused": True}),
        api.ask.patch(path, {"name": "renamed"}),
        api.ask.patch(path, {"config": {"wait_seconds": 3}}),
    )

    read = (await api.ask.get(path)).body
    assert (read["paused"], read["name"], read["config"]["wait_seconds"]) == (True, "renamed", 3)


async def _measure(api: Api, source_id: str, *pulses: Pulse) -> None:
    """Let each pulse be measured by a replica of its own."""
    assert {each.source_id for each in pulses} == {_raw(source_id)}
    for number, pulse in enumerate(pulses):
        await SqlPulseStore(api.database, ReplicaId(bytes([number]) * 16)).note([pulse])


def _raw(source_id: str) -> SourceId:
    raw = parse_id("src", source_id)
    assert raw is not None
    return SourceId(raw)
