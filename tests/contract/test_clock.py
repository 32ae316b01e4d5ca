"""The time by the database's clock, however wrong this machine's is."""

import json
import time
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.store.clock import SKEW_SECONDS, DatabaseClock
from app.store.columns import now
from app.telemetry import CLOCK_SKEW, configure_logging
from tests.bed.stored import Stored

DAY_SECONDS = 86_400.0


class Machine:
    """A machine's clock that is wrong by as much as a test says."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return time.time() + self.ahead_seconds


async def test_a_machine_whose_clock_is_wrong_knows_the_time(stored: Stored) -> None:
    """What the clock says is right but for the time a call takes, and it goes on when the machine's is set anew."""
    machine = Machine()
    machine.ahead_seconds = DAY_SECONDS
    clock = DatabaseClock(stored.database, machine=machine)

    async with stored.database.read() as connection:
        before = (await connection.execute(select(now()))).scalar_one()
    asked_at = time.monotonic()
    await clock.read()
    call = timedelta(seconds=time.monotonic() - asked_at)
    told = clock.now()
    machine.ahead_seconds = -90.0
    later = clock.now()
    async with stored.database.read() as connection:
        after = (await connection.execute(select(now()))).scalar_one()

    assert before - call <= told <= later <= after + call


async def test_a_clock_that_is_off_is_told_once_and_again_when_it_is_right(
    stored_on_sqlite: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error with the seconds, a figure each time, and a line when both agree again."""
    configure_logging(form="json")
    machine = Machine()
    clock = DatabaseClock(stored_on_sqlite.database, machine=machine)

    figures = []
    for machine.ahead_seconds in (0.0, DAY_SECONDS, DAY_SECONDS, 0.0):
        await clock.read()
        figures.append(next(iter(CLOCK_SKEW.collect())).samples[0].value)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(each["event"], each["level"]) for each in lines] == [("clock.skewed", "error"), ("clock.agrees", "info")]
    assert [abs(each) > SKEW_SECONDS for each in figures] == [False, True, True, False]
