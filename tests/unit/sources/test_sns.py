"""What is done about a push that is SNS's own, and about one that nothing but the token vouches for."""

import json
from datetime import timedelta

import pytest

from app.domain.errors import Forged, SourceError, Unauthorized
from tests.bed.sns_authority import CERTIFICATE_URL, TOPIC, body_of, pem, rsa_key, self_signed, timestamp
from tests.unit.sources.sns_world import AUTHORITY, MESSAGE, NOW, Outside, accept, pushed, raw, world

RECORDS = b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]}'
ENDPOINT = "http://localhost:4566"
TOPIC_HEADER = {"x_amz_sns_topic_arn": TOPIC}


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [{}, {"Subject": "Amazon S3 Notification"}, {"Subject": ""}])
@pytest.mark.parametrize("text", [MESSAGE, "", "line\nTimestamp\nline\n", "caf\u00e9 \U0001f4e6 \x00 </script>"])
async def test_a_signed_notification_is_taken_as_it_came(version: str, subject: dict[str, str], text: str) -> None:
    """The whole body, so that what is kept of a bad one says where it came from."""
    outside, signer = world()
    body = body_of(signer.notification(text, version=version, **subject))

    message = await accept(outside, pushed(body, x_amz_sns_message_type="Notification"))

    assert message is not None
    assert (message.body, message.message_id) == (body, signer.notification("")["MessageId"])
    assert message.sent_at == NOW
    assert (outside.fetched, outside.confirmed) == ([CERTIFICATE_URL], [])


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_subscription_is_confirmed_by_its_token(version: str) -> None:
    """And there is nothing to record."""
    outside, signer = world()
    envelope = signer.confirmation(version=version)

    message = await accept(outside, pushed(envelope, x_amz_sns_message_type="SubscriptionConfirmation"))

    assert message is None
    assert outside.confirmed == [(TOPIC, envelope["Token"])]


async def test_a_confirmation_that_fails_is_our_own_trouble() -> None:
    """SNS tries again what is not answered 4xx."""
    outside, signer = world()
    outside.fails = SourceError("AccessDenied: no")

    with pytest.raises(SourceError, match="AccessDenied"):
        await accept(outside, pushed(signer.confirmation()))


async def test_the_end_of_a_subscription_is_not_undone() -> None:
    """Its token would subscribe again; the reason says that SNS did sign it."""
    outside, signer = world()

    with pytest.raises(Forged, match="validly signed, that a subscription"):
        await accept(outside, pushed(signer.confirmation("UnsubscribeConfirmation")))

    assert outside.confirmed == []


async def test_an_unsigned_end_of_a_subscription_is_a_forgery() -> None:
    """Its reason says so."""
    outside, signer = world()

    with pytest.raises(Forged, match="does not fit"):
        await accept(outside, pushed(signer.confirmation("UnsubscribeConfirmation") | {"Token": "other"}))


@pytest.mark.parametrize(
    "span", [timedelta(), timedelta(minutes=-60), timedelta(minutes=-60, seconds=-29), timedelta(minutes=4)]
)
async def test_a_message_of_the_last_hour_is_taken(span: timedelta) -> None:
    """SNS may try for an hour, and clocks differ."""
    outside, signer = world()

    assert await accept(outside, pushed(signer.notification(MESSAGE, Timestamp=timestamp(NOW + span)))) is not None


@pytest.mark.parametrize("trouble", ["no name server", "500"])
async def test_a_certificate_that_cannot_be_had_is_our_own_trouble(trouble: str) -> None:
    """Nobody can say whether the message is SNS's."""
    outside, signer = world(SourceError(trouble))

    with pytest.raises(SourceError, match=trouble):
        await accept(outside, pushed(signer.notification(MESSAGE)))


