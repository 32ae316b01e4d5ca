"""What follows from an outcome: the table of the receivers' side, schedules, Retry-After and jitter."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.configuration import DEFAULT_SCHEDULE_SECONDS, Consequence
from app.domain.outcome import Outcome, OutcomeKind
from app.domain.verdict import (
    DELIVERED,
    TOPIC_MISSING_SCHEDULE_SECONDS,
    Policy,
    Verdict,
    consequence_of,
    judge,
)

SCHEDULE = DEFAULT_SCHEDULE_SECONDS
# The middle of the jitter: times 1.
MIDDLE = 0.5


def answered(code: int, *, retry_after_seconds: float | None = None) -> Outcome:
    """Make an outcome of an answer."""
    return Outcome(kind="answered", latency_seconds=0.1, status_code=code, retry_after_seconds=retry_after_seconds)


def failed(kind: OutcomeKind) -> Outcome:
    """Make an outcome without an answer."""
    return Outcome(kind=kind, latency_seconds=0.1)


def first(outcome: Outcome) -> Verdict:
    """Judge a first try."""
    return judge(outcome, failures=1, age_seconds=0.0, policy=Policy(), random=MIDDLE)


def tries_until_dead(outcome: Outcome, schedule_seconds: tuple[float, ...] = SCHEDULE) -> tuple[int, str | None]:
    """Fail until there is no next time."""
    for failures in range(1, 100):
        verdict = judge(
            outcome, failures=failures, age_seconds=0.0, policy=Policy(schedule_seconds=schedule_seconds), random=MIDDLE
        )
        if verdict.status != "pending":
            return failures, verdict.reason
    raise AssertionError("it never ends")


def test_a_delivery_is_delivered() -> None:
    """Nothing follows."""
    assert first(failed("delivered")) == DELIVERED
    assert Verdict(status="delivered") == DELIVERED


@pytest.mark.parametrize("code", [100, 199, 300, 301, 302, 304, 307, 308, 408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_by_the_whole_schedule(code: int) -> None:
    """Redirects, conflicts, time-outs, too early, too many and the server's own errors: nine waits, ten tries."""
    assert first(answered(code)) == Verdict(status="pending", delay_seconds=SCHEDULE[0])
    assert tries_until_dead(answered(code)) == (len(SCHEDULE) + 1, "exhausted")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 411, 413, 415, 422, 426, 428, 431, 451, 499])
def test_other_client_errors_get_five_tries(code: int) -> None:
    """A receiver that refuses the request is asked five times, fewer if its schedule is shorter."""
    assert first(answered(code)) == Verdict(status="pending", delay_seconds=SCHEDULE[0])
    assert tries_until_dead(answered(code)) == (5, "exhausted")
    assert tries_until_dead(answered(code), (1.0,)) == (2, "exhausted")


def test_gone_is_gone() -> None:
    """410 ends at once, whatever it asks for."""
    assert first(answered(410, retry_after_seconds=5.0)) == Verdict(status="dead", reason="gone", disables=True)


@pytest.mark.parametrize("kind", ["address_refused", "too_large", "unsendable"])
def test_what_cannot_get_better_is_dead_at_once(kind: OutcomeKind) -> None:
    """The reason is the outcome's own name."""
    verdict = first(failed(kind))

    assert (verdict.status, verdict.reason) == ("dead", kind)


@pytest.mark.parametrize("kind", ["timed_out", "unreachable"])
def test_what_the_network_did_is_tried_by_the_whole_schedule(kind: OutcomeKind) -> None:
    """It says nothing about the receiver."""
    assert tries_until_dead(failed(kind)) == (len(SCHEDULE) + 1, "exhausted")


def test_a_missing_topic_is_tried_for_a_minute() -> None:
    """A broker that restarts looks the same; the endpoint's own schedule does not matter."""
    assert sum(TOPIC_MISSING_SCHEDULE_SECONDS) == 60
    assert tries_until_dead(failed("topic_missing"), ()) == (len(TOPIC_MISSING_SCHEDULE_SECONDS) + 1, "topic_missing")


def test_an_empty_schedule_gives_one_try() -> None:
    """The first failure is the last."""
    assert tries_until_dead(answered(503), ()) == (1, "exhausted")


@pytest.mark.parametrize("kind", get_args(OutcomeKind))
def test_every_kind_of_outcome_has_a_verdict(kind: OutcomeKind) -> None:
    """None falls through, and a death says why."""
    verdict = first(failed(kind))

    assert (verdict.status == "dead") is (verdict.reason is not None)


