"""Events over REST: listed, narrowed, read, and the bytes of their records."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from app.domain.ids import EventId, public_id
from tests.bed import rows
from tests.bed.rows import NOON, Owed
from tests.integration.api.conftest import Api

NOBODY = f"evt_{'a' * 26}"


HOSTILE = (
    "key_prefix=%00",
    "key_prefix=%ED%A0%80",
    "key_prefix=%FF%27;--",
    "key_prefix=" + "%25" * 3000,
    "bucket=%27%20OR%201=1%20--",
    "bucket=%ED%A0%80",
    "type=%F0%9F%98%80",
    "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59.999999Z&bucket=x",
)


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


async def test_an_event_is_shown_with_its_deliveries(api_on_both: Api) -> None:
    """Everything S3 said, null for what it did not say, times with milliseconds, and who is owed it."""
    api = api_on_both
    async with api.database.write() as connection:
        made = await rows.add_event(
            connection,
            1,
            key=b"a \xff.jpg",
            received_key="a+%FF.jpg",
            size=2**40,
            etag="0123",
            extra='{"glacierEventData":{"days":3}}',
        )
        owed = Owed(event_id=made, due_at=NOON)
        await rows.add_owed(connection, owed)

    shown = await api.ask.get(f"/v1/events/{_text(made)}")

    assert shown.status == 200
    assert shown.body == {
        "id": _text(made),
        "type": "s3:ObjectCreated:Put",
        "change": "created",
        "bucket": "photos",
        "key": "a \ufffd.jpg",
        "received_key": "a+%FF.jpg",
        "version_id": None,
        "size": 2**40,
        "etag": "0123",
        "sequencer": None,
        "time": "2026-11-24T12:00:00.000Z",
        "region": None,
        "actor": None,
        "source_ip": None,
        "request_id": None,
        "host_id": None,
        "extra": {"glacierEventData": {"days": 3}},
        "source_id": public_id("src", rows.SOURCE),
        "recorded_at": "2026-11-24T12:00:01.000Z",
        "deliveries": [
            {
                "id": public_id("dlv", owed.key),
                "event_id": _text(made),
                "subscription_id": public_id("sub", rows.SUBSCRIPTION),
                "endpoint_id": public_id("ep", rows.ENDPOINT),
                "status": "pending",
                "reason": None,
                "due_at": "2026-11-24T12:00:00.000Z",
                "created_at": "2026-11-24T12:00:00.000Z",
                "ended_at": None,
            }
        ],
    }


async def test_what_became_of_an_event_is_told_for_each_subscription(api_on_both: Api) -> None:
    """Its delivery, or why there is none: the filter, or that the subscription was not there yet."""
    api = api_on_both
    endpoint_id = public_id("ep", rows.ENDPOINT)
    other = await api.ask.post(
        "/v1/subscriptions", {"name": "videos", "endpoint_id": endpoint_id, "filter": {"buckets": ["videos"]}}
    )
    async with api.database.write() as connection:
        made = await rows.add_event(connection, 1, key=b"a.jpg")
        owed = Owed(event_id=made, due_at=NOON)
        await rows.add_owed(connection, owed)

    path = f"/v1/events/{_text(made)}/matches"
    first = await api.ask.get(path, limit=2)
    second = await api.ask.get(path, limit=2, cursor=first.body["next_cursor"])

    told = {each["subscription_id"]: each for each in (*first.body["data"], *second.body["data"])}
    assert told[other.body["id"]]["because"] == "The bucket photos is none of: videos."
    assert told[public_id("sub", rows.SUBSCRIPTION)]["delivery"]["id"] == public_id("dlv", owed.key)
    assert told[public_id("sub", rows.SUBSCRIPTION)]["because"] is None
    assert told[public_id("sub", rows.OTHER_SUBSCRIPTION)]["because"].startswith("It would match now")
    assert (await api.ask.get(f"/v1/events/evt_{'a' * 26}/matches")).status == 404


async def test_a_record_is_given_byte_for_byte(api_on_both: Api) -> None:
    """As JSON that no browser takes for anything else, whitespace, order and odd bytes kept."""
    api = api_on_both
    record = b' {"z": 1,\n "a": "\xff\\u0000<script>" }'
    async with api.database.write() as connection:
        made = await rows.add_event(connection, 1, record=record)

    start, body = await _ask(api, f"/v1/events/{_text(made)}/record")

    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert body == record


async def test_a_list_is_paged_without_gap_or_repeat(api_on_both: Api) -> None:
    """While events come in, each that was there is seen once, newest first; the last page has no cursor."""
    api = api_on_both
    async with api.database.write() as connection:
        made = [await rows.add_event(connection, number) for number in range(5)]

    seen: list[str] = []
    cursor = None
    while not seen or cursor is not None:
        page = await api.ask.get("/v1/events", limit=2, **({} if cursor is None else {"cursor": cursor}))
        seen += [each["id"] for each in page.body["data"]]
        cursor = page.body["next_cursor"]
        async with api.database.write() as connection:
            await rows.add_event(connection, 100 + len(seen))

    assert seen == [_text(each) for each in reversed(made)]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [4, 3, 2, 1]),
        ("bucket=films", [2]),
        ("bucket=", [4, 3, 2, 1]),
        ("bucket=%25", []),
        ("type=s3:ObjectRemoved:Delete", [3]),
        ("type=ObjectRemoved:Delete", [3]),
        ("type=Tea:Made", []),
        (f"key_prefix={quote('a%')}", [1]),
        ("key_prefix=a", [2, 1]),
        (f"key_prefix={quote('ü/')}", [4]),
        ("key_prefix=%FF", [3]),
        ("key_prefix=%00", []),
        ("since=2026-11-24T12:00:02Z", [4, 3, 2]),
        ("until=2026-11-24T12:00:02.000Z", [1]),
        ("since=2026-11-24T14:00:02%2B02:00&until=2026-11-24T12:00:04Z", [3, 2]),
        ("since=2026-11-24T12:00:04Z&until=2026-11-24T12:00:02Z", []),
        ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59.999999Z", [4, 3, 2, 1]),
        ("bucket=photos&key_prefix=a&type=ObjectCreated:Put", [1]),
    ],
)
async def test_each_filter(api: Api, query: str, numbers: list[int]) -> None:
    """Buckets and types are compared whole, keys by their bytes, times as a half-open span."""
    async with api.database.write() as connection:
        for number, key in enumerate((b"a%/cat", b"a_/cat", b"\xff\xfe", "ü/cat".encode()), start=1):
            await rows.add_event(
                connection,
                number,
                key=key,
                bucket="films" if number == 2 else "photos",
                type="s3:ObjectRemoved:Delete" if number == 3 else "s3:ObjectCreated:Put",
                time=NOON.replace(second=number),
            )

    status, body = await _list(api, query)

    assert status == 200
    assert [each["id"] for each in body["data"]] == [_text(rows.event_id(number)) for number in numbers]


async def test_hostile_values_find_nothing(api_on_both: Api) -> None:
    """NUL, bytes that are no text, wildcards and quotes are values like any other, on both databases."""
    async with api_on_both.database.write() as connection:
        await rows.add_event(connection, 1)

    answers = [await _list(api_on_both, query) for query in HOSTILE]

    assert [(status, body["data"]) for status, body in answers] == [(200, [])] * len(HOSTILE)


@pytest.mark.parametrize(
    ("query", "status", "pointer"),
    [
        ("since=yesterday", 422, "/since"),
        ("since=", 422, "/since"),
        ("since=1700000000", 422, "/since"),
        ("since=2026-11-24", 422, "/since"),
        ("since=2026-11-24T10:00:00", 422, "/since"),
        ("since=2026-11-24T10:00:00+01:00", 422, "/since"),
        ("since=2026-02-30T10:00:00Z", 422, "/since"),
        ("until=0001-01-01T00:00:00%2B14:00", 422, "/until"),
        ("until=9999-12-31T23:59:59-14:00", 422, "/until"),
        ("bucket=%00", 422, "/bucket"),
        ("type=s3:%00", 422, "/type"),
        ("limit=0", 422, "/limit"),
        ("limit=501", 422, "/limit"),
        ("limit=99999999999999999999999", 422, "/limit"),
        ("limit=ten", 422, "/limit"),
        ("colour=red", 422, "/colour"),
        ("status=dead", 422, "/status"),
        ("cursor=x", 400, "/cursor"),
        ("cursor=", 400, "/cursor"),
        ("cursor=%00", 400, "/cursor"),
        ("cursor=%FF", 400, "/cursor"),
    ],
)
async def test_a_bad_parameter_is_named(api: Api, query: str, status: int, pointer: str) -> None:
    """Unknown parameters and bad values are turned down by name; a cursor no list gave is 400."""
    found, body = await _list(api, query)

    assert found == status
    assert [each["pointer"] for each in body["errors"]] == [pointer]


async def test_a_cursor_belongs_to_its_list(api: Api) -> None:
    """The cursor of one list is turned down by another."""
    async with api.database.write() as connection:
        for number in range(2):
            await rows.add_event(connection, number)
    page = await api.ask.get("/v1/events", limit=1)

    answers = [
        await api.ask.get(path, cursor=page.body["next_cursor"])
        for path in ("/v1/events", "/v1/deliveries", "/v1/quarantine", "/v1/sources")
    ]

    assert [each.status for each in answers] == [200, 400, 400, 400]


@pytest.mark.parametrize("path", [NOBODY, NOBODY.upper(), "dlv" + NOBODY[3:], "x", "%00", "evt_" + "a" * 25 + "b"])
async def test_an_id_that_names_nothing_is_404(api: Api, path: str) -> None:
    """Unknown or malformed, for the event and for its record."""
    answers = [await api.ask.get(f"/v1/events/{path}"), await api.ask.get(f"/v1/events/{path}/record")]

    assert [each.status for each in answers] == [404, 404]


async def test_strangers_see_nothing(api: Api) -> None:
    """Without a key every route answers 401."""
    paths = ("/v1/events", f"/v1/events/{NOBODY}", f"/v1/events/{NOBODY}/record")

    answers = [await api.nobody.get(path, colour="red") for path in paths]

    assert [each.status for each in answers] == [401, 401, 401]


def _text(event_id: EventId) -> str:
    return public_id("evt", event_id)


async def _list(api: Api, query: str) -> tuple[int, Any]:
    """Ask with a query as it stands, which need not be what urlencode would write."""
    start, body = await _ask(api, "/v1/events", query)
    return start["status"], json.loads(body)


async def _ask(api: Api, path: str, query: str = "") -> tuple[Any, bytes]:
    headers = {"authorization": f"Bearer {api.key}"}
    start, *rest = await api.ask._exchange("GET", path, query, headers, _nothing())
    return start, b"".join(part.get("body", b"") for part in rest)


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
