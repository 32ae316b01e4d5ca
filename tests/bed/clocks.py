"""Clocks for what is told the time."""

from datetime import UTC, datetime


def machine_time() -> datetime:
    """Tell the time by this machine's clock."""
    return datetime.now(UTC)
