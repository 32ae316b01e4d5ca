"""What one try gave: a value, never an exception. What follows from it stands in verdict.py."""

from dataclasses import dataclass
from typing import Final, Literal

RESPONSE_KEPT_BYTES: Final = 2048

OutcomeKind = Literal[
    "delivered",  # 2xx, or the broker's acknowledgement
    "answered",  # any other answer; status_code says which
    "timed_out",
    "unreachable",  # no connection, no name, no TLS, a connection that broke
    "address_refused",  # the guard refused the address
    "topic_missing",
    "too_large",
    "unsendable",  # the delivery cannot be written in the form the destination takes
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one try of one delivery gave.

    `error` is one sentence for people; `response` at most the first 2 KiB of the answer; `latency_seconds` from the
    first byte sent to the last byte read; `retry_after_seconds` what the receiver asked for.
    """

    kind: OutcomeKind
    latency_seconds: float
    status_code: int | None = None
    error: str | None = None
    response: bytes = b""
    retry_after_seconds: float | None = None
