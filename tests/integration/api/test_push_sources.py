"""Sources that are pushed to, over REST: their token, shown once and changed at will, and where they are pushed to.

What may be pushed, and how, is not here: the one kind of these tests takes nothing.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from app.api.app import ApiState, create_app
from app.domain.configuration import Source
from app.domain.ports import Now
from app.sources import KINDS, PushKind
from app.store import keys, schema
from app.store.configuration import SqlConfigurationStore
from app.store.database import Database
from app.store.migrate import migrate
from tests.bed.asgi import AsgiClient

FAKE = {"name": "store", "kind": "fake", "config": {}}
SQS = {"name": "q", "kind": "sqs", "config": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"}}


class FakeConfig(BaseModel):
    """What a source of the fake kind is told."""

    model_config = ConfigDict(extra="forbid")

    level: int = 1


def _open(_source: Source, _now: Now) -> NoReturn:
    raise AssertionError("the API opens no source")


class Pushed:
    """The API with a kind that is pushed to."""

    def __init__(self, state: ApiState, database: Database, key: str) -> None:
        self.state = state
        self.database = database
        self._key = key
        self.ask = self.at(None)

    def at(self, public_url: str | None) -> AsgiClient:
        """Ask an API that was told where it is reached."""
        app = create_app(replace(self.state, public_url=public_url))
        return AsgiClient(app, json.loads(json.dumps(app.openapi())), key=self._key)

    async def token_hash(self) -> bytes:
        """Give what is kept of the only source's token."""
        async with self.database.read() as connection:
            kept: bytes = (await connection.execute(select(schema.source.c.token_hash))).scalar_one()
            return kept


@pytest.fixture
async def pushed(database_url: str, make_state: Callable[[Database], ApiState]) -> AsyncIterator[Pushed]:
    """Give the API over each database."""
    database = Database(database_url)
    await migrate(database)
    kinds = {**KINDS, "fake": PushKind(config=FakeConfig, road="s3", open=_open)}
    async with database.write() as connection:
        _, key = await keys.create(connection, name="test")
    yield Pushed(replace(make_state(database), source_kinds=kinds), database, key)
    await database.aclose()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def test_the_token_is_shown_at_creation_and_never_again(pushed: Pushed) -> None:
    """Of it only a hash is kept; neither reading, listing nor changing tells it."""
    made = await pushed.ask.post("/v1/sources", FAKE)
    path = made.headers["location"]
    later = [
        await pushed.ask.get(path),
        await pushed.ask.get("/v1/sources"),
        await pushed.ask.patch(path, {"name": "renamed", "config": {"level": 2}}),
        await pushed.ask.patch(path, {"paused": True}),
    ]

    token = made.body.pop("token")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert later[0].body == made.body
    assert [each.status for each in later] == [200, 200, 200, 200]
    assert not [each for each in later if token in str(each.body) or "'token'" in str(each.body)]
    assert await pushed.token_hash() == _hash(token)
    async with pushed.database.read() as connection:
        rows = (await connection.execute(select(schema.source))).all()
    assert token not in str(rows)


async def test_a_kind_that_is_read_from_has_no_token(pushed: Pushed) -> None:
    """Neither at creation nor on request, and nowhere to push to; an unknown source is unknown first."""
    made = await pushed.ask.post("/v1/sources", SQS)

    refused = await pushed.ask.post(f"{made.headers['location']}/rotate-token", None)
    unknown = [
        await pushed.ask.post(f"/v1/sources/{each}/rotate-token", None) for each in (f"src_{'a' * 26}", "x", "%00")
    ]

    assert "token" not in made.body
    assert made.body["push_url"] is None
    assert (refused.status, refused.body["code"]) == (409, "wrong_state")
    assert [each.status for each in unknown] == [404, 404, 404]
    assert await pushed.token_hash() is None


async def test_a_rotated_token_takes_the_place_of_the_old_one(pushed: Pushed) -> None:
    """At once in the database, and every replica learns of it, as of any change of the set-up."""
    store = SqlConfigurationStore(pushed.database)
    made = await pushed.ask.post("/v1/sources", FAKE)
    before = await store.load()

    rotated = await pushed.ask.post(f"{made.headers['location']}/rotate-token", None)

    after = await store.load()
    token = rotated.body.pop("token")
    assert rotated.status == 200
    assert token != made.body.pop("token")
    assert {**rotated.body, "updated_at": made.body["updated_at"]} == made.body
    assert after.epoch > before.epoch
    assert [each.token_hash for each in after.sources.values()] == [_hash(token)]


