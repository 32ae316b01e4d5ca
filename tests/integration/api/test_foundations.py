"""What holds on every route: who may ask, what a body is, how errors look, how lists page, what the document says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from structlog.testing import capture_logs

from app.api.app import ApiState, create_app, openapi_document
from app.domain.ids import parse_id
from app.store import keys
from app.store.database import Database
from tests.bed.asgi import AsgiClient
from tests.integration.api.conftest import Api

SOURCE = {
    "name": "uploads",
    "kind": "sqs",
    "config": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"},
}
NOUNS = ("endpoints", "subscriptions", "sources")


@pytest.mark.parametrize("noun", NOUNS)
async def test_nobody_gets_in_without_a_key(api: Api, noun: str) -> None:
    """401 with a challenge on every route, before the body is looked at and whatever the id."""
    answers = [
        await api.nobody.get(f"/v1/{noun}"),
        await api.nobody.post(f"/v1/{noun}", b"{not json"),
        await api.nobody.get(f"/v1/{noun}/x"),
        await api.nobody.patch(f"/v1/{noun}/x", b"{not json"),
        await api.nobody.delete(f"/v1/{noun}/x"),
    ]

    assert [each.status for each in answers] == [401] * 5
    assert {each.headers["www-authenticate"].partition(" ")[0] for each in answers} == {"Bearer"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", f"Bearer bp_{'x' * 43}", "Bearer bp_é", "bp_{key}"]
)
async def test_a_wrong_key_is_401(api: Api, header: str) -> None:
    """Whatever is wrong with it; what was sent is not repeated."""
    answer = await api.nobody.ask("GET", "/v1/sources", headers={"Authorization": header.replace("{key}", api.key)})

    assert answer.status == 401
    assert "xxxx" not in str(answer.body)


async def test_a_revoked_key_stops_at_once(api_on_both: Api) -> None:
    """The next request with it is 401."""
    api = api_on_both
    before = await api.ask.get("/v1/sources")
    async with api.database.write() as connection:
        [key] = await keys.list_all(connection)
        await keys.revoke(connection, key.id)

    after = await api.ask.get("/v1/sources")

    assert (before.status, after.status) == (200, 401)


async def test_the_scheme_is_read_in_any_case(api: Api) -> None:
    """RFC 9110: schemes are case-insensitive."""
    answer = await api.nobody.ask("GET", "/v1/sources", headers={"Authorization": f"bearer {api.key}"})

    assert answer.status == 200


DEEP = b'{"a":' * 50 + b"1" + b"}" * 50
VERY_DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"{'name': 1}",
        b"name=x",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1} x',
        b'{"a": 1, "a": 2}',
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"9" * 5000 + b"}",
        DEEP,
        VERY_DEEP,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_that_is_not_json_is_400(api: Api, body: bytes) -> None:
    """For POST and PATCH, with a sentence."""
    made = await api.ask.post("/v1/sources", SOURCE)

    answers = [await api.ask.post("/v1/sources", body), await api.ask.patch(made.headers["location"], body)]

    assert [(each.status, each.body["code"]) for each in answers] == [(400, "malformed_body")] * 2


@pytest.mark.parametrize("body", [[], "x", 5, None, True, [{"name": "x"}]])
async def test_a_body_that_is_no_object_is_422(api: Api, body: Any) -> None:
    """JSON, but not what is taken; the pointer is that of the whole."""
    made = await api.ask.post("/v1/sources", SOURCE)
    raw = json.dumps(body).encode()

    answers = [await api.ask.post("/v1/sources", raw), await api.ask.patch(made.headers["location"], raw)]

    assert [(each.status, each.body["errors"][0]["pointer"]) for each in answers] == [(422, "")] * 2


@pytest.mark.parametrize("kind", ["application/json", "application/merge-patch+json", "text/plain", ""])
async def test_json_is_json_whatever_its_content_type(api: Api, kind: str) -> None:
    """The body tells, so that a plain curl works."""
    made = await api.ask.ask("POST", "/v1/sources", body=SOURCE, headers={"Content-Type": kind})

    assert made.status == 201


async def test_a_number_past_every_float_is_422(api: Api) -> None:
    """1e999 is JSON, and no number that could be kept."""
    answer = await api.ask.post("/v1/endpoints", b'{"name":"x","kind":"webhook","config":{},"timeout_seconds":1e999}')

    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/timeout_seconds")


async def test_a_body_over_a_mebibyte_is_413(api: Api) -> None:
    """Announced by its length or counted in chunks; one of exactly a mebibyte is read."""
    padded = json.dumps(SOURCE).encode().ljust(1024 * 1024)

    async def chunks(rest: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(padded), 65536):
            yield padded[start : start + 65536]
        yield rest

    announced = await api.ask.ask("POST", "/v1/sources", body=b"{}", headers={"Content-Length": "1048577"})
    counted = await api.ask.post("/v1/sources", chunks(b" "))
    fitting = await api.ask.ask("POST", "/v1/sources", body=chunks(b""), headers={"Transfer-Encoding": "chunked"})

    assert [announced.status, counted.status] == [413, 413]
    assert fitting.status == 201
    assert len((await api.ask.get("/v1/sources")).body["data"]) == 1


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v1/nope", "/v1/sources/", "/v1/sources/x/y", "//v1/sources"])
async def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    """As problem details, and without a redirect."""
    answer = await api.ask.get(path)

    assert (answer.status, answer.body["code"]) == (404, "no_route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/sources", "GET, HEAD, POST"),
        ("DELETE", "/v1/endpoints", "GET, HEAD, POST"),
        ("POST", "/v1/subscriptions/x", "DELETE, GET, HEAD, PATCH"),
        ("OPTIONS", "/v1/sources", "GET, HEAD, POST"),
        ("BREW", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_a_path_does_not_take_is_405(api: Api, method: str, path: str, allowed: str) -> None:
    """With every method it does take."""
    answer = await api.ask.ask(method, path)

    assert (answer.status, answer.headers["allow"]) == (405, allowed)


async def test_a_bug_is_500_without_a_word_of_it(
    sqlite_url: str, make_state: Callable[[Database], ApiState], document: dict[str, Any]
) -> None:
    """The answer is problem details; the exception is for the log."""

    class Broken(Database):
        def read(self) -> Any:
            raise RuntimeError("hunter2")

    database = Broken(sqlite_url)
    app = create_app(make_state(database))

    with capture_logs() as logged:
        answer = await AsgiClient(app, document, key=f"bp_{'x' * 43}").get("/v1/sources")

    await database.aclose()
    assert [(each["event"], each["log_level"], each["path"]) for each in logged] == [
        ("request.failed", "error", "/v1/sources")
    ]
    assert (answer.status, answer.body["code"]) == (500, "internal")
    assert "hunter2" not in str(answer.body)


async def test_a_database_that_is_away_is_503(make_state: Callable[[Database], ApiState], tmp_path: Path) -> None:
    """With Retry-After; a text that has no key's form is 401 all the same, and the process is alive."""
    database = Database(f"postgresql://nobody@/nothing?host={tmp_path}")
    app = create_app(make_state(database))
    client = AsgiClient(app, app.openapi(), key=f"bp_{'x' * 43}")

    answers = [await client.get("/v1/sources"), await client.post("/v1/sources", SOURCE)]
    stranger = await AsgiClient(app, app.openapi(), key="nonsense").get("/v1/sources")
    alive = await client.get("/healthz")

    await database.aclose()
    assert [(each.status, each.body["code"]) for each in answers] == [(503, "store_unavailable")] * 2
    assert answers[0].headers["retry-after"] == "1"
    assert (stranger.status, alive.status) == (401, 200)