@pytest.mark.parametrize(
    ("partition", "host", "name"),
    [
        ("aws", "sns.us-east-1.amazonaws.com:443", "sns.amazonaws.com"),
        ("aws", "sns.af-south-1.amazonaws.com", "sns-signing.af-south-1.amazonaws.com"),
        ("aws-cn", "sns.cn-north-1.amazonaws.com.cn", "sns-cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "sns.us-gov-east-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        ("aws-eusc", "sns.eusc-de-east-1.amazonaws.eu", "sns-signing.eusc-de-east-1.amazonaws.eu"),
    ],
)
async def test_each_region_has_its_own_host_and_name(partition: str, host: str, name: str) -> None:
    """Those of newer regions and of other partitions are not sns.amazonaws.com."""
    topic = f"arn:{partition}:sns:{host.split('.')[1]}:123456789012:t"
    url = f"https://{host}/SimpleNotificationService-{'ab' * 16}.pem"
    outside = Outside(files={url: pem(AUTHORITY.certify(rsa_key("SNS").public_key(), name))})
    signed = AUTHORITY.signer().notification(MESSAGE, TopicArn=topic) | {"SigningCertURL": url}

    assert await accept(outside, pushed(signed), topic_arns=[topic]) is not None


async def test_a_chain_to_a_trusted_root_is_followed() -> None:
    """Should AWS ever serve it with the certificate."""
    certificate = AUTHORITY.certify(rsa_key("SNS").public_key())
    outside, signer = world(pem(certificate, AUTHORITY.issuer))

    assert await accept(outside, pushed(signer.notification(MESSAGE))) is not None


async def test_without_any_root_no_chain_is_judged() -> None:
    """That is this machine's trouble, not the message's."""
    certificate = AUTHORITY.certify(rsa_key("SNS").public_key())
    outside, signer = world(pem(certificate, AUTHORITY.issuer))
    outside.roots = ()

    with pytest.raises(SourceError, match="root certificates"):
        await accept(outside, pushed(signer.notification(MESSAGE)))


@pytest.mark.parametrize("body", [RECORDS, b"not JSON", b'["list"]', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
async def test_a_message_without_envelope_needs_the_token(body: bytes) -> None:
    """None asks for credentials, which SNS then sends; a wrong one is refused; with the right one decode judges."""
    outside, _ = world()

    with pytest.raises(Unauthorized):
        await accept(outside, raw(body, "absent", **TOPIC_HEADER))
    with pytest.raises(Forged, match="token"):
        await accept(outside, raw(body, "wrong", **TOPIC_HEADER))
    message = await accept(outside, raw(body, "right", x_amz_sns_message_id="id-1", **TOPIC_HEADER))

    assert message is not None
    assert (message.body, message.message_id) == (body, "id-1")
    assert (outside.fetched, outside.confirmed) == ([], [])


async def test_raw_delivery_is_known_without_its_header() -> None:
    """By a body that is no envelope; then each message has an id of its own."""
    outside, _ = world()
    push = raw(RECORDS, "right")
    bare = type(push)(headers={}, body=RECORDS, token="right")

    first, second = await accept(outside, bare), await accept(outside, bare)

    assert first is not None
    assert second is not None
    assert first.message_id != second.message_id


async def test_raw_delivery_of_an_unlisted_topic_is_refused() -> None:
    """The token belongs to the source, the topics do too."""
    outside, _ = world()

    with pytest.raises(Forged, match="topic_arns"):
        await accept(outside, raw(RECORDS, "right", x_amz_sns_topic_arn=f"{TOPIC}2"))


async def test_a_raw_confirmation_confirms_nothing() -> None:
    """What is called raw is never acted upon, only recorded, and only with the token."""
    outside, signer = world()
    body = body_of(signer.confirmation())

    with pytest.raises(Unauthorized):
        await accept(outside, raw(body, "absent"))
    message = await accept(outside, raw(body, "right"))

    assert message is not None
    assert outside.confirmed == []


@pytest.mark.parametrize("token", ["absent", "wrong", "right"])
async def test_a_signature_needs_no_token_and_a_token_is_no_signature(token: str) -> None:
    """A signed envelope is taken with any, a changed one with none."""
    outside, signer = world()
    good, changed = signer.notification(MESSAGE), signer.notification(MESSAGE) | {"Message": "changed"}

    def push(envelope: dict[str, str]) -> object:
        bare = pushed(envelope)
        return type(bare)(headers=bare.headers, body=bare.body, token=token)  # type: ignore[arg-type]  # a parameter

    assert await accept(outside, push(good)) is not None  # type: ignore[arg-type]  # likewise
    with pytest.raises(Forged):
        await accept(outside, push(changed))  # type: ignore[arg-type]  # likewise


async def test_a_chosen_endpoint_may_sign_with_any_certificate() -> None:
    """An emulator makes its own; it is trusted for being served where the operator pointed."""
    url = f"{ENDPOINT}/_aws/sns/SimpleNotificationService-00.pem"
    outside = Outside(files={url: pem(self_signed(rsa_key("SNS"), now=NOW))})
    signed = AUTHORITY.signer().notification(MESSAGE) | {"SigningCertURL": url}

    assert await accept(outside, pushed(signed), endpoint_url=ENDPOINT) is not None
    with pytest.raises(Forged, match="SigningCertURL"):
        await accept(outside, pushed(signed))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (ENDPOINT, "https://localhost:4566/a.pem"),
        (ENDPOINT, "http://localhost:4567/a.pem"),
        (ENDPOINT, "http://localhost/a.pem"),
        (ENDPOINT, "http://localhost:45660/a.pem"),
        (ENDPOINT, "http://localhost:4566@evil.test/a.pem"),
        (ENDPOINT, "http://localhost:4566.evil.test/a.pem"),
        (ENDPOINT, "http://127.0.0.1:4566/a.pem"),
        (ENDPOINT, "http://localhost:4566/a.pem?b=.pem"),
        (ENDPOINT, "http://localhost:4566/a.pem#.pem"),
        (ENDPOINT, "http://localhost:4566/latest/meta-data/"),
        (ENDPOINT, "http://localhost:4566/../a.pem"),
        (ENDPOINT, "http://localhost:4566//evil.test/a.pem"),
        (ENDPOINT, "http://localhost:4566/a.pem\n"),
        ("https://gateway.test", "https://gateway.test:8443/a.pem"),
        ("https://gateway.test", "https://gateway.test.evil.test/a.pem"),
    ],
)
async def test_a_chosen_endpoint_is_taken_by_equality(endpoint: str, url: str) -> None:
    """Scheme, host and port."""
    outside, signer = world()
    outside.files[url] = signer.pem

    with pytest.raises(Forged, match="SigningCertURL"):
        await accept(outside, pushed(signer.notification(MESSAGE) | {"SigningCertURL": url}), endpoint_url=endpoint)

    assert outside.fetched == []


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://gateway.test", "https://gateway.test:443/a.pem"),
        ("https://gateway.test:443/", "https://gateway.test/a.pem"),
        ("http://GATEWAY.test/path", "http://gateway.test:80/b/a.pem"),
        ("http://[::1]:4566", "http://[::1]:4566/a.pem"),
    ],
)
async def test_the_usual_port_may_be_left_out(endpoint: str, url: str) -> None:
    """On either side."""
    outside, signer = world()
    outside.files[url] = signer.pem

    signed = signer.notification(MESSAGE) | {"SigningCertURL": url}

    assert await accept(outside, pushed(signed), endpoint_url=endpoint) is not None


