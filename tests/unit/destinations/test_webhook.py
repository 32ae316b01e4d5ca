"""One try of one webhook, against receivers of every kind."""

import asyncio
import gzip
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Network

import pytest

from app.destinations.answer import parse_retry_after
from app.destinations.formats import http_message
from app.destinations.signing import secret_text
from app.destinations.webhook import Webhook
from app.domain.outcome import Outcome
from tests.bed.clocks import machine_time
from tests.bed.ports import free_port
from tests.bed.receiver import Answer, Receiver
from tests.unit.destinations.raw_receiver import Connection, RawReceiver
from tests.unit.destinations.values import SECRET, make_endpoint, make_owed
from tests.unit.outbound.test_guard import BAD_SPELLING, PRIVATE_LITERALS, words

LOOPBACK = (IPv4Network("127.0.0.0/8"),)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMIT = 0.3


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    """Give a destination that may go to this machine."""
    destination = Webhook.open(allow_cidrs=LOOPBACK, version="1.2.3", now=machine_time)
    yield destination
    await destination.aclose()


async def send(webhook: Webhook, url: str, *, timeout_seconds: float = 10.0, **headers: str) -> Outcome:
    """Send one delivery."""
    endpoint = make_endpoint("webhook", {"url": url, "headers": dict(headers)}, timeout_seconds=timeout_seconds)
    [outcome] = await webhook.send(endpoint, [make_owed()])
    return outcome


async def test_a_request_is_signed_and_says_who_sends_it(webhook: Webhook, receiver: Receiver) -> None:
    """The exact body, verified by the standard library for it; one id in both headers; the endpoint's own header."""
    receiver.verify("/", secret_text(SECRET))

    outcome = await send(webhook, receiver.url(), Authorization="Bearer abc")

    [request] = receiver.received()
    assert (outcome.kind, outcome.status_code, outcome.error) == ("delivered", 204, None)
    assert request.verified is True
    assert request.body == http_message(make_owed()).body
    assert request.header("Content-Type") == "application/json"
    assert request.header("webhook-id") == request.header("Idempotency-Key") == make_owed().idempotency_key
    assert request.header("User-Agent") == "Bucketpost/1.2.3"
    assert request.header("Authorization") == "Bearer abc"
    assert {name.lower() for name, _ in request.headers} == {
        *("host", "content-type", "content-length", "user-agent", "authorization"),
        *("webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key"),
    }


async def test_dates_are_those_of_the_clock_it_was_given(receiver: Receiver) -> None:
    """Of the signature, and of what a receiver's date means; not of this machine's clock."""
    now = datetime(2020, 2, 29, 12, tzinfo=UTC)
    receiver.answer("/", Answer(status=503, headers={"Retry-After": "Sat, 29 Feb 2020 12:00:40 GMT"}))
    webhook = Webhook.open(allow_cidrs=LOOPBACK, version="0", now=lambda: now)

    outcome = await send(webhook, receiver.url())
    await webhook.aclose()

    [request] = receiver.received()
    assert request.header("webhook-timestamp") == str(int(now.timestamp()))
    assert outcome.retry_after_seconds == 40


async def test_a_late_one_says_so(webhook: Webhook, receiver: Receiver) -> None:
    """In one header more than the others have."""
    endpoint = make_endpoint("webhook", {"url": receiver.url()})

    await webhook.send(endpoint, [make_owed(1)])
    await webhook.send(endpoint, [replace(make_owed(2), is_late=True)])
    usual, late = await receiver.wait_for(2)

    assert late.header("Bucketpost-Late") == "true"
    assert {name.lower() for name, _ in late.headers} - {name.lower() for name, _ in usual.headers} == {
        "bucketpost-late"
    }


async def test_a_body_of_more_than_a_mebibyte_is_sent_whole(webhook: Webhook, receiver: Receiver) -> None:
    """And its signature holds."""
    receiver.verify("/", secret_text(SECRET))
    owed = make_owed(form="s3", record=b'{"long": "' + b"a" * 2**20 + b'"}')

    await webhook.send(make_endpoint("webhook", {"url": receiver.url()}), [owed])

    [request] = receiver.received()
    assert request.verified is True
    assert request.body == http_message(owed).body


