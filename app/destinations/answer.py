"""What an HTTP answer, or the lack of one, is as an Outcome, and how much of it is read.

Requests are made in webhook.py; what follows from an outcome is the domain's to judge.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from app.domain.outcome import RESPONSE_KEPT_BYTES, Outcome
from app.outbound.guard import AddressRefused

READ_BYTES: Final = 16 * 1024
_DIGITS_OF_SECONDS: Final = 9


@dataclass(slots=True, kw_only=True)
class Answer:
    """A status that came, and the beginning of the body as far as it was read."""

    status: int
    retry_after_seconds: float | None
    kept: bytearray = field(default_factory=bytearray)

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Read up to 16 KiB and keep the first 2; what is longer costs the receiver its connection."""
        seen = 0
        async for piece in response.content.iter_any():
            self.kept += piece[: RESPONSE_KEPT_BYTES - len(self.kept)]
            seen += len(piece)
            if seen > READ_BYTES:
                response.close()
                return

    def outcome(self, latency_seconds: float) -> Outcome:
        """Give the outcome: delivered for 2xx, answered for all else."""
        is_delivered = 200 <= self.status < 300  # noqa: PLR2004 -- the class of successes
        return Outcome(
            kind="delivered" if is_delivered else "answered",
            latency_seconds=latency_seconds,
            status_code=self.status,
            error=None if is_delivered else self._sentence(),
            response=bytes(self.kept),
            retry_after_seconds=self.retry_after_seconds,
        )

    def _sentence(self) -> str:
        is_redirect = 300 <= self.status < 400  # noqa: PLR2004 -- the class of redirects
        return f"The receiver answered {self.status}{'; redirects are not followed' if is_redirect else ''}."


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3), seconds or a date, as seconds from now; None when it says neither."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:_DIGITS_OF_SECONDS])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # also years beyond any calendar
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def explain(error: Exception, *, latency_seconds: float, timeout_seconds: float) -> Outcome:
    """Give the outcome of a try that ended without an answer."""
    refused = _refusal(error)
    if refused is not None:
        return Outcome(kind="address_refused", latency_seconds=latency_seconds, error=str(refused))
    if isinstance(error, asyncio.TimeoutError):
        sentence = f"No answer within {timeout_seconds:g} s."
        return Outcome(kind="timed_out", latency_seconds=latency_seconds, error=sentence)
    if isinstance(error, ValueError):  # aiohttp's InvalidURL is one too
        return Outcome(kind="unsendable", latency_seconds=latency_seconds, error=f"It cannot be written: {error}")
    return Outcome(kind="unreachable", latency_seconds=latency_seconds, error=_sentence(error))


def _sentence(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            sentence = f"No address: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            sentence = f"The certificate of {error.host} is not valid: {_reason(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            sentence = f"No TLS with {error.host}:{error.port}: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorError():
            sentence = f"No connection to {error.host}:{error.port}: {_reason(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            sentence = "The receiver closed the connection without an answer"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            sentence = "The receiver's answer is not HTTP"
        case OSError():
            sentence = f"The connection broke: {_reason(error)}"
        case _:
            sentence = f"The request failed: {type(error).__name__}"
    return sentence.rstrip(".") + "."


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _refusal(error: BaseException | None) -> AddressRefused | None:
    """Find the guard's word in what aiohttp made of it."""
    while error is not None:
        if isinstance(error, AddressRefused):
            return error
        error = error.__cause__
    return None
