"""From outcome to what follows: delivered, tried again and when, or dead and why. Pure: randomness is an argument.

The table is CONSEQUENCES; an endpoint can say otherwise of an answer, by its code or its class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from app.domain.configuration import DEFAULT_MAX_AGE_SECONDS, DEFAULT_SCHEDULE_SECONDS, Consequence
from app.domain.outcome import Outcome

DeliveryStatus = Literal["pending", "delivered", "dead", "cancelled"]
DeadReason = Literal[
    "exhausted", "gone", "refused", "address_refused", "expired", "topic_missing", "too_large", "unsendable"
]
CancelReason = Literal["late"]

RETRY_AFTER_LIMIT_SECONDS: Final = 86_400.0
JITTER: Final = 0.2
BRIEF_TRIES: Final = 5
# A last try that a receiver put off comes so long before its delivery is too old for any.
LAST_TRY_SECONDS: Final = 60.0
# A broker that restarts looks like a missing topic for a while: 60 s in all, whatever the endpoint's own schedule.
TOPIC_MISSING_SCHEDULE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# The most exact name counts: a code, then its class, then "other".
CONSEQUENCES: Final[Mapping[str, Consequence]] = {
    "2xx": "deliver",
    "3xx": "retry",  # never followed: a redirect is where the receiver is wrong
    "408": "retry",
    "409": "retry",
    "410": "disable",
    "425": "retry",
    "429": "retry",
    "4xx": "retry_briefly",
    "5xx": "retry",
    "other": "retry",
}
_GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When an endpoint's deliveries are tried again: after which waits, up to which age, and its own answers."""

    schedule_seconds: tuple[float, ...] = DEFAULT_SCHEDULE_SECONDS
    max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS
    answers: Mapping[str, Consequence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a try. `pending` has a delay; `dead` has a reason, and may disable the endpoint.

    What is `cancelled` by rule has a reason too.
    """

    status: DeliveryStatus
    delay_seconds: float = 0.0
    reason: DeadReason | CancelReason | None = None
    disables: bool = False


DELIVERED: Final = Verdict(status="delivered")
LATE: Final = Verdict(status="cancelled", reason="late")


def judge(outcome: Outcome, *, failures: int, age_seconds: float, policy: Policy, random: float) -> Verdict:
    """Tell what follows from an outcome.

    `failures` counts the failed tries of the present schedule, this one included (1 or more); `age_seconds` since
    it was owed; `random` is in [0, 1).
    """
    match outcome.kind:
        case "delivered":
            return DELIVERED
        case "address_refused" | "too_large" | "unsendable":
            return Verdict(status="dead", reason=outcome.kind)
        case "topic_missing":
            again = _again(outcome, failures, TOPIC_MISSING_SCHEDULE_SECONDS, random, "topic_missing")
        case "timed_out" | "unreachable":
            again = _again(outcome, failures, policy.schedule_seconds, random, "exhausted")
        case "answered":
            again = _judge_answer(outcome, failures, policy, random)
        case _:
            assert_never(outcome.kind)
    if again.status == "pending" and age_seconds + again.delay_seconds > policy.max_age_seconds:
        return _last_time(outcome, failures, age_seconds, policy)
    return again


def consequence_of(code: int, answers: Mapping[str, Consequence]) -> Consequence:
    """Tell what follows from an answer's status code: what the endpoint says of it, else the table."""
    for names in (answers, CONSEQUENCES):
        for name in (str(code), f"{code // 100}xx"):
            if name in names:
                return names[name]
    return CONSEQUENCES["other"]


def _last_time(outcome: Outcome, failures: int, age_seconds: float, policy: Policy) -> Verdict:
    """Tell what follows where the next try would come too late: only what a receiver asked for may be cut short."""
    left = policy.max_age_seconds - age_seconds
    planned = policy.schedule_seconds[min(failures, len(policy.schedule_seconds)) - 1]
    if outcome.retry_after_seconds is not None and planned <= left:
        return Verdict(status="pending", delay_seconds=left - min(LAST_TRY_SECONDS, left / 10))
    return Verdict(status="dead", reason="expired")


def _judge_answer(outcome: Outcome, failures: int, policy: Policy, random: float) -> Verdict:
    code = outcome.status_code or 0
    consequence = consequence_of(code, policy.answers)
    match consequence:
        case "deliver":
            return DELIVERED
        case "retry":
            return _again(outcome, failures, policy.schedule_seconds, random, "exhausted")
        case "retry_briefly":
            return _again(outcome, failures, policy.schedule_seconds[: BRIEF_TRIES - 1], random, "exhausted")
        case "die" | "disable":
            reason: DeadReason = "gone" if code == _GONE else "refused"
            return Verdict(status="dead", reason=reason, disables=consequence == "disable")
        case _:
            assert_never(consequence)


def _again(
    outcome: Outcome, failures: int, schedule_seconds: tuple[float, ...], random: float, reason: DeadReason
) -> Verdict:
    if failures > len(schedule_seconds):
        return Verdict(status="dead", reason=reason)
    planned = schedule_seconds[failures - 1] * (1 - JITTER + 2 * JITTER * random)
    if outcome.retry_after_seconds is None:
        return Verdict(status="pending", delay_seconds=planned)
    # As asked and not a random span later: what then comes back at once is bounded by `max_in_flight`. Sooner than
    # planned only once: one that always asks for soon, as a proxy may for a receiver that is away, has days too.
    asked = min(max(outcome.retry_after_seconds, 0.0), RETRY_AFTER_LIMIT_SECONDS)
    return Verdict(status="pending", delay_seconds=asked if failures == 1 else max(asked, planned))