@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 307, 400, 404, 410, 429, 500, 503])
async def test_a_status_is_an_outcome(webhook: Webhook, receiver: Receiver, status: int) -> None:
    """Delivered for 2xx, answered for all else, with the beginning of the answer."""
    body = b"" if status == 204 else b"x" * 5000
    receiver.answer("/", Answer(status=status, body=body))

    outcome = await send(webhook, receiver.url())

    assert outcome.kind == ("delivered" if status < 300 else "answered")
    assert outcome.status_code == status
    assert outcome.response == body[:2048]


async def test_redirects_are_not_followed(webhook: Webhook, receiver: Receiver) -> None:
    """Not even to where the redirecting receiver itself is."""
    receiver.answer("/", Answer(status=307, headers={"Location": receiver.url("/there")}))

    outcome = await send(webhook, receiver.url())

    assert outcome.error == "The receiver answered 307; redirects are not followed."
    assert [request.path for request in receiver.received()] == ["/"]


async def test_cookies_are_not_kept(webhook: Webhook, receiver: Receiver) -> None:
    """Of one receiver nothing reaches the next request."""
    receiver.answer("/", then=Answer(headers={"Set-Cookie": "a=b; Path=/"}))

    await send(webhook, receiver.url())
    await send(webhook, receiver.url())

    assert "cookie" not in {name.lower() for request in receiver.received() for name, _ in request.headers}


