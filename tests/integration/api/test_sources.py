"""Sources over REST: defaults, what is read only, and a changed config that starts anew."""

from typing import Any

import pytest
from sqlalchemy import update

from app.store import schema
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
    assert [made.body[name] for name in ("state", "last_error", "last_received_at", "test_event_at")] == [
        "starting",
        None,
        None,
        None,
    ]
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
    ({"kind": "sns"}, "/kind"),
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
    ({"paused": True}, "/paused"),
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
