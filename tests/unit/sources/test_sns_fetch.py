"""The one request for a certificate: over TLS that is checked, to guarded addresses, bounded in time and size."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.errors import Forged, SourceError
from app.sources.sns_fetch import LARGEST, CertificateFetch
from app.sources.sns_place import Place
from tests.bed.sns_authority import Authority, key_pem, pem, rsa_key
from tests.unit.destinations.raw_receiver import HOST, Connection

AUTHORITY = Authority.make("TLS", now=datetime.now(UTC))
NAME = "localhost"


class TlsServer:
    """A server that says what it is told over TLS; `connections` counts who came, `heads` what they asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.heads: list[bytes] = []

    def place(self, *, is_chosen: bool = True, host: str = NAME) -> Place:
        """Give where it is."""
        return Place(url=f"https://{host}:{self.port}/a.pem", subjects=frozenset(), is_chosen=is_chosen)


@asynccontextmanager
async def serving(answer: bytes | None, tmp_path: Path, *, name: str = NAME) -> AsyncIterator[TlsServer]:
    """Serve an answer, or silence; under the certificate of a name."""
    key = rsa_key("TLS server")
    files = tmp_path / "certificate.pem"
    files.write_bytes(key_pem(key) + pem(AUTHORITY.certify(key.public_key(), name), AUTHORITY.issuer))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files)
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        server = TlsServer(listening.getsockname()[1])
        talking: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(reader, writer, server.connections)
            try:
                server.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if answer is not None:
                    await connection.say(answer)
                await connection.wait_for_hang_up()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                connection.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            task = asyncio.create_task(talk(reader, writer))
            talking.add(task)
            task.add_done_callback(talking.discard)

        running = await asyncio.start_server(accept, sock=listening, ssl=tls)
        try:
            yield server
        finally:
            running.close()
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)


def fetch(*, seconds: float = 5.0) -> CertificateFetch:
    """Make a fetch that trusts the tests' authority."""
    tls = ssl.create_default_context(cadata=pem(AUTHORITY.root).decode())
    return CertificateFetch(tls=tls, seconds=seconds)


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Write an answer."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return f"{head}\r\n\r\n".encode() + body


async def test_what_is_there_is_given_as_it_is(tmp_path: Path) -> None:
    """By a GET without credentials and cookies."""
    async with serving(answer("200 OK", b"the certificate"), tmp_path) as server:
        assert await fetch()(server.place()) == b"the certificate"

    assert server.heads[0].startswith(b"GET /a.pem HTTP/1.1\r\n")
    assert not {b"cookie", b"authorization", b"accept-encoding"} & {
        line.split(b":")[0].lower() for line in server.heads[0].split(b"\r\n")
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, tmp_path: Path) -> None:
    """Wherever it leads: there is one connection."""
    async with serving(b"", tmp_path) as target:
        to_target = answer(f"{status} Moved", b"", f"Location: {target.place().url}")
        async with serving(to_target, tmp_path) as server:
            with pytest.raises(SourceError, match=f"answers {status}"):
                await fetch()(server.place())

    assert (server.connections, target.connections) == (1, 0)


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_a_file_that_is_not_there_makes_a_forgery(status: int, tmp_path: Path) -> None:
    """SNS signs with certificates that it serves."""
    async with serving(answer(f"{status} No"), tmp_path) as server:
        with pytest.raises(Forged, match=str(status)):
            await fetch()(server.place())


@pytest.mark.parametrize("status", [204, 408, 425, 429, 500, 502, 503])
async def test_a_server_in_trouble_says_nothing_of_the_file(status: int, tmp_path: Path) -> None:
    """SNS should try again."""
    async with serving(answer(f"{status} Trouble"), tmp_path) as server:
        with pytest.raises(SourceError, match=str(status)):
            await fetch()(server.place())


@pytest.mark.parametrize("length", [f"Content-Length: {2**40}", "Transfer-Encoding: chunked"])
async def test_no_more_is_read_than_a_certificate_can_be(length: str, tmp_path: Path) -> None:
    """Said or unsaid."""
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    endless = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + piece * 3

    async with serving(endless, tmp_path) as server:
        with pytest.raises(Forged, match="larger than a certificate"):
            await fetch()(server.place())


async def test_the_largest_certificate_is_read(tmp_path: Path) -> None:
    """16 KiB."""
    async with serving(answer("200 OK", b"x" * LARGEST), tmp_path) as server:
        assert len(await fetch()(server.place())) == LARGEST


async def test_a_compressed_answer_is_not_unpacked(tmp_path: Path) -> None:
    """It was not asked for; what it would become has no bound."""
    async with serving(answer("200 OK", b"\x1f\x8b...", "Content-Encoding: gzip"), tmp_path) as server:
        assert await fetch()(server.place()) == b"\x1f\x8b..."


@pytest.mark.parametrize("begun", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"])
async def test_a_slow_server_is_left(begun: bytes | None, tmp_path: Path) -> None:
    """Whether it says nothing or not all."""
    async with serving(begun, tmp_path) as server:
        with pytest.raises(SourceError, match=r"did not answer within 0\.5 s"):
            await fetch(seconds=0.5)(server.place())


async def test_a_private_address_is_not_called(tmp_path: Path) -> None:
    """Where SNS's own name leads to one; the reason says what an operator may do."""
    async with serving(answer("200 OK"), tmp_path) as server:
        for host in (NAME, HOST):
            with pytest.raises(SourceError, match=r"private address.*endpoint_url"):
                await fetch()(server.place(is_chosen=False, host=host))

    assert server.connections == 0


async def test_a_metadata_service_is_not_called_even_if_chosen() -> None:
    """Nor one that a name leads to."""
    for url in ("http://169.254.169.254/a.pem", "http://[fd00:ec2::254]/a.pem"):
        with pytest.raises(SourceError, match="metadata"):
            await CertificateFetch()(Place(url=url, subjects=frozenset(), is_chosen=True))


async def test_the_server_must_be_who_it_says_it_is(tmp_path: Path) -> None:
    """By a certificate for its name."""
    async with serving(answer("200 OK", b"x"), tmp_path, name="elsewhere.test") as server:
        with pytest.raises(SourceError, match="cannot be fetched"):
            await fetch()(server.place())

    assert server.heads == []


async def test_the_server_must_be_known_to_this_machine(tmp_path: Path) -> None:
    """Our authority is not, without being told of."""
    async with serving(answer("200 OK", b"x"), tmp_path) as server:
        with pytest.raises(SourceError, match="cannot be fetched"):
            await CertificateFetch()(server.place())

    assert server.heads == []


async def test_nobody_there_is_our_own_trouble() -> None:
    """As is a name that nobody has."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and not listening
        port = taken.getsockname()[1]

        for url in (f"https://{HOST}:{port}/a.pem", "https://nobody.invalid/a.pem"):
            with pytest.raises(SourceError, match="cannot be fetched"):
                await fetch()(Place(url=url, subjects=frozenset(), is_chosen=True))