@given(st.integers(min_value=1, max_value=len(SCHEDULE)), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_wait_is_the_planned_one_times_0_8_to_1_2(failures: int, random: float) -> None:
    """Each failure has its own wait."""
    planned = SCHEDULE[failures - 1]

    verdict = judge(answered(503), failures=failures, age_seconds=0.0, policy=Policy(), random=random)

    assert verdict.status == "pending"
    assert planned * 0.8 <= verdict.delay_seconds <= planned * 1.2 + 1e-6


@pytest.mark.parametrize(
    ("asked", "delay"), [(0.0, 0.0), (7.0, 7.0), (3600.0, 3600.0), (86_400.0, 86_400.0), (1e9, 86_400.0), (-5.0, 0.0)]
)
def test_a_receiver_may_ask_for_up_to_a_day(asked: float, delay: float) -> None:
    """At first it is waited for just as long as asked, in place of the planned wait."""
    verdict = judge(answered(429, retry_after_seconds=asked), failures=1, age_seconds=0.0, policy=Policy(), random=0.7)

    assert verdict == Verdict(status="pending", delay_seconds=delay)


@pytest.mark.parametrize("asked", [-5.0, 0.0, 1.0, 120.0])
def test_a_receiver_that_asks_for_soon_has_the_whole_schedule(asked: float) -> None:
    """Sooner than planned it is tried once: it may say the same of every try, as a proxy does for one that is away."""
    waits = [
        judge(
            answered(503, retry_after_seconds=asked), failures=failures, age_seconds=0.0, policy=Policy(), random=MIDDLE
        ).delay_seconds
        for failures in range(1, len(SCHEDULE) + 1)
    ]

    assert waits == [max(0.0, asked), *(max(asked, planned) for planned in SCHEDULE[1:])]


def test_a_receiver_may_ask_for_later_than_planned_at_every_try() -> None:
    """As asked, not a random span later."""
    asking = answered(503, retry_after_seconds=3600.0)

    verdict = judge(asking, failures=3, age_seconds=0.0, policy=Policy(), random=0.9)

    assert verdict == Verdict(status="pending", delay_seconds=3600.0)


def test_asking_for_later_gives_no_further_try() -> None:
    """The schedule's end is the end."""
    asking = answered(503, retry_after_seconds=1.0)

    assert tries_until_dead(asking) == (len(SCHEDULE) + 1, "exhausted")


@pytest.mark.parametrize(
    ("code", "answers", "consequence"),
    [
        (200, {}, "deliver"),
        (204, {}, "deliver"),
        (404, {}, "retry_briefly"),
        (404, {"4xx": "retry"}, "retry"),
        (404, {"404": "die", "4xx": "retry"}, "die"),
        (429, {"4xx": "die"}, "die"),
        (410, {}, "disable"),
        (410, {"410": "retry"}, "retry"),
        (302, {"3xx": "deliver"}, "deliver"),
        (500, {"4xx": "die"}, "retry"),
        (100, {}, "retry"),
    ],
)
def test_an_endpoint_may_say_what_follows(code: int, answers: dict[str, Consequence], consequence: Consequence) -> None:
    """What it says goes before the table, a code before its class."""
    assert consequence_of(code, answers) == consequence


def test_an_answer_can_be_made_deadly() -> None:
    """It is dead at the first try, without a word on the endpoint."""
    policy = Policy(answers={"404": "die"})

    verdict = judge(answered(404), failures=1, age_seconds=0.0, policy=policy, random=MIDDLE)

    assert verdict == Verdict(status="dead", reason="refused")


def test_a_receiver_cannot_ask_for_more_than_the_age_leaves() -> None:
    """It would else have a delivery die by one word; where its schedule leaves no time either, it is over."""
    policy = Policy(schedule_seconds=(5.0,), max_age_seconds=100.0)
    answer = answered(503, retry_after_seconds=3600.0)

    young = judge(answer, failures=1, age_seconds=40.0, policy=policy, random=MIDDLE)
    old = judge(answer, failures=1, age_seconds=96.0, policy=policy, random=MIDDLE)

    assert young == Verdict(status="pending", delay_seconds=54.0)
    assert old == Verdict(status="dead", reason="expired")


def test_a_delivery_too_old_is_not_tried_again() -> None:
    """The next try would come after its age's end."""
    policy = Policy(schedule_seconds=(5.0, 60.0), max_age_seconds=100.0)

    young = judge(answered(503), failures=2, age_seconds=39.0, policy=policy, random=MIDDLE)
    old = judge(answered(503), failures=2, age_seconds=41.0, policy=policy, random=MIDDLE)

    assert young == Verdict(status="pending", delay_seconds=60.0)
    assert old == Verdict(status="dead", reason="expired")