async def test_with_a_chosen_endpoint_the_rest_is_checked_all_the_same() -> None:
    """Key, validity, signature, topic and time."""
    url = f"{ENDPOINT}/a.pem"
    signed = AUTHORITY.signer().notification(MESSAGE) | {"SigningCertURL": url}
    good = pem(self_signed(rsa_key("SNS"), now=NOW))
    small = pem(self_signed(rsa_key("small", 1024), now=NOW))
    late = pem(self_signed(rsa_key("SNS"), now=NOW - timedelta(days=3650)))
    old = AUTHORITY.signer().notification(MESSAGE, Timestamp=timestamp(NOW - timedelta(hours=2)))

    for file, envelope in (
        (small, signed),
        (late, signed),
        (good, signed | {"Message": "changed"}),
        (good, signed | {"TopicArn": f"{TOPIC}2"}),
        (good, old | {"SigningCertURL": url}),
    ):
        with pytest.raises(Forged):
            await accept(Outside(files={url: file}), pushed(envelope), endpoint_url=ENDPOINT)


async def test_attributes_beside_what_is_signed_are_left_alone() -> None:
    """SNS adds members that it does not sign."""
    outside, signer = world()
    attributes = {"MessageAttributes": {"kind": {"Type": "String", "Value": "x"}}, "SequenceNumber": "1"}

    message = await accept(outside, pushed({**signer.notification(MESSAGE), **attributes}))

    assert message is not None
    assert "MessageAttributes" in json.loads(message.body)
