"""What is not SNS's word is refused, without any call that it could have been made for."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import Forged
from app.sources.sns_envelope import Envelope, read_envelope
from app.sources.sns_signature import SIGNED, verify
from tests.bed.sns_authority import (
    CERTIFICATE_FILE,
    CERTIFICATE_URL,
    TOPIC,
    Authority,
    Form,
    Signer,
    body_of,
    pem,
    rsa_key,
    self_signed,
    timestamp,
    weak_public_key,
)
from tests.unit.sources.sns_world import AUTHORITY, MESSAGE, NOW, accept, pushed, world

HOST = "sns.us-east-1.amazonaws.com"

FALSE_PLACES = {
    "a host of the attacker's": f"https://attacker.test/{CERTIFICATE_FILE}",
    "SNS's name below another": f"https://{HOST}.evil.test/{CERTIFICATE_FILE}",
    "a bucket named sns": f"https://sns.s3-us-west-2.amazonaws.com/{CERTIFICATE_FILE}",
    "a longer label": f"https://evil-{HOST}/{CERTIFICATE_FILE}",
    "a line after the host": f"https://{HOST}\n/{CERTIFICATE_FILE}",
    "a line at the end": f"{CERTIFICATE_URL}\n",
    "no TLS": f"http://{HOST}/{CERTIFICATE_FILE}",
    "another port": f"https://{HOST}:8443/{CERTIFICATE_FILE}",
    "a user": f"https://{HOST}@evil.test/{CERTIFICATE_FILE}",
    "a user at the right host": f"https://user:pw@{HOST}/{CERTIFICATE_FILE}",
    "a query": f"https://{HOST}/?x=.pem",
    "a query after the file": f"{CERTIFICATE_URL}?x=.pem",
    "a fragment": f"{CERTIFICATE_URL}#.pem",
    "an escaped way up": f"https://{HOST}/..%2f{CERTIFICATE_FILE}",
    "a way up": f"https://{HOST}/../{CERTIFICATE_FILE}",
    "a folder": f"https://{HOST}/folder/{CERTIFICATE_FILE}",
    "another region than the topic's": f"https://sns.eu-west-1.amazonaws.com/{CERTIFICATE_FILE}",
    "China, for a topic that is not there": f"https://sns.us-east-1.amazonaws.com.cn/{CERTIFICATE_FILE}",
    "a backslash": f"https://{HOST}\\@evil.test/{CERTIFICATE_FILE}",
    "capitals": f"https://{HOST.upper()}/{CERTIFICATE_FILE}",
    "a final dot": f"https://{HOST}./{CERTIFICATE_FILE}",
    "a file of another name": f"https://{HOST}/certificate.pem",
    "a digit that is none of ours": f"https://{HOST}/SimpleNotificationService-" + 32 * "\u0660" + ".pem",
    "nothing": "",
}

# Each form of a private address or a metadata service of T1's corpus.
INSIDE = (
    *("http://127.0.0.1/", "http://0.0.0.0/", "http://localhost/", "http://LOCALHOST./", "http://2130706433/"),
    *("http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://[::1]/", "http://[::]/"),
    *("http://[::ffff:127.0.0.1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"),
    *("http://[fd00:ec2::254]/", "http://[fd20:ce::254]/", "http://[fe80::1%25eth0]/", "http://[fec0::1]/"),
    *("http://169.254.169.254/latest/meta-data/", "http://169.254.170.2/", "http://0xa9fea9fe/", "http://2852039166/"),
    *("http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/", "http://metadata.google.internal/"),
    *("http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://①②⑦.⓪.⓪.①/", "file:///etc/passwd"),
)


@pytest.mark.parametrize("url", FALSE_PLACES.values(), ids=FALSE_PLACES.keys())
async def test_a_certificate_anywhere_else_is_not_fetched(url: str) -> None:
    """However well the message is signed with its key."""
    outside, signer = world()
    outside.files[url] = signer.pem

    with pytest.raises(Forged, match="SigningCertURL"):
        await accept(outside, pushed(signer.notification(MESSAGE) | {"SigningCertURL": url}))

    assert (outside.fetched, outside.confirmed) == ([], [])


FALSE_CERTIFICATES: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "expired": (
        lambda: pem(AUTHORITY.certify(_key(), form=Form(ends=timedelta(seconds=-1)))),
        "not valid at this time",
    ),
    "not yet valid": (
        lambda: pem(AUTHORITY.certify(_key(), form=Form(begins=timedelta(seconds=1)))),
        "not valid at this time",
    ),
    "of another name": (lambda: pem(AUTHORITY.certify(_key(), "sns.amazonaws.com.evil.test")), "is not one of"),
    "of another region": (
        lambda: pem(AUTHORITY.certify(_key(), "sns-signing.af-south-1.amazonaws.com")),
        "is not one of",
    ),
    "signed by itself": (lambda: pem(self_signed(rsa_key("SNS"), now=NOW)), "signed by itself"),
    "signed by itself in Amazon's name": (
        lambda: pem(self_signed(rsa_key("SNS"), issuer=AUTHORITY.issuer.subject, now=NOW)),
        "signed by itself",
    ),
    "of an elliptic curve": (
        lambda: pem(AUTHORITY.certify(ec.generate_private_key(ec.SECP256R1()).public_key())),
        "not one of RSA",
    ),
    "of 512 bits": (lambda: pem(AUTHORITY.certify(weak_public_key())), "at least 2048 bits"),
    "of 1024 bits": (lambda: pem(AUTHORITY.certify(rsa_key("small", 1024).public_key())), "at least 2048 bits"),
    "issued by another organisation": (
        lambda: pem(Authority.make("Foreign", organisation="Evil", now=NOW).certify(_key())),
        "not issued by Amazon",
    ),
    "in a chain to a foreign root": (
        lambda: _chain(Authority.make("Foreign", now=NOW)),
        "does not lead to a root",
    ),
    "in a chain that brings its own root": (
        lambda: _chain(Authority.make("Foreign", now=NOW)) + pem(Authority.make("Foreign", now=NOW).root),
        "does not lead to a root",
    ),
    "in a chain it is no part of": (
        lambda: pem(AUTHORITY.certify(_key(), signed_with=rsa_key("stranger")), AUTHORITY.issuer),
        "does not lead to a root",
    ),
    "no certificate": (lambda: b"<html>404</html>", "not a certificate"),
    "cut off": (lambda: AUTHORITY.signer().pem[:500], "not a certificate"),
}


@pytest.mark.parametrize(("file", "reason"), FALSE_CERTIFICATES.values(), ids=FALSE_CERTIFICATES.keys())
async def test_a_false_certificate_vouches_for_nothing(file: Callable[[], bytes], reason: str) -> None:
    """Even if it is where SNS's are: no subscription is confirmed for it."""
    outside, signer = world(file())

    with pytest.raises(Forged, match=reason):
        await accept(outside, pushed(signer.confirmation()))

    assert (outside.fetched, outside.confirmed) == ([CERTIFICATE_URL], [])


