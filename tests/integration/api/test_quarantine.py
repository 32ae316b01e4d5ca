"""The quarantine over REST: listed and read, bytes in base64."""

import base64
from datetime import timedelta

import pytest

from app.domain.ids import public_id
from tests.bed import rows
from tests.bed.rows import NOON
from tests.integration.api.conftest import Api

NOBODY = f"qrn_{'a' * 26}"


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


async def test_unknown_parameters_and_strangers_are_turned_down(api: Api) -> None:
    """There is nothing to narrow this list by, and nothing to see without a key."""
    narrowed = await api.ask.get("/v1/quarantine", source_id="src_x")
    strangers = [await api.nobody.get(path) for path in ("/v1/quarantine", f"/v1/quarantine/{NOBODY}")]

    assert narrowed.status == 422
    assert [each["pointer"] for each in narrowed.body["errors"]] == ["/source_id"]
    assert [each.status for each in strangers] == [401, 401]