async def test_the_process_is_asked_without_a_key(api: Api) -> None:
    """Health, readiness, metrics, document and docs are open; readiness falls when the process says so."""
    paths = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")

    open_to_all = [await api.nobody.get(path) for path in paths]
    api.around.is_ready = False
    unready = await api.nobody.get("/readyz")
    alive = await api.nobody.get("/healthz")

    assert [each.status for each in open_to_all] == [200] * 5
    assert b"bucketpost_events_total" in open_to_all[2].body
    assert (unready.status, unready.body["code"], alive.status) == (503, "not_ready", 200)


async def test_head_is_get_without_the_body(api: Api) -> None:
    """Same status, same headers, nothing else."""
    got = await api.ask.get("/v1/sources")

    head = await api.ask.ask("HEAD", "/v1/sources")

    assert (head.status, head.headers, head.body) == (got.status, got.headers, None)


async def test_without_the_api_only_the_process_answers(
    sqlite_url: str, make_state: Callable[[Database], ApiState]
) -> None:
    """A process of other parts has no routes under /v1."""
    database = Database(sqlite_url)
    state = make_state(database)
    app = create_app(ApiState(**{name: getattr(state, name) for name in ApiState.__slots__} | {"serves_api": False}))
    client = AsgiClient(app, app.openapi(), key=None)

    answers = [await client.get("/v1/sources"), await client.get("/healthz")]

    await database.aclose()
    assert [each.status for each in answers] == [404, 200]


