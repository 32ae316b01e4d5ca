"""What people do in a play of the lane protocol, and time: each move runs to its end at once."""

from app.domain.ids import DeliveryKey
from tests.faults.lanes.board import Board
from tests.faults.lanes.model import Model
from tests.faults.lanes.stage import SetUp, Stage


class People:
    """Everybody but the replicas."""

    def __init__(self, stage: Stage, model: Model, board: Board) -> None:
        self._stage = stage
        self._model = model
        self._board = board

    async def retry(self, key: DeliveryKey) -> None:
        """Let a person ask for a retry."""
        self._model.retry(key)
        await self._stage.retry(key)
        await self._board.look()

    async def grow_old(self, key: DeliveryKey) -> None:
        """Let a delivery be too old."""
        self._model.debts[key].is_old = self._model.debts[key].status == "pending"
        await self._stage.grow_old(key)
        await self._board.look()

    async def delete_subscription(self, set_up: SetUp) -> None:
        """Let a person delete an endpoint's newest subscription."""
        theirs = [each for each in self._model.living if self._model.lane_of[each] == set_up.lane_id]
        if theirs:
            self._model.deleted.add(theirs[-1])
            await self._stage.stored.delete_subscription(theirs[-1])
            await self._board.look()

    async def add_subscription(self, set_up: SetUp) -> None:
        """Let a person subscribe an endpoint once more."""
        is_there = not self._model.lanes[set_up.lane_id].is_deleted
        if is_there and set_up.other_subscription_id not in self._model.lane_of:
            self._model.lane_of[set_up.other_subscription_id] = set_up.lane_id
            await self._stage.subscribe_once_more(set_up)

    async def stop_or_start(self, set_up: SetUp) -> None:
        """Let a person pause an endpoint, or let it go on."""
        lane = self._model.lanes[set_up.lane_id]
        if lane.is_deleted:
            return
        lane.is_stopped = not lane.is_stopped
        await self._stage.stop_or_start(set_up.endpoint_id, is_paused=lane.is_stopped)

    async def delete_endpoint(self, set_up: SetUp) -> None:
        """Let a person delete an endpoint."""
        if not self._model.lanes[set_up.lane_id].is_deleted:
            self._model.delete_endpoint(set_up.lane_id)
            await self._stage.delete_endpoint(set_up.endpoint_id)
            await self._board.look()