async def test_rotated_twice_at_once_one_token_holds(pushed: Pushed) -> None:
    """Every answer has a token of its own, and exactly one of them is the source's."""
    made = await pushed.ask.post("/v1/sources", FAKE)
    path = f"{made.headers['location']}/rotate-token"

    answers = await asyncio.gather(*(pushed.ask.post(path, None) for _ in range(4)))

    tokens = {each.body["token"] for each in answers}
    kept = await pushed.token_hash()
    assert len(tokens) == 4
    assert sum(_hash(each) == kept for each in tokens) == 1


async def test_a_change_amid_a_rotation_keeps_the_new_token(pushed: Pushed) -> None:
    """A patch that read the source before must not bring the old token back."""
    made = await pushed.ask.post("/v1/sources", FAKE)
    path = made.headers["location"]

    rotated, *_ = await asyncio.gather(
        pushed.ask.post(f"{path}/rotate-token", None),
        *(pushed.ask.patch(path, {"name": str(number)}) for number in range(4)),
    )

    assert await pushed.token_hash() == _hash(rotated.body["token"])


async def test_a_deleted_source_has_no_token_to_rotate(pushed: Pushed) -> None:
    """404, as everywhere."""
    path = (await pushed.ask.post("/v1/sources", FAKE)).headers["location"]
    await pushed.ask.delete(path)

    assert (await pushed.ask.post(f"{path}/rotate-token", None)).status == 404


async def test_the_whole_may_be_sent_back_from_elsewhere(pushed: Pushed) -> None:
    """Its URL reads otherwise to whom reaches us by another name; the answer to the creation holds a token too many."""
    made = await pushed.ask.post("/v1/sources", FAKE)
    path = made.headers["location"]
    whole = (await pushed.ask.get(path)).body

    refused = await pushed.ask.patch(path, {**made.body, "name": "renamed"})
    changed = await pushed.at("https://other.example").patch(path, {**whole, "name": "renamed"})

    assert (changed.status, changed.body["name"]) == (200, "renamed")
    assert (refused.status, [each["pointer"] for each in refused.body["errors"]]) == (422, ["/token"])


async def test_the_push_url_is_where_the_gateway_is_said_to_be(pushed: Pushed) -> None:
    """As set, whatever name the caller used; it is on every view, and the token is not in it."""
    ask = pushed.at("https://hooks.example:8443")

    made = await ask.ask("POST", "/v1/sources", body=FAKE, headers={"host": "elsewhere.example"})

    expected = f"https://hooks.example:8443/v1/ingest/s3/{made.body['id']}"
    path = made.headers["location"]
    views = [
        made.body,
        (await ask.get(path)).body,
        (await ask.get("/v1/sources")).body["data"][0],
        (await ask.patch(path, {"name": "renamed"})).body,
        (await ask.post(f"{path}/rotate-token", None)).body,
    ]
    assert [each["push_url"] for each in views] == [expected] * 5


HOSTS: list[tuple[dict[str, str], str]] = [
    ({"host": "gateway.example"}, "http://gateway.example"),
    ({"host": "gateway.example:8080"}, "http://gateway.example:8080"),
    ({"host": "[::1]:8080"}, "http://[::1]:8080"),
    ({"host": "GATEWAY.example", "x-forwarded-host": "evil.example"}, "http://GATEWAY.example"),
    ({}, "http://gateway.test:80"),
    *(
        ({"host": host}, "http://gateway.test:80")
        for host in (
            "",
            "user:word@evil.example",
            "evil.example/path",
            "evil.example?x",
            "evil.example#x",
            "evil example",
            '"><script>alert(1)</script>',
            "a\r\nb",
            "evil.example:99999",
            "evil.example:0",
            "evil.example:",
            "[evil]",
            "é.example",
            "x" * 300,
        )
    ),
]


@pytest.mark.parametrize(("headers", "base"), HOSTS)
async def test_the_push_url_is_where_the_caller_reached_us(pushed: Pushed, headers: dict[str, Any], base: str) -> None:
    """Without a setting it begins with the request's own name for us, or our address where that is no name."""
    made = await pushed.ask.ask("POST", "/v1/sources", body=FAKE, headers=headers)

    assert (made.status, made.body["push_url"]) == (201, f"{base}/v1/ingest/s3/{made.body['id']}")


@pytest.mark.parametrize(
    ("config", "pointer"),
    [({"level": "1"}, "/config/level"), ({"level": 1.5}, "/config/level"), ({"leve": 1}, "/config/leve")],
)
async def test_a_bad_config_makes_no_source(pushed: Pushed, config: dict[str, Any], pointer: str) -> None:
    """It is pointed at, and no token is given out."""
    refused = await pushed.ask.post("/v1/sources", {**FAKE, "config": config})

    assert (refused.status, [each["pointer"] for each in refused.body["errors"]]) == (422, [pointer])
    assert (await pushed.ask.get("/v1/sources")).body["data"] == []
