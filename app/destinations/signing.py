"""Standard Webhooks 1.0, "Signature scheme": symmetric `v1` signatures, and the secrets they are made with."""

import base64
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
SHORTEST_SECRET: Final = 24
LONGEST_SECRET: Final = 64
MADE_SECRET: Final = 32


def sign(secret: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Give the value of `webhook-signature` for exactly these bytes; the timestamp is in whole Unix seconds."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.digest(secret, signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode('ascii')}"


def make_secret() -> bytes:
    """Make a signing key from the system's randomness."""
    return secrets.token_bytes(MADE_SECRET)


def secret_text(secret: bytes) -> str:
    """Write a key the way receivers paste it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secret).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Read what secret_text wrote; padding may be left out. Raises ValueError with a sentence for people."""
    encoded = text.removeprefix(PREFIX).rstrip("=")
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(PREFIX) or not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise ValueError(f"A secret is {PREFIX} followed by {SHORTEST_SECRET} to {LONGEST_SECRET} bytes in base64.")
    return secret
