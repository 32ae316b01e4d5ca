"""Replays over REST: made, counted, read, paused, resumed, cancelled; hostile bodies are turned down."""

from typing import Any

import pytest

from app.domain.ids import public_id
from tests.bed import rows
from tests.bed.rows import ENDPOINT, SUBSCRIPTION
from tests.integration.api.conftest import Api

PATH = "/v1/replays"
NOBODY = f"rpl_{'a' * 26}"


@pytest.fixture
async def api(api_on_both: Api) -> Api:
    """Give the API over a prepared database, once SQLite and once PostgreSQL."""
    await rows.prepare(api_on_both.database)
    return api_on_both


async def test_a_replay_is_made_and_read(api: Api) -> None:
    """It is listed, and says how far it is."""
    made = await api.ask.post(PATH, {"filter": {"endpoint_id": public_id("ep", ENDPOINT), "bucket": "photos"}})
    read = await api.ask.get(made.headers["location"])
    listed = await api.ask.get(PATH)

    assert made.status == 201
    assert made.body["state"] == "running"
    assert (made.body["events_looked_at"], made.body["deliveries_owed"], made.body["ended_at"]) == (0, 0, None)
    assert read.body == made.body
    assert listed.body["data"] == [made.body]


async def test_a_dry_run_makes_nothing(api: Api) -> None:
    """It only counts."""
    counted = await api.ask.post(PATH, {"filter": {}, "dry_run": True})

    assert (counted.status, counted.body) == (200, {"events": 0, "deliveries": 0, "counted_all": True})
    assert (await api.ask.get(PATH)).body["data"] == []


async def test_a_replay_is_paused_resumed_and_cancelled(api: Api) -> None:
    """Twice is as good as once; after its end nothing moves it."""
    path = (await api.ask.post(PATH, {"filter": {}})).headers["location"]

    states = [
        (await api.ask.post(f"{path}/{verb}", {})).body["state"]
        for verb in ("pause", "pause", "resume", "resume", "cancel", "cancel")
    ]
    too_late = await api.ask.post(f"{path}/resume", {})

    assert states == ["paused", "paused", "running", "running", "cancelled", "cancelled"]
    assert (too_late.status, too_late.body["code"]) == (409, "wrong_state")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/filter"),
        ({"filter": None}, "/filter"),
        ({"filter": {"colour": 1}}, "/filter/colour"),
        ({"filter": {"status": "pending"}}, "/filter/status"),
        ({"filter": {"status": "lost"}}, "/filter/status"),
        ({"filter": {"since": "yesterday"}}, "/filter/since"),
        ({"filter": {"endpoint_id": "ep_1"}}, "/filter/endpoint_id"),
        ({"filter": {"endpoint_id": f"ep_{'a' * 26}"}}, "/filter/endpoint_id"),
        ({"filter": {"subscription_id": f"sub_{'a' * 26}"}}, "/filter/subscription_id"),
        ({"filter": {}, "dry_run": "perhaps"}, "/dry_run"),
        ({"filter": {}, "new_idempotency_keys": 7}, "/new_idempotency_keys"),
        ({"filter": {}, "more": 1}, "/more"),
    ],
)
async def test_a_bad_body_is_turned_down(api: Api, body: dict[str, Any], pointer: str) -> None:
    """With the place of what is wrong."""
    answer = await api.ask.post(PATH, body)

    assert answer.status == 422
    assert pointer in [each["pointer"] for each in answer.body["errors"]]


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    """Unknown and malformed ids alike."""
    statuses = [
        (await api.ask.get(f"{PATH}/{NOBODY}")).status,
        (await api.ask.get(f"{PATH}/rpl_1")).status,
        (await api.ask.post(f"{PATH}/{NOBODY}/pause", {})).status,
    ]

    assert statuses == [404, 404, 404]


async def test_a_subscription_can_be_named(api: Api) -> None:
    """One that is there."""
    made = await api.ask.post(PATH, {"filter": {"subscription_id": public_id("sub", SUBSCRIPTION), "status": "dead"}})

    assert made.status == 201


async def test_a_span_of_time_can_be_named(api: Api) -> None:
    """With or without a fraction, in any zone."""
    span = {"since": "2026-11-24T10:00:00Z", "until": "2026-11-24t12:00:00.123456+02:00"}

    made = await api.ask.post(PATH, {"filter": span, "dry_run": True})

    assert (made.status, made.body) == (200, {"events": 0, "deliveries": 0, "counted_all": True})