async def test_times_and_ids_have_their_form(api: Api) -> None:
    """UTC with milliseconds and Z; a prefix and 26 characters."""
    made = (await api.ask.post("/v1/sources", SOURCE)).body

    assert len(made["created_at"]) == len("2026-11-24T10:00:00.000Z")
    assert made["created_at"].endswith("Z")
    assert parse_id("src", made["id"]) is not None


async def test_pages_leave_nothing_out_while_rows_come_in(api_on_both: Api) -> None:
    """Every row there at the first page is seen once, newest first, though others come and go meanwhile."""
    ask = api_on_both.ask
    names = [str(number) for number in range(7)]
    for name in names:
        await ask.post("/v1/sources", {**SOURCE, "name": name})

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask.get("/v1/sources", limit=2, **cursor)
        seen += [each["name"] for each in page.body["data"]]
        late = await ask.post("/v1/sources", {**SOURCE, "name": "late"})
        if len(seen) == 4:
            await ask.delete(late.headers["location"])
        if page.body["next_cursor"] is None:
            break
        cursor = {"cursor": page.body["next_cursor"]}

    assert seen == names[::-1]


async def test_a_list_of_exactly_a_page_has_no_next(api: Api) -> None:
    """No cursor leads to an empty page."""
    await asyncio.gather(*(api.ask.post("/v1/sources", SOURCE) for _ in range(2)))

    page = await api.ask.get("/v1/sources", limit=2)

    assert (len(page.body["data"]), page.body["next_cursor"]) == (2, None)


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("cursor", ["", "x", "====", "AAAA", "é", "MS54", "a" * 300, "OTk5OTk5OTk5OTk5OTk5OTk5LmE"])
async def test_a_bad_cursor_is_400(api: Api, noun: str, cursor: str) -> None:
    """Whatever is wrong with it."""
    answer = await api.ask.get(f"/v1/{noun}", cursor=cursor)

    assert (answer.status, answer.body["code"]) == (400, "bad_cursor")


async def test_a_cursor_of_another_list_is_400(api: Api) -> None:
    """It names a place of another noun."""
    for _ in range(2):
        await api.ask.post("/v1/sources", SOURCE)
    cursor = (await api.ask.get("/v1/sources", limit=1)).body["next_cursor"]

    answer = await api.ask.get("/v1/endpoints", cursor=cursor)

    assert answer.status == 400


@pytest.mark.parametrize(
    ("query", "pointer"),
    [({"limit": 0}, "/limit"), ({"limit": 501}, "/limit"), ({"limit": "x"}, "/limit"), ({"limmit": 1}, "/limmit")],
)
async def test_a_bad_query_parameter_is_422(api: Api, query: dict[str, Any], pointer: str) -> None:
    """Out of bounds, of the wrong type, or unknown."""
    answer = await api.ask.get("/v1/sources", **query)

    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, pointer)


def test_the_document_is_valid_and_stable() -> None:
    """OpenAPI 3.1, the same text each time, and made without a database."""
    first, second = openapi_document(), openapi_document()

    document = json.loads(first)
    validate(document)
    assert first == second
    assert first.endswith("}\n")
    assert document["openapi"].startswith("3.1")


def test_every_operation_is_described() -> None:
    """Each has an id of its own, a tag, a summary, and its problems; each under /v1 asks for a key."""
    document = json.loads(openapi_document())
    operations = [(path, operation) for path, each in document["paths"].items() for operation in each.values()]

    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    for path, operation in operations:
        assert operation["tags"]
        assert operation["description"]
        if path.startswith("/v1/ingest/"):
            assert operation.get("security", [{"token": []}]) == [{"token": []}]
        elif path.startswith("/v1"):
            assert operation["security"] == [{"key": []}]
            assert {"401", "500", "503"} <= set(operation["responses"])
