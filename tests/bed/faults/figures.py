"""What experiments found: one line each, printed when it is over, and a table under docs/ that `make faults` renews."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.bed.process import REPOSITORY

TABLE = REPOSITORY / "docs" / "fault-figures.md"
VARIABLE = "BUCKETPOST_TEST_FAULTS"
_HEAD = """# What the fault suite found

Written by `make faults`, a row for each experiment as it last ran; what each does and proves: [faults.md](faults.md).

| experiment | date | machine | outcome | figures |
|---|---|---|---|---|
"""


def is_long() -> bool:
    """Whether experiments take their full time: `make faults` says so, the ordinary run of the tests does not."""
    return os.environ.get(VARIABLE) == "long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How long this run's experiments are."""

    is_long: bool

    def of(self, *, short: int, long: int) -> int:
        """Choose a count or a number of seconds."""
        return long if self.is_long else short


class Figures:
    """Where experiments say what they found."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def report(self, name: str, figures: Mapping[str, object], claims: Mapping[str, bool]) -> None:
        """Print an experiment's line and, in a long run, put it into the table; then fail if a claim does not hold.

        `name` is the experiment's number and variant, "F4 immediate"; a claim is worded as what must hold.
        """
        broken = [claim for claim, holds in claims.items() if not holds]
        outcome = f"fail ({'; '.join(broken)})" if broken else "pass"
        text = ", ".join(f"{what} {_show(figure)}" for what, figure in figures.items())
        with self._capsys.disabled():
            print(f"\n{name} {outcome}: {text}")  # noqa: T201 -- the line of the experiment
        if is_long():
            _write_row(name, outcome, text)
        assert not broken, f"{name}: {'; '.join(broken)}: {text}"


def _show(figure: object) -> str:
    if isinstance(figure, float):
        return f"{figure:.2f}" if abs(figure) < 100 else f"{figure:,.0f}"
    return f"{figure:,}" if isinstance(figure, int) else str(figure)


def _write_row(name: str, outcome: str, text: str) -> None:
    rows = {}
    if TABLE.exists():
        lines = TABLE.read_text().splitlines()
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| F")}
    cells = (name, datetime.now(UTC).date().isoformat(), _machine(), outcome, text)
    rows[name] = f"| {' | '.join(cells)} |"
    ordered = sorted(rows.values(), key=lambda row: (int(row.split()[1][1:]), row))
    TABLE.write_text(_HEAD + "\n".join(ordered) + "\n")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
