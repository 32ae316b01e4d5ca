"""An SNS source among fakes of what is outside: a clock, a place of certificates, and SNS's API. All note calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.x509 import Certificate

from app.domain.message import Message, Pushed
from app.sources.sns import SnsSource
from app.sources.sns_certificates import Certificates
from app.sources.sns_config import SnsConfig, Topic
from app.sources.sns_place import Place
from tests.bed.sns_authority import CERTIFICATE_URL, TOPIC, Authority, Signer, body_of

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
AUTHORITY = Authority.make(now=NOW)
MESSAGE = '{"Records": []}'


@dataclass(slots=True)
class Outside:
    """What a source can reach. `files` are the certificates by URL, an exception among them is raised."""

    files: dict[str, bytes | Exception] = field(default_factory=dict)
    roots: tuple[Certificate, ...] = (AUTHORITY.root,)
    fails: Exception | None = None
    fetched: list[str] = field(default_factory=list)
    confirmed: list[tuple[str, str]] = field(default_factory=list)
    now: datetime = NOW

    async def fetch(self, place: Place) -> bytes:
        """Give a certificate."""
        self.fetched.append(place.url)
        found = self.files[place.url]
        if isinstance(found, Exception):
            raise found
        return found

    async def confirm(self, topic: Topic, token: str) -> None:
        """Take a confirmation."""
        self.confirmed.append((topic.arn, token))
        if self.fails is not None:
            raise self.fails

    def certificates(self) -> Certificates:
        """Make what keeps certificates."""
        return Certificates(fetch=self.fetch, roots=lambda: self.roots, now=lambda: self.now)

    def source(self, **config: object) -> SnsSource:
        """Make a source."""
        told = SnsConfig.model_validate({"topic_arns": [TOPIC], **config})
        return SnsSource.over(
            told, fetch=self.fetch, confirm=self.confirm, roots=lambda: self.roots, now=lambda: self.now
        )

    def pass_time(self, **span: float) -> None:
        """Move the clock."""
        self.now += timedelta(**span)


def world(pem: bytes | Exception | None = None) -> tuple[Outside, Signer]:
    """Make an outside where SNS's certificate is as AWS serves it, or another file; and what signs with its key."""
    signer = AUTHORITY.signer()
    return Outside(files={CERTIFICATE_URL: signer.pem if pem is None else pem}), signer


def pushed(envelope: Mapping[str, object] | bytes, **headers: str) -> Pushed:
    """Push as SNS does, without a token; `x_amz_...` are headers."""
    body = envelope if isinstance(envelope, bytes) else body_of(envelope)
    return Pushed(headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body, token="absent")


def raw(body: bytes, token: str, **headers: str) -> Pushed:
    """Push as SNS does with raw delivery."""
    push = pushed(body, x_amz_sns_rawdelivery="true", **headers)
    return Pushed(headers=push.headers, body=body, token=token)  # type: ignore[arg-type]  # a parameter of tests


async def accept(outside: Outside, push: Pushed, **config: object) -> Message | None:
    """Let a fresh source accept."""
    source = outside.source(**config)
    try:
        return await source.accept(push)
    finally:
        await source.aclose()
