"""When a lane's receiver is left alone, for how long, and how its lane comes back: the rules by themselves."""

import pytest

from app.relay.breaker import LONGEST_ASKED_SECONDS, THRESHOLD, Breaker, Sign

MOST = 8
ILL: tuple[Sign] = ("ill",)
REJECTED: tuple[Sign] = ("rejected",)
WELL: tuple[Sign] = ("well",)


def hear(breaker: Breaker, *signs: Sign, row: int | None = None) -> None:
    """Let sends say this, each of another delivery unless it is named."""
    for number, sign in enumerate(signs):
        breaker.hear(sign, [("row", 100 + number if row is None else row)], most=MOST)


def opened(*, failed_trials: int = 0) -> Breaker:
    """Give one that opened and whose trials failed so often."""
    breaker = Breaker()
    hear(breaker, *ILL * THRESHOLD)
    for _ in range(failed_trials):
        breaker = Breaker(failures=breaker.failures, is_on_trial=True)
        hear(breaker, "ill")
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    """Of different deliveries."""
    breaker = Breaker()

    hear(breaker, "ill", "ill", "ill", "ill")
    before = breaker.is_open, breaker.places(MOST)
    hear(breaker, "ill", row=7)

    assert before == (False, MOST)
    assert (breaker.is_open, breaker.places(MOST)) == (True, 0)


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


def test_the_span_doubles_with_each_failed_trial_up_to_ten_minutes() -> None:
    """From five seconds on, spread over all of it."""
    spans = [opened(failed_trials=trials).span(now=0.0, random=1.0) for trials in range(10)]

    assert spans == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    assert opened(failed_trials=3).span(now=0.0, random=0.0) == 0.0
    assert opened(failed_trials=3).span(now=0.0, random=0.25) == 10.0


def test_sends_under_way_when_it_opens_do_not_make_the_span_longer() -> None:
    """Eight at once that fail are one outage."""
    breaker = opened()

    hear(breaker, "ill", "ill", "ill")

    assert breaker.span(now=0.0, random=1.0) == 5.0


def test_a_receiver_that_says_when_to_come_back_is_heard() -> None:
    """Where that is later than planned, and within an hour."""
    breaker = Breaker(failures=THRESHOLD, is_on_trial=True)
    breaker.hear("ill", [("row", 1)], most=MOST, asked_until=160.0)
    hostile = Breaker(failures=THRESHOLD, is_on_trial=True)
    hostile.hear("ill", [("row", 1)], most=MOST, asked_until=1e9)

    assert breaker.span(now=100.0, random=0.5) == 60.0
    assert breaker.span(now=159.0, random=0.5) == 5.0
    assert hostile.span(now=100.0, random=0.5) == LONGEST_ASKED_SECONDS


def test_on_trial_one_send_at_a_time_is_under_way() -> None:
    """And its failure opens it again, whichever delivery it was."""
    breaker = Breaker(failures=THRESHOLD, is_on_trial=True)
    before = breaker.places(MOST)

    hear(breaker, "ill", row=7)

    assert before == 1
    assert (breaker.is_open, breaker.failures) == (True, THRESHOLD + 1)


def test_success_is_a_ramp_that_doubles_with_each_round() -> None:
    """One, two, four, eight under way, when all that are come back well."""
    breaker = Breaker(failures=THRESHOLD, is_on_trial=True)
    rounds = []
    while (places := breaker.places(MOST)) < MOST:
        rounds.append(places)
        hear(breaker, *WELL * places)

    assert rounds == [1, 2, 4]
    assert (breaker.is_on_trial, breaker.failures, breaker.places(1000)) == (False, 0, 1000)


def test_one_failure_on_the_ramp_opens_it_again() -> None:
    """The receiver is not back for good."""
    breaker = Breaker(failures=THRESHOLD + 4, is_on_trial=True)

    hear(breaker, "well", "well", "ill")

    assert (breaker.is_open, breaker.failures) == (True, THRESHOLD)


def test_a_batch_counts_once() -> None:
    """However many deliveries went into the send."""
    breaker = Breaker()

    for send in range(THRESHOLD - 1):
        breaker.hear("ill", [("row", row) for row in range(send * 400, send * 400 + 400)], most=MOST)

    assert not breaker.is_open
