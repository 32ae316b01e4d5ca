"""From outcome to what follows: delivered, tried again and when, or dead and why. Pure: randomness is an argument.

The table is the public face's: 2xx delivered; 3xx, 408, 409, 425, 429, 5xx, time-outs and network errors retried by the
endpoint's schedule; other 4xx five tries, then dead; 410, a refused address and a record too large dead at once.
"""

from dataclasses import dataclass
from typing import Final, Literal, assert_never

from app.domain.outcome import Outcome

DeliveryStatus = Literal["pending", "delivered", "dead", "cancelled"]
DeadReason = Literal["exhausted", "gone", "address_refused", "expired", "topic_missing", "too_large", "unsendable"]

RETRY_AFTER_LIMIT_SECONDS: Final = 86_400.0
JITTER: Final = 0.2
CLIENT_ERROR_TRIES: Final = 5
# A broker that restarts looks like a missing topic for a while: 60 s in all, whatever the endpoint's own schedule.
TOPIC_MISSING_SCHEDULE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

_GONE: Final = 410
_RETRIED_CLIENT_ERRORS: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a try. `pending` has a delay; `dead` has a reason."""

    status: DeliveryStatus
    delay_seconds: float = 0.0
    reason: DeadReason | None = None


DELIVERED: Final = Verdict(status="delivered")


def judge(outcome: Outcome, *, failures: int, schedule_seconds: tuple[float, ...], random: float) -> Verdict:
    """Tell what follows from an outcome.

    `failures` counts the failed tries of the present schedule, this one included (1 or more); `random` is in [0, 1).
    """
    match outcome.kind:
        case "delivered":
            return DELIVERED
        case "address_refused" | "too_large" | "unsendable":
            return Verdict(status="dead", reason=outcome.kind)
        case "topic_missing":
            return _again(outcome, failures, TOPIC_MISSING_SCHEDULE_SECONDS, random, "topic_missing")
        case "timed_out" | "unreachable":
            return _again(outcome, failures, schedule_seconds, random, "exhausted")
        case "answered":
            return _judge_answer(outcome, failures, schedule_seconds, random)
        case _:
            assert_never(outcome.kind)


def _judge_answer(outcome: Outcome, failures: int, schedule_seconds: tuple[float, ...], random: float) -> Verdict:
    code = outcome.status_code or 0
    if code == _GONE:
        return Verdict(status="dead", reason="gone")
    if 400 <= code < 500 and code not in _RETRIED_CLIENT_ERRORS:  # noqa: PLR2004 -- the class of client errors
        schedule_seconds = schedule_seconds[: CLIENT_ERROR_TRIES - 1]
    return _again(outcome, failures, schedule_seconds, random, "exhausted")


def _again(
    outcome: Outcome, failures: int, schedule_seconds: tuple[float, ...], random: float, reason: DeadReason
) -> Verdict:
    if failures > len(schedule_seconds):
        return Verdict(status="dead", reason=reason)
    if outcome.retry_after_seconds is not None:
        # As asked and not a random span later: what then comes back at once is bounded by `max_in_flight`.
        asked = min(max(outcome.retry_after_seconds, 0.0), RETRY_AFTER_LIMIT_SECONDS)
        return Verdict(status="pending", delay_seconds=asked)
    planned = schedule_seconds[failures - 1]
    return Verdict(status="pending", delay_seconds=planned * (1 - JITTER + 2 * JITTER * random))
