"""Requests sent again with an Idempotency-Key: one effect, one answer, and neither for anybody else."""

import asyncio
import json
from typing import Any, Final

import pytest
from sqlalchemy import func, insert, select, text

from app.api.app import openapi_document
from app.api.idempotency import IN_STEPS
from app.domain.ids import DEFAULT_TENANT, TenantId, public_id
from app.store import idempotency, keys
from app.store.columns import now
from app.store.epoch import lock_changes
from app.store.idempotency import Asked
from app.store.outbox_schema import quarantine
from app.store.schema import endpoint, idempotency_record, tenant
from tests.bed import rows
from tests.bed.asgi import Answer, AsgiClient
from tests.integration.api.conftest import Api

WEBHOOK: Final = {"name": "inbox", "kind": "webhook", "config": {"url": "https://example.com/hook"}}
OTHER: Final = {**WEBHOOK, "name": "other"}
EVERYTHING: Final[dict[str, Any]] = {"filter": {}}
UNKNOWN: Final = "a" * 26
KEYED: Final = {
    path: operation["post"]
    for path, operation in json.loads(openapi_document())["paths"].items()
    if "post" in operation and path.startswith("/v1/") and not path.startswith("/v1/ingest/")
}


async def post(ask: AsgiClient, path: str, body: Any, key: str) -> Answer:
    """POST with a key of the caller's."""
    return await ask.ask("POST", path, body=body, headers={"idempotency-key": key})


async def count(api: Api, table: Any = endpoint) -> int:
    """Count the rows of a table."""
    async with api.database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def as_somebody(api: Api, key: str) -> AsgiClient:
    """Ask the same API with another key."""
    return AsgiClient(api.ask._app, api.ask._document, key=key)


async def test_a_request_sent_again_gets_its_answer_again(api_on_both: Api) -> None:
    """Body, status and Location are those of the first, the secret included; there is one endpoint, told of once."""
    api = api_on_both

    first = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")
    again = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")

    assert first.status == 201
    assert "idempotency-replayed" not in first.headers
    assert first.body["secret"].startswith("whsec_")
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers == {**first.headers, "idempotency-replayed": "true"}
    assert await count(api) == 1
    assert api.around.changes == 1


async def test_an_answer_without_a_body_is_given_again(api_on_both: Api) -> None:
    """What was discarded the first time is answered with 204 again, not with 404."""
    api = api_on_both
    async with api.database.write() as connection:
        made = public_id("qrn", await rows.add_quarantined(connection, 1))

    answers = [await post(api.ask, f"/v1/quarantine/{made}/discard", None, "away") for _ in range(2)]
    anew = await post(api.ask, f"/v1/quarantine/{made}/discard", None, "another")

    assert [(each.status, each.body) for each in answers] == [(204, None), (204, None)]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert anew.status == 404


async def test_a_replay_is_made_once(api_on_both: Api) -> None:
    """Who timed out and asks again with the same key does not start a second job; with another key it is another."""
    api = api_on_both

    first = await post(api.ask, "/v1/replays", EVERYTHING, "again")
    again = await post(api.ask, "/v1/replays", EVERYTHING, "again")
    other = await post(api.ask, "/v1/replays", EVERYTHING, "anew")

    listed = await api.ask.get("/v1/replays")
    assert first.body == again.body
    assert {each["id"] for each in listed.body["data"]} == {first.body["id"], other.body["id"]}


async def test_a_key_names_one_request(api_on_both: Api) -> None:
    """With another body or at another path it is 422, and nothing is done."""
    api = api_on_both
    await post(api.ask, "/v1/endpoints", WEBHOOK, "mine")

    refused = [
        await post(api.ask, "/v1/endpoints", OTHER, "mine"),
        await post(api.ask, "/v1/sources", WEBHOOK, "mine"),
    ]

    assert [(each.status, each.body["code"]) for each in refused] == [(422, "idempotency_key_reused")] * 2
    assert [each.body["errors"][0]["pointer"] for each in refused] == ["/Idempotency-Key"] * 2
    assert await count(api) == 1


