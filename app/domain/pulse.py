"""How fast a source speaks, how far behind it is and what waits in it: measured lately, of use while it is fresh."""

from dataclasses import dataclass

from app.domain.ids import SourceId
from app.domain.message import QueueMeasure


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What was measured of one source, by one process or by all of them together.

    `events_per_second` counts every event that was recorded, known ones too, over the last minute. `lag_seconds` is
    how long after its own time the middle event of the newest batch was committed; None when none came lately.
    `queue` is None where the source has none, or nobody could look.
    """

    source_id: SourceId
    events_per_second: float = 0.0
    lag_seconds: float | None = None
    queue: QueueMeasure | None = None

    @property
    def is_quiet(self) -> bool:
        """Tell whether there is nothing to say: as good as no pulse at all."""
        return not self.events_per_second and self.lag_seconds is None and self.queue is None
