"""A fuzz target over the whole decoder, run by hand: nothing raises, events can be stored, refused bytes are kept.

Atheris is not in the lock, for it builds only where clang's libFuzzer is. In an environment of its own:

    pip install atheris
    PYTHONPATH=. python tests/fuzz/fuzz_decode.py -max_len=65536 -timeout=1 CORPUS

where CORPUS is a directory that begins as a copy of tests/unit/decode/payloads. A crash is a failed assertion, and
`-timeout` finds what takes too long.
"""

import importlib
import json
import sys
from typing import Any, Final

from app.decode import decode
from app.domain.configuration import PROFILES
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT

_TEXTS: Final = (
    "type",
    "bucket",
    "received_key",
    "version_id",
    "etag",
    "sequencer",
    "region",
    "actor",
    "source_ip",
    "request_id",
    "host_id",
    "extra",
)


def decode_one(body: bytes) -> None:
    """Decode one input; its length chooses the profile, so that a corpus is plain messages."""
    decoded = decode(body, tenant_id=DEFAULT_TENANT, profile=PROFILES[len(body) % len(PROFILES)])
    # What an envelope holds stands in the body escaped, so only its own text can be looked for.
    is_enveloped = b'"Message"' in body
    for event in decoded.events:
        _check(event)
        assert is_enveloped or event.record in body
    for refusal in decoded.refusals:
        assert 0 < len(refusal.reason) <= 200
        assert refusal.reason.isprintable()
        assert "unforeseen" not in refusal.reason
        assert is_enveloped or refusal.raw in body


def _check(event: Event) -> None:
    for name in _TEXTS:
        text = getattr(event, name)
        assert text is None or ("\0" not in text and text.encode("utf-8") is not None)
    assert b"\0" not in event.key
    assert event.time.utcoffset() is not None
    assert event.extra is None or json.loads(event.extra)
    json.loads(event.record)


def run() -> None:
    """Fuzz until something fails."""
    atheris: Any = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, decode_one)
    atheris.Fuzz()


if __name__ == "__main__":
    run()
