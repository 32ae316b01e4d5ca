"""For how long something may be amiss before the sweep says so."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """With endpoints whose attempts all fail; with sources that fail, and with what they bring when it is old."""

    disable_after_seconds: float = 5 * 86_400.0
    stalled_after_seconds: float = 300.0
    stalled_age_seconds: float = 900.0


PATIENCE: Final = Patience()
