"""SNS pushes to a whole gateway: a change of an object becomes one event, a forgery becomes nothing."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import aiohttp
import pytest

from tests.bed import s3_messages
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.sns_authority import CERTIFICATE_FILE, Authority, AuthorityServer, Signer, body_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """A gateway with an SNS source, and what signs for its topic."""

    gateway: Gateway
    source_id: str
    signer: Signer
    server: AuthorityServer

    async def push(self, body: bytes, *, at: str = "", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        """POST as SNS does."""
        sent = {
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.gateway.url}/v1/ingest/sns/{self.source_id}{at}",
                data=body,
                headers=sent,
                allow_redirects=False,
            ) as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    async def events(self) -> list[str]:
        """Give the keys of all events."""
        return [each["key"] for each in (await self.gateway.api.get("/events"))["data"]]


@pytest.fixture
async def wired(aws: Aws, make_gateway: Callable[..., Gateway], sqlite_url: str) -> AsyncIterator[Wired]:
    """Start it."""
    async with AuthorityServer(aws.endpoint_url) as server:
        made = Authority.make(now=datetime.now(UTC)).signer()
        server.files[f"/{CERTIFICATE_FILE}"] = made.pem
        signer = replace(made, topic_arn=await aws.create_topic(), certificate_url=f"{server.url}/{CERTIFICATE_FILE}")
        gateway = make_gateway(database_url=sqlite_url)
        gateway.start()
        await gateway.ready()
        source = await gateway.api.post(
            "/sources",
            {
                "name": "uploads",
                "kind": "sns",
                "config": {"topic_arns": [signer.topic_arn], "endpoint_url": server.url},
            },
        )
        yield Wired(gateway=gateway, source_id=source["id"], signer=signer, server=server)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_notification_becomes_one_event(wired: Wired, version: str) -> None:
    """However often it is sent, also under another id of SNS's: the answer is 200 without a body."""
    text = s3_messages.message_for("photos", "cat.jpg")
    bodies = [
        body_of(wired.signer.notification(text, version=version, MessageId=message_id))
        for message_id in ("first", "first", "second")
    ]

    answers = [await wired.push(body, x_amz_sns_message_type="Notification") for body in bodies]

    assert [(status, body) for status, _, body in answers] == [(200, b"")] * 3
    assert await wired.events() == ["cat.jpg"]


async def test_a_subscription_is_confirmed(wired: Wired) -> None:
    """By one call of the API."""
    envelope = wired.signer.confirmation()

    status, _, _ = await wired.push(body_of(envelope), x_amz_sns_message_type="SubscriptionConfirmation")

    assert status == 200
    assert [(call["Action"], call["Token"]) for call in wired.server.calls] == [
        ("ConfirmSubscription", envelope["Token"])
    ]


async def test_forgeries_are_403_and_leave_nothing(wired: Wired) -> None:
    """No event, nothing in quarantine, no call."""
    signed = wired.signer.notification(s3_messages.message_for("photos", "cat.jpg"))
    forgeries = (
        signed | {"Message": s3_messages.message_for("photos", "dog.jpg")},
        signed | {"SigningCertURL": f"https://attacker.test/{CERTIFICATE_FILE}"},
        signed | {"TopicArn": f"{wired.signer.topic_arn}2"},
        signed | {"SignatureVersion": "3"},
        wired.signer.confirmation() | {"Token": "other"},
        wired.signer.confirmation("UnsubscribeConfirmation"),
    )

    statuses = [(await wired.push(body_of(each)))[0] for each in forgeries]

    assert statuses == [403] * len(forgeries)
    assert await wired.events() == []
    assert (await wired.gateway.api.get("/quarantine"))["data"] == []
    assert wired.server.calls == []


async def test_our_own_trouble_is_503(wired: Wired) -> None:
    """SNS tries again, and then it is taken."""
    body = body_of(wired.signer.notification(s3_messages.message_for("photos", "cat.jpg")))
    await wired.server.__aexit__(None, None, None)

    status, headers, _ = await wired.push(body)

    assert status == 503
    assert int(headers["Retry-After"]) > 0
    assert await wired.events() == []


async def test_raw_delivery_is_asked_for_credentials(wired: Wired) -> None:
    """As SNS expects it: it sends the password of its URL only after a challenge."""
    body = s3_messages.message_for("photos", "cat.jpg").encode()

    status, headers, _ = await wired.push(body, x_amz_sns_rawdelivery="true")

    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic ")
    assert await wired.events() == []
