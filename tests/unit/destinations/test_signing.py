"""Signatures and secrets, against somebody else's reading of Standard Webhooks."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from app.destinations.signing import make_secret, parse_secret, secret_text, sign


@given(secret=st.binary(min_size=24, max_size=64), body=st.text(st.characters(codec="utf-8")))
def test_the_standard_verifier_accepts_what_is_signed(secret: bytes, body: str) -> None:
    """Any secret of the allowed length, any body."""
    now = int(time.time())

    signature = sign(secret, message_id="dlv_1", timestamp=now, body=body.encode())

    headers = {"webhook-id": "dlv_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    Webhook(secret_text(secret)).verify(body, headers, json_parse=False)


def test_the_specification_s_example_comes_out() -> None:
    """Of the vector that the reference libraries test with."""
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signature = sign(
        secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_reads_back(secret: bytes) -> None:
    """With its padding and without."""
    text = secret_text(secret)

    assert parse_secret(text) == secret
    assert parse_secret(text.rstrip("=")) == secret


def test_made_secrets_are_valid_and_differ() -> None:
    """Each from fresh randomness."""
    first, second = make_secret(), make_secret()

    assert first != second
    assert parse_secret(secret_text(first)) == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
        "whsec_é" + "A" * 40,
    ],
)
def test_anything_else_is_no_secret(text: str) -> None:
    """And the error says what one is."""
    with pytest.raises(ValueError, match="24 to 64 bytes in base64"):
        parse_secret(text)
