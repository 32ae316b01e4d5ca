"""Whether an envelope of SNS is signed with a given key. Pure; whose key it is, is sns_x509.py's question."""

import base64
import binascii
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from app.domain.errors import Forged
from app.sources.sns_envelope import Envelope, Kind

# https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
SIGNED: Final[dict[Kind, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: Final[dict[str, type[HashAlgorithm]]] = {
    "1": SHA1,  # SNS's default: an operator may switch a topic to version 2
    "2": SHA256,
}

# SNS spreads its retries over 3,600 s at most and keeps the timestamp; the rest is for the last try's own way.
OLDEST: Final = timedelta(hours=1, seconds=30)
# No message is sent before its time: this is for clocks that differ.
NEWEST: Final = timedelta(minutes=5)


def signed_text(envelope: Envelope) -> bytes:
    """Give what SNS signs: the received texts, each after its name. Raises Forged."""
    try:
        return "".join(
            f"{name}\n{envelope.texts[name]}\n" for name in SIGNED[envelope.kind] if name in envelope.texts
        ).encode()
    except UnicodeEncodeError:
        raise Forged("The envelope holds half a character, which nobody can sign.") from None


def verify(envelope: Envelope, key: RSAPublicKey) -> None:
    """Check the signature. Raises Forged."""
    try:
        signature = base64.b64decode(envelope.texts["Signature"], validate=True)
    except (binascii.Error, ValueError):
        raise Forged("The envelope's Signature is not base64.") from None
    algorithm = _HASHES[envelope.texts["SignatureVersion"]]()
    try:
        key.verify(signature, signed_text(envelope), PKCS1v15(), algorithm)
    except InvalidSignature:
        raise Forged("The envelope's Signature does not fit what it says.") from None


def check_time(envelope: Envelope, now: datetime) -> None:
    """Refuse what was sent too long ago, or not yet: a signed envelope is no voucher for ever. Raises Forged."""
    age = now - envelope.sent_at
    if age > OLDEST:
        raise Forged(f"The envelope's Timestamp is {age.total_seconds():.0f} s old, more than an hour.")
    if -age > NEWEST:
        raise Forged(f"The envelope's Timestamp is {-age.total_seconds():.0f} s ahead of this machine's clock.")
