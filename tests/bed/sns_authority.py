"""SNS's part in a push, played by us: an authority of our own that issues certificates, and signs messages with them.

Its certificates have the form of AWS's (a root, Amazon's issuer under it, SNS's below); tests hand its root to what
they test. AuthorityServer serves the certificate over HTTP where an `endpoint_url` leads, and passes calls on to moto.
"""

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.bed.ports import HOST, free_port

TOPIC: Final = "arn:aws:sns:us-east-1:123456789012:uploads"
CERTIFICATE_FILE: Final = f"SimpleNotificationService-{'0123456789abcdef' * 2}.pem"
CERTIFICATE_URL: Final = f"https://sns.us-east-1.amazonaws.com/{CERTIFICATE_FILE}"
COMMON_NAME: Final = "sns.amazonaws.com"
ISSUER: Final = "Amazon RSA 2048 M01"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_FIELDS: Final = ("Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type")
_OF_NOTIFICATIONS: Final = frozenset({"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"})


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key, once a name: making one takes long."""
    del name
    return rsa.generate_private_key(65537, bits)


def weak_public_key() -> rsa.RSAPublicKey:
    """Give a public key of 512 bits. Nobody has its private part: nothing gets as far as needing it."""
    return rsa.RSAPublicNumbers(65537, (1 << 511) + 12345).public_key()


def pem(*certificates: x509.Certificate) -> bytes:
    """Write certificates one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(key: Key) -> bytes:
    """Write a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a certificate says beside its names: from when until when, for which hosts, whether it may issue others."""

    begins: timedelta = timedelta(days=-30)
    ends: timedelta = timedelta(days=335)
    hosts: tuple[str, ...] = ()
    is_authority: bool = False


_PLAIN: Final = Form()
_OF_AUTHORITIES: Final = Form(begins=timedelta(days=-3650), ends=timedelta(days=3650), is_authority=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A root and the issuer under it."""

    root: x509.Certificate
    issuer: x509.Certificate
    now: datetime
    _root_key: rsa.RSAPrivateKey
    _issuer_key: rsa.RSAPrivateKey

    @classmethod
    def make(cls, name: str = "Test", *, organisation: str = "Amazon", now: datetime | None = None) -> Self:
        """Make one; those of other names have other keys."""
        now = now or datetime.now(UTC)
        root_key, issuer_key = rsa_key(f"root of {name}"), rsa_key(f"issuer of {name}")
        root_name, issuer_name = _name(f"{name} Root", organisation), _name(ISSUER, organisation)
        root = _certify(root_name, root_key.public_key(), by=(root_name, root_key), now=now, form=_OF_AUTHORITIES)
        issuer = _certify(issuer_name, issuer_key.public_key(), by=(root_name, root_key), now=now, form=_OF_AUTHORITIES)
        return cls(root=root, issuer=issuer, now=now, _root_key=root_key, _issuer_key=issuer_key)

    def certify(
        self,
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        common_name: str = COMMON_NAME,
        *,
        form: Form = _PLAIN,
        signed_with: rsa.RSAPrivateKey | None = None,
    ) -> x509.Certificate:
        """Issue a certificate; `signed_with` another key than the issuer's makes it a false one."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        by = (self.issuer.subject, signed_with or self._issuer_key)
        return _certify(subject, key, by=by, now=self.now, form=replace(form, hosts=(common_name,)))

    def signer(self) -> "Signer":
        """Give what signs as SNS does."""
        key = rsa_key("SNS")
        return Signer(key=key, pem=pem(self.certify(key.public_key())), now=self.now)


def self_signed(key: rsa.RSAPrivateKey, *, issuer: x509.Name | None = None, now: datetime) -> x509.Certificate:
    """Make a certificate of SNS's name with its own key, in the name of whatever issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    return _certify(subject, key.public_key(), by=(issuer or subject, key), now=now, form=Form(hosts=(COMMON_NAME,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs envelopes of a topic; `pem` is what its certificate's URL leads to."""

    key: rsa.RSAPrivateKey
    pem: bytes
    now: datetime
    topic_arn: str = TOPIC
    certificate_url: str = CERTIFICATE_URL

    def notification(self, message: str, *, version: str = "2", **changes: str) -> dict[str, str]:
        """Sign a notification; `changes` are made before."""
        return self.sign(
            {
                "Type": "Notification",
                "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
                "TopicArn": self.topic_arn,
                "Message": message,
                "Timestamp": timestamp(self.now),
                "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
                **changes,
            },
            version=version,
        )

    def confirmation(
        self, kind: str = "SubscriptionConfirmation", *, version: str = "2", **changes: str
    ) -> dict[str, str]:
        """Sign a confirmation of a subscription, or of its end."""
        return self.sign(
            {
                "Type": kind,
                "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
                "Token": "2336412f37fb687f5d51e6e2425e929f52a5",
                "TopicArn": self.topic_arn,
                "Message": f"You have chosen something about {self.topic_arn}.\nVisit the SubscribeURL.",
                "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
                "Timestamp": timestamp(self.now),
                **changes,
            },
            version=version,
        )

    def sign(self, members: Mapping[str, str], *, version: str = "2") -> dict[str, str]:
        """Sign what an envelope says by AWS's description; nothing of the gateway is used for it."""
        names = [name for name in _FIELDS if name in members]
        if members["Type"] == "Notification":
            names = [name for name in names if name in _OF_NOTIFICATIONS]
        text = "".join(f"{name}\n{members[name]}\n" for name in names)
        algorithm = SHA1() if version == "1" else SHA256()  # noqa: S303 -- version 1 is what it is
        signature = self.key.sign(text.encode(), PKCS1v15(), algorithm)
        return {
            **members,
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": self.certificate_url,
        }


@dataclass(slots=True)
class AuthorityServer:
    """Serves `files` over HTTP while the `async with` block lasts, and passes calls of SNS's API on to moto.

    `asked` are the files asked for, `calls` the actions called with their first values.
    """

    moto_url: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The `endpoint_url` that leads here."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        app.router.add_post("/", self._call)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        body = self.files.get(request.path)
        return web.Response(status=404) if body is None else web.Response(body=body)

    async def _call(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.calls.append({name: values[0] for name, values in parse_qs(body.decode()).items()})
        if self.moto_url is None:
            return web.Response(status=500)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() in ("authorization", "content-type")
        }
        # Signed for this host, which moto does not check.
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.moto_url, data=body, headers=headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="text/xml")


def body_of(envelope: Mapping[str, object]) -> bytes:
    """Write an envelope as SNS does."""
    return json.dumps(envelope, indent=2).encode()


def timestamp(at: datetime) -> str:
    """Write a time as SNS does."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _name(common_name: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certify(
    subject: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    *,
    by: tuple[x509.Name, rsa.RSAPrivateKey],
    now: datetime,
    form: Form,
) -> x509.Certificate:
    issuer, issuer_key = by
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + form.begins)
        .not_valid_after(now + form.ends)
        .add_extension(x509.BasicConstraints(ca=form.is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_usage(is_authority=form.is_authority), critical=True)
    )
    if form.hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in form.hosts]), critical=False
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not is_authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
