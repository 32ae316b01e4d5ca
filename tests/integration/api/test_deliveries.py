"""Deliveries over REST: listed, narrowed, read with their attempts, and tried again on request."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.domain.ids import public_id
from app.store.columns import now
from app.store.outbox_schema import delivery
from app.store.schema import subscription
from tests.bed import rows
from tests.bed.rows import LANE, NOON, OTHER_SUBSCRIPTION, SUBSCRIPTION, Owed
from tests.integration.api.conftest import Api

NOBODY = f"dlv_{'a' * 26}"


@pytest.fixture
async def api(api: Api) -> Api:
    """Give the API over a prepared SQLite."""
    await rows.prepare(api.database)
    return api


@pytest.fixture
async def api_on_both(api_on_both: Api) -> Api:
    """Give the API over a prepared database, once SQLite and once PostgreSQL."""
    await rows.prepare(api_on_both.database)
    return api_on_both


async def test_a_delivery_is_shown_with_its_attempts(api_on_both: Api) -> None:
    """How it ended and why, and each try with the answer as text; no answer is null, an empty one is empty."""
    api, owed = api_on_both, _owed(1)
    async with api.database.write() as connection:
        await rows.add_try(
            connection, owed, 1, latency_ms=31, status_code=500, response=b"no \xff\x00", error="HTTP 500"
        )
        await rows.add_try(connection, owed, 2, latency_ms=15_000, error="timed out", response=b"")
        await rows.add_try(connection, owed, 3, latency_ms=1, status_code=410, response=b"")
        await rows.end(connection, owed, "dead", number=0, reason="gone")

    shown = await api.ask.get(f"/v1/deliveries/{_text(owed)}")

    assert shown.status == 200
    assert shown.body == {
        "id": _text(owed),
        "event_id": public_id("evt", owed.event_id),
        "subscription_id": public_id("sub", SUBSCRIPTION),
        "endpoint_id": public_id("ep", rows.ENDPOINT),
        "status": "dead",
        "reason": "gone",
        "due_at": None,
        "created_at": "2026-11-24T12:00:01.000Z",
        "ended_at": "2026-11-24T13:00:00.000Z",
        "attempts": [
            {
                "number": 1,
                "started_at": "2026-11-24T12:01:00.000Z",
                "latency_ms": 31,
                "status_code": 500,
                "error": "HTTP 500",
                "response": "no \ufffd\x00",
            },
            {
                "number": 2,
                "started_at": "2026-11-24T12:02:00.000Z",
                "latency_ms": 15_000,
                "status_code": None,
                "error": "timed out",
                "response": None,
            },
            {
                "number": 3,
                "started_at": "2026-11-24T12:03:00.000Z",
                "latency_ms": 1,
                "status_code": 410,
                "error": None,
                "response": "",
            },
        ],
    }


async def test_a_list_is_paged_while_deliveries_end(api_on_both: Api) -> None:
    """Each that was there is seen once, newest first, though it ended, or others came, between two pages."""
    api, all_owed = api_on_both, [_owed(number) for number in range(7)]
    async with api.database.write() as connection:
        for each in all_owed:
            await rows.add_owed(connection, each)

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while not seen or cursor:
        page = await api.ask.get("/v1/deliveries", limit=2, **cursor)
        seen += [each["id"] for each in page.body["data"]]
        cursor = {"cursor": page.body["next_cursor"]} if page.body["next_cursor"] else {}
        async with api.database.write() as connection:
            await rows.add_owed(connection, _owed(100 + len(seen)))
            if len(seen) == 2:
                for number in (6, 4, 3, 0):
                    await rows.end(connection, all_owed[number], "delivered")

    assert seen == [_text(each) for each in reversed(all_owed)]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, [3, 2, 1, 0]),
        ({"status": "pending"}, [0]),
        ({"status": "delivered"}, [1]),
        ({"status": "dead"}, [2]),
        ({"status": "cancelled"}, [3]),
        ({"endpoint_id": public_id("ep", rows.ENDPOINT)}, [3, 2, 1, 0]),
        ({"endpoint_id": f"ep_{'a' * 26}"}, []),
        ({"subscription_id": public_id("sub", OTHER_SUBSCRIPTION)}, [1]),
        ({"event_id": public_id("evt", rows.event_id(2))}, [2]),
        ({"event_id": public_id("evt", rows.event_id(2)), "status": "pending"}, []),
    ],
)
async def test_each_filter(api: Api, query: dict[str, str], numbers: list[int]) -> None:
    """Each filter takes what it says; what names nothing finds nothing."""
    all_owed = [_owed(number) for number in range(4)]
    all_owed[1] = _owed(1, subscription_id=OTHER_SUBSCRIPTION)
    async with api.database.write() as connection:
        await rows.add_owed(connection, all_owed[0])
        await rows.end(connection, all_owed[1], "delivered")
        await rows.end(connection, all_owed[2], "dead", reason="exhausted")
        await rows.end(connection, all_owed[3], "cancelled", number=0)

    found = await api.ask.get("/v1/deliveries", **query)

    assert [each["id"] for each in found.body["data"]] == [_text(all_owed[number]) for number in numbers]
    assert found.body["next_cursor"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "lost"),
        ("status", ""),
        ("endpoint_id", "ep_x"),
        ("endpoint_id", ""),
        ("subscription_id", f"ep_{'a' * 26}"),
        ("event_id", f"evt_{'A' * 26}"),
        ("event_id", f"evt_{'a' * 25}b"),
        ("event_id", "\x00"),
        ("limit", "501"),
        ("bucket", "photos"),
    ],
)
async def test_a_bad_parameter_is_named(api: Api, name: str, value: str) -> None:
    """Unknown parameters, states and malformed ids are 422."""
    found = await api.ask.get("/v1/deliveries", **{name: value})

    assert found.status == 422
    assert [each["pointer"] for each in found.body["errors"]] == [f"/{name}"]


async def test_retrying_a_pending_one_makes_it_due_and_wakes_its_lane(api_on_both: Api) -> None:
    """The answer is 202 and the delivery; the relay of this process is told."""
    api, owed = api_on_both, _owed(1)
    async with api.database.write() as connection:
        await rows.add_owed(connection, owed)

    answer = await api.ask.post(f"/v1/deliveries/{_text(owed)}/retry", None)

    assert answer.status == 202
    assert (answer.body["id"], answer.body["status"], answer.body["attempts"]) == (_text(owed), "pending", [])
    assert answer.body["due_at"] < "9999"
    assert api.around.woken == [frozenset({LANE})]


async def test_retrying_a_dead_one_twice_at_once_owes_it_once(api_on_both: Api) -> None:
    """Both are 202 and tell the same; its attempts stay, and its reason goes."""
    api, owed = api_on_both, _owed(1)
    async with api.database.write() as connection:
        await rows.end(connection, owed, "dead", number=1, reason="exhausted")

    answers = await asyncio.gather(*(api.ask.post(f"/v1/deliveries/{_text(owed)}/retry", None) for _ in range(2)))

    assert [each.status for each in answers] == [202, 202]
    assert answers[0].body == answers[1].body
    assert (answers[0].body["status"], answers[0].body["reason"], answers[0].body["ended_at"]) == (
        "pending",
        None,
        None,
    )
    assert [each["number"] for each in answers[0].body["attempts"]] == [1]
    async with api.database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(delivery))).scalar_one() == 1
    listed = await api.ask.get("/v1/deliveries")
    assert [each["status"] for each in listed.body["data"]] == ["pending"]


@pytest.mark.parametrize("status", ["delivered", "cancelled"])
async def test_what_is_over_for_good_is_409(api: Api, status: str) -> None:
    """A success and a cancellation cannot be retried; nothing is woken."""
    owed = _owed(1)
    async with api.database.write() as connection:
        await rows.end(connection, owed, status)

    answer = await api.ask.post(f"/v1/deliveries/{_text(owed)}/retry", None)

    assert (answer.status, answer.body["code"]) == (409, "wrong_state")
    assert api.around.woken == []


async def test_what_was_unsubscribed_is_409(api: Api) -> None:
    """A dead delivery of a deleted subscription stays dead."""
    owed = _owed(1)
    async with api.database.write() as connection:
        await rows.end(connection, owed, "dead", reason="gone")
        await connection.execute(update(subscription).values(deleted_at=now()))

    answer = await api.ask.post(f"/v1/deliveries/{_text(owed)}/retry", None)

    assert answer.status == 409
    assert (await api.ask.get(f"/v1/deliveries/{_text(owed)}")).body["status"] == "dead"


@pytest.mark.parametrize("path", [NOBODY, NOBODY.upper(), "evt" + NOBODY[3:], "x", "%00"])
async def test_an_id_that_names_nothing_is_404(api: Api, path: str) -> None:
    """Unknown or malformed, to be read or to be retried."""
    read = await api.ask.get(f"/v1/deliveries/{path}")
    retried = await api.ask.post(f"/v1/deliveries/{path}/retry", None)

    assert (read.status, retried.status) == (404, 404)


async def test_strangers_see_and_do_nothing(api: Api) -> None:
    """Without a key every route answers 401."""
    answers = [
        await api.nobody.get("/v1/deliveries"),
        await api.nobody.get(f"/v1/deliveries/{NOBODY}"),
        await api.nobody.post(f"/v1/deliveries/{NOBODY}/retry", None),
    ]

    assert [each.status for each in answers] == [401, 401, 401]


def _owed(number: int, **fields: Any) -> Owed:
    made_at = NOON + timedelta(seconds=number)
    return Owed(**{"event_id": rows.event_id(number), "created_at": made_at, **fields})


def _text(owed: Owed) -> str:
    return public_id("dlv", owed.key)
