"""Pushes over real connections, through the real API into both databases."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
import structlog

from app.domain.ids import public_id
from app.store.database import Database
from app.store.migrate import migrate
from tests.bed import s3_messages
from tests.bed.process import until
from tests.bed.pushing import PushBed, PushSourceMade, RawAnswer, RawClient, add_push_source, post
from tests.unit.ingest.parts import reached

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Give each of the two databases, migrated."""
    opened = Database(database_url)
    await migrate(opened)
    yield opened
    await opened.aclose()


@pytest.fixture
async def bed(database: Database) -> AsyncIterator[PushBed]:
    """Serve."""
    made = PushBed(database)
    async with made.serving():
        yield made


@pytest.fixture
async def source(bed: PushBed) -> PushSourceMade:
    """Give a source for stores."""
    return await add_push_source(bed.database)


async def ask(bed: PushBed, head: str, body: bytes = b"") -> RawAnswer:
    """Send one request on a connection of its own."""
    async with RawClient.to(bed.port) as client:
        await client.send(head, body)
        return await client.answer()


def message(*keys: str) -> bytes:
    """Make what a store says of uploads."""
    return s3_messages.message_for("photos", *keys).encode()


async def test_the_answer_comes_after_the_commit(bed: PushBed, source: PushSourceMade) -> None:
    """While the transaction hangs nothing is answered; when it is answered the event is there to be read."""
    bed.gate.may_commit.clear()
    body = message("cat.jpg")

    async with RawClient.to(bed.port) as client:
        await client.send(post(source.path, body, source.bearer), body)
        answering = asyncio.create_task(client.answer())
        await bed.gate.asked.wait()
        # The loop of server and client turns meanwhile, for another request.
        assert (await ask(bed, f"HEAD {source.path} HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
        was_answered = answering.done()
        bed.gate.may_commit.set()
        answer = await answering
        events = await bed.events()

    assert was_answered is False
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert events == 1


async def test_a_hundred_pushes_at_once_share_transactions(bed: PushBed, source: PushSourceMade) -> None:
    """What comes while one transaction runs makes up the next."""
    bed.gate.may_commit.clear()

    async def push(number: int) -> int:
        body = message(f"{number}.jpg")
        return (await ask(bed, post(source.path, body, source.bearer), body)).status

    pushing = [asyncio.create_task(push(number)) for number in range(100)]
    await bed.gate.asked.wait()
    await reached(lambda: len(bed.recorder._waiting) == 99, within=20)
    bed.gate.may_commit.set()
    statuses = await asyncio.gather(*pushing)

    assert statuses == [200] * 100
    assert await bed.events() == 100
    assert bed.gate.batches == [1, 99]


async def test_many_records_of_one_push_are_one_batch(bed: PushBed, source: PushSourceMade) -> None:
    """They are all there when it is answered."""
    body = message(*(f"{number}.jpg" for number in range(300)))

    assert (await ask(bed, post(source.path, body, source.bearer), body)).status == 200

    assert await bed.events() == 300
    assert bed.gate.batches == [1]


async def test_a_push_sent_again_is_a_duplicate(bed: PushBed, source: PushSourceMade) -> None:
    """Stores send again what they heard no answer to, byte for byte."""
    body = message("cat.jpg")

    for _ in range(3):
        assert (await ask(bed, post(source.path, body, source.bearer), body)).status == 200

    assert await bed.events() == 1


@pytest.mark.parametrize("body", [b"{not JSON", b"", b"\xff\xfe", b'{"Records": [{}]}', b"{}"])
async def test_what_cannot_be_decoded_is_quarantined_and_answered_200(
    bed: PushBed, source: PushSourceMade, body: bytes
) -> None:
    """A store that tries again whatever is not 2xx would stand still behind it."""
    answer = await ask(bed, post(source.path, body, source.bearer), body)

    assert (answer.status, answer.body) == (200, b"")
    assert len(await bed.quarantined()) == 1


async def test_a_source_shows_that_it_was_heard_from(bed: PushBed, source: PushSourceMade) -> None:
    """It is ok after its first push; what is refused does not change it."""
    body = message("cat.jpg")
    refused = await ask(bed, post(source.path, body, "Authorization: Bearer wrong\r\n"), body)
    was_ok = await bed.is_ok(source.id)
    await ask(bed, post(source.path, body, source.bearer), body)
    await until(lambda: bed.is_ok(source.id), within=10, what="the source is ok")

    assert (refused.status, was_ok) == (401, False)


MINIO = "Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
VERSITYGW = "Content-Type: application/json; charset=utf-8\r\n"


@pytest.mark.parametrize(
    ("suffix", "headers"),
    [
        ("", MINIO),
        ("/", MINIO),
        ("", "Authorization: bearer   {token}\r\n"),
        ("", "Authorization: {token}\r\nContent-Type: text/plain; charset=UTF-8\r\n"),
        ("", "Authorization: Basic {basic}\r\nContent-Type: application/x-www-form-urlencoded\r\n"),
        ("", "authorization: Bearer {token}\r\nContent-Encoding: identity\r\n"),
        ("/{token}", VERSITYGW),
        ("/{token}/", VERSITYGW),
        ("/{token}", "Authorization: Basic d3Jvbmc6d3Jvbmc=\r\n"),
    ],
)
async def test_a_token_is_taken_as_stores_send_it(
    bed: PushBed, source: PushSourceMade, suffix: str, headers: str
) -> None:
    """In a header by any scheme, or as the last part of the path, with whatever Content-Type or none."""
    basic = base64.b64encode(f"user:{source.token}".encode()).decode()
    body = message("cat.jpg")
    filled = headers.format(token=source.token, basic=basic)

    answer = await ask(bed, post(source.path + suffix.format(token=source.token), body, filled), body)

    assert (answer.status, answer.body) == (200, b"")
    assert await bed.events() == 1


@pytest.mark.parametrize(
    ("suffix", "headers"),
    [
        ("", ""),
        ("", "Authorization: Bearer wrong\r\n"),
        ("", "Authorization: Bearer\r\n"),
        ("", "Authorization: Basic !!!\r\n"),
        ("", "Authorization: Basic dXNlcg==\r\n"),
        ("/wrong", ""),
        ("/%C3%BC%00", ""),
    ],
)
async def test_without_the_token_it_is_401(bed: PushBed, source: PushSourceMade, suffix: str, headers: str) -> None:
    """And says how to send it; before the body is read."""
    async with RawClient.to(bed.port) as client:
        await client.send(post(source.path + suffix, bytes(1000), headers))
        answer = await client.answer()

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="bucketpost", Bearer realm="bucketpost"'
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_names_no_source_is_404(bed: PushBed, source: PushSourceMade) -> None:
    """Unknown, malformed, of another road, or spelled otherwise; and never a redirect, not even for a slash."""
    name = source.path.rpartition("/")[2]
    paths = [
        f"/v1/ingest/s3/{public_id('src', bytes(16))}",
        f"/v1/ingest/sns/{name}",
        f"/v1/ingest/s3/{name.upper()}",
        f"/v1/ingest/s3/{name}x",
        f"/V1/INGEST/S3/{name}",
        f"//v1/ingest/s3/{name}",
        f"/v1//ingest/s3/{name}",
        f"/v1/ingest/s3//{name}",
        f"/v1/ingest/s3/{name}//",
        f"/v1/ingest/s3/{name}/{source.token}//",
        f"/v1/ingest/s3/{name}/{source.token}/more",
        "/v1/ingest/s3/",
        "/v1/ingest/s3",
        "/v1/ingest",
    ]
    body = message("cat.jpg")

    answers = [await ask(bed, post(path, body, source.bearer), body) for path in paths]

    assert [answer.status for answer in answers] == [404] * len(paths)
    assert not any("location" in answer.headers for answer in answers)
    assert await bed.events() == 0


async def test_health_checks_are_answered_without_credentials(bed: PushBed, source: PushSourceMade) -> None:
    """HEAD anywhere, GET where it cannot be a push that was redirected: that one must not be called delivered."""
    unknown = f"/v1/ingest/s3/{public_id('src', bytes(16))}"

    async def status(method: str, path: str, headers: str = "") -> int:
        async with RawClient.to(bed.port) as client:
            await client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
            return (await client.answer(has_body=method != "HEAD")).status

    with_token = f"{source.path}/{source.token}"
    for path in (source.path, f"{source.path}/", with_token, f"{with_token}/"):
        assert await status("HEAD", path) == 200
        assert await status("HEAD", path, source.bearer) == 200
    assert await status("HEAD", unknown) == 404
    assert await status("GET", source.path) == 200
    assert await status("GET", unknown) == 404
    assert await status("GET", source.path, source.bearer) == 405
    assert await status("GET", source.path, "Content-Type: application/json\r\n") == 405
    assert await status("GET", with_token) == 405
    assert await status("PUT", source.path) == 405


async def test_one_connection_carries_many_pushes(bed: PushBed, source: PushSourceMade) -> None:
    """Answers have no body that a store would leave unread, and leave the connection open; refusals do too."""
    async with RawClient.to(bed.port) as client:
        for number in range(5):
            body = message(f"{number}.jpg")
            await client.send(post(source.path, body, source.bearer), body)
            assert (await client.answer()).status == 200
            await client.send(post(source.path, body, "Authorization: Bearer wrong\r\n"), body)
            assert (await client.answer()).status == 401

    assert await bed.events() == 5


async def test_a_chunked_body_is_taken(bed: PushBed, source: PushSourceMade) -> None:
    """Its length is known at its end."""
    body = message("cat.jpg")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:50], body[50:])) + b"0\r\n\r\n"
    head = f"POST {source.path} HTTP/1.1\r\nHost: x\r\n{source.bearer}Transfer-Encoding: chunked\r\n\r\n"

    answer = await ask(bed, head, chunks)

    assert answer.status == 200
    assert await bed.events() == 1


