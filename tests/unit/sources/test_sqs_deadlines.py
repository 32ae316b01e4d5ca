"""No call of a queue waits for ever: what is reached and never answers is a source error within the call's limit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from app.domain.errors import SourceError
from app.domain.message import Message
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig
from tests.bed.aws import ENVIRONMENT
from tests.bed.ports import HOST

MESSAGE = Message(body=b"", receipt="r", message_id="m")
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Run a server that takes connections and says nothing."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    writers: list[asyncio.StreamWriter] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(take, HOST, 0)
    yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.close()


def _open(url: str, **changes: object) -> SqsSource:
    config = {"queue_url": f"{url}/1/q", "region": "eu-west-1", "wait_seconds": 0, **changes}
    # The limits leave time for the library to be imported on a busy machine.
    return SqsSource(SqsConfig.model_validate(config), call_seconds=1, poll_margin_seconds=1)


@pytest.mark.parametrize("role_arn", [None, ROLE])
@pytest.mark.parametrize("call", ["receive", "ack", "extend", "measure"])
async def test_a_call_that_is_not_answered_ends(silent: str, call: str, role_arn: str | None) -> None:
    """The error names the address and the limit, whether the queue is silent or who gives its credentials."""
    source = _open(silent, role_arn=role_arn)
    calls: Mapping[str, Callable[[], Awaitable[object]]] = {
        "receive": source.receive,
        "ack": lambda: source.ack([MESSAGE]),
        "extend": lambda: source.extend([MESSAGE]),
        "measure": source.measure,
    }

    with pytest.raises(SourceError, match=rf"{silent}.*within 1 s|timeout.*{silent}"):
        await calls[call]()

    await source.aclose()


async def test_a_call_that_waits_for_another_to_connect_ends(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting looks for credentials, which may hang; who waits behind it has a limit of its own."""
    looked = asyncio.Event()

    async def look(*_: object) -> None:
        looked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("aiobotocore.credentials.AioCredentialResolver.load_credentials", look)
    source = _open(silent)
    first = asyncio.create_task(source.receive())
    await looked.wait()

    with pytest.raises(SourceError, match="within 1 s"):
        await source.measure()
    with pytest.raises(SourceError, match="within 1 s"):
        await first

    await source.aclose()
