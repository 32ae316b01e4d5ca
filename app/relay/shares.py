"""How many lanes this replica holds: its share of those that have work, so that replicas differ by one at most."""

import asyncio

from app.domain.delivery import LaneSurvey
from app.relay.lane import QUANTUM_SECONDS
from app.relay.roster import Roster
from app.relay.tools import Tools
from app.telemetry import LANES_SUSPENDED


class Shares:
    """One replica's part in sharing lanes out: takes what waits, gives back what is others', lets them take turns."""

    def __init__(self, tools: Tools, *, max_lanes: int) -> None:
        """Take how many lanes the process may hold at most."""
        self._tools = tools
        self._max_lanes = max_lanes
        self._crowded_since: float | None = None

    async def take(self, survey: LaneSurvey, roster: Roster, stop: asyncio.Event) -> None:
        """Hold as many lanes as a fair share allows, no more, and let those that wait have their turn."""
        LANES_SUSPENDED.set(survey.suspended)
        # All shares together are all lanes: who comes first takes one more where they do not divide evenly.
        share = min(self._max_lanes, -(-(survey.active - survey.rank) // max(1, survey.replicas)))
        room = share - len(self._tools.leases)
        if room < 0:
            roster.shed(-room)
        self._rotate_if_crowded(survey, roster, is_full=room <= 0)
        if room > 0 and survey.waiting and not stop.is_set():
            asked_at = self._tools.monotonic()
            roster.start(await self._tools.outbox.lease(min(room, survey.waiting)), asked_at=asked_at)

    def _rotate_if_crowded(self, survey: LaneSurvey, roster: Roster, *, is_full: bool) -> None:
        # Lanes that wait for a moment only are those another replica is about to take.
        if not survey.waiting or not is_full:
            self._crowded_since = None
        elif self._crowded_since is None:
            self._crowded_since = self._tools.monotonic()
        elif self._tools.monotonic() - self._crowded_since >= QUANTUM_SECONDS:
            roster.rotate(survey.waiting)
            self._crowded_since = self._tools.monotonic()