async def test_who_waits_to_be_told_to_go_on_is_told(bed: PushBed, source: PushSourceMade) -> None:
    """Expect: 100-continue; with a wrong token it is told no instead, and the connection ends there."""
    body = message("cat.jpg")

    async with RawClient.to(bed.port) as client:
        await client.send(post(source.path, body, f"{source.bearer}Expect: 100-continue\r\n"))
        interim = await client.answer()
        await client.send("", body)
        final = await client.answer()
    async with RawClient.to(bed.port) as client:
        await client.send(post(source.path, body, "Authorization: Bearer wrong\r\nExpect: 100-continue\r\n"))
        refused = await client.answer()
        is_closed = await client.is_closed_by_server()

    assert (interim.status, final.status, refused.status, is_closed) == (100, 200, 401, True)


async def test_an_aborted_upload_is_nothing(bed: PushBed, source: PushSourceMade) -> None:
    """Half a body is not recorded, and holds no room."""
    body = message("cat.jpg")

    for _ in range(20):
        async with RawClient.to(bed.port) as client:
            await client.send(post(source.path, body, source.bearer), body[:50])
    assert (await ask(bed, post(source.path, body, source.bearer), body)).status == 200

    await reached(lambda: bed.pushes._opened[source.id].room.is_empty)
    assert await bed.events() == 1
    assert await bed.quarantined() == []