@pytest.mark.parametrize("key", ["", '""', "k" * 256, '"' + "k" * 256 + '"', "a\tb", "schl\xfcssel", "\x7f"], ids=repr)
async def test_a_bad_key_is_400(api: Api, key: str) -> None:
    """Empty, longer than 255 or no printable ASCII: nothing is done."""
    refused = await post(api.ask, "/v1/endpoints", WEBHOOK, key)

    assert (refused.status, refused.body["code"]) == (400, "bad_idempotency_key")
    assert refused.body["errors"][0]["pointer"] == "/Idempotency-Key"
    assert await count(api) == 0


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", '"', 'a"b'], ids=repr)
async def test_a_good_key_is_taken(api: Api, key: str) -> None:
    """From one to 255 characters, whichever of printable ASCII."""
    answers = [await post(api.ask, "/v1/endpoints", WEBHOOK, key) for _ in range(2)]

    assert [each.status for each in answers] == [201, 201]
    assert await count(api) == 1


async def test_a_quoted_key_is_the_same_bare(api: Api) -> None:
    """The draft has a string of RFC 8941; most send it bare."""
    first = await post(api.ask, "/v1/endpoints", WEBHOOK, r'"a\"b\\c"')
    again = await post(api.ask, "/v1/endpoints", WEBHOOK, r'a"b\c')

    assert first.body == again.body


async def test_nobody_without_a_key_of_the_api_learns_anything(api: Api) -> None:
    """401 comes before 400, 409 and 422."""
    await post(api.ask, "/v1/endpoints", WEBHOOK, "mine")

    answers = [await post(api.nobody, "/v1/endpoints", OTHER, key) for key in ("mine", "")]

    assert [each.status for each in answers] == [401, 401]


async def test_what_was_turned_down_may_be_asked_again(api_on_both: Api) -> None:
    """Nothing came of it, so nothing is remembered: the mended body may go under the same key."""
    api = api_on_both

    refused = await post(api.ask, "/v1/endpoints", {"name": "inbox"}, "mine")
    unknown = await post(api.ask, f"/v1/quarantine/qrn_{UNKNOWN}/reprocess", None, "steps")
    remembered = await count(api, idempotency_record)
    made = await post(api.ask, "/v1/endpoints", WEBHOOK, "mine")

    assert (refused.status, unknown.status, remembered) == (422, 404, 0)
    assert made.status == 201


async def test_tenants_do_not_share_keys(api_on_both: Api) -> None:
    """The same key and body of another tenant is another request, with an answer of its own."""
    api = api_on_both
    async with api.database.write() as connection:
        await connection.execute(insert(tenant).values(id=2, name="other", created_at=now()))
        _, key = await keys.create(connection, name="theirs", tenant_id=TenantId(2))
    theirs = as_somebody(api, key)

    first = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")
    second = await post(theirs, "/v1/endpoints", WEBHOOK, "make-it")
    other_body = await post(theirs, "/v1/sources", OTHER, "make-it")

    assert (first.status, second.status) == (201, 201)
    assert "idempotency-replayed" not in second.headers
    assert first.body["id"] != second.body["id"]
    assert other_body.body["code"] == "idempotency_key_reused"
    assert await count(api) == 2


async def test_no_answer_is_readable_in_the_database(api_on_both: Api) -> None:
    """Neither the secret nor anything else of the answer stands in the record."""
    api = api_on_both

    made = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")

    async with api.database.read() as connection:
        kept = (await connection.execute(select(idempotency_record.c.answer))).scalar_one()
    assert made.body["secret"].encode() not in kept
    assert made.body["id"].encode() not in kept


async def test_another_api_key_of_the_tenant_cannot_have_the_answer(api_on_both: Api) -> None:
    """It hears that the request was done, and does not do it again."""
    api = api_on_both
    async with api.database.write() as connection:
        _, key = await keys.create(connection, name="the next")

    await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")
    refused = await post(as_somebody(api, key), "/v1/endpoints", WEBHOOK, "make-it")

    assert (refused.status, refused.body["code"]) == (409, "answer_sealed")
    assert await count(api) == 1


