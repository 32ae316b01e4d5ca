"""The quarantine over REST: listed and read, bytes in base64; reprocessed and discarded, alone or by a filter."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from app.api.paging import write_cursor
from app.api.quarantine_fields import write_extent
from app.domain.ids import QuarantineId, TenantId, parse_id, public_id
from app.store.clearing import Extent
from app.store.place import Place
from app.store.quarantine import get_quarantined
from tests.bed import rows
from tests.bed.rows import NOON
from tests.integration.api.conftest import Api
from tests.unit.decode.samples import message, record

NOBODY = f"qrn_{'a' * 26}"
HOSTILE = {
    "empty": b"",
    "NUL": b"\x00" * 100,
    "no UTF-8": b"\xff\xfe{",
    "deep": b"[" * 100_000,
    "deep objects": b'{"Records":' * 5_000,
    "a long number": b'{"Records":' + b"9" * 1_000_000 + b"}",
    "half a surrogate pair": json.dumps({"Records": [record({"s3.bucket.name": "\ud800"})]}).encode(),
    "a NUL in the key": json.dumps({"Records": [record({"s3.object.key": "a%00b"})]}).encode(),
    "a time of no calendar": json.dumps({"Records": [record({"eventTime": "9999-12-31T23:59:60Z"})]}).encode(),
    "many bad records": message(*[record({"eventName": 7})] * 500),
}


async def test_what_is_kept_is_shown(api_on_both: Api) -> None:
    """With its source, the reason, every byte and how often it came."""
    api, raw = api_on_both, b"\xff\x00{not JSON"
    async with api.database.write() as connection:
        made = await rows.add_quarantined(connection, 1, raw=raw, seen=3, last_seen_at=NOON + timedelta(minutes=1))

    shown = await api.ask.get(f"/v1/quarantine/{public_id('qrn', made)}")
    listed = await api.ask.get("/v1/quarantine")

    assert shown.status == 200
    assert shown.body == {
        "id": public_id("qrn", made),
        "source_id": public_id("src", rows.SOURCE),
        "reason": "not JSON",
        "bytes": base64.b64encode(raw).decode(),
        "seen": 3,
        "first_seen_at": "2026-11-24T12:00:01.000Z",
        "last_seen_at": "2026-11-24T12:01:00.000Z",
    }
    assert listed.body == {"data": [shown.body], "next_cursor": None}


async def test_a_list_is_paged_without_gap_or_repeat(api_on_both: Api) -> None:
    """While more comes in, each that was there is seen once, newest first."""
    api = api_on_both
    async with api.database.write() as connection:
        made = [await rows.add_quarantined(connection, number) for number in range(5)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while not seen or cursor:
        page = await api.ask.get("/v1/quarantine", limit=2, **cursor)
        seen += [each["id"] for each in page.body["data"]]
        cursor = {"cursor": page.body["next_cursor"]} if page.body["next_cursor"] else {}
        async with api.database.write() as connection:
            await rows.add_quarantined(connection, 100 + len(seen))

    assert seen == [public_id("qrn", each) for each in reversed(made)]


@pytest.mark.parametrize("path", [NOBODY, "src" + NOBODY[3:], "x", "%00"])
async def test_an_id_that_names_nothing_is_404(api: Api, path: str) -> None:
    """Unknown or malformed."""
    assert (await api.ask.get(f"/v1/quarantine/{path}")).status == 404


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"source_id": public_id("src", rows.SOURCE)}, [4, 3, 2, 1]),
        ({"source_id": public_id("src", b"source-two------")}, [5]),
        ({"reason": "NOT json"}, [5, 3, 1]),
        ({"reason": "100%_"}, [2]),
        ({"reason": "%"}, [4, 2]),
        ({"reason": ""}, [5, 4, 3, 2, 1]),
        ({"since": "2026-11-24T12:00:02Z", "until": "2026-11-24T12:00:04.000Z"}, [3, 2]),
        ({"since": "2026-11-24T12:00:06Z"}, []),
        ({"until": "2026-11-24T14:00:01+02:00"}, []),
        ({"source_id": public_id("src", rows.SOURCE), "reason": "json", "since": "2026-11-24T12:00:02Z"}, [3]),
    ],
)
async def test_each_filter_of_the_list(api_on_both: Api, query: dict[str, str], numbers: list[int]) -> None:
    """By source, a part of the reason in whatever capitals, and a half-open span of `first_seen_at`; page by page."""
    api = api_on_both
    reasons = {1: "Not JSON.", 2: "100%_ sure", 3: "not json", 4: "100% sure", 5: "not JSON"}
    async with api.database.write() as connection:
        for number, reason in reasons.items():
            source = b"source-two------" if number == 5 else rows.SOURCE
            await rows.add_quarantined(connection, number, reason=reason, source_id=source)

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while not seen or cursor:
        page = await api.ask.get("/v1/quarantine", limit=2, **query, **cursor)
        seen += [each["id"] for each in page.body["data"]]
        cursor = {"cursor": page.body["next_cursor"]} if page.body["next_cursor"] else {}
        if not page.body["data"]:
            break

    assert seen == [public_id("qrn", number.to_bytes(16, "big")) for number in numbers]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_id", "src_x"),
        ("source_id", NOBODY),
        ("reason", "a\x00b"),
        ("reason", "x" * 201),
        ("since", "yesterday"),
        ("until", "2026-11-24"),
        ("bucket", "photos"),
        ("limit", "0"),
    ],
)
async def test_a_bad_parameter_is_turned_down(api: Api, name: str, value: str) -> None:
    """Ids, times and names that are none, each with a pointer."""
    answer = await api.ask.get("/v1/quarantine", **{name: value})

    assert answer.status == 422
    assert [each["pointer"] for each in answer.body["errors"]] == [f"/{name}"]


async def test_strangers_are_turned_down(api: Api) -> None:
    """There is nothing to see and nothing to do without a key."""
    answers = [await api.nobody.get(path) for path in ("/v1/quarantine", f"/v1/quarantine/{NOBODY}")]
    paths = (f"/{NOBODY}/reprocess", f"/{NOBODY}/discard", "/reprocess", "/discard")
    answers += [await api.nobody.post(f"/v1/quarantine{path}", {"filter": {}}) for path in paths]

    assert [each.status for each in answers] == [401] * 6


async def test_reprocessing_records_what_can_be_decoded(api_on_both: Api) -> None:
    """The event is there, owed, and its lane is woken in this process; the thing is gone, and a second click is 404."""
    api = api_on_both
    await _subscribe(api)
    made = await _keep(api, message(record()))

    done = await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)

    (event_id,) = done.body.pop("events")
    assert (done.status, done.body) == (200, {"outcome": "recorded", "reason": None})
    shown = await api.ask.get(f"/v1/events/{event_id}")
    assert (shown.body["key"], shown.body["source_id"]) == ("test.pdf", public_id("src", rows.SOURCE))
    assert [each["status"] for each in shown.body["deliveries"]] == ["pending"]
    assert [len(each) for each in api.around.woken] == [1]
    assert (await api.ask.get(f"/v1/quarantine/{made}")).status == 404
    assert (await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)).status == 404


async def test_reprocessing_keeps_what_is_refused(api_on_both: Api) -> None:
    """It is shown as it was, but for the reason of today."""
    api = api_on_both
    made = await _keep(api, b"{not JSON", seen=3)
    before = (await api.ask.get(f"/v1/quarantine/{made}")).body

    done = await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)

    after = (await api.ask.get(f"/v1/quarantine/{made}")).body
    assert (done.status, done.body["outcome"], done.body["events"]) == (200, "refused", [])
    assert done.body["reason"] != "Of old."
    assert after == {**before, "reason": done.body["reason"]}


async def test_reprocessing_parts_good_from_bad(api_on_both: Api) -> None:
    """The good record is an event, the bad one is kept with its own bytes, and the whole is gone."""
    api = api_on_both
    bad = record({"eventName": ""})
    made = await _keep(api, message(record(), bad))

    done = await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)

    listed = (await api.ask.get("/v1/quarantine")).body["data"]
    assert (done.body["outcome"], len(done.body["events"])) == ("recorded", 1)
    assert [json.loads(base64.b64decode(each["bytes"])) for each in listed] == [bad]
    assert [each["reason"] for each in listed] == [done.body["reason"]]


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_bytes_are_answered_and_kept(api_on_both: Api, raw: bytes) -> None:
    """Whatever the bytes are, reprocessing answers, alone and in bulk, and loses none of them."""
    api = api_on_both
    made = await _keep(api, raw)

    one = await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)
    many = await api.ask.post("/v1/quarantine/reprocess", {"filter": {}})

    assert (one.status, one.body["outcome"]) == (200, "refused")
    assert (many.status, many.body["refused"]) == (200, 1)
    assert base64.b64decode((await api.ask.get(f"/v1/quarantine/{made}")).body["bytes"]) == raw


async def test_discarding_deletes(api_on_both: Api) -> None:
    """Once; after that there is nothing to discard, to see or to reprocess."""
    api = api_on_both
    made = await _keep(api, message(record()))

    answers = [await api.ask.post(f"/v1/quarantine/{made}/discard", None) for _ in range(2)]

    assert [(each.status, each.body is None) for each in answers] == [(204, True), (404, False)]
    assert (await api.ask.get(f"/v1/quarantine/{made}")).status == 404
    assert (await api.ask.post(f"/v1/quarantine/{made}/reprocess", None)).status == 404
    assert (await api.ask.get("/v1/events")).body["data"] == []


@pytest.mark.parametrize("verb", ["reprocess", "discard"])
@pytest.mark.parametrize("path", [NOBODY, "src" + NOBODY[3:], "x", "%00"])
async def test_what_is_not_there_cannot_be_dealt_with(api: Api, verb: str, path: str) -> None:
    """Unknown or malformed ids are 404."""
    assert (await api.ask.post(f"/v1/quarantine/{path}/{verb}", None)).status == 404


@pytest.mark.parametrize("verb", ["reprocess", "discard"])
async def test_other_tenants_things_stay(api_on_both: Api, verb: str) -> None:
    """Neither by their id nor by a filter that takes all."""
    api = api_on_both
    made = await _keep(api, message(record()), tenant_id=2)

    one = await api.ask.post(f"/v1/quarantine/{made}/{verb}", None)
    many = await api.ask.post(f"/v1/quarantine/{verb}", {"filter": {}})

    assert (one.status, many.body["matched"], many.body["remaining"]) == (404, 0, 0)
    async with api.database.read() as connection:
        assert await get_quarantined(connection, TenantId(2), QuarantineId(parse_id("qrn", made) or b"")) is not None


async def test_a_dry_run_counts_and_changes_nothing(api_on_both: Api) -> None:
    """For both verbs, with the filter of a real run."""
    api = api_on_both
    for key in ("a", "b", "c"):
        await _keep(api, message(record({"s3.object.key": key})), reason=f"Of old: {key}.")
    asked = {"filter": {"reason": "OLD: "}, "dry_run": True}

    reprocess = await api.ask.post("/v1/quarantine/reprocess", asked)
    discard = await api.ask.post("/v1/quarantine/discard", asked | {"filter": {"reason": "old: c"}})

    counted = {"dry_run": True, "next_cursor": None}
    assert reprocess.body == {"matched": 3, "recorded": 0, "refused": 0, "remaining": 3, **counted}
    assert discard.body == {"matched": 1, "discarded": 0, "remaining": 1, **counted}
    assert len((await api.ask.get("/v1/quarantine")).body["data"]) == 3
    assert api.around.woken == []


async def test_bulk_takes_what_the_filter_says(api_on_both: Api) -> None:
    """Reprocessing counts what left and what stays; discarding takes the rest; then there is nothing."""
    api = api_on_both
    await _subscribe(api)
    for number in range(3):
        await _keep(api, message(record({"s3.object.key": f"{number}"})))
    await _keep(api, b"{")
    await _keep(api, message(record()), source_id=b"source-two------")
    over = {"remaining": 0, "dry_run": False, "next_cursor": None}

    first = await api.ask.post(
        "/v1/quarantine/reprocess", {"filter": {"source_id": public_id("src", rows.SOURCE), "reason": "OF OLD"}}
    )
    second = await api.ask.post("/v1/quarantine/discard", {"filter": {}})
    third = await api.ask.post("/v1/quarantine/discard", {"filter": {}})

    assert first.body == {"matched": 4, "recorded": 3, "refused": 1, **over}
    assert second.body == {"matched": 2, "discarded": 2, **over}
    assert third.body == {"matched": 0, "discarded": 0, **over}
    assert len((await api.ask.get("/v1/events")).body["data"]) == 3
    assert [len(each) for each in api.around.woken] == [1]


async def test_bulk_takes_a_span_of_time(api: Api) -> None:
    """As the list does."""
    span = {"since": "2026-11-24T10:00:00Z", "until": "2026-11-24T10:00:00.5+02:00"}

    counted = [
        await api.ask.post(f"/v1/quarantine/{verb}", {"filter": span, "dry_run": True})
        for verb in ("discard", "reprocess")
    ]

    assert [(each.status, each.body["matched"]) for each in counted] == [(200, 0), (200, 0)]


async def test_bulk_goes_on_by_its_cursor(api: Api) -> None:
    """The cursor leads past what was come to before; what it says is of the run it belongs to."""
    for number in range(4):
        await _keep(api, f"{{{number}".encode(), first_seen_at=NOON + timedelta(seconds=number))
    second = Place(at=NOON + timedelta(seconds=1), id=b"\xff" * 16)
    third = Place(at=NOON + timedelta(seconds=2), id=b"\xff" * 16)
    cursor = write_extent(Extent(after=second, last=third))
    from_the_start = write_extent(Extent(after=None, last=third))

    counted = await api.ask.post("/v1/quarantine/discard", {"filter": {}, "dry_run": True, "cursor": from_the_start})
    gone_on = await api.ask.post("/v1/quarantine/discard", {"filter": {}, "cursor": cursor})

    assert (counted.body["matched"], counted.body["next_cursor"]) == (3, from_the_start)
    assert (gone_on.body["discarded"], gone_on.body["next_cursor"]) == (1, None)
    left = (await api.ask.get("/v1/quarantine")).body["data"]
    assert [base64.b64decode(each["bytes"]) for each in left] == [b"{3", b"{1", b"{0"]


@pytest.mark.parametrize("verb", ["reprocess", "discard"])
@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        (b"", 400, []),
        (b"{", 400, []),
        ([], 422, [""]),
        ({}, 422, ["/filter"]),
        ({"filter": None}, 422, ["/filter"]),
        ({"filter": []}, 422, ["/filter"]),
        ({"filter": {}, "all": True}, 422, ["/all"]),
        ({"filter": {"bucket": "photos"}}, 422, ["/filter/bucket"]),
        ({"filter": {"source_id": "src_x", "reason": 7}}, 422, ["/filter/source_id", "/filter/reason"]),
        ({"filter": {"reason": "x" * 201}}, 422, ["/filter/reason"]),
        ({"filter": {"since": 1764000000, "until": "soon"}}, 422, ["/filter/since", "/filter/until"]),
        ({"filter": {}, "dry_run": "yes"}, 422, ["/dry_run"]),
        ({"filter": {}, "cursor": "x"}, 400, ["/cursor"]),
        ({"filter": {}, "cursor": "."}, 400, ["/cursor"]),
        ({"filter": {}, "cursor": write_cursor("qrn", Place(at=NOON, id=b"i" * 16))}, 400, ["/cursor"]),
    ],
)
async def test_a_bad_bulk_request_does_nothing(
    api: Api, verb: str, body: Any, status: int, pointers: list[str]
) -> None:
    """Without a filter, with fields that do not exist, with values of a wrong type: nothing is dealt with."""
    await _keep(api, message(record()))

    answer = await api.ask.post(f"/v1/quarantine/{verb}", body)

    assert (answer.status, [each["pointer"] for each in answer.body["errors"]]) == (status, pointers)
    assert len((await api.ask.get("/v1/quarantine")).body["data"]) == 1


async def _subscribe(api: Api) -> None:
    hook = {"name": "hook", "kind": "webhook", "config": {"url": "https://hooks.example/"}}
    made = await api.ask.post("/v1/endpoints", hook)
    await api.ask.post("/v1/subscriptions", {"name": "all", "endpoint_id": made.body["id"]})


async def _keep(api: Api, raw: bytes, **fields: Any) -> str:
    """Keep bytes that came at noon, for a reason of an older version; gives their public id."""
    digest = int.from_bytes(hashlib.sha256(raw).digest()[:8], "big")
    at_noon = {"first_seen_at": NOON, "last_seen_at": NOON, "reason": "Of old."}
    async with api.database.write() as connection:
        made = await rows.add_quarantined(
            connection, 1, id=digest.to_bytes(16, "big"), raw=raw, **{**at_noon, **fields}
        )
    return public_id("qrn", made)