async def test_a_batch_is_sent_at_once(webhook: Webhook, receiver: Receiver) -> None:
    """Each has its outcome, in order, though the first is answered last."""
    others, seen = asyncio.Event(), 0

    async def script(_: object) -> Answer:
        nonlocal seen
        seen += 1
        if seen == 3:
            others.set()
        await others.wait()
        return Answer(status=200)

    receiver.answer_with("/", script)

    outcomes = await webhook.send(make_endpoint("webhook", {"url": receiver.url()}), [make_owed(n) for n in range(3)])

    assert [outcome.kind for outcome in outcomes] == ["delivered"] * 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(
            (None, None),
            ("120", 120.0),
            (" 0 ", 0.0),
            ("9" * 400, 999_999_999.0),
            ("-5", None),
            ("1.5", None),
            ("", None),
        ),
        *(("soon", None), ("Tue, 24 Nov 2026 10:01:00 GMT", 60.0), ("Tue, 24 Nov 2026 09:00:00 GMT", 0.0)),
        *(("Tuesday, 24-Nov-26 10:01:00 GMT", 60.0), ("Tue Nov 24 10:01:00 2026", 60.0), ("٣", None)),
        ("Tue, 99 Nov 2026 10:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    """In each of HTTP's three forms of a date; anything else is as if it were not there."""
    assert parse_retry_after(text, datetime(2026, 11, 24, 10, tzinfo=UTC)) == seconds


def test_a_date_beyond_any_calendar_is_no_retry_after() -> None:
    """A hostile date is no date, and no error."""
    assert parse_retry_after("Mon, 99 Jan 2024000000000000000000 00:00:00 GMT", datetime.now(UTC)) is None


async def test_retry_after_reaches_the_outcome(webhook: Webhook, receiver: Receiver) -> None:
    """As a span from now."""
    receiver.answer("/", Answer(status=503, headers={"Retry-After": "7"}))
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.answer("/date", Answer(status=429, headers={"Retry-After": later}))

    in_seconds, as_date = await send(webhook, receiver.url()), await send(webhook, receiver.url("/date"))

    assert in_seconds.retry_after_seconds == 7.0
    assert as_date.retry_after_seconds == pytest.approx(3600, abs=10)


Talk = Callable[[Connection], Awaitable[None]]


def saying(*pieces: bytes, then: str = "wait") -> Talk:
    """Give a talk that answers a request with these bytes, and then waits, resets or closes."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        for piece in pieces:
            await connection.say(piece)
        if then == "wait":
            await connection.wait_for_hang_up()
        elif then == "reset":
            connection.reset()

    return talk


def repeating(start: bytes, piece: bytes, *, every: float = 0) -> Talk:
    """Give a talk that begins an answer and never ends it."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.say(start)
        await connection.say_for_ever(piece, every=every)

    return talk


HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(2**24))
HOSTILE: dict[str, tuple[Talk, str]] = {
    "never answers": (saying(), "timed_out"),
    "trickles its head": (repeating(HEAD, b"X-A: b\r\n", every=0.02), "timed_out"),
    "endless headers": (repeating(HEAD, b"X-A: b\r\n" * 1000), "unreachable"),
    "one endless header": (repeating(HEAD + b"X-A: ", b"b" * 10_000), "unreachable"),
    "continues for ever": (repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n", every=0.001), "timed_out"),
    "garbage": (saying(b"\x00\xff garbage\r\n\r\n"), "unreachable"),
    "another protocol": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "unreachable"),
    "a wrong status": (saying(b"HTTP/1.1 9 OK\r\n\r\n"), "unreachable"),
    "closes": (saying(then="close"), "unreachable"),
    "closes in its head": (saying(HEAD, then="close"), "unreachable"),
    "resets": (saying(then="reset"), "unreachable"),
    "endless body": (repeating(HEAD + b"\r\n", b"x" * 65536), "delivered"),
    "endless chunks": (repeating(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n" * 5000), "delivered"),
    "trickles its body": (repeating(HEAD + b"Content-Length: 9999\r\n\r\n", b"x", every=0.02), "delivered"),
    "resets in its body": (saying(HEAD + b"Content-Length: 99\r\n\r\n", b"abc", then="reset"), "delivered"),
    "closes in its body": (saying(HEAD + b"Content-Length: 99\r\n\r\n", b"abc", then="close"), "delivered"),
    # aiohttp takes head and body that come in one piece for one thing: wrong together.
    "a bad chunk": (saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "unreachable"),
    "a body after 204": (saying(b"HTTP/1.1 204 No Content\r\n\r\n" + b"x" * 4096), "unreachable"),
    "a gzip bomb": (
        saying(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB),
        "delivered",
    ),
    "HTTP/1.0 without a length": (saying(b"HTTP/1.0 200 OK\r\n\r\nhello", then="close"), "delivered"),
    "switches protocols": (
        repeating(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"x" * 999),
        "answered",
    ),
    "both lengths": (saying(HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "unreachable"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_receiver_costs_no_more_than_the_time_limit(webhook: Webhook, name: str) -> None:
    """The try ends, with what was kept of the answer bounded, and the connection is closed."""
    talk, expected = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with RawReceiver(talk) as receiver:
        outcome = await asyncio.wait_for(send(webhook, receiver.url, timeout_seconds=LIMIT), LIMIT + 5)

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcome.kind == expected
    assert (outcome.error is None) == (expected == "delivered")
    assert len(outcome.response) <= 2048
    assert grown < 32 * 1024 * (1024 if sys.platform == "darwin" else 1)


async def test_a_long_answer_is_not_waited_for(webhook: Webhook) -> None:
    """After 16 KiB of it the gateway hangs up, though the rest never comes and the limit is far away."""
    talk = saying(HEAD + b"Content-Length: 999999\r\n\r\n", b"x" * 20 * 1024)
    async with RawReceiver(talk) as receiver:
        outcome = await asyncio.wait_for(send(webhook, receiver.url, timeout_seconds=600), 10)

    assert (outcome.kind, len(outcome.response)) == ("delivered", 2048)


async def test_a_port_where_nobody_listens_is_unreachable(webhook: Webhook) -> None:
    """And the sentence says what was tried."""
    port = free_port()

    outcome = await send(webhook, f"http://127.0.0.1:{port}/")

    assert outcome.kind == "unreachable"
    assert outcome.error == f"No connection to 127.0.0.1:{port}: Connect call failed ('127.0.0.1', {port})."


async def test_tls_that_is_none_is_unreachable(webhook: Webhook) -> None:
    """The sentence says it is TLS."""
    async with RawReceiver(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as receiver:
        talk = send(webhook, receiver.url.replace("http:", "https:"), timeout_seconds=LIMIT)
        outcome = await talk

    assert outcome.kind in ("unreachable", "timed_out")


async def test_a_reused_connection_that_was_closed_is_tried_once_more(webhook: Webhook) -> None:
    """A receiver that closes idle connections loses no try, and hears a delivery once."""
    heard = []

    async def talk(connection: Connection) -> None:
        heard.append(await connection.request())
        await connection.say(OK)
        if connection.number == 1:
            await connection.request()  # and goes away without a byte

    async with RawReceiver(talk) as receiver:
        first = await send(webhook, receiver.url)
        second = await send(webhook, receiver.url)
        connections = receiver.connections

    assert (first.kind, second.kind) == ("delivered", "delivered")
    assert (len(heard), connections) == (2, 2)


@pytest.mark.parametrize("pieces", [(b"HTTP/1.1 2",), (b"HTTP/1.1 500 X\r\nA: b\r\n",)])
async def test_an_answer_that_began_is_not_asked_for_again(webhook: Webhook, pieces: tuple[bytes, ...]) -> None:
    """The receiver has the request: that it breaks off is its failure."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.say(OK)
        await connection.request()
        for piece in pieces:
            await connection.say(piece)

    async with RawReceiver(talk) as receiver:
        await send(webhook, receiver.url)
        outcome = await send(webhook, receiver.url)
        connections = receiver.connections

    assert (outcome.kind, connections) == ("unreachable", 1)


async def test_a_new_connection_that_breaks_is_not_tried_again(webhook: Webhook) -> None:
    """That is a failed try."""
    async with RawReceiver(saying(then="close")) as receiver:
        outcome = await send(webhook, receiver.url)
        connections = receiver.connections

    assert (outcome.kind, connections) == ("unreachable", 1)
    assert outcome.error == "The receiver closed the connection without an answer."


async def test_what_cannot_be_written_is_unsendable(webhook: Webhook, receiver: Receiver) -> None:
    """A lone surrogate has no place in a header."""
    endpoint = make_endpoint("webhook", {"url": receiver.url()})

    outcomes = await webhook.send(endpoint, [make_owed(form="cloudevents-binary", bucket="\ud800"), make_owed(2)])

    assert [outcome.kind for outcome in outcomes] == ["unsendable", "delivered"]


class _Sockets:
    """Counts the sockets that are made while it is watched; an audit hook cannot be taken out again."""

    def __init__(self) -> None:
        self.is_watching = False
        self.made = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: object) -> None:
        if self.is_watching and event in ("socket.__new__", "socket.connect"):
            self.made += 1


SOCKETS = _Sockets()


async def test_no_url_of_the_corpus_opens_a_socket() -> None:
    """Though none was refused when it was registered: by its spelling, or where the socket would be made."""
    destination = Webhook.open(allow_cidrs=(), version="0", now=machine_time)
    # Names are left out: what they mean is up to this machine's resolver, and tested in test_resolver.py.
    urls = [
        url
        for url in (*BAD_SPELLING, *PRIVATE_LITERALS, *words("http://localhost/ http://LOCALHOST./ http://ⓛocalhost/"))
        if "pub" not in url
    ]

    SOCKETS.is_watching = True
    outcomes = {url: await send(destination, url, timeout_seconds=2) for url in urls}
    SOCKETS.is_watching = False
    await destination.aclose()

    assert {outcome.kind for outcome in outcomes.values()} <= {"address_refused", "unsendable", "unreachable"}
    assert {url: outcomes[url].kind for url in PRIVATE_LITERALS if "%" not in url and "pub" not in url} == {
        url: "address_refused" for url in PRIVATE_LITERALS if "%" not in url and "pub" not in url
    }
    assert SOCKETS.made == 0


async def test_closing_before_and_after_a_send_is_well() -> None:
    """Nothing is opened for it."""
    destination = Webhook.open(allow_cidrs=LOOPBACK, version="0", now=machine_time)

    await destination.aclose()
    assert await destination.send(make_endpoint("webhook", {"url": "http://a.test/"}), []) == []
    await destination.aclose()
