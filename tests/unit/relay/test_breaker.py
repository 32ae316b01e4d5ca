"""When a lane's receiver is left alone, for how long, and how its lane comes back: the rules by themselves."""

import pytest

from app.relay.breaker import LONGEST_ASKED_SECONDS, THRESHOLD, Breaker, Sign

MOST = 8
ILL: tuple[Sign] = ("ill",)
REJECTED: tuple[Sign] = ("rejected",)
WELL: tuple[Sign] = ("well",)


def hear(breaker: Breaker, *signs: Sign, row: int | None = None, now: float = 0.0) -> None:
    """Let sends say this, each of another delivery unless it is named."""
    for number, sign in enumerate(signs):
        breaker.hear(sign, [("row", 100 + number if row is None else row)], most=MOST, now=now)


def on_trial(*, failing_since: float = 0.0) -> Breaker:
    """Give the one of a lane that was suspended."""
    return Breaker(failures=THRESHOLD, failing_since=failing_since, is_on_trial=True)


def test_five_failures_in_a_row_open_it() -> None:
    """Of different deliveries."""
    breaker = Breaker()

    hear(breaker, "ill", "ill", "ill", "ill")
    before = breaker.is_open, breaker.places(MOST)
    hear(breaker, "ill", row=7)

    assert before == (False, MOST)
    assert (breaker.is_open, breaker.places(MOST)) == (True, 0)


def test_what_spoke_against_a_receiver_counts_in_the_next_lease() -> None:
    """A lane that gives way to others after a second would else never be known to hang."""
    first = Breaker()
    hear(first, "ill", "ill", "ill")
    second = Breaker(failures=first.failures, failing_since=0.0, doubt=first.doubt)

    hear(second, "ill", row=7)
    before = second.is_open
    hear(second, "ill", row=8)

    assert (before, second.is_open, second.doubt) == (False, True, None)


def test_one_delivery_that_fails_for_ever_never_opens_it() -> None:
    """Its own schedule paces it; the lane's failures stop at the threshold."""
    breaker = Breaker()

    for _ in range(1000):
        hear(breaker, "ill", row=7)

    assert (breaker.is_open, breaker.failures) == (False, THRESHOLD)


@pytest.mark.parametrize("sign", ["well", "rejected"])
def test_a_receiver_that_answers_sensibly_starts_the_count_anew(sign: Sign) -> None:
    """One that takes something, and one that is there though it refuses a delivery."""
    breaker = Breaker()

    hear(breaker, "ill", "ill", "ill", "ill", sign, "ill", "ill", "ill", "ill")

    assert not breaker.is_open


def test_a_rejection_is_a_failure_of_the_lane() -> None:
    """But says nothing against asking the receiver on: any number of them leaves it closed."""
    breaker = Breaker()

    hear(breaker, *REJECTED * 20)

    assert (breaker.is_open, breaker.failures) == (False, THRESHOLD)


def test_what_says_nothing_of_the_receiver_changes_nothing() -> None:
    """A delivery that is too large tells of itself."""
    breaker = Breaker(failures=2)

    hear(breaker, "none")

    assert breaker.failures == 2


def test_the_span_grows_with_the_outage_up_to_ten_minutes() -> None:
    """To a quarter of it, so a receiver is found again soon; from five seconds on, spread over half of it."""
    spans = []
    for away in (1.0, 20.0, 60.0, 1200.0, 2400.0, 86_400.0):
        breaker = on_trial()
        hear(breaker, "ill", now=away)
        spans.append((breaker.span(now=away, random=0.0), breaker.span(now=away, random=1.0)))

    longest = [longest for longest, _ in spans]
    assert longest == [5.0, 5.0, 15.0, 300.0, 600.0, 600.0]
    assert all(shortest == longest / 2 for longest, shortest in spans)


def test_a_success_ends_the_outage() -> None:
    """What fails after it is a new one."""
    breaker = on_trial()

    hear(breaker, "well", now=3600.0)
    hear(breaker, "ill", now=3601.0)

    assert breaker.is_open
    assert breaker.span(now=3602.0, random=0.0) == 5.0


def test_a_receiver_that_says_when_to_come_back_is_heard() -> None:
    """Where that is later than planned, and within an hour."""
    breaker, hostile = on_trial(failing_since=90.0), on_trial(failing_since=90.0)
    breaker.hear("ill", [("row", 1)], most=MOST, now=100.0, asked_until=160.0)
    hostile.hear("ill", [("row", 1)], most=MOST, now=100.0, asked_until=1e9)

    assert breaker.span(now=100.0, random=0.0) == 60.0
    assert breaker.span(now=159.0, random=0.0) == 159.0 / 4 - 90.0 / 4
    assert hostile.span(now=100.0, random=0.0) == LONGEST_ASKED_SECONDS


def test_on_trial_one_send_at_a_time_is_under_way() -> None:
    """And its failure opens it again, whichever delivery it was."""
    breaker = on_trial()
    before = breaker.places(MOST)

    hear(breaker, "ill", row=7)

    assert before == 1
    assert (breaker.is_open, breaker.failures) == (True, THRESHOLD)


def test_success_is_a_ramp_that_doubles_with_each_round() -> None:
    """One, two, four, eight under way, when all that are come back well."""
    breaker = on_trial()
    rounds = []
    while (places := breaker.places(MOST)) < MOST:
        rounds.append(places)
        hear(breaker, *WELL * places)

    assert rounds == [1, 2, 4]
    assert (breaker.is_on_trial, breaker.failures, breaker.places(1000)) == (False, 0, 1000)


def test_one_failure_on_the_ramp_opens_it_again() -> None:
    """The receiver is not back for good."""
    breaker = on_trial()

    hear(breaker, "well", "well", "ill")

    assert (breaker.is_open, breaker.failures) == (True, THRESHOLD)


def test_a_batch_counts_once() -> None:
    """However many deliveries went into the send."""
    breaker = Breaker()

    for send in range(THRESHOLD - 1):
        breaker.hear("ill", [("row", row) for row in range(send * 400, send * 400 + 400)], most=MOST, now=0.0)

    assert not breaker.is_open
