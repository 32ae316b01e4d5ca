"""Until when a replica trusts what it holds."""

import pytest

from app.domain.delivery import Lease
from app.domain.ids import LaneId
from app.relay.leases import Leases
from tests.unit.relay.replica import endpoint_id


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        """Start at 100."""
        self.at = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.at


def lease(fence: int = 1, lane_id: int = 1) -> Lease:
    """Claim a lane."""
    return Lease(lane_id=LaneId(lane_id), endpoint_id=endpoint_id(lane_id), fence=fence)


@pytest.mark.parametrize(("lease_seconds", "trusted_seconds"), [(10.0, 8.0), (60.0, 58.0), (1.0, 0.8)])
def test_a_lease_is_trusted_shorter_than_it_holds(lease_seconds: float, trusted_seconds: float) -> None:
    """The margin is 2 s or a fifth, whichever is less, and counts from when the call was sent."""
    clock = Clock()
    leases = Leases(lease_seconds=lease_seconds, monotonic=clock)
    leases.keep([lease()], asked_at=100.0)

    clock.at = 100.0 + trusted_seconds - 0.001
    just_before = leases.is_trusted(lease())
    clock.at = 100.0 + trusted_seconds
    at_the_end = leases.is_trusted(lease())

    assert (just_before, at_the_end) == (True, False)
    assert leases.holds(lease())


def test_renewal_moves_the_end() -> None:
    """A lease is trusted from the renewal's call on."""
    clock = Clock()
    leases = Leases(lease_seconds=10.0, monotonic=clock)
    leases.keep([lease()], asked_at=100.0)
    leases.keep([lease()], asked_at=105.0)

    clock.at = 112.0

    assert leases.is_trusted(lease())


def test_a_later_claim_takes_the_place_of_an_earlier_one() -> None:
    """A lane claimed again by this replica has a new fence: the older claim is lost, the new one held."""
    leases = Leases(lease_seconds=10.0, monotonic=Clock())
    leases.keep([lease(1)], asked_at=100.0)

    leases.keep([lease(2)], asked_at=100.0)

    assert leases.holds(lease(2))
    assert not leases.holds(lease(1))
    assert not leases.is_trusted(lease(1))


def test_an_earlier_claim_does_not_come_back() -> None:
    """An answer that comes late about an older claim changes nothing for the newer one."""
    clock = Clock()
    leases = Leases(lease_seconds=10.0, monotonic=clock)
    leases.keep([lease(2)], asked_at=100.0)

    leases.keep([lease(1)], asked_at=107.0)

    clock.at = 109.0
    assert leases.holds(lease(2))
    assert not leases.is_trusted(lease(2))


def test_dropping_an_older_claim_keeps_the_newer() -> None:
    """The runner of a lost claim drops its own only."""
    leases = Leases(lease_seconds=10.0, monotonic=Clock())
    leases.keep([lease(2)], asked_at=100.0)

    leases.drop(lease(1))

    assert [lease(2)] == leases.all()
    assert len(leases) == 1
