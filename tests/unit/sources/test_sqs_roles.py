"""As whom a queue is called: a role assumed at STS, again in time, and what STS says when it will not."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from app.domain.errors import SourceError
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig
from tests.bed.aws import ENVIRONMENT
from tests.bed.ports import HOST

ROLE = "arn:aws:iam::123456789012:role/reader"
_DENIED = "User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on resource: " + ROLE


class CannedAws:
    """STS and SQS at one address: tells who called what, and gives credentials a number each."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, str]] = []
        self.asked: list[dict[str, list[str]]] = []
        self.lifetime = timedelta(hours=1)
        self.denies = False

    async def answer(self, request: web.Request) -> web.Response:
        """Answer STS's form or SQS's JSON."""
        key = re.search(r"Credential=(\w+)/", request.headers["Authorization"])
        assert key is not None
        body = (await request.read()).decode()
        if "X-Amz-Target" in request.headers:
            operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
            self.calls.append((operation, key[1]))
            return web.Response(text=json.dumps({}), content_type="application/x-amz-json-1.0")
        self.asked.append(parse_qs(body))
        self.calls.append(("AssumeRole", key[1]))
        return self._denied() if self.denies else self._credentials()

    def open(self, **changes: object) -> SqsSource:
        """Open a source that assumes the role."""
        config = {"queue_url": f"{self.url}/1/q", "region": "eu-west-1", "wait_seconds": 0, "role_arn": ROLE, **changes}
        return SqsSource(SqsConfig.model_validate(config))

    def _credentials(self) -> web.Response:
        number = len(self.asked)
        expiration = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
            f"<SessionToken>token</SessionToken><Expiration>{expiration}</Expiration></Credentials>"
            "</AssumeRoleResult></AssumeRoleResponse>"
        )
        return web.Response(text=text, content_type="text/xml")

    def _denied(self) -> web.Response:
        error = f"<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{_DENIED}</Message></Error>"
        return web.Response(status=403, text=f"<ErrorResponse>{error}</ErrorResponse>", content_type="text/xml")


@pytest.fixture
async def aws_of_one(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CannedAws]:
    """Run a canned AWS, with the process's own credentials in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    canned = CannedAws()
    application = web.Application()
    application.router.add_post("/{path:.*}", canned.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    canned.url = f"http://{HOST}:{runner.addresses[0][1]}"
    yield canned
    await runner.cleanup()


async def test_a_role_is_assumed_once_for_all_calls(aws_of_one: CannedAws) -> None:
    """The process's own key signs for the role, the role's key all else: polls and other calls share it."""
    source = aws_of_one.open(external_id="tenant-7")

    await source.receive()
    await source.receive()
    await source.measure()
    await source.aclose()

    assert aws_of_one.calls == [
        ("AssumeRole", "testing"),
        ("ReceiveMessage", "ASIA1"),
        ("ReceiveMessage", "ASIA1"),
        ("GetQueueAttributes", "ASIA1"),
    ]
    [asked] = aws_of_one.asked
    assert (asked["RoleArn"], asked["ExternalId"], asked["RoleSessionName"]) == ([ROLE], ["tenant-7"], ["bucketpost"])


async def test_credentials_about_to_expire_are_made_anew(aws_of_one: CannedAws) -> None:
    """Ten minutes before their end they are not used any more; nothing has to be opened again."""
    source = aws_of_one.open()
    aws_of_one.lifetime = timedelta(minutes=9)
    await source.receive()
    aws_of_one.lifetime = timedelta(hours=1)

    await source.receive()
    await source.receive()
    await source.aclose()

    assert [key for operation, key in aws_of_one.calls if operation == "ReceiveMessage"] == ["ASIA1", "ASIA2", "ASIA2"]


async def test_a_role_that_may_not_be_assumed_is_said_in_the_words_of_aws(aws_of_one: CannedAws) -> None:
    """The queue is not called at all; once the role may be assumed the same source works."""
    source = aws_of_one.open()
    aws_of_one.denies = True

    with pytest.raises(SourceError) as caught:
        await source.receive()
    aws_of_one.denies = False
    received = await source.receive()
    await source.aclose()

    assert str(caught.value) == f"AccessDenied: {_DENIED}"
    assert list(received) == []


async def test_without_credentials_of_ones_own_no_role_is_assumed(
    aws_of_one: CannedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error asks for them, and STS is not called."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    source = aws_of_one.open()

    with pytest.raises(SourceError, match="Unable to locate credentials"):
        await source.receive()
    await source.aclose()

    assert aws_of_one.calls == []
