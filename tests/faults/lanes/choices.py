"""Who may make which move in a play."""

from app.domain.ids import DeliveryKey, LaneId
from tests.faults.lanes.play import Play
from tests.faults.lanes.replica import Holding, Replica
from tests.faults.lanes.stage import SetUp

MOST_OLD = 2


def waiting(play: Play) -> list[LaneId]:
    """Name the lanes that can be leased."""
    return [each for each, lane in play.model.lanes.items() if lane.is_free and play.seen.lanes[each].is_awake]


def readers(play: Play) -> list[tuple[Replica, Holding]]:
    """Give those who may read."""
    return [each for each in play.holdings if not each[1].is_lost and each[1].turn is None]


def idlers(play: Play) -> list[tuple[Replica, Holding]]:
    """Give those who may rest."""
    return [each for each in readers(play) if not each[1].window]


def givers(play: Play) -> list[tuple[Replica, Holding]]:
    """Give those who may give their lane back."""
    return [each for each in readers(play) if not each[1].sent]


def senders(play: Play) -> list[Holding]:
    """Give those who have something to send."""
    return [each for _, each in play.holdings if not each.is_lost and each.window.ready]


def settlers(play: Play) -> list[Replica]:
    """Give those who have something to write down."""
    has_sent = [each for each in play.replicas if any(holding.sent for holding in each.holdings)]
    return [each for each in has_sent if not play.board.is_doing(("settle", each))]


def reading_settlers(play: Play) -> list[tuple[Replica, Holding]]:
    """Give those who may read on while they have something to write down."""
    able = settlers(play)
    return [each for each in readers(play) if each[1].sent and each[0] in able]


def retriable(play: Play) -> list[DeliveryKey]:
    """Name deliveries that a person may want to see tried: the dead ones, and those that wait."""
    return [key for key, debt in play.model.debts.items() if debt.status == "dead" or debt.wait > 0]


def young(play: Play) -> list[DeliveryKey]:
    """Name deliveries that may grow too old, as long as few are."""
    pending = {key: debt for key, debt in play.model.debts.items() if debt.status == "pending"}
    is_enough = sum(debt.is_old for debt in pending.values()) >= MOST_OLD
    # A window ends where age begins: what is still in its window does not grow old.
    return [] if is_enough else [key for key, debt in pending.items() if not debt.is_old and debt.wait <= 0]


def sending(play: Play, replica: Replica) -> list[SetUp]:
    """Give the endpoints that a replica has something under way to."""
    theirs = {each.lease.lane_id for each in replica.holdings if each.sent}
    return [each for each in play.stage.set_ups if each.lane_id in theirs]


def deleted(play: Play) -> tuple[int, int]:
    """Count the endpoints that were deleted, and the subscriptions that were on their own."""
    gone = {lane_id for lane_id, lane in play.model.lanes.items() if lane.is_deleted}
    return len(gone), sum(play.model.lane_of[each] not in gone for each in play.model.deleted)
