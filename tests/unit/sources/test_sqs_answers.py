"""What SqsSource makes of answers that moto does not give, and of a machine without credentials."""

import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from app.aws.clients import guarded_socket
from app.domain.errors import SourceError
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig
from tests.bed.aws import ENVIRONMENT
from tests.bed.ports import HOST


class CannedSqs:
    """An SQS that answers each operation with what was put in, and any other with an error."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Mapping[str, Any] | str]] = {}
        self.requests: list[Mapping[str, Any]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request of the JSON protocol."""
        self.requests.append(json.loads(await request.read()))
        status, body = self.answers[request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")]
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if text.startswith("<") else "application/x-amz-json-1.0"
        return web.Response(status=status, text=text, content_type=kind)

    def open(self, **changes: object) -> SqsSource:
        """Open a source that calls it."""
        config = {"queue_url": f"{self.url}/1/q", "region": "eu-west-1", "wait_seconds": 0, **changes}
        return SqsSource(SqsConfig.model_validate(config))


@pytest.fixture
async def sqs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CannedSqs]:
    """Run a canned SQS, with credentials in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    canned = CannedSqs()
    application = web.Application()
    application.router.add_post("/{path:.*}", canned.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    canned.url = f"http://{HOST}:{runner.addresses[0][1]}"
    yield canned
    await runner.cleanup()


async def test_a_message_repeated_in_one_reply_is_given_once(sqs: CannedSqs) -> None:
    """Of copies with one id the last receipt counts, and the order is that of the first."""
    ids = ["a", "b", "a", "a", "c"]
    messages = [{"MessageId": each, "ReceiptHandle": f"r{place}", "Body": each} for place, each in enumerate(ids)]
    sqs.answers["ReceiveMessage"] = 200, {"Messages": messages}
    source = sqs.open()

    received = await source.receive()
    await source.aclose()

    assert [(each.message_id, each.receipt) for each in received] == [("a", "r3"), ("b", "r1"), ("c", "r4")]


async def test_a_poll_asks_for_ten_and_its_own_span(sqs: CannedSqs) -> None:
    """The queue's own visibility does not count, and no attributes are asked for."""
    sqs.answers["ReceiveMessage"] = 200, {}
    source = sqs.open(visibility_seconds=90)

    await source.receive()
    await source.aclose()

    assert sqs.requests == [
        {"QueueUrl": f"{sqs.url}/1/q", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0, "VisibilityTimeout": 90}
    ]


async def test_a_denied_call_says_what_aws_said(sqs: CannedSqs) -> None:
    """AWS's code and message stand in one line, without the address of the documentation."""
    message = "User: arn:aws:iam::1:user/u is not authorized to perform: sqs:receivemessage\non resource: q"
    sqs.answers["ReceiveMessage"] = (
        400,
        {"__type": "com.amazon.coral.service#AccessDeniedException", "message": message},
    )
    source = sqs.open()

    with pytest.raises(SourceError) as caught:
        await source.receive()
    await source.aclose()

    expected = "AccessDeniedException: " + message.replace("\n", " ")
    assert str(caught.value) == expected


async def test_an_endpoint_that_is_not_sqs_is_a_source_error(sqs: CannedSqs) -> None:
    """A page of some other server is not taken for an empty queue."""
    sqs.answers["ReceiveMessage"] = 200, "<html>Welcome</html>"
    source = sqs.open()

    with pytest.raises(SourceError, match="web page"):
        await source.receive()
    await source.aclose()


async def test_no_credentials_is_a_source_error(sqs: CannedSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials anywhere in the chain the error says so; with them a source opened anew works."""
    sqs.answers["ReceiveMessage"] = 200, {}
    with monkeypatch.context() as without:
        without.delenv("AWS_ACCESS_KEY_ID")
        without.delenv("AWS_SECRET_ACCESS_KEY")
        source = sqs.open()
        with pytest.raises(SourceError, match="NoCredentialsError: Unable to locate credentials"):
            await source.receive()
        await source.aclose()
    reopened = sqs.open()

    received = await reopened.receive()
    await reopened.aclose()

    assert list(received) == []


async def test_no_region_is_a_source_error(sqs: CannedSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue URL without a region needs one from config or environment, and the error asks for it."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    source = sqs.open(region=None)

    with pytest.raises(SourceError, match="region"):
        await source.receive()
    await source.aclose()


def test_a_name_that_leads_to_a_metadata_address_gets_no_socket() -> None:
    """The address is judged where the socket is made, so a name cannot hide it."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))

    with pytest.raises(OSError, match="metadata address"):
        guarded_socket(address)