async def test_a_request_under_way_is_409(api_on_both: Api) -> None:
    """Of two at once one waits for the set-up, which somebody else is changing; the other hears so at once."""
    api = api_on_both
    async with api.database.write() as connection:
        await lock_changes(connection)
        asked = {asyncio.create_task(post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")) for _ in range(2)}
        done, waiting = await asyncio.wait(asked, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    refused, made = [await each for each in (*done, *waiting)]
    again = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")

    assert len(done) == 1
    assert (refused.status, refused.body["code"]) == (409, "request_in_progress")
    assert refused.headers["retry-after"] == "1"
    assert (made.status, again.body) == (201, made.body)
    assert await count(api) == 1


async def test_many_at_once_have_one_effect(api_on_both: Api) -> None:
    """Each is answered as the first or told that it is under way."""
    api = api_on_both

    answers = await asyncio.gather(*(post(api.ask, "/v1/replays", EVERYTHING, "at-once") for _ in range(8)))

    made = {each.body["id"] for each in answers if each.status == 201}
    assert {each.status for each in answers} <= {201, 409}
    assert len(made) == 1
    assert [each["id"] for each in (await api.ask.get("/v1/replays")).body["data"]] == list(made)


async def test_the_effect_and_its_record_stand_or_fall_together(api_on_both: Api) -> None:
    """Where the record cannot be written there is no endpoint either, and nobody is told of one."""
    api = api_on_both
    await _refuse_records(api)

    refused = await post(api.ask, "/v1/endpoints", WEBHOOK, "make-it")

    assert refused.status == 422
    assert (await count(api), api.around.changes) == (0, 0)


async def test_a_request_in_steps_is_under_way_until_its_lease_ends(api_on_both: Api) -> None:
    """After a kill in its midst it is 409 for a while, then done anew; its answer is then kept."""
    api, path, body = api_on_both, "/v1/quarantine/discard", {"filter": {}, "dry_run": False}
    async with api.database.write() as connection:
        await rows.add_quarantined(connection, 1)
    first = await post(api.ask, path, body, "of another life")
    async with api.database.read() as connection:
        request_hash = (await connection.execute(select(idempotency_record.c.request_hash))).scalar_one()
    asked = Asked(tenant_id=DEFAULT_TENANT, key="in steps", request_hash=request_hash)

    async with api.database.write() as connection:
        await rows.add_quarantined(connection, 2)
        await idempotency.begin(connection, asked, lease_seconds=60)
    under_way = await post(api.ask, path, body, "in steps")
    async with api.database.write() as connection:
        await idempotency.begin(connection, asked, lease_seconds=-1)
    answers = [await post(api.ask, path, body, "in steps") for _ in range(2)]

    assert first.body["discarded"] == 1
    assert (under_way.status, under_way.body["code"]) == (409, "request_in_progress")
    assert [each.body["discarded"] for each in answers] == [1, 1]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert await count(api, quarantine) == 0


@pytest.mark.parametrize("path", KEYED)
async def test_every_post_heeds_the_header(api: Api, path: str) -> None:
    """Whoever may be asked to create or act looks at the key first."""
    refused = await post(api.ask, path.replace("{", "").replace("}", ""), {}, "")

    assert (refused.status, refused.body["code"]) == (400, "bad_idempotency_key")


def test_the_document_tells_of_it() -> None:
    """Every POST with an API key has the header and its answers, no other operation; those in steps exist."""
    operations = [
        (method == "post" and path in KEYED, operation)
        for path, each in json.loads(openapi_document())["paths"].items()
        for method, operation in each.items()
    ]

    for is_keyed, operation in operations:
        headers = [each["name"] for each in operation.get("parameters", []) if each["in"] == "header"]
        assert ("Idempotency-Key" in headers) == is_keyed
        if is_keyed:
            assert {"400", "409", "422"} <= operation["responses"].keys()
            told = [each for status, each in operation["responses"].items() if status < "300"]
            assert all("Idempotency-Replayed" in each["headers"] for each in told)
    assert {operation["operationId"] for operation in KEYED.values()} >= IN_STEPS


async def _refuse_records(api: Api) -> None:
    async with api.database.write() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("ALTER TABLE idempotency_record ADD CHECK (status IS NULL)"))
        else:
            await connection.execute(
                text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON idempotency_record "
                    "BEGIN SELECT RAISE(ABORT, 'CHECK constraint failed'); END"
                )
            )