async def test_a_body_too_large_is_413(bed: PushBed, source: PushSourceMade) -> None:
    """Announced or chunked; the largest that fits is taken."""
    large = bytes(MEBIBYTE + 1)
    chunked = f"POST {source.path} HTTP/1.1\r\nHost: x\r\n{source.bearer}Transfer-Encoding: chunked\r\n\r\n"

    announced = await ask(bed, post(source.path, large, source.bearer))
    counted = await ask(bed, chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large))
    fitting = message("cat.jpg").ljust(MEBIBYTE)
    taken = await ask(bed, post(source.path, fitting, source.bearer), fitting)

    assert (announced.status, counted.status, taken.status) == (413, 413, 200)


async def test_a_compressed_body_is_415(bed: PushBed, source: PushSourceMade) -> None:
    """No store compresses, and what we unpack could be anything."""
    answer = await ask(bed, post(source.path, b"x", f"{source.bearer}Content-Encoding: gzip\r\n"), b"x")

    assert answer.status == 415


async def test_a_stopping_process_sends_senders_elsewhere(bed: PushBed, source: PushSourceMade) -> None:
    """503 with Retry-After from the first moment; a push under way is still recorded."""
    bed.gate.may_commit.clear()
    body = message("cat.jpg")
    async with RawClient.to(bed.port) as client:
        await client.send(post(source.path, body, source.bearer), body)
        await bed.gate.asked.wait()
        bed.stop.set()
        await reached(lambda: not bed.pushes.is_open)
        late = await ask(bed, post(source.path, body, source.bearer), body)
        head = await ask(bed, post(source.path, b"", source.bearer))
        bed.gate.may_commit.set()
        under_way = await client.answer()

    assert (late.status, late.headers["retry-after"], head.status) == (503, "1", 503)
    assert under_way.status == 200
    assert await bed.events() == 1


async def test_a_process_that_takes_nothing_in_says_so(database: Database) -> None:
    """It may stand behind the same load balancer as those that do."""
    bed = PushBed(database)
    source = await add_push_source(database)
    async with bed.serving(takes_pushes=False):
        answer = await ask(bed, post(source.path, b"x", source.bearer), b"x")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_crash_logs_no_token(database: Database) -> None:
    """Whatever fails, the path is logged without its last part; the traceback holds no values."""

    def broken(_: object) -> NoReturn:
        raise RuntimeError("a bug")

    bed = PushBed(database, road_of=broken)
    source = await add_push_source(database)
    with structlog.testing.capture_logs() as lines:
        async with bed.serving():
            answer = await ask(bed, post(f"{source.path}/{source.token}", b"x", source.bearer), b"x")

    [crashed] = [line for line in lines if line["event"] == "request.failed"]
    assert answer.status == 500
    assert crashed["path"] == f"{source.path}/***"
    assert source.token not in str(lines)
