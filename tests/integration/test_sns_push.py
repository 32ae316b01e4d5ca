"""SNS push over real HTTP: the certificate from a server, the confirmation to moto's SNS, with nothing replaced."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.domain.configuration import Source
from app.domain.errors import Forged, SourceError
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Pushed
from app.domain.ports import PushSource
from app.sources import KINDS, PushKind
from tests.bed.aws import Aws
from tests.bed.sns_authority import CERTIFICATE_FILE, Authority, AuthorityServer, Signer, body_of


@pytest.fixture
async def server(aws: Aws) -> AsyncIterator[AuthorityServer]:
    """Serve our certificate, with moto's SNS behind it."""
    async with AuthorityServer(aws.endpoint_url) as serving:
        yield serving


@pytest.fixture
async def signer(aws: Aws, server: AuthorityServer) -> Signer:
    """Give what signs for a topic that moto knows."""
    made = Authority.make(now=datetime.now(UTC)).signer()
    server.files[f"/{CERTIFICATE_FILE}"] = made.pem
    return replace(made, topic_arn=await aws.create_topic(), certificate_url=f"{server.url}/{CERTIFICATE_FILE}")


@pytest.fixture
async def source(server: AuthorityServer, signer: Signer) -> AsyncIterator[PushSource]:
    """Open a source as the gateway does."""
    opened = open_source(signer.topic_arn, server.url)
    yield opened
    await opened.aclose()


def open_source(topic_arn: str, endpoint_url: str) -> PushSource:
    """Open a source from its row."""
    now = datetime.now(UTC)
    kind = KINDS["sns"]
    assert isinstance(kind, PushKind)
    return kind.open(
        Source(
            id=SourceId(bytes(16)),
            tenant_id=DEFAULT_TENANT,
            name="tested",
            kind="sns",
            config={"topic_arns": [topic_arn], "endpoint_url": endpoint_url},
            created_at=now,
            updated_at=now,
        ),
        lambda: now,
    )


def push(envelope: dict[str, str]) -> Pushed:
    """Push as SNS does."""
    return Pushed(
        headers={"x-amz-sns-message-type": envelope["Type"], "x-amz-sns-topic-arn": envelope["TopicArn"]},
        body=body_of(envelope),
        token="absent",
    )


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_notification_is_taken(version: str, source: PushSource, signer: Signer) -> None:
    """With a certificate that is asked for once."""
    for _ in range(2):
        message = await source.accept(push(signer.notification("{}", version=version)))
        assert message is not None


async def test_a_subscription_is_confirmed_through_the_api(
    source: PushSource, signer: Signer, server: AuthorityServer
) -> None:
    """With the token, and so that only who is allowed to can end it; no URL of the message is visited."""
    envelope = signer.confirmation(SubscribeURL=f"{server.url}/visited")

    assert await source.accept(push(envelope)) is None

    assert server.asked == [f"/{CERTIFICATE_FILE}"]
    assert [(call["Action"], call["TopicArn"], call["Token"]) for call in server.calls] == [
        ("ConfirmSubscription", signer.topic_arn, envelope["Token"])
    ]
    assert server.calls[0]["AuthenticateOnUnsubscribe"] == "true"


async def test_a_topic_that_sns_does_not_know_is_our_trouble(server: AuthorityServer, signer: Signer) -> None:
    """SNS's own words are the reason."""
    unknown = replace(signer, topic_arn=f"{signer.topic_arn}-gone")
    source = open_source(unknown.topic_arn, server.url)

    with pytest.raises(SourceError, match="Topic does not exist"):
        await source.accept(push(unknown.confirmation()))

    await source.aclose()


async def test_a_forged_confirmation_calls_nothing(source: PushSource, signer: Signer, server: AuthorityServer) -> None:
    """But for the certificate, if it is where it should be."""
    for changes in ({"Token": "other"}, {"SigningCertURL": f"{server.url}/visited.pem?"}):
        with pytest.raises(Forged):
            await source.accept(push(signer.confirmation() | changes))

    assert server.asked == [f"/{CERTIFICATE_FILE}"]
    assert server.calls == []


async def test_an_endpoint_that_is_away_is_our_trouble(server: AuthorityServer, signer: Signer) -> None:
    """Whoever pushes should try again."""
    source = open_source(signer.topic_arn, server.url)
    await server.__aexit__(None, None, None)

    with pytest.raises(SourceError, match="cannot be fetched"):
        await source.accept(push(signer.notification("{}")))

    await source.aclose()
