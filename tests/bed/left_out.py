"""What a run of the tests leaves out because this machine lacks a part, and how that is said.

The header names it before the first test, the closing summary after the last. With CI=true nothing may be
left out: a missing part fails its tests, and any skipped test fails the run.
"""

import os
from collections.abc import Sequence
from typing import NoReturn

import pytest

from tests.bed import kafka, postgres
from tests.bed.kafka_jars import missing_parts


def is_ci() -> bool:
    """Whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in {"true", "1"}


def leave_out(what: str, missing: Sequence[str]) -> NoReturn:
    """End the test that asked for a part this machine lacks; the only place of the suite that skips."""
    reason = _not_run(what, missing)
    if is_ci():
        pytest.fail(f"{reason}. With CI=true nothing may be left out.", pytrace=False)
    pytest.skip(reason)


def header() -> list[str]:
    """Say which parts the tests run on, and which tests cannot."""
    database = "the one given" if postgres.external_url() else "embedded"
    if kafka.external_servers():
        return [f"test bed: PostgreSQL {database}, Kafka the one given, moto"]
    if missing_parts():
        return [f"test bed: PostgreSQL {database}, moto", _not_run("Kafka", missing_parts())]
    return [f"test bed: PostgreSQL {database}, Kafka embedded, moto"]


def skipped(config: pytest.Config) -> list[pytest.TestReport]:
    """Give the reports of the tests that were left out so far."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return [] if terminal is None else list(terminal.stats.get("skipped", []))


def summarise(terminal: pytest.TerminalReporter, reports: Sequence[pytest.TestReport]) -> None:
    """List what was not run and why; says nothing when everything was."""
    if not reports:
        return
    terminal.section("NOT RUN", red=is_ci(), yellow=not is_ci(), bold=True)
    reasons: dict[str, list[str]] = {}
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    for reason, tests in reasons.items():
        terminal.write_line(f"{len(tests)} not run: {reason}")
        for test in tests:
            terminal.write_line(f"    {test}")
    if is_ci():
        terminal.write_line("With CI=true this is a failure.", red=True)


def _not_run(what: str, missing: Sequence[str]) -> str:
    return f"{what} tests are NOT RUN. Install {' and '.join(missing)}"
