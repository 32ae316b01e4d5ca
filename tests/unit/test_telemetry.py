"""Log lines: JSON away from a terminal, one line each whatever is in them, libraries included."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.telemetry import configure_logging, metrics_page


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Put logging back as the other tests expect it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in a value are escaped: a key cannot forge a line or colour a terminal."""
    configure_logging(form="json")

    structlog.get_logger("test").info("event.recorded", key='a\nb\r\x1b[31m\u2028{"event": "forged"}')

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert json.loads(lines[0])["event"] == "event.recorded"


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A value is cut after 2 KiB."""
    configure_logging(form="json")

    structlog.get_logger("test").info("delivery.attempted", error="x" * 100_000)

    assert len(capsys.readouterr().err) < 3_000


def test_libraries_write_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library logs comes out as JSON too, and its chatter does not."""
    configure_logging(form="json")

    logging.getLogger("aiokafka").info("chatter")
    logging.getLogger("aiobotocore").warning("trouble %s", "here")

    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "trouble here"


def test_metrics_are_prometheus_text() -> None:
    """Every metric has its help and its name."""
    page = metrics_page().decode()

    assert "# HELP bucketpost_lanes_held Lanes this replica holds a lease on." in page
    assert "# TYPE bucketpost_events_total counter" in page