def _without(name: str) -> Callable[[Signer], bytes]:
    return lambda signer: body_of({key: value for key, value in _signed(signer).items() if key != name})


def _with(**changes: object) -> Callable[[Signer], bytes]:
    return lambda signer: body_of({**_signed(signer), **changes})


def _signed(signer: Signer) -> dict[str, str]:
    return signer.notification(MESSAGE, Subject="Amazon S3 Notification")


def _shifted(signer: Signer) -> bytes:
    """Let an id swallow what a message said: without a rule on lines both are signed alike."""
    signed = signer.notification("first\nMessageId\nsecond", MessageId="third")
    return body_of(signed | {"Message": "first", "MessageId": "second\nMessageId\nthird"})


def _shifted_time(signer: Signer) -> bytes:
    signed = signer.notification("first\nMessageId\n1\nTimestamp\n2026-05-04T12:00:00.000Z\nTopicArn\nt\nType\nx")
    return body_of(signed | {"Message": "first", "MessageId": "1"})


def _twice(signer: Signer) -> bytes:
    return body_of(_signed(signer)).replace(b'"Message":', b'"Message": "another", "Message":', 1)


TRICKS: Mapping[str, Callable[[Signer], bytes]] = {
    "a Subject added": lambda signer: body_of({**signer.notification(MESSAGE), "Subject": "added"}),
    "a Subject removed": _without("Subject"),
    "a Subject made null": _with(Subject=None),
    "a null Subject added": lambda signer: body_of({**signer.notification(MESSAGE), "Subject": None}),
    "a notification sent as a confirmation": lambda signer: body_of(
        signer.notification(MESSAGE)
        | {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://sns.us-east-1.amazonaws.com/"}
    ),
    "an unknown Type": _with(Type="Other"),
    "a Type that is no text": _with(Type=["Notification"]),
    "no Type": _without("Type"),
    "a member named twice": _twice,
    "SignatureVersion 3": _with(SignatureVersion="3"),
    "a SignatureVersion that is a number": _with(SignatureVersion=2),
    "no SignatureVersion": _without("SignatureVersion"),
    "the other SignatureVersion": _with(SignatureVersion="1"),
    "an empty Signature": _with(Signature=""),
    "a Signature that is not base64": _with(Signature="§§ not base64 §§"),
    "a Signature of other bytes": _with(Signature="AAAA" * 80),
    "no Signature": _without("Signature"),
    "lines that shift what was signed": _shifted,
    "lines that look like members": _shifted_time,
    "the URL as Lambda spells it": lambda signer: body_of(
        {("SigningCertUrl" if name == "SigningCertURL" else name): value for name, value in _signed(signer).items()}
    ),
    "both spellings of the URL": _with(SigningCertUrl=CERTIFICATE_URL),
    "half a character": _with(Message="\ud800"),
    "a Message that is no text": _with(Message={}),
    "a Timestamp of no calendar": _with(Timestamp="2026-02-30T00:00:00.000Z"),
    "a Timestamp in another form": _with(Timestamp="Mon, 04 May 2026 12:00:00 GMT"),
    "a topic's ARN with a line": _with(TopicArn=f"{TOPIC}\n"),
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
async def test_a_signed_message_that_was_changed_is_refused(trick: Callable[[Signer], bytes]) -> None:
    """Whatever else of it is right."""
    outside, signer = world()

    with pytest.raises(Forged):
        await accept(outside, pushed(trick(signer)))

    assert outside.confirmed == []
    assert set(outside.fetched) <= {CERTIFICATE_URL}


async def test_the_header_says_the_same_type() -> None:
    """A proxy that routes by the header and the gateway never see two different messages."""
    outside, signer = world()

    with pytest.raises(Forged, match="x-amz-sns-message-type"):
        await accept(outside, pushed(signer.notification(MESSAGE), x_amz_sns_message_type="SubscriptionConfirmation"))

    assert (outside.fetched, outside.confirmed) == ([], [])


@pytest.mark.parametrize("kind", ["notification", "confirmation"])
@pytest.mark.parametrize("minutes", [-61, 10])
async def test_a_replay_is_refused_after_an_hour(kind: str, minutes: int) -> None:
    """And so is what comes from the future."""
    outside, signer = world()
    sent_at = timestamp(NOW + timedelta(minutes=minutes))
    envelope = (
        signer.notification(MESSAGE, Timestamp=sent_at)
        if kind == "notification"
        else signer.confirmation(Timestamp=sent_at)
    )

    with pytest.raises(Forged, match="Timestamp"):
        await accept(outside, pushed(envelope))

    assert outside.confirmed == []


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws:sns:us-east-1:123456789012:uploads2",
        "arn:aws:sns:us-east-1:999999999999:uploads",
        "arn:aws:sns:us-west-2:123456789012:uploads",
        "arn:aws-cn:sns:us-east-1:123456789012:uploads",
        TOPIC.upper(),
        f"{TOPIC} ",
    ],
)
async def test_a_topic_that_is_not_listed_is_refused(topic: str) -> None:
    """However validly it is signed: anybody can have a topic of SNS push anywhere."""
    outside, signer = world()

    for envelope in (signer.notification(MESSAGE, TopicArn=topic), signer.confirmation(TopicArn=topic)):
        with pytest.raises(Forged, match="topic_arns"):
            await accept(outside, pushed(envelope))

    assert (outside.fetched, outside.confirmed) == ([], [])


