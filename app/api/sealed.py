"""Answers as they are kept for whoever asks again: sealed with the API key that asked, of which only a hash is stored.

An answer may hold a secret or a token. Who reads the database, a backup included, cannot open it.
"""

import hmac
import json
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Response

_PURPOSE: Final = b"bucketpost: answers kept by idempotency key"
_NONCE_BYTES: Final = 12


class Seal:
    """What an API key has sealed for one request only the same key opens, and only for that request."""

    def __init__(self, api_key: str, *, request_hash: bytes) -> None:
        """Take the key that came with the request, and what the request says."""
        # Not the hash by which keys are looked up: that one is in the database. Nor a slow one: keys are random.
        self._cipher = AESGCM(hmac.digest(api_key.encode(), _PURPOSE, "sha256"))
        self._request_hash = request_hash

    def close(self, answer: Response) -> bytes:
        """Seal an answer, all but its status."""
        headers = [(name, value) for name, value in answer.headers.items() if name != "content-length"]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = json.dumps(headers).encode() + b"\n" + bytes(answer.body)
        return nonce + self._cipher.encrypt(nonce, plain, self._request_hash)

    def open(self, sealed: bytes, *, status: int) -> Response | None:
        """Give the answer again; None where another key has sealed it."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._request_hash)
        except InvalidTag:
            return None
        headers, _, body = plain.partition(b"\n")
        return Response(body, status, headers=dict(json.loads(headers)))
