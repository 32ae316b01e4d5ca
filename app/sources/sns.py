"""SNS topics that push to us: which pushes are SNS's own, and what is done about each kind of them.

Nothing is fetched, called or believed before the checks that come first have passed. No URL of a message but the one
of its certificate is ever called.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Self, assert_never

import structlog

from app.aws.access import Access
from app.aws.clients import client
from app.aws.deadlines import answered
from app.domain.configuration import Source
from app.domain.errors import Forged, Unauthorized
from app.domain.message import Message, Pushed
from app.domain.ports import Now
from app.sources.sns_certificates import Certificates, Fetch
from app.sources.sns_config import SnsConfig, Topic
from app.sources.sns_envelope import Envelope, read_envelope
from app.sources.sns_fetch import CertificateFetch
from app.sources.sns_place import place_of
from app.sources.sns_signature import check_time, verify
from app.sources.sns_x509 import Roots, system_roots

# SNS waits 15 s for an answer, and fetching the certificate came before.
CONFIRM_SECONDS: Final = 8.0

Confirm = Callable[[Topic, str], Awaitable[None]]
"""Confirm a subscription to a topic with the token SNS sent for it. Raises SourceError."""

_log = structlog.get_logger(__name__)


class SnsSource:
    """PushSource over the topics of one source."""

    def __init__(self, config: SnsConfig, *, certificates: Certificates, confirm: Confirm, now: Now) -> None:
        """Take what it is told and what it calls; nothing is called before a push asks for it."""
        self._topics = config.topics
        self._endpoint_url = config.endpoint_url
        self._certificates = certificates
        self._confirm = confirm
        self._now = now

    @classmethod
    def open(cls, source: Source, now: Now) -> Self:
        """Make one from a source's row. Raises pydantic's ValidationError, which the API keeps from happening."""
        config = SnsConfig.model_validate(dict(source.config))
        return cls.over(config, fetch=CertificateFetch(), confirm=confirm_with(config), now=now)

    @classmethod
    def over(cls, config: SnsConfig, *, fetch: Fetch, confirm: Confirm, now: Now, roots: Roots = system_roots) -> Self:
        """Make one over other ways out than the usual."""
        return cls(config, certificates=Certificates(fetch=fetch, roots=roots, now=now), confirm=confirm, now=now)

    async def accept(self, pushed: Pushed) -> Message | None:
        """Vouch for a push by its signature, or by the source's token where SNS delivers raw, without one."""
        envelope = None if pushed.headers.get("x-amz-sns-rawdelivery") == "true" else read_envelope(pushed.body)
        if envelope is None:
            return self._raw(pushed)
        topic = await self._vouch(envelope, pushed)
        match envelope.kind:
            case "Notification":
                return Message(
                    body=pushed.body,
                    receipt=envelope.message_id,
                    message_id=envelope.message_id,
                    sent_at=envelope.sent_at,
                )
            case "SubscriptionConfirmation":
                await self._confirm(topic, envelope.texts["Token"])
                _log.info("subscription.confirmed", topic_arn=topic.arn)
                return None
            case "UnsubscribeConfirmation":
                # Visiting its SubscribeURL, or confirming its token, would undo what somebody wanted.
                _log.warning("subscription.ended", topic_arn=topic.arn)
                raise Forged(
                    f"SNS says, validly signed, that a subscription to {topic.arn} was ended; nothing is done."
                )
            case _:
                assert_never(envelope.kind)

    async def aclose(self) -> None:
        """End the fetches under way."""
        await self._certificates.aclose()

    async def _vouch(self, envelope: Envelope, pushed: Pushed) -> Topic:
        """Check all that SNS's word rests on, the cheap first, and give the topic. Raises Forged and SourceError."""
        if pushed.headers.get("x-amz-sns-message-type", envelope.kind) != envelope.kind:
            raise Forged("The header x-amz-sns-message-type is not the envelope's Type.")
        topic = self._listed(envelope.topic_arn)
        place = place_of(envelope.texts["SigningCertURL"], topic, self._endpoint_url)
        verify(envelope, await self._certificates.key(place))
        check_time(envelope, self._now())
        return topic

    def _raw(self, pushed: Pushed) -> Message:
        """Take a message without an envelope, which nothing vouches for but the token."""
        match pushed.token:
            case "absent":
                raise Unauthorized("This is no envelope of SNS, so nothing is signed: the source's token is needed.")
            case "wrong":
                raise Forged("This is no envelope of SNS, and the token is not the source's.")
            case "right":
                pass
            case _:
                assert_never(pushed.token)
        topic_arn = pushed.headers.get("x-amz-sns-topic-arn")
        if topic_arn is not None:
            self._listed(topic_arn)
        message_id = pushed.headers.get("x-amz-sns-message-id") or secrets.token_hex(16)
        return Message(body=pushed.body, receipt=message_id, message_id=message_id)

    def _listed(self, topic_arn: str) -> Topic:
        topic = self._topics.get(topic_arn)
        if topic is None:
            raise Forged("The message is of a topic that is not in the source's topic_arns.")
        return topic


def confirm_with(config: SnsConfig) -> Confirm:
    """Give what confirms subscriptions: a call to SNS in the topic's region, or to the endpoint the operator named."""

    async def confirm(topic: Topic, token: str) -> None:
        access = Access(
            region=topic.region,
            endpoint_url=config.endpoint_url,
            role_arn=config.role_arn,
            external_id=config.external_id,
        )

        async def call() -> None:
            async with client("sns", access, connections=1) as sns:
                # Authenticated, or whoever sees one of SNS's UnsubscribeURLs could end the subscription.
                await sns.confirm_subscription(TopicArn=topic.arn, Token=token, AuthenticateOnUnsubscribe="true")

        await answered(call, within=CONFIRM_SECONDS, where=f"SNS in {topic.region}")

    return confirm