@pytest.mark.parametrize("url", INSIDE)
@pytest.mark.parametrize("member", ["SigningCertURL", "SubscribeURL"])
async def test_an_unsigned_message_makes_no_call(member: str, url: str) -> None:
    """Wherever its URLs lead."""
    outside, signer = world()
    envelope = signer.confirmation() | {member: url}

    with pytest.raises(Forged):
        await accept(outside, pushed(envelope))

    assert outside.confirmed == []
    assert outside.fetched == ([CERTIFICATE_URL] if member == "SubscribeURL" else [])


@pytest.mark.parametrize("url", INSIDE)
async def test_a_signed_subscribe_url_is_not_visited(url: str) -> None:
    """The subscription is confirmed through the API; the source has no other way out than these two."""
    outside, signer = world()

    await accept(outside, pushed(signer.confirmation(SubscribeURL=url)))

    assert outside.fetched == [CERTIFICATE_URL]
    assert outside.confirmed == [(TOPIC, signer.confirmation()["Token"])]


@given(data=st.data(), version=st.sampled_from(["1", "2"]), is_notification=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_change_of_a_signed_member_breaks_the_signature(
    data: st.DataObject,
    version: str,
    is_notification: bool,  # noqa: FBT001 -- hypothesis hands it over
) -> None:
    """Each of them, by a change of any kind."""
    _, signer = world()
    signed = (
        signer.notification("text", Subject="subject", version=version)
        if is_notification
        else signer.confirmation(version=version)
    )
    name = data.draw(st.sampled_from(SIGNED["Notification" if is_notification else "SubscriptionConfirmation"]))
    changed = data.draw(
        st.text().filter(lambda text: text != signed[name])
        | st.integers(0, len(signed[name]) - 1).map(lambda at: signed[name][:at] + "~" + signed[name][at + 1 :])
        | st.sampled_from([signed[name] + " ", signed[name] + "\n", signed[name][:-1], "\u0000" + signed[name]])
    )
    key = rsa_key("SNS").public_key()
    original = read_envelope(body_of(signed))
    assert original is not None
    verify(original, key)

    with pytest.raises(Forged):
        verify(_read(signed | {name: changed}), key)


def _read(members: Mapping[str, str]) -> Envelope:
    envelope = read_envelope(body_of(members))
    assert envelope is not None
    return envelope


def _key() -> RSAPublicKey:
    return rsa_key("SNS").public_key()


def _chain(authority: Authority) -> bytes:
    return pem(authority.certify(rsa_key("SNS").public_key()), authority.issuer)
